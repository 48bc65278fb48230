//! What is done with bytes from outside: by the fuzzer without end, and by `crates/compose/tests/robustness.rs` for a short
//! while in every test run. Whatever the bytes are, the answer is a value or a diagnostic, never a panic.

use tenon_compose::{Input, Manifest, compose, provenance};

/// The manifest that two fuzzed components are joined by.
pub const MANIFEST: &str = r#"
[component.auth]
path = "auth.wasm"
[component.handler]
path = "handler.wasm"
[component.handler.imports]
"demo:auth/verify" = { component = "auth" }
"#;

/// Reads a manifest; what it has to say must name the file, and positions must lie within it.
pub fn manifest(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Err(found) = Manifest::parse("tenon.toml", &text) else { return };
    let lines = text.lines().count().max(1) + 1;
    for diagnostic in found.iter() {
        assert_ne!(diagnostic.code, "internal", "{diagnostic}");
        let line = diagnostic.at.as_ref().and_then(|place| place.position).map(|position| position.line);
        assert!(line.is_none_or(|line| (line as usize) <= lines), "{diagnostic} is beyond the end");
    }
    // A person sees all of them drawn.
    let _drawn = found.to_string();
}

/// Looks at a component as `tenon inspect` does.
pub fn component(bytes: &[u8]) {
    let _kind = tenon_wit::classify(bytes);
    let _either = tenon_wit::require_component("a.wasm", bytes);
    if let Ok(found) = tenon_wit::inspect("a.wasm", bytes) {
        let _drawn = (tenon_wit::render_text(&found), tenon_wit::render_json(&found));
    }
    let _either = tenon_wit::print_wit("a.wasm", bytes);
    let _names = (tenon_wit::import_names(bytes), tenon_wit::export_names(bytes));
    let _maybe = provenance::read(bytes);
}

/// Joins a component with itself, in both roles.
pub fn composition(bytes: &[u8]) {
    let _either = join(bytes, bytes);
}

/// Joins two components; says whether that went well. A result must be a component itself, and a failure the input's.
pub fn join(auth: &[u8], handler: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse("composition.toml", MANIFEST) else { return false };
    let input = |component, bytes| Input { component, file: "file.wasm", bytes, wit: &[] };
    let inputs = [input("auth", auth), input("handler", handler)];
    match compose(&manifest, &inputs) {
        Ok(composed) => {
            let smaller = compose(&Manifest { optimize: true, ..manifest }, &inputs);
            let smaller = smaller.unwrap_or_else(|found| panic!("what fits cannot be optimised: {found}"));
            assert_eq!(smaller.exports, composed.exports, "an optimised composition exports the same");
            assert!(
                tenon_wit::inspect("smaller.wasm", &smaller.bytes).is_ok(),
                "what came out optimised cannot be read"
            );
            assert!(
                tenon_wit::inspect("composed.wasm", &composed.bytes).is_ok(),
                "what came out cannot be read"
            );
            true
        }
        Err(found) => {
            assert!(found.iter().all(|it| it.code != "internal"), "{found}");
            false
        }
    }
}
