//! How the next node takes this one's place: a socket in the data directory, for its owner alone.
//!
//! The next one asks for the state, and is told once it is its; this one serves on meanwhile. When the next one accepts
//! connections, it says so, and this one takes nothing new. When it goes away without saying so, this one takes the state
//! back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, sync_channel};
use std::time::Duration;

use tenon_model::Diagnostic;
use tenon_node::Predecessor;

use super::{REPLACE_WAIT, Wake};

/// The socket, in the data directory.
const SOCKET: &str = "node/control.sock";
/// What the next node says first: it wants the state.
const HAND_OVER: &[u8] = b"state\n";
/// What it is answered once the state is its.
const HANDED_OVER: &[u8] = b"yours\n";
/// What it says once it serves.
const LEAVE: &[u8] = b"leave\n";
/// How long either side waits for the other's first word.
const WORD_TIMEOUT: Duration = Duration::from_secs(5);

/// The socket, as long as this node listens to it.
pub(super) struct Control {
    file: Option<PathBuf>,
}

impl Control {
    /// Listens. A node that cannot be asked still serves: it is told to stop with a signal.
    pub(super) fn listen(data: &Path, wake: Sender<Wake>) -> Self {
        let file = data.join(SOCKET);
        // Of a node that was killed: this one has the state, so there is no other.
        let _ = std::fs::remove_file(&file);
        let started = UnixListener::bind(&file).and_then(|listener| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
            std::thread::Builder::new().name("tenon-control".into()).spawn(move || answer(&listener, &wake))
        });
        match started {
            Ok(_) => Self { file: Some(file) },
            Err(error) => {
                tracing::warn!(%error, "this node cannot be replaced by another one while it runs");
                Self { file: None }
            }
        }
    }
}

impl Control {
    /// The next node has a socket of its own there, or is about to.
    pub(super) fn leave(mut self) {
        self.file = None;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn answer(listener: &UnixListener, wake: &Sender<Wake>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        if hears(&mut stream, HAND_OVER, WORD_TIMEOUT) {
            let (done, handed_over) = sync_channel(1);
            if wake.send(Wake::HandOver(done)).is_err() || handed_over.recv().is_err() {
                return;
            }
            // A next one that is gone says nothing more: its end of the connection is closed.
            let told = stream.write_all(HANDED_OVER).is_ok();
            let leaves = told && hears(&mut stream, LEAVE, REPLACE_WAIT);
            let _ = wake.send(if leaves { Wake::Replaced } else { Wake::TakeBack });
            if leaves {
                return;
            }
        }
    }
}

/// Whether the other side says this word next, in time.
fn hears(stream: &mut UnixStream, wanted: &[u8], wait: Duration) -> bool {
    let mut word = vec![0; wanted.len()];
    let said = stream.set_read_timeout(Some(wait)).and_then(|()| stream.read_exact(&mut word));
    said.is_ok() && word == wanted
}

/// The node that runs on a data directory, for the one that takes its place.
pub(super) struct Before {
    socket: PathBuf,
    /// Once it was asked for its state; nothing where there is no such node.
    asked: Option<UnixStream>,
}

impl Before {
    pub(super) fn new(data: &Path) -> Self {
        Self { socket: data.join(SOCKET), asked: None }
    }
}

impl Predecessor for Before {
    fn hand_over(&mut self) -> Result<(), Diagnostic> {
        let failed = |why: &dyn std::fmt::Display| {
            Diagnostic::new(
                "node-not-replaced",
                format!("the node that runs on this data directory cannot be asked to leave: {why}"),
            )
            .mend("run this as the same user, or stop that node first")
        };
        let mut stream = match UnixStream::connect(&self.socket) {
            Ok(stream) => stream,
            // There is none.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(());
            }
            Err(error) => return Err(failed(&error)),
        };
        stream.write_all(HAND_OVER).map_err(|error| failed(&error))?;
        if !hears(&mut stream, HANDED_OVER, REPLACE_WAIT) {
            return Err(failed(&"it does not let go of its state"));
        }
        self.asked = Some(stream);
        Ok(())
    }

    fn leave(self: Box<Self>) {
        if let Some(mut stream) = self.asked
            && let Err(error) = stream.write_all(LEAVE)
        {
            tracing::warn!(%error, "the node that is replaced could not be told to leave");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("node")).unwrap();
        data
    }

    /// The node wakes because its state is asked for, and lets go of it.
    fn lets_go(woken: &std::sync::mpsc::Receiver<Wake>) {
        let Ok(Wake::HandOver(done)) = woken.recv_timeout(WORD_TIMEOUT) else { panic!("nobody asked") };
        done.send(()).unwrap();
    }

    #[test]
    fn whoever_asks_is_heard_and_the_socket_is_the_owners_alone() {
        let data = data();
        let mut nobody = Before::new(data.path());
        nobody.hand_over().expect("nobody to ask is nobody in the way");
        let (wake, woken) = std::sync::mpsc::channel();
        let control = Control::listen(data.path(), wake);
        let file = data.path().join(SOCKET);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut next = Box::new(Before::new(data.path()));
        let asking = std::thread::spawn(move || next.hand_over().map(|()| next));
        lets_go(&woken);
        let next = asking.join().unwrap().unwrap();
        assert!(woken.try_recv().is_err(), "it serves until it is told to leave");
        next.leave();
        assert!(matches!(woken.recv_timeout(WORD_TIMEOUT), Ok(Wake::Replaced)));
        control.leave();
        assert!(file.exists(), "it is the next one's by now");
    }

    #[test]
    fn a_next_one_that_goes_away_has_the_state_taken_back() {
        let data = data();
        let (wake, woken) = std::sync::mpsc::channel();
        let control = Control::listen(data.path(), wake);
        for _ in 0..2 {
            let mut next = Before::new(data.path());
            let asking = std::thread::spawn(move || next.hand_over());
            lets_go(&woken);
            asking.join().unwrap().unwrap();
            assert!(matches!(woken.recv_timeout(WORD_TIMEOUT), Ok(Wake::TakeBack)));
        }
        let file = data.path().join(SOCKET);
        drop(control);
        assert!(!file.exists());
    }
}
