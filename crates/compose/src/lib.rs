//! Compositions: components joined by their contracts into one component.
//!
//! This room is pure: the same manifest and the same components give the same bytes, and nothing is read from
//! the file system, the network, the environment or a clock.
//!
//! Where to start reading: [`Manifest`] is what a person wrote, [`compose`] is the whole journey.

mod adapter;
mod attribution;
pub mod authority;
mod compose;
pub mod drawing;
mod edges;
mod encode;
mod graph;
mod lock;
pub mod manifest;
mod memory;
mod optimize;

pub use compose::{Composed, Input, Part, Saving, SharedModule, compose};
pub use lock::Lock;
pub use manifest::Manifest;
pub use optimize::link_core_modules;
pub use tenon_wit::provenance;
