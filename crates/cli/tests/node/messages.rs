//! Messages: they pass what requests pass, and their tenant pays for them.

use tenon_testkit::client::{call, get};
use tenon_testkit::{DEADLINE, Guests, until};

use crate::support::Site;

const HOST: &str = "post.example";

/// A node with an app that gives itself messages; each may use a third of a second of processor time.
fn post() -> Site {
    let site = Site::of(&["acme"]);
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
