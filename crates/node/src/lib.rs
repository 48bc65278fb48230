//! A node: apps of many tenants, deployed, swapped and watched while they are served.
//!
//! This room wires the request path, the sandbox and the state together. What it must never do: write to the terminal,
//! read the environment, know a database or the WebAssembly engine.

pub mod api;
pub mod wire;
