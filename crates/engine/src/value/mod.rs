//! Values of the Component Model as text: JSON for programs, WAVE for people.
//!
//! Both ways and without loss: a value written and read again is the same value, 64-bit integers included; every NaN
//! becomes the one canonical NaN. The mapping to JSON is a table in `docs/calling.md`; WAVE is the specification's
//! own text form (`wasm-wave`), extended by `#1` for a resource and by a list of pairs for a map.
//!
//! Streams and futures are read out before they are written ([`crate::call`]): a stream is then the list of its
//! elements, a future its value.

mod error;
mod json;
mod show;
#[cfg(test)]
mod tests;
mod val;
mod wave;

pub use error::{ValueError, WaveError};
pub use json::{from_json, from_json_with, to_json, to_json_with};
pub use show::{TypeNames, show_type};
pub use val::Val;
pub use wasmtime::component::Type;
pub use wave::{Arguments, from_wave, to_wave, to_wave_with};

use wasmtime::component::{ResourceAny, ResourceType};

/// Values that one text may hold: each takes some forty bytes of memory here, however short its text is. A `list<u8>` in
/// base64 counts as one.
pub const VALUES_MAX: usize = 2 << 20;
/// How deeply a value may be nested. The engine refuses types that are deeper, so this only bounds text.
pub const DEPTH_MAX: usize = 100;

/// Resources as numbers: within a session a resource is written `#1`, and read again as the same resource.
pub trait Handles {
    /// The number of a resource that the guest handed out; `None` where resources cannot be named.
    fn number(&mut self, resource: ResourceAny) -> Option<u64>;

    /// The resource behind a number.
    ///
    /// # Errors
    /// A message for the person: there is no such handle, or its resource is of another type.
    fn resource(&mut self, number: u64, ty: &ResourceType) -> Result<ResourceAny, String>;
}

/// Outside a session no resource has a name.
pub(crate) struct NoHandles;

impl Handles for NoHandles {
    fn number(&mut self, _: ResourceAny) -> Option<u64> {
        None
    }

    fn resource(&mut self, _: u64, _: &ResourceType) -> Result<ResourceAny, String> {
        Err("a resource lives only within a session".into())
    }
}

/// Whether a list's elements are bytes, which JSON carries as base64.
fn is_bytes(element: Option<&Type>) -> bool {
    matches!(element, Some(Type::U8))
}

/// The number of `#1`.
fn handle_number(text: &str) -> Option<u64> {
    text.strip_prefix('#')?.parse().ok()
}

/// Canonical: there is one NaN.
fn canonical32(number: f32) -> f32 {
    if number.is_nan() { f32::from_bits(0x7fc0_0000) } else { number }
}

/// Canonical: there is one NaN.
fn canonical64(number: f64) -> f64 {
    if number.is_nan() { f64::from_bits(0x7ff8_0000_0000_0000) } else { number }
}

/// "Did you mean": the name that differs in case or separators only, or in one place.
fn meant<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let plain = |text: &str| text.to_lowercase().replace(['_', ' '], "-").replace('-', "");
    let wanted = plain(given);
    names
        .filter(|name| {
            let name = plain(name);
            name == wanted || (wanted.len() > 2 && (name.starts_with(&wanted) || wanted.starts_with(&name)))
        })
        .map(str::to_owned)
        .next()
}

/// A list of names for a message, cut where it gets long.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const NAMES_MAX: usize = 20;
    let mut names = names.map(|name| format!("`{name}`"));
    let mut shown: Vec<String> = names.by_ref().take(NAMES_MAX).collect();
    let more = names.count();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}
