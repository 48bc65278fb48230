//! How the next node takes this one's place: a socket in the data directory, for its owner alone.
//!
//! The next one asks what is served, and has it compiled for its own engine. Over a new connection it asks for the state, and is told
//! once it is its; this one serves on meanwhile. When the next one accepts connections, it says so, and this one takes nothing new. When it goes away without saying so, this one takes the state
//! back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Sender, sync_channel};
use std::time::Duration;

use tenon_model::{AppId, Diagnostic, Digest};
use tenon_node::Predecessor;

use super::notify::Notify;
use super::{REPLACE_WAIT, Wake};
use crate::args::app_id;

/// The socket, in the data directory.
const SOCKET: &str = "node/control.sock";
/// Bytes of a word.
const WORD_BYTES: usize = 6;
/// What the next node says where it wants to know what is served.
const SERVING: [u8; WORD_BYTES] = *b"serve\n";
/// How the answer to that ends, after a line for each component. A node that does not know the question says nothing.
const SERVING_END: &str = "end\n";
/// The longest such answer, in bytes: a line is some hundred, and a node has some thousand apps.
const SERVING_BYTES_MAX: u64 = 64 << 20;
/// What the next node says where it wants the state.
const HAND_OVER: [u8; WORD_BYTES] = *b"state\n";
/// What it is answered once the state is its.
const HANDED_OVER: [u8; WORD_BYTES] = *b"yours\n";
/// What it says once it serves.
const LEAVE: [u8; WORD_BYTES] = *b"leave\n";
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
        match word(&mut stream, WORD_TIMEOUT) {
            Some(SERVING) => {
                let (tell, told) = sync_channel(1);
                let asked = wake.send(Wake::Tell(tell));
                let Some(serving) = asked.ok().and_then(|()| told.recv().ok()) else { return };
                // One that does not listen has it all compiled later.
                let _ = stream
                    .set_write_timeout(Some(WORD_TIMEOUT))
                    .and_then(|()| stream.write_all(listing(&serving).as_bytes()));
            }
            Some(HAND_OVER) => {
                let (done, handed_over) = sync_channel(1);
                if wake.send(Wake::HandOver(done)).is_err() || handed_over.recv().is_err() {
                    return;
                }
                // A next one that is gone says nothing more: its end of the connection is closed.
                let told = stream.write_all(&HANDED_OVER).is_ok();
                let leaves = told && word(&mut stream, REPLACE_WAIT) == Some(LEAVE);
                let _ = wake.send(if leaves { Wake::Replaced } else { Wake::TakeBack });
                if leaves {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// What the other side says next, in time.
fn word(stream: &mut UnixStream, wait: Duration) -> Option<[u8; WORD_BYTES]> {
    let mut word = [0; WORD_BYTES];
    stream.set_read_timeout(Some(wait)).and_then(|()| stream.read_exact(&mut word)).ok()?;
    Some(word)
}

/// What is served, as one node tells it another.
fn listing(serving: &[(AppId, Digest)]) -> String {
    let lines = serving.iter().map(|(app, digest)| format!("{app} {digest}\n"));
    lines.chain([SERVING_END.to_owned()]).collect()
}

/// The same, read; nothing where it is not whole.
fn listed(text: &str) -> Option<Vec<(AppId, Digest)>> {
    let one = |line: &str| {
        let (app, digest) = line.split_once(' ')?;
        Some((app_id(app).ok()?, digest.parse().ok()?))
    };
    text.strip_suffix(SERVING_END)?.lines().map(one).collect()
}

/// The node that runs on a data directory, for the one that takes its place.
pub(super) struct Before {
    socket: PathBuf,
    /// Once it was asked for its state; nothing where there is no such node.
    asked: Option<UnixStream>,
    /// As long as this process has nothing that another one needs.
    is_idle: Arc<AtomicBool>,
    /// Who is told that this process is the node now, before that one ends.
    notify: Notify,
}

impl Before {
    pub(super) fn new(data: &Path, is_idle: Arc<AtomicBool>, notify: Notify) -> Self {
        Self { socket: data.join(SOCKET), asked: None, is_idle, notify }
    }

    /// A connection to it, if there is such a node, with this word said.
    fn say(&self, word: &[u8]) -> Result<Option<UnixStream>, Diagnostic> {
        match UnixStream::connect(&self.socket) {
            Ok(mut stream) => {
                stream.write_all(word).map_err(|error| failed(&error))?;
                Ok(Some(stream))
            }
            // There is none.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

fn failed(why: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::new(
        "node-not-replaced",
        format!("the node that runs on this data directory cannot be asked to leave: {why}"),
    )
    .mend("run this as the same user, or stop that node first")
}

impl Predecessor for Before {
    fn serving(&mut self) -> Result<Vec<(AppId, Digest)>, Diagnostic> {
        let Some(mut stream) = self.say(&SERVING)? else { return Ok(Vec::new()) };
        let mut text = String::new();
        stream
            .set_read_timeout(Some(WORD_TIMEOUT))
            .and_then(|()| (&mut stream).take(SERVING_BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| failed(&error))?;
        listed(&text).ok_or_else(|| failed(&"it does not say what it serves"))
    }

    fn hand_over(&mut self) -> Result<(), Diagnostic> {
        self.is_idle.store(false, SeqCst);
        let Some(mut stream) = self.say(&HAND_OVER)? else { return Ok(()) };
        if word(&mut stream, REPLACE_WAIT) != Some(HANDED_OVER) {
            return Err(failed(&"it does not let go of its state"));
        }
        self.asked = Some(stream);
        Ok(())
    }

    fn leave(self: Box<Self>) {
        // First: when that one has ended, it is to be nobody's node any more.
        self.notify.serves();
        if let Some(mut stream) = self.asked
            && let Err(error) = stream.write_all(&LEAVE)
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

    fn before(data: &Path) -> Before {
        Before::new(data, Arc::new(AtomicBool::new(true)), Notify::new(None))
    }

    /// The node wakes because its state is asked for, and lets go of it.
    fn lets_go(woken: &std::sync::mpsc::Receiver<Wake>) {
        let Ok(Wake::HandOver(done)) = woken.recv_timeout(WORD_TIMEOUT) else { panic!("nobody asked") };
        done.send(()).unwrap();
    }

    #[test]
    fn whoever_asks_is_heard_and_the_socket_is_the_owners_alone() {
        let data = data();
        let mut nobody = before(data.path());
        assert_eq!(nobody.serving().expect("nobody serves nothing"), []);
        nobody.hand_over().expect("nobody to ask is nobody in the way");
        assert!(!nobody.is_idle.load(SeqCst), "from now on it is waited for");
        let (wake, woken) = std::sync::mpsc::channel();
        let control = Control::listen(data.path(), wake);
        let file = data.path().join(SOCKET);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut next = Box::new(before(data.path()));
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
    fn whoever_may_come_next_is_told_what_is_served() {
        let data = data();
        let (wake, woken) = std::sync::mpsc::channel();
        let _control = Control::listen(data.path(), wake);
        let serving: Vec<(AppId, Digest)> = ["acme/shop", "zenith/api"]
            .map(|app| (app_id(app).unwrap(), Digest::of(app.as_bytes())))
            .into_iter()
            .collect();
        for answer in [serving, Vec::new()] {
            let mut next = before(data.path());
            let asking = std::thread::spawn(move || next.serving());
            let Ok(Wake::Tell(asked)) = woken.recv_timeout(WORD_TIMEOUT) else { panic!("nobody asked") };
            asked.send(answer.clone()).unwrap();
            assert_eq!(asking.join().unwrap().unwrap(), answer);
        }
        assert!(woken.try_recv().is_err(), "nothing else was asked of it");
    }

    #[test]
    fn a_node_that_does_not_say_all_that_it_serves_has_not_said_it() {
        let data = data();
        let listener = UnixListener::bind(data.path().join(SOCKET)).unwrap();
        let broken_off = listing(&[(app_id("acme/shop").unwrap(), Digest::of(b"shop"))]).replace("end", "");
        // As a version that does not know the question answers it, and as one does that is killed.
        for answer in [String::new(), broken_off] {
            let mut next = before(data.path());
            let asking = std::thread::spawn(move || next.serving());
            let (mut asked, _) = listener.accept().unwrap();
            assert_eq!(word(&mut asked, WORD_TIMEOUT), Some(SERVING));
            asked.write_all(answer.as_bytes()).unwrap();
            drop(asked);
            assert_eq!(asking.join().unwrap().unwrap_err().code, "node-not-replaced");
        }
    }

    #[test]
    fn a_next_one_that_goes_away_has_the_state_taken_back() {
        let data = data();
        let (wake, woken) = std::sync::mpsc::channel();
        let control = Control::listen(data.path(), wake);
        for _ in 0..2 {
            let mut next = before(data.path());
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
