//! The component `customer`: what was agreed with one customer, as text in a place of fixed size, so that `fleet` can write
//! another text there without compiling anything.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

#[cfg(target_family = "wasm")]
use freestanding as _;

pub mod policy;

// Only `policy` is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
