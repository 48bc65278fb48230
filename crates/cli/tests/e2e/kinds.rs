//! What can be served, told apart by what a component exports.

use tenon_testkit::client::{call, empty, get, post, request};
use tenon_testkit::fixtures;

use crate::support::{serve, tenon};

#[test]
fn an_incoming_handler_of_wasi_0_2_is_served() {
    let server = serve("chaos-http").start();
    assert_eq!(call(server.address(), get("/ok")).expect(200), "ok\n");
    assert_eq!(call(server.address(), get("/target?a=1&b=%2F")).expect(200), "/target?a=1&b=%2F");
    assert_eq!(call(server.address(), post("/echo", "a body")).expect(200), "a body");
    assert_eq!(call(server.address(), request("PATCH", "/method", empty())).expect(200), "PATCH");
    assert_eq!(call(server.address(), get("/nowhere")).expect(404), "");
    let authority = call(server.address(), get("/authority")).expect(200);
    assert_eq!(authority, server.address().to_string());
    server.stop();
}

#[test]
fn the_service_world_of_wasi_0_3_is_served() {
    let server = serve("service-p3").start();
    assert_eq!(call(server.address(), get("/ok")).expect(200), "ok\n");
    assert_eq!(call(server.address(), post("/echo", "a body")).expect(200), "a body");
    assert_eq!(call(server.address(), get("/sleep?ms=5")).expect(200), "slept\n");
    assert_eq!(call(server.address(), get("/nowhere")).expect(404), "");
    server.stop();
}

#[test]
fn a_plain_handler_at_the_root_is_served() {
    let server = serve("plain-root").start();
    let reply = call(server.address(), get("/a/b?c=d"));
    assert_eq!(reply.header("content-type"), "text/plain");
    assert_eq!(reply.expect(200), "plain-root GET /a/b?c=d\n");
    server.stop();
}

#[test]
fn a_plain_handler_in_an_interface_is_served_whatever_it_is_called() {
    let server = serve("plain-iface").start();
    let reply = call(server.address(), request("DELETE", "/thing", empty()));
    assert_eq!(reply.header("x-served-by"), "acme");
    assert_eq!(reply.expect(201), "plain-iface DELETE /thing\n");
    server.stop();
}

#[test]
fn a_plain_handler_without_headers_is_served() {
    let server = serve("plain-no-headers").start();
    let reply = call(server.address(), post("/p?q=1", "12345"));
    assert_eq!(reply.expect(202), "plain-no-headers POST /p?q=1 5\n");
    server.stop();
}

#[test]
fn a_plain_handler_sees_the_whole_request() {
    let server = serve("plain-echo").start();
    let mut request = post("/orders/7?full=%20", "line 1\nline 2");
    request.headers_mut().append("x-note", "first".parse().unwrap());
    request.headers_mut().append("x-note", "second".parse().unwrap());
    let reply = call(server.address(), request);
    let twice: Vec<_> = reply.headers.get_all("x-twice").iter().collect();
    assert_eq!(twice, ["one", "two"], "a header given twice is sent twice");
    let text = reply.expect(200);
    assert!(text.starts_with("method: POST\npath: /orders/7?full=%20\n"), "{text}");
    for line in ["header x-note: first\n", "header x-note: second\n", "header content-length: 13\n"] {
        assert!(text.contains(line), "no `{line}` in {text}");
    }
    assert!(text.ends_with("body: 13\nline 1\nline 2"), "{text}");

    let text = call(server.address(), get("/")).expect(200);
    assert!(text.ends_with("body: none\n"), "a request without a body has none: {text}");
    server.stop();
}

#[test]
fn what_is_no_handler_is_refused_with_what_was_found_and_what_was_expected() {
    let tenon = tenon();
    let empty = fixtures::write(tenon.data(), "empty-component.wasm", fixtures::EMPTY_COMPONENT);
    let refused = tenon.serve(empty).refused().expect_code(1);
    refused.expect_stderr(&[
        "not-a-handler",
        "empty-component",
        "no exports",
        "wasi:http/incoming-handler",
        "func(req: request) -> response",
        "any functions that need no resource",
    ]);
}

#[test]
fn functions_that_are_no_handler_are_each_called() {
    let server = serve("not-a-handler").start();
    server.logged(&["1 function over HTTP/JSON"]);
    let mut request = post("/arithmetic/add", "{\"left\": 1, \"right\": 2}");
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    assert_eq!(call(server.address(), request).expect(200), "3\n");
    server.stop();
}

#[test]
fn the_announcement_is_an_event_when_json_is_asked_for() {
    let server = serve("plain-root").args(["--json"]).start();
    let stdout = server.stdout();
    let event: serde_json::Value = serde_json::from_str(stdout.trim_end()).unwrap();
    assert_eq!(event["event"], "serving");
    assert_eq!(event["name"], "plain-root");
    assert_eq!(event["address"], server.address().to_string());
    server.stop();

    let server = serve("plain-root").start();
    assert_eq!(server.stdout(), format!("serving plain-root on http://{}\n", server.address()));
    server.stop();
}
