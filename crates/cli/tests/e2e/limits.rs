//! Each limit on what a request may use up: a guest or a client that runs into it, and one that stays below.

use std::time::{Duration, Instant};

use tenon_testkit::client::{Body, call, fetch, full, get, post, raw, request};
use tenon_testkit::{DEADLINE, fixtures};

use crate::failures::{fails, hold, tagged};
use crate::support::{serve, tenon};

#[test]
fn a_smaller_stack_is_used_up_sooner() {
    // Some hundred bytes a frame: the default is enough for a thousand calls, a tenth of it is not.
    for guest in ["plain-chaos", "chaos-http", "service-p3"] {
        let server = serve(guest).args(["--stack", "128KiB"]).start();
        fails(&server, "/stack", 500, "stack-limit", &[guest, "recurse", "stack 128KiB"]);
        assert_eq!(call(server.address(), get("/ok")).expect(200), "ok\n");
        server.stop();
    }
}

#[test]
fn tables_grow_up_to_the_limit() {
    // The second has a type that only components with async functions have, and so runs on the other engine.
    let concurrent = fixtures::TABLE_GROWER.replacen("(component", "(component (type (future u32))", 1);
    for text in [fixtures::TABLE_GROWER, &concurrent] {
        let tenon = tenon();
        let file = fixtures::write(tenon.data(), "grower.wasm", text);
        let server = tenon.serve(&file).args(["--table-elements", "1001"]).start();
        call(server.address(), get("/")).expect(200);
        server.stop();
        let server = tenon.serve(&file).args(["--table-elements", "1000"]).start();
        fails(&server, "/", 500, "table-limit", &["grower", "table-elements 1000"]);
        server.stop();
    }
}

#[test]
fn one_table_has_a_limit_whatever_all_may_have() {
    // It has one element to begin with.
    let grower = |more: u32| fixtures::TABLE_GROWER.replace("i32.const 1000", &format!("i32.const {more}"));
    let tenon = tenon();
    let fits = fixtures::write(tenon.data(), "grower.wasm", &grower(19_999));
    let server = tenon.serve(&fits).start();
    call(server.address(), get("/")).expect(200);
    server.stop();
    let over = fixtures::write(tenon.data(), "grower.wasm", &grower(20_000));
    let server = tenon.serve(&over).args(["--table-elements", "100000"]).start();
    fails(&server, "/", 500, "table-limit", &["grower", "table-elements 20000 (of one table)"]);
    server.stop();
    // What all may have together is what is named where that is less.
    let server = tenon.serve(&over).args(["--table-elements", "10000"]).start();
    fails(&server, "/", 500, "table-limit", &["grower", "table-elements 10000"]);
    server.stop();
}

#[test]
fn what_a_guest_says_cannot_take_the_place_of_the_nodes_own_words() {
    let server = serve("typed").start();
    let mut said = post("/say", "{\"text\": \"harmless\\rERROR tenon::node: the disk is full\\r\\nmore\"}");
    said.headers_mut().insert("content-type", "application/json".parse().unwrap());
    assert!(call(server.address(), said).status.is_success());
    server.logged(&["tenon::guest", "harmless"]);
    server.logged(&["tenon::guest", "the disk is full"]);
    server.logged(&["tenon::guest", "more"]);
    assert!(!server.log().contains('\r'), "{}", server.log());
    server.stop();
}

#[test]
fn resources_are_held_up_to_the_limit() {
    for guest in ["chaos-http", "service-p3"] {
        let server = serve(guest).args(["--handles", "100"]).start();
        assert_eq!(call(server.address(), get("/fields?n=50")).expect(200), "50");
        fails(&server, "/fields?n=200", 500, "handle-limit", &[guest, "handles 100"]);
        server.stop();
    }
}

#[test]
fn streams_and_calls_that_are_not_over_count_as_resources() {
    for path in ["/streams", "/waits"] {
        let server = serve("service-p3").args(["--handles", "100"]).start();
        assert_eq!(call(server.address(), get(&format!("{path}?n=30"))).expect(200), "30");
        let most = format!("{path}?n=200");
        fails(&server, &most, 500, "handle-limit", &["service-p3", "handles 100"]);
        assert_eq!(call(server.address(), get("/ok")).expect(200), "ok\n");
        server.stop();
    }
}

#[test]
fn one_call_copies_up_to_the_limit() {
    let server = serve("plain-chaos").args(["--host-call-bytes", "64KiB"]).start();
    assert_eq!(call(server.address(), get("/big?bytes=60000")).expect(200).len(), 60_000);
    fails(&server, "/big?bytes=70000", 500, "host-call-limit", &["plain-chaos", "host-call-bytes 64KiB"]);
    server.stop();

    let server = serve("service-p3").args(["--host-call-bytes", "64KiB"]).start();
    call(server.address(), get("/field?bytes=60000")).expect(200);
    fails(&server, "/field?bytes=70000", 500, "host-call-limit", &["service-p3", "host-call-bytes 64KiB"]);
    server.stop();
}

#[test]
fn a_response_that_is_all_there_is_refused_when_it_is_too_large() {
    let server = serve("plain-chaos").args(["--response-body", "64KiB"]).start();
    assert_eq!(call(server.address(), get("/big?bytes=65536")).expect(200).len(), 65_536);
    fails(&server, "/big?bytes=65537", 500, "response-body-limit", &["plain-chaos", "response-body 64KiB"]);
    server.stop();
}

#[tokio::test]
async fn a_response_that_is_streamed_is_cut_off_when_it_grows_too_large() {
    for guest in ["chaos-http", "service-p3"] {
        let server = serve(guest).args(["--response-body", "256KiB"]).start();
        let whole = fetch(server.address(), post("/echo", vec![b'x'; 262_144])).await.unwrap();
        assert_eq!(whole.expect(200).len(), 262_144);
        let mut larger = post("/echo", vec![b'x'; 1_000_000]);
        larger.headers_mut().insert("x-request-id", "too-much".parse().unwrap());
        let cut = fetch(server.address(), larger).await;
        assert!(cut.is_err(), "{guest}: half a response must not look whole: {cut:?}");
        server.logged(&["too-much", "response-body-limit", "response-body 256KiB"]);
        server.stop();
    }
}

#[test]
fn header_fields_have_a_limit_both_ways() {
    let server = serve("plain-chaos").args(["--header-bytes", "4KiB"]).start();
    call(server.address(), get("/headers?n=20")).expect(200);
    fails(&server, "/headers?n=40", 500, "response-headers-limit", &["plain-chaos", "header-bytes 4KiB"]);

    let with_header = |bytes: usize| {
        let mut request = tagged("/ok", "large-head");
        request.headers_mut().insert("x-large", "y".repeat(bytes).parse().unwrap());
        request
    };
    call(server.address(), with_header(3_000)).expect(200);
    call(server.address(), with_header(5_000)).expect_failure(431, "headers-too-large");
    server.logged(&["large-head", "headers-too-large", "header-bytes 4KiB"]);
    server.stop();
}

#[test]
fn a_streamed_request_body_has_the_same_limit_as_a_whole_one() {
    for guest in ["chaos-http", "service-p3"] {
        let server = serve(guest).args(["--request-body", "64KiB"]).start();
        assert_eq!(call(server.address(), post("/echo", vec![b'x'; 65_536])).expect(200).len(), 65_536);
        call(server.address(), post("/echo", vec![0; 65_537])).expect_failure(413, "request-too-large");
        server.logged(&["request-too-large", "request-body 64KiB"]);
        server.stop();
    }
}

#[test]
fn a_request_body_that_is_not_announced_is_counted() {
    let server = serve("chaos-http").args(["--request-body", "64KiB"]).start();
    assert_eq!(call(server.address(), post("/count", vec![0; 65_536])).expect(200), "65536");
    let mut chunked = b"POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..5 {
        chunked.extend(b"4000\r\n");
        chunked.resize(chunked.len() + 0x4000, b'0');
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let answer = String::from_utf8_lossy(&raw(server.address(), &chunked, DEADLINE)).into_owned();
    assert!(answer.contains("x-error-code: request-too-large\r\n"), "{answer}");
    server.logged(&["request-too-large", "request-body 64KiB"]);
    server.stop();
}

#[test]
fn a_request_waits_for_its_turn() {
    let server =
        serve("chaos-http").args(["--concurrency", "1", "--queue", "1", "--queue-wait", "20s"]).start();
    let address = server.address();
    let began = Instant::now();
    let slow = std::thread::spawn(move || call(address, get("/sleep?ms=700")).expect(200));
    server.logged(&["sleeping"]);
    assert_eq!(call(address, get("/ok")).expect(200), "ok\n");
    assert!(began.elapsed() >= Duration::from_millis(700), "it waited: {:?}", began.elapsed());
    assert_eq!(slow.join().unwrap(), "slept\n");
    server.stop();
}

#[tokio::test]
async fn a_request_that_waited_too_long_is_refused_for_a_while() {
    let server =
        serve("chaos-http").args(["--concurrency", "1", "--queue", "4", "--queue-wait", "200ms"]).start();
    let held = hold(&server).await;
    let refused: http::Request<Body> = tagged("/ok", "waited");
    let refused = fetch(server.address(), refused).await.unwrap().expect_failure(503, "queue-wait");
    assert_eq!(refused.header("retry-after"), "1");
    server.logged(&["waited", "queue-wait", "queue-wait 200ms"]);
    drop(held);
    // Here the connection is closed; until then the server would wait for what was held.
    tokio::task::yield_now().await;
    server.stop();
}

#[test]
fn a_component_of_more_core_instances_than_allowed_is_refused() {
    let refused = serve("chaos-http").args(["--instances", "1"]).refused().expect_code(1);
    refused.expect_stderr(&[
        "exceeds-limits",
        "chaos-http",
        "core instances, and there is room for 1",
        "`--instances`",
    ]);
}

#[test]
fn a_request_body_of_another_method_counts_too() {
    let server = serve("plain-chaos").args(["--request-body", "1KiB"]).start();
    call(server.address(), request("PUT", "/length", full(vec![0; 2_000])))
        .expect_failure(413, "request-too-large");
    server.stop();
}
