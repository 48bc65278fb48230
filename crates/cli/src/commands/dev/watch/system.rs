//! Notices of the kernel that something in a folder has changed: inotify(7).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};

use super::Woken;

/// Notices read at once, in bytes; what does not fit is read next.
const BUFFER_BYTES: usize = 16 << 10;

/// Files that are written to at once; of what is beyond is not known whether it is whole.
const OPEN_MAX: usize = 1_000;

/// The watched folders.
pub(super) struct System {
    watches: Watches,
    watched: BTreeMap<PathBuf, WatchDescriptor>,
    /// Whether somebody writes to a file and has not closed it.
    written: Arc<AtomicBool>,
}

impl System {
    /// Wakes `woken` at every change in a folder that is followed.
    pub(super) fn start(woken: SyncSender<Woken>) -> io::Result<Self> {
        let mut inotify = Inotify::init()?;
        let watches = inotify.watches();
        let written = Arc::new(AtomicBool::new(false));
        let shown = Arc::clone(&written);
        std::thread::Builder::new().name("tenon-watch".into()).spawn(move || {
            let mut buffer = vec![0; BUFFER_BYTES];
            let mut open = Open::default();
            loop {
                match inotify.read_events_blocking(&mut buffer) {
                    Ok(events) => events.for_each(|event| open.see(&event)),
                    // A signal may break into the read.
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
                shown.store(!open.files.is_empty(), Ordering::Relaxed);
                // A full channel has a notice already.
                if matches!(woken.try_send(Woken::Perhaps), Err(TrySendError::Disconnected(_))) {
                    return;
                }
            }
        })?;
        Ok(Self { watches, watched: BTreeMap::new(), written })
    }

    /// Whether a file was written to that has not been closed since: it may be half of what it will be.
    pub(super) fn is_written_to(&self) -> bool {
        self.written.load(Ordering::Relaxed)
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

/// Files that were written to and not closed.
#[derive(Default)]
struct Open {
    files: BTreeSet<(i32, OsString)>,
}

impl Open {
    fn see(&mut self, event: &Event<&OsStr>) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            // Notices were lost, that of a file's end perhaps among them.
            self.files.clear();
        }
        let folder = event.wd.get_watch_descriptor_id();
        if event.mask.contains(EventMask::IGNORED) {
            // The folder is watched no more.
            self.files.retain(|(of, _)| *of != folder);
        }
        let Some(name) = event.name.filter(|_| !event.mask.contains(EventMask::ISDIR)) else { return };
        let file = (folder, name.to_owned());
        if event.mask.contains(EventMask::MODIFY) {
            if self.files.len() < OPEN_MAX {
                self.files.insert(file);
            }
        } else {
            // Closed, gone, or another file of that name.
            self.files.remove(&file);
        }
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
