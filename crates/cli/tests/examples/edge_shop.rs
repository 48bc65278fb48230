//! `examples/edge-shop`, the reference architecture: four components in four languages, one service, state that is kept.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tenon_testkit::client::{Body, Reply, call, get, post, request};
use tenon_testkit::differential::{Question, as_fresh};
use tenon_testkit::{DEADLINE, Serving, Tenon, repository, until};

use super::{Example, is_inert, json_question, names, sending};

fn shop() -> &'static Example {
    static SHOP: OnceLock<Example> = OnceLock::new();
    SHOP.get_or_init(|| Example::build("edge-shop", "composition.toml"))
}

/// The shop's store is one process's at a time; what is compiled is everybody's.
fn alone() -> MutexGuard<'static, ()> {
    static STORE: Mutex<()> = Mutex::new(());
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bearing(mut request: http::Request<Body>, token: &str) -> http::Request<Body> {
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The JSON of a reply that must have this status.
#[track_caller]
fn answer(reply: Reply, status: u16) -> Value {
    let text = reply.expect(status);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn token(server: &Serving, login: &Value) -> String {
    answer(call(server.address(), sending("/sign-in", login)), 200)["token"].as_str().unwrap().to_owned()
}

fn ada(server: &Serving) -> String {
    token(server, &json!({ "user": "ada", "password": "lovelace" }))
}

fn order(server: &Serving, token: &str, product: &str, quantity: u32) -> Reply {
    let lines = json!({ "lines": [{ "product": product, "quantity": quantity }] });
    call(server.address(), bearing(sending("/orders", &lines), token))
}

#[test]
fn an_order_outlives_a_killed_server() {
    let _alone = alone();
    let mut server = shop().serve();
    let token = ada(&server);
    let placed = order(&server, &token, "mortise", 5);
    let location = placed.header("location").to_owned();
    let placed = answer(placed, 201);
    assert_eq!(
        (&placed["customer"], &placed["cents"], &placed["lines"]),
        (&json!("ada"), &json!(5 * 3450), &json!([{ "product": "mortise", "quantity": 5 }]))
    );

    let short = answer(order(&server, &token, "mortise", 8), 409);
    assert_eq!(
        (&short["error"], &short["product"], &short["wanted"], &short["left"]),
        (&json!("out-of-stock"), &json!("mortise"), &json!(8), &json!(7))
    );

    let process = Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    kill_process(process, Signal::KILL).unwrap();
    server.wait(DEADLINE);

    let server = shop().serve();
    let kept = answer(call(server.address(), bearing(get(&location), &token)), 200);
    assert_eq!(kept, placed, "what was acknowledged is there, and the token is still good");
    let listed = answer(call(server.address(), bearing(get("/orders"), &token)), 200);
    assert!(listed["orders"].as_array().unwrap().contains(&placed), "{listed}");
    assert_eq!(answer(call(server.address(), get("/products/mortise")), 200)["stock"], 7);
    let next = answer(order(&server, &token, "mortise", 7), 201);
    assert!(next["number"].as_u64() > placed["number"].as_u64(), "no number is given twice: {next}");

    // Somebody else's order is as unknown as one that was never placed.
    let bob = self::token(&server, &json!({ "user": "bob", "password": "builder" }));
    assert_eq!(answer(call(server.address(), bearing(get(&location), &bob)), 404)["error"], "no-such-order");
    server.stop();
}

#[test]
fn nobody_gets_what_somebody_else_has_bought() {
    const ORDERS: usize = 16;
    let _alone = alone();
    let server = shop().serve();
    let token = ada(&server);
    // 40 mallets, and 16 who want five of them at the same time.
    let place = || loop {
        let reply = order(&server, &token, "mallet", 5);
        // Others were faster each time it was tried.
        if reply.status != 503 {
            return reply;
        }
    };
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let placing: Vec<_> = (0..ORDERS).map(|_| scope.spawn(place)).collect();
        placing.into_iter().map(|placed| placed.join().unwrap()).collect()
    });
    let (placed, refused): (Vec<Reply>, Vec<Reply>) =
        replies.into_iter().partition(|reply| reply.status == 201);
    assert_eq!((placed.len(), refused.len()), (8, 8));
    let numbers: BTreeSet<_> =
        placed.into_iter().map(|reply| answer(reply, 201)["number"].as_u64()).collect();
    assert_eq!(numbers.len(), 8, "each order has a number of its own: {numbers:?}");
    for reply in refused {
        assert_eq!(answer(reply, 409)["left"], 0);
    }
    let listed = answer(call(server.address(), bearing(get("/orders"), &token)), 200);
    let listed: BTreeSet<_> =
        listed["orders"].as_array().unwrap().iter().map(|order| order["number"].as_u64()).collect();
    assert!(numbers.is_subset(&listed), "{listed:?}");
    server.stop();
}

/// Each request in a sandbox of its own, which is not how the shop is served.
#[test]
fn the_edge_shop_answers_from_a_used_place_as_from_a_new_one() {
    let _alone = alone();
    let serve = shop().tenon.serve(&shop().folder).args(["--reuse-requests", "1"]);
    let sign_in = json_question("/sign-in", &json!({ "user": "ada", "password": "wrong" }));
    let questions = [Question::get("/products/mortise"), Question::get("/orders"), sign_in];
    as_fresh(&serve, &questions, &[]);
}

#[test]
fn the_cache_answers_until_a_price_changes_and_never_for_the_stock() {
    let _alone = alone();
    let server = shop().serve();
    let product = || call(server.address(), get("/products/glue"));
    // A sandbox rests a moment after the client has its answer: a second request right then gets another one.
    let hit = || {
        until("an answer from the cache", DEADLINE, || {
            let reply = product();
            (reply.header("x-cache") == "hit").then_some(reply)
        })
    };
    assert_eq!(product().header("x-cache"), "miss");
    let before = answer(hit(), 200);
    answer(order(&server, &ada(&server), "glue", 3), 201);
    let after = answer(hit(), 200);
    assert_eq!(
        after["stock"].as_u64().unwrap() + 3,
        before["stock"].as_u64().unwrap(),
        "stock is not cached"
    );

    let zoe = token(&server, &json!({ "user": "zoe", "password": "shopkeeper" }));
    let mut change = sending("/products/glue/price", &json!({ "cents": 1390 }));
    *change.method_mut() = http::Method::PUT;
    assert_eq!(answer(call(server.address(), bearing(change, &zoe)), 200)["cents"], 1390);
    // What is ordered costs what it costs now, whatever a cache has.
    assert_eq!(answer(order(&server, &ada(&server), "glue", 1), 201)["cents"], 1390);
    until("the new price everywhere", DEADLINE, || (answer(product(), 200)["cents"] == 1390).then_some(()));
    server.stop();

    // A fresh sandbox for each request has an empty cache: that is what `reuse` is asked for.
    let server = shop().tenon.serve(&shop().folder).args(["--reuse-requests", "1"]).start();
    for _ in 0..3 {
        assert_eq!(call(server.address(), get("/products")).header("x-cache"), "miss");
    }
    server.stop();
}

#[test]
fn whoever_may_not_is_told_why() {
    let _alone = alone();
    let server = shop().serve();
    let refusal = |request: http::Request<Body>, status: u16| {
        let reply = call(server.address(), request);
        assert_eq!(status == 401, !reply.header("www-authenticate").is_empty(), "{reply:?}");
        answer(reply, status)["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(refusal(get("/orders"), 401), "no-token");
    assert_eq!(refusal(bearing(get("/orders"), "not-a-token"), 401), "malformed");
    let good = ada(&server);
    let mut forged = good.clone().into_bytes();
    let at = good.rfind('.').unwrap() + 5;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    assert_eq!(refusal(bearing(get("/orders"), str::from_utf8(&forged).unwrap()), 401), "bad-signature");
    let old = token(&server, &json!({ "user": "ada", "password": "lovelace", "seconds": 0 }));
    assert_eq!(refusal(bearing(get("/orders"), &old), 401), "expired");
    let bob = token(&server, &json!({ "user": "bob", "password": "builder" }));
    let lines = json!({ "lines": [{ "product": "glue", "quantity": 1 }] });
    assert_eq!(refusal(bearing(sending("/orders", &lines), &bob), 403), "missing-scope");

    let wrong = call(server.address(), sending("/sign-in", &json!({ "user": "ada", "password": "byron" })));
    assert_eq!(answer(wrong, 401)["error"], "wrong-password");
    assert_eq!(refusal(get("/no/such/route"), 404), "not-found");
    assert_eq!(refusal(get("/products/anvil"), 404), "no-such-product");
    let reply = call(server.address(), request("DELETE", "/orders", tenon_testkit::client::empty()));
    assert_eq!(reply.header("allow"), "GET, POST");
    assert_eq!(refusal(bearing(post("/orders", "{"), &good), 400), "not-json");
    let none = json!({ "lines": [] });
    assert_eq!(refusal(bearing(sending("/orders", &none), &good), 422), "invalid-body");
    let anvil = json!({ "lines": [{ "product": "anvil", "quantity": 1 }] });
    assert_eq!(refusal(bearing(sending("/orders", &anvil), &good), 422), "no-such-product");
    server.stop();
}

#[test]
fn without_its_grant_a_component_is_not_served() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    for (grant, interface, component) in
        [("wasi:keyvalue", "wasi:keyvalue/store", "database"), ("wasi:config", "wasi:config/store", "auth")]
    {
        let manifest = shop().with_manifest(&tenon, |text| {
            text.lines().filter(|line| !line.contains(grant)).map(|line| format!("{line}\n")).collect()
        });
        let refused = tenon.serve(&manifest).refused().expect_code(1);
        let (table, line) = (format!("[component.{component}.grants]"), format!("\"{grant}\" = "));
        refused.expect_stderr(&["import-not-granted", interface, component, &table, &line]);
    }
}

#[test]
fn the_edge_shop_is_one_file_of_four_languages() {
    let example = shop();
    let composed = example.compose();
    let shown = example.inspect(&composed);
    assert_eq!(names(&shown, "components"), ["auth", "cache", "database", "logic"]);
    assert_eq!(names(&shown, "exports"), ["demo:shop/handler@1.0.0"]);
    let imports = names(&shown, "imports");
    let granted = ["wasi:config/store", "wasi:keyvalue/atomics", "wasi:keyvalue/store"];
    let inert = |import: &String| is_inert(import) || import.starts_with("wasi:filesystem/");
    let open: Vec<_> = imports.iter().filter(|import| !inert(import)).collect();
    assert_eq!(open.len(), granted.len(), "{open:?}");
    assert!(open.iter().all(|import| granted.iter().any(|name| import.starts_with(name))), "{open:?}");

    let shown = example.inspect(&example.folder.join(".tenon/cache.wasm"));
    assert_eq!(names(&shown, "imports"), [""; 0], "a cache needs memory and nothing else");
    let shown = example.inspect(&example.folder.join(".tenon/auth.wasm"));
    assert!(names(&shown, "imports").iter().all(|import| !import.starts_with("wasi:keyvalue")));
}

#[test]
fn each_part_of_the_edge_shop_keeps_its_contract() {
    let example = shop();
    example.passes_its_contract_tests();

    // One more than the cache keeps: the one that nobody asked for goes.
    let mut lines: Vec<String> = (0..64).map(|key| format!("cache.put(\"{key}\", [{key}], 9)")).collect();
    lines.push("cache.get(\"0\", 0)".to_owned());
    lines.push("cache.put(\"64\", [64], 9)".to_owned());
    for question in ["get(\"0\", 0)", "get(\"1\", 0)", "get(\"64\", 0)", "size()"] {
        lines.push(format!("cache.{question}"));
    }
    let cache = example.folder.join(".tenon/cache.wasm");
    let args = ["call", cache.to_str().unwrap(), "--session", "--quiet"];
    let ended =
        example.tenon.run_with_input(&example.folder, args, &(lines.join("\n") + "\n")).expect_code(0);
    let answers: Vec<_> = ended.stdout.lines().rev().take(4).collect();
    assert_eq!(answers, ["64", "some([64])", "none", "some([0])"]);
}

/// What the shop imports beyond the inert interfaces of WASI, in JavaScript: a store in memory, and a configuration.
const HOST_UNDER_NODE: &str = r#"
const values = new Map();
class Bucket {
  get(key) { return values.get(key); }
  set(key, value) { values.set(key, value); }
  delete(key) { values.delete(key); }
  exists(key) { return values.has(key); }
  listKeys() { return { keys: [...values.keys()], cursor: undefined }; }
}
class Cas {
  static new(bucket, key) { return Object.assign(new Cas(), { bucket, key, seen: bucket.get(key) }); }
  current() { return this.seen; }
}
export const store = {
  Bucket,
  open(name) {
    if (name !== "shop") throw { tag: "no-such-store" };
    return new Bucket();
  },
};
export const atomics = {
  Cas,
  increment(bucket, key, delta) {
    const sum = BigInt(new TextDecoder().decode(bucket.get(key)) || "0") + delta;
    bucket.set(key, new TextEncoder().encode(String(sum)));
    return sum;
  },
  // One request at a time: nobody changes a value meanwhile.
  swap(cas, value) { cas.bucket.set(cas.key, value); },
};
const settings = new Map([["signing-key", process.argv[2]]]);
export const config = { get: (key) => settings.get(key), getAll: () => [...settings] };
"#;

/// Answers requests, given as JSON, through what jco made of the composed file.
const RUN_UNDER_NODE: &str = r#"
import { handler } from "./composed.js";
const answers = JSON.parse(process.argv[3]).map(({ method, path, headers, body }) => {
  const sent = body === null ? undefined : new TextEncoder().encode(JSON.stringify(body));
  const response = handler.handle({ method, path, headers, body: sent });
  const headersBack = Object.fromEntries(response.headers);
  return { status: response.status, headers: headersBack, body: JSON.parse(new TextDecoder().decode(response.body)) };
});
console.log(JSON.stringify(answers));
"#;

/// The composed file as it is, in Node.js, through another implementation of components and of WASI. Four languages, and
/// resources that come from the host.
#[test]
fn the_edge_shop_runs_under_another_runtime() {
    const KEY: &str = "edge-shop-development-key-not-for-production";
    let _alone = alone();
    // Not where another test composes meanwhile.
    let composed = shop().tenon.data().join("elsewhere.wasm");
    let compose = ["compose", "--config", shop().manifest, "-o", composed.to_str().unwrap()];
    shop().tenon.run(&shop().folder, compose).expect_code(0);
    let folder = composed.with_extension("node");
    let modules = repository().join(".tools/js/node_modules");
    let node = |args: &[&std::ffi::OsStr]| {
        let done = std::process::Command::new("node").args(args).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    let jco = modules.join("@bytecodealliance/jco/dist/jco.js");
    let out = [jco.as_ref(), "transpile".as_ref(), composed.as_ref(), "-o".as_ref(), folder.as_ref()];
    let options = ["--name", "composed", "--map", "wasi:keyvalue/*=./host.js#*"];
    let more = ["--map", "wasi:config/store=./host.js#config"];
    let options: Vec<&std::ffi::OsStr> =
        options.iter().chain(&more).map(std::convert::AsRef::as_ref).collect();
    node(&[&out[..], &options].concat());
    for (file, text) in
        [("package.json", r#"{"type":"module"}"#), ("host.js", HOST_UNDER_NODE), ("run.js", RUN_UNDER_NODE)]
    {
        fs::write(folder.join(file), text).unwrap();
    }
    std::os::unix::fs::symlink(modules, folder.join("node_modules")).unwrap();

    // A token that the shop signed here is good there: the key is the same.
    let server = shop().serve();
    let token = ada(&server);
    server.stop();
    let bearer = json!([["content-type", "application/json"], ["authorization", format!("Bearer {token}")]]);
    let asked = |method: &str, path: &str, headers: &Value, body: Value| json!({ "method": method, "path": path, "headers": headers, "body": body });
    let order = |quantity: u32| json!({ "lines": [{ "product": "mortise", "quantity": quantity }] });
    let (none, plain) = (json!([]), json!([["content-type", "application/json"]]));
    let requests = json!([
        asked("POST", "/sign-in", &plain, json!({ "user": "bob", "password": "builder" })),
        asked("GET", "/products/mortise", &none, Value::Null),
        asked("POST", "/orders", &bearer, order(5)),
        asked("POST", "/orders", &bearer, order(8)),
        asked("GET", "/orders", &bearer, Value::Null),
        asked("GET", "/products/mortise", &none, Value::Null),
        asked("GET", "/products/mortise", &none, Value::Null),
        asked("GET", "/orders", &none, Value::Null),
    ]);
    let run = folder.join("run.js");
    let answered = node(&[run.as_ref(), KEY.as_ref(), requests.to_string().as_ref()]);
    let answers: Value = serde_json::from_slice(&answered).unwrap();
    let statuses: Vec<_> =
        answers.as_array().unwrap().iter().map(|it| it["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 201, 409, 200, 200, 200, 401], "{answers:#}");
    assert!(answers[0]["body"]["token"].as_str().is_some_and(|token| token.split('.').count() == 3));
    assert_eq!(
        (&answers[1]["body"]["stock"], &answers[1]["headers"]["x-cache"]),
        (&json!(12), &json!("miss"))
    );
    assert_eq!(
        (&answers[2]["body"]["customer"], &answers[2]["body"]["cents"]),
        (&json!("ada"), &json!(5 * 3450))
    );
    assert_eq!(
        (&answers[3]["body"]["error"], &answers[3]["body"]["left"]),
        (&json!("out-of-stock"), &json!(7))
    );
    assert_eq!(answers[4]["body"]["orders"][0], answers[2]["body"]);
    assert_eq!(answers[5]["body"]["stock"], 7, "what was bought is gone");
    assert_eq!(answers[6]["headers"]["x-cache"], "hit");
}
