//! What both formats have in common: values with a place.

use crate::problem::{Cause, Fault, Spot};

/// How deep documents may be nested, and of how many values they may consist. An order needs four levels.
pub const DEPTH_MAX: usize = 16;
pub const NODES_MAX: usize = 20_000;

/// A value and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub at: Spot,
    pub value: Value,
}

/// What a document can hold. An XML element that has neither children nor attributes is text, if it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    /// The digits as they were written: no float ever stands for an amount.
    Number(String),
    /// `true`, `false` or `null`, which an order has no use for.
    Other(&'static str),
    /// Members of a JSON object. A name may come more than once.
    Fields(Vec<(String, Node)>),
    /// Attributes and child elements in XML: fields, or the elements of a list.
    Element(Vec<(String, Node)>),
    /// Elements of a JSON array.
    Items(Vec<Node>),
}

/// Counts what is read, and ends it at the bounds.
#[derive(Debug, Default)]
pub struct Allowance {
    nodes: usize,
}

impl Allowance {
    /// Takes one more value, at `depth`.
    pub fn take(&mut self, depth: usize, at: &Spot) -> Result<(), Fault> {
        self.nodes += 1;
        if depth > DEPTH_MAX {
            let message = format!("the document is nested more than {DEPTH_MAX} deep");
            return Err(Fault::new(Cause::TooLarge, at, message));
        }
        if self.nodes > NODES_MAX {
            let message = format!("the document consists of more than {NODES_MAX} values");
            return Err(Fault::new(Cause::TooLarge, at, message));
        }
        Ok(())
    }
}
