//! The access log: a line of JSON for each request.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde_json::json;
use tenon_edge::Observed;
use tenon_model::format_time;

/// Lines that may wait to be written.
const WAITING_MAX: usize = 16_384;

/// Writes lines from a thread of its own: whoever reads them slowly makes it drop some, and nothing else wait.
#[derive(Debug)]
pub(crate) struct AccessLog {
    queue: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// The log, and the thread that writes it: it ends when the log was dropped and its last line is written.
    pub(crate) fn start(mut to: Box<dyn Write + Send>) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, lines) = sync_channel::<String>(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let writer = std::thread::Builder::new().name("tenon-access-log".into()).spawn(move || {
            while let Ok(line) = lines.recv() {
                if to.write_all(line.as_bytes()).and_then(|()| to.flush()).is_err() {
                    lost.fetch_add(1, Relaxed);
                }
            }
        })?;
        Ok((Self { queue, dropped }, writer))
    }

    /// Lines that were not written.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(crate) fn write(&self, observed: &Observed) {
        if self.queue.try_send(line(observed)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

fn line(observed: &Observed) -> String {
    let app = observed.app.as_ref().map(|app| app.id());
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let line = json!({
        "time": format_time(std::time::SystemTime::now()),
        "tenant": app.map(|app| app.tenant.as_str()),
        "app": app.map(|app| app.app.as_str()),
        "revision": observed.revision.map(|revision| revision.to_string()),
        "id": &*observed.id,
        "protocol": protocol(observed.version),
        "method": observed.method.as_str(),
        // What follows `?` may be a secret.
        "path": observed.path.as_ref().map(http::uri::PathAndQuery::path),
        "status": observed.status,
        "outcome": observed.outcome.name(),
        "code": observed.code,
        "crash": observed.crash.as_deref(),
        "took_us": micros(observed.took),
        "cpu_us": micros(observed.cpu),
        "memory_bytes": observed.memory_bytes,
        "received_bytes": observed.received_bytes,
        "sent_bytes": observed.sent_bytes,
        "trace_id": observed.trace.map(|trace| format!("{:032x}", trace.trace_id)),
    });
    format!("{line}\n")
}

/// As it is commonly written.
pub(super) fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_11 => "HTTP/1.1",
        http::Version::HTTP_2 => "HTTP/2",
        http::Version::HTTP_3 => "HTTP/3",
        _ => "HTTP",
    }
}
