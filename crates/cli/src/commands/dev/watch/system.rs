//! Notices of the kernel that something in a folder has changed: inotify(7).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError};

use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};

use super::Woken;

/// Notices read at once, in bytes; what does not fit is read next.
const BUFFER_BYTES: usize = 16 << 10;

/// The watched folders.
pub(super) struct System {
    watches: Watches,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
}

impl System {
    /// Wakes `woken` at every change in a folder that is followed.
    pub(super) fn start(woken: SyncSender<Woken>) -> io::Result<Self> {
        let mut inotify = Inotify::init()?;
        let watches = inotify.watches();
        std::thread::Builder::new().name("tenon-watch".into()).spawn(move || {
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                // A signal may break into the read.
                if inotify
                    .read_events_blocking(&mut buffer)
                    .is_err_and(|error| error.kind() != io::ErrorKind::Interrupted)
                {
                    return;
                }
                // A full channel has a notice already.
                if matches!(woken.try_send(Woken::Perhaps), Err(TrySendError::Disconnected(_))) {
                    return;
                }
            }
        })?;
        Ok(Self { watches, watched: BTreeMap::new() })
    }

    /// Watches these folders and no others; whether any was new.
    pub(super) fn follow(&mut self, folders: &BTreeSet<PathBuf>) -> io::Result<bool> {
        let gone: Vec<PathBuf> =
            self.watched.keys().filter(|watched| !folders.contains(*watched)).cloned().collect();
        for folder in gone {
            if let Some(watch) = self.watched.remove(&folder) {
                // The kernel has forgotten a folder that was removed.
                let _ = self.watches.remove(watch);
            }
        }
        let mut any = false;
        for folder in folders {
            // Also those known: a folder that was removed and made again is another one, and needs a watch again.
            match self.watches.add(folder, mask()) {
                Ok(watch) => any |= self.watched.insert(folder.clone(), watch.clone()) != Some(watch),
                Err(error) if is_gone(folder, &error) => any = true,
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }
}

impl Drop for System {
    /// Taking a watch away is a notice itself: the reader wakes, and ends when nobody waits for it.
    fn drop(&mut self) {
        for watch in std::mem::take(&mut self.watched).into_values() {
            let _ = self.watches.remove(watch);
        }
    }
}

/// What may change the content of a file or folder, and nothing that only reads it.
fn mask() -> WatchMask {
    WatchMask::CLOSE_WRITE
        | WatchMask::MODIFY
        | WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
}

fn is_gone(folder: &Path, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || !folder.is_dir()
}
