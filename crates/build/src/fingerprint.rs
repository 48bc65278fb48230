//! Whether a component is built already.
//!
//! A fingerprint is the digest of everything that goes into a component: the content of its source and its contract,
//! the pins of its toolchain, and the way this room uses it. It is written beside the component after it was built,
//! with the component's own digest, so that a component that somebody replaced is noticed too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tenon_model::Digest;

const FORMAT: &str = "tenon fingerprint 1";

/// Folders that hold what was made from the source, or what has a lock file of its own in it.
pub const PRODUCT_FOLDERS: [&str; 5] = [".tenon", ".git", "target", "node_modules", "__pycache__"];

/// What a component was built from, and what came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The digest of the inputs, `also` included.
    pub(crate) inputs: Digest,
    /// The digest of the component.
    pub(crate) output: Digest,
    /// Files outside the source folder that went in, as the compiler reported them.
    pub(crate) also: Vec<PathBuf>,
}

impl Record {
    /// The record in `file`, if there is one that can be read.
    pub(crate) fn read(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let mut lines = text.lines();
        if lines.next()? != FORMAT {
            return None;
        }
        let inputs = lines.next()?.strip_prefix("inputs ")?.parse().ok()?;
        let output = lines.next()?.strip_prefix("output ")?.parse().ok()?;
        let also = lines.map(|line| line.strip_prefix("also ").map(PathBuf::from)).collect::<Option<_>>()?;
        Some(Self { inputs, output, also })
    }

    pub(crate) fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("{FORMAT}\ninputs {}\noutput {}\n", self.inputs, self.output);
        for path in &self.also {
            let _ = writeln!(text, "also {}", path.display());
        }
        text
    }
}

/// What goes into a component.
pub(crate) struct Inputs<'a> {
    pub(crate) source: &'a Path,
    pub(crate) wit: &'a Path,
    /// Files that the toolchain writes into the source folder.
    pub(crate) generated: fn(&Path) -> bool,
    /// A file of the source folder that does not count: the toolchain writes it when it is not there.
    pub(crate) without: Option<&'a str>,
    /// Everything else, as text: language, world, pins, versions.
    pub(crate) recipe: &'a str,
}

impl Inputs<'_> {
    /// The digest of the inputs and of the files `also`.
    pub(crate) fn digest(&self, also: &[PathBuf]) -> Result<Digest, (PathBuf, io::Error)> {
        let mut listing = format!("{FORMAT}\n{}\n", self.recipe);
        let none = |_: &Path| false;
        let skipped = |path: &Path| {
            (self.generated)(path) || self.without.is_some_and(|without| path == Path::new(without))
        };
        add_folder(&mut listing, "source", self.source, self.source, &skipped)?;
        if self.wit.is_file() {
            add_file(&mut listing, "wit", Path::new(""), self.wit)?;
        } else if !self.wit.starts_with(self.source) {
            add_folder(&mut listing, "wit", self.wit, self.wit, &none)?;
        }
        for path in also {
            add_file(&mut listing, "also", path, path)?;
        }
        Ok(Digest::of(listing.as_bytes()))
    }
}

fn add_folder(
    listing: &mut String,
    kind: &str,
    root: &Path,
    folder: &Path,
    generated: &dyn Fn(&Path) -> bool,
) -> Result<(), (PathBuf, io::Error)> {
    let failed = |error| (folder.to_owned(), error);
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        })
        .map_err(failed)?;
    // The order of a directory is the file system's business.
    entries.sort();
    for path in entries {
        let relative = path.strip_prefix(root).unwrap_or(&path);
        if generated(relative) {
            continue;
        }
        if path.is_dir() {
            if !path.file_name().is_some_and(|name| PRODUCT_FOLDERS.iter().any(|product| name == *product)) {
                add_folder(listing, kind, root, &path, generated)?;
            }
        } else {
            add_file(listing, kind, relative, &path)?;
        }
    }
    Ok(())
}

fn add_file(listing: &mut String, kind: &str, name: &Path, path: &Path) -> Result<(), (PathBuf, io::Error)> {
    use std::fmt::Write as _;
    let digest = match fs::read(path) {
        Ok(bytes) => Digest::of(&bytes).to_string(),
        // An editor's dangling lock link, or a file that is gone since: that is a change like any other.
        Err(error) if error.kind() == io::ErrorKind::NotFound => "missing".to_owned(),
        Err(error) => return Err((path.to_owned(), error)),
    };
    let _ = writeln!(listing, "{kind} {digest} {:?}", name.display().to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn digest(root: &Path, recipe: &str) -> Digest {
        let generated = |path: &Path| path == Path::new("internal/wit");
        Inputs { source: &root.join("source"), wit: &root.join("wit"), generated, without: None, recipe }
            .digest(&[root.join("shared.rs")])
            .unwrap()
    }

    #[test]
    fn every_input_counts_and_no_product_does() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "source/src/lib.rs", "fn main() {}");
        write(root, "wit/world.wit", "package a:b;");
        write(root, "shared.rs", "one");
        let mut seen = vec![digest(root, "recipe")];
        let mut changed = |what: &str| {
            let now = digest(root, "recipe");
            assert!(!seen.contains(&now), "{what} does not count");
            seen.push(now);
        };
        write(root, "source/src/lib.rs", "fn main() { }");
        changed("content");
        write(root, "source/src/more.rs", "");
        changed("a new file");
        fs::rename(root.join("source/src/more.rs"), root.join("source/src/less.rs")).unwrap();
        changed("a name");
        write(root, "wit/deps/c/c.wit", "package c:c;");
        changed("the contract");
        write(root, "shared.rs", "two");
        changed("a file outside");
        fs::remove_file(root.join("shared.rs")).unwrap();
        changed("a file that is gone");

        let before = digest(root, "recipe");
        for product in
            ["source/target/x", "source/node_modules/x", "source/.tenon/x", "source/internal/wit/x.go"]
        {
            write(root, product, "made");
        }
        assert_eq!(digest(root, "recipe"), before);
        assert_ne!(digest(root, "another recipe"), before);
    }

    #[test]
    fn a_record_is_read_back_and_nothing_else_is() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x.fingerprint");
        let record =
            Record { inputs: Digest::of(b"in"), output: Digest::of(b"out"), also: vec!["a b".into()] };
        assert_eq!(Record::read(&file), None);
        fs::write(&file, record.text()).unwrap();
        assert_eq!(Record::read(&file), Some(record));
        for text in ["", "tenon fingerprint 0\n", "tenon fingerprint 1\ninputs sha256:\n", "\u{0}"] {
            fs::write(&file, text).unwrap();
            assert_eq!(Record::read(&file), None);
        }
    }
}
