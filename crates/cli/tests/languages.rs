//! Every language: from `tenon new` to a served response, and values of every type through components of two languages.
//!
//! A test program of its own: its compilers use all of the machine, beside which nothing is in time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "e2e/support.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tenon_testkit::Finished;
use tenon_testkit::client::{call, get, post};
use tenon_testkit::differential::{as_fresh, usual};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};

use support::{composition, tenon};

/// A first build compiles the language's libraries, and other tests run beside it.
const BUILD: Duration = Duration::from_secs(420);

/// What a person does first: `new`, `build`, `serve`, and a request.
#[track_caller]
fn begins(language: &str, name: &str) {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    // The least suitable of names for a module of that language.
    tenon.run(root.path(), ["new", language, "--lang", language]).expect_code(0);
    tenon.run_for(BUILD, root.path(), ["build", language]).expect_code(0);
    // What is built stays built: also when the toolchain wrote a lock file.
    let again = tenon.run(root.path(), ["build", language, "--json", "--quiet"]).expect_code(0);
    assert_eq!(again.json()["components"][0]["skipped"], true);
    let server = tenon.serve(root.path().join(language)).start();
    let reply = call(server.address(), get("/some/path"));
    assert_eq!(reply.expect(200), format!("Hello from {name} at /some/path\n"));
    server.stop();
    as_fresh(&tenon.serve(root.path().join(language)), &usual("/some/path"), &[]);
}

/// A contract with a bit of everything, for skeletons.
const SHOP: &str = "\
package demo:shop@1.0.0;

interface types {
    record item { name: string, qty: u32 }
    enum kind { small, big }
}

interface orders {
    use types.{item, kind};
    variant fault { missing(string), empty }
    place: func(items: list<item>, kind: kind) -> result<u64, fault>;
    find-all: func(prefix: option<string>) -> tuple<list<item>, bool>;
}

interface log {
    write: func(line: string);
}

world other {
    import log;
}

world shop {
    import log;
    export orders;
    export run-all: func(args: list<string>) -> result;
}
";

/// A component of a world somebody else wrote is begun, and builds at once.
#[track_caller]
fn begins_a_world(language: &str, world: &str) {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("shop.wit"), SHOP).unwrap();
    let json = tenon
        .run(root.path(), ["new", "my-shop", "--lang", language, "--world", world, "--json", "--quiet"])
        .expect_code(0)
        .json();
    assert!(json["next"][1].as_str().unwrap().starts_with(match world.contains("http") {
        true => "tenon serve",
        false => "tenon call",
    }));
    tenon.run_for(BUILD, root.path(), ["build", "my-shop"]).expect_code(0);
    assert!(root.path().join("my-shop/.tenon/my-shop.wasm").is_file());
}

#[test]
fn rust_begins() {
    begins("rust", "Rust");
    begins_a_world("rust", "shop.wit#shop");
    begins_a_world("rust", "wasi:http/service");
}

#[test]
fn go_begins() {
    begins("go", "Go");
    begins_a_world("go", "shop.wit#shop");
    begins_a_world("go", "wasi:http/service");
}

#[test]
fn typescript_begins() {
    begins("typescript", "TypeScript");
    begins_a_world("typescript", "shop.wit#shop");
}

#[test]
fn javascript_begins() {
    begins("javascript", "JavaScript");
    begins_a_world("javascript", "shop.wit#shop");
}

#[test]
fn c_begins() {
    begins("c", "C");
    begins_a_world("c", "shop.wit#shop");
    begins_a_world("c", "wasi:http/proxy");
}

#[test]
fn cpp_begins() {
    begins("cpp", "C++");
    begins_a_world("cpp", "shop.wit#shop");
    begins_a_world("cpp", "wasi:cli/command");
}

#[test]
fn assemblyscript_begins() {
    begins("assemblyscript", "AssemblyScript");
    begins_a_world("assemblyscript", "shop.wit#shop");
}

/// Compiled once ahead of time: half of this is CPython, for which the time that `serve` has may not do.
#[test]
fn python_begins() {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    tenon.run(root.path(), ["new", "my-app", "--lang", "python"]).expect_code(0);
    tenon.run_for(BUILD, root.path(), ["build", "my-app"]).expect_code(0);
    tenon.run_for(BUILD, root.path(), ["compile", "my-app/.tenon/my-app.wasm"]).expect_code(0);
    // CPython and its libraries are one module: of each there would be an instance, in every sandbox.
    let inspected = tenon.run(root.path(), ["inspect", "my-app/.tenon/my-app.wasm"]).expect_code(0);
    assert!(inspected.stdout.contains("  1 core instance, 1 memory "), "{}", inspected.stdout);
    let server = tenon.serve(root.path().join("my-app")).start();
    assert_eq!(call(server.address(), get("/a")).expect(200), "Hello from Python at /a\n");
    server.stop();
    as_fresh(&tenon.serve(root.path().join("my-app")), &usual("/a"), &[]);
    begins_a_world("python", "shop.wit#shop");
}

#[test]
fn what_is_there_is_left_alone() {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("mine")).unwrap();
    fs::write(root.path().join("mine/precious"), "text").unwrap();
    let refused = tenon.run(root.path(), ["new", "mine", "--lang", "c"]).expect_code(1);
    refused.expect_stderr(&["folder-taken"]);
    assert_eq!(fs::read_dir(root.path().join("mine")).unwrap().count(), 1);
    tenon
        .run(root.path(), ["new", "Not_A_Name", "--lang", "c"])
        .expect_code(1)
        .expect_stderr(&["project-name"]);
    let json =
        tenon.run(root.path(), ["new", "ours", "--lang", "c", "--json", "--quiet"]).expect_code(0).json();
    assert_eq!(json["language"], "c");
    for file in json["files"].as_array().unwrap() {
        assert!(root.path().join(file.as_str().unwrap()).is_file(), "{file}");
    }
}

#[test]
fn a_world_that_cannot_be_begun_leaves_nothing() {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("shop.wit"), SHOP).unwrap();
    for (language, world, code) in [
        ("rust", "nowhere", "world-unknown"),
        ("rust", "shop.wit", "world-unclear"),
        ("rust", "shop.wit#gone", "world-unknown"),
        ("rust", "shop.wit#other", "world-exports-nothing"),
        ("assemblyscript", "wasi:http/proxy", "language-lacks"),
        ("cpp", "wasi:http/service", "language-lacks"),
    ] {
        let refused =
            tenon.run(root.path(), ["new", "mine", "--lang", language, "--world", world]).expect_code(1);
        refused.expect_stderr(&[code]);
        assert!(!root.path().join("mine").exists(), "{language} {world}");
    }
}

/// What every pair of languages is asked; the answer is the argument.
const EXACT: &[(&str, &str)] = &[
    (
        "scalars-of",
        "{truth: true, uint8: 255, int8: -128, uint16: 65535, int16: -32768, uint32: 4294967295, int32: -2147483648, \
         uint64: 9007199254740991, int64: -9007199254740991, float32: 1.5, float64: -0.1, letter: 'ß'}",
    ),
    ("truth", "true"),
    ("truth", "false"),
    ("unsigned", "0"),
    ("signed", "-1"),
    ("signed", "-9223372036854775808"),
    ("signed", "9223372036854775807"),
    ("single", "nan"),
    ("single", "-inf"),
    ("single", "3.4028235e38"),
    ("double", "nan"),
    ("double", "inf"),
    ("double", "-0"),
    ("double", "5e-324"),
    ("double", "1.7976931348623157e308"),
    ("letter", "'a'"),
    ("letter", "'😀'"),
    ("text", r#""""#),
    ("text", r#""Grüße, 世界, 👩‍👩‍👧, e\u{301}, \u{0}, \u{10ffff}, \u{ffff}, \u{202e}""#),
    ("bytes", "[]"),
    ("bytes", "[0, 127, 128, 255]"),
    ("nested", "[]"),
    ("nested", r#"[[], [""], ["a", "β", "😀"]]"#),
    ("pair", r#"(4294967295, "two")"#),
    ("people", r#"[{name: "Ada", age: some(36), tags: ["a", "b"]}, {name: "", tags: []}]"#),
    ("shape-of", "empty"),
    ("shape-of", "circle(-0.5)"),
    ("shape-of", r#"label("ü")"#),
    ("shape-of", "square((1, 2))"),
    ("colour-of", "red"),
    ("colour-of", "blue"),
    ("perms-of", "{}"),
    ("perms-of", "{read, execute}"),
    ("maybe", "none"),
    ("maybe", r#"some("")"#),
    ("maybe", r#"some("x")"#),
    ("deep", "none"),
    ("deep", "some(none)"),
    ("deep", "some(some(4294967295))"),
    ("results", "[]"),
    ("results", r#"[ok(0), err(""), err("warum?"), ok(4294967295)]"#),
];

/// What needs all bits of a 64-bit integer.
const WIDE: &[(&str, &str)] = &[
    ("unsigned", "18446744073709551615"),
    ("unsigned", "9007199254740993"),
    ("signed", "-9007199254740993"),
];

/// Calls whose answer is not their argument.
const OTHERS: &[(&str, &str)] = &[
    (
        "small(255, -128, 65535, -32768, 4294967295, -2147483648)",
        "(255, -128, 65535, -32768, 4294967295, -2147483648)",
    ),
    ("small(0, 127, 0, 32767, 0, 2147483647)", "(0, 127, 0, 32767, 0, 2147483647)"),
    (r#"outcome(false, 7, "warum?")"#, "ok(7)"),
    (r#"outcome(true, 7, "warum?")"#, r#"err("warum?")"#),
];

const SCRIPT: &str = "typescript";

/// Chains in which each language stands before each, itself too, once, but for TypeScript. One sandbox has room for two
/// components in Python, and for few in Go.
const CHAINS: &[&[&str]] = &[
    &["rust", "python", "python", "c"],
    &["c", "python", "cpp"],
    &["cpp", "python", "go"],
    &["go", "python", "rust"],
    &["go", "go", "rust", "go", "c"],
    &["c", "go", "cpp", "go", "assemblyscript", "go"],
    &["rust", "rust", "c", "rust", "cpp", "rust", "assemblyscript", "rust"],
    &["c", "c", "cpp", "c", "assemblyscript", "c"],
    &["cpp", "cpp", "assemblyscript", "cpp"],
    &["assemblyscript", "assemblyscript"],
    &["assemblyscript", "python", "assemblyscript"],
];

/// The same with TypeScript, which carries less. A component of it has three memories, and a sandbox sixteen.
const SCRIPTED: &[&[&str]] = &[
    &[SCRIPT, SCRIPT, "go", SCRIPT, "rust", SCRIPT],
    &[SCRIPT, "c", SCRIPT, "cpp", SCRIPT, "assemblyscript", SCRIPT],
    &[SCRIPT, "python", SCRIPT],
];

/// A folder of components for these tests, built; what was built is kept between test runs.
fn built(folder: &str) -> PathBuf {
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder), &work);
    tenon().run_for(BUILD, &work, ["build"]).expect_code(0);
    work.join(".tenon")
}

/// The component of the matrix called `name`. All are built at once.
fn part(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built("matrix")).join(format!("{name}.wasm"))
}

/// Copies a folder; a file that is the same stays as it is.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else if fs::read(&from).unwrap() != fs::read(&to).unwrap_or_default() || !to.is_file() {
            fs::copy(&from, &to).unwrap();
        }
    }
}

#[test]
fn every_pair_is_in_a_chain() {
    let pairs: Vec<_> = CHAINS.iter().chain(SCRIPTED).flat_map(|chain| chain.windows(2)).collect();
    assert_eq!((pairs.len(), pairs.iter().collect::<BTreeSet<_>>().len()), (49, 49));
}

/// The language that has no resources, neither its own nor those of others.
const WITHOUT_RESOURCES: &str = "assemblyscript";

/// Each of `callers` asks the next one, and the last one asks the component that answers: for values, and for a resource
/// where both have them, else for that of the component that answers. However often a language is in it, its component is
/// in the file once.
fn chain(callers: &[&str]) -> Vec<u8> {
    const ECHO: &str = "test:matrix/echo@1.0.0";
    const RELAY: &str = "test:matrix/relay@1.0.0";
    const ASKED: &str = "test:matrix/asked@1.0.0";
    const COUNTERS: &str = "test:matrix/counters@1.0.0";
    let mut graph = CompositionGraph::new();
    let register = |graph: &mut CompositionGraph, name: &str| {
        let package =
            Package::from_bytes(name, None, fs::read(part(name)).unwrap(), graph.types_mut()).unwrap();
        graph.register_package(package).unwrap()
    };
    let provider = register(&mut graph, "rust-provider");
    let provider = graph.instantiate(provider);
    let mut asked = graph.alias_instance_export(provider, ECHO).unwrap();
    let provided = graph.alias_instance_export(provider, COUNTERS).unwrap();
    let mut counters = provided;
    let mut packages = BTreeMap::new();
    for (at, language) in callers.iter().enumerate().rev() {
        let package =
            *packages.entry(*language).or_insert_with(|| register(&mut graph, &format!("{language}-caller")));
        let caller = graph.instantiate(package);
        graph.set_instantiation_argument(caller, ECHO, asked).unwrap();
        asked = graph.alias_instance_export(caller, RELAY).unwrap();
        if *language == WITHOUT_RESOURCES {
            counters = provided;
        } else {
            graph.set_instantiation_argument(caller, ASKED, counters).unwrap();
            counters = graph.alias_instance_export(caller, COUNTERS).unwrap();
            let drive = graph.alias_instance_export(caller, "test:matrix/drive@1.0.0").unwrap();
            graph.export(drive, driver(at)).unwrap();
        }
    }
    graph.export(asked, RELAY).unwrap();
    graph.encode(EncodeOptions::default()).unwrap()
}

/// The interface that drives the one at this place of a chain.
fn driver(at: usize) -> String {
    format!("test:matrix/drive-{}@1.0.0", ["a", "b", "c", "d", "e", "f", "g", "h"][at])
}

/// What comes of all that can be done with a resource: its number after a call; that of a second one, lent to a function; how
/// many there are; the colour of what becomes of the two, of which one is given away; how many there are; its number when it
/// is given away too; how many there are, before and after the last is dropped.
const DRIVEN: &str = "[45, 7, 2, 1, 2, 52, 1, 0]";

/// The same with a resource in Python, which is not told that nobody has it any more. Should this fail, it has been mended: there
/// is nothing special about Python then, and docs/languages.md says so.
const KEPT: &str = "[45, 7, 2, 1, 3, 52, 3, 3]";

/// The calls that drive the resources of a chain, and what is answered to each. A resource in TypeScript is not driven: it
/// cannot be given back.
fn drives(callers: &[&str]) -> Vec<(String, String)> {
    let asked = |at: usize| callers.get(at + 1).copied().filter(|next| *next != WITHOUT_RESOURCES);
    (0..callers.len())
        .filter(|at| callers[*at] != WITHOUT_RESOURCES && asked(*at) != Some(SCRIPT))
        .map(|at| {
            let answer = if asked(at) == Some("python") { KEPT } else { DRIVEN };
            (format!("{}.run()", driver(at)), answer.to_owned())
        })
        .collect()
}

/// A function that hands on to the next in the chain.
fn relay(call: &str) -> String {
    format!("test:matrix/relay@1.0.0.{call}")
}

/// The calls, and what is answered to each.
fn calls(cases: &[&[(&str, &str)]]) -> Vec<(String, String)> {
    let echoed = cases.iter().copied().flatten();
    let echoed =
        echoed.map(|(function, value)| (relay(&format!("{function}({value})")), (*value).to_owned()));
    let others = OTHERS.iter().map(|(call, answer)| (relay(call), (*answer).to_owned()));
    echoed.chain(others).collect()
}

/// Sends the calls through a chain, and gives back what came of it.
#[track_caller]
fn session(callers: &[&str], calls: &[&str]) -> Finished {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    let composed = root.path().join("composed.wasm");
    fs::write(&composed, chain(callers)).unwrap();
    let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
    let limits = "--cpu=60s --wall=120s --memory=4GiB --instances=1000 --table-elements=1000000";
    let session = ["call", composed.to_str().unwrap(), "--session", "--quiet"];
    let session = session.into_iter().chain(limits.split(' '));
    tenon.run_with_input_for(BUILD, root.path(), session, &lines)
}

/// Sends every value through a chain and back, and has each in it drive the resource of the next.
#[track_caller]
fn values_pass(callers: &[&str], cases: &[&[(&str, &str)]]) {
    let calls = [calls(cases), drives(callers)].concat();
    let lines: Vec<&str> = calls.iter().map(|(call, _)| call.as_str()).collect();
    let answered = session(callers, &lines).expect_code(0).stdout;
    assert_eq!(answered.lines().count(), calls.len(), "{answered}");
    for ((call, expected), answer) in calls.iter().zip(answered.lines()) {
        assert_eq!(spelt(call, answer), spelt(call, expected), "{call} through {callers:?}");
    }
}

/// WAVE text in one spelling: a number has several, and a character may be escaped or not.
fn spelt(call: &str, text: &str) -> String {
    if call.contains(".single(") {
        return text.parse::<f32>().unwrap().to_string();
    }
    if call.contains(".double(") {
        return text.parse::<f64>().unwrap().to_string();
    }
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\u{") {
        let (before, escape) = rest.split_at(at);
        let end = escape.find('}').unwrap();
        plain.push_str(before);
        plain.push(char::from_u32(u32::from_str_radix(&escape[3..end], 16).unwrap()).unwrap());
        rest = &escape[end + 1..];
    }
    plain + rest
}

/// 36 pairs of a language that asks and one that is asked, with all that values can be.
#[test]
fn values_pass_from_every_language_to_every_language() {
    for chain in CHAINS {
        values_pass(chain, &[EXACT, WIDE]);
    }
}

/// Another 13 pairs.
#[test]
fn values_pass_from_and_to_typescript() {
    for chain in SCRIPTED {
        values_pass(chain, &[EXACT]);
    }
}

/// A resource in TypeScript is made, called, lent and handed out; given back it ends the sandbox, and it is not told that nobody has
/// it any more. Should this fail, it has been mended: TypeScript is driven like the others then, and docs/languages.md says so.
#[test]
fn what_javascript_cannot_do_with_its_own_resources() {
    const COUNTERS: &str = "test:matrix/counters@1.0.0";
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    let files = ["typescript-caller.wasm", "rust-provider.wasm"];
    for file in files {
        fs::copy(part(file.trim_end_matches(".wasm")), root.path().join(file)).unwrap();
    }
    let manifest = "[component.script]\npath = \"typescript-caller.wasm\"\nexport = [\"test:matrix/counters\"]\n\
                    [component.script.imports]\n\"test:matrix/echo\" = { component = \"provider\" }\n\
                    \"test:matrix/asked\" = { component = \"provider\", export = \"test:matrix/counters\" }\n\
                    [component.provider]\npath = \"rust-provider.wasm\"\nexport = false\n";
    fs::write(root.path().join("composition.toml"), manifest).unwrap();
    let composed = root.path().join("composed.wasm");
    let paths = [root.path(), composed.as_path()].map(|path| path.to_str().unwrap());
    tenon.run(root.path(), ["compose", "--config", paths[0], "-o", paths[1]]).expect_code(0);
    let session = |lines: &[&str]| {
        let lines: String = lines
            .iter()
            .map(
                |line| {
                    if line.starts_with(':') { format!("{line}\n") } else { format!("{COUNTERS}.{line}\n") }
                },
            )
            .collect();
        tenon.run_with_input_for(BUILD, root.path(), ["call", paths[1], "--session", "--quiet"], &lines)
    };
    let kept = session(&[
        "counter(40, red)",
        "[method]counter.add(#1, {by: 2, label: \"two\"})",
        "make(7)",
        "read(#2)",
        "[method]counter.colour(#2)",
        "live()",
        ":drop #1",
        "live()",
    ]);
    assert_eq!(kept.expect_code(0).stdout, "#1\n45\n#2\n7\ngreen\n2\n2\n");
    let given = session(&["make(7)", "close(#1)"]).expect_code(1);
    given.expect_stderr(&["guest-trap"]);
}

/// Should this fail, AssemblyScript has resources: it joins the others then, and docs/languages.md says so.
#[test]
fn a_language_without_resources_says_so() {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matrix/wit");
    copy(&wit, &root.path().join("wit"));
    fs::write(root.path().join("asconfig.json"), "{}").unwrap();
    let manifest =
        format!("[component.part]\nsource = \".\"\nlanguage = \"{WITHOUT_RESOURCES}\"\nworld = \"caller\"\n");
    fs::write(root.path().join("tenon.toml"), manifest).unwrap();
    let refused = tenon.run(root.path(), ["build"]).expect_code(1);
    refused.expect_stderr(&[
        "language-lacks",
        "`test:matrix/asked@1.0.0`",
        "has resources",
        "AssemblyScript cannot",
    ]);
}

/// Should this fail, the toolchain has been mended: `WIDE` goes to `EXACT` then, and docs/languages.md says so.
#[test]
fn what_javascript_cannot_carry() {
    let through = ["rust", SCRIPT];
    let rounded =
        session(&through, &[&relay("unsigned(9007199254740993)"), &relay("signed(-9007199254740993)")]);
    assert_eq!(rounded.expect_code(0).stdout, "9007199254740992\n-9007199254740992\n");
    let ended = session(&through, &[&relay("unsigned(18446744073709551615)")]);
    ended.expect_code(1).expect_stderr(&["guest-trap"]);
}

/// What a world imports of WASI is the host's, and not a stub that traps.
#[test]
fn javascript_reaches_what_it_imports_of_wasi() {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    let logging = "package wasi:logging@0.1.0-draft;\n\ninterface logging {\n    enum level { trace, debug, info, warn, \
                   error, critical }\n    log: func(level: level, context: string, message: string);\n}\n";
    let world = "package test:says;\n\nworld says {\n    import wasi:logging/logging@0.1.0-draft;\n    \
                 export say: func(what: string);\n}\n";
    let script = "import { log } from \"wasi:logging/logging@0.1.0-draft\";\n\
                  export function say(what) { log(\"warn\", \"script\", what); }\n";
    let manifest = "[component.says]\nsource = \".\"\n\n[component.says.grants]\n\"wasi:logging\" = true\n";
    fs::create_dir_all(root.path().join("wit/deps/logging")).unwrap();
    for (file, text) in [
        ("wit/world.wit", world),
        ("wit/deps/logging/logging.wit", logging),
        ("package.json", "{ \"type\": \"module\", \"main\": \"index.js\" }"),
        ("index.js", script),
        ("tenon.toml", manifest),
    ] {
        fs::write(root.path().join(file), text).unwrap();
    }
    tenon.run_for(BUILD, root.path(), ["build"]).expect_code(0);
    let server = tenon.serve(root.path()).start();
    let mut request = post("/say", r#"{"what": "hello from within"}"#);
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    call(server.address(), request).expect(204);
    server.logged(&["WARN", "hello from within"]);
    server.stop();
}

/// An asynchronous function of each language that has them waits for one of the next.
#[test]
fn asynchronous_functions_pass_through_every_language_that_has_them() {
    let tenon = tenon();
    let folder = built("asynchrony");
    let root = tempfile::tempdir().unwrap();
    let chain = ["rust", "go", "python", "c", "javascript"];
    let mut components = Vec::new();
    let mut wires = Vec::new();
    let files = chain.map(|language| format!("{language}.wasm"));
    for (at, language) in chain.iter().enumerate() {
        fs::copy(folder.join(&files[at]), root.path().join(&files[at])).unwrap();
        components.push((*language, files[at].as_str()));
        if let Some(next) = chain.get(at + 1) {
            wires.push((*language, "test:later/jobs@1.0.0", *next));
        }
    }
    composition(root.path(), &components, &wires);
    let composed = root.path().join("composed.wasm");
    let paths = [root.path(), composed.as_path()].map(|path| path.to_str().unwrap());
    tenon.run(root.path(), ["compose", "--config", paths[0], "-o", paths[1]]).expect_code(0);
    tenon.run_for(BUILD, root.path(), ["compile", paths[1]]).expect_code(0);
    let lines = "test:later/jobs@1.0.0.follow(\"begin\")\ntest:later/jobs@1.0.0.refuse(\"warum?\")\n\
                 test:later/jobs@1.0.0.double(21)\n";
    let ended = tenon.run_with_input(root.path(), ["call", paths[1], "--session", "--quiet"], lines);
    let said = ended.expect_code(0).stdout;
    assert_eq!(said, "\"begin rust go python c javascript\"\nerr(\"warum?\")\n42\n");
}

#[test]
fn a_language_without_asynchronous_functions_says_so() {
    let tenon = tenon();
    for (language, source, world, function) in [
        ("cpp", "a.cpp", "provider", "test:later/jobs@1.0.0.double"),
        ("assemblyscript", "asconfig.json", "provider", "test:later/jobs@1.0.0.double"),
        ("javascript", "package.json", "link", "test:later/jobs@1.0.0.double"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/asynchrony/wit");
        copy(&wit, &root.path().join("wit"));
        fs::write(root.path().join(source), "{\"main\": \"package.json\"}").unwrap();
        let manifest =
            format!("[component.part]\nsource = \".\"\nlanguage = \"{language}\"\nworld = \"{world}\"\n");
        fs::write(root.path().join("tenon.toml"), manifest).unwrap();
        let refused = tenon.run(root.path(), ["build"]).expect_code(1);
        refused.expect_stderr(&["language-lacks", function, "write this one in Rust"]);
    }
}

/// The class of a resource in C++ is the author's own, also as `tenon new` begins it; types that need one another are named.
#[test]
fn resources_in_cpp_begin_and_are_refused_by_name() {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    let world = |types: &str| {
        format!(
            "package demo:stock@1.0.0;\ninterface kinds {{ record item {{ name: string, qty: u32 }} }}\ninterface stock {{\n    \
             use kinds.{{item}};\n    enum level {{ low, high }}\n    resource shelf {{\n        constructor(first: item);\n        \
             put: func(item: item) -> level;\n        join: static func(a: shelf, b: borrow<shelf>) -> shelf;\n        \
             {types}\n}}\nworld shop {{ export stock; }}\n"
        )
    };
    fs::write(root.path().join("stock.wit"), world("}\n    find: func(of: borrow<shelf>) -> option<item>;"))
        .unwrap();
    let begin = |name: &str| tenon.run(root.path(), ["new", name, "--lang", "cpp", "--world", "stock.wit"]);
    begin("shop").expect_code(0);
    let class = root.path().join("shop/exports-demo-stock-stock-Shelf.h");
    let text = fs::read_to_string(&class).unwrap();
    fs::write(&class, text.replacen("public:", "int more = 0;\n\n          public:", 1)).unwrap();
    tenon.run_for(BUILD, root.path(), ["build", "shop"]).expect_code(0);
    assert!(root.path().join("shop/bindings/exports-demo-stock-stock-Shelf.h.template").is_file());

    let circle =
        "sort: func(by: list<pair>);\n    }\n    record pair { left: borrow<shelf>, right: borrow<shelf> }";
    fs::write(root.path().join("stock.wit"), world(circle)).unwrap();
    begin("round").expect_code(1).expect_stderr(&[
        "cpp-circular-types",
        "`shelf`",
        "with `pair`",
        "stock.wit",
    ]);
}

/// The start of Go's runtime is done at build time, and nothing of it is shared that should not be.
#[test]
fn go_is_started_at_build_time() {
    let tenon = tenon();
    let folder = built("snapshot");
    let call = |component: &str, call: &str| {
        let file = folder.join(format!("{component}.wasm"));
        let call = format!("test:snapshot/api@1.0.0.{call}");
        let ended = tenon.run(&folder, ["call", file.to_str().unwrap(), &call, "--quiet"]).expect_code(0);
        ended.stdout.trim_end().to_owned()
    };
    for component in ["taken", "anew"] {
        assert_eq!(call(component, r#"known("kkkkkkz")"#), "some(909)", "{component}");
        assert_eq!(call(component, r#"known("z0")"#), "none", "{component}");
        assert_eq!(call(component, "churn(5000)"), "11", "{component}");
        assert!(call(component, "wait()").parse::<u64>().unwrap() >= 1_000_000, "{component}");
        assert_ne!(call(component, "random()"), call(component, "random()"), "{component}");
    }
    let start = |component: &str| {
        let bytes = fs::read(folder.join(format!("{component}.wasm"))).unwrap();
        // As a name is written in a component: the runtime has the word in a text, too.
        bytes.windows(12).any(|name| name == b"\x0b_initialize")
    };
    assert_eq!([start("taken"), start("anew"), start("refused")], [false, true, true]);
    // Why there is none is said when the component is built.
    let work = folder.parent().unwrap();
    fs::write(work.join("refused/touched"), format!("{:?}", std::time::SystemTime::now())).unwrap();
    let built = tenon.run_for(BUILD, work, ["build"]).expect_code(0);
    built.expect_stderr(&["no snapshot: its start reads the clock"]);
}

/// Components name their tools, and `doctor` what is known not to work of them.
#[test]
fn doctor_names_what_has_drifted() {
    let tenon = tenon();
    let folder = built("asynchrony");
    let project = folder.parent().unwrap();
    let json = tenon.run(project, ["doctor", ".", "--json", "--quiet"]).expect_code(0).json();
    assert_eq!(json["drift"].as_array().map(Vec::len), Some(0), "{json}");
    let tools = |component: &str| -> String {
        let of = json["components"].as_array().unwrap().iter().find(|it| it["name"] == component).unwrap();
        assert_eq!(of["async"], true, "{of}");
        let named = of["producers"].as_array().unwrap().iter();
        named
            .map(|it| format!("{} {}\n", it["name"].as_str().unwrap(), it["version"].as_str().unwrap()))
            .collect()
    };
    for (component, tool) in [
        ("rust", "wit-bindgen-rust 0.63.0"),
        ("go", "wit-bindgen-go 0.63.0"),
        ("c", "wit-bindgen-c 0.63.0"),
        ("python", "componentize-py 0.25.1"),
        ("javascript", "jco 1.35.0"),
    ] {
        assert!(tools(component).contains(tool), "{component}\n{}", tools(component));
        assert!(tools(component).contains("tenon "), "{component}");
    }

    // The same component, as if its bindings were older.
    let root = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(folder.join("rust.wasm")).unwrap();
    let (newer, older) = (b"wit-bindgen-rust\x060.63.0", b"wit-bindgen-rust\x060.62.0");
    let at = bytes.windows(newer.len()).position(|window| window == newer).unwrap();
    bytes[at..at + older.len()].copy_from_slice(older);
    fs::write(root.path().join("old.wasm"), bytes).unwrap();
    fs::copy(folder.join("c.wasm"), root.path().join("new.wasm")).unwrap();
    composition(root.path(), &[("old", "old.wasm"), ("new", "new.wasm")], &[]);
    let said = tenon.run(root.path(), ["doctor", "."]).expect_code(1);
    said.expect_stderr(&["toolchain-drift", "async-bindings", "async-releases", "wit-bindgen-rust 0.62.0"])
        .expect_stderr(&["build it again with wit-bindgen 0.63", "build both with the same release"]);
}

#[test]
fn what_other_toolchains_generate_is_shown() {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("shop.wit"), SHOP).unwrap();
    for (language, file, text) in [
        ("typescript", "orders", "findAll(prefix: string | null)"),
        ("python", "wit_world/exports/__init__.py", "def find_all(self, prefix"),
    ] {
        let args = ["wit", "bindgen", "shop.wit", "--world", "shop", "--lang", language, "--out", language];
        let json =
            tenon.run(root.path(), args.into_iter().chain(["--json", "--quiet"])).expect_code(0).json();
        let files = json["files"].as_array().unwrap();
        let named = files.iter().filter_map(|it| it.as_str()).find(|it| it.contains(file)).unwrap();
        let shown = fs::read_to_string(root.path().join(language).join(named)).unwrap();
        assert!(shown.contains(text), "{language}\n{shown}");
    }
}
