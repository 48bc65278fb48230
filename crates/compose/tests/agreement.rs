//! The walk that explains a mismatch and the encoder that refuses one must not disagree.
//!
//! Every pair below is one interface before and after a change. In both directions the old and the new side are
//! joined; [`first_difference`] has to find something exactly where wac does.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[expect(dead_code, reason = "each test uses a part of it")]
mod support;

use tenon_wit::{Contract, first_difference};
use wac_graph::CompositionGraph;
use wac_graph::types::Package;

/// Name, before, after.
const CHANGES: [(&str, &str, &str); 36] = [
    ("nothing", "f: func(a: u32);", "f: func(a: u32);"),
    ("function added", "f: func();", "f: func(); g: func();"),
    ("function renamed", "f: func();", "g: func();"),
    ("parameter added", "f: func(a: u32);", "f: func(a: u32, b: option<u32>);"),
    ("parameter renamed", "f: func(a: u32);", "f: func(b: u32);"),
    ("parameters swapped", "f: func(a: u32, b: u32);", "f: func(b: u32, a: u32);"),
    ("widened", "f: func(a: u32);", "f: func(a: u64);"),
    ("signed", "f: func(a: u32);", "f: func(a: s32);"),
    ("made optional", "f: func(a: u32);", "f: func(a: option<u32>);"),
    ("char to string", "f: func(a: char);", "f: func(a: string);"),
    ("bytes to string", "f: func(a: list<u8>);", "f: func(a: string);"),
    ("option to list", "f: func(a: option<u8>);", "f: func(a: list<u8>);"),
    ("result added", "f: func();", "f: func() -> u32;"),
    ("result made fallible", "f: func() -> u32;", "f: func() -> result<u32, string>;"),
    ("error added", "f: func() -> result<u32>;", "f: func() -> result<u32, string>;"),
    ("record field added", "record r { a: u8 } f: func(r: r);", "record r { a: u8, b: u8 } f: func(r: r);"),
    ("record field renamed", "record r { a: u8 } f: func(r: r);", "record r { b: u8 } f: func(r: r);"),
    (
        "record fields swapped",
        "record r { a: u8, b: u8 } f: func(r: r);",
        "record r { b: u8, a: u8 } f: func(r: r);",
    ),
    ("record field changed", "record r { a: u8 } f: func() -> r;", "record r { a: u16 } f: func() -> r;"),
    ("case added", "variant v { a, b(u8) } f: func(v: v);", "variant v { a, b(u8), c } f: func(v: v);"),
    ("case payload", "variant v { a, b(u8) } f: func(v: v);", "variant v { a, b } f: func(v: v);"),
    ("enum case added", "enum e { a, b } f: func(e: e);", "enum e { a, b, c } f: func(e: e);"),
    ("enum cases swapped", "enum e { a, b } f: func(e: e);", "enum e { b, a } f: func(e: e);"),
    ("flag added", "flags g { a, b } f: func(g: g);", "flags g { a, b, c } f: func(g: g);"),
    ("tuple longer", "f: func(t: tuple<u8, u8>);", "f: func(t: tuple<u8, u8, u8>);"),
    ("record to tuple", "record r { a: u8 } f: func(r: r);", "type r = tuple<u8>; f: func(r: r);"),
    (
        "nested in a list",
        "record r { a: u8 } f: func(r: list<r>);",
        "record r { a: s8 } f: func(r: list<r>);",
    ),
    (
        "nested in a result",
        "record r { a: u8 } f: func() -> result<u8, option<r>>;",
        "record r { a: s8 } f: func() -> result<u8, option<r>>;",
    ),
    ("alias introduced", "f: func(a: u32);", "type id = u32; f: func(a: id);"),
    ("type renamed", "record r { a: u8 } f: func(r: r);", "record s { a: u8 } f: func(r: s);"),
    ("unused type changed", "record r { a: u8 } f: func();", "record r { a: u16 } f: func();"),
    (
        "method added",
        "resource r { a: func(); } f: func(r: r);",
        "resource r { a: func(); b: func(); } f: func(r: r);",
    ),
    (
        "method to static",
        "resource r { a: func(); } f: func(r: r);",
        "resource r { a: static func(); } f: func(r: r);",
    ),
    ("resource renamed", "resource r; f: func(r: r);", "resource s; f: func(r: s);"),
    ("borrow to own", "resource r; f: func(r: borrow<r>);", "resource r; f: func(r: r);"),
    ("made async", "f: func(a: u32) -> u32;", "f: async func(a: u32) -> u32;"),
];

#[test]
fn the_walk_and_the_encoder_agree() {
    for (change, before, after) in CHANGES {
        for (exported, imported) in [(before, after), (after, before), (before, before), (after, after)] {
            let exporter = component(exported, "export");
            let importer = component(imported, "import");
            let contracts = [&exporter, &importer].map(|bytes| Contract::of("a.wasm", bytes).unwrap());
            let export = contracts[0].export("demo:a/i").unwrap();
            let import = contracts[1].import("demo:a/i").unwrap();
            let found = first_difference(&export, &import);
            let refused = encoder_refuses(&exporter, &importer);
            assert_eq!(
                found.is_some(),
                refused.is_some(),
                "{change}: `{exported}` for `{imported}`\nthe walk: {found:?}\nthe encoder: {refused:?}"
            );
        }
    }
}

fn component(interface: &str, direction: &str) -> Vec<u8> {
    support::from_wit(&format!("package demo:a; interface i {{ {interface} }} world w {{ {direction} i; }}"))
}

fn encoder_refuses(exporter: &[u8], importer: &[u8]) -> Option<String> {
    let mut graph = CompositionGraph::new();
    let mut instantiate = |name: &str, bytes: &[u8]| {
        let package = Package::from_bytes(name, None, bytes.to_vec(), graph.types_mut()).unwrap();
        let package = graph.register_package(package).unwrap();
        graph.instantiate(package)
    };
    let (exporter, importer) = (instantiate("exporter", exporter), instantiate("importer", importer));
    let export = graph.alias_instance_export(exporter, "demo:a/i").unwrap();
    graph.set_instantiation_argument(importer, "demo:a/i", export).err().map(|error| format!("{error:?}"))
}
