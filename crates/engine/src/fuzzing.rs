//! What is done with bytes from outside: by the fuzzer without end (`fuzz/`), and by the tests here for a short while in
//! every test run. Whatever the bytes are, the answer is a value or a message, never a panic.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, Type};
use wasmtime::{Config, Engine};

use crate::gateway::{Elements, Gateway, Problem, Route, Taken, Unread};
use crate::host::Host;
use crate::value::{Arguments, DEPTH_MAX, NoHandles, from_json, from_wave, to_json, to_wave};

/// A function for each way in which a request can be read, and the types that they have.
const COMPONENT: &str = r#"
(component
  (core module $code
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
    (func (export "none"))
    (func (export "one") (param i32))
    (func (export "two") (param i32 i32))
    (func (export "six") (param i32 i32 i32 i32 i32 i32)))
  (core instance $code (instantiate $code))
  (type $level-d (enum "low" "high" "none"))
  (export $level "level" (type $level-d))
  (type $marks-d (flags "first" "last" "b-c"))
  (export $marks "marks" (type $marks-d))
  (type $pair (tuple s64 char))
  (type $deep (option (option $pair)))
  (type $shape-d (variant (case "none") (case "circle" f32) (case "some" $deep) (case "level" $level)))
  (export $shape "shape" (type $shape-d))
  (type $names (list string))
  (type $bytes (list u8))
  (type $outcome (result $shape (error $names)))
  (type $label (option string))
  (type $item-d (record
    (field "id" u64) (field "at" f64) (field "label" $label) (field "ok" bool) (field "small" s8)
    (field "level" $level) (field "marks" $marks) (field "shape" $shape) (field "names" $names) (field "bytes" $bytes)
    (field "outcome" $outcome)))
  (export $item "item" (type $item-d))
  (type $items (list $item))
  (type $item-stream (stream $item))
  (type $byte-stream (stream u8))
  (func $nothing (canon lift (core func $code "none")))
  (func $take (param "items" $items) (param "label" $label) (param "flag" bool)
    (canon lift (core func $code "six") (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
  (func $bytes-in (param "data" $bytes)
    (canon lift (core func $code "two") (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
  (func $lines (param "items" $item-stream)
    (canon lift (core func $code "one") (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
  (func $octets (param "data" $byte-stream)
    (canon lift (core func $code "one") (memory (core memory $code "memory")) (realloc (core func $code "realloc"))))
  (export "nothing" (func $nothing))
  (export "take" (func $take))
  (export "bytes-in" (func $bytes-in))
  (export "lines" (func $lines))
  (export "octets" (func $octets)))
"#;

struct Subject {
    gateway: Gateway,
    types: Vec<Type>,
}

static SUBJECT: LazyLock<Subject> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    let engine = Engine::new(&config).expect("an engine can be set up");
    let bytes = wat::parse_str(COMPONENT).expect("the component is well formed");
    let component = Component::new(&engine, bytes).expect("the component is valid");
    let types = component.component_type();
    let types = types.exports(&engine).filter_map(|(_, item)| match item.ty {
        ComponentItem::Type(ty) => Some(ty),
        _ => None,
    });
    let types = types.chain([Type::String, Type::Char, Type::S64, Type::Float32, Type::Float64, Type::Bool]);
    let instance = Linker::<Host>::new(&engine).instantiate_pre(&component).expect("it imports nothing");
    let gateway = Gateway::new(&engine, &component, instance).expect("its exports are found");
    Subject { gateway, types: types.collect() }
});

/// Reads a value, and the arguments of a call, in WAVE.
pub fn wave(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let arguments = Arguments::parse(&text);
    for ty in &SUBJECT.types {
        match from_wave(&text, ty) {
            Ok(value) => assert_eq!(from_wave(&to_wave(&value), ty).as_ref(), Ok(&value)),
            Err(error) => {
                assert!(
                    text.get(error.span.clone()).is_some(),
                    "{error} is not in the text: {:?}",
                    error.span
                );
            }
        }
        if let Ok(arguments) = &arguments {
            for index in 0..arguments.len() {
                let _either = arguments.value(index, ty, &mut NoHandles);
            }
        }
    }
}

/// Reads a value in JSON, and writes it again.
pub fn json(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    for ty in &SUBJECT.types {
        match from_json(&json, ty) {
            Ok(value) => assert_eq!(from_json(&to_json(&value, ty), ty).as_ref(), Ok(&value)),
            Err(error) => {
                assert!(
                    json.pointer(&error.pointer).is_some(),
                    "{error} is not in the value: {}",
                    error.pointer
                );
                assert!(error.pointer.matches('/').count() <= DEPTH_MAX);
            }
        }
    }
}

/// Reads a request: its method and path in the first line, its media type in the second, then its body. Says whether it
/// was a call.
pub fn request(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (line, media_type, body) = (String::from_utf8_lossy(next()).into_owned(), next(), next());
    let (method, path) = line.split_once(' ').unwrap_or(("POST", &line));
    let Ok(method) = method.parse::<Method>() else { return false };
    let mut headers = HeaderMap::new();
    if let (Ok(value), false) = (HeaderValue::from_bytes(media_type), media_type.is_empty()) {
        headers.insert(CONTENT_TYPE, value);
    }
    let function = match SUBJECT.gateway.route(&method, path) {
        Route::Call(function) => function,
        Route::Answer(_) => return false,
        Route::Refused(problem) => return refused(problem),
    };
    match function.taken(&headers) {
        Err(problem) => refused(problem),
        Ok(Taken::Stream) => function.element().is_none_or(|element| lines(element, body)),
        Ok(taken) => match function.arguments(taken, Some(Bytes::copy_from_slice(body))) {
            Ok(_) => true,
            Err(problem) => refused(problem),
        },
    }
}

/// Reads lines that come in pieces, which must not make a difference.
fn lines(element: Type, body: &[u8]) -> bool {
    let read = |piece_bytes: usize| {
        let (mut elements, mut read) = (Elements::new(Some(element.clone())), Vec::new());
        let mut pieces = body.chunks(piece_bytes);
        loop {
            match elements.take() {
                Ok(Some(more)) => read.extend(more),
                Ok(None) => return (read, None),
                Err(Unread::Problem(problem)) => return (read, Some(*problem)),
                Err(Unread::More) => match pieces.next() {
                    Some(piece) => elements.push(piece),
                    None => elements.end(),
                },
            }
        }
    };
    let whole = read(usize::MAX);
    assert_eq!(whole, read(1 + body.len() % 7), "pieces make a difference");
    match whole.1 {
        None => true,
        Some(problem) => refused(problem),
    }
}

/// A refusal must be a response that can be sent.
fn refused(problem: Problem) -> bool {
    assert!(problem.response("id").status().is_client_error());
    false
}

#[cfg(test)]
#[path = "../../../fuzz/mutation.rs"]
mod mutation;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    use super::mutation::{Random, mutate, mutate_text};

    /// The seeds of the fuzzer, by name.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| fs::read(file).unwrap()).collect()
    }

    fn mutated(target: &str, rounds: u64, words: &[&str], mut body: impl FnMut(&[u8])) {
        let seeds = seeds(target);
        seeds.iter().for_each(|seed| body(seed));
        for round in 0..rounds {
            let mut random = Random(round);
            let seed = &seeds[random.below(seeds.len())];
            let mutated = match round % 2 {
                0 => mutate(&mut random, seed),
                _ => mutate_text(&mut random, &String::from_utf8_lossy(seed), words).into_bytes(),
            };
            let run = std::panic::AssertUnwindSafe(|| body(&mutated));
            if std::panic::catch_unwind(run).is_err() {
                panic!("round {round} panicked: {:?}", String::from_utf8_lossy(&mutated));
            }
        }
    }

    /// Rounds, which can be many more by hand.
    fn rounds() -> u64 {
        option_env!("TENON_FUZZ_ROUNDS").and_then(|rounds| rounds.parse().ok()).unwrap_or(1_500)
    }

    const WAVE: [&str; 24] = [
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "'",
        "\\",
        "\\u{110000}",
        "none",
        "some(",
        "ok(",
        "err",
        "-",
        "nan",
        "-inf",
        "18446744073709551616",
        "1e999",
        "#1",
        "%none",
        "\u{1f980}",
    ];
    const JSON: [&str; 24] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\u0000",
        "\\ud800",
        "null",
        "true",
        "-",
        "-0",
        "1e999",
        "0.1",
        "18446744073709551615",
        "-9223372036854775808",
        "\"NaN\"",
        "\"some\"",
        "\"id\"",
        "\"~/\"",
        "\"AA==\"",
        "\"#1\"",
        "\u{1f980}",
    ];

    #[test]
    fn wave_never_panics() {
        mutated("wave", rounds(), &WAVE, wave);
        wave("some(".repeat(10_000).as_bytes());
        wave("[".repeat(10_000).as_bytes());
    }

    #[test]
    fn json_never_panics() {
        mutated("json", rounds(), &JSON, json);
    }

    #[test]
    fn requests_never_panic() {
        let mut calls = 0;
        mutated("request", rounds() * 2, &JSON, |bytes| calls += u64::from(request(bytes)));
        assert!(calls > 10, "some mutations are harmless, or the test tests nothing");
    }

    #[test]
    fn most_seeds_are_values_and_calls() {
        let requests = seeds("request");
        let calls = requests.iter().filter(|seed| request(seed)).count();
        assert!(calls >= 4 && calls < requests.len(), "{calls} of {}", requests.len());
        let item = SUBJECT.types.iter().find(|ty| matches!(ty, Type::Record(_))).unwrap();
        assert!(seeds("wave").iter().any(|seed| from_wave(&String::from_utf8_lossy(seed), item).is_ok()));
        let parsed = |seed: &[u8]| serde_json::from_slice(seed).ok().map(|json| from_json(&json, item));
        assert!(seeds("json").iter().any(|seed| parsed(seed).is_some_and(|read| read.is_ok())));
    }
}
