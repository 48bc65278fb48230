//! Opening the state, whatever its file is like.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use redb::{ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tenon_model::Diagnostic;

use super::{Desired, Known, audit, records};
use crate::embedded::{Opened, open as files};

/// The database, in the folder of the node.
const FILE: &str = "state.redb";
/// The version of what is in it.
const VERSION: u64 = 1;

/// `version` and `generation`.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
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
/// Who uploaded a component, and when: digest, tenant (empty: somebody of no tenant).
pub(super) const CLAIMS: TableDefinition<(&str, &str), u64> = TableDefinition::new("claims");
/// Which revisions are made of a component: digest, tenant, app, number.
pub(super) const USES: TableDefinition<(&str, &str, &str, u64), ()> = TableDefinition::new("uses");
/// The audit log by sequence.
pub(super) const AUDIT: TableDefinition<u64, &str> = TableDefinition::new("audit");

impl Desired {
    /// Opens the state in `folder`, and makes it if it is not there.
    ///
    /// # Errors
    /// A diagnostic: it is open elsewhere, cannot be read, was written by another version, or is damaged.
    pub fn open(folder: &Path) -> Result<Self, Diagnostic> {
        let unusable = |error: std::io::Error| files::unreadable(folder, &error.to_string());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
        let database = database(folder)?;
        let (known, intact) = read(folder, &database)?;
        if !intact {
            tracing::error!(
                "the audit log was changed by somebody else: its hashes do not follow on one another"
            );
        }
        Ok(Self {
            folder: folder.to_owned(),
            database: Mutex::new(Some(database)),
            known: RwLock::new(known),
            intact,
            handed_over: AtomicBool::new(false),
        })
    }
}

/// Opens the file again, which was open before. It is neither made anew nor set aside.
pub(super) fn again(folder: &Path) -> Result<Arc<Opened>, Diagnostic> {
    files::reopened(&folder.join(FILE)).map(Arc::new)
}

/// Reads what is kept in memory, and whether the log is unbroken.
pub(super) fn read(folder: &Path, database: &Opened) -> Result<(Known, bool), Diagnostic> {
    let file = folder.join(FILE);
    let read = catch_unwind(AssertUnwindSafe(|| known(database)));
    let read = read.unwrap_or_else(|panic| Err(redb::Error::Corrupted(files::text_of(panic.as_ref()))));
    read.map_err(|error| match error {
        redb::Error::Io(error) => files::unreadable(&file, &error.to_string()),
        error => files::unsound(&file, &error.to_string()),
    })
}

/// Opens the file, and makes the tables where they are missing.
pub(super) fn database(folder: &Path) -> Result<Arc<Opened>, Diagnostic> {
    let file = folder.join(FILE);
    let database = files::opened(&file, |database| {
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let version = meta.get("version")?.map(|version| version.value());
            match version {
                None => {
                    meta.insert("version", VERSION)?;
                }
                Some(VERSION) => {}
                Some(version) => return Ok(Some(format!("it has version {version}, and this is {VERSION}"))),
            }
        }
        transaction.open_table(TENANTS)?;
        transaction.open_table(TOKENS)?;
        transaction.open_table(APPS)?;
        transaction.open_table(REVISIONS)?;
        transaction.open_table(ROLLOUTS)?;
        transaction.open_table(ROUTES)?;
        transaction.open_table(CLAIMS)?;
        transaction.open_table(USES)?;
        transaction.open_table(AUDIT)?;
        transaction.commit()?;
        Ok(None)
    })?;
    private(&file);
    Ok(Arc::new(database))
}

/// There are hashes of tokens in it, and what apps were given as secrets.
fn private(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if let Err(error) = fs::set_permissions(file, fs::Permissions::from_mode(0o600)) {
        tracing::warn!(%error, "the permissions of the state's file could not be set");
    }
}

/// Reads what is kept in memory.
fn known(database: &Opened) -> Result<(Known, bool), redb::Error> {
    let transaction = database.begin_read()?;
    let generation =
        transaction.open_table(META)?.get("generation")?.map_or(0, |generation| generation.value());
    let mut known = Known { generation, ..Known::default() };
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
    let intact = audit::is_intact(&transaction.open_table(AUDIT)?)?;
    Ok((known, intact))
}
