//! JSON (RFC 8259) as a tree.
//!
//! `serde_json` reads it, and is asked for each value as the piece of text that it is: where the piece lies in the document
//! is where the value is, and a number keeps its digits.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::problem::{Cause, Fault, Spot};
use crate::tree::{Allowance, Node, Value};

/// The tree of `document`.
pub fn read(document: &str) -> Result<Node, Fault> {
    let raw: &RawValue = serde_json::from_str(document).map_err(|error| syntax(document, &error))?;
    let at = Spot { path: String::new(), offset: offset(document, raw) };
    node(document, raw, at, 1, &mut Allowance::default())
}

fn node(
    document: &str,
    raw: &RawValue,
    at: Spot,
    depth: usize,
    allowance: &mut Allowance,
) -> Result<Node, Fault> {
    allowance.take(depth, &at)?;
    let text = raw.get();
    // The whole document is known to be JSON: the first byte says what it is.
    let value = match text.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = again(document, text)?;
            let mut fields = Vec::with_capacity(members.len());
            for (name, raw) in members {
                let at = at.child(escaped(&name), offset(document, raw));
                fields.push((name, node(document, raw, at, depth + 1, allowance)?));
            }
            Value::Fields(fields)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = again(document, text)?;
            let mut nodes = Vec::with_capacity(items.len());
            for (index, raw) in items.into_iter().enumerate() {
                let at = at.child(index, offset(document, raw));
                nodes.push(node(document, raw, at, depth + 1, allowance)?);
            }
            Value::Items(nodes)
        }
        Some(b'"') => Value::Text(again(document, text)?),
        Some(b't') => Value::Other("true"),
        Some(b'f') => Value::Other("false"),
        Some(b'n') => Value::Other("null"),
        _ => Value::Number(text.to_owned()),
    };
    Ok(Node { at, value })
}

/// Reads a piece of `document` that is known to be JSON. What can still be wrong with it is a lone surrogate in a string.
fn again<'a, T: Deserialize<'a>>(document: &str, piece: &'a str) -> Result<T, Fault> {
    serde_json::from_str(piece).map_err(|error| {
        let mut fault = syntax(piece, &error);
        fault.at.offset += piece.as_ptr().addr() - document.as_ptr().addr();
        fault
    })
}

/// Where `raw` begins in the document it was read from.
fn offset(document: &str, raw: &RawValue) -> usize {
    raw.get().as_ptr().addr() - document.as_ptr().addr()
}

fn syntax(text: &str, error: &serde_json::Error) -> Fault {
    let line_start: usize =
        text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let offset = line_start + error.column().saturating_sub(1);
    let message = error.to_string();
    // The place is said apart.
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    Fault::new(Cause::Syntax, &Spot { path: String::new(), offset }, format!("this is not JSON: {message}"))
}

/// A step of a JSON Pointer (RFC 6901, section 3).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The members of an object in their order, with a name as often as it is there.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}
