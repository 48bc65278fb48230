//! What whoever started this process is told, as `sd_notify(3)` has it: a datagram to the socket that the environment names.
//!
//! systemd then knows when a node serves, and which process is the node after one has replaced another.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// How long it may take to say a word: who does not listen does not hold the node up.
const SAY_MAX: Duration = Duration::from_secs(1);

/// Whom to tell, if anybody asked.
#[derive(Clone, Debug)]
pub(super) struct Notify {
    socket: Option<OsString>,
}

impl Notify {
    pub(super) fn new(socket: Option<OsString>) -> Self {
        Self { socket }
    }

    /// This process serves, and is the node from now on.
    pub(super) fn serves(&self) {
        self.say(&format!("READY=1\nMAINPID={}", std::process::id()));
    }

    /// The node is about to end.
    pub(super) fn stops(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, what: &str) {
        let Some(socket) = &self.socket else { return };
        let said = address(socket).and_then(|address| {
            let from = UnixDatagram::unbound()?;
            from.set_write_timeout(Some(SAY_MAX))?;
            from.send_to_addr(what.as_bytes(), &address)
        });
        if let Err(error) = said {
            tracing::warn!(%error, what, "whoever started this node could not be told");
        }
    }
}

/// A path, or, where it begins with `@`, a name without a file.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_bytes().strip_prefix(b"@") {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(socket: &UnixDatagram) -> String {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    }

    #[test]
    fn whoever_asked_is_told_by_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::new(Some(path.into()));
        notify.serves();
        assert_eq!(told(&socket), format!("READY=1\nMAINPID={}", std::process::id()));
        notify.stops();
        assert_eq!(told(&socket), "STOPPING=1");
        // Nobody who asked, and nobody who is there any more: neither is a fault of the node's.
        Notify::new(None).serves();
        drop(socket);
        notify.stops();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn whoever_asked_is_told_by_a_name_without_a_file() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("tenon-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notify::new(Some(format!("@{name}").into())).stops();
        assert_eq!(told(&socket), "STOPPING=1");
    }
}
