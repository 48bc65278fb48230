//! Who asks the host for something, and what that component has used up of what it may.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tenon_model::{Authorities, Authority, Grants, Limits};

use super::Backends;

/// Principals one service may have: the whole, and the parts of a composition that were granted something of their
/// own. Each needs a function of its own for every kind of state (see [`crate::host`]).
pub(crate) const PRINCIPALS_MAX: usize = 17;
/// Log bytes are counted over this time.
const LOG_WINDOW: Duration = Duration::from_secs(1);

/// A component that the host tells apart from the others: what it is called, and what it may do.
pub(crate) struct Principal {
    /// The part's name in the composition; `None` for the whole.
    pub(crate) part: Option<String>,
    /// What it may do.
    pub(crate) authority: Authority,
}

/// Everybody who can ask the host for something within one service. Made once, when the service is linked.
pub(crate) struct Principals {
    /// What people call the service.
    service: String,
    /// First the whole, then the parts that import under a name of their own.
    all: Vec<Principal>,
    pub(crate) limits: Limits,
    pub(crate) backends: Backends,
}

impl Principals {
    /// Only the whole, until [`Principals::index`] meets parts.
    pub(crate) fn new(service: &str, whole: &Authority, limits: &Limits, backends: &Backends) -> Self {
        let whole = Principal { part: None, authority: whole.clone() };
        Self { service: service.to_owned(), all: vec![whole], limits: *limits, backends: backends.clone() }
    }

    /// The index of a part, which it gets when it is met first; `None` when there are too many.
    ///
    /// A part that nobody gave anything to is a principal too: one that may do nothing.
    pub(crate) fn index(&mut self, part: &str, authorities: &Authorities) -> Option<usize> {
        if let Some(index) = self.known(part) {
            return Some(index);
        }
        if self.all.len() == PRINCIPALS_MAX {
            return None;
        }
        let authority = authorities.parts.get(part).cloned().unwrap_or_default();
        self.all.push(Principal { part: Some(part.to_owned()), authority });
        Some(self.all.len() - 1)
    }

    /// The index of a part that was met.
    pub(crate) fn known(&self, part: &str) -> Option<usize> {
        self.all.iter().position(|principal| principal.part.as_deref() == Some(part))
    }

    /// What people call the service.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// What the principal may do.
    pub(crate) fn grants(&self, index: usize) -> &Grants {
        &self.all[index].authority.grants
    }

    /// The part's name; `None` for the whole.
    pub(crate) fn part(&self, index: usize) -> Option<&str> {
        self.all[index].part.as_deref()
    }
}

/// One principal within one request. Made when the guest first asks for something that is counted or granted.
pub(crate) struct Caller {
    principals: Arc<Principals>,
    index: usize,
    /// The request it acts for now; a stream that a guest keeps open outlives it.
    request: Mutex<Arc<str>>,
    requests: AtomicU32,
    connections: AtomicU32,
    sockets: AtomicU32,
    key_value_bytes: AtomicU64,
    /// Objects of the blob store that it holds open.
    pub(super) open_objects: Arc<AtomicU32>,
    /// Messages that it holds.
    pub(super) held_messages: Arc<AtomicU32>,
    log: Mutex<LogWindow>,
}

struct LogWindow {
    began: Instant,
    written_bytes: u64,
    dropped_bytes: u64,
}

impl Caller {
    pub(crate) fn new(principals: Arc<Principals>, index: usize, request: Arc<str>) -> Arc<Self> {
        let log = LogWindow { began: Instant::now(), written_bytes: 0, dropped_bytes: 0 };
        Arc::new(Self {
            principals,
            index,
            request: Mutex::new(request),
            requests: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            sockets: AtomicU32::new(0),
            key_value_bytes: AtomicU64::new(0),
            open_objects: Arc::default(),
            held_messages: Arc::default(),
            log: Mutex::new(log),
        })
    }

    /// Goes on for another request of the same sandbox: what is counted by the request is counted anew, and what is
    /// counted while it is held goes on counting. Of sockets, so many are still open.
    pub(crate) fn renew(&self, request: Arc<str>, sockets: u32) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        self.say_dropped(&mut log);
        *log = LogWindow { began: Instant::now(), written_bytes: 0, dropped_bytes: 0 };
        drop(log);
        *self.request.lock().unwrap_or_else(PoisonError::into_inner) = request;
        self.requests.store(0, Relaxed);
        self.key_value_bytes.store(0, Relaxed);
        self.sockets.store(sockets, Relaxed);
    }

    /// Goes on for these requests at once; the allowances begin `anew` when one has come in, so that each brings its
    /// own.
    pub(crate) fn renew_among(&self, requests: Arc<str>, anew: bool) {
        if anew {
            self.renew(requests, self.sockets());
        } else {
            *self.request.lock().unwrap_or_else(PoisonError::into_inner) = requests;
        }
    }

    /// The id of the request that it acts for.
    pub(crate) fn request(&self) -> Arc<str> {
        Arc::clone(&self.request.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sockets that were opened, and may still be open.
    pub(crate) fn sockets(&self) -> u32 {
        self.sockets.load(Relaxed)
    }

    fn principal(&self) -> &Principal {
        &self.principals.all[self.index]
    }

    /// What it was granted.
    pub(crate) fn grants(&self) -> &Grants {
        &self.principal().authority.grants
    }

    /// What it may do and use up.
    pub(crate) fn authority(&self) -> &Authority {
        &self.principal().authority
    }

    /// The limits of the whole request.
    pub(crate) fn limits(&self) -> &Limits {
        &self.principals.limits
    }

    /// What capabilities are made of.
    pub(crate) fn backends(&self) -> &Backends {
        &self.principals.backends
    }

    /// What people call the service it is a part of, or is.
    pub(crate) fn service(&self) -> &str {
        &self.principals.service
    }

    /// Whose it is, on a node of several tenants; nothing elsewhere, where a log is one app's.
    pub(crate) fn tenant_and_app(&self) -> (Option<&str>, Option<&str>) {
        let tenant = self.backends().tenant.as_deref();
        (tenant, tenant.map(|_| self.service()))
    }

    /// What people call it: the part's name, or the service's.
    pub(crate) fn name(&self) -> &str {
        self.principal().part.as_deref().unwrap_or(&self.principals.service)
    }

    /// The manifest's table that its grants stand in.
    pub(crate) fn grants_table(&self) -> String {
        grants_table(self.principal().part.as_deref())
    }

    /// Counts one more request sent; `false` when it may not send another.
    pub(crate) fn count_request(&self) -> bool {
        take(&self.requests, self.authority().outside.outbound_requests)
            || self.spent("outbound-requests", u64::from(self.authority().outside.outbound_requests))
    }

    /// Counts a connection for as long as what is returned lives; `None` when it may not hold another.
    pub(crate) fn hold_connection(self: &Arc<Self>) -> Option<HeldConnection> {
        let max = self.authority().outside.outbound_connections;
        let beside_sockets = max.saturating_sub(self.sockets());
        (take(&self.connections, beside_sockets) || self.spent("outbound-connections", u64::from(max)))
            .then(|| HeldConnection(Arc::clone(self)))
    }

    /// Counts one more socket, for the rest of the request: the engine does not say when one is closed for good.
    /// `false` when the component may not open another.
    pub(crate) fn count_socket(&self) -> bool {
        let max = self.authority().outside.outbound_connections;
        let beside_connections = max.saturating_sub(self.connections.load(Relaxed));
        take(&self.sockets, beside_connections) || self.spent("outbound-connections", u64::from(max))
    }

    /// Counts bytes of keys and values; `false` when they are more than it may read and write.
    pub(crate) fn count_key_value_bytes(&self, bytes: u64) -> bool {
        let max = self.authority().outside.key_value_bytes;
        let add = |used: u64| used.checked_add(bytes).filter(|used| *used <= max);
        self.key_value_bytes.fetch_update(Relaxed, Relaxed, add).is_ok() || self.spent("key-value-bytes", max)
    }

    /// How many of `asked` bytes may be written to the log now. The rest is counted as dropped.
    pub(crate) fn take_log_bytes(&self, asked: usize) -> usize {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(log.began) >= LOG_WINDOW {
            log.began = now;
            log.written_bytes = 0;
        }
        let left = self.authority().outside.log_bytes.saturating_sub(log.written_bytes);
        let taken = asked.min(usize::try_from(left).unwrap_or(usize::MAX));
        log.written_bytes += taken as u64;
        log.dropped_bytes = log.dropped_bytes.saturating_add((asked - taken) as u64);
        taken
    }

    /// Says in the log that the component was refused something, and the line that would grant it.
    ///
    /// The lines count as the guest's own: it cannot fill the log by asking again and again.
    pub(crate) fn refused(&self, capability: &'static str, asked: &str, line: &str) {
        let grant = format!("{}\n{line}", self.grants_table());
        if self.take_log_bytes(asked.len() + grant.len()) == asked.len() + grant.len() {
            let component = self.name();
            let request_id = &*self.request();
            let (tenant, app) = self.tenant_and_app();
            tracing::warn!(target: "tenon::grant", tenant, app, component, request_id, capability, asked, grant, "not granted");
        }
    }

    /// Says in the log that a server's certificate is not believed, and what to do about it.
    pub(crate) fn mistrusted(&self, server: &str, cause: &str, mend: &str) {
        if self.take_log_bytes(server.len() + cause.len()) == server.len() + cause.len() {
            let component = self.name();
            let request_id = &*self.request();
            let (tenant, app) = self.tenant_and_app();
            tracing::warn!(target: "tenon::http", tenant, app, component, request_id, server, cause, mend, "a server's certificate is not believed");
        }
    }

    /// Says in the log how much of what the component wrote is not there.
    fn say_dropped(&self, log: &mut LogWindow) {
        let dropped = std::mem::take(&mut log.dropped_bytes);
        if dropped > 0 {
            let (tenant, app) = self.tenant_and_app();
            tracing::warn!(
                target: "tenon::guest",
                tenant,
                app,
                component = self.name(),
                request_id = &*self.request(),
                limit = self.authority().outside.log_bytes,
                dropped,
                "the guest wrote more than it may log in a second"
            );
        }
    }

    /// Says in the log which limit the component ran into. Always `false`, for the end of a condition.
    pub(crate) fn spent(&self, limit: &'static str, value: u64) -> bool {
        if self.take_log_bytes(limit.len()) == limit.len() {
            let component = self.name();
            let request_id = &*self.request();
            let (tenant, app) = self.tenant_and_app();
            tracing::warn!(target: "tenon::limit", tenant, app, component, request_id, limit, value, "the component ran into its limit");
        }
        false
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.say_dropped(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A connection that counts for as long as this lives.
pub(crate) struct HeldConnection(Arc<Caller>);

impl Drop for HeldConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// One more, unless there are `max` already.
fn take(counter: &AtomicU32, max: u32) -> bool {
    counter.fetch_update(Relaxed, Relaxed, |used| (used < max).then(|| used + 1)).is_ok()
}

/// The manifest's table that the grants of a part, or of a component served alone, stand in.
pub(crate) fn grants_table(part: Option<&str>) -> String {
    part.map_or_else(|| "[grants]".to_owned(), |part| format!("[component.{part}.grants]"))
}

#[cfg(test)]
mod tests {
    use tenon_model::OutsideLimits;

    use super::*;

    fn caller(outside: OutsideLimits) -> Arc<Caller> {
        let whole = Authority { outside, ..Authority::default() };
        let principals = Principals::new("app", &whole, &Limits::default(), &Backends::default());
        Caller::new(Arc::new(principals), 0, "id".into())
    }

    #[test]
    fn requests_are_counted_and_connections_are_given_back() {
        let caller =
            caller(OutsideLimits { outbound_requests: 2, outbound_connections: 1, ..Default::default() });
        assert_eq!(
            [caller.count_request(), caller.count_request(), caller.count_request()],
            [true, true, false]
        );
        let held = caller.hold_connection();
        assert!(held.is_some());
        assert!(caller.hold_connection().is_none());
        drop(held);
        assert!(caller.hold_connection().is_some());
    }

    #[test]
    fn log_bytes_are_a_rate() {
        let caller = caller(OutsideLimits { log_bytes: 10, ..Default::default() });
        assert_eq!(caller.take_log_bytes(8), 8);
        assert_eq!(caller.take_log_bytes(8), 2);
        assert_eq!(caller.take_log_bytes(8), 0);
        caller.log.lock().unwrap().began -= LOG_WINDOW;
        assert_eq!(caller.take_log_bytes(8), 8);
    }

    #[test]
    fn parts_are_met_once_and_are_bounded() {
        let authorities = Authorities::default();
        let mut principals =
            Principals::new("app", &Authority::default(), &Limits::default(), &Backends::default());
        assert_eq!(principals.index("a", &authorities), Some(1));
        assert_eq!(principals.index("b", &authorities), Some(2));
        assert_eq!(principals.index("a", &authorities), Some(1));
        for part in 3..PRINCIPALS_MAX {
            assert_eq!(principals.index(&format!("part{part}"), &authorities), Some(part));
        }
        assert_eq!(principals.index("one-more", &authorities), None);
    }
}
