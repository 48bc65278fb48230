//! Changes: each one transaction that looks first, and is on the disk when it returns.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use redb::{ReadableTable as _, WriteTransaction};
use tenon_model::{AppId, Digest, RevisionNumber, Route, TenantId};

use super::open::{
    APPS, CLAIMED, CLAIMS, META, META_GENERATION, META_RAN, REVISIONS, ROLLOUTS, TENANTS, TOKENS, USES,
};
use super::records::{
    AppRecord, Ended, Phase, RevisionRecord, RolloutRecord, TenantRecord, TokenRecord, app_row, revision,
    revision_row, rollout_row, tenant_row, token_row,
};
use super::{Desired, Known, REVISIONS_KEPT_MAX, audit, routes};

/// Who changes something, and what the clock says.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// Who: a token, or `node`.
    pub who: &'a str,
    /// Seconds since 1970.
    pub at: u64,
}

/// Why something was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Somebody else changed it meanwhile.
    #[error("it was changed meanwhile: its generation is {actual}, and not {expected}")]
    Conflict {
        /// What was expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// Somebody else changed the tenant meanwhile.
    #[error("it was changed meanwhile: its generation is {actual}, and not {expected}")]
    TenantConflict {
        /// What was expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// There is no such thing.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// It is in use.
    #[error("the tenant has {apps} apps")]
    InUse {
        /// So many apps.
        apps: usize,
    },
    /// Requests for this are somebody else's.
    #[error("`{route}` is taken")]
    RouteTaken {
        /// What was asked for.
        route: Route,
        /// Whose it is, if it is of the same tenant.
        by: Option<AppId>,
    },
    /// The tenant has as many apps as it may have.
    #[error("the tenant may have {max} apps")]
    TooManyApps {
        /// So many.
        max: u32,
    },
    /// Nothing was uploaded with this digest, by this tenant.
    #[error("the component was not uploaded")]
    NotUploaded,
    /// It cannot be done as things stand.
    #[error("{0}")]
    Refused(&'static str),
    /// Another process has the state now: see [`Desired::hand_over`].
    #[error("another process has taken the state over")]
    HandedOver,
    /// The state could not be written or read: the disk is full, or fails. Nothing was changed.
    #[error("the state cannot be written: {0}")]
    Failed(String),
    /// The disk failed when the change was to be kept: it may have been, and may not.
    #[error("the state may not have been written: {0}")]
    Unknown(String),
}

/// A revision to be made.
#[derive(Clone, Debug)]
pub struct NewRevision<'a> {
    /// Its component.
    pub component: Digest,
    /// Its terms: a document.
    pub terms: &'a str,
    /// The one that it is equal to.
    pub reverts_to: Option<RevisionNumber>,
    /// Why.
    pub note: &'a str,
    /// How a rollout stands that has not ended: the revision takes its candidate's place.
    pub ends: Option<Ended>,
}

/// How a revision takes over.
#[derive(Clone, Debug)]
pub enum Takeover<'a> {
    /// With the commit.
    AtOnce,
    /// Step by step: the plan, a document.
    ByPlan(&'a str),
}

type Changed<T> = Result<Result<T, ChangeError>, redb::Error>;

/// What an audit entry says.
struct Said {
    what: &'static str,
    target: String,
    detail: String,
}

impl Said {
    fn new(what: &'static str, target: impl ToString, detail: impl Into<String>) -> Self {
        Self { what, target: target.to_string(), detail: detail.into() }
    }
}

impl Desired {
    /// Makes a tenant, or changes one that has the generation that is expected; 0 is that of one that is not there.
    ///
    /// # Errors
    /// When it has another one, or when the state cannot be written.
    pub fn put_tenant(
        &self,
        by: By<'_>,
        id: &TenantId,
        expected: Option<u64>,
        document: &str,
        apps_max: u32,
    ) -> Result<Arc<TenantRecord>, ChangeError> {
        self.change(by, |transaction, known, generation| {
            let before = known.tenants.get(id);
            let actual = before.map_or(0, |tenant| tenant.generation);
            if let Some(expected) = expected.filter(|expected| *expected != actual) {
                return Ok(Err(ChangeError::TenantConflict { expected, actual }));
            }
            let (created, since) = match before {
                Some(tenant) => (tenant.created, tenant.since),
                None => (by.at, audit::next(transaction)?),
            };
            let document = document.to_owned();
            let record = TenantRecord { id: id.clone(), document, apps_max, generation, created, since };
            transaction.open_table(TENANTS)?.insert(id.as_str(), tenant_row(&record)?.as_str())?;
            let record = Arc::new(record);
            known.tenants.insert(id.clone(), Arc::clone(&record));
            let said = Said::new("put-tenant", id, record.document.clone());
            Ok(Ok((record, said)))
        })
    }

    /// Removes a tenant without apps, its tokens, and its right to what it uploaded: the next one of its name has neither.
    ///
    /// # Errors
    /// When there is none, when it has apps, or when the state cannot be written.
    pub fn delete_tenant(&self, by: By<'_>, id: &TenantId) -> Result<(), ChangeError> {
        self.change(by, |transaction, known, _| {
            if known.tenants.remove(id).is_none() {
                return Ok(Err(ChangeError::Missing("such tenant")));
            }
            let apps = known.apps.keys().filter(|app| app.tenant == *id).count();
            if apps > 0 {
                return Ok(Err(ChangeError::InUse { apps }));
            }
            transaction.open_table(TENANTS)?.remove(id.as_str())?;
            let theirs = |token: &Arc<TokenRecord>| token.tenant.as_ref() == Some(id);
            for token in known.tokens.values().filter(|token| theirs(token)) {
                transaction.open_table(TOKENS)?.remove(token.id.as_str())?;
            }
            known.tokens.retain(|_, token| !theirs(token));
            remove_claims(transaction, id)?;
            Ok(Ok(((), Said::new("delete-tenant", id, ""))))
        })
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When its tenant is not there, or when the state cannot be written.
    pub fn create_token(&self, by: By<'_>, record: TokenRecord) -> Result<Arc<TokenRecord>, ChangeError> {
        self.change(by, |transaction, known, _| {
            if record.tenant.as_ref().is_some_and(|tenant| !known.tenants.contains_key(tenant)) {
                return Ok(Err(ChangeError::Missing("such tenant")));
            }
            let said = token_said("create-token", &record);
            Ok(Ok((put_token(transaction, known, record)?, said)))
        })
    }

    /// Gives a token the hash of another secret; that of the one before stays valid until `until` (seconds since 1970). Where
    /// that is no longer than now, it is not kept: a clock that is set back must not bring it back. A token that was made
    /// invalid meanwhile stays so.
    ///
    /// # Errors
    /// When there is none, or when the state cannot be written.
    pub fn rotate_token(
        &self,
        by: By<'_>,
        id: &str,
        hash: &str,
        until: u64,
    ) -> Result<Arc<TokenRecord>, ChangeError> {
        self.change(by, |transaction, known, _| {
            let Some(there) = known.tokens.get(id) else {
                return Ok(Err(ChangeError::Missing("such token")));
            };
            let mut record = TokenRecord::clone(there);
            let before = std::mem::replace(&mut record.hash, hash.to_owned());
            record.before = (until > by.at).then_some((before, until));
            let said = token_said("rotate-token", &record);
            Ok(Ok((put_token(transaction, known, record)?, said)))
        })
    }

    /// Makes a token invalid.
    ///
    /// # Errors
    /// When there is none, or when the state cannot be written.
    pub fn delete_token(&self, by: By<'_>, id: &str) -> Result<(), ChangeError> {
        self.change(by, |transaction, known, _| {
            let Some(record) = known.tokens.remove(id) else {
                return Ok(Err(ChangeError::Missing("such token")));
            };
            transaction.open_table(TOKENS)?.remove(id)?;
            Ok(Ok(((), Said::new("delete-token", token_target(&record), ""))))
        })
    }

    /// Notes that somebody of this tenant (of none: of the node) uploaded these bytes now, which are in place.
    ///
    /// # Errors
    /// When the tenant is not there, or when the state cannot be written.
    pub fn claim(&self, tenant: Option<&TenantId>, digest: &Digest) -> Result<(), ChangeError> {
        self.unsaid(|transaction, known| {
            if tenant.is_some_and(|tenant| !known.tenants.contains_key(tenant)) {
                return Ok(Err(ChangeError::Missing("such tenant")));
            }
            let (hex, tenant) = (digest.hex(), tenant.map_or("", TenantId::as_str));
            let now_s = self.keep_time(transaction)?;
            transaction.open_table(CLAIMS)?.insert((hex.as_str(), tenant), now_s)?;
            transaction.open_table(CLAIMED)?.insert((tenant, hex.as_str()), ())?;
            Ok(Ok(()))
        })
    }

    /// Keeps how long nodes have run on this state, and says it.
    fn keep_time(&self, transaction: &WriteTransaction) -> Result<u64, redb::Error> {
        let mut meta = transaction.open_table(META)?;
        let kept_s = meta.get(META_RAN)?.map_or(0, |kept| kept.value());
        let now_s = self.ran_s().max(kept_s);
        meta.insert(META_RAN, now_s)?;
        Ok(now_s)
    }

    /// Makes a revision of an app, and the app with the first. Where no routes are given it keeps those that the app has; others
    /// are the app's from the commit on, however the revision takes over.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn revise(
        &self,
        by: By<'_>,
        id: &AppId,
        expected: Option<u64>,
        new: &NewRevision<'_>,
        routes: Option<&[Route]>,
        takeover: &Takeover<'_>,
    ) -> Result<Arc<AppRecord>, ChangeError> {
        self.change(by, |transaction, known, generation| {
            let before = known.apps.get(id).cloned();
            if let Err(error) = expect(before.as_deref(), expected) {
                return Ok(Err(error));
            }
            let Some(tenant) = known.tenants.get(&id.tenant) else {
                return Ok(Err(ChangeError::Missing("such tenant")));
            };
            if before.is_none() {
                let apps = known.apps.keys().filter(|app| app.tenant == id.tenant).count();
                if apps >= tenant.apps_max as usize {
                    return Ok(Err(ChangeError::TooManyApps { max: tenant.apps_max }));
                }
            }
            if !is_there(transaction, &new.component)? {
                return Ok(Err(ChangeError::NotUploaded));
            }
            let number = RevisionNumber(before.as_ref().map_or(0, |app| app.last.0) + 1);
            let mut app = match &before {
                Some(app) => AppRecord::clone(app),
                None => AppRecord {
                    id: id.clone(),
                    generation,
                    routes: Vec::new(),
                    stable: number,
                    rollout: None,
                    paused: false,
                    last: number,
                },
            };
            if let Some(routes) = routes {
                routes::remove(transaction, id, &app.routes)?;
                if let Err(taken) = routes::insert(transaction, id, routes)? {
                    return Ok(Err(taken));
                }
                app.routes = routes.to_vec();
            }
            let record = RevisionRecord {
                number,
                parent: before.as_ref().map(|app| app.stable),
                reverts_to: new.reverts_to,
                component: new.component,
                terms: new.terms.to_owned(),
                routes: Some(app.routes.clone()),
                created: by.at,
                by: by.who.to_owned(),
                note: new.note.to_owned(),
            };
            let key = (id.tenant.as_str(), id.app.as_str(), number.0);
            transaction.open_table(REVISIONS)?.insert(key, revision_row(&record)?.as_str())?;
            let hex = new.component.hex();
            transaction.open_table(USES)?.insert((hex.as_str(), key.0, key.1, key.2), ())?;
            app.last = number;
            if let Some(rollout) = app.rollout.as_mut().filter(|rollout| rollout.is_open()) {
                rollout.phase = Phase::Reverted;
                rollout.why = Some(format!("{number} took its place"));
                rollout.ended = Some(Ended { at: by.at, ..new.ends.unwrap_or_default() });
                keep_rollout(transaction, id, rollout)?;
            }
            match takeover {
                Takeover::ByPlan(plan) if before.is_some() => {
                    app.rollout = Some(RolloutRecord {
                        candidate: number,
                        from: app.stable,
                        plan: (*plan).to_owned(),
                        phase: Phase::Running,
                        step: 0,
                        why: None,
                        ended: None,
                    });
                }
                _ => app.stable = number,
            }
            prune(transaction, &app)?;
            let what = if new.reverts_to.is_some() { "revert" } else { "deploy" };
            let said = Said::new(what, id, of_revision(&record));
            let app = put_app(transaction, known, app, generation)?;
            Ok(Ok((app, said)))
        })
    }

    /// Changes where an app's pointers point: what `change` does to the record. Routes and numbers stay.
    ///
    /// # Errors
    /// What `change` says; and see [`ChangeError`].
    pub fn point(
        &self,
        by: By<'_>,
        id: &AppId,
        expected: Option<u64>,
        what: &'static str,
        detail: &str,
        change: impl FnOnce(&mut AppRecord) -> Result<(), ChangeError>,
    ) -> Result<Arc<AppRecord>, ChangeError> {
        self.change(by, |transaction, known, generation| {
            let Some(before) = known.apps.get(id).cloned() else {
                return Ok(Err(ChangeError::Missing("such app")));
            };
            if let Err(error) = expect(Some(&before), expected) {
                return Ok(Err(error));
            }
            let mut app = AppRecord::clone(&before);
            if let Err(error) = change(&mut app) {
                return Ok(Err(error));
            }
            (app.routes, app.last) = (before.routes.clone(), before.last);
            if let Some(rollout) = app.rollout.as_ref().filter(|it| before.rollout.as_ref() != Some(*it))
                && !rollout.is_open()
            {
                keep_rollout(transaction, id, rollout)?;
            }
            let app = put_app(transaction, known, app, generation)?;
            Ok(Ok((app, Said::new(what, id, detail))))
        })
    }

    /// Removes an app and its revisions.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn delete_app(&self, by: By<'_>, id: &AppId) -> Result<(), ChangeError> {
        self.change(by, |transaction, known, _| {
            let Some(app) = known.apps.remove(id) else {
                return Ok(Err(ChangeError::Missing("such app")));
            };
            let (tenant, name) = (id.tenant.as_str(), id.app.as_str());
            transaction.open_table(APPS)?.remove((tenant, name))?;
            routes::remove(transaction, id, &app.routes)?;
            remove_revisions(transaction, id, |_| true)?;
            Ok(Ok(((), Said::new("delete-app", id, ""))))
        })
    }

    /// Forgets components that no revision is made of and that were uploaded `age_s` seconds ago, or earlier, by the time of
    /// [`Self::ran_s`], and says which. Their files can be removed once this has returned.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn forget_unused(&self, age_s: u64) -> Result<Vec<Digest>, ChangeError> {
        let now_s = self.ran_s();
        let is_young = |at_s: u64| now_s.saturating_sub(at_s) < age_s;
        let unused = self.read(|transaction| {
            let uses = transaction.open_table(USES)?;
            let mut kept: BTreeSet<String> = BTreeSet::new();
            for row in uses.iter()? {
                kept.insert(row?.0.value().0.to_owned());
            }
            let mut old = BTreeSet::new();
            for row in transaction.open_table(CLAIMS)?.iter()? {
                let (key, at) = row?;
                let hex = key.value().0.to_owned();
                if is_young(at.value()) {
                    kept.insert(hex.clone());
                }
                old.insert(hex);
            }
            Ok(old.into_iter().filter(|hex| !kept.contains(hex)).collect::<Vec<_>>())
        })?;
        self.unsaid(|transaction, _| {
            self.keep_time(transaction)?;
            let mut forgotten = Vec::new();
            let mut claims = transaction.open_table(CLAIMS)?;
            let mut claimed = transaction.open_table(CLAIMED)?;
            let uses = transaction.open_table(USES)?;
            for hex in &unused {
                // It may have been taken up since.
                let is_used = uses.range((hex.as_str(), "", "", 0)..)?.next().transpose()?;
                if is_used.is_some_and(|(key, _)| key.value().0 == hex) {
                    continue;
                }
                let mut rows = Vec::new();
                for row in claims.range((hex.as_str(), "")..)? {
                    let (key, at) = row?;
                    if key.value().0 != hex {
                        break;
                    }
                    rows.push((key.value().1.to_owned(), at.value()));
                }
                if rows.iter().any(|(_, at)| is_young(*at)) {
                    continue;
                }
                for (tenant, _) in rows {
                    claims.remove((hex.as_str(), tenant.as_str()))?;
                    claimed.remove((tenant.as_str(), hex.as_str()))?;
                }
                forgotten.extend(format!("sha256:{hex}").parse::<Digest>());
            }
            Ok(Ok(forgotten))
        })
    }

    /// A change that is in the audit log.
    fn change<T>(
        &self,
        by: By<'_>,
        change: impl FnOnce(&WriteTransaction, &mut Known, u64) -> Changed<(T, Said)>,
    ) -> Result<T, ChangeError> {
        self.unsaid(|transaction, known| {
            let generation = known.generation + 1;
            let (done, Said { what, target, detail }) = match change(transaction, known, generation)? {
                Ok(done) => done,
                Err(error) => return Ok(Err(error)),
            };
            audit::append(transaction, &by, what, &target, &detail)?;
            transaction.open_table(META)?.insert(META_GENERATION, generation)?;
            known.generation = generation;
            Ok(Ok(done))
        })
    }

    /// One transaction: when it was committed, memory says the same; else neither does.
    fn unsaid<T>(
        &self,
        change: impl FnOnce(&WriteTransaction, &mut Known) -> Changed<T>,
    ) -> Result<T, ChangeError> {
        let mut database = self.lock();
        let opened = self.writable(&mut database)?;
        let mut known = self.known().clone();
        let before = known.generation;
        let mut was_to_be_kept = false;
        let done = (|| {
            let mut transaction = opened.begin_write()?;
            // After a crash the next start then has nothing to reconstruct.
            transaction.set_quick_repair(true);
            match change(&transaction, &mut known)? {
                Ok(done) => {
                    was_to_be_kept = true;
                    transaction.commit()?;
                    Ok(Ok(done))
                }
                Err(refused) => {
                    transaction.abort()?;
                    Ok(Err(refused))
                }
            }
        })();
        let error: redb::Error = match done {
            Ok(Ok(done)) => {
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
                return Ok(done);
            }
            Ok(Err(refused)) => return Err(refused),
            Err(error) => error,
        };
        tracing::error!(%error, "the state could not be written");
        // After a failed write the database takes nothing more until it is opened again.
        drop(opened);
        *database = None;
        if !was_to_be_kept {
            return Err(ChangeError::Failed(error.to_string()));
        }
        // What was to be kept may be in the file. Read again, it says so; of what has no generation it cannot.
        let is_as_before = self.opened(&mut database).is_ok() && self.generation() == before;
        Err(match is_as_before && known.generation != before {
            true => ChangeError::Failed(error.to_string()),
            false => ChangeError::Unknown(error.to_string()),
        })
    }
}

fn put_token(
    transaction: &WriteTransaction,
    known: &mut Known,
    record: TokenRecord,
) -> Result<Arc<TokenRecord>, redb::Error> {
    transaction.open_table(TOKENS)?.insert(record.id.as_str(), token_row(&record)?.as_str())?;
    let record = Arc::new(record);
    known.tokens.insert(record.id.clone(), Arc::clone(&record));
    Ok(record)
}

fn token_said(what: &'static str, record: &TokenRecord) -> Said {
    Said::new(what, token_target(record), format!("{} {}", record.verb, record.note))
}

/// What a revision is made of, why, and whose requests come to it: the routes last, for there may be more than is kept.
fn of_revision(RevisionRecord { number, component, terms, note, routes, .. }: &RevisionRecord) -> String {
    let routes: Vec<String> = routes.iter().flatten().map(Route::to_string).collect();
    let note = if note.is_empty() { String::new() } else { format!(", {note}") };
    format!("{number} {component}, terms {}{note}, for {}", Digest::of(terms.as_bytes()), routes.join(" "))
}

fn token_target(record: &TokenRecord) -> String {
    match &record.tenant {
        Some(tenant) => format!("{tenant}/token {}", record.id),
        None => format!("token {}", record.id),
    }
}

fn expect(app: Option<&AppRecord>, expected: Option<u64>) -> Result<(), ChangeError> {
    let actual = app.map_or(0, |app| app.generation);
    match expected {
        Some(expected) if expected != actual => Err(ChangeError::Conflict { expected, actual }),
        _ => Ok(()),
    }
}

/// Takes a tenant's right to all that it uploaded.
fn remove_claims(transaction: &WriteTransaction, id: &TenantId) -> Result<(), redb::Error> {
    let mut claims = transaction.open_table(CLAIMS)?;
    let mut claimed = transaction.open_table(CLAIMED)?;
    let mut theirs = Vec::new();
    for row in claimed.range((id.as_str(), "")..)? {
        let key = row?.0;
        if key.value().0 != id.as_str() {
            break;
        }
        theirs.push(key.value().1.to_owned());
    }
    for hex in theirs {
        claims.remove((hex.as_str(), id.as_str()))?;
        claimed.remove((id.as_str(), hex.as_str()))?;
    }
    Ok(())
}

/// Whether anybody uploaded it, or a revision is made of it: then it is not thrown away.
fn is_there(transaction: &WriteTransaction, digest: &Digest) -> Result<bool, redb::Error> {
    let hex = digest.hex();
    let claims = transaction.open_table(CLAIMS)?;
    let claimed = claims.range((hex.as_str(), "")..)?.next().transpose()?;
    if claimed.is_some_and(|(key, _)| key.value().0 == hex) {
        return Ok(true);
    }
    let uses = transaction.open_table(USES)?;
    let used = uses.range((hex.as_str(), "", "", 0)..)?.next().transpose()?;
    Ok(used.is_some_and(|(key, _)| key.value().0 == hex))
}

fn put_app(
    transaction: &WriteTransaction,
    known: &mut Known,
    mut app: AppRecord,
    generation: u64,
) -> Result<Arc<AppRecord>, redb::Error> {
    app.generation = generation;
    let key = (app.id.tenant.as_str(), app.id.app.as_str());
    transaction.open_table(APPS)?.insert(key, app_row(&app)?.as_str())?;
    let app = Arc::new(app);
    known.apps.insert(app.id.clone(), Arc::clone(&app));
    Ok(app)
}

/// Keeps how a rollout ended, for as long as its candidate is kept.
fn keep_rollout(
    transaction: &WriteTransaction,
    id: &AppId,
    rollout: &RolloutRecord,
) -> Result<(), redb::Error> {
    let key = (id.tenant.as_str(), id.app.as_str(), rollout.candidate.0);
    transaction.open_table(ROLLOUTS)?.insert(key, rollout_row(rollout)?.as_str())?;
    Ok(())
}

/// Removes the oldest revisions once there are more than are kept.
fn prune(transaction: &WriteTransaction, app: &AppRecord) -> Result<(), redb::Error> {
    let oldest = app.last.0.saturating_sub(REVISIONS_KEPT_MAX as u64);
    let rollout = app.rollout.as_ref();
    let is_needed = |number: u64| {
        number == app.stable.0
            || rollout.is_some_and(|rollout| rollout.candidate.0 == number || rollout.from.0 == number)
    };
    remove_revisions(transaction, &app.id, |number| number <= oldest && !is_needed(number))
}

fn remove_revisions(
    transaction: &WriteTransaction,
    id: &AppId,
    is_meant: impl Fn(u64) -> bool,
) -> Result<(), redb::Error> {
    let (tenant, app) = (id.tenant.as_str(), id.app.as_str());
    let mut table = transaction.open_table(REVISIONS)?;
    let mut uses = transaction.open_table(USES)?;
    let mut rollouts = transaction.open_table(ROLLOUTS)?;
    let mut gone = Vec::new();
    for row in table.range((tenant, app, 0)..=(tenant, app, u64::MAX))? {
        let (key, row) = row?;
        let number = key.value().2;
        if is_meant(number) {
            gone.push((number, revision(RevisionNumber(number), row.value())?.component.hex()));
        }
    }
    for (number, hex) in gone {
        table.remove((tenant, app, number))?;
        rollouts.remove((tenant, app, number))?;
        uses.remove((hex.as_str(), tenant, app, number))?;
    }
    Ok(())
}
