//! Which interfaces a component may import without being granted anything, and which grant opens the others.
//!
//! A stock guest's standard library imports interfaces it never uses: an empty environment, an exit, captured
//! standard streams, no terminal, no preopened directory, clocks, random numbers. The host offers those to
//! everyone because they reach nothing. Every other interface has to be granted.
//!
//! Within a composition, the imports that carry authority have names of the part's own ([`PartImport`]), so that
//! the host knows from the binary who asks.

use std::fmt;

use crate::{Authorities, Authority, Grants};

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

/// What a host can offer beyond the request itself: one WASI package, in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Requests to other hosts.
    Http,
    /// Directories.
    Filesystem,
    /// TCP and UDP.
    Sockets,
    /// Buckets of keys and values.
    Keyvalue,
    /// Containers of blobs.
    Blobstore,
    /// Topics.
    Messaging,
    /// Named values that the manifest gives.
    Config,
    /// Lines with a level in the node's log.
    Logging,
    /// Environment variables and arguments.
    Cli,
    /// A wall clock that stands still.
    Clocks,
    /// Randomness from a seed.
    Random,
}

impl Capability {
    /// All of them, in the order in which manifests and reports show them.
    pub const ALL: [Self; 11] = [
        Self::Http,
        Self::Filesystem,
        Self::Sockets,
        Self::Keyvalue,
        Self::Blobstore,
        Self::Messaging,
        Self::Config,
        Self::Logging,
        Self::Cli,
        Self::Clocks,
        Self::Random,
    ];

    /// The WASI package, which is also the key of the grant in a manifest.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Http => "wasi:http",
            Self::Filesystem => "wasi:filesystem",
            Self::Sockets => "wasi:sockets",
            Self::Keyvalue => "wasi:keyvalue",
            Self::Blobstore => "wasi:blobstore",
            Self::Messaging => "wasi:messaging",
            Self::Config => "wasi:config",
            Self::Logging => "wasi:logging",
            Self::Cli => "wasi:cli",
            Self::Clocks => "wasi:clocks",
            Self::Random => "wasi:random",
        }
    }

    /// The capability of a WASI package.
    pub fn of_package(package: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.key() == package)
    }

    /// A grant of it as a line of a manifest, to be filled in.
    pub const fn example(self) -> &'static str {
        match self {
            Self::Http => r#""wasi:http" = [{ host = "api.example.com" }]"#,
            Self::Filesystem => r#""wasi:filesystem" = [{ directory = "data", at = "/data" }]"#,
            Self::Sockets => {
                r#""wasi:sockets" = [{ protocol = "tcp", direction = "connect", host = "127.0.0.1", port = 5432 }]"#
            }
            Self::Keyvalue => r#""wasi:keyvalue" = [{ bucket = "default", access = "write" }]"#,
            Self::Blobstore => r#""wasi:blobstore" = [{ container = "images", access = "write" }]"#,
            Self::Messaging => r#""wasi:messaging" = { publish = ["orders.*"] }"#,
            Self::Config => r#""wasi:config" = { greeting = "hello" }"#,
            Self::Logging => r#""wasi:logging" = true"#,
            Self::Cli => r#""wasi:cli" = { environment = { NAME = "value" } }"#,
            Self::Clocks => r#""wasi:clocks" = { now = "2026-01-01T00:00:00Z" }"#,
            Self::Random => r#""wasi:random" = { seed = 42 }"#,
        }
    }

    /// The lines of a manifest that grant it, to be filled in: to the part of a composition, or to a component
    /// served alone.
    pub fn lines(self, part: Option<&str>) -> String {
        match part {
            Some(part) => format!("[component.{part}.grants]\n{}", self.example()),
            None => format!("[grants]\n{}", self.example()),
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// How the host stands to an interface that a component imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Offered to everyone: without a grant it reaches nothing outside the request.
    Inert,
    /// Offered to whoever has a grant of this capability.
    Grantable(Capability),
    /// A WASI interface that the host does not offer to anybody; refused.
    Withheld,
    /// Not a host interface at all: another component must supply it.
    Foreign,
}

/// Interfaces that reach nothing outside the request. `wasi:http/types` only describes requests and
/// responses; sending one is `wasi:http/outgoing-handler` (0.2) or `wasi:http/client` (0.3). Some of them reach
/// further with a grant: directories appear in `wasi:filesystem/preopens`, variables in `wasi:cli/environment`.
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

/// Interfaces that reach outside, each offered to those who have a grant of its package.
///
/// 0.2 and 0.3 of HTTP and sockets; of the proposals their current drafts: key-value 0.2.0-draft2, blobstore
/// 0.2.0-draft, messaging 0.2.0-draft, config 0.2.0-rc.1, logging 0.1.0-draft.
const GRANTABLE: [(&str, Capability); 22] = [
    ("wasi:blobstore/blobstore", Capability::Blobstore),
    ("wasi:blobstore/container", Capability::Blobstore),
    ("wasi:blobstore/types", Capability::Blobstore),
    ("wasi:config/store", Capability::Config),
    ("wasi:http/client", Capability::Http),
    ("wasi:http/handler", Capability::Http),
    ("wasi:http/outgoing-handler", Capability::Http),
    ("wasi:keyvalue/atomics", Capability::Keyvalue),
    ("wasi:keyvalue/batch", Capability::Keyvalue),
    ("wasi:keyvalue/store", Capability::Keyvalue),
    ("wasi:logging/logging", Capability::Logging),
    ("wasi:messaging/producer", Capability::Messaging),
    ("wasi:messaging/request-reply", Capability::Messaging),
    ("wasi:messaging/types", Capability::Messaging),
    ("wasi:sockets/instance-network", Capability::Sockets),
    ("wasi:sockets/ip-name-lookup", Capability::Sockets),
    ("wasi:sockets/network", Capability::Sockets),
    ("wasi:sockets/tcp", Capability::Sockets),
    ("wasi:sockets/tcp-create-socket", Capability::Sockets),
    ("wasi:sockets/types", Capability::Sockets),
    ("wasi:sockets/udp", Capability::Sockets),
    ("wasi:sockets/udp-create-socket", Capability::Sockets),
];

/// How the host stands to the import `name`, whatever its version: a denial that looked at versions would be
/// a denial with holes.
pub fn standing(name: &str) -> Standing {
    let Some(interface) = InterfaceName::parse(name) else {
        return Standing::Foreign;
    };
    let unversioned = interface.unversioned();
    if INERT.binary_search(&unversioned.as_str()).is_ok() {
        return Standing::Inert;
    }
    match GRANTABLE.binary_search_by_key(&unversioned.as_str(), |(name, _)| name) {
        Ok(at) => Standing::Grantable(GRANTABLE[at].1),
        Err(_) if interface.package.starts_with("wasi:") => Standing::Withheld,
        Err(_) => Standing::Foreign,
    }
}

/// The namespace of the names that attribute an import to a part. No component may bring one along: it would claim
/// the authority of another.
const PART_NAMESPACE: &str = "tenon-part:";

/// An import of a composed component that belongs to one of its parts.
///
/// Its name is `tenon-part:PART/wasi-http-outgoing-handler@0.2.6`: the part, and the WASI interface with `:` and `/`
/// turned into `-`. No WASI package that can be granted has a hyphen in its name, so that it can be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartImport {
    /// The part's name in the manifest.
    pub part: String,
    /// The WASI interface it imports.
    pub interface: InterfaceName,
}

impl PartImport {
    /// Reads such a name; `None` for every other.
    pub fn parse(name: &str) -> Option<Self> {
        let outer = InterfaceName::parse(name)?;
        let part = outer.package.strip_prefix(PART_NAMESPACE)?.to_owned();
        let (package, interface) = outer.interface.strip_prefix("wasi-")?.split_once('-')?;
        let interface = InterfaceName {
            package: format!("wasi:{package}"),
            interface: interface.to_owned(),
            version: outer.version,
        };
        Some(Self { part, interface })
    }

    /// Whether `name` stands in the namespace of these names, well-formed or not.
    pub fn is_reserved(name: &str) -> bool {
        name.starts_with(PART_NAMESPACE)
    }
}

impl fmt::Display for PartImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InterfaceName { package, interface, version } = &self.interface;
        write!(f, "{PART_NAMESPACE}{}/{}-{interface}", self.part, package.replace(':', "-"))?;
        match version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

impl Grants {
    /// Whether anything of `capability` was granted.
    pub fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::Http => !self.http.is_empty(),
            Capability::Filesystem => !self.filesystem.is_empty(),
            Capability::Sockets => !self.sockets.is_empty(),
            Capability::Keyvalue => !self.keyvalue.is_empty(),
            Capability::Blobstore => !self.blobstore.is_empty(),
            Capability::Messaging => self.messaging.is_some(),
            Capability::Config => self.config.is_some(),
            Capability::Logging => self.logging,
            Capability::Cli => !self.environment.is_empty() || !self.arguments.is_empty(),
            Capability::Clocks => self.clock.is_some(),
            Capability::Random => self.seed.is_some(),
        }
    }

    /// Whether a component with these grants may import the WASI interface `import`: inert ones always, grantable
    /// ones when their package is granted, others never.
    pub fn covers(&self, import: &str) -> bool {
        match standing(import) {
            Standing::Inert => true,
            Standing::Grantable(capability) => self.has(capability),
            Standing::Withheld | Standing::Foreign => false,
        }
    }

    /// The grant that decides what `import` reaches, where there is one: that of a grantable interface, and that
    /// which fills an inert one.
    pub fn behind(&self, import: &str) -> Option<Capability> {
        let capability = match standing(import) {
            Standing::Grantable(capability) => capability,
            Standing::Inert => {
                let unversioned = InterfaceName::parse(import)?.unversioned();
                match unversioned.as_str() {
                    "wasi:filesystem/preopens" => Capability::Filesystem,
                    "wasi:cli/environment" | "wasi:cli/stdout" | "wasi:cli/stderr" => Capability::Cli,
                    "wasi:clocks/wall-clock" | "wasi:clocks/system-clock" | "wasi:clocks/monotonic-clock" => {
                        Capability::Clocks
                    }
                    "wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed" => {
                        Capability::Random
                    }
                    _ => return None,
                }
            }
            Standing::Withheld | Standing::Foreign => return None,
        };
        self.has(capability).then_some(capability)
    }
}

impl Authorities {
    /// The authority that decides over the import `import` of what is served, and the WASI interface it stands
    /// for: a part's for a [`PartImport`], that of the whole for every other name. `None` for a part that is not
    /// there.
    pub fn over(&self, import: &str) -> Option<(&Authority, String)> {
        match PartImport::parse(import) {
            Some(PartImport { part, interface }) => {
                self.parts.get(&part).map(|authority| (authority, interface.to_string()))
            }
            None if PartImport::is_reserved(import) => None,
            None => Some((&self.whole, import.to_owned())),
        }
    }

    /// Whether what is served may import `import`.
    pub fn covers(&self, import: &str) -> bool {
        self.over(import).is_some_and(|(authority, interface)| authority.grants.covers(&interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_for_the_search() {
        assert!(INERT.is_sorted());
        assert!(GRANTABLE.is_sorted());
        for (name, capability) in GRANTABLE {
            assert!(name.starts_with(&format!("{capability}/")), "{name}");
            assert!(INERT.binary_search(&name).is_err(), "{name} cannot be both");
        }
    }

    #[test]
    fn every_version_of_an_interface_stands_alike() {
        for version in ["", "@0.2.0", "@0.2.12", "@0.3.0", "@0.3.0-rc-2026-01-01", "@9.9.9"] {
            let stands = |name: &str| standing(&format!("{name}{version}"));
            assert_eq!(stands("wasi:clocks/wall-clock"), Standing::Inert);
            assert_eq!(stands("wasi:sockets/tcp"), Standing::Grantable(Capability::Sockets));
            assert_eq!(stands("wasi:http/outgoing-handler"), Standing::Grantable(Capability::Http));
            assert_eq!(stands("wasi:http/client"), Standing::Grantable(Capability::Http));
            assert_eq!(stands("wasi:http/unheard-of"), Standing::Withheld);
            assert_eq!(stands("wasi:nn/graph"), Standing::Withheld);
            assert_eq!(stands("demo:auth/verify"), Standing::Foreign);
            assert_eq!(stands("tenon-part:auth/wasi-http-client"), Standing::Foreign);
        }
        assert_eq!(standing("verify-token"), Standing::Foreign);
    }

    #[test]
    fn without_grants_only_what_is_inert_is_covered() {
        let nothing = Grants::default();
        assert!(nothing.covers("wasi:io/poll@0.2.6"));
        for (name, capability) in GRANTABLE {
            assert!(!nothing.covers(name), "{name}");
            assert_eq!(nothing.behind(name), None);
            assert!(capability.lines(Some("auth")).starts_with("[component.auth.grants]\n\"wasi:"));
        }
        let logging = Grants { logging: true, ..Grants::default() };
        assert!(logging.covers("wasi:logging/logging@0.1.0-draft"));
        assert!(!logging.covers("wasi:http/client@0.3.0"));
        assert!(!logging.covers("wasi:nn/graph"));
        assert!(!logging.covers("demo:auth/verify"));
    }

    #[test]
    fn a_grant_stands_behind_the_inert_interfaces_that_it_fills() {
        let grants = Grants { seed: Some(1), arguments: vec!["x".into()], ..Grants::default() };
        assert_eq!(grants.behind("wasi:random/insecure@0.2.3"), Some(Capability::Random));
        assert_eq!(grants.behind("wasi:cli/stderr@0.3.0"), Some(Capability::Cli));
        assert_eq!(grants.behind("wasi:cli/exit@0.2.0"), None);
        assert_eq!(grants.behind("wasi:filesystem/preopens@0.2.0"), None);
    }

    #[test]
    fn a_parts_import_reads_back() {
        for (part, import, name) in [
            ("auth", "wasi:http/outgoing-handler@0.2.6", "tenon-part:auth/wasi-http-outgoing-handler@0.2.6"),
            ("a-2", "wasi:keyvalue/store@0.2.0-draft2", "tenon-part:a-2/wasi-keyvalue-store@0.2.0-draft2"),
            ("x", "wasi:config/store", "tenon-part:x/wasi-config-store"),
        ] {
            let import = PartImport { part: part.into(), interface: InterfaceName::parse(import).unwrap() };
            assert_eq!(import.to_string(), name);
            assert_eq!(PartImport::parse(name), Some(import));
        }
        for name in ["wasi:http/client", "tenon-part:a/http-client", "tenon-part:a/wasi-http", "tenon-part"] {
            assert_eq!(PartImport::parse(name), None, "{name}");
        }
        assert!(
            Capability::ALL.iter().all(|it| !it.key().contains('-')),
            "or the name could not be read back"
        );
    }

    #[test]
    fn an_import_is_decided_by_the_part_that_has_it() {
        let logging =
            Authority { grants: Grants { logging: true, ..Grants::default() }, ..Authority::default() };
        let of_part =
            Authorities { parts: [("auth".to_owned(), logging.clone())].into(), ..Authorities::default() };
        let of_whole = Authorities { whole: logging, ..Authorities::default() };
        let (own, plain) = ("tenon-part:auth/wasi-logging-logging@0.1.0", "wasi:logging/logging@0.1.0");
        assert!(of_part.covers(own) && !of_part.covers(plain));
        assert!(of_whole.covers(plain) && !of_whole.covers(own));
        assert!(!of_part.covers("tenon-part:other/wasi-logging-logging@0.1.0"));
        assert!(!of_whole.covers("tenon-part:auth/whatever"));
        assert!(of_part.covers("wasi:io/poll@0.2.0"));
    }
}
