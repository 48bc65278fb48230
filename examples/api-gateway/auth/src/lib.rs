//! The component `auth`: tells who calls.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

#[cfg(target_family = "wasm")]
use freestanding as _;

pub mod credentials;

// Only `credentials` is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
