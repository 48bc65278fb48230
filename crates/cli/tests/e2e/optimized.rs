//! Optimised compositions do what they did: the same guests, the same requests, both forms side by side.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tenon_testkit::client::{Body, Reply, call, get, post, request};
use tenon_testkit::peer::echo_udp;
use tenon_testkit::{DEADLINE, Guests, Serving, Tenon, fixtures, until};

use crate::conformance::{asserted, conforming};
use crate::support::tenon;

/// A folder with one fixture guest, whose manifest says whether it is optimised.
fn app(tenon: &Tenon, guest: &str, optimize: bool) -> std::path::PathBuf {
    let folder = tenon.data().join(format!("{guest}-{optimize}"));
    fs::create_dir_all(&folder).unwrap();
    fs::copy(Guests::get(guest), folder.join("guest.wasm")).unwrap();
    let manifest = format!("optimize = {optimize}\n[component.guest]\npath = \"guest.wasm\"\n");
    fs::write(folder.join("tenon.toml"), manifest).unwrap();
    folder
}

fn both(tenon: &Tenon, guest: &str) -> [Serving; 2] {
    [false, true].map(|optimize| tenon.serve(app(tenon, guest, optimize)).start())
}

fn stop(servers: [Serving; 2]) {
    for server in servers {
        server.stop();
    }
}

/// What of a reply does not change from one request to the next.
fn told(reply: &Reply) -> (u16, Vec<String>, Vec<u8>) {
    let headers = ["content-type", "x-error-code", "allow"].map(|name| reply.header(name).to_owned());
    let body = match reply.header("x-error-code") {
        "" => reply.body.to_vec(),
        // A problem document names the request.
        _ => Vec::new(),
    };
    (reply.status.as_u16(), headers.into(), body)
}

#[track_caller]
fn same(servers: &[Serving; 2], asked: impl Fn() -> http::Request<Body>) {
    let [plain, optimized] = [0, 1].map(|at: usize| told(&call(servers[at].address(), asked())));
    let what = asked();
    assert_eq!(optimized, plain, "{} {}", what.method(), what.uri());
}

#[test]
fn every_type_comes_back_the_same() {
    let tenon = tenon();
    let servers = both(&tenon, "typed");
    for (function, value) in [
        ("bool-of", json!(true)),
        ("s8-of", json!(-128)),
        ("u32-of", json!(4294967295_u32)),
        ("u64-of", json!("18446744073709551615")),
        ("f32-of", json!(0.1)),
        ("f64-of", json!("NaN")),
        ("char-of", json!("🦀")),
        ("string-of", json!("a \"quote\", a \u{0} and a 🦀")),
        ("bytes-of", json!("AAH/")),
        ("list-of", json!(["a", "", "c"])),
        ("tuple-of", json!([7, "x", false])),
        ("color-of", json!("green")),
        ("access-of", json!(["read", "execute"])),
        ("point-of", json!({ "x": 1, "y": -2, "name": null })),
        ("shape-of", json!({ "polygon": [{ "x": 1, "y": 2, "name": "p" }] })),
        ("option-of", json!({ "some": null })),
        ("result-of", json!({ "err": "no" })),
        ("u8-of", json!(256)),
    ] {
        let json_post = || {
            let mut asked = post(&format!("/echo/{function}"), json!({ "value": value }).to_string());
            asked.headers_mut().insert("content-type", "application/json".parse().unwrap());
            asked
        };
        same(&servers, json_post);
    }
    stop(servers);
}

#[test]
fn guests_that_misbehave_misbehave_the_same() {
    let tenon = tenon();
    for (guest, paths) in [
        (
            "chaos-http",
            &[
                "/ok",
                "/target?a=b",
                "/counter",
                "/trap",
                "/panic",
                "/stack",
                "/oom",
                "/no-response",
                "/exit",
                "/alloc?mib=2",
            ][..],
        ),
        ("plain-chaos", &["/trap", "/panic", "/stack", "/oom"][..]),
        ("service-p3", &["/ok", "/at-once", "/trap-on-body", "/drip?chunks=3&ms=1", "/error"][..]),
    ] {
        let servers = both(&tenon, guest);
        for path in paths {
            // A response that breaks off is no reply at all.
            if *path != "/trap-on-body" {
                same(&servers, || get(path));
            }
        }
        if guest != "plain-chaos" {
            same(&servers, || post("/echo", vec![b'x'; 100_000]));
        }
        same(&servers, || request("DELETE", "/nowhere", tenon_testkit::client::empty()));
        stop(servers);
    }
}

#[test]
fn all_of_wasi_is_as_documented() {
    let tenon = tenon();
    let server = conforming(&tenon, true);
    for (path, least) in
        [("/clocks", 15), ("/filesystem", 66), ("/http", 60), ("/keyvalue", 25), ("/surroundings", 14)]
    {
        asserted(&server, path, least);
    }
    asserted(&server, &format!("/sockets?udp={}", echo_udp().port()), 50);
    server.stop();
}

#[test]
fn a_crash_is_shown_with_the_source_lines_of_before() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/guests/faults/src/lib.rs");
    let words = "the fixture panics on purpose";
    let line = fs::read_to_string(source).unwrap().lines().position(|line| line.contains(words)).unwrap() + 1;
    // What the guest itself prints of it does not begin so.
    let expected = format!("guests/faults/src/lib.rs:{line}");
    let tenon = tenon();
    for guest in ["plain-chaos-with-lines", "chaos-http-with-lines"] {
        let folder = app(&tenon, guest, true);
        let server = tenon.serve(&folder).start();
        let mut asked = get("/panic");
        asked.headers_mut().insert("x-request-id", guest.parse().unwrap());
        call(server.address(), asked).expect_failure(500, "guest-trap");
        let shown = until("a crash report", DEADLINE, || {
            let shown = tenon.run(tenon.data(), ["crash", "show", guest]);
            shown.status.success().then_some(shown.stdout)
        });
        assert!(shown.contains(&expected), "{guest}: no {expected} in\n{shown}");
        server.stop();

        // Without the side file there is nothing to tell it from.
        fs::remove_file(folder.join(".tenon/served/component.wasm.debug")).unwrap();
        let shown = tenon.run(tenon.data(), ["crash", "show", guest]).expect_code(0).stdout;
        assert!(!shown.contains(&expected), "{guest}:\n{shown}");
    }
}

#[test]
fn what_it_saved_is_told() {
    let tenon = tenon();
    let folder = app(&tenon, "chaos-http", false);
    let compose = |args: &[&str]| {
        tenon.run(&folder, [&["compose", "--optimize", "-o", "out.wasm"], args].concat()).expect_code(0)
    };
    let text = compose(&[]).stdout;
    for expected in ["3 -> 2 core instances", "composed", "instantiation", "out.wasm.debug", "% less"] {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
    let said = compose(&["--json"]).json();
    let saved = &said["optimized"];
    assert_eq!(saved["bytes"], said["bytes"]);
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{said:#}"));
    assert!(number(&saved["bytes"]) < number(&saved["bytes_before"]));
    assert!(number(&saved["instantiation_ns"]) > 0 && number(&saved["instantiation_before_ns"]) > 0);
    assert_eq!(saved["components"][0]["core_instances"], 2);
    assert!(Path::new(&folder).join("out.wasm.debug").is_file());

    // Nothing is optimised where nobody asked for it.
    tenon.run(&folder, ["compose", "-o", "plain.wasm"]).expect_code(0);
    assert!(!folder.join("plain.wasm.debug").exists());
    let plain = fs::read(folder.join("plain.wasm")).unwrap();
    assert_eq!(number(&saved["bytes_before"]), plain.len() as u64);

    // What leaves something open cannot be instantiated here, and is composed all the same.
    fixtures::write(&folder, "guest.wasm", fixtures::STUFF_CONSUMER);
    fs::write(
        folder.join("tenon.toml"),
        "open = [\"acme:thing/stuff\"]\n[component.guest]\npath = \"guest.wasm\"\n",
    )
    .unwrap();
    let text = compose(&[]).stdout;
    assert!(text.contains("not measured: "), "{text}");
}

/// A component that exports `name: func(x: u32) -> u32`, with a runtime in a module of its own that is the same in all.
fn on_a_runtime(name: &str, adds: u32) -> String {
    let padding = "r".repeat(400);
    format!(
        r#"(component
             (core module $runtime (memory (export "m") 1) (data (i32.const 0) "{padding}")
               (func (export "twice") (param i32) (result i32)
                 (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))
                 (i32.add (i32.mul (local.get 0) (i32.const 2)) (i32.load8_u (i32.const 0)))))
             (core module $app (import "r" "twice" (func $twice (param i32) (result i32))) (memory 1)
               (func (export "f") (param i32) (result i32)
                 (i32.add (call $twice (local.get 0)) (i32.const {adds}))))
             (core instance $r (instantiate $runtime))
             (core instance $a (instantiate $app (with "r" (instance $r))))
             (func $f (param "x" u32) (result u32) (canon lift (core func $a "f")))
             (export "{name}" (func $f)))"#
    )
}

#[test]
fn components_that_share_a_module_share_no_memory() {
    let tenon = tenon();
    let folder = tenon.data();
    for (name, adds) in [("one", 0), ("two", 1_000)] {
        fixtures::write(folder, &format!("{name}.wasm"), &on_a_runtime(name, adds));
    }
    let manifest = "[component.one]\npath = \"one.wasm\"\n[component.two]\npath = \"two.wasm\"\n";
    fs::write(folder.join("composition.toml"), manifest).unwrap();
    for (output, optimize) in [("plain.wasm", None), ("small.wasm", Some("--optimize"))] {
        let args = ["--json", "compose", "-o", output].into_iter().chain(optimize);
        let said = tenon.run(folder, args).expect_code(0).json();
        if optimize.is_some() {
            assert_eq!(said["optimized"]["shared"][0]["components"], json!(["one", "two"]), "{said}");
            assert!(said["optimized"]["instantiation_ns"].as_u64().unwrap() > 0, "{said}");
        }
        // The runtime counts its calls in its memory, which begins with an `r`: 114.
        let lines = "one(1)\none(1)\ntwo(1)\none(1)\ntwo(1)\n";
        let args = ["call", output, "--session", "--quiet"];
        let called = tenon.run_with_input(folder, args, lines).expect_code(0);
        let answers: Vec<_> = called.stdout.split_whitespace().collect();
        assert_eq!(answers, ["117", "118", "1117", "119", "1118"], "{output}");
    }
    let size = |file: &str| fs::metadata(folder.join(file)).unwrap().len();
    assert!(size("small.wasm") + 400 < size("plain.wasm"));
}

#[test]
fn several_instances_of_one_component_are_apart() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write(folder, "one.wasm", &on_a_runtime("one", 0));
    let manifest = "[component.left]\npath = \"one.wasm\"\nexport = false\n\
                    [component.right]\npath = \"one.wasm\"\nexport = false\n\
                    [exports]\nleft = { component = \"left\", export = \"one\" }\n\
                    right = { component = \"right\", export = \"one\" }\n";
    fs::write(folder.join("composition.toml"), manifest).unwrap();
    for (output, optimize) in [("plain.wasm", None), ("small.wasm", Some("--optimize"))] {
        let args = ["compose", "-o", output].into_iter().chain(optimize);
        tenon.run(folder, args).expect_code(0);
        let args = ["call", output, "--session", "--quiet"];
        let lines = "left(1)\nleft(1)\nright(1)\nleft(1)\n";
        let called = tenon.run_with_input(folder, args, lines).expect_code(0);
        let answers: Vec<_> = called.stdout.split_whitespace().collect();
        assert_eq!(answers, ["117", "118", "117", "119"], "{output}");
    }
}
