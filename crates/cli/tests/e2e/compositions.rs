//! Compositions as a person makes them: function by function, from WAC files, held to a lock, drawn.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tenon_testkit::client::{call, get};
use tenon_testkit::{DEADLINE, fixtures, until};

use crate::failures::tagged;
use crate::support::{composition, tenon};

/// [`fixtures::STUFF_PROVIDER`] under other names: `acme:numbers/count` with `next`.
fn renamed_provider() -> String {
    fixtures::STUFF_PROVIDER
        .replace("acme:thing/stuff", "acme:numbers/count@1.2.0")
        .replace("(instance $stuff (export \"go\"", "(instance $stuff (export \"next\"")
}

/// Exports `acme:thing/stuff`, whose function needs six pages more than it starts with.
const GROWER: &str = r#"
(component
  (core module $m
    (memory 1)
    ;; It calls itself, so that the engine cannot put all of it into its caller.
    (func $go (export "go") (param i32) (result i32)
      (if (i32.ne (local.get 0) (i32.const 1000))
        (then (return (i32.sub (call $go (i32.const 1000)) (i32.const 935)))))
      (if (i32.eq (memory.grow (i32.const 6)) (i32.const -1)) (then unreachable))
      (i32.add (local.get 0) (i32.const 1))))
  (core instance $i (instantiate $m))
  (func $go (param "x" u32) (result u32) (canon lift (core func $i "go")))
  (instance $stuff (export "go" (func $go)))
  (export "acme:thing/stuff" (instance $stuff)))
"#;

const MANIFEST: &str = r#"name = "shop"

[component.front]
path = "front.wasm"
[component.front.imports]
"acme:thing/stuff" = { component = "numbers", export = "next" }

[component.numbers]
path = "numbers.wasm"
"#;

fn shop(folder: &Path) {
    fixtures::write(folder, "front.wasm", fixtures::STUFF_CONSUMER);
    fixtures::write(folder, "numbers.wasm", &renamed_provider());
    fs::write(folder.join("composition.toml"), MANIFEST).unwrap();
}

#[test]
fn a_function_of_another_name_and_interface_is_called() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    shop(&folder);
    let server = tenon.serve(".").start();
    assert_eq!(call(server.address(), get("/")).expect(200), "B");
    server.stop();

    // The twin that does not fit: the same names, another type.
    let other = fixtures::STUFF_PROVIDER_OF_ANOTHER_TYPE.replace("acme:thing/stuff", "acme:numbers/count");
    fixtures::write(
        &folder,
        "numbers.wasm",
        &other.replace("(export \"go\" (func $go))", "(export \"next\" (func $go))"),
    );
    tenon.run(&folder, ["compose", "-o", "out.wasm"]).expect_code(1).expect_stderr(&[
        "type-mismatch",
        "composition.toml:6:1",
        "numbers has `f64`, front has `u32`",
    ]);
}

#[test]
fn a_wac_file_is_served_and_composed() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    shop(&folder);
    fs::remove_file(folder.join("composition.toml")).unwrap();
    fs::create_dir_all(folder.join("deps/acme")).unwrap();
    fs::rename(folder.join("front.wasm"), folder.join("deps/acme/front.wasm")).unwrap();
    let wac = "package acme:shop;\n\
               let numbers = new acme:numbers {};\n\
               let front = new acme:front { \"acme:thing/stuff.go\": numbers.count.next };\n\
               export front...;\n";
    fs::write(folder.join("shop.wac"), wac).unwrap();
    let missing = tenon.run(&folder, ["compose", "--config", "shop.wac", "-o", "out.wasm"]);
    missing.expect_code(1).expect_stderr(&[
        "unknown-dependency",
        "shop.wac:2:19",
        "deps/acme/numbers.wasm",
        "--dep",
    ]);

    let dep = "acme:numbers=numbers.wasm";
    let compose = ["compose", "--config", "shop.wac", "--dep", dep, "-o", "wac.wasm"];
    tenon.run(&folder, compose).expect_code(0);
    assert!(folder.join("shop.wac.lock").is_file());
    let args = ["graph", "shop.wac", "--dep", dep, "--dep", "acme:number=numbers.wasm"];
    tenon.run(&folder, args).expect_code(1).expect_stderr(&["unused-dependency", "acme:number`"]);
    let server = tenon.serve("shop.wac").args(["--dep", dep]).start();
    assert_eq!(call(server.address(), get("/")).expect(200), "B");
    server.stop();

    // The same composition, written down as TOML, is the same component.
    let toml = MANIFEST.replace("front.wasm", "deps/acme/front.wasm");
    fs::write(folder.join("composition.toml"), toml).unwrap();
    tenon.run(&folder, ["compose", "-o", "toml.wasm"]).expect_code(0);
    assert_eq!(fs::read(folder.join("wac.wasm")).unwrap(), fs::read(folder.join("toml.wasm")).unwrap());
    let unused = tenon.run(&folder, ["compose", "--dep", dep, "-o", "toml.wasm"]);
    unused.expect_code(1).expect_stderr(&["unused-dependency"]);
}

#[test]
fn a_lock_holds_the_composition_to_its_components() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    shop(&folder);
    let locked = |output: &str| tenon.run(&folder, ["compose", "--locked", "-o", output]);
    locked("none.wasm").expect_code(1).expect_stderr(&["lock-missing", "tenon.lock"]);
    assert!(!folder.join("none.wasm").exists() && !folder.join("tenon.lock").exists(), "nothing is written");

    tenon.run(&folder, ["compose", "-o", "first.wasm"]).expect_code(0);
    let lock = fs::read_to_string(folder.join("tenon.lock")).unwrap();
    assert!(!lock.contains(folder.to_str().unwrap()), "no path of this machine: {lock}");
    locked("second.wasm").expect_code(0);
    assert_eq!(fs::read(folder.join("first.wasm")).unwrap(), fs::read(folder.join("second.wasm")).unwrap());

    fixtures::write(&folder, "numbers.wasm", &renamed_provider().replace("i32.const 1)", "i32.const 2)"));
    let refused = locked("third.wasm").expect_code(1);
    refused.expect_stderr(&["lock-outdated", "the component `numbers` has changed", "tenon.lock"]);
    assert!(!folder.join("third.wasm").exists(), "nothing is written");
    assert_eq!(fs::read_to_string(folder.join("tenon.lock")).unwrap(), lock);
    tenon.run(&folder, ["compose", "-o", "third.wasm"]).expect_code(0);
    locked("third.wasm").expect_code(0);

    // A lock of somebody else's stays.
    fs::write(folder.join("yarn.lock"), "# yarn lockfile v1\n").unwrap();
    fs::write(folder.join("yarn.toml"), MANIFEST).unwrap();
    let args = ["--json", "compose", "--config", "yarn.toml", "-o", "fourth.wasm"];
    let done = tenon.run(&folder, args).expect_code(0).json();
    assert_eq!(done["lock"], Value::Null);
    assert_eq!(fs::read_to_string(folder.join("yarn.lock")).unwrap(), "# yarn lockfile v1\n");
}

#[test]
fn a_composition_is_drawn() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    shop(&folder);
    let text = tenon.run(&folder, ["graph"]).expect_code(0).stdout;
    for line in [
        "shop: 2 components",
        "▶ handle ← front",
        "acme:thing/stuff.go ← numbers acme:numbers/count@1.2.0.next",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    tenon.run(&folder, ["compose", "-o", "shop.wasm"]).expect_code(0);
    let json: Value =
        serde_json::from_str(&tenon.run(&folder, ["--json", "graph", "shop.wasm"]).expect_code(0).stdout)
            .unwrap();
    assert_eq!(json["components"][0]["name"], "front");
    assert_eq!(json["components"][0]["imports"][0]["from"]["component"], "numbers");
    assert_eq!(json["exports"][0]["from"]["export"], "handle");

    tenon.run(&folder, ["graph", "--svg", "shop.svg"]).expect_code(0);
    let svg = fs::read_to_string(folder.join("shop.svg")).unwrap();
    let seen = well_formed(&svg);
    for name in ["shop", "front", "numbers", "handle", "acme:numbers/count@1.2.0.next"] {
        assert!(seen.iter().any(|text| text.contains(name)), "{name} in {seen:?}");
    }
}

/// Checks that every element of an XML document is closed in its turn; gives back the texts that stand in it.
fn well_formed(document: &str) -> Vec<String> {
    let (mut open, mut texts) = (Vec::new(), Vec::new());
    let mut rest = document;
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        assert!(!text.contains('>') || open.last() == Some(&"style"), "a bare `>` in {text}");
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|it| entity.starts_with(it)), "{entity}");
        }
        texts.push(text.trim().to_owned());
        let end = start + rest[start..].find('>').unwrap();
        let tag = &rest[start + 1..end];
        let name = |tag: &'_ str| tag.split([' ', '\n', '/']).find(|it| !it.is_empty()).unwrap().len();
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "closed in its turn");
        } else {
            assert_eq!(tag.matches('"').count() % 2, 0, "attributes are quoted: {tag}");
            if !tag.ends_with('/') {
                open.push(&tag[..name(tag)]);
            }
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "all is closed: {open:?}");
    texts.retain(|text| !text.is_empty());
    texts
}

#[test]
fn a_component_that_outgrows_its_own_memory_fails_alone_and_is_named() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    fixtures::write(&folder, "front.wasm", fixtures::STUFF_CONSUMER);
    fixtures::write(&folder, "grower.wasm", GROWER);
    let parts = [("front", "front.wasm"), ("grower", "grower.wasm")];
    composition(&folder, &parts, &[("front", "acme:thing/stuff", "grower")]);
    let manifest = fs::read_to_string(folder.join("composition.toml")).unwrap();

    // The twin without a limit of its own: seven pages are far below what a request may have.
    let server = tenon.serve(".").start();
    assert_eq!(call(server.address(), get("/")).expect(200), "B");
    server.stop();

    let limit = |memory: &str| format!("{manifest}\n[component.grower.limits]\nmemory = \"{memory}\"\n");
    fs::write(folder.join("composition.toml"), limit("448KiB")).unwrap();
    let server = tenon.serve(".").start();
    assert_eq!(call(server.address(), get("/")).expect(200), "B", "seven pages are 448 KiB");
    server.stop();

    fs::write(folder.join("composition.toml"), limit("384KiB")).unwrap();
    let server = tenon.serve(".").start();
    let reply = call(server.address(), tagged("/", "own-memory-1"));
    assert_eq!(reply.status.as_u16(), 500, "{}", reply.text());
    let report = until("a crash report", DEADLINE, || {
        let shown = tenon.run(&folder, ["crash", "show", "own-memory-1", "--json"]);
        shown.status.success().then(|| shown.json())
    });
    assert_eq!(report["outcome"]["component"], "grower", "{report}");
    server.stop();
}
