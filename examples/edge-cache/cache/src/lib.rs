//! The component `cache`: a shared HTTP cache (RFC 9111) in front of one origin.
//!
//! What is decided is in the modules below, which know no clock, no network and no store. What is done about it is in
//! `component`.

pub mod control;
pub mod fields;
pub mod freshness;
pub mod kept;
pub mod policy;
pub mod revalidation;
pub mod vary;

// Only the above is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
