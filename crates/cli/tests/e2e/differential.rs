//! Every guest that answers over HTTP does so from a used place of the pool as from one that nobody has used: after
//! others of its own requests, after requests that do all the harm they can, and after a neighbour that had every place.
//!
//! The languages' guests and the examples are asked where they are built. What a guest sees of its own state, beside what
//! it says, is compared in `crates/engine/tests/differential.rs`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tenon_testkit::differential::{Answer, Question, as_fresh, usual};
use tenon_testkit::{Guests, Serve, Serving, Tenon, fixtures};

use crate::fresh::{OVERWRITER, deploy};
use crate::parts::{P2, P3, Part, app};
use crate::support::tenon;

/// What a guest may use up here that does harm: it has to be stopped soon.
const TIGHT: [&str; 4] = ["--cpu", "150ms", "--memory", "32MiB"];

/// Paths of the guests that misbehave on request.
const HARM: [&str; 9] = [
    "/secret-write?key=7",
    "/trap",
    "/panic",
    "/oom",
    "/stack",
    "/loop",
    "/secret-write?key=9",
    "/fields?n=500",
    "/no-such-path",
];

fn gets(targets: &[&str]) -> Vec<Question> {
    targets.iter().map(|target| Question::get(*target)).collect()
}

/// A guest that misbehaves on request, asked for what it finds of earlier requests.
fn misbehaving(guest: &str, more: &[&str]) {
    let tenon = tenon();
    let serve = tenon.serve(Guests::get(guest)).args(TIGHT);
    let finds = ["/secret-read?key=7", "/counter", "/secret-read?key=9", "/trap"];
    let questions = [gets(&finds), gets(more), usual("/ok")].concat();
    as_fresh(&serve, &questions, &gets(&HARM));
}

#[test]
fn a_guest_of_wasi_0_2() {
    misbehaving("chaos-http", &["/env", "/big?bytes=300000", "/trailers", "/drop-body-trap", "/bad-header"]);
}

#[test]
fn a_guest_of_wasi_0_3() {
    misbehaving("service-p3", &["/fields?n=3"]);
}

#[test]
fn a_plain_handler() {
    misbehaving("plain-chaos", &["/headers?n=3", "/respond?status=418&body=tea", "/big?bytes=300000"]);
}

#[test]
fn plain_handlers_of_every_form() {
    let tenon = tenon();
    for guest in ["plain-echo", "plain-iface", "plain-no-headers", "plain-root"] {
        as_fresh(&tenon.serve(Guests::get(guest)), &usual("/a/path"), &[]);
    }
    let overwriter = fixtures::write(tenon.data(), "overwriter.wasm", OVERWRITER);
    as_fresh(&tenon.serve(overwriter), &gets(&["/l12345678", "/l87654321"]), &gets(&["/p12345678"]));
    let grower = fixtures::write(tenon.data(), "grower.wasm", fixtures::TABLE_GROWER);
    as_fresh(&tenon.serve(grower), &gets(&["/"]), &[]);
}

#[test]
fn typed_exports() {
    let tenon = tenon();
    let json = |path: &str, body: &'static str| Question::post(path, "application/json", body);
    let questions = [
        json("/echo/string-of", r#"{"value": "a text"}"#),
        json("/echo/list-of", r#"{"value": ["a", "", "c"]}"#),
        json("/echo/u8-of", r#"{"value": 256}"#),
        Question::get("/openapi.json"),
    ];
    as_fresh(&tenon.serve(Guests::get("typed")), &questions, &[]);
    let questions = [
        json("/api/double", r#"{"value": 21}"#),
        json("/api/bytes", r#"{"length": 300000}"#),
        json("/api/readings", r#"{"number": 100}"#),
    ];
    let harm = [json("/api/falter", r#"{"number": 3}"#)];
    as_fresh(&tenon.serve(Guests::get("typed-async")), &questions, &harm);
}

/// `tenon serve` of a guest with what it has to be granted. A folder `data` is beside it.
fn granted(tenon: &Tenon, guest: &str, grants: &str) -> Serve {
    let folder = tenon.data().join(guest);
    fs::create_dir_all(folder.join("data")).unwrap();
    let manifest = format!(
        "[component.{guest}]\npath = \"{}\"\n[component.{guest}.grants]\n{grants}\n",
        Guests::get(guest).display()
    );
    fs::write(folder.join("tenon.toml"), manifest).unwrap();
    tenon.serve(folder)
}

const KEYVALUE: &str = r#""wasi:keyvalue" = [{ bucket = "default", access = "write" }]"#;
const HTTP: &str = r#""wasi:http" = [{ host = "nowhere.invalid" }]"#;
const SOCKETS: &str = r#""wasi:sockets" = [
  { protocol = "tcp", direction = "connect", host = "192.0.2.1", port = 1 },
  { protocol = "udp", direction = "connect", host = "192.0.2.1", port = 1 },
]"#;
const CLI: &str = r#""wasi:cli" = { environment = { A = "b" }, arguments = ["x", "y"] }"#;
const FILES: &str = r#""wasi:filesystem" = [{ directory = "data", at = "/data", access = "write" }]"#;

#[test]
fn guests_with_grants() {
    let tenon = tenon();
    let config = r#""wasi:config" = { greeting = "hello" }"#;
    for (guest, grants, targets) in [
        (
            "keeper",
            &[KEYVALUE, config, "\"wasi:logging\" = true"][..],
            &["/config?key=greeting", "/config/all", "/set?key=a&value=one", "/get?key=none", "/list"][..],
        ),
        ("drafted", &[KEYVALUE], &["/set?key=a&value=one", "/get?key=none", "/exists?key=none"]),
        (
            "secretive",
            &[r#""wasi:keyvalue" = [{ bucket = "notes", access = "write" }]"#, FILES],
            &["/look?key=1", "/look?key=2"],
        ),
        ("conforming", &[KEYVALUE, CLI, FILES, SOCKETS], &["/surroundings", "/nothing"]),
        ("reaching", &[HTTP, SOCKETS], &["/read?path=/etc/passwd", "/fetch?url=http%3a%2f%2fother.invalid"]),
    ] {
        as_fresh(&granted(&tenon, guest, &grants.join("\n")), &gets(targets), &[]);
    }
}

#[test]
fn guests_of_wasi_0_3_with_grants() {
    let tenon = tenon();
    for (guest, grants, target) in [
        ("conforming-p3", &[KEYVALUE, CLI, FILES, SOCKETS, HTTP][..], "/keyvalue"),
        ("reaching-p3", &[HTTP, SOCKETS], "/read?path=/etc/passwd"),
    ] {
        as_fresh(&granted(&tenon, guest, &grants.join("\n")), &gets(&[target, "/nothing"]), &[]);
    }
}

#[test]
fn compositions() {
    for release in [P2, P3] {
        let tenon = tenon();
        let serve = tenon.serve(app(&tenon, release, &[Part::default(), Part::default()])).args(TIGHT);
        // One of the two traps, or does not know the path.
        let told = [
            "/own?do=/no-such",
            "/theirs?do=/no-such",
            "/own?do=/read%3fpath=/front/file",
            "/theirs?do=/trap",
        ];
        let harm = ["/own?do=/trap", "/theirs?do=/oom", "/theirs?do=/stack", "/own?do=/oom"];
        as_fresh(&serve, &gets(&told), &gets(&harm));
    }
}

/// Core instances of the neighbour: as many as there are places for memories, where a pool is small.
const WASTERS: usize = 32;
/// What makes a component run on the engine with streams, futures and async functions; this one does nothing with it.
const CONCURRENT: &str = "(type (future u32))";

/// A plain handler of [`WASTERS`] core instances, of which each overwrites its memory and its tables.
fn waster(more: &str) -> String {
    let mut text = format!(
        r#"(component {more}
  (type $request' (record (field "method" string) (field "path" string) (field "body" (option (list u8)))))
  (import "request" (type $request (eq $request')))
  (type $response' (record (field "status" u16) (field "body" (list u8))))
  (import "response" (type $response (eq $response')))
  (core module $waster
    (memory 2)
    (data (i32.const 70000) "what the neighbour starts with")
    (table $all 1200 funcref)
    (elem declare func $waste)
    (func $waste (export "waste")
      (if (i32.eq (memory.grow (i32.const 30)) (i32.const -1)) (then unreachable))
      (memory.fill (i32.const 0) (i32.const 0x5e) (i32.mul (memory.size) (i32.const 65536)))
      (table.fill $all (i32.const 0) (ref.func $waste) (i32.const 1200))))
"#
    );
    let (mut imports, mut calls, mut instances, mut with) =
        (String::new(), String::new(), String::new(), String::new());
    for number in 1..WASTERS {
        write!(imports, "(import \"w{number}\" \"waste\" (func $w{number}))\n    ").unwrap();
        write!(calls, "(call $w{number})\n      ").unwrap();
        writeln!(instances, "  (core instance $w{number} (instantiate $waster))").unwrap();
        write!(with, " (with \"w{number}\" (instance $w{number}))").unwrap();
    }
    write!(
        text,
        r#"{instances}
  (core module $m
    {imports}
    (memory (export "memory") 2)
    (table $all 1200 funcref)
    (elem declare func $handle)
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func $handle (export "handle") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
      {calls}
      (table.fill $all (i32.const 0) (ref.func $handle) (i32.const 1200))
      (memory.fill (i32.const 0) (i32.const 0x5e) (i32.const 131072))
      (i32.store16 (i32.const 512) (i32.const 200))
      (i32.store (i32.const 516) (i32.const 1024))
      (i32.store (i32.const 520) (i32.const 6))
      (i32.store (i32.const 1024) (i32.const 0x74736177))
      (i32.store16 (i32.const 1028) (i32.const 0x6465))
      (i32.const 512)))
  (core instance $i (instantiate $m{with}))
  (func $handle (param "req" $request) (result $response)
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (export "handle" (func $handle)))
"#
    )
    .unwrap();
    text
}

/// The neighbour's answer: it has overwritten everything.
fn wasted(node: &Serving, host: &str) {
    match Question::get("/").with("host", host).ask(node.address()) {
        Answer::Whole(reply) => assert_eq!(reply.expect(200), "wasted"),
        broken => panic!("{broken}"),
    }
}

/// Has apps answer on a node where each is preceded by a neighbour that has every place of its engine's pool.
fn beside_a_waster(guests: &[(&'static str, &[&str])], more: &str) {
    const NEIGHBOUR: &str = "neighbour.example";
    let tenon = tenon();
    // Few enough that a neighbour has room for all memories there are: eight for each sandbox, and no fewer than it has.
    // Untraced: a request that is traced by chance has a header more.
    let start = || tenon.node().args(["--pool", "2", "--trace", "0"]).start();
    let node = start();
    let waster: PathBuf = fixtures::write(tenon.data(), "waster.wasm", &waster(more));
    deploy(&node, "neighbour", &waster, NEIGHBOUR, false);
    let mut asked = Vec::new();
    for (guest, targets) in guests {
        let host = format!("{guest}.example");
        let component: &Path = &Guests::get(guest);
        deploy(&node, guest, component, &host, false);
        asked.extend(targets.iter().map(|target| Question::get(*target).with("host", &host)));
    }
    let mut used = Vec::new();
    for question in &asked {
        wasted(&node, NEIGHBOUR);
        used.push(question.ask(node.address()));
    }
    node.stop();
    // A node that has just begun has nothing in its places.
    let fresh = |question: &Question| {
        let node = start();
        let answer = question.ask(node.address());
        node.stop();
        answer
    };
    for (question, used) in asked.iter().zip(&used) {
        assert!(used.is_good(), "{question}: {used}");
        question.compare(used, &fresh(question), || fresh(question));
    }
}

#[test]
fn a_neighbour_that_had_every_place_changes_no_answer() {
    let finds: &[&str] = &["/secret-read?key=7", "/counter"];
    beside_a_waster(&[("chaos-http", finds), ("plain-chaos", finds), ("plain-echo", &["/a"])], "");
}

#[test]
fn nor_does_one_on_the_engine_of_wasi_0_3() {
    beside_a_waster(&[("service-p3", &["/secret-read?key=7", "/counter", "/ok"])], CONCURRENT);
}
