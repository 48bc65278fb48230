//! One revision of an app on this node, in memory or not.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tenon_engine::Service;
use tenon_model::{AppId, Limits, RevisionNumber, TenantId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::admit::Gate;
use crate::breaker::Breaker;
use crate::clock::{Now, SECOND_NS};
use crate::count::Counters;

/// Revisions that are mapped and linked at the same time; further ones wait.
const LOADS_MAX: usize = 8;
/// Revisions of one tenant that are on their way into memory, whatever they wait for: half of what is loaded at once is left
/// to the others.
const LOADS_OF_TENANT_MAX: usize = LOADS_MAX / 2;
/// Revisions that are compiled, or wait for the compiler, at the same time: each keeps a thread.
const COMPILES_MAX: usize = 32;
/// How long a request waits for its revision to be loaded. Loading goes on when it goes away.
pub(crate) const LOAD_WAIT: Duration = Duration::from_secs(10);
/// After loading failed it is not tried again for this long.
const FAILED_REST_NS: u64 = SECOND_NS;
/// Requests for one revision that are kept to be copied, or whose copies run, at the same time; of further ones nothing is
/// kept. What is kept of one is bounded in `shadow.rs`.
pub(crate) const SHADOWS_MAX: u32 = 8;

/// Which revision of which app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RevisionKey {
    /// The app.
    pub app: AppId,
    /// Its revision.
    pub revision: RevisionNumber,
}

impl fmt::Display for RevisionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.app, self.revision)
    }
}

/// Why a revision cannot be served now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub Arc<str>);

/// A revision on its way into memory.
pub type Loading = Pin<Box<dyn Future<Output = Result<Arc<Service>, LoadError>> + Send>>;

/// Makes a revision ready to serve when a request needs it and it is not in memory.
pub trait Loader: Send + Sync + 'static {
    /// Loads it. What is returned is polled to its end on the runtime of a worker, whether or not anybody still waits for
    /// it: what takes more than a moment there belongs on another thread, and needs a turn of `turns`. What is only waited for
    /// needs none, and holds up no other tenant's revision.
    fn load(&self, key: &RevisionKey, turns: LoadTurns) -> Loading;

    /// Waits for what the revision needs and another process still has. It is polled before it is loaded, and holds up
    /// no other revision.
    fn wait(&self, _: &RevisionKey) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

/// How many revisions come into memory at the same time, in all and of one tenant.
pub(crate) struct Loads {
    loads: Arc<Semaphore>,
    compiles: Arc<Semaphore>,
    /// Only those that load something. It is asked when a revision is not in memory, never by requests of one that is.
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
}

impl Default for Loads {
    fn default() -> Self {
        Self {
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            compiles: Arc::new(Semaphore::new(COMPILES_MAX)),
            tenants: Mutex::default(),
        }
    }
}

impl Loads {
    fn of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loads) = tenants.get(tenant).and_then(Weak::upgrade) {
            return loads;
        }
        tenants.retain(|_, loads| loads.strong_count() > 0);
        let loads = Arc::new(Semaphore::new(LOADS_OF_TENANT_MAX));
        tenants.insert(tenant.clone(), Arc::downgrade(&loads));
        loads
    }

    /// Waits until one more of this tenant may come.
    async fn begin(self: &Arc<Self>, tenant: &TenantId) -> LoadTurns {
        let of_tenant = self.of(tenant).acquire_owned().await.ok();
        LoadTurns { loads: Arc::clone(self), _of_tenant: of_tenant }
    }
}

/// A revision's leave to come into memory, among those of its tenant; it counts until this is dropped.
pub struct LoadTurns {
    loads: Arc<Loads>,
    /// It is never closed: there always is one.
    _of_tenant: Option<OwnedSemaphorePermit>,
}

/// A turn, given back when it is dropped.
pub struct LoadTurn {
    /// It is never closed: there always is one.
    _permit: Option<OwnedSemaphorePermit>,
}

impl LoadTurns {
    /// A turn to map and link what is compiled.
    pub async fn load(&self) -> LoadTurn {
        LoadTurn { _permit: Arc::clone(&self.loads.loads).acquire_owned().await.ok() }
    }

    /// A turn to compile. Nobody who has one should keep a turn to load meanwhile.
    pub async fn compile(&self) -> LoadTurn {
        LoadTurn { _permit: Arc::clone(&self.loads.compiles).acquire_owned().await.ok() }
    }
}

/// One revision of an app on this node; lives across snapshots while it is served or drains.
pub struct Slot {
    key: RevisionKey,
    limits: Limits,
    loader: Arc<dyn Loader>,
    service: ArcSwapOption<Service>,
    loading: Mutex<State>,
    gate: Gate,
    breaker: Breaker,
    used_ns: AtomicU64,
    counters: Arc<Counters>,
    shadows: AtomicU32,
}

type Loaded = Option<Result<Arc<Service>, LoadError>>;

#[derive(Default)]
enum State {
    #[default]
    Idle,
    /// It is being loaded: whoever needs it waits for the same.
    UnderWay(watch::Receiver<Loaded>),
    /// Not to be tried again before this moment.
    Failed(u64, LoadError),
}

impl Slot {
    /// A revision that is loaded when it is first needed. Its limits are those that it will be served with.
    pub fn new(key: RevisionKey, limits: Limits, loader: Arc<dyn Loader>) -> Arc<Self> {
        Arc::new(Self {
            key,
            limits,
            loader,
            service: ArcSwapOption::empty(),
            loading: Mutex::default(),
            gate: Gate::new(&limits),
            breaker: Breaker::default(),
            used_ns: AtomicU64::new(Now::read().ns),
            counters: Arc::default(),
            shadows: AtomicU32::new(0),
        })
    }

    /// Which it is.
    pub fn key(&self) -> &RevisionKey {
        &self.key
    }

    /// What one of its requests may use up.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Puts it into memory.
    pub fn preload(&self, service: Arc<Service>) {
        self.service.store(Some(service));
    }

    /// Takes it out of memory, unless requests run, with the sandboxes that no request is in. The next request loads it again.
    pub fn unload(&self) -> bool {
        if self.running() > 0 {
            return false;
        }
        // A request that begins now keeps what it has found, or loads it again.
        if let Some(service) = self.service.swap(None) {
            service.shed();
        }
        true
    }

    /// Whether it is in memory.
    pub fn is_loaded(&self) -> bool {
        self.service.load().is_some()
    }

    /// What it serves with, if it is in memory.
    pub fn service(&self) -> Option<Arc<Service>> {
        self.service.load_full()
    }

    /// When a request last needed it, as time since the process began to serve; at first, when it was made.
    pub fn last_used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Relaxed))
    }

    /// Requests that run, or whose response is not taken yet.
    pub fn running(&self) -> u32 {
        self.gate.running()
    }

    /// What was seen of its requests.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn shared_counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Whether its breaker is open: its guests failed too often in a row, and its requests are refused until a probe goes well.
    pub fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// How often its breaker has opened.
    pub fn opened(&self) -> u64 {
        self.breaker.opened()
    }

    /// Through which its requests come.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What refuses its requests while it keeps failing.
    pub(crate) fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// A place for one more request that is copied; it has to be [given back](Self::leave_shadow).
    pub(crate) fn enter_shadow(&self) -> bool {
        let one_more = |running: u32| (running < SHADOWS_MAX).then_some(running + 1);
        self.shadows.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    pub(crate) fn leave_shadow(&self) {
        self.shadows.fetch_sub(1, Relaxed);
    }

    /// The service, at once or when it is loaded.
    ///
    /// Must be called inside a tokio runtime.
    pub(crate) async fn ready(
        self: &Arc<Self>,
        loads: &Arc<Loads>,
        now: Now,
    ) -> Result<Arc<Service>, LoadError> {
        self.used_ns.store(now.ns, Relaxed);
        if let Some(service) = self.service.load_full() {
            return Ok(service);
        }
        let mut receiver = self.begin(loads, now)?;
        let loaded = receiver.wait_for(Option::is_some);
        match tokio::time::timeout(LOAD_WAIT, loaded).await {
            Ok(Ok(loaded)) => loaded.clone().unwrap_or_else(|| Err(LoadError("it was not loaded".into()))),
            // The worker that loaded it is gone.
            Ok(Err(_)) => Err(LoadError("loading it was broken off".into())),
            Err(_) => Err(LoadError("it is still being loaded".into())),
        }
    }

    fn loading(&self) -> MutexGuard<'_, State> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads it, or joins those who wait for it already.
    fn begin(self: &Arc<Self>, loads: &Arc<Loads>, now: Now) -> Result<watch::Receiver<Loaded>, LoadError> {
        let mut state = self.loading();
        match &*state {
            State::UnderWay(receiver) if receiver.has_changed().is_ok() => return Ok(receiver.clone()),
            State::Failed(until_ns, error) if now.ns < *until_ns => return Err(error.clone()),
            State::Idle | State::UnderWay(_) | State::Failed(..) => {}
        }
        let (sender, receiver) = watch::channel(self.service.load_full().map(Ok));
        if receiver.borrow().is_some() {
            // It has come meanwhile.
            return Ok(receiver);
        }
        *state = State::UnderWay(receiver.clone());
        drop(state);
        let (slot, loads) = (Arc::clone(self), Arc::clone(loads));
        tokio::spawn(async move {
            slot.loader.wait(&slot.key).await;
            let turns = loads.begin(&slot.key.app.tenant).await;
            let loaded = slot.loader.load(&slot.key, turns).await;
            *slot.loading() = match &loaded {
                Ok(service) => {
                    slot.service.store(Some(Arc::clone(service)));
                    State::Idle
                }
                Err(error) => State::Failed(Now::read().ns.saturating_add(FAILED_REST_NS), error.clone()),
            };
            sender.send_replace(Some(loaded));
        });
        Ok(receiver)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("key", &self.key)
            .field("loaded", &self.is_loaded())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A loader that never has anything, and counts how often it was asked.
    #[derive(Default)]
    pub(crate) struct Nothing(pub(crate) AtomicU32);

    impl Loader for Nothing {
        fn load(&self, _: &RevisionKey, turns: LoadTurns) -> Loading {
            self.0.fetch_add(1, Relaxed);
            Box::pin(async move {
                let _turn = turns.load().await;
                tokio::task::yield_now().await;
                Err(LoadError("there is nothing".into()))
            })
        }
    }

    pub(crate) fn key(app: &str, revision: u64) -> RevisionKey {
        let (tenant, app) = app.split_once('/').unwrap_or(("tenant", app));
        RevisionKey {
            app: AppId { tenant: tenant.parse().unwrap(), app: app.parse().unwrap() },
            revision: RevisionNumber(revision),
        }
    }

    pub(crate) fn slot(app: &str, revision: u64) -> Arc<Slot> {
        Slot::new(key(app, revision), Limits::default(), Arc::new(Nothing::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_need_it_wait_for_one_load_and_a_failure_is_not_tried_again_at_once() {
        let loader = Arc::new(Nothing::default());
        let slot = Slot::new(key("a", 1), Limits::default(), Arc::clone(&loader) as Arc<dyn Loader>);
        let loads = Arc::new(Loads::default());
        let now = Now::read();
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let (slot, loads) = (Arc::clone(&slot), Arc::clone(&loads));
                tokio::spawn(async move { slot.ready(&loads, now).await.map(drop) })
            })
            .collect();
        for each in waiting {
            assert_eq!(each.await.unwrap(), Err(LoadError("there is nothing".into())));
        }
        assert!(slot.ready(&loads, now).await.is_err());
        assert_eq!(loader.0.load(Relaxed), 1);
        let later = Now { ns: now.ns + 60 * SECOND_NS, ..now };
        assert!(slot.ready(&loads, later).await.is_err());
        assert_eq!(loader.0.load(Relaxed), 2);
        assert_eq!(slot.last_used(), Duration::from_nanos(later.ns));
    }

    #[tokio::test(start_paused = true)]
    async fn loading_goes_on_when_nobody_waits_any_more() {
        let loader = Arc::new(Nothing::default());
        let slot = Slot::new(key("a", 1), Limits::default(), Arc::clone(&loader) as Arc<dyn Loader>);
        let loads = Arc::new(Loads::default());
        let all = u32::try_from(LOADS_MAX).unwrap();
        let busy = Arc::clone(&loads.loads).acquire_many_owned(all).await.unwrap();
        let now = Now::read();
        let ready = slot.ready(&loads, now);
        assert!(tokio::time::timeout(Duration::from_secs(1), ready).await.is_err());
        assert_eq!(
            slot.ready(&loads, now).await.map(drop),
            Err(LoadError("it is still being loaded".into()))
        );
        drop(busy);
        assert!(slot.ready(&loads, now).await.is_err());
        assert_eq!(loader.0.load(Relaxed), 1);
    }

    /// A loader that waits for ever; with a turn to compile, or without any.
    struct Stuck(bool);

    impl Loader for Stuck {
        fn load(&self, _: &RevisionKey, turns: LoadTurns) -> Loading {
            let compiles = self.0;
            Box::pin(async move {
                let _turn = if compiles { Some(turns.compile().await) } else { None };
                std::future::pending().await
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_whose_revisions_are_compiled_or_wait_holds_up_nobody_else() {
        let loads = Arc::new(Loads::default());
        let now = Now::read();
        let waiting: Vec<_> = (0..3 * LOADS_MAX)
            .map(|number| {
                let key = key(&format!("noisy/app-{number}"), 1);
                let slot = Slot::new(key, Limits::default(), Arc::new(Stuck(number % 2 == 0)));
                let loads = Arc::clone(&loads);
                tokio::spawn(async move { slot.ready(&loads, now).await.map(drop) })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let loader = Arc::new(Nothing::default());
        let steady =
            Slot::new(key("steady/app", 1), Limits::default(), Arc::clone(&loader) as Arc<dyn Loader>);
        assert_eq!(steady.ready(&loads, now).await.map(drop), Err(LoadError("there is nothing".into())));
        assert_eq!(loads.loads.available_permits(), LOADS_MAX, "none of them keeps a turn to load");
        for each in waiting {
            assert_eq!(each.await.unwrap(), Err(LoadError("it is still being loaded".into())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_loads_no_more_at_once_than_its_part() {
        let loads = Arc::new(Loads::default());
        let (noisy, steady) = (key("noisy/a", 1).app.tenant, key("steady/a", 1).app.tenant);
        let mut held = Vec::new();
        for _ in 0..LOADS_OF_TENANT_MAX {
            held.push(loads.begin(&noisy).await);
        }
        let second = Duration::from_secs(1);
        assert!(tokio::time::timeout(second, loads.begin(&noisy)).await.is_err());
        assert!(tokio::time::timeout(second, loads.begin(&steady)).await.is_ok());
        held.pop();
        assert!(tokio::time::timeout(second, loads.begin(&noisy)).await.is_ok());
        drop(held);
        drop(loads.begin(&steady).await);
        assert_eq!(loads.tenants.lock().unwrap().len(), 1, "nothing is kept of who loads nothing");
    }

    #[test]
    fn copied_requests_are_few() {
        let slot = slot("a", 1);
        assert_eq!((0..100).take_while(|_| slot.enter_shadow()).count(), SHADOWS_MAX as usize);
        slot.leave_shadow();
        assert!(slot.enter_shadow());
    }
}
