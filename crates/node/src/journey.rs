//! The life of a deploy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use tenon_compose::authority::{self, Report};
use tenon_edge::Tenant;
use tenon_engine::{Failure, Incoming, Pool, Received, Record, Service};
use tenon_model::{AppId, Diagnostic, Diagnostics, Digest, ROUTES_MAX, RevisionNumber, Route, TenantId};
use tenon_state::desired::{
    AppRecord, By, ChangeError, Ended, NewRevision, Phase, RevisionRecord, RolloutRecord, Takeover,
};

use crate::live::Content;
use crate::node::{Inner, Ready, invalid_plan, read_plan, said};
use crate::policy;
use crate::refused::{Answer, Refused, missing};
use crate::wire::{self, NOTE_BYTES_MAX, Probe, StepTaken};

/// How much of the answer to a probe is read, in bytes.
const PROBE_BYTES_MAX: usize = 1 << 20;

/// How long a new revision that is to be tried waits for a sandbox of its tenant's share.
const PROBE_SANDBOX_WAIT: Duration = Duration::from_secs(2);
/// How often a change is tried again that a rollout's own steps came between.
const COMMITS_MAX: u32 = 10;

/// Who deploys.
pub(crate) struct Deployer<'a> {
    /// The token's name.
    pub(crate) who: &'a str,
    /// Its tenant: what others uploaded is nothing that it can deploy.
    pub(crate) tenant: Option<&'a TenantId>,
}

/// What each step took, for whoever waits.
struct Steps {
    began: Instant,
    taken: Vec<StepTaken>,
}

impl Steps {
    fn new() -> Self {
        Self { began: Instant::now(), taken: Vec::new() }
    }

    fn done(&mut self, step: &str, detail: impl Into<String>) {
        let took = std::mem::replace(&mut self.began, Instant::now()).elapsed();
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.taken.push(StepTaken { step: step.to_owned(), took_us, detail: detail.into() });
    }
}

/// What somebody wants, read.
struct Wanted {
    id: AppId,
    content: Content,
    terms: String,
    routes: Option<Vec<Route>>,
    plan: Option<String>,
}

/// Verified → is it there already? → authority → compiled → probed → committed → published. Until it is committed, nothing
/// of it is served; when it fails, the old revision serves on.
pub(crate) fn deploy(
    node: &Inner,
    by: &Deployer<'_>,
    id: &AppId,
    deploy: &wire::Deploy,
) -> Answer<wire::Deployed> {
    let mut steps = Steps::new();
    let wanted = read(node, id, deploy)?;
    let _line = node.line(id);
    let before = node.desired.app(id);
    let bytes = uploaded(node, by, &wanted.content.component)?;
    steps.done("verify", format!("{} bytes", bytes.len()));
    let (report, grew) = authority_of(node, &wanted, &bytes, before.as_deref())?;
    if let Some(app) = before.as_deref().filter(|_| !deploy.force)
        && let Some(revision) = same(node, app, &wanted, deploy)?
    {
        steps.done("authority", "nothing changed");
        return Ok(deployed(node, app, revision, false, steps, &report, Vec::new()));
    }
    if let Some(app) = before.as_deref() {
        at_once_with_routes(app, &wanted)?;
    }
    policy::permit(&id.tenant, &node.allowed(&id.tenant)?, &wanted.content.terms.authorities)?;
    steps.done(
        "authority",
        match grew.len() {
            0 => "asks for no more than before".to_owned(),
            more => format!("asks for {more} more than before"),
        },
    );
    let Ready { service, bytes: size, code } = node.service(id, &wanted.content)?;
    steps.done("compile", code);
    steps.done("probe", probe(node, id, &service, wanted.content.terms.probe.as_ref())?);
    // What was allowed when it began may have been taken away since.
    policy::permit(&id.tenant, &node.allowed(&id.tenant)?, &wanted.content.terms.authorities)?;
    let new = NewRevision {
        component: wanted.content.component,
        terms: &wanted.terms,
        reverts_to: None,
        note: &deploy.note,
        ends: before.as_deref().map(|app| node.ended(app)),
    };
    let takeover = wanted.plan.as_deref().map_or(Takeover::AtOnce, Takeover::ByPlan);
    let routes = wanted.routes.as_deref();
    let expected = Expected { generation: deploy.generation, before: before.as_deref() };
    let app = commit(node, by.who, id, &expected, |by, generation| {
        node.desired.revise(by, id, generation, &new, routes, &takeover)
    })?;
    steps.done("commit", format!("{} is on the disk", app.last));
    publish(node, &app, &service, size)?;
    steps.done("publish", format!("generation {}", app.generation));
    Ok(deployed(node, &app, app.last, true, steps, &report, grew))
}

/// Routes are the app's and not a revision's share: what a candidate dropped would be gone for everybody, and what it brought
/// would come to a revision that does not know it. So they change with a revision that has all requests.
fn at_once_with_routes(app: &AppRecord, wanted: &Wanted) -> Answer<()> {
    let (Some(_), Some(routes)) = (&wanted.plan, &wanted.routes) else { return Ok(()) };
    if are_same(routes, &app.routes) {
        return Ok(());
    }
    let without = |some: &[Route], others: &[Route]| {
        let left: Vec<_> = some.iter().filter(|it| !others.contains(it)).map(ToString::to_string).collect();
        if left.is_empty() { "none".to_owned() } else { left.join(", ") }
    };
    let what =
        "routes cannot change with a revision that takes over in steps: they are for all requests at once";
    Err(Diagnostic::new("rollout-routes", what)
        .note("new", without(routes, &app.routes))
        .note("gone", without(&app.routes, routes))
        .mend(
            "deploy with `--at-once`; or with the routes that the app has now, and change them when the rollout has ended",
        )
        .into())
}

/// Whether they say the same, in whatever order. No route is in either of them twice.
fn are_same(some: &[Route], others: &[Route]) -> bool {
    some.len() == others.len() && some.iter().all(|route| others.contains(route))
}

/// What a deploy expects of the app when it is committed.
struct Expected<'a> {
    /// What whoever deploys expects.
    generation: Option<u64>,
    /// How the app was when the deploy began.
    before: Option<&'a AppRecord>,
}

/// Commits a deploy. Where no generation is expected, a revision that somebody else made meanwhile (a revert does not wait
/// for deploys) and an app that was removed are a conflict; that a rollout went on by itself is none.
fn commit(
    node: &Inner,
    who: &str,
    id: &AppId,
    expected: &Expected<'_>,
    revise: impl Fn(By<'_>, Option<u64>) -> Result<Arc<AppRecord>, ChangeError>,
) -> Answer<Arc<AppRecord>> {
    if expected.generation.is_some() {
        return node.noted(revise(node.by(who), expected.generation));
    }
    let generation = |app: Option<&AppRecord>| app.map_or(0, |app| app.generation);
    let mut tries = 1;
    loop {
        let now = node.desired.app(id);
        if now.as_ref().map(|app| app.last) != expected.before.map(|app| app.last) {
            let (expected, actual) = (generation(expected.before), generation(now.as_deref()));
            return node.noted(Err(ChangeError::Conflict { expected, actual }));
        }
        match revise(node.by(who), Some(generation(now.as_deref()))) {
            Err(ChangeError::Conflict { .. }) if tries < COMMITS_MAX => tries += 1,
            done => return node.noted(done),
        }
    }
}

/// Back to an earlier revision: a new one that is equal to it, with its routes. While a rollout runs, and nothing else is said,
/// the candidate goes, and the stable revision has everything again; where it has gone already, by itself or because somebody
/// else was faster, there is nothing to do. It waits for no deploy that is under way: that one finds that it came too late.
pub(crate) fn revert(node: &Inner, who: &str, id: &AppId, revert: &wire::Revert) -> Answer<wire::Deployed> {
    let mut tries = 1;
    loop {
        match go_back(node, who, id, revert) {
            Err(refused)
                if refused.0.code == "app-conflict" && revert.generation.is_none() && tries < COMMITS_MAX =>
            {
                tries += 1;
            }
            done => return done,
        }
    }
}

fn go_back(node: &Inner, who: &str, id: &AppId, revert: &wire::Revert) -> Answer<wire::Deployed> {
    let mut steps = Steps::new();
    let app = node.desired.app(id).ok_or_else(|| missing("app"))?;
    let to = match &revert.to {
        Some(to) => Some(to.parse::<RevisionNumber>().map_err(|_| missing("revision"))?),
        None => None,
    };
    // What is done depends on how the rollout stands, and on which revision is the stable one.
    let expected = revert.generation.or(Some(app.generation));
    if let (None, Some(_)) = (to, app.open_rollout()) {
        let why = if revert.note.is_empty() { "somebody sent it back" } else { &revert.note };
        let ended = node.ended(&app);
        let app = node.noted(node.desired.point(node.by(who), id, expected, "revert", why, |app| {
            end_rollout(app, Phase::Reverted, Some(why.to_owned()), ended)
        }))?;
        steps.done("commit", "the rollout is over");
        serve(node, &app)?;
        steps.done("publish", format!("generation {}", app.generation));
        return Ok(deployed(node, &app, app.stable, true, steps, &nothing(), Vec::new()));
    }
    // Whoever names the generation has seen how the rollout ended.
    if let (None, None, Some(gone)) = (to, revert.generation, sent_back(&app)) {
        let why = gone.why.as_deref().unwrap_or("somebody sent it back");
        steps.done("commit", format!("{} was sent back already: {why}", gone.candidate));
        return Ok(deployed(node, &app, app.stable, false, steps, &nothing(), Vec::new()));
    }
    let stable = node.desired.revision(id, app.stable)?.ok_or_else(|| missing("revision"))?;
    let to = to.or(stable.parent).ok_or_else(|| {
        Refused::new(
            "no-such-revision",
            "there is no revision before the one that serves",
            "deploy the one that is wanted",
        )
    })?;
    let target = node.desired.revision(id, to)?.ok_or_else(|| missing("revision"))?;
    let content = Content::read(target.component, &target.terms)?;
    let Ready { service, bytes: size, code } = node.service(id, &content)?;
    steps.done("compile", code);
    let note = if revert.note.is_empty() { format!("back to {to}") } else { revert.note.clone() };
    let new = NewRevision {
        component: target.component,
        terms: &target.terms,
        reverts_to: Some(to),
        note: &note,
        ends: Some(node.ended(&app)),
    };
    let routes = target.routes.as_deref().filter(|routes| !are_same(routes, &app.routes));
    let done = node.desired.revise(node.by(who), id, expected, &new, routes, &Takeover::AtOnce);
    let app = match done {
        Err(ChangeError::RouteTaken { route, by }) => return Err(route_gone(to, &route, by)),
        done => node.noted(done)?,
    };
    steps.done("commit", format!("{} is {to} again", app.last));
    publish(node, &app, &service, size)?;
    steps.done("publish", format!("generation {}", app.generation));
    Ok(deployed(node, &app, app.last, true, steps, &nothing(), Vec::new()))
}

/// The rollout of the newest revision, if it was sent back: nothing has come after it that a revert could mean.
fn sent_back(app: &AppRecord) -> Option<&RolloutRecord> {
    let rollout = app.rollout.as_ref()?;
    (rollout.phase == Phase::Reverted && rollout.candidate == app.last).then_some(rollout)
}

/// A revision cannot come back as it was: somebody else has one of its routes now.
fn route_gone(to: RevisionNumber, route: &Route, by: Option<AppId>) -> Refused {
    let whose = by.map_or_else(|| "another tenant's".to_owned(), |by| format!("{by}'s"));
    Diagnostic::new("route-taken", format!("{to} had the route `{route}`, whose requests are {whose} now"))
        .mend(format!("deploy what {to} was with other routes: `tenon deploy --at-once --route …`"))
        .into()
}

/// Ends a rollout, if one has not ended, and keeps how it stood.
pub(crate) fn end_rollout(
    app: &mut AppRecord,
    phase: Phase,
    why: Option<String>,
    ended: Ended,
) -> Result<(), ChangeError> {
    let Some(rollout) = app.rollout.as_mut().filter(|rollout| rollout.is_open()) else {
        return Err(ChangeError::Refused("no rollout runs"));
    };
    if phase == Phase::Promoted {
        app.stable = rollout.candidate;
    }
    rollout.phase = phase;
    rollout.why = why;
    rollout.ended = Some(ended);
    Ok(())
}

fn nothing() -> Report {
    Report { file: String::new(), parts: Vec::new() }
}

/// Turns what was sent into what can be used.
fn read(node: &Inner, id: &AppId, deploy: &wire::Deploy) -> Answer<Wanted> {
    if deploy.note.len() > NOTE_BYTES_MAX {
        return Err(Refused::new("admin-request", "the note is longer than 1 KiB", "say it in fewer words"));
    }
    let component: Digest = deploy.component.parse().map_err(|error| {
        Refused::new("admin-request", format!("`component`: {error}"), "name the component by its digest")
    })?;
    let terms = serde_json::to_string(&deploy.terms)
        .map_err(|error| Refused::new("admin-terms", error.to_string(), "mend the manifest"))?;
    let content = Content::read(component, &terms)?;
    let memory_max = node.bounds.pool_memory_bytes.min(Pool::MEMORY_BYTES_MAX);
    let pool = node.engine.pool().pool;
    let limits = &content.terms.limits;
    // Revisions that are there already go on with what they have, which is clamped where it concerns others.
    Diagnostics::check(
        [limits.check_header_bytes(), limits.check_wall()].into_iter().filter_map(Result::err).collect(),
    )?;
    if limits.memory_bytes > memory_max
        || limits.stack_bytes > pool.stack_bytes
        || limits.instances > pool.core_instances
    {
        return Err(Diagnostic::new(
            "exceeds-limits",
            "the app's limits are larger than a sandbox of this node",
        )
        .note(
            "a sandbox has",
            format!(
                "memory {}, stack {}, {} core instances",
                tenon_model::format_bytes(memory_max),
                tenon_model::format_bytes(pool.stack_bytes),
                pool.core_instances
            ),
        )
        .mend("lower [limits] in the manifest; or have whoever runs the node raise `--pool-memory`")
        .into());
    }
    let mut routes = Vec::new();
    for text in &deploy.routes {
        let route: Route = text.parse().map_err(|error: tenon_model::InvalidRoute| {
            Refused::new("admin-route", error.to_string(), "write for example `shop.example/*`")
        })?;
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    if routes.len() > ROUTES_MAX {
        return Err(Refused::new(
            "admin-route",
            format!("an app has at most {ROUTES_MAX} routes"),
            "join some with `/*`",
        ));
    }
    let plan = match &deploy.rollout {
        None => None,
        Some(rollout) => {
            let plan = rollout.read().map_err(invalid_plan)?;
            match plan.is_at_once() {
                true => None,
                false => {
                    Some(serde_json::to_string(rollout).map_err(|error| invalid_plan(error.to_string()))?)
                }
            }
        }
    };
    let routes = (!routes.is_empty()).then_some(routes);
    Ok(Wanted { id: id.clone(), content, terms, routes, plan })
}

/// The component's bytes, if who deploys has uploaded them.
fn uploaded(node: &Inner, by: &Deployer<'_>, component: &Digest) -> Answer<Vec<u8>> {
    let bytes = match node.desired.may_use(by.tenant, component)? {
        true => node.blobs.read(component)?,
        false => None,
    };
    bytes.ok_or_else(|| ChangeError::NotUploaded.into())
}

/// What the app may touch, and what of it the revision before could not.
fn authority_of(
    node: &Inner,
    wanted: &Wanted,
    bytes: &[u8],
    before: Option<&AppRecord>,
) -> Answer<(Report, Vec<String>)> {
    let file = wanted.id.to_string();
    let name = wanted.id.app.as_str();
    let report = authority::of_granted(name, &file, bytes, &wanted.content.terms.authorities)?;
    let Some(before) = before else { return Ok((report, Vec::new())) };
    let stable = node.desired.revision(&wanted.id, before.stable)?.ok_or_else(|| missing("revision"))?;
    let old = Content::read(stable.component, &stable.terms)?;
    // Of a component whose bytes are gone, nothing is known: then everything is new.
    let base = match node.blobs.read(&stable.component) {
        Ok(Some(bytes)) => authority::of_granted(name, &file, &bytes, &old.terms.authorities)?,
        _ => nothing(),
    };
    let line = |diagnostic: &Diagnostic| {
        let now = diagnostic.notes.iter().find(|note| note.label == "now");
        now.map_or_else(|| diagnostic.message.clone(), |now| format!("{}: {}", diagnostic.message, now.text))
    };
    let grew = authority::growth(&base, &report).iter().map(line).collect();
    Ok((report, grew))
}

/// The revision that is what is wanted already.
fn same(
    node: &Inner,
    app: &AppRecord,
    wanted: &Wanted,
    deploy: &wire::Deploy,
) -> Answer<Option<RevisionNumber>> {
    if wanted.routes.as_ref().is_some_and(|routes| !are_same(routes, &app.routes)) {
        return Ok(None);
    }
    if deploy.generation.is_some_and(|generation| generation != app.generation) {
        return Ok(None);
    }
    let number = app.open_rollout().map_or(app.stable, |rollout| rollout.candidate);
    let Some(RevisionRecord { component, terms, .. }) = node.desired.revision(&app.id, number)? else {
        return Ok(None);
    };
    Ok((component == wanted.content.component && terms == wanted.terms).then_some(number))
}

/// Has the revision answer before it serves; says how it did. What it uses is the tenant's, and its sandbox is one of the
/// tenant's share: where none is free, that is not the app's failure.
fn probe(node: &Inner, app: &AppId, service: &Arc<Service>, probe: Option<&Probe>) -> Answer<String> {
    let failed = |what: String| {
        Refused::from(
            Diagnostic::new(
                "probe-failed",
                "the new revision does not answer as it should, and does not serve",
            )
            .note("the probe", what)
            .mend("mend the app, and deploy it again; the revision before serves on"),
        )
    };
    let id: Arc<str> = "probe".into();
    let tenant = node.live().tenants.get(&app.tenant).cloned().ok_or_else(|| missing("tenant"))?;
    let account = Some(Arc::clone(tenant.account()));
    let lent = node.runtime.block_on(tenant.lend(service, PROBE_SANDBOX_WAIT));
    let (sandbox, claim) = lent.map_err(|_| no_room())?;
    let Some(probe) = probe else {
        // Its sandbox is a fresh one, which nobody comes to.
        let held = (sandbox, claim.map(|claim| claim()));
        let tried = node.runtime.block_on(service.try_out(id, account));
        drop(held);
        return match tried {
            Ok(()) => Ok("it starts".into()),
            Err(failure) if is_for_want_of_room(&tenant, &failure) => Err(no_room()),
            Err(failure) => {
                Err(failed(format!("it does not start: {}: {}", failure.code(), failure.cause())))
            }
        };
    };
    let request = http::Request::builder()
        .uri(&probe.path)
        .header(http::header::HOST, "probe.invalid")
        .body(Received::whole(Bytes::new()))
        .map_err(|error| failed(error.to_string()))?;
    let incoming = Incoming { request, id, secure: false, account, trace: None, claim };
    let wall = service.limits().wall;
    let status = node.runtime.block_on(async {
        let answer = service.serve(incoming, Box::new(move |_: Record| drop(sandbox))).await;
        let response = match answer {
            Ok(response) => response,
            Err(failure) if is_for_want_of_room(&tenant, &failure) => return Err(no_room()),
            Err(failure) => return Err(failed(format!("{}: {}", failure.code(), failure.cause()))),
        };
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, PROBE_BYTES_MAX).collect();
        match tokio::time::timeout(wall + Duration::from_secs(1), body).await {
            Ok(Ok(_)) => Ok(parts.status.as_u16()),
            Ok(Err(error)) => Err(failed(format!("its answer cannot be read: {error}"))),
            Err(_) => Err(failed("its answer does not end".to_owned())),
        }
    });
    let status = status?;
    let is_well = probe.status.map_or(status < 500, |wanted| wanted == status);
    if is_well {
        Ok(format!("{} answers {status}", probe.path))
    } else {
        Err(failed(format!("{} answers {status}", probe.path)))
    }
}

/// There is no sandbox for a probe, or no memory: others of the tenant, or of all, have what there is.
fn no_room() -> Refused {
    Diagnostic::new("deploy-busy", "the tenant's share of the node is in use, and the new revision cannot be tried")
        .note("waited", tenon_model::format_duration(PROBE_SANDBOX_WAIT))
        .mend("wait as long as `retry-after` says; `tenon` does. Or have whoever runs the node raise the tenant's quotas")
        .into()
}

/// Whether others have what it needs. One that has all of its tenant's memory to itself, and needs more, never goes well.
fn is_for_want_of_room(tenant: &Tenant, failure: &Failure) -> bool {
    match failure.code() {
        "pool-exhausted" => true,
        "memory-quota" => tenant.usage().running > 0,
        _ => false,
    }
}

/// Serves what was committed. The service is in memory already: the first request does not wait.
fn publish(node: &Inner, app: &AppRecord, service: &Arc<Service>, size: u64) -> Answer<()> {
    serve(node, app)?;
    node.begin_step(app);
    let revision = node.live().revision(&app.id, app.last).cloned();
    if let Some(revision) = revision {
        // Where its tenant was changed meanwhile, it is loaded anew, as it is now allowed to be.
        if revision.slot.is_loaded() || node.preload(&app.id, &revision, service) {
            node.came(&revision, size);
        }
    }
    Ok(())
}

/// Makes what is served equal to what is desired, and says so if this app cannot be. It stays committed: each further change
/// tries again.
pub(crate) fn serve(node: &Inner, app: &AppRecord) -> Answer<()> {
    let Some(cause) = node.reconcile().remove(&app.id) else { return Ok(()) };
    let what = format!("the change of {} is on the disk, and cannot be served: what was before is", app.id);
    Err(Diagnostic::new("not-served", what)
        .note("cause", said(&cause))
        .mend("see what is wrong with the node: `tenon status`; any later change tries again, `tenon deploy --force` for one")
        .into())
}

fn deployed(
    node: &Inner,
    app: &AppRecord,
    revision: RevisionNumber,
    changed: bool,
    steps: Steps,
    report: &Report,
    grew: Vec<String>,
) -> wire::Deployed {
    wire::Deployed {
        app: node.told(app),
        revision: revision.to_string(),
        changed,
        steps: steps.taken,
        authority: authority::to_json(report),
        grew,
    }
}

impl Inner {
    /// An app, as clients are told of it.
    pub(crate) fn told(&self, app: &AppRecord) -> wire::App {
        let live = self.live();
        let stable = live.revision(&app.id, app.stable);
        let lives = live.apps.get(&app.id);
        let running = lives.map_or(0, |app| {
            app.revisions.values().map(|revision| revision.slot.running()).fold(0, u32::saturating_add)
        });
        let (loaded, breaker_open) =
            (stable.is_some_and(|it| it.slot.is_loaded()), lives.is_some_and(|it| it.app.is_open()));
        drop(live);
        wire::App {
            tenant: app.id.tenant.to_string(),
            app: app.id.app.to_string(),
            generation: app.generation,
            routes: app.routes.iter().map(ToString::to_string).collect(),
            stable: app.stable.to_string(),
            rollout: app.open_rollout().and_then(|_| self.told_rollout(app)),
            paused: app.paused,
            loaded,
            running,
            breaker_open,
        }
    }

    /// How the rollout of an app stands, or the last one stood.
    pub(crate) fn told_rollout(&self, app: &AppRecord) -> Option<wire::RolloutStatus> {
        let rollout = app.rollout.as_ref()?;
        let plan: wire::Rollout = serde_json::from_str(&rollout.plan).unwrap_or_default();
        let step = usize::try_from(rollout.step).ok().and_then(|step| plan.steps.get(step)).copied();
        // Of an app that is out of service, the step begins anew.
        let is_running = rollout.phase == Phase::Running && !app.paused;
        let withheld = app.open_rollout().and_then(|rollout| self.withheld(&app.id, rollout.candidate));
        let (left, seen_stable, seen_candidate) = self.progress(app, read_plan(&rollout.plan).ok().as_ref());
        Some(wire::RolloutStatus {
            candidate: rollout.candidate.to_string(),
            stable: rollout.from.to_string(),
            state: state_of(rollout.phase),
            step: rollout.step,
            percent: match rollout.phase {
                Phase::Promoted => 100,
                Phase::Reverted => 0,
                _ if withheld.is_some() => 0,
                Phase::Running | Phase::Paused => step.map_or(0, |step| step.percent),
            },
            left_ms: left
                .filter(|_| is_running)
                .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            why: withheld
                .map(|why| format!("{why}; that cannot be written yet"))
                .or_else(|| rollout.why.clone()),
            ended: rollout.ended.map(|ended| ended.at),
            plan,
            seen_stable: seen_stable.into(),
            seen_candidate: seen_candidate.into(),
            shadow: match rollout.ended {
                Some(ended) => ended.copies,
                None => self.copies(&app.id, rollout.candidate),
            }
            .map(Into::into),
        })
    }
}

fn state_of(phase: Phase) -> wire::RolloutState {
    match phase {
        Phase::Running => wire::RolloutState::Running,
        Phase::Paused => wire::RolloutState::Paused,
        Phase::Promoted => wire::RolloutState::Promoted,
        Phase::Reverted => wire::RolloutState::Reverted,
    }
}

/// How a rollout ended, as clients are told of it.
pub(crate) fn told_end(rollout: &RolloutRecord) -> Option<wire::RolloutEnd> {
    let ended = rollout.ended?;
    Some(wire::RolloutEnd {
        state: state_of(rollout.phase),
        stable: rollout.from.to_string(),
        step: rollout.step,
        why: rollout.why.clone(),
        ended: ended.at,
        seen_stable: ended.stable.into(),
        seen_candidate: ended.candidate.into(),
        shadow: ended.copies.map(Into::into),
    })
}
