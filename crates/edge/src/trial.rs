//! The whole request path, with real guests over real sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::header::{HOST, RETRY_AFTER, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method, Request};
use tempfile::TempDir;
use tenon_engine::{Artifacts, Backends, Engine, Pool, Service, Source, Terms};
use tenon_model::{Authorities, Chosen, ChosenBy, Limits, Quota, Reuse, Sticky};
use tenon_testkit::client::{Body, Connection, Http2, Reply, fetch, get, post};
use tenon_testkit::http3::Http3 as Http3Client;
use tenon_testkit::tls::Ca;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::slot::tests::key;
use crate::tenant::tests::generous;
use crate::tls::tests::certificate;
use crate::*;

/// Nothing here takes so long.
const DEADLINE: Duration = Duration::from_secs(60);

static DATA: LazyLock<TempDir> = LazyLock::new(|| TempDir::with_prefix("tenon-edge-").unwrap());
static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(Pool { instances: 64, memory_bytes: 16 << 20, ..Pool::default() }).unwrap());
static ARTIFACTS: LazyLock<Artifacts> = LazyLock::new(|| Artifacts::open(DATA.path()).unwrap());

/// A guest that answers with its letter; a path's first letter asks for something else.
fn guest(letter: char) -> Vec<u8> {
    let letter = u32::from(letter);
    let text = format!(
        r#"
(component
  (type $request' (record
    (field "method" string) (field "path" string)
    (field "headers" (list (tuple string string))) (field "body" (option (list u8)))))
  (import "request" (type $request (eq $request')))
  (type $response' (record
    (field "status" u16) (field "headers" (list (tuple string string))) (field "body" (list u8))))
  (import "response" (type $response (eq $response')))
  (core module $m
    (memory (export "memory") 4)
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
      (local $asked i32)
      (local.set $asked (i32.load8_u (i32.add (local.get 2) (i32.const 1))))
      (i32.store16 (i32.const 512) (i32.const 200))
      (i32.store (i32.const 516) (i32.const 0))
      (i32.store (i32.const 520) (i32.const 0))
      (i32.store (i32.const 524) (i32.const 1024))
      (i32.store (i32.const 528) (i32.const 1))
      (i32.store8 (i32.const 1024) (i32.const {letter}))
      ;; t: trap
      (if (i32.eq (local.get $asked) (i32.const 116)) (then unreachable))
      ;; l: loop
      (if (i32.eq (local.get $asked) (i32.const 108)) (then (loop $forever (br $forever))))
      ;; g: grow by four mebibytes, or trap
      (if (i32.eq (local.get $asked) (i32.const 103)) (then
        (if (i32.eq (memory.grow (i32.const 64)) (i32.const -1)) (then unreachable))))
      ;; e: echo the body
      (if (i32.eq (local.get $asked) (i32.const 101)) (then
        (i32.store (i32.const 524) (local.get 7))
        (i32.store (i32.const 528) (local.get 8))))
      ;; n: a status that cannot be sent
      (if (i32.eq (local.get $asked) (i32.const 110)) (then (i32.store16 (i32.const 512) (i32.const 42))))
      ;; s: a status of 500
      (if (i32.eq (local.get $asked) (i32.const 115)) (then (i32.store16 (i32.const 512) (i32.const 500))))
      (i32.const 512)))
  (core instance $i (instantiate $m))
  (func $handle (param "req" $request) (result $response)
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (export "handle" (func $handle)))
"#
    );
    wat::parse_str(text).unwrap()
}

fn limits() -> Limits {
    Limits { cpu: Duration::from_millis(50), memory_bytes: 8 << 20, ..Limits::default() }
}

fn service(letter: char, limits: Limits) -> Arc<Service> {
    Arc::new(service_of(&ENGINE, letter, limits))
}

fn service_of(engine: &Engine, letter: char, limits: Limits) -> Service {
    let bytes = guest(letter);
    let source = Source { name: "guest", bytes: &bytes, parts: &Vec::new, contract: &|| None };
    let stored = ARTIFACTS.get(engine, &source).unwrap();
    let (authorities, backends) = (Authorities::default(), Backends::default());
    let terms =
        Terms { name: "guest", file: "guest", limits, authorities: &authorities, backends: &backends };
    Service::new(engine, stored, &terms).unwrap()
}

/// Loads the guest of a letter, and counts how often.
struct Letter(char, AtomicU32);

impl Loader for Letter {
    fn load(&self, _: &RevisionKey, _: LoadTurns) -> Loading {
        self.1.fetch_add(1, Relaxed);
        let letter = self.0;
        Box::pin(async move { Ok(service(letter, limits())) })
    }
}

fn slot(app: &str, revision: u64, letter: char) -> Arc<Slot> {
    let slot = Slot::new(key(app, revision), limits(), Arc::new(Letter(letter, AtomicU32::new(0))));
    slot.preload(service(letter, limits()));
    slot
}

fn tenant(name: &str, quota: Quota) -> Arc<Tenant> {
    Tenant::new(name.parse().unwrap(), quota, &Shares::new(64))
}

/// An app `tenant/name` at the host of its name.
fn app(name: &str, quota: Quota) -> Arc<App> {
    let id = key(name, 1).app;
    App::new(id.clone(), tenant(id.tenant.as_str(), quota))
}

fn entry(app: &Arc<App>, stable: &Arc<Slot>) -> Entry {
    let route = format!("{}.example/*", app.id().app).parse().unwrap();
    Entry {
        app: Arc::clone(app),
        routes: vec![route],
        stable: Arc::clone(stable),
        candidate: None,
        paused: false,
    }
}

fn served(site: Site) -> (Arc<Site>, Listening) {
    let site = Arc::new(site);
    let server = Server::new((Ipv4Addr::LOCALHOST, 0).into(), 2, DEADLINE);
    let listening = server.start(Arc::clone(&site)).unwrap();
    (site, listening)
}

fn of(host: &str, mut request: Request<Body>) -> Request<Body> {
    let host = HeaderValue::from_str(&format!("{host}.example")).unwrap();
    request.headers_mut().insert(HOST, host);
    request
}

async fn ask(address: SocketAddr, host: &str, path: &str) -> Reply {
    fetch(address, of(host, get(path))).await.unwrap()
}

/// Waits for what comes about on another thread.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn each_request_reaches_its_app_and_no_other() {
    let (a, b) = (app("one/a", generous()), app("two/b", generous()));
    let paused = app("two/c", generous());
    let table = Table::new(vec![
        entry(&a, &slot("one/a", 1, 'A')),
        entry(&b, &slot("two/b", 1, 'B')),
        Entry { paused: true, ..entry(&paused, &slot("two/c", 1, 'C')) },
    ]);
    let (site, listening) = served(Site::of(table));
    let address = listening.address();
    assert_eq!(ask(address, "a", "/").await.expect(200), "A");
    assert_eq!(ask(address, "b", "/").await.expect(200), "B");
    ask(address, "c", "/").await.expect_failure(503, "app-paused");
    ask(address, "d", "/").await.expect_failure(404, "no-route");
    let http2 = Http2::open(address).await.unwrap();
    // Its authority is the address, which no app has.
    http2.exchange(get("/")).await.unwrap().expect_failure(404, "no-route");
    assert_eq!(site.unrouted(), 2);
    assert!(listening.drain().complete);
}

#[tokio::test]
async fn a_site_without_apps_knows_nobody_and_before_it_says_so_it_is_not_ready() {
    let (site, listening) = served(Site::empty());
    let address = listening.address();
    ask(address, "a", "/").await.expect_failure(503, "not-ready");
    site.publish(Table::default());
    ask(address, "a", "/").await.expect_failure(404, "no-route");
    assert_eq!(site.unrouted(), 2);
    assert!(listening.drain().complete);
}

#[tokio::test]
async fn a_server_that_replaces_another_gets_connections_once_it_has_started() {
    let app = app("one/a", generous());
    let (_first, before) = served(Site::of(Table::new(vec![entry(&app, &slot("one/a", 1, 'A'))])));
    let address = before.address();
    let next = Arc::new(Site::of(Table::new(vec![entry(&app, &slot("one/a", 2, 'B'))])));
    let bound = Server { replaces: true, ..Server::new(address, 2, DEADLINE) }.bind().unwrap();
    for _ in 0..40 {
        assert_eq!(ask(address, "a", "/").await.expect(200), "A", "nobody accepts there yet");
    }
    let after = bound.start(next).unwrap();
    assert_eq!(after.address(), address);
    assert!(before.drain().complete);
    for _ in 0..10 {
        assert_eq!(ask(address, "a", "/").await.expect(200), "B");
    }
    assert!(after.drain().complete);
    // Nobody else may share the address.
    let alone = listen_alone(address, false).unwrap();
    assert!(matches!(listen_alone(address, false), Err(ServerError::InUse(at)) if at == address));
    assert!(listen_alone(address, true).is_ok());
    drop(alone);
}

#[tokio::test]
async fn a_hundred_swaps_lose_no_request_and_none_sees_two_revisions() {
    let app = app("one/a", generous());
    let letters = ['A', 'B'].map(|letter| service(letter, limits()));
    let next = |revision: u64| {
        let slot = slot("one/a", revision, 'A');
        slot.preload(Arc::clone(&letters[usize::try_from(revision % 2).unwrap()]));
        slot
    };
    let (site, listening) = served(Site::of(Table::new(vec![entry(&app, &next(0))])));
    let address = listening.address();
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, count) = (Arc::clone(&over), Arc::clone(&count));
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await.unwrap();
                while !over.load(Relaxed) {
                    let reply = connection.exchange(of("a", get("/"))).await.unwrap().expect(200);
                    assert!(reply == "A" || reply == "B", "{reply}");
                    count.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let mut slots = Vec::new();
    for revision in 1..=100 {
        let before = count.load(Relaxed);
        let slot = next(revision);
        slots.push(Arc::downgrade(&slot));
        site.publish(Table::new(vec![entry(&app, &slot)]));
        drop(slot);
        until("more requests", || count.load(Relaxed) > before + 3).await;
    }
    assert_eq!(ask(address, "a", "/").await.expect(200), "A", "what was published last is served");
    over.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    until("no request to run", || site.running() == 0).await;
    let all = count.load(Relaxed) + 1;
    until("all to be counted", || app.counters().of(Outcome::Answered) == all).await;
    site.publish(Table::default());
    until("old revisions to be freed", || slots.iter().all(|slot| slot.strong_count() == 0)).await;
    assert_eq!(app.counters().requests(), all, "they stay counted");
    assert!(listening.drain().complete);
}

#[tokio::test]
async fn a_revision_is_loaded_when_it_is_needed_and_again_after_it_was_unloaded() {
    let app = app("one/a", generous());
    let loader = Arc::new(Letter('A', AtomicU32::new(0)));
    let slot = Slot::new(key("one/a", 1), limits(), Arc::clone(&loader) as Arc<dyn Loader>);
    let (_site, listening) = served(Site::of(Table::new(vec![entry(&app, &slot)])));
    let address = listening.address();
    assert!(!slot.is_loaded());
    for loads in 1..=2 {
        let all = futures_of((0..8).map(|_| ask(address, "a", "/"))).await;
        assert!(all.into_iter().all(|reply| reply.expect(200) == "A"));
        assert_eq!(loader.1.load(Relaxed), loads, "all who came at once waited for one load");
        until("it to be unloaded", || slot.unload()).await;
    }
    let missing = Slot::new(key("one/a", 2), limits(), Arc::new(crate::slot::tests::Nothing::default()));
    let (_site, listening) = served(Site::of(Table::new(vec![entry(&app, &missing)])));
    ask(listening.address(), "a", "/").await.expect_failure(503, "not-loaded");
}

async fn futures_of<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    all
}

#[tokio::test]
async fn quotas_bite_with_their_names_and_a_neighbour_is_not_concerned() {
    let none = Quota { requests_per_second: 3, ..generous() };
    let cpu = Quota { cpu_us_per_second: 5_000, ..generous() };
    let memory = Quota { memory_bytes: 3 << 20, ..generous() };
    let bytes = Quota { bytes_per_second: 1_000, ..generous() };
    let apps = [
        ("one/rate", none),
        ("two/cpu", cpu),
        ("three/memory", memory),
        ("four/bytes", bytes),
        ("five/free", generous()),
    ]
    .map(|(name, quota)| app(name, quota));
    let entries = apps.iter().map(|app| entry(app, &slot(&app.id().to_string(), 1, 'A'))).collect();
    let (_site, listening) = served(Site::of(Table::new(entries)));
    let address = listening.address();
    let refused = |reply: Reply, status, code, quota: &str| {
        let reply = reply.expect_failure(status, code);
        assert_eq!(reply.header("x-quota"), quota);
        assert!(!reply.header(RETRY_AFTER.as_str()).is_empty());
    };
    let (began, mut passed) = (Instant::now(), 0);
    let over = loop {
        match ask(address, "rate", "/").await {
            reply if reply.status == 200 && began.elapsed() < DEADLINE => passed += 1,
            reply => break reply,
        }
    };
    refused(over, 429, "requests-quota", "requests-per-second");
    // A second's worth at once, and what has come since.
    assert!((3..=3 * (2 + began.elapsed().as_secs())).contains(&passed), "{passed}");

    ask(address, "cpu", "/loop").await.expect_failure(504, "cpu-deadline");
    refused(ask(address, "cpu", "/").await, 429, "cpu-quota", "cpu-per-second");

    refused(ask(address, "memory", "/grow").await, 503, "memory-quota", "memory");
    ask(address, "free", "/grow").await.expect(200);
    let memory = &apps[2];
    until("its memory to be given back", || memory.tenant().usage().memory_bytes == 0).await;
    ask(address, "memory", "/").await.expect(200);
    until("both to be counted", || memory.counters().requests() == 2).await;
    assert_eq!(memory.counters().seen().crashes, 0, "it is not the guest's failure");

    let body = vec![b'x'; 15_000];
    assert_eq!(fetch(address, of("bytes", post("/echo", body.clone()))).await.unwrap().body, body);
    refused(ask(address, "bytes", "/").await, 429, "bytes-quota", "bytes-per-second");
    until("both ways to be counted", || apps[3].counters().sent_bytes == 15_000).await;
    assert_eq!(apps[3].counters().received_bytes, 15_000);

    for _ in 0..20 {
        ask(address, "free", "/").await.expect(200);
    }
    assert_eq!(apps[4].tenant().usage().refused, [0; 6]);
    assert!(apps[1].tenant().usage().cpu_us >= 50_000, "{:?}", apps[1].tenant().usage());
}

#[tokio::test]
async fn what_one_tenant_leaves_at_rest_makes_room_for_another() {
    const PLACES: u32 = 4;
    let pool = Pool { instances: PLACES, memory_bytes: 16 << 20, ..Pool::default() };
    let (engine, shares) = (Engine::new(pool).unwrap(), Shares::new(PLACES));
    let tenant_of = |name: &str, reserved_instances: u32| {
        Tenant::new(name.parse().unwrap(), Quota { reserved_instances, ..generous() }, &shares)
    };
    let (noisy, steady) = (tenant_of("noisy", 0), tenant_of("steady", 3));
    let entry_of = |tenant: &Arc<Tenant>, name: &str, requests: u32| {
        let reuse = Reuse { requests, concurrent: 1 };
        let service = service_of(&engine, 'A', limits()).reusing(reuse).unwrap();
        let slot = Slot::new(key(name, 1), limits(), Arc::new(Letter('A', AtomicU32::new(0))));
        slot.preload(Arc::new(service));
        entry(&App::new(slot.key().app.clone(), Arc::clone(tenant)), &slot)
    };
    let names: Vec<_> = (0..2 * PLACES).map(|number| format!("app-{number}")).collect();
    let mut entries: Vec<_> =
        names.iter().map(|name| entry_of(&noisy, &format!("noisy/{name}"), 100)).collect();
    entries.push(entry_of(&steady, "steady/fresh", 1));
    let (_site, listening) = served(Site::of(Table::new(entries)));
    for _ in 0..2 {
        // Each leaves one at rest: twice as many as there are places.
        for name in &names {
            assert_eq!(ask(listening.address(), name, "/").await.expect(200), "A");
        }
        for _ in 0..PLACES {
            assert_eq!(ask(listening.address(), "fresh", "/").await.expect(200), "A");
        }
    }
    // They count for nobody.
    until("the last to be over", || shares.shared_in_use() == 0).await;
    assert!(listening.drain().complete);
}

#[tokio::test]
async fn a_guest_that_loops_is_billed_while_it_runs() {
    let app = app("one/a", Quota { cpu_us_per_second: 1_000, ..generous() });
    let patient = Limits { cpu: Duration::from_secs(20), ..limits() };
    let slot = slot("one/a", 1, 'A');
    slot.preload(service('A', patient));
    let (_site, listening) = served(Site::of(Table::new(vec![entry(&app, &slot)])));
    let address = listening.address();
    let mut loops = Connection::open(address).await.unwrap();
    let looping = tokio::spawn(async move { loops.exchange(of("a", get("/loop"))).await.map(drop) });
    until("it to be billed", || app.tenant().usage().cpu_us > 2_000).await;
    ask(address, "a", "/").await.expect_failure(429, "cpu-quota");
    looping.abort();
}

#[tokio::test]
async fn an_app_that_keeps_failing_is_given_a_rest_and_probed() {
    let (failing, other) = (app("one/a", generous()), app("one/b", generous()));
    let stable = slot("one/a", 1, 'A');
    let beside = slot("one/b", 1, 'B');
    let next = slot("one/a", 2, 'N');
    let table = |of: &Arc<Slot>| Table::new(vec![entry(&failing, of), entry(&other, &beside)]);
    let (site, listening) = served(Site::of(table(&stable)));
    let address = listening.address();
    for _ in 0..19 {
        ask(address, "a", "/trap").await.expect_failure(500, "guest-trap");
    }
    ask(address, "a", "/status").await.expect(500);
    for _ in 0..20 {
        assert!(!failing.is_open());
        ask(address, "a", "/trap").await.expect_failure(500, "guest-trap");
    }
    // Where this takes longer than the rest, one passes to see whether the app is well, and the rest after it is longer.
    let refused = async || {
        let mut reply = ask(address, "a", "/trap").await;
        for _ in 0..10 {
            if reply.status != 500 {
                break;
            }
            reply = ask(address, "a", "/trap").await;
        }
        reply.expect_failure(503, "circuit-open")
    };
    assert!(refused().await.header(RETRY_AFTER.as_str()).parse::<u32>().unwrap() >= 1);
    ask(address, "b", "/").await.expect(200);
    // Another revision is not concerned: what is reverted to serves at once.
    site.publish(table(&next));
    assert_eq!(ask(address, "a", "/").await.expect(200), "N");
    site.publish(table(&stable));
    refused().await;
    let began = Instant::now();
    while failing.is_open() {
        assert!(began.elapsed() < DEADLINE);
        ask(address, "a", "/").await;
    }
    ask(address, "a", "/").await.expect(200);
    let counters = failing.counters();
    let trapped = counters.of(Outcome::Trapped);
    assert!(trapped >= 39, "{trapped}");
    assert_eq!(counters.of(Outcome::Errored), 1);
    assert!(counters.of(Outcome::Refused) > 0);
    assert_eq!(stable.counters().snapshot().seen().crashes, trapped);
}

#[tokio::test]
async fn an_app_whose_responses_cannot_be_sent_is_given_a_rest_too() {
    let failing = app("one/a", generous());
    let stable = slot("one/a", 1, 'A');
    let (_site, listening) = served(Site::of(Table::new(vec![entry(&failing, &stable)])));
    let address = listening.address();
    for _ in 0..20 {
        assert!(!failing.is_open());
        ask(address, "a", "/none").await.expect_failure(500, "invalid-response");
    }
    ask(address, "a", "/").await.expect_failure(503, "circuit-open");
    assert_eq!(stable.counters().snapshot().seen().crashes, 0, "a rollout judges it as an error");
}

#[tokio::test]
async fn a_canary_gets_those_who_are_chosen_and_its_share() {
    let app = app("one/a", generous());
    let (stable, next) = (slot("one/a", 1, 'A'), slot("one/a", 2, 'B'));
    let candidate = Candidate {
        slot: Arc::clone(&next),
        percent: 50,
        sticky: Sticky::Cookie,
        chosen: Some(Chosen { by: ChosenBy::Header("x-try".into()), value: "next".into() }),
        shadow_percent: 0,
    };
    let with = |candidate| Entry { candidate: Some(candidate), ..entry(&app, &stable) };
    let (site, listening) = served(Site::of(Table::new(vec![with(candidate.clone())])));
    let address = listening.address();
    let mut chosen = of("a", get("/"));
    chosen.headers_mut().insert("x-try", HeaderValue::from_static("next"));
    assert_eq!(fetch(address, chosen).await.unwrap().expect(200), "B");
    let mut seen = [0, 0];
    for _ in 0..60 {
        let first = ask(address, "a", "/").await;
        let cookie = first.header(SET_COOKIE.as_str()).split(';').next().unwrap().to_owned();
        let letter = first.expect(200);
        seen[usize::from(letter == "B")] += 1;
        let mut again = of("a", get("/"));
        again.headers_mut().insert("cookie", HeaderValue::from_str(&cookie).unwrap());
        let again = fetch(address, again).await.unwrap();
        assert_eq!(again.header(SET_COOKIE.as_str()), "");
        assert_eq!(again.expect(200), letter);
    }
    assert!(seen[0] > 5 && seen[1] > 5, "{seen:?}");
    let requests = |slot: &Slot| slot.counters().snapshot().requests();
    until("all to be counted", || requests(&stable) + requests(&next) == 121).await;
    // Sent back: at once, and the stable revision was in memory all the time.
    site.publish(Table::new(vec![entry(&app, &stable)]));
    for _ in 0..20 {
        assert_eq!(ask(address, "a", "/").await.expect(200), "A");
    }
}

#[tokio::test]
async fn copied_requests_are_compared_and_their_answers_thrown_away() {
    let app = app("one/a", generous());
    let (stable, next) = (slot("one/a", 1, 'A'), slot("one/a", 2, 'B'));
    let candidate = Candidate {
        slot: Arc::clone(&next),
        percent: 0,
        sticky: Sticky::Address,
        chosen: None,
        shadow_percent: 100,
    };
    let entry = Entry { candidate: Some(candidate), ..entry(&app, &stable) };
    let (_site, listening) = served(Site::of(Table::new(vec![entry])));
    let address = listening.address();
    let shadows = || {
        let seen = next.counters().snapshot();
        (seen.shadow_same, seen.shadow_different)
    };
    assert_eq!(ask(address, "a", "/").await.expect(200), "A");
    until("a difference", || shadows() == (0, 1)).await;
    assert_eq!(fetch(address, of("a", post("/echo", "both alike"))).await.unwrap().expect(200), "both alike");
    until("no difference", || shadows() == (1, 1)).await;
    ask(address, "a", "/status").await.expect(500);
    until("another difference", || shadows() == (1, 2)).await;
    // What is larger than is kept goes its way, and is not compared.
    let large = vec![b'x'; 70 << 10];
    let echoed = fetch(address, of("a", post("/echo", large.clone()))).await.unwrap();
    assert!(echoed.body == large, "{:?}", echoed.status);
    until("all to be counted", || stable.counters().snapshot().requests() == 4).await;
    until("copies to be over", || app.tenant().usage().running == 0).await;
    assert_eq!((shadows(), next.counters().snapshot().requests()), ((1, 2), 3));
}

#[tokio::test]
async fn a_copy_that_the_candidate_answers_with_500_counts_as_failed() {
    let app = app("one/a", generous());
    let (stable, next) = (slot("one/a", 1, 'A'), slot("one/a", 2, 'B'));
    let candidate = Candidate {
        slot: Arc::clone(&next),
        percent: 0,
        sticky: Sticky::Address,
        chosen: None,
        shadow_percent: 100,
    };
    let entry = Entry { candidate: Some(candidate), ..entry(&app, &stable) };
    let (_site, listening) = served(Site::of(Table::new(vec![entry])));
    let address = listening.address();
    ask(address, "a", "/status").await.expect(500);
    ask(address, "a", "/").await.expect(200);
    until("the copies to be counted", || next.counters().snapshot().requests() == 2).await;
    let seen = next.counters().snapshot();
    let of = [Outcome::Errored, Outcome::Answered].map(|outcome| seen.of(outcome));
    assert_eq!((of, seen.seen().errors), ([1, 1], 1), "a rollout is judged by it");
}

#[tokio::test]
async fn what_happened_is_observed_with_its_trace() {
    let app = app("one/a", generous());
    let (observer, observations) = Observer::new(100, 0);
    let table = Table::new(vec![entry(&app, &slot("one/a", 3, 'A'))]);
    let (_site, listening) = served(Site::of(table).observed(Arc::clone(&observer)));
    let address = listening.address();
    let mut request = of("a", post("/echo?x=1", "body"));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.headers_mut().insert("traceparent", HeaderValue::from_static(parent));
    request.headers_mut().insert("x-request-id", HeaderValue::from_static("mine"));
    fetch(address, request).await.unwrap().expect(200);
    ask(address, "a", "/trap").await.expect(500);
    ask(address, "nobody", "/").await.expect(404);
    drop(listening);
    let next = || observations.next_within(DEADLINE).unwrap().unwrap();
    let mut all = [next(), next(), next()];
    all.sort_by_key(|observed| observed.arrived);
    let [first, second, third] = all;
    assert_eq!((&*first.id, first.status, first.outcome), ("mine", Some(200), Outcome::Answered));
    let What::Request(head) = first.what else { panic!("{:?}", first.what) };
    assert_eq!((head.path.unwrap().as_str(), head.method), ("/echo?x=1", Method::POST));
    assert_eq!((head.host.unwrap().as_bytes(), head.client), (&b"a.example"[..], address.ip()));
    assert_eq!((first.received_bytes, first.sent_bytes), (4, 4));
    assert_eq!(first.revision.unwrap().0, 3);
    let trace = first.trace.unwrap();
    assert_eq!(trace.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_eq!((trace.parent_id, trace.sampled), (Some(0x00f0_67aa_0ba9_02b7), true));
    assert!(first.memory_bytes > 0 && first.took > Duration::ZERO);
    assert_eq!(
        (second.outcome, second.code, second.status),
        (Outcome::Trapped, Some("guest-trap"), Some(500))
    );
    assert_eq!((third.code, third.status, third.app.is_none()), (Some("no-route"), Some(404), true));
    assert_eq!(observer.dropped(), 0);
}

#[tokio::test]
async fn who_floods_does_not_push_out_what_is_observed_of_others() {
    let (floods, steady) =
        (app("one/a", Quota { requests_per_second: 0, ..generous() }), app("two/b", generous()));
    let (observer, observations) = Observer::new(10_000, 0);
    let table =
        Table::new(vec![entry(&floods, &slot("one/a", 1, 'A')), entry(&steady, &slot("two/b", 1, 'B'))]);
    let (_site, listening) = served(Site::of(table).observed(Arc::clone(&observer)));
    let mut connection = Connection::open(listening.address()).await.unwrap();
    let began = Instant::now();
    for _ in 0..500 {
        connection.exchange(of("a", get("/"))).await.unwrap().expect_failure(429, "requests-quota");
    }
    // A second's worth at once, and what has come since.
    let told_max = 100 * (2 + began.elapsed().as_secs());
    ask(listening.address(), "b", "/").await.expect(200);
    drop(connection);
    assert!(listening.drain().complete);
    let all: Vec<_> = std::iter::from_fn(|| observations.next_within(Duration::ZERO).unwrap()).collect();
    let of_steady = all.iter().filter(|observed| observed.outcome == Outcome::Answered).count();
    let of_flood = (all.len() - of_steady) as u64;
    assert_eq!((of_steady, of_flood + observer.left_out(), observer.dropped()), (1, 500, 0));
    assert!((100..=told_max).contains(&of_flood), "{of_flood}");
    assert_eq!(floods.counters().of(Outcome::Refused), 500, "all are counted");
}

/// A client that believes this certificate alone, and offers these protocols.
fn trusting(certificate: &Certificate, protocols: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&certificate.chain).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config).into()
}

/// One request over TLS; the protocol that was agreed on, and the answer.
async fn ask_tls(connector: &TlsConnector, address: SocketAddr, host: &str) -> Option<(Vec<u8>, String)> {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = connector.connect(name, TcpStream::connect(address).await.unwrap()).await.ok()?;
    let protocol = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
    let request = Request::get(format!("https://{host}/")).header(HOST, host);
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let response = if protocol == b"h2" {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Some((protocol, String::from_utf8(body.to_vec()).unwrap()))
}

#[tokio::test]
async fn tls_has_a_certificate_for_each_name_and_they_are_replaced_while_it_runs() {
    let (a, b) = (app("one/a", generous()), app("two/b", generous()));
    let table = Table::new(vec![entry(&a, &slot("one/a", 1, 'A')), entry(&b, &slot("two/b", 1, 'B'))]);
    let old = [certificate(&["a.example"]), certificate(&["b.example"])];
    let new = [certificate(&["a.example"]), certificate(&["b.example"])];
    let certificates = Certificates::new(&old).unwrap();
    let local = (Ipv4Addr::LOCALHOST, 0).into();
    let server = Server {
        listen: vec![
            Listen { address: local, tls: None, http3: None },
            Listen { address: local, tls: Some(Arc::clone(&certificates)), http3: None },
        ],
        ..Server::new(local, 1, DEADLINE)
    };
    let listening = server.start(Arc::new(Site::of(table))).unwrap();
    let [plain, tls] = listening.addresses() else { panic!("two addresses") };
    ask(*plain, "a", "/").await.expect(200);
    let both = ["h2", "http/1.1"];
    let asked = |protocol: &str, letter: &str| Some((protocol.as_bytes().to_vec(), letter.to_owned()));
    assert_eq!(ask_tls(&trusting(&old[0], &both), *tls, "a.example").await, asked("h2", "A"));
    assert_eq!(ask_tls(&trusting(&old[1], &both[1..]), *tls, "b.example").await, asked("http/1.1", "B"));
    assert_eq!(ask_tls(&trusting(&old[1], &[]), *tls, "b.example").await, asked("", "B"));
    assert_eq!(ask_tls(&trusting(&old[0], &both), *tls, "b.example").await, None);
    certificates.replace(&new).unwrap();
    assert_eq!(ask_tls(&trusting(&old[0], &both), *tls, "a.example").await, None);
    assert_eq!(ask_tls(&trusting(&new[0], &both), *tls, "a.example").await, asked("h2", "A"));
    assert!(listening.drain().complete);
}

/// Whoever has sent no head by then has lost the connection.
const SHORT_HEAD: ConnectionLimits = ConnectionLimits {
    per_worker_max: 1_000,
    per_address_max: 1_000,
    head: Duration::from_millis(300),
    handshake: DEADLINE,
    handshakes_max: 0,
    handshakes_unproved_max: 0,
};

/// A server of `a.example` on one worker, with these limits on connections.
fn limited(connections: ConnectionLimits, slot: &Arc<Slot>) -> Listening {
    let table = Table::new(vec![entry(&app("one/a", generous()), slot)]);
    let server = Server { connections, ..Server::new((Ipv4Addr::LOCALHOST, 0).into(), 1, DEADLINE) };
    server.start(Arc::new(Site::of(table))).unwrap()
}

/// Sends this and nothing more; what comes back until the server closes the connection.
async fn until_closed(address: SocketAddr, sent: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has seen enough closes before all of it was sent.
    let _ = stream.write_all(sent).await;
    let mut answer = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("it is not closed").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_sends_no_head_or_half_of_one_loses_the_connection() {
    let listening = limited(SHORT_HEAD, &slot("one/a", 1, 'A'));
    let address = listening.address();
    assert_eq!(until_closed(address, b"").await, "", "no first byte");
    let half = until_closed(address, b"GET / HTTP/1.1\r\nhost: a.exam").await;
    assert!(!half.contains(" 200 "), "{half}");
    // Whoever has asked has as long for the next request. On a slow machine even the first may come too late.
    let began = Instant::now();
    loop {
        let asked = until_closed(address, b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
        if asked.starts_with("HTTP/1.1 200 ") && asked.ends_with('A') {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{asked}");
    }
}

#[tokio::test]
async fn a_connection_of_http2_that_only_answers_pings_is_closed() {
    use http_body_util::Empty;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listening = limited(SHORT_HEAD, &slot("one/a", 1, 'A'));
    let address = listening.address();
    let began = Instant::now();
    // On a slow machine it may be closed before it has asked.
    loop {
        assert!(began.elapsed() < DEADLINE, "nothing is answered");
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await;
        let Ok((mut sender, connection)) = shaken else { continue };
        let ended = tokio::spawn(connection);
        let request = Request::get("http://a.example/").body(Empty::<bytes::Bytes>::new()).unwrap();
        let is_answered = sender.send_request(request).await.is_ok_and(|response| response.status() == 200);
        // The server asks whether it is there, and it answers; it sends no more requests, though it could.
        let ended = tokio::time::timeout(DEADLINE, ended).await;
        assert!(ended.is_ok(), "it is kept for ever");
        drop(sender);
        if is_answered {
            return;
        }
    }
}

#[tokio::test]
async fn who_does_not_shake_hands_loses_the_connection() {
    let certificate = certificate(&["a.example"]);
    let local = (Ipv4Addr::LOCALHOST, 0).into();
    let table = Table::new(vec![entry(&app("one/a", generous()), &slot("one/a", 1, 'A'))]);
    let certificates = Certificates::new(std::slice::from_ref(&certificate)).unwrap();
    // The time for a head is far longer than any test: it is not what ends the connection.
    let connections = ConnectionLimits {
        handshake: Duration::from_millis(300),
        head: 10 * DEADLINE,
        ..ConnectionLimits::default()
    };
    let server = Server {
        listen: vec![Listen { address: local, tls: Some(certificates), http3: None }],
        connections,
        ..Server::new(local, 1, DEADLINE)
    };
    let listening = server.start(Arc::new(Site::of(table))).unwrap();
    // The beginning of a hello.
    assert_eq!(until_closed(listening.address(), &[0x16, 0x03, 0x01]).await, "");
}

#[tokio::test]
async fn a_connection_takes_no_more_header_bytes_than_any_may_whatever_an_app_says() {
    let greedy = |header_bytes: u64| {
        let limits = Limits { header_bytes, ..limits() };
        let slot = Slot::new(key("one/a", 1), limits, Arc::new(Letter('A', AtomicU32::new(0))));
        slot.preload(service('A', limits));
        slot
    };
    let listening = limited(ConnectionLimits::default(), &greedy(100 << 30));
    let head = |bytes: usize| {
        let filler = "x".repeat(bytes);
        format!("GET / HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\nx-filler: {filler}\r\n\r\n")
    };
    let within = until_closed(listening.address(), head(128 << 10).as_bytes()).await;
    assert!(within.starts_with("HTTP/1.1 200 "), "{within}");
    let beyond = until_closed(listening.address(), head(4 << 20).as_bytes()).await;
    assert!(!beyond.contains(" 200 "), "{beyond}");
}

#[tokio::test]
async fn a_drain_lasts_as_long_as_what_is_served_when_it_begins() {
    let app = app("one/a", generous());
    let lasting = |revision: u64, wall: Duration| {
        let limits = Limits { wall, ..limits() };
        let slot = Slot::new(key("one/a", revision), limits, Arc::new(Letter('A', AtomicU32::new(0))));
        slot.preload(service('A', limits));
        slot
    };
    let short = lasting(1, Duration::from_millis(1));
    let site = Arc::new(Site::of(Table::new(vec![entry(&app, &short)])));
    let server = Server { drain: None, ..Server::new((Ipv4Addr::LOCALHOST, 0).into(), 1, DEADLINE) };
    let listening = server.start(Arc::clone(&site)).unwrap();
    let at_start = site.longest();
    site.publish(Table::new(vec![entry(&app, &lasting(2, DEADLINE))]));
    let (sender, body) = tenon_testkit::client::fed();
    let mut request = of("a", get("/echo"));
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = body;
    let address = listening.address();
    let asking = tokio::spawn(async move { fetch(address, request).await });
    until("the request to run", || site.running() == 1).await;
    let draining = tokio::task::spawn_blocking(move || listening.drain().complete);
    // Longer than it would have had, if that had been said when the server started.
    tokio::time::sleep(at_start + Duration::from_millis(500)).await;
    drop(sender);
    asking.await.unwrap().unwrap().expect(200);
    assert!(draining.await.unwrap());
}

async fn connect_from(client: IpAddr, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((client, 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

/// Waits until the server has closed it as one too many, which so many were then: what is merely idle is closed later, and not
/// counted so.
async fn until_refused(site: &Site, stream: &TcpStream, refused: u64) {
    until("it to be refused", || site.crowded_out() == refused).await;
    until("it to be closed", || matches!(stream.try_read(&mut [0; 64]), Ok(0))).await;
}

#[tokio::test]
async fn one_address_cannot_hold_all_connections_and_idle_ones_make_room() {
    let app = app("one/a", generous());
    let table = Table::new(vec![entry(&app, &slot("one/a", 1, 'A'))]);
    let local = (Ipv4Addr::LOCALHOST, 0).into();
    let connections =
        ConnectionLimits { per_worker_max: 16, per_address_max: 15, ..ConnectionLimits::default() };
    let server = Server { connections, ..Server::new(local, 1, DEADLINE) };
    let site = Arc::new(Site::of(table));
    let listening = server.start(Arc::clone(&site)).unwrap();
    let address = listening.address();
    let greedy = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let mut idle = Vec::new();
    for _ in 0..15 {
        idle.push(connect_from(greedy, address).await);
    }
    let one_more = connect_from(greedy, address).await;
    until_refused(&site, &one_more, 1).await;
    // Others find room, and soon more of it: who holds a connection and asks nothing has to let go of it.
    ask(address, "a", "/").await.expect(200);
    until("idle connections to be closed", || {
        idle.iter().any(|stream| matches!(stream.try_read(&mut [0; 64]), Ok(0)))
    })
    .await;
    let replies = futures_of((0..10).map(|_| ask(address, "a", "/"))).await;
    assert!(replies.into_iter().all(|reply| reply.expect(200) == "A"));
}

#[tokio::test]
async fn a_drain_loses_no_request_of_a_client_that_is_told() {
    let app = app("one/a", generous());
    let stable = slot("one/a", 1, 'A');
    let local = (Ipv4Addr::LOCALHOST, 0).into();
    let start = |address, replaces| {
        let site = Site::of(Table::new(vec![entry(&app, &stable)]));
        Server { replaces, ..Server::new(address, 1, DEADLINE) }.start(Arc::new(site)).unwrap()
    };
    let mut listening = start(local, false);
    let address = listening.address();
    let (over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, count) = (Arc::clone(&over), Arc::clone(&count));
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await.unwrap();
                while !over.load(Relaxed) {
                    let reply = connection.exchange(of("a", get("/"))).await.unwrap();
                    if reply.header("connection") == "close" {
                        connection = Connection::open(address).await.unwrap();
                    }
                    reply.expect(200);
                    count.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let before = count.load(Relaxed);
        until("more requests", || count.load(Relaxed) > before + 20).await;
        let next = start(address, true);
        let last = std::mem::replace(&mut listening, next);
        let drained = tokio::task::spawn_blocking(move || last.drain().complete);
        assert!(drained.await.unwrap());
    }
    over.store(true, Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

/// A server of `a.example` with HTTP/3, and who vouches for it.
fn with_http3(connections: ConnectionLimits) -> (Arc<Site>, Listening, Ca) {
    let ca = Ca::new("an authority of ours");
    let (chain, key) = ca.issue("a.example");
    let certificate = Certificate { name: "a".into(), chain: chain.into(), key: key.into() };
    let app = app("one/a", generous());
    let table = Table::new(vec![entry(&app, &slot("one/a", 1, 'A'))]);
    let local = (Ipv4Addr::LOCALHOST, 0).into();
    let server = Server {
        listen: vec![Listen {
            address: local,
            tls: Some(Certificates::new(&[certificate]).unwrap()),
            http3: Some(Http3 { port: None, key: Http3Key([1; 32]) }),
        }],
        connections,
        ..Server::new(local, 1, DEADLINE)
    };
    let site = Arc::new(Site::of(table));
    (Arc::clone(&site), server.start(site).unwrap(), ca)
}

#[tokio::test]
async fn connections_of_http3_count_among_all_and_are_refused_at_once() {
    let connections = ConnectionLimits { per_address_max: 2, ..ConnectionLimits::default() };
    let (site, listening, ca) = with_http3(connections);
    let address = listening.address();
    let open = || Http3Client::open(address, &ca, "a.example");
    let (mut first, second) = (open().await.unwrap(), open().await.unwrap());
    assert_eq!(first.exchange(get("/")).await.unwrap().expect(200), "A");
    assert!(open().await.is_err(), "the address has as many as it may");
    let over_tcp = connect_from(Ipv4Addr::LOCALHOST.into(), address).await;
    until_refused(&site, &over_tcp, 2).await;
    drop(second);
    let began = Instant::now();
    while open().await.is_err() {
        assert!(began.elapsed() < DEADLINE, "the place does not become free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(first.exchange(get("/")).await.unwrap().expect(200), "A");
    drop(first);
    assert!(tokio::task::spawn_blocking(|| listening.drain().complete).await.unwrap());
}

#[tokio::test]
async fn where_many_handshakes_are_under_way_an_address_has_to_be_proved() {
    let proving = ConnectionLimits { handshakes_unproved_max: 0, ..ConnectionLimits::default() };
    let (_site, listening, ca) = with_http3(proving);
    let mut client = Http3Client::open(listening.address(), &ca, "a.example").await.unwrap();
    assert_eq!(client.exchange(get("/")).await.unwrap().expect(200), "A");
    let (_site, listening, ca) = with_http3(ConnectionLimits { handshakes_max: 0, ..proving });
    assert!(Http3Client::open(listening.address(), &ca, "a.example").await.is_err());
}

#[test]
fn names_of_headers_are_stable() {
    for (name, header) in [("x-quota", rescue::QUOTA), ("x-error-code", rescue::ERROR_CODE)] {
        assert_eq!(HeaderName::from_static(name), header);
    }
}
