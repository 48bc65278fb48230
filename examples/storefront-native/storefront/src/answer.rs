//! Responses, before they are the contract's.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use serde::Serialize;
use serde_json::{Map, Value};

/// What to answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A JSON response.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(value).unwrap_or_default();
        body.push(b'\n');
        Self { status, headers: vec![("content-type".to_owned(), "application/json".to_owned())], body }
    }

    /// The same with one header more.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A request that ends with an error.
    pub fn problem(status: u16, error: &str, message: &str) -> Self {
        #[derive(Serialize)]
        struct Problem<'p> {
            error: &'p str,
            message: &'p str,
        }
        Self::json(status, &Problem { error, message })
    }
}

/// The JSON object in a request's body.
///
/// # Errors
/// The answer to what is none.
pub fn json_body(body: &[u8]) -> Result<Map<String, Value>, Answer> {
    let text =
        str::from_utf8(body).map_err(|_| Answer::problem(400, "not-utf-8", "the body is not UTF-8"))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Answer::problem(422, "not-an-object", "the body must be a JSON object")),
        Err(_) => Err(Answer::problem(400, "not-json", "the body is not JSON")),
    }
}

/// A member as JSON text; `undefined` where there is none.
pub fn shown(value: Option<&Value>) -> String {
    value.and_then(|value| serde_json::to_string(value).ok()).unwrap_or_else(|| "undefined".to_owned())
}

/// A number that is whole and within the bounds, however it is written.
pub fn whole(value: Option<&Value>, least: u32, most: u32) -> Option<u32> {
    let number = value?.as_f64()?;
    // Everything between the bounds is exact as a float.
    let whole = number as u32;
    (f64::from(whole) == number && (least..=most).contains(&whole)).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_numbers_may_be_written_as_floats() {
        for (value, is) in [
            (json!(5), Some(5)),
            (json!(5.0), Some(5)),
            (json!(5.5), None),
            (json!(0), None),
            (json!(-3), None),
            (json!(11), None),
            (json!("5"), None),
            (json!(null), None),
        ] {
            assert_eq!(whole(Some(&value), 1, 10), is, "{value}");
        }
        assert_eq!(whole(None, 1, 10), None);
    }

    #[test]
    fn a_body_must_be_an_object() {
        assert_eq!(json_body(b"{\"a\":1}").unwrap()["a"], 1);
        assert_eq!(json_body(b"\xff").unwrap_err().status, 400);
        assert_eq!(json_body(b"{").unwrap_err().status, 400);
        assert_eq!(json_body(b"[]").unwrap_err().status, 422);
    }
}
