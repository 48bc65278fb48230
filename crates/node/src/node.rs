//! The node from the inside, and how it is made equal to what is desired.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tenon_edge::{App, Candidate, Entry, RevisionKey, Shares, Site, Slot, Table};
use tenon_engine::{Artifacts, Backends, Crashes, Engine, Service, Terms};
use tenon_model::{AppId, Diagnostics, Digest, RevisionNumber, RolloutPlan, TenantId};
use tenon_state::desired::{AppRecord, By, TenantRecord};
use tenon_state::{BlobFolder, Desired};

use crate::compile::Compiler;
use crate::config::Bounds;
use crate::describe::{Known, describe};
use crate::live::{Content, Live, LiveApp, LiveRevision};
use crate::loader::NodeLoader;
use crate::logs::Logs;
use crate::messages::Messages;
use crate::policy;
use crate::refused::{Answer, Refused, missing};
use crate::rollouts::Rollouts;
use crate::stores::Shelf;
use crate::wire;

/// Who changes things when nobody asked for it.
pub(crate) const NODE: &str = "node";
/// Deploys of one app follow one another; so many apps share a place in the line.
const LINES: usize = 64;

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
    /// The generation that is served.
    pub(crate) published: AtomicU64,
    /// Wakes whoever takes apps out of memory.
    pub(crate) crowded: SyncSender<()>,
    /// Services that are in memory, by what they are made of: a revision that is equal to another shares its service.
    services: Mutex<HashMap<ServiceKey, Weak<Service>>>,
    /// Apps that are given messages.
    pub(crate) messages: Mutex<Messages>,
    lines: [Mutex<()>; LINES],
    /// Where requests of the node's own run, and the admin API.
    pub(crate) runtime: tokio::runtime::Handle,
    /// Why the state could not be written, since it was last written.
    pub(crate) failing: Mutex<Option<String>>,
    /// Where apps are served.
    pub(crate) addresses: OnceLock<Vec<String>>,
    this: Weak<Inner>,
}

type ServiceKey = (AppId, Digest, Digest);

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
                published: AtomicU64::new(0),
                crowded,
                services: Mutex::default(),
                messages: Mutex::default(),
                lines: std::array::from_fn(|_| Mutex::default()),
                runtime,
                failing: Mutex::default(),
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

    /// The line that deploys of this app stand in.
    pub(crate) fn line(&self, id: &AppId) -> MutexGuard<'_, ()> {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % LINES as u64).unwrap_or(0);
        self.lines[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes what is served equal to what is desired. It takes nothing but the desired state, and is safe to run twice.
    ///
    /// What cannot be made ready keeps being served as it was; the rest goes on.
    pub(crate) fn reconcile(&self) {
        let mut live = self.live();
        let (generation, apps) = self.desired.apps();
        let tenants: HashMap<TenantId, Arc<TenantRecord>> =
            self.desired.tenants().into_iter().map(|tenant| (tenant.id.clone(), tenant)).collect();
        for (id, record) in &tenants {
            live.tenant(id, quota_of(record), &self.shares);
        }
        live.tenants.retain(|id, _| tenants.contains_key(id));
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
                }
            }
        }
        let wanted: std::collections::HashSet<&AppId> = apps.iter().map(|app| &app.id).collect();
        live.apps.retain(|id, _| wanted.contains(id));
        self.site.publish(Table::new(entries));
        self.published.store(generation, Relaxed);
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
        let revision = Arc::new(LiveRevision { slot, content, bytes: AtomicU64::new(0) });
        if let Some(service) = self.in_memory(id, &revision.content) {
            revision.slot.preload(service);
        }
        if let Some(app) = live.apps.get_mut(id) {
            app.revisions.insert(number, Arc::clone(&revision));
        }
        Ok(revision)
    }

    fn services(&self) -> MutexGuard<'_, HashMap<ServiceKey, Weak<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_memory(&self, id: &AppId, content: &Content) -> Option<Arc<Service>> {
        let key = (id.clone(), content.component, content.terms_digest);
        self.services().get(&key).and_then(Weak::upgrade)
    }

    /// A service of this content: the one that is in memory, or one that is mapped and linked now. Compiles only what
    /// should be there and is not.
    pub(crate) fn service(&self, id: &AppId, content: &Content) -> Answer<(Arc<Service>, u64)> {
        if let Some(service) = self.in_memory(id, content) {
            return Ok((service, 0));
        }
        let file = id.to_string();
        let stored = match self.artifacts.find(&self.engine, &content.component) {
            Ok(Some(stored)) => stored,
            found => {
                if let Err(refused) = found {
                    tracing::warn!(app = %id, %refused, "compiled code is made again");
                }
                self.compile(id, &content.component)?;
                self.artifacts.find(&self.engine, &content.component)?.ok_or_else(|| missing("artifact"))?
            }
        };
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
        let mut services = self.services();
        if services.len() > 2 * self.bounds.loaded_max + 64 {
            services.retain(|_, service| service.strong_count() > 0);
        }
        let key = (id.clone(), content.component, content.terms_digest);
        services.insert(key, Arc::downgrade(&service));
        Ok((service, bytes))
    }

    /// Compiles a component, in a process of its own.
    pub(crate) fn compile(&self, id: &AppId, component: &Digest) -> Answer<&'static str> {
        // A damaged file is found out here, and not by the compiler.
        if self.blobs.read(component)?.is_none() {
            return Err(missing("blob"));
        }
        let place = self.blobs.place(component);
        self.compiler.compile((&self.engine, &self.artifacts), &id.to_string(), &place, component)
    }

    /// What of the node this tenant's apps may be granted.
    pub(crate) fn allowed(&self, tenant: &TenantId) -> Answer<Vec<policy::Allowed>> {
        let record = self.desired.tenant(tenant).ok_or_else(|| missing("tenant"))?;
        Ok(policy::read(&put_tenant_of(&record).allow)?)
    }

    /// Notes whether the state could be written.
    pub(crate) fn noted<T>(&self, done: Result<T, tenon_state::desired::ChangeError>) -> Answer<T> {
        use tenon_state::desired::ChangeError;
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match &done {
            Err(ChangeError::Failed(cause)) => *failing = Some(cause.clone()),
            Ok(_) => *failing = None,
            Err(_) => {}
        }
        drop(failing);
        done.map_err(Refused::from)
    }

    /// What is wrong with the node, if anything is.
    pub(crate) fn wrong(&self) -> Vec<wire::Problem> {
        let mut wrong = Vec::new();
        if let Some(cause) = &*self.failing.lock().unwrap_or_else(PoisonError::into_inner) {
            wrong.push(*Refused::from(tenon_state::desired::ChangeError::Failed(cause.clone())).0);
        }
        if !self.desired.is_audit_intact() {
            let said = "the audit log was changed by somebody else";
            wrong.push(
                *Refused::new("audit-broken", said, "find out who can write into the data directory").0,
            );
        }
        wrong
    }

    /// Throws away components that no revision is made of, and that were uploaded before then.
    pub(crate) fn sweep(&self, before: u64) {
        match self.noted(self.desired.forget_unused(before)) {
            Ok(unused) => {
                for digest in &unused {
                    if let Err(error) = self.blobs.remove(digest) {
                        tracing::warn!(%digest, %error, "a component that nobody needs could not be removed");
                    }
                }
            }
            Err(refused) => {
                tracing::warn!(code = refused.0.code, "what nobody needs could not be looked for");
            }
        }
        // A process that ended between the two has left bytes that nobody has claimed.
        for digest in self.blobs.old().unwrap_or_default() {
            if matches!(self.desired.may_use(None, &digest), Ok(false)) {
                let _ = self.blobs.remove(&digest);
            }
        }
    }

    /// Brings a tenant's apps into memory anew, as they are now allowed to be. Requests that have begun end as they began.
    pub(crate) fn renew(&self, tenant: &TenantId) {
        self.services().retain(|(app, ..), _| app.tenant != *tenant);
        for (_, app) in self.live().apps.iter_mut().filter(|(id, _)| id.tenant == *tenant) {
            app.revisions.clear();
        }
    }

    /// Takes apps out of memory that were not asked for long, once there are more than may be.
    pub(crate) fn make_room(&self) {
        let mut loaded: Vec<(Duration, Arc<LiveRevision>)> = {
            let live = self.live();
            live.revisions()
                .filter(|(_, revision)| revision.slot.is_loaded())
                .map(|(_, revision)| (revision.slot.last_used(), Arc::clone(revision)))
                .collect()
        };
        let mut count = loaded.len();
        let mut bytes: u64 = loaded.iter().map(|(_, revision)| revision.bytes.load(Relaxed)).sum();
        if count <= self.bounds.loaded_max && bytes <= self.bounds.loaded_bytes_max {
            return;
        }
        loaded.sort_by_key(|(used, _)| *used);
        // Some more than have to go, so that it is not looked for one at each request.
        let (count_max, bytes_max) =
            ((self.bounds.loaded_max * 9 / 10).max(1), self.bounds.loaded_bytes_max / 10 * 9);
        for (_, revision) in loaded {
            if count <= count_max && bytes <= bytes_max {
                return;
            }
            if revision.slot.unload() {
                count -= 1;
                bytes = bytes.saturating_sub(revision.bytes.load(Relaxed));
            }
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
        tenon_model::Diagnostic::new("internal", said(&refused)).into()
    }
}
