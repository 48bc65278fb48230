//! Which interfaces a component may import without being granted anything.
//!
//! A stock guest's standard library imports interfaces it never uses: an empty environment, an exit, captured
//! standard streams, no terminal, no preopened directory, clocks, random numbers. The host offers those to
//! everyone because they reach nothing. Every other interface has to be granted.

use std::fmt;

/// An interface name of the Component Model: `namespace:package/interface@version`.
///
/// See "Import and Export Definitions" in the Component Model's `Explainer.md`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName {
    /// `namespace:package`.
    pub package: String,
    /// The interface within the package.
    pub interface: String,
    /// The version, where the package has one.
    pub version: Option<String>,
}

impl InterfaceName {
    /// Reads `namespace:package/interface` with or without `@version`; `None` for a plain (kebab-case) name.
    pub fn parse(name: &str) -> Option<Self> {
        let (path, version) = match name.split_once('@') {
            Some((path, version)) => (path, Some(version.to_owned())),
            None => (name, None),
        };
        let (package, interface) = path.split_once('/')?;
        let (namespace, package_name) = package.split_once(':')?;
        if namespace.is_empty() || package_name.is_empty() || interface.is_empty() {
            return None;
        }
        Some(Self { package: package.to_owned(), interface: interface.to_owned(), version })
    }

    /// The name without its version.
    pub fn unversioned(&self) -> String {
        format!("{}/{}", self.package, self.interface)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.package, self.interface)?;
        match &self.version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

/// How the host stands to an interface that a component imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Offered to everyone: it reaches nothing outside the request.
    Inert,
    /// A WASI interface that reaches outside; refused.
    Withheld,
    /// Not a host interface at all: another component must supply it.
    Foreign,
}

/// Interfaces that reach nothing outside the request. `wasi:http/types` only describes requests and
/// responses; sending one is `wasi:http/outgoing-handler` (0.2) or `wasi:http/client` (0.3).
const INERT: [&str; 24] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// How the host stands to the import `name`, whatever its version: a denial that looked at versions would be
/// a denial with holes.
pub fn standing(name: &str) -> Standing {
    let Some(interface) = InterfaceName::parse(name) else {
        return Standing::Foreign;
    };
    if INERT.binary_search(&interface.unversioned().as_str()).is_ok() {
        Standing::Inert
    } else if interface.package.starts_with("wasi:") {
        Standing::Withheld
    } else {
        Standing::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inert_list_is_sorted_for_the_search() {
        assert!(INERT.is_sorted());
    }

    #[test]
    fn every_version_of_an_interface_stands_alike() {
        for version in ["", "@0.2.0", "@0.2.12", "@0.3.0", "@0.3.0-rc-2026-01-01", "@9.9.9"] {
            assert_eq!(standing(&format!("wasi:clocks/wall-clock{version}")), Standing::Inert);
            assert_eq!(standing(&format!("wasi:sockets/tcp{version}")), Standing::Withheld);
            assert_eq!(standing(&format!("wasi:http/outgoing-handler{version}")), Standing::Withheld);
            assert_eq!(standing(&format!("wasi:http/client{version}")), Standing::Withheld);
            assert_eq!(standing(&format!("demo:auth/verify{version}")), Standing::Foreign);
        }
        assert_eq!(standing("verify-token"), Standing::Foreign);
    }
}
