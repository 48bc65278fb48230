//! Values as WAVE, the WebAssembly Value Encoding, by their types.
//!
//! The text is read by the specification's own crate into a tree with positions; the tree becomes a value here, so
//! that every fault has its place, and so that resources (`#1`) and maps (`[("key", value)]`) can be said too.

use std::fmt::Write as _;
use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;
use wasmtime::component::wasm_wave::ast::{Node, NodeType};
use wasmtime::component::wasm_wave::lex::Keyword;
use wasmtime::component::wasm_wave::parser::{ParserError, ParserErrorKind};
use wasmtime::component::wasm_wave::untyped::UntypedValue;
use wasmtime::component::{Type, wasm_wave};

use super::error::WaveError;
use super::{Handles, NoHandles, VALUES_MAX, Val, canonical32, canonical64, listed, meant, show_type};

/// Writes a value as WAVE; a resource has no text of its own and becomes `#0`, which is never a handle.
pub fn to_wave(value: &Val) -> String {
    to_wave_with(value, &mut NoHandles)
}

/// Writes a value as WAVE, with resources as the numbers that `handles` gives them.
pub fn to_wave_with(value: &Val, handles: &mut dyn Handles) -> String {
    let mut text = String::new();
    write(&mut text, value, handles);
    text
}

/// Reads one value of the type `ty`.
///
/// # Errors
/// The first spot that does not fit.
pub fn from_wave(text: &str, ty: &Type) -> Result<Val, WaveError> {
    let source = without_hashes(text);
    let node = parse(&source)?;
    Reader { source: &source, text, handles: &mut NoHandles, left: VALUES_MAX }.value(&node, ty)
}

fn write(text: &mut String, value: &Val, handles: &mut dyn Handles) {
    match value {
        Val::Bytes(bytes) => {
            text.push('[');
            for (index, byte) in bytes.iter().enumerate() {
                let _ = write!(text, "{}{byte}", if index > 0 { ", " } else { "" });
            }
            text.push(']');
        }
        Val::List(items) | Val::FixedLengthList(items) => sequence(text, '[', items, ']', handles),
        // A tuple has elements; what has none is the unit that a future or a stream without payload carries.
        Val::Tuple(items) => sequence(text, '(', items, ')', handles),
        Val::Map(entries) => {
            text.push('[');
            for (index, (key, value)) in entries.iter().enumerate() {
                text.push_str(if index > 0 { ", (" } else { "(" });
                write(text, key, handles);
                text.push_str(", ");
                write(text, value, handles);
                text.push(')');
            }
            text.push(']');
        }
        Val::Record(fields) => {
            text.push('{');
            let mut shown = fields.iter().filter(|(_, value)| !matches!(value, Val::Option(None))).peekable();
            if shown.peek().is_none() {
                text.push(':');
            }
            for (index, (name, value)) in shown.enumerate() {
                let _ = write!(text, "{}{name}: ", if index > 0 { ", " } else { "" });
                write(text, value, handles);
            }
            text.push('}');
        }
        Val::Variant(case, payload) => {
            label(text, case);
            in_parentheses(text, payload.as_deref(), handles);
        }
        Val::Enum(case) => label(text, case),
        Val::Option(None) => text.push_str("none"),
        Val::Option(Some(value)) => {
            text.push_str("some");
            in_parentheses(text, Some(value), handles);
        }
        Val::Result(result) => {
            let (name, payload) = match result {
                Ok(payload) => ("ok", payload),
                Err(payload) => ("err", payload),
            };
            text.push_str(name);
            in_parentheses(text, payload.as_deref(), handles);
        }
        Val::Flags(names) => {
            let _ = write!(text, "{{{}}}", names.join(", "));
        }
        Val::Resource(resource) => {
            let _ = write!(text, "#{}", handles.number(*resource).unwrap_or(0));
        }
        // Not read out: nothing can be said about them.
        Val::Future(_) => text.push_str("future"),
        Val::Stream(_) => text.push_str("stream"),
        // Numbers, characters and text are the crate's to write.
        plain => {
            let written = wasm_wave::to_string(&plain.clone().into_engine());
            text.push_str(&written.unwrap_or_default());
        }
    }
}

fn sequence(text: &mut String, open: char, items: &[Val], close: char, handles: &mut dyn Handles) {
    text.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        write(text, item, handles);
    }
    text.push(close);
}

fn in_parentheses(text: &mut String, payload: Option<&Val>, handles: &mut dyn Handles) {
    if let Some(payload) = payload {
        text.push('(');
        write(text, payload, handles);
        text.push(')');
    }
}

/// A case, escaped where it would be read as a keyword.
fn label(text: &mut String, name: &str) {
    if Keyword::decode(name).is_some() {
        text.push('%');
    }
    text.push_str(name);
}

/// The arguments of a call, read but not yet typed: `(1, "two")`.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    text: &'a str,
    source: String,
    nodes: Vec<Node>,
}

impl<'a> Arguments<'a> {
    /// Reads the arguments, parentheses included. No text at all stands for no arguments.
    ///
    /// # Errors
    /// Where the text is not WAVE.
    pub fn parse(text: &'a str) -> Result<Self, WaveError> {
        let source = without_hashes(text);
        let nodes = match source.trim() {
            "" => Vec::new(),
            all if all
                .strip_prefix('(')
                .and_then(|rest| rest.strip_suffix(')'))
                .is_some_and(|rest| rest.trim().is_empty()) =>
            {
                Vec::new()
            }
            _ => {
                let node = parse(&source)?;
                let items = node.as_tuple().map_err(|_| WaveError {
                    message: "the arguments are not in parentheses".into(),
                    span: node.span(),
                    argument: None,
                    mend: Some("write them like this: `function(1, \"two\")`".into()),
                })?;
                items.cloned().collect()
            }
        };
        Ok(Self { text, source, nodes })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where an argument stands in the text.
    pub fn span(&self, index: usize) -> Option<Range<usize>> {
        self.nodes.get(index).map(Node::span)
    }

    /// An argument as a value of the type `ty`, which has no resources.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn plain_value(&self, index: usize, ty: &Type) -> Result<Val, WaveError> {
        self.value(index, ty, &mut NoHandles)
    }

    /// An argument as a value of the type `ty`.
    ///
    /// # Errors
    /// Where it does not fit, or when there is no such argument.
    pub fn value(&self, index: usize, ty: &Type, handles: &mut dyn Handles) -> Result<Val, WaveError> {
        let end = self.text.len();
        let node = self.nodes.get(index).ok_or_else(|| WaveError {
            message: "an argument is missing".into(),
            span: end.saturating_sub(1)..end,
            argument: Some(index),
            mend: None,
        })?;
        Reader { source: &self.source, text: self.text, handles, left: VALUES_MAX }
            .value(node, ty)
            .map_err(|error| WaveError { argument: Some(index), ..error })
    }
}

fn parse(source: &str) -> Result<Node, WaveError> {
    let parsed = UntypedValue::parse(source).map_err(|error| syntax(source, &error))?;
    Ok(parsed.node().clone())
}

/// The text with a space for each `#` outside of strings, characters and comments: a handle is then a number for the
/// parser, at the same place.
fn without_hashes(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut quoted: Option<char> = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (quoted, character) {
            (Some(_), '\\') => {
                result.push(character);
                result.extend(characters.next());
                continue;
            }
            (Some(quote), _) if quote == character => quoted = None,
            (Some('\n'), _) | (Some(_), _) => {}
            (None, '"' | '\'') => quoted = Some(character),
            (None, '/') if characters.peek() == Some(&'/') => quoted = Some('\n'),
            (None, '#') if characters.peek().is_some_and(char::is_ascii_digit) => {
                result.push(' ');
                continue;
            }
            (None, _) => {}
        }
        result.push(character);
    }
    result
}

fn syntax(source: &str, error: &ParserError) -> WaveError {
    let message = match error.kind() {
        ParserErrorKind::UnexpectedEnd => "the text ends in the middle of a value".into(),
        ParserErrorKind::InvalidToken => "this is no value".into(),
        ParserErrorKind::UnexpectedToken => "this is not expected here".into(),
        ParserErrorKind::TrailingCharacters => "the text goes on after the value".into(),
        ParserErrorKind::NestingTooDeep => "the value is nested too deeply".into(),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    let span = error.span();
    let rest = source.get(span.start..).unwrap_or_default();
    let mend = match error.kind() {
        ParserErrorKind::InvalidToken if rest.starts_with('"') => Some("close the string with `\"`"),
        ParserErrorKind::InvalidToken if rest.starts_with('\'') => {
            Some("a character is one character in `'`; text is in `\"`")
        }
        ParserErrorKind::InvalidToken => Some("text is written in `\"`, names in lower case with hyphens"),
        ParserErrorKind::EmptyTuple => Some("a tuple has at least one element"),
        _ => None,
    };
    WaveError { message, span, argument: None, mend: mend.map(Into::into) }
}

struct Reader<'a> {
    /// What the nodes point into.
    source: &'a str,
    /// The same text with the `#` of handles.
    text: &'a str,
    handles: &'a mut dyn Handles,
    /// Values that may still be read.
    left: usize,
}

impl Reader<'_> {
    // The nesting is bounded by the parser's own limit on nodes.
    fn value(&mut self, node: &Node, ty: &Type) -> Result<Val, WaveError> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| error(node, format!("there are more than {VALUES_MAX} values")))?;
        if self.is_handle(node)
            && !matches!(ty, Type::Own(_) | Type::Borrow(_) | Type::Option(_) | Type::Result(_))
        {
            return Err(error(node, format!("expected {}, found a resource", show_type(ty))));
        }
        let plain = |found: Result<Val, ParserError>| found.map_err(|_| self.wrong(node, ty));
        Ok(match ty {
            Type::Bool => plain(node.as_bool().map(Val::Bool))?,
            Type::S8 => Val::S8(self.integer(node, ty, "-128 to 127")?),
            Type::U8 => Val::U8(self.integer(node, ty, "0 to 255")?),
            Type::S16 => Val::S16(self.integer(node, ty, "-32768 to 32767")?),
            Type::U16 => Val::U16(self.integer(node, ty, "0 to 65535")?),
            Type::S32 => Val::S32(self.integer(node, ty, "-2147483648 to 2147483647")?),
            Type::U32 => Val::U32(self.integer(node, ty, "0 to 4294967295")?),
            Type::S64 => Val::S64(self.integer(node, ty, "-9223372036854775808 to 9223372036854775807")?),
            Type::U64 => Val::U64(self.integer(node, ty, "0 to 18446744073709551615")?),
            Type::Float32 => {
                let number: f32 = node.as_number(self.source).map_err(|_| self.wrong(node, ty))?;
                self.finite(node, f64::from(number), ty)?;
                Val::Float32(canonical32(number))
            }
            Type::Float64 => {
                let number: f64 = node.as_number(self.source).map_err(|_| self.wrong(node, ty))?;
                self.finite(node, number, ty)?;
                Val::Float64(canonical64(number))
            }
            Type::Char => match node.ty() {
                NodeType::Char => {
                    Val::Char(node.as_char(self.source).map_err(|fault| syntax(self.source, &fault))?)
                }
                _ => return Err(self.wrong(node, ty)),
            },
            Type::String => match node.ty() {
                NodeType::String | NodeType::MultilineString => Val::String(
                    node.as_str(self.source).map_err(|fault| syntax(self.source, &fault))?.into_owned(),
                ),
                _ => return Err(self.wrong(node, ty)),
            },
            Type::List(list) => self.list(node, ty, &list.ty())?,
            Type::Stream(stream) => match stream.ty() {
                Some(element) => self.list(node, ty, &element)?,
                None => return Err(error(node, "a stream without elements cannot be given")),
            },
            Type::Future(future) => match future.ty() {
                Some(ty) => return self.value(node, &ty),
                None => return Err(error(node, "a future without a value cannot be given")),
            },
            Type::FixedLengthList(list) => {
                let items = self.items(node, ty, &list.ty())?;
                if items.len() != list.len() as usize {
                    return Err(error(
                        node,
                        format!("expected {} elements, found {}", list.len(), items.len()),
                    ));
                }
                Val::FixedLengthList(items)
            }
            Type::Map(map) => {
                let (key_type, value_type) = (map.key(), map.value());
                let pairs: Vec<&Node> = node.as_list().map_err(|_| self.wrong(node, ty))?.collect();
                let mut entries = Vec::new();
                for pair in pairs {
                    let parts: Vec<&Node> = pair.as_tuple().map(Iterator::collect).unwrap_or_default();
                    let [key, value] = parts[..] else {
                        return Err(error(pair, "expected a pair `(key, value)`"));
                    };
                    entries.push((self.value(key, &key_type)?, self.value(value, &value_type)?));
                }
                Val::Map(entries)
            }
            Type::Tuple(tuple) => {
                let items: Vec<&Node> = node.as_tuple().map_err(|_| self.wrong(node, ty))?.collect();
                let types = tuple.types();
                if items.len() != types.len() {
                    let (wanted, found) = (types.len(), items.len());
                    return Err(error(
                        node,
                        format!("expected {wanted} elements, found {found}: {}", show_type(ty)),
                    ));
                }
                let values = items.into_iter().zip(types).map(|(item, ty)| self.value(item, &ty));
                Val::Tuple(values.collect::<Result<_, _>>()?)
            }
            Type::Record(record) => {
                let given: Vec<(&str, &Node)> =
                    node.as_record(self.source).map_err(|_| self.wrong(node, ty))?.collect();
                if let Some((name, value)) =
                    given.iter().find(|(name, _)| !record.fields().any(|field| field.name == *name))
                {
                    let names = || record.fields().map(|field| field.name);
                    return Err(self.unknown(value, name, "field", names));
                }
                let mut fields = Vec::new();
                for field in record.fields() {
                    let value = match (given.iter().find(|(name, _)| *name == field.name), &field.ty) {
                        (Some((_, value)), ty) => self.value(value, ty)?,
                        (None, Type::Option(_)) => Val::Option(None),
                        (None, ty) => {
                            let ty = show_type(ty);
                            return Err(error(node, format!("the field `{}: {ty}` is missing", field.name)));
                        }
                    };
                    fields.push((field.name.to_owned(), value));
                }
                Val::Record(fields)
            }
            Type::Variant(variant) => {
                let (name, payload) = node.as_variant(self.source).map_err(|_| self.wrong(node, ty))?;
                let case = variant.cases().find(|case| case.name == name);
                let names = || variant.cases().map(|case| case.name);
                let case = case.ok_or_else(|| self.unknown(node, name, "case", names))?;
                let payload = self.payload(node, name, case.ty.as_ref(), payload)?;
                Val::Variant(name.to_owned(), payload)
            }
            Type::Enum(names) => {
                let name = node.as_enum(self.source).map_err(|_| self.wrong(node, ty))?;
                if !names.names().any(|known| known == name) {
                    return Err(self.unknown(node, name, "case", || names.names()));
                }
                Val::Enum(name.to_owned())
            }
            Type::Flags(flags) => {
                let given = node.as_flags(self.source).map_err(|_| self.wrong(node, ty))?;
                let given: Vec<&str> = given.map(|name| name.strip_prefix('%').unwrap_or(name)).collect();
                if let Some(name) = given.iter().find(|name| !flags.names().any(|known| known == **name)) {
                    return Err(self.unknown(node, name, "flag", || flags.names()));
                }
                Val::Flags(flags.names().filter(|name| given.contains(name)).map(str::to_owned).collect())
            }
            // A value may stand for `some` and `ok` of itself where that cannot be mistaken.
            Type::Option(option) => match (node.ty(), option.ty()) {
                (NodeType::OptionSome | NodeType::OptionNone, ty) => {
                    let payload = node.as_option().map_err(|fault| syntax(self.source, &fault))?;
                    Val::Option(payload.map(|node| self.value(node, &ty)).transpose()?.map(Box::new))
                }
                (_, inner) if may_stand_alone(&inner) => {
                    Val::Option(Some(Box::new(self.value(node, &inner)?)))
                }
                _ => return Err(self.wrong(node, ty)),
            },
            Type::Result(result) => match (node.ty(), result.ok()) {
                (NodeType::ResultOk | NodeType::ResultErr, _) => {
                    let result_of = node.as_result().map_err(|fault| syntax(self.source, &fault))?;
                    Val::Result(match result_of {
                        Ok(payload) => Ok(self.payload(node, "ok", result.ok().as_ref(), payload)?),
                        Err(payload) => Err(self.payload(node, "err", result.err().as_ref(), payload)?),
                    })
                }
                (_, Some(ok)) if may_stand_alone(&ok) => {
                    Val::Result(Ok(Some(Box::new(self.value(node, &ok)?))))
                }
                _ => return Err(self.wrong(node, ty)),
            },
            Type::Own(resource) | Type::Borrow(resource) => {
                if !self.is_handle(node) {
                    return Err(self.wrong(node, ty));
                }
                let number: u64 = node.as_number(self.source).map_err(|_| self.wrong(node, ty))?;
                Val::Resource(self.handles.resource(number, resource).map_err(|why| error(node, why))?)
            }
            Type::ErrorContext => return Err(error(node, "an error context cannot be given")),
        })
    }

    fn payload(
        &mut self,
        node: &Node,
        name: &str,
        ty: Option<&Type>,
        payload: Option<&Node>,
    ) -> Result<Option<Box<Val>>, WaveError> {
        match (ty, payload) {
            (Some(ty), Some(payload)) => Ok(Some(Box::new(self.value(payload, ty)?))),
            (None, None) => Ok(None),
            (Some(ty), None) => {
                Err(error(node, format!("`{name}` has a value: `{name}({})`", show_type(ty))))
            }
            (None, Some(payload)) => Err(error(payload, format!("`{name}` has no value"))),
        }
    }

    fn list(&mut self, node: &Node, ty: &Type, element: &Type) -> Result<Val, WaveError> {
        let items = self.items(node, ty, element)?;
        Ok(match element {
            Type::U8 => Val::List(items).into_bytes().map_or_else(|| Val::Bytes(Bytes::new()), Val::Bytes),
            _ => Val::List(items),
        })
    }

    fn items(&mut self, node: &Node, ty: &Type, element: &Type) -> Result<Vec<Val>, WaveError> {
        let items = node.as_list().map_err(|_| self.wrong(node, ty))?;
        items.map(|item| self.value(item, element)).collect()
    }

    fn integer<T: FromStr>(&self, node: &Node, ty: &Type, range: &str) -> Result<T, WaveError> {
        let wrong = self.wrong(node, ty);
        if node.ty() != NodeType::Number {
            return Err(wrong);
        }
        node.as_number(self.source).map_err(|_| WaveError {
            message: format!("{}, which is an integer from {range}", wrong.message),
            ..wrong
        })
    }

    /// A number that is too large for its type is not infinity.
    fn finite(&self, node: &Node, number: f64, ty: &Type) -> Result<(), WaveError> {
        if number.is_infinite() && !self.slice(node).trim_start_matches('-').starts_with("inf") {
            return Err(error(node, format!("the number is too large for {}", show_type(ty))));
        }
        Ok(())
    }

    /// Whether a number was written `#1`.
    fn is_handle(&self, node: &Node) -> bool {
        let start = node.span().start;
        node.ty() == NodeType::Number && self.text.as_bytes()[..start].last() == Some(&b'#')
    }

    fn slice(&self, node: &Node) -> &str {
        self.source.get(node.span()).unwrap_or_default()
    }

    fn wrong(&self, node: &Node, ty: &Type) -> WaveError {
        let found = match node.ty() {
            NodeType::BoolTrue | NodeType::BoolFalse => "a bool",
            NodeType::Number if self.is_handle(node) => "a resource",
            NodeType::Number => "a number",
            NodeType::Char => "a character",
            NodeType::String | NodeType::MultilineString => "a string",
            NodeType::Tuple => "a tuple",
            NodeType::List => "a list",
            NodeType::Record => "a record",
            NodeType::Label => "a name",
            NodeType::VariantWithPayload => "a case of a variant",
            NodeType::OptionSome | NodeType::OptionNone => "an option",
            NodeType::ResultOk | NodeType::ResultErr => "a result",
            NodeType::Flags => "flags",
        };
        let fault = error(node, format!("expected {}, found {found}", show_type(ty)));
        let mend = match (ty, node.ty()) {
            (Type::String, NodeType::Label | NodeType::Number | NodeType::BoolTrue | NodeType::BoolFalse) => {
                Some(format!("text is written in quotes: \"{}\"", self.slice(node)))
            }
            (Type::Char, NodeType::String) => Some("a character is written in single quotes: 'a'".into()),
            (Type::Own(_) | Type::Borrow(_), _) => {
                Some("a resource is written `#1`: the number that a call of the same session answered".into())
            }
            (Type::Enum(_) | Type::Variant(_), NodeType::String) => {
                Some("a case is written without quotes".into())
            }
            (Type::Record(_), NodeType::Flags) => Some("an empty record is written `{:}`".into()),
            (Type::Flags(_), NodeType::List) => Some("flags are written `{one, two}`".into()),
            (Type::Map(_), _) => Some("a map is written as a list of pairs: `[(\"key\", 1)]`".into()),
            _ => None,
        };
        WaveError { mend, ..fault }
    }

    fn unknown<'n, N: Iterator<Item = &'n str>>(
        &self,
        node: &Node,
        given: &str,
        kind: &str,
        names: impl Fn() -> N,
    ) -> WaveError {
        let fault = error(node, format!("there is no {kind} `{given}`; expected {}", listed(names())));
        WaveError { mend: meant(given, names()).map(|name| format!("did you mean `{name}`?")), ..fault }
    }
}

fn may_stand_alone(ty: &Type) -> bool {
    !matches!(ty, Type::Option(_) | Type::Result(_))
}

fn error(node: &Node, message: impl Into<String>) -> WaveError {
    WaveError { message: message.into(), span: node.span(), argument: None, mend: None }
}
