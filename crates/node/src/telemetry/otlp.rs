//! OTLP over HTTP or HTTPS as JSON: metrics every few seconds, spans in batches, from a thread of its own. A collector that is
//! slow, gone or not to be trusted loses what does not fit into the queue, and nothing else.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tenon_edge::{CounterSnapshot, Observed, Outcome};
use tenon_model::{AppId, Diagnostic};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::access::protocol;
use super::prometheus::{ENDS_US, below};
use crate::capacity::resident_bytes;
use crate::live::CountedRevision;
use crate::logs::now_us;
use crate::node::Inner;

/// Spans that may wait to be sent.
const SPANS_MAX: usize = 8_192;
/// Spans that go together.
const BATCH_MAX: usize = 512;
/// How long spans wait for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How often metrics go.
const METRICS_EVERY: Duration = Duration::from_secs(10);
/// How long a collector may take.
const SEND_MAX: Duration = Duration::from_secs(5);
/// How much of its answer is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The port of collectors.
const PORT: u16 = 4_318;
/// The port of those that speak TLS: that of the scheme, for they are behind what other servers are behind.
const TLS_PORT: u16 = 443;

/// Where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Collector {
    is_tls: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    path: String,
}

impl Collector {
    /// Reads `http://HOST[:PORT][/PATH]`, or the same with `https://`.
    pub(crate) fn read(url: &str) -> Result<Self, Diagnostic> {
        let wrong = |what: &str| {
            Diagnostic::new("otlp-url", format!("`{url}` is no collector: {what}"))
                .mend("write for example `http://127.0.0.1:4318`, or `https://otel.example`")
        };
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it is neither `http://` nor `https://`")),
        };
        let host = uri.host().ok_or_else(|| wrong("it names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if is_tls && ServerName::try_from(host.as_str()).is_err() {
            return Err(wrong("no certificate can be for that host"));
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { TLS_PORT } else { PORT });
        Ok(Self { is_tls, host, port, path })
    }

    /// Whether it is spoken to over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// What a request says it is for.
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A span, as it is sent.
type Span = Value;

/// The end of the queue that spans are put in.
#[derive(Debug)]
pub(crate) struct Otlp {
    queue: SyncSender<Span>,
    dropped: Arc<AtomicU64>,
}

impl Otlp {
    /// A queue, and what sends from it once the node is there.
    pub(crate) fn new() -> (Self, Receiver<Span>) {
        let (queue, spans) = sync_channel(SPANS_MAX);
        (Self { queue, dropped: Arc::default() }, spans)
    }

    /// Starts to send, until this is dropped and the last span is sent.
    pub(crate) fn start(
        &self,
        spans: Receiver<Span>,
        collector: Collector,
        tls: Option<TlsConnector>,
        node: Weak<Inner>,
    ) -> std::io::Result<JoinHandle<()>> {
        let dropped = Arc::clone(&self.dropped);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("tenon-otlp".into()).spawn(move || {
            let sender = Sender { runtime, collector, tls, dropped, failing: false };
            sender.run(&spans, &node);
        })
    }

    /// Spans that were not sent.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(crate) fn span(&self, observed: &Observed) {
        if let Some(span) = span(observed)
            && self.queue.try_send(span).is_err()
        {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

struct Sender {
    runtime: tokio::runtime::Runtime,
    collector: Collector,
    /// Whom it trusts.
    tls: Option<TlsConnector>,
    dropped: Arc<AtomicU64>,
    failing: bool,
}

impl Sender {
    fn run(mut self, spans: &Receiver<Span>, node: &Weak<Inner>) {
        let mut batch = Vec::new();
        let mut told = Instant::now();
        loop {
            match spans.recv_timeout(BATCH_WAIT) {
                Ok(span) => {
                    batch.push(span);
                    batch.extend(spans.try_iter().take(BATCH_MAX - 1));
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The last span has gone: a queue says so only when it is empty.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !batch.is_empty() {
                let count = batch.len() as u64;
                let body = json!({ "resourceSpans": [{
                    "resource": resource(),
                    "scopeSpans": [{ "scope": { "name": "tenon" }, "spans": std::mem::take(&mut batch) }],
                }] });
                if !self.send("/v1/traces", &body) {
                    self.dropped.fetch_add(count, Relaxed);
                }
            }
            if told.elapsed() >= METRICS_EVERY {
                told = Instant::now();
                // A node that has ended has nothing more to tell, and its last spans all the same.
                let body = node.upgrade().map(|node| metrics(&node));
                if let Some(body) = body {
                    self.send("/v1/metrics", &body);
                }
            }
        }
    }

    /// Sends; whether it was taken. Says once when it begins to fail, and once when it goes again.
    fn send(&mut self, path: &str, body: &Value) -> bool {
        let post = post(&self.collector, self.tls.as_ref(), path, body.to_string().into());
        let sent = self.runtime.block_on(async {
            match tokio::time::timeout(SEND_MAX, post).await {
                Ok(sent) => sent,
                Err(_) => Err("it takes too long".to_owned()),
            }
        });
        match (&sent, self.failing) {
            (Err(cause), false) => tracing::warn!(cause, "the collector does not take what is sent"),
            (Ok(()), true) => tracing::info!("the collector takes what is sent again"),
            _ => {}
        }
        self.failing = sent.is_err();
        sent.is_ok()
    }
}

async fn post(
    collector: &Collector,
    tls: Option<&TlsConnector>,
    path: &str,
    body: Bytes,
) -> Result<(), String> {
    let Collector { is_tls, host, port, .. } = collector;
    let stream =
        tokio::net::TcpStream::connect((host.as_str(), *port)).await.map_err(|error| said(&error))?;
    if !is_tls {
        return exchange(stream, collector, path, body).await;
    }
    // Never in clear where TLS was asked for.
    let tls = tls.ok_or_else(|| "there is nobody to trust".to_owned())?;
    let name = ServerName::try_from(host.clone()).map_err(|error| said(&error))?;
    let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    exchange(stream, collector, path, body).await
}

fn said(error: &dyn std::error::Error) -> String {
    error.to_string()
}

async fn exchange<S>(stream: S, collector: &Collector, path: &str, body: Bytes) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
    let request = http::Request::post(format!("{}{path}", collector.path))
        .header(http::header::HOST, collector.authority())
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| said(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| said(&error))?;
        let status = response.status();
        let _ = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("it answers {status}")) }
    };
    tokio::pin!(connection);
    tokio::select! {
        done = exchange => done,
        ended = &mut connection => Err(ended.err().map_or_else(|| "it closed the connection".to_owned(), |error| said(&error))),
    }
}

fn resource() -> Value {
    json!({ "attributes": [
        text("service.name", "tenon"),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ] })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    // 64-bit integers are text in the JSON form of Protocol Buffers.
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn span(observed: &Observed) -> Option<Span> {
    let trace = observed.trace?;
    // A clock that was set moves the whole span, and does not stretch it.
    let end_ns = u128::from(now_us()) * 1_000;
    let began_ns = end_ns.saturating_sub(observed.arrived.elapsed().as_nanos());
    let mut attributes = vec![
        text("http.request.method", observed.method.as_str()),
        text("network.protocol.version", protocol(observed.version).trim_start_matches("HTTP/")),
        text("tenon.outcome", observed.outcome.name()),
        text("tenon.request_id", &observed.id),
        number("tenon.cpu_us", u64::try_from(observed.cpu.as_micros()).unwrap_or(u64::MAX)),
        number("tenon.memory_bytes", observed.memory_bytes),
    ];
    attributes.extend(observed.path.as_ref().map(|path| text("url.path", path.path())));
    attributes.extend(observed.status.map(|status| number("http.response.status_code", status.into())));
    attributes.extend(observed.code.map(|code| text("error.type", code)));
    if let Some(app) = &observed.app {
        attributes.push(text("tenon.tenant", app.id().tenant.as_str()));
        attributes.push(text("tenon.app", app.id().app.as_str()));
    }
    attributes.extend(observed.revision.map(|revision| text("tenon.revision", &revision.to_string())));
    let is_error = !matches!(observed.outcome, Outcome::Answered | Outcome::Gone | Outcome::Refused);
    let name = observed.app.as_ref().map_or_else(|| "request".to_owned(), |app| app.id().to_string());
    Some(json!({
        "traceId": format!("{:032x}", trace.trace_id),
        "spanId": format!("{:016x}", trace.span_id),
        "parentSpanId": trace.parent_id.map_or_else(String::new, |parent| format!("{parent:016x}")),
        "name": name,
        "kind": 2,
        "startTimeUnixNano": began_ns.to_string(),
        "endTimeUnixNano": (began_ns + observed.took.as_nanos()).to_string(),
        "attributes": attributes,
        "status": { "code": if is_error { 2 } else { 0 } },
    }))
}

/// The points of one moment: since when, until when.
struct Points {
    began: String,
    now: String,
}

impl Points {
    fn of(node: &Inner) -> Self {
        let now = u128::from(now_us()) * 1_000;
        Self { began: now.saturating_sub(node.began.elapsed().as_nanos()).to_string(), now: now.to_string() }
    }

    fn count(&self, attributes: Vec<Value>, value: u64) -> Value {
        json!({
            "attributes": attributes, "startTimeUnixNano": self.began, "timeUnixNano": self.now,
            "asInt": value.to_string(),
        })
    }

    fn amount(&self, attributes: Vec<Value>, value: f64) -> Value {
        json!({
            "attributes": attributes, "startTimeUnixNano": self.began, "timeUnixNano": self.now,
            "asDouble": value,
        })
    }

    fn latencies(&self, attributes: Vec<Value>, seen: &CounterSnapshot) -> Value {
        let below = ENDS_US.map(|end| below(seen, end));
        let all = below.iter().copied().chain([seen.requests()]);
        let counts: Vec<String> = std::iter::once(0)
            .chain(below)
            .zip(all)
            .map(|(before, upto)| upto.saturating_sub(before).to_string())
            .collect();
        let bounds = ENDS_US.map(|end| end as f64 / 1e6);
        json!({
            "attributes": attributes, "startTimeUnixNano": self.began, "timeUnixNano": self.now,
            "count": seen.requests().to_string(), "sum": seen.latency_us as f64 / 1e6,
            "explicitBounds": bounds, "bucketCounts": counts,
        })
    }

    fn gauge(&self, value: u64) -> Value {
        json!({ "dataPoints": [{ "timeUnixNano": self.now, "asInt": value.to_string() }] })
    }
}

fn sum(points: Vec<Value>) -> Value {
    json!({ "dataPoints": points, "aggregationTemporality": 2, "isMonotonic": true })
}

/// What an app is told apart by.
fn attributes_of(id: &AppId) -> Vec<Value> {
    vec![text("tenant", id.tenant.as_str()), text("app", id.app.as_str())]
}

fn metrics(node: &Inner) -> Value {
    let counted = node.live().counted();
    let points = Points::of(node);
    let mut metrics = of_apps(&points, &counted.apps);
    metrics.push(latencies(&points, &counted.revisions));
    metrics.extend(of_components(&points, &counted.revisions));
    metrics.extend([
        json!({ "name": "tenon.apps.loaded", "unit": "{app}", "gauge": points.gauge(node.loaded() as u64) }),
        json!({ "name": "process.memory.usage", "unit": "By", "gauge": points.gauge(resident_bytes()) }),
    ]);
    json!({ "resourceMetrics": [{
        "resource": resource(),
        "scopeMetrics": [{ "scope": { "name": "tenon" }, "metrics": metrics }],
    }] })
}

/// What each component of a composition used, of what its revision did.
fn of_components(points: &Points, revisions: &[CountedRevision]) -> [Value; 2] {
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    for counted in revisions {
        for used in &counted.components {
            let mut attributes = attributes_of(&counted.app);
            attributes.push(text("revision", &counted.revision.to_string()));
            attributes.push(text("component", &used.name));
            cpu.push(points.amount(attributes.clone(), used.cpu.as_secs_f64()));
            memory.push(points.amount(attributes, used.memory_byte_us as f64 / 1e6));
        }
    }
    [
        json!({ "name": "tenon.component.cpu", "unit": "s", "sum": sum(cpu) }),
        json!({ "name": "tenon.component.memory", "unit": "By.s", "sum": sum(memory) }),
    ]
}

/// What an app is billed by: it has what was refused, and stays when a revision goes.
fn of_apps(points: &Points, apps: &[(AppId, CounterSnapshot)]) -> Vec<Value> {
    let mut requests = Vec::new();
    for (id, seen) in apps {
        for outcome in Outcome::ALL.into_iter().filter(|outcome| seen.of(*outcome) > 0) {
            let mut attributes = attributes_of(id);
            attributes.push(text("outcome", outcome.name()));
            requests.push(points.count(attributes, seen.of(outcome)));
        }
    }
    let counts = |read: fn(&CounterSnapshot) -> u64| {
        let used = apps.iter().filter(|(_, seen)| read(seen) > 0);
        sum(used.map(|(id, seen)| points.count(attributes_of(id), read(seen))).collect())
    };
    let amounts = |read: fn(&CounterSnapshot) -> f64| {
        let used = apps.iter().filter(|(_, seen)| read(seen) > 0.0);
        sum(used.map(|(id, seen)| points.amount(attributes_of(id), read(seen))).collect())
    };
    vec![
        json!({ "name": "tenon.requests", "unit": "{request}", "sum": sum(requests) }),
        json!({ "name": "tenon.cpu", "unit": "s", "sum": amounts(|seen| seen.cpu_us as f64 / 1e6) }),
        json!({ "name": "tenon.memory", "unit": "By.s",
            "sum": amounts(|seen| seen.memory_kib_ms as f64 * 1.024) }),
        json!({ "name": "tenon.received", "unit": "By", "sum": counts(|seen| seen.received_bytes) }),
        json!({ "name": "tenon.sent", "unit": "By", "sum": counts(|seen| seen.sent_bytes) }),
    ]
}

fn latencies(points: &Points, revisions: &[CountedRevision]) -> Value {
    let asked = revisions.iter().filter(|it| it.seen.requests() > 0);
    let latencies: Vec<Value> = asked
        .map(|it| {
            let mut attributes = attributes_of(&it.app);
            attributes.push(text("revision", &it.revision.to_string()));
            points.latencies(attributes, &it.seen)
        })
        .collect();
    json!({ "name": "tenon.request.duration", "unit": "s",
        "histogram": { "dataPoints": latencies, "aggregationTemporality": 2 } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_told_with_all_that_it_is_billed_by() {
        let id = AppId { tenant: "acme".parse().unwrap(), app: "shop".parse().unwrap() };
        let mut seen = CounterSnapshot { cpu_us: 5, memory_kib_ms: 1_000, ..CounterSnapshot::default() };
        (seen.received_bytes, seen.sent_bytes) = (7, 9);
        seen.outcomes[Outcome::Refused as usize] = 3;
        let points = Points { began: "1".into(), now: "2".into() };
        let told = of_apps(&points, &[(id, seen)]);
        let point = |name: &str| {
            let metric = told.iter().find(|metric| metric["name"] == name).unwrap();
            metric["sum"]["dataPoints"][0].clone()
        };
        assert_eq!(
            (&point("tenon.received")["asInt"], &point("tenon.sent")["asInt"]),
            (&"7".into(), &"9".into())
        );
        assert_eq!(point("tenon.memory")["asDouble"], 1_024.0);
        let requests = point("tenon.requests");
        assert_eq!(
            (&requests["asInt"], &requests["attributes"][2]),
            (&"3".into(), &text("outcome", "refused"))
        );
    }

    #[test]
    fn a_collector_is_named_by_its_url() {
        let read = |url| Collector::read(url).map(|it| (it.is_tls, it.authority(), it.path));
        for (url, is_tls, authority, path) in [
            ("http://127.0.0.1:4318", false, "127.0.0.1:4318", ""),
            ("http://otel/x/", false, "otel:4318", "/x"),
            ("https://otel.example", true, "otel.example:443", ""),
            ("https://otel.example:4318/v", true, "otel.example:4318", "/v"),
            ("https://[::1]:9", true, "[::1]:9", ""),
        ] {
            assert_eq!(read(url).unwrap(), (is_tls, authority.to_owned(), path.to_owned()), "{url}");
        }
        for wrong in ["ftp://a", "otel:4318", "", "http://", "https://a..b"] {
            assert_eq!(read(wrong).unwrap_err().code, "otlp-url", "{wrong}");
        }
    }
}
