//! `tenon call`: typed values in and out of real guests.

use serde_json::{Value, json};
use tenon_testkit::{Finished, Guests};

use crate::support::{composition, tenon};

fn call_with(guest: &str, call: &str, flags: &[&str]) -> Finished {
    let tenon = tenon();
    let file = Guests::get(guest);
    let args = ["call", file.to_str().unwrap(), call].into_iter().chain(flags.iter().copied());
    tenon.run(tenon.data(), args)
}

#[track_caller]
fn answer(guest: &str, call: &str) -> String {
    call_with(guest, call, &["--quiet"]).expect_code(0).stdout.trim_end().to_owned()
}

#[track_caller]
fn answer_json(guest: &str, call: &str) -> Value {
    call_with(guest, call, &["--json"]).expect_code(0).json()
}

/// Runs the lines as one session.
fn session(guest: &str, lines: &str) -> Finished {
    let tenon = tenon();
    let file = Guests::get(guest);
    tenon.run_with_input(tenon.data(), ["call", file.to_str().unwrap(), "--session", "--quiet"], lines)
}

#[test]
fn every_type_goes_in_and_comes_out_again() {
    // One session: one start for all of them.
    let cases = [
        ("bool-of(true)", "true"),
        ("s8-of(-128)", "-128"),
        ("u8-of(255)", "255"),
        ("s16-of(-32768)", "-32768"),
        ("u16-of(65535)", "65535"),
        ("s32-of(-2147483648)", "-2147483648"),
        ("u32-of(4294967295)", "4294967295"),
        ("s64-of(-9223372036854775808)", "-9223372036854775808"),
        ("u64-of(18446744073709551615)", "18446744073709551615"),
        ("f32-of(0.1)", "0.1"),
        ("f64-of(-inf)", "-inf"),
        ("f64-of(nan)", "nan"),
        ("char-of('ß')", "'ß'"),
        ("string-of(\"a \\\"b\\\" # (c)\")", "\"a \\\"b\\\" # (c)\""),
        ("bytes-of([0, 255])", "[0, 255]"),
        ("list-of([\"a\", \"b\"])", "[\"a\", \"b\"]"),
        ("tuple-of((1, \"x\", false))", "(1, \"x\", false)"),
        ("color-of(green)", "green"),
        ("access-of({execute, read})", "{read, execute}"),
        ("point-of({y: 2, x: 1})", "{x: 1, y: 2}"),
        ("point-of({x: 1, y: 2, name: \"here\"})", "{x: 1, y: 2, name: some(\"here\")}"),
        ("shape-of(empty)", "empty"),
        ("shape-of(circle(1.5))", "circle(1.5)"),
        ("shape-of(polygon([{x: 0, y: 0}]))", "polygon([{x: 0, y: 0}])"),
        ("shape-of(%ok(red))", "%ok(red)"),
        ("option-of(none)", "none"),
        ("option-of(some(none))", "some(none)"),
        ("option-of(some(some(1)))", "some(some(1))"),
        ("result-of(ok({x: 1, y: 2}))", "ok({x: 1, y: 2})"),
        ("result-of(err(\"no\"))", "err(\"no\")"),
        ("move-by({x: 1, y: 2}, 10)", "{x: 11, y: 2}"),
        ("fixture:typed/echo@1.2.0.move-by({x: 1, y: 2}, 10, 20)", "{x: 11, y: 22}"),
        ("fixture:typed/echo.u8-of(1)", "1"),
        ("echo.u8-of(1)", "1"),
        ("greet(\"Ada\")", "\"hello, Ada\""),
        ("greet(\"Ada\", \"Dr.\")", "\"hello, Dr. Ada\""),
    ];
    let lines: Vec<&str> = cases.iter().map(|(call, _)| *call).collect();
    let ended = session("typed", &lines.join("\n")).expect_code(0);
    let answers: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(answers.len(), cases.len(), "{}", ended.stdout);
    for ((call, expected), answer) in cases.iter().zip(answers) {
        assert_eq!(answer, *expected, "{call}");
    }
}

#[test]
fn results_are_json_when_asked() {
    assert_eq!(answer_json("typed", "u64-of(18446744073709551615)"), json!("18446744073709551615"));
    assert_eq!(
        answer_json("typed", "shape-of(polygon([{x: 1, y: 2}]))"),
        json!({ "polygon": [{ "x": 1, "y": 2, "name": null }] })
    );
    assert_eq!(answer_json("typed", "say(\"x\")"), Value::Null);
}

#[test]
fn an_error_is_a_result_and_what_is_printed_is_not() {
    assert_eq!(answer("typed", "fail(\"because\")"), "err(\"because\")");
    let ended = call_with("typed", "say(\"a word\")", &["--quiet"]).expect_code(0);
    assert_eq!(ended.stdout, "");
    ended.expect_stderr(&["a word"]);
}

#[test]
fn streams_futures_and_async_functions_are_read_out() {
    assert_eq!(answer("typed-async", "double(21)"), "42");
    assert_eq!(answer("typed-async", "count(3)"), "[1, 2, 3]");
    assert_eq!(answer_json("typed-async", "bytes(3)"), json!("AAEC"));
    assert_eq!(answer("typed-async", "words(\"a b c\")"), "([\"a\", \"b\", \"c\"], 3)");
    assert_eq!(answer("typed-async", "later(\"x\")"), "ok(\"x\")");
    assert_eq!(answer("typed-async", "shout([104, 105])"), "\"HI\"");
}

#[test]
fn values_are_passed_in_registers_and_in_memory() {
    // What an async function gives back is passed like parameters: up to sixteen core values by themselves.
    assert_eq!(answer("typed-async", "bytes-of([0, 1, 255])"), "ok([0, 1, 255])");
    assert_eq!(answer("typed-async", "bytes-of([])"), "err(\"there are none\")");
    let one = "{id: 1, name: \"a\", at: some(0.5), level: high, tags: [\"t\"], marks: {last}, shape: named((\"n\", 7))}";
    let other = "{id: 18446744073709551615, name: \"\", level: low, tags: [], marks: {}, shape: circle(0.1)}";
    assert_eq!(answer("typed-async", &format!("one({one})")), one);
    assert_eq!(answer("typed-async", &format!("one({other})")), other);
    assert_eq!(answer("typed-async", &format!("two({one}, {other})")), format!("({other}, {one})"));
}

#[test]
fn a_stream_that_never_ends_well_is_a_failure() {
    call_with("typed-async", "abandon()", &[]).expect_code(1).expect_stderr(&["guest-trap"]);
    call_with("typed-async", "never()", &["--wall", "300ms"]).expect_code(1);
    // More than is taken over.
    call_with("typed-async", "bytes(3000000)", &["--response-body", "2MiB"])
        .expect_code(1)
        .expect_stderr(&["invalid-response", "more than 2MiB"]);
}

#[test]
fn resources_live_in_a_session_until_they_are_dropped_or_given_away() {
    let ended = session(
        "typed",
        "counter(5)\ncounter.add(#1, 2)\nvalue(#1)\n[constructor]counter(10)\n:handles\ncounters.alive()\n\
         counter.merge(#1, #2)\n:handles\nvalue(#3)\ncounters.alive()\n:drop #3\ncounters.alive()\n",
    )
    .expect_code(0);
    assert_eq!(
        ended.stdout.lines().collect::<Vec<_>>(),
        ["#1", "7", "7", "#2", "#1 #2", "2", "#3", "#3", "17", "1", "0"]
    );
}

#[test]
fn a_handle_that_is_not_there_is_refused_and_the_session_goes_on() {
    let ended = session("typed", "value(#1)\ncounter(1)\ncounter.merge(#1, #1)\nvalue(#1)\n:drop #7\n")
        .expect_code(1);
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), ["#1", "1"]);
    ended.expect_stderr(&["there is no #1", "#1 can be given away only once", "`#7` is no handle", "3 of 5"]);
    // Without a session there are none.
    call_with("typed", "value(#1)", &[]).expect_code(1).expect_stderr(&["there is no #1"]);
}

#[test]
fn a_failure_ends_the_sandbox_and_not_the_session() {
    let ended = session("typed", "counter(1)\npanic()\nvalue(#1)\ncounters.alive()\n").expect_code(1);
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), ["#1", "0"]);
    ended.expect_stderr(&["guest-trap", "there is no #1"]);
}

#[test]
fn limits_stop_a_call_as_they_stop_a_request() {
    call_with("typed", "spin()", &["--cpu", "50ms"])
        .expect_code(1)
        .expect_stderr(&["cpu-deadline", "cpu 50ms"]);
    call_with("typed", "grow()", &["--memory", "8MiB"]).expect_code(1).expect_stderr(&[
        "out-of-memory",
        "memory 8MiB",
        "--memory",
    ]);
    call_with("typed", "panic()", &[]).expect_code(1).expect_stderr(&["guest-trap"]);
}

#[test]
fn a_wrong_call_is_shown_with_the_spot() {
    for (call, code, texts) in [
        (
            "move-by({x: 1, y: true}, 10)",
            "wrong-arguments",
            &[
                "`p`, argument 1 of `move-by`",
                "expected s32, found a bool",
                "                ^^^^",
                "record point",
            ][..],
        ),
        ("u8-of(256)", "wrong-arguments", &["0 to 255", "      ^^^", "u8-of: func(value: u8) -> u8"]),
        ("u8-of(1, 2)", "wrong-arguments", &["takes 1 argument, and 2 were given", "         ^"]),
        ("u8-of()", "wrong-arguments", &["takes 1 argument, and 0 were given", "            ^^^^^^^^^"]),
        ("color-of(gren)", "wrong-arguments", &["there is no case `gren`", "`red`, `green`, `blue`"]),
        ("string-of(abc)", "wrong-arguments", &["text is written in quotes: \"abc\""]),
        ("u8-of(1", "invalid-arguments", &["not WAVE"]),
        ("color-off(red)", "no-such-function", &["did you mean `fixture:typed/echo@1.2.0.color-of`?"]),
        (
            "alive()",
            "ambiguous-function",
            &["fixture:typed/counters@1.2.0.alive", "fixture:typed/other@1.2.0.alive"],
        ),
    ] {
        let ended = call_with("typed", call, &[]).expect_code(1);
        assert_eq!(ended.stdout, "", "{call}");
        let ended = ended.expect_stderr(&[code]).expect_stderr(texts);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[test]
fn without_a_function_they_are_listed() {
    let tenon = tenon();
    let file = Guests::get("typed");
    let listed = tenon.run(tenon.data(), ["call", file.to_str().unwrap()]).expect_code(0).stdout;
    for line in [
        "greet: func(name: string, title: option<string>) -> string",
        "fixture:typed/echo@1.2.0",
        "  point-of: func(value: point) -> point",
        "  counter.add: func(self: borrow<counter>, by: u32) -> u32",
        "variant shape { empty, circle(f64), polygon(list<point>), ok(color) }",
    ] {
        assert!(listed.lines().any(|found| found == line), "no `{line}` in\n{listed}");
    }
}

#[test]
fn a_folder_and_an_artifact_are_called_like_a_component() {
    let tenon = tenon();
    let folder = tenon.data().join("app");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(Guests::get("not-a-handler"), folder.join("adder.wasm")).unwrap();
    composition(&folder, &[("adder", "adder.wasm")], &[]);
    tenon.run(&folder, ["compile", "adder.wasm", "-o", "adder.cwasm"]).expect_code(0);
    let listed = tenon.run(&folder, ["call", "adder.wasm", "--json"]).expect_code(0).json();
    let name = listed[0]["name"].as_str().unwrap().to_owned();
    for target in ["adder.wasm", "adder.cwasm", "."] {
        let listed = tenon.run(&folder, ["call", target, "--json"]).expect_code(0).stdout;
        assert!(listed.contains(&name), "{target}: {listed}");
    }
}
