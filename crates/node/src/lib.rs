//! A node: apps of many tenants, deployed, swapped and watched while they are served.
//!
//! [`Node::start`] wires the request path, the sandbox and the state together. `journey::deploy` is the life of a deploy;
//! `reconcile` makes what is served equal to what is desired, and takes nothing but the desired state.
//!
//! What this room must never do: write to the terminal, read the environment, know a database or the WebAssembly engine.

mod ahead;
pub mod api;
mod capacity;
mod compile;
mod components;
mod config;
mod describe;
mod http3;
mod journey;
mod live;
mod loader;
mod logs;
mod memory;
mod messages;
mod node;
mod policy;
mod refused;
mod rollouts;
mod start;
mod stores;
mod telemetry;
mod tokens;
pub mod wire;

pub use compile::{CompileLimits, compile_worker, explain_refusal, parts_of};
pub use config::{
    AdminTls, Bounds, Config, Http3Listen, Predecessor, Reopen, Telemetry, TlsFiles, TlsListen,
};
pub use describe::{Known, describe};
pub use logs::{LogLayer, Logs};
pub use start::{Node, Running, StartError};
pub use stores::Shelf;
pub use telemetry::{LogLines, LogWriter};
