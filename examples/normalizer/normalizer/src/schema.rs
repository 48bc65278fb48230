//! The one form: what an order consists of, read from a tree.

use serde::Serialize;

use crate::amount::{CURRENCIES, Currency, minor_units, whole};
use crate::problem::{Cause, Fault, Spot};
use crate::tree::{Node, Value};

/// How many lines an order may have, and how long a text in it may be.
pub const LINES_MAX: usize = 1000;
pub const TEXT_BYTES_MAX: usize = 4096;

/// An order; amounts are in the currency's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    pub id: String,
    pub customer: String,
    pub currency: &'static str,
    pub lines: Vec<Line>,
    pub total: u64,
}

/// So many of one article.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub sku: String,
    pub quantity: u32,
    pub price: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The order in a tree.
pub fn order(root: Node) -> Result<Order, Fault> {
    let mut record = Record::of(root, &["id", "customer", "currency", "lines"])?;
    let id = record.need("id")?.text()?;
    let customer = record.need("customer")?.text()?;
    let currency = currency(record.need("currency")?)?;
    let lines_node = record.need("lines")?;
    let at = lines_node.at.clone();
    let nodes = lines_node.items("line")?;
    if nodes.is_empty() || nodes.len() > LINES_MAX {
        let message = format!("an order has from 1 to {LINES_MAX} lines, and not {}", nodes.len());
        return Err(Fault::new(Cause::BadValue("lines".to_owned()), &at, message));
    }
    let mut lines = Vec::with_capacity(nodes.len());
    let mut total = 0_u64;
    for node in nodes {
        let at = node.at.clone();
        let line = line(node, currency)?;
        let sum = line.price.checked_mul(line.quantity.into()).and_then(|cost| total.checked_add(cost));
        total = sum.ok_or_else(|| {
            Fault::new(Cause::BadNumber("total".to_owned()), &at, "the order's total is too large")
        })?;
        lines.push(line);
    }
    Ok(Order { id, customer, currency: currency.code, lines, total })
}

fn line(node: Node, currency: Currency) -> Result<Line, Fault> {
    let mut record = Record::of(node, &["sku", "quantity", "price", "note"])?;
    let sku = record.need("sku")?.text()?;
    let quantity = record.need("quantity")?;
    let quantity = quantity.number(|text| match whole(text)? {
        0 => Err("at least one has to be ordered".to_owned()),
        some => Ok(some),
    })?;
    let price = record.need("price")?.number(|text| minor_units(text, currency))?;
    let note = record.take("note").map(Node::text).transpose()?;
    Ok(Line { sku, quantity, price, note })
}

fn currency(node: Node) -> Result<Currency, Fault> {
    let at = node.at.clone();
    let code = node.text()?;
    CURRENCIES.into_iter().find(|currency| currency.code == code).ok_or_else(|| {
        let known: Vec<_> = CURRENCIES.iter().map(|currency| currency.code).collect();
        let message = format!("`{code}` is none of the currencies {}", known.join(", "));
        Fault::new(Cause::BadValue(code), &at, message)
    })
}

/// The fields of a record, each known and there once.
struct Record {
    at: Spot,
    fields: Vec<(String, Node)>,
}

impl Record {
    fn of(node: Node, known: &[&str]) -> Result<Self, Fault> {
        let Node { at, value } = node;
        let fields = match value {
            Value::Fields(fields) | Value::Element(fields) => fields,
            other => {
                let message = format!("fields are expected here: {}", known.join(", "));
                return Err(Fault::new(Cause::BadValue(kind(&other).to_owned()), &at, message));
            }
        };
        for (index, (name, node)) in fields.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let message = format!("there is no `{name}` here; there can be {}", known.join(", "));
                return Err(Fault::new(Cause::UnknownElement(name.clone()), &node.at, message));
            }
            if fields[..index].iter().any(|(other, _)| other == name) {
                let message = format!("`{name}` is here a second time");
                return Err(Fault::new(Cause::DuplicateField(name.clone()), &node.at, message));
            }
        }
        Ok(Self { at, fields })
    }

    fn take(&mut self, name: &str) -> Option<Node> {
        let index = self.fields.iter().position(|(other, _)| other == name)?;
        Some(self.fields.swap_remove(index).1)
    }

    fn need(&mut self, name: &str) -> Result<Node, Fault> {
        self.take(name).ok_or_else(|| {
            let message = format!("`{name}` is missing");
            Fault::new(Cause::MissingField(name.to_owned()), &self.at, message)
        })
    }
}

impl Node {
    /// Text that is not empty, without the space around it.
    fn text(self) -> Result<String, Fault> {
        let Value::Text(text) = self.value else {
            let message = format!("text is expected here, and not {}", kind(&self.value));
            return Err(Fault::new(Cause::BadValue(kind(&self.value).to_owned()), &self.at, message));
        };
        let text = text.trim();
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            let message = format!("from 1 to {TEXT_BYTES_MAX} bytes of text are expected here");
            return Err(Fault::new(Cause::BadValue("text".to_owned()), &self.at, message));
        }
        Ok(text.to_owned())
    }

    /// What `read` makes of the digits: those of a JSON number, or of a text, which is all that XML has.
    fn number<T>(self, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Fault> {
        let (Value::Text(text) | Value::Number(text)) = &self.value else {
            let message = format!("a number is expected here, and not {}", kind(&self.value));
            return Err(Fault::new(Cause::BadNumber(kind(&self.value).to_owned()), &self.at, message));
        };
        let text = text.trim();
        read(text).map_err(|message| {
            let shown: String = text.chars().take(32).collect();
            Fault::new(Cause::BadNumber(shown), &self.at, message)
        })
    }

    /// The elements of a list: a JSON array, or an XML element with nothing but children called `name`.
    fn items(self, name: &str) -> Result<Vec<Node>, Fault> {
        match self.value {
            Value::Items(nodes) => Ok(nodes),
            Value::Element(fields) => {
                let stranger = fields.iter().find(|(other, _)| other != name);
                if let Some((other, node)) = stranger {
                    let message = format!("there is no `{other}` here; there can be {name}");
                    return Err(Fault::new(Cause::UnknownElement(other.clone()), &node.at, message));
                }
                Ok(fields.into_iter().map(|(_, node)| node).collect())
            }
            other => {
                let message = format!("a list is expected here, and not {}", kind(&other));
                Err(Fault::new(Cause::BadValue(kind(&other).to_owned()), &self.at, message))
            }
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "text",
        Value::Number(_) => "a number",
        Value::Other(word) => word,
        Value::Element(fields) if fields.is_empty() => "nothing",
        Value::Fields(_) | Value::Element(_) => "fields",
        Value::Items(_) => "a list",
    }
}
