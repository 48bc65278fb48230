//! The component `routing`: the table of routes, and which of them a request is for.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

pub mod router;

// Only `router` is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
#[path = "../../../storefront/auth/src/freestanding.rs"]
mod freestanding;
