//! What optimising a composition leaves out, and what it leaves.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use tenon_compose::{Composed, Input, Manifest, compose, link_core_modules};
use tenon_wit::{Inspection, Symbols, inspect};
use wasmparser::{Validator, WasmFeatures};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A component as a toolchain makes it: its imports need its memory, so a table stands between them.
fn component(wit: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("world.wit", wit).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

const CONTRACT: &str = r#"
package demo:shop@1.0.0;
interface log { write: func(line: string); }
interface clock { now: func() -> u64; }
interface orders { place: func(name: string) -> string; }
interface admin { close: func() -> u32; }
world shop { import log; import clock; export orders; export admin; }
"#;

/// `place` writes a line; only `close` looks at the clock.
const MODULE: &str = r#"
(module
  (type $line (func (param i32 i32)))
  (import "demo:shop/log@1.0.0" "write" (func $write (type $line)))
  (import "demo:shop/clock@1.0.0" "now" (func $now (result i64)))
  (memory (export "memory") 1)
  (table 4 funcref)
  (elem (i32.const 1) $quiet $write)
  (global $next (mut i32) (i32.const 1024))
  (data (i32.const 16) "placed")
  (func $quiet (type $line))
  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (i32.add (local.get 3) (i32.const 16)))))
  (func $place (export "demo:shop/orders@1.0.0#place") (param i32 i32) (result i32)
    (call_indirect (type $line) (i32.const 16) (i32.const 6) (i32.const 2))
    (i32.store (i32.const 8) (local.get 0))
    (i32.store (i32.const 12) (local.get 1))
    (i32.const 8))
  (func $close (export "demo:shop/admin@1.0.0#close") (result i32)
    (i32.wrap_i64 (call $now)))
  (func $_initialize (export "_initialize") (global.set $next (i32.const 2048))))
"#;

/// Composes it alone, with these exports and everything it imports left open.
fn composed(bytes: &[u8], export: &str, optimize: bool) -> Composed {
    let open = if tenon_wit::import_names(bytes).is_empty() { "" } else { "open = [\"demo:shop/*\"]\n" };
    let text =
        format!("optimize = {optimize}\n{open}[component.shop]\npath = \"shop.wasm\"\nexport = {export}\n");
    let manifest = Manifest::parse("composition.toml", &text).unwrap();
    compose(&manifest, &[Input { component: "shop", file: "shop.wasm", bytes, wit: &[] }]).unwrap()
}

fn inspected(composed: &Composed) -> Inspection {
    inspect("composed.wasm", &composed.bytes).unwrap()
}

#[test]
fn what_nothing_reaches_is_left_out_with_all_it_needs() {
    let bytes = component(CONTRACT, MODULE);
    let plain = composed(&bytes, "true", false);
    assert_eq!(plain.imports, ["demo:shop/log@1.0.0", "demo:shop/clock@1.0.0"]);
    assert!(plain.parts[0].optimized.is_none() && plain.side.is_none());

    let whole = composed(&bytes, "true", true);
    assert_eq!(whole.imports, plain.imports, "everything is used");
    assert_eq!(whole.exports, plain.exports);
    let orders = composed(&bytes, "[\"demo:shop/orders\"]", true);
    assert_eq!(orders.imports, ["demo:shop/log@1.0.0"], "only what is not exported looks at the clock");
    assert_eq!(orders.exports, ["demo:shop/orders@1.0.0"]);
    let admin = composed(&bytes, "[\"demo:shop/admin\"]", true);
    assert_eq!(admin.imports, ["demo:shop/clock@1.0.0"]);
    assert!(orders.bytes.len() < whole.bytes.len() && whole.bytes.len() < plain.bytes.len());
}

#[test]
fn the_modules_around_a_table_are_one() {
    let composed = composed(&component(CONTRACT, MODULE), "true", true);
    let saving = composed.parts[0].optimized.clone().unwrap();
    assert_eq!((saving.core_instances_before, saving.core_instances), (3, 2), "{saving:?}");
    assert_eq!(saving.kept, None);
    let inspection = inspected(&composed);
    assert_eq!(inspection.component.components[0].core_modules.len(), 2);
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let bytes = component(CONTRACT, MODULE);
    assert_eq!(composed(&bytes, "true", true), composed(&bytes, "true", true));
}

#[test]
fn what_was_optimised_once_stays_as_it_is() {
    let once = composed(&component(CONTRACT, MODULE), "true", true);
    let part = inspected(&once).component.components[0].range.clone();
    let part = &once.bytes[part.start as usize..part.end as usize];
    let twice = composed(part, "true", true);
    let part = inspected(&twice).component.components[0].range.clone();
    assert!(part.end - part.start <= once.parts[0].size as u64);
}

#[test]
fn names_are_kept_aside() {
    let composed = composed(&component(CONTRACT, MODULE), "true", true);
    assert!(!composed.bytes.windows(5).any(|bytes| bytes == b"quiet"), "no name is left");
    let side = composed.side.clone().unwrap();
    let mut symbols = Symbols::read(&composed.bytes);
    assert!(symbols.attach(&side) > 0);
    let names: Vec<_> = (0..composed.bytes.len() as u64)
        .flat_map(|offset| symbols.resolve(offset))
        .filter_map(|frame| frame.function)
        .collect();
    for name in ["quiet", "place", "close", "realloc"] {
        assert!(names.iter().any(|it| it == name), "{name}");
    }
}

#[test]
fn parts_that_are_the_same_are_there_once() {
    let bytes = component(CONTRACT, MODULE);
    let text = |optimize: bool| {
        format!(
            "optimize = {optimize}\nopen = [\"demo:shop/*\"]\n\
             [component.one]\npath = \"shop.wasm\"\nexport = [\"demo:shop/orders\"]\n\
             [component.two]\npath = \"shop.wasm\"\nexport = false\n\
             [exports]\n\"demo:other/orders\" = {{ component = \"two\", export = \"demo:shop/orders\" }}\n"
        )
    };
    let inputs =
        ["one", "two"].map(|component| Input { component, file: "shop.wasm", bytes: &bytes, wit: &[] });
    let compose =
        |optimize| compose(&Manifest::parse("composition.toml", &text(optimize)).unwrap(), &inputs).unwrap();
    let (plain, optimized) = (compose(false), compose(true));
    assert_eq!(inspected(&plain).component.components.len(), 2);
    assert_eq!(inspected(&optimized).component.components.len(), 1, "one definition");
    assert_eq!(optimized.exports, plain.exports);
    assert_eq!(optimized.parts[0].held, optimized.parts[1].held);
}

/// A component that exports `name`, with a runtime in a module of its own that is the same in all of them; `within`
/// wraps it, so that the runtime is nested deeper.
fn on_a_runtime(name: &str, within: bool) -> Vec<u8> {
    let padding = "r".repeat(400);
    let inner = format!(
        r#"(core module $runtime (memory (export "m") 1) (data (i32.const 0) "{padding}")
             (func (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))
           (core module $app (import "r" "twice" (func $twice (param i32) (result i32)))
             (memory 1) (data (i32.const 0) "{name}")
             (func (export "f") (param i32) (result i32) (call $twice (local.get 0))))
           (core instance $r (instantiate $runtime))
           (core instance $a (instantiate $app (with "r" (instance $r))))
           (func $f (param "x" u32) (result u32) (canon lift (core func $a "f")))"#
    );
    let text = match within {
        false => format!("(component {inner} (export \"{name}\" (func $f)))"),
        true => format!(
            "(component (component $c {inner} (export \"f\" (func $f))) (instance $i (instantiate $c))
               (alias export $i \"f\" (func $f)) (export \"{name}\" (func $f)))"
        ),
    };
    wat::parse_str(text).unwrap()
}

fn on_one_runtime(names: &[(&str, bool)], optimize: bool, tables: &str) -> Composed {
    let components: Vec<_> =
        names.iter().map(|(name, within)| (*name, on_a_runtime(name, *within))).collect();
    let mut text = format!("optimize = {optimize}\n");
    for (name, _) in names {
        text.push_str(&format!("[component.{name}]\npath = \"{name}.wasm\"\n"));
    }
    let inputs: Vec<_> = components
        .iter()
        .map(|(component, bytes)| Input { component, file: "f.wasm", bytes, wit: &[] })
        .collect();
    compose(&Manifest::parse("composition.toml", &format!("{text}{tables}")).unwrap(), &inputs).unwrap()
}

#[test]
fn a_core_module_that_several_parts_have_is_there_once() {
    let names = [("one", false), ("two", true), ("three", false)];
    let (plain, optimized) = (on_one_runtime(&names, false, ""), on_one_runtime(&names, true, ""));
    let count = |bytes: &[u8]| bytes.windows(400).filter(|bytes| bytes.iter().all(|it| *it == b'r')).count();
    assert_eq!((count(&plain.bytes), count(&optimized.bytes)), (3, 1));
    assert_eq!(optimized.exports, plain.exports);
    assert_eq!(plain.shared, []);
    let [shared] = optimized.shared.as_slice() else { panic!("{:?}", optimized.shared) };
    assert_eq!(shared.parts, ["one", "three", "two"]);

    // Each has an instance and a memory of its own, as before, and is known by what the composition holds of it.
    let needs = [&plain, &optimized].map(|it| tenon_wit::Needs::of(&it.bytes));
    assert_eq!(needs[1], needs[0]);
    assert_eq!(needs[1].whole.memories, 6);
    let inspection = inspected(&optimized);
    assert_eq!(inspection.component.core_modules.len(), 1);
    for part in &optimized.parts {
        let nested = inspection.component.components.iter().find(|it| it.name.as_ref() == Some(&part.name));
        let nested = nested.unwrap_or_else(|| panic!("{} is not there", part.name));
        assert_eq!((nested.digest, nested.size()), (part.held, part.size as u64), "{}", part.name);
        assert!(tenon_wit::render_text(&inspection).contains(&format!("  {}  ", part.name)));
    }
    assert_eq!(on_one_runtime(&names, true, ""), optimized, "the same inputs give the same bytes");

    // As a part of another composition it is optimised again, or stays; either way it holds what it did.
    let manifest = "optimize = true\n[component.all]\npath = \"all.wasm\"\n";
    let input = Input { component: "all", file: "all.wasm", bytes: &optimized.bytes, wit: &[] };
    let again = compose(&Manifest::parse("composition.toml", manifest).unwrap(), &[input]).unwrap();
    assert_eq!(again.exports, optimized.exports);
    assert_eq!(tenon_wit::Needs::of(&again.bytes).whole, needs[1].whole);
}

#[test]
fn a_module_with_a_limit_of_its_own_is_another_one() {
    let names = [("one", false), ("two", false)];
    let limit = "[component.one.limits]\nmemory = \"1MiB\"\n";
    assert_eq!(on_one_runtime(&names, true, limit).shared, [], "the limit is written into it");
    let both = format!("{limit}[component.two.limits]\nmemory = \"1MiB\"\n");
    assert_eq!(on_one_runtime(&names, true, &both).shared.len(), 1);
}

#[test]
fn a_memory_limit_holds_in_both_forms_and_the_file_is_known_by_its_digest() {
    let bytes = component(CONTRACT, MODULE);
    for optimize in [false, true] {
        let text = format!(
            "optimize = {optimize}\nopen = [\"demo:*\"]\n[component.shop]\npath = \"shop.wasm\"\n\
             [component.shop.limits]\nmemory = \"1MiB\"\n"
        );
        let manifest = Manifest::parse("composition.toml", &text).unwrap();
        let input = Input { component: "shop", file: "shop.wasm", bytes: &bytes, wit: &[] };
        let composed = compose(&manifest, &[input]).unwrap();
        let mut most = Vec::new();
        for payload in wasmparser::Parser::new(0).parse_all(&composed.bytes) {
            if let wasmparser::Payload::MemorySection(section) = payload.unwrap() {
                most.extend(section.into_iter().map(|memory| memory.unwrap().maximum));
            }
        }
        assert_eq!(most, [Some(16)], "pages, optimised: {optimize}");

        let digest = tenon_model::Digest::of(&bytes);
        assert_eq!(composed.parts[0].digest, digest);
        let inspection = inspected(&composed);
        let json = tenon_wit::render_json(&inspection);
        assert_eq!(json["components"][0]["made_from"], digest.to_string());
        let shown = tenon_wit::render_text(&inspection);
        assert!(shown.contains(&format!("    made from {digest}\n")), "{shown}");
    }
}

#[test]
fn what_is_not_handled_stays_and_says_why() {
    // Two memories cannot be one.
    let bytes = wat::parse_str(
        r#"(component
             (core module $a (memory (export "m") 1) (func (export "f")))
             (core module $b (import "a" "f" (func)) (memory 1) (func (export "g") (result i32) i32.const 1))
             (core instance $ia (instantiate $a))
             (core instance $ib (instantiate $b (with "a" (instance $ia))))
             (func $g (result u32) (canon lift (core func $ib "g")))
             (export "g" (func $g)))"#,
    )
    .unwrap();
    let composed = composed(&bytes, "true", true);
    let saving = composed.parts[0].optimized.clone().unwrap();
    assert_eq!(saving.core_instances, saving.core_instances_before);
    assert!(saving.kept.as_ref().is_some_and(|why| why.contains("several memories")), "{saving:?}");
    assert_eq!(composed.exports, ["g"]);
}

/// A library that is loaded where another module says: `slot` is where its function is in the table.
fn library(slot: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(component
             (core module $env
               (memory (export "memory") 1) (table (export "table") 8 funcref)
               (global (export "base") i32 (i32.const 3)) (global (export "changes") (mut i32) (i32.const 39)))
             (core module $library
               (import "env" "memory" (memory 1)) (import "env" "table" (table 8 funcref))
               (import "env" "base" (global $base i32)) (import "env" "changes" (global $changes (mut i32)))
               (global $slot i32 (i32.add (global.get $base) (i32.const 1)))
               (elem (offset {slot}) $three)
               (func $three (result i32) (global.get $slot))
               (func (export "f") (result i32)
                 (global.set $changes (i32.add (global.get $changes) (call_indirect (result i32) (i32.const 3))))
                 (global.get $changes)))
             (core instance $env (instantiate $env))
             (core instance $library (instantiate $library (with "env" (instance $env))))
             (func $f (result u32) (canon lift (core func $library "f")))
             (export "f" (func $f)))"#
    ))
    .unwrap()
}

#[test]
fn a_library_is_linked_with_the_place_it_is_loaded_at() {
    let of = |bytes: &[u8]| inspect("library.wasm", bytes).unwrap().needs.whole.core_instances;
    for slot in ["(global.get $base)", "(i32.sub (global.get $base) (i32.const 1))"] {
        let bytes = library(slot);
        let linked = link_core_modules(&bytes).unwrap();
        assert_eq!((of(&bytes), of(&linked)), (2, 1), "{slot}");
        // The value, and not where it is: engines without garbage collection take no global of the module's own there.
        let few = WasmFeatures::all() - WasmFeatures::GC;
        Validator::new_with_features(few).validate_all(&linked).unwrap();
        assert_eq!(link_core_modules(&linked).unwrap_err(), "it has one core module");
        // Optimising it comes to the same.
        let composed = composed(&bytes, "true", true);
        assert_eq!(composed.parts[0].optimized.clone().unwrap().core_instances, 1);
    }
}
