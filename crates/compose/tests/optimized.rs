//! What optimising a composition leaves out, and what it leaves.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use tenon_compose::{Composed, Input, Manifest, compose};
use tenon_wit::{Inspection, Symbols, inspect};
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
