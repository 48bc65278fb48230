//! The component `validator`: looks at bodies before anybody works with them.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

#[cfg(target_family = "wasm")]
use freestanding as _;

pub mod schema;

// Only `schema` is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
