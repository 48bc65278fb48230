//! Crash reports: what a failed request leaves behind.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tenon_testkit::client::{Body, call, get, post};
use tenon_testkit::{DEADLINE, Guests, Serving, Tenon, fixtures, until};

use crate::support::{composition, serve, tenon};

fn tagged(mut request: http::Request<Body>, id: &str) -> http::Request<Body> {
    request.headers_mut().insert("x-request-id", id.parse().unwrap());
    request
}

/// The report about a request that failed, once it is written.
#[track_caller]
fn report(tenon: &Tenon, request: &str, args: &[&str]) -> Value {
    until("a crash report", DEADLINE, || {
        let shown = tenon.run(tenon.data(), [&["crash", "show", request, "--json"], args].concat());
        shown.status.success().then(|| shown.json())
    })
}

/// Fails a request, and gives back its report.
#[track_caller]
pub(crate) fn crash(server: &Serving, target: &str, id: &str, status: u16, code: &str) -> Value {
    call(server.address(), tagged(get(target), id)).expect_failure(status, code);
    let report = report(server.tenon(), id, &[]);
    assert_eq!(report["outcome"]["code"], code);
    assert_eq!(report["request"]["id"], id);
    let line = server.logged(&[id, code]);
    assert!(line.contains(report["id"].as_str().unwrap()), "the log names the report: {line}");
    report
}

/// The functions of a stack with their source lines, innermost first: `function file:line`.
fn lines(report: &Value) -> Vec<String> {
    let stack = report["stack"].as_array().unwrap();
    let sources = stack.iter().flat_map(|frame| frame["source"].as_array().unwrap());
    sources
        .map(|at| {
            let text = |key: &str| at[key].as_str().unwrap_or("?").to_owned();
            format!("{} {}:{}", text("function"), text("file"), at["line"])
        })
        .collect()
}

/// The line of `faults/src/lib.rs` that has `text`.
pub(crate) fn line_of(text: &str) -> usize {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/guests/faults/src/lib.rs");
    fs::read_to_string(source).unwrap().lines().position(|line| line.contains(text)).unwrap() + 1
}

#[test]
fn a_panic_is_shown_with_its_source_line_and_its_words() {
    for guest in ["plain-chaos-with-lines", "chaos-http-with-lines"] {
        let server = serve(guest).start();
        let report = crash(&server, "/panic", "panic-1", 500, "guest-trap");
        let expected = format!("faults/src/lib.rs:{}", line_of("the fixture panics on purpose"));
        let lines = lines(&report);
        assert!(lines.iter().any(|line| line.ends_with(&expected)), "{guest}: no {expected} in {lines:#?}");
        let log = report["log"].to_string();
        assert!(log.contains("the fixture panics on purpose"), "{guest}: {log}");

        let shown = server.tenon().run(server.tenon().data(), ["crash", "show"]).expect_code(0).stdout;
        for text in
            [&expected, "guest-trap", "GET /panic", "panic-1", "cpu", "memory", "last lines of the guest"]
        {
            assert!(shown.contains(text), "{guest}: no {text} in\n{shown}");
        }
        server.stop();
    }
}

#[test]
fn a_stripped_component_is_shown_with_a_side_file() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    let whole = fs::read(Guests::get("plain-chaos-with-lines")).unwrap();
    fixtures::write_bytes(&folder, "app.wasm", &fixtures::stripped(&whole));
    let server = tenon.serve("app.wasm").start();
    let without = crash(&server, "/panic", "stripped-1", 500, "guest-trap");
    assert!(without["stack"].as_array().unwrap().len() > 1, "{without}");
    assert!(lines(&without).iter().all(|line| !line.contains("lib.rs")), "{without}");
    server.stop();
    let hint = tenon.run(&folder, ["crash", "show", "stripped-1"]).expect_code(0).stdout;
    assert!(hint.contains("--debug-info FILE"), "{hint}");

    let expected = format!("faults/src/lib.rs:{}", line_of("the fixture panics on purpose"));
    fixtures::write_bytes(&folder, "elsewhere", &whole);
    let named = report(&tenon, "stripped-1", &["--debug-info", "elsewhere"]);
    assert!(lines(&named).iter().any(|line| line.ends_with(&expected)), "{named}");
    fs::rename(folder.join("elsewhere"), folder.join("app.wasm.debug")).unwrap();
    let found = report(&tenon, "stripped-1", &[]);
    assert_eq!(lines(&found), lines(&named), "the file beside it is found");

    let other = Guests::get("chaos-http-with-lines");
    fs::remove_file(folder.join("app.wasm.debug")).unwrap();
    tenon
        .run(
            &folder,
            [Path::new("crash"), "show".as_ref(), "stripped-1".as_ref(), "--debug-info".as_ref(), &other],
        )
        .expect_code(1)
        .expect_stderr(&["debug-info-mismatch"]);
    tenon
        .run(
            &folder,
            [Path::new("crash"), "show".as_ref(), "stripped-1".as_ref(), "--component".as_ref(), &other],
        )
        .expect_code(1)
        .expect_stderr(&["debug-info-mismatch", "is not the component that failed"]);
}

#[test]
fn the_part_of_a_composition_is_named() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    fixtures::write(&folder, "handler.wasm", fixtures::STUFF_CONSUMER);
    fixtures::write(&folder, "maker.wasm", fixtures::STUFF_TRAP);
    composition(
        &folder,
        &[("front", "handler.wasm"), ("maker", "maker.wasm")],
        &[("front", "acme:thing/stuff", "maker")],
    );
    let server = tenon.serve(".").start();
    let report = crash(&server, "/", "parts-1", 500, "guest-trap");
    assert_eq!(report["outcome"]["component"], "maker", "{report}");
    let innermost = &report["stack"][0];
    assert_eq!(innermost["component"], "maker", "{report}");
    assert_eq!(innermost["source"][0]["function"], "boom", "{report}");
    let parts = report["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "{report}");
    server.stop();
}

#[test]
fn deadlines_and_memory_are_reported_with_what_was_used() {
    for guest in ["plain-chaos", "service-p3"] {
        let server = serve(guest).args(["--cpu", "200ms", "--memory", "16MiB", "--wall", "20s"]).start();
        let used: Vec<u64> = (1..=3)
            .map(|number| {
                let cpu = crash(&server, "/loop", &format!("cpu-{number}"), 504, "cpu-deadline");
                assert_eq!(cpu["outcome"]["limit"], "cpu 200ms");
                assert_eq!(cpu["use"]["cpu_limit_us"], 200_000);
                assert!(cpu["stack"].to_string().contains("spin_forever"), "{guest}: {cpu}");
                cpu["use"]["cpu_us"].as_u64().unwrap()
            })
            .collect();
        // Time on the processor: stopped within 50 ms of its budget, unless this machine lets nobody look for longer.
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        assert!(*least >= 200_000 && *least < 250_000 && *most < 2_000_000, "{guest}: {used:?}");
        let memory = crash(&server, "/oom", "memory-1", 500, "out-of-memory");
        assert_eq!(memory["use"]["memory_limit_bytes"], 16 << 20);
        let used = memory["use"]["memory_bytes"].as_u64().unwrap();
        assert!((1..=16 << 20).contains(&used), "{guest}: {memory}");
        server.stop();
    }
}

#[test]
fn a_guest_that_was_not_running_is_reported_without_a_stack() {
    let server = serve("chaos-http").args(["--wall", "500ms"]).start();
    let wall = crash(&server, "/sleep?ms=600000", "wall-1", 504, "wall-deadline");
    assert_eq!(wall["stack"], serde_json::json!([]));
    crash(&server, "/no-response", "silent-1", 500, "guest-no-response");
    server.stop();
}

#[test]
fn arguments_are_left_out_unless_they_are_asked_for() {
    let fail = |args: &[&str]| {
        let server = serve("plain-chaos").args(args).start();
        let mut request = tagged(post("/panic?card=4242", "card=4242"), "args-1");
        request.headers_mut().insert("x-tenant", "acme-corp".parse().unwrap());
        request.headers_mut().insert("authorization", "Bearer hidden".parse().unwrap());
        call(server.address(), request).expect_failure(500, "guest-trap");
        let report = report(server.tenon(), "args-1", &[]);
        server.stop();
        report
    };
    let headers = |report: &Value| {
        let fields = report["request"]["headers"].as_array().unwrap().clone();
        move |name: &str| fields.iter().find(|field| field["name"] == name).unwrap()["value"].clone()
    };
    let redacted = fail(&[]);
    assert_eq!(redacted["request"]["path"], "/panic");
    assert_eq!(redacted["request"]["body_bytes"], 9);
    assert_eq!(headers(&redacted)("x-tenant"), Value::Null);
    for value in ["4242", "acme-corp", "hidden"] {
        assert!(!redacted.to_string().contains(value), "{value} is in {redacted}");
    }
    let kept = fail(&["--keep-arguments"]);
    assert_eq!(kept["request"]["path"], "/panic?card=4242");
    assert_eq!(headers(&kept)("x-tenant"), "acme-corp");
    assert!(!kept.to_string().contains("hidden"), "credentials never: {kept}");
}

#[test]
fn so_many_are_kept_and_what_comes_too_fast_is_counted() {
    let server = serve("plain-chaos").args(["--crash-reports", "3"]).start();
    for _ in 0..60 {
        call(server.address(), get("/trap")).expect_failure(500, "guest-trap");
    }
    crash_after_a_while(&server, "last-1");
    let tenon = server.tenon().clone();
    server.logged(&["more requests failed than crash reports are written"]);
    // What is waiting is written before the process ends.
    server.stop();
    let listed = || tenon.run(tenon.data(), ["crash", "list", "--json"]).expect_code(0).json();
    assert_eq!(listed()["crashes"].as_array().unwrap().len(), 3);
    assert_eq!(listed()["crashes"][0]["request"], "last-1", "newest first");
    let files = fs::read_dir(tenon.data().join("crashes")).unwrap().count();
    assert_eq!(files, 4, "three reports and the folder of components");
}

/// A failure that is reported even when many came before it in the same second.
fn crash_after_a_while(server: &Serving, id: &str) {
    until("a crash report", DEADLINE, || {
        call(server.address(), tagged(get("/trap"), id)).expect_failure(500, "guest-trap");
        let shown = server.tenon().run(server.tenon().data(), ["crash", "show", id]);
        shown.status.success().then_some(())
    });
}

#[test]
fn none_are_written_where_none_are_wanted_nor_for_what_is_not_the_guests() {
    let server = serve("plain-chaos").args(["--crash-reports", "0"]).start();
    call(server.address(), get("/trap")).expect_failure(500, "guest-trap");
    let tenon = server.tenon().clone();
    server.stop();
    assert!(!tenon.data().join("crashes").exists());
    let none = tenon.run(tenon.data(), ["crash", "list"]).expect_code(0);
    assert!(none.stdout.contains("no request has failed"), "{}", none.stdout);
    tenon.run(tenon.data(), ["crash", "show"]).expect_code(1).expect_stderr(&["no-crash"]);

    let server = serve("plain-chaos").args(["--request-body", "8B"]).start();
    call(server.address(), post("/length", "far too long")).expect_failure(413, "request-too-large");
    call(server.address(), get("/ok")).expect(200);
    let tenon = server.tenon().clone();
    server.stop();
    let listed = tenon.run(tenon.data(), ["crash", "list", "--json"]).expect_code(0).json();
    assert_eq!(listed["crashes"], serde_json::json!([]));
}

#[test]
fn a_core_dump_is_written_where_it_is_asked_for() {
    let server = serve("plain-chaos").args(["--core-dumps"]).start();
    let report = crash(&server, "/panic", "dump-1", 500, "guest-trap");
    let dump = fs::read(report["core_dump"].as_str().expect("a core dump")).unwrap();
    assert!(dump.starts_with(b"\0asm"), "the core dump is a WebAssembly module");
    assert!(dump.windows(9).any(|window| window == b"corestack"), "with a stack");
    assert!(dump.windows(20).any(|window| window == b"the fixture panics o"), "and the guest's memory");
    server.stop();
    let server = serve("plain-chaos").start();
    assert_eq!(crash(&server, "/panic", "dump-2", 500, "guest-trap")["core_dump"], Value::Null);
    server.stop();
}

/// Fails a call of a typed function over HTTP with these flags, and gives back its report, how it is shown, and the dump.
fn typed_crash(args: &[&str]) -> (Value, String, Option<Vec<u8>>) {
    let tenon = tenon();
    fixtures::write(tenon.data(), "maker.wasm", fixtures::STUFF_TRAP);
    let server = tenon.serve("maker.wasm").args(args).start();
    let mut request = tagged(post("/acme:thing/stuff/go", r#"{"x": 4242}"#), "typed-1");
    let headers = request.headers_mut();
    headers.insert("content-type", "application/json".parse().unwrap());
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    headers.insert("traceparent", parent.parse().unwrap());
    call(server.address(), request).expect_failure(500, "guest-trap");
    let report = report(&tenon, "typed-1", &[]);
    server.stop();
    let shown = tenon.run(tenon.data(), ["crash", "show", "typed-1"]).expect_code(0).stdout;
    // The folder ends with this function.
    let dump = report["core_dump"].as_str().map(|file| fs::read(file).unwrap());
    (report, shown, dump)
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn a_typed_function_is_named_with_its_arguments_where_they_are_asked_for() {
    let (kept, shown, dump) = typed_crash(&["--keep-arguments", "--core-dumps"]);
    assert_eq!(kept["request"]["function"], "acme:thing/stuff.go", "{kept}");
    assert_eq!(kept["request"]["arguments"], "(4242)", "{kept}");
    assert_eq!(kept["request"]["trace_id"], TRACE, "{kept}");
    assert_eq!(kept["stack"][0]["source"][0]["function"], "boom", "{kept}");
    assert!(dump.unwrap().starts_with(b"\0asm"), "the core dump is a WebAssembly module");
    for text in ["acme:thing/stuff.go(4242)", TRACE, "dump  "] {
        assert!(shown.contains(text), "no {text} in\n{shown}");
    }

    // The twin that was asked for neither.
    let (redacted, shown, _) = typed_crash(&[]);
    assert_eq!(redacted["request"]["function"], "acme:thing/stuff.go", "{redacted}");
    assert_eq!(redacted["request"]["trace_id"], TRACE, "{redacted}");
    assert_eq!((&redacted["request"]["arguments"], &redacted["core_dump"]), (&Value::Null, &Value::Null));
    assert!(!redacted.to_string().contains("4242") && !shown.contains("4242"), "{redacted}\n{shown}");
}

#[test]
fn what_was_used_of_the_other_limits_is_reported() {
    let used = |report: &Value, limit: &str| {
        let others = report["use"]["others"].as_array().unwrap().clone();
        let of = others.into_iter().find(|other| other["limit"] == limit);
        of.unwrap_or_else(|| panic!("no {limit} in {report}"))
    };
    let server = serve("chaos-http").args(["--handles", "100"]).start();
    let handles = used(&crash(&server, "/fields?n=200", "handles-1", 500, "handle-limit"), "handles");
    assert_eq!((&handles["component"], &handles["most"]), (&"chaos-http".into(), &100.into()), "{handles}");
    assert!((90..=100).contains(&handles["used"].as_u64().unwrap()), "{handles}");
    let tenon = server.tenon().clone();
    server.stop();
    let shown = tenon.run(tenon.data(), ["crash", "show", "handles-1"]).expect_code(0).stdout;
    assert!(shown.contains(" of 100, chaos-http"), "{shown}");

    // Each component that asked the host for something has its own.
    let tenon = crate::support::tenon();
    let folder = tenon.data().to_owned();
    fs::copy(Guests::get("courier"), folder.join("courier.wasm")).unwrap();
    let manifest = "[component.courier]\npath = \"courier.wasm\"\n[component.courier.grants]\n\
        \"wasi:messaging\" = { publish = [\"orders.*\"] }\n";
    fs::write(folder.join("tenon.toml"), manifest).unwrap();
    let server = tenon.serve(".").start();
    let messages = used(&crash(&server, "/hold?count=100", "held-1", 500, "guest-trap"), "messages-held");
    assert_eq!(messages["component"], "courier");
    assert_eq!((&messages["used"], &messages["most"]), (&64.into(), &64.into()), "{messages}");
    server.stop();
}

#[test]
fn a_call_that_fails_leaves_one_too() {
    let tenon = tenon();
    let file = Guests::get("typed");
    let file = file.to_str().unwrap();
    let failed = tenon.run(tenon.data(), ["call", file, "panic()"]).expect_code(1);
    failed.expect_stderr(&["guest-trap", "tenon crash show "]);
    let shown = tenon.run(tenon.data(), ["crash", "show", "--json"]).expect_code(0).json();
    assert_eq!(shown["outcome"]["code"], "guest-trap");
    assert_eq!((&shown["request"]["method"], &shown["request"]["path"]), (&"call".into(), &"panic".into()));
    assert!(!shown["stack"].as_array().unwrap().is_empty(), "{shown}");
    assert!(shown["log"].to_string().contains("on purpose"), "what the guest said: {shown}");
    assert_eq!(shown["files"][0], file);

    // In a session, each call that fails leaves its own; asked for none, none is left.
    let lines = "panic()\nbool-of(true)\npanic()\n";
    tenon.run_with_input(tenon.data(), ["call", file, "--session"], lines).expect_code(1);
    let listed = |tenon: &Tenon| tenon.run(tenon.data(), ["crash", "list"]).expect_code(0).stdout;
    assert_eq!(listed(&tenon).matches("call panic").count(), 3, "{}", listed(&tenon));
    tenon.run(tenon.data(), ["call", file, "panic()", "--crash-reports", "0"]).expect_code(1);
    assert_eq!(listed(&tenon).matches("call panic").count(), 3, "{}", listed(&tenon));
}
