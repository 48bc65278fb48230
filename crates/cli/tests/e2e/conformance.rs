//! What the documentation of WASI promises, function by function: a guest asserts it from within, and names what it
//! finds otherwise. Of each interface that has to be granted, its twin without the grant.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use tenon_testkit::client::{Connection, Http2, call, fetch, get, post, raw};
use tenon_testkit::peer::{Peer, echo_udp};
use tenon_testkit::{DEADLINE, Guests, Serving, Tenon};

use crate::support::tenon;

/// What both guests assert is granted.
const GRANTS: &str = r#"
"wasi:filesystem" = [{ directory = "data", at = "/data", access = "write" }]
"wasi:keyvalue" = [{ bucket = "default", access = "write" }]
"wasi:cli" = { environment = { A = "b" }, arguments = ["x", "y"] }
"wasi:sockets" = [
  { protocol = "tcp", direction = "connect", host = "127.0.0.1", port = "1-65535" },
  { protocol = "tcp", direction = "listen", host = "127.0.0.1", port = "1-65535" },
  { protocol = "udp", direction = "connect", host = "127.0.0.1", port = "1-65535" },
  { protocol = "udp", direction = "listen", host = "127.0.0.1", port = "1-65535" },
  { protocol = "tcp", direction = "connect", host = "localhost", port = "1" },
]
"#;

/// What lets `conforming-p3` be served, and lets it reach nothing.
const NOTHING: &str = r#"
"wasi:http" = [{ host = "nowhere.invalid" }]
"wasi:keyvalue" = [{ bucket = "nobodys" }]
"wasi:sockets" = [
  { protocol = "tcp", direction = "connect", host = "192.0.2.1", port = 1 },
  { protocol = "udp", direction = "connect", host = "192.0.2.1", port = 1 },
]
"#;

/// `tenon serve` of a folder with the guest as its only component, and an empty folder `data`.
fn serving(tenon: &Tenon, guest: &str, grants: &str) -> Serving {
    serving_as(tenon, guest, grants, false)
}

/// The guest of WASI 0.2 with what it asserts granted, optimised or as it was built.
pub(crate) fn conforming(tenon: &Tenon, optimize: bool) -> Serving {
    serving_as(tenon, "conforming", GRANTS, optimize)
}

fn serving_as(tenon: &Tenon, guest: &str, grants: &str, optimize: bool) -> Serving {
    let folder = tenon.data().join("app");
    fs::create_dir_all(folder.join("data")).unwrap();
    fs::copy(Guests::get(guest), folder.join("guest.wasm")).unwrap();
    let manifest = format!(
        "optimize = {optimize}\n[component.{guest}]\npath = \"guest.wasm\"\n[component.{guest}.grants]\n{grants}\n\
         [limits]\noutbound-connections = 200\noutbound-requests = 200\n"
    );
    fs::write(folder.join("tenon.toml"), manifest).unwrap();
    tenon.serve(folder).start()
}

/// Each of at least `least` assertions holds.
#[track_caller]
pub(crate) fn asserted(server: &Serving, path: &str, least: usize) {
    let mut request = get(path);
    for value in ["1", "2"] {
        request.headers_mut().append("x-client", value.parse().unwrap());
    }
    let said = call(server.address(), request).expect(200);
    let failed: Vec<_> = said.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert!(failed.is_empty(), "{path}:\n{}\n{}", failed.join("\n"), server.log());
    assert!(said.lines().count() >= least, "{path}: only {} assertions\n{said}", said.lines().count());
}

#[track_caller]
fn all_hold(guest: &str, path: &str, least: usize) {
    let tenon = tenon();
    let grants = match guest {
        "conforming-p3" => &format!("{GRANTS}\"wasi:http\" = [{{ host = \"nowhere.invalid\" }}]\n"),
        _ => GRANTS,
    };
    let server = serving(&tenon, guest, grants);
    asserted(&server, path, least);
    server.stop();
}

#[test]
fn clocks() {
    all_hold("conforming", "/clocks", 15);
}

#[test]
fn filesystem() {
    all_hold("conforming", "/filesystem", 66);
}

#[test]
fn http() {
    all_hold("conforming", "/http", 60);
}

#[test]
fn keyvalue() {
    all_hold("conforming", "/keyvalue", 25);
}

#[test]
fn sockets() {
    all_hold("conforming", &format!("/sockets?udp={}", echo_udp().port()), 50);
}

#[test]
fn random_and_cli() {
    all_hold("conforming", "/surroundings", 14);
}

#[test]
fn clocks_of_wasi03() {
    all_hold("conforming-p3", "/clocks", 15);
}

#[test]
fn random_of_wasi03() {
    all_hold("conforming-p3", "/random", 14);
}

#[test]
fn streams_of_wasi03() {
    all_hold("conforming-p3", "/streams", 37);
}

#[test]
fn filesystem_of_wasi03() {
    all_hold("conforming-p3", "/filesystem", 110);
}

#[test]
fn http_of_wasi03() {
    all_hold("conforming-p3", "/http?a=b%20c", 130);
}

#[test]
fn keyvalue_of_a_component_of_wasi03() {
    all_hold("conforming-p3", "/keyvalue", 25);
}

#[test]
fn sockets_of_wasi03() {
    all_hold("conforming-p3", &format!("/sockets?udp={}", echo_udp().port()), 120);
}

#[test]
fn standard_streams_of_wasi03() {
    let tenon = tenon();
    let grants = format!("{GRANTS}\"wasi:http\" = [{{ host = \"nowhere.invalid\" }}]\n");
    let server = serving(&tenon, "conforming-p3", &grants);
    asserted(&server, "/cli", 27);
    for stream in ["output", "error"] {
        let line = format!("in two parts on {stream}");
        server.logged(&[&line]);
        assert_eq!(server.count_logged(&[&line]), 1, "{}", server.log());
    }
    server.stop();
}

#[test]
fn an_http_client_of_wasi03() {
    let tenon = tenon();
    let peer = Peer::start();
    // Somebody had this port a moment ago, and nobody has it now.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let grant = |port| format!(r#"{{ host = "127.0.0.1", scheme = "http", port = {port}, private = true }}"#);
    let http = format!("\"wasi:http\" = [{}, {}]\n", grant(peer.address().port()), grant(closed));
    let server = serving(&tenon, "conforming-p3", &format!("{GRANTS}{http}"));
    asserted(&server, &format!("/client?peer={}&closed={closed}", peer.address().port()), 71);
    server.stop();
}

#[test]
fn what_wasi03_was_not_granted_is_refused_at_each_call() {
    let (tenon, peer) = (tenon(), Peer::start());
    let server = serving(&tenon, "conforming-p3", NOTHING);
    asserted(&server, &format!("/denied?peer={}", peer.address().port()), 15);
    assert_eq!(peer.heads().len(), 0);
    let line = format!("127.0.0.1:{}", peer.address().port());
    for asked in [&format!("tcp connect {line}"), &format!("udp connect {line}"), &format!("http://{line}")] {
        server.logged(&["not granted", asked]);
    }
    server.logged(&["not granted", "lookup localhost"]);
    server.stop();
}

#[test]
fn a_directory_of_wasi03_that_may_be_read_is_not_written() {
    let tenon = tenon();
    let grants = format!("{NOTHING}\"wasi:filesystem\" = [{{ directory = \"data\", at = \"/data\" }}]\n");
    let data = tenon.data().join("app/data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("file"), "content").unwrap();
    let server = serving(&tenon, "conforming-p3", &grants);
    asserted(&server, "/filesystem/read-only", 17);
    server.stop();
    let mut left: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["file", "sub"]);
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "content");
}

#[tokio::test]
async fn a_service_of_wasi03_is_served_as_it_says() {
    let tenon = tenon();
    let server = serving(&tenon, "conforming-p3", NOTHING);
    let address = server.address();

    let whole = fetch(address, get("/serve/declared?declared=5&sent=5")).await.unwrap();
    assert_eq!((whole.header("content-length"), whole.body.len()), ("5", 5));
    server.logged(&["left 0, transmitted Ok(())"]);
    for (sent, told) in [
        (3, "left 0, transmitted Err(HttpResponseBodySize(Some(3)))"),
        (9, "transmitted Err(HttpResponseBodySize(Some(9)))"),
    ] {
        let cut = fetch(address, get(&format!("/serve/declared?declared=5&sent={sent}"))).await;
        assert!(
            cut.as_ref().map_or(true, |reply| reply.status == 500),
            "{sent} of 5 bytes look whole: {cut:?}"
        );
        server.logged(&[told]);
    }
    let none = fetch(address, get("/serve/declared?declared=0&sent=0")).await.unwrap();
    assert_eq!((none.status.as_u16(), none.header("content-length"), none.body.len()), (200, "0", 0));

    for status in [200, 204, 304, 404, 599] {
        let empty = fetch(address, get(&format!("/serve/empty?status={status}"))).await.unwrap();
        assert_eq!((empty.status.as_u16(), empty.body.len()), (status, 0));
    }
    assert_eq!(fetch(address, get("/serve/parts")).await.unwrap().expect(200), "onetwo");
    let failed = fetch(address, get("/serve/error")).await.unwrap();
    assert!(failed.status.is_server_error(), "{failed:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_of_wasi03_reach_the_client() {
    let tenon = tenon();
    let server = serving(&tenon, "conforming-p3", NOTHING);
    let connection = Http2::open(server.address()).await.unwrap();
    let some = connection.exchange(get("/serve/trailers?kind=some")).await.unwrap();
    assert_eq!(some.trailers.get("x-sum").unwrap(), "1234");
    assert_eq!(some.expect(200), "summed");
    server.logged(&["forbidden in trailers: Err(HeaderError::Forbidden)"]);
    server.logged(&["taken true, transmitted Ok(())"]);
    let mut request = get("/serve/trailers?kind=some");
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    let some = fetch(server.address(), request).await.unwrap();
    assert_eq!(some.trailers.get("x-sum").unwrap(), "1234");
    let none = connection.exchange(get("/serve/trailers?kind=none")).await.unwrap();
    assert!(none.trailers.is_empty(), "{none:?}");
    assert_eq!(none.expect(200), "summed");
    for reply in [
        connection.exchange(get("/serve/trailers?kind=error")).await,
        fetch(server.address(), get("/serve/trailers?kind=error")).await,
    ] {
        let whole = reply.as_ref().is_ok_and(|reply| reply.status == 200);
        assert!(!whole, "a response whose trailers are an error looks whole: {reply:?}");
    }
    server.stop();
}

#[tokio::test]
async fn a_service_of_wasi03_reads_what_a_client_sends() {
    let tenon = tenon();
    let server = serving(&tenon, "conforming-p3", NOTHING);
    let address = server.address();
    let mut connection = Connection::open(address).await.unwrap();
    for bytes in [0, 1, 100_000] {
        let described =
            connection.exchange(post("/serve/request", vec![b'x'; bytes])).await.unwrap().expect(200);
        assert_eq!(described, format!("{bytes} bytes, Ok(None)"));
        let back =
            connection.exchange(post("/serve/passed-on", vec![b'x'; bytes])).await.unwrap().expect(200);
        assert_eq!(back.len(), bytes);
    }
    let refused = connection.exchange(post("/serve/refused-body", "four")).await.unwrap();
    assert_eq!(refused.expect(200), "4 bytes");
    // What the guest leaves unread is no part of the next request.
    let half = fetch(address, post("/serve/half-read", vec![b'x'; 300_000])).await.unwrap();
    assert_eq!(half.expect(200), "xxxx");
    assert_eq!(fetch(address, post("/serve/unread", "some")).await.unwrap().expect(200), "unread");

    let chunked =
        b"POST /serve/request HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\
        connection: close\r\n\r\n4\r\nsome\r\n0\r\nx-sum: 1\r\n\r\n";
    let answer = String::from_utf8_lossy(&raw(address, chunked, DEADLINE)).into_owned();
    assert!(answer.contains(r#"4 bytes, Ok(Some([("x-sum", [49])]))"#), "{answer}");

    // A body that breaks off does not look whole to the guest.
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"POST /serve/request HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nten bytes!")
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.contains("10 bytes, Ok"), "{answer}");
    server.stop();
}

#[test]
fn an_exit_of_wasi03_is_a_failure_of_the_request() {
    let tenon = tenon();
    let server = serving(&tenon, "conforming-p3", NOTHING);
    for target in ["exit?how=ok", "exit?how=error", "exit?code=0", "exit?code=7"] {
        let reply = call(server.address(), get(&format!("/serve/{target}")));
        reply.expect_failure(500, "guest-trap");
    }
    server.logged(&["guest-trap", "exit"]);
    assert_eq!(call(server.address(), get("/serve/parts")).expect(200), "onetwo");
    server.stop();
}
