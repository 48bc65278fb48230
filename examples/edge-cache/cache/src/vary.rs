//! Responses that depend on more than the target (RFC 9111, section 4.1).

use serde::{Deserialize, Serialize};

use crate::fields::{Fields, combined, tokens};

/// What a response to one target depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variants {
    pub target: String,
    /// The names of the request's fields that count, sorted.
    pub names: Vec<String>,
    /// Changed when everything that is kept for the target has lost its worth.
    pub generation: u64,
}

/// Which response is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub target: String,
    pub generation: u64,
    /// The fields that count, with their values in the request.
    pub selecting: Vec<(String, Option<String>)>,
}

/// The names in `Vary`, sorted; `None` for `*`, which no later request can match.
pub fn names(response: &Fields) -> Option<Vec<String>> {
    let mut names: Vec<String> = combined(response, "vary").iter().flat_map(|list| tokens(list)).collect();
    names.sort();
    names.dedup();
    if names.iter().any(|name| name == "*") { None } else { Some(names) }
}

impl Variants {
    /// The key of the response to a request with these fields.
    pub fn key(&self, request: &Fields) -> Key {
        let selecting = self.names.iter().map(|name| (name.clone(), combined(request, name))).collect();
        Key { target: self.target.clone(), generation: self.generation, selecting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::of;

    #[test]
    fn only_the_named_fields_count() {
        let names = names(&of(&[("vary", "Accept-Language, accept"), ("vary", "Accept")])).unwrap();
        let variants = Variants { target: "/".to_owned(), names, generation: 1 };
        let key = |fields: &[(&str, &str)]| variants.key(&of(fields));
        let german = key(&[("accept-language", "de"), ("user-agent", "a")]);
        assert_eq!(german, key(&[("user-agent", "b"), ("accept-language", " de")]));
        assert_ne!(german, key(&[("accept-language", "en")]));
        assert_ne!(german, key(&[("accept-language", "de"), ("accept", "text/html")]));
        assert_ne!(german, key(&[]));
    }

    #[test]
    fn a_star_matches_nothing() {
        assert_eq!(names(&of(&[("vary", "accept, *")])), None);
        assert_eq!(names(&of(&[])), Some(Vec::new()));
    }
}
