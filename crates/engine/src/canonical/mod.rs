//! Values in a guest's memory and in the parameters and results of its functions, by types that are known only when a
//! component is loaded: the Canonical ABI (`CanonicalABI.md`, "Loading" and "Storing", "Flattening") for [`Val`].
//!
//! The engine does this for values of its own, and keeps it to itself: one of those has forty bytes for each byte of a
//! list, and streams and futures it reads and writes only by types that are known when the host is built. Here a list
//! of bytes is copied as one piece. All is read and written through the engine's own checked access to memory, and every
//! address is checked.

mod call;
mod lift;
mod lower;

pub(crate) use call::{Callee, flat_count};
pub(crate) use lift::load;
pub(crate) use lower::store;

use wasmtime::component::__internal::{ComponentTypes, InterfaceType};
use wasmtime::{Error, Result};

#[cfg(doc)]
use crate::value::Val;

/// Types within one type that are looked at: types share parts, so a small component can have one that is large.
const TYPES_MAX: usize = 100_000;

/// Whether a value of this type is all in memory: nothing in it is a handle, which would have to be taken over.
pub(crate) fn is_plain(types: &ComponentTypes, ty: InterfaceType) -> bool {
    plain(types, ty, &mut TYPES_MAX.clone())
}

fn plain(types: &ComponentTypes, ty: InterfaceType, left: &mut usize) -> bool {
    let Some(fewer) = left.checked_sub(1) else { return false };
    *left = fewer;
    match ty {
        InterfaceType::Own(_)
        | InterfaceType::Borrow(_)
        | InterfaceType::Future(_)
        | InterfaceType::Stream(_)
        | InterfaceType::ErrorContext(_) => false,
        InterfaceType::List(index) => plain(types, types[index].element, left),
        InterfaceType::FixedLengthList(index) => plain(types, types[index].element, left),
        InterfaceType::Map(index) => {
            plain(types, types[index].key, left) && plain(types, types[index].value, left)
        }
        InterfaceType::Record(index) => types[index].fields.iter().all(|field| plain(types, field.ty, left)),
        InterfaceType::Tuple(index) => types[index].types.iter().all(|ty| plain(types, *ty, left)),
        InterfaceType::Variant(index) => {
            types[index].cases.values().flatten().all(|ty| plain(types, *ty, left))
        }
        InterfaceType::Option(index) => plain(types, types[index].ty, left),
        InterfaceType::Result(index) => {
            let result = &types[index];
            result.ok.iter().chain(&result.err).all(|ty| plain(types, *ty, left))
        }
        _ => true,
    }
}

/// The bytes that a value of this type takes.
pub(crate) fn size_of_type(types: &ComponentTypes, ty: InterfaceType) -> usize {
    types.canonical_abi(&ty).size32 as usize
}

/// Checks that a value of this type may be at the address.
fn check_place(types: &ComponentTypes, ty: InterfaceType, at: usize, memory_bytes: usize) -> Result<()> {
    let abi = types.canonical_abi(&ty);
    if !at.is_multiple_of(abi.align32 as usize) {
        return Err(Error::msg("a pointer is not aligned"));
    }
    match at.checked_add(abi.size32 as usize) {
        Some(end) if end <= memory_bytes => Ok(()),
        _ => Err(Error::msg("a pointer is out of the bounds of memory")),
    }
}

/// How many core values a value of this type is passed as; `None` when it is more than are ever passed.
fn flat_of(types: &ComponentTypes, ty: InterfaceType) -> Option<usize> {
    types.canonical_abi(&ty).flat_count(FLAT_MAX)
}

/// The most core values that a function is passed, and that one gives back which is lifted async (`MAX_FLAT_PARAMS`).
const FLAT_MAX: usize = 16;

fn no_flat() -> Error {
    Error::msg("a value is not passed as it should be")
}

fn error_context() -> Error {
    Error::msg("an `error-context` cannot be passed to or from outside")
}
