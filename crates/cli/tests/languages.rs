//! Every language: from `tenon new` to a served response, and values of every type through components of two languages.
//!
//! A test program of its own: its compilers use all of the machine, beside which nothing is in time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "e2e/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tenon_testkit::client::{call, get};

use support::{composition, tenon};

/// A first build compiles the language's libraries, and other tests run beside it.
const BUILD: Duration = Duration::from_secs(420);

/// What a person does first: `new`, `build`, `serve`, and a request.
#[track_caller]
fn begins(language: &str, name: &str) {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    tenon.run(root.path(), ["new", "my-app", "--lang", language]).expect_code(0);
    tenon.run_for(BUILD, root.path(), ["build", "my-app"]).expect_code(0);
    // What is built stays built: also when the toolchain wrote a lock file.
    let again = tenon.run(root.path(), ["build", "my-app", "--json", "--quiet"]).expect_code(0);
    assert_eq!(again.json()["components"][0]["skipped"], true);
    let server = tenon.serve(root.path().join("my-app")).start();
    let reply = call(server.address(), get("/some/path"));
    assert_eq!(reply.expect(200), format!("Hello from {name} at /some/path\n"));
    server.stop();
}

#[test]
fn rust_begins() {
    begins("rust", "Rust");
}

#[test]
fn go_begins() {
    begins("go", "Go");
}

#[test]
fn typescript_begins() {
    begins("typescript", "TypeScript");
}

#[test]
fn javascript_begins() {
    begins("javascript", "JavaScript");
}

#[test]
fn c_begins() {
    begins("c", "C");
}

#[test]
fn cpp_begins() {
    begins("cpp", "C++");
}

#[test]
fn assemblyscript_begins() {
    begins("assemblyscript", "AssemblyScript");
}

/// Compiled once ahead of time: half of this is CPython, for which the time that `serve` has may not do.
#[test]
fn python_begins() {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    tenon.run(root.path(), ["new", "my-app", "--lang", "python"]).expect_code(0);
    tenon.run_for(BUILD, root.path(), ["build", "my-app"]).expect_code(0);
    tenon.run_for(BUILD, root.path(), ["compile", "my-app/.tenon/my-app.wasm"]).expect_code(0);
    let server = tenon.serve(root.path().join("my-app")).start();
    assert_eq!(call(server.address(), get("/a")).expect(200), "Hello from Python at /a\n");
    server.stop();
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
    ("single", "nan"),
    ("single", "-inf"),
    ("single", "3.4028235e38"),
    ("double", "nan"),
    ("double", "inf"),
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
];

/// What needs all bits of a 64-bit integer.
const WIDE: &[(&str, &str)] = &[
    ("unsigned", "18446744073709551615"),
    ("signed", "-9223372036854775808"),
    ("signed", "9223372036854775807"),
];

/// The component of the matrix in `folder`. All are built at once; what was built is kept between test runs.
fn part(folder: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let work = BUILT.get_or_init(|| {
        let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("matrix");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matrix"), &work);
        tenon().run_for(BUILD, &work, ["build"]).expect_code(0);
        work
    });
    work.join(format!(".tenon/{folder}.wasm"))
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

/// Sends every value through `caller` to `provider` and back.
#[track_caller]
fn values_pass(caller: &str, provider: &str, cases: &[&[(&str, &str)]]) {
    let tenon = tenon();
    let root = tempfile::tempdir().unwrap();
    for (name, folder) in [("caller", caller), ("provider", provider)] {
        fs::copy(part(folder), root.path().join(format!("{name}.wasm"))).unwrap();
    }
    composition(
        root.path(),
        &[("caller", "caller.wasm"), ("provider", "provider.wasm")],
        &[("caller", "test:matrix/echo@1.0.0", "provider")],
    );
    let composed = root.path().join("composed.wasm");
    let paths = [root.path(), composed.as_path()].map(|path| path.to_str().unwrap());
    tenon.run(root.path(), ["compose", "--config", paths[0], "-o", paths[1]]).expect_code(0);
    tenon.run_for(BUILD, root.path(), ["compile", paths[1]]).expect_code(0);
    let cases: Vec<&(&str, &str)> = cases.iter().copied().flatten().collect();
    let mut lines: Vec<String> = cases
        .iter()
        .map(|(function, value)| format!("test:matrix/relay@1.0.0.{function}({value})"))
        .collect();
    let mut expected: Vec<&str> = cases.iter().map(|(_, value)| *value).collect();
    for (fails, outcome) in [("false", "ok(7)"), ("true", r#"err("warum?")"#)] {
        lines.push(format!(r#"test:matrix/relay@1.0.0.outcome({fails}, 7, "warum?")"#));
        expected.push(outcome);
    }
    let ended = tenon
        .run_with_input(root.path(), ["call", paths[1], "--session", "--quiet"], &(lines.join("\n") + "\n"))
        .expect_code(0);
    let answers: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(answers.len(), expected.len(), "{}\n{}", ended.stdout, ended.stderr);
    for ((line, answer), expected) in lines.iter().zip(answers).zip(expected) {
        assert_eq!(spelt(line, answer), spelt(line, expected), "{line} through {caller} and {provider}");
    }
}

/// WAVE text in one spelling: a number has several, and a character may be escaped or not.
fn spelt(line: &str, text: &str) -> String {
    if line.contains(".single(") {
        return text.parse::<f32>().unwrap().to_string();
    }
    if line.contains(".double(") {
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

#[test]
fn values_pass_from_rust_to_rust() {
    values_pass("rust-caller", "rust-provider", &[EXACT, WIDE]);
}

#[test]
fn values_pass_from_rust_to_go() {
    values_pass("rust-caller", "go-provider", &[EXACT, WIDE]);
}

/// 64-bit integers are numbers there: `WIDE` is what it cannot carry.
#[test]
fn values_pass_from_rust_to_typescript() {
    values_pass("rust-caller", "typescript-provider", &[EXACT]);
}

#[test]
fn values_pass_from_rust_to_python() {
    values_pass("rust-caller", "python-provider", &[EXACT, WIDE]);
}

#[test]
fn values_pass_from_rust_to_c() {
    values_pass("rust-caller", "c-provider", &[EXACT, WIDE]);
}

#[test]
fn values_pass_from_rust_to_cpp() {
    values_pass("rust-caller", "cpp-provider", &[EXACT, WIDE]);
}

#[test]
fn values_pass_from_rust_to_assemblyscript() {
    values_pass("rust-caller", "assemblyscript-provider", &[EXACT, WIDE]);
}

#[test]
fn values_pass_from_assemblyscript_to_assemblyscript() {
    values_pass("assemblyscript-caller", "assemblyscript-provider", &[EXACT, WIDE]);
}

#[test]
fn values_pass_from_assemblyscript_to_c() {
    values_pass("assemblyscript-caller", "c-provider", &[EXACT, WIDE]);
}

/// Strings change their encoding on the way, for which Go has to move them.
#[test]
fn values_pass_from_assemblyscript_to_go() {
    values_pass("assemblyscript-caller", "go-provider", &[EXACT, WIDE]);
}

#[test]
fn values_pass_from_python_to_cpp() {
    values_pass("python-caller", "cpp-provider", &[EXACT, WIDE]);
}
