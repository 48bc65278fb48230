//! From a request's body to a function's arguments.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;
use tenon_model::most_similar;
use wasmtime::component::Type;

use super::problem::Problem;
use super::spot;
use super::types::Form;
use super::{NDJSON, OCTETS};
use crate::value::{VALUES_MAX, Val, ValueError, from_json};

/// What a request sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A JSON object of the parameters.
    Json,
    /// The only parameter, a list of bytes, as it is.
    Octets,
    /// The only parameter, a stream, as it comes.
    Stream,
    /// No media type: only no body can have none.
    Unsaid,
}

/// What a request sends, by its `Content-Type`.
///
/// A body without one is refused: a page of another site can make a browser send such a request without asking, as it
/// can send forms and plain text, and must not be able to call functions.
pub(super) fn taken(headers: &HeaderMap, takes: Form) -> Result<Taken, Problem> {
    let expected = match takes {
        Form::Json => "application/json",
        Form::Octets | Form::OctetStream => "application/json or application/octet-stream",
        Form::Lines => "application/json or application/x-ndjson",
    };
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let found = format!("{expected} in an encoding");
        return Err(Problem::unsupported_media_type(&found, &format!("{expected} without an encoding")));
    }
    let Some(media_type) = headers.get(CONTENT_TYPE) else { return Ok(Taken::Unsaid) };
    let text = media_type.to_str().unwrap_or("not text");
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match (essence.as_str(), takes) {
        (OCTETS, Form::Octets) => Ok(Taken::Octets),
        (OCTETS, Form::OctetStream) | (NDJSON, Form::Lines) => Ok(Taken::Stream),
        ("application/json", _) => Ok(Taken::Json),
        (other, _) if other.starts_with("application/") && other.ends_with("+json") => Ok(Taken::Json),
        _ => Err(Problem::unsupported_media_type(text, expected)),
    }
}

/// The arguments in a body.
pub(super) fn read(
    parameters: &[(String, Type)],
    taken: Taken,
    body: Option<Bytes>,
) -> Result<Vec<Val>, Problem> {
    let body = body.unwrap_or_default();
    if taken == Taken::Octets {
        return Ok(vec![Val::Bytes(body)]);
    }
    // A function without parameters, or only with ones that may be left out, needs no body.
    let members = if body.iter().all(u8::is_ascii_whitespace) {
        serde_json::Map::new()
    } else if taken == Taken::Unsaid {
        return Err(Problem::unsupported_media_type("no content-type", "application/json"));
    } else {
        match parse(&body)? {
            Value::Object(members) => members,
            other => {
                let found = match other {
                    Value::Array(_) => "an array",
                    Value::Null => "null",
                    _ => "a single value",
                };
                let names = names(parameters);
                return Err(Problem::invalid_arguments(ValueError {
                    pointer: String::new(),
                    expected: format!("an object of the parameters {names}"),
                    found: found.to_owned(),
                    mend: None,
                }));
            }
        }
    };
    if let Some(name) =
        members.keys().find(|name| !parameters.iter().any(|(parameter, _)| parameter == *name))
    {
        let known = parameters.iter().map(|(name, _)| name.as_str());
        let shown: String = name.chars().take(40).collect();
        return Err(Problem::invalid_arguments(
            ValueError {
                pointer: String::new(),
                expected: format!("only the parameters {}", names(parameters)),
                found: format!("`{shown}`"),
                mend: most_similar(&shown, known).map(|near| format!("did you mean `{near}`?")),
            }
            .within(name),
        ));
    }
    let mut values = Vec::with_capacity(parameters.len());
    for (name, ty) in parameters {
        let value = match members.get(name) {
            Some(member) => {
                let found = from_json(member, ty).map_err(|error| error.within(name));
                found.map_err(Problem::invalid_arguments)?
            }
            None if matches!(ty, Type::Option(_)) => Val::Option(None),
            None => {
                return Err(Problem::invalid_arguments(ValueError {
                    pointer: String::new(),
                    expected: format!("the parameter `{name}` of type {}", crate::value::show_type(ty)),
                    found: "none".into(),
                    mend: None,
                }));
            }
        };
        values.push(value);
    }
    Ok(values)
}

/// The names of the parameters, for a message.
fn names(parameters: &[(String, Type)]) -> String {
    match parameters {
        [] => "(there are none)".to_owned(),
        parameters => {
            let names: Vec<_> = parameters.iter().map(|(name, _)| format!("`{name}`")).collect();
            names.join(", ")
        }
    }
}

/// JSON of a client.
pub(super) fn parse(body: &[u8]) -> Result<Value, Problem> {
    // Before anything is made of them: a value takes much more room in memory than in the body.
    if spot::values_at_most(body, VALUES_MAX) {
        serde_json::from_slice(body).map_err(|error| {
            let pointer = spot::pointer(body, error.line(), error.column());
            Problem::invalid_json(error.to_string(), pointer)
        })
    } else {
        Err(Problem::invalid_arguments(ValueError {
            pointer: String::new(),
            expected: format!("at most {VALUES_MAX} values"),
            found: "more".into(),
            mend: Some("send less in one call".into()),
        }))
    }
}
