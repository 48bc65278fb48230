//! Compositions as a person makes them: function by function, from WAC files, held to a lock, drawn.

use std::fs;
use std::path::Path;
use std::process::Command;

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
    reply.expect_failure(500, "out-of-memory");
    let limit = "memory 384KiB (of the component)";
    server.logged(&["own-memory-1", "out-of-memory", "grower", limit]);
    let report = until("a crash report", DEADLINE, || {
        let shown = tenon.run(&folder, ["crash", "show", "own-memory-1", "--json"]);
        shown.status.success().then(|| shown.json())
    });
    assert_eq!(report["outcome"]["code"], "out-of-memory", "{report}");
    assert_eq!(report["outcome"]["limit"], limit, "{report}");
    assert_eq!(report["outcome"]["component"], "grower", "{report}");
    server.stop();
}

#[test]
fn a_component_that_makes_do_with_the_memory_it_has_is_not_out_of_memory() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    fixtures::write(&folder, "front.wasm", fixtures::STUFF_CONSUMER);
    let parts = [("front", "front.wasm"), ("grower", "grower.wasm")];
    composition(&folder, &parts, &[("front", "acme:thing/stuff", "grower")]);
    let made_do = GROWER.replace("(memory 1)", "(memory 1 2)").replace("(then unreachable)", "(then)");
    fixtures::write(&folder, "grower.wasm", &made_do);
    let server = tenon.serve(".").start();
    assert_eq!(call(server.address(), get("/")).expect(200), "B");
    server.stop();
    // What fails later, for a reason of its own, is told as that.
    let divides = made_do.replace("(i32.const 1))))\n", "(i32.div_u (i32.const 1) (i32.const 0)))))\n");
    assert_ne!(divides, made_do);
    fixtures::write(&folder, "grower.wasm", &divides);
    let server = tenon.serve(".").start();
    call(server.address(), tagged("/", "divides-1")).expect_failure(500, "guest-trap");
    server.logged(&["divides-1", "guest-trap", "divide by zero"]);
    server.stop();
}

/// [`MANIFEST`] with its tables in another order, and the files elsewhere.
const MANIFEST_SHUFFLED: &str = r#"name = "shop"

[component.numbers]
path = "build/second.wasm"

[component.front.imports]
"acme:thing/stuff" = { export = "next", component = "numbers" }

[component.front]
path = "build/first.wasm"
"#;

/// Two surroundings that have nothing in common.
const SURROUNDINGS: [&[(&str, &str)]; 2] = [
    &[("LANG", "C"), ("TZ", "UTC")],
    &[
        ("LANG", "tr_TR.UTF-8"),
        ("LC_ALL", "tr_TR.UTF-8"),
        ("TZ", "Asia/Kathmandu"),
        ("HOME", "/nonexistent"),
        ("USER", "somebody"),
        ("SOURCE_DATE_EPOCH", "1"),
    ],
];

#[test]
fn the_same_inputs_give_the_same_bytes_wherever_and_whenever() {
    let tenon = tenon();
    let here = tenon.data().join("here");
    let there = tenon.data().join("there/über alles");
    fs::create_dir_all(&here).unwrap();
    fs::create_dir_all(there.join("build")).unwrap();
    shop(&here);
    // The files were made in the other order, have other names, and are as old as can be.
    for (from, to) in [("numbers.wasm", "second.wasm"), ("front.wasm", "first.wasm")] {
        let to = there.join("build").join(to);
        fs::copy(here.join(from), &to).unwrap();
        fs::File::open(&to).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    fs::write(there.join("tenon.toml"), MANIFEST_SHUFFLED).unwrap();

    let run = |surroundings: usize, folder: &Path, args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_tenon"))
            .current_dir(folder)
            .env_clear()
            .env("TENON_DATA", tenon.data())
            .env("TENON_TOOLS", tenon_testkit::repository().join(".tools"))
            .envs(SURROUNDINGS[surroundings].iter().copied())
            .args(args)
            .output()
            .unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let config = text(&there.join("tenon.toml"));
    let [second, first] = ["second.wasm", "first.wasm"].map(|file| text(&there.join("build").join(file)));
    let three = text(&here.join("three.wasm"));
    for optimize in [&[][..], &["--optimize"][..]] {
        run(0, &here, &[&["compose", "-o", "one.wasm"], optimize].concat());
        run(1, &there, &[&["compose", "-o", "two.wasm"], optimize].concat());
        // From a third folder, with the files named on the command line.
        let named = ["compose", "--config", &config, &second, &first, "-o", &three];
        run(1, Path::new("/"), &[&named, optimize].concat());

        let one = fs::read(here.join("one.wasm")).unwrap();
        assert!(one == fs::read(there.join("two.wasm")).unwrap(), "{optimize:?}: elsewhere");
        assert!(one == fs::read(&three).unwrap(), "{optimize:?}: from elsewhere");
        let path = text(tenon.data()).into_bytes();
        assert!(!one.windows(path.len()).any(|bytes| bytes == path), "no path of this machine");
        let lock = |folder: &Path| fs::read_to_string(folder.join("tenon.lock")).unwrap();
        assert_eq!(lock(&here), lock(&there), "{optimize:?}");
    }
}

#[test]
fn each_kind_of_drift_from_the_lock_is_named() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    shop(&folder);
    let manifest = fs::read_to_string(folder.join("composition.toml")).unwrap();
    tenon.run(&folder, ["compose", "-o", "out.wasm"]).expect_code(0);
    let lock = fs::read_to_string(folder.join("tenon.lock")).unwrap();
    let drifts = [
        // Nothing of the component has changed, but how it is joined.
        (
            manifest.replace("export = \"next\"", "export = \"other\""),
            "the imports of `front` are joined otherwise",
        ),
        (
            format!("{manifest}[exports]\nagain = {{ component = \"front\", export = \"handle\" }}\n"),
            "exports something else",
        ),
        (
            manifest
                .replace("[component.numbers]", "[component.counts]")
                .replace("\"numbers\"", "\"counts\""),
            "the component `counts` is not in the lock",
        ),
        (
            manifest
                .replace("[component.numbers]", "[component.counts]")
                .replace("\"numbers\"", "\"counts\""),
            "the component `numbers` is no longer there",
        ),
        (format!("{manifest}[component.front.limits]\nmemory = \"1MiB\"\n"), "make another component now"),
        (manifest.replace("name = \"shop\"", "name = \"store\""), "make another component now"),
        (format!("optimize = true\n{manifest}"), "make another component now"),
    ];
    let two_functions = renamed_provider().replace(
        "(instance $stuff (export \"next\" (func $go)))",
        "(instance $stuff (export \"next\" (func $go)) (export \"other\" (func $go)))",
    );
    fixtures::write(&folder, "numbers.wasm", &two_functions);
    fs::write(folder.join("composition.toml"), &manifest).unwrap();
    let changed = tenon.run(&folder, ["compose", "--locked", "-o", "out.wasm"]).expect_code(1);
    changed.expect_stderr(&["lock-outdated", "the component `numbers` has changed"]);
    tenon.run(&folder, ["compose", "-o", "out.wasm"]).expect_code(0);
    assert_ne!(fs::read_to_string(folder.join("tenon.lock")).unwrap(), lock, "written anew");

    let locked = fs::read_to_string(folder.join("tenon.lock")).unwrap();
    for (manifest, says) in drifts {
        fs::write(folder.join("composition.toml"), manifest).unwrap();
        let refused = tenon.run(&folder, ["compose", "--locked", "-o", "drifted.wasm"]).expect_code(1);
        refused.expect_stderr(&["lock-outdated", says]);
        assert!(!folder.join("drifted.wasm").exists(), "nothing is written");
        assert_eq!(fs::read_to_string(folder.join("tenon.lock")).unwrap(), locked);
    }

    // A lock that is none is said to be none, and stays.
    fs::write(folder.join("composition.toml"), &manifest).unwrap();
    fs::write(folder.join("tenon.lock"), locked.replace("version = 1", "version = 9")).unwrap();
    let invalid = tenon.run(&folder, ["compose", "--locked", "-o", "drifted.wasm"]).expect_code(1);
    invalid.expect_stderr(&["lock-invalid"]);
}

#[test]
fn a_missing_file_hides_nothing_that_is_wrong_with_the_others() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    shop(&folder);
    let other = fixtures::STUFF_PROVIDER_OF_ANOTHER_TYPE.replace("acme:thing/stuff", "acme:numbers/count");
    fixtures::write(
        &folder,
        "numbers.wasm",
        &other.replace("(export \"go\" (func $go))", "(export \"next\" (func $go))"),
    );
    let manifest = format!("{MANIFEST}[component.later]\npath = \"later.wasm\"\n");
    fs::write(folder.join("composition.toml"), manifest).unwrap();
    let refused = tenon.run(&folder, ["compose", "-o", "out.wasm"]).expect_code(1);
    let refused =
        refused.expect_stderr(&["file-missing", "later.wasm", "type-mismatch", "numbers has `f64`"]);
    assert!(!refused.stderr.contains("missing-input"), "said once: {}", refused.stderr);
}

/// A component that exports `run` and has `memories` core instances with a memory of one page each.
fn of_memories(memories: u32) -> String {
    let instances: String = (0..memories).map(|_| "(core instance (instantiate $m)) ").collect();
    format!(
        "(component (core module $m (memory 1)) {instances}
           (core module $f (func (export \"run\")))
           (core instance $f (instantiate $f))
           (func (export \"run\") (canon lift (core func $f \"run\"))))"
    )
}

#[test]
fn what_does_not_fit_a_sandbox_is_said_when_it_is_composed() {
    let tenon = tenon();
    let folder = tenon.data().to_owned();
    let most = tenon_model::MEMORIES_MAX;
    fixtures::write(&folder, "few.wasm", &of_memories(2));
    fixtures::write(&folder, "many.wasm", &of_memories(most - 1));
    let manifest = "[component.few]\npath = \"few.wasm\"\n[component.many]\npath = \"many.wasm\"\nexport = false\n\
                    [exports]\nrun-many = { component = \"many\", export = \"run\" }\n";
    fs::write(folder.join("composition.toml"), manifest).unwrap();
    let needed = format!("it needs {} linear memories, and there is room for {most}", most + 1);
    let each = format!("many: {}", most - 1);

    // Another host may have the room: it is written all the same.
    let composed = tenon.run(&folder, ["compose", "-o", "out.wasm"]).expect_code(0);
    composed.expect_stderr(&["warning[exceeds-limits]", &needed, &each, "few: 2"]);
    let json = tenon.run(&folder, ["--json", "compose", "-o", "out.wasm"]).expect_code(0).json();
    assert_eq!(json["warnings"][0]["code"], "exceeds-limits", "{json}");
    let inspected = tenon.run(&folder, ["--json", "inspect", "out.wasm"]).expect_code(0).json();
    assert_eq!(inspected["sandbox"]["memories"], most + 1);
    let parts = inspected["sandbox"]["components"].as_array().unwrap();
    assert!(parts.iter().any(|part| part["name"] == "many" && part["memories"] == most - 1), "{inspected}");

    // Here it is refused, and the mend is not to raise a limit that has nothing to do with it.
    let refused = tenon.serve("out.wasm").refused().expect_code(1);
    let refused = refused.expect_stderr(&["error[exceeds-limits]", &needed, &each]);
    assert!(!refused.stderr.contains("`--memory`"), "{}", refused.stderr);

    // One memory fewer fits.
    fixtures::write(&folder, "few.wasm", &of_memories(1));
    let composed = tenon.run(&folder, ["compose", "-o", "out.wasm"]).expect_code(0);
    assert!(!composed.stderr.contains("warning"), "{}", composed.stderr);
    let called = tenon.run(&folder, ["call", "out.wasm", "run()"]);
    called.expect_code(0);
}
