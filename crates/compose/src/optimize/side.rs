//! What is left out of a component and only a person who looks into a failure needs: names and debug information.
//!
//! A side file is a component of core modules, each with the code that is served or with the code it was made from.
//! [`tenon_wit::Symbols::attach`] reads it.

use wasm_encoder::{Component, Module, RawSection};

use super::link::Moved;

/// What belongs to one core module of an optimised component.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    /// The module before its names and debug information were left out.
    Whole(Vec<u8>),
    /// A linked module.
    Linked {
        /// With the names of its functions.
        named: Vec<u8>,
        /// Where its code was before.
        moved: Vec<Moved>,
        /// The modules it was made from, and whether they know source lines.
        origins: Vec<(bool, Vec<u8>)>,
    },
}

/// The side file for all of `sides`; `None` when there is nothing in it.
pub(crate) fn side_file(sides: &[Side]) -> Option<Vec<u8>> {
    if sides.is_empty() {
        return None;
    }
    let mut component = Component::new();
    let mut module = |bytes: &[u8]| {
        component.section(&RawSection { id: 1, data: bytes });
    };
    for side in sides {
        match side {
            Side::Whole(bytes) => module(bytes),
            Side::Linked { named, moved, origins } => {
                let mut named = named.clone();
                let has_lines = origins.iter().any(|(has_lines, _)| *has_lines);
                if has_lines {
                    let moves = moved.iter().map(|it| (it.now, it.module, it.was));
                    tenon_wit::append_moves(&mut named, moves);
                }
                module(&named);
                if has_lines {
                    let empty = Module::new().finish();
                    for (has_lines, origin) in origins {
                        module(if *has_lines { origin } else { &empty });
                    }
                }
            }
        }
    }
    Some(component.finish())
}
