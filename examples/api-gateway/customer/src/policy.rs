//! The text of an agreement: a line a fact.
//!
//! ```text
//! name acme
//! key NAME SHA256 SCOPE…
//! rate REQUESTS SECONDS
//! schema METHOD PATH JSON-SCHEMA
//! ```

use alloc::vec::Vec;

/// What the place begins with, so that it is found in a component: one line.
pub const MARK: &str = "demo:gateway/customer, 4096 bytes from here:\n";
/// The size of the place, mark included.
pub const PLACE_BYTES: usize = 4_096;

/// The place with `text` in it; what is left is filled with line ends.
///
/// Evaluated by the compiler, which refuses a text that is too long.
pub const fn place(text: &str) -> [u8; PLACE_BYTES] {
    assert!(MARK.len() + text.len() <= PLACE_BYTES, "the policy is too long for its place");
    let mut place = [b'\n'; PLACE_BYTES];
    let mut at = 0;
    while at < MARK.len() {
        place[at] = MARK.as_bytes()[at];
        at += 1;
    }
    while at < MARK.len() + text.len() {
        place[at] = text.as_bytes()[at - MARK.len()];
        at += 1;
    }
    place
}

/// A key that was given out.
#[derive(Debug, PartialEq, Eq)]
pub struct Key<'a> {
    pub name: &'a str,
    pub sha256: [u8; 32],
    pub scopes: Vec<&'a str>,
}

/// The text of a place: what stands after the mark. The mark is not compared, or it would be in the component a second
/// time, and nobody could tell which is the place.
pub fn text(place: &[u8]) -> &str {
    place.get(MARK.len()..).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
}

/// What follows `word` on the lines that begin with it.
fn lines<'a>(text: &'a str, word: &'static str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
}

/// The customer's name.
pub fn name(text: &str) -> &str {
    lines(text, "name").next().unwrap_or_default()
}

/// The keys; a line that is none gives none, so a slip locks out and never lets in.
pub fn keys(text: &str) -> Vec<Key<'_>> {
    lines(text, "key").filter_map(key).collect()
}

fn key(line: &str) -> Option<Key<'_>> {
    let mut words = line.split(' ');
    Some(Key { name: words.next()?, sha256: hash(words.next()?)?, scopes: words.collect() })
}

fn hash(hex: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let mut hash = [0; 32];
    if pairs.len() != hash.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// Requests, and in how many seconds; nothing agreed is nothing allowed.
pub fn rate(text: &str) -> (u32, u32) {
    let rate = |line: &str| {
        let (requests, seconds) = line.split_once(' ')?;
        Some((requests.parse().ok()?, seconds.parse().ok().filter(|seconds| *seconds > 0)?))
    };
    lines(text, "rate").find_map(rate).unwrap_or((0, 60))
}

/// The schema of an operation, `METHOD PATH`.
pub fn schema<'a>(text: &'a str, operation: &str) -> Option<&'a str> {
    lines(text, "schema").find_map(|line| line.strip_prefix(operation)?.strip_prefix(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../policy.txt");

    #[test]
    fn the_policy_of_the_example_is_read() {
        let place = place(TEXT);
        let text = text(&place);
        assert_eq!(name(text), "acme");
        assert_eq!(rate(text), (600, 60));
        let keys = keys(text);
        assert_eq!(keys.len(), 2);
        assert_eq!((keys[0].name, &keys[0].scopes[..]), ("web-shop", &["quotes:write", "zones:read"][..]));
        assert!(schema(text, "POST /quotes").unwrap().starts_with("{\"type\":\"object\""));
        assert_eq!(schema(text, "POST /quote"), None);
        assert_eq!(schema(text, "POST /"), None);
    }

    #[test]
    fn a_slip_lets_nobody_in() {
        let hash = "0".repeat(64);
        for line in ["key a", "key a 00", &format!("key a {hash}0"), &format!("key a {}x", &hash[1..])] {
            assert_eq!(keys(line), [], "{line}");
        }
        assert_eq!(keys(&format!("key a {hash}")).len(), 1);
        for line in ["", "rate", "rate 5", "rate 5 0", "rate -1 1"] {
            assert_eq!(rate(line), (0, 60), "{line}");
        }
        assert_eq!(text(b"too short for a place"), "");
    }
}
