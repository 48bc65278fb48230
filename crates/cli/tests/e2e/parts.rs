//! In a composition each part has its own grants and its own share of each limit: a hostile neighbour can use neither.
//!
//! A front and a back can do the same things, and either does them when it is told to; what they were granted differs.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use tenon_testkit::peer::Peer;
use tenon_testkit::{DEADLINE, Guests, Serve, Serving, Tenon, until};

use crate::crashes::{crash, line_of};
use crate::reach::{ask, http};
use crate::support::tenon;

/// What a part has to be granted to be served at all, with values that are nowhere to be found.
type Nowhere = &'static [(&'static str, &'static str)];

const SOCKETS: (&str, &str) =
    ("wasi:sockets", r#"[{ protocol = "tcp", direction = "connect", host = "192.0.2.1", port = 1 }]"#);
const HTTP: (&str, &str) = ("wasi:http", r#"[{ host = "nowhere.invalid" }]"#);
const NOWHERE: Nowhere = &[
    SOCKETS,
    HTTP,
    ("wasi:keyvalue", r#"[{ bucket = "nowhere", access = "write" }]"#),
    ("wasi:config", r#"{ nothing = "nothing" }"#),
    ("wasi:messaging", r#"{ publish = ["nowhere"] }"#),
];
const NOWHERE_P3: Nowhere = &[SOCKETS, HTTP];

/// The guests of one release of WASI.
#[derive(Clone, Copy)]
pub(crate) struct Release {
    suffix: &'static str,
    joined_by: &'static str,
    nowhere: Nowhere,
}

pub(crate) const P2: Release = Release { suffix: "", joined_by: "fixture:parts/neighbour", nowhere: NOWHERE };
pub(crate) const P3: Release =
    Release { suffix: "-p3", joined_by: "fixture:parts-async/neighbour", nowhere: NOWHERE_P3 };
const BOTH: [Release; 2] = [P2, P3];

/// The parts: what each is called, and where the front is asked to have it act.
const FRONT: usize = 0;
const BACK: usize = 1;
const NAMES: [&str; 2] = ["front", "back"];
const PATHS: [&str; 2] = ["/own", "/theirs"];

/// What the manifest says of one part.
#[derive(Clone, Default)]
pub(crate) struct Part {
    /// Lines of grants, if any: what else it needs to be granted is nowhere.
    grant: Option<String>,
    /// A line of limits, if any.
    limit: Option<String>,
    /// The package that is not granted, not even nowhere.
    without: Option<&'static str>,
}

impl Part {
    pub(crate) fn granted(grant: &str) -> Self {
        Self { grant: Some(grant.to_owned()), ..Self::default() }
    }
}

/// `tenon serve` of a front and a back.
fn joined(tenon: &Tenon, release: Release, parts: &[Part; 2]) -> Serve {
    tenon.serve(app(tenon, release, parts))
}

/// The folder of a front and a back.
pub(crate) fn app(tenon: &Tenon, release: Release, parts: &[Part; 2]) -> PathBuf {
    let folder = tenon.data().join("app");
    for name in NAMES {
        let data = folder.join(format!("{name}-data"));
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("file"), name).unwrap();
        fs::copy(Guests::get(&format!("part-{name}{}", release.suffix)), folder.join(format!("{name}.wasm")))
            .unwrap();
    }
    let mut manifest = String::new();
    for (name, part) in NAMES.into_iter().zip(parts) {
        let grant = part.grant.as_deref().unwrap_or_default();
        writeln!(manifest, "[component.{name}]\npath = \"{name}.wasm\"\n[component.{name}.grants]\n{grant}")
            .unwrap();
        for (package, value) in release.nowhere {
            if !grant.contains(package) && part.without != Some(package) {
                writeln!(manifest, "\"{package}\" = {value}").unwrap();
            }
        }
        let limit = part.limit.as_deref().unwrap_or_default();
        writeln!(manifest, "[component.{name}.limits]\n{limit}").unwrap();
    }
    writeln!(manifest, "[component.front.imports]\n\"{}\" = {{ component = \"back\" }}", release.joined_by)
        .unwrap();
    fs::write(folder.join("tenon.toml"), manifest).unwrap();
    folder
}

/// The answer when one of the two, or one after the other, is told to do this.
fn told(server: &Serving, path: &str, what: &str) -> String {
    ask(server, path, &[("do", what)])
}

/// Each of two parts has a grant of this kind for something else. It can do with it what it is for, and neither can what
/// only the other was granted, whether it has a grant of its own of that kind or not.
fn neither_uses_the_others(release: Release, grants: [&str; 2], doing: [&str; 2]) {
    let tenon = tenon();
    let does = |server: &Serving, who: usize, whose: usize, can: bool| {
        let answer = told(server, PATHS[who], doing[whose]);
        let expected = if can { "ok: " } else { "refused: " };
        let (who, what) = (NAMES[who], doing[whose]);
        assert!(answer.starts_with(expected), "{who}{}: {what}: {answer}", release.suffix);
    };
    let granted = grants.map(Part::granted);
    let server = joined(&tenon, release, &granted).start();
    for (who, other) in [(FRONT, BACK), (BACK, FRONT)] {
        does(&server, who, who, true);
        does(&server, who, other, false);
    }
    server.stop();
    for (who, other) in [(FRONT, BACK), (BACK, FRONT)] {
        let mut parts = granted.clone();
        parts[other] = Part::default();
        let server = joined(&tenon, release, &parts).start();
        does(&server, who, who, true);
        does(&server, other, who, false);
        server.stop();
    }
}

#[test]
fn directories() {
    let grants = NAMES.map(|name| {
        format!(r#""wasi:filesystem" = [{{ directory = "{name}-data", at = "/{name}", access = "write" }}]"#)
    });
    for release in BOTH {
        neither_uses_the_others(
            release,
            grants.each_ref().map(String::as_str),
            ["/read?path=/front/file", "/read?path=/back/file"],
        );
    }
}

#[test]
fn directories_of_one_name() {
    let grants =
        NAMES.map(|name| format!(r#""wasi:filesystem" = [{{ directory = "{name}-data", at = "/data" }}]"#));
    for release in BOTH {
        let tenon = tenon();
        let server = joined(&tenon, release, &grants.each_ref().map(|grant| Part::granted(grant))).start();
        for (name, path) in NAMES.into_iter().zip(PATHS) {
            assert_eq!(told(&server, path, "/read?path=/data/file"), format!("ok: {name}"));
        }
        server.stop();
    }
}

#[test]
fn sockets() {
    let peers = [Peer::start(), Peer::start()];
    let grants = peers.each_ref().map(|peer| {
        let port = peer.address().port();
        format!(
            r#""wasi:sockets" = [{{ protocol = "tcp", direction = "connect", host = "127.0.0.1", port = {port} }}]"#
        )
    });
    let doing = peers.each_ref().map(|peer| format!("/connect?to={}", peer.address()));
    for release in BOTH {
        neither_uses_the_others(
            release,
            grants.each_ref().map(String::as_str),
            doing.each_ref().map(String::as_str),
        );
    }
}

#[test]
fn servers() {
    let peers = [Peer::start(), Peer::start()];
    let grants = peers.each_ref().map(|peer| http(peer.address(), ", private = true"));
    let doing = peers.each_ref().map(|peer| format!("/fetch?url={}", peer.url("/")));
    for release in BOTH {
        neither_uses_the_others(
            release,
            grants.each_ref().map(String::as_str),
            doing.each_ref().map(String::as_str),
        );
    }
    assert!(peers.iter().all(|peer| peer.heads().len() == 4), "each was asked by whom it was granted to");
}

#[test]
fn variables() {
    let grants = NAMES.map(|name| format!(r#""wasi:cli" = {{ environment = {{ {name} = "mine" }} }}"#));
    for release in BOTH {
        neither_uses_the_others(
            release,
            grants.each_ref().map(String::as_str),
            ["/variable?name=front", "/variable?name=back"],
        );
    }
}

#[test]
fn buckets() {
    let grants =
        NAMES.map(|name| format!(r#""wasi:keyvalue" = [{{ bucket = "{name}", access = "write" }}]"#));
    neither_uses_the_others(
        P2,
        grants.each_ref().map(String::as_str),
        ["/set?bucket=front&key=k", "/set?bucket=back&key=k"],
    );
}

#[test]
fn configuration() {
    let grants = NAMES.map(|name| format!(r#""wasi:config" = {{ {name} = "mine" }}"#));
    neither_uses_the_others(
        P2,
        grants.each_ref().map(String::as_str),
        ["/config?key=front", "/config?key=back"],
    );
}

#[test]
fn topics() {
    let grants = NAMES.map(|name| format!(r#""wasi:messaging" = {{ publish = ["{name}.*"] }}"#));
    neither_uses_the_others(
        P2,
        grants.each_ref().map(String::as_str),
        ["/send?topic=front.new", "/send?topic=back.new"],
    );
}

#[test]
fn what_only_the_neighbour_was_granted_lets_nobody_in() {
    let tenon = tenon();
    for release in BOTH {
        for (package, _) in release.nowhere {
            for (who, other) in [(FRONT, BACK), (BACK, FRONT)] {
                let mut parts = [Part::default(), Part::default()];
                parts[who].without = Some(package);
                let refused = joined(&tenon, release, &parts).refused().expect_code(1);
                let table = format!("[component.{}.grants]", NAMES[who]);
                let refused = refused.expect_stderr(&["import-not-granted", package, &table]);
                let others = format!("[component.{}.grants]", NAMES[other]);
                assert!(!refused.stderr.contains(&others), "{}", refused.stderr);
            }
        }
    }
}

/// More than any part may do in a request of these tests.
const TOO_MANY: u32 = 60;

/// Whoever of two parts comes first does what it can until its own limit ends that; the other still has all of its own.
fn each_has_its_own_share(release: Release, limit: &str, values: [&str; 2], grant: &str, doing: &str) {
    let tenon = tenon();
    let parts =
        values.map(|value| Part { limit: Some(format!("{limit} = {value}")), ..Part::granted(grant) });
    let server = joined(&tenon, release, &parts).start();
    let alone = PATHS.map(|path| told(&server, path, doing).parse::<u32>().unwrap());
    let [front, back] = alone;
    assert!(0 < front && front < back && back < TOO_MANY, "{limit}{}: {alone:?}", release.suffix);
    assert_eq!(told(&server, "/own-first", doing), format!("{front} {back}"), "{limit}{}", release.suffix);
    assert_eq!(told(&server, "/theirs-first", doing), format!("{back} {front}"), "{limit}{}", release.suffix);
    for name in NAMES {
        server.logged(&["ran into its limit", limit, name]);
    }
    server.stop();
}

#[test]
fn open_files_are_each_parts_own() {
    let grant = r#""wasi:filesystem" = [{ directory = "front-data", at = "/data" }]"#;
    let doing = format!("/open-many?path=/data/file&n={TOO_MANY}");
    for release in BOTH {
        each_has_its_own_share(release, "open-files", ["8", "20"], grant, &doing);
    }
}

#[test]
fn outbound_requests_are_each_parts_own() {
    let peer = Peer::start();
    let grant = http(peer.address(), ", private = true");
    let doing = format!("/fetch-many?url={}&n={TOO_MANY}", peer.url("/"));
    for release in BOTH {
        each_has_its_own_share(release, "outbound-requests", ["3", "5"], &grant, &doing);
    }
}

#[test]
fn outbound_connections_are_each_parts_own() {
    let peer = Peer::start();
    let port = peer.address().port();
    let grant = format!(
        r#""wasi:sockets" = [{{ protocol = "tcp", direction = "connect", host = "127.0.0.1", port = {port} }}]"#
    );
    let doing = format!("/connect-many?to={}&n={TOO_MANY}", peer.address());
    for release in BOTH {
        each_has_its_own_share(release, "outbound-connections", ["2", "5"], &grant, &doing);
    }
}

#[test]
fn key_value_bytes_are_each_parts_own() {
    // Even of the same bucket.
    let grant = r#""wasi:keyvalue" = [{ bucket = "shared", access = "write" }]"#;
    let doing = format!("/set-many?bucket=shared&n={TOO_MANY}");
    each_has_its_own_share(P2, "key-value-bytes", [r#""8KiB""#, r#""20KiB""#], grant, &doing);
}

/// Lines of a part that stays below its limit, though all of them are more than the other's.
const FEW_LINES: usize = 30;

#[test]
fn log_bytes_are_each_parts_own() {
    let small = Part { limit: Some("log-bytes = \"1KiB\"".to_owned()), ..Part::default() };
    let large = Part { limit: Some("log-bytes = \"16KiB\"".to_owned()), ..Part::default() };
    for release in BOTH {
        for (loud, other) in [(FRONT, BACK), (BACK, FRONT)] {
            let tenon = tenon();
            let mut parts = [large.clone(), large.clone()];
            parts[loud] = small.clone();
            let server = joined(&tenon, release, &parts).start();
            let line = |who: usize| format!("{}-{}", NAMES[who], "x".repeat(80));
            for (who, lines) in [(loud, 1_000), (other, FEW_LINES)] {
                let what = format!("/print?n={lines}&text={}", line(who));
                assert_eq!(told(&server, PATHS[who], &what), "ok: printed");
            }
            server.logged(&[
                "more than it may log",
                NAMES[loud],
                "limit=\"log-bytes\"",
                "value=1024",
                "dropped=",
            ]);
            let written = || server.count_logged(&[&line(other)]);
            until("all lines of the other", DEADLINE, || (written() == FEW_LINES).then_some(()));
            let written = server.count_logged(&[&line(loud)]);
            // Those of two seconds, where one ended in between.
            assert!((1..=24).contains(&written), "{written} lines of 86 bytes within 1 KiB a second");
            server.stop();
        }
    }
}

#[test]
fn a_failure_in_either_part_is_shown_with_the_part_and_its_source_line() {
    let source = "faults/src/lib.rs";
    let line = line_of("the fixture panics on purpose");
    for suffix in ["-with-lines", "-for-debugging"] {
        let tenon = tenon();
        let server = joined(&tenon, Release { suffix, ..P2 }, &[Part::default(), Part::default()]).start();
        for (name, path) in NAMES.into_iter().zip(PATHS) {
            let target = format!("{path}?do=/panic");
            let report = crash(&server, &target, &format!("{name}{suffix}"), 500, "guest-trap");
            assert_eq!(report["outcome"]["component"], name, "{suffix}: {report}");
            // Each place of the stack that has a line: the component, and the end of the file's name and the line.
            let is_there = |component: &str, file: &str, line: Option<usize>| {
                report["stack"].as_array().unwrap().iter().any(|frame| {
                    let mut sources = frame["source"].as_array().unwrap().iter();
                    frame["component"] == component
                        && sources.any(|at| {
                            at["file"].as_str().is_some_and(|found| found.ends_with(file))
                                && line.map_or(at["line"].is_u64(), |line| at["line"] == line)
                        })
                })
            };
            assert!(
                is_there(name, source, Some(line)),
                "{suffix}: no {source}:{line} of {name} in {report:#}"
            );
            assert!(is_there(name, &format!("part-{name}/src/lib.rs"), None), "{suffix}: {report:#}");
            // Who called is told apart too, though it has no line of its own there.
            let stack = report["stack"].as_array().unwrap();
            assert!(stack.iter().any(|frame| frame["component"] == "front"), "{suffix}: {report:#}");
        }
        server.stop();
    }
}
