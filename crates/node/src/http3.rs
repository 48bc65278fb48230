//! What HTTP/3 keeps in the data directory: the node's secret, and the sockets over which a process and the next one hand each
//! other their clients' datagrams.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tenon_edge::{HandOver, Http3Key};
use tenon_model::{Diagnostic, Location};

/// The secret that tells the node's own connections.
const KEY: &str = "http3.key";
/// Where this process is handed what is for it.
const SOCKET: &str = "http3.sock";
/// Where the one before is, while it lets its connections finish.
const BEFORE: &str = "http3-before.sock";
/// For their owner alone.
const MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The node's secret, made at its first start.
pub(crate) fn key(folder: &Path) -> Result<Http3Key, Diagnostic> {
    let file = folder.join(KEY);
    read_key(folder, &file).map(Http3Key).map_err(|error| {
        Diagnostic::new("data-directory", format!("the key of HTTP/3 cannot be kept: {error}"))
            .at(Location::file(file.display().to_string()))
            .mend("make the data directory writable, or choose another one with `--data DIR` or TENON_DATA")
    })
}

fn read_key(folder: &Path, file: &Path) -> io::Result<[u8; 32]> {
    match fs::read(file) {
        Ok(bytes) => {
            if let Ok(key) = bytes.try_into() {
                return Ok(key);
            }
            // It was not written to its end: nobody has a connection by it.
            fs::remove_file(file)?;
        }
        // The folder of the state, which may not be there yet: as that makes it.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        }
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key)?;
    OpenOptions::new().write(true).create_new(true).mode(MODE).open(file)?.write_all(&key)?;
    Ok(key)
}

/// The sockets. Without them a process is replaced all the same, and its connections of HTTP/3 break off.
pub(crate) fn hand_over(folder: &Path, replaces: bool) -> Option<HandOver> {
    let opened = open(folder, replaces);
    opened
        .inspect_err(|error| {
            tracing::warn!(%error, "when this node is replaced, connections of HTTP/3 will break off");
        })
        .ok()
}

fn open(folder: &Path, replaces: bool) -> io::Result<HandOver> {
    let (next, before) = (folder.join(SOCKET), folder.join(BEFORE));
    let has_next = is_listened_to(&next)?;
    if has_next && !replaces {
        return Err(io::Error::new(ErrorKind::AddrInUse, "another node runs on this data directory"));
    }
    if has_next {
        // It still listens to its socket, under whatever name.
        fs::rename(&next, &before)?;
    } else {
        remove(&next)?;
    }
    // Also of one that another one did not come to replace in the end.
    let has_before = replaces && is_listened_to(&before)?;
    if !has_before {
        remove(&before)?;
    }
    let socket = UnixDatagram::bind(&next)?;
    fs::set_permissions(&next, Permissions::from_mode(MODE))?;
    Ok(HandOver { socket, before: Some(before).filter(|_| has_before), next })
}

/// Whether a process has this socket: one that was killed leaves its file.
fn is_listened_to(file: &Path) -> io::Result<bool> {
    match UnixDatagram::unbound()?.connect(file) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("node");
        let first = key(&folder).unwrap();
        assert_eq!(key(&folder).unwrap().0, first.0);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, FOLDER_MODE);
        let file = folder.join(KEY);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        fs::write(&file, b"half of i").unwrap();
        let second = key(&folder).unwrap();
        assert_ne!(second.0, first.0);
        assert_eq!(key(&folder).unwrap().0, second.0);
    }

    #[test]
    fn the_next_process_finds_the_one_before() {
        let data = tempfile::tempdir().unwrap();
        let first = open(data.path(), false).unwrap();
        assert_eq!(first.before, None);
        let second = open(data.path(), true).unwrap();
        let before = second.before.unwrap();
        second.socket.send_to(b"for the first", &before).unwrap();
        first.socket.send_to(b"for the second", &first.next).unwrap();
        let mut bytes = [0; 32];
        let length = first.socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"for the first");
        let length = second.socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"for the second");
        assert!(open(data.path(), false).is_err(), "it is no place for a second node");
        // The second one gives up: the first one is found all the same.
        drop(second.socket);
        let third = open(data.path(), true).unwrap();
        third.socket.send_to(b"for the first", third.before.unwrap()).unwrap();
        assert_eq!(first.socket.recv(&mut bytes).unwrap(), 13);
        // Those that were killed leave their sockets, which nobody listens to.
        drop((first.socket, third.socket));
        assert_eq!(open(data.path(), false).unwrap().before, None);
        assert!(!before.exists());
    }
}
