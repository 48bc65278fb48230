//! Typed exports over HTTP, as a client with JSON sees them.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tenon_testkit::client::{Connection, Reply, call, empty, fed, get, request};
use tenon_testkit::{DEADLINE, Guests, Serving, Tenon, until};

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

/// A folder with a manifest that serves the guest `name` under these limits.
fn app(tenon: &Tenon, name: &str, limits: &str) -> PathBuf {
    let folder = tenon.data().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(Guests::get(name), folder.join("app.wasm")).unwrap();
    let text = format!("[component.app]\npath = \"app.wasm\"\n\n[limits]\n{limits}\n");
    std::fs::write(folder.join("tenon.toml"), text).unwrap();
    folder
}

#[test]
fn bytes_are_bounded_by_the_limits_and_nothing_else() {
    let octets = "application/octet-stream";
    let bytes: Vec<u8> = (0..16 << 20).map(|number: u32| (number >> 8) as u8 ^ number as u8).collect();
    let tenon = tenon();
    for (guest, path) in [("typed", "/echo/bytes-of"), ("typed-async", "/api/bytes-of")] {
        let server = tenon.serve(app(&tenon, guest, "request-body = \"24MiB\"")).start();
        let raw = send(&server, path, octets, octets, &bytes);
        assert_eq!((raw.status.as_u16(), raw.body.len()), (200, bytes.len()), "{guest}");
        assert!(raw.body == bytes, "{guest}");
        let text = json!({ "value": STANDARD.encode(&bytes) }).to_string();
        let answer: Value = serde_json::from_str(&post(&server, path, &text).expect(200)).unwrap();
        assert!(STANDARD.decode(answer.as_str().unwrap()).unwrap() == bytes, "{guest}");
        server.stop();

        for (limits, status, code) in [
            ("request-body = \"15MiB\"", 413, "request-too-large"),
            ("request-body = \"16MiB\"\nresponse-body = \"15MiB\"", 500, "response-body-limit"),
            ("request-body = \"16MiB\"\nhost-call-bytes = \"15MiB\"", 500, "host-call-limit"),
        ] {
            let server = tenon.serve(app(&tenon, guest, limits)).start();
            send(&server, path, octets, octets, &bytes).expect_failure(status, code);
            server.stop();
        }
    }
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
    let server = serve("typed").args(["--cpu", "500ms", "--memory", "16MiB"]).start();
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
fn compiled_code_is_described_like_its_component() {
    let tenon = tenon();
    let guest = Guests::get("typed");
    let compiled = tenon.data().join("typed.cwasm");
    let done =
        tenon.run(tenon.data(), ["compile".as_ref(), guest.as_os_str(), "-o".as_ref(), compiled.as_os_str()]);
    done.expect_code(0);
    let server = tenon.serve(&compiled).start();
    post(&server, "/greet", "{\"name\": \"Ann\"}").expect(200);
    let document = call(server.address(), get("/openapi.json")).expect(200);
    let page = call(server.address(), get("/")).expect(200);
    server.stop();

    let server = tenon.serve(&guest).start();
    assert_eq!(document, call(server.address(), get("/openapi.json")).expect(200));
    assert_eq!(page, call(server.address(), get("/")).expect(200));
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

    server.stop();
}

/// The values of a body of lines.
fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status.as_u16(), 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/x-ndjson");
    assert_eq!(reply.header("content-length"), "", "it is sent as it is written");
    let text = reply.text();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn streams_of_values_are_lines() {
    let server = serve("typed-async").start();
    assert_eq!(lines(&post(&server, "/api/count", "{\"up-to\": 3}")), [json!(1), json!(2), json!(3)]);
    assert_eq!(lines(&post(&server, "/api/ticks", "{\"number\": 2}")), [Value::Null, Value::Null]);
    assert!(lines(&post(&server, "/api/readings", "{\"number\": 0}")).is_empty());

    let readings = lines(&post(&server, "/api/readings", "{\"number\": 1000}"));
    assert_eq!(readings.len(), 1_000);
    assert_eq!(
        readings[0],
        json!({
            "id": "18446744073709551615", "name": "reading 0", "at": 0.0, "level": "high", "tags": [],
            "marks": ["first"], "shape": "none",
        })
    );
    assert_eq!(
        readings[5],
        json!({
            "id": "18446744073709551610", "name": "reading 5", "at": null, "level": "low", "tags": ["\"0\"", "\"1\""],
            "marks": [], "shape": { "named": ["n", 7] },
        })
    );
    assert_eq!(readings[4]["shape"], json!({ "circle": 0.1 }));

    let whole = send(&server, "/api/count", "application/json", "application/json", b"{\"up-to\": 3}");
    assert_eq!(whole.expect(200), "[1,2,3]\n");
    // The error of a `result` is one, and the stream its good side.
    assert_eq!(lines(&post(&server, "/api/checked", "{\"number\": 2}")).len(), 2);
    assert_eq!(post(&server, "/api/checked", "{\"number\": 200}").expect(422), "\"high\"\n");
    server.stop();
}

#[test]
fn streams_and_futures_within_values_are_read_out() {
    let server = serve("typed-async").start();
    let words = post(&server, "/api/words", "{\"text\": \"a b c\"}");
    assert_eq!(words.expect(200), "[[\"a\",\"b\",\"c\"],3]\n");
    assert_eq!(post(&server, "/api/later", "{\"value\": \"x\"}").expect(200), "\"x\"\n");
    let report = post(&server, "/api/reported", "{\"number\": 3}").expect(200);
    assert_eq!(
        serde_json::from_str::<Value>(&report).unwrap(),
        json!({ "title": "the title", "lines": [[], ["line 1"], ["line 2", "line 2"]] })
    );
    server.stop();
}

#[test]
fn the_error_of_a_future_is_a_typed_error() {
    let tenon = tenon();
    let folder = tenon.data().join("app");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(Guests::get("typed-async"), folder.join("streams.wasm")).unwrap();
    let text = "[component.streams]\npath = \"streams.wasm\"\n\n\
                [errors]\n\"fixture:streams/api.level\" = { high = 409 }\n";
    std::fs::write(folder.join("tenon.toml"), text).unwrap();
    let server = tenon.serve(&folder).start();
    let judged = |number: u32, accept: &str| {
        let body = format!("{{\"number\": {number}}}");
        send(&server, "/api/judged", "application/json", accept, body.as_bytes())
    };
    let failed = judged(0, "");
    assert_eq!(failed.header("x-error-code"), "", "it is the app's own answer");
    assert_eq!(failed.expect(422), "\"low\"\n");
    assert_eq!(judged(200, "").expect(409), "\"high\"\n");
    assert_eq!(judged(3, "").expect(200), "\"AAEC\"\n");
    assert_eq!(judged(3, "application/octet-stream").expect(200), "\u{0}\u{1}\u{2}");

    let document = call(server.address(), get("/openapi.json")).expect(200);
    let document: Value = serde_json::from_str(&document).unwrap();
    let responses = &document["paths"]["/api/judged"]["post"]["responses"];
    assert!(responses["409"].is_object() && responses["422"].is_object(), "{responses}");
    assert!(responses["200"]["content"]["application/octet-stream"].is_object(), "{responses}");
    server.stop();
}

#[test]
fn streams_and_futures_are_sent_as_values() {
    let server = serve("typed-async").start();
    assert_eq!(
        post(&server, "/api/sum", "{\"numbers\": [1, 2, 4294967295]}").expect(200),
        "\"4294967298\"\n"
    );
    let weighed = post(&server, "/api/weighed", "{\"factor\": 10, \"numbers\": [1, 2, 3]}");
    assert_eq!(weighed.expect(200), "\"60\"\n");
    let document = problem(post(&server, "/api/sum", "{\"numbers\": [1, -2]}"), 400, "invalid-arguments");
    assert_eq!(document["pointer"], "/numbers/1", "{document}");

    let ndjson = "application/x-ndjson";
    let numbers: String = (1..=10_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(send(&server, "/api/sum", ndjson, "", numbers.as_bytes()).expect(200), "\"50005000\"\n");
    // Empty lines are passed over, and the last needs no end.
    assert_eq!(send(&server, "/api/sum", ndjson, "", b"1\r\n\n 2 \n3").expect(200), "\"6\"\n");
    assert_eq!(send(&server, "/api/sum", ndjson, "", b"").expect(200), "\"0\"\n");

    let readings = post(&server, "/api/readings", "{\"number\": 100}");
    let twice = lines(&send(&server, "/api/twice", ndjson, "", &readings.body));
    let readings = lines(&readings);
    assert_eq!(twice.len(), 200);
    assert!(twice.chunks(2).zip(&readings).all(|(pair, reading)| pair[0] == *reading && pair[1] == *reading));

    for (body, code, pointer) in [
        (&b"1\n2\nx\n"[..], "invalid-json", "/2"),
        (b"1\n-1\n", "invalid-arguments", "/1"),
        (b"1\n[1, oops]\n", "invalid-json", "/1/1"),
    ] {
        let document = problem(send(&server, "/api/sum", ndjson, "", body), 400, code);
        assert_eq!(document["pointer"], pointer, "{document}");
    }
    // Other functions do not take lines, and bytes are not lines.
    problem(send(&server, "/api/double", ndjson, "", b"1"), 415, "unsupported-media-type");
    problem(send(&server, "/api/sum", "application/octet-stream", "", b"1"), 415, "unsupported-media-type");
    server.stop();
}

#[test]
fn a_stream_that_is_sent_is_bounded() {
    let server = serve("typed-async").args(["--request-body", "64KiB"]).start();
    let numbers = "1\n".repeat(100_000);
    let announced = send(&server, "/api/sum", "application/x-ndjson", "", numbers.as_bytes());
    announced.expect_failure(413, "request-too-large");
    let fits = send(&server, "/api/sum", "application/x-ndjson", "", "1\n".repeat(30_000).as_bytes());
    assert_eq!(fits.expect(200), "\"30000\"\n");
    server.stop();
}

#[test]
fn streams_are_described() {
    let server = serve("typed-async").start();
    let document = call(server.address(), get("/openapi.json")).expect(200);
    let document: Value = serde_json::from_str(&document).unwrap();
    let content = &document["paths"]["/api/readings"]["post"]["responses"]["200"]["content"];
    assert_eq!(
        content["application/x-ndjson"]["schema"]["x-item-schema"]["$ref"],
        "#/components/schemas/reading"
    );
    assert_eq!(content["application/json"]["schema"]["type"], "array");
    let takes = &document["paths"]["/api/sum"]["post"]["requestBody"]["content"];
    assert_eq!(takes["application/x-ndjson"]["schema"]["x-item-schema"]["maximum"], u32::MAX);
    assert!(document.get("x-tenon-skipped").is_none(), "{document}");
    assert!(call(server.address(), get("/")).expect(200).contains("application/x-ndjson"));
    server.stop();
}

fn in_runtime<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run)
}

fn ndjson(path: &str, body: tenon_testkit::client::Body) -> http::Request<tenon_testkit::client::Body> {
    let mut request = request("POST", path, body);
    request.headers_mut().insert("content-type", "application/x-ndjson".parse().unwrap());
    request
}

fn json_request(path: &str, body: &'static str) -> http::Request<tenon_testkit::client::Body> {
    let mut request = tenon_testkit::client::post(path, body);
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    request
}

#[test]
fn a_line_goes_through_before_the_next_one_is_sent() {
    let server = serve("typed-async").start();
    in_runtime(async {
        let readings = post_in(&server, "/api/readings", "{\"number\": 1}").await;
        let line = readings.text();
        let mut connection = Connection::open(server.address()).await.unwrap();
        let (mut feed, body) = fed();
        feed.send_data(line.clone().into()).await.unwrap();
        let mut answer = connection.send(ndjson("/api/twice", body)).await.unwrap();
        let mut received = String::new();
        for round in 1..=3 {
            while received.len() < line.len() * 2 * round {
                received.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
            }
            // Half a line at first.
            let (start, end) = line.split_at(line.len() / 2);
            feed.send_data(start.to_owned().into()).await.unwrap();
            feed.send_data(end.to_owned().into()).await.unwrap();
        }
        drop(feed);
        received.push_str(&answer.finish().await.unwrap().text());
        assert_eq!(received, line.repeat(8));
    });
    server.stop();
}

async fn post_in(server: &Serving, path: &str, body: &'static str) -> Reply {
    tenon_testkit::client::fetch(server.address(), json_request(path, body)).await.unwrap()
}

#[test]
fn what_ends_in_the_middle_does_not_look_whole() {
    let server = serve("typed-async").start();
    in_runtime(async {
        // The function fails after it has written some.
        let mut connection = Connection::open(server.address()).await.unwrap();
        let request = json_request("/api/falter", "{\"number\": 3}");
        let answer = connection.send(request).await.unwrap();
        assert_eq!(answer.status.as_u16(), 200);
        assert!(answer.finish().await.is_err(), "half of a stream was taken for the whole");

        // The client sends what is no element after it has been answered.
        let line = post_in(&server, "/api/readings", "{\"number\": 1}").await.text();
        let mut connection = Connection::open(server.address()).await.unwrap();
        let (mut feed, body) = fed();
        feed.send_data(line.into()).await.unwrap();
        let mut answer = connection.send(ndjson("/api/twice", body)).await.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        feed.send_data("{\"id\": 7}\n".into()).await.unwrap();
        assert!(answer.finish().await.is_err(), "the rest of the stream is missing");

        // A function that has enough answers without the rest.
        let mut connection = Connection::open(server.address()).await.unwrap();
        let (mut feed, body) = fed();
        feed.send_data("7\n".into()).await.unwrap();
        let reply = connection.exchange(ndjson("/api/first", body)).await.unwrap();
        assert_eq!(reply.expect(200), "7\n");
    });
    server.logged(&["guest-trap"]);
    server.stop();
}

#[test]
fn a_client_that_does_not_read_holds_the_function_back() {
    let server = serve("typed-async").args(["--wall", "1s", "--response-body", "1GiB"]).start();
    in_runtime(async {
        let mut connection = Connection::open(server.address()).await.unwrap();
        let request = json_request("/api/count", "{\"up-to\": 4294967295}");
        let mut answer = connection.send(request).await.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        // It runs out of time, not of processor time: it waits.
        let logged = until("the deadline", DEADLINE, || {
            let log = server.log();
            log.contains("deadline").then_some(log)
        });
        assert!(!logged.contains("cpu-deadline"), "{logged}");
        assert!(answer.finish().await.is_err());
    });
    server.stop();
}

#[test]
fn a_slow_client_gets_everything() {
    let server = serve("typed-async").start();
    in_runtime(async {
        let mut connection = Connection::open(server.address()).await.unwrap();
        let request = json_request("/api/readings", "{\"number\": 20000}");
        let mut answer = connection.send(request).await.unwrap();
        let mut text = Vec::new();
        let mut rounds = 0;
        while let Some(chunk) = answer.chunk().await.unwrap() {
            text.extend_from_slice(&chunk);
            rounds += 1;
            if rounds % 4 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 20_000);
        assert!(text.lines().last().unwrap().contains("reading 19999"));
    });
    server.stop();
}

#[test]
fn a_client_that_goes_away_is_no_longer_written_to() {
    let server = serve("typed-async")
        .args(["--concurrency", "1", "--queue-wait", "60s", "--wall", "120s", "--cpu", "120s"])
        .start();
    in_runtime(async {
        let mut connection = Connection::open(server.address()).await.unwrap();
        let request = json_request("/api/count", "{\"up-to\": 4294967295}");
        let mut answer = connection.send(request).await.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        drop(connection);
        drop(answer);
        // There is room for one only: the first has to end before this one begins.
        let next = post_in(&server, "/api/double", "{\"value\": 4}").await;
        assert_eq!(next.expect(200), "8\n");

        // The same in the other direction: one that stops sending in the middle.
        let mut connection = Connection::open(server.address()).await.unwrap();
        let (mut feed, body) = fed();
        let sending =
            tokio::spawn(async move { connection.send(ndjson("/api/sum", body)).await.map(|_| ()) });
        feed.send_data("1\n".into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        sending.abort();
        drop(feed);
        let next = post_in(&server, "/api/double", "{\"value\": 5}").await;
        assert_eq!(next.expect(200), "10\n");
    });
    server.stop();
}
