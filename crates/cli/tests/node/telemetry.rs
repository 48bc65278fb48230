//! What happens is visible: metrics, logs, the access log, traces, `top` and `status`.

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

    let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
    let mut request = get("/metrics");
    request.headers_mut().insert("authorization", format!("Bearer {}", token.trim()).parse().unwrap());
    let metrics = call(site.node.admin(), request).expect(200);
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
    site.get(HOST, "/log?level=warn&message=a-line-of-mine&context=till").expect(200);
    let line = until("the line", DEADLINE, || {
        let shown = site.run(["logs", "acme/shop"]).expect_code(0).stdout;
        shown.lines().find(|line| line.contains("a-line-of-mine")).map(str::to_owned)
    });
    assert!(line.contains("warn"), "{line}");
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
    let _ = VERSION;
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
    let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
    let mut request = get("/metrics");
    request.headers_mut().insert("authorization", format!("Bearer {}", token.trim()).parse().unwrap());
    let metrics = call(site.node.admin(), request).expect(200);
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
