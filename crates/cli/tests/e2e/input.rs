//! Bad input: one clear diagnostic, where it is, and the mend; 1 for the person's fault, 2 for usage.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use tenon_testkit::client::{call, get};
use tenon_testkit::{Finished, Guests, Tenon, fixtures};

use crate::support::{composition, tenon};

/// Runs a command that must be refused, as text and as JSON, and checks that both say `code` and name `file`.
/// Gives back the one diagnostic with that code.
#[track_caller]
fn refused<A: AsRef<OsStr>>(tenon: &Tenon, folder: &Path, args: &[A], code: &str, file: &str) -> Value {
    let args: Vec<OsString> = args.iter().map(|arg| arg.as_ref().to_owned()).collect();
    let text = tenon.run(folder, &args).expect_code(1);
    assert!(!text.stderr.contains("panicked"), "{}", text.stderr);
    let text = text.expect_stderr(&[code, file]);

    let json = tenon.run(folder, [&args[..], &["--json".into()]].concat()).expect_code(1);
    let diagnostic = diagnostic(&json, code);
    let message = diagnostic["message"].as_str().expect("a message");
    assert!(text.stderr.contains(message), "text and JSON say the same: {message}\n{}", text.stderr);
    let said = diagnostic.to_string();
    assert!(said.contains(file), "{file} is named: {said}");
    diagnostic
}

/// The diagnostic with `code` in the JSON on standard output.
#[track_caller]
fn diagnostic(finished: &Finished, code: &str) -> Value {
    let json = finished.json();
    let list = json["diagnostics"].as_array().unwrap_or_else(|| panic!("no list of diagnostics: {json}"));
    let found = list.iter().find(|diagnostic| diagnostic["code"] == code);
    found.unwrap_or_else(|| panic!("no `{code}`: {json}")).clone()
}

#[track_caller]
fn has_mend(diagnostic: &Value) {
    assert!(diagnostic["mend"].as_str().is_some_and(|mend| mend.len() > 10), "no mend: {diagnostic}");
}

#[test]
fn a_file_that_is_no_component_is_refused_by_every_command() {
    let tenon = tenon();
    let folder = tenon.data();
    for (file, bytes, code, words) in [
        ("garbage.wasm", fixtures::GARBAGE.to_vec(), "not-wasm", "is not WebAssembly"),
        ("empty.wasm", Vec::new(), "not-wasm", "is empty"),
        ("core.wasm", fixtures::binary(fixtures::CORE_MODULE), "core-module", "is a core module"),
        ("preview1.wasm", fixtures::binary(fixtures::PREVIEW1_MODULE), "core-module", "preview 1"),
        ("text.wasm", fixtures::STUFF_PROVIDER.into(), "not-wasm", "text"),
    ] {
        fixtures::write_bytes(folder, file, &bytes);
        for command in ["serve", "compile"] {
            let diagnostic = refused(&tenon, folder, &[command, file], code, file);
            assert!(diagnostic["message"].as_str().unwrap().contains(words), "{diagnostic}");
            has_mend(&diagnostic);
        }
    }
}

#[test]
fn a_damaged_component_is_refused() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write_bytes(folder, "broken.wasm", fixtures::BROKEN_COMPONENT);
    let whole = fs::read(Guests::get("plain-root")).unwrap();
    fixtures::write_bytes(folder, "half.wasm", &whole[..whole.len() / 2]);
    let mut changed = fixtures::binary(fixtures::STUFF_PROVIDER);
    let last = changed.len() - 1;
    changed.truncate(last);
    fixtures::write_bytes(folder, "short.wasm", &changed);
    for file in ["broken.wasm", "half.wasm", "short.wasm"] {
        for command in ["serve", "compile", "inspect"] {
            let finished = tenon.run(folder, [command, file]).expect_code(1);
            assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
            finished.expect_stderr(&["error[", file]);
        }
    }
}

#[test]
fn no_prefix_of_a_component_crashes_anything() {
    let tenon = tenon();
    let folder = tenon.data();
    let whole = fixtures::binary(fixtures::STUFF_CONSUMER);
    for length in (0..whole.len()).step_by(97) {
        fixtures::write_bytes(folder, "prefix.wasm", &whole[..length]);
        let finished = tenon.run(folder, ["inspect", "prefix.wasm"]);
        // Cut between two sections, a prefix is a component of its own.
        assert!([Some(0), Some(1)].contains(&finished.status.code()), "{length}: {}", finished.stderr);
    }
}

#[test]
fn a_missing_file_is_named() {
    let tenon = tenon();
    for command in ["serve", "compile", "inspect"] {
        tenon.run(tenon.data(), [command, "nowhere.wasm"]).expect_code(1).expect_stderr(&["nowhere.wasm"]);
        let json = tenon.run(tenon.data(), [command, "nowhere.wasm", "--json"]).expect_code(1).json();
        assert!(json.to_string().contains("nowhere.wasm"), "{json}");
    }
}

#[test]
fn a_folder_without_a_manifest_is_named() {
    let tenon = tenon();
    fs::create_dir(tenon.data().join("bare")).unwrap();
    tenon.run(tenon.data(), ["serve", "bare"]).expect_code(1).expect_stderr(&[
        "bare",
        "composition.toml",
        "mend",
    ]);
    // `build` takes a component's source as well, so it may ask for that instead.
    tenon.run(tenon.data(), ["build", "bare"]).expect_code(1).expect_stderr(&["bare", "mend"]);
}

#[test]
fn wrong_usage_ends_with_2() {
    let tenon = tenon();
    let guest = Guests::get("plain-root");
    let guest = guest.to_str().unwrap();
    for args in [
        &["--no-such-flag"][..],
        &["nonsense"],
        &["serve", guest, "--no-such-flag"],
        &["serve", guest, "--cpu", "banana"],
        &["serve", guest, "--memory", "12"],
        &["serve", guest, "--listen", "nowhere"],
        &["serve", guest, "--concurrency", "-1"],
        &["compile"],
        &["inspect"],
    ] {
        let finished = tenon.run(tenon.data(), args).expect_code(2);
        assert!(!finished.stderr.is_empty(), "{args:?} says nothing");
    }
}

#[test]
fn an_address_in_use_is_named() {
    let tenon = tenon();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = tenon.serve(Guests::get("plain-root")).listen(&address).refused().expect_code(1);
    refused.expect_stderr(&[&address]);
}

#[test]
fn a_composition_whose_types_do_not_match_shows_both_sides() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write(folder, "consumer.wasm", fixtures::STUFF_CONSUMER);
    fixtures::write(folder, "provider.wasm", fixtures::STUFF_PROVIDER_OF_ANOTHER_TYPE);
    composition(
        folder,
        &[("consumer", "consumer.wasm"), ("provider", "provider.wasm")],
        &[("consumer", "acme:thing/stuff", "provider")],
    );
    let args = ["compose", "--config", "composition.toml", "-o", "out.wasm"];
    let diagnostic = refused(&tenon, folder, &args, "type-mismatch", "composition.toml");
    let notes = diagnostic["notes"].to_string();
    assert!(notes.contains("f64") && notes.contains("u32"), "both sides: {notes}");
    assert_eq!(diagnostic["at"]["line"], 4, "the wire is on line 4: {diagnostic}");
    assert!(!folder.join("out.wasm").exists());
}

#[test]
fn a_cycle_is_shown() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write(folder, "left.wasm", fixtures::RING_LEFT);
    fixtures::write(folder, "right.wasm", fixtures::RING_RIGHT);
    composition(
        folder,
        &[("left", "left.wasm"), ("right", "right.wasm")],
        &[("left", "acme:ring/right", "right"), ("right", "acme:ring/left", "left")],
    );
    let args = ["compose", "--config", "composition.toml", "-o", "out.wasm"];
    let diagnostic = refused(&tenon, folder, &args, "cycle", "composition.toml");
    let said = diagnostic.to_string();
    assert!(said.contains("left") && said.contains("right"), "{said}");
    assert!(diagnostic["at"]["line"].is_u64() && diagnostic["at"]["column"].is_u64(), "{diagnostic}");
}

#[test]
fn an_import_without_a_wire_is_refused() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write(folder, "consumer.wasm", fixtures::STUFF_CONSUMER);
    composition(folder, &[("consumer", "consumer.wasm")], &[]);
    let args = ["compose", "--config", "composition.toml", "-o", "out.wasm"];
    let diagnostic = refused(&tenon, folder, &args, "unsatisfied-import", "acme:thing/stuff");
    has_mend(&diagnostic);
}

#[test]
fn a_mistake_in_the_manifest_has_a_line_and_a_column() {
    let tenon = tenon();
    let folder = tenon.data();
    let provider = "[component.provider]\npath = \"provider.wasm\"\n";
    fixtures::write(folder, "provider.wasm", fixtures::STUFF_PROVIDER);
    for (text, code, line, column) in [
        (format!("{provider}pahts = 1\n"), "unknown-key", 3, 1),
        (format!("{provider}\n[limits]\nwalls = \"1s\"\n"), "unknown-key", 5, 1),
        (
            format!("{provider}[component.provider.imports]\n\"acme:a/b\" = {{ component = \"nobody\" }}\n"),
            "unknown-component",
            4,
            28,
        ),
        (format!("{provider}\n[limits]\ncpu = \"banana\"\n"), "manifest-value", 5, 7),
        (format!("{provider}oops oops\n"), "manifest-syntax", 3, 6),
    ] {
        fs::write(folder.join("composition.toml"), &text).unwrap();
        let args = ["compose", "--config", "composition.toml", "-o", "out.wasm"];
        let diagnostic = refused(&tenon, folder, &args, code, "composition.toml");
        let at = &diagnostic["at"];
        assert_eq!((&at["line"], &at["column"]), (&line.into(), &column.into()), "{diagnostic}\n{text}");
        has_mend(&diagnostic);
        let shown = tenon.run(folder, args).stderr;
        assert!(shown.contains(&format!("composition.toml:{line}:{column}")), "{shown}");
    }
}

#[test]
fn a_component_that_is_not_there_is_named_with_the_place_it_was_named_at() {
    let tenon = tenon();
    let folder = tenon.data();
    composition(folder, &[("provider", "nowhere.wasm")], &[]);
    let finished =
        tenon.run(folder, ["compose", "--config", "composition.toml", "-o", "out.wasm"]).expect_code(1);
    finished.expect_stderr(&["nowhere.wasm", "composition.toml:2"]);
    let finished =
        tenon.run(folder, ["compose", "--config", "no-such.toml", "-o", "out.wasm"]).expect_code(1);
    finished.expect_stderr(&["no-such.toml"]);
}

#[test]
fn what_fits_is_composed_and_served() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write(folder, "consumer.wasm", fixtures::STUFF_CONSUMER);
    fixtures::write(folder, "provider.wasm", fixtures::STUFF_PROVIDER);
    composition(
        folder,
        &[("consumer", "consumer.wasm"), ("provider", "provider.wasm")],
        &[("consumer", "acme:thing/stuff", "provider")],
    );
    let compose = |out: &str| {
        tenon.run(folder, ["compose", "--config", "composition.toml", "-o", out]).expect_code(0);
        fs::read(folder.join(out)).unwrap()
    };
    assert_eq!(compose("one.wasm"), compose("two.wasm"), "the same input gives the same bytes");

    let inspected = tenon.run(folder, ["inspect", "one.wasm"]).expect_code(0).stdout;
    assert!(inspected.contains("consumer") && inspected.contains("provider"), "{inspected}");
    tenon.run(folder, ["inspect", "one.wasm", "--json"]).expect_code(0).json();
    let wit = tenon.run(folder, ["inspect", "one.wasm", "--wit"]).expect_code(0).stdout;
    assert!(wit.contains("record request") && !wit.contains("import acme:thing"), "{wit}");

    for served in ["one.wasm", "."] {
        let server = tenon.serve(folder.join(served)).start();
        assert_eq!(call(server.address(), get("/")).expect(200), "B");
        server.stop();
    }
}

#[test]
fn files_on_the_command_line_stand_in_by_name() {
    let tenon = tenon();
    let folder = tenon.data();
    fs::create_dir(folder.join("elsewhere")).unwrap();
    fixtures::write(&folder.join("elsewhere"), "consumer.wasm", fixtures::STUFF_CONSUMER);
    fixtures::write(&folder.join("elsewhere"), "provider.wasm", fixtures::STUFF_PROVIDER);
    composition(
        folder,
        &[("consumer", "build/consumer.wasm"), ("provider", "build/provider.wasm")],
        &[("consumer", "acme:thing/stuff", "provider")],
    );
    let command = ["compose", "--config", "composition.toml", "-o", "out.wasm"];
    let files = ["elsewhere/consumer.wasm", "elsewhere/provider.wasm"];
    tenon.run(folder, [&command[..], &files].concat()).expect_code(0);
    let server = tenon.serve(folder.join("out.wasm")).start();
    assert_eq!(call(server.address(), get("/")).expect(200), "B");
    server.stop();

    // A file that stands in for nothing is a mistake, not a silent no-op.
    fixtures::write(folder, "stray.wasm", fixtures::STUFF_PROVIDER);
    let files = ["elsewhere/consumer.wasm", "elsewhere/provider.wasm", "stray.wasm"];
    tenon.run(folder, [&command[..], &files].concat()).expect_code(1).expect_stderr(&["stray.wasm"]);
}

#[test]
fn an_import_left_open_is_composed_and_then_not_served() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write(folder, "consumer.wasm", fixtures::STUFF_CONSUMER);
    let manifest = "open = [\"acme:thing/*\"]\n[component.consumer]\npath = \"consumer.wasm\"\n";
    fs::write(folder.join("composition.toml"), manifest).unwrap();
    tenon.run(folder, ["compose", "--config", "composition.toml", "-o", "open.wasm"]).expect_code(0);
    let refused = tenon.serve(folder.join("open.wasm")).refused().expect_code(1);
    refused.expect_stderr(&["unsatisfied-import", "acme:thing/stuff"]);
}

#[test]
fn limits_in_the_manifest_are_enforced() {
    let tenon = tenon();
    let folder = tenon.data();
    fs::copy(Guests::get("plain-chaos"), folder.join("chaos.wasm")).unwrap();
    let manifest = "[component.chaos]\npath = \"chaos.wasm\"\n\
                    [limits]\ncpu = \"200ms\"\nmemory = \"16MiB\"\nrequest-body = \"1KiB\"\n";
    fs::write(folder.join("composition.toml"), manifest).unwrap();
    let server = tenon.serve(folder).start();
    call(server.address(), get("/loop")).expect_failure(504, "cpu-deadline");
    call(server.address(), get("/oom")).expect_failure(500, "out-of-memory");
    let large = tenon_testkit::client::post("/length", vec![0; 1025]);
    call(server.address(), large).expect_failure(413, "request-too-large");
    // A part of a composition is named as it is in the manifest.
    let mut request = get("/trap");
    request.headers_mut().insert("x-request-id", "part-1".parse().unwrap());
    call(server.address(), request).expect_failure(500, "guest-trap");
    server.logged(&["part-1", "chaos", "faults::trap"]);
    server.stop();
}
