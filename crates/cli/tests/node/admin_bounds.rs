//! Who reaches the admin API's port, with a token or without, and what of it they can keep from others.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http::Request;
use serde_json::Value;
use tenon_testkit::client::{Body, Connection, Reply, call, fetch, full, get, request};
use tenon_testkit::{DEADLINE, until};

use crate::support::Site;

const HOST: &str = "shop.example";
const LINES: &str = "/v1/tenants/acme/apps/shop/logs?follow=true";

fn bearing(mut request: Request<Body>, token: &str) -> Request<Body> {
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A token that was made with these arguments.
fn token(site: &Site, args: &[&str]) -> String {
    let made = site.json([&["token", "create"], args].concat());
    made["secret"].as_str().unwrap().to_owned()
}

/// The code of a problem, which has to say what mends it.
#[track_caller]
fn code(reply: &Reply) -> String {
    assert_eq!(reply.header("content-type"), "application/problem+json", "{reply:?}");
    let problem: Value = serde_json::from_str(&reply.text()).unwrap();
    assert!(problem["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "{problem}");
    problem["code"].as_str().unwrap().to_owned()
}

/// A connection from 127.0.0.`from`.
fn connect(from: u8, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, from], 0))).unwrap();
        let stream = socket.connect(to).await.unwrap().into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    })
}

/// Sends as many GETs of `path` at once over one connection, and gives back all answers.
fn flood(from: u8, admin: SocketAddr, path: &str, token: Option<&str>, count: usize) -> String {
    let bearing = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let one = |last: &str| format!("GET {path} HTTP/1.1\r\nhost: node\r\n{bearing}{last}\r\n");
    let all = one("").repeat(count - 1) + &one("connection: close\r\n");
    let mut stream = connect(from, admin);
    let mut writer = stream.try_clone().unwrap();
    let mut answers = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(all.as_bytes()).unwrap());
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.read_to_end(&mut answers).unwrap();
    });
    String::from_utf8_lossy(&answers).into_owned()
}

fn answered(answers: &str, status: u16) -> usize {
    answers.matches(&format!("HTTP/1.1 {status} ")).count()
}

/// Room for as many open files as the tests of this process need together.
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const MANY: u64 = 1 << 16;
    let limit = getrlimit(Resource::Nofile);
    let may = limit.maximum.map_or(MANY, |maximum| maximum.min(MANY));
    if limit.current.is_some_and(|current| current < may) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(may), maximum: limit.maximum }).unwrap();
    }
}

/// More connections than there may be, of which nothing comes or half of what says that it is HTTP/2: a revert is done all the
/// same.
#[test]
fn whoever_says_nothing_shuts_nobody_out() {
    allow_files();
    let site = Site::of(&["acme"]);
    for version in ["one", "two"] {
        site.deploy(&site.app("acme", "shop", HOST, version), &[]);
    }
    let mut silent = Vec::new();
    for from in [2, 3, 4] {
        for number in 0..260 {
            let mut stream = connect(from, site.node.admin());
            if number % 2 == 0 {
                // One that has been closed already cannot be written to.
                let _ = stream.write_all(b"PRI * HT");
            }
            silent.push(stream);
        }
    }
    site.run(["revert", "acme/shop"]).expect_code(0);
    assert_eq!(site.version(HOST), "one");
    // The first of them were not kept for that; those that came late have a little longer.
    for stream in &mut silent[..100] {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let read = stream.read(&mut [0; 1 << 10]);
        let is_open =
            read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        assert!(!is_open, "it is open still");
    }
    site.node.stop();
}

#[test]
fn whoever_asks_much_without_a_token_is_told_so_and_nobody_else_is() {
    let site = Site::new();
    let admin = site.node.admin();
    let answers = flood(2, admin, "/v1/openapi.json", None, 1_000);
    let refused = answered(&answers, 429);
    assert!(refused > 0 && answered(&answers, 200) >= 100, "{refused} of 1000 were refused");
    assert!(answers.contains("admin-rate") && answers.contains("retry-after: "));
    // From another address it is to be had, and whether the node runs is said to everybody.
    assert_eq!(answered(&flood(3, admin, "/", None, 1), 200), 1);
    assert_eq!(answered(&flood(2, admin, "/v1/live", None, 1_000), 200), 1_000);
    // Nor do those who guess tokens keep anybody from it.
    let guesses = flood(2, admin, "/v1/status", Some("tenon_0123_4567"), 1_000);
    assert!(answered(&guesses, 429) > 0 && answered(&guesses, 401) >= 50);
    assert_eq!(answered(&flood(3, admin, "/v1/status", Some("tenon_0123_4567"), 1), 401), 1);
    site.run(["status"]).expect_code(0);
    site.node.stop();
}

#[test]
fn a_token_that_asks_too_often_is_told_when_to_come_back_and_others_are_answered() {
    let site = Site::new();
    let admin = site.node.admin();
    let (hasty, calm) = (token(&site, &["--verb", "read"]), token(&site, &["--verb", "read"]));
    let answers = until("a refusal", DEADLINE, || {
        let answers = std::thread::scope(|scope| {
            let floods: Vec<_> =
                (0..4).map(|_| scope.spawn(|| flood(1, admin, "/v1/tenants", Some(&hasty), 2_000))).collect();
            floods.into_iter().map(|flood| flood.join().unwrap()).collect::<String>()
        });
        (answered(&answers, 429) > 0).then_some(answers)
    });
    assert!(answered(&answers, 200) > 0);
    assert!(answers.contains("admin-rate") && answers.contains("retry-after: "));
    assert_eq!(call(admin, bearing(get("/v1/tenants"), &calm)).status, 200);
    site.node.stop();
}

#[test]
fn large_requests_take_no_more_memory_than_there_is_for_them() {
    let site = Site::of(&["acme"]);
    let admin = site.node.admin();
    let (deployer, other) =
        (token(&site, &["--tenant", "acme", "--verb", "deploy"]), token(&site, &["--verb", "deploy"]));
    let path = "/v1/tenants/acme/apps/shop";
    // They say how much they will send, and are asked for it: then there is room for it.
    let ask_for_room = || {
        let mut stream = TcpStream::connect(admin).unwrap();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {deployer}\r\ncontent-length: {}\r\n\
             expect: 100-continue\r\n\r\n",
            4 << 20
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut asked = [0; 21];
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue");
        stream
    };
    let mut unfinished: Vec<_> = (0..4).map(|_| ask_for_room()).collect();
    let put = |token: &str, bytes: usize| {
        call(admin, bearing(request("PUT", path, full(vec![b' '; bytes])), token))
    };
    let refused = put(&deployer, 4 << 20);
    assert_eq!((refused.status.as_u16(), code(&refused).as_str()), (503, "admin-full"));
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{refused:?}");
    // A small request needs no room, and whoever runs the node has other.
    assert_eq!(code(&put(&deployer, 100)), "admin-request");
    assert_eq!(code(&put(&other, 4 << 20)), "admin-request");
    unfinished.clear();
    until("the room to be given back", DEADLINE, || (put(&deployer, 4 << 20).status == 400).then_some(()));
    site.node.stop();
}

#[test]
fn as_many_follow_as_may_and_the_next_when_one_has_gone() {
    const FOLLOWERS: usize = 16;
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let admin = site.node.admin();
    let (reader, all) =
        (token(&site, &["--tenant", "acme", "--verb", "read"]), token(&site, &["--verb", "read"]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let follow = async |token: &str| {
            let mut connection = Connection::open(admin).await.unwrap();
            let answer = connection.send(bearing(get(LINES), token)).await.unwrap();
            (answer.status.as_u16(), connection, answer)
        };
        let mut following = Vec::new();
        for _ in 0..FOLLOWERS {
            let follower = follow(&reader).await;
            assert_eq!(follower.0, 200);
            following.push(follower);
        }
        let refused = fetch(admin, bearing(get(LINES), &reader)).await.unwrap();
        assert_eq!((refused.status.as_u16(), code(&refused).as_str()), (429, "admin-busy"));
        // What has been written is shown all the same, and whoever runs the node follows.
        let last = fetch(admin, bearing(get("/v1/tenants/acme/apps/shop/logs"), &reader)).await.unwrap();
        assert_eq!(last.status, 200);
        assert_eq!(follow(&all).await.0, 200);
        following.pop();
        let began = std::time::Instant::now();
        while follow(&reader).await.0 != 200 {
            assert!(began.elapsed() < DEADLINE, "the place was not given back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    site.node.stop();
}

#[test]
fn who_follows_is_left_when_the_token_or_the_app_is_gone() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    site.get(HOST, "/log?level=warn&message=before-anybody-follows&context=till").expect(200);
    let made = site.json(["token", "create", "--tenant", "acme", "--verb", "read"]);
    let file = site.tenon.data().join("reader");
    std::fs::write(&file, made["secret"].as_str().unwrap()).unwrap();
    let mut reader = site.watch(&["logs", "--follow", "acme/shop", "--token-file", file.to_str().unwrap()]);
    let mut owner = site.watch(&["logs", "--follow", "acme/shop"]);
    for following in [&reader, &owner] {
        following.shows(1, &["before-anybody-follows"]);
    }
    site.run(["token", "delete", made["token"]["token"].as_str().unwrap()]).expect_code(0);
    until("the lines to end for whoever had the token", DEADLINE, || (!reader.is_running()).then_some(()));
    // Nobody else is concerned.
    site.get(HOST, "/log?level=warn&message=written-after-that&context=till").expect(200);
    owner.shows(1, &["written-after-that"]);
    assert_eq!(reader.count(&["written-after-that"]), 0);
    site.run(["delete", "acme/shop"]).expect_code(0);
    until("the lines to end with the app", DEADLINE, || (!owner.is_running()).then_some(()));
    site.node.stop();
}
