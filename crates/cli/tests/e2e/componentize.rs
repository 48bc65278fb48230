//! Core modules: named wherever a component is expected, and made components of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tenon_testkit::client::{call, get};
use tenon_testkit::fixtures;

use crate::support::{composition, tenon};

/// What rustc makes of `source`.
fn rustc(folder: &Path, name: &str, source: &str, args: &[&str]) -> PathBuf {
    let (input, output) = (folder.join(format!("{name}.rs")), folder.join(format!("{name}.wasm")));
    fs::write(&input, source).unwrap();
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "-Copt-level=s", "-o"])
        .args([&output, &input])
        .args(args)
        .output()
        .expect("rustc can be started");
    assert!(
        compiled.status.success(),
        "rustc (`rustup target add` the target if it is missing):\n{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    output
}

#[test]
fn every_command_that_wants_a_component_names_a_module_and_the_mend() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write(folder, "command.wasm", fixtures::PREVIEW1_MODULE);
    fixtures::write(folder, "bare.wasm", fixtures::CORE_MODULE);
    fixtures::write(folder, "old.wasm", r#"(module (import "wasi_unstable" "fd_write" (func)))"#);
    fixtures::write(folder, "browser.wasm", r#"(module (import "env" "emscripten_resize_heap" (func)))"#);
    for (file, what, mend) in [
        ("command.wasm", "WASI preview 1, a command", "tenon componentize"),
        ("bare.wasm", "a core module without WASI", "--wit DIR --world NAME"),
        ("old.wasm", "WASI preview 0", "tenon build"),
        ("browser.wasm", "Emscripten", "wasm32-wasi"),
    ] {
        composition(folder, &[("only", file)], &[]);
        for args in
            [&["serve", file][..], &["compile", file], &["inspect", file], &["compose", "-o", "out.wasm"]]
        {
            tenon.run(folder, args).expect_code(1).expect_stderr(&["core-module", file, what, mend]);
        }
    }
}

#[test]
fn an_old_snapshot_of_wasi_is_named_with_what_is_offered() {
    let tenon = tenon();
    let folder = tenon.data();
    for (imports, words) in [
        (
            &["wasi:http/types@0.2.0-rc-2023-12-05"][..],
            &["0.2.0-rc-2023-12-05", "0.2.12", "wasm32-wasip2"][..],
        ),
        (&["wasi:clocks/monotonic-clock@0.3.0-rc-2025-09-16"], &["0.3.0-rc-2025-09-16", "0.3.0", "wasip3"]),
        (
            &["wasi:io/poll@0.2.0-rc-2023-11-10", "wasi:io/error@0.2.3"],
            &["mixes", "0.2.0-rc-2023-11-10", "0.2.3"],
        ),
    ] {
        let imports: String = imports.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
        fixtures::write(folder, "old.wasm", &format!("(component {imports})"));
        composition(folder, &[("only", "old.wasm")], &[]);
        for args in [&["serve", "old.wasm"][..], &["compile", "old.wasm"], &["compose", "-o", "out.wasm"]] {
            let words = [&["wasi-snapshot", "old.wasm"], words].concat();
            tenon.run(folder, args).expect_code(1).expect_stderr(&words);
        }
        tenon.run(folder, ["inspect", "old.wasm"]).expect_code(0);
    }
}

#[test]
fn a_module_of_preview_1_is_adapted_and_serves() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write(folder, "old.wasm", fixtures::PREVIEW1_HANDLER);
    fs::create_dir(folder.join("wit")).unwrap();
    fs::write(folder.join("wit/old.wit"), fixtures::PREVIEW1_HANDLER_WIT).unwrap();
    let args = ["componentize", "old.wasm", "--wit", "wit", "--world", "handler", "--json"];
    let made = tenon.run(folder, args).expect_code(0).json();
    assert_eq!(made["adapter"], "reactor");
    assert_eq!(made["exports"], serde_json::json!(["handle"]));
    assert_eq!(made["file"], "old.component.wasm");
    let server = tenon.serve("old.component.wasm").start();
    assert_eq!(call(server.address(), get("/")).expect(200), "ok\n");
    server.logged(&["adapted", "stderr"]);
    server.stop();
}

#[test]
fn what_rustc_makes_for_preview_1_becomes_a_component() {
    let tenon = tenon();
    let folder = tenon.data();
    let program = r#"fn main() { println!("hello {}", std::env::args().count()); }"#;
    rustc(folder, "program", program, &["--target", "wasm32-wasip1"]);
    tenon
        .run(folder, ["inspect", "program.wasm"])
        .expect_code(1)
        .expect_stderr(&["core-module", "a command"]);
    let args = ["componentize", "program.wasm", "-o", "out/made.wasm", "--json"];
    let made = tenon.run(folder, args).expect_code(0).json();
    assert_eq!(made["adapter"], "command");
    let exports = made["exports"].to_string();
    assert!(exports.contains("wasi:cli/run@0.2."), "{exports}");
    tenon.run(folder, ["inspect", "out/made.wasm"]).expect_code(0);
    tenon.run(folder, ["compile", "out/made.wasm"]).expect_code(0);
}

#[test]
fn what_rustc_makes_without_wasi_becomes_a_component_of_its_world() {
    let tenon = tenon();
    let folder = tenon.data();
    let library =
        r#"#[unsafe(no_mangle)] pub extern "C" fn add(a: u32, b: u32) -> u32 { a.wrapping_add(b) }"#;
    rustc(folder, "library", library, &["--target", "wasm32-unknown-unknown", "--crate-type", "cdylib"]);
    fs::write(
        folder.join("a.wit"),
        "package a:b; world sum { export add: func(a: u32, b: u32) -> u32; } \
         world more { export add: func(a: u32, b: u32) -> u32; export subtract: func(a: u32, b: u32) -> u32; }",
    )
    .unwrap();
    let componentize =
        |world: &[&str]| tenon.run(folder, [&["componentize", "library.wasm"], world].concat());
    componentize(&[]).expect_code(1).expect_stderr(&["nothing-exported", "--wit DIR --world NAME", "add"]);
    componentize(&["--wit", "a.wit"]).expect_code(1).expect_stderr(&["world-unclear", "sum, more"]);
    componentize(&["--wit", "a.wit", "--world", "more"])
        .expect_code(1)
        .expect_stderr(&["missing-export", "subtract"]);
    assert!(!folder.join("library.component.wasm").exists(), "nothing is written that was refused");
    let made = componentize(&["--wit", "a.wit", "--world", "sum", "--json"]).expect_code(0).json();
    assert_eq!((&made["exports"], &made["imports"]), (&serde_json::json!(["add"]), &serde_json::json!([])));
    tenon.run(folder, ["inspect", "library.component.wasm"]).expect_code(0);
    tenon
        .run(folder, ["componentize", "library.component.wasm"])
        .expect_code(1)
        .expect_stderr(&["already-component"]);
}
