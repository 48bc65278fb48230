//! The component `auth`: the one place that knows the signing key.
//!
//! It is built without the standard library: linking that in imports an environment, an exit, terminals and
//! streams, none of which a token needs. What is left is the clock.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

pub mod token;

// Only `token` is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
mod freestanding;
