//! The node from the inside, and how it is made equal to what is desired.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tenon_edge::{App, Candidate, Entry, RevisionKey, Shares, Site, Slot, Table};
use tenon_engine::{Artifacts, Backends, Crashes, Engine, Service, Stored, Terms};
use tenon_model::{AppId, Diagnostic, Diagnostics, Digest, RevisionNumber, RolloutPlan, TenantId};
use tenon_state::desired::{AppRecord, BlobError, By, ChangeError, TenantRecord};
use tenon_state::{BlobFolder, Desired};

use crate::compile::Compiler;
use crate::components::Components;
use crate::config::Bounds;
use crate::describe::{Known, describe};
use crate::live::{Content, Live, LiveApp, LiveRevision};
use crate::loader::NodeLoader;
use crate::logs::Logs;
use crate::memory::{self, Memory};
use crate::messages::Messages;
use crate::policy;
use crate::refused::{Answer, Refused, draining, missing};
use crate::rollouts::Rollouts;
use crate::stores::Shelf;
use crate::wire;

/// Who changes things when nobody asked for it.
pub(crate) const NODE: &str = "node";
/// Everything that a node consists of.
pub(crate) struct Inner {
    pub(crate) data: PathBuf,
    pub(crate) bounds: Bounds,
    pub(crate) clock: fn() -> SystemTime,
    pub(crate) began: Instant,
    pub(crate) desired: Desired,
    pub(crate) blobs: BlobFolder,
    pub(crate) engine: Engine,
    pub(crate) artifacts: Artifacts,
    pub(crate) compiler: Compiler,
    pub(crate) shelf: Shelf,
    pub(crate) backends: Backends,
    pub(crate) crashes: Option<Arc<Crashes>>,
    pub(crate) site: Arc<Site>,
    pub(crate) shares: Arc<Shares>,
    pub(crate) live: Mutex<Live>,
    pub(crate) rollouts: Mutex<Rollouts>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) draining: AtomicBool,
    /// Changes that somebody has asked for and that have not ended.
    changing: AtomicUsize,
    /// Until when another process may still have the apps' store: it is being replaced.
    pub(crate) store_until: Option<Instant>,
    /// The generation that is served.
    pub(crate) published: AtomicU64,
    /// Wakes whoever takes apps out of memory.
    pub(crate) crowded: SyncSender<()>,
    /// Services that are in memory.
    pub(crate) memory: Mutex<Memory>,
    /// Apps that are given messages.
    pub(crate) messages: Mutex<Messages>,
    /// Tenants whose reserve the pool has too little for.
    short_reserves: AtomicUsize,
    /// Held while what a tenant may use is changed: what all have in reserve is looked at before.
    pub(crate) tenants: Mutex<()>,
    lines: Lines,
    /// Where requests of the node's own run, and the admin API.
    pub(crate) runtime: tokio::runtime::Handle,
    /// What could not be written, and why, since it was last written.
    failing: Mutex<BTreeMap<Written, String>>,
    /// Components that nobody has claimed, and since when this process knows it.
    unclaimed: Mutex<HashMap<Digest, Instant>>,
    /// Where apps are served.
    pub(crate) addresses: OnceLock<Vec<String>>,
    this: Weak<Inner>,
}

/// How long changes that have begun may take before the state is handed over all the same.
const CHANGE_WAIT: Duration = Duration::from_secs(60);
/// How long a process that was to take over, and is gone, may take to let go of the state.
const TAKE_BACK_WAIT: Duration = Duration::from_secs(10);
/// For so long nobody may have claimed a component before its file is removed: an upload is claimed within moments of its
/// end. By a clock that cannot be set.
const UNCLAIMED_MAX: Duration = Duration::from_secs(3_600);
/// How often it is looked whether they have ended.
const CHANGE_LOOK: Duration = Duration::from_millis(5);

/// What a node writes for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Written {
    /// What is desired.
    State,
    /// Components that are uploaded.
    Upload,
    /// Compiled code.
    Artifact,
}

impl Written {
    /// What is said while it cannot be written.
    fn failed(self, cause: &str) -> Refused {
        let what = match self {
            Self::State => return ChangeError::Failed(cause.to_owned()).into(),
            Self::Upload => "the node cannot keep what is uploaded",
            Self::Artifact => "the node cannot keep compiled code",
        };
        let mend =
            "see that the node's disk has room and can be written; what is deployed is served all the same";
        Diagnostic::new("state-failed", what).note("cause", cause).mend(mend).into()
    }
}

/// A change that counts until it is dropped.
pub(crate) struct Change<'a>(&'a Inner);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.changing.fetch_sub(1, SeqCst);
    }
}

/// Who deploys at this moment, and who waits until they have.
#[derive(Debug, Default)]
struct Lines {
    first: Mutex<HashSet<AppId>>,
    left: Condvar,
}

/// Being the first in the line of an app, until it is dropped.
pub(crate) struct Turn<'a> {
    lines: &'a Lines,
    id: AppId,
}

impl Lines {
    /// Waits until nobody else deploys this app. How many wait is bounded where requests come in.
    fn stand(&self, id: &AppId) -> Turn<'_> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        while !first.insert(id.clone()) {
            first = self.left.wait(first).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { lines: self, id: id.clone() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.lines.first.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.lines.left.notify_all();
    }
}

/// What a deploy says of code that was there already.
const BEFORE: &str = "compiled before";

/// A service that is in memory.
pub(crate) struct Ready {
    pub(crate) service: Arc<Service>,
    /// Bytes of its compiled code; zero where it was in memory before.
    pub(crate) bytes: u64,
    /// Where its code came from, for people.
    pub(crate) code: &'static str,
}

/// How far it came with a service.
pub(crate) enum Tried {
    /// It is in memory.
    Ready(Ready),
    /// It has to be compiled first.
    NoCode,
    /// As many are in memory as may be, and requests run on all of them.
    NoPlace,
}

/// What is made first.
pub(crate) struct Made {
    pub(crate) data: PathBuf,
    pub(crate) bounds: Bounds,
    pub(crate) clock: fn() -> SystemTime,
    pub(crate) desired: Desired,
    pub(crate) blobs: BlobFolder,
    pub(crate) engine: Engine,
    pub(crate) artifacts: Artifacts,
    pub(crate) compiler: Compiler,
    pub(crate) crashes: Option<Arc<Crashes>>,
    pub(crate) site: Arc<Site>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) crowded: SyncSender<()>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) replaces: Option<Duration>,
}

impl Inner {
    pub(crate) fn new(made: Made) -> Arc<Self> {
        Arc::new_cyclic(|this| {
            let Made {
                data,
                bounds,
                clock,
                desired,
                blobs,
                engine,
                artifacts,
                compiler,
                crashes,
                site,
                logs,
                crowded,
                runtime,
                replaces,
            } = made;
            Self {
                data,
                bounds,
                clock,
                began: Instant::now(),
                desired,
                blobs,
                engine,
                artifacts,
                compiler,
                shelf: Shelf::default(),
                backends: Backends::default(),
                crashes,
                site,
                shares: Shares::new(bounds.pool_instances),
                live: Mutex::default(),
                rollouts: Mutex::default(),
                logs,
                draining: AtomicBool::new(false),
                changing: AtomicUsize::new(0),
                store_until: replaces.map(|wait| Instant::now() + wait),
                published: AtomicU64::new(0),
                crowded,
                memory: Mutex::default(),
                messages: Mutex::default(),
                short_reserves: AtomicUsize::new(0),
                tenants: Mutex::default(),
                lines: Lines::default(),
                runtime,
                failing: Mutex::default(),
                unclaimed: Mutex::default(),
                addresses: OnceLock::new(),
                this: Weak::clone(this),
            }
        })
    }

    /// Seconds since 1970, by the clock.
    pub(crate) fn now(&self) -> u64 {
        (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Somebody who changes something now.
    pub(crate) fn by<'a>(&self, who: &'a str) -> By<'a> {
        By { who, at: self.now() }
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line that deploys of this app stand in: they follow one another.
    pub(crate) fn line(&self, id: &AppId) -> Turn<'_> {
        self.lines.stand(id)
    }

    /// Makes what is served equal to what is desired. It takes nothing but the desired state, and is safe to run twice.
    ///
    /// What cannot be made ready keeps being served as it was; the rest goes on. Says what that is, and why.
    pub(crate) fn reconcile(&self) -> HashMap<AppId, Refused> {
        let mut live = self.live();
        let (generation, apps) = self.desired.apps();
        let tenants: BTreeMap<TenantId, tenon_model::Quota> =
            self.desired.tenants().iter().map(|tenant| (tenant.id.clone(), quota_of(tenant))).collect();
        live.tenants.retain(|id, _| tenants.contains_key(id));
        // In the order of their names, so that each start gives those the same reserve for whom the pool has too little.
        for (id, quota) in &tenants {
            live.tenant(id, *quota, &self.shares);
        }
        self.fill_reserves(&live);
        let mut left = HashMap::new();
        let mut entries = Vec::with_capacity(apps.len());
        for record in &apps {
            match self.entry(&mut live, record) {
                Ok(entry) => entries.push(entry),
                Err(refused) => {
                    tracing::error!(app = %record.id, code = refused.0.code, cause = said(&refused), "an app cannot be made ready");
                    let before = self.site.table();
                    entries.extend(
                        before
                            .entries()
                            .iter()
                            .find(|it| *it.app.id() == record.id)
                            .map(|it| Entry::clone(it)),
                    );
                    left.insert(record.id.clone(), refused);
                }
            }
        }
        let wanted: std::collections::HashSet<&AppId> = apps.iter().map(|app| &app.id).collect();
        live.apps.retain(|id, _| wanted.contains(id));
        self.site.publish(Table::new(entries));
        self.published.store(generation, Relaxed);
        left
    }

    /// Gives tenants what the pool could not put into their reserve before.
    fn fill_reserves(&self, live: &Live) {
        let mut all: Vec<_> = live.tenants.values().collect();
        all.sort_by(|left, right| left.id().cmp(right.id()));
        let short = all.into_iter().filter(|tenant| !tenant.fill_reserve()).count();
        self.short_reserves.store(short, Relaxed);
    }

    /// The same, where any is short of something: a tenant that is gone gives its reserve back when its last request has ended.
    pub(crate) fn look_at_reserves(&self) {
        if self.short_reserves.load(Relaxed) > 0 {
            self.fill_reserves(&self.live());
        }
    }

    fn entry(&self, live: &mut Live, record: &AppRecord) -> Answer<Entry> {
        let Some(tenant) = live.tenants.get(&record.id.tenant).cloned() else {
            return Err(missing("tenant"));
        };
        live.apps.entry(record.id.clone()).or_insert_with(|| LiveApp {
            app: App::new(record.id.clone(), tenant),
            revisions: HashMap::new(),
        });
        let stable = self.revision(live, &record.id, record.stable)?;
        let candidate = match record.open_rollout() {
            None => None,
            // It is to go, though that could not be written.
            Some(rollout) if self.withheld(&record.id, rollout.candidate).is_some() => None,
            Some(rollout) => {
                let revision = self.revision(live, &record.id, rollout.candidate)?;
                let plan = read_plan(&rollout.plan)?;
                let percent = usize::try_from(rollout.step).ok().and_then(|step| plan.steps.get(step));
                Some(Candidate {
                    slot: Arc::clone(&revision.slot),
                    percent: percent.map_or(0, |step| step.percent),
                    sticky: plan.sticky,
                    chosen: plan.chosen,
                    shadow_percent: plan.shadow_percent,
                })
            }
        };
        let Some(app) = live.apps.get_mut(&record.id) else { return Err(missing("app")) };
        // The one before is kept, so that a way back is one exchange of a pointer.
        let mut kept: Vec<RevisionNumber> = vec![record.stable];
        kept.extend(record.rollout.iter().flat_map(|rollout| [rollout.candidate, rollout.from]));
        let newest_before = app.revisions.keys().copied().filter(|number| *number < record.stable).max();
        kept.extend(newest_before);
        app.revisions.retain(|number, _| kept.contains(number));
        Ok(Entry {
            app: Arc::clone(&app.app),
            routes: record.routes.clone(),
            stable: Arc::clone(&stable.slot),
            candidate,
            paused: record.paused,
        })
    }

    /// A revision as it lives here, made when it is met first; it is in memory if an equal one is.
    fn revision(&self, live: &mut Live, id: &AppId, number: RevisionNumber) -> Answer<Arc<LiveRevision>> {
        if let Some(revision) = live.revision(id, number) {
            return Ok(Arc::clone(revision));
        }
        let record = self.desired.revision(id, number)?.ok_or_else(|| missing("revision"))?;
        let content = Arc::new(Content::read(record.component, &record.terms)?);
        let loader = Arc::new(NodeLoader::new(Weak::clone(&self.this)));
        let key = RevisionKey { app: id.clone(), revision: number };
        let slot = Slot::new(key, content.terms.limits, loader);
        let revision = Arc::new(LiveRevision {
            slot,
            content,
            bytes: AtomicU64::new(0),
            components: Components::default(),
        });
        if let Some(service) = self.in_memory(id, &revision.content) {
            revision.preload(service);
        }
        if let Some(app) = live.apps.get_mut(id) {
            app.revisions.insert(number, Arc::clone(&revision));
        }
        Ok(revision)
    }

    /// A service of this content: the one that is in memory, or one that is mapped and linked now. Compiles only what
    /// is not there or cannot be used. Waits, for a place in memory too.
    pub(crate) fn service(&self, id: &AppId, content: &Content) -> Answer<Ready> {
        let (mut code, mut wait) = (None, None);
        loop {
            match self.try_service(id, content)? {
                Tried::Ready(ready) => return Ok(Ready { code: code.unwrap_or(ready.code), ..ready }),
                Tried::NoCode if code.is_some() => return Err(missing("artifact")),
                Tried::NoCode => code = Some(self.compile(id, &content.component)?),
                Tried::NoPlace => {
                    let wait = wait.get_or_insert_with(memory::Wait::begin);
                    std::thread::sleep(wait.again(self)?);
                }
            }
        }
    }

    /// The same, as far as it goes without compiling, and without waiting for a place.
    pub(crate) fn try_service(&self, id: &AppId, content: &Content) -> Answer<Tried> {
        for _ in 0..memory::CHANGED_MAX {
            if let Some(service) = self.in_memory(id, content) {
                return Ok(Tried::Ready(Ready { service, bytes: 0, code: BEFORE }));
            }
            let Some(place) = self.place(&id.tenant) else { return Ok(Tried::NoPlace) };
            let stored = match self.artifacts.find(&self.engine, &content.component) {
                Ok(Some(stored)) => stored,
                Ok(None) => return Ok(Tried::NoCode),
                Err(refused) => {
                    tracing::warn!(app = %id, %refused, "compiled code is made again");
                    return Ok(Tried::NoCode);
                }
            };
            let (service, bytes) = self.linked(id, content, stored)?;
            if let Some(service) = place.fill(memory::key(id, content), service) {
                return Ok(Tried::Ready(Ready { service, bytes, code: BEFORE }));
            }
        }
        Err(Refused::new("admin-busy", "the tenant is changed again and again", "try again when it is not"))
    }

    /// A service of compiled code, with what its tenant is allowed now.
    fn linked(&self, id: &AppId, content: &Content, stored: Stored) -> Answer<(Arc<Service>, u64)> {
        let file = id.to_string();
        let authorities = policy::permit(&id.tenant, &self.allowed(&id.tenant)?, &content.terms.authorities)?;
        let backends = Backends {
            stores: self.shelf.open(&authorities, &self.data)?,
            tenant: Some(id.tenant.as_str().into()),
            ..self.backends.clone()
        };
        let bytes = stored.bytes;
        let contract = stored.contract.clone();
        let terms = Terms {
            name: id.app.as_str(),
            file: &file,
            limits: content.terms.limits,
            authorities: &authorities,
            backends: &backends,
        };
        let mut service = Service::new(&self.engine, stored, &terms)?.reusing(content.terms.reuse)?;
        if let Some(crashes) = &self.crashes {
            service = service.reporting_to(Arc::clone(crashes));
        }
        let service =
            Arc::new(describe(service, &Known::Contract(contract.as_deref()), &content.terms.errors)?);
        Ok((service, bytes))
    }

    /// Compiles a component, in a process of its own.
    pub(crate) fn compile(&self, id: &AppId, component: &Digest) -> Answer<&'static str> {
        // A damaged file is found out here, and not by the compiler.
        if self.blobs.read(component)?.is_none() {
            return Err(missing("blob"));
        }
        let place = self.blobs.place(component);
        let done = self.compiler.compile((&self.engine, &self.artifacts), id, &place, component);
        match &done {
            Ok(_) => self.note_written(Written::Artifact, Ok(())),
            Err(Refused(problem)) if problem.code == "cannot-store-artifact" => {
                self.note_written(Written::Artifact, Err(&problem.title));
            }
            Err(_) => {}
        }
        done
    }

    /// What of the node this tenant's apps may be granted.
    pub(crate) fn allowed(&self, tenant: &TenantId) -> Answer<Vec<policy::Allowed>> {
        let record = self.desired.tenant(tenant).ok_or_else(|| missing("tenant"))?;
        Ok(policy::read(&put_tenant_of(&record).allow)?)
    }

    /// Notes whether the state could be written.
    pub(crate) fn noted<T>(&self, done: Result<T, ChangeError>) -> Answer<T> {
        match &done {
            Err(ChangeError::Failed(cause) | ChangeError::Unknown(cause)) => {
                self.note_written(Written::State, Err(cause));
            }
            Ok(_) => self.note_written(Written::State, Ok(())),
            Err(_) => {}
        }
        done.map_err(Refused::from)
    }

    /// Notes whether what is uploaded could be kept.
    pub(crate) fn noted_upload<T>(&self, done: Result<T, BlobError>) -> Answer<T> {
        match &done {
            Err(BlobError::Io(cause)) => self.note_written(Written::Upload, Err(&cause.to_string())),
            Ok(_) => self.note_written(Written::Upload, Ok(())),
            Err(_) => {}
        }
        done.map_err(Refused::from)
    }

    /// Notes whether this could be written; `tenon status` says so until it can be written again.
    fn note_written(&self, what: Written, done: Result<(), &str>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(()) => failing.remove(&what),
            Err(cause) => failing.insert(what, cause.to_owned()),
        };
    }

    /// Begins a change that somebody asked for, unless the node is about to end.
    pub(crate) fn begin_change(&self) -> Answer<Change<'_>> {
        // Counted first: whoever sets `draining` then sees it, or is seen.
        self.changing.fetch_add(1, SeqCst);
        let change = Change(self);
        if self.draining.load(SeqCst) { Err(draining()) } else { Ok(change) }
    }

    /// Lets go of the state for the node that takes this one's place. What was begun is ended first, for as long as it may
    /// take; requests are served on, from what is in memory.
    pub(crate) fn hand_over(&self) {
        let began = Instant::now();
        self.draining.store(true, SeqCst);
        while self.changing.load(SeqCst) > 0 && began.elapsed() < CHANGE_WAIT {
            std::thread::sleep(CHANGE_LOOK);
        }
        self.desired.hand_over();
    }

    /// Serves what is desired, where nobody else is about to: a change that was not known to have been made, and was.
    pub(crate) fn catch_up(&self) {
        if !self.draining.load(SeqCst) && self.desired.generation() != self.published.load(Relaxed) {
            self.reconcile();
        }
    }

    /// Forgets what outlives a tenant in this process and in its uploads: the next one of its name has none of it.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.logs.forget(tenant);
        if let Err(error) = self.blobs.forget(tenant) {
            tracing::warn!(%tenant, %error, "what a tenant had begun to upload goes a day after");
        }
    }

    /// Nobody took this node's place: it goes on.
    pub(crate) fn take_back(&self) -> Result<(), tenon_model::Diagnostic> {
        let began = Instant::now();
        // A process that ends lets go of its files one after the other.
        while let Err(said) = self.desired.take_back() {
            if said.code != "store-in-use" || began.elapsed() >= TAKE_BACK_WAIT {
                return Err(said);
            }
            std::thread::sleep(CHANGE_LOOK);
        }
        self.draining.store(false, SeqCst);
        self.reconcile();
        Ok(())
    }

    /// The components of all revisions that serve, take over, or may be wanted back: each once, with an app that has it.
    pub(crate) fn serving(&self) -> Vec<(AppId, Digest)> {
        let live = self.live();
        let each = live.revisions().map(|(app, revision)| (revision.content.component, app.id().clone()));
        let by_digest: BTreeMap<Digest, AppId> = each.collect();
        by_digest.into_iter().map(|(digest, app)| (app, digest)).collect()
    }

    /// What is wrong with the node, if anything is.
    pub(crate) fn wrong(&self) -> Vec<wire::Problem> {
        let mut wrong = Vec::new();
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.extend(failing.iter().map(|(what, cause)| *what.failed(cause).0));
        let is_said = failing.contains_key(&Written::State);
        drop(failing);
        let short = self.short_reserves.load(Relaxed);
        if short > 0 {
            let said = format!("{short} tenants have fewer sandboxes in reserve than they should");
            let wished = self.reserved_but(None);
            wrong.push(
                *Refused::from(
                    Diagnostic::new("reserve-short", said)
                        .note("the pool", format!("{} sandboxes, and {wished} should be in reserve", self.shares.instances()))
                        .mend("start the node with a larger `--pool`; or lower `tenon tenant set NAME --reserved N`"),
                )
                .0,
            );
        }
        if let Some(cause) = self.desired.unwritable().filter(|_| !is_said) {
            wrong.push(*Written::State.failed(&cause).0);
        }
        if !self.desired.is_audit_intact() {
            let said = "the audit log was changed by somebody else";
            wrong.push(
                *Refused::new("audit-broken", said, "find out who can write into the data directory").0,
            );
        }
        wrong
    }

    /// Sandboxes that tenants should have in reserve, of all but one.
    pub(crate) fn reserved_but(&self, but: Option<&TenantId>) -> u64 {
        let tenants = self.desired.tenants();
        let counted = tenants.iter().filter(|tenant| Some(&tenant.id) != but);
        counted.map(|tenant| u64::from(quota_of(tenant).reserved_instances)).sum()
    }

    /// Throws away components that no revision is made of, and that were uploaded so many seconds ago.
    pub(crate) fn sweep(&self, age_s: u64) {
        match self.noted(self.desired.forget_unused(age_s)) {
            Ok(unused) => {
                // Somebody may have uploaded it again meanwhile.
                for digest in unused.iter().filter(|digest| self.is_unclaimed(digest)) {
                    if let Err(error) = self.blobs.remove(digest) {
                        tracing::warn!(%digest, %error, "a component that nobody needs could not be removed");
                    }
                }
            }
            Err(refused) => {
                tracing::warn!(code = refused.0.code, "what nobody needs could not be looked for");
            }
        }
        self.sweep_artifacts();
        for digest in self.long_unclaimed() {
            let _ = self.blobs.remove(&digest);
        }
    }

    fn is_unclaimed(&self, digest: &Digest) -> bool {
        matches!(self.desired.may_use(None, digest), Ok(false))
    }

    /// Bytes that a process has left which ended before anybody had claimed them. How old a file is, it says by a clock that
    /// may have jumped: so this process has to have known it for a while, too.
    fn long_unclaimed(&self) -> Vec<Digest> {
        let unclaimed: HashSet<Digest> = self
            .blobs
            .old()
            .unwrap_or_default()
            .into_iter()
            .filter(|digest| self.is_unclaimed(digest))
            .collect();
        let now = Instant::now();
        let mut known = self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|digest, _| unclaimed.contains(digest));
        for digest in unclaimed {
            known.entry(digest).or_insert(now);
        }
        let is_long = |since: &Instant| now.duration_since(*since) >= UNCLAIMED_MAX;
        known.extract_if(|_, since| is_long(since)).map(|(digest, _)| digest).collect()
    }

    /// Throws away compiled code that no revision needs, where there is more of it than is kept: what serves is never touched,
    /// however much there is.
    fn sweep_artifacts(&self) {
        let swept = match self.desired.used() {
            Ok(used) => self.artifacts.prune(&self.engine, &used).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match swept {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "compiled code that no revision needs was thrown away"),
            Err(cause) => tracing::warn!(cause, "compiled code that nobody needs could not be looked for"),
        }
    }

    /// Brings a tenant's apps into memory anew, as they are now allowed to be. Requests that have begun end as they began.
    pub(crate) fn renew(&self, tenant: &TenantId) {
        self.let_go(tenant);
        for (_, app) in self.live().apps.iter_mut().filter(|(id, _)| id.tenant == *tenant) {
            app.revisions.clear();
        }
    }
}

impl Content {
    pub(crate) fn read(component: Digest, terms: &str) -> Answer<Self> {
        let wire: wire::Terms = serde_json::from_str(terms).map_err(|error| {
            Refused::new("admin-terms", format!("the terms cannot be read: {error}"), "deploy it again")
        })?;
        let read = wire.read().map_err(|error| {
            Refused::new("admin-terms", format!("the terms cannot be used: {error}"), "mend the manifest")
        })?;
        Ok(Self { component, terms: read, terms_digest: Digest::of(terms.as_bytes()) })
    }
}

/// The plan of a rollout as it was written.
pub(crate) fn read_plan(text: &str) -> Answer<RolloutPlan> {
    let wire: wire::Rollout = serde_json::from_str(text).map_err(|error| invalid_plan(error.to_string()))?;
    wire.read().map_err(invalid_plan)
}

pub(crate) fn invalid_plan(why: String) -> Refused {
    Refused::new(
        "admin-rollout",
        format!("the rollout cannot be carried out: {why}"),
        "write for example `--canary 5,25,50 --hold 30s`",
    )
}

/// What a tenant was made with.
pub(crate) fn put_tenant_of(record: &TenantRecord) -> wire::PutTenant {
    serde_json::from_str(&record.document).unwrap_or_else(|error| {
        tracing::error!(tenant = %record.id, %error, "a tenant's quota cannot be read; it has the usual one, and is allowed nothing");
        wire::PutTenant::default()
    })
}

fn quota_of(record: &TenantRecord) -> tenon_model::Quota {
    put_tenant_of(record).quota.read()
}

/// All that is wrong, as one text.
pub(crate) fn said(refused: &Refused) -> String {
    let more = refused.0.more.iter().map(|problem| problem.title.as_str());
    std::iter::once(refused.0.title.as_str()).chain(more).collect::<Vec<_>>().join("; ")
}

impl From<Refused> for Diagnostics {
    fn from(refused: Refused) -> Self {
        Diagnostic::new("internal", said(&refused)).into()
    }
}
