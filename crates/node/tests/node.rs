//! A node from the outside: over its admin API and its own requests, with real components, on real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tenon_model::Digest;
use tenon_node::{CompileLimits, Config, Node, Running, compile_worker};

/// Whatever takes longer than this does not come.
const DEADLINE: Duration = Duration::from_secs(60);

/// A component with one function, `version`, that returns a number.
fn version(number: u32) -> Vec<u8> {
    returning(&format!("i32.const {number}"))
}

/// One that traps instead.
fn trapping(number: u32) -> Vec<u8> {
    returning(&format!("(drop (i32.const {number})) unreachable"))
}

fn returning(body: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(component
            (core module $m (func (export "version") (result i32) {body}))
            (core instance $i (instantiate $m))
            (func (export "version") (result u32) (canon lift (core func $i "version"))))"#
    ))
    .unwrap()
}

/// One that does not start.
fn broken() -> Vec<u8> {
    wat::parse_str(
        r#"(component
            (core module $m
                (func $start unreachable) (start $start)
                (func (export "version") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func (export "version") (result u32) (canon lift (core func $i "version"))))"#,
    )
    .unwrap()
}

/// What came back.
#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.text());
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    #[track_caller]
    fn refused(&self, status: u16, code: &str) -> Value {
        let said = self.json(status);
        assert_eq!(said["code"], code, "{said}");
        assert!(self.head.contains("application/problem+json") && said["mend"].is_string(), "{said}");
        said
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }
}

fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str("host: node.test\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| std::io::Error::other("no answer"))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let mut body = answer[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    Ok(Reply { status, head, body })
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap().trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
    whole
}

/// A node, its data directory, and the token of whoever runs it.
struct Site {
    running: Option<Running>,
    data: PathBuf,
    root: String,
    /// The folder goes with it, where it is its own.
    _folder: Option<tempfile::TempDir>,
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Site {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self::at(folder.path(), change);
        site.put("/v1/tenants/acme", &json!({})).json(200);
        Self { _folder: Some(folder), ..site }
    }

    fn at(data: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(data.to_owned(), any(), any());
        config.workers = 2;
        config.bounds.pool_instances = 50;
        config.bounds.crash_reports = 0;
        config.drain = Some(Duration::from_secs(5));
        change(&mut config);
        let running = Node::start(config).unwrap();
        let root = fs::read_to_string(data.join("node/admin-token")).unwrap().trim().to_owned();
        Self { running: Some(running), data: data.to_owned(), root, _folder: None }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn admin_as(&self, token: &str, method: &str, path: &str, body: &[u8]) -> Reply {
        let bearer = format!("Bearer {token}");
        ask(self.running().admin(), method, path, &[("authorization", &bearer)], body).unwrap()
    }

    fn admin(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        self.admin_as(&self.root, method, path, body)
    }

    fn put(&self, path: &str, body: &Value) -> Reply {
        self.admin("PUT", path, body.to_string().as_bytes())
    }

    fn get(&self, path: &str) -> Value {
        self.admin("GET", path, b"").json(200)
    }

    fn upload_as(&self, token: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        let put = self.admin_as(token, "PUT", &format!("/v1/blobs/{digest}"), bytes);
        assert_eq!(put.status, 201, "{}", put.text());
        digest
    }

    /// Deploys this component on a host of the app's name.
    fn deploy(&self, app: &str, component: &[u8], more: &Value) -> Reply {
        let digest = self.upload_as(&self.root, component);
        let mut body = json!({ "component": digest, "terms": {}, "routes": [format!("{app}.test/*")] });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.put(&format!("/v1/tenants/acme/apps/{app}"), &body)
    }

    fn request(&self, app: &str, headers: &[(&str, &str)]) -> std::io::Result<Reply> {
        let host = format!("{app}.test");
        let mut all = vec![("host", host.as_str()), ("content-type", "application/json")];
        all.extend_from_slice(headers);
        ask(self.running().addresses()[0], "POST", "/version", &all, b"{}")
    }

    /// The number that an app answers with.
    #[track_caller]
    fn version(&self, app: &str) -> u64 {
        let reply = self.request(app, &[]).unwrap();
        assert_eq!(reply.status, 200, "{}\n{}", reply.head, reply.text());
        reply.json(200).as_u64().unwrap()
    }

    /// Ends it, and starts another one on the same data directory.
    fn restarted(mut self, change: impl FnOnce(&mut Config)) -> Self {
        assert!(self.running.take().unwrap().drain().complete);
        let folder = self._folder.take();
        Self { _folder: folder, ..Self::at(&self.data, change) }
    }
}

/// Waits until it is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_deploy_serves_is_idempotent_and_is_there_after_a_restart() {
    let site = Site::new();
    let first = site.deploy("shop", &version(1), &json!({ "note": "first" })).json(200);
    assert_eq!((&first["revision"], &first["changed"]), (&json!("r1"), &json!(true)), "{first}");
    let steps: Vec<&str> =
        first["steps"].as_array().unwrap().iter().map(|it| it["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["verify", "authority", "compile", "probe", "commit", "publish"]);
    assert_eq!(site.version("shop"), 1);

    let again = site.deploy("shop", &version(1), &json!({ "note": "first" })).json(200);
    assert_eq!((&again["revision"], &again["changed"]), (&json!("r1"), &json!(false)), "{again}");
    let forced = site.deploy("shop", &version(1), &json!({ "force": true })).json(200);
    assert_eq!((&forced["revision"], &forced["changed"]), (&json!("r2"), &json!(true)));
    site.deploy("shop", &version(3), &json!({})).json(200);
    assert_eq!(site.version("shop"), 3);

    let site = site.restarted(|_| {});
    assert!(site.running().first_token().is_none(), "there is one already");
    assert_eq!(site.version("shop"), 3);
    let reverted = site.admin("POST", "/v1/tenants/acme/apps/shop/revert", b"").json(200);
    assert_eq!(reverted["revision"], "r4");
    assert_eq!(site.version("shop"), 1);
    let revisions = site.get("/v1/tenants/acme/apps/shop/revisions");
    let newest = &revisions["revisions"][0];
    assert_eq!(
        (&newest["reverts_to"], &newest["parent"], &newest["state"]),
        (&json!("r2"), &json!("r3"), &json!("stable"))
    );
    let audit = site.get("/v1/audit");
    let what: Vec<&str> =
        audit["entries"].as_array().unwrap().iter().map(|it| it["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["create-token", "put-tenant", "deploy", "deploy", "deploy", "revert"]);
    assert_eq!(audit["intact"], true);

    site.admin("POST", "/v1/tenants/acme/apps/shop/pause", b"").json(200);
    assert_eq!(site.request("shop", &[]).unwrap().status, 503);
    site.admin("POST", "/v1/tenants/acme/apps/shop/resume", b"").json(200);
    assert_eq!(site.version("shop"), 1);
    site.deploy("other", &version(9), &json!({})).json(200);
    assert_eq!(site.admin("DELETE", "/v1/tenants/acme/apps/shop", b"").status, 204);
    assert_eq!(site.request("shop", &[]).unwrap().status, 404);
    // A name that was given away again begins anew.
    let anew = site.deploy("shop", &version(7), &json!({})).json(200);
    assert_eq!((&anew["revision"], site.version("shop")), (&json!("r1"), 7));
}

#[test]
fn what_cannot_serve_is_refused_and_the_old_revision_serves_on() {
    let site = Site::new();
    site.deploy("shop", &version(1), &json!({})).json(200);
    site.deploy("shop", b"\0asm\x01\0\0\0", &json!({})).refused(422, "core-module");
    site.deploy("shop", &broken(), &json!({})).refused(422, "probe-failed");
    let probe = json!({ "terms": { "probe": { "path": "/nowhere", "status": 200 } } });
    site.deploy("shop", &version(2), &probe).refused(422, "probe-failed");
    let large = json!({ "terms": { "limits": { "memory_bytes": 1_u64 << 40 } } });
    site.deploy("shop", &version(2), &large).refused(422, "exceeds-limits");
    // What all connections have room for, and what a node that ends waits for.
    for (limit, most, named) in
        [("header_bytes", 1_u64 << 20, "`header-bytes`"), ("wall_us", 3_600_000_000, "`wall`")]
    {
        let with = |value: u64| json!({ "terms": { "limits": { limit: value } }, "force": true });
        let refused =
            site.deploy("shop", &version(1), &with(most + 1_000_000)).refused(422, "exceeds-limits");
        assert!(refused["title"].as_str().unwrap().contains(named), "{refused}");
        site.deploy("twin", &version(1), &with(most)).json(200);
    }
    let unknown = json!({ "terms": { "limits": { "memory": 1 } } });
    site.deploy("shop", &version(2), &unknown).refused(400, "admin-request");
    site.deploy("shop", &version(2), &json!({ "routes": ["a b/"] })).refused(400, "admin-route");
    site.deploy("shop", &version(2), &json!({ "generation": 1 })).refused(409, "app-conflict");
    let body = json!({ "component": Digest::of(b"nothing").to_string(), "terms": {} });
    site.put("/v1/tenants/acme/apps/shop", &body).refused(409, "not-uploaded");
    site.put("/v1/tenants/acme/apps/Shop", &body).refused(400, "admin-name");
    site.put("/v1/tenants/nobody/apps/shop", &body).refused(409, "not-uploaded");
    assert_eq!(site.version("shop"), 1);
    assert_eq!(site.get("/v1/tenants/acme/apps/shop")["stable"], "r1");
}

#[test]
fn swaps_under_load_lose_no_request() {
    let site = Site::new();
    site.deploy("shop", &version(0), &json!({})).json(200);
    let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut newest = 0;
                while !stop.load(Relaxed) {
                    let answered = site.version("shop");
                    // Requests of one client follow one another: none is answered by what was replaced before it began.
                    assert!(answered >= newest, "{answered} after {newest}");
                    newest = answered;
                    served.fetch_add(1, Relaxed);
                }
            });
        }
        for number in 1..=30 {
            site.deploy("shop", &version(number), &json!({})).json(200);
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(site.version("shop"), 30);
    assert!(served.load(Relaxed) > 30, "{served:?}");
}

fn canary(hold_ms: u64, percent: u8) -> Value {
    json!({ "rollout": {
        "steps": [{ "percent": percent, "hold_ms": hold_ms }],
        "chosen": { "header": "x-try", "value": "next" },
        "tolerance": { "samples": 20, "crashes": 5, "p99_percent": 0 },
    } })
}

#[test]
fn a_candidate_that_crashes_is_sent_back_by_itself() {
    let site = Site::new();
    site.deploy("shop", &version(1), &json!({})).json(200);
    let begun = site.deploy("shop", &trapping(2), &canary(3_600_000, 1)).json(200);
    assert_eq!(
        (&begun["app"]["stable"], &begun["app"]["rollout"]["state"]),
        (&json!("r1"), &json!("running")),
        "{begun}"
    );
    let rollout = || site.get("/v1/tenants/acme/apps/shop/rollout")["rollout"].clone();
    until("the candidate goes", || {
        assert_eq!(site.request("shop", &[]).unwrap().status, 200, "whoever is not chosen is not harmed");
        site.request("shop", &[("x-try", "next")]).unwrap();
        rollout()["state"] == "reverted"
    });
    assert!(rollout()["why"].as_str().unwrap().contains("crashed"), "{}", rollout());
    assert_eq!(site.get("/v1/tenants/acme/apps/shop")["stable"], "r1");
    assert_eq!(site.request("shop", &[("x-try", "next")]).unwrap().json(200), 1);
    let entry = site.get("/v1/audit?limit=1000")["entries"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&entry["who"], &entry["what"]), (&json!("node"), &json!("revert")));

    // How it ended stays to be seen, also by the next process and after the next rollout.
    let ended = rollout();
    assert!(ended["seen_candidate"]["crashes"].as_u64().unwrap() >= 5, "{ended}");
    assert!(ended["seen_stable"]["requests"].as_u64().unwrap() > 0, "{ended}");
    assert!(ended["ended"].as_u64().unwrap() > 0, "{ended}");
    let site = site.restarted(|_| {});
    assert_eq!(site.get("/v1/tenants/acme/apps/shop/rollout")["rollout"], ended);
    site.deploy("shop", &version(3), &canary(3_600_000, 1)).json(200);
    site.deploy("shop", &version(4), &json!({})).json(200);
    let revisions = site.get("/v1/tenants/acme/apps/shop/revisions")["revisions"].clone();
    let of = |number: usize| &revisions[4 - number]["rollout"];
    assert_eq!(of(2)["why"], ended["why"], "{revisions}");
    assert_eq!(of(2)["seen_candidate"], ended["seen_candidate"], "{revisions}");
    assert_eq!((&of(3)["state"], &of(3)["why"]), (&json!("reverted"), &json!("r4 took its place")));
    assert_eq!((of(1), of(4)), (&Value::Null, &Value::Null), "they took over at once");
}

#[test]
fn a_candidate_that_does_well_takes_over_and_one_waits_for_whoever_holds_it() {
    let site = Site::new();
    site.deploy("shop", &version(1), &json!({})).json(200);
    site.deploy("shop", &version(2), &canary(600, 50)).json(200);
    until("it is promoted", || site.get("/v1/tenants/acme/apps/shop")["stable"] == "r2");
    assert_eq!(site.version("shop"), 2);

    let post = |what: &str, body: &Value| {
        site.admin("POST", &format!("/v1/tenants/acme/apps/shop/{what}"), body.to_string().as_bytes())
    };
    site.deploy("shop", &version(3), &canary(3_600_000, 1)).json(200);
    let held = post("pause", &json!({ "rollout": true })).json(200);
    assert_eq!(held["rollout"]["state"], "paused");
    assert_eq!(site.request("shop", &[("x-try", "next")]).unwrap().json(200), 3);
    assert_eq!(post("promote", &json!({})).json(200)["stable"], "r3");
    post("promote", &json!({})).refused(409, "no-rollout");
    site.deploy("shop", &version(4), &canary(3_600_000, 1)).json(200);
    assert_eq!(post("revert", &json!({})).json(200)["app"]["stable"], "r3");
    assert_eq!(site.version("shop"), 3);
    let shares =
        json!({ "rollout": { "steps": [{ "percent": 50, "hold_ms": 1 }, { "percent": 5, "hold_ms": 1 }] } });
    site.deploy("shop", &version(5), &shares).refused(400, "admin-rollout");
}

#[test]
fn a_revert_that_the_node_was_faster_than_goes_no_further() {
    let site = Site::new();
    site.deploy("shop", &version(1), &json!({})).json(200);
    site.deploy("shop", &version(2), &json!({})).json(200);
    site.deploy("shop", &trapping(3), &canary(3_600_000, 1)).json(200);
    until("the candidate goes", || {
        site.request("shop", &[("x-try", "next")]).unwrap();
        site.get("/v1/tenants/acme/apps/shop/rollout")["rollout"]["state"] == "reverted"
    });
    let revert = |body: &Value| {
        let body = body.to_string();
        site.admin("POST", "/v1/tenants/acme/apps/shop/revert", body.as_bytes()).json(200)
    };
    let again = revert(&json!({}));
    assert_eq!((&again["changed"], &again["revision"]), (&json!(false), &json!("r2")), "{again}");
    assert!(again["steps"][0]["detail"].as_str().unwrap().contains("r3 was sent back already: it crashed"));
    assert_eq!(site.version("shop"), 2);
    // Whoever has seen how it stands can go further.
    let generation = again["app"]["generation"].clone();
    let back = revert(&json!({ "generation": generation }));
    assert_eq!((&back["changed"], &back["revision"]), (&json!(true), &json!("r4")), "{back}");
    assert_eq!(site.version("shop"), 1);
    // After that the newest revision is no candidate: the next one goes back from it.
    assert_eq!(revert(&json!({}))["revision"], "r5");
    assert_eq!(site.version("shop"), 2);
}

#[test]
fn the_rollout_of_an_app_that_is_out_of_service_stays_where_it_is() {
    let site = Site::new();
    site.deploy("shop", &version(1), &json!({})).json(200);
    site.admin("POST", "/v1/tenants/acme/apps/shop/pause", b"").json(200);
    site.deploy("shop", &version(2), &canary(1, 50)).json(200);
    // Much longer than the step is held; it was looked at meanwhile.
    std::thread::sleep(Duration::from_secs(1));
    let rollout = site.get("/v1/tenants/acme/apps/shop/rollout")["rollout"].clone();
    assert_eq!((&rollout["state"], &rollout["left_ms"]), (&json!("running"), &Value::Null), "{rollout}");
    site.admin("POST", "/v1/tenants/acme/apps/shop/resume", b"").json(200);
    until("it is promoted", || site.get("/v1/tenants/acme/apps/shop")["stable"] == "r2");
}

#[test]
fn a_revert_brings_routes_back_unless_somebody_else_has_them() {
    let site = Site::new();
    site.put("/v1/tenants/zeta", &json!({})).json(200);
    let on = |routes: &[&str]| json!({ "routes": routes });
    site.deploy("shop", &version(1), &on(&["shop.test/*", "old.test/*"])).json(200);
    let steps = json!({ "steps": [{ "percent": 5, "hold_ms": 60_000 }] });
    let both = json!({ "routes": ["shop.test/*", "new.test/*"], "rollout": steps });
    let refused = site.deploy("shop", &version(2), &both).refused(409, "rollout-routes");
    assert!(refused["notes"].to_string().contains("new.test/*"), "{refused}");
    assert_eq!(site.get("/v1/tenants/acme/apps/shop")["stable"], "r1");

    site.deploy("shop", &version(2), &on(&["shop.test/*"])).json(200);
    let turned = site.deploy("shop", &version(2), &on(&["shop.test/*", "shop.test/*"])).json(200);
    assert_eq!(turned["changed"], false);
    let digest = site.upload_as(&site.root, &version(9));
    let body = json!({ "component": digest, "terms": {}, "routes": ["old.test/*"] });
    site.put("/v1/tenants/zeta/apps/other", &body).json(200);
    let revert = || site.admin("POST", "/v1/tenants/acme/apps/shop/revert", b"");
    let taken = revert().refused(409, "route-taken");
    assert!(taken["title"].as_str().unwrap().contains("r1 had the route `old.test/*`"), "{taken}");
    assert_eq!((site.version("shop"), site.version("old")), (2, 9));
    assert_eq!(site.admin("DELETE", "/v1/tenants/zeta/apps/other", b"").status, 204);
    assert_eq!(revert().json(200)["revision"], "r3");
    assert_eq!((site.version("shop"), site.version("old")), (1, 1));
    let revisions = site.get("/v1/tenants/acme/apps/shop/revisions")["revisions"].clone();
    assert_eq!(revisions[1]["routes"], json!(["shop.test/*"]), "{revisions}");
    assert_eq!(revisions[0]["routes"], revisions[2]["routes"]);
}

#[test]
fn apps_that_are_not_asked_go_out_of_memory_and_come_back() {
    let site = Site::with(|config| config.bounds.loaded_max = 3);
    for number in 0..8 {
        site.deploy(&format!("app-{number}"), &version(number), &json!({})).json(200);
    }
    let loaded = || site.get("/v1/status")["loaded"].as_u64().unwrap();
    assert!(loaded() <= 3);
    for round in 0..3 {
        for number in 0..8_u32 {
            assert_eq!(site.version(&format!("app-{number}")), u64::from(number), "round {round}");
            assert!(loaded() <= 3, "there are never more");
        }
    }
    // Many at once, too.
    std::thread::scope(|scope| {
        let site = &site;
        for client in 0..6_u32 {
            scope.spawn(move || {
                for turn in 0..20 {
                    let number = (client * 3 + turn) % 8;
                    assert_eq!(site.version(&format!("app-{number}")), u64::from(number));
                    assert!(site.get("/v1/status")["loaded"].as_u64().unwrap() <= 3);
                }
            });
        }
    });
    // After a restart nothing is in memory until it is asked.
    let site = site.restarted(|config| config.bounds.loaded_max = 3);
    assert_eq!(site.get("/v1/status")["loaded"], 0);
    assert_eq!(site.version("app-5"), 5);
}

#[test]
fn what_is_compiled_already_needs_no_compiler() {
    let site = Site::new();
    site.deploy("shop", &version(1), &json!({})).json(200);
    // From here on nothing can be compiled.
    let site = site.restarted(|config| config.compiler = Some(vec!["/nonexistent/compiler".into()]));
    site.deploy("other", &version(2), &json!({})).refused(500, "compile-worker");
    let again = site.deploy("shop", &version(1), &json!({ "force": true })).json(200);
    assert_eq!((&again["revision"], &again["changed"]), (&json!("r2"), &json!(true)), "{again}");
    let steps: Vec<&str> =
        again["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["verify", "authority", "compile", "probe", "commit", "publish"]);
    assert_eq!(again["steps"][2]["detail"], "compiled before", "{again}");
    assert_eq!(site.version("shop"), 1);
    // As another app, it is looked at and tried like any other.
    site.deploy("twin", &version(1), &json!({})).json(200);
    assert_eq!(site.version("twin"), 1);
}

fn artifacts(data: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(data.join("artifacts")).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

#[test]
fn a_damaged_or_missing_artifact_is_compiled_again() {
    let site = Site::with(|config| config.bounds.loaded_max = 1);
    site.deploy("shop", &version(1), &json!({})).json(200);
    let [artifact] = &artifacts(&site.data)[..] else { panic!("one app has one artifact") };
    let unload = |number: u32| {
        site.deploy(&format!("other-{number}"), &version(100 + number), &json!({})).json(200);
        until("it goes", || site.get("/v1/tenants/acme/apps/shop")["loaded"] == false);
    };
    unload(1);
    let mut bytes = fs::read(artifact).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    // As a disk does it: in place.
    fs::write(artifact, &bytes).unwrap();
    assert_eq!(site.version("shop"), 1);
    unload(2);
    fs::remove_file(artifact).unwrap();
    assert_eq!(site.version("shop"), 1);
    // With neither compiled code nor component the app cannot be served, and the others are.
    unload(3);
    fs::remove_file(artifact).unwrap();
    let hex = Digest::of(&version(1)).hex();
    fs::remove_file(site.data.join("node/blobs/sha256").join(&hex[..2]).join(&hex)).unwrap();
    assert_eq!(site.request("shop", &[]).unwrap().status, 503);
    assert_eq!(site.version("other-3"), 103);
    // Deployed again, it is whole again.
    site.deploy("shop", &version(1), &json!({})).json(200);
    until("it is not tried at once after it failed", || site.request("shop", &[]).unwrap().status == 200);
}

#[test]
fn tenants_are_kept_apart() {
    let site = Site::new();
    site.put("/v1/tenants/zeta", &json!({})).json(200);
    let token = |tenant: &str, verb: &str| {
        let body = json!({ "tenant": tenant, "verb": verb }).to_string();
        let made = site.admin("POST", "/v1/tokens", body.as_bytes()).json(200);
        made["secret"].as_str().unwrap().to_owned()
    };
    let (acme, zeta, reader) = (token("acme", "deploy"), token("zeta", "admin"), token("acme", "read"));
    let component = version(1);
    let digest = site.upload_as(&acme, &component);
    let body = json!({ "component": digest, "terms": {}, "routes": ["shop.test/*"] }).to_string();
    let deploy = |token: &str, tenant: &str| {
        site.admin_as(token, "PUT", &format!("/v1/tenants/{tenant}/apps/shop"), body.as_bytes())
    };
    // Knowing what bytes are called is not having them.
    let head = |token: &str| site.admin_as(token, "HEAD", &format!("/v1/blobs/{digest}"), b"").status;
    assert_eq!([head(&acme), head(&zeta)], [200, 404]);
    deploy(&zeta, "zeta").refused(409, "not-uploaded");
    deploy(&zeta, "acme").refused(403, "admin-forbidden");
    deploy(&reader, "acme").refused(403, "admin-forbidden");
    deploy(&acme, "acme").json(200);
    assert_eq!(site.version("shop"), 1);
    site.upload_as(&zeta, &component);
    let taken = deploy(&zeta, "zeta").refused(409, "route-taken");
    assert!(!taken.to_string().contains("acme"), "{taken}");

    let names = |token: &str, path: &str, list: &str, key: &str| -> Vec<String> {
        let all = site.admin_as(token, "GET", path, b"").json(200);
        all[list].as_array().unwrap().iter().map(|it| it[key].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&acme, "/v1/apps", "apps", "app"), ["shop"]);
    assert_eq!(names(&zeta, "/v1/apps", "apps", "app"), [""; 0]);
    assert_eq!(names(&zeta, "/v1/tenants", "tenants", "tenant"), ["zeta"]);
    assert_eq!(names(&zeta, "/v1/tokens", "tokens", "tenant"), ["zeta"]);
    assert!(names(&zeta, "/v1/audit", "entries", "target").iter().all(|target| target.starts_with("zeta")));
    assert_eq!(site.admin_as(&zeta, "GET", "/v1/capacity?tenant=acme&app=shop", b"").status, 404);
    // Nobody gives away more than they have.
    for body in [json!({ "verb": "read" }), json!({ "tenant": "acme", "verb": "read" })] {
        let made = site.admin_as(&zeta, "POST", "/v1/tokens", body.to_string().as_bytes());
        made.refused(403, "admin-forbidden");
    }
    let others = names(&site.root, "/v1/tokens", "tokens", "token");
    let theirs = names(&zeta, "/v1/tokens", "tokens", "token");
    for other in others.iter().filter(|other| !theirs.contains(other)) {
        site.admin_as(&zeta, "DELETE", &format!("/v1/tokens/{other}"), b"").refused(404, "no-such-token");
    }
    // Rotated and deleted tokens are none.
    let id = &theirs[0];
    let rotated = site.admin("POST", &format!("/v1/tokens/{id}/rotate"), b"").json(200);
    site.admin_as(&zeta, "GET", "/v1/apps", b"").refused(401, "admin-token");
    let secret = rotated["secret"].as_str().unwrap();
    site.admin_as(secret, "GET", "/v1/apps", b"").json(200);
    assert_eq!(site.admin("DELETE", &format!("/v1/tokens/{id}"), b"").status, 204);
    site.admin_as(secret, "GET", "/v1/apps", b"").refused(401, "admin-token");
    site.admin("DELETE", "/v1/tenants/acme", b"").refused(409, "tenant-in-use");
}

#[test]
fn nothing_of_the_node_is_granted_unless_whoever_runs_it_allows_it() {
    let site = Site::new();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().canonicalize().unwrap();
    let terms = json!({ "terms": { "whole": { "grants": {
        "filesystem": [{ "directory": directory, "at": "/data", "access": "read" }],
    } } } });
    let refused = site.deploy("shop", &version(1), &terms).refused(403, "grant-not-allowed");
    assert!(refused["mend"].as_str().unwrap().contains("--allow directory:"), "{refused}");
    site.put("/v1/tenants/acme", &json!({ "allow": ["everything"] })).refused(400, "admin-request");
    let allow = json!({ "allow": [format!("directory:{}", directory.display())] });
    site.put("/v1/tenants/acme", &allow).json(200);
    let deployed = site.deploy("shop", &version(1), &terms).json(200);
    assert!(deployed["authority"].to_string().contains("/data"), "{deployed}");
    assert_eq!(site.version("shop"), 1);
    // What is no longer allowed is gone, also for what runs already.
    site.put("/v1/tenants/acme", &json!({})).json(200);
    let refused = site.request("shop", &[]).unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("x-error-code"), Some("not-loaded"));
    let forced = json!({ "terms": terms["terms"], "force": true });
    site.deploy("shop", &version(1), &forced).refused(403, "grant-not-allowed");
    site.put("/v1/tenants/acme", &allow).json(200);
    until("it is allowed again", || site.request("shop", &[]).unwrap().status == 200);
}

#[test]
fn no_more_sandboxes_are_reserved_than_there_are_and_a_shortfall_is_said_and_made_up_for() {
    let reserve = |reserved: u32| json!({ "quota": { "reserved_instances": reserved } });
    let site = Site::new();
    site.put("/v1/tenants/acme", &reserve(30)).json(200);
    let refused = site.put("/v1/tenants/zenith", &reserve(21)).refused(409, "reserve-too-large");
    assert!(
        refused["notes"].to_string().contains("50 sandboxes, of which other tenants have 30"),
        "{refused}"
    );
    assert!(refused["mend"].as_str().unwrap().contains("--pool"), "{refused}");
    let set = site.put("/v1/tenants/zenith", &reserve(20)).json(200);
    assert_eq!(set["reserved_instances"], 20, "{set}");
    assert_eq!(site.get("/v1/status")["wrong"], json!([]));

    // A smaller pool has too few: whose name comes first has all of it, at each start.
    let mut site = site;
    for _ in 0..3 {
        site = site.restarted(|config| config.bounds.pool_instances = 40);
        let has = |tenant: &str| site.get(&format!("/v1/tenants/{tenant}"))["reserved_instances"].clone();
        assert_eq!((has("acme"), has("zenith")), (json!(30), json!(10)));
    }
    let wrong = site.get("/v1/status")["wrong"].clone();
    assert_eq!(wrong[0]["code"], "reserve-short", "{wrong}");
    // What it should have it may keep; more it may not.
    site.put("/v1/tenants/zenith", &reserve(20)).json(200);
    site.put("/v1/tenants/zenith", &reserve(21)).refused(409, "reserve-too-large");
    // As soon as another has less, it has all of it.
    site.put("/v1/tenants/acme", &reserve(5)).json(200);
    assert_eq!(site.get("/v1/tenants/zenith")["reserved_instances"], 20);
    assert_eq!(site.get("/v1/status")["wrong"], json!([]));
}

#[test]
fn a_new_revision_is_tried_in_a_sandbox_of_its_tenants_share() {
    let site = Site::new();
    let all = json!({ "quota": { "reserved_instances": 50 } });
    site.put("/v1/tenants/zenith", &all).json(200);
    // Nothing is left for others: that is not the app's failure, and it is asked for again later.
    let busy = site.deploy("shop", &version(1), &json!({}));
    busy.refused(429, "deploy-busy");
    assert!(busy.header("retry-after").is_some(), "{}", busy.head);
    // The one that has them in reserve deploys.
    let digest = site.upload_as(&site.root, &version(2));
    let body = json!({ "component": digest, "terms": {}, "routes": ["zenith.test/*"] });
    site.put("/v1/tenants/zenith/apps/shop", &body).json(200);
    site.put("/v1/tenants/zenith", &json!({})).json(200);
    site.deploy("shop", &version(1), &json!({})).json(200);
    assert_eq!(site.version("shop"), 1);
}

#[test]
fn an_upload_goes_on_where_it_was_broken_off() {
    let site = Site::new();
    let component = version(1);
    let digest = Digest::of(&component);
    let path = format!("/v1/blobs/{digest}");
    let bearer = format!("Bearer {}", site.root);
    let patch = |offset: usize, bytes: &[u8]| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("upload-offset", &offset.to_string()),
            ("upload-length", &component.len().to_string()),
        ];
        ask(site.running().admin(), "PATCH", &path, &headers, bytes).unwrap()
    };
    let half = component.len() / 2;
    let part = patch(0, &component[..half]);
    assert_eq!((part.status, part.header("upload-offset")), (204, Some(half.to_string().as_str())));
    // Elsewhere than where it stands, it does not go on; and it says where.
    let wrong = patch(half + 1, &component[half + 1..]);
    wrong.refused(409, "upload-offset");
    assert_eq!(wrong.header("upload-offset"), Some(half.to_string().as_str()));
    let head = site.admin("HEAD", &path, b"");
    assert_eq!((head.status, head.header("upload-offset")), (404, Some(half.to_string().as_str())));
    // A connection that breaks in the middle leaves what has come.
    let mut stream = TcpStream::connect(site.running().admin()).unwrap();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: node\r\nauthorization: {bearer}\r\nupload-offset: {half}\r\nupload-length: {}\r\ncontent-length: {}\r\n\r\n",
        component.len(),
        component.len() - half
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&component[half..half + 3]).unwrap();
    drop(stream);
    let offset = || site.admin("HEAD", &path, b"").header("upload-offset").map(str::to_owned);
    until("what has come is there", || offset() == Some((half + 3).to_string()));
    until("nobody uploads it any more", || patch(half + 3, &component[half + 3..]).status == 201);
    let wrong = site.admin("PUT", &format!("/v1/blobs/{}", Digest::of(b"other")), b"bytes");
    wrong.refused(422, "upload-digest");
}

/// Not a test: the compiler that the next test starts.
#[test]
#[ignore = "the process that another test starts"]
fn compiles_as_it_is_told() {
    let mut order = Vec::new();
    std::io::stdin().read_to_end(&mut order).unwrap();
    if !order.is_empty() {
        // The line has to begin one of its own.
        println!();
        compile_worker(&order[..], std::io::stdout()).unwrap();
    }
}

fn compiler() -> Vec<std::ffi::OsString> {
    let mut command = vec![std::env::current_exe().unwrap().into_os_string()];
    command.extend(["--exact", "compiles_as_it_is_told", "--ignored", "--nocapture"].map(Into::into));
    command
}

#[test]
fn a_compiler_of_its_own_is_held_to_its_limits() {
    let site = Site::with(|config| config.compiler = Some(compiler()));
    let deployed = site.deploy("shop", &version(1), &json!({})).json(200);
    let compile =
        deployed["steps"].as_array().unwrap().iter().find(|step| step["step"] == "compile").unwrap();
    assert_eq!(compile["detail"], "compiled");
    assert_eq!(site.version("shop"), 1);
    site.deploy("shop", b"\0asm\x01\0\0\0", &json!({})).refused(422, "core-module");
    let site = site.restarted(|config| {
        config.compiler = Some(compiler());
        config.compile_limits = CompileLimits { memory_bytes: 4 << 20, ..CompileLimits::default() };
    });
    site.deploy("shop", &version(2), &json!({})).refused(422, "compile-limits");
    assert_eq!(site.version("shop"), 1);
    let site = site.restarted(|config| config.compiler = Some(vec!["/nowhere".into()]));
    site.deploy("shop", &version(2), &json!({})).refused(500, "compile-worker");
    // What was compiled before needs no compiler.
    assert_eq!(site.version("shop"), 1);
}

static CLOCK: AtomicU64 = AtomicU64::new(1_000_000);

#[test]
fn a_clock_that_jumps_moves_no_rollout_and_loses_nothing() {
    let clock = || UNIX_EPOCH + Duration::from_secs(CLOCK.load(Relaxed));
    let site = Site::with(|config| config.clock = clock as fn() -> SystemTime);
    site.deploy("shop", &version(1), &json!({})).json(200);
    site.deploy("shop", &version(2), &canary(3_600_000, 1)).json(200);
    let made =
        site.admin("POST", "/v1/tokens", json!({ "verb": "read", "lifetime_s": 60 }).to_string().as_bytes());
    let short = made.json(200)["secret"].as_str().unwrap().to_owned();
    // A year on, and back before anything was.
    for (time, status) in [(40_000_000, 401), (10, 200), (1_000_059, 200), (1_000_060, 401)] {
        CLOCK.store(time, Relaxed);
        assert_eq!(site.admin_as(&short, "GET", "/v1/apps", b"").status, status, "at {time}");
        // Looked at twice since: the step goes on as if nothing had happened.
        let left = || site.get("/v1/tenants/acme/apps/shop/rollout")["rollout"]["left_ms"].as_u64();
        until("it has begun", || left().is_some());
        let before = left();
        until("it is looked at", || left().zip(before).is_some_and(|(left, before)| left + 450 < before));
        assert!(left() > Some(3_500_000), "{:?}", left());
        let app = site.get("/v1/tenants/acme/apps/shop");
        assert_eq!(
            (&app["stable"], &app["rollout"]["state"]),
            (&json!("r1"), &json!("running")),
            "at {time}"
        );
        assert_eq!(site.version("shop"), 1);
    }
    CLOCK.store(5, Relaxed);
    site.deploy("other", &version(3), &json!({})).json(200);
    let site = site.restarted(|config| config.clock = clock as fn() -> SystemTime);
    assert_eq!(site.version("other"), 3);
    let audit = site.get("/v1/audit");
    assert_eq!(
        (&audit["intact"], &audit["entries"].as_array().unwrap().last().unwrap()["at"]),
        (&json!(true), &json!(5))
    );
}

#[test]
fn what_happens_is_visible() {
    let collector = TcpListener::bind(any()).unwrap();
    let address = collector.local_addr().unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let access = log.reopen().unwrap();
    let site = Site::with(|config| {
        config.telemetry.otlp = Some(format!("http://{address}"));
        config.telemetry.access_log = Some(Box::new(access));
    });
    site.deploy("shop", &version(1), &json!({})).json(200);
    site.deploy("bad", &trapping(1), &json!({})).json(200);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    assert_eq!(site.request("shop", &[("traceparent", &parent)]).unwrap().status, 200);
    assert_eq!(site.request("bad", &[]).unwrap().status, 500);

    // The span of the request, in a batch, at a real collector.
    let (mut stream, _) = collector.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut sent = Vec::new();
    let mut chunk = [0; 4_096];
    until("the span comes", || {
        let read = stream.read(&mut chunk).unwrap_or(0);
        sent.extend_from_slice(&chunk[..read]);
        String::from_utf8_lossy(&sent).contains(trace)
    });
    let text = String::from_utf8_lossy(&sent);
    assert!(
        text.starts_with("POST /v1/traces ") && text.contains("\"parentSpanId\":\"b7ad6b7169203331\""),
        "{text}"
    );

    let lines = || fs::read_to_string(log.path()).unwrap();
    until("both requests are in the access log", || lines().lines().count() == 2);
    let entries: Vec<Value> = lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said: Vec<_> =
        entries.iter().map(|it| (it["app"].as_str().unwrap(), it["status"].as_u64().unwrap())).collect();
    assert_eq!(said, [("shop", 200), ("bad", 500)]);

    let metrics = site.admin("GET", "/metrics", b"").text();
    for counted in [
        r#"tenon_requests_total{tenant="acme",app="shop",outcome="answered"} 1"#,
        r#"tenon_requests_total{tenant="acme",app="bad",outcome="trapped"} 1"#,
        r#"tenon_revision_requests_total{tenant="acme",app="bad",revision="r1",outcome="trapped"} 1"#,
    ] {
        assert!(metrics.contains(counted), "{counted} in\n{metrics}");
    }
    let top = site.get("/v1/top");
    let rows = top["rows"].as_array().unwrap();
    let row = |app: &str| rows.iter().find(|row| row["app"] == app).unwrap();
    assert_eq!((&row("shop")["errors"], &row("bad")["errors"]), (&json!(0), &json!(1)), "{top}");
    until("the failure is in the app's lines", || {
        let lines = site.admin("GET", "/v1/tenants/acme/apps/bad/logs", b"").text();
        lines.contains("\"outcome\":\"trapped\"") && lines.contains("POST /version: 500")
    });
    assert_eq!(site.admin("GET", "/v1/tenants/acme/apps/shop/logs", b"").text(), "");
    let capacity = site.get("/v1/capacity?tenant=acme&app=shop");
    assert!(
        capacity["fits"].as_u64().is_some() && capacity["bounds"].as_array().unwrap().len() >= 3,
        "{capacity}"
    );
    let status = site.get("/v1/status");
    assert_eq!(
        (&status["apps"], &status["state"], &status["wrong"]),
        (&json!(2), &json!("serving"), &json!([])),
        "{status}"
    );
    assert!(site.get("/v1/openapi.json")["paths"].as_object().unwrap().len() > 20);
    assert_eq!(ask(site.running().admin(), "GET", "/v1/live", &[], b"").unwrap().text(), "live\n");

    // The page is for everybody, the same whatever the node has, and a browser is held to it.
    let page = ask(site.running().admin(), "GET", "/", &[], b"").unwrap();
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8")),
        "{}",
        page.head
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(page.header(name), Some(value), "{}", page.head);
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(
        policy.ends_with("connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(!page.text().contains("acme") && !page.text().contains("shop"));
}

#[test]
fn lines_are_followed_as_they_come() {
    let site = Site::new();
    site.deploy("bad", &trapping(1), &json!({})).json(200);
    let mut stream = TcpStream::connect(site.running().admin()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let path = "/v1/tenants/acme/apps/bad/logs?follow=true";
    let head = format!("GET {path} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {}\r\n\r\n", site.root);
    stream.write_all(head.as_bytes()).unwrap();
    let mut seen = Vec::new();
    let mut chunk = [0; 4_096];
    let mut read = |wanted: &str| {
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..read]);
        }
    };
    read("200 OK");
    site.request("bad", &[]).unwrap();
    read("\"outcome\":\"trapped\"");
}

#[test]
fn who_guesses_tokens_is_slowed_down_and_who_has_one_is_not() {
    let site = Site::new();
    let guess = || site.admin_as("tenon_0000_0000", "GET", "/v1/apps", b"").status;
    let guesses: Vec<u16> = (0..100).map(|_| guess()).collect();
    assert!(guesses[0] == 401 && guesses.contains(&429), "{guesses:?}");
    site.get("/v1/apps");
    let large = vec![b' '; 5 << 20];
    assert!(
        ask(
            site.running().admin(),
            "PUT",
            "/v1/tenants/x",
            &[("authorization", &format!("Bearer {}", site.root))],
            &large
        )
        .map_or(true, |reply| reply.status == 413)
    );
}

#[test]
fn a_state_that_is_open_elsewhere_is_said_to_be() {
    let site = Site::new();
    let again = Node::start(Config::new(site.data.clone(), any(), any()));
    assert!(matches!(again, Err(tenon_node::StartError::Refused(said)) if said.code == "store-in-use"));
    // One that is to be replaced is waited for.
    let data = site.data.clone();
    let (sender, ended) = std::sync::mpsc::channel();
    let next = std::thread::spawn(move || {
        let mut config = Config::new(data, any(), any());
        config.replaces = Some(DEADLINE);
        let next = Node::start(config).unwrap();
        ended.recv().unwrap();
        next.apps()
    });
    let Site { running, _folder: folder, .. } = site;
    assert!(running.unwrap().drain().complete);
    sender.send(()).unwrap();
    assert_eq!(next.join().unwrap(), 0);
    drop(folder);
}

#[test]
fn many_deploys_at_once_all_serve() {
    let site = Arc::new(Site::new());
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let site = Arc::clone(&site);
            std::thread::spawn(move || {
                for number in 0..5 {
                    let number = thread * 5 + number;
                    site.deploy(&format!("app-{number}"), &version(number), &json!({})).json(200);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    for number in 0..20_u32 {
        assert_eq!(site.version(&format!("app-{number}")), u64::from(number));
    }
    // The same content from several at once makes one revision.
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let site = Arc::clone(&site);
            std::thread::spawn(move || {
                let body = json!({ "component": Digest::of(&version(0)).to_string(), "terms": {}, "routes": ["same.test/*"] });
                site.put("/v1/tenants/acme/apps/same", &body).json(200)["changed"] == true
            })
        })
        .collect();
    let changed = threads.into_iter().map(|thread| thread.join().unwrap()).filter(|changed| *changed).count();
    assert_eq!(changed, 1);
}

/// Not a test: the node that the next test kills. It runs in the folder it was started in.
#[test]
#[ignore = "the process that another test starts and kills"]
fn runs_until_it_is_killed() {
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    if word.trim() != "run" {
        return;
    }
    let site = Site::at(Path::new("."), |_| {});
    println!("\nserving {} {}", site.running().addresses()[0], site.running().admin());
    loop {
        std::thread::park();
    }
}

/// A node in a process of its own: where it serves, and where its admin API is.
fn start(folder: &Path) -> (std::process::Child, SocketAddr, SocketAddr) {
    use std::io::BufRead as _;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "runs_until_it_is_killed", "--ignored", "--nocapture"])
        .current_dir(folder)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "run").unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| line.unwrap().strip_prefix("serving ").map(str::to_owned)).unwrap();
    let (serves, admin) = line.split_once(' ').unwrap();
    (child, serves.parse().unwrap(), admin.parse().unwrap())
}

#[test]
fn a_node_that_is_killed_while_it_deploys_comes_back_with_all_it_has_acknowledged() {
    const ROUNDS: u64 = 16;
    let folder = tempfile::tempdir().unwrap();
    let acknowledged = AtomicU64::new(0);
    for round in 0..ROUNDS {
        let (mut child, serves, admin) = start(folder.path());
        let token = fs::read_to_string(folder.path().join("node/admin-token")).unwrap();
        let bearer = format!("Bearer {}", token.trim());
        let ask_admin = |method: &str, path: &str, body: &[u8]| {
            ask(admin, method, path, &[("authorization", &bearer)], body)
        };
        if round == 0 {
            ask_admin("PUT", "/v1/tenants/acme", b"{}").unwrap().json(200);
        } else {
            // What was acknowledged, or what was under way when the node was killed.
            let host = [("host", "shop.test"), ("content-type", "application/json")];
            let answered = ask(serves, "POST", "/version", &host, b"{}").unwrap().json(200).as_u64().unwrap();
            let known = acknowledged.load(Relaxed);
            assert!((known..=known + 1).contains(&answered), "round {round}: {answered} after {known}");
            acknowledged.store(answered, Relaxed);
        }
        std::thread::scope(|scope| {
            let deploys = scope.spawn(|| -> std::io::Result<()> {
                loop {
                    let number = acknowledged.load(Relaxed) + 1;
                    let component = version(u32::try_from(number).unwrap());
                    let digest = Digest::of(&component);
                    ask_admin("PUT", &format!("/v1/blobs/{digest}"), &component)?;
                    let body =
                        json!({ "component": digest.to_string(), "terms": {}, "routes": ["shop.test/*"] });
                    let put = ask_admin("PUT", "/v1/tenants/acme/apps/shop", body.to_string().as_bytes())?;
                    put.json(200);
                    acknowledged.store(number, Relaxed);
                }
            });
            let before = acknowledged.load(Relaxed);
            until("something is deployed", || acknowledged.load(Relaxed) > before);
            // At another moment each time, the same in every run.
            let random = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
            std::thread::sleep(Duration::from_micros(random % 40_000));
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(deploys.join().unwrap().is_err());
        });
    }
    let site = Site::at(folder.path(), |_| {});
    let audit = site.get("/v1/audit?limit=1000");
    assert_eq!(audit["intact"], true);
    assert!(site.version("shop") >= ROUNDS);
}

/// A token of a tenant that may deploy.
fn deployer(site: &Site, tenant: &str) -> String {
    let body = json!({ "tenant": tenant, "verb": "deploy" }).to_string();
    let made = site.admin("POST", "/v1/tokens", body.as_bytes()).json(200);
    made["secret"].as_str().unwrap().to_owned()
}

#[test]
fn one_tenants_deploys_do_not_stop_what_others_ask_of_the_node() {
    let site = Site::new();
    site.put("/v1/tenants/zeta", &json!({})).json(200);
    site.deploy("shop", &version(1), &json!({})).json(200);
    site.deploy("shop", &version(2), &json!({})).json(200);
    let gate = site.data.join("gate");
    // A compiler that takes as long as it likes.
    let stuck = format!("while [ ! -e {} ]; do sleep 0.02; done", gate.display());
    let site = site.restarted(|config| {
        config.compiler = Some(["/bin/sh", "-c", &stuck].map(Into::into).to_vec());
    });
    let (acme, zeta) = (deployer(&site, "acme"), deployer(&site, "zeta"));
    let component = version(3);
    let digest = site.upload_as(&acme, &component);
    site.upload_as(&zeta, &component);
    let deploy = |token: &str, path: &str| {
        let body = json!({ "component": digest, "terms": {} }).to_string();
        site.admin_as(token, "PUT", path, body.as_bytes())
    };
    std::thread::scope(|scope| {
        let many: Vec<_> = (0..12)
            .map(|number| {
                let (deploy, acme) = (&deploy, &acme);
                // One of them is the app that is reverted below.
                let app = if number == 0 { "shop".to_owned() } else { format!("app-{number}") };
                scope.spawn(move || deploy(acme, &format!("/v1/tenants/acme/apps/{app}")))
            })
            .collect();
        until("those beyond the bound are refused", || {
            many.iter().filter(|one| one.is_finished()).count() == 8
        });
        let busy = deploy(&acme, "/v1/tenants/acme/apps/shop");
        busy.refused(429, "deploy-busy");
        assert_eq!(busy.header("retry-after"), Some("1"));
        let other = scope.spawn(|| deploy(&zeta, "/v1/tenants/zeta/apps/shop"));
        // Whoever looks, and whoever wants the revision before, waits for none of them.
        assert_eq!(site.get("/v1/status")["state"], "serving");
        assert_eq!(site.admin("GET", "/metrics", b"").status, 200);
        site.admin("POST", "/v1/tenants/acme/apps/shop/revert", b"").json(200);
        assert_eq!(site.version("shop"), 1);
        assert!(!other.is_finished(), "another tenant has places of its own");
        fs::write(&gate, "").unwrap();
        let ended: Vec<u16> = many.into_iter().map(|one| one.join().unwrap().status).collect();
        assert_eq!(ended.iter().filter(|status| **status == 429).count(), 8, "{ended:?}");
        assert_ne!(other.join().unwrap().status, 429);
    });
}

#[test]
fn a_deploy_that_a_revert_came_before_is_a_conflict() {
    let site = Site::new();
    site.deploy("shop", &version(1), &json!({})).json(200);
    site.deploy("shop", &version(2), &json!({})).json(200);
    let (began, gate) = (site.data.join("began"), site.data.join("gate"));
    let waits = format!(
        ": > {}; while [ ! -e {} ]; do sleep 0.02; done; exec \"$@\"",
        began.display(),
        gate.display()
    );
    let command = ["/bin/sh", "-c", &waits, "sh"].map(Into::into).into_iter().chain(compiler());
    let site = site.restarted(|config| config.compiler = Some(command.collect()));
    std::thread::scope(|scope| {
        let deploy = scope.spawn(|| site.deploy("shop", &version(3), &json!({})));
        until("it compiles", || began.exists());
        site.admin("POST", "/v1/tenants/acme/apps/shop/revert", b"").json(200);
        fs::write(&gate, "").unwrap();
        deploy.join().unwrap().refused(409, "app-conflict");
        assert_eq!(site.version("shop"), 1, "what was reverted stays reverted");
        site.deploy("shop", &version(3), &json!({})).json(200);
        assert_eq!(site.version("shop"), 3);
    });
}

#[test]
fn of_two_who_change_a_tenant_the_second_is_told() {
    let site = Site::new();
    let before = site.get("/v1/tenants/acme")["generation"].as_u64().unwrap();
    let put = |generation: u64, apps: u32| {
        site.put("/v1/tenants/acme", &json!({ "quota": { "apps": apps }, "generation": generation }))
    };
    let first = put(before, 7).json(200);
    assert!(first["generation"].as_u64().unwrap() > before, "{first}");
    put(before, 8).refused(409, "tenant-conflict");
    assert_eq!(site.get("/v1/tenants/acme")["quota"]["apps"], 7);
    let site = site.restarted(|_| {});
    assert_eq!(site.get("/v1/tenants/acme")["generation"], first["generation"], "it is kept");
}

#[test]
fn the_last_records_are_written_before_the_node_ends() {
    /// A disk that takes its time.
    struct Slow(fs::File);
    impl std::io::Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            std::thread::sleep(Duration::from_millis(20));
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let to = log.reopen().unwrap();
    let mut site = Site::with(|config| config.telemetry.access_log = Some(Box::new(Slow(to))));
    site.deploy("shop", &version(1), &json!({})).json(200);
    for _ in 0..40 {
        site.version("shop");
    }
    site.running.take().unwrap().drain();
    let lines = fs::read_to_string(log.path()).unwrap();
    assert_eq!(lines.lines().count(), 40);
}

#[test]
fn code_that_serves_is_not_thrown_away_however_much_there_is() {
    let site = Site::new();
    site.deploy("shop", &version(1), &json!({})).json(200);
    let own = artifacts(&site.data);
    for file in &own {
        fs::File::options().write(true).open(file).unwrap().set_modified(UNIX_EPOCH).unwrap();
    }
    // It takes no room, and is more than is kept of what nobody needs.
    let large = fs::File::create(site.data.join("artifacts/other.cwasm")).unwrap();
    large.set_len(9 << 30).unwrap();
    let site = site.restarted(|config| config.compiler = Some(vec!["/nowhere".into()]));
    assert!(own.iter().all(|file| file.exists()), "{own:?}");
    assert_eq!(site.version("shop"), 1, "without a compiler");
}
