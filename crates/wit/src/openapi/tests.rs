use std::collections::BTreeMap;

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::ManglingAndAbi;

use super::*;

/// A component of the last world in `wit`, with its documentation when `documented`.
fn component(wit: &str, documented: bool) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = *resolve.packages[package].worlds.values().last().unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut bytes = ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap();
    if documented {
        bytes = crate::with_docs(&bytes, &resolve);
    }
    bytes
}

const AUTH: &str = r#"
package demo:auth@1.2.0;

/// Who somebody is.
interface verify {
    /// What a token says.
    record claims {
        /// Who it is for.
        subject: string,
        until: u64,
        scopes: list<string>,
        note: option<string>,
    }
    enum auth-error {
        /// It was good once.
        expired,
        malformed,
    }
    /// Checks a token.
    verify-token: func(token: string) -> result<claims, auth-error>;
    forget: func();
}

world auth {
    export verify;
    /// Adds two numbers.
    export add: func(left: u32, right: option<s64>) -> u64;
}
"#;

fn at(line: usize) -> Location {
    Location::file(format!("tenon.toml:{line}"))
}

fn document_of(wit: &str) -> Value {
    openapi("test", &component(wit, true)).unwrap()
}

/// The schema of the parameter `it` of the function `f`.
fn schema_of(ty: &str) -> Value {
    schema_with("", ty)
}

fn schema_with(declarations: &str, ty: &str) -> Value {
    let wit = format!(
        "package a:b;\ninterface i {{ {declarations}\n f: func(it: {ty}); }}\nworld w {{ export i; }}"
    );
    let document = document_of(&wit);
    let body = &document["paths"]["/i/f"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let schema = body["properties"]["it"].clone();
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap().clone(),
        None => schema,
    }
}

#[test]
fn a_function_is_an_operation_with_its_words() {
    let document = document_of(AUTH);
    assert_eq!(document["openapi"], "3.1.1");
    assert_eq!(document["info"], json!({ "title": "test", "version": "1.2.0" }));
    assert_eq!(
        document["tags"],
        json!([{ "name": "demo:auth/verify@1.2.0", "description": "Who somebody is." }])
    );
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/add", "/verify/forget", "/verify/verify-token"]);

    let verify = &document["paths"]["/verify/verify-token"]["post"];
    assert_eq!(verify["operationId"], "demo:auth/verify@1.2.0.verify-token");
    assert_eq!(verify["summary"], "verify-token: func(token: string) -> result<claims, auth-error>");
    assert_eq!(verify["description"], "Checks a token.");
    assert_eq!(
        verify["requestBody"]["content"]["application/json"]["schema"],
        json!({
            "type": "object",
            "properties": { "token": { "type": "string" } },
            "required": ["token"],
            "additionalProperties": false,
        })
    );
    assert_eq!(
        verify["responses"]["200"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/claims"
    );
    assert_eq!(
        verify["responses"]["422"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/auth-error"
    );
    assert_eq!(verify["responses"]["400"]["$ref"], "#/components/responses/BadRequest");

    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["claims"]["description"], "What a token says.");
    assert_eq!(schemas["claims"]["properties"]["subject"]["description"], "Who it is for.");
    assert_eq!(schemas["claims"]["required"], json!(["subject", "until", "scopes"]));
    assert_eq!(schemas["auth-error"]["enum"], json!(["expired", "malformed"]));
    assert_eq!(schemas["auth-error"]["description"], "- `expired`: It was good once.");

    let add = &document["paths"]["/add"]["post"];
    assert_eq!(add["description"], "Adds two numbers.");
    let forget = &document["paths"]["/verify/forget"]["post"];
    assert_eq!(forget["requestBody"]["required"], false, "a function without parameters needs no body");
    assert!(forget["responses"]["204"].is_object() && forget["responses"].get("200").is_none());
    assert!(forget["responses"].get("422").is_none(), "it cannot fail by itself");
    assert!(document.get("x-tenon-skipped").is_none());
}

#[test]
fn without_documentation_there_is_none() {
    let document = openapi("test", &component(AUTH, false)).unwrap();
    let verify = &document["paths"]["/verify/verify-token"]["post"];
    assert_eq!(verify.get("description"), None);
    assert_eq!(document["tags"], json!([{ "name": "demo:auth/verify@1.2.0" }]));
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(document: &Value, value: &Value, seen: &mut usize) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
                    *seen += 1;
                }
                members.values().for_each(|value| check(document, value, seen));
            }
            Value::Array(items) => items.iter().for_each(|value| check(document, value, seen)),
            _ => {}
        }
    }
    let document = document_of(AUTH);
    let mut seen = 0;
    check(&document, &document, &mut seen);
    assert!(seen > 10, "{seen}");
}

#[test]
fn primitives_have_their_ranges() {
    assert_eq!(schema_of("bool"), json!({ "type": "boolean" }));
    let s16 = json!({ "type": "integer", "format": "int16", "minimum": -32768, "maximum": 32767 });
    assert_eq!(schema_of("s16"), s16);
    let u64 = schema_of("u64");
    assert_eq!(u64["type"], json!(["string", "integer"]));
    assert_eq!(u64["maximum"].to_string(), "18446744073709551615");
    assert_eq!(schema_of("s64")["minimum"].to_string(), "-9223372036854775808");
    assert_eq!(schema_of("f32")["anyOf"][1]["enum"], json!(["NaN", "Infinity", "-Infinity"]));
    assert_eq!(schema_of("char"), json!({ "type": "string", "minLength": 1, "maxLength": 1 }));
}

#[test]
fn compound_types_follow_the_mapping() {
    assert_eq!(schema_of("list<u8>"), json!({ "type": "string", "contentEncoding": "base64" }));
    assert_eq!(schema_of("list<string>"), json!({ "type": "array", "items": { "type": "string" } }));
    assert_eq!(
        schema_of("tuple<bool, string>"),
        json!({
            "type": "array", "prefixItems": [{ "type": "boolean" }, { "type": "string" }], "items": false,
            "minItems": 2, "maxItems": 2,
        })
    );
    assert_eq!(schema_of("option<bool>"), json!({ "anyOf": [{ "type": "boolean" }, { "type": "null" }] }));
    let nested = schema_of("option<option<bool>>");
    assert_eq!(nested["anyOf"][0]["required"], json!(["some"]), "null alone would not say which is none");
    assert_eq!(nested["anyOf"][1], json!({ "type": "null" }));
    let result = schema_of("result<bool>");
    assert_eq!(result["oneOf"][0]["properties"]["ok"], json!({ "type": "boolean" }));
    assert_eq!(result["oneOf"][1]["properties"]["err"], json!({ "type": "null" }));
    let variant = schema_with("variant shape { none, circle(f64) }", "shape");
    assert_eq!(variant["oneOf"][0], json!({ "const": "none" }));
    assert_eq!(variant["oneOf"][1]["required"], json!(["circle"]));
    let flags = schema_with("flags access { read, write }", "access");
    assert_eq!(
        flags,
        json!({ "type": "array", "items": { "enum": ["read", "write"] }, "uniqueItems": true })
    );
    let alias = schema_with("type id = u8;", "id");
    assert_eq!(alias["maximum"], 255);
}

#[test]
fn types_of_one_name_are_told_apart() {
    let document = document_of(
        "package a:b@1.0.0;
         interface x { record item { x: u8 } f: func(it: item); }
         interface y { record item { y: u8 } f: func(it: item); }
         interface z { use x.{item}; f: func(it: item); }
         world w { export x; export y; export z; }",
    );
    let schemas: Vec<_> = document["components"]["schemas"].as_object().unwrap().keys().collect();
    assert_eq!(schemas, ["Problem", "x.item", "y.item"]);
    let of = |path: &str| {
        let body = &document["paths"][path]["post"]["requestBody"];
        body["content"]["application/json"]["schema"]["properties"]["it"]["$ref"].clone()
    };
    assert_eq!(of("/z/f"), of("/x/f"), "`use` brings in the same type");
    assert_ne!(of("/y/f"), of("/x/f"));
}

#[test]
fn bytes_alone_may_be_sent_and_received_raw() {
    let document = document_of(
        "package a:b;
         interface i { one: func(data: list<u8>) -> list<u8>; two: func(data: list<u8>, x: u8) -> result<list<u8>>; }
         world w { export i; }",
    );
    let one = &document["paths"]["/i/one"]["post"];
    assert!(one["requestBody"]["content"].get(OCTETS).is_some());
    assert!(one["responses"]["200"]["content"].get(OCTETS).is_some());
    let two = &document["paths"]["/i/two"]["post"];
    assert!(two["requestBody"]["content"].get(OCTETS).is_none(), "it is not the only parameter");
    assert!(two["responses"]["200"]["content"].get(OCTETS).is_some());
}

#[test]
fn what_needs_a_resource_is_left_out_with_the_reason() {
    let document = document_of(
        "package a:b;
         interface i {
             resource basket { constructor(); add: func(item: string); }
             whole: func(of: list<option<borrow<basket>>>) -> u8;
             count: func() -> u8;
         }
         world w { export i; }",
    );
    assert_eq!(document["paths"].as_object().unwrap().keys().collect::<Vec<_>>(), ["/i/count"]);
    let skipped = document["x-tenon-skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    let whole = skipped.iter().find(|it| it["function"] == "a:b/i.whole").unwrap();
    assert!(whole["reason"].as_str().unwrap().contains("`basket`"), "{whole}");
}

#[test]
fn streams_and_futures_go_as_they_come_or_as_values() {
    let document = document_of(
        "package a:b;
         interface i {
             record item { id: u32 }
             echo: async func(data: stream<u8>) -> stream<u8>;
             fails: async func() -> result<stream<u8>, string>;
             later: async func() -> future<string>;
             inside: async func() -> list<stream<u8>>;
             items: async func(items: stream<item>) -> result<stream<item>, string>;
             ticks: async func() -> stream;
             beside: async func(x: u8, items: stream<item>);
         }
         world w { export i; }",
    );
    assert_eq!(document["paths"].as_object().unwrap().len(), 7);
    assert!(document.get("x-tenon-skipped").is_none());
    let operation = |name: &str| document["paths"][&format!("/i/{name}")]["post"].clone();
    let takes = |name: &str| operation(name)["requestBody"]["content"].clone();
    let gives = |name: &str| operation(name)["responses"]["200"]["content"].clone();
    assert!(takes("echo").get(OCTETS).is_some() && gives("echo").get(OCTETS).is_some());
    assert!(gives("fails").get(OCTETS).is_some());
    assert_eq!(gives("later")["application/json"]["schema"], json!({ "type": "string" }));
    assert!(gives("inside").get(OCTETS).is_none(), "it is not the whole result");
    let item = json!({ "$ref": "#/components/schemas/item" });
    for content in [takes("items"), gives("items")] {
        assert_eq!(content[NDJSON]["schema"]["x-item-schema"], item);
        assert!(content.get(OCTETS).is_none());
    }
    assert_eq!(gives("items")["application/json"]["schema"], json!({ "type": "array", "items": item }));
    assert_eq!(gives("ticks")[NDJSON]["schema"]["x-item-schema"], json!({ "type": "null" }));
    assert!(takes("beside").get(NDJSON).is_none(), "it is not the only parameter");
}

#[test]
fn streams_that_cannot_be_carried_are_left_out_with_the_reason() {
    let fields: String = (0..22).map(|number| format!("f{number}: u64, ")).collect();
    let document = document_of(&format!(
        "package a:b;
         interface i {{
             record large {{ {fields} }}
             record small {{ all: list<large> }}
             nested: async func() -> stream<stream<u8>>;
             later: async func(all: future<option<future<u8>>>);
             wide: async func() -> stream<large>;
             narrow: async func() -> stream<small>;
             one: async func() -> future<large>;
         }}
         world w {{ export i; }}",
    ));
    assert_eq!(document["paths"].as_object().unwrap().keys().collect::<Vec<_>>(), ["/i/narrow", "/i/one"]);
    let skipped = document["x-tenon-skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    assert!(skipped.iter().all(|it| it["reason"].as_str().unwrap().contains("168 bytes")), "{skipped:?}");
}

fn statuses(entries: &[(&str, ErrorStatus)]) -> ErrorStatuses {
    let entry = |(line, (name, status)): (usize, &(&str, ErrorStatus))| {
        ((*name).to_owned(), (status.clone(), at(line + 1)))
    };
    entries.iter().enumerate().map(entry).collect()
}

fn case(name: &str, status: u16) -> ErrorStatus {
    ErrorStatus::Cases(BTreeMap::from([(name.to_owned(), status)]))
}

#[test]
fn a_status_for_a_case_stands_beside_the_usual_one() {
    let bytes = component(AUTH, false);
    let wanted = statuses(&[("demo:auth/verify.auth-error", case("expired", 401))]);
    let api = HttpApi::of("test", &bytes, &wanted).unwrap();
    let responses = &api.document["paths"]["/verify/verify-token"]["post"]["responses"];
    assert_eq!(responses["401"]["description"], "The function's own error: `expired`.");
    assert_eq!(responses["422"]["description"], "The function's own error: `malformed`.");
    let function = ExportedFunction::new(Some("demo:auth/verify@1.2.0"), "verify-token");
    assert_eq!(api.statuses, BTreeMap::from([(function.clone(), case("expired", 401))]));

    let wanted = statuses(&[
        ("demo:auth/verify.auth-error", case("expired", 401)),
        ("demo:auth/verify@1.2.0.verify-token", ErrorStatus::Whole(400)),
    ]);
    let api = HttpApi::of("test", &bytes, &wanted).unwrap();
    assert_eq!(api.statuses[&function], ErrorStatus::Whole(400), "the function goes before the type");
    let responses = &api.document["paths"]["/verify/verify-token"]["post"]["responses"];
    let media: Vec<_> = responses["400"]["content"].as_object().unwrap().keys().collect();
    assert_eq!(media, ["application/json", PROBLEM], "a refusal has that status, too");
}

#[test]
fn a_status_for_what_is_not_there_is_refused() {
    let bytes = component(AUTH, false);
    for (name, status, mend) in [
        ("demo:auth/verify.auth-eror", case("expired", 401), "Did you mean `demo:auth/verify.auth-error`?"),
        ("demo:auth/verify.auth-error", case("expird", 401), "Did you mean `expired`?"),
        ("forget", ErrorStatus::Whole(400), "returns a `result`"),
    ] {
        let found = HttpApi::of("test", &bytes, &statuses(&[(name, status)])).unwrap_err();
        let found: Vec<_> = found.iter().collect();
        assert_eq!((found.len(), found[0].code), (1, "unknown-error"));
        let said = found[0].mend.clone().unwrap_or_default();
        assert!(said.contains(mend), "{said}");
    }
}

#[test]
fn the_page_escapes_what_it_is_given() {
    let wit = AUTH.replace("Checks a token.", "</pre><script>alert(1)</script>'\"&");
    let page = page("<b>name</b>", &component(&wit, true)).unwrap();
    assert!(!page.html.contains("<script>alert") && !page.html.contains("<b>name"));
    assert!(page.html.contains("&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#39;&quot;&amp;"));
    assert!(page.html.contains("<title>&lt;b&gt;name&lt;/b&gt;</title>"));
    for expected in ["/verify/verify-token", "data-kind=\"text\"", "record claims {", "href=\"openapi.json\""]
    {
        assert!(page.html.contains(expected), "{expected}");
    }
    assert_eq!(page.html.matches("<script>").count(), 1);
}

#[test]
fn the_policy_allows_the_pages_own_style_and_script() {
    let page = page("test", &component(AUTH, false)).unwrap();
    for tag in ["style", "script"] {
        let (start, end) = (format!("<{tag}>"), format!("</{tag}>"));
        let inner = page.html.split_once(&start).unwrap().1.split_once(&end).unwrap().0;
        use base64::Engine as _;
        let digest =
            base64::engine::general_purpose::STANDARD.encode(<sha2::Sha256 as sha2::Digest>::digest(inner));
        let allowed = format!("{tag}-src 'sha256-{digest}'");
        assert!(page.content_security_policy.contains(&allowed), "{}", page.content_security_policy);
    }
}

#[test]
fn what_is_kept_of_a_component_describes_it_alike() {
    let of_everything = "package a:b@1.0.0;
         interface types {
             /// A point.
             record point { x: u32, at: option<list<tuple<string, char>>> }
             variant shape { none, circle(f64), at(point) }
             flags marks { first, last }
             enum level { low, high }
             resource basket { constructor(name: string); add: func(item: string) -> result; }
         }
         interface i {
             use types.{point, shape, marks, level, basket as bin};
             f: func(point: point, shape: shape) -> result<marks, level>;
             of: func(bin: borrow<bin>) -> own<bin>;
             flow: async func(points: stream<point>, last: future<string>) -> stream<shape>;
             %interface: func(%record: u8);
         }
         world w {
             import types;
             export types;
             export i;
             export plain: interface { /// Answers.
                 ping: func() -> list<u8>; }
             export root: func(it: string);
         }";
    for wit in [AUTH, of_everything] {
        for documented in [true, false] {
            let bytes = component(wit, documented);
            let whole = HttpApi::of("test", &bytes, &ErrorStatuses::new()).unwrap();
            let kept = contract(&bytes).unwrap();
            let kept = HttpApi::of_contract("test", &kept, &ErrorStatuses::new()).unwrap();
            assert_eq!(kept.document, whole.document);
            assert_eq!(kept.page.html, whole.page.html);
        }
    }
    assert_eq!(contract(b"no component"), None);
    assert!(HttpApi::of_contract("test", "package a:b; nonsense", &ErrorStatuses::new()).is_err());
}
