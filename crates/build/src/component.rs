//! What came out of a toolchain: is it a component, and the one that was asked for?

use std::collections::BTreeMap;
use std::ops::Range;

use tenon_model::{Diagnostic, Location, Standing, standing};
use wasm_encoder::{ComponentSection as _, ProducersField, ProducersSection};
use wasmparser::{
    BinaryReader, CanonicalFunction, ComponentAlias, ComponentExport, ComponentExternalKind, ComponentImport,
    ComponentTypeRef, CustomSectionReader, Encoding, FromReader, KnownCustom, Parser, Payload,
    SectionLimited, Validator, WasmFeatures,
};

use crate::contract::Contract;

/// The names of what a component imports and exports.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

impl Names {
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, String> {
        let mut names = Self::default();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(|error| error.to_string())? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err("a core module".to_owned());
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        names.imports.push(import.map_err(|error| error.to_string())?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        names.exports.push(export.map_err(|error| error.to_string())?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(names)
    }
}

/// Makes sure that `bytes` are a component that exports what the world exports and imports nothing from other
/// components that the world does not import. Returns the WASI interfaces that the language's own library imports
/// although the world does not name them.
pub(crate) fn check(component: &str, contract: &Contract, bytes: &[u8]) -> Result<Vec<String>, Diagnostic> {
    let here = || Location::file(component);
    Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).map_err(|error| {
        Diagnostic::new(
            "invalid-component",
            format!("what the toolchain made for `{component}` is not valid"),
        )
        .at(here())
        .note("found", error.to_string())
    })?;
    let found = Names::of(bytes).map_err(|what| {
        Diagnostic::new(
            "not-a-component",
            format!("what the toolchain made for `{component}` is not a component"),
        )
        .at(here())
        .note("found", what)
    })?;
    let mismatch = |what: String, mend: &str| {
        let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join("\n") };
        let foreign: Vec<_> =
            found.imports.iter().filter(|name| standing(name) == Standing::Foreign).cloned().collect();
        Diagnostic::new("world-mismatch", what)
            .at(here())
            .note("the world exports", list(&contract.exports()))
            .note("the component exports", list(&found.exports))
            .note("the world imports", list(&contract.imports()))
            .note("the component imports", list(&foreign))
            .mend(mend)
    };
    let world = contract.qualified_world();
    if let Some(missing) = contract.exports().into_iter().find(|name| !found.exports.contains(name)) {
        return Err(mismatch(
            format!("`{component}` does not export `{missing}`, which its world `{world}` does"),
            "export it, or name the world that the component is written for in `world`",
        ));
    }
    let declared = contract.imports();
    let is_declared = |name: &&String| declared.contains(name);
    if let Some(extra) = found
        .imports
        .iter()
        .filter(|name| standing(name) == Standing::Foreign)
        .find(|name| !is_declared(name))
    {
        return Err(mismatch(
            format!("`{component}` imports `{extra}`, which its world `{world}` does not"),
            "add the import to the world, or name the world that the component is written for in `world`",
        ));
    }
    Ok(found.imports.into_iter().filter(|name| !is_declared(&name)).collect())
}

/// Sections of a component, by their numbers in the binary format ("Component Definitions", `Binary.md`).
const ALIAS: u8 = 6;
const CANON: u8 = 8;
const IMPORT: u8 = 10;
const EXPORT: u8 = 11;

/// The component without those of its exported functions that `keep` does not want, or `None` when there is nothing
/// to do or it is put together in a way this does not know.
///
/// An export makes a new function index, which later sections count on. So in its place comes a copy of the
/// definition of the function it exports, a lift or an alias, which makes one too and is exported by nobody.
pub(crate) fn without_functions(bytes: &[u8], keep: impl Fn(&str) -> bool) -> Option<Vec<u8>> {
    let sections = sections(bytes)?;
    let (mut output, mut dropped) = (bytes[..8].to_vec(), false);
    // The section and the bytes that define each function of the component's index space; none for imports.
    let mut functions: Vec<Option<(u8, Range<usize>)>> = Vec::new();
    for (id, whole, content) in sections {
        match id {
            IMPORT => {
                for (_, import) in items::<ComponentImport<'_>>(bytes, content)? {
                    if matches!(import.ty, ComponentTypeRef::Func(_)) {
                        functions.push(None);
                    }
                }
            }
            ALIAS => {
                for (range, alias) in items::<ComponentAlias<'_>>(bytes, content)? {
                    if matches!(
                        alias,
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Func, .. }
                    ) {
                        functions.push(Some((ALIAS, range)));
                    }
                }
            }
            CANON => {
                for (range, function) in items::<CanonicalFunction>(bytes, content)? {
                    if matches!(function, CanonicalFunction::Lift { .. }) {
                        functions.push(Some((CANON, range)));
                    }
                }
            }
            EXPORT => {
                for (range, export) in items::<ComponentExport<'_>>(bytes, content)? {
                    if export.kind != ComponentExternalKind::Func {
                        section_of_one(&mut output, EXPORT, &bytes[range]);
                        continue;
                    }
                    let definition = functions.get(export.index as usize)?.clone();
                    if keep(export.name.name) {
                        section_of_one(&mut output, EXPORT, &bytes[range]);
                    } else {
                        let (id, definition) = definition.clone()?;
                        section_of_one(&mut output, id, &bytes[definition]);
                        dropped = true;
                    }
                    functions.push(definition);
                }
                continue;
            }
            _ => {}
        }
        output.extend_from_slice(&bytes[whole]);
    }
    dropped.then_some(output)
}

/// Custom sections have this number.
const CUSTOM: u8 = 0;

/// The component with `tools` among the programs that its producers section names, in place of other versions of them.
/// One that is put together in a way this does not know stays as it is.
pub(crate) fn with_tools(bytes: Vec<u8>, tools: &[(&str, &str)]) -> Vec<u8> {
    let Some(sections) = sections(&bytes) else { return bytes };
    let mut fields: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut output = bytes[..8].to_vec();
    for (id, whole, content) in sections {
        let custom = CustomSectionReader::new(BinaryReader::new(&bytes[content], 0));
        match custom.as_ref().map(CustomSectionReader::as_known) {
            Ok(KnownCustom::Producers(reader)) if id == CUSTOM => {
                for field in reader.into_iter().map_while(Result::ok) {
                    for value in field.values.into_iter().map_while(Result::ok) {
                        let values = fields.entry(field.name.to_owned()).or_default();
                        values.insert(value.name.to_owned(), value.version.to_owned());
                    }
                }
            }
            _ => output.extend_from_slice(&bytes[whole]),
        }
    }
    let processed_by = fields.entry("processed-by".to_owned()).or_default();
    for (tool, version) in tools {
        processed_by.insert((*tool).to_owned(), (*version).to_owned());
    }
    let mut producers = ProducersSection::new();
    for (name, values) in &fields {
        let mut field = ProducersField::new();
        for (name, version) in values {
            field.value(name, version);
        }
        producers.field(name, &field);
    }
    producers.append_to_component(&mut output);
    output
}

/// A section: its number, all of it, and its content.
pub(crate) type Section = (u8, Range<usize>, Range<usize>);

/// The top-level sections of a component.
pub(crate) fn sections(bytes: &[u8]) -> Option<Vec<Section>> {
    let mut sections = Vec::new();
    let mut at = 8;
    while at < bytes.len() {
        let mut reader = BinaryReader::new(bytes.get(at + 1..)?, 0);
        let length = usize::try_from(reader.read_var_u32().ok()?).ok()?;
        let start = at + 1 + usize::try_from(reader.original_position()).ok()?;
        let end = start.checked_add(length).filter(|end| *end <= bytes.len())?;
        sections.push((bytes[at], at..end, start..end));
        at = end;
    }
    Some(sections)
}

/// The items of a section, each with the bytes it is made of.
fn items<'a, T: FromReader<'a>>(bytes: &'a [u8], content: Range<usize>) -> Option<Vec<(Range<usize>, T)>> {
    let reader = BinaryReader::new(&bytes[content.clone()], 0);
    let mut items = Vec::new();
    for item in SectionLimited::<T>::new(reader).ok()?.into_iter_with_offsets() {
        let (offset, item) = item.ok()?;
        items.push((content.start + usize::try_from(offset).ok()?, item));
    }
    let ends: Vec<usize> = items.iter().skip(1).map(|(start, _)| *start).chain([content.end]).collect();
    Some(items.into_iter().zip(ends).map(|((start, item), end)| (start..end, item)).collect())
}

fn section_of_one(output: &mut Vec<u8>, id: u8, item: &[u8]) {
    output.push(id);
    let mut length = item.len() + 1;
    // LEB128.
    while length >= 0x80 {
        output.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    output.push(length as u8);
    output.push(1);
    output.extend_from_slice(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_FUNCTIONS: &str = r#"(component
        (core module $m (func (export "f")) (func (export "g") (result i32) i32.const 7))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (export "stray" (func $f))
        (func $g (result u32) (canon lift (core func $i "g")))
        (component $shim (import "g" (func $g (result u32))) (export "g" (func $g)))
        (instance $api (instantiate $shim (with "g" (func $g))))
        (export "a:b/api@1.0.0" (instance $api)))"#;

    fn contract(world: &str) -> Contract {
        let root = tempfile::tempdir().unwrap();
        let text = "package a:b@1.0.0; interface api { g: func() -> u32; } interface other { f: func(); } \
                    world exact { export api; } world more { export api; export other; }";
        std::fs::write(root.path().join("a.wit"), text).unwrap();
        Contract::load(root.path(), Some(world)).unwrap()
    }

    #[test]
    fn a_stray_function_goes_and_the_rest_stays_valid() {
        let bytes = wat::parse_str(TWO_FUNCTIONS).unwrap();
        let cleaned = without_functions(&bytes, |name| name != "stray").unwrap();
        Validator::new_with_features(WasmFeatures::all()).validate_all(&cleaned).unwrap();
        assert_eq!(Names::of(&cleaned).unwrap().exports, ["a:b/api@1.0.0"]);
        assert_eq!(without_functions(&cleaned, |_| false), None);
    }

    #[test]
    fn a_stray_function_of_an_inner_component_goes_too() {
        let bytes = wat::parse_str(format!(
            "(component {} (instance $i (instantiate $inner)) (export \"stray\" (func $i \"stray\")) \
             (export \"a:b/api@1.0.0\" (instance $i \"a:b/api@1.0.0\")))",
            TWO_FUNCTIONS.replacen("(component", "(component $inner", 1)
        ))
        .unwrap();
        let cleaned = without_functions(&bytes, |name| name != "stray").unwrap();
        Validator::new_with_features(WasmFeatures::all()).validate_all(&cleaned).unwrap();
        assert_eq!(Names::of(&cleaned).unwrap().exports, ["a:b/api@1.0.0"]);
    }

    #[test]
    fn the_component_must_be_the_one_the_world_describes() {
        let bytes = wat::parse_str(TWO_FUNCTIONS).unwrap();
        assert_eq!(check("x", &contract("exact"), &bytes), Ok(Vec::new()));
        let diagnostic = check("x", &contract("more"), &bytes).unwrap_err();
        assert_eq!(diagnostic.code, "world-mismatch");
        assert!(diagnostic.message.contains("a:b/other@1.0.0"), "{diagnostic}");
    }

    #[test]
    fn imports_beyond_the_world_are_refused_or_reported() {
        let with = |import: &str| {
            let text = TWO_FUNCTIONS.replacen(
                "(component",
                &format!("(component (import \"{import}\" (instance))"),
                1,
            );
            check("x", &contract("exact"), &wat::parse_str(text).unwrap())
        };
        assert_eq!(with("wasi:cli/environment@0.2.6"), Ok(vec!["wasi:cli/environment@0.2.6".to_owned()]));
        assert_eq!(with("a:b/secret@1.0.0").unwrap_err().code, "world-mismatch");
    }

    #[test]
    fn tools_are_named_once_each() {
        let bytes = wat::parse_str(TWO_FUNCTIONS).unwrap();
        let named = with_tools(with_tools(bytes, &[("a", "1"), ("b", "1")]), &[("a", "2")]);
        Validator::new_with_features(WasmFeatures::all()).validate_all(&named).unwrap();
        let producers = tenon_wit::inspect("a.wasm", &named).unwrap().producers;
        let named: Vec<_> = producers.iter().map(|it| (&*it.name, &*it.version)).collect();
        assert_eq!(named, [("a", "2"), ("b", "1")]);
    }

    #[test]
    fn a_core_module_is_not_a_component() {
        let module = wat::parse_str("(module)").unwrap();
        assert_eq!(check("x", &contract("exact"), &module).unwrap_err().code, "not-a-component");
        assert_eq!(check("x", &contract("exact"), b"\0asm").unwrap_err().code, "invalid-component");
    }
}
