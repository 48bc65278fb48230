//! Components made smaller and quicker to instantiate, that do what they did.
//!
//! Nothing that can run is changed: code is left out that nothing reaches, and instances are made one that always
//! were made together. What cannot be optimised for certain stays as it is, and says why.

mod items;
mod link;
mod module;
mod plan;
mod rewrite;
mod share;
mod side;

use std::collections::{BTreeMap, BTreeSet};

use tenon_wit::{provenance, require_component};
use wasm_encoder::{ProducersField, ProducersSection, Section as _};
use wasmparser::{KnownCustom, Parser, Payload};

use items::{Items, sections};
use plan::Plan;
use rewrite::{Details, Rewritten, rewrite};
pub(crate) use share::Shared;
pub(crate) use side::{Side, side_file};

/// Why something cannot be optimised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsuitable {
    /// It has something that is not handled.
    #[error("it has {0}")]
    Has(&'static str),
    /// It cannot be read, though it was validated, or what came of it is not valid.
    #[error("it cannot be written anew: {0}")]
    Unreadable(String),
}

impl From<wasmparser::Error> for Unsuitable {
    fn from(error: wasmparser::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// An optimised component.
#[derive(Debug)]
pub(crate) struct Slim {
    /// The component.
    pub(crate) bytes: Vec<u8>,
    /// What was left out for a debugger.
    pub(crate) sides: Vec<Side>,
    /// Why its core modules are not linked, where they are not.
    pub(crate) unlinked: Option<Unsuitable>,
}

/// The valid component `bytes` with only those exported interfaces and functions that `keep` names.
///
/// # Errors
/// When it has something that is not handled here.
pub(crate) fn slim(bytes: &[u8], keep: &dyn Fn(&str) -> bool) -> Result<Slim, Unsuitable> {
    let items = Items::read(bytes)?;
    let mut unlinked = None;
    let mut rewritten = None;
    match Plan::of(&items) {
        Ok(None) => {}
        Ok(Some(plan)) => match rewrite(&items, Some(&plan), keep, Details::Aside).and_then(valid) {
            Ok(done) => rewritten = Some(done),
            Err(why) => unlinked = Some(why),
        },
        Err(why) => unlinked = Some(why),
    }
    let rewritten = match rewritten {
        Some(done) => done,
        None => rewrite(&items, None, keep, Details::Aside).and_then(valid)?,
    };
    let made = with_customs(rewritten.bytes, bytes, &items);
    Ok(Slim { bytes: made, sides: rewritten.sides, unlinked: unlinked.or(rewritten.unlinked) })
}

/// The valid component `bytes` with its core modules linked to one, and all else as it was. What a module imports from another
/// is then a direct call, and one table that engines keep ready takes the place of one that is filled anew for each
/// instance: of a runtime that is made of several libraries, as Python's is, that is most of what an instance costs.
///
/// # Errors
/// Why that cannot be done for certain, for people.
pub fn link_core_modules(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let linked = || -> Result<Vec<u8>, Unsuitable> {
        let items = Items::read(bytes)?;
        let plan = Plan::of(&items)?.ok_or(Unsuitable::Has("one core module"))?;
        if plan.modules.iter().any(|module| module.has_lines) {
            return Err(Unsuitable::Has("debug information"));
        }
        let rewritten = rewrite(&items, Some(&plan), &|_| true, Details::Within).and_then(valid)?;
        Ok(with_customs(rewritten.bytes, bytes, &items))
    };
    linked().map_err(|why| why.to_string())
}

/// What was made of the component `bytes`, with what that says of itself.
fn with_customs(mut made: Vec<u8>, bytes: &[u8], items: &Items<'_>) -> Vec<u8> {
    for (name, data) in items.customs.iter().filter(|(name, _)| is_kept(name)) {
        wasm_encoder::CustomSection { name: (*name).into(), data: (*data).into() }.append_to(&mut made);
    }
    if let Some(producers) = producers(bytes) {
        producers.append_to(&mut made);
    }
    made
}

/// How many core instances a component makes, everything nested included.
pub(crate) fn core_instances(bytes: &[u8]) -> u32 {
    let mut count = 0;
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        if let Payload::InstanceSection(section) = payload {
            let instances = section.into_iter().map_while(Result::ok);
            let made = instances.filter(|it| matches!(it, wasmparser::Instance::Instantiate { .. })).count();
            count += u32::try_from(made).unwrap_or(u32::MAX);
        }
    }
    count
}

/// What came of it has to be valid: whatever is overlooked here shows there.
fn valid(rewritten: Rewritten) -> Result<Rewritten, Unsuitable> {
    match require_component("an optimised component", &rewritten.bytes) {
        Ok(()) => Ok(rewritten),
        Err(found) => {
            let notes: Vec<_> = found.notes.iter().map(|note| note.text.as_str()).collect();
            Err(Unsuitable::Unreadable(format!("{}: {}", found.message, notes.join("; "))))
        }
    }
}

/// A core module without its custom sections: names, debug information, producers. What it is known by stays.
fn strip(module: &[u8]) -> Result<Vec<u8>, Unsuitable> {
    let mut stripped = wasm_encoder::Module::new();
    for (id, data) in sections(module)? {
        if id != 0 || wasmparser::BinaryReader::new(data, 0).read_string()? == BUILD_ID {
            stripped.section(&wasm_encoder::RawSection { id, data });
        }
    }
    Ok(stripped.finish())
}

/// The custom section that says of which build a module is.
const BUILD_ID: &str = "build_id";

/// Whether a custom section of a component stays: documentation does. What a composition within was made from would no
/// longer be true of its bytes.
fn is_kept(section: &str) -> bool {
    !matches!(section, "component-name" | "producers" | "name" | provenance::SECTION)
        && !section.starts_with(".debug")
}

/// Whether a component holds core modules, itself or within, or makes instances of those around it.
fn has_code(bytes: &[u8]) -> Result<bool, Unsuitable> {
    let has_code =
        |payload| Ok(matches!(payload?, Payload::ModuleSection { .. } | Payload::InstanceSection(_)));
    let found: Result<Vec<bool>, Unsuitable> = Parser::new(0).parse_all(bytes).map(has_code).collect();
    Ok(found?.contains(&true))
}

/// The languages and tools that all modules of a component name, in one section; `None` when none names any.
fn producers(bytes: &[u8]) -> Option<ProducersSection> {
    let mut fields: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    let (mut depth, mut own_languages) = (0_usize, BTreeSet::new());
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        let Payload::CustomSection(section) = payload else { continue };
        let KnownCustom::Producers(section) = section.as_known() else { continue };
        for field in section.into_iter().map_while(Result::ok) {
            let values = field.values.into_iter().map_while(Result::ok);
            let values: Vec<_> = values.map(|value| (value.name, value.version)).collect();
            if depth == 1 && field.name == "language" {
                own_languages.extend(values.iter().copied());
            }
            fields.entry(field.name).or_default().extend(values);
        }
    }
    // What the author wrote it in counts, and not what a runtime within was compiled from.
    if !own_languages.is_empty() {
        fields.insert("language", own_languages);
    }
    if fields.is_empty() {
        return None;
    }
    let mut section = ProducersSection::new();
    for (name, values) in fields {
        let mut field = ProducersField::new();
        for (name, version) in values {
            field.value(name, version);
        }
        section.field(name, &field);
    }
    Some(section)
}
