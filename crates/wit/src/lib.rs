//! Contracts: what a file is, what a component imports and exports, and where two contracts differ.
//!
//! This room is pure: bytes in, values out. It reads no file and no environment.
//!
//! Where to start reading: [`classify`] tells what kind of file some bytes are, [`Contract`] is a component's
//! world, [`first_difference`] compares two sides of an edge, [`inspect`] looks inside a component.

mod contract;
mod difference;
mod document;
mod footprint;
mod format;
mod inspection;
mod kind;
mod openapi;
mod outline;
mod producers;
pub mod provenance;
mod render;
mod report;
mod snapshot;
mod sources;
mod symbols;
mod version;

pub use contract::{Contract, Item, ItemKind, print_wit};
pub use difference::{Declaration, Difference, first_difference};
pub use document::{Document, document};
pub use footprint::{Footprint, Needs};
pub use format::format_wit;
pub use inspection::{CoreModule, Extern, Inspection, Nested, Producer, Sizes, inspect};
pub use kind::{Kind, Module, System, classify, require_component};
pub use openapi::{ErrorStatuses, HttpApi, Page, contract, openapi, page, with_docs};
pub use outline::{export_names, import_names};
pub use producers::with_language;
pub use render::{function_text, interface_text, type_name, type_text};
pub use report::{render_json, render_text};
pub use snapshot::require_released_wasi;
pub use sources::Sources;
pub use symbols::{SourceFrame, Symbols, append_moves};
pub use tenon_model::most_similar;
pub use version::{compare_versions, registry_reference, same_track, track};
