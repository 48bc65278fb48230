//! The records, and how they lie in the database: JSON with short names, read back without trust.

use serde::{Deserialize, Serialize};
use tenon_model::{AppId, Digest, RevisionNumber, Route, Seen, TenantId};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRecord {
    /// What it is called.
    pub id: TenantId,
    /// Its quota and what it may be granted: a document.
    pub document: String,
    /// Apps it may have.
    pub apps_max: u32,
    /// The node's generation at its last change.
    pub generation: u64,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The place in the audit log of the entry that says so: what is before is not this tenant's.
    pub since: u64,
}

/// A token. Of its secret there is a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// What it is known by.
    pub id: String,
    /// Of which tenant; of all where there is none.
    pub tenant: Option<TenantId>,
    /// What it allows: a document.
    pub verb: String,
    /// The hash of its secret.
    pub hash: String,
    /// The hash of the secret before, and until when that is valid, in seconds since 1970.
    pub before: Option<(String, u64)>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ceases to be valid, in seconds since 1970.
    pub expires: Option<u64>,
    /// What it is for.
    pub note: String,
}

/// An app: what points to its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRecord {
    /// Whose, and what it is called.
    pub id: AppId,
    /// The node's generation at its last change.
    pub generation: u64,
    /// Which requests are for it.
    pub routes: Vec<Route>,
    /// The revision that serves.
    pub stable: RevisionNumber,
    /// The rollout that runs, or the last one.
    pub rollout: Option<RolloutRecord>,
    /// Whether it is out of service.
    pub paused: bool,
    /// The newest revision.
    pub last: RevisionNumber,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutRecord {
    /// The revision that takes over.
    pub candidate: RevisionNumber,
    /// The one it takes over from.
    pub from: RevisionNumber,
    /// How: a document.
    pub plan: String,
    /// How it stands.
    pub phase: Phase,
    /// Which step, from 0 on.
    pub step: u32,
    /// Why it ended as it did.
    pub why: Option<String>,
    /// How it stood when it ended.
    pub ended: Option<Ended>,
}

/// How a rollout stood when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// When, in seconds since 1970.
    pub at: u64,
    /// What the revision that was stable had done since the last step began.
    pub stable: Seen,
    /// What the candidate had done since then.
    pub candidate: Seen,
    /// How its answers to copies of requests compared; not in records that were written before it was kept.
    pub copies: Option<Copies>,
}

/// How a candidate's answers to copies of requests compared with the stable revision's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// Answers with the same status and body.
    pub same: u64,
    /// Others.
    pub different: u64,
}

/// How a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It goes on by itself.
    Running,
    /// It stays at its step.
    Paused,
    /// The candidate has become the stable revision.
    Promoted,
    /// The candidate was sent back.
    Reverted,
}

impl RolloutRecord {
    /// Whether it has not ended.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused)
    }
}

impl AppRecord {
    /// The rollout that has not ended.
    pub fn open_rollout(&self) -> Option<&RolloutRecord> {
        self.rollout.as_ref().filter(|rollout| rollout.is_open())
    }
}

/// A revision: immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRecord {
    /// Which.
    pub number: RevisionNumber,
    /// The stable one when it was made.
    pub parent: Option<RevisionNumber>,
    /// The one that it is equal to, if it is a revert.
    pub reverts_to: Option<RevisionNumber>,
    /// Its component.
    pub component: Digest,
    /// Its terms: a document.
    pub terms: String,
    /// Which requests were for the app when it was made; not in records that were written before it was kept.
    pub routes: Option<Vec<Route>>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Who made it.
    pub by: String,
    /// Why.
    pub note: String,
}

#[derive(Serialize, Deserialize)]
struct TenantRow {
    document: String,
    apps_max: u32,
    /// Not in rows that were written before it was kept.
    #[serde(default)]
    generation: u64,
    created: u64,
    /// Not in rows that were written before it was kept.
    #[serde(default)]
    since: u64,
}

#[derive(Serialize, Deserialize)]
struct TokenRow {
    tenant: Option<String>,
    verb: String,
    hash: String,
    before: Option<(String, u64)>,
    created: u64,
    expires: Option<u64>,
    note: String,
}

#[derive(Serialize, Deserialize)]
struct AppRow {
    generation: u64,
    routes: Vec<String>,
    stable: u64,
    rollout: Option<RolloutRow>,
    paused: bool,
    last: u64,
}

#[derive(Serialize, Deserialize)]
struct RolloutRow {
    candidate: u64,
    from: u64,
    plan: String,
    phase: Phase,
    step: u32,
    why: Option<String>,
    /// Not in rows that were written before it was kept.
    #[serde(default)]
    ended: Option<EndedRow>,
}

#[derive(Serialize, Deserialize)]
struct EndedRow {
    at: u64,
    stable: SeenRow,
    candidate: SeenRow,
    /// Not in rows that were written before it was kept.
    #[serde(default)]
    copies: Option<Copies>,
}

#[derive(Serialize, Deserialize)]
struct SeenRow {
    requests: u64,
    errors: u64,
    crashes: u64,
    p99_us: u64,
}

#[derive(Serialize, Deserialize)]
struct RevisionRow {
    parent: Option<u64>,
    reverts_to: Option<u64>,
    component: String,
    terms: String,
    /// Not in rows that were written before it was kept.
    #[serde(default)]
    routes: Option<Vec<String>>,
    created: u64,
    by: String,
    note: String,
}

/// What is in the database is not what was written.
pub(super) fn damaged(what: impl std::fmt::Display) -> redb::Error {
    redb::Error::Corrupted(format!("a record cannot be read: {what}"))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, redb::Error> {
    serde_json::from_str(text).map_err(damaged)
}

fn print(row: &impl Serialize) -> Result<String, redb::Error> {
    serde_json::to_string(row).map_err(damaged)
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, redb::Error> {
    text.parse().map_err(damaged)
}

pub(super) fn app_id(tenant: &str, app: &str) -> Result<AppId, redb::Error> {
    Ok(AppId { tenant: word(tenant)?, app: word(app)? })
}

pub(super) fn tenant(id: &str, text: &str) -> Result<TenantRecord, redb::Error> {
    let TenantRow { document, apps_max, generation, created, since } = parse(text)?;
    Ok(TenantRecord { id: word(id)?, document, apps_max, generation, created, since })
}

pub(super) fn tenant_row(record: &TenantRecord) -> Result<String, redb::Error> {
    let TenantRecord { document, apps_max, generation, created, since, .. } = record.clone();
    print(&TenantRow { document, apps_max, generation, created, since })
}

pub(super) fn token(id: &str, text: &str) -> Result<TokenRecord, redb::Error> {
    let TokenRow { tenant, verb, hash, before, created, expires, note } = parse(text)?;
    let tenant = tenant.as_deref().map(word).transpose()?;
    Ok(TokenRecord { id: id.to_owned(), tenant, verb, hash, before, created, expires, note })
}

pub(super) fn token_row(record: &TokenRecord) -> Result<String, redb::Error> {
    let TokenRecord { tenant, verb, hash, before, created, expires, note, .. } = record.clone();
    let tenant = tenant.map(|tenant| tenant.to_string());
    print(&TokenRow { tenant, verb, hash, before, created, expires, note })
}

pub(super) fn app(id: AppId, text: &str) -> Result<AppRecord, redb::Error> {
    let AppRow { generation, routes, stable, rollout, paused, last } = parse(text)?;
    Ok(AppRecord {
        id,
        generation,
        routes: routes.iter().map(|route| word(route)).collect::<Result<_, _>>()?,
        stable: RevisionNumber(stable),
        rollout: rollout.map(RolloutRow::record),
        paused,
        last: RevisionNumber(last),
    })
}

pub(super) fn app_row(record: &AppRecord) -> Result<String, redb::Error> {
    let AppRecord { generation, routes, stable, rollout, paused, last, .. } = record.clone();
    print(&AppRow {
        generation,
        routes: routes.iter().map(ToString::to_string).collect(),
        stable: stable.0,
        rollout: rollout.map(RolloutRow::of),
        paused,
        last: last.0,
    })
}

impl RolloutRow {
    fn of(record: RolloutRecord) -> Self {
        let RolloutRecord { candidate, from, plan, phase, step, why, ended } = record;
        let row = |Seen { requests, errors, crashes, p99_us }| SeenRow { requests, errors, crashes, p99_us };
        let ended = ended.map(|Ended { at, stable, candidate, copies }| EndedRow {
            at,
            stable: row(stable),
            candidate: row(candidate),
            copies,
        });
        Self { candidate: candidate.0, from: from.0, plan, phase, step, why, ended }
    }

    fn record(self) -> RolloutRecord {
        let Self { candidate, from, plan, phase, step, why, ended } = self;
        let seen = |SeenRow { requests, errors, crashes, p99_us }| Seen { requests, errors, crashes, p99_us };
        let ended = ended.map(|EndedRow { at, stable, candidate, copies }| Ended {
            at,
            stable: seen(stable),
            candidate: seen(candidate),
            copies,
        });
        let (candidate, from) = (RevisionNumber(candidate), RevisionNumber(from));
        RolloutRecord { candidate, from, plan, phase, step, why, ended }
    }
}

pub(super) fn rollout(text: &str) -> Result<RolloutRecord, redb::Error> {
    parse::<RolloutRow>(text).map(RolloutRow::record)
}

pub(super) fn rollout_row(record: &RolloutRecord) -> Result<String, redb::Error> {
    print(&RolloutRow::of(record.clone()))
}

pub(super) fn revision(number: RevisionNumber, text: &str) -> Result<RevisionRecord, redb::Error> {
    let RevisionRow { parent, reverts_to, component, terms, routes, created, by, note } = parse(text)?;
    let component = word(&component)?;
    let routes = routes.map(|routes| routes.iter().map(|route| word(route)).collect()).transpose()?;
    let (parent, reverts_to) = (parent.map(RevisionNumber), reverts_to.map(RevisionNumber));
    Ok(RevisionRecord { number, parent, reverts_to, component, terms, routes, created, by, note })
}

pub(super) fn revision_row(record: &RevisionRecord) -> Result<String, redb::Error> {
    let RevisionRecord { parent, reverts_to, component, terms, routes, created, by, note, .. } =
        record.clone();
    print(&RevisionRow {
        parent: parent.map(|number| number.0),
        reverts_to: reverts_to.map(|number| number.0),
        component: component.to_string(),
        terms,
        routes: routes.map(|routes| routes.iter().map(ToString::to_string).collect()),
        created,
        by,
        note,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_that_was_written_before_routes_were_kept_is_read_without_them() {
        let component = Digest::of(b"shop");
        let old = format!(
            r#"{{"parent":1,"reverts_to":null,"component":"{component}","terms":"{{}}","created":5,"by":"ci","note":""}}"#
        );
        let read = revision(RevisionNumber(2), &old).unwrap();
        assert_eq!((read.parent, &read.routes), (Some(RevisionNumber(1)), &None));
        for routes in [None, Some(Vec::new()), Some(vec!["shop.example/*".parse().unwrap()])] {
            let record = RevisionRecord { routes, ..read.clone() };
            assert_eq!(revision(RevisionNumber(2), &revision_row(&record).unwrap()).unwrap(), record);
        }
    }
}
