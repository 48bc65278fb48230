//! XML 1.0 as a tree, without what XML can do to its reader: no document types, no entities but the five that every
//! document has, no other encoding than UTF-8. So nothing expands, and nothing is fetched.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};

use crate::problem::{Cause, Fault, Spot};
use crate::tree::{Allowance, Node, Value};

/// What the root is called: an XML document says what it is.
const ROOT: &str = "order";

/// An element whose end has not come yet.
struct Open {
    name: String,
    at: Spot,
    fields: Vec<(String, Node)>,
    /// How many children of each name there were.
    children: HashMap<String, usize>,
    text: String,
}

/// The tree of `document`.
pub fn read(document: &str) -> Result<Node, Fault> {
    Reading { document, allowance: Allowance::default(), open: Vec::new(), root: None }.read()
}

struct Reading<'a> {
    document: &'a str,
    allowance: Allowance,
    open: Vec<Open>,
    root: Option<Node>,
}

impl Reading<'_> {
    fn read(mut self) -> Result<Node, Fault> {
        let mut reader = Reader::from_str(self.document);
        loop {
            let at = self.here(position(reader.buffer_position()));
            let event = reader.read_event().map_err(|error| {
                let offset = position(reader.error_position());
                self.not_xml(&self.here(offset), &error)
            })?;
            match event {
                Event::Start(start) => self.begin(&start, &at)?,
                Event::Empty(start) => {
                    self.begin(&start, &at)?;
                    self.end();
                }
                Event::End(_) => self.end(),
                Event::Text(text) => {
                    self.text(&text.xml10_content(), &at)?;
                }
                Event::CData(data) => {
                    self.text(&data.xml10_content(), &at)?;
                }
                Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                    Ok(Some(character)) => self.text(character.encode_utf8(&mut [0; 4]), &at)?,
                    Ok(None) => match resolve_predefined_entity(&reference) {
                        Some(text) => self.text(text, &at)?,
                        None => return Err(entity_refused(&reference, &at)),
                    },
                    Err(error) => return Err(self.not_xml(&at, &error)),
                },
                Event::DocType(_) => {
                    let message = "a document type is not taken: it could declare entities";
                    return Err(Fault::new(Cause::EntityRefused, &at, message));
                }
                Event::Decl(declaration) => {
                    let encoding = declaration.encoding().transpose();
                    let encoding = encoding.map_err(|error| self.not_xml(&at, &error))?;
                    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
                        return Err(Fault::new(Cause::Syntax, &at, "the document must be in UTF-8"));
                    }
                }
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
        }
        let end = self.here(self.document.len());
        if let Some(open) = self.open.last() {
            let message = format!("this is not XML: `{}` has no end", open.name);
            return Err(Fault::new(Cause::Syntax, &end, message));
        }
        self.root.ok_or_else(|| Fault::new(Cause::Syntax, &end, "this is not XML: there is no element"))
    }

    fn begin(&mut self, start: &BytesStart<'_>, at: &Spot) -> Result<(), Fault> {
        let name = start.name().as_ref().to_owned();
        let at = match self.open.last_mut() {
            Some(parent) => {
                let count = parent.children.entry(name.clone()).or_default();
                *count += 1;
                // The first one has no number: there may be no second.
                let step = if *count == 1 { name.clone() } else { format!("{name}[{count}]") };
                parent.at.child(step, at.offset)
            }
            None if self.root.is_some() => {
                return Err(Fault::new(Cause::Syntax, at, "this is not XML: there is a second root"));
            }
            None if name != ROOT => {
                let message = format!("the root is `{name}`; it should be `{ROOT}`");
                let at = Spot::default().child(&name, at.offset);
                return Err(Fault::new(Cause::UnknownElement(name), &at, message));
            }
            None => Spot::default().child(&name, at.offset),
        };
        self.allowance.take(self.open.len() + 1, &at)?;
        let mut fields = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| self.not_xml(&at, &error))?;
            let offset = attribute.key.as_ref().as_ptr().addr() - self.document.as_ptr().addr();
            let key = attribute.key.as_ref().to_owned();
            let at = at.child(format_args!("@{key}"), offset);
            // What binds prefixes is no field; there are no prefixes among the names that are known.
            if key == "xmlns" || key.starts_with("xmlns:") {
                continue;
            }
            self.allowance.take(self.open.len() + 2, &at)?;
            let text = unescape(&attribute.value).map_err(|error| match error {
                quick_xml::escape::EscapeError::UnrecognizedEntity(_, name) => entity_refused(&name, &at),
                error => self.not_xml(&at, &error),
            })?;
            fields.push((key, Node { at, value: Value::Text(text.into_owned()) }));
        }
        self.open.push(Open { name, at, fields, children: HashMap::new(), text: String::new() });
        Ok(())
    }

    /// The reader has made sure that this is the end of the element that was opened last.
    fn end(&mut self) {
        let Some(Open { name, at, fields, text, .. }) = self.open.pop() else { return };
        let is_text = fields.is_empty() && !text.trim().is_empty();
        let value = if is_text { Value::Text(text) } else { Value::Element(fields) };
        let node = Node { at, value };
        match self.open.last_mut() {
            Some(parent) => parent.fields.push((name, node)),
            None => self.root = Some(node),
        }
    }

    fn text(&mut self, text: &str, at: &Spot) -> Result<(), Fault> {
        let blank = text.trim().is_empty();
        let Some(open) = self.open.last_mut() else {
            if blank {
                return Ok(());
            }
            return Err(Fault::new(Cause::Syntax, at, "this is not XML: there is text outside of the root"));
        };
        // Attributes beside text would be lost, as would text between elements.
        if !blank && !open.fields.is_empty() {
            let message = format!("`{}` has text beside its fields", open.name);
            return Err(Fault::new(Cause::BadValue(text.trim().to_owned()), &open.at, message));
        }
        open.text.push_str(text);
        Ok(())
    }

    /// The place at `offset`, in the element that is open.
    fn here(&self, offset: usize) -> Spot {
        Spot { path: self.open.last().map(|open| open.at.path.clone()).unwrap_or_default(), offset }
    }

    fn not_xml(&self, at: &Spot, error: &dyn std::fmt::Display) -> Fault {
        Fault::new(Cause::Syntax, at, format!("this is not XML: {error}"))
    }
}

fn entity_refused(name: &str, at: &Spot) -> Fault {
    let message = format!("`&{name};` is not taken: there are &lt; &gt; &amp; &apos; &quot; and numbers");
    Fault::new(Cause::EntityRefused, at, message)
}

fn position(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
