//! `tenon test`: what holds passes, what does not is shown with its place and both values.

use std::path::{Path, PathBuf};

use tenon_testkit::{Finished, Guests, Tenon};

use crate::support::tenon;

/// A folder with a guest and a test file.
fn folder(tenon: &Tenon, guest: &str, tests: &str) -> PathBuf {
    let folder = tenon.data().join("suite");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(Guests::get(guest), folder.join(format!("{guest}.wasm"))).unwrap();
    std::fs::write(folder.join("tenon.test.toml"), tests).unwrap();
    folder
}

fn test(tenon: &Tenon, folder: &Path, args: &[&str]) -> Finished {
    let args: Vec<&str> = ["test", "."].into_iter().chain(args.iter().copied()).collect();
    tenon.run(folder, args)
}

const HOLDS: &str = r#"
path = "typed.wasm"

[generate]
echo = ["fixture:typed/echo.*-of"]

[[test]]
name = "greets with a title"
call = 'greet("Ann", some("Dr"))'
expect = '"hello, Dr Ann"'

[[test]]
call = 'move-by({x: 1, y: 2}, 3)'
expect = '{x: 4, y: 2}'

[[test]]
call = 'f64-of(nan)'
expect = 'nan'

[[test]]
name = "an error by its value"
call = 'fail("no")'
expect-error = 'no'

[[test]]
name = "a failure by its code"
call = 'panic()'
expect-error = "guest-trap"

[[test]]
name = "a limit by its code"
call = 'spin()'
expect-error = "cpu-deadline"

[[test]]
name = "a resource, in one sandbox"
before = ['counter(40)', 'counter.add(#1, 1)']
call = 'counters.value(#1)'
expect = '41'

[[test]]
name = "over HTTP"
request = { method = "POST", path = "/greet", json = { name = "Ann" } }
expect = { status = 200, headers = { content-type = "application/json" }, json = "hello, Ann" }

[[test]]
name = "a problem"
request = { method = "GET", path = "/nothing" }
expect = { status = 404, headers = { x-error-code = "not-found" } }
"#;

#[test]
fn what_holds_passes_and_is_reported_in_every_form() {
    let tenon = tenon();
    let folder = folder(&tenon, "typed", HOLDS);
    let done = test(&tenon, &folder, &["--cpu", "200ms", "--junit", "out/junit.xml"]).expect_code(0);
    assert!(done.stdout.contains("ok      greets with a title"), "{}", done.stdout);
    assert!(done.stdout.trim_end().ends_with("9 passed, 0 failed"), "{}", done.stdout);
    let xml = std::fs::read_to_string(folder.join("out/junit.xml")).unwrap();
    assert!(xml.contains("tests=\"9\" failures=\"0\""), "{xml}");

    let done = test(&tenon, &folder, &["--cpu", "200ms", "--json"]).expect_code(0).json();
    assert_eq!((&done["passed"], &done["failed"]), (&9.into(), &0.into()));
    assert_eq!(done["tests"][3]["name"], "an error by its value");
}

#[test]
fn what_does_not_hold_shows_both_values_and_where_they_part() {
    let tenon = tenon();
    let tests = r#"path = "typed.wasm"
[[test]]
name = "a record"
call = 'shape-of(polygon([{x: 1, y: 2, name: some("p")}, {x: 3, y: 4}]))'
expect = 'polygon([{x: 1, y: 2, name: some("p")}, {x: 3, y: 5}])'
[[test]]
name = "holds"
call = 'alive-not()'
expect-error = "no-such-function"
[[test]]
name = "another error"
call = 'fail("no")'
expect-error = 'yes'
[[test]]
name = "no error"
call = 'greet("Ann")'
expect-error = 'guest-trap'
[[test]]
name = "no value of the type"
call = 'u8-of(1)'
expect = '256'
[[test]]
name = "an error is no success"
call = 'fail("no")'
[[test]]
name = "another body"
request = { method = "POST", path = "/echo/point-of", json = { value = { x = 1, y = 2 } } }
expect = { json = { x = 1, y = 3 } }
"#;
    let folder = folder(&tenon, "typed", tests);
    let done = test(&tenon, &folder, &["--junit", "junit.xml"]).expect_code(1);
    assert!(done.stdout.trim_end().ends_with("0 passed, 7 failed"), "{}", done.stdout);
    let done = done.expect_stderr(&[
        "error[test-failed]: a record: the value is another one",
        "tenon.test.toml:5:10",
        "at .polygon[1].y\n    expected 5\n    found    4",
        "another error: the error is another one",
        "no error: it ended well",
        "tenon.test.toml:21:10",
        "an error is no success: it returned an error",
        "at /y",
    ]);
    assert!(done.stderr.contains("[no-such-function]"), "{}", done.stderr);
    let xml = std::fs::read_to_string(folder.join("junit.xml")).unwrap();
    assert!(xml.contains("tests=\"7\" failures=\"7\""), "{xml}");
}

#[test]
fn a_file_that_is_wrong_runs_nothing() {
    let tenon = tenon();
    let tests = "path = \"typed.wasm\"\n[[test]]\ncal = 'greet()'\n[[test]]\ncall = 1\n";
    let folder = folder(&tenon, "typed", tests);
    let done = test(&tenon, &folder, &[]).expect_code(1);
    let done = done.expect_stderr(&[
        "invalid-test",
        "tenon.test.toml:3:1",
        "did you mean `call`?",
        "tenon.test.toml:5:8",
    ]);
    assert_eq!(done.stdout, "");
    std::fs::remove_file(folder.join("tenon.test.toml")).unwrap();
    test(&tenon, &folder, &[]).expect_code(1).expect_stderr(&["no-tests"]);
}

#[test]
fn generated_values_come_back_and_seeds_repeat() {
    let tenon = tenon();
    let generated = |suite: &Path, code: i32| {
        let done = test(&tenon, suite, &["--json", "--generate=40", "--seed", "7"]).expect_code(code);
        let first = done.stdout.lines().next().unwrap().to_owned();
        serde_json::from_str::<serde_json::Value>(&first).unwrap()["tests"].as_array().unwrap().clone()
    };
    let of = |tests: &[serde_json::Value], name: &str| {
        tests.iter().find(|it| it["name"].as_str().unwrap().contains(name)).unwrap().clone()
    };
    let echoes = "path = \"typed.wasm\"\n[generate]\necho = [\"fixture:typed/echo.*-of\"]\n";
    let suite = folder(&tenon, "typed", echoes);
    let tests = generated(&suite, 0);
    for name in [
        "shape-of gives back",
        "string-of gives back",
        "option-of gives back",
        "f32-of gives back",
        "greet takes any",
    ] {
        assert_eq!(of(&tests, name)["passed"], true, "{}", of(&tests, name));
    }
    assert!(!tests.iter().any(|it| it["name"].as_str().unwrap().contains("merge")), "it needs resources");

    // What is no echo is found out, with the call, and again with the same seed.
    let suite = folder(&tenon, "typed", "path = \"typed.wasm\"\n[generate]\necho = [\"greet\"]\n");
    let wrong = of(&generated(&suite, 1), "greet gives back");
    assert_eq!(wrong["passed"], false, "{wrong}");
    let call = |test: &serde_json::Value| {
        let notes = test["failure"]["notes"].as_array().unwrap().clone();
        notes.into_iter().find(|note| note["label"] == "call").unwrap()["text"].clone()
    };
    assert!(call(&wrong).as_str().unwrap().starts_with("greet("), "{wrong}");
    assert_eq!(call(&wrong), call(&of(&generated(&suite, 1), "greet gives back")));

    // A pattern that nothing is called by is a failure of its own; a path behind `--generate` is a path.
    let suite = folder(&tenon, "typed", "path = \"typed.wasm\"\n[generate]\necho = [\"grete\"]\n");
    let tests = generated(&suite, 1);
    assert_eq!(of(&tests, "greet takes any")["passed"], true);
    assert_eq!(of(&tests, "it can be tested")["failure"]["code"], "no-such-function");
    let done = tenon.run(&suite, ["test", "--generate", "."]).expect_code(1);
    assert!(done.stdout.contains("(100 generated)"), "{}", done.stdout);
}

/// A component that asks an interface it imports, as text: no compiler is needed.
fn asker(folder: &Path) {
    let text = r#"(component
        (import "demo:dep/numbers@1.0.0" (instance $numbers
            (export "double" (func (param "value" u32) (result u32)))))
        (alias export $numbers "double" (func $double))
        (core func $lowered (canon lower (func $double)))
        (core module $m
            (import "dep" "double" (func $double (param i32) (result i32)))
            (func (export "ask") (param i32) (result i32)
                local.get 0 call $double i32.const 1 i32.add))
        (core instance $i (instantiate $m (with "dep" (instance (export "double" (func $lowered))))))
        (func (export "ask") (param "value" u32) (result u32) (canon lift (core func $i "ask"))))"#;
    std::fs::write(folder.join("asker.wasm"), tenon_testkit::fixtures::binary(text)).unwrap();
}

/// A component that exports that interface.
fn doubler(folder: &Path) {
    let text = r#"(component
        (core module $m (func (export "double") (param i32) (result i32) local.get 0 i32.const 2 i32.mul))
        (core instance $i (instantiate $m))
        (func $double (param "value" u32) (result u32) (canon lift (core func $i "double")))
        (instance $numbers (export "double" (func $double)))
        (export "demo:dep/numbers@1.0.0" (instance $numbers)))"#;
    std::fs::write(folder.join("doubler.wasm"), tenon_testkit::fixtures::binary(text)).unwrap();
}

#[test]
fn imports_are_mocked_by_values_and_by_components() {
    let tenon = tenon();
    let folder = tenon.data().join("suite");
    std::fs::create_dir_all(folder.join("tests")).unwrap();
    asker(&folder);
    doubler(&folder);
    let write = |name: &str, text: &str| std::fs::write(folder.join("tests").join(name), text).unwrap();
    write(
        "values.toml",
        "[[implementation]]\nname = \"one\"\npath = \"../asker.wasm\"\n[[implementation]]\nname = \"two\"\npath = \"../asker.wasm\"\n\
         [mock.\"demo:dep/numbers\"]\ndouble = [{ arguments = '(20)', result = '41' }, { arguments = '(21)', trap = \"no\" }]\n\
         [[test]]\ncall = 'ask(20)'\nexpect = '42'\n\
         [[test]]\ncall = 'ask(21)'\nexpect-error = 'guest-trap'\n",
    );
    write(
        "component.toml",
        "path = \"../asker.wasm\"\n[mock.\"demo:dep/numbers\"]\npath = \"../doubler.wasm\"\n[[test]]\ncall = 'ask(20)'\nexpect = '41'\n",
    );
    let done = test(&tenon, &folder, &[]).expect_code(0);
    assert!(done.stdout.contains("values.toml (two)"), "{}", done.stdout);
    assert!(done.stdout.trim_end().ends_with("5 passed, 0 failed"), "{}", done.stdout);

    // Without the mock it is refused, and the other file is tested all the same; with a wrong one its place is shown.
    write("values.toml", "path = \"../asker.wasm\"\n[[test]]\ncall = 'ask(20)'\n");
    let done = test(&tenon, &folder, &["--junit", "."]).expect_code(1);
    assert!(done.stdout.contains("FAILED  it can be tested"), "{}", done.stdout);
    assert!(done.stdout.contains("1 passed, "), "{}", done.stdout);
    done.expect_stderr(&["demo:dep/numbers", "cannot-write"]);
    write(
        "values.toml",
        "path = \"../asker.wasm\"\n[mock.\"demo:dep/numbers\"]\ndouble = { result = '\"a\"' }\nduoble = { result = '1' }\n[[test]]\ncall = 'ask(20)'\n",
    );
    let done = test(&tenon, &folder, &[]).expect_code(1);
    done.expect_stderr(&["invalid-value", "values.toml:3:21", "unused-mock", "did you mean `double`?"]);
}
