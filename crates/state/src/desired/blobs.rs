//! Components as they were uploaded: files named after what is in them.
//!
//! An upload goes into a file of its own, which is moved to its place once all of its bytes are there and have the digest
//! that was said. What is in its place is whole. An upload that was broken off goes on where it stopped.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tenon_model::{Diagnostic, Digest, TenantId, format_bytes};

use crate::embedded::open::unreadable;

/// The largest component, in bytes.
const BLOB_BYTES_MAX: u64 = 512 << 20;
/// Uploads of one tenant that are begun and not finished; the oldest make room for new ones.
const UNFINISHED_MAX: usize = 100;
/// Bytes that one tenant may have uploaded, or be uploading, without a revision that is made of them.
pub const UNUSED_BYTES_MAX: u64 = 2 << 30;
/// Components that one tenant may have uploaded, or be uploading, without a revision that is made of them.
pub const UNUSED_MAX: usize = 10_000;
/// Bytes that are read at once to find their digest.
const PIECE_BYTES: usize = 256 << 10;
/// Hexadecimal digits of a digest.
const HEX_LENGTH: usize = 64;
/// An upload that was broken off is kept this long.
const UNFINISHED_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Why bytes were not kept, or cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The upload goes on at another byte.
    #[error("the upload goes on at byte {0}")]
    Offset(u64),
    /// Somebody of the same tenant uploads the same at this moment.
    #[error("the same bytes are being uploaded at this moment")]
    Busy,
    /// It is larger than a component may be, or than was said.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// The tenant has uploaded more than it has deployed, by more than it may.
    #[error("{} were uploaded, or are being, that no revision is made of", text_of(.0))]
    Unused(u64),
    /// The tenant has uploaded more components than it has deployed, by more than it may.
    #[error("{0} components were uploaded, or are being, that no revision is made of")]
    TooMany(usize),
    /// All bytes are there and have another digest. They were thrown away.
    #[error("the bytes have the digest {0}")]
    Digest(Digest),
    /// The disk is full, or fails.
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn text_of(bytes: &u64) -> String {
    format_bytes(*bytes)
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
    busy: Busy,
}

/// Uploads that go on at this moment, and how many bytes each will have.
type Busy = Arc<Mutex<HashMap<UploadKey, u64>>>;

/// Whose upload, of what. Those of two tenants have nothing to do with each other: neither holds the other's up, nor
/// spoils it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UploadKey {
    /// Of nobody: of whoever runs the node.
    tenant: Option<TenantId>,
    digest: Digest,
}

impl UploadKey {
    /// The file that it is in until all of it is there.
    fn file_name(&self) -> String {
        format!("{}{}", self.digest.hex(), suffix(self.tenant.as_ref()))
    }
}

/// How the names of a tenant's uploads end.
fn suffix(tenant: Option<&TenantId>) -> String {
    tenant.map_or_else(String::new, |tenant| format!(".{tenant}"))
}

/// An upload that somebody wants to go on with.
#[derive(Clone, Copy, Debug)]
pub struct Uploading<'a> {
    /// Whose it is; whoever runs the node is not held to [`UNUSED_BYTES_MAX`] and [`UNUSED_MAX`].
    pub tenant: Option<&'a TenantId>,
    /// What it will be.
    pub digest: &'a Digest,
    /// At which byte it goes on; 0 begins it anew.
    pub offset: u64,
    /// How many bytes it will have in all.
    pub length: u64,
    /// Bytes that the tenant has uploaded to their end, and that no revision of its apps is made of.
    pub unused_bytes: u64,
    /// How many components these are.
    pub unused: usize,
}

/// An upload that goes on. Dropped before it is finished, it stays as far as it came.
#[derive(Debug)]
pub struct Upload {
    file: File,
    partial: PathBuf,
    place: PathBuf,
    key: UploadKey,
    offset: u64,
    length: u64,
    busy: Busy,
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

    /// How many bytes of a tenant's upload are there.
    pub fn offset(&self, tenant: Option<&TenantId>, digest: &Digest) -> u64 {
        let key = UploadKey { tenant: tenant.cloned(), digest: *digest };
        fs::metadata(self.partial(&key)).map_or(0, |meta| meta.len())
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

    /// Goes on with an upload.
    ///
    /// # Errors
    /// See [`BlobError`].
    pub fn upload(&self, uploading: &Uploading<'_>) -> Result<Upload, BlobError> {
        let Uploading { tenant, digest, offset, length, .. } = *uploading;
        if length > BLOB_BYTES_MAX || offset > length {
            return Err(BlobError::TooLarge(BLOB_BYTES_MAX.min(length)));
        }
        let key = UploadKey { tenant: tenant.cloned(), digest: *digest };
        self.begin(&key, uploading)?;
        // From here on, whoever leaves gives the upload free: the guard is the upload itself.
        let partial = self.partial(&key);
        let opened = (|| {
            if offset == 0 {
                self.make_room(&key)?;
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
                lock(&self.busy).remove(&key);
                return Err(BlobError::Io(error));
            }
        };
        let place = self.place(digest);
        let upload =
            Upload { file, partial, place, key, offset: there, length, busy: Arc::clone(&self.busy) };
        if there == offset { Ok(upload) } else { Err(BlobError::Offset(there)) }
    }

    /// Notes that an upload goes on, unless it does already, or the tenant has no room for it.
    fn begin(&self, key: &UploadKey, uploading: &Uploading<'_>) -> Result<(), BlobError> {
        let mut busy = lock(&self.busy);
        if busy.contains_key(key) {
            return Err(BlobError::Busy);
        }
        if let Some(tenant) = &key.tenant {
            // Of an upload that goes on, all that it will be counts; of one that stands still, what is there.
            let of_tenant = || busy.iter().filter(|(other, _)| other.tenant.as_ref() == Some(tenant));
            let after = uploading.unused.saturating_add(of_tenant().count()).saturating_add(1);
            if after > UNUSED_MAX {
                return Err(BlobError::TooMany(after));
            }
            let coming: u64 = of_tenant().map(|(_, length)| *length).sum();
            let still = self.unfinished_of(Some(tenant))?;
            let is_still =
                |name: &str| name != key.file_name() && busy.keys().all(|other| other.file_name() != name);
            let still: u64 = still.iter().filter(|it| is_still(&it.name)).map(|it| it.bytes).sum();
            let after = [coming, still, uploading.length]
                .iter()
                .fold(uploading.unused_bytes, |sum, bytes| sum.saturating_add(*bytes));
            if after > UNUSED_BYTES_MAX {
                return Err(BlobError::Unused(after));
            }
        }
        busy.insert(key.clone(), uploading.length);
        Ok(())
    }

    /// A tenant's uploads that are not finished.
    fn unfinished_of(&self, tenant: Option<&TenantId>) -> io::Result<Vec<Unfinished>> {
        let suffix = suffix(tenant);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.unfinished)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.get(HEX_LENGTH..) == Some(suffix.as_str()) {
                let meta = match entry.metadata() {
                    // It was finished meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    meta => meta?,
                };
                found.push(Unfinished { modified: meta.modified()?, name, bytes: meta.len() });
            }
        }
        Ok(found)
    }

    /// Removes the tenant's upload that stands still the longest, when it has as many as it may have.
    fn make_room(&self, key: &UploadKey) -> io::Result<()> {
        let all = self.unfinished_of(key.tenant.as_ref())?;
        if all.len() < UNFINISHED_MAX {
            return Ok(());
        }
        let busy: Vec<String> = lock(&self.busy).keys().map(UploadKey::file_name).collect();
        let still = all.into_iter().filter(|it| !busy.contains(&it.name));
        match still.min_by_key(|it| it.modified) {
            Some(oldest) => remove_if_there(&self.unfinished.join(oldest.name)),
            None => Ok(()),
        }
    }

    /// Removes what a tenant has not uploaded to its end: it is gone.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file cannot be removed.
    pub fn forget(&self, tenant: &TenantId) -> io::Result<()> {
        let busy: Vec<String> = lock(&self.busy).keys().map(UploadKey::file_name).collect();
        for unfinished in self.unfinished_of(Some(tenant))? {
            // One that goes on at this moment ends as nobody's.
            if !busy.contains(&unfinished.name) {
                remove_if_there(&self.unfinished.join(unfinished.name))?;
            }
        }
        Ok(())
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
                let meta = match entry.metadata() {
                    // It was removed meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    meta => meta?,
                };
                let age = meta.modified()?.elapsed().unwrap_or_default();
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

    fn partial(&self, key: &UploadKey) -> PathBuf {
        self.unfinished.join(key.file_name())
    }
}

/// An upload that is not finished, as it lies on the disk.
struct Unfinished {
    modified: SystemTime,
    name: String,
    bytes: u64,
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
        if actual != self.key.digest {
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
        lock(&self.busy).remove(&self.key);
    }
}

fn lock(busy: &Mutex<HashMap<UploadKey, u64>>) -> MutexGuard<'_, HashMap<UploadKey, u64>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forces the name of a file to the disk.
fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes uploads that were broken off long ago.
fn tidy(unfinished: &Path) -> io::Result<()> {
    for entry in fs::read_dir(unfinished)? {
        let entry = entry?;
        // A clock that went back makes a file look as if it came from the future: then it is kept.
        let meta = match entry.metadata() {
            // Another node has the folder too, as long as it is being replaced, and has finished it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta?,
        };
        if meta.modified()?.elapsed().unwrap_or_default() > UNFINISHED_AGE_MAX {
            match remove_if_there(&entry.path()) {
                // It is kept for longer then, and everything is served.
                Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(()),
                removed => removed?,
            }
        }
    }
    Ok(())
}
