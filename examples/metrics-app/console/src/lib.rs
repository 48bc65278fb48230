//! The component `console`: messages to the standard streams, which the host writes to its log with the request's id.

pub mod line;

// Only `line` is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
