//! What each endpoint does. Nothing here asks who may do it: that was decided.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tenon_edge::{CounterSnapshot, Outcome};
use tenon_engine::ComponentUse;
use tenon_model::{AppId, Diagnostic, RevisionNumber, TenantId};
use tenon_state::desired::{
    AppRecord, ChangeError, Phase, RevisionRecord, RolloutRecord, TenantRecord, TokenRecord,
};

use super::authorize::Permitted;
use super::endpoints::Action;
use super::places::Places;
use super::server::Reply;
use super::{logs, openapi, page, upload};
use crate::capacity::{self, open_files, resident_bytes};
use crate::journey::{self, Deployer, end_rollout};
use crate::live::{Counted, CountedRevision};
use crate::node::{Inner, put_tenant_of};
use crate::policy;
use crate::refused::{Answer, Refused, missing};
use crate::telemetry::{self, Outlets};
use crate::tokens::{Fresh, verb, verb_text};
use crate::wire::{self, NOTE_BYTES_MAX};

/// Lines of a log that are shown where nobody says how many.
const LINES: usize = 100;
/// The longest that a rotated secret stays valid: a week.
const GRACE_S_MAX: u64 = 7 * 24 * 3_600;
/// A token is not made for longer: a hundred years.
const LIFETIME_S_MAX: u64 = 100 * 365 * 24 * 3_600;

/// What is at hand for whoever answers.
pub(super) struct Desk {
    pub(super) node: Arc<Inner>,
    pub(super) outlets: Arc<Outlets>,
    /// Places for those who follow an app's lines.
    pub(super) followers: Arc<Places>,
}

/// That the node runs.
pub(super) fn live() -> Reply {
    Reply::whole("text/plain", "live\n".into())
}

pub(super) fn handle(desk: &Desk, permitted: &Permitted, query: &str, body: &Bytes) -> Answer<Reply> {
    let node = &*desk.node;
    let action = permitted.endpoint().action;
    let _change = match permitted.endpoint().method {
        http::Method::GET => None,
        _ => Some(node.begin_change()?),
    };
    match action {
        Action::Page => page::reply(),
        Action::OpenApi => Ok(openapi::reply()),
        Action::Live => Ok(live()),
        Action::Status => Ok(Reply::json(&status(node, permitted))),
        Action::Metrics => {
            let text = telemetry::render(node, &desk.outlets);
            Ok(Reply::whole("text/plain; version=0.0.4; charset=utf-8", text.into()))
        }
        Action::Top => Ok(Reply::json(&top(node, permitted))),
        Action::Capacity => capacity(node, permitted, query),
        Action::ListTenants => {
            let tenants = node.desired.tenants();
            let seen = tenants.iter().filter(|tenant| permitted.may_see(&tenant.id));
            Ok(Reply::json(&wire::Tenants { tenants: seen.map(|it| tenant(node, it)).collect() }))
        }
        Action::GetTenant => {
            let record = node.desired.tenant(&permitted.path_tenant()?).ok_or_else(|| missing("tenant"))?;
            Ok(Reply::json(&tenant(node, &record)))
        }
        Action::PutTenant => put_tenant(node, permitted, &read(body)?),
        Action::DeleteTenant => {
            let id = permitted.path_tenant()?;
            node.noted(node.desired.delete_tenant(node.by(permitted.who()), &id))?;
            node.forget(&id);
            node.reconcile();
            Ok(Reply::empty(http::StatusCode::NO_CONTENT))
        }
        Action::PostToken => post_token(node, permitted, &read(body)?),
        Action::ListTokens => {
            let tokens = node.desired.tokens();
            let seen = tokens.iter().filter(|token| owns(permitted, token));
            Ok(Reply::json(&wire::Tokens { tokens: seen.map(|it| token(it)).collect() }))
        }
        Action::DeleteToken => {
            let record = own_token(node, permitted)?;
            node.noted(node.desired.delete_token(node.by(permitted.who()), &record.id))?;
            Ok(Reply::empty(http::StatusCode::NO_CONTENT))
        }
        Action::RotateToken => rotate_token(node, permitted, &read_or_default(body)?),
        Action::HeadBlob => upload::head(node, permitted),
        // They stream, and never get here.
        Action::PatchBlob | Action::PutBlob => Err(missing("blob")),
        Action::ListAllApps => {
            let (_, apps) = node.desired.apps();
            let seen = apps.iter().filter(|app| permitted.may_see(&app.id.tenant));
            Ok(Reply::json(&wire::Apps { apps: seen.map(|app| node.told(app)).collect() }))
        }
        Action::ListApps => {
            let id = permitted.path_tenant()?;
            node.desired.tenant(&id).ok_or_else(|| missing("tenant"))?;
            let apps = node.desired.apps_of(&id);
            Ok(Reply::json(&wire::Apps { apps: apps.iter().map(|app| node.told(app)).collect() }))
        }
        Action::GetApp => Ok(Reply::json(&node.told(&*app(node, permitted)?))),
        Action::Deploy => {
            let by = Deployer { who: permitted.who(), tenant: permitted.tenant() };
            Ok(Reply::json(&journey::deploy(node, &by, &permitted.path_app()?, &read(body)?)?))
        }
        Action::DeleteApp => {
            let id = permitted.path_app()?;
            node.noted(node.desired.delete_app(node.by(permitted.who()), &id))?;
            node.reconcile();
            Ok(Reply::empty(http::StatusCode::NO_CONTENT))
        }
        Action::ListRevisions => {
            let app = app(node, permitted)?;
            let revisions = node.desired.revisions(&app.id)?;
            let rollouts = node.desired.rollouts(&app.id)?;
            let rollout = |number| rollouts.iter().find(|rollout| rollout.candidate == number);
            Ok(Reply::json(&wire::Revisions {
                revisions: revisions.iter().map(|it| revision(&app, it, rollout(it.number))).collect(),
            }))
        }
        Action::GetRollout => {
            let rollout = node.told_rollout(&*app(node, permitted)?);
            Ok(Reply::json(&wire::RolloutAnswer { rollout }))
        }
        Action::Revert => {
            let revert = read_or_default(body)?;
            Ok(Reply::json(&journey::revert(node, permitted.who(), &permitted.path_app()?, &revert)?))
        }
        Action::Promote => {
            let ended = node.ended(&*app(node, permitted)?);
            change(node, permitted, &read_or_default(body)?, "promote", |app, _| {
                end_rollout(app, Phase::Promoted, None, ended)
            })
        }
        Action::Pause | Action::Resume => {
            let (asked, is_pause) = (read_or_default::<wire::Change>(body)?, action == Action::Pause);
            let what = match (is_pause, asked.rollout) {
                (true, false) => "pause",
                (true, true) => "pause-rollout",
                (false, false) => "resume",
                (false, true) => "resume-rollout",
            };
            change(node, permitted, &asked, what, |app, asked| pause(app, asked, is_pause))
        }
        Action::Logs => {
            let last = said(query, "last").and_then(|last| last.parse().ok()).unwrap_or(LINES);
            logs::lines(desk, permitted, said(query, "follow").is_some_and(|it| it == "true"), last)
        }
        Action::Audit => audit(node, permitted, query),
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Answer<T> {
    serde_json::from_slice(body).map_err(|error| {
        let said = format!("the request's body cannot be read: {error}");
        Refused::new("admin-request", said, "see `GET /v1/openapi.json` for its form")
    })
}

fn read_or_default<T: DeserializeOwned + Default>(body: &Bytes) -> Answer<T> {
    if body.is_empty() { Ok(T::default()) } else { read(body) }
}

/// What a query says about a name. No value that is asked for has to be escaped.
fn said<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(it, _)| *it == name)
        .map(|(_, value)| value)
}

fn number(query: &str, name: &str) -> Answer<Option<u64>> {
    let wrong = |_| Refused::new("admin-request", format!("`{name}` is no number"), "write digits");
    said(query, name).map(|value| value.parse().map_err(wrong)).transpose()
}

fn app(node: &Inner, permitted: &Permitted) -> Answer<std::sync::Arc<AppRecord>> {
    node.desired.app(&permitted.path_app()?).ok_or_else(|| missing("app"))
}

fn change(
    node: &Inner,
    permitted: &Permitted,
    change: &wire::Change,
    what: &'static str,
    apply: impl FnOnce(&mut AppRecord, &wire::Change) -> Result<(), ChangeError>,
) -> Answer<Reply> {
    note(&change.note)?;
    let id = permitted.path_app()?;
    let by = node.by(permitted.who());
    let done = node.desired.point(by, &id, change.generation, what, &change.note, |app| apply(app, change));
    let app = node.noted(done)?;
    journey::serve(node, &app)?;
    Ok(Reply::json(&node.told(&app)))
}

fn pause(app: &mut AppRecord, change: &wire::Change, paused: bool) -> Result<(), ChangeError> {
    if !change.rollout {
        app.paused = paused;
        return Ok(());
    }
    let Some(rollout) = app.rollout.as_mut().filter(|rollout| rollout.is_open()) else {
        return Err(ChangeError::Refused("no rollout runs"));
    };
    rollout.phase = if paused { Phase::Paused } else { Phase::Running };
    Ok(())
}

fn note(text: &str) -> Answer<()> {
    match text.len() {
        0..=NOTE_BYTES_MAX => Ok(()),
        _ => Err(Refused::new("admin-request", "the note is longer than 1 KiB", "say it in fewer words")),
    }
}

fn revision(app: &AppRecord, record: &RevisionRecord, rollout: Option<&RolloutRecord>) -> wire::Revision {
    let is_candidate = app.open_rollout().is_some_and(|rollout| rollout.candidate == record.number);
    let state = match record.number == app.stable {
        true => "stable",
        false if is_candidate => "candidate",
        false => "kept",
    };
    let number = |number: RevisionNumber| number.to_string();
    wire::Revision {
        revision: number(record.number),
        parent: record.parent.map(number),
        reverts_to: record.reverts_to.map(number),
        component: record.component.to_string(),
        terms: tenon_model::Digest::of(record.terms.as_bytes()).to_string(),
        routes: record.routes.as_ref().map(|routes| routes.iter().map(ToString::to_string).collect()),
        created: record.created,
        by: record.by.clone(),
        note: record.note.clone(),
        state: state.to_owned(),
        rollout: rollout.and_then(journey::told_end),
    }
}

fn tenant(node: &Inner, record: &TenantRecord) -> wire::Tenant {
    let wire::PutTenant { quota, allow, .. } = put_tenant_of(record);
    let apps = node.desired.apps_of(&record.id).len();
    let usage = node.live().tenants.get(&record.id).map(|tenant| tenant.usage()).unwrap_or_default();
    wire::Tenant {
        tenant: record.id.to_string(),
        quota,
        allow,
        generation: record.generation,
        created: record.created,
        apps: u32::try_from(apps).unwrap_or(u32::MAX),
        running: usage.running,
        reserved_instances: Some(usage.reserved_instances),
    }
}

fn put_tenant(node: &Inner, permitted: &Permitted, put: &wire::PutTenant) -> Answer<Reply> {
    let id = permitted.path_tenant()?;
    policy::read(&put.allow)?;
    if put.quota.concurrency == 0 {
        return Err(Refused::new(
            "admin-request",
            "a tenant that runs nothing is none",
            "set `concurrency` to 1 or more",
        ));
    }
    // What others have in reserve stays as it is looked at.
    let _one_at_a_time = node.tenants.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    reservable(node, &id, put.quota.reserved_instances)?;
    let kept = wire::PutTenant { generation: None, ..put.clone() };
    let document = serde_json::to_string(&kept)
        .map_err(|error| Refused::new("admin-request", error.to_string(), "send it again"))?;
    let allowed = node.desired.tenant(&id).map(|before| put_tenant_of(&before).allow);
    let by = node.by(permitted.who());
    let record = node.noted(node.desired.put_tenant(by, &id, put.generation, &document, put.quota.apps))?;
    if allowed.is_some_and(|allowed| allowed != put.allow) {
        node.renew(&id);
    }
    node.reconcile();
    Ok(Reply::json(&tenant(node, &record)))
}

/// Whether a tenant may have so many sandboxes in reserve beside what the others have. Where the pool is too small already, since
/// the node was started with a smaller one, a tenant may keep what it should have.
fn reservable(node: &Inner, id: &TenantId, wanted: u32) -> Answer<()> {
    let before = node.desired.tenant(id).map_or(0, |before| put_tenant_of(&before).quota.reserved_instances);
    let (pool, others) = (node.shares.instances(), node.reserved_but(Some(id)));
    if wanted <= before || others + u64::from(wanted) <= u64::from(pool) {
        return Ok(());
    }
    Err(Diagnostic::new("reserve-too-large", format!("`{id}` cannot have {wanted} sandboxes in reserve"))
        .note("the pool", format!("{pool} sandboxes, of which other tenants have {others} in reserve"))
        .mend("reserve fewer, for it or for another tenant; or start the node with a larger `--pool`")
        .into())
}

fn owns(permitted: &Permitted, token: &TokenRecord) -> bool {
    permitted.tenant().is_none() || permitted.tenant() == token.tenant.as_ref()
}

fn own_token(node: &Inner, permitted: &Permitted) -> Answer<std::sync::Arc<TokenRecord>> {
    let record = node.desired.token(permitted.said("token")).filter(|token| owns(permitted, token));
    record.ok_or_else(|| missing("token"))
}

fn token(record: &TokenRecord) -> wire::Token {
    wire::Token {
        token: record.id.clone(),
        tenant: record.tenant.as_ref().map(ToString::to_string),
        verb: verb(&record.verb).unwrap_or(wire::Verb::Read),
        created: record.created,
        expires: record.expires,
        note: record.note.clone(),
    }
}

fn fresh(id: Option<&str>) -> Answer<Fresh> {
    Fresh::new(id).map_err(|error| Refused::new("internal", error.to_string(), "try again"))
}

fn post_token(node: &Inner, permitted: &Permitted, post: &wire::PostToken) -> Answer<Reply> {
    note(&post.note)?;
    let tenant: Option<TenantId> = match &post.tenant {
        Some(name) => Some(name.parse().map_err(|error| {
            Refused::new("admin-name", format!("`tenant`: {error}"), "name a tenant that is there")
        })?),
        None => None,
    };
    // Nobody gives away more than they have.
    if permitted.tenant().is_some() && permitted.tenant() != tenant.as_ref() {
        let mend = "name your own tenant in `tenant`";
        return Err(Refused::new(
            "admin-forbidden",
            "a token of one tenant makes tokens of that tenant only",
            mend,
        ));
    }
    if post.verb > permitted.verb() {
        return Err(Refused::new(
            "admin-forbidden",
            "a token cannot make one that allows more",
            "ask for less",
        ));
    }
    if post.lifetime_s.is_some_and(|lifetime| !(1..=LIFETIME_S_MAX).contains(&lifetime)) {
        return Err(Refused::new(
            "admin-request",
            "a token is valid for 1 s to 100 years",
            "change `lifetime_s`",
        ));
    }
    let Fresh { id, secret, hash } = fresh(None)?;
    let created = node.now();
    let record = TokenRecord {
        id,
        tenant,
        verb: verb_text(post.verb).into(),
        hash,
        before: None,
        created,
        expires: post.lifetime_s.map(|lifetime| created.saturating_add(lifetime)),
        note: post.note.clone(),
    };
    let record = node.noted(node.desired.create_token(node.by(permitted.who()), record))?;
    Ok(Reply::json(&wire::NewToken { token: token(&record), secret }))
}

fn rotate_token(node: &Inner, permitted: &Permitted, rotate: &wire::RotateToken) -> Answer<Reply> {
    let before = own_token(node, permitted)?;
    let Fresh { secret, hash, .. } = fresh(Some(&before.id))?;
    let by = node.by(permitted.who());
    let until = by.at.saturating_add(rotate.grace_s.min(GRACE_S_MAX));
    let done = node.desired.rotate_token(by, &before.id, &hash, until);
    let record = node.noted(done)?;
    Ok(Reply::json(&wire::NewToken { token: token(&record), secret }))
}

fn audit(node: &Inner, permitted: &Permitted, query: &str) -> Answer<Reply> {
    let after = number(query, "after")?.unwrap_or(0);
    let limit = number(query, "limit")?.unwrap_or(100);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let entries = node.desired.audit(after, limit, permitted.tenant())?;
    let entries = entries
        .into_iter()
        .map(|it| wire::AuditEntry {
            sequence: it.sequence,
            at: it.at,
            who: it.who,
            what: it.what,
            target: it.target,
            detail: it.detail,
            hash: it.hash,
        })
        .collect();
    Ok(Reply::json(&wire::Audit { entries, intact: node.desired.is_audit_intact() }))
}

fn capacity(node: &Inner, permitted: &Permitted, query: &str) -> Answer<Reply> {
    let app = match (said(query, "tenant"), said(query, "app")) {
        (Some(tenant), Some(app)) => {
            let wrong =
                |_| Refused::new("admin-name", "that is not the name of an app", "name one that is there");
            let id = AppId { tenant: tenant.parse().map_err(wrong)?, app: app.parse().map_err(wrong)? };
            if !permitted.may_see(&id.tenant) {
                return Err(missing("app"));
            }
            Some(id)
        }
        _ => None,
    };
    let question = capacity::Question {
        app,
        memory_bytes: number(query, "memory_bytes")?,
        concurrency: number(query, "concurrency")?,
        artifact_bytes: number(query, "artifact_bytes")?,
    };
    Ok(Reply::json(&capacity::capacity(node, &question)?))
}

fn status(node: &Inner, permitted: &Permitted) -> wire::Status {
    let (generation, apps) = node.desired.apps();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let apps = apps.iter().filter(|app| permitted.may_see(&app.id.tenant)).count();
    let tenants = node.desired.tenants().iter().filter(|tenant| permitted.may_see(&tenant.id)).count();
    wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: if node.draining.load(Relaxed) { "draining" } else { "serving" }.to_owned(),
        uptime_s: node.began.elapsed().as_secs(),
        listen: node.addresses.get().cloned().unwrap_or_default(),
        generation,
        published: node.published.load(Relaxed),
        tenants: count(tenants),
        apps: count(apps),
        loaded: count(node.loaded()),
        running: node.site.running(),
        pool_instances: node.shares.instances(),
        resident_bytes: resident_bytes(),
        open_files: open_files(),
        wrong: node.wrong(),
    }
}

fn top(node: &Inner, permitted: &Permitted) -> wire::Top {
    let Counted { apps, revisions } = node.live().counted();
    let is_seen = |seen: &CounterSnapshot| {
        seen.outcomes.iter().any(|count| *count > 0)
            || (seen.messages_handled, seen.messages_failed) != (0, 0)
    };
    let rows = revisions.iter().filter(|it| permitted.may_see(&it.app.tenant) && is_seen(&it.seen));
    let apps = apps.iter().filter(|(id, seen)| permitted.may_see(&id.tenant) && is_seen(seen));
    wire::Top {
        at_us: u64::try_from(node.began.elapsed().as_micros()).unwrap_or(u64::MAX),
        rows: rows.map(top_row).collect(),
        apps: apps.map(|(id, seen)| top_app(id, seen)).collect(),
    }
}

fn top_row(counted: &CountedRevision) -> wire::TopRow {
    let CountedRevision { app, revision, seen, components, running, is_loaded, .. } = counted;
    let judged = seen.seen();
    wire::TopRow {
        tenant: app.tenant.to_string(),
        app: app.app.to_string(),
        revision: revision.to_string(),
        requests: seen.requests(),
        errors: judged.errors,
        outcomes: outcomes(seen),
        running: *running,
        p50_us: seen.quantile_us(500),
        p99_us: judged.p99_us,
        cpu_us: seen.cpu_us,
        memory_byte_seconds: byte_seconds(seen),
        bytes_in: seen.received_bytes,
        bytes_out: seen.sent_bytes,
        loaded: *is_loaded,
        messages: seen.messages_handled,
        messages_failed: seen.messages_failed,
        components: components.iter().map(top_component).collect(),
    }
}

fn top_component(used: &ComponentUse) -> wire::TopComponent {
    wire::TopComponent {
        component: used.name.clone(),
        cpu_us: u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX),
        memory_byte_seconds: used.memory_byte_us / 1_000_000,
        memory_bytes: used.memory_bytes,
    }
}

fn top_app(id: &AppId, seen: &CounterSnapshot) -> wire::TopApp {
    wire::TopApp {
        tenant: id.tenant.to_string(),
        app: id.app.to_string(),
        requests: seen.requests(),
        errors: seen.seen().errors,
        refused: seen.of(Outcome::Refused),
        outcomes: outcomes(seen),
        cpu_us: seen.cpu_us,
        memory_byte_seconds: byte_seconds(seen),
        bytes_in: seen.received_bytes,
        bytes_out: seen.sent_bytes,
        messages: seen.messages_handled,
        messages_failed: seen.messages_failed,
    }
}

fn outcomes(seen: &CounterSnapshot) -> std::collections::BTreeMap<String, u64> {
    let seen = Outcome::ALL.into_iter().map(|outcome| (outcome.name().to_owned(), seen.of(outcome)));
    seen.filter(|(_, count)| *count > 0).collect()
}

fn byte_seconds(seen: &CounterSnapshot) -> u64 {
    seen.memory_kib_ms.saturating_mul(1_024) / 1_000
}
