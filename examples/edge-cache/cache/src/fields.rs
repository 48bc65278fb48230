//! Header fields: names in lower case, values byte for byte as Latin-1, in the order in which they came.

use std::time::UNIX_EPOCH;

/// The fields of a request or a response.
pub type Fields = Vec<(String, String)>;

/// Fields that belong to a connection and not to the message (RFC 9110, section 7.6.1), with `host`, which the one who
/// sends a request sets.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// All values of `name`, as one list.
pub fn combined(fields: &Fields, name: &str) -> Option<String> {
    let values: Vec<&str> =
        fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.trim()).collect();
    if values.is_empty() { None } else { Some(values.join(", ")) }
}

/// The first value of `name`.
pub fn first<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.trim())
}

/// The time in the field `name`, in seconds since 1970, if there is one and it is a date (RFC 9110, section 5.6.7).
pub fn date(fields: &Fields, name: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(first(fields, name)?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// A time, in seconds since 1970, as a date.
pub fn shown(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

/// The elements of a list of tokens, in lower case.
pub fn tokens(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(|token| token.trim().to_ascii_lowercase()).filter(|token| !token.is_empty())
}

/// The fields that are passed on.
pub fn end_to_end(fields: Fields) -> Fields {
    let named: Vec<String> = combined(&fields, "connection").iter().flat_map(|list| tokens(list)).collect();
    let passes = |name: &String| !HOP_BY_HOP.contains(&name.as_str()) && !named.contains(name);
    fields.into_iter().filter(|(name, _)| passes(name)).collect()
}

/// Gives `name` one value.
pub fn set(fields: &mut Fields, name: &str, value: impl Into<String>) {
    fields.retain(|(other, _)| other != name);
    fields.push((name.to_owned(), value.into()));
}

#[cfg(test)]
pub(crate) fn of(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_connection_stays_there() {
        let passed = end_to_end(of(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("host", "edge"),
            ("accept", "text/html"),
        ]));
        assert_eq!(passed, of(&[("accept", "text/html")]));
    }

    #[test]
    fn dates_are_read_in_all_three_forms() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(date(&of(&[("date", text)]), "date"), Some(784_111_777), "{text}");
        }
        assert_eq!(date(&of(&[("expires", "0")]), "expires"), None);
        assert_eq!(shown(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn several_lines_are_one_list() {
        let fields = of(&[("vary", "accept"), ("x", "1"), ("vary", " accept-language ")]);
        assert_eq!(combined(&fields, "vary").as_deref(), Some("accept, accept-language"));
        assert_eq!(combined(&fields, "age"), None);
    }
}
