//! What an author's files say now, and when they say something else.
//!
//! The system's notices only wake us: what has changed is told by the content of the files. An editor that writes a
//! file three times, a compiler that writes its bindings beside the source, a branch that is switched twice: all end
//! in one comparison.

#[cfg(target_os = "linux")]
mod system;
/// Only Linux tells by itself what this needs; elsewhere files are looked at from time to time.
#[cfg(not(target_os = "linux"))]
#[path = "watch/none.rs"]
mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use tenon_build::PRODUCT_FOLDERS;
use tenon_model::Digest;

use system::System;

/// Files that are watched; what is beyond is not seen to change.
const FILES_MAX: usize = 20_000;
/// Folders within folders.
const DEPTH_MAX: usize = 32;
/// A larger file is told by its size and time alone.
const HASHED_BYTES_MAX: u64 = 4 << 20;
/// No notice for this long: whoever writes has done.
const QUIET: Duration = Duration::from_millis(20);
/// Notices all the time, or a file that nobody closes: long enough.
const UNREST_MAX: Duration = Duration::from_millis(300);
/// How often is looked where the system gives no notices.
const POLL: Duration = Duration::from_millis(500);

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something may have changed.
    Perhaps,
    /// It is over.
    Stop,
}

/// Folders and files that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roots {
    /// Everything in them, apart from what is made from it.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Files that we write ourselves.
    pub(super) products: BTreeSet<PathBuf>,
}

/// The content of all files, and the folders they lie in.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    files: BTreeMap<PathBuf, Stamp>,
    folders: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    content: Option<Digest>,
}

impl Stamp {
    fn same_content(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Some(one), Some(other)) => one == other,
            _ => self.length == other.length && self.modified == other.modified,
        }
    }
}

impl Snapshot {
    /// The files as they are now. What has neither another size nor another time than in `before` is not read again.
    pub(super) fn take(roots: &Roots, before: &Self) -> Self {
        let mut taken = Self::default();
        for folder in &roots.folders {
            taken.add_folder(folder, roots, before, 0);
        }
        taken
    }

    fn add_folder(&mut self, folder: &Path, roots: &Roots, before: &Self, depth: usize) {
        // A folder that is gone meanwhile, or that nobody may read, has no files.
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        if depth > DEPTH_MAX || !self.folders.insert(folder.to_owned()) {
            return;
        }
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if !PRODUCT_FOLDERS.iter().any(|product| name == *product) {
                    self.add_folder(&path, roots, before, depth + 1);
                }
            } else if !is_scratch(&name.to_string_lossy()) && !roots.products.contains(&path) {
                if self.files.len() >= FILES_MAX {
                    return;
                }
                if let Some(stamp) = stamp(&path, before.files.get(&path)) {
                    self.files.insert(path, stamp);
                }
            }
        }
    }

    /// Files that are new, gone, or have another content.
    pub(super) fn changed_since<'a>(&'a self, before: &'a Self) -> BTreeSet<&'a Path> {
        let new_or_other = self
            .files
            .iter()
            .filter(|(path, stamp)| before.files.get(*path).is_none_or(|before| !before.same_content(stamp)));
        let gone = before.files.iter().filter(|(path, _)| !self.files.contains_key(*path));
        new_or_other.chain(gone).map(|(path, _)| path.as_path()).collect()
    }
}

fn stamp(path: &Path, before: Option<&Stamp>) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let (length, modified) = (metadata.len(), metadata.modified().ok());
    if let Some(before) = before
        && modified.is_some()
        && (before.length, before.modified) == (length, modified)
    {
        return Some(before.clone());
    }
    let content = if length > HASHED_BYTES_MAX { None } else { Some(Digest::of(&std::fs::read(path).ok()?)) };
    Some(Stamp { length, modified, content })
}

/// What editors write beside the file that is edited.
fn is_scratch(name: &str) -> bool {
    name.ends_with('~')
        || name.starts_with(".#")
        || (name.starts_with('#') && name.ends_with('#'))
        || [".swp", ".swx", ".swo", ".partial"].iter().any(|extension| name.ends_with(extension))
        // With this name Vim tries whether it may write.
        || name == "4913"
}

/// Waits for files to change.
pub(super) struct Watch {
    woken: Receiver<Woken>,
    system: Option<System>,
}

impl Watch {
    /// A watch, and what ends it. `poll`: ask no system for notices, look from time to time.
    pub(super) fn new(poll: bool) -> (Self, SyncSender<Woken>) {
        // One notice is as good as many.
        let (sender, woken) = sync_channel(1);
        let started = (!poll).then(|| System::start(sender.clone()));
        let system = started.and_then(|started| started.inspect_err(say_polling).ok());
        (Self { woken, system }, sender)
    }

    /// The files as they are now, every folder of them watched.
    pub(super) fn snapshot(&mut self, roots: &Roots, before: &Snapshot) -> Snapshot {
        let mut snapshot = Snapshot::take(roots, before);
        // What was written into a new folder before it was watched is found by looking again.
        for _ in 0..DEPTH_MAX {
            if !self.follow(&snapshot.folders) {
                break;
            }
            snapshot = Snapshot::take(roots, &snapshot);
        }
        snapshot
    }

    /// Watches these folders and no others; whether any was new.
    fn follow(&mut self, folders: &BTreeSet<PathBuf>) -> bool {
        match self.system.as_mut().map(|system| system.follow(folders)) {
            None => false,
            Some(Ok(any)) => any,
            Some(Err(error)) => {
                say_polling(&error);
                self.system = None;
                false
            }
        }
    }

    /// Waits until something may have changed and whoever changes it has paused.
    pub(super) fn wait(&self) -> Woken {
        let first = match &self.system {
            Some(_) => self.woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
            None => self.woken.recv_timeout(POLL),
        };
        match first {
            Ok(Woken::Stop) | Err(RecvTimeoutError::Disconnected) => return Woken::Stop,
            Err(RecvTimeoutError::Timeout) => return Woken::Perhaps,
            Ok(Woken::Perhaps) => {}
        }
        let since = Instant::now();
        while since.elapsed() < UNREST_MAX {
            match self.woken.recv_timeout(QUIET) {
                Ok(Woken::Stop) | Err(RecvTimeoutError::Disconnected) => return Woken::Stop,
                Err(RecvTimeoutError::Timeout) if !self.is_written_to() => break,
                // Who empties a file before writing it anew may be kept from going on for a while.
                Ok(Woken::Perhaps) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Woken::Perhaps
    }

    /// Whether a file was written to and not closed since, as far as the system tells.
    fn is_written_to(&self) -> bool {
        self.system.as_ref().is_some_and(System::is_written_to)
    }
}

fn say_polling(error: &std::io::Error) {
    tracing::warn!(%error, "the system tells of no changes: files are looked at twice a second");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(folder: &Path) -> Roots {
        Roots { folders: [folder.to_owned()].into(), products: [folder.join("made.wasm")].into() }
    }

    fn changed(now: &Snapshot, before: &Snapshot, folder: &Path) -> Vec<String> {
        let name = |path: &Path| path.strip_prefix(folder).unwrap().display().to_string();
        now.changed_since(before).into_iter().map(name).collect()
    }

    #[test]
    fn only_another_content_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(at.join(name).parent().unwrap()).unwrap();
            std::fs::write(at.join(name), text).unwrap();
        };
        write("src/a.rs", "a");
        write("src/gone.rs", "gone");
        let before = Snapshot::take(&roots(at), &Snapshot::default());
        write("src/a.rs", "a");
        for ignored in ["made.wasm", "src/.a.rs.swp", "src/a.rs~", "target/x", ".tenon/x", "node_modules/x/y"]
        {
            write(ignored, "new");
        }
        let now = Snapshot::take(&roots(at), &before);
        assert_eq!(changed(&now, &before, at), [""; 0]);

        write("src/a.rs", "b");
        write("src/deep/new.rs", "");
        std::fs::remove_file(at.join("src/gone.rs")).unwrap();
        let now = Snapshot::take(&roots(at), &before);
        assert_eq!(changed(&now, &before, at), ["src/a.rs", "src/deep/new.rs", "src/gone.rs"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn half_a_file_is_no_change() {
        use std::io::Write;

        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        std::fs::write(at.join("a"), "before").unwrap();
        let (mut watch, _stop) = Watch::new(false);
        watch.snapshot(&roots(&at), &Snapshot::default());
        assert!(watch.system.is_some());
        let mut file = std::fs::File::create(at.join("a")).unwrap();
        let since = Instant::now();
        let writing = std::thread::spawn(move || {
            std::thread::sleep(QUIET * 5);
            file.write_all(b"after").unwrap();
        });
        assert_eq!(watch.wait(), Woken::Perhaps);
        let found = std::fs::read_to_string(at.join("a")).unwrap();
        assert!(found == "after" || since.elapsed() >= UNREST_MAX, "{found:?} after {:?}", since.elapsed());
        writing.join().unwrap();
        // It was closed: whoever writes next is not waited for on its account.
        while watch.is_written_to() && since.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!watch.is_written_to());
    }

    #[test]
    fn a_change_wakes_also_in_a_folder_that_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().canonicalize().unwrap();
        let (mut watch, stop) = Watch::new(false);
        let before = watch.snapshot(&roots(&at), &Snapshot::default());
        std::fs::create_dir(at.join("new")).unwrap();
        assert_eq!(watch.wait(), Woken::Perhaps);
        let before = watch.snapshot(&roots(&at), &before);
        std::fs::write(at.join("new/a"), "a").unwrap();
        assert_eq!(watch.wait(), Woken::Perhaps);
        let now = watch.snapshot(&roots(&at), &before);
        assert_eq!(changed(&now, &before, &at), ["new/a"]);
        // The channel may hold a notice that came late.
        std::thread::spawn(move || stop.send(Woken::Stop));
        while watch.wait() != Woken::Stop {}
    }
}
