//! Messages: they pass what requests pass, and their tenant pays for them.

use tenon_testkit::client::{call, get};
use tenon_testkit::{DEADLINE, Guests, until};

use crate::support::Site;
use crate::telemetry::{collector, lines_of, spans, whole_span};

const HOST: &str = "post.example";

/// A node with an app that gives itself messages; each may use a third of a second of processor time.
fn post() -> Site {
    post_with(&[])
}

/// The same, started with more arguments.
fn post_with(args: &[&str]) -> Site {
    let site = Site::with(args);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    let folder = site.tenon.data().join("apps/post");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        r#"name = "post"
[deploy]
tenant = "acme"
routes = ["{HOST}/*"]
[limits]
cpu = "300ms"
[component.clerk]
path = "{}"
[component.clerk.grants]
"wasi:keyvalue" = [{{ bucket = "default", access = "write" }}]
"wasi:messaging" = {{ publish = ["orders.*"], subscribe = ["orders.*"] }}
"#,
        Guests::get("clerk").display()
    );
    std::fs::write(folder.join("tenon.toml"), manifest).unwrap();
    site.deploy(&folder, &[]);
    site
}

/// The value of a counter of the app's messages.
fn counted(site: &Site, outcome: &str) -> Option<u64> {
    let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
    let mut request = get("/metrics");
    request.headers_mut().insert("authorization", format!("Bearer {}", token.trim()).parse().unwrap());
    let metrics = call(site.node.admin(), request).expect(200);
    let outcome = format!("outcome=\"{outcome}\"");
    let line = metrics.lines().find(|line| {
        line.starts_with("tenon_messages_total{") && line.contains("app=\"post\"") && line.contains(&outcome)
    });
    line?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_message_is_counted_and_is_no_request() {
    let site = post();
    site.get(HOST, "/send?topic=orders.new&data=one").expect(200);
    until("it to be handled", DEADLINE, || (counted(&site, "handled")? == 1).then_some(()));
    let top = site.json(["top", "--once", "--interval", "50ms"]);
    assert_eq!(top["rows"][0]["app"], "post", "{top:#}");
    assert_eq!(counted(&site, "failed"), None);
    site.node.stop();
}

#[test]
fn what_becomes_of_a_message_is_seen() {
    let (address, received) = collector();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let otlp = format!("http://{address}");
    let site = post_with(&["--access-log", file.to_str().unwrap(), "--otlp", &otlp, "--trace", "1000"]);
    site.get(HOST, "/send?topic=orders.new&data=one").expect(200);
    // It fails once, and goes well the second time.
    site.get(HOST, "/send?topic=orders.old&data=%2ffail").expect(200);
    let lines = until("both messages to be handled", DEADLINE, || {
        let lines = lines_of(&file);
        let of_messages: Vec<_> = lines.into_iter().filter(|line| line["kind"] == "message").collect();
        (of_messages.len() >= 3).then_some(of_messages)
    });
    let mut told: Vec<_> = lines
        .iter()
        .map(|line| {
            let whose = [&line["tenant"], &line["app"], &line["revision"]];
            assert_eq!(whose, ["acme", "post", "r1"], "{line:#}");
            assert!(line["cpu_us"].as_u64().unwrap() > 0 && line["method"].is_null(), "{line:#}");
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (text("topic"), line["attempt"].as_u64().unwrap(), text("outcome"))
        })
        .collect();
    told.sort();
    let line = |topic: &str, attempt, outcome: &str| (topic.to_owned(), attempt, outcome.to_owned());
    assert_eq!(
        told,
        [
            line("orders.new", 1, "handled"),
            line("orders.old", 1, "no-response"),
            line("orders.old", 2, "handled")
        ]
    );
    let all = until("their spans", DEADLINE, || {
        let of_messages: Vec<_> = spans(&received).into_iter().filter(|span| span["kind"] == 5).collect();
        (of_messages.len() >= 3).then_some(of_messages)
    });
    for attribute in ["tenon.tenant=acme", "tenon.app=post", "tenon.revision=r1"] {
        assert!(all.iter().all(|span| whole_span(span).iter().any(|it| it == attribute)), "{all:#?}");
    }
    let failed: Vec<_> = all.iter().filter(|span| span["status"]["code"] == 2).collect();
    assert_eq!(failed.len(), 1, "{all:#?}");
    let said = whole_span(failed[0]);
    for attribute in ["messaging.destination.name=orders.old", "tenon.message.attempt=1"] {
        assert!(said.iter().any(|it| it == attribute), "{said:?}");
    }
    // Its author sees what failed, once.
    let shown = until("the app's lines", DEADLINE, || {
        let shown = site.run(["logs", "acme/post"]).expect_code(0).stdout;
        shown.contains("a message was not handled").then_some(shown)
    });
    let of_message: Vec<_> = shown.lines().filter(|line| line.contains("topic=orders.old")).collect();
    assert_eq!(of_message.len(), 1, "{shown}");
    site.node.logged(&["a message was not handled", "tenant=\"acme\"", "app=\"post\"", "revision=r1"]);
    site.node.stop();
}

#[test]
fn top_shows_messages() {
    let site = post();
    let mut top = site.watch(&["top", "--json", "--interval", "200ms"]);
    let mut pages = 0;
    until("a page with messages", DEADLINE, || {
        site.get(HOST, "/send?topic=orders.new&data=one").expect(200);
        pages += 1;
        let page: serde_json::Value = serde_json::from_str(&top.shows(pages, &["\"rows\""])).unwrap();
        let row = &page["rows"][0];
        (row["app"] == "post" && row["messages_per_second"].as_f64()? > 0.0).then_some(())
    });
    assert!(top.is_running());
    let shown = site.run(["top", "--once", "--interval", "50ms"]).expect_code(0).stdout;
    assert!(shown.contains("messages/s"), "{shown}");
    site.node.stop();
}

#[test]
fn a_message_uses_what_its_tenant_may_use_and_waits_where_a_request_is_refused() {
    let site = post();
    site.run(["tenant", "set", "acme", "--cpu", "20ms"]).expect_code(0);
    site.get(HOST, "/send?topic=orders.new&data=%2floop").expect(200);
    site.node.logged(&["a message was not handled", "cpu 300ms", "attempt=1"]);
    // What it has used is not there for requests, and not for its next attempt.
    site.get(HOST, "/tries?data=%2floop").expect_failure(429, "cpu-quota");
    assert_eq!(site.node.count_logged(&["a message was not handled"]), 1);
    site.run(["tenant", "set", "acme", "--cpu", "10s"]).expect_code(0);
    site.node.logged(&["a message was not handled", "attempt=2"]);
    until("its failures to be counted", DEADLINE, || (counted(&site, "failed")? >= 2).then_some(()));
    site.node.stop();
}
