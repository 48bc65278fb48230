//! Asking whether something is still good (RFC 9111, section 4.3).

use crate::fields::{Fields, combined, date, first, set};
use crate::freshness::Times;
use crate::kept::Kept;

/// The fields of a request that depend on what the client has, and not the cache (RFC 9110, section 13.1).
const CONDITIONS: [&str; 5] =
    ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"];

/// What a 304 carries of the response it stands for (RFC 9110, section 15.4.5), and what the cache adds.
const OF_A_304: [&str; 9] = [
    "age",
    "cache-control",
    "cache-status",
    "content-location",
    "date",
    "etag",
    "expires",
    "last-modified",
    "vary",
];

/// The request's fields without its own conditions: the cache wants the whole response.
pub fn unconditional(mut request: Fields) -> Fields {
    request.retain(|(name, _)| !CONDITIONS.contains(&name.as_str()));
    request
}

/// The same, asking whether `kept` is still good (section 4.3.1).
pub fn conditional(request: Fields, kept: &Kept) -> Fields {
    let mut fields = unconditional(request);
    if let Some(tag) = first(&kept.fields, "etag") {
        fields.push(("if-none-match".to_owned(), tag.to_owned()));
    }
    if let Some(date) = first(&kept.fields, "last-modified") {
        fields.push(("if-modified-since".to_owned(), date.to_owned()));
    }
    fields
}

/// Whether a 304 is about `kept` (section 4.3.4): it may name another response.
pub fn is_about(kept: &Kept, not_modified: &Fields) -> bool {
    match first(not_modified, "etag") {
        Some(tag) => first(&kept.fields, "etag").is_some_and(|known| opaque(known) == opaque(tag)),
        None => true,
    }
}

/// `kept` with what the 304 says anew (section 3.2).
pub fn freshened(mut kept: Kept, not_modified: &Fields, times: Times) -> Kept {
    // What describes the body stays that of the body that is there.
    let stays =
        |name: &str| matches!(name, "content-length" | "content-encoding" | "content-type" | "content-range");
    let news: Vec<_> = not_modified.iter().filter(|(name, _)| !stays(name)).cloned().collect();
    // Its age begins again; it counts only if it is told anew.
    kept.fields.retain(|(name, _)| name != "age" && !news.iter().any(|(new, _)| new == name));
    kept.fields.extend(news);
    kept.times = times;
    with_date(&mut kept.fields, times);
    kept
}

/// A response without a date gets the time at which it came (RFC 9110, section 6.6.1).
pub fn with_date(fields: &mut Fields, times: Times) {
    if date(fields, "date").is_none() {
        set(fields, "date", crate::fields::shown(times.received));
    }
}

/// Whether the client has this response already (section 4.3.2).
pub fn client_has_it(request: &Fields, status: u16, response: &Fields) -> bool {
    if status != 200 {
        return false;
    }
    // RFC 9110, section 13.2.2: the tag goes before the date. Tags are compared weakly (section 13.1.2).
    if let Some(tags) = combined(request, "if-none-match") {
        let known = first(response, "etag").map(opaque);
        return tags.trim() == "*" || tags.split(',').any(|tag| Some(opaque(tag.trim())) == known);
    }
    let since = date(request, "if-modified-since");
    let changed = date(response, "last-modified");
    matches!((since, changed), (Some(since), Some(changed)) if changed <= since)
}

/// The fields of a 304 that stands for a response with `fields`.
pub fn not_modified(mut fields: Fields) -> Fields {
    fields.retain(|(name, _)| OF_A_304.contains(&name.as_str()));
    fields
}

/// A tag without its weakness.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::of;
    use crate::vary::Key;

    fn kept() -> Kept {
        Kept {
            key: Key { target: "/".to_owned(), generation: 0, selecting: Vec::new() },
            status: 200,
            fields: of(&[
                ("etag", "W/\"1\""),
                ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("content-type", "text/plain"),
                ("age", "7"),
                ("x", "old"),
            ]),
            times: Times { requested: 1, received: 1 },
            body: b"body".to_vec(),
        }
    }

    #[test]
    fn the_cache_asks_with_its_own_conditions() {
        let asked = conditional(of(&[("if-none-match", "\"mine\""), ("accept", "*/*")]), &kept());
        let expected = of(&[
            ("accept", "*/*"),
            ("if-none-match", "W/\"1\""),
            ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ]);
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_304_brings_news_and_leaves_the_body() {
        let news = of(&[
            ("etag", "\"1\""),
            ("x", "new"),
            ("content-length", "0"),
            ("date", "Sun, 06 Nov 1994 09:00:00 GMT"),
        ]);
        let times = Times { requested: 5, received: 6 };
        assert!(is_about(&kept(), &news));
        let fresh = freshened(kept(), &news, times);
        assert_eq!(first(&fresh.fields, "x"), Some("new"));
        assert_eq!(first(&fresh.fields, "content-type"), Some("text/plain"));
        assert_eq!(first(&fresh.fields, "age"), None);
        assert_eq!(first(&fresh.fields, "content-length"), None);
        assert_eq!((fresh.times, fresh.body.as_slice()), (times, &b"body"[..]));
        assert!(!is_about(&kept(), &of(&[("etag", "\"2\"")])));
        assert!(is_about(&kept(), &of(&[])));
    }

    #[test]
    fn a_client_may_have_it_already() {
        let has = |request: &[(&str, &str)]| client_has_it(&of(request), 200, &kept().fields);
        assert!(has(&[("if-none-match", "\"0\", \"1\"")]));
        assert!(has(&[("if-none-match", "*")]));
        assert!(!has(&[("if-none-match", "\"0\"")]));
        assert!(has(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]));
        assert!(!has(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")]));
        assert!(!has(&[("if-none-match", "\"0\""), ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]));
        assert!(!has(&[]));
        assert!(!client_has_it(&of(&[("if-none-match", "*")]), 404, &kept().fields));
    }
}
