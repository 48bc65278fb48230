//! Finds the route for a path.
//!
//! A pattern is a path whose segments are literal (`orders`) or a parameter (`{id}`, exactly one segment).

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use alloc::vec::Vec;

/// A method and a path under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// In upper case.
    pub method: &'static str,
    /// Literal segments and `{parameters}`.
    pub path: &'static str,
    /// What the route is called.
    pub name: &'static str,
}

/// The pattern of `path` for `method`, called `name`.
pub const fn pattern(method: &'static str, path: &'static str, name: &'static str) -> Pattern {
    Pattern { method, path, name }
}

/// A route that fits a path.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Its pattern.
    pub pattern: Pattern,
    /// What the path has in the place of each parameter, percent-decoded.
    pub params: Vec<(&'static str, String)>,
}

/// The most specific route of `method` that fits `path`.
pub fn find(patterns: &[Pattern], method: &str, path: &str) -> Option<Found> {
    let path = split(path)?;
    let fitting = patterns.iter().filter(|pattern| pattern.method == method);
    let best = fitting.filter(|pattern| fits(pattern, &path)).min_by_key(|pattern| kinds(pattern))?;
    let params = segments(best.path)
        .zip(path)
        .filter_map(|(segment, text)| parameter(segment).map(|name| (name, text)))
        .collect();
    Some(Found { pattern: *best, params })
}

/// The methods that have a route for `path`, sorted.
pub fn methods(patterns: &[Pattern], path: &str) -> Vec<&'static str> {
    let Some(path) = split(path) else { return Vec::new() };
    let mut methods: Vec<_> =
        patterns.iter().filter(|pattern| fits(pattern, &path)).map(|pattern| pattern.method).collect();
    methods.sort_unstable();
    methods.dedup();
    methods
}

fn fits(pattern: &Pattern, path: &[String]) -> bool {
    segments(pattern.path).count() == path.len()
        && segments(pattern.path)
            .zip(path)
            .all(|(segment, text)| parameter(segment).is_some() || segment == text)
}

/// Which segments are parameters: a literal one is more specific, and the first difference decides.
fn kinds(pattern: &Pattern) -> Vec<bool> {
    segments(pattern.path).map(|segment| parameter(segment).is_some()).collect()
}

fn segments(pattern: &'static str) -> impl Iterator<Item = &'static str> {
    pattern.split('/').filter(|segment| !segment.is_empty())
}

fn parameter(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// The decoded segments of a path without its query; one slash at the end makes no difference. A path is split
/// before it is decoded, so that `%2F` is a part of a segment. There are no empty segments.
fn split(path: &str) -> Option<Vec<String>> {
    let path = path.split('?').next()?.strip_prefix('/')?;
    if path.is_empty() {
        return Some(Vec::new());
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').map(|text| decode(text).filter(|text| !text.is_empty())).collect()
}

/// Undoes percent-encoding (RFC 3986, section 2.1); what it stands for must be UTF-8.
fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: [Pattern; 5] = [
        pattern("GET", "/", "index"),
        pattern("GET", "/goods/{id}", "one"),
        pattern("GET", "/goods/new", "new"),
        pattern("PUT", "/goods/{id}", "put"),
        pattern("GET", "/{kind}/{id}/parts", "parts"),
    ];

    fn name(method: &str, path: &str) -> Option<&'static str> {
        find(&PATTERNS, method, path).map(|found| found.pattern.name)
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        assert_eq!(name("GET", "/"), Some("index"));
        assert_eq!(name("GET", "/goods/new"), Some("new"));
        assert_eq!(name("GET", "/goods/old?x=/1"), Some("one"));
        assert_eq!(name("GET", "/goods/old/"), Some("one"));
        assert_eq!(name("PUT", "/goods/new"), Some("put"));
        assert_eq!(name("GET", "/goods"), None);
        assert_eq!(name("DELETE", "/goods/new"), None);
    }

    #[test]
    fn parameters_are_decoded_and_segments_are_not_empty() {
        let params = |path| find(&PATTERNS, "GET", path).map(|found| found.params);
        assert_eq!(params("/goods/s%C3%A4ge"), Some(vec![("id", "säge".to_owned())]));
        assert_eq!(params("/goods/a%2Fb"), Some(vec![("id", "a/b".to_owned())]));
        assert_eq!(
            params("/tools/7/parts"),
            Some(vec![("kind", "tools".to_owned()), ("id", "7".to_owned())])
        );
        for wrong in ["/goods/%", "/goods/%4", "/goods/%zz", "/goods/%ff", "/goods//", "goods/a", ""] {
            assert_eq!(params(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn methods_are_sorted_and_named_once() {
        assert_eq!(methods(&PATTERNS, "/goods/new"), ["GET", "PUT"]);
        assert!(methods(&PATTERNS, "/nowhere").is_empty());
    }
}
