//! What is served now, and how it is replaced while requests run.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tenon_engine::{Body, Service};
use tenon_model::{
    AppId, HEADER_BYTES_MAX, Limits, Quota, RevisionNumber, Route, RouteHost, RoutePath, WALL_MAX,
};

use crate::app::App;
use crate::bucket::Bucket;
use crate::clock::Now;
use crate::identify::{REQUEST_ID, RequestId};
use crate::observe::Observer;
use crate::slot::{LoadError, LoadTurns, Loader, Loading, Loads, RevisionKey, Slot};
use crate::table::{Entry, Table};
use crate::tenant::{REFUSALS_OBSERVED_PER_SECOND, Shares, Tenant};

/// After a request's time on the wall, its client has this long to take the rest of the response.
pub(crate) const TAKE_GRACE: Duration = Duration::from_secs(5);
/// Lines of the log a second about connections that were closed because of their address.
const CROWDED_OUT_LOGGED_PER_SECOND: u64 = 1;
/// What every response has while there is a [`Notice`]: its code.
pub const NOTICE: HeaderName = HeaderName::from_static("x-tenon-notice");
/// Whose an app is that is served alone.
const LOCAL: &str = "local";
/// What an app is called that is served alone, where its own name is none.
const ALONE: &str = "app";

/// What requests are served from, shared by all workers. It is replaced as a whole: a request sees one state of it from
/// its beginning to its end.
pub struct Site {
    view: ArcSwap<View>,
    /// Revisions that were replaced, while requests that they admitted still run.
    retired: Mutex<Vec<Arc<Slot>>>,
    /// Who loads revisions at the same time.
    loads: Arc<Loads>,
    observer: OnceLock<Arc<Observer>>,
    /// Requests that were for no app.
    unrouted: AtomicU64,
    /// Those of them that are observed.
    unrouted_told: Bucket,
    /// Connections that were closed because their address had as many as it may.
    crowded_out: AtomicU64,
    /// Those of them that are written to the log.
    crowded_out_said: Bucket,
    /// Where an app is served alone: the app, and the number of its last revision.
    alone: Mutex<Option<(Arc<App>, u64)>>,
}

/// What is served at one moment.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) table: Arc<Table>,
    pub(crate) notice: Option<Arc<Notice>>,
    /// Whether anybody has said yet what is served, be it nothing.
    pub(crate) ready: bool,
    limits: Bounds,
}

/// The most that any revision's limits allow, and never more than one may ask of what all share.
#[derive(Clone, Copy)]
struct Bounds {
    longest: Duration,
    header_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        let Limits { wall, header_bytes, .. } = Limits::default();
        Self { longest: wall, header_bytes }
    }
}

/// Why the app is not in the state its author expects, for the author: requests of a browser for a page get it instead
/// of an answer of the app, all others get its code in a header beside the app's answer.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The stable code of what is wrong.
    pub code: HeaderValue,
    /// The page.
    pub page: Bytes,
    /// What the page may do.
    pub content_security_policy: HeaderValue,
    /// Tells one notice from the next: a quoted entity tag.
    pub tag: HeaderValue,
}

impl Site {
    /// A site of one app, which gets every request.
    pub fn new(service: Service) -> Self {
        let site = Self::empty();
        site.replace(service);
        site
    }

    /// A site of which nobody has said yet what it serves: every request is told that it is not ready.
    pub fn empty() -> Self {
        Self::seeing(View::default())
    }

    /// A site that serves what a table says.
    pub fn of(table: Table) -> Self {
        Self::seeing(View::of(table, None))
    }

    /// The same, beside another site of the node: its revisions are loaded in turn with those of the other, and who is told of that
    /// one's requests is told of its.
    #[must_use]
    pub fn beside(self, other: &Self) -> Self {
        Self { loads: Arc::clone(&other.loads), observer: other.observer.clone(), ..self }
    }

    fn seeing(view: View) -> Self {
        Self {
            view: ArcSwap::from_pointee(view),
            retired: Mutex::default(),
            loads: Arc::default(),
            observer: OnceLock::new(),
            unrouted: AtomicU64::new(0),
            unrouted_told: Bucket::new(REFUSALS_OBSERVED_PER_SECOND),
            crowded_out: AtomicU64::new(0),
            crowded_out_said: Bucket::new(CROWDED_OUT_LOGGED_PER_SECOND),
            alone: Mutex::default(),
        }
    }

    /// The same, telling `observer` of every request.
    #[must_use]
    pub fn observed(self, observer: Arc<Observer>) -> Self {
        Self { observer: OnceLock::from(observer), ..self }
    }

    /// Serves this table from now on. Requests that have begun end on what they began with.
    pub fn publish(&self, table: Table) {
        let notice = self.view.load().notice.clone();
        self.put(View::of(table, notice));
    }

    /// Serves this from now on, alone. Requests that have begun end on what they began with. A notice is taken down.
    pub fn replace(&self, service: Service) {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let (app, number) = match alone.take() {
            Some((app, number)) => (app, number + 1),
            None => (local(service.name()), 1),
        };
        let key = RevisionKey { app: app.id().clone(), revision: RevisionNumber(number) };
        let slot = Slot::new(key, *service.limits(), Arc::new(NeverUnloaded));
        slot.preload(Arc::new(service));
        *alone = Some((Arc::clone(&app), number));
        let everything =
            Route { host: RouteHost::Any, path: RoutePath { segments: Vec::new(), below: true } };
        let routes = vec![everything];
        let entry = Entry { app, routes, stable: slot, candidate: None, paused: false };
        self.put(View::of(Table::new(vec![entry]), None));
    }

    fn put(&self, view: View) {
        // Held while the view is swapped: whoever counts what runs sees a revision on one side or the other.
        let mut retired = self.retired();
        let before = self.view.swap(Arc::new(view));
        retired.retain(|slot| slot.running() > 0);
        for slot in before.table.entries().iter().flat_map(|entry| entry.slots()) {
            if slot.running() > 0 && !retired.iter().any(|other| Arc::ptr_eq(other, slot)) {
                retired.push(Arc::clone(slot));
            }
        }
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts up a notice, or takes it down. What is served stays what it is.
    pub fn announce(&self, notice: Option<Notice>) {
        let notice = notice.map(Arc::new);
        self.view.rcu(|view| View { notice: notice.clone(), ..View::clone(view) });
    }

    /// What is served now.
    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    /// What is served now.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.view.load().table)
    }

    /// The one revision of a site of one app.
    pub(crate) fn alone(&self) -> Option<Arc<Entry>> {
        match self.view.load().table.entries() {
            [one] => Some(Arc::clone(one)),
            _ => None,
        }
    }

    pub(crate) fn loads(&self) -> &Arc<Loads> {
        &self.loads
    }

    /// Who is told of every request, if anybody is.
    pub(crate) fn observer(&self) -> Option<&Arc<Observer>> {
        self.observer.get()
    }

    /// Counts a request that is for no app; whether it is to be observed.
    pub(crate) fn count_unrouted(&self, now: Now) -> bool {
        self.unrouted.fetch_add(1, Relaxed);
        self.unrouted_told.take(1, now.ns).is_ok()
    }

    /// Requests that were for no app, since the node started.
    pub fn unrouted(&self) -> u64 {
        self.unrouted.load(Relaxed)
    }

    /// Counts a connection that is closed because its address has as many as it may; whether that is to be said.
    pub(crate) fn count_crowded_out(&self, now: Now) -> bool {
        self.crowded_out.fetch_add(1, Relaxed);
        self.crowded_out_said.take(1, now.ns).is_ok()
    }

    /// Connections that were closed because their address had as many as it may, since the node started.
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out.load(Relaxed)
    }

    /// Requests running now, those on revisions that were replaced too. Of those, the ones that have drained are let go.
    pub fn running(&self) -> u32 {
        let mut retired = self.retired();
        // What has drained is let go.
        retired.retain(|slot| slot.running() > 0);
        let table = self.table();
        let is_current = |slot: &&Arc<Slot>| {
            table.entries().iter().flat_map(|entry| entry.slots()).any(|current| Arc::ptr_eq(current, slot))
        };
        // A revision that was replaced and put back is among both.
        let gone = retired.iter().filter(|slot| !is_current(slot));
        let current = table.entries().iter().flat_map(|entry| entry.slots());
        current.chain(gone).map(|slot| slot.running()).fold(0, u32::saturating_add)
    }

    /// The longest that a request and the taking of its response may last, of those that come now.
    pub fn longest(&self) -> Duration {
        self.view.load().limits.longest + TAKE_GRACE
    }

    /// The same, of those that run on revisions that were replaced too: how long a drain that begins now may take.
    pub fn longest_running(&self) -> Duration {
        let retired = self.retired();
        let of_retired =
            retired.iter().filter(|slot| slot.running() > 0).map(|slot| slot.limits().wall).max();
        let most = of_retired.unwrap_or_default().min(WALL_MAX) + TAKE_GRACE;
        most.max(self.longest())
    }

    /// What the header fields of a request may take, in bytes.
    pub fn header_bytes(&self) -> u64 {
        self.view.load().limits.header_bytes
    }
}

impl View {
    fn of(table: Table, notice: Option<Arc<Notice>>) -> Self {
        let all = || table.entries().iter().flat_map(|entry| entry.slots()).map(|slot| slot.limits());
        let default = Bounds::default();
        let longest = all().map(|limits| limits.wall).max().unwrap_or(default.longest);
        let header_bytes = all().map(|limits| limits.header_bytes).max().unwrap_or(default.header_bytes);
        let limits =
            Bounds { longest: longest.min(WALL_MAX), header_bytes: header_bytes.min(HEADER_BYTES_MAX) };
        Self { table: Arc::new(table), notice, ready: true, limits }
    }
}

/// An app that is served alone: its tenant has the whole node.
fn local(name: &str) -> Arc<App> {
    let everything = Quota {
        requests_per_second: u32::MAX,
        cpu_us_per_second: u64::MAX,
        bytes_per_second: u64::MAX,
        memory_bytes: u64::MAX,
        concurrency: u32::MAX,
        queue: u32::MAX,
        reserved_instances: 0,
        apps: 1,
    };
    let (tenant, alone) = (LOCAL.parse(), ALONE.parse());
    let (Ok(tenant), Ok(alone)) = (tenant, alone) else { unreachable!("both are names") };
    let app = AppId { tenant, app: name.parse().unwrap_or(alone) };
    let tenant = Tenant::new(app.tenant.clone(), everything, &Shares::new(u32::MAX));
    App::alone(app, tenant)
}

/// A revision that is served alone stays in memory.
struct NeverUnloaded;

impl Loader for NeverUnloaded {
    fn load(&self, _: &RevisionKey, _: LoadTurns) -> Loading {
        Box::pin(async { Err(LoadError("it was unloaded".into())) })
    }
}

impl Notice {
    /// The page, for a request of somebody who looks at pages.
    pub(crate) fn page_for(&self, asked: &HeaderMap, id: &RequestId) -> Option<Response<Body>> {
        let html = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/html"));
        if !asked.get_all(ACCEPT).iter().any(html) {
            return None;
        }
        let mut response = Response::new(Body::whole(self.page.clone()));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_SECURITY_POLICY, self.content_security_policy.clone());
        headers.insert(ETAG, self.tag.clone());
        headers.insert(REQUEST_ID, id.header());
        self.mark(headers);
        Some(response)
    }

    /// Says on another answer that there is a notice.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(NOTICE, self.code.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::tests::{Nothing, key};
    use crate::table::tests::entry;

    fn lasting(wall: Duration, header_bytes: u64) -> Arc<Slot> {
        let limits = Limits { wall, header_bytes, ..Limits::default() };
        Slot::new(key("a", 1), limits, Arc::new(Nothing::default()))
    }

    fn table(slot: &Arc<Slot>) -> Table {
        Table::new(vec![Entry { stable: Arc::clone(slot), ..entry("a", &["*/*"]) }])
    }

    #[test]
    fn one_revision_sets_what_all_connections_have_only_within_bounds() {
        let within = Site::of(table(&lasting(Duration::from_secs(120), 64 << 10)));
        assert_eq!((within.longest(), within.header_bytes()), (Duration::from_secs(125), 64 << 10));
        let beyond = Site::of(table(&lasting(WALL_MAX * 720, 100 << 30)));
        assert_eq!((beyond.longest(), beyond.header_bytes()), (WALL_MAX + TAKE_GRACE, HEADER_BYTES_MAX));
    }

    #[test]
    fn a_drain_lasts_as_long_as_what_is_served_or_still_runs_when_it_begins() {
        let site = Site::empty();
        let before = site.longest_running();
        let slow = lasting(Duration::from_secs(120), 1);
        site.publish(table(&slow));
        assert!(site.longest_running() > before, "it was not there when the site was made");
        assert!(slow.gate().try_enter());
        site.publish(table(&lasting(Duration::from_secs(1), 1)));
        let (longest, running) = (site.longest(), site.longest_running());
        assert_eq!((longest, running), (Duration::from_secs(6), Duration::from_secs(125)));
        slow.gate().leave();
        assert_eq!(site.longest_running(), Duration::from_secs(6));
    }
}
