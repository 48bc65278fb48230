//! How the next node asks this one to leave: a socket in the data directory, for its owner alone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use tenon_model::Diagnostic;

use super::Wake;

/// The socket, in the data directory.
const SOCKET: &str = "node/control.sock";
/// What the next node says.
const LEAVE: &[u8] = b"leave\n";
/// How long either side waits for the other's word.
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
        let mut word = [0; LEAVE.len()];
        let said = stream.set_read_timeout(Some(WORD_TIMEOUT)).and_then(|()| stream.read_exact(&mut word));
        if said.is_ok() && word == LEAVE {
            let _ = stream.write_all(b"leaving\n");
            let _ = wake.send(Wake::Replaced);
            return;
        }
    }
}

/// Asks the node on this data directory to leave; fine when there is none.
pub(super) fn ask_to_leave(data: &Path) -> Result<(), Diagnostic> {
    let file = data.join(SOCKET);
    let asked = UnixStream::connect(&file).and_then(|mut stream| {
        stream.set_read_timeout(Some(WORD_TIMEOUT))?;
        stream.write_all(LEAVE)?;
        let mut word = String::new();
        stream.read_to_string(&mut word).map(drop)
    });
    match asked {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            Err(Diagnostic::new(
                "node-not-replaced",
                format!("the node that runs on this data directory cannot be asked to leave: {error}"),
            )
            .mend("run this as the same user, or stop that node first"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_is_heard_and_the_socket_is_the_owners_alone() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("node")).unwrap();
        ask_to_leave(data.path()).expect("nobody to ask is nobody in the way");
        let (wake, woken) = std::sync::mpsc::channel();
        let control = Control::listen(data.path(), wake);
        let file = data.path().join(SOCKET);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        ask_to_leave(data.path()).unwrap();
        assert_eq!(woken.recv_timeout(WORD_TIMEOUT), Ok(Wake::Replaced));
        drop(control);
        assert!(!file.exists());
    }
}
