//! `examples/edge-cache`: a cache in front of a real origin, which counts what reaches it.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use tenon_testkit::client::{Body, Reply, call, fetch, get, post, request};
use tenon_testkit::differential::{Question, as_fresh};
use tenon_testkit::{DEADLINE, Serving, Tenon, until};

use super::Example;

fn cache() -> &'static Example {
    static CACHE: OnceLock<Example> = OnceLock::new();
    CACHE.get_or_init(|| Example::build("edge-cache", "tenon.toml"))
}

/// A request as the origin got it.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    fields: HashMap<String, String>,
}

impl Asked {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// A server on a free port of 127.0.0.1 that answers as the path says, and keeps what it was asked.
#[derive(Clone)]
struct Origin {
    address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, Vec<Asked>>>>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let serving = origin.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // A client that goes away ends its own thread.
                thread::spawn(move || serving.answer(stream));
            }
        });
        origin
    }

    /// What was asked at `path`, in order.
    fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(path).cloned().unwrap_or_default()
    }

    fn count(&self, path: &str) -> usize {
        self.asked(path).len()
    }

    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut fields = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = fields.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        reader.by_ref().take(length).read_to_end(&mut Vec::new()).ok()?;
        let now = Asked { method, fields };
        let time = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let times = asked.entry(path.clone()).or_default();
            times.push(now.clone());
            times.len()
        };
        let (status, fields, body) = answer(&path, &now, time);
        let length = if path == "/broken" { body.len() * 2 } else { body.len() };
        let head =
            format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        if now.method != "HEAD" && status != 304 {
            stream.write_all(body.as_bytes()).ok()?;
        }
        Some(())
    }
}

/// What the origin says at `path` when it is asked there for the `time`th time: status, fields and body.
fn answer(path: &str, asked: &Asked, time: usize) -> (u16, String, String) {
    let date = |seconds_ago: i64| {
        let now = SystemTime::now();
        let span = Duration::from_secs(seconds_ago.unsigned_abs());
        httpdate::fmt_http_date(if seconds_ago < 0 { now + span } else { now - span })
    };
    let fields = match path {
        "/fresh" | "/large" | "/broken" | "/changed" => "cache-control: max-age=600\r\n".to_owned(),
        "/expires" => format!("date: {}\r\nexpires: {}\r\n", date(0), date(-600)),
        "/guessed" => format!("date: {}\r\nlast-modified: {}\r\n", date(0), date(864_000)),
        "/expired" => "expires: 0\r\netag: \"1\"\r\n".to_owned(),
        // An age beyond the lifetime: stale when it comes, and nobody has to wait for it.
        "/stale" => "cache-control: max-age=60\r\nage: 120\r\netag: \"1\"\r\n".to_owned(),
        "/stale-while-revalidate" if time == 1 => {
            "cache-control: max-age=10, stale-while-revalidate=600\r\nage: 20\r\netag: \"1\"\r\n".to_owned()
        }
        "/stale-while-revalidate" => "cache-control: max-age=600\r\netag: \"2\"\r\n".to_owned(),
        "/stale-if-error" => "cache-control: max-age=10, stale-if-error=600\r\nage: 20\r\n".to_owned(),
        "/vary" => "cache-control: max-age=600\r\nvary: accept-language\r\n".to_owned(),
        "/vary-by-all" => "cache-control: max-age=600\r\nvary: *\r\n".to_owned(),
        "/no-store" => "cache-control: max-age=600, no-store\r\n".to_owned(),
        "/private" => "cache-control: max-age=600, private\r\n".to_owned(),
        "/cookie" => "cache-control: max-age=600\r\nset-cookie: a=b\r\n".to_owned(),
        "/secret" => "cache-control: max-age=600\r\n".to_owned(),
        "/tagged" => "cache-control: max-age=600\r\netag: W/\"1\"\r\n".to_owned(),
        _ => String::new(),
    };
    if path == "/stale-if-error" && time > 1 {
        return (503, String::new(), "busy".to_owned());
    }
    if matches!(path, "/stale" | "/expired") && asked.field("if-none-match") == "\"1\"" {
        return (304, fields.replace("age: 120\r\n", "x-news: 1\r\n"), String::new());
    }
    let body = match path {
        "/large" => "z".repeat((1 << 20) + 1),
        "/vary" => format!("{} {time}", asked.field("accept-language")),
        _ => format!("{path} {time}"),
    };
    (200, fields, body)
}

/// A manifest of the example for this origin, beside the data of `tenon`.
fn manifest(tenon: &Tenon, origin: SocketAddr) -> PathBuf {
    cache().with_manifest(tenon, |text| text.replace("9000", &origin.port().to_string()))
}

struct Edge {
    tenon: Tenon,
    origin: Origin,
    server: Serving,
}

impl Edge {
    fn start() -> Self {
        let (tenon, origin) = (Tenon::new(env!("CARGO_BIN_EXE_tenon")), Origin::start());
        let server = tenon.serve(manifest(&tenon, origin.address)).start();
        Self { tenon, origin, server }
    }

    fn ask(&self, path: &str) -> Reply {
        self.ask_with(path, &[])
    }

    fn ask_with(&self, path: &str, fields: &[(&'static str, &str)]) -> Reply {
        call(self.server.address(), with(get(path), fields))
    }

    /// Waits until there is something in the cache for such a request, stale or not. It is kept while the client reads its
    /// response, and perhaps a moment longer.
    fn settled(&self, path: &str, language: &str) {
        let fields = [("cache-control", "only-if-cached, max-stale"), ("accept-language", language)];
        until("the response in the cache", DEADLINE, || {
            (self.ask_with(path, &fields).status == 200).then_some(())
        });
    }

    /// Asks, and waits until what came is kept.
    fn ask_and_keep(&self, path: &str) -> Reply {
        let reply = self.ask(path);
        self.settled(path, "");
        reply
    }

    /// Asks twice; whether the second answer came from the cache.
    fn keeps(&self, path: &str) -> bool {
        self.ask(path).expect(200);
        let before = self.origin.count(path);
        self.ask(path).expect(200);
        self.origin.count(path) == before
    }
}

fn with(mut request: http::Request<Body>, fields: &[(&'static str, &str)]) -> http::Request<Body> {
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

#[test]
fn what_is_fresh_does_not_reach_the_origin() {
    let edge = Edge::start();
    let first = edge.ask_and_keep("/fresh");
    assert_eq!(first.header("cache-status"), "edge-cache; fwd=uri-miss; stored");
    assert_eq!(first.expect(200), "/fresh 1");
    let second = edge.ask("/fresh");
    assert!(second.header("cache-status").starts_with("edge-cache; hit; ttl="), "{second:?}");
    assert!(second.header("age").parse::<u64>().unwrap() < 600);
    assert_eq!(second.expect(200), "/fresh 1");
    let head = call(edge.server.address(), request("HEAD", "/fresh", tenon_testkit::client::empty()));
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(edge.origin.count("/fresh"), 1);
    assert_eq!(edge.origin.asked("/fresh")[0].field("via"), "1.1 edge-cache");

    for path in ["/expires", "/guessed"] {
        edge.ask_and_keep(path).expect(200);
        edge.ask(path).expect(200);
        assert_eq!(edge.origin.count(path), 1, "{path}");
    }
    for path in ["/no-store", "/private", "/cookie", "/vary-by-all", "/nothing-said", "/large"] {
        assert!(!edge.keeps(path), "{path}");
    }
    assert_eq!(edge.ask("/large").body.len(), (1 << 20) + 1);

    // Another query is another target.
    edge.ask("/fresh?page=2").expect(200);
    assert_eq!(edge.origin.count("/fresh?page=2"), 1);

    // What is kept is kept in the store, not in memory.
    let Edge { tenon, origin, server } = edge;
    server.stop();
    let server = tenon.serve(manifest(&tenon, origin.address)).start();
    assert_eq!(call(server.address(), get("/fresh")).expect(200), "/fresh 1");
    assert_eq!(origin.count("/fresh"), 1);
    server.stop();
}

#[test]
fn what_is_stale_is_asked_for_with_what_is_known() {
    let edge = Edge::start();
    assert_eq!(edge.ask_and_keep("/stale").expect(200), "/stale 1");
    let again = edge.ask("/stale");
    assert_eq!(again.header("cache-status"), "edge-cache; fwd=stale; fwd-status=304; stored");
    assert_eq!(again.header("x-news"), "1");
    assert!(again.header("age").parse::<u64>().unwrap() < 60, "it is as old as the answer: {again:?}");
    assert_eq!(again.expect(200), "/stale 1", "the body is the one that is kept");
    let asked = edge.origin.asked("/stale");
    assert_eq!((asked.len(), asked[1].field("if-none-match")), (2, "\"1\""));
    // The 304 made it fresh again.
    assert_eq!(edge.ask_with("/stale", &[("cache-control", "only-if-cached")]).expect(200), "/stale 1");
    assert_eq!(edge.origin.count("/stale"), 2);

    assert_eq!(edge.ask_and_keep("/expired").expect(200), "/expired 1");
    assert_eq!(edge.ask("/expired").expect(200), "/expired 1");
    assert_eq!(edge.origin.asked("/expired")[1].field("if-none-match"), "\"1\"");

    edge.ask_and_keep("/stale-while-revalidate").expect(200);
    let stale = edge.ask("/stale-while-revalidate");
    assert!(stale.header("cache-status").starts_with("edge-cache; hit; ttl=-"), "{stale:?}");
    assert_eq!(stale.expect(200), "/stale-while-revalidate 1");
    until("the new response in the cache", DEADLINE, || {
        (edge.ask("/stale-while-revalidate").text() != "/stale-while-revalidate 1").then_some(())
    });

    edge.ask_and_keep("/stale-if-error").expect(200);
    let stale = edge.ask("/stale-if-error");
    assert!(stale.header("cache-status").ends_with("fwd-status=503; detail=stale-if-error"), "{stale:?}");
    assert_eq!(stale.expect(200), "/stale-if-error 1");
    edge.server.stop();
}

#[test]
fn a_response_is_for_the_requests_it_was_made_for() {
    let edge = Edge::start();
    let in_language = |language: &str| edge.ask_with("/vary", &[("accept-language", language)]).expect(200);
    assert_eq!(in_language("de"), "de 1");
    edge.settled("/vary", "de");
    assert_eq!(in_language("en"), "en 2");
    edge.settled("/vary", "en");
    assert_eq!((in_language("de"), in_language("en")), ("de 1".to_owned(), "en 2".to_owned()));
    assert_eq!(edge.origin.count("/vary"), 2);

    // Somebody's response is nobody else's.
    let secret = || edge.ask_with("/secret", &[("authorization", "Bearer x")]).expect(200);
    secret();
    secret();
    edge.ask("/secret").expect(200);
    assert_eq!(edge.origin.count("/secret"), 3);

    // A client's own conditions are the cache's to answer.
    edge.ask_with("/tagged", &[("if-none-match", "\"other\"")]).expect(200);
    edge.settled("/tagged", "");
    let known = edge.ask_with("/tagged", &[("if-none-match", "\"1\"")]);
    assert_eq!((known.status.as_u16(), known.body.len(), known.header("etag")), (304, 0, "W/\"1\""));
    let asked = edge.origin.asked("/tagged");
    assert_eq!((asked.len(), asked[0].field("if-none-match")), (1, ""));

    // Clients can want the origin, or only the cache.
    edge.ask_with("/tagged", &[("cache-control", "no-cache")]).expect(200);
    assert_eq!(edge.origin.count("/tagged"), 2);
    edge.ask_with("/tagged", &[("cache-control", "only-if-cached")]).expect(200);
    edge.ask_with("/unknown", &[("cache-control", "only-if-cached")]).expect(504);
    assert_eq!(edge.origin.count("/unknown"), 0);
    let part = edge.ask_with("/tagged", &[("range", "bytes=0-1")]);
    assert_eq!(part.header("cache-status"), "edge-cache; fwd=bypass");

    // What changes a target makes what is kept of it worthless.
    edge.ask_and_keep("/changed").expect(200);
    let changed = call(edge.server.address(), post("/changed", "news"));
    assert_eq!(changed.header("cache-status"), "edge-cache; fwd=method");
    assert_eq!(edge.origin.asked("/changed")[1].method, "POST");
    assert_eq!(edge.ask("/changed").expect(200), "/changed 3");
    edge.server.stop();
}

#[test]
fn the_cache_answers_from_a_used_place_as_from_a_new_one() {
    let (tenon, origin) = (Tenon::new(env!("CARGO_BIN_EXE_tenon")), Origin::start());
    let serve = tenon.serve(manifest(&tenon, origin.address));
    // What the origin says has a number in it, except where it is not asked again.
    let cached = |path: &str| Question::get(path).with("cache-control", "only-if-cached");
    as_fresh(&serve, &[Question::get("/nothing-said"), cached("/unknown"), cached("/no-store")], &[]);
}

#[test]
fn half_a_body_is_not_taken_for_the_whole() {
    let edge = Edge::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = || runtime.block_on(fetch(edge.server.address(), get("/broken")));
    assert!(ask().is_err(), "the client is told by the end of the connection");
    assert!(ask().is_err());
    assert_eq!(edge.origin.count("/broken"), 2, "nothing of it was kept");
    edge.server.stop();
}

#[test]
fn the_cache_reaches_the_origin_it_was_granted_and_no_other() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let origin = Origin::start();
    let serve =
        |change: &dyn Fn(String) -> String| {
            tenon.serve(cache().with_manifest(&tenon, |text| {
                change(text.replace("9000", &origin.address.port().to_string()))
            }))
        };
    for (grant, interface) in
        [("wasi:http", "wasi:http/outgoing-handler"), ("wasi:keyvalue", "wasi:keyvalue/store")]
    {
        let without = |text: String| {
            let begin = format!("\"{grant}\" = ");
            text.lines().filter(|line| !line.starts_with(&begin)).map(|line| format!("{line}\n")).collect()
        };
        let refused = serve(&without).refused().expect_code(1);
        refused.expect_stderr(&["import-not-granted", interface, &format!("\"{grant}\" = [")]);
    }
    // Granted another host than the configuration names.
    let server = serve(&|text| text.replace("[{ host = \"127.0.0.1\"", "[{ host = \"127.0.0.2\"")).start();
    let denied = call(server.address(), get("/fresh")).expect(502);
    assert!(denied.contains("HttpRequestDenied"), "{denied}");
    assert_eq!(origin.count("/fresh"), 0);
    server.stop();
    // Nobody listens there.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = tenon.serve(manifest(&tenon, gone)).start();
    call(server.address(), get("/fresh")).expect(502);
    server.stop();
}
