//! The names a component imports and exports, without their types.

use wasmparser::{Parser, Payload};

/// The names of what the component imports, in the order of its binary, those of nested components left out.
/// What cannot be read is left out too: validate first.
pub fn import_names(bytes: &[u8]) -> Vec<String> {
    names(bytes).0
}

/// The names of what the component exports, likewise.
pub fn export_names(bytes: &[u8]) -> Vec<String> {
    names(bytes).1
}

pub(crate) fn names(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                imports.extend(section.into_iter().map_while(Result::ok).map(|it| it.name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                exports.extend(section.into_iter().map_while(Result::ok).map(|it| it.name.name.to_owned()));
            }
            _ => {}
        }
    }
    (imports, exports)
}
