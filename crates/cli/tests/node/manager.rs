//! Who starts a node and waits until it serves, as systemd does: a socket that processes tell how they are.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use tenon_testkit::DEADLINE;

/// The longest that a process says at once.
const SAID_BYTES_MAX: usize = 1 << 10;

pub(crate) struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, folder }
    }

    /// For `NOTIFY_SOCKET`.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// What it is told next.
    #[track_caller]
    pub(crate) fn told(&self) -> String {
        let mut said = [0; SAID_BYTES_MAX];
        let length = self.socket.recv(&mut said).expect("nobody says anything");
        String::from_utf8(said[..length].to_vec()).unwrap()
    }

    /// What it was told and has not looked at, if anything.
    pub(crate) fn told_already(&self) -> Option<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut said = [0; SAID_BYTES_MAX];
        let length = self.socket.recv(&mut said);
        self.socket.set_nonblocking(false).unwrap();
        match length {
            Ok(length) => Some(String::from_utf8_lossy(&said[..length]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The process that the manager takes for the node, from what it was told.
pub(crate) fn main_process(told: &str) -> i32 {
    let named = told.lines().find_map(|line| line.strip_prefix("MAINPID="));
    named.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no process in {told:?}"))
}

/// A process that nothing else here ends: it ends with the test.
pub(crate) struct Orphan(pub(crate) i32);

impl Orphan {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.0).expect("a process has a number")
    }

    /// Where nobody has waited for it yet, it has no command line any more.
    pub(crate) fn is_running(&self) -> bool {
        std::fs::read(format!("/proc/{}/cmdline", self.0)).is_ok_and(|line| !line.is_empty())
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process(self.pid(), Signal::KILL);
        }
    }
}
