//! Whether files have changed since they were last looked at.

use std::path::PathBuf;
use std::time::SystemTime;

use tenon_node::TlsFiles;

pub(super) struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Option<(SystemTime, u64)>>,
}

impl Watch {
    pub(super) fn of(files: &[TlsFiles]) -> Self {
        let files: Vec<PathBuf> =
            files.iter().flat_map(|pair| [pair.chain.clone(), pair.key.clone()]).collect();
        let seen = look(&files);
        Self { files, seen }
    }

    /// Asked again, it says no until they change once more.
    pub(super) fn has_changed(&mut self) -> bool {
        let now = look(&self.files);
        std::mem::replace(&mut self.seen, now) != self.seen
    }
}

fn look(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let one = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("chain"), folder.path().join("key"));
        std::fs::write(&chain, "one").unwrap();
        let mut watch = Watch::of(&[TlsFiles { chain: chain.clone(), key: key.clone() }]);
        assert!(!watch.has_changed());
        std::fs::write(&chain, "three").unwrap();
        assert!(watch.has_changed() && !watch.has_changed());
        std::fs::write(&key, "a key").unwrap();
        assert!(watch.has_changed() && !watch.has_changed());
    }
}
