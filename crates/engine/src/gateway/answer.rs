//! From what a function returned to a response.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;
use tenon_model::{ErrorStatus, TYPED_ERROR_STATUS};

use super::types::{Form, Gives};
use super::{Media, NDJSON, OCTETS};
use crate::respond::Body;
use crate::value::{Val, to_json};

/// Why a result cannot be sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// It is not what it should be.
    Invalid(String),
    /// It is longer than a response's body may be.
    TooLong,
}

impl From<String> for Unsent {
    fn from(cause: String) -> Self {
        Self::Invalid(cause)
    }
}

/// How a client wants a result. Bytes are sent raw to those who name `application/octet-stream` and do not want JSON
/// more; a stream is sent as it comes to all who do not want one JSON value more.
pub(super) fn wanted(headers: &HeaderMap, form: Form) -> Media {
    let (media, name) = match form {
        Form::Json => return Media::Json,
        Form::Octets | Form::OctetStream => (Media::Octets, OCTETS),
        Form::Lines => (Media::Lines, NDJSON),
    };
    let (mut own, mut json) = (None, None);
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let weight = match parts.next().unwrap_or_default() {
            found if found == name => &mut own,
            "application/json" => &mut json,
            _ => continue,
        };
        let quality =
            parts.find_map(|part| part.strip_prefix("q=")).and_then(|text| text.parse::<f32>().ok());
        *weight = Some(quality.unwrap_or(1.0));
    }
    let (own, json) = (own.unwrap_or(0.0), json.unwrap_or(0.0));
    let is_wanted = if form.is_stream() { own >= json } else { own > 0.0 && own >= json };
    if is_wanted { media } else { Media::Json }
}

/// The response for a result.
pub(super) fn answer(
    gives: &Gives,
    status: Option<&ErrorStatus>,
    wants: Media,
    result: Option<Val>,
    bytes_max: u64,
) -> Result<Response<Body>, Unsent> {
    let (returned, ty) = match (result, gives) {
        (None, _) | (_, Gives::Nothing) => return Ok(nothing()),
        (Some(value), Gives::Value(ty)) => (value, ty),
        (Some(Val::Result(Ok(payload))), Gives::Result(ok, _)) => match (payload, ok) {
            (Some(payload), Some(ty)) => (*payload, ty),
            _ => return Ok(nothing()),
        },
        (Some(Val::Result(Err(payload))), Gives::Result(_, err)) => {
            let case = payload.as_deref().and_then(case);
            let status = status.map_or(TYPED_ERROR_STATUS, |status| status.of(case));
            let error = match (&payload, err) {
                (Some(payload), Some(ty)) => to_json(payload, ty),
                _ => Value::Null,
            };
            return json(status, &error, bytes_max);
        }
        (Some(_), Gives::Result(..)) => return Err("it is not the `result` it should be".to_owned().into()),
    };
    if wants == Media::Octets
        && let Val::Bytes(bytes) = returned
    {
        // Whether it is too long is seen with every response that is there whole.
        return Ok(super::octets(Body::whole(bytes)));
    }
    json(200, &to_json(&returned, ty), bytes_max)
}

fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The case of an error, if its type has cases.
fn case(error: &Val) -> Option<&str> {
    match error {
        Val::Enum(case) | Val::Variant(case, _) => Some(case),
        _ => None,
    }
}

fn json(status: u16, value: &Value, bytes_max: u64) -> Result<Response<Body>, Unsent> {
    let mut text = Bounded { bytes: Vec::new(), bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX) };
    serde_json::to_writer(&mut text, value).map_err(|_| Unsent::TooLong)?;
    text.bytes.push(b'\n');
    let mut response = Response::new(Body::whole(text.bytes));
    *response.status_mut() = StatusCode::from_u16(status).map_err(|error| error.to_string())?;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Bytes as JSON.
pub(super) fn base64(bytes: &[u8], bytes_max: u64) -> Result<Response<Body>, Unsent> {
    json(200, &Value::from(STANDARD.encode(bytes)), bytes_max)
}

/// Text that may only become so long.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Bounded {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if text.len() > self.bytes_max - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Type;

    use super::*;

    fn wants(accept: &[&str], form: Form) -> Media {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        wanted(&headers, form)
    }

    #[test]
    fn bytes_are_raw_for_those_who_ask() {
        for (accept, list, stream) in [
            (&[][..], Media::Json, Media::Octets),
            (&["*/*"], Media::Json, Media::Octets),
            (&["application/octet-stream"], Media::Octets, Media::Octets),
            (&["application/json"], Media::Json, Media::Json),
            (&["application/json, application/octet-stream;q=0.5"], Media::Json, Media::Json),
            (&["application/json;q=0.5", "application/octet-stream"], Media::Octets, Media::Octets),
            (&["application/octet-stream; q=0"], Media::Json, Media::Octets),
        ] {
            assert_eq!(wants(accept, Form::Octets), list, "{accept:?}");
            assert_eq!(wants(accept, Form::OctetStream), stream, "{accept:?}");
            assert_eq!(wants(accept, Form::Json), Media::Json);
        }
    }

    #[test]
    fn a_stream_is_lines_unless_json_is_asked_for() {
        for (accept, media) in [
            (&[][..], Media::Lines),
            (&["*/*"], Media::Lines),
            (&["application/x-ndjson"], Media::Lines),
            (&["application/octet-stream"], Media::Lines),
            (&["application/json"], Media::Json),
            (&["application/json", "application/x-ndjson"], Media::Lines),
            (&["application/json, application/x-ndjson;q=0.5"], Media::Json),
        ] {
            assert_eq!(wants(accept, Form::Lines), media, "{accept:?}");
        }
    }

    #[test]
    fn a_response_is_bounded() {
        assert!(json(200, &Value::from("12345678"), 10).is_ok());
        assert!(matches!(json(200, &Value::from("123456789"), 10), Err(Unsent::TooLong)));
    }

    #[test]
    fn a_typed_error_has_its_status() {
        let status = ErrorStatus::Cases([("expired".to_owned(), 401)].into());
        let gives = Gives::Result(None, Some(Type::String));
        let fails = |payload| Some(Val::Result(Err(Some(Box::new(payload)))));
        let of = |status: Option<&ErrorStatus>, result| {
            answer(&gives, status, Media::Json, result, 1_000).unwrap().status().as_u16()
        };
        assert_eq!(of(Some(&status), fails(Val::Enum("expired".into()))), 401);
        assert_eq!(of(Some(&status), fails(Val::Enum("other".into()))), 422);
        assert_eq!(of(None, fails(Val::String("other".into()))), 422);
        assert_eq!(of(Some(&ErrorStatus::Whole(402)), fails(Val::String("other".into()))), 402);
        assert_eq!(of(None, Some(Val::Result(Ok(None)))), 204);
    }
}
