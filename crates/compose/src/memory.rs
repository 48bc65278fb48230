//! A component's memory limit, written into its binary: the maximum of each of its linear memories.
//!
//! The engine then enforces it wherever the component runs, at no cost while it does. What a guest asks for beyond
//! it fails as `memory.grow` does: with -1, which its allocator handles.

use wasm_encoder::{Component, MemorySection, MemoryType, Module, RawSection};
use wasmparser::{BinaryReader, BinaryReaderError, MemorySectionReader};

/// Magic number and version.
const PREAMBLE_BYTES: usize = 8;
/// Section of a component that holds a core module (`Binary.md` of the Component Model).
const CORE_MODULE_SECTION: u8 = 1;
/// Section of a component that holds a component.
const COMPONENT_SECTION: u8 = 4;
/// Section of a core module that declares memories.
const MEMORY_SECTION: u8 = 5;
/// Components nested deeper than this are not valid.
const DEPTH_MAX: usize = 100;
/// The size of a page where a memory says nothing: 64 KiB.
const PAGE_SIZE_LOG2: u32 = 16;

/// Why a component cannot have that limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CapError {
    /// A memory starts with more than the limit.
    StartsLarger {
        /// What it starts with.
        initial_bytes: u64,
    },
    /// The binary cannot be read, though it was validated.
    Unreadable(String),
}

impl From<BinaryReaderError> for CapError {
    fn from(error: BinaryReaderError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The valid component `bytes`, each linear memory of which holds at most `limit_bytes`.
pub(crate) fn cap_memories(bytes: &[u8], limit_bytes: u64) -> Result<Vec<u8>, CapError> {
    component(bytes, limit_bytes, 0)
}

fn component(bytes: &[u8], limit_bytes: u64, depth: usize) -> Result<Vec<u8>, CapError> {
    if depth > DEPTH_MAX {
        return Err(CapError::Unreadable("components are nested too deeply".into()));
    }
    let mut capped = Component::new();
    each_section(bytes, |id, data| {
        let data = match id {
            CORE_MODULE_SECTION => &module(data, limit_bytes)?,
            COMPONENT_SECTION => &component(data, limit_bytes, depth + 1)?,
            _ => data,
        };
        capped.section(&RawSection { id, data });
        Ok(())
    })?;
    Ok(capped.finish())
}

fn module(bytes: &[u8], limit_bytes: u64) -> Result<Vec<u8>, CapError> {
    let mut capped = Module::new();
    each_section(bytes, |id, data| {
        if id == MEMORY_SECTION {
            capped.section(&memories(data, limit_bytes)?);
        } else {
            capped.section(&RawSection { id, data });
        }
        Ok(())
    })?;
    Ok(capped.finish())
}

fn memories(data: &[u8], limit_bytes: u64) -> Result<MemorySection, CapError> {
    let mut section = MemorySection::new();
    for memory in MemorySectionReader::new(BinaryReader::new(data, 0))? {
        let memory = memory?;
        let page_size_log2 = memory.page_size_log2.unwrap_or(PAGE_SIZE_LOG2);
        let limit = limit_bytes >> page_size_log2;
        if memory.initial > limit {
            let initial_bytes = memory.initial.saturating_mul(1 << page_size_log2);
            return Err(CapError::StartsLarger { initial_bytes });
        }
        section.memory(MemoryType {
            minimum: memory.initial,
            maximum: Some(memory.maximum.map_or(limit, |maximum| maximum.min(limit))),
            memory64: memory.memory64,
            shared: memory.shared,
            page_size_log2: memory.page_size_log2,
        });
    }
    Ok(section)
}

/// Calls `each` with the id and the content of every section of a module or component.
fn each_section(
    bytes: &[u8],
    mut each: impl FnMut(u8, &[u8]) -> Result<(), CapError>,
) -> Result<(), CapError> {
    let mut reader = BinaryReader::new(bytes, 0);
    reader.read_bytes(PREAMBLE_BYTES)?;
    while !reader.eof() {
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()?;
        each(id, reader.read_bytes(usize::try_from(size).unwrap_or(usize::MAX))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memories of all core modules: minimum and maximum.
    fn limits(bytes: &[u8]) -> Vec<(u64, Option<u64>)> {
        let mut found = Vec::new();
        for payload in wasmparser::Parser::new(0).parse_all(bytes) {
            if let wasmparser::Payload::MemorySection(section) = payload.unwrap() {
                found.extend(section.into_iter().map(|memory| {
                    let memory = memory.unwrap();
                    (memory.initial, memory.maximum)
                }));
            }
        }
        found
    }

    #[test]
    fn every_memory_of_every_module_gets_the_limit() {
        let component = wat::parse_str(
            r#"(component
                (core module (memory 1))
                (core module (memory 1 2) (func) (data (i32.const 0) "x"))
                (core module (memory 1 100))
                (core module (memory i64 1))
                (core module (func))
                (component (component (core module (memory 2))))
                (@custom "note" "kept"))"#,
        )
        .unwrap();
        let capped = cap_memories(&component, 4 << 16).unwrap();
        assert_eq!(tenon_wit::require_component("a.wasm", &capped), Ok(()));
        let four = Some(4);
        assert_eq!(limits(&capped), [(1, four), (1, Some(2)), (1, four), (1, four), (2, four)]);
        assert_eq!(cap_memories(&capped, 4 << 16).unwrap(), capped, "once is enough");
        assert!(capped.windows(4).any(|bytes| bytes == b"kept"));
    }

    #[test]
    fn the_limit_is_rounded_down_to_whole_pages() {
        let component = wat::parse_str("(component (core module (memory 1)))").unwrap();
        assert_eq!(limits(&cap_memories(&component, (3 << 16) - 1).unwrap()), [(1, Some(2))]);
    }

    #[test]
    fn a_memory_that_starts_larger_is_refused() {
        let component = wat::parse_str("(component (core module (memory 17)))").unwrap();
        let refused = CapError::StartsLarger { initial_bytes: 17 << 16 };
        assert_eq!(cap_memories(&component, 16 << 16), Err(refused));
        assert!(cap_memories(&component, 17 << 16).is_ok());
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let component = wat::parse_str("(component (core module (memory 1)))").unwrap();
        for end in 0..component.len() {
            // Cut between two sections it is a shorter component.
            let _ = cap_memories(&component[..end], 1 << 16);
        }
        assert!(matches!(cap_memories(&component[..12], 1 << 16), Err(CapError::Unreadable(_))));
    }
}
