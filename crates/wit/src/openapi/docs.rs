//! Documentation that a component carries, put back where it belongs.
//!
//! A component's types have no place for documentation, and the section `package-docs`, in which WIT packages keep it, is
//! not allowed in a component. [`with_docs`] writes the same content, a version byte and JSON with the texts by
//! interface, function and type, into custom sections of a name of ours, one for each package. They go into a
//! composition with the component. A section does not name its package, so a text goes to every interface that has its
//! name and its function or type.

use serde_json::Value;
use wasm_encoder::{ComponentSection as _, CustomSection};
use wasmparser::{Parser, Payload};
use wit_parser::{Docs, PackageMetadata, Resolve, TypeDefKind, WorldId, WorldItem};

const SECTION: &str = "tenon-package-docs";
/// Sections beyond this many are not looked at: a composition has one for each of its parts.
const SECTIONS_MAX: usize = 1_000;

/// The component `bytes` with the documentation of all packages of `resolve` but those of WASI, which say a lot and are
/// described elsewhere.
pub fn with_docs(bytes: &[u8], resolve: &Resolve) -> Vec<u8> {
    let mut documented = bytes.to_vec();
    let own = resolve.packages.iter().filter(|(_, package)| package.name.namespace != "wasi");
    for (id, _) in own {
        // Texts are written as JSON, which cannot fail.
        let Ok(data) = PackageMetadata::extract(resolve, id).encode() else { continue };
        // A version byte and `{}`.
        if data.len() > 3 {
            CustomSection { name: SECTION.into(), data: data.into() }.append_to_component(&mut documented);
        }
    }
    documented
}

/// Adds the documentation that is found in `bytes` where `resolve` has none.
pub(super) fn apply(resolve: &mut Resolve, world: WorldId, bytes: &[u8]) {
    let sections =
        Parser::new(0).parse_all(bytes).map_while(Result::ok).filter_map(|payload| match payload {
            Payload::CustomSection(section) if section.name() == SECTION => Some(section.data()),
            _ => None,
        });
    for section in sections.take(SECTIONS_MAX) {
        // What cannot be read is documentation that is not there.
        let Some((0 | 1, json)) = section.split_first() else { continue };
        let Ok(package) = serde_json::from_slice::<Value>(json) else { continue };
        apply_interfaces(resolve, &package);
        apply_world(resolve, world, &package);
    }
}

/// A component does not say which world it was built from: its functions at the root are looked for in all.
fn apply_world(resolve: &mut Resolve, world: WorldId, package: &Value) {
    let Some(worlds) = package.get("worlds").and_then(Value::as_object) else { return };
    for item in resolve.worlds[world].exports.values_mut() {
        let WorldItem::Function(function) = item else { continue };
        for found in worlds.values() {
            fill(&mut function.docs, &found["func_exports"][function.name.as_str()]);
            fill(&mut function.docs, &found["funcs"][function.name.as_str()]);
        }
    }
}

fn apply_interfaces(resolve: &mut Resolve, package: &Value) {
    let Some(interfaces) = package.get("interfaces").and_then(Value::as_object) else { return };
    let ids: Vec<_> = resolve.interfaces.iter().map(|(id, _)| id).collect();
    for id in ids {
        let interface = &mut resolve.interfaces[id];
        let Some(found) = interface.name.as_ref().and_then(|name| interfaces.get(name)) else { continue };
        fill(&mut interface.docs, found);
        for (name, function) in &mut interface.functions {
            fill(&mut function.docs, &found["funcs"][name.as_str()]);
        }
        let types: Vec<_> = interface.types.iter().map(|(name, id)| (name.clone(), *id)).collect();
        for (name, id) in types {
            let found = &found["types"][name.as_str()];
            let definition = &mut resolve.types[id];
            fill(&mut definition.docs, found);
            // Fields, cases and flags alike.
            let items = &found["items"];
            match &mut definition.kind {
                TypeDefKind::Record(record) => {
                    record.fields.iter_mut().for_each(|it| fill(&mut it.docs, &items[it.name.as_str()]));
                }
                TypeDefKind::Variant(variant) => {
                    variant.cases.iter_mut().for_each(|it| fill(&mut it.docs, &items[it.name.as_str()]));
                }
                TypeDefKind::Enum(cases) => {
                    cases.cases.iter_mut().for_each(|it| fill(&mut it.docs, &items[it.name.as_str()]));
                }
                TypeDefKind::Flags(flags) => {
                    flags.flags.iter_mut().for_each(|it| fill(&mut it.docs, &items[it.name.as_str()]));
                }
                _ => {}
            }
        }
    }
}

/// The text is under `docs`, or is the value itself where there is nothing else to say.
fn fill(docs: &mut Docs, found: &Value) {
    let text = found.as_str().or_else(|| found["docs"].as_str());
    if let (true, Some(text)) = (docs.is_empty(), text) {
        docs.contents = Some(text.to_owned());
    }
}
