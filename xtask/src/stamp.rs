//! Remembers that a step was done with exactly these inputs, so that a second start can skip it without asking
//! anybody: asking cargo whether it is up to date takes longer than reading a few hundred file times.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::failure::{Failure, Result};

/// Folders that hold products, never inputs.
const PRODUCTS: [&str; 4] = ["target", ".tenon", "node_modules", ".git"];

/// A file that holds the fingerprint of a step's inputs as they were when it last succeeded.
pub(crate) struct Stamp {
    file: PathBuf,
    fingerprint: String,
}

impl Stamp {
    /// A stamp kept at `file` over the files and folders in `inputs`.
    pub(crate) fn of(file: PathBuf, inputs: &[PathBuf]) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        for input in inputs {
            note(input, &mut hasher)?;
        }
        Ok(Self { file, fingerprint: format!("{:016x}", hasher.finish()) })
    }

    /// The same, over one more thing.
    #[must_use]
    pub(crate) fn with(mut self, more: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        more.hash(&mut hasher);
        self.fingerprint.push_str(&format!("-{:016x}", hasher.finish()));
        self
    }

    /// Whether the step succeeded with these inputs before.
    pub(crate) fn is_current(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|before| before == self.fingerprint)
    }

    /// The step succeeded.
    pub(crate) fn set(&self) -> Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder).map_err(|error| Failure::file("create", folder, &error))?;
        }
        fs::write(&self.file, &self.fingerprint).map_err(|error| Failure::file("write", &self.file, &error))
    }
}

/// Adds names, sizes and times of everything under `path`; a missing one counts as such.
fn note(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    path.hash(hasher);
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.is_dir() {
        let changed = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        (metadata.len(), changed).hash(hasher);
        return Ok(());
    }
    let read = |error: &dyn std::fmt::Display| Failure::file("read", path, error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| read(&error))? {
        entries.push(entry.map_err(|error| read(&error))?.path());
    }
    entries.sort();
    for entry in entries {
        let is_product =
            entry.file_name().is_some_and(|name| PRODUCTS.iter().any(|product| name == *product));
        if !is_product {
            note(&entry, hasher)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_current_until_an_input_changes() {
        let folder = std::env::temp_dir().join(format!("xtask-stamp-{}", std::process::id()));
        let source = folder.join("src");
        fs::create_dir_all(source.join("target")).unwrap();
        fs::write(source.join("a"), "one").unwrap();
        let stamp = || Stamp::of(folder.join("stamp"), std::slice::from_ref(&source)).unwrap();

        assert!(!stamp().is_current());
        stamp().set().unwrap();
        assert!(stamp().is_current());
        fs::write(source.join("target/product"), "x").unwrap();
        assert!(stamp().is_current(), "products are not inputs");
        fs::write(source.join("b"), "two").unwrap();
        assert!(!stamp().is_current());
        stamp().set().unwrap();
        fs::remove_file(source.join("a")).unwrap();
        assert!(!stamp().is_current());
        fs::remove_dir_all(folder).unwrap();
    }
}
