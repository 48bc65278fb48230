//! Who asks the host for something, and what that component has used up of what it may.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tenon_model::{Authorities, Authority, Grants, Limits};

use super::Backends;
use super::sockets::Names;
use crate::crash::CrashUsed;

/// Principals one service may have: the whole, and the parts of a composition that were granted something of their
/// own. Each needs a function of its own for every kind of state (see [`crate::host`]).
pub(crate) const PRINCIPALS_MAX: usize = 17;
/// Log bytes are counted over this time.
const LOG_WINDOW: Duration = Duration::from_secs(1);
/// What a line of the log counts beside its text, in bytes: the time, the component and the request are in it too.
const LOG_LINE_BYTES: u64 = 128;
/// What the host says in the log about one component in that time, in bytes: what the component itself writes takes none of
/// it away.
const HOST_LOG_BYTES: u64 = 16 << 10;

/// A component that the host tells apart from the others: what it is called, and what it may do.
pub(crate) struct Principal {
    /// The part's name in the composition; `None` for the whole.
    pub(crate) part: Option<String>,
    /// What it may do.
    pub(crate) authority: Authority,
    /// What all its requests write to the log.
    log: Mutex<Log>,
}

impl Principal {
    fn new(part: Option<String>, authority: Authority) -> Self {
        Self { part, authority, log: Mutex::default() }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let whole = Principal::new(None, whole.clone());
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
        self.all.push(Principal::new(Some(part.to_owned()), authority));
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

    /// What people call a principal: the part's name, or the service's.
    fn name_of<'a>(&'a self, principal: &'a Principal) -> &'a str {
        principal.part.as_deref().unwrap_or(&self.service)
    }

    /// What a request used up of what each component may, of those that used up anything.
    pub(crate) fn used(&self, spent: &[Spent]) -> Vec<CrashUsed> {
        spent.iter().flat_map(|spent| spent.used(self)).collect()
    }

    /// Says in the log how much of what a component wrote is not there.
    fn say_dropped(&self, principal: &Principal, dropped: &Dropped, request_id: Option<&str>) {
        let tenant = self.backends.tenant.as_deref();
        let app = tenant.map(|_| &*self.service);
        let component = self.name_of(principal);
        let (limit, value) = ("log-bytes", principal.authority.outside.log_bytes);
        let Dropped { lines, bytes } = *dropped;
        tracing::warn!(
            target: "tenon::guest", tenant, app, component, request_id, limit, value, dropped = bytes, lines,
            "the guest wrote more than it may log in a second"
        );
    }
}

impl Drop for Principals {
    fn drop(&mut self) {
        for principal in &self.all {
            let dropped = std::mem::take(&mut principal.log().dropped);
            if dropped.lines > 0 {
                self.say_dropped(principal, &dropped, None);
            }
        }
    }
}

/// What may be written to the log in a second.
struct LogWindow {
    began: Instant,
    written_bytes: u64,
}

impl Default for LogWindow {
    fn default() -> Self {
        Self { began: Instant::now(), written_bytes: 0 }
    }
}

impl LogWindow {
    /// How many bytes of a line there is room for now; `None` when there is none for a line.
    fn take(&mut self, line_bytes: usize, most: u64) -> Option<usize> {
        let now = Instant::now();
        if now.duration_since(self.began) >= LOG_WINDOW {
            *self = Self { began: now, written_bytes: 0 };
        }
        let left = most.saturating_sub(self.written_bytes).checked_sub(LOG_LINE_BYTES)?;
        let taken = line_bytes.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.written_bytes += LOG_LINE_BYTES + taken as u64;
        Some(taken)
    }
}

/// What a component wrote and the log had no room for.
#[derive(Default)]
struct Dropped {
    lines: u64,
    bytes: u64,
}

impl Dropped {
    fn add(&mut self, bytes: usize) {
        self.lines += 1;
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

/// What all requests of one component write to the log.
#[derive(Default)]
struct Log {
    window: LogWindow,
    /// What the host says about it.
    about: LogWindow,
    dropped: Dropped,
    /// When it was last said how much was dropped.
    said: Option<Instant>,
}

/// What one component has used up of its limits when its request is over.
#[derive(Debug)]
pub(crate) struct Spent {
    principal: usize,
    requests: u64,
    connections: u64,
    key_value_bytes: u64,
    open_objects: u64,
    messages: u64,
    pub(crate) open_files: u64,
}

impl Spent {
    fn used<'a>(&self, principals: &'a Principals) -> impl Iterator<Item = CrashUsed> + use<'a> {
        let principal = &principals.all[self.principal];
        let outside = &principal.authority.outside;
        [
            ("outbound-requests", self.requests, outside.outbound_requests.into()),
            ("outbound-connections", self.connections, outside.outbound_connections.into()),
            ("open-files", self.open_files + self.open_objects, outside.open_files.into()),
            ("key-value-bytes", self.key_value_bytes, outside.key_value_bytes),
            ("messages-held", self.messages, super::messaging::MESSAGES_HELD_MAX.into()),
        ]
        .into_iter()
        .filter(|(_, used, _)| *used > 0)
        .map(|(limit, used, most)| CrashUsed {
            component: principals.name_of(principal).to_owned(),
            limit: limit.to_owned(),
            used,
            most,
        })
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
    /// What the request may write to the log: all of them share what the component may, and none takes the time to write
    /// more than that.
    log: Mutex<LogWindow>,
    /// Whether the log had no room for a line of it.
    dropped: AtomicBool,
    /// What names of its grants stand for, while that is fresh.
    pub(super) names: Names,
}

impl Caller {
    pub(crate) fn new(principals: Arc<Principals>, index: usize, request: Arc<str>) -> Arc<Self> {
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
            log: Mutex::default(),
            dropped: AtomicBool::new(false),
            names: Names::default(),
        })
    }

    /// Goes on for another request of the same sandbox: what is counted by the request is counted anew, and what is
    /// counted while it is held goes on counting. Of sockets, so many are still open.
    pub(crate) fn renew(&self, request: Arc<str>, sockets: u32) {
        self.say_dropped();
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = LogWindow::default();
        self.names.forget();
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
        self.principals.name_of(self.principal())
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

    /// How many bytes of a line the request may still write to its part of the log, a crash report's included; `None` when
    /// it may write no line. What it may not is counted as dropped.
    pub(super) fn keep_line(&self, line_bytes: usize) -> Option<usize> {
        let most = self.authority().outside.log_bytes;
        let kept = self.log.lock().unwrap_or_else(PoisonError::into_inner).take(line_bytes, most);
        if kept != Some(line_bytes) {
            self.drop_line(line_bytes - kept.unwrap_or(0));
        }
        kept
    }

    /// How many bytes of a line that was kept the log of the node has room for; `None` when it has none for a line. What
    /// it has not is counted as dropped.
    pub(super) fn log_line(&self, line_bytes: usize) -> Option<usize> {
        let most = self.authority().outside.log_bytes;
        let logged = self.principal().log().window.take(line_bytes, most);
        if logged != Some(line_bytes) {
            self.drop_line(line_bytes - logged.unwrap_or(0));
        }
        logged
    }

    /// Counts what is not in the log.
    pub(super) fn drop_line(&self, bytes: usize) {
        self.dropped.store(true, Relaxed);
        self.principal().log().dropped.add(bytes);
    }

    /// Whether the log has room for a line about the component: it cannot fill the log by failing again and again.
    fn may_say(&self, line_bytes: usize) -> bool {
        self.principal().log().about.take(line_bytes, HOST_LOG_BYTES) == Some(line_bytes)
    }

    /// Says in the log that the component was refused something, and the line that would grant it.
    pub(crate) fn refused(&self, capability: &'static str, asked: &str, line: &str) {
        let grant = format!("{}\n{line}", self.grants_table());
        if self.may_say(asked.len() + grant.len()) {
            let component = self.name();
            let request_id = &*self.request();
            let (tenant, app) = self.tenant_and_app();
            tracing::warn!(target: "tenon::grant", tenant, app, component, request_id, capability, asked, grant, "not granted");
        }
    }

    /// Says in the log that a server's certificate is not believed, and what to do about it.
    pub(crate) fn mistrusted(&self, server: &str, cause: &str, mend: &str) {
        if self.may_say(server.len() + cause.len()) {
            let component = self.name();
            let request_id = &*self.request();
            let (tenant, app) = self.tenant_and_app();
            tracing::warn!(target: "tenon::http", tenant, app, component, request_id, server, cause, mend, "a server's certificate is not believed");
        }
    }

    /// Says in the log how much of what the component wrote is not there: once a second, whatever its requests are.
    fn say_dropped(&self) {
        if !self.dropped.swap(false, Relaxed) {
            return;
        }
        let mut log = self.principal().log();
        let now = Instant::now();
        let is_due = log.said.is_none_or(|said| now.duration_since(said) >= LOG_WINDOW);
        if !is_due || log.dropped.lines == 0 {
            // Another says it, at the latest when the service ends.
            return;
        }
        log.said = Some(now);
        let dropped = std::mem::take(&mut log.dropped);
        drop(log);
        self.principals.say_dropped(self.principal(), &dropped, Some(&self.request()));
    }

    /// What it has used up until now.
    pub(crate) fn spent_so_far(&self) -> Spent {
        Spent {
            principal: self.index,
            requests: self.requests.load(Relaxed).into(),
            connections: u64::from(self.connections.load(Relaxed)) + u64::from(self.sockets()),
            key_value_bytes: self.key_value_bytes.load(Relaxed),
            open_objects: self.open_objects.load(Relaxed).into(),
            messages: self.held_messages.load(Relaxed).into(),
            open_files: 0,
        }
    }

    /// Says in the log which limit the component ran into. Always `false`, for the end of a condition.
    pub(crate) fn spent(&self, limit: &'static str, value: u64) -> bool {
        if self.may_say(limit.len()) {
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
        self.say_dropped();
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
    fn log_bytes_are_a_rate_and_a_line_counts_whatever_is_in_it() {
        let mut window = LogWindow::default();
        let most = 2 * LOG_LINE_BYTES + 10;
        assert_eq!(window.take(8, most), Some(8));
        assert_eq!(window.take(8, most), Some(2));
        assert_eq!(window.take(0, most), None);
        window.began -= LOG_WINDOW;
        assert_eq!(window.take(8, most), Some(8));
        assert_eq!(LogWindow::default().take(0, LOG_LINE_BYTES - 1), None);
    }

    #[test]
    fn all_requests_of_a_component_share_its_log() {
        let log_bytes = 3 * LOG_LINE_BYTES;
        let first = caller(OutsideLimits { log_bytes, ..Default::default() });
        let second = Caller::new(Arc::clone(&first.principals), 0, "other".into());
        let line = |caller: &Caller| (caller.keep_line(0), caller.log_line(0));
        assert_eq!([line(&first), line(&first)], [(Some(0), Some(0)); 2]);
        // A crash report of the second has its own last lines all the same.
        assert_eq!([line(&second), line(&second)], [(Some(0), Some(0)), (Some(0), None)]);
        assert_eq!(first.principal().log().dropped.lines, 1);
        second.say_dropped();
        assert_eq!(first.principal().log().dropped.lines, 0, "it was said");
        line(&second);
        second.say_dropped();
        assert_eq!(first.principal().log().dropped.lines, 1, "and not again in the same second");
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
