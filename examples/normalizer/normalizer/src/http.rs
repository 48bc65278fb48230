//! The normaliser over HTTP: what a request asks for, and which status a problem has.

use serde_json::json;

use crate::problem::{Cause, Problem};
use crate::{Format, normalize};

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: String,
}

const ACCEPTED: &str = "application/json, application/xml";

/// The answer to a request.
pub fn answer(method: &str, path: &str, content_type: Option<&str>, body: &[u8]) -> Answer {
    if path.split('?').next() != Some("/") {
        return refusal(404, "not-found", "documents go to `POST /`", vec![]);
    }
    if method != "POST" {
        return refusal(405, "method-not-allowed", "documents go to `POST /`", vec![("allow", "POST")]);
    }
    let Some(format) = content_type.and_then(format_of) else {
        // RFC 9110, section 15.5.16.
        let message = "`content-type` must be application/json or application/xml, in UTF-8";
        return refusal(415, "unsupported-media-type", message, vec![("accept", ACCEPTED)]);
    };
    let Ok(document) = str::from_utf8(body) else {
        return refusal(400, "not-utf-8", "the document is not UTF-8", vec![]);
    };
    match normalize(document, format) {
        Ok(order) => Answer {
            status: 200,
            headers: vec![("content-type", "application/json")],
            body: serde_json::to_string(&order).expect("strings and numbers become JSON") + "\n",
        },
        Err(problem) => refused(&problem),
    }
}

/// The format that a media type (RFC 9110, section 8.3.1) stands for.
fn format_of(content_type: &str) -> Option<Format> {
    let mut parts = content_type.split(';');
    let media_type = parts.next()?.trim().to_ascii_lowercase();
    for parameter in parts {
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("charset")
            && !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        {
            return None;
        }
    }
    match media_type.as_str() {
        "application/json" => Some(Format::Json),
        "application/xml" | "text/xml" => Some(Format::Xml),
        // Structured suffixes, RFC 6838, section 4.2.8.
        other if other.ends_with("+json") => Some(Format::Json),
        other if other.ends_with("+xml") => Some(Format::Xml),
        _ => None,
    }
}

/// A problem as a problem document (RFC 9457).
fn refused(problem: &Problem) -> Answer {
    let status = match problem.cause {
        Cause::Syntax | Cause::EntityRefused => 400,
        Cause::TooLarge => 413,
        _ => 422,
    };
    let body = json!({
        "title": "The document is not taken.",
        "status": status,
        "code": problem.cause.code(),
        "detail": problem.message,
        "path": problem.path,
        "line": problem.line,
        "column": problem.column,
    });
    Answer { status, headers: vec![PROBLEM_TYPE], body: format!("{body}\n") }
}

fn refusal(status: u16, code: &str, detail: &str, mut headers: Vec<(&'static str, &'static str)>) -> Answer {
    headers.push(PROBLEM_TYPE);
    let body =
        json!({ "title": "The request is not taken.", "status": status, "code": code, "detail": detail });
    Answer { status, headers, body: format!("{body}\n") }
}

const PROBLEM_TYPE: (&str, &str) = ("content-type", "application/problem+json");

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str =
        r#"{"id":"A-1","customer":"ada","currency":"EUR","lines":[{"sku":"saw","quantity":1,"price":79}]}"#;

    fn status(method: &str, path: &str, content_type: Option<&str>, body: &str) -> u16 {
        answer(method, path, content_type, body.as_bytes()).status
    }

    #[test]
    fn the_content_type_says_the_format() {
        for (content_type, expected) in [
            (Some("application/json"), 200),
            (Some("Application/JSON; charset=UTF-8"), 200),
            (Some("application/vnd.order+json"), 200),
            (Some("application/json; charset=\"utf-8\""), 200),
            (Some("application/json; charset=latin1"), 415),
            (Some("text/plain"), 415),
            (None, 415),
            (Some("application/xml"), 400),
            (Some("text/xml"), 400),
            (Some("application/vnd.order+xml"), 400),
        ] {
            assert_eq!(status("POST", "/", content_type, JSON), expected, "{content_type:?}");
        }
    }

    #[test]
    fn there_is_one_place_to_send_to() {
        assert_eq!(status("POST", "/?dry=1", Some("application/json"), JSON), 200);
        assert_eq!(status("POST", "/orders", Some("application/json"), JSON), 404);
        let refused = answer("GET", "/", None, b"");
        assert_eq!(refused.status, 405);
        assert!(refused.headers.contains(&("allow", "POST")));
    }

    #[test]
    fn what_is_not_utf_8_is_no_document() {
        assert_eq!(answer("POST", "/", Some("application/json"), b"\xff").status, 400);
    }
}
