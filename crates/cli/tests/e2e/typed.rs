//! Typed exports over HTTP, as a client with JSON sees them.

use serde_json::{Value, json};
use tenon_testkit::client::{Reply, call, empty, get, request};
use tenon_testkit::{Guests, Serving};

use crate::support::{serve, tenon};

/// A POST of JSON text.
fn post(server: &Serving, path: &str, body: &str) -> Reply {
    send(server, path, "application/json", "", body.as_bytes())
}

fn send(server: &Serving, path: &str, media_type: &str, accept: &str, body: &[u8]) -> Reply {
    let mut request = tenon_testkit::client::post(path, body.to_vec());
    if !media_type.is_empty() {
        request.headers_mut().insert("content-type", media_type.parse().unwrap());
    }
    if !accept.is_empty() {
        request.headers_mut().insert("accept", accept.parse().unwrap());
    }
    call(server.address(), request)
}

fn problem(reply: Reply, status: u16, code: &str) -> Value {
    assert_eq!(reply.header("content-type"), "application/problem+json", "{}", reply.text());
    let reply = reply.expect_failure(status, code);
    let document: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((&document["status"], &document["code"]), (&json!(status), &json!(code)));
    assert_eq!(document["request_id"], reply.header("x-request-id"));
    document
}

#[test]
fn every_type_comes_back_as_it_went() {
    let server = serve("typed").start();
    for (function, value) in [
        ("bool-of", json!(true)),
        ("s8-of", json!(-128)),
        ("u8-of", json!(255)),
        ("s16-of", json!(-32768)),
        ("u16-of", json!(65535)),
        ("s32-of", json!(-2147483648)),
        ("u32-of", json!(4294967295_u32)),
        ("s64-of", json!("-9223372036854775808")),
        ("u64-of", json!("18446744073709551615")),
        ("f32-of", json!(0.1)),
        ("f64-of", json!("-Infinity")),
        ("f64-of", json!("NaN")),
        ("f64-of", json!(1.7976931348623157e308)),
        ("char-of", json!("🦀")),
        ("string-of", json!("a \"quote\", a \u{0} and a 🦀")),
        ("bytes-of", json!("AAH/")),
        ("list-of", json!(["a", "", "c"])),
        ("tuple-of", json!([7, "x", false])),
        ("color-of", json!("green")),
        ("access-of", json!(["read", "execute"])),
        ("point-of", json!({ "x": 1, "y": -2, "name": null })),
        ("shape-of", json!("empty")),
        ("shape-of", json!({ "circle": 0.5 })),
        ("shape-of", json!({ "polygon": [{ "x": 1, "y": 2, "name": "p" }] })),
        ("option-of", json!(null)),
        ("option-of", json!({ "some": null })),
        ("option-of", json!({ "some": 5 })),
    ] {
        let body = json!({ "value": value }).to_string();
        let reply = post(&server, &format!("/echo/{function}"), &body);
        assert_eq!(reply.header("content-type"), "application/json");
        let text = reply.expect(200);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value, "{function}");
    }
    server.stop();
}

#[test]
fn a_function_is_found_by_each_of_its_names() {
    let server = serve("typed").start();
    for path in [
        "/echo/u8-of",
        "/fixture:typed/echo/u8-of",
        "/fixture:typed@1.2.0/echo/u8-of",
        "/fixture%3Atyped%401.2.0/echo/u8-of",
    ] {
        assert_eq!(post(&server, path, "{\"value\": 7}").expect(200), "7\n");
    }
    assert_eq!(post(&server, "/greet", "{\"name\": \"Ann\"}").expect(200), "\"hello, Ann\"\n");
    let with = post(&server, "/greet", "{\"name\": \"Ann\", \"title\": \"Dr\"}");
    assert_eq!(with.expect(200), "\"hello, Dr Ann\"\n");

    let nothing = post(&server, "/say", "{\"text\": \"to the log\"}");
    assert_eq!((nothing.status.as_u16(), nothing.body.len()), (204, 0));
    // Without parameters, without a body.
    let reply = call(server.address(), request("POST", "/other/alive", empty()));
    assert_eq!(reply.expect(200), "\"yes\"\n");
    server.stop();
}

#[test]
fn a_typed_error_is_a_422_unless_the_function_may_not_fail() {
    let server = serve("typed").start();
    let failed = post(&server, "/fail", "{\"why\": \"no\"}");
    assert_eq!(failed.header("content-type"), "application/json");
    assert_eq!(failed.header("x-error-code"), "", "it is the app's own answer");
    assert_eq!(failed.expect(422), "\"no\"\n");

    let returned = post(&server, "/echo/result-of", "{\"value\": {\"err\": \"no\"}}");
    assert_eq!(returned.expect(422), "\"no\"\n");
    let returned = post(&server, "/echo/result-of", "{\"value\": {\"ok\": {\"x\": 1, \"y\": 2}}}");
    let point: Value = serde_json::from_str(&returned.expect(200)).unwrap();
    assert_eq!(point, json!({ "x": 1, "y": 2, "name": null }));
    server.stop();
}

#[test]
fn the_manifest_chooses_the_status_of_an_error() {
    let tenon = tenon();
    let folder = tenon.data().join("app");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(Guests::get("typed"), folder.join("typed.wasm")).unwrap();
    let manifest = |errors: &str| {
        let text = format!("[component.typed]\npath = \"typed.wasm\"\n\n[errors]\n{errors}\n");
        std::fs::write(folder.join("tenon.toml"), text).unwrap();
    };
    manifest("fail = 402");
    let server = tenon.serve(&folder).start();
    assert_eq!(post(&server, "/fail", "{\"why\": \"no\"}").expect(402), "\"no\"\n");
    let returned = post(&server, "/echo/result-of", "{\"value\": {\"err\": \"no\"}}");
    assert_eq!(returned.expect(422), "\"no\"\n", "nothing is said of this one");
    let document = call(server.address(), get("/openapi.json")).expect(200);
    let document: Value = serde_json::from_str(&document).unwrap();
    assert!(document["paths"]["/fail"]["post"]["responses"]["402"].is_object());
    server.stop();

    manifest("fial = 402");
    let refused = tenon.serve(&folder).refused().expect_code(1);
    refused.expect_stderr(&["unknown-error", "tenon.toml:5:1", "Did you mean `fail`?"]);
}

#[test]
fn a_body_that_does_not_fit_is_pointed_at() {
    let server = serve("typed").start();
    let syntax = post(&server, "/echo/point-of", "{\"value\": {\"x\": 1, \"y\": oops}}");
    assert_eq!(problem(syntax, 400, "invalid-json")["pointer"], "/value/y");

    for (path, body, pointer, says) in [
        ("/echo/point-of", "{\"value\": {\"x\": 1, \"y\": \"2\"}}", "/value/y", "an integer"),
        ("/echo/point-of", "{\"value\": {\"x\": 1}}", "/value", "`y`"),
        ("/echo/u8-of", "{\"value\": 256}", "/value", "from 0 to 255"),
        ("/echo/list-of", "{\"value\": [\"a\", 1]}", "/value/1", "a string"),
        ("/echo/u8-of", "{}", "", "the parameter `value`"),
        ("/echo/u8-of", "", "", "the parameter `value`"),
        ("/echo/u8-of", "[7]", "", "an object"),
        ("/greet", "{\"name\": \"Ann\", \"titel\": \"Dr\"}", "/titel", "did you mean `title`?"),
    ] {
        let document = problem(post(&server, path, body), 400, "invalid-arguments");
        assert_eq!(document["pointer"], pointer, "{document}");
        assert!(document.to_string().contains(says), "{document}");
    }
    server.stop();
}

#[test]
fn what_is_not_a_call_is_refused_with_the_way_to_make_one() {
    let server = serve("typed").start();
    let document = problem(post(&server, "/echo/u8off", "{}"), 404, "not-found");
    assert_eq!(document["nearest"][0], "/echo/u8-of", "{document}");
    let document = problem(post(&server, "/counters/value", "{}"), 404, "not-found");
    assert!(document["detail"].as_str().unwrap().contains("resource"), "{document}");

    let reply = call(server.address(), get("/greet"));
    assert_eq!(reply.header("allow"), "POST, OPTIONS");
    problem(reply, 405, "method-not-allowed");
    let reply = call(server.address(), tenon_testkit::client::post("/openapi.json", "{}"));
    assert_eq!(reply.header("allow"), "GET, HEAD, OPTIONS");
    problem(reply, 405, "method-not-allowed");
    let reply = call(server.address(), request("OPTIONS", "/greet", empty()));
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (204, "POST, OPTIONS"));

    // What a page of another site can make a browser send without asking.
    for media_type in
        ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        let reply = send(&server, "/greet", media_type, "", b"{\"name\": \"Ann\"}");
        problem(reply, 415, "unsupported-media-type");
    }
    for media_type in ["application/json; charset=utf-8", "application/vnd.acme+json"] {
        send(&server, "/greet", media_type, "", b"{\"name\": \"Ann\"}").expect(200);
    }
    server.stop();
}

#[test]
fn bytes_may_go_and_come_raw() {
    let server = serve("typed").start();
    let bytes: Vec<u8> = (0..=255).collect();
    let octets = "application/octet-stream";
    let raw = send(&server, "/echo/bytes-of", octets, octets, &bytes);
    assert_eq!((raw.status.as_u16(), raw.header("content-type"), &raw.body[..]), (200, octets, &bytes[..]));
    let json = send(&server, "/echo/bytes-of", octets, "", b"abc");
    assert_eq!(json.expect(200), "\"YWJj\"\n");
    problem(send(&server, "/echo/string-of", octets, "", b"abc"), 415, "unsupported-media-type");
    server.stop();
}

#[test]
fn a_body_is_bounded() {
    let server = serve("typed").args(["--request-body", "1KiB"]).start();
    let long = format!("{{\"value\": \"{}\"}}", "x".repeat(2_000));
    post(&server, "/echo/string-of", &long).expect_failure(413, "request-too-large");
    let deep = format!("{{\"value\": {}", "[".repeat(900));
    problem(post(&server, "/echo/list-of", &deep), 400, "invalid-json");
    post(&server, "/echo/u8-of", "{\"value\": 1}").expect(200);
    server.stop();
}

#[test]
fn a_failed_function_is_a_failed_request() {
    let server = serve("typed").args(["--cpu", "100ms", "--memory", "16MiB"]).start();
    let call = |path: &str| call(server.address(), request("POST", path, empty()));
    call("/panic").expect_failure(500, "guest-trap");
    call("/spin").expect_failure(504, "cpu-deadline");
    call("/grow").expect_failure(500, "out-of-memory");
    call("/other/alive").expect(200);
    server.stop();
}

#[test]
fn it_tells_what_it_is() {
    let server = serve("typed").start();
    let reply = call(server.address(), get("/openapi.json"));
    assert_eq!(reply.header("content-type"), "application/json");
    let document: Value = serde_json::from_str(&reply.expect(200)).unwrap();
    assert_eq!(document["openapi"], "3.1.1");
    assert_eq!(document["info"]["version"], "1.2.0");
    assert!(document["paths"]["/greet"]["post"].is_object());
    assert!(document["paths"]["/counters/alive"]["post"].is_object());
    assert!(document["paths"].get("/counters/value").is_none(), "it needs a resource");
    assert!(document["x-tenon-skipped"].to_string().contains("fixture:typed/counters@1.2.0.value"));

    let page = call(server.address(), get("/"));
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert!(page.expect(200).contains("/echo/point-of"));
    let head = call(server.address(), request("HEAD", "/", empty()));
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    server.stop();
}

#[test]
fn compiled_code_is_called_without_being_described() {
    let tenon = tenon();
    let guest = Guests::get("typed");
    let compiled = tenon.data().join("typed.cwasm");
    let done =
        tenon.run(tenon.data(), ["compile".as_ref(), guest.as_os_str(), "-o".as_ref(), compiled.as_os_str()]);
    done.expect_code(0);
    let server = tenon.serve(&compiled).start();
    post(&server, "/greet", "{\"name\": \"Ann\"}").expect(200);
    problem(call(server.address(), get("/openapi.json")), 404, "not-found");
    server.stop();
}

#[test]
fn streams_and_async_functions_are_served() {
    let server = serve("typed-async").start();
    assert_eq!(post(&server, "/api/double", "{\"value\": 21}").expect(200), "42\n");

    let bytes: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
    let streamed = post(&server, "/api/bytes", "{\"length\": 300000}");
    assert_eq!(streamed.header("content-type"), "application/octet-stream");
    assert_eq!(streamed.header("content-length"), "", "it is sent as it is written");
    assert_eq!(streamed.body, bytes);
    let json = send(&server, "/api/bytes", "application/json", "application/json", b"{\"length\": 3}");
    assert_eq!(json.expect(200), "\"AAEC\"\n");

    let shouted = send(&server, "/api/shout", "application/octet-stream", "", b"quiet");
    assert_eq!(shouted.expect(200), "\"QUIET\"\n");
    assert_eq!(post(&server, "/api/shout", "{\"text\": \"cXVpZXQ=\"}").expect(200), "\"QUIET\"\n");

    let document = problem(post(&server, "/api/count", "{\"up-to\": 3}"), 404, "not-found");
    assert!(document["detail"].as_str().unwrap().contains("stream"), "{document}");
    server.stop();
}
