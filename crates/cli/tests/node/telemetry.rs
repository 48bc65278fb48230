//! What happens is visible: metrics, logs, the access log, traces, `top` and `status`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tenon_testkit::client::{call, get};
use tenon_testkit::tls::{Ca, Certificate};
use tenon_testkit::{DEADLINE, Tenon, until};

use crate::load::{Asking, Load};
use crate::support::{Site, VERSION, to};

const HOST: &str = "shop.example";

#[test]
fn requests_are_counted_logged_and_billed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let site = Site::with(["--access-log".as_ref(), file.as_os_str()]);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    for _ in 0..10 {
        site.version(HOST);
    }
    site.get(HOST, "/nothing").expect(404);
    site.get("nobody.example", "/elsewhere").expect_failure(404, "no-route");

    let metrics = site.admin("/metrics").expect(200);
    let line = metrics.lines().find(|line| {
        line.starts_with("tenon_revision_requests_total{")
            && line.contains("tenant=\"acme\"")
            && line.contains("revision=\"r1\"")
    });
    assert!(line.is_some(), "{metrics}");
    assert!(metrics.contains("# TYPE tenon_requests_total counter"), "{metrics}");

    let lines = until("the access log", DEADLINE, || {
        let lines = lines_of(&file);
        (lines.len() >= 12).then_some(lines)
    });
    let (own, others): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["tenant"] == "acme");
    assert_eq!((own.len(), others.len()), (11, 1), "{lines:#?}");
    for line in &own {
        let said = [&line["app"], &line["revision"], &line["kind"], &line["host"], &line["client"]];
        assert_eq!(said, ["shop", "r1", "request", HOST, "127.0.0.1"], "{line:#}");
    }
    assert!(own.iter().any(|line| line["status"] == 404));
    // One that is for nobody says where it was for.
    let said = [&others[0]["code"], &others[0]["host"], &others[0]["path"], &others[0]["client"]];
    assert_eq!(said, ["no-route", "nobody.example", "/elsewhere", "127.0.0.1"], "{:#}", others[0]);

    let top = site.json(["top", "--once", "--interval", "200ms"]);
    assert_eq!(top["rows"][0]["app"], "shop", "{top:#}");
    let status = site.json(["status"]);
    assert_eq!(
        (&status["tenants"], &status["apps"], &status["state"]),
        (&1.into(), &1.into(), &"serving".into()),
        "{status:#}"
    );
    assert!(status["resident_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(status["wrong"].as_array().unwrap().is_empty(), "{status:#}");
    for (args, text) in [
        (&["status"][..], "serving for "),
        (&["top", "--once", "--interval", "50ms"], "acme/shop"),
        (&["tenant", "list"], "acme"),
        (&["token", "list"], "admin"),
        (&["audit"], "deploy"),
        (&["apps"], "shop.example/*"),
        (&["revisions", "acme/shop"], "stable"),
        (&["rollout", "acme/shop"], "never had a rollout"),
        (&["capacity", "acme/shop"], "more fit"),
    ] {
        let shown = site.run(args).expect_code(0).stdout;
        assert!(shown.contains(text), "{args:?}: no `{text}` in\n{shown}");
    }
    site.node.stop();
}

#[test]
fn what_an_app_writes_is_shown_and_followed() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let write = |level: &str, message: &str| {
        site.get(HOST, &format!("/log?level={level}&message={message}&context=till")).expect(200);
    };
    write("warn", "before-anybody-follows");
    let line = until("the line", DEADLINE, || {
        let shown = site.run(["logs", "acme/shop"]).expect_code(0).stdout;
        shown.lines().find(|line| line.contains("before-anybody-follows")).map(str::to_owned)
    });
    assert!(line.contains("warn"), "{line}");

    // Who follows sees what was written, and stays for what comes.
    let mut following = site.watch(&["logs", "--follow", "acme/shop"]);
    following.shows(1, &["warn", "before-anybody-follows"]);
    for number in 1..=3 {
        write("error", "written-while-somebody-follows");
        following.shows(number, &["error", "written-while-somebody-follows"]);
    }
    // What fails is in it, from whichever revision.
    let next = site.tenon.data().join("apps/next");
    crate::support::write_app(&next, "chaos-http", "acme", "shop", HOST, "two");
    site.deploy(&next, &[]);
    site.get(HOST, "/trap").expect_failure(500, "guest-trap");
    following.shows(1, &["code=guest-trap"]);
    assert!(following.is_running());
    // Nobody else's lines are.
    site.run(["tenant", "set", "zenith"]).expect_code(0);
    site.deploy(&site.app("zenith", "portal", "portal.example", "one"), &[]);
    site.get("portal.example", "/log?level=error&message=of-a-neighbour").expect(200);
    let mut neighbours = site.watch(&["logs", "--follow", "--json", "zenith/portal"]);
    let line: Value = serde_json::from_str(&neighbours.shows(1, &["of-a-neighbour"])).unwrap();
    assert_eq!((&line["level"], &line["message"]), (&"error".into(), &"of-a-neighbour".into()), "{line:#}");
    assert!(neighbours.is_running() && following.is_running());
    assert_eq!(following.count(&["of-a-neighbour"]), 0);
    site.node.stop();
}

#[test]
fn top_goes_on_and_shows_what_happens_now() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let mut top = site.watch(&["top", "--interval", "200ms"]);
    // Page after page, with nothing to tell.
    top.shows(2, &["serving: 1 apps"]);
    let mut told = site.watch(&["top", "--interval", "200ms", "--json"]);
    let load = Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: VERSION.into(),
        clients: 2,
        pause: Duration::from_millis(2),
    });
    let busy = |page: &str| {
        let page: Value = serde_json::from_str(page).unwrap();
        let row = &page["rows"][0];
        row["app"] == "shop" && row["requests_per_second"].as_f64().unwrap() > 1.0 && row["p99_us"] != 0
    };
    let mut pages = 0;
    until("a page with the load", DEADLINE, || {
        pages += 1;
        busy(&told.shows(pages, &["\"rows\""])).then_some(())
    });
    top.shows(2, &["acme/shop", "r1"]);
    load.stop();
    // And again without it.
    until("a page without it", DEADLINE, || {
        pages += 1;
        (!busy(&told.shows(pages, &["\"rows\""]))).then_some(())
    });
    assert!(top.is_running() && told.is_running());
    site.node.stop();
}

/// The lines of an access log that are there to their ends.
pub(crate) fn lines_of(file: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a collector was sent: paths and bodies.
pub(crate) type Sent = Arc<Mutex<Vec<(String, Value)>>>;

/// A collector of OTLP in clear.
pub(crate) fn collector() -> (std::net::SocketAddr, Sent) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = Sent::default();
    let keeping = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A node that goes away in the middle is none of this test's.
            let _ = take(stream, &keeping);
        }
    });
    (address, received)
}

/// Keeps one request, and answers it then: whoever is answered may end, and have what it sent looked at.
fn take(mut stream: std::net::TcpStream, kept: &Sent) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|count| *count > 0)?;
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    kept.lock().unwrap().push((head.split(' ').nth(1)?.to_owned(), serde_json::from_slice(&body).ok()?));
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()
}

/// What was sent to this path.
fn sent_to(received: &Sent, path: &str) -> Vec<Value> {
    let received = received.lock().unwrap();
    received.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
}

/// The metric of this name among what was sent.
fn metric(sent: &Value, name: &str) -> Value {
    let metrics = &sent["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
    let metric = metrics.as_array().unwrap().iter().find(|metric| metric["name"] == name);
    metric.unwrap_or_else(|| panic!("no {name} in {metrics:#}")).clone()
}

/// What a span or a point says of itself, `key=value` each.
fn attributes(of: &Value) -> Vec<String> {
    let value = |value: &Value| {
        let text = value["stringValue"].as_str().or(value["intValue"].as_str());
        text.unwrap_or_else(|| panic!("neither text nor a number: {value}")).to_owned()
    };
    let all = of["attributes"].as_array().unwrap().iter();
    all.map(|it| format!("{}={}", it["key"].as_str().unwrap(), value(&it["value"]))).collect()
}

/// All spans that a collector was sent.
pub(crate) fn spans(received: &Sent) -> Vec<Value> {
    let spans = |sent: Value| sent["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
    sent_to(received, "/v1/traces").into_iter().flat_map(spans).collect()
}

/// What every span has: ids, a beginning and an end. Gives back its attributes.
#[track_caller]
pub(crate) fn whole_span(span: &Value) -> Vec<String> {
    let is_id = |id: &Value, digits: usize| {
        let id = id.as_str().unwrap();
        id.len() == digits && id.bytes().all(|it| it.is_ascii_hexdigit()) && id.bytes().any(|it| it != b'0')
    };
    assert!(is_id(&span["traceId"], 32) && is_id(&span["spanId"], 16), "{span:#}");
    let time = |name: &str| span[name].as_str().unwrap().parse::<u128>().unwrap();
    let (start, end) = (time("startTimeUnixNano"), time("endTimeUnixNano"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let long_ago = now - Duration::from_secs(3_600).as_nanos();
    assert!(long_ago < start && start <= end && end <= now, "{span:#}");
    attributes(span)
}

#[test]
fn a_collector_gets_the_metrics_of_each_app() {
    let (address, received) = collector();
    let site = Site::with(["--otlp", &format!("http://{address}"), "--trace", "1000"]);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    const REQUESTS: usize = 7;
    for _ in 0..REQUESTS {
        site.version(HOST);
    }
    // They are sent every ten seconds, whatever has been counted by then; 64-bit numbers are text (Protocol Buffers, the JSON
    // form).
    let requests = Value::from(REQUESTS.to_string());
    let sent = until("the metrics of all requests", DEADLINE, || {
        let count = |sent: &Value| metric(sent, "tenon.requests")["sum"]["dataPoints"][0]["asInt"].clone();
        sent_to(&received, "/v1/metrics").into_iter().find(|sent| count(sent) == requests)
    });
    let metric = |name: &str| metric(&sent, name);
    assert_eq!(
        sent["resourceMetrics"][0]["resource"]["attributes"][0]["value"]["stringValue"], "tenon",
        "{sent:#}"
    );
    let labels = |point: &Value| attributes(point).join(" ");
    let requests = &metric("tenon.requests")["sum"];
    assert_eq!((&requests["isMonotonic"], &requests["aggregationTemporality"]), (&true.into(), &2.into()));
    assert_eq!(labels(&requests["dataPoints"][0]), "tenant=acme app=shop outcome=answered", "{requests:#}");
    let latency = &metric("tenon.request.duration")["histogram"]["dataPoints"][0];
    let of_revision = "tenant=acme app=shop revision=r1 outcome=answered";
    assert_eq!(labels(latency), of_revision);
    assert_eq!(labels(&metric("tenon.revision.requests")["sum"]["dataPoints"][0]), of_revision);
    let counts = latency["bucketCounts"].as_array().unwrap();
    let number = |text: &Value| text.as_str().unwrap().parse::<usize>().unwrap();
    assert_eq!(counts.iter().map(number).sum::<usize>(), REQUESTS, "{latency:#}");
    assert_eq!(number(&latency["count"]), REQUESTS);
    assert_eq!(counts.len(), latency["explicitBounds"].as_array().unwrap().len() + 1);
    assert!(metric("tenon.cpu")["sum"]["dataPoints"][0]["asDouble"].as_f64().unwrap() > 0.0);
    let resident = &metric("process.memory.usage")["gauge"]["dataPoints"][0]["asInt"];
    assert!(number(resident) > 1 << 20);
    // The traces of the same requests come, too.
    until("their spans", DEADLINE, || (spans(&received).len() == REQUESTS).then_some(()));
    site.node.stop();
}

#[test]
fn what_was_counted_last_is_sent_before_a_node_ends() {
    let (address, received) = collector();
    let site = Site::with(["--otlp", &format!("http://{address}"), "--trace", "0"]);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    const REQUESTS: usize = 5;
    for _ in 0..REQUESTS {
        site.version(HOST);
    }
    // Long before they are sent by themselves.
    site.node.stop();
    let sent = sent_to(&received, "/v1/metrics");
    let last = sent.last().unwrap_or_else(|| panic!("no metrics were sent"));
    let requests = &metric(last, "tenon.requests")["sum"]["dataPoints"][0];
    assert_eq!(requests["asInt"], REQUESTS.to_string(), "{requests:#}");
    assert_eq!(attributes(requests), ["tenant=acme", "app=shop", "outcome=answered"]);
}

/// A node that sends all spans there, with an app that does what it is asked to.
fn chaos(more: &[&str]) -> Site {
    let site = Site::with(more);
    site.run(["tenant", "set", "acme", "--cpu", "10s"]).expect_code(0);
    let folder = site.tenon.data().join("apps/chaos");
    crate::support::write_app(&folder, "chaos-http", "acme", "chaos", HOST, "one");
    site.deploy(&folder, &[]);
    site
}

#[test]
fn a_trace_goes_on_and_each_span_says_whose_it_is_and_how_it_ended() {
    let (address, received) = collector();
    let site = chaos(&["--otlp", &format!("http://{address}"), "--trace", "1000"]);
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let mut request = to(HOST, get("/headers"));
    request.headers_mut().insert("traceparent", format!("00-{trace}-{parent}-01").parse().unwrap());
    let seen = call(site.address(), request).expect(200);
    assert!(seen.contains(trace), "the guest goes on with the client's trace: {seen}");
    site.get(HOST, "/trap").expect_failure(500, "guest-trap");
    site.get("nobody.example", "/").expect_failure(404, "no-route");
    let all = until("three spans", DEADLINE, || Some(spans(&received)).filter(|spans| spans.len() >= 3));
    assert_eq!(all.len(), 3, "{all:#?}");
    let with = |attribute: &str| {
        let span = all.iter().find(|span| attributes(span).iter().any(|other| other == attribute));
        span.unwrap_or_else(|| panic!("no span has {attribute} in {all:#?}"))
    };
    for (span, status, told) in [
        (with("url.path=/headers"), 0, &["tenon.outcome=answered", "http.response.status_code=200"][..]),
        (with("url.path=/trap"), 2, &["tenon.outcome=trapped", "error.type=guest-trap"]),
    ] {
        let attributes = whole_span(span);
        let whose = ["tenon.tenant=acme", "tenon.app=chaos", "tenon.revision=r1", "http.request.method=GET"];
        for attribute in whose.iter().chain(told) {
            assert!(attributes.iter().any(|other| other == attribute), "{attribute} in {span:#}");
        }
        let is = (&span["name"], &span["kind"], &span["status"]["code"]);
        assert_eq!(is, (&"acme/chaos".into(), &2.into(), &status.into()), "{span:#}");
    }
    let goes_on = with("url.path=/headers");
    assert_eq!((&goes_on["traceId"], &goes_on["parentSpanId"]), (&trace.into(), &parent.into()));
    assert!(seen.contains(goes_on["spanId"].as_str().unwrap()), "the guest's requests are below it: {seen}");
    assert_eq!(with("url.path=/trap")["parentSpanId"], "");
    let unrouted = whole_span(with("tenon.outcome=refused"));
    assert!(unrouted.iter().any(|it| it == "error.type=no-route"), "{unrouted:?}");
    site.node.stop();
}

/// Asks, without a pause, for a path that is so long that few records of it fit into a queue.
fn long_paths(site: &Site) -> Load {
    Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: format!("/{}", "x".repeat(32 << 10)),
        clients: 4,
        pause: Duration::ZERO,
    })
}

/// What was thrown away of this.
fn dropped(site: &Site, what: &str) -> u64 {
    site.counted("tenon_telemetry_dropped_total", &[&format!("what=\"{what}\"")])
}

#[test]
fn a_collector_that_does_not_answer_holds_no_request_up() {
    // Connections come to it, and nobody takes them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = chaos(&["--otlp", &format!("http://{}", silent.local_addr().unwrap()), "--trace", "1000"]);
    let load = long_paths(&site);
    until("spans that no longer fit to be dropped", DEADLINE, || (dropped(&site, "spans") > 0).then_some(()));
    load.more(100);
    // The guest has nothing there, and says so.
    crate::load::expect_all(&load.stop(), 404);
    assert_eq!(dropped(&site, "records"), 0, "what waits for the collector holds up nothing else");
    // Whoever waits for an answer is told that there is none.
    drop(silent);
    site.node.stop();
}

#[test]
fn an_access_log_that_nobody_reads_holds_no_request_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    // Open for both, so that nobody waits for the other end.
    let fifo = std::fs::File::options().read(true).write(true).open(&file).unwrap();
    let site = chaos(&["--access-log", file.to_str().unwrap()]);
    let load = long_paths(&site);
    until("lines that no longer fit to be dropped", DEADLINE, || {
        (dropped(&site, "access-log") > 0).then_some(())
    });
    load.more(100);
    crate::load::expect_all(&load.stop(), 404);
    assert_eq!(dropped(&site, "records"), 0, "what waits for the log holds up nothing else");
    // Somebody reads it after all: what waits is written, each line whole, and the node ends.
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(fifo).lines().map(|line| line.unwrap());
        lines.take_while(|line| line != "the end").map(|line| serde_json::from_str(&line).unwrap()).collect()
    });
    site.node.stop();
    writeln!(std::fs::File::options().append(true).open(&file).unwrap(), "the end").unwrap();
    let lines: Vec<Value> = reader.join().unwrap();
    assert!(lines.len() > 100, "{}", lines.len());
    assert!(lines.iter().all(|line| line["status"] == 404));
}

#[test]
fn a_log_that_nobody_reads_holds_no_request_up() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let node = tenon.node().unread().start();
    let mut site = Site { tenon, node };
    site.run(["tenant", "set", "acme"]).expect_code(0);
    let folder = site.app("acme", "shop", HOST, "one");
    let manifest = folder.join("tenon.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}[limits]\nlog-bytes = \"1GiB\"\n")).unwrap();
    site.deploy(&folder, &[]);
    // Two megabytes at a time: the pipe is full at once, and the queue soon.
    let much = format!("/log?level=info&times=500&message={}", "x".repeat(4_000));
    until("lines that no longer fit to be dropped", DEADLINE, || {
        site.get(HOST, &much).expect(200);
        (dropped(&site, "log") > 0).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(site.version(HOST), "one");
    }
    // Somebody reads it after all.
    site.node.read_log();
    site.node.logged(&["xxxx", "tenant=\"acme\"", "app=\"shop\""]);
    until("a line that is written now", DEADLINE, || {
        site.get(HOST, "/log?level=warn&message=now-somebody-reads").expect(200);
        (site.node.count_logged(&["now-somebody-reads"]) > 0).then_some(())
    });
    site.get(HOST, "/log?level=warn&message=the-last-line").expect(200);
    let said = site.node.stop();
    assert!(said.stderr.contains("the-last-line"), "what waits is written when the node ends");
}

#[test]
fn an_access_log_that_was_moved_away_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (file, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let site = Site::with(["--access-log".as_ref(), file.as_os_str()]);
    let ask = |path: &str| site.get("nobody.example", path).expect_failure(404, "no-route");
    let written = |file: &std::path::Path, path: &str| {
        until(&format!("a line about {path}"), DEADLINE, || {
            lines_of(file).iter().any(|line| line["path"] == path).then_some(())
        });
    };
    ask("/before");
    written(&file, "/before");
    std::fs::rename(&file, &old).unwrap();
    ask("/moved");
    written(&old, "/moved");
    site.node.reload();
    // Also where nothing is asked: the old one may be packed now.
    until("the new one", DEADLINE, || file.exists().then_some(()));
    ask("/after");
    written(&file, "/after");
    assert_eq!((lines_of(&old).len(), lines_of(&file).len()), (2, 1));
    // Where it cannot be opened it is written on where it was.
    std::fs::rename(&file, &old).unwrap();
    std::fs::create_dir(&file).unwrap();
    site.node.reload();
    site.node.logged(&["the access log cannot be opened anew"]);
    ask("/on");
    written(&old, "/on");
    site.node.stop();
}

#[test]
fn a_line_of_the_log_says_whose_request_failed() {
    let site = Site::of(&["acme", "zenith"]);
    for tenant in ["acme", "zenith"] {
        let folder = site.tenon.data().join("apps").join(tenant);
        let host = format!("{tenant}.example");
        crate::support::write_app(&folder, "chaos-http", tenant, "shop", &host, "one");
        site.deploy(&folder, &[]);
    }
    site.get("zenith.example", "/trap").expect_failure(500, "guest-trap");
    site.node.logged(&["request failed", "tenant=\"zenith\"", "app=\"shop\"", "revision=r1"]);
    site.run(["pause", "zenith/shop"]).expect_code(0);
    site.get("zenith.example", "/").expect_failure(503, "app-paused");
    site.node.logged(&["request refused", "tenant=\"zenith\"", "app=\"shop\"", "revision=r1"]);
    assert_eq!(site.node.count_logged(&["tenant=\"acme\""]), 0);
    site.node.stop();
}

/// A node that sends over TLS, and an app of it; the authority of the collector is the one that is named.
fn sending(ca: &Ca, port: u16) -> (Site, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    ca.write(&file);
    let url = format!("https://localhost:{port}");
    let site = Site::with(["--otlp", &url, "--otlp-ca", file.to_str().unwrap(), "--trace", "1000"]);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    (site, folder)
}

#[test]
fn a_collector_behind_tls_gets_what_is_sent() {
    let ca = Ca::new("an authority of ours");
    let (address, asked) = ca.listen(Certificate::Good, &["http/1.1"]);
    let (site, _folder) = sending(&ca, address.port());
    until("the spans to come", DEADLINE, || {
        site.version(HOST);
        asked.paths().iter().any(|path| path == "/v1/traces").then_some(())
    });
    assert_eq!((dropped(&site, "spans"), dropped(&site, "spans-unsent")), (0, 0));
    assert_eq!(site.node.count_logged(&["the collector does not take what is sent"]), 0);
    site.node.stop();
}

#[test]
fn a_collector_of_an_unknown_authority_gets_nothing_and_holds_nobody_up() {
    let (address, asked) = Ca::new("somebody else").listen(Certificate::Good, &["http/1.1"]);
    let (site, _folder) = sending(&Ca::new("an authority of ours"), address.port());
    let load = Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: VERSION.into(),
        clients: 2,
        pause: Duration::ZERO,
    });
    load.more(1_000);
    crate::load::expect_all(&load.stop(), 200);
    site.node.logged(&["the collector does not take what is sent", "UnknownIssuer"]);
    until("what is lost to be counted", DEADLINE, || (dropped(&site, "spans-unsent") > 0).then_some(()));
    assert_eq!(asked.paths(), Vec::<String>::new());
    site.node.stop();
}
