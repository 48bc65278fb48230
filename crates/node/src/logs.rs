//! What apps write, and what of their requests fails: the last lines of each app, for whoever asks, as they come.
//!
//! Lines are handed over through a bounded queue to a thread that sorts them. A queue that is full drops, and counts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tenon_model::{AppId, TenantId};
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::wire::LogLine;

/// Lines that may wait to be sorted.
const WAITING_MAX: usize = 10_000;
/// Lines of one app that are kept.
const LINES_MAX: usize = 1_000;
/// Bytes of one app's lines that are kept, as they lie in memory.
const LINES_BYTES_MAX: usize = 1 << 20;
/// Bytes of all apps' lines that are kept; when there are more, those of the app that was silent the longest go.
const ALL_BYTES_MAX: usize = 64 << 20;
/// Apps whose lines are kept; when there is one more, those of the app that was silent the longest go.
const APPS_MAX: usize = 4_096;
/// Apps that are followed at once, in all and of one tenant.
const FOLLOWED_MAX: usize = 256;
const FOLLOWED_OF_TENANT_MAX: usize = 32;
/// Lines that somebody who follows may be behind.
const BEHIND_MAX: usize = 1_024;
/// What the first of a line's fields takes, beside its text: they come in nodes of eleven.
const FIELDS_BYTES: usize = 11 * 2 * size_of::<String>() + 32;
/// The targets of what is said about one app.
const TARGETS: [&str; 5] = ["tenon::guest", "tenon::grant", "tenon::limit", "tenon::http", "tenon::message"];

/// The lines of all apps.
#[derive(Debug, Default)]
pub struct Logs {
    queue: OnceLock<SyncSender<(AppId, LogLine)>>,
    dropped: AtomicU64,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    kept: HashMap<AppId, Kept>,
    /// Bytes of all lines that are kept.
    bytes: usize,
    /// Only of apps that somebody follows.
    followers: HashMap<AppId, broadcast::Sender<LogLine>>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    last_us: u64,
}

/// More apps are followed than may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyFollowed;

impl Logs {
    /// No lines yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What takes the lines out of the log. It takes nothing until a node with these lines has started.
    pub fn layer(self: &Arc<Self>) -> LogLayer {
        LogLayer(Arc::clone(self))
    }

    /// Lines that were thrown away because too many came at once.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Begins to sort what comes.
    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        if self.queue.set(sender).is_err() {
            return Ok(());
        }
        let logs = Arc::downgrade(self);
        std::thread::Builder::new().name("tenon-logs".into()).spawn(move || {
            let receiver: Receiver<(AppId, LogLine)> = receiver;
            while let Ok((app, line)) = receiver.recv() {
                let Some(logs) = logs.upgrade() else { return };
                logs.keep(app, line);
            }
        })?;
        Ok(())
    }

    /// One more line of an app. Never waits.
    pub(crate) fn push(&self, app: AppId, line: LogLine) {
        let Some(queue) = self.queue.get() else { return };
        if queue.try_send((app, line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, app: AppId, line: LogLine) {
        self.all().keep(app, line);
    }

    /// The last lines of an app.
    pub(crate) fn last(&self, app: &AppId) -> Vec<LogLine> {
        self.all().last(app)
    }

    /// Forgets the lines of a tenant's apps.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.all().forget(tenant);
    }

    /// The last lines of an app, and those that come from now on.
    pub(crate) fn follow(
        &self,
        app: &AppId,
    ) -> Result<(Vec<LogLine>, broadcast::Receiver<LogLine>), TooManyFollowed> {
        let mut all = self.all();
        let receiver = match all.followers.get(app) {
            Some(followers) => followers.subscribe(),
            None => all.first_follower(app)?,
        };
        Ok((all.last(app), receiver))
    }
}

impl All {
    fn keep(&mut self, app: AppId, line: LogLine) {
        self.tell(&app, &line);
        if self.kept.len() >= APPS_MAX && !self.kept.contains_key(&app) {
            self.forget_one_but(&app);
        }
        let kept = self.kept.entry(app.clone()).or_default();
        let before = kept.bytes;
        kept.push(line);
        self.bytes = self.bytes + kept.bytes - before;
        while self.bytes > ALL_BYTES_MAX && self.forget_one_but(&app) {}
    }

    fn forget(&mut self, tenant: &TenantId) {
        let gone =
            self.kept.extract_if(|app, _| app.tenant == *tenant).map(|(_, kept)| kept.bytes).sum::<usize>();
        self.bytes -= gone;
        self.followers.retain(|app, _| app.tenant != *tenant);
    }

    /// Forgets the lines of the app that was silent the longest; whether there was one.
    fn forget_one_but(&mut self, app: &AppId) -> bool {
        let others = self.kept.iter().filter(|(other, _)| *other != app);
        let Some(oldest) = others.min_by_key(|(_, kept)| kept.last_us).map(|(app, _)| app.clone()) else {
            return false;
        };
        self.bytes -= self.kept.remove(&oldest).map_or(0, |kept| kept.bytes);
        true
    }

    /// Hands a line to those who follow; where the last has gone, what it would have come through goes too.
    fn tell(&mut self, app: &AppId, line: &LogLine) {
        if let Some(followers) = self.followers.get(app)
            && followers.send(line.clone()).is_err()
        {
            self.followers.remove(app);
        }
    }

    fn first_follower(&mut self, app: &AppId) -> Result<broadcast::Receiver<LogLine>, TooManyFollowed> {
        self.followers.retain(|_, followers| followers.receiver_count() > 0);
        let own = self.followers.keys().filter(|other| other.tenant == app.tenant).count();
        if self.followers.len() >= FOLLOWED_MAX || own >= FOLLOWED_OF_TENANT_MAX {
            return Err(TooManyFollowed);
        }
        let (sender, receiver) = broadcast::channel(BEHIND_MAX);
        self.followers.insert(app.clone(), sender);
        Ok(receiver)
    }

    fn last(&self, app: &AppId) -> Vec<LogLine> {
        self.kept.get(app).map_or_else(Vec::new, |kept| kept.lines.iter().cloned().collect())
    }
}

impl Kept {
    fn push(&mut self, line: LogLine) {
        self.bytes += size(&line);
        self.last_us = line.at_us;
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > LINES_BYTES_MAX {
            let Some(gone) = self.lines.pop_front() else { break };
            self.bytes -= size(&gone);
        }
    }
}

/// What a line takes in memory.
fn size(line: &LogLine) -> usize {
    let fields = line.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let nodes = line.fields.len().div_ceil(11) * FIELDS_BYTES;
    let texts = [&line.level, &line.source, &line.component, &line.request_id, &line.message];
    size_of::<LogLine>() + texts.iter().map(|text| text.len()).sum::<usize>() + fields + nodes
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Takes what apps write out of the log.
#[derive(Debug)]
pub struct LogLayer(Arc<Logs>);

impl<S: tracing::Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        if !TARGETS.contains(&meta.target()) || self.0.queue.get().is_none() {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let Said { message, mut fields } = said;
        let mut take = |name: &str| fields.remove(name).unwrap_or_default();
        let (tenant, app) = (take("tenant"), take("app"));
        let (Ok(tenant), Ok(app)) = (tenant.parse(), app.parse()) else { return };
        let source = if meta.target() == "tenon::guest" { "guest" } else { "node" };
        // A guest says itself how serious it is.
        let level = match take("level") {
            level if level.is_empty() => meta.level().as_str().to_ascii_lowercase(),
            level => level,
        };
        let (component, request_id) = (take("component"), take("request_id"));
        let line =
            LogLine { at_us: now_us(), level, source: source.into(), component, request_id, message, fields };
        self.0.push(AppId { tenant, app }, line);
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: BTreeMap<String, String>,
}

impl Said {
    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> LogLine {
        LogLine {
            at_us: 1,
            level: "info".into(),
            source: "guest".into(),
            component: String::new(),
            request_id: String::new(),
            message: message.into(),
            fields: BTreeMap::new(),
        }
    }

    fn app(name: &str) -> AppId {
        AppId { tenant: "acme".parse().unwrap(), app: name.parse().unwrap() }
    }

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let logs = Logs::new();
        for number in 0..LINES_MAX + 5 {
            logs.keep(app("a"), line(&number.to_string()));
        }
        let (kept, mut coming) = logs.follow(&app("a")).unwrap();
        assert_eq!((kept.len(), kept[0].message.as_str()), (LINES_MAX, "5"));
        logs.keep(app("b"), line("of another"));
        logs.keep(app("a"), line("next"));
        assert_eq!(coming.try_recv().unwrap().message, "next");
        logs.keep(app("a"), line(&"x".repeat(LINES_BYTES_MAX - 100)));
        assert!(logs.last(&app("a")).len() < 3);
    }

    #[test]
    fn the_lines_of_all_apps_together_are_bounded_and_those_of_silent_ones_go_first() {
        let logs = Logs::new();
        let large = "x".repeat(LINES_BYTES_MAX / 2);
        for number in 0..200 {
            logs.keep(app(&format!("app-{number}")), LogLine { at_us: number, ..line(&large) });
        }
        let all = logs.all();
        assert_eq!(all.bytes, all.kept.values().map(|kept| kept.bytes).sum::<usize>());
        assert!(all.bytes <= ALL_BYTES_MAX && all.bytes > ALL_BYTES_MAX / 2, "{}", all.bytes);
        assert!(all.kept.contains_key(&app("app-199")) && !all.kept.contains_key(&app("app-0")));
    }

    #[test]
    fn the_lines_of_a_tenant_go_with_it() {
        let logs = Logs::new();
        let of_another = AppId { tenant: "zeta".parse().unwrap(), ..app("a") };
        logs.keep(app("a"), line("of the one"));
        logs.keep(of_another.clone(), line("of the other"));
        let mut coming = logs.follow(&app("a")).unwrap().1;
        logs.forget(&app("a").tenant);
        assert_eq!((logs.last(&app("a")).len(), logs.last(&of_another).len()), (0, 1));
        assert!(coming.try_recv().is_err(), "nobody follows the next one of that name");
        let all = logs.all();
        assert_eq!(all.bytes, all.kept.values().map(|kept| kept.bytes).sum::<usize>());
    }

    #[test]
    fn who_follows_costs_something_only_as_long_as_they_do() {
        let logs = Logs::new();
        logs.keep(app("a"), line("nobody follows"));
        assert!(logs.all().followers.is_empty());
        let following: Vec<_> = (0..FOLLOWED_OF_TENANT_MAX)
            .map(|number| logs.follow(&app(&format!("app-{number}"))).unwrap().1)
            .collect();
        assert_eq!(logs.follow(&app("a")).unwrap_err(), TooManyFollowed);
        let of_another = AppId { tenant: "zeta".parse().unwrap(), ..app("a") };
        assert!(logs.follow(&of_another).is_ok());
        assert!(logs.follow(&app("app-0")).is_ok(), "one more of the same costs no more");
        assert_eq!(logs.all().kept.len(), 1, "nothing is kept of apps that only were followed");
        drop(following);
        assert!(logs.follow(&app("a")).is_ok());
        logs.keep(app("a"), line("the last has gone"));
        assert!(logs.all().followers.is_empty());
    }

    #[test]
    fn lines_are_taken_out_of_the_log_by_their_app() {
        use tracing_subscriber::layer::SubscriberExt as _;
        let logs = Logs::new();
        logs.start().unwrap();
        let subscriber = tracing_subscriber::registry().with(logs.layer());
        let mut coming = logs.follow(&app("a")).unwrap().1;
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "tenon::guest", "of an app that is served alone");
            tracing::info!(target: "tenon::other", tenant = "acme", app = "a", "something else");
            let (tenant, name) = (Some("acme"), Some("a"));
            tracing::warn!(target: "tenon::guest", tenant, app = name, stream = "stdout", component = "c", request_id = "r", "{}", "hello");
            tracing::error!(target: "tenon::message", tenant, app = name, attempt = 2, "a message was not handled");
        });
        let line = coming.blocking_recv().unwrap();
        let said =
            (line.message.as_str(), line.level.as_str(), line.component.as_str(), line.request_id.as_str());
        assert_eq!(said, ("hello", "warn", "c", "r"));
        assert_eq!(line.fields, [("stream".to_owned(), "stdout".to_owned())].into());
        let line = coming.blocking_recv().unwrap();
        assert_eq!((line.message.as_str(), line.source.as_str()), ("a message was not handled", "node"));
        assert_eq!(line.fields, [("attempt".to_owned(), "2".to_owned())].into());
        assert!(coming.try_recv().is_err());
    }
}
