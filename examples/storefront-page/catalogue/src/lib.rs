//! The component `catalogue`: products from a file, for whoever imports them.

pub mod products;

// Only the above is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
