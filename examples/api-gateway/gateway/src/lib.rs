//! The component `gateway`: takes requests, and asks the others in turn.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

#[cfg(target_family = "wasm")]
use freestanding as _;

pub mod operation;

// Only `operation` is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
