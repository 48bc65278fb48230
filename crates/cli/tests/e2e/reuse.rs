//! One sandbox for several requests, where somebody asked for it.

use tenon_testkit::client::{Connection, call, empty, fetch, get, post, request};
use tenon_testkit::{DEADLINE, Guests, Serving};

use crate::failures::{fails, tagged};
use crate::support::{serve, tenon};

/// The guests that answer one request after another, and those of 0.3, one at a time too.
const GUESTS: [&str; 3] = ["chaos-http", "plain-chaos", "service-p3"];

fn reusing(guest: &str, requests: &str) -> tenon_testkit::Serve {
    // One thread: the next request finds the sandbox of the one before it.
    serve(guest).args(["--workers", "1", "--reuse-requests", requests])
}

fn count(server: &Serving) -> String {
    call(server.address(), get("/counter")).expect(200)
}

#[test]
fn a_counter_counts_up_to_the_number_of_requests_and_begins_again() {
    for guest in GUESTS {
        let server = reusing(guest, "3").start();
        let counts: Vec<_> = (0..7).map(|_| count(&server)).collect();
        assert_eq!(counts, ["1", "2", "3", "1", "2", "3", "1"], "{guest}");
        server.stop();
    }
}

#[test]
fn a_manifest_says_it_too_and_the_command_line_is_over_it() {
    let tenon = tenon();
    let folder = tenon.data().join("app");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(Guests::get("plain-chaos"), folder.join("plain.wasm")).unwrap();
    let manifest = "reuse = { requests = 2 }\n[component.plain]\npath = \"plain.wasm\"\n";
    std::fs::write(folder.join("tenon.toml"), manifest).unwrap();
    for (args, expected) in [(&[][..], ["1", "2", "1"]), (&["--reuse-requests", "1"][..], ["1", "1", "1"])] {
        let server = tenon.serve(&folder).args(["--workers", "1"]).args(args).start();
        let counts: Vec<_> = (0..3).map(|_| count(&server)).collect();
        assert_eq!(counts, expected);
        let announced = server.log().contains("a sandbox answers up to 2 requests, one after another");
        assert_eq!(announced, args.is_empty(), "{}", server.log());
        server.stop();
    }
    let doctor = tenon.run(&folder, ["doctor", "."]);
    assert!(doctor.stdout.contains("a sandbox answers up to 2 requests"), "{}", doctor.stdout);
}

#[test]
fn a_failure_ends_the_sandbox() {
    for guest in GUESTS {
        let server = reusing(guest, "100").start();
        assert_eq!([count(&server), count(&server)], ["1", "2"], "{guest}");
        call(server.address(), get("/trap")).expect_failure(500, "guest-trap");
        assert_eq!([count(&server), count(&server)], ["1", "2"], "{guest}: after a trap");
        server.stop();
    }
    // By a limit: processor time, memory, time on the wall; and without a response. What runs long gives way to others, so that
    // its processor time may take as long as the tests beside this one like.
    type Ended<'a> = (&'a str, u16, &'a str);
    let limits: [(&[&str], &[Ended<'_>]); 2] = [
        (
            &["--cpu", "200ms", "--memory", "16MiB"],
            &[
                ("/spin?ms=60000", 504, "cpu-deadline"),
                ("/alloc?mib=64", 500, "out-of-memory"),
                ("/no-response", 500, "guest-no-response"),
            ],
        ),
        (&["--wall", "4s"], &[("/sleep?ms=60000", 504, "wall-deadline")]),
    ];
    for (limits, ends) in limits {
        let server = reusing("chaos-http", "100").args(limits).start();
        for (target, status, code) in ends {
            assert_eq!([count(&server), count(&server)], ["1", "2"], "before {target}");
            let reply = call(server.address(), get(target));
            assert_eq!((reply.status.as_u16(), reply.header("x-error-code")), (*status, *code), "{target}");
        }
        assert_eq!(count(&server), "1");
        server.stop();
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_sandbox() {
    for guest in ["chaos-http", "service-p3"] {
        let server = reusing(guest, "100").start();
        let counter = async || fetch(server.address(), get("/counter")).await.unwrap().expect(200);
        assert_eq!([counter().await, counter().await], ["1", "2"], "{guest}");
        // Before the response.
        let connection = Connection::open(server.address()).await;
        let mut connection = connection.unwrap();
        let asked = tokio::time::timeout(
            std::time::Duration::from_millis(1_500),
            connection.exchange(get("/sleep?ms=60000")),
        );
        assert!(asked.await.is_err(), "it waits");
        drop(connection);
        assert_eq!([counter().await, counter().await], ["1", "2"], "{guest}");
        // In the middle of it.
        let mut connection = Connection::open(server.address()).await.unwrap();
        let mut reply = connection.send(get("/drip?chunks=100000&ms=5")).await.unwrap();
        assert!(reply.chunk().await.unwrap().is_some());
        drop((reply, connection));
        assert_eq!([counter().await, counter().await], ["1", "2"], "{guest}");
        server.stop();
    }
}

#[test]
fn limits_are_each_requests_own() {
    // Each spins for less than the limit, both together for more.
    for guest in GUESTS {
        let server = reusing(guest, "100").args(["--cpu", "600ms", "--access-log"]).start();
        assert_eq!(count(&server), "1");
        for turn in 0..3 {
            let id = format!("spin-{turn}");
            call(server.address(), tagged("/spin?ms=350", &id)).expect(200);
            // The sandbox of a guest that has run for long is back some time after its answer.
            server.logged(&["served", &id]);
        }
        assert_eq!(count(&server), "2", "{guest}: all in one sandbox");
        fails(&server, "/loop", 504, "cpu-deadline", &[guest, "cpu 600ms"]);
        server.stop();
    }
    // Handles are counted while they are held, log lines go to the request that writes them.
    let server = reusing("chaos-http", "100").args(["--handles", "100"]).start();
    assert_eq!(count(&server), "1");
    for turn in 0..3 {
        call(server.address(), get("/fields?n=60")).expect(200);
        let id = format!("turn-{turn}");
        call(server.address(), tagged("/stdout", &id)).expect(200);
        server.logged(&["a line on standard output", &id]);
        server.logged(&["a line on standard error", &id]);
    }
    assert_eq!(count(&server), "2");
    fails(&server, "/fields?n=200", 500, "handle-limit", &["chaos-http", "handles 100"]);
    assert_eq!(count(&server), "1");
    server.stop();
}

#[test]
fn bodies_are_each_requests_own() {
    for guest in ["chaos-http", "service-p3"] {
        let server =
            reusing(guest, "1000").args(["--request-body", "64KiB", "--response-body", "64KiB"]).start();
        assert_eq!(count(&server), "1");
        for turn in 0..5_u8 {
            let body = vec![b'a' + turn; 65_536];
            let reply = call(server.address(), post("/echo", body.clone())).expect(200);
            assert!(reply.as_bytes() == body, "{guest}: turn {turn} got another body");
        }
        assert_eq!(count(&server), "2", "{guest}");
        call(server.address(), post("/echo", vec![0; 65_537])).expect_failure(413, "request-too-large");
        server.stop();
    }
}

#[tokio::test]
async fn a_body_that_the_guest_leaves_unread_holds_nobody_up() {
    let server = reusing("chaos-http", "100").start();
    for turn in 1..4 {
        let ignored = fetch(server.address(), post("/ignore-body", vec![0; 200_000])).await.unwrap();
        assert_eq!(ignored.expect(200), "ignored\n");
        let counted = fetch(server.address(), get("/counter")).await.unwrap().expect(200);
        assert_eq!(counted, turn.to_string());
    }
    server.stop();
}

#[tokio::test]
async fn requests_at_once_have_a_sandbox_each() {
    let server = reusing("chaos-http", "100").start();
    let address = server.address();
    let asked: Vec<_> = (0..8).map(|_| tokio::spawn(fetch(address, get("/sleep?ms=300")))).collect();
    for asked in asked {
        tokio::time::timeout(DEADLINE, asked).await.unwrap().unwrap().unwrap().expect(200);
    }
    fetch(address, request("HEAD", "/ok", empty())).await.unwrap();
    server.stop();
}

#[test]
fn a_handler_that_takes_one_at_a_time_cannot_be_given_several() {
    for guest in ["chaos-http", "plain-chaos"] {
        let refused = reusing(guest, "100").args(["--reuse-concurrent", "4"]).refused().expect_code(1);
        refused.expect_stderr(&["reuse-concurrent", "4 requests at once", "leave `concurrent` at 1"]);
    }
    let refused = serve("chaos-http").args(["--reuse-concurrent", "4"]).refused().expect_code(1);
    refused.expect_stderr(&["reuse-requests", "--reuse-requests N"]);
}

fn crowded(requests: &str, concurrent: &str) -> tenon_testkit::Serve {
    reusing("service-p3", requests).args(["--reuse-concurrent", concurrent])
}

#[tokio::test]
async fn a_guest_of_0_3_sees_as_many_at_once_as_it_was_given() {
    let server = crowded("100", "4").start();
    let address = server.address();
    let asked: Vec<_> = (0..8).map(|_| tokio::spawn(fetch(address, get("/at-once?ms=1500")))).collect();
    let mut seen = Vec::new();
    for asked in asked {
        seen.push(asked.await.unwrap().unwrap().expect(200));
    }
    assert_eq!(seen.iter().map(String::as_str).max(), Some("4"), "two sandboxes of four: {seen:?}");
    assert!(server.log().contains("a sandbox answers up to 100 requests, up to 4 at once"));
    server.stop();
    // Without it, each is alone.
    let server = reusing("service-p3", "100").start();
    let address = server.address();
    let asked: Vec<_> = (0..4).map(|_| tokio::spawn(fetch(address, get("/at-once?ms=300")))).collect();
    for asked in asked {
        assert_eq!(asked.await.unwrap().unwrap().expect(200), "1");
    }
    server.stop();
}

#[test]
fn a_crowd_is_over_after_its_number_of_requests_or_a_failure() {
    let server = crowded("3", "2").start();
    let counts: Vec<_> = (0..7).map(|_| count(&server)).collect();
    assert_eq!(counts, ["1", "2", "3", "1", "2", "3", "1"]);
    server.stop();
    let server = crowded("100", "4").args(["--wall", "4s"]).start();
    assert_eq!([count(&server), count(&server)], ["1", "2"]);
    fails(&server, "/sleep?ms=60000", 504, "wall-deadline", &["wall 4s"]);
    assert_eq!([count(&server), count(&server)], ["1", "2"], "after a long wait");
    server.stop();
    let server = crowded("100", "4").args(["--cpu", "300ms"]).start();
    assert_eq!([count(&server), count(&server)], ["1", "2"]);
    fails(&server, "/trap", 500, "guest-trap", &["service-p3"]);
    assert_eq!([count(&server), count(&server)], ["1", "2"], "after a trap");
    fails(&server, "/spin?ms=60000", 504, "cpu-deadline", &["service-p3", "cpu 300ms"]);
    assert_eq!([count(&server), count(&server)], ["1", "2"], "after a loop");
    fails(&server, "/error", 500, "guest-no-response", &[]);
    assert_eq!([count(&server), count(&server)], ["1", "2"], "after an error");
    for turn in 0..3_u8 {
        let body = vec![b'a' + turn; 300_000];
        let reply = call(server.address(), post("/echo", body.clone())).expect(200);
        assert!(reply.as_bytes() == body, "turn {turn} got another body");
    }
    assert_eq!(count(&server), "3");
    server.stop();
}

#[tokio::test]
async fn one_that_waits_too_long_does_not_end_the_others() {
    let server = crowded("100", "4").args(["--wall", "8s"]).start();
    let address = server.address();
    let stuck = tokio::spawn(fetch(address, get("/sleep?ms=60000")));
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let slow = tokio::spawn(fetch(address, get("/sleep?ms=5000")));
    stuck.await.unwrap().unwrap().expect_failure(504, "wall-deadline");
    assert_eq!(slow.await.unwrap().unwrap().expect(200), "slept\n");
    server.stop();
}
