//! What a request asks for, and what it takes to be allowed to.

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Whether the service is well: anybody may ask.
    Health,
    /// All zones.
    Zones,
    /// The price of a parcel.
    Quote,
}

/// Why a request asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOperation {
    /// Nothing is at this path.
    NoSuchPath,
    /// The path takes another method.
    OtherMethod(&'static str),
}

const OPERATIONS: [(Operation, &str, &str); 3] = [
    (Operation::Health, "GET", "/health"),
    (Operation::Zones, "GET", "/zones"),
    (Operation::Quote, "POST", "/quotes"),
];

impl Operation {
    /// What `method` and `path` (perhaps with a query) ask for.
    pub fn of(method: &str, path: &str) -> Result<Self, NoOperation> {
        let path = path.split('?').next().unwrap_or_default();
        let (operation, wanted, _) =
            OPERATIONS.iter().find(|(_, _, it)| *it == path).ok_or(NoOperation::NoSuchPath)?;
        if *wanted == method { Ok(*operation) } else { Err(NoOperation::OtherMethod(wanted)) }
    }

    /// The scope that a key must have for it; none: no key is needed.
    pub fn scope(self) -> Option<&'static str> {
        match self {
            Self::Health => None,
            Self::Zones => Some("zones:read"),
            Self::Quote => Some("quotes:write"),
        }
    }

    /// What schemas call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Health => "GET /health",
            Self::Zones => "GET /zones",
            Self::Quote => "POST /quotes",
        }
    }
}

/// The key of a request: `authorization: Bearer KEY`, or `x-api-key: KEY`.
pub fn key(headers: &[(alloc::string::String, alloc::string::String)]) -> Option<&str> {
    let header =
        |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let bearer = header("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| header("x-api-key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods_are_told_apart() {
        assert_eq!(Operation::of("GET", "/zones?x=1"), Ok(Operation::Zones));
        assert_eq!(Operation::of("POST", "/zones"), Err(NoOperation::OtherMethod("GET")));
        assert_eq!(Operation::of("GET", "/"), Err(NoOperation::NoSuchPath));
        for (operation, method, path) in OPERATIONS {
            assert_eq!(operation.name(), alloc::format!("{method} {path}"));
        }
    }

    #[test]
    fn a_key_comes_in_either_header() {
        let header = |name: &str, value: &str| [(name.into(), value.into())];
        assert_eq!(key(&header("authorization", "bearer k")), Some("k"));
        assert_eq!(key(&header("authorization", "Basic k")), None);
        assert_eq!(key(&header("x-api-key", "k")), Some("k"));
        assert_eq!(key(&[]), None);
    }
}
