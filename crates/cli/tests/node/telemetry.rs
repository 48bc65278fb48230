//! What happens is visible: metrics, logs, the access log, traces, `top` and `status`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tenon_testkit::client::{call, get};
use tenon_testkit::tls::{Ca, Certificate};
use tenon_testkit::{DEADLINE, until};

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

    let metrics = site.admin("/metrics").expect(200);
    let line = metrics.lines().find(|line| {
        line.starts_with("tenon_revision_requests_total{")
            && line.contains("tenant=\"acme\"")
            && line.contains("revision=\"r1\"")
    });
    assert!(line.is_some(), "{metrics}");
    assert!(metrics.contains("# TYPE tenon_requests_total counter"), "{metrics}");

    let lines = until("the access log", DEADLINE, || {
        let text = std::fs::read_to_string(&file).ok()?;
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() >= 11).then_some(lines)
    });
    assert!(lines.iter().all(|line| line["tenant"] == "acme" && line["app"] == "shop"), "{:#}", lines[0]);
    assert!(lines.iter().any(|line| line["status"] == 404));

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

/// What a collector was sent: paths and bodies.
type Sent = Arc<Mutex<Vec<(String, Value)>>>;

/// A collector of OTLP in clear.
fn collector() -> (std::net::SocketAddr, Sent) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = Sent::default();
    let keeping = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A node that goes away in the middle is none of this test's.
            if let Some(one) = take(stream) {
                keeping.lock().unwrap().push(one);
            }
        }
    });
    (address, received)
}

/// One request, answered.
fn take(mut stream: std::net::TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|count| *count > 0)?;
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok()?;
    Some((head.split(' ').nth(1)?.to_owned(), serde_json::from_slice(&body).ok()?))
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
    let all = |path: &str| -> Vec<Value> {
        let received = received.lock().unwrap();
        received.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    };
    let metric = |sent: &Value, name: &str| {
        let metrics = &sent["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        metrics.as_array().unwrap().iter().find(|metric| metric["name"] == name).cloned().unwrap()
    };
    // They are sent every ten seconds, whatever has been counted by then; 64-bit numbers are text (Protocol Buffers, the JSON
    // form).
    let requests = Value::from(REQUESTS.to_string());
    let sent = until("the metrics of all requests", DEADLINE, || {
        let count = |sent: &Value| metric(sent, "tenon.requests")["sum"]["dataPoints"][0]["asInt"].clone();
        all("/v1/metrics").into_iter().find(|sent| count(sent) == requests)
    });
    let metric = |name: &str| metric(&sent, name);
    assert_eq!(
        sent["resourceMetrics"][0]["resource"]["attributes"][0]["value"]["stringValue"], "tenon",
        "{sent:#}"
    );
    let labels = |point: &Value| {
        let all = point["attributes"].as_array().unwrap().iter();
        all.map(|it| {
            format!("{}={}", it["key"].as_str().unwrap(), it["value"]["stringValue"].as_str().unwrap())
        })
        .collect::<Vec<_>>()
        .join(" ")
    };
    let requests = &metric("tenon.requests")["sum"];
    assert_eq!((&requests["isMonotonic"], &requests["aggregationTemporality"]), (&true.into(), &2.into()));
    assert_eq!(labels(&requests["dataPoints"][0]), "tenant=acme app=shop outcome=answered", "{requests:#}");
    let latency = &metric("tenon.request.duration")["histogram"]["dataPoints"][0];
    let counts = latency["bucketCounts"].as_array().unwrap();
    let number = |text: &Value| text.as_str().unwrap().parse::<usize>().unwrap();
    assert_eq!(counts.iter().map(number).sum::<usize>(), REQUESTS, "{latency:#}");
    assert_eq!(number(&latency["count"]), REQUESTS);
    assert_eq!(counts.len(), latency["explicitBounds"].as_array().unwrap().len() + 1);
    assert!(metric("tenon.cpu")["sum"]["dataPoints"][0]["asDouble"].as_f64().unwrap() > 0.0);
    let resident = &metric("process.memory.usage")["gauge"]["dataPoints"][0]["asInt"];
    assert!(number(resident) > 1 << 20);
    // The traces of the same requests come, too.
    until("their spans", DEADLINE, || {
        let spans =
            |sent: &Value| sent["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len();
        (all("/v1/traces").iter().map(spans).sum::<usize>() == REQUESTS).then_some(())
    });
    site.node.stop();
}

#[test]
fn a_trace_goes_on_and_no_collector_can_hold_a_request_up() {
    // A collector that accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let site = Site::with(["--otlp", &url, "--trace", "1000"]);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    let folder = site.tenon.data().join("apps/chaos");
    crate::support::write_app(&folder, "chaos-http", "acme", "chaos", HOST, "one");
    site.deploy(&folder, &[]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut request = to(HOST, get("/headers"));
    request.headers_mut().insert("traceparent", trace.parse().unwrap());
    let seen = call(site.address(), request).expect(200);
    assert!(
        seen.contains("4bf92f3577b34da6a3ce929d0e0e4736"),
        "the guest goes on with the client's trace: {seen}"
    );
    let load = Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: "/ok".into(),
        clients: 4,
        pause: Duration::ZERO,
    });
    load.more(2_000);
    crate::load::expect_all(&load.stop(), 200);
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

/// Spans that were not sent.
fn dropped(site: &Site) -> u64 {
    let metrics = site.admin("/metrics").expect(200);
    let line = metrics.lines().find(|line| line.starts_with("tenon_telemetry_dropped_total{what=\"spans\"}"));
    let count = line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("no count in\n{metrics}"))
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
    assert_eq!(dropped(&site), 0);
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
    until("what is lost to be counted", DEADLINE, || (dropped(&site) > 0).then_some(()));
    assert_eq!(asked.paths(), Vec::<String>::new());
    site.node.stop();
}
