//! What a component serves, told from what it exports.

use std::fmt;

use tenon_model::{Diagnostic, Location};
use wasmtime::Engine;
use wasmtime::component::types::{self, ComponentFunc, ComponentItem, Type};
use wasmtime::component::{Component, ComponentExportIndex};

use crate::capability::messaging;
use crate::gateway;
use crate::value::TypeNames;

/// A handler with records of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainHandler {
    /// The interface that exports it; `None` at the root of the world.
    pub interface: Option<String>,
    /// The function.
    pub function: String,
    /// Whether its request record has `headers`.
    pub request_headers: bool,
    /// Whether its response record has `headers`.
    pub response_headers: bool,
}

/// The contract a component is served by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `wasi:http/incoming-handler@0.2.x`.
    Http02,
    /// The service world of `wasi:http@0.3.x`.
    Http03,
    /// A plain handler.
    Plain(PlainHandler),
    /// Typed exports, each called by a `POST` of JSON.
    Typed {
        /// How many of them can be called.
        functions: usize,
    },
    /// Messages only: it answers no request.
    Messages,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http02 => f.write_str("wasi:http/incoming-handler@0.2"),
            Self::Http03 => f.write_str("wasi:http/handler@0.3"),
            Self::Plain(PlainHandler { interface: Some(interface), function, .. }) => {
                write!(f, "{interface}#{function}")
            }
            Self::Plain(PlainHandler { interface: None, function, .. }) => f.write_str(function),
            Self::Typed { functions: 1 } => f.write_str("1 function over HTTP/JSON"),
            Self::Messages => f.write_str(messaging::HANDLER_UNVERSIONED),
            Self::Typed { functions } => write!(f, "{functions} functions over HTTP/JSON"),
        }
    }
}

const EXPECTED: &str = "\
one of
  wasi:http/incoming-handler@0.2.x
  wasi:http/handler@0.3.x
  a function of this shape, under any name, at the root or in an interface (`headers` may be left out of either record):
    func(req: request) -> response
    record request  { method: string, path: string, headers: list<tuple<string, string>>, body: option<list<u8>> }
    record response { status: u16, headers: list<tuple<string, string>>, body: list<u8> }
  or any functions that need no resource: each is called by a POST of JSON
  or wasi:messaging/incoming-handler@0.2.0-draft, alone or beside one of these";

/// Finds the one contract to serve `component` by.
///
/// # Errors
/// When it exports none, or more than one plain handler.
pub(crate) fn detect(
    engine: &Engine,
    name: &str,
    file: &str,
    component: &Component,
) -> Result<Shape, Diagnostic> {
    let component_type = component.component_type();
    let mut plain = Vec::new();
    let mut found = Vec::new();
    let mut messages = false;
    for (export, item) in component_type.exports(engine) {
        match item.ty {
            ComponentItem::ComponentInstance(instance) => {
                if export.starts_with("wasi:http/handler@0.3.") {
                    return Ok(Shape::Http03);
                }
                if export.starts_with("wasi:http/incoming-handler@0.2.") {
                    return Ok(Shape::Http02);
                }
                messages |= export == messaging::HANDLER;
                found.push(format!("interface {export}"));
                for (function, item) in instance.exports(engine) {
                    if let ComponentItem::ComponentFunc(signature) = item.ty {
                        found.push(format!(
                            "  {function}: {}",
                            TypeNames::default().show_function(&signature)
                        ));
                        plain.extend(plain_handler(Some(export), function, &signature));
                    }
                }
            }
            ComponentItem::ComponentFunc(signature) => {
                found.push(format!("{export}: {}", TypeNames::default().show_function(&signature)));
                plain.extend(plain_handler(None, export, &signature));
            }
            _ => found.push(export.to_owned()),
        }
    }
    let callable = || gateway::callable(engine, component);
    match plain.len() {
        0 if callable() > 0 => Ok(Shape::Typed { functions: callable() }),
        1 => Ok(Shape::Plain(plain.remove(0))),
        0 if messages => Ok(Shape::Messages),
        0 => Err(Diagnostic::new("not-a-handler", format!("`{name}` exports nothing that can be served"))
            .at(Location::file(file))
            .note("found", if found.is_empty() { "no exports".to_owned() } else { found.join("\n") })
            .note("expected", EXPECTED)
            .mend("export a handler of one of these shapes or a function, or compose the component behind one that does")),
        _ => Err(Diagnostic::new("ambiguous-handler", format!("`{name}` exports more than one handler"))
            .at(Location::file(file))
            .note(
                "found",
                plain
                    .into_iter()
                    .map(|handler| Shape::Plain(handler).to_string())
                    .collect::<Vec<_>>()
                    .join("\n"),
            )
            .mend("export one of them only: in a composition, name it in the component's `export` list")),
    }
}

/// Where a plain handler's function is found again in a loaded component.
pub(crate) fn export_index(component: &Component, handler: &PlainHandler) -> Option<ComponentExportIndex> {
    let interface = match &handler.interface {
        Some(interface) => Some(component.get_export_index(None, interface.as_str())?),
        None => None,
    };
    component.get_export_index(interface.as_ref(), handler.function.as_str())
}

fn plain_handler(interface: Option<&str>, function: &str, signature: &ComponentFunc) -> Option<PlainHandler> {
    let mut params = signature.params();
    let mut results = signature.results();
    let (Some((_, Type::Record(request))), None) = (params.next(), params.next()) else { return None };
    let (Some(Type::Record(response)), None) = (results.next(), results.next()) else { return None };
    let request_headers = has_headers(
        &request,
        &[("method", is_string), ("path", is_string)],
        &[("body", |ty| matches!(ty, Type::Option(body) if is_bytes(&body.ty())))],
    )?;
    let response_headers =
        has_headers(&response, &[("status", |ty| matches!(ty, Type::U16))], &[("body", is_bytes)])?;
    Some(PlainHandler {
        interface: interface.map(str::to_owned),
        function: function.to_owned(),
        request_headers,
        response_headers,
    })
}

type Field = (&'static str, fn(&Type) -> bool);

/// Whether the record is `before`, then `headers` or not, then `after`; `None` when it is neither.
fn has_headers(record: &types::Record, before: &[Field], after: &[Field]) -> Option<bool> {
    let with: Vec<Field> = [before, &[("headers", is_headers as fn(&Type) -> bool)], after].concat();
    let without: Vec<Field> = [before, after].concat();
    let fits = |fields: &[Field]| {
        record.fields().len() == fields.len()
            && record.fields().zip(fields).all(|(field, (name, is))| field.name == *name && is(&field.ty))
    };
    if fits(&with) {
        Some(true)
    } else if fits(&without) {
        Some(false)
    } else {
        None
    }
}

fn is_string(ty: &Type) -> bool {
    matches!(ty, Type::String)
}

fn is_bytes(ty: &Type) -> bool {
    matches!(ty, Type::List(list) if matches!(list.ty(), Type::U8))
}

fn is_headers(ty: &Type) -> bool {
    let Type::List(list) = ty else { return false };
    let Type::Tuple(pair) = list.ty() else { return false };
    pair.types().len() == 2 && pair.types().all(|ty| is_string(&ty))
}
