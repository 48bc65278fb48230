//! The component `storefront`: what each route answers. Who is asking is the component `auth`'s to say, and which
//! route a request is for is `routing`'s.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

pub mod answer;
pub mod shop;
pub mod time;

// The rest is built for WebAssembly only, not for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
#[path = "../../../storefront/auth/src/freestanding.rs"]
mod freestanding;
