//! HTTP as clients speak it, well and badly.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tenon_testkit::client::{Connection, Http2, call, empty, fed, fetch, get, post, raw, request};
use tenon_testkit::{DEADLINE, Serving};

use crate::support::serve;

/// How long a raw exchange waits for more before it takes what it has.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let server = serve("chaos-http").start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    for turn in 0..200 {
        let body = format!("body {turn}");
        assert_eq!(connection.exchange(post("/echo", body.clone())).await.unwrap().expect(200), body);
    }
    assert!(!connection.is_closed());
    server.stop();
}

#[tokio::test]
async fn head_has_no_body_and_leaves_the_connection_usable() {
    for guest in ["chaos-http", "plain-chaos", "service-p3"] {
        let server = serve(guest).start();
        let mut connection = Connection::open(server.address()).await.unwrap();
        for _ in 0..3 {
            let reply = connection.exchange(request("HEAD", "/ok", empty())).await.unwrap();
            assert_eq!(reply.expect(200), "");
            assert_eq!(connection.exchange(get("/ok")).await.unwrap().expect(200), "ok\n");
        }
        server.stop();
    }
}

/// Room for what streams through these tests.
const LARGE: [&str; 4] = ["--request-body", "1GiB", "--response-body", "1GiB"];

#[tokio::test]
async fn a_large_body_streams_both_ways_in_bounded_memory() {
    for guest in ["chaos-http", "service-p3"] {
        streams_in_bounded_memory(guest).await;
    }
}

async fn streams_in_bounded_memory(guest: &str) {
    const CHUNK: usize = 64 << 10;
    const CHUNKS: usize = 1024;
    const ALLOWED_GROWTH: u64 = 40 << 20;
    let server = serve(guest).args(["--cpu", "60s", "--wall", "120s"]).args(LARGE).start();
    fetch(server.address(), post("/echo", vec![1; CHUNK])).await.unwrap().expect(200);
    let before = server.peak_resident_bytes();

    // Each chunk is another byte, so that a lost, doubled or displaced one is seen.
    let (mut sender, body) = fed();
    let feeding = tokio::spawn(async move {
        for index in 0..CHUNKS {
            sender.send_data(Bytes::from(vec![index as u8; CHUNK])).await.expect("the server reads");
        }
    });
    let mut connection = Connection::open(server.address()).await.unwrap();
    let mut response = connection.send(request("POST", "/echo", body)).await.unwrap();
    assert_eq!(response.status, 200);
    let mut received = 0;
    while let Some(chunk) = response.chunk().await.unwrap() {
        for &byte in &chunk[..] {
            assert_eq!(byte, (received / CHUNK) as u8, "byte {received}");
            received += 1;
        }
    }
    feeding.await.unwrap();
    assert_eq!(received, CHUNK * CHUNKS);
    let grown = server.peak_resident_bytes().saturating_sub(before);
    assert!(grown < ALLOWED_GROWTH, "{guest}: echoing 64 MiB took {} MiB", grown >> 20);
    server.stop();
}

#[tokio::test]
async fn a_guest_waits_for_a_client_that_does_not_read() {
    const BYTES: usize = 256 << 20;
    let server = serve("chaos-http").args(["--cpu", "60s", "--wall", "120s"]).args(LARGE).start();
    fetch(server.address(), get("/big?bytes=100000")).await.unwrap().expect(200);
    let before = server.peak_resident_bytes();
    let mut connection = Connection::open(server.address()).await.unwrap();
    let mut response = connection.send(get(&format!("/big?bytes={BYTES}"))).await.unwrap();
    let mut received = response.chunk().await.unwrap().unwrap().len();
    // Meanwhile others are served, and a guest that did not wait would have produced it all.
    for _ in 0..200 {
        fetch(server.address(), get("/spin?ms=1")).await.unwrap().expect(200);
    }
    let grown = server.peak_resident_bytes().saturating_sub(before);
    assert!(grown < 40 << 20, "{} MiB were buffered", grown >> 20);
    while let Some(chunk) = response.chunk().await.unwrap() {
        received += chunk.len();
    }
    assert_eq!(received, BYTES);
    server.stop();
}

// One departure for each server: right after a response the place it had may not be free yet, and the next
// request would be refused.
#[tokio::test]
async fn a_client_that_goes_away_frees_its_place() {
    let server = serve("chaos-http").args(["--concurrency", "1", "--queue", "0", "--wall", "600s"]).start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    let mut response = connection.send(get("/drip?chunks=1000000&ms=5")).await.unwrap();
    assert_eq!(response.status, 200);
    response.chunk().await.unwrap().unwrap();
    fetch(server.address(), get("/ok")).await.unwrap().expect_failure(503, "concurrency-limit");
    drop((response, connection));
    becomes_free(&server).await;
    server.stop();
}

#[tokio::test]
async fn a_client_that_goes_away_before_the_answer_frees_its_place() {
    let server = serve("chaos-http").args(["--concurrency", "1", "--queue", "0", "--wall", "600s"]).start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /sleep?ms=500000 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    server.logged(&["sleeping"]);
    fetch(server.address(), get("/ok")).await.unwrap().expect_failure(503, "concurrency-limit");
    drop(stream);
    becomes_free(&server).await;
    server.stop();
}

/// Waits until the one place is free.
async fn becomes_free(server: &Serving) {
    let start = Instant::now();
    while fetch(server.address(), get("/ok")).await.unwrap().status != 200 {
        assert!(start.elapsed() < DEADLINE, "the place is not freed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_slow_body_is_waited_for_and_holds_nobody_up() {
    let server = serve("chaos-http").start();
    let address = server.address();
    let (mut sender, body) = fed();
    let slow = tokio::spawn(fetch(address, request("POST", "/count", body)));
    for _ in 0..5 {
        sender.send_data(Bytes::from_static(b"x")).await.unwrap();
        for _ in 0..5 {
            assert_eq!(fetch(address, get("/ok")).await.unwrap().expect(200), "ok\n");
        }
    }
    drop(sender);
    assert_eq!(slow.await.unwrap().unwrap().expect(200), "5");
    server.stop();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_taken_for_whole() {
    let server = serve("chaos-http").args(["--wall", "20s"]).start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nonly this").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.ends_with("\r\n\r\n9"), "nine bytes of a hundred counted as a body: {answer}");
    assert_eq!(fetch(server.address(), get("/ok")).await.unwrap().expect(200), "ok\n");
    server.stop();
}

#[tokio::test]
async fn a_body_nobody_reads_does_not_disturb_the_next_request() {
    let server = serve("chaos-http").start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    for _ in 0..3 {
        let reply = connection.exchange(post("/ignore-body", vec![b'z'; 1000])).await.unwrap();
        assert_eq!(reply.expect(200), "ignored\n");
        assert_eq!(connection.exchange(get("/ok")).await.unwrap().expect(200), "ok\n");
    }
    // Larger than anybody reads ahead: the server may close the connection instead, but not misread it.
    let reply = fetch(server.address(), post("/ignore-body", vec![b'z'; 8 << 20])).await;
    if let Ok(reply) = reply {
        assert_eq!(reply.expect(200), "ignored\n");
    }
    assert_eq!(fetch(server.address(), get("/ok")).await.unwrap().expect(200), "ok\n");
    server.stop();
}

#[tokio::test]
async fn a_thousand_connections_at_once() {
    const CONNECTIONS: usize = 1000;
    const AT_ONCE: usize = 50;
    let server = serve("plain-root").start();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(server.address()).await.unwrap());
    }
    for _ in 0..2 {
        let mut asked = Vec::new();
        while !connections.is_empty() {
            let rest = connections.split_off(connections.len().saturating_sub(AT_ONCE));
            let asking: Vec<_> = rest
                .into_iter()
                .map(|mut connection| {
                    tokio::spawn(async move {
                        let reply = connection.exchange(get("/n")).await.unwrap();
                        assert_eq!(reply.expect(200), "plain-root GET /n\n");
                        connection
                    })
                })
                .collect();
            for asking in asking {
                asked.push(asking.await.unwrap());
            }
        }
        connections = asked;
        assert_eq!(connections.len(), CONNECTIONS, "all are still open");
    }
    server.stop();
}

#[test]
fn what_is_not_http_is_refused_and_the_server_lives() {
    let server = serve("plain-root").start();
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(2 << 20));
    for (bytes, statuses) in [
        (&b"nonsense\r\n\r\n"[..], &["400"][..]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", &["400"]),
        (b"GET / HTTP/9.9\r\nhost: a\r\n\r\n", &["400", "505"]),
        (b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", &["400"]),
        (b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n", &["400"]),
        (b"GET / HTTP/1.1\r\nhost: a\r\nbad name: x\r\n\r\n", &["400"]),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: many\r\n\r\n", &["400"]),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", &["400"]),
        (large.as_bytes(), &["400", "431"]),
    ] {
        let answer = String::from_utf8_lossy(&raw(server.address(), bytes, PATIENCE)).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let sent: String = String::from_utf8_lossy(bytes).chars().take(60).collect();
        assert!(statuses.contains(&status), "{sent:?} was answered {answer:?}");
        assert_eq!(call(server.address(), get("/")).expect(200), "plain-root GET /\n");
    }
    server.stop();
}

#[test]
fn a_request_that_names_no_host_is_refused() {
    // RFC 9112, section 3.2: a server must answer 400 to an HTTP/1.1 request without a Host, or with several.
    let server = serve("plain-root").start();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"] {
        let answer =
            String::from_utf8_lossy(&raw(server.address(), bytes, Duration::from_secs(1))).into_owned();
        assert!(
            answer.starts_with("HTTP/1.1 400"),
            "{:?} was answered {answer:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    server.stop();
}

#[test]
fn what_breaks_off_early_leaves_the_server_alone() {
    let server = serve("plain-root").start();
    for bytes in [&b""[..], b"G", b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\n"] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(bytes).unwrap();
        drop(stream);
    }
    assert_eq!(call(server.address(), get("/")).expect(200), "plain-root GET /\n");
    server.stop();
}

/// The responses in `bytes`, each with its status and its body of a declared length.
fn responses(bytes: &[u8]) -> Vec<(u16, String)> {
    let mut rest = std::str::from_utf8(bytes).unwrap();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (head, body) = rest.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {rest:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.unwrap_or(0);
        found.push((status, body[..length].to_owned()));
        rest = &body[length..];
    }
    found
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = serve("plain-root").start();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let last = "GET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = raw(server.address(), (request("/1") + &request("/2") + last).as_bytes(), PATIENCE);
    let expected: Vec<_> = ["/1", "/2", "/3"].map(|path| (200, format!("plain-root GET {path}\n"))).into();
    assert_eq!(responses(&answer), expected);
    server.stop();
}

#[test]
fn a_request_hidden_in_a_body_stays_hidden() {
    let server = serve("plain-root").start();
    // Both lengths at once (RFC 9112, section 6.3): whoever believed the content-length would see a second request.
    let smuggled = "POST /outer HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                    27\r\nGET /hidden HTTP/1.1\r\nhost: a\r\nx: 12345\r\n\r\n0\r\n\r\n";
    let answer = raw(server.address(), smuggled.as_bytes(), Duration::from_secs(1));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(!answer.contains("/hidden"), "{answer}");
    server.stop();
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let server = serve("plain-root").start();
    let answer = raw(server.address(), b"GET /old HTTP/1.0\r\n\r\n", PATIENCE);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("plain-root GET /old\n"), "{answer}");
    server.stop();
}

#[test]
fn whoever_expects_a_continue_gets_it() {
    let server = serve("chaos-http").start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut line = [0; 25];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop();
}

#[test]
fn headers_of_the_connection_are_not_the_guests() {
    for (guest, path) in [("chaos-http", "/headers"), ("plain-echo", "/")] {
        let server = serve(guest).start();
        let sent = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nkeep-alive: timeout=5\r\n\
             proxy-connection: keep-alive\r\nupgrade: websocket\r\nx-mine: yes\r\n\r\n"
        );
        let answer =
            String::from_utf8(raw(server.address(), sent.as_bytes(), PATIENCE)).unwrap().to_lowercase();
        let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
        assert!(seen.contains("x-mine: yes"), "{guest}: {seen}");
        for name in ["connection:", "keep-alive:", "proxy-connection:", "upgrade:"] {
            assert!(!seen.contains(name), "{guest} sees {name} {seen}");
        }
        server.stop();
    }
}

/// One exchange, then an ordinary one: on the same connection when it is still open, else on another.
async fn stays_in_step(address: SocketAddr, target: &str) -> Option<(u16, String)> {
    let mut connection = Connection::open(address).await.unwrap();
    let first =
        connection.exchange(get(target)).await.ok().map(|reply| (reply.status.as_u16(), reply.text()));
    if first.is_none() || connection.is_closed() {
        connection = Connection::open(address).await.unwrap();
    }
    assert_eq!(connection.exchange(get("/ok")).await.unwrap().expect(200), "ok\n", "after {target}");
    first
}

#[tokio::test]
async fn a_plain_handler_does_not_frame_its_message() {
    let server = serve("plain-chaos").start();
    for (name, value) in [
        ("content-length", "3"),
        ("content-length", "300"),
        ("content-length", "-1"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("keep-alive", "timeout=1"),
        ("upgrade", "h2c"),
        ("trailer", "x"),
    ] {
        let target = format!("/respond?name={name}&value={value}&body=hello");
        match stays_in_step(server.address(), &target).await.expect("an answer that can be read") {
            (200, body) => assert_eq!(body, "hello", "{name}: {value}"),
            (status, _) => assert_eq!(status, 500, "{name}: {value}"),
        }
    }
    // A status that has no body, from a handler that gives one all the same.
    for status in [204, 304] {
        let target = format!("/respond?status={status}&body=hello");
        match stays_in_step(server.address(), &target).await.expect("an answer that can be read") {
            (500, _) => {}
            (found, body) => assert_eq!((found, body.as_str()), (status, "")),
        }
    }
    server.stop();
}

#[tokio::test]
async fn a_guest_that_breaks_its_own_length_does_not_pass_for_whole() {
    let server = serve("chaos-http").start();
    let right = stays_in_step(server.address(), "/length?declared=5&sent=5").await;
    assert_eq!(right, Some((200, "yyyyy".to_owned())));
    for target in ["/length?declared=5&sent=3", "/length?declared=3&sent=5", "/length?declared=5&sent=0"] {
        match stays_in_step(server.address(), target).await {
            None | Some((500.., _)) => {}
            Some((_, body)) => assert_eq!(body, "yyy", "{target}: cut to the length that was promised"),
        }
    }
    server.stop();
}

#[test]
fn statuses_that_wasi_accepts_are_sent() {
    let server = serve("chaos-http").start();
    for code in [200, 201, 299, 404, 418, 500, 599] {
        assert_eq!(call(server.address(), get(&format!("/status?code={code}"))).expect(code), "accepted");
    }
    for code in [0, 99, 1000, 65535] {
        // Refused to the guest, or to its response; never sent.
        let reply = call(server.address(), get(&format!("/status?code={code}")));
        assert!([200, 500].contains(&reply.status.as_u16()), "{reply:?}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_carries_many_requests_on_one_connection() {
    for guest in ["chaos-http", "plain-chaos", "service-p3"] {
        let server = serve(guest).start();
        let connection = std::sync::Arc::new(Http2::open(server.address()).await.unwrap());
        let running: Vec<_> = (0..50)
            .map(|_| {
                let connection = std::sync::Arc::clone(&connection);
                tokio::spawn(async move { connection.exchange(get("/ok")).await })
            })
            .collect();
        for reply in running {
            assert_eq!(reply.await.unwrap().unwrap().expect(200), "ok\n");
        }
        // One that fails takes neither the connection nor its neighbours with it.
        connection.exchange(get("/trap")).await.unwrap().expect_failure(500, "guest-trap");
        assert_eq!(connection.exchange(get("/ok")).await.unwrap().expect(200), "ok\n");
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_streams_a_body_both_ways() {
    let server = serve("chaos-http").start();
    let connection = Http2::open(server.address()).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|index| index as u8).collect();
    let reply = connection.exchange(post("/echo", sent.clone())).await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.body == sent, "what came back differs");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_reach_the_client() {
    let server = serve("chaos-http").start();
    let connection = Http2::open(server.address()).await.unwrap();
    let reply = connection.exchange(get("/trailers")).await.unwrap();
    assert_eq!(reply.trailers.get("x-sum").unwrap(), "1234");
    assert_eq!(reply.expect(200), "summed");
    // HTTP/1.1 sends them only to a client that says it takes them (RFC 9110, section 6.5.1).
    let mut request = get("/trailers");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let reply = fetch(server.address(), request).await.unwrap();
    assert_eq!(reply.trailers.get("x-sum").unwrap(), "1234");
    assert_eq!(reply.expect(200), "summed");
    server.stop();
}
