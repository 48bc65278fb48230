//! Components as they were uploaded: files named after what is in them.
//!
//! An upload goes into a file of its own, which is moved to its place once all of its bytes are there and have the digest
//! that was said. What is in its place is whole. An upload that was broken off goes on where it stopped.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenon_model::{Diagnostic, Digest};

use crate::embedded::open::unreadable;

/// The largest component, in bytes.
const BLOB_BYTES_MAX: u64 = 512 << 20;
/// Uploads that are begun and not finished; the oldest make room for new ones.
const UNFINISHED_MAX: usize = 1_000;
/// Bytes that are read at once to find their digest.
const PIECE_BYTES: usize = 256 << 10;
/// An upload that was broken off is kept this long.
const UNFINISHED_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Why bytes were not kept, or cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The upload goes on at another byte.
    #[error("the upload goes on at byte {0}")]
    Offset(u64),
    /// Somebody else uploads the same at this moment.
    #[error("the same bytes are being uploaded at this moment")]
    Busy,
    /// It is larger than a component may be, or than was said.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// All bytes are there and have another digest. They were thrown away.
    #[error("the bytes have the digest {0}")]
    Digest(Digest),
    /// The disk is full, or fails.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// So many bytes are there and will be there after a crash.
    Part(u64),
    /// It is in its place.
    Whole,
}

/// The folder of blobs.
#[derive(Debug)]
pub struct BlobFolder {
    whole: PathBuf,
    unfinished: PathBuf,
    busy: Arc<Mutex<HashSet<Digest>>>,
}

/// An upload that goes on. Dropped before it is finished, it stays as far as it came.
#[derive(Debug)]
pub struct Upload {
    file: File,
    partial: PathBuf,
    place: PathBuf,
    digest: Digest,
    offset: u64,
    length: u64,
    busy: Arc<Mutex<HashSet<Digest>>>,
}

impl BlobFolder {
    /// Opens the folder, and makes it if it is not there. Uploads that were broken off long ago are removed.
    ///
    /// # Errors
    /// A diagnostic: the folder cannot be made or read.
    pub fn open(folder: &Path) -> Result<Self, Diagnostic> {
        let (whole, unfinished) = (folder.join("sha256"), folder.join("unfinished"));
        let opened = || -> io::Result<()> {
            for folder in [&whole, &unfinished] {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            tidy(&unfinished)
        };
        opened().map_err(|error| unreadable(folder, &error.to_string()))?;
        Ok(Self { whole, unfinished, busy: Arc::default() })
    }

    /// Where the bytes lie, if they are there.
    pub fn place(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.whole.join(&hex[..2]).join(hex)
    }

    /// How many bytes they are, if they are there.
    pub fn length(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.place(digest)).ok().map(|meta| meta.len())
    }

    /// How many bytes of an upload are there.
    pub fn offset(&self, digest: &Digest) -> u64 {
        fs::metadata(self.partial(digest)).map_or(0, |meta| meta.len())
    }

    /// The bytes, if they are there and are what they are called.
    ///
    /// # Errors
    /// When the file cannot be read or was damaged; a damaged one is removed, so that it can be uploaded again.
    pub fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        let place = self.place(digest);
        let mut bytes = Vec::new();
        match File::open(&place) {
            Ok(file) => file.take(BLOB_BYTES_MAX + 1).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let actual = Digest::of(&bytes);
        if actual != *digest {
            tracing::error!(%digest, %actual, "a component's file is damaged, and was removed");
            fs::remove_file(&place)?;
            return Err(BlobError::Digest(actual));
        }
        Ok(Some(bytes))
    }

    /// Goes on with an upload of `length` bytes at byte `offset`, which is 0 for a new one.
    ///
    /// # Errors
    /// See [`BlobError`].
    pub fn upload(&self, digest: &Digest, offset: u64, length: u64) -> Result<Upload, BlobError> {
        if length > BLOB_BYTES_MAX || offset > length {
            return Err(BlobError::TooLarge(BLOB_BYTES_MAX.min(length)));
        }
        if !lock(&self.busy).insert(*digest) {
            return Err(BlobError::Busy);
        }
        // From here on, whoever leaves gives the digest free: the guard is the upload itself.
        let partial = self.partial(digest);
        let opened = (|| {
            if offset == 0 {
                make_room(&self.unfinished)?;
            }
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(offset == 0)
                .mode(0o600)
                .open(&partial)?;
            let there = file.seek(SeekFrom::End(0))?;
            Ok((file, there))
        })();
        let (file, there) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                lock(&self.busy).remove(digest);
                return Err(BlobError::Io(error));
            }
        };
        let upload = Upload {
            file,
            partial,
            place: self.place(digest),
            digest: *digest,
            offset: there,
            length,
            busy: Arc::clone(&self.busy),
        };
        if there == offset { Ok(upload) } else { Err(BlobError::Offset(there)) }
    }

    /// What has lain here for longer than an upload is kept; whether anybody wants it, the state knows.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn old(&self) -> io::Result<Vec<Digest>> {
        let mut old = Vec::new();
        for folder in fs::read_dir(&self.whole)? {
            for entry in fs::read_dir(folder?.path())? {
                let entry = entry?;
                let name = entry.file_name();
                let digest: Option<Digest> =
                    name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
                let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
                old.extend(digest.filter(|_| age > UNFINISHED_AGE_MAX));
            }
        }
        Ok(old)
    }

    /// Removes bytes.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.place(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn partial(&self, digest: &Digest) -> PathBuf {
        self.unfinished.join(digest.hex())
    }
}

impl Upload {
    /// Takes more bytes.
    ///
    /// # Errors
    /// When they are more than was said, or cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let after = self.offset.saturating_add(bytes.len() as u64);
        if after > self.length {
            return Err(BlobError::TooLarge(self.length));
        }
        if let Err(error) = self.file.write_all(bytes) {
            // What was written of them does not count: a disk that is full takes some.
            let _ = self.file.set_len(self.offset);
            return Err(error.into());
        }
        self.offset = after;
        Ok(())
    }

    /// Forces what was taken to the disk and, if that is all, puts it in its place.
    ///
    /// # Errors
    /// See [`BlobError`].
    pub fn finish(mut self) -> Result<Uploaded, BlobError> {
        self.file.sync_all()?;
        if self.offset < self.length {
            sync_folder(&self.partial)?;
            return Ok(Uploaded::Part(self.offset));
        }
        self.file.seek(SeekFrom::Start(0))?;
        let actual = Digest::of_pieces(|piece| {
            piece.resize(PIECE_BYTES, 0);
            let read = self.file.read(piece)?;
            piece.truncate(read);
            Ok::<_, io::Error>(read > 0)
        })?;
        if actual != self.digest {
            fs::remove_file(&self.partial)?;
            return Err(BlobError::Digest(actual));
        }
        if let Some(folder) = self.place.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            sync_folder(folder)?;
        }
        fs::rename(&self.partial, &self.place)?;
        sync_folder(&self.place)?;
        Ok(Uploaded::Whole)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        lock(&self.busy).remove(&self.digest);
    }
}

fn lock(busy: &Mutex<HashSet<Digest>>) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forces the name of a file to the disk.
fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Removes uploads that were broken off long ago.
fn tidy(unfinished: &Path) -> io::Result<()> {
    for entry in fs::read_dir(unfinished)? {
        let entry = entry?;
        // A clock that went back makes a file look as if it came from the future: then it is kept.
        if entry.metadata()?.modified()?.elapsed().unwrap_or_default() > UNFINISHED_AGE_MAX {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes the upload that stands still the longest, when there are as many as there may be.
fn make_room(unfinished: &Path) -> io::Result<()> {
    let mut all = Vec::new();
    for entry in fs::read_dir(unfinished)? {
        let entry = entry?;
        all.push((entry.metadata()?.modified()?, entry.path()));
    }
    if all.len() >= UNFINISHED_MAX
        && let Some((_, oldest)) = all.into_iter().min()
    {
        fs::remove_file(oldest)?;
    }
    Ok(())
}
