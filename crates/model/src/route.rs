//! Which requests are for an app: by host, then by path.

use std::fmt;
use std::str::FromStr;

/// The longest host name (RFC 1035, section 2.3.4), in bytes.
pub const HOST_BYTES_MAX: usize = 253;
/// The longest path of a route, in bytes.
pub const PATH_BYTES_MAX: usize = 1_024;
/// The most routes of one app.
pub const ROUTES_MAX: usize = 64;

/// What is wrong with a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoute {
    /// The host is neither a name, nor `*.` and a name, nor `*`.
    #[error(
        "the host `{0}` is neither a name (`shop.example`), nor one of its subdomains (`*.shop.example`), nor any (`*`)"
    )]
    Host(String),
    /// The path has a form that no request can have, or that no route may have.
    #[error("the path `{path}` {why}")]
    Path {
        /// The path as it was written.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The hosts of a route. A port is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteHost {
    /// This name, in lower case.
    Exact(Box<str>),
    /// Every name one label or more below this one.
    Below(Box<str>),
    /// Every name that no other route is for.
    Any,
}

/// One segment of a route's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// This text.
    Exact(Box<str>),
    /// One segment of any text.
    Parameter(Box<str>),
}

/// The paths of a route: `/shop` is that path alone, `/shop/*` is it and all below it, `/users/{id}/orders` has a
/// parameter in place of one segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutePath {
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// Whether paths below are meant too.
    pub below: bool,
}

/// Which requests are for an app, written `host/path`: `shop.example/*`, `*.shop.example/api/*`, `*/health`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The hosts.
    pub host: RouteHost,
    /// The paths.
    pub path: RoutePath,
}

impl Route {
    /// Whether some request would be for both, with nothing to say which is meant: the same host, and paths that are the
    /// same but for the names of their parameters.
    pub fn is_ambiguous_with(&self, other: &Self) -> bool {
        let alike = |pair: (&Segment, &Segment)| match pair {
            (Segment::Exact(a), Segment::Exact(b)) => a == b,
            (Segment::Parameter(_), Segment::Parameter(_)) => true,
            _ => false,
        };
        self.host == other.host
            && self.path.below == other.path.below
            && self.path.segments.len() == other.path.segments.len()
            && self.path.segments.iter().zip(&other.path.segments).all(alike)
    }

    /// Whether some request would be for both: routes of one tenant may overlap (the more exact wins), those of two
    /// may not, or one could take the other's requests.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.host.overlaps(&other.host) && self.path.overlaps(&other.path)
    }
}

impl RouteHost {
    fn overlaps(&self, other: &Self) -> bool {
        let below = |name: &str, parent: &str| {
            name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
        };
        match (self, other) {
            // What no other route is for is, by definition, nobody else's.
            (Self::Any, Self::Any) => true,
            (Self::Any, _) | (_, Self::Any) => false,
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(name), Self::Below(parent)) | (Self::Below(parent), Self::Exact(name)) => {
                below(name, parent)
            }
            (Self::Below(a), Self::Below(b)) => a == b || below(a, b) || below(b, a),
        }
    }
}

impl RoutePath {
    fn overlaps(&self, other: &Self) -> bool {
        let may = |pair: (&Segment, &Segment)| match pair {
            (Segment::Exact(a), Segment::Exact(b)) => a == b,
            _ => true,
        };
        let (short, long) =
            if self.segments.len() <= other.segments.len() { (self, other) } else { (other, self) };
        let fits = short.segments.iter().zip(&long.segments).all(may);
        fits && (short.segments.len() == long.segments.len() || short.below)
    }
}

impl FromStr for RouteHost {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if name.len() > HOST_BYTES_MAX || !name.split('.').all(is_label) {
            return Err(InvalidRoute::Host(text.to_owned()));
        }
        Ok(if lower.starts_with("*.") { Self::Below(name.into()) } else { Self::Exact(name.into()) })
    }
}

impl FromStr for RoutePath {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        let wrong = |why| Err(InvalidRoute::Path { path: text.to_owned(), why });
        if text.len() > PATH_BYTES_MAX {
            return wrong("has more than 1,024 bytes");
        }
        let Some(rest) = text.strip_prefix('/') else { return wrong("does not begin with `/`") };
        let (rest, below) = match rest.strip_suffix('*') {
            Some("") => ("", true),
            Some(before) => match before.strip_suffix('/') {
                Some(before) => (before, true),
                None => return wrong("has a `*` that is not a whole last segment: write `/shop/*`"),
            },
            None => (rest, false),
        };
        let mut segments = Vec::new();
        for segment in rest.split('/').filter(|_| !rest.is_empty()) {
            let parameter = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
            let is_plain = |byte: u8| byte.is_ascii_graphic() && !br#"*{}?#\"<>"#.contains(&byte);
            match parameter {
                Some(name)
                    if !name.is_empty()
                        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') =>
                {
                    segments.push(Segment::Parameter(name.into()));
                }
                Some(_) => return wrong("has a parameter whose name is not letters, digits and `_`"),
                None if segment == "." || segment == ".." => return wrong("has a segment `.` or `..`"),
                None if !segment.is_empty() && segment.bytes().all(is_plain) => {
                    segments.push(Segment::Exact(segment.into()));
                }
                None if segment.is_empty() => return wrong("has an empty segment"),
                None => {
                    return wrong(
                        "has characters that are not part of a path; a parameter is a whole segment, `{name}`",
                    );
                }
            }
        }
        Ok(Self { segments, below })
    }
}

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        let (host, path) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, "/*"),
        };
        Ok(Self { host: host.parse()?, path: path.parse()? })
    }
}

impl fmt::Display for RouteHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Exact(text) => write!(f, "/{text}")?,
                Segment::Parameter(name) => write!(f, "/{{{name}}}")?,
            }
        }
        match (self.below, self.segments.is_empty()) {
            (true, _) => f.write_str("/*"),
            (false, true) => f.write_str("/"),
            (false, false) => Ok(()),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Route {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn routes_are_printed_as_they_are_written() {
        for text in
            ["shop.example/*", "*.shop.example/api/*", "*/health", "a.b/", "a.b/users/{id}/orders", "*/*"]
        {
            assert_eq!(route(text).to_string(), text);
        }
        assert_eq!(route("Shop.Example").to_string(), "shop.example/*");
    }

    #[test]
    fn what_no_request_can_have_is_refused() {
        for text in [
            "",
            "/x",
            "a..b/",
            "*x/",
            "a.b/x//y",
            "a.b/x*",
            "a.b/{}",
            "a.b/{a-b}",
            "a.b/x/../y",
            "a.b/é",
            "a.b/x{y}",
            "a b/",
        ] {
            assert!(text.parse::<Route>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn overlaps_are_where_one_request_is_for_both() {
        let both = |a: &str, b: &str| {
            assert_eq!(route(a).overlaps(&route(b)), route(b).overlaps(&route(a)), "{a} {b}");
            route(a).overlaps(&route(b))
        };
        assert!(both("a.b/*", "a.b/x") && both("a.b/*", "a.b/") && both("a.b/{id}", "a.b/x"));
        assert!(both("*.a.b/*", "x.a.b/*") && both("*.a.b/*", "*.x.a.b/*") && both("*/*", "*/x"));
        assert!(!both("a.b/x", "a.b/y") && !both("a.b/x/*", "a.b/xy") && !both("a.b/x", "a.b/x/y"));
        assert!(!both("*.a.b/*", "a.b/*") && !both("*.a.b/*", "xa.b/*") && !both("a.b/*", "a.c/*"));
        assert!(!both("*/*", "a.b/*"), "any host is those that nobody named");
    }

    #[test]
    fn only_the_names_of_parameters_make_no_difference() {
        assert!(route("a.b/{x}/*").is_ambiguous_with(&route("a.b/{y}/*")));
        assert!(!route("a.b/{x}").is_ambiguous_with(&route("a.b/y")));
        assert!(!route("a.b/x").is_ambiguous_with(&route("a.b/x/*")));
    }
}
