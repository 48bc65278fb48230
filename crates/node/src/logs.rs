//! What apps write, and what of their requests fails: the last lines of each app, for whoever asks, as they come.
//!
//! Lines are handed over through a bounded queue to a thread that sorts them. A queue that is full drops, and counts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tenon_model::AppId;
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::wire::LogLine;

/// Lines that may wait to be sorted.
const WAITING_MAX: usize = 10_000;
/// Lines of one app that are kept.
const LINES_MAX: usize = 1_000;
/// Bytes of one app's lines that are kept.
const LINES_BYTES_MAX: usize = 256 << 10;
/// Apps whose lines are kept; when there is one more, those of the app that was silent the longest go.
const APPS_MAX: usize = 4_096;
/// Lines that somebody who follows may be behind.
const BEHIND_MAX: usize = 1_024;
/// The targets of what is said about one app.
const TARGETS: [&str; 4] = ["tenon::guest", "tenon::grant", "tenon::limit", "tenon::http"];

/// The lines of all apps.
#[derive(Debug, Default)]
pub struct Logs {
    queue: OnceLock<SyncSender<(AppId, LogLine)>>,
    dropped: AtomicU64,
    kept: Mutex<HashMap<AppId, Kept>>,
}

#[derive(Debug)]
struct Kept {
    lines: VecDeque<LogLine>,
    bytes: usize,
    last_us: u64,
    followers: broadcast::Sender<LogLine>,
}

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

    fn kept(&self) -> MutexGuard<'_, HashMap<AppId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, app: AppId, line: LogLine) {
        let mut all = self.kept();
        if all.len() >= APPS_MAX && !all.contains_key(&app) {
            let silent = all.iter().filter(|(_, kept)| kept.followers.receiver_count() == 0);
            if let Some(oldest) = silent.min_by_key(|(_, kept)| kept.last_us).map(|(app, _)| app.clone()) {
                all.remove(&oldest);
            }
        }
        let kept = all.entry(app).or_insert_with(Kept::new);
        kept.bytes += size(&line);
        kept.last_us = line.at_us;
        kept.lines.push_back(line.clone());
        while kept.lines.len() > LINES_MAX || kept.bytes > LINES_BYTES_MAX {
            let Some(gone) = kept.lines.pop_front() else { break };
            kept.bytes -= size(&gone);
        }
        // Nobody may follow.
        let _ = kept.followers.send(line);
    }

    /// The last lines of an app, and those that come from now on.
    pub(crate) fn follow(&self, app: &AppId) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let mut all = self.kept();
        let kept = all.entry(app.clone()).or_insert_with(Kept::new);
        (kept.lines.iter().cloned().collect(), kept.followers.subscribe())
    }
}

impl Kept {
    fn new() -> Self {
        Self { lines: VecDeque::new(), bytes: 0, last_us: 0, followers: broadcast::channel(BEHIND_MAX).0 }
    }
}

fn size(line: &LogLine) -> usize {
    let fields = line.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    line.message.len() + line.component.len() + line.request_id.len() + fields + 64
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
        let (kept, mut coming) = logs.follow(&app("a"));
        assert_eq!((kept.len(), kept[0].message.as_str()), (LINES_MAX, "5"));
        logs.keep(app("b"), line("of another"));
        logs.keep(app("a"), line("next"));
        assert_eq!(coming.try_recv().unwrap().message, "next");
        logs.keep(app("a"), line(&"x".repeat(LINES_BYTES_MAX - 100)));
        assert!(logs.follow(&app("a")).0.len() < 3);
    }

    #[test]
    fn lines_are_taken_out_of_the_log_by_their_app() {
        use tracing_subscriber::layer::SubscriberExt as _;
        let logs = Logs::new();
        logs.start().unwrap();
        let subscriber = tracing_subscriber::registry().with(logs.layer());
        let mut coming = logs.follow(&app("a")).1;
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "tenon::guest", "of an app that is served alone");
            tracing::info!(target: "tenon::other", tenant = "acme", app = "a", "something else");
            let (tenant, name) = (Some("acme"), Some("a"));
            tracing::warn!(target: "tenon::guest", tenant, app = name, stream = "stdout", component = "c", request_id = "r", "{}", "hello");
        });
        let line = coming.blocking_recv().unwrap();
        let said =
            (line.message.as_str(), line.level.as_str(), line.component.as_str(), line.request_id.as_str());
        assert_eq!(said, ("hello", "warn", "c", "r"));
        assert_eq!(line.fields, [("stream".to_owned(), "stdout".to_owned())].into());
        assert!(coming.try_recv().is_err());
    }
}
