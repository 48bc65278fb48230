//! What a node is to serve: tenants, tokens, apps and their revisions; and the log of who changed what.
//!
//! A change is one transaction: it looks at what is there, compares the generation, writes, appends to the audit log and
//! is on the disk when it returns. What is read comes from memory, where the state is after the last commit: a node goes
//! on serving when its disk fails.
//!
//! Documents (quotas, terms, plans of rollouts) are text in the form of whoever wrote them. This room checks what must
//! hold between records, and not what is in documents.

mod audit;
mod blobs;
mod change;
mod open;
mod records;
mod routes;
mod unwritten;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use redb::{ReadableDatabase as _, ReadableTable as _};
use tenon_model::{AppId, Diagnostic, Digest, RevisionNumber, TenantId};

pub use audit::AuditRecord;
pub use blobs::{BlobError, BlobFolder, UNUSED_BYTES_MAX, UNUSED_MAX, Upload, Uploaded, Uploading};
pub use change::{By, ChangeError, NewRevision, Takeover};
pub use records::{
    AppRecord, Copies, Ended, Phase, RevisionRecord, RolloutRecord, TenantRecord, TokenRecord,
};

use crate::embedded::Opened;
use open::{AUDIT, CLAIMED, CLAIMS, Held, REVISIONS, ROLLOUTS, Read, USES};

/// Revisions of an app that are kept; beyond them the oldest go that neither serve nor take over.
pub const REVISIONS_KEPT_MAX: usize = 100;
/// Entries of the audit log that one question is answered with.
pub const AUDIT_PAGE_MAX: usize = 1_000;
/// How long whoever still reads is waited for when the file is let go of.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// How often it is looked whether they have ended.
const CLOSE_LOOK: Duration = Duration::from_millis(1);

/// The desired state of one node. It can be open once.
#[derive(Debug)]
pub struct Desired {
    folder: PathBuf,
    /// Held by whoever changes something. Empty after the disk failed, until the next change opens it again.
    database: Mutex<Option<Held>>,
    /// Why the file, as it is open, is only read.
    unwritable: Mutex<Option<String>>,
    known: RwLock<Known>,
    intact: bool,
    /// Whether the file is another process's.
    handed_over: AtomicBool,
    began: Instant,
    /// Seconds that nodes had run on this state when this one began.
    ran_before_s: AtomicU64,
}

/// What is in memory: all of the state but the revisions and the log.
#[derive(Clone, Debug, Default)]
struct Known {
    generation: u64,
    tenants: BTreeMap<TenantId, Arc<TenantRecord>>,
    tokens: BTreeMap<String, Arc<TokenRecord>>,
    apps: BTreeMap<AppId, Arc<AppRecord>>,
}

impl Desired {
    /// Grows with every change.
    pub fn generation(&self) -> u64 {
        self.known().generation
    }

    /// Whether no entry of the audit log was missing, and its newest part unbroken, when the state was opened.
    pub fn is_audit_intact(&self) -> bool {
        self.intact
    }

    /// Why the state is only read, if the disk took nothing when it was opened last: what is there can be served, and changes
    /// are refused. Each change tries anew.
    pub fn unwritable(&self) -> Option<String> {
        self.unwritable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Seconds that nodes have run on this state, whatever the clock said: the time in which uploads grow old. After a crash
    /// it may go on some minutes earlier.
    pub fn ran_s(&self) -> u64 {
        self.ran_before_s.load(Relaxed).saturating_add(self.began.elapsed().as_secs())
    }

    /// All tenants, in order of their names.
    pub fn tenants(&self) -> Vec<Arc<TenantRecord>> {
        self.known().tenants.values().cloned().collect()
    }

    /// A tenant.
    pub fn tenant(&self, id: &TenantId) -> Option<Arc<TenantRecord>> {
        self.known().tenants.get(id).cloned()
    }

    /// All tokens, in order of their names.
    pub fn tokens(&self) -> Vec<Arc<TokenRecord>> {
        self.known().tokens.values().cloned().collect()
    }

    /// A token.
    pub fn token(&self, id: &str) -> Option<Arc<TokenRecord>> {
        self.known().tokens.get(id).cloned()
    }

    /// All apps, in order of their names, and the generation at which they are so.
    pub fn apps(&self) -> (u64, Vec<Arc<AppRecord>>) {
        let known = self.known();
        (known.generation, known.apps.values().cloned().collect())
    }

    /// The apps of a tenant.
    pub fn apps_of(&self, tenant: &TenantId) -> Vec<Arc<AppRecord>> {
        self.known().apps.values().filter(|app| app.id.tenant == *tenant).cloned().collect()
    }

    /// An app.
    pub fn app(&self, id: &AppId) -> Option<Arc<AppRecord>> {
        self.known().apps.get(id).cloned()
    }

    /// A revision of an app.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn revision(
        &self,
        id: &AppId,
        number: RevisionNumber,
    ) -> Result<Option<RevisionRecord>, ChangeError> {
        self.read(|transaction| {
            let table = transaction.open_table(REVISIONS)?;
            let row = table.get((id.tenant.as_str(), id.app.as_str(), number.0))?;
            row.map(|row| records::revision(number, row.value())).transpose()
        })
    }

    /// The revisions of an app that are kept, the newest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn revisions(&self, id: &AppId) -> Result<Vec<RevisionRecord>, ChangeError> {
        self.read(|transaction| {
            let table = transaction.open_table(REVISIONS)?;
            let (tenant, app) = (id.tenant.as_str(), id.app.as_str());
            let mut found = Vec::new();
            for row in table.range((tenant, app, 0)..=(tenant, app, u64::MAX))?.rev() {
                let (key, value) = row?;
                found.push(records::revision(RevisionNumber(key.value().2), value.value())?);
            }
            Ok(found)
        })
    }

    /// How the rollouts of an app ended whose candidates are kept, the newest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn rollouts(&self, id: &AppId) -> Result<Vec<RolloutRecord>, ChangeError> {
        self.read(|transaction| {
            let table = transaction.open_table(ROLLOUTS)?;
            let (tenant, app) = (id.tenant.as_str(), id.app.as_str());
            let rows = table.range((tenant, app, 0)..=(tenant, app, u64::MAX))?.rev();
            rows.map(|row| records::rollout(row?.1.value())).collect()
        })
    }

    /// Whether somebody of this tenant uploaded these bytes, or has a revision made of them; of any, where no tenant is
    /// named. Bytes are not shared by knowing their digest.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn may_use(&self, tenant: Option<&TenantId>, digest: &Digest) -> Result<bool, ChangeError> {
        let hex = digest.hex();
        self.read(|transaction| {
            let claims = transaction.open_table(CLAIMS)?;
            let uses = transaction.open_table(USES)?;
            let Some(tenant) = tenant else {
                return Ok(claims
                    .range((hex.as_str(), "")..)?
                    .next()
                    .transpose()?
                    .is_some_and(|(key, _)| key.value().0 == hex)
                    || uses
                        .range((hex.as_str(), "", "", 0)..)?
                        .next()
                        .transpose()?
                        .is_some_and(|(key, _)| key.value().0 == hex));
            };
            let tenant = tenant.as_str();
            Ok(claims.get((hex.as_str(), tenant))?.is_some()
                || uses
                    .range((hex.as_str(), tenant, "", 0)..)?
                    .next()
                    .transpose()?
                    .is_some_and(|(key, _)| key.value().0 == hex && key.value().1 == tenant))
        })
    }

    /// What revisions are made of, all that are kept.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn used(&self) -> Result<BTreeSet<Digest>, ChangeError> {
        self.read(|transaction| {
            let mut used = BTreeSet::new();
            for row in transaction.open_table(USES)?.iter()? {
                used.insert(digest(row?.0.value().0)?);
            }
            Ok(used)
        })
    }

    /// What a tenant has uploaded that no revision of its apps is made of.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn unused_by(&self, tenant: &TenantId) -> Result<Vec<Digest>, ChangeError> {
        let tenant = tenant.as_str();
        self.read(|transaction| {
            let uses = transaction.open_table(USES)?;
            let mut unused = Vec::new();
            for row in transaction.open_table(CLAIMED)?.range((tenant, "")..)? {
                let (key, _) = row?;
                let (owner, hex) = key.value();
                if owner != tenant {
                    break;
                }
                let used = uses.range((hex, tenant, "", 0)..)?.next().transpose()?;
                if used.is_none_or(|(key, _)| key.value().0 != hex || key.value().1 != tenant) {
                    unused.push(digest(hex)?);
                }
            }
            Ok(unused)
        })
    }

    /// Entries of the audit log after `after`, at most `limit` and [`AUDIT_PAGE_MAX`]; of one tenant, where one is named, and
    /// not of another that had its name before.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn audit(
        &self,
        after: u64,
        limit: usize,
        tenant: Option<&TenantId>,
    ) -> Result<Vec<AuditRecord>, ChangeError> {
        let limit = limit.min(AUDIT_PAGE_MAX);
        let is_meant = |entry: &AuditRecord| {
            tenant.is_none_or(|tenant| {
                let owner = entry.target.split_once('/').map_or(entry.target.as_str(), |(owner, _)| owner);
                owner == tenant.as_str()
            })
        };
        let since = tenant.and_then(|id| self.tenant(id)).map_or(0, |tenant| tenant.since);
        self.read(|transaction| {
            let mut found = Vec::new();
            for row in transaction.open_table(AUDIT)?.range(after.saturating_add(1).max(since)..)? {
                if found.len() == limit {
                    break;
                }
                let (sequence, row) = row?;
                let entry = audit::read(sequence.value(), row.value())?;
                if is_meant(&entry) {
                    found.push(entry);
                }
            }
            Ok(found)
        })
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, ChangeError> {
        let database = {
            let mut database = self.lock();
            self.opened(&mut database)?
        };
        let done =
            database.begin_read().map_err(redb::Error::from).and_then(|transaction| look(&transaction));
        done.map_err(|error| ChangeError::Failed(error.to_string()))
    }

    /// The database, opened again if the disk failed before.
    fn opened(&self, database: &mut Option<Held>) -> Result<Arc<Opened>, ChangeError> {
        if self.is_handed_over() {
            return Err(ChangeError::HandedOver);
        }
        if let Some(held) = database {
            return Ok(Arc::clone(&held.opened));
        }
        self.open_again(database).map_err(|error| ChangeError::Failed(error.to_string()))
    }

    /// The same, for whoever wants to change something.
    fn writable(&self, database: &mut Option<Held>) -> Result<Arc<Opened>, ChangeError> {
        if let Some(cause) = database.as_ref().and_then(|held| held.unwritable.clone()) {
            if !open::is_writable(&self.folder) {
                return Err(ChangeError::Failed(cause));
            }
            *database = None;
        }
        let opened = self.opened(database)?;
        match self.unwritable() {
            Some(cause) => Err(ChangeError::Failed(cause)),
            None => Ok(opened),
        }
    }

    /// Opens the file, and makes memory say what it says: it may have what a change wrote that failed, or what another process
    /// did.
    fn open_again(&self, database: &mut Option<Held>) -> Result<Arc<Opened>, Diagnostic> {
        let (held, Read { known, ran_s, .. }) = open::opened(&self.folder)?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        self.ran_before_s.fetch_max(ran_s.saturating_sub(self.began.elapsed().as_secs()), Relaxed);
        *self.unwritable.lock().unwrap_or_else(PoisonError::into_inner) = held.unwritable.clone();
        Ok(Arc::clone(&database.insert(held).opened))
    }

    /// Lets go of the file, for the process that takes over. What is in memory is read on; nothing is changed any more, and
    /// what is in the file alone (revisions, the log) is not to be had.
    pub fn hand_over(&self) {
        let mut database = self.lock();
        self.handed_over.store(true, Relaxed);
        // It is closed when the last one who reads lets go.
        let last = database.take();
        let began = Instant::now();
        while last.as_ref().is_some_and(|last| Arc::strong_count(&last.opened) > 1)
            && began.elapsed() < CLOSE_WAIT
        {
            std::thread::sleep(CLOSE_LOOK);
        }
    }

    /// Whether the file is another process's.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Relaxed)
    }

    /// Opens the file again: nobody took over, or whoever did is gone. What was changed meanwhile is read.
    ///
    /// # Errors
    /// A diagnostic: another process still has it, or it cannot be read.
    pub fn take_back(&self) -> Result<(), Diagnostic> {
        self.open_again(&mut self.lock())?;
        self.handed_over.store(false, Relaxed);
        Ok(())
    }
}

fn digest(hex: &str) -> Result<Digest, redb::Error> {
    format!("sha256:{hex}").parse().map_err(records::damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_opened_again_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let by = By { who: "test", at: 0 };
        let id: TenantId = "acme".parse().unwrap();
        let desired = Desired::open(folder.path()).unwrap();
        assert!(desired.tenant(&id).is_none());
        // As after a commit that failed, and is in the file all the same.
        *desired.lock() = None;
        Desired::open(folder.path()).unwrap().put_tenant(by, &id, None, "{}", 1).unwrap();
        assert_eq!(desired.used().unwrap(), BTreeSet::new());
        assert_eq!((desired.tenant(&id).is_some(), desired.generation()), (true, 1));
        let again = desired.put_tenant(by, &id, Some(0), "{}", 1).unwrap_err();
        assert!(matches!(again, ChangeError::TenantConflict { actual: 1, .. }), "{again}");
    }

    #[test]
    fn the_time_that_nodes_have_run_does_not_begin_anew() {
        let folder = tempfile::tempdir().unwrap();
        let desired = Desired::open(folder.path()).unwrap();
        desired.ran_before_s.store(5_000, Relaxed);
        let digest = Digest::of(b"component");
        desired.claim(None, &digest).unwrap();
        drop(desired);
        let desired = Desired::open(folder.path()).unwrap();
        assert!(desired.ran_s() >= 5_000);
        assert_eq!(desired.forget_unused(1_000).unwrap(), []);
        desired.ran_before_s.fetch_add(1_000, Relaxed);
        assert_eq!(desired.forget_unused(1_000).unwrap(), [digest]);
    }
}
