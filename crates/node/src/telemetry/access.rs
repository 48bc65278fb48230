//! The access log: a line of JSON for each request and each message.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;

use serde_json::{Map, Value, json};
use tenon_edge::{Observed, What};
use tenon_model::format_time;

use super::queue::{Inlet, queue};
use crate::config::Reopen;

/// What is kept of the host that a client names: as long as a name in the DNS can be, with a port.
const HOST_BYTES_MAX: usize = 260;

/// Writes lines from a thread of its own: whoever reads them slowly makes it drop some, and nothing else wait.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: Inlet,
    /// Whether it is to be opened anew.
    again: Arc<AtomicBool>,
}

impl AccessLog {
    /// The log, and the thread that writes it: it ends when the log was dropped and its last line is written.
    pub(crate) fn start(
        mut to: Box<dyn Write + Send>,
        reopen: Option<Reopen>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (inlet, lines) = queue();
        let again = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&again);
        let writer = std::thread::Builder::new().name("tenon-access-log".into()).spawn(move || {
            while let Some(line) = lines.next() {
                // Here, for opening can take as long as writing.
                if let (true, Some(reopen)) = (asked.swap(false, SeqCst), &reopen) {
                    match reopen() {
                        Ok(opened) => {
                            to = opened;
                            tracing::info!("the access log was opened anew");
                        }
                        Err(error) => tracing::error!(
                            %error,
                            "the access log cannot be opened anew: it is written on where it was"
                        ),
                    }
                }
                lines.write(&line, &mut to);
            }
        })?;
        Ok((Self { lines: inlet, again }, writer))
    }

    /// Opens it anew before the next line, as it was opened at the start: its file was moved away.
    pub(crate) fn reopen(&self) {
        self.again.store(true, SeqCst);
        self.lines.wake();
    }

    /// Lines that were not written.
    pub(crate) fn dropped(&self) -> u64 {
        self.lines.dropped()
    }

    pub(crate) fn write(&self, observed: &Observed) {
        self.lines.put(line(observed).into_bytes());
    }
}

fn line(observed: &Observed) -> String {
    let app = observed.app.as_ref().map(|app| app.id());
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut line = json!({
        "time": format_time(std::time::SystemTime::now()),
        "tenant": app.map(|app| app.tenant.as_str()),
        "app": app.map(|app| app.app.as_str()),
        "revision": observed.revision.map(|revision| revision.to_string()),
        "id": &*observed.id,
        "outcome": observed.outcome_name(),
        "code": observed.code,
        "crash": observed.crash.as_deref(),
        "took_us": micros(observed.took),
        "cpu_us": micros(observed.cpu),
        "memory_bytes": observed.memory_bytes,
        "received_bytes": observed.received_bytes,
        "trace_id": observed.trace.map(|trace| format!("{:032x}", trace.trace_id)),
    });
    if let Value::Object(line) = &mut line {
        line.extend(of_what(observed));
    }
    format!("{line}\n")
}

/// What only a request has, or only a message.
fn of_what(observed: &Observed) -> Map<String, Value> {
    let fields = match &observed.what {
        What::Request(head) => json!({
            "kind": "request",
            "client": head.client.to_string(),
            "host": head.host.as_ref().map(|host| host_of(host.as_bytes())),
            "protocol": protocol(head.version),
            "method": head.method.as_str(),
            // What follows `?` may be a secret.
            "path": head.path.as_ref().map(http::uri::PathAndQuery::path),
            "status": observed.status,
            "sent_bytes": observed.sent_bytes,
        }),
        What::Message(head) => json!({
            "kind": "message",
            "topic": &*head.topic,
            "number": head.number,
            "attempt": head.attempt,
        }),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The host that a client named, without what may be a secret before it (`user:password@`).
fn host_of(authority: &[u8]) -> String {
    let host = authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
    let mut host = String::from_utf8_lossy(host).into_owned();
    host.truncate(host.floor_char_boundary(HOST_BYTES_MAX));
    host
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_kept_without_secrets_and_not_however_long_it_is() {
        assert_eq!(host_of(b"shop.example:8080"), "shop.example:8080");
        assert_eq!(host_of(b"ada:secret@shop.example"), "shop.example");
        assert_eq!(host_of(&[b'a'; 9_000]).len(), HOST_BYTES_MAX);
        assert_eq!(host_of(b"\xff"), "\u{fffd}");
    }
}
