//! Nothing of the machine is granted silently.

use tenon_testkit::client::{call, get};
use tenon_testkit::fixtures;

use crate::support::{serve, tenon};

#[test]
fn what_reaches_outside_is_refused_before_serving() {
    for (guest, interface) in
        [("wants-sockets", "wasi:sockets/tcp"), ("wants-outgoing", "wasi:http/outgoing-handler")]
    {
        let refused = serve(guest).refused().expect_code(1);
        assert!(!refused.stdout.contains("serving"), "{}", refused.stdout);
        refused.expect_stderr(&[guest, interface]);
    }
}

#[test]
fn an_import_that_nobody_supplies_is_refused_before_serving() {
    let tenon = tenon();
    let consumer = fixtures::write(tenon.data(), "consumer.wasm", fixtures::STUFF_CONSUMER);
    let refused = tenon.serve(consumer).refused().expect_code(1);
    refused.expect_stderr(&["unsatisfied-import", "acme:thing/stuff", "consumer.wasm"]);
}

#[test]
fn the_environment_is_empty() {
    // The server itself has one: TENON_DATA at least.
    let server = serve("chaos-http").start();
    let seen = call(server.address(), get("/env")).expect(200);
    assert_eq!(seen, "environment: []\narguments: []\ndirectory: None\n");
    server.stop();
}

#[test]
fn no_file_can_be_reached() {
    let server = serve("chaos-http").start();
    assert_eq!(call(server.address(), get("/files")).expect(200), "preopens: []\nopened: false\n");
    server.stop();
}

#[test]
fn randomness_and_clocks_are_there() {
    let server = serve("chaos-http").start();
    let first = call(server.address(), get("/random")).expect(200);
    let second = call(server.address(), get("/random")).expect(200);
    assert_eq!((first.len(), second.len()), (32, 32));
    assert_ne!(first, second, "the requests drew the same numbers");
    server.stop();
}

#[test]
fn what_a_guest_prints_goes_to_the_log_and_nowhere_else() {
    let server = serve("chaos-http").start();
    let mut request = get("/stdout");
    request.headers_mut().insert("x-request-id", "prints-1".parse().unwrap());
    call(server.address(), request).expect(200);
    let ended = server.stop();
    for line in ["a line on standard output", "a line on standard error"] {
        let logged = ended.stderr.lines().any(|logged| logged.contains(line) && logged.contains("prints-1"));
        assert!(logged, "no `{line}` in\n{}", ended.stderr);
        assert!(!ended.stdout.contains(line), "standard output is Tenon's own");
    }
}

#[test]
fn forbidden_headers_are_refused_to_the_guest() {
    let server = serve("chaos-http").start();
    let verdicts = call(server.address(), get("/bad-header")).expect(200);
    for line in
        ["bad name: refused", "x-bad-value: refused", "connection: refused", "transfer-encoding: refused"]
    {
        assert!(verdicts.contains(line), "{verdicts}");
    }
    assert!(verdicts.contains("x-good: accepted"), "{verdicts}");
    server.stop();
}
