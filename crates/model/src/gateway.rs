//! Typed exports over HTTP: at which paths a function is found, and which status a typed error has.

use std::collections::{BTreeMap, BTreeSet};

use crate::InterfaceName;

/// A function that a component exports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportedFunction {
    /// The interface that exports it, as the component names it; `None` at the root of the world.
    pub interface: Option<String>,
    /// Its name.
    pub function: String,
}

impl ExportedFunction {
    /// The function `function` of `interface`, or at the root.
    pub fn new(interface: Option<&str>, function: &str) -> Self {
        Self { interface: interface.map(str::to_owned), function: function.to_owned() }
    }
}

impl std::fmt::Display for ExportedFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{interface}.{}", self.function),
            None => f.write_str(&self.function),
        }
    }
}

/// Whether an export is part of a standard interface, which is for hosts to call, not for clients.
pub fn is_standard(interface: &str) -> bool {
    interface.starts_with("wasi:")
}

/// Whether elements of this size, in bytes of a component's memory, can pass a stream to or from outside: the host has
/// to know at how many places they may lie.
pub const fn is_element_size(bytes: usize) -> bool {
    const BYTES_MAX: usize = 168;
    bytes > 0 && (bytes <= 8 || bytes <= BYTES_MAX && bytes.is_multiple_of(4))
}

/// Why a stream or a future cannot pass.
pub const ELEMENT_SIZES: &str = "a stream or future may hold only values without streams and futures in them, and the \
    elements of a stream at most 168 bytes each (text and lists count with eight), and above eight a multiple of four";

/// The paths of each of `functions`, which are all that a component exports, the shortest first.
///
/// A function at the root is at `/{function}`; one of an interface with a plain name at `/{interface}/{function}`.
/// One of `{namespace}:{package}/{interface}@{version}` is at `/{interface}/{function}` while no other interface has
/// that short name, at `/{namespace}:{package}/{interface}/{function}` while there is one version of it, and always at
/// `/{namespace}:{package}@{version}/{interface}/{function}`. No two functions share a path.
pub fn http_paths(functions: &[ExportedFunction]) -> Vec<Vec<String>> {
    let interfaces: BTreeSet<&str> =
        functions.iter().filter_map(|function| function.interface.as_deref()).collect();
    let mut short: BTreeMap<String, usize> = BTreeMap::new();
    let mut unversioned: BTreeMap<String, usize> = BTreeMap::new();
    for interface in &interfaces {
        match InterfaceName::parse(interface) {
            Some(name) => {
                *short.entry(name.interface.clone()).or_default() += 1;
                *unversioned.entry(name.unversioned()).or_default() += 1;
            }
            // It has no other name, so nobody else may take this one.
            None => *short.entry((*interface).to_owned()).or_default() += 2,
        }
    }
    functions
        .iter()
        .map(|ExportedFunction { interface, function }| {
            let Some(interface) = interface else { return vec![format!("/{function}")] };
            let Some(name) = InterfaceName::parse(interface) else {
                return vec![format!("/{interface}/{function}")];
            };
            let mut paths = Vec::new();
            if short.get(&name.interface) == Some(&1) {
                paths.push(format!("/{}/{function}", name.interface));
            }
            if name.version.is_none() || unversioned.get(&name.unversioned()) == Some(&1) {
                paths.push(format!("/{}/{function}", name.unversioned()));
            }
            if let Some(version) = &name.version {
                paths.push(format!("/{}@{version}/{}/{function}", name.package, name.interface));
            }
            paths
        })
        .collect()
}

/// The status of a response that carries a function's typed error, where nothing else is said.
pub const TYPED_ERROR_STATUS: u16 = 422;

/// Which status a typed error has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorStatus {
    /// One for every error.
    Whole(u16),
    /// By the name of the case; [`TYPED_ERROR_STATUS`] for those that are not named.
    Cases(BTreeMap<String, u16>),
}

impl ErrorStatus {
    /// The status of an error whose case is `case`, if its type has cases.
    pub fn of(&self, case: Option<&str>) -> u16 {
        match self {
            Self::Whole(status) => *status,
            Self::Cases(cases) => {
                case.and_then(|case| cases.get(case)).copied().unwrap_or(TYPED_ERROR_STATUS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(functions: &[(Option<&str>, &str)]) -> Vec<String> {
        let functions: Vec<_> = functions
            .iter()
            .map(|(interface, function)| ExportedFunction::new(*interface, function))
            .collect();
        let paths = http_paths(&functions);
        let all: Vec<_> = paths.iter().flatten().collect();
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "no path is shared: {all:?}");
        assert!(paths.iter().all(|paths| !paths.is_empty()), "every function has a path: {paths:?}");
        paths.into_iter().map(|paths| paths.join(" ")).collect()
    }

    #[test]
    fn a_name_is_as_short_as_it_is_clear() {
        assert_eq!(
            paths(&[(None, "run"), (Some("a:b/verify@1.0.0"), "check"), (Some("inline"), "f")]),
            ["/run", "/verify/check /a:b/verify/check /a:b@1.0.0/verify/check", "/inline/f"]
        );
    }

    #[test]
    fn two_interfaces_of_one_short_name_have_longer_ones() {
        assert_eq!(
            paths(&[(Some("a:b/verify"), "check"), (Some("c:d/verify"), "check")]),
            ["/a:b/verify/check", "/c:d/verify/check"]
        );
        assert_eq!(
            paths(&[(Some("a:b/verify"), "check"), (Some("verify"), "check")]),
            ["/a:b/verify/check", "/verify/check"]
        );
    }

    #[test]
    fn two_versions_of_one_interface_are_told_apart_by_it() {
        assert_eq!(
            paths(&[(Some("a:b/v@1.0.0"), "f"), (Some("a:b/v@2.0.0"), "f")]),
            ["/a:b@1.0.0/v/f", "/a:b@2.0.0/v/f"]
        );
        assert_eq!(
            paths(&[(Some("a:b/v"), "f"), (Some("a:b/v@2.0.0"), "f")]),
            ["/a:b/v/f", "/a:b@2.0.0/v/f"]
        );
    }

    #[test]
    fn a_case_that_is_not_named_keeps_the_default() {
        let status = ErrorStatus::Cases([("expired".to_owned(), 401)].into());
        assert_eq!((status.of(Some("expired")), status.of(Some("other")), status.of(None)), (401, 422, 422));
        assert_eq!(ErrorStatus::Whole(402).of(Some("other")), 402);
    }
}
