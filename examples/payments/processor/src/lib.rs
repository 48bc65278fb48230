//! The component `payments`: exact money, rules against fraud, and a receipt.
//!
//! It is built without the standard library, so that what it imports is what the world names, a clock and a source of
//! random numbers, and nothing else.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

pub mod fraud;
pub mod money;
pub mod receipt;

// Only the above is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
mod freestanding;
