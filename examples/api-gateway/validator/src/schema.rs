//! A part of JSON Schema (2020-12): `type`, `enum`, `required`, `properties`, `additionalProperties` as a boolean, `items`,
//! `minLength`, `maxLength`, `minItems`, `maxItems`, `minimum`, `maximum`. What else a schema says is refused, not passed
//! over: a rule that nobody looks at is worse than none.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde_json::{Map, Value};

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    /// A JSON Pointer (RFC 6901).
    pub at: String,
    pub message: String,
}

/// How deep a schema may be.
const DEPTH_MAX: usize = 32;
/// Violations that are told; the others are like them.
const VIOLATIONS_MAX: usize = 20;

/// What is wrong with `body` by `schema`.
pub fn violations(schema: &str, body: &[u8]) -> Vec<Violation> {
    let one = |message: String| alloc::vec![Violation { at: String::new(), message }];
    let schema: Value = match serde_json::from_str(schema) {
        Ok(schema) => schema,
        Err(error) => return one(format!("the schema is not JSON: {error}")),
    };
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(error) => return one(format!("is not JSON: {error}")),
    };
    let mut found = Vec::new();
    check(&schema, &body, &mut String::new(), 0, &mut found);
    found
}

fn check(schema: &Value, value: &Value, at: &mut String, depth: usize, found: &mut Vec<Violation>) {
    let Some(rules) = schema.as_object().filter(|_| depth < DEPTH_MAX) else {
        // `true` allows everything, `false` nothing.
        if schema != &Value::Bool(true) {
            say(found, at, "must not be there");
        }
        return;
    };
    for (rule, wanted) in rules {
        if found.len() >= VIOLATIONS_MAX {
            return;
        }
        let wrong = match rule.as_str() {
            "type" => (!is_type(wanted, value)).then(|| format!("must be {}", types(wanted))),
            "enum" => wanted
                .as_array()
                .is_some_and(|all| !all.contains(value))
                .then(|| format!("must be one of {wanted}")),
            "minLength" => {
                below(length(value), wanted).then(|| format!("must have at least {wanted} characters"))
            }
            "maxLength" => {
                above(length(value), wanted).then(|| format!("must have at most {wanted} characters"))
            }
            "minItems" => below(items(value), wanted).then(|| format!("must have at least {wanted} items")),
            "maxItems" => above(items(value), wanted).then(|| format!("must have at most {wanted} items")),
            "minimum" => below(value.as_f64(), wanted).then(|| format!("must be at least {wanted}")),
            "maximum" => above(value.as_f64(), wanted).then(|| format!("must be at most {wanted}")),
            "required" => missing(wanted, value).map(|name| format!("must have `{name}`")),
            "additionalProperties" => (wanted == &Value::Bool(false))
                .then(|| unexpected(rules, value))
                .flatten()
                .map(|name| format!("must not have `{name}`")),
            "properties" => {
                for (name, schema) in wanted.as_object().into_iter().flatten() {
                    if let Some(value) = value.get(name) {
                        below_at(at, name, |at| check(schema, value, at, depth + 1, found));
                    }
                }
                None
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    below_at(at, &index.to_string(), |at| check(wanted, value, at, depth + 1, found));
                }
                None
            }
            "$schema" | "$id" | "title" | "description" | "examples" | "default" | "$comment" => None,
            other => Some(format!("cannot be checked: the schema has a rule `{other}`")),
        };
        if let Some(message) = wrong {
            say(found, at, &message);
        }
    }
}

fn say(found: &mut Vec<Violation>, at: &str, message: &str) {
    if found.len() < VIOLATIONS_MAX {
        found.push(Violation { at: at.into(), message: message.into() });
    }
}

/// Goes one step further down and back up.
fn below_at(at: &mut String, name: &str, check: impl FnOnce(&mut String)) {
    let length = at.len();
    at.push('/');
    at.push_str(&name.replace('~', "~0").replace('/', "~1"));
    check(at);
    at.truncate(length);
}

fn is_type(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::String(name) => match name.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(is_whole),
            _ => false,
        },
        Value::Array(names) => names.iter().any(|name| is_type(name, value)),
        _ => false,
    }
}

/// Whether a number has no fraction; beyond 2^53 none has.
fn is_whole(number: f64) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !(-EXACT..=EXACT).contains(&number) {
        return number.is_finite();
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is within 2^53")]
    let whole = number as i64 as f64;
    whole == number
}

fn types(wanted: &Value) -> String {
    match wanted {
        Value::Array(names) => names.iter().map(types).collect::<Vec<_>>().join(" or "),
        Value::String(name) => name.clone(),
        other => other.to_string(),
    }
}

/// The length of a text, in characters.
fn length(value: &Value) -> Option<f64> {
    value.as_str().map(|text| text.chars().count() as f64)
}

fn items(value: &Value) -> Option<f64> {
    value.as_array().map(|items| items.len() as f64)
}

fn below(value: Option<f64>, bound: &Value) -> bool {
    value.zip(bound.as_f64()).is_some_and(|(value, bound)| value < bound)
}

fn above(value: Option<f64>, bound: &Value) -> bool {
    value.zip(bound.as_f64()).is_some_and(|(value, bound)| value > bound)
}

/// The first name that is required and not there.
fn missing<'a>(wanted: &'a Value, value: &Value) -> Option<&'a str> {
    let fields = value.as_object()?;
    wanted.as_array()?.iter().filter_map(Value::as_str).find(|name| !fields.contains_key(*name))
}

/// The first name that is there and has no rule.
fn unexpected<'a>(rules: &Map<String, Value>, value: &'a Value) -> Option<&'a str> {
    let known = |name: &str| rules.get("properties").is_some_and(|all| all.get(name).is_some());
    value.as_object()?.keys().map(String::as_str).find(|name| !known(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"type":"object","required":["country","grams"],"additionalProperties":false,"properties":{
        "country":{"type":"string","minLength":2,"maxLength":2},"grams":{"type":"integer","minimum":1,"maximum":30000},
        "express":{"type":"boolean"},"tags":{"type":"array","maxItems":1,"items":{"enum":["a","b"]}}}}"#;

    fn told(body: &str) -> Vec<String> {
        violations(SCHEMA, body.as_bytes())
            .into_iter()
            .map(|violation| format!("{} {}", violation.at, violation.message))
            .collect()
    }

    #[test]
    fn what_fits_fits() {
        assert_eq!(told(r#"{"country":"DE","grams":1200,"express":true,"tags":["a"]}"#), [""; 0]);
        assert_eq!(told(r#"{"country":"ÄÖ","grams":1e3}"#), [""; 0]);
    }

    #[test]
    fn what_does_not_is_told_with_its_place() {
        assert_eq!(told(r#"{"country":"DE"}"#), [" must have `grams`"]);
        assert_eq!(told(r#"{"country":"DEU","grams":1}"#), ["/country must have at most 2 characters"]);
        assert_eq!(told(r#"{"country":"DE","grams":1.5}"#), ["/grams must be integer"]);
        assert_eq!(told(r#"{"country":"DE","grams":0}"#), ["/grams must be at least 1"]);
        assert_eq!(told(r#"{"country":"DE","grams":1,"a/b":1}"#), [" must not have `a/b`"]);
        assert_eq!(
            told(r#"{"country":"DE","grams":1,"tags":["c","a"]}"#),
            ["/tags/0 must be one of [\"a\",\"b\"]", "/tags must have at most 1 items"]
        );
        assert_eq!(told("[]"), [" must be object"]);
        assert!(told("{")[0].starts_with(" is not JSON"));
    }

    #[test]
    fn a_rule_that_is_not_known_is_not_passed_over() {
        let found = violations(r#"{"pattern":"^a"}"#, b"\"a\"");
        assert_eq!(found[0].message, "cannot be checked: the schema has a rule `pattern`");
        assert_eq!(violations("false", b"1").len(), 1);
        assert_eq!(violations("true", b"1").len(), 0);
    }

    #[test]
    fn pointers_are_escaped() {
        let found = violations(r#"{"properties":{"a/b~":false}}"#, br#"{"a/b~":1}"#);
        assert_eq!(found[0].at, "/a~1b~0");
    }
}
