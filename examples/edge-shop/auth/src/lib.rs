//! The component `auth`: the one place that knows the signing key and the passwords.
//!
//! It is built without the standard library, so that all it imports is the clock and its configuration.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

pub mod people;
pub mod token;

// Only the above is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
mod freestanding;
