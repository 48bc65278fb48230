//! The first place where two values differ.

use serde_json::Value as Json;
use tenon_engine::value::{Val, to_wave};

/// Where, what was expected there, and what was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) at: String,
    pub(super) expected: String,
    pub(super) found: String,
}

impl Difference {
    fn within(mut self, step: &str) -> Self {
        self.at.insert_str(0, step);
        self
    }
}

/// The first place where two values of one type differ. Every NaN is the same.
pub(super) fn values(expected: &Val, found: &Val) -> Option<Difference> {
    let here = || {
        let (expected, found) = (to_wave(expected), to_wave(found));
        (expected != found).then(|| Difference { at: String::new(), expected, found })
    };
    match (expected, found) {
        (Val::List(one), Val::List(other)) | (Val::FixedLengthList(one), Val::FixedLengthList(other)) => {
            let first = items(one, other, |index| format!("[{index}]"));
            first.or_else(|| lengths(one.len(), other.len()))
        }
        (Val::Bytes(one), Val::Bytes(other)) => {
            let first = one.iter().zip(other).enumerate().find(|(_, (one, other))| one != other);
            let first = first.map(|(index, (one, other))| Difference {
                at: format!("[{index}]"),
                expected: one.to_string(),
                found: other.to_string(),
            });
            first.or_else(|| lengths(one.len(), other.len()))
        }
        (Val::Tuple(one), Val::Tuple(other)) => items(one, other, |index| format!(".{index}")),
        (Val::Record(one), Val::Record(other)) => {
            one.iter().zip(other).find_map(|((name, one), (_, other))| {
                values(one, other).map(|it| it.within(&format!(".{name}")))
            })
        }
        (Val::Variant(one, Some(a)), Val::Variant(other, Some(b))) if one == other => {
            values(a, b).map(|it| it.within(&format!(".{one}")))
        }
        (Val::Option(Some(one)), Val::Option(Some(other))) => values(one, other),
        (Val::Result(Ok(Some(one))), Val::Result(Ok(Some(other)))) => {
            values(one, other).map(|it| it.within(".ok"))
        }
        (Val::Result(Err(Some(one))), Val::Result(Err(Some(other)))) => {
            values(one, other).map(|it| it.within(".err"))
        }
        (Val::Map(one), Val::Map(other)) => {
            let first = one.iter().zip(other).enumerate().find_map(|(index, ((ka, va), (kb, vb)))| {
                values(ka, kb).or_else(|| values(va, vb)).map(|it| it.within(&format!("[{index}]")))
            });
            first.or_else(|| lengths(one.len(), other.len()))
        }
        (Val::String(one), Val::String(other)) => (one != other).then(|| {
            let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
            let at = if same == 0 { String::new() } else { format!(", character {}", same + 1) };
            Difference { at, expected: to_wave(expected), found: to_wave(found) }
        }),
        _ => here(),
    }
}

fn items(one: &[Val], other: &[Val], step: impl Fn(usize) -> String) -> Option<Difference> {
    one.iter()
        .zip(other)
        .enumerate()
        .find_map(|(index, (one, other))| values(one, other).map(|it| it.within(&step(index))))
}

fn lengths(one: usize, other: usize) -> Option<Difference> {
    (one != other).then(|| Difference {
        at: String::new(),
        expected: format!("{one} elements"),
        found: format!("{other} elements"),
    })
}

/// The first place where two JSON values differ, as a JSON Pointer.
pub(super) fn json(expected: &Json, found: &Json) -> Option<Difference> {
    let here = || Difference { at: String::new(), expected: expected.to_string(), found: found.to_string() };
    match (expected, found) {
        (Json::Array(one), Json::Array(other)) => {
            let first = one.iter().zip(other).enumerate();
            let first = first.map(|(index, (a, b))| json(a, b).map(|it| it.within(&format!("/{index}"))));
            first.flatten().next().or_else(|| lengths(one.len(), other.len()))
        }
        (Json::Object(one), Json::Object(other)) => {
            let step = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let missing = |value: Option<&Json>| value.map_or_else(|| "nothing".into(), Json::to_string);
            one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))).find_map(|name| {
                match (one.get(name), other.get(name)) {
                    (Some(a), Some(b)) => json(a, b).map(|it| it.within(&step(name))),
                    (a, b) => Some(Difference { at: step(name), expected: missing(a), found: missing(b) }),
                }
            })
        }
        (Json::Number(one), Json::Number(other)) => {
            // A whole number may be written with or without a fraction.
            (one != other && one.as_f64() != other.as_f64()).then(here)
        }
        _ => (expected != found).then(here),
    }
}

/// The first place where two texts differ: line and column.
pub(super) fn texts(expected: &str, found: &str) -> Option<Difference> {
    if expected == found {
        return None;
    }
    let same: String =
        expected.chars().zip(found.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    let line = same.matches('\n').count();
    let column = same.chars().rev().take_while(|it| *it != '\n').count();
    let rest = |text: &str| text[same.len()..].chars().take(60).collect::<String>();
    Some(Difference {
        at: format!("line {}, column {}", line + 1, column + 1),
        expected: format!("{:?}", rest(expected)),
        found: format!("{:?}", rest(found)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_place_is_named() {
        let record = |text: &str, number: f64| {
            Val::List(vec![Val::Record(vec![
                ("name".into(), Val::String(text.into())),
                ("size".into(), Val::Float64(number)),
            ])])
        };
        assert_eq!(values(&record("a", f64::NAN), &record("a", -f64::NAN)), None);
        let found = values(&record("abc", 1.0), &record("abd", 1.0)).unwrap();
        assert_eq!(found.at, "[0].name, character 3");
        assert_eq!(values(&record("a", 1.0), &record("a", 2.0)).unwrap().at, "[0].size");
        assert_eq!(values(&record("a", 1.0), &Val::List(vec![])).unwrap().found, "0 elements");

        let found = super::json(&json!({"a": [1, {"b/c": 2}]}), &json!({"a": [1.0, {"b/c": 3}]})).unwrap();
        assert_eq!((found.at.as_str(), found.found.as_str()), ("/a/1/b~1c", "3"));
        assert_eq!(super::json(&json!({"a": 1}), &json!({})).unwrap().found, "nothing");
        assert_eq!(texts("one\ntwo", "one\nthree").unwrap().at, "line 2, column 2");
    }
}
