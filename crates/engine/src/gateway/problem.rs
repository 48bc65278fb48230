//! What a client is told when a request cannot be a call: problem documents (RFC 9457) that help, for the mistake is
//! the client's own.

use std::fmt;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::respond::Body;
use crate::value::ValueError;

/// The stable code of a response that the gateway made: the edge sends it as `x-error-code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub &'static str);

/// Every code that the gateway refuses with, its status and its title.
pub const PROBLEMS: [(&str, u16, &str); 5] =
    [NOT_FOUND, METHOD_NOT_ALLOWED, UNSUPPORTED_MEDIA_TYPE, INVALID_JSON, INVALID_ARGUMENTS];

const NOT_FOUND: Row = ("not-found", 404, "There is nothing at this path.");
const METHOD_NOT_ALLOWED: Row = ("method-not-allowed", 405, "The path does not take this method.");
const UNSUPPORTED_MEDIA_TYPE: Row =
    ("unsupported-media-type", 415, "The function does not take a body of this media type.");
const INVALID_JSON: Row = ("invalid-json", 400, "The body is not JSON.");
const INVALID_ARGUMENTS: Row = ("invalid-arguments", 400, "The body is not what the function takes.");

type Row = (&'static str, u16, &'static str);

/// A request that is no call, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    row: Row,
    members: Map<String, Value>,
    allow: Option<&'static str>,
}

impl Problem {
    fn new(row: Row, detail: impl Into<String>) -> Self {
        let members = Map::from_iter([("detail".to_owned(), Value::from(detail.into()))]);
        Self { row, members, allow: None }
    }

    fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(NOT_FOUND, detail)
    }

    /// With the paths that the client may have meant.
    pub(crate) fn near(self, paths: &[&str]) -> Self {
        let described = "/openapi.json";
        self.member("nearest", paths).member("mend", format!("GET {described} lists every function"))
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let problem = Self::new(METHOD_NOT_ALLOWED, format!("the path takes {allow}"));
        Self { allow: Some(allow), ..problem }
    }

    pub(crate) fn unsupported_media_type(found: &str, expected: &str) -> Self {
        Self::new(UNSUPPORTED_MEDIA_TYPE, format!("the body has to be {expected}"))
            .member("expected", expected)
            .member("found", found)
    }

    /// The body is not JSON, at the spot that `pointer` leads to.
    pub(crate) fn invalid_json(detail: String, pointer: String) -> Self {
        Self::new(INVALID_JSON, detail).member("pointer", pointer)
    }

    /// The body is JSON, and not what the function takes.
    pub(crate) fn invalid_arguments(error: ValueError) -> Self {
        let problem = Self::new(INVALID_ARGUMENTS, error.to_string())
            .member("pointer", error.pointer)
            .member("expected", error.expected)
            .member("found", error.found);
        match error.mend {
            Some(mend) => problem.member("mend", mend),
            None => problem,
        }
    }

    /// The same, one step further out: of one line of several.
    pub(crate) fn within(mut self, token: &str) -> Self {
        if let Some(Value::String(pointer)) = self.members.get_mut("pointer") {
            pointer.insert_str(0, &format!("/{token}"));
        }
        self
    }

    /// The response.
    pub(crate) fn response(self, request_id: &str) -> Response<Body> {
        let Self { row: (code, status, title), members, allow } = self;
        let mut document = json!({ "title": title, "status": status, "code": code });
        if let Value::Object(document) = &mut document {
            document.extend(members);
            document.insert("request_id".into(), request_id.into());
        }
        let mut response = Response::new(Body::whole(Bytes::from(format!("{document}\n"))));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(allow) = allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response.extensions_mut().insert(ErrorCode(code));
        super::protected(response)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = self.members.get("detail").and_then(Value::as_str);
        f.write_str(detail.unwrap_or(self.row.2))
    }
}
