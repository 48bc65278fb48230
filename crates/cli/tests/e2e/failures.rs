//! When the guest fails: which failure it was, what the log says, and that nobody beside it notices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tenon_testkit::client::{
    Body, ClientError, Connection, Reply, Streaming, call, fed, fetch, full, get, post, raw, request,
};
use tenon_testkit::{DEADLINE, Serving, until};

use crate::support::serve;

/// A request with a correlation id of its own.
pub(crate) fn tagged(target: &str, id: &str) -> http::Request<Body> {
    let mut request = get(target);
    request.headers_mut().insert("x-request-id", id.parse().unwrap());
    request
}

/// Sends a request that must fail so, and checks its one log line.
#[track_caller]
pub(crate) fn fails(server: &Serving, target: &str, status: u16, code: &str, logged: &[&str]) -> Reply {
    // Nothing of the code in it, or every line with the id would seem to name the code.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("id.{}", NEXT.fetch_add(1, Ordering::Relaxed) + 1_000_000);
    let reply = call(server.address(), tagged(target, &id)).expect_failure(status, code);
    assert_eq!(reply.header("x-request-id"), id);
    server.logged(&[&[id.as_str(), code], logged].concat());
    assert_eq!(server.count_logged(&[&id, code]), 1, "one line about {target} in\n{}", server.log());
    reply
}

#[test]
fn a_trap_is_told_apart() {
    for guest in ["chaos-http", "plain-chaos", "service-p3"] {
        let server = serve(guest).start();
        fails(&server, "/trap", 500, "guest-trap", &[guest, "faults::trap", "unreachable"]);
        fails(&server, "/panic", 500, "guest-trap", &[guest]);
        fails(&server, "/stack", 500, "guest-trap", &[guest, "recurse", "wasm trap"]);
        assert_eq!(call(server.address(), get("/ok")).expect(200), "ok\n");
        server.stop();
    }
}

#[test]
fn an_exit_is_a_trap() {
    let server = serve("chaos-http").start();
    fails(&server, "/exit", 500, "guest-trap", &["chaos-http", "exit"]);
    server.stop();
}

#[test]
fn a_loop_meets_the_cpu_deadline() {
    for guest in ["chaos-http", "plain-chaos", "service-p3"] {
        let server = serve(guest).args(["--cpu", "300ms", "--wall", "60s"]).start();
        let start = Instant::now();
        let reply = fails(&server, "/loop", 504, "cpu-deadline", &[guest, "spin_forever", "cpu 300ms"]);
        assert!(start.elapsed() < DEADLINE, "{reply:?}");
        assert!(start.elapsed() >= Duration::from_millis(300), "not before the limit");
        assert_eq!(call(server.address(), get("/spin?ms=20")).expect(200), "spun\n");
        server.stop();
    }
}

#[test]
fn a_guest_that_runs_long_leaves_the_threads_of_the_others() {
    for guest in ["plain-chaos", "chaos-http", "service-p3"] {
        let server = serve(guest).start();
        let priority = |of: &str| {
            server.threads().into_iter().find(|(name, _)| name.starts_with(of)).map(|(_, nice)| nice)
        };
        call(server.address(), get("/ok")).expect(200);
        assert_eq!(call(server.address(), get("/spin?ms=100")).expect(200), "spun\n");
        let usual = priority("tenon-worker").expect("there are workers");
        // Beyond 19 there is nothing.
        let lower = (usual + 10).min(19);
        assert_eq!(priority("tenon-aside"), Some(lower), "{guest}: at a lower priority");
        server.stop();
    }
}

#[test]
fn waiting_is_free_and_meets_the_wall_deadline() {
    for guest in ["chaos-http", "service-p3"] {
        let server = serve(guest).args(["--cpu", "200ms", "--wall", "1s"]).start();
        assert_eq!(
            call(server.address(), get("/sleep?ms=400")).expect(200),
            "slept\n",
            "waiting is not billed"
        );
        fails(&server, "/sleep?ms=600000", 504, "wall-deadline", &[guest, "wall 1s"]);
        server.stop();
    }
}

#[test]
fn a_loop_meets_the_wall_deadline_when_that_comes_first() {
    let server = serve("plain-chaos").args(["--cpu", "60s", "--wall", "500ms"]).start();
    fails(&server, "/loop", 504, "wall-deadline", &["plain-chaos", "wall 500ms"]);
    server.stop();
}

#[test]
fn memory_without_end_is_out_of_memory() {
    for guest in ["chaos-http", "plain-chaos", "service-p3"] {
        let server = serve(guest).args(["--memory", "16MiB"]).start();
        fails(&server, "/oom", 500, "out-of-memory", &[guest, "memory 16MiB"]);
        assert_eq!(call(server.address(), get("/ok")).expect(200), "ok\n");
        server.stop();
    }
}

#[test]
fn memory_within_the_limit_is_there() {
    let server = serve("chaos-http").args(["--memory", "64MiB"]).start();
    assert_eq!(call(server.address(), get("/alloc?mib=40")).expect(200), (40 << 20).to_string());
    fails(&server, "/alloc?mib=64", 500, "out-of-memory", &["memory 64MiB"]);
    server.stop();
}

#[test]
fn no_response_is_told_apart() {
    let server = serve("chaos-http").start();
    fails(&server, "/no-response", 500, "guest-no-response", &["chaos-http"]);
    server.stop();
}

#[test]
fn a_response_that_http_cannot_carry_is_invalid() {
    let server = serve("plain-chaos").start();
    for target in [
        "/respond?status=0",
        "/respond?status=99",
        "/respond?status=100",
        "/respond?status=101",
        "/respond?status=1000",
        "/respond?status=65535",
        "/respond?name=bad%20name&value=x",
        "/respond?name=&value=x",
        "/respond?name=x-ok&value=a%0D%0Ax-injected:%201",
        "/respond?name=x-ok&value=a%00b",
    ] {
        let reply = fails(&server, target, 500, "invalid-response", &["plain-chaos"]);
        assert!(!reply.headers.contains_key("x-injected"));
    }
    assert_eq!(
        call(server.address(), get("/respond?status=418&name=X-Ok&value=a%20b&body=c")).expect(418),
        "c"
    );
    server.stop();
}

/// Reads a response to its end or to where it breaks off.
async fn read(mut response: Streaming) -> (Vec<u8>, Result<(), ClientError>) {
    let mut received = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => received.extend_from_slice(&chunk),
            Ok(None) => return (received, Ok(())),
            Err(error) => return (received, Err(error)),
        }
    }
}

/// The guest traps when the head and a chunk are with the client.
async fn a_trap_cuts_the_response_off(guest: &str) {
    let server = serve(guest).start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    let (mut sender, body) = fed();
    let mut request = request("POST", "/trap-on-body", body);
    request.headers_mut().insert("x-request-id", "cut-off-1".parse().unwrap());
    let mut response = connection.send(request).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(&response.chunk().await.unwrap().unwrap()[..], b"the first chunk\n");
    sender.send_data(bytes::Bytes::from_static(b"x")).await.unwrap();
    let (_, ended) = read(response).await;
    server.logged(&["cut-off-1", "guest-trap", guest, "faults::trap"]);
    assert!(matches!(ended, Err(ClientError::Http(_))), "half a response must not look whole: {ended:?}");
    assert_eq!(call_async(&server, "/ok").await, "ok\n");
    server.stop();
}

#[tokio::test]
async fn a_trap_in_the_body_cuts_the_response_off_in_wasi_0_2() {
    a_trap_cuts_the_response_off("chaos-http").await;
}

#[tokio::test]
async fn a_trap_in_the_body_cuts_the_response_off_in_wasi_0_3() {
    a_trap_cuts_the_response_off("service-p3").await;
}

/// The deadline comes when the head and a chunk are with the client.
async fn a_deadline_cuts_the_response_off(guest: &str) {
    let server = serve(guest).args(["--wall", "500ms"]).start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    let response = connection.send(tagged("/drip?chunks=1000000&ms=20", "late-1")).await.unwrap();
    assert_eq!(response.status, 200);
    let (received, ended) = read(response).await;
    server.logged(&["late-1", "wall-deadline", guest, "wall 500ms"]);
    assert!(received.starts_with(b"drop\n"));
    assert!(matches!(ended, Err(ClientError::Http(_))), "half a response must not look whole: {ended:?}");
    assert_eq!(call_async(&server, "/ok").await, "ok\n");
    server.stop();
}

#[tokio::test]
async fn a_deadline_in_the_body_cuts_the_response_off_in_wasi_0_2() {
    a_deadline_cuts_the_response_off("chaos-http").await;
}

#[tokio::test]
async fn a_deadline_in_the_body_cuts_the_response_off_in_wasi_0_3() {
    a_deadline_cuts_the_response_off("service-p3").await;
}

#[tokio::test]
async fn a_trap_at_once_after_the_head_never_looks_whole() {
    // Whether the head is on its way already is a race; both ends of it are right.
    let server = serve("chaos-http").start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    let response = connection.send(tagged("/drop-body-trap", "cut-off-2")).await.unwrap();
    let (status, code) = (response.status.as_u16(), response.headers.get("x-error-code").cloned());
    let (_, ended) = read(response).await;
    match status {
        500 => assert_eq!(code.unwrap(), "guest-trap"),
        _ => assert!(status == 200 && ended.is_err(), "{status}: half a response must not look whole"),
    }
    server.logged(&["cut-off-2", "guest-trap", "chaos-http"]);
    assert_eq!(call_async(&server, "/ok").await, "ok\n");
    server.stop();
}

async fn call_async(server: &Serving, target: &str) -> String {
    fetch(server.address(), get(target)).await.unwrap().expect(200)
}

/// Starts a response that goes on until the connection is dropped, and waits for its first bytes: from then on
/// its instance is taken.
pub(crate) async fn hold(server: &Serving) -> (Connection, Streaming) {
    let mut connection = Connection::open(server.address()).await.unwrap();
    let mut response = connection.send(get("/drip?chunks=1000000&ms=20")).await.unwrap();
    assert_eq!(response.status, 200);
    response.chunk().await.unwrap().expect("a first chunk");
    (connection, response)
}

async fn refuses_what_comes_on_top(server: Serving, code: &str, limit: &str) {
    let held = [hold(&server).await, hold(&server).await];
    let refused = fetch(server.address(), tagged("/ok", "on-top")).await.unwrap().expect_failure(503, code);
    let seconds: u32 = refused.header("retry-after").parse().expect("Retry-After has seconds");
    assert!(seconds >= 1);
    server.logged(&["on-top", code, limit]);

    drop(held);
    // The places are free as soon as the server has noticed that nobody listens any longer.
    let start = Instant::now();
    loop {
        let reply = fetch(server.address(), get("/ok")).await.unwrap();
        if reply.status == 200 {
            break;
        }
        reply.expect_failure(503, code);
        assert!(start.elapsed() < DEADLINE, "the places are never freed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.stop();
}

#[tokio::test]
async fn an_exhausted_pool_refuses_for_a_while() {
    refuses_what_comes_on_top(serve("chaos-http").args(["--pool", "2"]).start(), "pool-exhausted", "pool 2")
        .await;
}

#[tokio::test]
async fn too_many_at_once_are_refused_for_a_while() {
    let server = serve("chaos-http").args(["--concurrency", "2", "--queue", "0"]).start();
    refuses_what_comes_on_top(server, "concurrency-limit", "concurrency 2, queue 0").await;
}

#[test]
fn a_request_too_large_for_a_plain_handler_is_refused() {
    const LIMIT: usize = 8 << 20;
    const CHUNK: usize = 64 << 10;
    let server = serve("plain-chaos").start();
    let exact = call(server.address(), post("/length", vec![0; LIMIT]));
    assert_eq!(exact.expect(200), LIMIT.to_string(), "exactly the limit is let through");

    // Read from the wire, where what is declared and what is sent can be told apart.
    let head = "POST /length HTTP/1.1\r\nhost: a\r\n";
    let mut declared = format!("{head}content-length: {}\r\n\r\n", LIMIT + 1).into_bytes();
    declared.resize(declared.len() + LIMIT + 1, b'0');
    // Not declared beforehand: only counting finds out.
    let mut counted = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..=LIMIT / CHUNK {
        counted.extend(format!("{CHUNK:x}\r\n").bytes());
        counted.resize(counted.len() + CHUNK, b'0');
        counted.extend(b"\r\n");
    }
    counted.extend(b"0\r\n\r\n");
    for sent in [declared, counted] {
        let answer = String::from_utf8_lossy(&raw(server.address(), &sent, DEADLINE)).into_owned();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("x-error-code: request-too-large\r\n"), "{answer}");
    }
    assert_eq!(call(server.address(), post("/length", "four")).expect(200), "4");
    server.stop();
}

#[test]
fn a_client_that_is_still_sending_too_much_reads_why_it_is_refused() {
    let server = serve("plain-chaos").args(["--request-body", "1KiB"]).start();
    for _ in 0..20 {
        call(server.address(), post("/length", vec![0; 4 << 20])).expect_failure(413, "request-too-large");
    }
    server.stop();
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_hold_a_plain_handler_for_ever() {
    let server = serve("plain-chaos").args(["--wall", "500ms", "--concurrency", "1"]).start();
    let (sender, body) = fed();
    let reply = fetch(server.address(), request("POST", "/length", body)).await.unwrap();
    assert!([408, 504].contains(&reply.status.as_u16()), "{reply:?}");
    assert!(!reply.header("x-error-code").is_empty(), "{reply:?}");
    drop(sender);
    assert_eq!(fetch(server.address(), get("/ok")).await.unwrap().expect(200), "ok\n");
    server.stop();
}

#[test]
fn a_valid_correlation_id_is_kept_and_any_other_replaced() {
    let server = serve("chaos-http").start();
    let kept = call(server.address(), tagged("/trap", "Req-0123456789abcdef"));
    assert_eq!(kept.header("x-request-id"), "Req-0123456789abcdef");

    let long = "a".repeat(4000);
    let mut replacements = vec![call(server.address(), get("/trap"))];
    for invalid in [long.as_str(), "with space", "quo\"te", "line{\"json\":1}", "<script>", ""] {
        replacements.push(call(server.address(), tagged("/trap", invalid)));
    }
    let mut not_text = get("/trap");
    not_text.headers_mut().insert("x-request-id", http::HeaderValue::from_bytes(b"caf\xe9").unwrap());
    replacements.push(call(server.address(), not_text));

    let mut ids = BTreeMap::new();
    for reply in replacements {
        let reply = reply.expect_failure(500, "guest-trap");
        let id = reply.header("x-request-id").to_owned();
        assert!(
            (8..=128).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "{id}"
        );
        server.logged(&[&id, "guest-trap"]);
        *ids.entry(id).or_insert(0) += 1;
    }
    assert_eq!(ids.len(), 8, "each is another: {ids:?}");
    assert!(!server.log().contains(&long), "what was refused is not in the log either");
    server.stop();
}

#[test]
fn the_log_is_json_when_asked() {
    let server = serve("chaos-http").args(["--json", "--log-format", "json"]).start();
    call(server.address(), tagged("/trap", "json-1")).expect_failure(500, "guest-trap");
    let line = server.logged(&["json-1", "guest-trap"]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let text = line.to_string();
    for word in ["chaos-http", "faults::trap", "unreachable"] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    for line in server.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    server.stop();
}

#[tokio::test]
async fn the_connection_survives_a_failure() {
    let server = serve("plain-chaos").start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    for _ in 0..20 {
        connection.exchange(get("/trap")).await.unwrap().expect_failure(500, "guest-trap");
        assert_eq!(connection.exchange(get("/ok")).await.unwrap().expect(200), "ok\n");
    }
    server.stop();
}

#[tokio::test]
async fn neighbours_notice_nothing() {
    // 200 failures of every kind. The loops are few because each burns its whole CPU limit.
    const FAILING: [(&str, u16, usize); 6] = [
        ("/trap", 500, 70),
        ("/panic", 500, 40),
        ("/no-response", 500, 40),
        ("/oom", 500, 30),
        ("/stack", 500, 14),
        ("/loop", 504, 6),
    ];
    const AT_ONCE: usize = 8;
    let server = serve("chaos-http").args(["--cpu", "300ms", "--memory", "16MiB", "--wall", "30s"]).start();
    let address = server.address();
    let failing_is_over = Arc::new(AtomicBool::new(false));

    let neighbours: Vec<_> = (0..2)
        .map(|_| {
            let over = Arc::clone(&failing_is_over);
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await.unwrap();
                let mut answered = 0;
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(connection.exchange(get("/ok")).await.unwrap().expect(200), "ok\n");
                    answered += 1;
                }
                answered
            })
        })
        .collect();

    let requests: Vec<_> = FAILING
        .iter()
        .flat_map(|(path, status, times)| std::iter::repeat_n((*path, *status), *times))
        .collect();
    assert_eq!(requests.len(), 200);
    let failing: Vec<_> = (0..AT_ONCE)
        .map(|lane| {
            let requests: Vec<_> = requests.iter().copied().skip(lane).step_by(AT_ONCE).collect();
            tokio::spawn(async move {
                for (path, status) in requests {
                    let reply = fetch(address, get(path)).await.unwrap();
                    assert_eq!(reply.status.as_u16(), status, "{path}: {reply:?}");
                }
            })
        })
        .collect();
    for failing in failing {
        failing.await.unwrap();
    }
    failing_is_over.store(true, Ordering::Relaxed);
    for neighbour in neighbours {
        let answered = neighbour.await.unwrap();
        assert!(answered >= 20, "the neighbour was starved: {answered} answers");
    }
    server.stop();
}

#[test]
fn a_failure_says_nothing_of_the_inside_to_the_client() {
    let server = serve("chaos-http").start();
    let reply = call(server.address(), get("/trap")).expect_failure(500, "guest-trap");
    let text = reply.text();
    for inside in ["faults", "wasm backtrace", "unreachable", "/root", "crates/"] {
        assert!(!text.contains(inside), "{text}");
    }
    server.stop();
}

#[test]
fn failures_do_not_pile_up() {
    let server = serve("chaos-http").args(["--pool", "4"]).start();
    for _ in 0..50 {
        call(server.address(), get("/trap")).expect_failure(500, "guest-trap");
    }
    until("a free place after many traps", DEADLINE, || {
        (call(server.address(), request("POST", "/echo", full("x"))).status == 200).then_some(())
    });
    server.stop();
}
