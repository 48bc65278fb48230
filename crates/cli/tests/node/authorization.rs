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
            // Each says what is wrong, and what mends it.
            let refused = |token: Option<&str>, status: u16| {
                let reply = ask(token);
                assert_eq!(reply.status, status, "{what} with {token:?}");
                assert_eq!(reply.header("content-type"), "application/problem+json", "{what}");
                assert_eq!(reply.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
                if method != "head" {
                    let problem: Value = serde_json::from_str(&reply.text()).unwrap();
                    assert!(
                        problem["mend"].as_str().is_some_and(|mend| !mend.is_empty()),
                        "{what}: {problem}"
                    );
                }
            };
            for token in [None, Some(&evil[..evil.len() - 1])] {
                refused(token, 401);
            }
            if path.contains("{tenant}") {
                // One of another tenant, whatever it allows there.
                refused(Some(&evil), 403);
                foreign += 1;
            }
            let is_change = method != "get" || path.contains("tokens") || path.contains("audit");
            if is_change {
                refused(Some(&reader), 403);
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

#[test]
fn a_token_of_a_tenant_is_told_of_its_tenant_alone() {
    let site = Site::of(&["acme", "evil"]);
    for tenant in ["acme", "evil"] {
        let host = format!("{tenant}.example");
        site.deploy(&site.app(tenant, "shop", &host, "one"), &[]);
        site.version(&host);
    }
    let token = |args: &[&str]| {
        let made = site.json([&["token", "create", "--verb", "read"], args].concat());
        made["secret"].as_str().unwrap().to_owned()
    };
    let (evil, all) = (token(&["--tenant", "evil"]), token(&[]));
    let ask = |path: &str, token: &str| call(site.node.admin(), bearing(get(path), token));
    let json =
        |path: &str, token: &str| -> Value { serde_json::from_str(&ask(path, token).expect(200)).unwrap() };
    let tenants = |top: &Value, list: &str| -> Vec<String> {
        let rows = top[list].as_array().unwrap().iter();
        rows.map(|row| row["tenant"].as_str().unwrap().to_owned()).collect()
    };
    until("both to be counted", DEADLINE, || {
        let rows = tenants(&json("/v1/top", &all), "rows");
        (rows.contains(&"acme".to_owned()) && rows.contains(&"evil".to_owned())).then_some(())
    });
    let top = json("/v1/top", &evil);
    for list in ["rows", "apps"] {
        assert_eq!(tenants(&top, list), ["evil"], "{top:#}");
    }
    let counts = |status: Value| (status["tenants"].as_u64(), status["apps"].as_u64());
    assert_eq!(counts(json("/v1/status", &evil)), (Some(1), Some(1)));
    assert_eq!(counts(json("/v1/status", &all)), (Some(2), Some(2)));
    // Metrics are of the node: not in part for a tenant either.
    for path in ["/metrics", "/v1/metrics"] {
        assert_eq!(ask(path, &evil).status, 403);
        assert!(ask(path, &all).expect(200).contains("tenant=\"acme\""));
    }
    site.node.stop();
}

#[test]
fn a_secret_that_was_replaced_lives_on_for_as_long_as_was_said() {
    let site = Site::new();
    let secret = |made: &Value| made["secret"].as_str().unwrap().to_owned();
    let is_valid = |secret: &str| call(site.node.admin(), bearing(get("/v1/status"), secret)).status == 200;
    let made = site.json(["token", "create", "--verb", "read"]);
    let name = made["token"]["token"].as_str().unwrap();
    let first = secret(&made);
    let second = secret(&site.json(["token", "rotate", name, "--grace", "60min"]));
    assert!(is_valid(&first) && is_valid(&second), "within its grace");
    let third = secret(&site.json(["token", "rotate", name, "--grace", "1s"]));
    until("the end of its grace", DEADLINE, || (!is_valid(&second)).then_some(()));
    assert!(is_valid(&third));
    site.node.stop();
}

#[test]
fn a_token_is_sent_in_clear_to_another_machine_only_where_somebody_says_so() {
    let tenon = tenon_testkit::Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let file = tenon.data().join("token");
    std::fs::write(&file, "tenon_0123_4567").unwrap();
    let run = |more: &[&str]| {
        let args = ["apps", "--token-file", file.to_str().unwrap(), "--node"];
        tenon.run(tenon.data(), [&args[..], more].concat())
    };
    run(&["http://edge.invalid:8081"]).expect_code(1).expect_stderr(&[
        "token-in-clear",
        "--admin-tls",
        "ssh -N -L",
        "--plain-http",
    ]);
    for more in [&["http://0.0.0.0:1", "--plain-http"][..], &["https://0.0.0.0:1"]] {
        run(more).expect_code(1).expect_stderr(&["node-unreachable"]);
    }
}
