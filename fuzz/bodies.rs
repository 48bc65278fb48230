//! What is done with bytes from outside: by the fuzzer without end, and by `crates/compose/tests/robustness.rs` for a short
//! while in every test run. Whatever the bytes are, the answer is a value or a diagnostic, never a panic.

use tenon_compose::manifest::Dependency;
use tenon_compose::{Input, Manifest, compose, provenance};
use tenon_model::Diagnostics;
use tenon_wit::Symbols;

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
    if let Err(found) = Manifest::parse("tenon.toml", &text) {
        said(&found, &text);
    }
}

/// Reads a WAC file, as [`manifest`] reads TOML. Most packages that it names are somewhere.
pub fn wac(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut locate = |package: &Dependency| {
        let component = package.name.rsplit(':').next()?;
        (component != "missing").then(|| format!("{component}.wasm"))
    };
    if let Err(found) = Manifest::parse_wac("composition.wac", &text, &mut locate) {
        said(&found, &text);
    }
}

/// What was found in a text is about it.
fn said(found: &Diagnostics, text: &str) {
    let lines = text.lines().count().max(1) + 1;
    for diagnostic in found.iter() {
        assert_ne!(diagnostic.code, "internal", "{diagnostic}");
        let line = diagnostic.at.as_ref().and_then(|place| place.position).map(|position| position.line);
        assert!(line.is_none_or(|line| (line as usize) <= lines), "{diagnostic} is beyond the end");
    }
    // A person sees all of them drawn.
    let _drawn = found.to_string();
}

/// Asks what the bytes of a component were compiled from, as a report about a failure does.
pub fn symbols(bytes: &[u8]) {
    let _resolved = resolve(&Symbols::read(bytes), bytes.len());
}

/// The same of a component that was stripped, with a side file. Says whether that told a line.
pub fn side_file(component: &[u8], side: &[u8]) -> bool {
    let mut symbols = Symbols::read(component);
    let _how_many = symbols.attach(side);
    resolve(&symbols, component.len())
}

/// Places of a component that are asked for, at most.
const PLACES_MAX: usize = 1024;

fn resolve(symbols: &Symbols<'_>, length: usize) -> bool {
    let _either = symbols.has_lines();
    let places = (0..length).step_by(length / PLACES_MAX + 1).chain([length, usize::MAX]);
    // Each is looked up, also after one that was found.
    places.filter(|place| symbols.resolve(*place as u64).iter().any(|it| it.line.is_some())).count() > 0
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
