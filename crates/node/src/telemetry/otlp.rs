//! OTLP over HTTP or HTTPS as JSON: metrics every few seconds and at the end, spans in batches, from a thread of its own. A
//! collector that is slow, gone or not to be trusted loses what does not fit into the queue, and nothing else.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tenon_edge::{Observed, Outcome, What};
use tenon_model::Diagnostic;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Outlets;
use super::access::protocol;
use super::metrics::{self, ENDS_US, Gathered, Kind, Metric, Point};
use super::queue::{Ended, Inlet, Outlet, queue};
use crate::logs::now_us;
use crate::node::Inner;

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
/// `SPAN_KIND_SERVER` and `SPAN_KIND_CONSUMER`.
const KIND_SERVER: u32 = 2;
const KIND_CONSUMER: u32 = 5;
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

/// The end of the queue that spans are put in, as they are sent.
#[derive(Debug)]
pub(crate) struct Otlp {
    queue: Inlet,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Spans that the collector did not take.
    unsent: AtomicU64,
    /// The last metrics, once the node ends.
    last: Mutex<Option<Bytes>>,
}

impl Otlp {
    /// A queue, and what sends from it once the node is there.
    pub(crate) fn new() -> (Self, Spans) {
        let (inlet, outlet) = queue();
        (Self { queue: inlet, shared: Arc::default() }, Spans(outlet))
    }

    /// Starts to send, until this is dropped and the last span is sent.
    pub(crate) fn start(
        &self,
        Spans(spans): Spans,
        collector: Collector,
        tls: Option<TlsConnector>,
        (node, outlets): (&Arc<Inner>, &Arc<Outlets>),
    ) -> std::io::Result<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        // Not held: the queue ends when nobody can put anything into it.
        let (node, outlets) = (Arc::downgrade(node), Arc::downgrade(outlets));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("tenon-otlp".into()).spawn(move || {
            let sender = Sender { runtime, collector, tls, shared, failing: false };
            sender.run(&spans, &node, &outlets);
        })
    }

    /// Spans that did not fit into the queue.
    pub(crate) fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Spans that the collector did not take.
    pub(crate) fn unsent(&self) -> u64 {
        self.shared.unsent.load(Relaxed)
    }

    pub(crate) fn span(&self, observed: &Observed) {
        if let Some(span) = span(observed) {
            self.queue.put(span.to_string().into_bytes());
        }
    }

    /// Has the metrics of this moment sent, as the last.
    pub(crate) fn finish(&self, node: &Inner, outlets: &Outlets) {
        let body = everything_counted(node, outlets);
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

/// The end that spans are sent from.
#[derive(Debug)]
pub(crate) struct Spans(Outlet);

struct Sender {
    runtime: tokio::runtime::Runtime,
    collector: Collector,
    /// Whom it trusts.
    tls: Option<TlsConnector>,
    shared: Arc<Shared>,
    failing: bool,
}

impl Sender {
    fn run(mut self, spans: &Outlet, node: &Weak<Inner>, outlets: &Weak<Outlets>) {
        let mut told = Instant::now();
        loop {
            match spans.next_within(BATCH_WAIT) {
                Ok(Some(first)) => {
                    let mut batch = vec![first];
                    batch.extend(spans.waiting().take(BATCH_MAX - 1));
                    self.send_spans(&batch);
                    spans.done(batch.iter().map(Vec::len).sum());
                }
                Ok(None) => {}
                // The last span has gone: a queue says so only when it is empty.
                Err(Ended) => {
                    self.send_last();
                    return;
                }
            }
            self.send_last();
            if told.elapsed() >= METRICS_EVERY {
                told = Instant::now();
                // A node that has ended has nothing more to tell, and its last spans all the same.
                let there = node.upgrade().zip(outlets.upgrade());
                let body = there.map(|(node, outlets)| everything_counted(&node, &outlets));
                if let Some(body) = body {
                    self.send("/v1/metrics", body);
                }
            }
        }
    }

    fn send_spans(&mut self, batch: &[Vec<u8>]) {
        let resource = resource();
        let mut body = format!(
            "{{\"resourceSpans\":[{{\"resource\":{resource},\"scopeSpans\":[{{\"scope\":{{\"name\":\"tenon\"}},\"spans\":["
        )
        .into_bytes();
        body.extend(batch.join(&b','));
        body.extend(b"]}]}]}");
        if !self.send("/v1/traces", body.into()) {
            self.shared.unsent.fetch_add(batch.len() as u64, Relaxed);
        }
    }

    /// Sends the last metrics, if the node ends: before the spans that still wait, for the collector may be slow.
    fn send_last(&mut self) {
        let last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(body) = last {
            self.send("/v1/metrics", body);
        }
    }

    /// Sends; whether it was taken. Says once when it begins to fail, and once when it goes again.
    fn send(&mut self, path: &str, body: Bytes) -> bool {
        let post = post(&self.collector, self.tls.as_ref(), path, body);
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

fn span(observed: &Observed) -> Option<Value> {
    let trace = observed.trace?;
    // A clock that was set moves the whole span, and does not stretch it.
    let end_ns = u128::from(now_us()) * 1_000;
    let began_ns = end_ns.saturating_sub(observed.arrived.elapsed().as_nanos());
    let mut attributes = vec![
        text("tenon.outcome", observed.outcome_name()),
        text("tenon.request_id", &observed.id),
        number("tenon.cpu_us", u64::try_from(observed.cpu.as_micros()).unwrap_or(u64::MAX)),
        number("tenon.memory_bytes", observed.memory_bytes),
    ];
    let (kind, fallback) = match &observed.what {
        What::Request(head) => {
            attributes.push(text("http.request.method", head.method.as_str()));
            let version = protocol(head.version).trim_start_matches("HTTP/");
            attributes.push(text("network.protocol.version", version));
            attributes.extend(head.path.as_ref().map(|path| text("url.path", path.path())));
            (KIND_SERVER, "request")
        }
        What::Message(head) => {
            attributes.push(text("messaging.system", "tenon"));
            attributes.push(text("messaging.operation.type", "process"));
            attributes.push(text("messaging.destination.name", &head.topic));
            attributes.push(number("tenon.message.number", head.number));
            attributes.push(number("tenon.message.attempt", head.attempt.into()));
            (KIND_CONSUMER, "message")
        }
    };
    attributes.extend(observed.status.map(|status| number("http.response.status_code", status.into())));
    attributes.extend(observed.code.map(|code| text("error.type", code)));
    if let Some(app) = &observed.app {
        attributes.push(text("tenon.tenant", app.id().tenant.as_str()));
        attributes.push(text("tenon.app", app.id().app.as_str()));
    }
    attributes.extend(observed.revision.map(|revision| text("tenon.revision", &revision.to_string())));
    let is_error = !matches!(observed.outcome, Outcome::Answered | Outcome::Gone | Outcome::Refused);
    let name = observed.app.as_ref().map_or_else(|| fallback.to_owned(), |app| app.id().to_string());
    Some(json!({
        "traceId": format!("{:032x}", trace.trace_id),
        "spanId": format!("{:016x}", trace.span_id),
        "parentSpanId": trace.parent_id.map_or_else(String::new, |parent| format!("{parent:016x}")),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": began_ns.to_string(),
        "endTimeUnixNano": (began_ns + observed.took.as_nanos()).to_string(),
        "attributes": attributes,
        "status": { "code": if is_error { 2 } else { 0 } },
    }))
}

/// The table of metrics as OTLP has it: of one moment, since the node's start.
struct Points {
    began: String,
    now: String,
}

impl Points {
    fn of(node: &Inner) -> Self {
        let now = u128::from(now_us()) * 1_000;
        Self { began: now.saturating_sub(node.began.elapsed().as_nanos()).to_string(), now: now.to_string() }
    }

    fn point(&self, kind: Kind, point: &Point) -> Value {
        let attributes: Vec<Value> = point.labels().map(|(name, value)| text(name, value)).collect();
        let mut told = json!({ "attributes": attributes, "timeUnixNano": self.now });
        if kind != Kind::Gauge {
            told["startTimeUnixNano"] = self.began.as_str().into();
        }
        match &point.value {
            // 64-bit integers are text in the JSON form of Protocol Buffers.
            metrics::Value::Count(count) => told["asInt"] = count.to_string().into(),
            metrics::Value::Amount(amount) => told["asDouble"] = (*amount).into(),
            metrics::Value::Latencies(latencies) => {
                let (below, requests) = (ENDS_US.map(|end| latencies.below(end)), latencies.requests());
                let ends = below.iter().copied().chain([requests]);
                let begins = std::iter::once(0).chain(below);
                let counts = begins.zip(ends).map(|(before, upto)| upto.saturating_sub(before).to_string());
                told["bucketCounts"] = counts.collect();
                told["explicitBounds"] = ENDS_US.iter().map(|end| *end as f64 / 1e6).collect();
                told["count"] = requests.to_string().into();
                told["sum"] = (latencies.sum_us as f64 / 1e6).into();
            }
        }
        told
    }

    fn metric(&self, metric: &Metric) -> Value {
        let Metric { otlp, kind, unit, help, points, .. } = metric;
        let points: Vec<Value> = points.iter().map(|point| self.point(*kind, point)).collect();
        let mut told = json!({ "name": otlp, "unit": unit, "description": help });
        match kind {
            Kind::Counter => {
                told["sum"] =
                    json!({ "dataPoints": points, "aggregationTemporality": 2, "isMonotonic": true });
            }
            Kind::Gauge => told["gauge"] = json!({ "dataPoints": points }),
            Kind::Histogram => {
                told["histogram"] = json!({ "dataPoints": points, "aggregationTemporality": 2 });
            }
        }
        told
    }
}

/// Everything that is counted.
fn everything_counted(node: &Inner, outlets: &Outlets) -> Bytes {
    let points = Points::of(node);
    let metrics = Gathered::of(node, outlets).metrics();
    let metrics: Vec<Value> = metrics.iter().map(|metric| points.metric(metric)).collect();
    let body = json!({ "resourceMetrics": [{
        "resource": resource(),
        "scopeMetrics": [{ "scope": { "name": "tenon" }, "metrics": metrics }],
    }] });
    body.to_string().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::metrics::tests::everything;
    use super::*;

    #[test]
    fn every_row_of_the_table_is_sent() {
        let points = Points { began: "1".into(), now: "2".into() };
        for metric in everything().metrics() {
            let told = points.metric(&metric);
            assert_eq!((&told["name"], &told["unit"]), (&metric.otlp.into(), &metric.unit.into()));
            let kind = match metric.kind {
                Kind::Counter => "sum",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let sent = told[kind]["dataPoints"].as_array().unwrap();
            assert_eq!(sent.len(), metric.points.len(), "{told:#}");
            for (sent, point) in sent.iter().zip(&metric.points) {
                let keys = |value: &Value| value["key"].as_str().unwrap().to_owned();
                let sent: BTreeSet<_> = sent["attributes"].as_array().unwrap().iter().map(keys).collect();
                assert_eq!(sent, point.labels().map(|(name, _)| name.to_owned()).collect());
            }
        }
    }

    #[test]
    fn an_app_is_told_with_all_that_it_is_billed_by() {
        let points = Points { began: "1".into(), now: "2".into() };
        let told: Vec<Value> = everything().metrics().iter().map(|metric| points.metric(metric)).collect();
        let point = |name: &str, kind: &str, at: usize| {
            let metric = told.iter().find(|metric| metric["name"] == name).unwrap();
            metric[kind]["dataPoints"][at].clone()
        };
        for (name, count) in [("tenon.received", "7"), ("tenon.sent", "9"), ("tenon.messages", "4")] {
            assert_eq!(point(name, "sum", 0)["asInt"], count, "{name}");
        }
        assert_eq!(point("tenon.memory", "sum", 0)["asDouble"], 1_024.0);
        let refused = point("tenon.requests", "sum", 1);
        assert_eq!(
            (&refused["asInt"], &refused["attributes"][2]),
            (&"3".into(), &text("outcome", "refused"))
        );
        let took = point("tenon.request.duration", "histogram", 0);
        assert_eq!(
            (&took["count"], &took["sum"], &took["bucketCounts"][0]),
            (&"2".into(), &1.0.into(), &"2".into())
        );
        assert_eq!(took["bucketCounts"].as_array().unwrap().len(), ENDS_US.len() + 1);
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
