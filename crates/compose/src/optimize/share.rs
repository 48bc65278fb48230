//! Core modules that several parts have, or one part several times, are in the result once: a language's runtime, for
//! one, where a toolchain leaves it in a module of its own.
//!
//! The module goes to the outermost component, and where it was there is an alias of it: under the same index, so that
//! nothing else has to change. An instance of it is made for each, as before.

use std::collections::BTreeMap;

use wasm_encoder::{Alias, Component, ComponentAliasSection, ComponentOuterAliasKind, RawSection};

use super::Unsuitable;
use super::items::sections;

/// Section of a component that holds a core module (`Binary.md` of the Component Model).
const CORE_MODULE_SECTION: u8 = 1;
/// Section of a component that holds a component.
const COMPONENT_SECTION: u8 = 4;
/// An alias takes about ten bytes: smaller modules are not worth it.
const BYTES_MIN: usize = 64;
/// Components are nested no deeper than this.
const DEPTH_MAX: u32 = 100;

/// The core modules that are in the outermost component, by their bytes: the index of each.
pub(crate) struct Shared<'a> {
    modules: BTreeMap<&'a [u8], u32>,
    /// The same, by index.
    order: Vec<&'a [u8]>,
}

impl<'a> Shared<'a> {
    /// The core modules that are there more than once in `parts`, in the order in which they first are. What each part
    /// becomes is so a matter of the parts alone, whatever is around them.
    pub(crate) fn of(parts: &[&'a [u8]]) -> Result<Self, Unsuitable> {
        let mut found = Vec::new();
        for part in parts {
            collect(part, 0, &mut found)?;
        }
        let mut times: BTreeMap<&[u8], u32> = BTreeMap::new();
        for module in &found {
            *times.entry(module).or_default() += 1;
        }
        let mut shared = Self { modules: BTreeMap::new(), order: Vec::new() };
        for module in found {
            if times.get(module).is_some_and(|times| *times > 1) && !shared.modules.contains_key(module) {
                shared.modules.insert(module, u32::try_from(shared.order.len()).unwrap_or(u32::MAX));
                shared.order.push(module);
            }
        }
        Ok(shared)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The modules, in the order of their indices.
    pub(crate) fn modules(&self) -> &[&'a [u8]] {
        &self.order
    }

    /// Which of them a part has, by index.
    pub(crate) fn of_part(&self, part: &[u8]) -> Result<Vec<u32>, Unsuitable> {
        let mut found = Vec::new();
        collect(part, 0, &mut found)?;
        let mut indices: Vec<u32> =
            found.iter().filter_map(|module| self.modules.get(module).copied()).collect();
        indices.sort_unstable();
        indices.dedup();
        Ok(indices)
    }

    /// A part with aliases in the place of the modules.
    pub(crate) fn part(&self, part: &[u8]) -> Result<Vec<u8>, Unsuitable> {
        self.within(part, 1)
    }

    /// The composed component `bytes` with the modules before everything else.
    pub(crate) fn whole(&self, bytes: &[u8]) -> Result<Vec<u8>, Unsuitable> {
        if sections(bytes)?.iter().any(|(id, _)| *id == CORE_MODULE_SECTION) {
            return Err(Unsuitable::Has("core modules beside its components"));
        }
        let mut whole = Component::new();
        for module in &self.order {
            whole.section(&RawSection { id: CORE_MODULE_SECTION, data: module });
        }
        self.rest(bytes, 0, &mut whole)?;
        Ok(whole.finish())
    }

    fn within(&self, bytes: &[u8], depth: u32) -> Result<Vec<u8>, Unsuitable> {
        if self.of_part(bytes)?.is_empty() {
            return Ok(bytes.to_vec());
        }
        let mut component = Component::new();
        self.rest(bytes, depth, &mut component)?;
        Ok(component.finish())
    }

    /// Writes the sections of a component that is `depth` components within the outermost one.
    fn rest(&self, bytes: &[u8], depth: u32, into: &mut Component) -> Result<(), Unsuitable> {
        for (id, data) in sections(bytes)? {
            let index = self.modules.get(data).filter(|_| id == CORE_MODULE_SECTION);
            if let Some(index) = index {
                let kind = ComponentOuterAliasKind::CoreModule;
                let mut alias = ComponentAliasSection::new();
                alias.alias(Alias::Outer { kind, count: depth, index: *index });
                into.section(&alias);
            } else if id == COMPONENT_SECTION {
                into.section(&RawSection { id, data: &self.within(data, depth + 1)? });
            } else {
                into.section(&RawSection { id, data });
            }
        }
        Ok(())
    }
}

/// The core modules of a component and of all that is nested in it.
fn collect<'a>(bytes: &'a [u8], depth: u32, into: &mut Vec<&'a [u8]>) -> Result<(), Unsuitable> {
    if depth > DEPTH_MAX {
        return Err(Unsuitable::Has("components that are nested too deeply"));
    }
    for (id, data) in sections(bytes)? {
        match id {
            CORE_MODULE_SECTION if data.len() >= BYTES_MIN => into.push(data),
            COMPONENT_SECTION => collect(data, depth + 1, into)?,
            _ => {}
        }
    }
    Ok(())
}
