//! HTTP/3: the same apps, limits and ends as over HTTP/2, from a real client.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use serde_json::Value;
use tenon_testkit::client::{Body, empty, fed, get, post};
use tenon_testkit::http3::{ConnectionError, Http3, call};
use tenon_testkit::tls::{Ca, fetch};
use tenon_testkit::{DEADLINE, Serve, Serving, Tenon, until};

use crate::support::{Site, VERSION, write_app};

const HOST: &str = "shop.example";
const CHAOS: &str = "chaos.example";
/// Nobody answers within this time, where anybody would within a hundredth of it.
const SILENCE: Duration = Duration::from_secs(2);

/// A node with certificates for these names.
struct Secured {
    site: Site,
    ca: Arc<Ca>,
    files: tempfile::TempDir,
}

impl Secured {
    fn new(names: &[&str], more: &[&str]) -> Self {
        let (ca, files) = (Arc::new(Ca::new("an authority of ours")), tempfile::tempdir().unwrap());
        let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
        for name in names {
            certify(&ca, files.path(), name);
        }
        let node = secured(tenon.node(), "127.0.0.1:0", files.path(), names).args(more).start();
        let site = Site { tenon, node };
        site.run(["tenant", "set", "acme"]).expect_code(0);
        Self { site, ca, files }
    }

    fn tls(&self) -> SocketAddr {
        self.site.node.tls()
    }

    fn deploy(&self, guest: &str, name: &str, host: &str) {
        let folder = self.site.tenon.data().join("apps").join(name);
        write_app(&folder, guest, "acme", name, host, "one");
        self.site.deploy(&folder, &[]);
    }

    async fn open(&self, name: &str) -> Http3 {
        Http3::open(self.tls(), &self.ca, name).await.unwrap()
    }
}

/// Writes a certificate for `name`: the key first, so that a node which reads in between goes on with the old ones.
fn certify(ca: &Ca, folder: &std::path::Path, name: &str) {
    let (chain, key) = ca.issue(name);
    std::fs::write(folder.join(format!("{name}.key")), key).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), chain).unwrap();
}

fn secured(node: Serve, tls: &str, files: &std::path::Path, names: &[&str]) -> Serve {
    let file = |name: &str, end: &str| files.join(format!("{name}.{end}")).into_os_string();
    let pairs = names.iter().flat_map(|name| ["--tls".into(), file(name, "pem"), file(name, "key")]);
    node.args(["--tls-listen", tls]).args(pairs)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn lines(file: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last one may be on its way.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn the_same_apps_answer_and_certificates_are_chosen_and_replaced() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let access = log.path().to_str().unwrap();
    let secured = Secured::new(&[HOST, "blog.example"], &["--http3", "--access-log", access]);
    secured.deploy("keeper", "shop", HOST);
    secured.deploy("keeper", "blog", "blog.example");
    let port = secured.tls().port();
    let over_http2 = fetch(secured.tls(), &secured.ca, HOST, VERSION, &["h2"]).unwrap();
    assert_eq!(over_http2.headers["alt-svc"], format!("h3=\":{port}\"; ma=86400").as_str());
    let over_http1 = fetch(secured.tls(), &secured.ca, HOST, VERSION, &["http/1.1"]).unwrap();
    assert_eq!(over_http1.headers["alt-svc"], over_http2.headers["alt-svc"]);
    let in_clear = secured.site.get(HOST, VERSION);
    assert_eq!(in_clear.header("alt-svc"), "", "nobody is told in clear");

    runtime().block_on(async {
        let mut shop = secured.open(HOST).await;
        let reply = shop.exchange(get(VERSION)).await.unwrap();
        assert!(
            !reply.header("date").is_empty() && !reply.header("x-request-id").is_empty(),
            "{:?}",
            reply.headers
        );
        assert_eq!(reply.expect(200), "one");
        // Several at once, over one connection.
        for _ in 0..20 {
            assert_eq!(shop.exchange(get(VERSION)).await.unwrap().expect(200), "one");
        }
        shop.exchange(get("/nothing")).await.unwrap().expect(404);
        let mut blog = secured.open("blog.example").await;
        assert_eq!(blog.exchange(get(VERSION)).await.unwrap().expect(200), "one");
        assert_ne!(shop.certificate(), blog.certificate());
        let unknown = Http3::open(secured.tls(), &secured.ca, "other.example").await;
        assert!(unknown.is_err(), "nobody vouches for that name here");
        let stranger = Http3::open(secured.tls(), &Ca::new("another"), HOST).await;
        assert!(stranger.is_err());

        let before = shop.certificate();
        certify(&secured.ca, secured.files.path(), HOST);
        let began = std::time::Instant::now();
        while secured.open(HOST).await.certificate() == before {
            assert!(began.elapsed() < DEADLINE, "the new certificate is not taken");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(shop.exchange(get(VERSION)).await.unwrap().expect(200), "one", "what has begun goes on");
    });
    let seen = until("the access log", DEADLINE, || {
        let lines = lines(log.path());
        let protocols: Vec<String> =
            lines.iter().filter_map(|line| line["protocol"].as_str().map(str::to_owned)).collect();
        ["HTTP/1.1", "HTTP/2", "HTTP/3"]
            .iter()
            .all(|wanted| protocols.iter().any(|protocol| protocol == wanted))
            .then_some(lines)
    });
    let over_http3 = seen.iter().find(|line| line["protocol"] == "HTTP/3").unwrap();
    assert_eq!((&over_http3["app"], &over_http3["status"]), (&"shop".into(), &200.into()), "{over_http3}");
    secured.site.node.stop();
}

#[test]
fn bodies_are_streamed_both_ways_and_have_their_limits() {
    let secured = Secured::new(&[CHAOS], &["--http3"]);
    secured.deploy("chaos-http", "chaos", CHAOS);
    runtime().block_on(async {
        let mut chaos = secured.open(CHAOS).await;
        let large: Vec<u8> = (0..3_u32 << 20).map(|at| (at % 251) as u8).collect();
        let echoed = chaos.exchange(post("/echo", large.clone())).await.unwrap();
        assert_eq!(echoed.status, 200);
        assert!(echoed.body == large, "{} bytes came back", echoed.body.len());

        // A piece goes through the guest before the next one is sent.
        let (mut feed, body) = fed();
        let request = Request::post("/echo").body(body).unwrap();
        feed.send_data("first".into()).await.unwrap();
        let mut streaming = chaos.send(request).await.unwrap();
        assert_eq!(streaming.chunk().await.unwrap().unwrap(), "first");
        feed.send_data("second".into()).await.unwrap();
        assert_eq!(streaming.chunk().await.unwrap().unwrap(), "second");
        drop(feed);
        assert_eq!(streaming.chunk().await.unwrap(), None);

        let summed = chaos.exchange(get("/trailers")).await.unwrap();
        assert_eq!((&summed.body[..], summed.trailers["x-sum"].to_str().unwrap()), (&b"summed"[..], "1234"));
        chaos.exchange(post("/ignore-body", vec![0; 1 << 20])).await.unwrap().expect(200);
        let head = chaos.exchange(of("HEAD", "/ok", empty())).await.unwrap();
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));

        // More than a body may have, announced and not.
        let announced = with(post("/count", vec![0; 9 << 20]), "content-length", (9 << 20).to_string());
        let reply = chaos.exchange(announced).await.unwrap();
        reply.expect_failure(413, "request-too-large");
        let reply = chaos.exchange(post("/count", vec![0; 9 << 20])).await.unwrap();
        reply.expect_failure(413, "request-too-large");
        // Less, or more, than was announced is no body.
        for length in ["5", "15"] {
            let lying = with(post("/count", "ten bytes."), "content-length", length);
            let counted = chaos.exchange(lying).await;
            assert!(!counted.is_ok_and(|reply| reply.text() == "10"), "{length}");
        }

        // More header fields than the app may have; more than the server reads; more than it looks at.
        let large = with(get("/ok"), "x-large", "x".repeat(50 << 10));
        chaos.exchange(large).await.unwrap().expect_failure(431, "headers-too-large");
        let larger = with(get("/ok"), "x-large", "x".repeat(70 << 10));
        // A client that knows the limit does not send it at all.
        if let Ok(reply) = secured.open(CHAOS).await.exchange(larger).await {
            assert_eq!(reply.status, 431);
        }
        let huge = with(get("/ok"), "x-large", "x".repeat(1 << 20));
        assert!(secured.open(CHAOS).await.exchange(huge).await.is_err());
        let of_http_1 = with(get("/ok"), "connection", "close");
        assert!(secured.open(CHAOS).await.exchange(of_http_1).await.is_err());

        // A guest that fails in the middle of its answer does not pass for one that is done.
        let cut_off = secured.open(CHAOS).await.exchange(get("/drop-body-trap")).await;
        assert!(!cut_off.is_ok_and(|reply| reply.status == 200));
        chaos.exchange(get("/ok")).await.unwrap().expect(200);
    });
    secured.site.node.stop();
}

#[test]
fn who_takes_a_request_back_or_goes_away_ends_its_guest() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let secured = Secured::new(&[CHAOS], &["--http3", "--access-log", log.path().to_str().unwrap()]);
    secured.deploy("chaos-http", "chaos", CHAOS);
    // As long as nobody ends them, both go on until their time is over.
    let ended = |path: &str| {
        let line = until("the end of the guest", DEADLINE, || {
            lines(log.path()).into_iter().find(|line| line["path"] == path)
        });
        assert!(line["took_us"].as_u64().unwrap() < 20_000_000, "{line}");
    };
    let runtime = runtime();
    let mut chaos = runtime.block_on(async {
        let mut chaos = secured.open(CHAOS).await;
        let mut dripping = chaos.send(get("/drip?chunks=1000&ms=100")).await.unwrap();
        assert!(dripping.chunk().await.unwrap().is_some());
        dripping.cancel();
        // Another request of the same connection is not concerned.
        chaos.exchange(get("/ok")).await.unwrap().expect(200);
        chaos
    });
    ended("/drip");
    runtime.block_on(async {
        // Its answer has not begun.
        let sleeping = chaos.exchange(get("/sleep?ms=28000"));
        assert!(tokio::time::timeout(Duration::from_secs(2), sleeping).await.is_err());
        drop(chaos);
        // That it has ended is still to be sent.
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    ended("/sleep");
    secured.site.node.stop();
}

#[test]
fn a_node_that_stops_lets_requests_finish_and_says_goodbye() {
    let secured = Secured::new(&[CHAOS], &["--http3"]);
    secured.deploy("chaos-http", "chaos", CHAOS);
    runtime().block_on(async {
        let mut idle = secured.open(CHAOS).await;
        idle.exchange(get("/ok")).await.unwrap().expect(200);
        let mut busy = secured.open(CHAOS).await;
        let slow = tokio::spawn(async move {
            let reply = busy.exchange(get("/sleep?ms=2500")).await;
            (reply, busy.closed().await)
        });
        let node = secured.site.node;
        tokio::task::spawn_blocking(move || {
            node.logged(&["sleeping"]);
            node.stop();
        });
        let (reply, closed) = slow.await.unwrap();
        assert_eq!(reply.unwrap().expect(200), "slept\n");
        for closed in [closed, idle.closed().await] {
            let said = matches!(&closed, ConnectionError::ApplicationClosed(why)
                if why.error_code.into_inner() == 0x100);
            assert!(said, "{closed}");
        }
    });
}

#[test]
fn while_a_node_is_replaced_old_connections_finish_and_new_ones_are_answered() {
    let mut secured = Secured::new(&[CHAOS, HOST], &["--http3"]);
    secured.deploy("chaos-http", "chaos", CHAOS);
    secured.deploy("keeper", "shop", HOST);
    let (address, tls) = (secured.site.address().to_string(), secured.tls());
    let admin = secured.site.node.admin().to_string();
    let next = secured_next(&secured, &admin, &address, tls);
    runtime().block_on(async {
        // Many, so that the kernel gives some of them to either process.
        let mut connections = Vec::new();
        for _ in 0..8 {
            connections.push(secured.open(CHAOS).await);
        }
        let running: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                tokio::spawn(async move {
                    let reply = connection.exchange(get("/sleep?ms=6000")).await;
                    (reply, connection.closed().await)
                })
            })
            .collect();
        // On their way, so that the old one does not tell them that they come too late.
        old_has_begun(&secured.site.node, 8).await;
        let next = tokio::task::spawn_blocking(move || next.start());
        // Of these, too, the kernel gives some to either process: while the next one makes itself ready, and after.
        let come = || {
            let ca = Arc::clone(&secured.ca);
            tokio::spawn(async move { Http3::open(tls, &ca, HOST).await?.exchange(get(VERSION)).await })
        };
        let mut coming: Vec<_> = (0..8).map(|_| come()).collect();
        let next = next.await.unwrap();
        coming.extend((0..8).map(|_| come()));
        for one in running {
            let (reply, closed) = one.await.unwrap();
            let log = || secured.site.node.log();
            assert_eq!(reply.unwrap_or_else(|error| panic!("{error}: {}", log())).expect(200), "slept\n");
            assert!(matches!(closed, ConnectionError::ApplicationClosed(_)), "{closed}");
        }
        let mut old = std::mem::replace(&mut secured.site.node, next);
        for one in coming {
            let reply = one.await.unwrap().unwrap_or_else(|error| panic!("{error}: {}", old.log()));
            assert_eq!(reply.expect(200), "one");
        }
        let ended = tokio::task::spawn_blocking(move || old.wait(DEADLINE).success()).await.unwrap();
        assert!(ended);
        let mut shop = secured.open(HOST).await;
        assert_eq!(shop.exchange(get(VERSION)).await.unwrap().expect(200), "one");
    });
    secured.site.node.stop();
}

/// Waits until so many requests sleep.
async fn old_has_begun(node: &Serving, count: usize) {
    let began = std::time::Instant::now();
    while node.count_logged(&["sleeping"]) < count {
        assert!(began.elapsed() < DEADLINE, "{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn secured_next(of: &Secured, admin: &str, address: &str, tls: SocketAddr) -> Serve {
    let node = of.site.tenon.node_with_admin(admin).listen(address).args(["--replace", "--http3"]);
    secured(node, &tls.to_string(), of.files.path(), &[CHAOS, HOST])
}

#[test]
fn a_client_of_a_node_that_was_killed_is_told_by_the_next_one() {
    let before = Secured::new(&[HOST], &["--http3"]);
    before.deploy("keeper", "shop", HOST);
    let (tls, address) = (before.tls(), before.site.address().to_string());
    let runtime = runtime();
    let mut shop = runtime.block_on(before.open(HOST));
    let reply = runtime.block_on(shop.exchange(get(VERSION))).unwrap();
    assert_eq!(reply.expect(200), "one");
    let Secured { site: Site { tenon, node }, ca, files } = before;
    node.kill();
    let node = secured(tenon.node().listen(address), &tls.to_string(), files.path(), &[HOST]);
    let node = node.args(["--http3"]).start();
    runtime.block_on(async {
        // What the client sends now comes to one who does not know its connection.
        assert!(shop.exchange(get(VERSION)).await.is_err());
        let closed = shop.closed().await;
        assert!(matches!(closed, ConnectionError::Reset), "{closed}");
    });
    assert_eq!(call(tls, &ca, HOST, get(VERSION)).expect(200), "one");
    node.stop();
}

#[test]
fn without_the_flag_nobody_answers_and_nobody_is_told() {
    let secured = Secured::new(&[HOST], &[]);
    secured.deploy("keeper", "shop", HOST);
    let over_http2 = fetch(secured.tls(), &secured.ca, HOST, VERSION, &["h2"]).unwrap();
    assert!(!over_http2.headers.contains_key("alt-svc"));
    let silent = runtime().block_on(Http3::open_within(SILENCE, secured.tls(), &secured.ca, HOST));
    assert!(silent.is_err());
    drop(UdpSocket::bind(secured.tls()).unwrap());
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let refused = tenon.run(tenon.data(), ["node", "--listen", "127.0.0.1:0", "--http3"]);
    refused.expect_code(2).expect_stderr(&["--tls-listen"]);
    secured.site.node.stop();
}

#[test]
fn clients_are_told_another_port_where_it_is_another_one_outside() {
    let secured = Secured::new(&[HOST], &["--http3", "--http3-port", "443"]);
    secured.deploy("keeper", "shop", HOST);
    let over_http2 = fetch(secured.tls(), &secured.ca, HOST, VERSION, &["h2"]).unwrap();
    assert_eq!(over_http2.headers["alt-svc"], "h3=\":443\"; ma=86400");
    assert_eq!(call(secured.tls(), &secured.ca, HOST, get(VERSION)).expect(200), "one");
    secured.site.node.stop();
}

fn with(mut request: Request<Body>, name: &'static str, value: impl Into<String>) -> Request<Body> {
    request.headers_mut().insert(name, value.into().parse().unwrap());
    request
}

fn of(method: &str, target: &str, body: Body) -> Request<Body> {
    tenon_testkit::client::request(method, target, body)
}
