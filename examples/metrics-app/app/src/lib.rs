//! The component `app`: numbers in, a report out, with the logging and the mathematics of somebody else.

pub mod input;
pub mod report;

// Only the above is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;
