//! Grants and limits of the parts, in the composed component.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use tenon_compose::{Composed, Input, Manifest, compose};
use tenon_model::Diagnostics;
use tenon_wit::{import_names, inspect, require_component};

/// WASI as far as these tests need it; types and who uses whom are as published.
const WASI: &str = "
    package wasi:io@0.2.6 { interface streams { resource output-stream; } }
    package wasi:clocks@0.2.6 {
        interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
    }
    package wasi:filesystem@0.2.6 {
        interface types {
            use wasi:clocks/wall-clock@0.2.6.{datetime};
            use wasi:io/streams@0.2.6.{output-stream};
            resource descriptor { changed: func() -> datetime; write: func() -> output-stream; }
        }
        interface preopens { use types.{descriptor}; get: func() -> list<descriptor>; }
    }
    package wasi:cli@0.2.6 {
        interface environment { get: func() -> list<string>; }
        interface stdout { use wasi:io/streams@0.2.6.{output-stream}; get: func() -> output-stream; }
    }
    package wasi:http@0.2.6 {
        interface types { resource request; }
        interface outgoing-handler { use types.{request}; handle: func(request: request); }
    }
    package wasi:keyvalue@0.2.0-draft2 {
        interface store { resource bucket; open: func(name: string) -> bucket; }
        interface atomics { use store.{bucket}; add: func(bucket: borrow<bucket>) -> u64; }
    }";

const HTTP: &str = "import wasi:http/outgoing-handler@0.2.6;";
const KEYVALUE: &str = "import wasi:keyvalue/atomics@0.2.0-draft2;";
const FILES: &str = "import wasi:filesystem/preopens@0.2.6; import wasi:clocks/wall-clock@0.2.6;";
const STDIO: &str = "import wasi:cli/stdout@0.2.6; import wasi:cli/environment@0.2.6;";

/// A component that imports `imports` and exports a function called as it is.
fn part(name: &str, imports: &str) -> (String, Vec<u8>) {
    let text = format!("package test:{name}; {WASI} world w {{ {imports} export {name}: func(); }}");
    (name.to_owned(), support::from_wit(&text))
}

fn composed(parts: &[(String, Vec<u8>)], rest: &str) -> Result<Composed, Diagnostics> {
    let tables: String =
        parts.iter().map(|(name, _)| format!("[component.{name}]\npath = \"{name}.wasm\"\n")).collect();
    // What stands before the first table belongs to the top.
    let (top, rest) = rest
        .split_once("[component")
        .map_or((rest, String::new()), |(top, rest)| (top, format!("[component{rest}")));
    let manifest = Manifest::parse("composition.toml", &format!("{top}\n{tables}{rest}"))?;
    let inputs: Vec<_> = parts
        .iter()
        .map(|(component, bytes)| Input { component, file: "file.wasm", bytes, wit: &[] })
        .collect();
    let composed = compose(&manifest, &inputs)?;
    for bytes in [&composed.bytes[..], composed.attributed()] {
        assert_eq!(require_component("composed.wasm", bytes), Ok(()));
        let found = inspect("composed.wasm", bytes).unwrap();
        let mut names: Vec<_> =
            found.component.components.iter().map(|it| it.name.clone().unwrap()).collect();
        names.sort();
        assert_eq!(names, parts.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    }
    Ok(composed)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn code(result: Result<Composed, Diagnostics>) -> &'static str {
    result.unwrap_err().iter().next().unwrap().code
}

fn grant(part: &str, line: &str) -> String {
    format!("[component.{part}.grants]\n{line}\n")
}

const HTTP_GRANT: &str = r#""wasi:http" = [{ host = "a.com" }]"#;
const KEYVALUE_GRANT: &str = r#""wasi:keyvalue" = [{ bucket = "b" }]"#;

#[test]
fn the_same_import_of_two_parts_has_two_names() {
    let parts = [part("auth-2", HTTP), part("shop", HTTP)];
    let grants = format!("{}{}", grant("auth-2", HTTP_GRANT), grant("shop", HTTP_GRANT));
    let composed = composed(&parts, &grants).unwrap();
    assert_eq!(
        sorted(composed.imports.clone()),
        ["wasi:http/outgoing-handler@0.2.6", "wasi:http/types@0.2.6"]
    );
    assert_eq!(import_names(&composed.bytes), composed.imports, "the portable form");
    assert_eq!(
        sorted(import_names(composed.attributed())),
        [
            "tenon-part:auth-2/wasi-http-outgoing-handler@0.2.6",
            "tenon-part:shop/wasi-http-outgoing-handler@0.2.6",
            "wasi:http/types@0.2.6",
        ]
    );
}

#[test]
fn without_grants_both_forms_are_the_same() {
    let parts = [part("auth", FILES), part("shop", STDIO)];
    let composed = composed(&parts, "").unwrap();
    assert_eq!(composed.attributed(), composed.bytes);
}

#[test]
fn what_was_not_granted_is_refused_whatever_the_neighbour_has() {
    let parts = [part("auth", HTTP), part("shop", HTTP)];
    let refused = composed(&parts, &grant("auth", HTTP_GRANT)).unwrap_err();
    let [only] = refused.iter().collect::<Vec<_>>()[..] else { panic!("one finding: {refused}") };
    assert_eq!(only.code, "import-not-granted");
    assert!(
        only.message.contains("`shop`") && only.message.contains("wasi:http/outgoing-handler@0.2.6"),
        "{only}"
    );
    assert!(only.mend.as_ref().unwrap().contains("[component.shop.grants]\n  \"wasi:http\" = "), "{only}");
    assert_eq!(code(composed(&parts, "")), "import-not-granted");
    assert_eq!(code(composed(&parts, &grant("auth", KEYVALUE_GRANT))), "import-not-granted", "another grant");
}

#[test]
fn what_is_left_open_stays_nobodys_own() {
    let parts = [part("auth", HTTP), part("shop", HTTP)];
    let rest = format!("open = [\"wasi:http/*\"]\n{}", grant("auth", HTTP_GRANT));
    let composed = composed(&parts, &rest).unwrap();
    assert_eq!(
        sorted(import_names(composed.attributed())),
        [
            "tenon-part:auth/wasi-http-outgoing-handler@0.2.6",
            "wasi:http/outgoing-handler@0.2.6",
            "wasi:http/types@0.2.6"
        ]
    );
}

#[test]
fn interfaces_that_use_one_another_go_together() {
    let parts = [part("auth", KEYVALUE), part("shop", KEYVALUE)];
    let grants = format!("{}{}", grant("auth", KEYVALUE_GRANT), grant("shop", KEYVALUE_GRANT));
    let composed = composed(&parts, &grants).unwrap();
    assert_eq!(
        sorted(import_names(composed.attributed())),
        [
            "tenon-part:auth/wasi-keyvalue-atomics@0.2.0-draft2",
            "tenon-part:auth/wasi-keyvalue-store@0.2.0-draft2",
            "tenon-part:shop/wasi-keyvalue-atomics@0.2.0-draft2",
            "tenon-part:shop/wasi-keyvalue-store@0.2.0-draft2",
        ]
    );
}

#[test]
fn inert_interfaces_are_a_parts_own_when_a_grant_fills_them() {
    let imports = format!("{FILES}{STDIO}");
    let parts = [part("auth", &imports), part("shop", &imports)];
    let lines = r#"
        "wasi:filesystem" = [{ directory = "data", at = "/data" }]
        "wasi:cli" = { environment = { A = "b" } }
        "wasi:clocks" = { now = "2026-01-01T00:00:00Z" }"#;
    let names = sorted(import_names(composed(&parts, &grant("auth", lines)).unwrap().attributed()));
    assert_eq!(
        names,
        [
            "tenon-part:auth/wasi-cli-environment@0.2.6",
            "tenon-part:auth/wasi-cli-stdout@0.2.6",
            "tenon-part:auth/wasi-clocks-wall-clock@0.2.6",
            "tenon-part:auth/wasi-filesystem-preopens@0.2.6",
            "wasi:cli/environment@0.2.6",
            "wasi:cli/stdout@0.2.6",
            "wasi:clocks/wall-clock@0.2.6",
            "wasi:filesystem/preopens@0.2.6",
            "wasi:filesystem/types@0.2.6",
            "wasi:io/streams@0.2.6",
        ]
    );
    let log = "[component.shop.limits]\nlog-bytes = \"1KiB\"";
    let names = import_names(composed(&parts, log).unwrap().attributed());
    assert!(names.contains(&"tenon-part:shop/wasi-cli-stdout@0.2.6".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("part:auth")), "{names:?}");
    let alone = [part("auth", FILES)];
    let names = import_names(composed(&alone, &grant("auth", lines)).unwrap().attributed());
    assert!(names.contains(&"tenon-part:auth/wasi-clocks-wall-clock@0.2.6".to_owned()), "{names:?}");
}

#[test]
fn nobody_brings_a_parts_name_along() {
    let forged = "package test:shop;
        package tenon-part:auth { interface wasi-http-outgoing-handler { handle: func(); } }
        world w { import tenon-part:auth/wasi-http-outgoing-handler; export shop: func(); }";
    let parts = [part("auth", HTTP), ("shop".to_owned(), support::from_wit(forged))];
    assert_eq!(code(composed(&parts, &grant("auth", HTTP_GRANT))), "reserved-import");
    let open = format!("open = [\"tenon-part:auth/*\"]\n{}", grant("auth", HTTP_GRANT));
    assert_eq!(code(composed(&parts, &open)), "reserved-import");
}

#[test]
fn a_granted_resource_stays_with_its_part() {
    let lend = "interface lend { use wasi:keyvalue/store@0.2.0-draft2.{bucket}; lend: func() -> bucket; }";
    let auth = support::from_wit(&format!(
        "package test:auth; {lend} {WASI} world w {{ import wasi:keyvalue/store@0.2.0-draft2; export lend; }}"
    ));
    let shop = support::from_wit(&format!(
        "package test:shop; package test:auth {{ {lend} }} {WASI}
         world w {{ import wasi:keyvalue/store@0.2.0-draft2; import test:auth/lend; export shop: func(); }}"
    ));
    let parts = [("auth".to_owned(), auth), ("shop".to_owned(), shop)];
    let wire = "[component.shop.imports]\n\"test:auth/lend\" = { component = \"auth\" }\n";
    let open = format!("open = [\"wasi:keyvalue/*\"]\n{wire}");
    assert!(composed(&parts, &open).is_ok(), "the contract itself is fine");
    let granted = format!("{wire}{}{}", grant("auth", KEYVALUE_GRANT), grant("shop", KEYVALUE_GRANT));
    assert_eq!(code(composed(&parts, &granted)), "grant-crosses");
}

#[test]
fn a_memory_limit_is_written_into_its_part_alone() {
    let memory = |name: &str| {
        let text = format!(
            "(component (core module $m (memory (export \"memory\") 1) (func (export \"f\")))
               (core instance $i (instantiate $m)) (func $f (canon lift (core func $i \"f\")))
               (export \"{name}\" (func $f)))"
        );
        (name.to_owned(), wat::parse_str(text).unwrap())
    };
    let parts = [memory("auth"), memory("shop")];
    let limited = "[component.shop.limits]\nmemory = \"256KiB\"";
    let composed_ = composed(&parts, limited).unwrap();
    let plain = composed(&parts, "").unwrap();
    assert_eq!(composed_.parts[0], plain.parts[0], "the neighbour is as it was");
    assert_eq!(composed_.parts[1].digest, plain.parts[1].digest, "the digest of the file");
    assert_ne!(composed_.parts[1].held, plain.parts[1].held);
    let mut maxima = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(&composed_.bytes) {
        if let wasmparser::Payload::MemorySection(section) = payload.unwrap() {
            maxima.extend(section.into_iter().map(|memory| memory.unwrap().maximum));
        }
    }
    maxima.sort_unstable();
    assert_eq!(maxima, [None, Some(4)]);
    assert_eq!(code(composed(&parts, "[component.shop.limits]\nmemory = \"63KiB\"")), "memory-limit");
}
