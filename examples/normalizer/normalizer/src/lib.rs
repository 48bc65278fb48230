//! The component `normalizer`: orders in JSON and in XML, brought into one form.
//!
//! ```text
//! JSON ─▶ json ─┐
//!               ├─▶ tree ─▶ schema ─▶ order
//! XML ──▶ xml ──┘
//! ```
//!
//! Both readers make the same tree, in which everything knows its place in the document; the schema is read from the tree,
//! and knows neither format.

pub mod amount;
pub mod http;
pub mod json;
pub mod problem;
pub mod schema;
pub mod tree;
pub mod xml;

// Only the above is built for the machine the tests run on.
#[cfg(target_family = "wasm")]
mod component;

#[cfg(test)]
mod tests;

use problem::Problem;
use schema::Order;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Xml,
}

/// The order in `document`.
///
/// # Errors
/// When it is not one: what is wrong, and where.
pub fn normalize(document: &str, format: Format) -> Result<Order, Problem> {
    let root = match format {
        Format::Json => json::read(document),
        Format::Xml => xml::read(document),
    };
    root.and_then(schema::order).map_err(|fault| fault.in_document(document))
}
