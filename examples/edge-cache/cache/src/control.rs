//! `Cache-Control` (RFC 9111, section 5.2).

use crate::fields::{Fields, combined};

/// What a response says about itself (section 5.2.2; `stale-*`: RFC 5861).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub no_store: bool,
    /// Also when it is only for some fields: this cache takes it for all.
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub stale_while_revalidate: u64,
    pub stale_if_error: u64,
    /// An age that is no number, or two that differ: what is said of freshness cannot be believed (section 4.2.1).
    pub contradictory: bool,
}

/// What a request asks for (section 5.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub no_store: bool,
    pub no_cache: bool,
    pub only_if_cached: bool,
    pub max_age: Option<u64>,
    pub min_fresh: Option<u64>,
    /// How stale a response may be; `u64::MAX` when any will do.
    pub max_stale: Option<u64>,
}

impl Said {
    pub fn of(fields: &Fields) -> Self {
        let mut said = Self::default();
        for (name, argument) in directives(fields) {
            match name.as_str() {
                "no-store" => said.no_store = true,
                "no-cache" => said.no_cache = true,
                "private" => said.private = true,
                "public" => said.public = true,
                "must-revalidate" => said.must_revalidate = true,
                "proxy-revalidate" => said.proxy_revalidate = true,
                "max-age" => said.contradictory |= !agree(&mut said.max_age, &argument),
                "s-maxage" => said.contradictory |= !agree(&mut said.s_maxage, &argument),
                "stale-while-revalidate" => said.stale_while_revalidate = seconds(&argument).unwrap_or(0),
                "stale-if-error" => said.stale_if_error = seconds(&argument).unwrap_or(0),
                // What is not known is ignored (section 5.2.3).
                _ => {}
            }
        }
        said
    }

    /// Whether it may be served stale at all (section 4.2.4). `s-maxage` says `proxy-revalidate`, too.
    pub fn may_be_stale(&self) -> bool {
        !(self.must_revalidate || self.proxy_revalidate || self.no_cache || self.s_maxage.is_some())
    }
}

impl Wanted {
    pub fn of(fields: &Fields) -> Self {
        let mut wanted = Self::default();
        for (name, argument) in directives(fields) {
            match name.as_str() {
                "no-store" => wanted.no_store = true,
                "no-cache" => wanted.no_cache = true,
                "only-if-cached" => wanted.only_if_cached = true,
                "max-age" => wanted.max_age = Some(seconds(&argument).unwrap_or(0)),
                "min-fresh" => wanted.min_fresh = seconds(&argument),
                "max-stale" if argument.is_empty() => wanted.max_stale = Some(u64::MAX),
                "max-stale" => wanted.max_stale = seconds(&argument),
                _ => {}
            }
        }
        // Section 5.4: only where there is no `Cache-Control`.
        let pragma =
            combined(fields, "pragma").is_some_and(|list| list.to_ascii_lowercase().contains("no-cache"));
        wanted.no_cache |= pragma && combined(fields, "cache-control").is_none();
        wanted
    }
}

/// The directives with their arguments, names in lower case.
fn directives(fields: &Fields) -> Vec<(String, String)> {
    let list = combined(fields, "cache-control").unwrap_or_default();
    let mut directives = Vec::new();
    let mut rest = list.as_str();
    while !rest.is_empty() {
        let (directive, after) = until_comma(rest);
        rest = after;
        let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
        let name = name.trim().to_ascii_lowercase();
        if !name.is_empty() {
            directives.push((name, argument.trim().trim_matches('"').to_owned()));
        }
    }
    directives
}

/// What stands before the first comma that is not in quotes, and what after it.
fn until_comma(text: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

/// Delta-seconds (section 1.2.2): what is too large is as large as can be.
fn seconds(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::from(u32::MAX)).min(u64::from(u32::MAX)))
}

/// Notes an age, and says whether it is one, and the one that was said before.
fn agree(known: &mut Option<u64>, argument: &str) -> bool {
    let value = seconds(argument);
    let agrees = value.is_some() && (known.is_none() || *known == value);
    *known = value.or(*known);
    agrees
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::of;

    fn said(value: &str) -> Said {
        Said::of(&of(&[("cache-control", value)]))
    }

    #[test]
    fn directives_are_read_as_they_are_written() {
        let found =
            said("Public, MAX-AGE=60,s-maxage=\"120\" , stale-while-revalidate=30, x=\"a, no-store\"");
        let expected = Said {
            public: true,
            max_age: Some(60),
            s_maxage: Some(120),
            stale_while_revalidate: 30,
            ..Said::default()
        };
        assert_eq!(found, expected);
        assert!(said("no-cache=\"set-cookie, x\", private").no_cache);
        assert_eq!(said(""), Said::default());
        assert_eq!(said(",,=,"), Said::default());
    }

    #[test]
    fn ages_that_cannot_be_believed_are_told() {
        assert!(said("max-age=60, max-age=61").contradictory);
        assert!(said("max-age=soon").contradictory);
        assert!(said("max-age=-1").contradictory);
        assert!(!said("max-age=60, max-age=60").contradictory);
        assert_eq!(said("max-age=99999999999999999999").max_age, Some(u64::from(u32::MAX)));
    }

    #[test]
    fn requests_ask_in_their_own_words() {
        let wanted = |fields: &[(&str, &str)]| Wanted::of(&of(fields));
        assert_eq!(wanted(&[("cache-control", "max-stale")]).max_stale, Some(u64::MAX));
        assert_eq!(wanted(&[("cache-control", "max-stale=5, min-fresh=7")]).min_fresh, Some(7));
        assert!(wanted(&[("pragma", "no-cache")]).no_cache);
        assert!(!wanted(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]).no_cache);
        assert!(wanted(&[("cache-control", "only-if-cached")]).only_if_cached);
    }

    #[test]
    fn some_responses_may_never_be_served_stale() {
        assert!(said("max-age=1").may_be_stale());
        for value in ["must-revalidate", "proxy-revalidate", "s-maxage=5", "no-cache"] {
            assert!(!said(value).may_be_stale(), "{value}");
        }
    }
}
