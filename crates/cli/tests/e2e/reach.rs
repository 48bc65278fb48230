//! What is granted can be reached, and nothing beside it: every permission with its twin without it.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use tenon_testkit::client::{call, get};
use tenon_testkit::peer::{Peer, echo_udp};
use tenon_testkit::tls::{Ca, Certificate};
use tenon_testkit::{Guests, Serve, Serving, Tenon};

use crate::support::tenon;

const SOCKETS_NOWHERE: &str =
    r#""wasi:sockets" = [{ protocol = "tcp", direction = "connect", host = "192.0.2.1", port = 1 }]"#;
const HTTP_NOWHERE: &str = r#""wasi:http" = [{ host = "nowhere.invalid" }]"#;

/// The guests that reach outside, of 0.2 and of 0.3.
const GUESTS: [&str; 2] = ["reaching", "reaching-p3"];

/// `tenon serve` of a folder whose manifest has `guest` as its only component, with these grants and limits.
fn granted(tenon: &Tenon, guest: &str, grants: &[&str], limits: &str) -> Serve {
    let folder = tenon.data().join("app");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(Guests::get(guest), folder.join("guest.wasm")).unwrap();
    let manifest = format!(
        "[component.{guest}]\npath = \"guest.wasm\"\n[component.{guest}.grants]\n{}\n[component.{guest}.limits]\n{limits}\n",
        grants.join("\n")
    );
    fs::write(folder.join("tenon.toml"), manifest).unwrap();
    tenon.serve(folder)
}

/// The answer of the guest to `path` with these parameters.
pub(crate) fn ask(server: &Serving, path: &str, parameters: &[(&str, &str)]) -> String {
    let encoded = |text: &str| {
        text.bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02x}")
                }
            })
            .collect::<String>()
    };
    let query: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    call(server.address(), get(&format!("{path}?{}", query.join("&")))).expect(200)
}

pub(crate) fn http(address: SocketAddr, rest: &str) -> String {
    format!(r#""wasi:http" = [{{ host = "127.0.0.1", scheme = "http", port = {}{rest} }}]"#, address.port())
}

#[track_caller]
fn assert_begins(answer: &str, expected: &str) {
    assert!(answer.starts_with(expected), "expected `{expected}…`, got `{answer}`");
}

#[test]
fn each_import_that_is_not_granted_is_refused_with_its_line() {
    for (guest, names) in
        [("reaching", "wasi:http/outgoing-handler@0.2."), ("reaching-p3", "wasi:http/client@0.3.")]
    {
        let tenon = tenon();
        let refused = granted(&tenon, guest, &[], "").refused().expect_code(1);
        let refused = refused.expect_stderr(&[
            guest,
            names,
            "wasi:sockets/",
            r#""wasi:http" = [{ host ="#,
            r#""wasi:sockets" = [{"#,
        ]);
        assert!(refused.stderr.contains(&format!("[component.{guest}.grants]")), "{}", refused.stderr);
        let refused = granted(&tenon, guest, &[HTTP_NOWHERE], "").refused().expect_code(1);
        let refused = refused.expect_stderr(&["wasi:sockets/"]);
        assert!(!refused.stderr.contains("wasi:http/"), "{}", refused.stderr);
    }
}

#[test]
fn a_request_goes_where_it_was_granted_and_nowhere_else() {
    let (peer, stranger) = (Peer::start(), Peer::start());
    for guest in ["reaching", "reaching-p3"] {
        let tenon = tenon();
        let grant = http(peer.address(), r#", path = "/open/", private = true"#);
        let server = granted(&tenon, guest, &[&grant, SOCKETS_NOWHERE], "").start();
        let fetch = |url: &str| ask(&server, "/fetch", &[("url", url)]);
        assert!(fetch(&peer.url("/open/door")).contains("hello from /open/door"));
        let before = (peer.heads().len(), stranger.heads().len());
        for url in [
            peer.url("/closed/"),
            peer.url("/open/../closed/"),
            peer.url("/open/%2e%2e/closed/"),
            stranger.url("/open/door"),
            peer.url("/open/door").replace("127.0.0.1", "127.0.0.2"),
            peer.url("/open/door").replace("127.0.0.1", "localhost"),
            peer.url("/open/door").replace("http:", "https:"),
            "http://169.254.169.254/latest/meta-data/".to_owned(),
        ] {
            let answer = fetch(&url);
            assert!(answer.starts_with("refused") && answer.contains("HttpRequestDenied"), "{url}: {answer}");
        }
        assert_eq!((peer.heads().len(), stranger.heads().len()), before, "a denied request was sent");
        server.logged(&["not granted", guest, "wasi:http", "scheme = ", &stranger.address().to_string()]);
        server.stop();
    }
}

#[test]
fn what_a_guest_sends_is_part_of_its_requests_trace() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let peer = Peer::start();
    for guest in ["reaching", "reaching-p3"] {
        let tenon = tenon();
        let grant = http(peer.address(), ", private = true");
        let server = granted(&tenon, guest, &[&grant, SOCKETS_NOWHERE], "").start();
        let url = peer.url("/").replace(':', "%3a").replace('/', "%2f");
        let sent = |traceparent: Option<String>| {
            let mut request = get(&format!("/fetch?url={url}"));
            if let Some(traceparent) = traceparent {
                request.headers_mut().insert("traceparent", traceparent.parse().unwrap());
            }
            call(server.address(), request).expect(200);
            peer.heads().pop().unwrap().to_ascii_lowercase()
        };
        let head = sent(Some(format!("00-{TRACE}-00f067aa0ba902b7-01")));
        assert!(head.contains(&format!("traceparent: 00-{TRACE}-")), "{head}");
        assert!(!head.contains("00f067aa0ba902b7"), "it has a span of its own: {head}");
        for none in [None, Some(format!("00-{TRACE}-0000000000000000-01"))] {
            let head = sent(none);
            assert!(!head.contains("traceparent"), "{head}");
        }
        server.stop();
    }
}

#[test]
fn a_private_address_needs_its_own_word() {
    let peer = Peer::start();
    for guest in ["reaching", "reaching-p3"] {
        let tenon = tenon();
        let server = granted(&tenon, guest, &[&http(peer.address(), ""), SOCKETS_NOWHERE], "").start();
        let answer = ask(&server, "/fetch", &[("url", &peer.url("/"))]);
        assert!(answer.contains("DestinationIpProhibited"), "{answer}");
        assert_eq!(peer.heads().len(), 0);
        server.logged(&["not granted", "private = true"]);
        server.stop();

        // A name that resolves to one is one.
        let grant =
            format!(r#""wasi:http" = [{{ host = "*", scheme = "http", port = {} }}]"#, peer.address().port());
        let server = granted(&tenon, guest, &[&grant, SOCKETS_NOWHERE], "").start();
        let url = peer.url("/").replace("127.0.0.1", "localhost");
        let answer = ask(&server, "/fetch", &[("url", &url)]);
        assert!(answer.contains("DestinationIpProhibited"), "{answer}");
        server.stop();
    }
}

#[test]
fn a_redirect_is_the_guests_to_follow_and_a_tunnel_nobodys() {
    for guest in GUESTS {
        let (peer, tenon) = (Peer::start(), tenon());
        let server =
            granted(&tenon, guest, &[&http(peer.address(), ", private = true"), SOCKETS_NOWHERE], "").start();
        assert_begins(&ask(&server, "/fetch", &[("url", &peer.url("/redirect"))]), "ok: 302 ");
        assert_eq!(peer.heads().len(), 1);
        let answer = ask(&server, "/fetch", &[("url", &peer.url("/")), ("method", "CONNECT")]);
        assert!(answer.contains("HttpRequestDenied"), "{guest}: {answer}");
        server.stop();
    }
}

#[test]
fn no_proxy_is_used_whatever_the_environment_says() {
    for guest in GUESTS {
        let (peer, proxy, tenon) = (Peer::start(), Peer::start(), tenon());
        let mut serve =
            granted(&tenon, guest, &[&http(peer.address(), ", private = true"), SOCKETS_NOWHERE], "");
        for variable in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            serve = serve.env(variable, proxy.url("/"));
        }
        let server = serve.start();
        let answer = ask(&server, "/fetch", &[("url", &peer.url("/direct"))]);
        assert!(answer.contains("hello from /direct"), "{guest}: {answer}");
        assert_eq!((peer.heads().len(), proxy.heads().len()), (1, 0), "{guest}");
        server.stop();
    }
}

#[test]
fn what_a_peer_sends_and_how_long_it_takes_is_bounded() {
    for guest in GUESTS {
        let (peer, tenon) = (Peer::start(), tenon());
        let grant = http(peer.address(), ", private = true");
        let limits = "outbound-requests = 3\noutbound-connections = 2";
        let serve = granted(&tenon, guest, &[&grant, SOCKETS_NOWHERE], limits);
        let manifest = tenon.data().join("app/tenon.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        let bodies = "[limits]\nresponse-body = \"64KiB\"\nrequest-body = \"64KiB\"\n";
        fs::write(&manifest, format!("{bodies}{text}")).unwrap();
        let server = serve.start();
        let fetch = |path: &str, more: &[(&str, &str)]| {
            ask(&server, "/fetch", &[&[("url", peer.url(path).as_str())], more].concat())
        };
        assert!(fetch("/big?60000", &[]).contains("60000 bytes, whole"), "{guest}");
        assert!(!fetch("/big?70000", &[]).contains("whole"), "{guest}");
        assert!(fetch("/headers?100000", &[]).starts_with("refused"), "{guest}");
        let half = fetch("/half", &[]);
        assert!(half.contains(" 5 bytes, ") && !half.contains("whole"), "{guest}: {half}");
        assert!(fetch("/never", &[("ms", "200")]).contains("ConnectionReadTimeout"), "{guest}");
        assert!(!fetch("/stall", &[("ms", "200")]).contains("whole"), "{guest}");
        assert_begins(&fetch("/", &[("method", "POST"), ("size", "40000")]), "ok: 200");
        let early = fetch("/early", &[("method", "POST"), ("size", "40000")]);
        assert!(early.contains("whole: early"), "{guest}: {early}");
        assert!(fetch("/", &[("method", "POST"), ("size", "200000")]).starts_with("refused"), "{guest}");

        let many = |n: &str, more: &[(&str, &str)]| {
            ask(&server, "/fetch-many", &[&[("url", peer.url("/").as_str()), ("n", n)], more].concat())
        };
        assert_eq!(many("3", &[]), "3 fine ");
        assert_eq!(many("5", &[]), "3 fine ErrorCode::HttpRequestDenied");
        server.logged(&["ran into its limit", "outbound-requests", "value=3", guest]);
        let held = [("url", peer.url("/stall")), ("n", "3".to_owned()), ("hold", String::new())];
        let held: Vec<_> = held.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_begins(&ask(&server, "/fetch-many", &held), "2 fine");
        server.logged(&["ran into its limit", "outbound-connections", "value=2", guest]);
        server.stop();
    }
}

/// A directory with a file in it, a secret beside it, and every link that could lead from one to the other.
fn tempting(folder: &Path) {
    let data = folder.join("app/data");
    fs::create_dir_all(data.join("sub/inner")).unwrap();
    fs::write(data.join("file"), "content").unwrap();
    fs::write(folder.join("app/secret"), "SECRET").unwrap();
    for (to, name) in [
        (folder.join("app/secret").to_str().unwrap(), "absolute"),
        ("../secret", "relative"),
        ("sub/../../secret", "chain"),
        (folder.join("app").to_str().unwrap(), "dirlink"),
        ("..", "up"),
        ("/proc", "proc"),
    ] {
        std::os::unix::fs::symlink(to, data.join(name)).unwrap();
    }
}

#[test]
fn a_granted_directory_can_be_read_and_not_left() {
    for access in ["read", "write"] {
        let tenon = tenon();
        tempting(tenon.data());
        let grant =
            format!(r#""wasi:filesystem" = [{{ directory = "data", at = "/data", access = "{access}" }}]"#);
        let server =
            granted(&tenon, "reaching", &[&grant, HTTP_NOWHERE, SOCKETS_NOWHERE], "open-files = 10").start();
        assert_eq!(ask(&server, "/read", &[("path", "/data/file")]), "ok: content");
        let written = ask(&server, "/write", &[("path", "/data/new"), ("text", "x")]);
        if access == "write" {
            assert_eq!(written, "ok: written");
        } else {
            assert_begins(&written, "refused");
            assert!(!tenon.data().join("app/data/new").exists());
        }
        let secret = tenon.data().join("app/secret");
        let escaped = ask(&server, "/escape", &[("from", "/data"), ("secret", secret.to_str().unwrap())]);
        assert!(escaped.ends_with("escaped: []"), "{escaped}");
        assert!(!tenon.data().join("app/planted").exists());
        assert_eq!(fs::read_to_string(tenon.data().join("app/secret")).unwrap(), "SECRET");
        assert_eq!(
            ask(&server, "/open-many", &[("path", "/data/file"), ("n", "30")]),
            "9 held, then one more"
        );
        server.logged(&["ran into its limit", r#"component="reaching""#, r#"limit="open-files" value=10"#]);
        server.stop();
    }
}

#[test]
fn a_directory_of_wasi03_is_the_same() {
    for access in ["read", "write"] {
        let tenon = tenon();
        tempting(tenon.data());
        let grant =
            format!(r#""wasi:filesystem" = [{{ directory = "data", at = "/data", access = "{access}" }}]"#);
        let grants = [grant.as_str(), HTTP_NOWHERE, SOCKETS_NOWHERE];
        let server = granted(&tenon, "reaching-p3", &grants, "open-files = 10").start();
        assert_eq!(ask(&server, "/read", &[("path", "/data/file")]), "ok: content");
        for path in
            ["/data/../secret", "/data/absolute", "/data/relative", "/data/dirlink/secret", "/data/up/secret"]
        {
            assert_begins(&ask(&server, "/read", &[("path", path)]), "refused");
        }
        let written = ask(&server, "/write", &[("path", "/data/new")]);
        assert_begins(&written, if access == "write" { "ok: opened for writing" } else { "refused" });
        assert_eq!(tenon.data().join("app/data/new").exists(), access == "write");
        let secret = tenon.data().join("app/secret");
        let escaped = ask(&server, "/escape", &[("from", "/data"), ("secret", secret.to_str().unwrap())]);
        assert_eq!(escaped, "escaped: []");
        let mut beside: Vec<_> = fs::read_dir(tenon.data().join("app"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        beside.sort();
        assert_eq!(beside, [".tenon", "data", "guest.wasm", "secret", "tenon.toml"], "nothing is planted");
        assert_eq!(fs::read_to_string(tenon.data().join("app/secret")).unwrap(), "SECRET");
        let held: u32 = ask(&server, "/open-many", &[("path", "/data/file"), ("n", "30")]).parse().unwrap();
        assert!((1..10).contains(&held), "{held}");
        server.logged(&["ran into its limit", "open-files", "value=10", "reaching-p3"]);
        server.stop();
    }
}

#[test]
fn without_the_grant_there_is_no_directory() {
    for guest in ["reaching", "reaching-p3"] {
        let tenon = tenon();
        tempting(tenon.data());
        let server = granted(&tenon, guest, &[HTTP_NOWHERE, SOCKETS_NOWHERE], "").start();
        for path in ["/data/file", "file", "/etc/hostname"] {
            assert_begins(&ask(&server, "/read", &[("path", path)]), "refused");
        }
        server.stop();
    }
}

#[test]
fn a_granted_directory_that_is_not_there_is_said_before_serving() {
    let tenon = tenon();
    let grant = r#""wasi:filesystem" = [{ directory = "missing", at = "/data" }]"#;
    let refused =
        granted(&tenon, "reaching", &[grant, HTTP_NOWHERE, SOCKETS_NOWHERE], "").refused().expect_code(1);
    refused.expect_stderr(&["grant-directory", "missing", "mkdir -p"]);
}

#[test]
fn sockets_connect_where_they_were_granted() {
    let (peer, stranger, udp) = (Peer::start(), Peer::start(), echo_udp());
    let tenon = tenon();
    let grants = format!(
        r#""wasi:sockets" = [
  {{ protocol = "tcp", direction = "connect", host = "127.0.0.1", port = {} }},
  {{ protocol = "udp", direction = "connect", host = "127.0.0.0/8", port = {} }},
  {{ protocol = "tcp", direction = "connect", host = "localhost", port = 1 }},
]"#,
        peer.address().port(),
        udp.port()
    );
    let server = granted(&tenon, "reaching", &[&grants, HTTP_NOWHERE], "outbound-connections = 4").start();
    assert!(ask(&server, "/connect", &[("to", &peer.address().to_string())]).contains("hello from /hello"));
    assert_begins(&ask(&server, "/connect", &[("to", &stranger.address().to_string())]), "refused");
    assert_eq!(stranger.heads().len(), 0);
    server.logged(&["not granted", "tcp connect", &stranger.address().to_string()]);
    let to = udp.to_string();
    assert_eq!(ask(&server, "/udp", &[("from", "0.0.0.0:0"), ("to", &to)]), "ok: ping");
    assert_begins(
        &ask(&server, "/udp", &[("from", "0.0.0.0:0"), ("to", &peer.address().to_string())]),
        "refused",
    );
    for at in ["127.0.0.1:0", "0.0.0.0:0", "127.0.0.1:39999"] {
        assert_begins(&ask(&server, "/listen", &[("at", at)]), "refused");
    }
    assert!(ask(&server, "/resolve", &[("name", "localhost")]).contains("127.0.0.1"));
    assert_begins(&ask(&server, "/resolve", &[("name", "example.com")]), "refused");
    server.logged(&["not granted", "lookup example.com"]);
    assert_eq!(ask(&server, "/connect-many", &[("to", &peer.address().to_string()), ("n", "9")]), "4");
    server.logged(&[
        "ran into its limit",
        r#"component="reaching""#,
        r#"limit="outbound-connections" value=4"#,
    ]);
    server.stop();
}

#[test]
fn sockets_of_wasi03_are_the_same() {
    let (peer, stranger, udp) = (Peer::start(), Peer::start(), echo_udp());
    let tenon = tenon();
    let grants = format!(
        r#""wasi:sockets" = [
  {{ protocol = "tcp", direction = "connect", host = "127.0.0.1", port = {} }},
  {{ protocol = "udp", direction = "connect", host = "127.0.0.1", port = {} }},
]"#,
        peer.address().port(),
        udp.port()
    );
    let server = granted(&tenon, "reaching-p3", &[&grants, HTTP_NOWHERE], "outbound-connections = 4").start();
    let port = |address: SocketAddr| address.port().to_string();
    assert!(ask(&server, "/connect", &[("port", &port(peer.address()))]).contains("hello from /hello"));
    assert_begins(&ask(&server, "/connect", &[("port", &port(stranger.address()))]), "refused");
    assert_eq!(stranger.heads().len(), 0);
    assert_eq!(ask(&server, "/udp", &[("port", &port(udp))]), "ok: ping");
    assert_begins(&ask(&server, "/udp", &[("port", &port(stranger.address()))]), "refused");
    assert_begins(&ask(&server, "/listen", &[("port", "39999")]), "refused");
    assert_begins(&ask(&server, "/resolve", &[("name", "example.com")]), "refused");
    assert_eq!(ask(&server, "/connect-many", &[("n", "9")]), "4");
    server.logged(&[
        "ran into its limit",
        r#"component="reaching-p3""#,
        r#"limit="outbound-connections" value=4"#,
    ]);
    server.stop();
}

#[test]
fn a_sandbox_of_wasi03_that_opened_a_socket_is_not_used_again() {
    let (peer, tenon) = (Peer::start(), tenon());
    let grant = format!(
        r#""wasi:sockets" = [{{ protocol = "tcp", direction = "connect", host = "127.0.0.1", port = {} }}]"#,
        peer.address().port()
    );
    let server = granted(&tenon, "reaching-p3", &[&grant, HTTP_NOWHERE], "");
    let server = server.args(["--workers", "1", "--reuse-requests", "100"]).start();
    let count = || ask(&server, "/counter", &[]);
    assert_eq!([count(), count()], ["1", "2"]);
    let port = peer.address().port().to_string();
    assert!(ask(&server, "/connect", &[("port", &port)]).contains("hello from /hello"));
    assert_eq!([count(), count()], ["1", "2"], "after a socket");
    server.stop();
}

#[test]
fn listening_needs_its_own_direction() {
    let tenon = tenon();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (direction, expected) in [("listen", "ok: listening"), ("connect", "refused")] {
        let grant = format!(
            r#""wasi:sockets" = [{{ protocol = "tcp", direction = "{direction}", host = "127.0.0.1", port = {port} }}]"#
        );
        for (guest, parameter) in
            [("reaching", ("at", format!("127.0.0.1:{port}"))), ("reaching-p3", ("port", port.to_string()))]
        {
            let server = granted(&tenon, guest, &[&grant, HTTP_NOWHERE], "").start();
            assert_begins(&ask(&server, "/listen", &[(parameter.0, &parameter.1)]), expected);
            server.stop();
        }
    }
}

#[test]
fn a_udp_socket_is_bound_where_listening_was_granted() {
    let tenon = tenon();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let elsewhere = if port == u16::MAX { port - 1 } else { port + 1 };
    for (protocol, direction, at, expected) in [
        ("udp", "listen", port, "ok: bound"),
        ("udp", "listen", elsewhere, "refused"),
        ("udp", "connect", port, "refused"),
        ("tcp", "listen", port, "refused"),
    ] {
        let grant = format!(
            r#""wasi:sockets" = [{{ protocol = "{protocol}", direction = "{direction}", host = "127.0.0.1", port = {port} }}]"#
        );
        for (guest, parameter) in
            [("reaching", ("at", format!("127.0.0.1:{at}"))), ("reaching-p3", ("port", at.to_string()))]
        {
            let server = granted(&tenon, guest, &[&grant, HTTP_NOWHERE], "").start();
            assert_begins(&ask(&server, "/bind-udp", &[(parameter.0, &parameter.1)]), expected);
            // Also where no UDP is granted at all.
            if expected == "refused" {
                server.logged(&["not granted", guest, "udp listen", &format!("127.0.0.1:{at}")]);
            }
            server.stop();
        }
    }
}

#[test]
fn variables_time_and_randomness_are_what_the_manifest_says() {
    for guest in GUESTS {
        let tenon = tenon();
        let grants = [
            HTTP_NOWHERE,
            SOCKETS_NOWHERE,
            r#""wasi:cli" = { environment = { GREETING = "hello" }, arguments = ["program", "x"] }"#,
            r#""wasi:clocks" = { now = "2026-01-01T00:00:00Z" }"#,
            r#""wasi:random" = { seed = 42 }"#,
        ];
        let server = granted(&tenon, guest, &grants, "").start();
        assert_eq!(ask(&server, "/env", &[]), r#"[("GREETING", "hello")] ["program", "x"]"#, "{guest}");
        assert_eq!(ask(&server, "/clock", &[]), "1767225600", "{guest}");
        assert_eq!(ask(&server, "/random", &[]), ask(&server, "/random", &[]), "{guest}");
        server.stop();

        let server = granted(&tenon, guest, &[HTTP_NOWHERE, SOCKETS_NOWHERE], "").start();
        assert_eq!(ask(&server, "/env", &[]), "[] []", "{guest}");
        assert_ne!(ask(&server, "/clock", &[]), "1767225600", "{guest}");
        assert_ne!(ask(&server, "/random", &[]), ask(&server, "/random", &[]), "{guest}");
        server.stop();
    }
}

#[test]
fn a_component_fills_its_own_share_of_the_log() {
    for guest in GUESTS {
        let tenon = tenon();
        let server = granted(&tenon, guest, &[HTTP_NOWHERE, SOCKETS_NOWHERE], "log-bytes = \"1KiB\"").start();
        assert_eq!(ask(&server, "/print", &[("lines", "1000"), ("bytes", "99")]), "printed");
        let component = format!("component=\"{guest}\"");
        server.logged(&["more than it may log", &component, r#"limit="log-bytes" value=1024 dropped="#]);
        let lines = server.count_logged(&["xxxxxxxx"]);
        assert!((1..=12).contains(&lines), "{guest}: {lines} lines of 100 bytes within 1 KiB a second");
        server.stop();
    }
}

#[test]
fn a_line_counts_however_short_it_is() {
    for guest in GUESTS {
        let tenon = tenon();
        let server = granted(&tenon, guest, &[HTTP_NOWHERE, SOCKETS_NOWHERE], "log-bytes = \"1KiB\"").start();
        assert_eq!(ask(&server, "/print", &[("lines", "5000"), ("bytes", "0")]), "printed");
        server.logged(&["more than it may log", guest, r#"limit="log-bytes" value=1024"#]);
        // Eight a second; so many seconds it does not take.
        let lines = server.count_logged(&["tenon::guest", r#"stream="stdout""#]);
        assert!((1..=40).contains(&lines), "{guest}: {lines} empty lines within 1 KiB a second");

        // Many requests have no more of the log than one.
        let before = server.count_logged(&["tenon::guest"]);
        let began = std::time::Instant::now();
        for _ in 0..20 {
            assert_eq!(ask(&server, "/print", &[("lines", "8"), ("bytes", "0")]), "printed");
        }
        let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
        let lines = server.count_logged(&["tenon::guest"]) - before;
        assert!(lines <= 10 * seconds, "{guest}: {lines} lines in {seconds} seconds");
        server.stop();
    }
}

#[test]
fn the_monotonic_clock_is_moved_by_the_guest_where_the_time_is_set() {
    for guest in ["chaos-http", "service-p3"] {
        let tenon = tenon();
        let server =
            granted(&tenon, guest, &[r#""wasi:clocks" = { now = "2026-01-01T00:00:00Z" }"#], "").start();
        let began = std::time::Instant::now();
        // A microsecond for each reading, and twice twenty milliseconds.
        let shown = "[0, 1000, 20002000, 40003000]";
        assert_eq!(ask(&server, "/monotonic", &[("ms", "20")]), shown, "{guest}");
        assert!(began.elapsed() >= std::time::Duration::from_millis(40), "{guest}: it waits all the same");
        assert_eq!(ask(&server, "/monotonic", &[("ms", "20")]), shown, "{guest}: in every request");
        server.stop();
        let server = granted(&tenon, guest, &[], "").start();
        assert_ne!(
            ask(&server, "/monotonic", &[("ms", "1")]),
            ask(&server, "/monotonic", &[("ms", "1")]),
            "{guest}"
        );
        server.stop();
    }
}

/// A composition of a front and a back, each with this grant, if any: of WASI 0.2, or with `-p3` of 0.3.
fn neighbours(tenon: &Tenon, suffix: &str, front: Option<&str>, back: Option<&str>) -> Serve {
    let folder = tenon.data().join("app");
    fs::create_dir_all(&folder).unwrap();
    let mut manifest = String::new();
    for (name, grant) in [("front", front), ("back", back)] {
        let guest = Guests::get(&format!("reach-{name}{suffix}"));
        fs::copy(guest, folder.join(format!("{name}.wasm"))).unwrap();
        manifest.push_str(&format!("[component.{name}]\npath = \"{name}.wasm\"\n"));
        if let Some(grant) = grant {
            manifest.push_str(&format!("[component.{name}.grants]\n{grant}\n"));
        }
    }
    let interface = if suffix.is_empty() { "fixture:reach/fetcher" } else { "fixture:reach-async/fetcher" };
    manifest.push_str(&format!("[component.front.imports]\n\"{interface}\" = {{ component = \"back\" }}\n"));
    fs::write(folder.join("tenon.toml"), manifest).unwrap();
    tenon.serve(folder)
}

/// Neither of two neighbours reaches what only the other was granted.
fn nothing_is_borrowed(suffix: &str, client: &str) {
    let (fronts, backs) = (Peer::start(), Peer::start());
    let grant = |peer: &Peer| http(peer.address(), ", private = true");
    let tenon = tenon();
    let server = neighbours(&tenon, suffix, Some(&grant(&fronts)), Some(&grant(&backs))).start();
    for (path, mine, others, name) in
        [("/own", &fronts, &backs, "front"), ("/theirs", &backs, &fronts, "back")]
    {
        assert_begins(&ask(&server, path, &[("url", &mine.url("/x"))]), "ok: 200");
        let answer = ask(&server, path, &[("url", &others.url("/x"))]);
        assert!(answer.contains("HttpRequestDenied"), "{answer}");
        server.logged(&["not granted", &format!("component.{name}.grants"), &others.address().to_string()]);
    }
    assert_eq!((fronts.heads().len(), backs.heads().len()), (1, 1));
    server.stop();

    // What the neighbour was granted does not let the other in at all.
    for (front, back, refused) in
        [(Some(grant(&fronts)), None, "back"), (None, Some(grant(&backs)), "front"), (None, None, "front")]
    {
        let finished = neighbours(&tenon, suffix, front.as_deref(), back.as_deref()).refused().expect_code(1);
        finished.expect_stderr(&[&format!("[component.{refused}.grants]"), client]);
    }
}

#[test]
fn a_neighbours_grant_cannot_be_borrowed() {
    nothing_is_borrowed("", "wasi:http/outgoing-handler");
}

#[test]
fn nor_can_a_neighbours_of_wasi03() {
    nothing_is_borrowed("-p3", "wasi:http/client");
}

#[test]
fn a_middleware_of_wasi03_hands_on_to_whoever_is_behind_it() {
    let (peer, stranger, tenon) = (Peer::start(), Peer::start(), tenon());
    let relayed = |server: &Serving, path: &str, host: SocketAddr| {
        let mut request = get(path);
        request.headers_mut().insert("host", host.to_string().parse().unwrap());
        call(server.address(), request)
    };
    // Alone, that is the host of the request, as far as it was granted.
    let server = granted(&tenon, "relaying-p3", &[&http(peer.address(), ", private = true")], "").start();
    let reply = relayed(&server, "/there", peer.address());
    assert_eq!(reply.header("x-relayed"), "yes");
    assert_eq!(reply.expect(200), "hello from /there");
    let refused = relayed(&server, "/there", stranger.address());
    assert!(refused.status.is_server_error(), "{refused:?}");
    server.logged(&["not granted", "relaying-p3", &stranger.address().to_string()]);
    assert_eq!((peer.heads().len(), stranger.heads().len()), (1, 0));
    server.stop();
    granted(&tenon, "relaying-p3", &[], "").refused().expect_code(1).expect_stderr(&[
        "import-not-granted",
        "wasi:http/handler@0.3.",
        r#""wasi:http" = [{ host ="#,
    ]);

    // In a composition it is the component that it is joined to, and needs no grant.
    let folder = tenon.data().join("chain");
    fs::create_dir_all(&folder).unwrap();
    for guest in ["relaying-p3", "service-p3"] {
        fs::copy(Guests::get(guest), folder.join(format!("{guest}.wasm"))).unwrap();
    }
    let manifest = "[component.front]\npath = \"relaying-p3.wasm\"\n\
        [component.back]\npath = \"service-p3.wasm\"\n\
        [component.front.imports]\n\"wasi:http/handler\" = { component = \"back\" }\n";
    fs::write(folder.join("tenon.toml"), manifest).unwrap();
    let server = tenon.serve(&folder).start();
    let reply = relayed(&server, "/ok", peer.address());
    assert_eq!(reply.header("x-relayed"), "yes");
    assert_eq!(reply.expect(200), "ok\n");
    let large = call(server.address(), tenon_testkit::client::post("/echo", vec![b'x'; 300_000]));
    assert_eq!(large.expect(200).len(), 300_000);
    assert_eq!(peer.heads().len(), 1, "nobody else was asked");
    server.stop();
}

#[test]
fn https_is_verified_against_the_authorities_that_are_trusted() {
    let (ours, stranger) = (Ca::new("ours"), Ca::new("a stranger"));
    let good = ours.serve(Certificate::Good, &["http/1.1"]);
    let good2 = ours.serve(Certificate::Good, &["h2"]);
    let cases = [
        (
            ours.serve(Certificate::OtherName, &[]),
            "elsewhere.test",
            "ask for a name that the certificate has",
        ),
        (ours.serve(Certificate::Expired, &[]), "expired", "renew the server's certificate"),
        (stranger.serve(Certificate::Good, &[]), "UnknownIssuer", "SSL_CERT_FILE"),
    ];
    for guest in ["reaching", "reaching-p3"] {
        let tenon = tenon();
        let trusted = tenon.data().join("authority.pem");
        ours.write(&trusted);
        let grant = |port: u16| format!(r#"{{ host = "localhost", port = {port}, private = true }}"#);
        let ports = [good.port(), good2.port()].into_iter().chain(cases.map(|(address, ..)| address.port()));
        let grants: Vec<_> = ports.map(grant).collect();
        let grants = format!(r#""wasi:http" = [{}]"#, grants.join(", "));
        let serve = granted(&tenon, guest, &[&grants, SOCKETS_NOWHERE], "");
        let server = serve.clone().env("SSL_CERT_FILE", &trusted).start();
        let fetch = |server: &Serving, port: u16| {
            ask(server, "/fetch", &[("url", &format!("https://localhost:{port}/x"))])
        };
        for (address, version) in [(good, "HTTP/1.1"), (good2, "HTTP/2.0")] {
            let answer = fetch(&server, address.port());
            assert!(answer.contains(&format!("{version} from /x")), "{guest}: {answer}");
        }
        for (address, cause, mend) in cases {
            let answer = fetch(&server, address.port());
            assert!(answer.contains("TlsCertificateError"), "{guest}, {cause}: {answer}");
            let port = format!("localhost:{}", address.port());
            server.logged(&["a server's certificate is not believed", guest, &port, cause, mend]);
            assert_eq!(server.count_logged(&["certificate is not believed", &port]), 1);
        }
        server.stop();

        // Its twin without the variable trusts nobody here.
        let server = serve.env("SSL_CERT_FILE", "/nowhere").start();
        let answer = fetch(&server, good.port());
        assert!(answer.contains("TlsCertificateError"), "{guest}: {answer}");
        server.stop();
    }
}
