//! Every endpoint of the admin API refuses whoever may not, told from its own description.

use http::Request;
use serde_json::Value;
use tenon_testkit::client::{Body, Reply, call, full, get, request};
use tenon_testkit::{DEADLINE, until};

use crate::support::Site;

fn bearing(mut request: Request<Body>, token: &str) -> Request<Body> {
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[test]
fn every_endpoint_refuses_whoever_may_not() {
    let site = Site::of(&["acme", "evil"]);
    site.deploy(&site.app("acme", "shop", "shop.example", "one"), &[]);
    let token = |args: &[&str]| {
        let made = site.json([&["token", "create"], args].concat());
        made["secret"].as_str().unwrap().to_owned()
    };
    let evil = token(&["--tenant", "evil", "--verb", "admin"]);
    let reader = token(&["--verb", "read"]);
    let admin = site.node.admin();
    let document: Value = serde_json::from_str(&call(admin, get("/v1/openapi.json")).expect(200)).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{document:#}");

    let (mut public, mut guarded, mut foreign, mut changing) = (0, 0, 0, 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if !["get", "put", "post", "delete", "patch", "head"].contains(&method.as_str()) {
                continue;
            }
            let filled = path
                .replace("{tenant}", "acme")
                .replace("{app}", "shop")
                .replace("{token}", "none")
                .replace("{digest}", &format!("sha256:{}", "0".repeat(64)));
            let sent = || request(&method.to_uppercase(), &filled, full("{}"));
            let ask = |token: Option<&str>| -> Reply {
                // Strangers may not ask often, and are told so.
                until("leave to ask", DEADLINE, || {
                    let reply = call(admin, token.map_or_else(sent, |token| bearing(sent(), token)));
                    (reply.status != 429).then_some(reply)
                })
            };
            let what = format!("{method} {path}");
            if operation["security"].as_array().is_none_or(Vec::is_empty) {
                public += 1;
                continue;
            }
            guarded += 1;
            for token in [None, Some(&evil[..evil.len() - 1])] {
                assert_eq!(ask(token).status, 401, "{what} with {token:?}");
            }
            if path.contains("{tenant}") {
                // One of another tenant, whatever it allows there.
                assert_eq!(ask(Some(&evil)).status, 403, "{what} by another tenant");
                foreign += 1;
            }
            let is_change = method != "get" || path.contains("tokens") || path.contains("audit");
            if is_change {
                assert_eq!(ask(Some(&reader)).status, 403, "{what} by who may only look");
                changing += 1;
            }
        }
    }
    // As many as the table has; one that is added is refused here or described as open to all.
    assert_eq!((public, guarded), (3, 29), "{foreign} of a tenant, {changing} that change");
    assert!(foreign >= 12 && changing >= 15, "{foreign} {changing}");
    assert_eq!(site.version("shop.example"), "one", "nothing of it was done");
    site.node.stop();
}

#[test]
fn errors_are_problems_and_requests_are_bounded() {
    let site = Site::new();
    let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
    let ask = |method: &str, path: &str, body: Vec<u8>| {
        call(site.node.admin(), bearing(request(method, path, full(body)), token.trim()))
    };
    let reply = ask("GET", "/v1/nothing", Vec::new());
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (404, "application/problem+json"));
    let problem: Value = serde_json::from_str(&reply.text()).unwrap();
    assert!(
        problem["code"].is_string() && problem["title"].is_string() && problem["status"] == 404,
        "{problem}"
    );
    assert_eq!(ask("POST", "/v1/status", Vec::new()).status, 405);
    assert_eq!(ask("PUT", "/v1/tenants/acme", b"{\"quota\":{\"x\":1}}".to_vec()).status, 400);
    assert_eq!(ask("PUT", "/v1/tenants/ACME", b"{}".to_vec()).status, 400);
    assert_eq!(ask("PUT", "/v1/tenants/acme", vec![b' '; 5 << 20]).status, 413);
    site.node.stop();
}

#[test]
fn the_first_token_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    let file = site.tenon.data().join("node/admin-token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    site.node.stop();
}
