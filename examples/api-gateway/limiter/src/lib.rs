//! The component `limiter`: counts the requests of each key, window by window.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

#[cfg(target_family = "wasm")]
use freestanding as _;

pub mod window;

// Only `window` is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
