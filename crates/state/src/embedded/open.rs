//! Opening the store, whatever state its file is in.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError};
use tenon_model::{Diagnostic, Location};

use super::base::Base;
use super::{Embedded, Opened, Quota, blobs, keyvalue, messages, usage};

/// The database.
const FILE: &str = "state.redb";
/// The folder of the objects.
const OBJECTS: &str = "objects";
/// How much of the database is kept in memory, in bytes.
const CACHE_BYTES: usize = 64 << 20;
/// How many damaged files are kept; a store that is damaged more often has another fault.
const SET_ASIDE_MAX: usize = 100;

/// Why the database cannot be opened.
pub(crate) enum Refusal {
    /// It is open in another process.
    InUse,
    /// Another version of the program wrote it.
    Version(String),
    /// It is not what was written.
    Damaged(String),
    /// The disk takes nothing: it is read-only, or full.
    Unwritable(String),
    /// The system refuses.
    System(String),
}

impl Embedded {
    /// Opens the store in `folder`, and makes it if it is not there.
    ///
    /// Takes a moment: it reads and writes files, and after a crash it looks at what was left.
    ///
    /// # Errors
    /// A diagnostic. A damaged file is set aside first, so that what can be saved of it is there to be saved.
    pub fn open(folder: &Path, quota: Quota) -> Result<Self, Diagnostic> {
        let file = folder.join(FILE);
        let objects = folder.join(OBJECTS);
        let system = |error: io::Error| unreadable(folder, &error.to_string());
        fs::create_dir_all(&objects).map_err(system)?;
        let mut kept = HashSet::new();
        let database = opened(&file, |database| {
            kept = tables(database)?;
            Ok(None)
        })?;
        sweep(&objects, &kept).map_err(system)?;
        for aside in set_aside(&file) {
            tracing::warn!(
                file = %aside.display(),
                "a damaged store was set aside; what was in it is not in the store that is open now"
            );
        }
        Self::new(Base::new(file, database), objects, quota).map_err(system)
    }
}

/// Opens the database `file`, and makes its tables: `tables` says so if another version made those that are there. A
/// damaged file is set aside.
///
/// # Errors
/// A diagnostic.
pub(crate) fn opened(
    file: &Path,
    tables: impl FnOnce(&Database) -> Result<Option<String>, redb::Error>,
) -> Result<Opened, Diagnostic> {
    attempt(file, |builder, file| builder.create(file), tables).map_err(|refusal| match refusal {
        Refusal::Damaged(cause) => damaged(file, &cause),
        other => said(file, other),
    })
}

/// Opens the database `file` again, which was open before. It is neither made anew nor set aside: what was acknowledged is
/// in it, and somebody has to look at it where it cannot be read.
///
/// # Errors
/// A diagnostic.
pub(crate) fn reopened(file: &Path) -> Result<Opened, Diagnostic> {
    attempt(file, |builder, file| builder.open(file), |_| Ok(None)).map_err(|refusal| said(file, refusal))
}

/// Opens a database in the way that `open` says, and makes its tables, or says what is wrong. Nothing is set aside.
pub(crate) fn attempt(
    file: &Path,
    open: impl FnOnce(&Builder, &Path) -> Result<Database, DatabaseError>,
    tables: impl FnOnce(&Database) -> Result<Option<String>, redb::Error>,
) -> Result<Opened, Refusal> {
    // A panic inside the database is one more way of saying that the file is damaged.
    catch_unwind(AssertUnwindSafe(|| database(file, open, tables)))
        .unwrap_or_else(|panic| Err(Refusal::Damaged(text_of(panic.as_ref()))))
}

pub(crate) fn said(file: &Path, refusal: Refusal) -> Diagnostic {
    match refusal {
        Refusal::InUse => Diagnostic::new("store-in-use", "the store is open in another process")
            .at(Location::file(file.display().to_string()))
            .mend("stop the other process, or give each its own `--data`"),
        Refusal::Version(cause) => {
            Diagnostic::new("store-version", "another version of Tenon wrote this store")
                .at(Location::file(file.display().to_string()))
                .note("the database says", cause)
                .mend("start the version that wrote it, or choose another `--data`")
        }
        Refusal::Unwritable(cause) | Refusal::System(cause) => unreadable(file, &cause),
        Refusal::Damaged(cause) => {
            Diagnostic::new("store-damaged", "what the store's file says cannot be read")
                .at(Location::file(file.display().to_string()))
                .note("cause", cause)
                .mend(format!("put a backup in its place:\n    cp BACKUP {}", file.display()))
        }
    }
}

pub(crate) fn unreadable(place: &Path, cause: &str) -> Diagnostic {
    Diagnostic::new("store-unreadable", "the store cannot be opened")
        .at(Location::file(place.display().to_string()))
        .note("cause", cause.to_owned())
        .mend("give the user that runs Tenon this folder, and see that the disk has room; or choose another `--data`")
}

/// Moves the file out of the way and says so.
fn damaged(file: &Path, cause: &str) -> Diagnostic {
    let said = Diagnostic::new("store-damaged", "the store's file is damaged")
        .at(Location::file(file.display().to_string()))
        .note("the database says", cause.to_owned());
    let free = (1..=SET_ASIDE_MAX)
        .map(|number| aside_name(file, number))
        .find(|aside| !aside.exists())
        .ok_or_else(|| io::Error::other("too many damaged files are kept beside it already"));
    match free.and_then(|aside| fs::rename(file, &aside).map(|()| aside)) {
        Ok(aside) => said.note("set aside as", aside.display().to_string()).mend(format!(
            "put a backup in its place:\n    cp BACKUP {}\nor start again: the store then begins empty",
            file.display()
        )),
        Err(error) => said
            .note("it could not be set aside", error.to_string())
            .mend("move the file away by hand, then start again"),
    }
}

fn aside_name(file: &Path, number: usize) -> PathBuf {
    file.with_extension(format!("redb.damaged-{number}"))
}

/// The damaged files that were set aside and are still there.
pub(crate) fn set_aside(file: &Path) -> impl Iterator<Item = PathBuf> {
    (1..=SET_ASIDE_MAX).map(|number| aside_name(file, number)).filter(|aside| aside.exists())
}

pub(crate) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave up").to_owned()
}

fn database(
    file: &Path,
    open: impl FnOnce(&Builder, &Path) -> Result<Database, DatabaseError>,
    tables: impl FnOnce(&Database) -> Result<Option<String>, redb::Error>,
) -> Result<Opened, Refusal> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    let database = open(&builder, file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Refusal::InUse,
        DatabaseError::UpgradeRequired(_) => Refusal::Version(error.to_string()),
        DatabaseError::Storage(StorageError::Io(error)) => of_system(&error),
        error => Refusal::Damaged(error.to_string()),
    })?;
    let database = Opened(Some(database));
    let other_version = tables(&database).map_err(|error| match error {
        redb::Error::TableTypeMismatch { .. } | redb::Error::TypeDefinitionChanged { .. } => {
            Refusal::Version(error.to_string())
        }
        redb::Error::Io(error) => of_system(&error),
        error => Refusal::Damaged(error.to_string()),
    })?;
    match other_version {
        Some(cause) => Err(Refusal::Version(cause)),
        None => Ok(database),
    }
}

pub(crate) fn of_system(error: &io::Error) -> Refusal {
    use io::ErrorKind::{
        FileTooLarge, InvalidData, QuotaExceeded, ReadOnlyFilesystem, StorageFull, UnexpectedEof,
    };
    match error.kind() {
        // It is not what the database wrote, or shorter.
        InvalidData | UnexpectedEof => Refusal::Damaged(error.to_string()),
        ReadOnlyFilesystem | StorageFull | QuotaExceeded | FileTooLarge => {
            Refusal::Unwritable(error.to_string())
        }
        _ => Refusal::System(error.to_string()),
    }
}

/// Makes the tables; gives back the identities of all objects.
fn tables(database: &Database) -> Result<HashSet<u128>, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(keyvalue::VALUES)?;
    transaction.open_table(blobs::CONTAINERS)?;
    transaction.open_table(blobs::OBJECTS)?;
    transaction.open_table(messages::MESSAGES)?;
    transaction.open_table(messages::TOPICS)?;
    transaction.open_table(usage::USAGE)?;
    transaction.commit()?;
    let transaction = database.begin_read()?;
    let mut kept = HashSet::new();
    for row in transaction.open_table(blobs::OBJECTS)?.iter()? {
        kept.insert(row?.1.value().0);
    }
    Ok(kept)
}

/// Removes the files of objects that were never put in their place, or were replaced, when the process ended.
fn sweep(objects: &Path, kept: &HashSet<u128>) -> io::Result<()> {
    let mut removed = 0_u64;
    for entry in fs::read_dir(objects)? {
        let entry = entry?;
        let identity = entry.file_name().to_str().and_then(|name| u128::from_str_radix(name, 16).ok());
        // What is not named like an object is not ours to remove.
        if identity.is_some_and(|identity| !kept.contains(&identity)) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    if removed > 0 {
        tracing::info!(removed, "removed what unfinished writes left behind");
    }
    Ok(())
}
