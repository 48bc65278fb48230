//! Generated types, generated values of them, there and back again.

use std::fmt::Write as _;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Type};
use wasmtime::{Config, Engine};

use super::{Arguments, NoHandles, Val, from_json, from_wave, show_type, to_json, to_wave};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.wasm_component_model_map(true).wasm_component_model_fixed_length_lists(true);
    Engine::new(&config).unwrap()
});

/// A type, before the engine has seen it.
#[derive(Clone, Debug)]
enum Shape {
    Plain(&'static str),
    List(Box<Shape>),
    Fixed(Box<Shape>, usize),
    Map(&'static str, Box<Shape>),
    Tuple(Vec<Shape>),
    Record(Vec<Shape>),
    Variant(Vec<Option<Shape>>),
    Enum(usize),
    Flags(usize),
    Option(Box<Shape>),
    Result(Option<Box<Shape>>, Option<Box<Shape>>),
}

const PLAIN: [&str; 13] =
    ["bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string"];
const KEYS: [&str; 11] = ["bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "char", "string"];
/// WAVE's keywords are names like any other in WIT.
const NAMES: [&str; 10] = ["ok", "none", "b-c", "true", "inf", "some", "a", "err", "x1-y2", "nan"];

fn shapes() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        4 => prop::sample::select(&PLAIN[..]).prop_map(Shape::Plain),
        1 => (1..=NAMES.len()).prop_map(Shape::Enum),
        1 => (1..=NAMES.len()).prop_map(Shape::Flags),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        let some = || inner.clone().prop_map(Box::new);
        let maybe = || proptest::option::of(inner.clone().prop_map(Box::new));
        prop_oneof![
            some().prop_map(Shape::List),
            (some(), 1..5_usize).prop_map(|(item, length)| Shape::Fixed(item, length)),
            (prop::sample::select(&KEYS[..]), some()).prop_map(|(key, value)| Shape::Map(key, value)),
            vec(inner.clone(), 1..4).prop_map(Shape::Tuple),
            vec(inner.clone(), 1..5).prop_map(Shape::Record),
            vec(proptest::option::of(inner.clone()), 1..5).prop_map(Shape::Variant),
            // Twice: options of options are where mistakes are made.
            some().prop_map(Shape::Option),
            some().prop_map(Shape::Option),
            (maybe(), maybe()).prop_map(|(ok, err)| Shape::Result(ok, err)),
        ]
    })
}

fn values(shape: &Shape) -> BoxedStrategy<Val> {
    let maybe = |shape: &Option<Box<Shape>>| match shape {
        None => Just(None).boxed(),
        Some(shape) => values(shape).prop_map(|value| Some(Box::new(value))).boxed(),
    };
    match shape {
        Shape::Plain(name) => plain_values(name),
        Shape::List(item) => vec(values(item), 0..4).prop_map(Val::List).boxed(),
        Shape::Fixed(item, length) => vec(values(item), *length).prop_map(Val::FixedLengthList).boxed(),
        Shape::Map(key, value) => vec((plain_values(key), values(value)), 0..4).prop_map(Val::Map).boxed(),
        Shape::Tuple(items) => items.iter().map(values).collect::<Vec<_>>().prop_map(Val::Tuple).boxed(),
        Shape::Record(fields) => fields
            .iter()
            .map(values)
            .collect::<Vec<_>>()
            .prop_map(|values| Val::Record(NAMES.iter().map(ToString::to_string).zip(values).collect()))
            .boxed(),
        Shape::Variant(cases) => {
            let cases = cases.iter().zip(NAMES).map(|(payload, name)| match payload {
                None => Just(Val::Variant(name.to_owned(), None)).boxed(),
                Some(shape) => values(shape)
                    .prop_map(move |value| Val::Variant(name.to_owned(), Some(Box::new(value))))
                    .boxed(),
            });
            proptest::strategy::Union::new(cases).boxed()
        }
        Shape::Enum(length) => {
            prop::sample::select(&NAMES[..*length]).prop_map(|name| Val::Enum(name.to_owned())).boxed()
        }
        Shape::Flags(length) => prop::sample::subsequence(&NAMES[..*length], 0..=*length)
            .prop_map(|names| Val::Flags(names.into_iter().map(str::to_owned).collect()))
            .boxed(),
        Shape::Option(shape) => {
            proptest::option::of(values(shape).prop_map(Box::new)).prop_map(Val::Option).boxed()
        }
        Shape::Result(ok, err) => prop_oneof![
            maybe(ok).prop_map(|payload| Val::Result(Ok(payload))),
            maybe(err).prop_map(|payload| Val::Result(Err(payload))),
        ]
        .boxed(),
    }
}

fn plain_values(name: &str) -> BoxedStrategy<Val> {
    match name {
        "bool" => any::<bool>().prop_map(Val::Bool).boxed(),
        "s8" => any::<i8>().prop_map(Val::S8).boxed(),
        "u8" => any::<u8>().prop_map(Val::U8).boxed(),
        "s16" => any::<i16>().prop_map(Val::S16).boxed(),
        "u16" => any::<u16>().prop_map(Val::U16).boxed(),
        "s32" => any::<i32>().prop_map(Val::S32).boxed(),
        "u32" => any::<u32>().prop_map(Val::U32).boxed(),
        "s64" => prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)].prop_map(Val::S64).boxed(),
        "u64" => prop_oneof![any::<u64>(), Just(u64::MAX), Just((1 << 53) + 1)].prop_map(Val::U64).boxed(),
        // Every bit pattern: infinities, subnormal numbers, negative zero and many NaNs among them.
        "f32" => prop_oneof![any::<u32>().prop_map(f32::from_bits), any::<f32>(), Just(-0.0), Just(f32::NAN)]
            .prop_map(Val::Float32)
            .boxed(),
        "f64" => {
            prop_oneof![any::<u64>().prop_map(f64::from_bits), any::<f64>(), Just(-0.0), Just(f64::INFINITY)]
                .prop_map(Val::Float64)
                .boxed()
        }
        "char" => prop_oneof![any::<char>(), Just('\''), Just('\u{301}')].prop_map(Val::Char).boxed(),
        _ => prop_oneof![any::<String>(), "[#\"'\\\\/ \n0-9-]{0,12}"].prop_map(Val::String).boxed(),
    }
}

/// The engine's type: of a component that exports it.
fn engine_type(shape: &Shape) -> Type {
    let mut text = String::from("(component\n");
    let mut next = 0;
    let root = declare(&mut text, shape, &mut next);
    write!(text, "(export \"root\" (type {root})))").unwrap();
    let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let component = Component::new(&ENGINE, bytes).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
    match component.component_type().get_export(&ENGINE, "root").map(|export| export.ty) {
        Some(ComponentItem::Type(ty)) => ty,
        other => panic!("{other:?}"),
    }
}

/// Declares a type and gives back what to call it; what has names of its own must be exported to be used.
fn declare(text: &mut String, shape: &Shape, next: &mut usize) -> String {
    let mut of = |shape: &Shape| declare(text, shape, next);
    let mut payload = |name: &str, shape: Option<&Shape>| {
        shape
            .map(|shape| if name.is_empty() { of(shape) } else { format!("({name} {})", of(shape)) })
            .unwrap_or_default()
    };
    let (body, named) = match shape {
        Shape::Plain(name) => ((*name).to_owned(), false),
        Shape::List(item) => (format!("(list {})", payload("", Some(item))), false),
        Shape::Fixed(item, length) => (format!("(list {} {length})", payload("", Some(item))), false),
        Shape::Map(key, value) => (format!("(map {key} {})", payload("", Some(value))), false),
        Shape::Tuple(items) => {
            let items: Vec<_> = items.iter().map(|item| payload("", Some(item))).collect();
            (format!("(tuple {})", items.join(" ")), false)
        }
        Shape::Record(fields) => {
            let fields = fields.iter().zip(NAMES);
            let fields: Vec<_> =
                fields.map(|(field, name)| payload(&format!("field \"{name}\""), Some(field))).collect();
            (format!("(record {})", fields.join(" ")), true)
        }
        Shape::Variant(cases) => {
            let cases: Vec<_> = cases
                .iter()
                .zip(NAMES)
                .map(|(case, name)| format!("(case \"{name}\" {})", payload("", case.as_ref())))
                .collect();
            (format!("(variant {})", cases.join(" ")), true)
        }
        Shape::Enum(length) => (format!("(enum {})", quoted(*length)), true),
        Shape::Flags(length) => (format!("(flags {})", quoted(*length)), true),
        Shape::Option(shape) => (format!("(option {})", payload("", Some(shape))), false),
        Shape::Result(ok, err) => {
            let ok = payload("", ok.as_deref());
            (format!("(result {ok} {})", payload("error", err.as_deref())), false)
        }
    };
    *next += 1;
    let index = *next;
    if named {
        writeln!(text, "(type $d{index} {body}) (export $t{index} \"t{index}\" (type $d{index}))").unwrap();
    } else {
        writeln!(text, "(type $t{index} {body})").unwrap();
    }
    format!("$t{index}")
}

fn quoted(length: usize) -> String {
    NAMES[..length].iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" ")
}

fn a_type_and_values() -> impl Strategy<Value = (Shape, Vec<Val>)> {
    shapes().prop_flat_map(|shape| {
        let values = vec(values(&shape), 1..6);
        (Just(shape), values)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_there_and_back_is_the_same_value((shape, values) in a_type_and_values()) {
        let ty = engine_type(&shape);
        for value in values {
            let json = to_json(&value, &ty);
            let back = from_json(&json, &ty).map_err(|error| TestCaseError::fail(format!("{error:?}: {json}")))?;
            prop_assert_eq!(&back, &value, "{}", json);
        }
    }

    #[test]
    fn wave_there_and_back_is_the_same_value((shape, values) in a_type_and_values()) {
        let ty = engine_type(&shape);
        for value in values {
            let text = to_wave(&value);
            let back = from_wave(&text, &ty).map_err(|error| TestCaseError::fail(format!("{error:?}: {text}")))?;
            prop_assert_eq!(&back, &value, "{}", text);
            // The same as an argument of a call, among others.
            let call = format!("( {text} ,{text})");
            let arguments = Arguments::parse(&call).map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
            prop_assert_eq!(arguments.len(), 2);
            prop_assert_eq!(&call[arguments.span(1).unwrap()], &text);
            prop_assert_eq!(&arguments.value(1, &ty, &mut NoHandles).unwrap(), &value);
        }
    }

    #[test]
    fn a_value_of_one_type_read_as_another_is_an_error_or_a_value_of_it(
        (shape, values) in a_type_and_values(), other in shapes()
    ) {
        let (ty, other) = (engine_type(&shape), engine_type(&other));
        for value in values {
            let json = to_json(&value, &ty);
            if let Err(error) = from_json(&json, &other) {
                prop_assert!(json.pointer(&error.pointer).is_some(), "{} is nowhere in {json}", error.pointer);
            }
            let text = to_wave(&value);
            if let Err(error) = from_wave(&text, &other) {
                prop_assert!(text.get(error.span.clone()).is_some(), "{:?} is nowhere in {text}", error.span);
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[-a-z0-9#%(){}\\[\\]:,'\"\\\\. \n/]{0,40}", shape in shapes()) {
        let ty = engine_type(&shape);
        let _ = from_wave(&text, &ty);
        if let Ok(arguments) = Arguments::parse(&text) {
            for index in 0..arguments.len() {
                let _ = arguments.value(index, &ty, &mut NoHandles);
            }
        }
    }
}

/// A type from its text in the component text format.
fn ty(body: &str) -> Type {
    let text = format!("(component (type $d {body}) (export \"root\" (type $d)))");
    let component = Component::new(&ENGINE, wat::parse_str(text).unwrap()).unwrap();
    match component.component_type().get_export(&ENGINE, "root").map(|export| export.ty) {
        Some(ComponentItem::Type(ty)) => ty,
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_looks_as_documented() {
    let some = |value| Val::Option(Some(Box::new(value)));
    for (body, value, expected) in [
        ("u64", Val::U64(u64::MAX), json!("18446744073709551615")),
        ("s64", Val::S64(-1), json!("-1")),
        ("u32", Val::U32(7), json!(7)),
        ("f32", Val::Float32(0.1), json!(0.1)),
        ("f64", Val::Float64(f64::NEG_INFINITY), json!("-Infinity")),
        ("f64", Val::Float64(f64::NAN), json!("NaN")),
        ("char", Val::Char('ä'), json!("ä")),
        ("(list u8)", Val::List(vec![Val::U8(0), Val::U8(255)]), json!("AP8=")),
        ("(list u16)", Val::List(vec![Val::U16(1)]), json!([1])),
        ("(option u8)", some(Val::U8(1)), json!(1)),
        ("(option (option u8))", some(Val::Option(None)), json!({ "some": null })),
        ("(option (option u8))", some(some(Val::U8(1))), json!({ "some": 1 })),
        ("(result u8)", Val::Result(Ok(Some(Box::new(Val::U8(1))))), json!({ "ok": 1 })),
        ("(result u8)", Val::Result(Err(None)), json!({ "err": null })),
        ("(map string u8)", Val::Map(vec![(Val::String("a".into()), Val::U8(1))]), json!([["a", 1]])),
        ("(tuple u8 bool)", Val::Tuple(vec![Val::U8(1), Val::Bool(true)]), json!([1, true])),
        ("(record (field \"a-b\" u8))", Val::Record(vec![("a-b".into(), Val::U8(1))]), json!({ "a-b": 1 })),
        ("(enum \"red\" \"green\")", Val::Enum("green".into()), json!("green")),
        ("(flags \"r\" \"w\")", Val::Flags(vec!["w".into()]), json!(["w"])),
        ("(variant (case \"a\") (case \"b\" u8))", Val::Variant("a".into(), None), json!("a")),
        (
            "(variant (case \"a\") (case \"b\" u8))",
            Val::Variant("b".into(), Some(Box::new(Val::U8(1)))),
            json!({ "b": 1 }),
        ),
    ] {
        let ty = ty(body);
        assert_eq!(to_json(&value, &ty), expected, "{body}");
        assert_eq!(from_json(&expected, &ty), Ok(value), "{body}");
    }
    assert_eq!(from_json(&json!(9_007_199_254_740_993_u64), &Type::U64), Ok(Val::U64(9_007_199_254_740_993)));
    assert_eq!(from_json(&json!("AP8"), &ty("(list u8)")), from_json(&json!("AP8="), &ty("(list u8)")));
}

#[test]
fn faults_in_json_are_found_where_they_are() {
    let nested = ty("(list (tuple string (list (option (list u8)))))");
    for (ty, json, pointer, message) in [
        (Type::U8, json!(256), "", "expected an integer from 0 to 255, found 256"),
        (Type::U64, json!("1.5"), "", "expected an unsigned 64-bit integer"),
        (Type::U64, json!(-1), "", "found -1"),
        (Type::U64, json!("+1"), "", "found the string \"+1\""),
        (Type::Char, json!("ab"), "", "expected a string of one character"),
        (Type::Float32, json!(1e39), "", "expected a number"),
        (nested.clone(), json!([["a", []], ["b", [null, "?"]]]), "/1/1/1", "base64"),
        (nested, json!([["a"]]), "/0", "an array of 2 elements"),
        (ty("(record (field \"a\" u8))"), json!({ "a": 1, "b/c~": 2 }), "/b~1c~0", "only the fields `a`"),
        (ty("(record (field \"a\" u8))"), json!({}), "", "the field `a` of type u8, found none"),
        (ty("(variant (case \"a\" u8))"), json!({ "a": "x" }), "/a", "an integer from 0 to 255"),
        (ty("(variant (case \"a\" u8))"), json!("a"), "", "the case `a` with its value of type u8"),
        (ty("(enum \"red\")"), json!("Red"), "", "one of `red`, found `Red`"),
        (ty("(flags \"r\" \"w\")"), json!(["r", "x"]), "/1", "one of the flags `r`, `w`"),
        (ty("(option (option u8))"), json!(1), "", "null or {\"some\": value}"),
        (ty("(result u8 (error string))"), json!({ "err": 1 }), "/err", "expected a string, found 1"),
    ] {
        let error = from_json(&json, &ty).unwrap_err();
        assert_eq!(error.pointer, pointer, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
    let large = serde_json::Value::from(vec![0; super::VALUES_MAX]);
    assert!(from_json(&large, &ty("(list u16)")).unwrap_err().to_string().contains("at most"));
    // Bytes are no values: what bounds them is the body that they come in.
    let large = serde_json::Value::from("A".repeat(4 * super::VALUES_MAX));
    assert_eq!(from_json(&large, &ty("(list u8)")).unwrap().list_len(), Some(3 * super::VALUES_MAX));
}

#[test]
fn faults_in_wave_are_found_where_they_are() {
    for (ty, text, marked, message) in [
        (Type::U8, "256", "256", "an integer from 0 to 255"),
        (Type::String, "abc", "abc", "expected string, found a name"),
        (Type::Float64, "1e999", "1e999", "too large"),
        (ty("(list u8)"), "[1, true]", "true", "expected u8, found a bool"),
        (ty("(record (field \"a\" u8))"), "{b: 1}", "1", "there is no field `b`"),
        (
            ty("(record (field \"a\" u8) (field \"b\" u8))"),
            "{b: 1}",
            "{b: 1}",
            "the field `a: u8` is missing",
        ),
        (ty("(enum \"red\")"), "blue", "blue", "there is no case `blue`"),
        (ty("(tuple u8 u8)"), "(1, 2, 3)", "(1, 2, 3)", "expected 2 elements, found 3"),
        (Type::U8, "#1", "1", "expected u8, found a resource"),
        (ty("(list string)"), "[\"a\", \"#1\", b]", "b", "expected string"),
    ] {
        let error = from_wave(text, &ty).unwrap_err();
        assert_eq!(&text[error.span.clone()], marked, "{error}");
        assert!(error.message.contains(message), "{error}");
    }
    for text in ["", "(", "[1,", "\"abc", "'ab'", "{a 1}", "1 2", &"[".repeat(100_000)] {
        assert!(from_wave(text, &ty("(list u8)")).is_err(), "{text}");
    }
    assert!(Arguments::parse("1").unwrap_err().message.contains("parentheses"));
    assert!(Arguments::parse("( )").unwrap().is_empty());
    assert!(Arguments::parse("").unwrap().is_empty());
}

#[test]
fn types_read_as_wit_writes_them() {
    for (body, expected) in [
        ("(result (error string))", "result<_, string>"),
        ("(result u8)", "result<u8>"),
        ("(result)", "result"),
        ("(map string (list u8 4))", "map<string, list<u8, 4>>"),
        ("(option (tuple u8 char))", "option<tuple<u8, char>>"),
        ("(variant (case \"a\") (case \"b\" f32))", "variant { a, b(f32) }"),
        ("(flags \"r\" \"w\")", "flags { r, w }"),
    ] {
        assert_eq!(show_type(&ty(body)), expected);
    }
}
