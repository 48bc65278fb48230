//! The component `quotes`: what sending a parcel costs.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

#[cfg(target_family = "wasm")]
use freestanding as _;

pub mod price;

// Only `price` is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
