//! Opening the state, whatever its file is like.
//!
//! It is never thrown away, set aside or begun anew in the place of one that was there: all that a node serves hangs on it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition};
use tenon_model::{Diagnostic, Location};

use super::unwritten::Unwritten;
use super::{Desired, Known, audit, records};
use crate::embedded::Opened;
use crate::embedded::open::{self as files, Refusal};

/// The database, in the folder of the node.
const FILE: &str = "state.redb";
/// The version of what is in it. The first had no index of claims by tenant, no count of the audit log, and no time of its
/// own.
const VERSION: u64 = 2;
const VERSION_FIRST: u64 = 1;

/// Numbers by these names.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// What is in the tables.
const META_VERSION: &str = "version";
/// Grows with every change.
pub(super) const META_GENERATION: &str = "generation";
/// Entries of the audit log that were ever written.
pub(super) const META_AUDIT: &str = "audit";
/// Seconds that nodes have run on this state.
pub(super) const META_RAN: &str = "ran";
/// Tenants by name.
pub(super) const TENANTS: TableDefinition<&str, &str> = TableDefinition::new("tenants");
/// Tokens by id.
pub(super) const TOKENS: TableDefinition<&str, &str> = TableDefinition::new("tokens");
/// Apps by tenant and name.
pub(super) const APPS: TableDefinition<(&str, &str), &str> = TableDefinition::new("apps");
/// Revisions by tenant, app and number.
pub(super) const REVISIONS: TableDefinition<(&str, &str, u64), &str> = TableDefinition::new("revisions");
/// How rollouts ended, by tenant, app and the candidate's number.
pub(super) const ROLLOUTS: TableDefinition<(&str, &str, u64), &str> = TableDefinition::new("rollouts");
/// Routes: host from the right, kind of host, path, tenant, app.
pub(super) const ROUTES: TableDefinition<(&str, u8, &str, &str, &str), ()> = TableDefinition::new("routes");
/// Who uploaded a component, and when, in the time of [`Desired::ran_s`]: digest, tenant (empty: somebody of no tenant).
pub(super) const CLAIMS: TableDefinition<(&str, &str), u64> = TableDefinition::new("claims");
/// The same the other way round: tenant, digest.
pub(super) const CLAIMED: TableDefinition<(&str, &str), ()> = TableDefinition::new("claimed");
/// Which revisions are made of a component: digest, tenant, app, number.
pub(super) const USES: TableDefinition<(&str, &str, &str, u64), ()> = TableDefinition::new("uses");
/// The audit log by sequence.
pub(super) const AUDIT: TableDefinition<u64, &str> = TableDefinition::new("audit");

/// The file as it is open.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) opened: Arc<Opened>,
    /// Why nothing is written to it, if it is only read.
    pub(super) unwritable: Option<String>,
}

/// What is read when it is opened.
pub(super) struct Read {
    pub(super) known: Known,
    /// Whether the log is unbroken.
    pub(super) intact: bool,
    pub(super) ran_s: u64,
}

impl Desired {
    /// Opens the state in `folder`, and makes it if there was none. Where the disk takes nothing, it is read as it is; see
    /// [`Self::unwritable`].
    ///
    /// # Errors
    /// A diagnostic: it is open elsewhere, cannot be read, was written by another version, or is damaged. A damaged file is
    /// left as it is, and where it is: nobody begins anew without having said so.
    pub fn open(folder: &Path) -> Result<Self, Diagnostic> {
        let unusable = |error: io::Error| files::unreadable(folder, &error.to_string());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
        let file = folder.join(FILE);
        if !file.try_exists().map_err(unusable)? {
            begin(&file)?;
        }
        let (held, Read { known, intact, ran_s }) = opened(folder)?;
        if !intact {
            tracing::error!(
                "the audit log was changed by somebody else: entries are missing, or do not follow on one another"
            );
        }
        if let Some(cause) = &held.unwritable {
            tracing::error!(
                cause,
                "the state cannot be written: it is read as it is, and nothing is changed"
            );
        }
        Ok(Self {
            folder: folder.to_owned(),
            unwritable: Mutex::new(held.unwritable.clone()),
            database: Mutex::new(Some(held)),
            known: RwLock::new(known),
            intact,
            handed_over: AtomicBool::new(false),
            began: Instant::now(),
            ran_before_s: AtomicU64::new(ran_s),
        })
    }
}

/// Makes a state with nothing in it, all of it or none: an empty file is never one that was only just begun.
fn begin(file: &Path) -> Result<(), Diagnostic> {
    if let Some(aside) = files::set_aside(file).next() {
        return Err(set_aside(file, &aside));
    }
    let unusable = |error: io::Error| files::unreadable(file, &error.to_string());
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| unusable(error.into()))?;
    let new = file.with_extension(format!("redb.new-{:016x}", u64::from_le_bytes(random)));
    let made = files::attempt(&new, |builder, file| builder.create(file), tables);
    // Of two processes that begin at once, the second takes the first one's.
    let linked = made.map(drop).map_err(|refusal| said(&new, refusal)).and_then(|()| {
        match fs::hard_link(&new, file) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unusable(error)),
            _ => Ok(()),
        }
    });
    let removed = fs::remove_file(&new);
    linked?;
    removed
        .and_then(|()| file.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all()))
        .map_err(unusable)
}

/// Opens the file, and reads what is kept in memory.
pub(super) fn opened(folder: &Path) -> Result<(Held, Read), Diagnostic> {
    let file = folder.join(FILE);
    // What cannot be read is found out before anything is written: somebody may want to save what is in it.
    drop(looked_at(&file)?);
    match files::attempt(&file, |builder, file| builder.open(file), tables) {
        Ok(opened) => {
            private(&file);
            let read = read(&file, &opened)?;
            Ok((Held { opened: Arc::new(opened), unwritable: None }, read))
        }
        Err(Refusal::Unwritable(cause)) => {
            let (opened, read) = looked_at(&file)?;
            Ok((Held { opened: Arc::new(opened), unwritable: Some(cause) }, read))
        }
        Err(refusal) => Err(said(&file, refusal)),
    }
}

/// Opens and reads the file without a write.
fn looked_at(file: &Path) -> Result<(Opened, Read), Diagnostic> {
    let opened = files::attempt(
        file,
        |builder, file| builder.create_with_backend(Unwritten::open(file).map_err(StorageError::Io)?),
        tables,
    );
    let opened = opened.map_err(|refusal| said(file, refusal))?;
    let read = read(file, &opened)?;
    Ok((opened, read))
}

/// Whether the file can be written, as far as can be said without writing to it.
pub(super) fn is_writable(folder: &Path) -> bool {
    OpenOptions::new().write(true).open(folder.join(FILE)).is_ok()
}

fn said(file: &Path, refusal: Refusal) -> Diagnostic {
    match refusal {
        Refusal::Damaged(cause) => damaged(file, &cause),
        other => files::said(file, other),
    }
}

/// The state is there and cannot be read.
fn damaged(file: &Path, cause: &str) -> Diagnostic {
    Diagnostic::new("state-damaged", "the node's state is damaged; it was left as it is, and the node does not start")
        .at(Location::file(file.display().to_string()))
        .note("the database says", cause.to_owned())
        .mend(format!(
            "put a backup in its place:\n    cp BACKUP {0}\n\
             or begin anew, without tenants, apps and tokens: copy the whole data directory, then move the file out of it\n    \
             mv {0} ELSEWHERE",
            file.display()
        ))
}

/// There is none, and one that was damaged lies beside its place.
fn set_aside(file: &Path, aside: &Path) -> Diagnostic {
    Diagnostic::new("state-damaged", "the node's state was set aside as damaged, and there is no other; the node does not start")
        .at(Location::file(aside.display().to_string()))
        .mend(format!(
            "put a backup in its place:\n    cp BACKUP {}\n\
             or begin anew, without tenants, apps and tokens: copy the whole data directory, then move the file out of it\n    \
             mv {} ELSEWHERE",
            file.display(),
            aside.display()
        ))
}

fn read(file: &Path, database: &Opened) -> Result<Read, Diagnostic> {
    let read = catch_unwind(AssertUnwindSafe(|| known(database)));
    let read = read.unwrap_or_else(|panic| Err(redb::Error::Corrupted(files::text_of(panic.as_ref()))));
    read.map_err(|error| match error {
        redb::Error::Io(error) => said(file, files::of_system(&error)),
        error => damaged(file, &error.to_string()),
    })
}

/// Makes the tables, all of them in one transaction; or says which other version did.
fn tables(database: &Database) -> Result<Option<String>, redb::Error> {
    let mut transaction = database.begin_write()?;
    // After a crash the next start then has nothing to reconstruct.
    transaction.set_quick_repair(true);
    let number = |name| Ok::<_, redb::Error>(transaction.open_table(META)?.get(name)?.map(|it| it.value()));
    let (version, counted) = (number(META_VERSION)?, number(META_AUDIT)?.unwrap_or(0));
    let ran_s = number(META_RAN)?.unwrap_or(0);
    let entries = transaction.open_table(AUDIT)?.last()?.map_or(0, |(sequence, _)| sequence.value());
    match version {
        // Nothing is written.
        Some(VERSION) if entries <= counted => {
            transaction.abort()?;
            return Ok(None);
        }
        // A program of the first version, which counts no entries, had it once more: the one that was to take its place ended.
        None | Some(VERSION_FIRST | VERSION) => {}
        Some(version) => {
            transaction.abort()?;
            return Ok(Some(format!("it has version {version}, and this is {VERSION}")));
        }
    }
    transaction.open_table(TENANTS)?;
    transaction.open_table(TOKENS)?;
    transaction.open_table(APPS)?;
    transaction.open_table(REVISIONS)?;
    transaction.open_table(ROLLOUTS)?;
    transaction.open_table(ROUTES)?;
    transaction.open_table(USES)?;
    {
        let mut claims = transaction.open_table(CLAIMS)?;
        let mut claimed = transaction.open_table(CLAIMED)?;
        let mut rows = Vec::new();
        for row in claims.iter()? {
            let key = row?.0;
            rows.push((key.value().0.to_owned(), key.value().1.to_owned()));
        }
        for (hex, tenant) in &rows {
            // As if it had been uploaded now: the first version went by a clock that can be set.
            claims.insert((hex.as_str(), tenant.as_str()), ran_s)?;
            claimed.insert((tenant.as_str(), hex.as_str()), ())?;
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_AUDIT, entries)?;
        meta.insert(META_VERSION, VERSION)?;
    }
    transaction.commit()?;
    Ok(None)
}

/// There are hashes of tokens in it, and what apps were given as secrets.
fn private(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if let Err(error) = fs::set_permissions(file, fs::Permissions::from_mode(0o600)) {
        tracing::warn!(%error, "the permissions of the state's file could not be set");
    }
}

/// Reads what is kept in memory.
fn known(database: &Opened) -> Result<Read, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |number| number.value()));
    let mut known = Known { generation: number(META_GENERATION)?, ..Known::default() };
    for row in transaction.open_table(TENANTS)?.iter()? {
        let (id, row) = row?;
        let record = records::tenant(id.value(), row.value())?;
        known.tenants.insert(record.id.clone(), Arc::new(record));
    }
    for row in transaction.open_table(TOKENS)?.iter()? {
        let (id, row) = row?;
        known.tokens.insert(id.value().to_owned(), Arc::new(records::token(id.value(), row.value())?));
    }
    for row in transaction.open_table(APPS)?.iter()? {
        let (key, row) = row?;
        let (tenant, app) = key.value();
        let record = records::app(records::app_id(tenant, app)?, row.value())?;
        known.apps.insert(record.id.clone(), Arc::new(record));
    }
    let intact = audit::is_intact(&transaction.open_table(AUDIT)?, number(META_AUDIT)?)?;
    Ok(Read { known, intact, ran_s: number(META_RAN)? })
}
