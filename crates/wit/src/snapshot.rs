//! Which snapshot of WASI a component was built for.
//!
//! Before an interface is released it is published in snapshots, `0.2.0-rc-2023-12-05` for one, whose types differ from
//! one another and from the release. Toolchains of their time wrote components against them, and such a component can
//! only be built again: no host that serves the release can run it.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use tenon_model::{Diagnostic, InterfaceName, Location};
use wasmparser::{Parser, Payload};

/// The packages that are part of released WASI. Others, `wasi:keyvalue` for one, exist as proposals only, and carry
/// the version of a draft for good reason.
const RELEASED: [&str; 7] =
    ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:http", "wasi:io", "wasi:random", "wasi:sockets"];

/// What the host offers of them, for people.
const OFFERED: &str = "WASI 0.2 (0.2.0 to 0.2.12) and WASI 0.3 (0.3.0)";

/// How many interfaces of one version a diagnostic lists.
const LISTED_MAX: usize = 6;

/// How old a version is, told by what has to be done about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    /// Before 0.2.0: preview 1 in a component's clothes, a release candidate of 0.2.0, or no version at all.
    Before02,
    /// A release candidate of 0.3.0.
    Before03,
    /// Newer than anything that is offered.
    After,
}

/// How old `version` is; `None` when it is a released one.
fn age(version: Option<&str>) -> Option<Age> {
    let Some(version) = version.and_then(|version| Version::parse(version).ok()) else {
        return Some(Age::Before02);
    };
    match (version.major, version.minor, version.pre.is_empty()) {
        (0, 2 | 3, true) => None,
        (0, 0..=2, _) => Some(Age::Before02),
        (0, 3, false) if version.patch == 0 => Some(Age::Before03),
        _ => Some(Age::After),
    }
}

/// Accepts a component whose WASI interfaces are of a release, and says of any other which snapshots it was built for,
/// what is offered instead, and what to build it again with.
///
/// Two releases of one line, 0.2.3 and 0.2.6, are compatible and may stand side by side.
///
/// # Errors
/// One diagnostic with the code `wasi-snapshot`.
pub fn require_released_wasi(file: &str, bytes: &[u8]) -> Result<(), Diagnostic> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut ages = BTreeSet::new();
    for name in names(bytes) {
        let Some(interface) = InterfaceName::parse(&name) else { continue };
        if !RELEASED.contains(&interface.package.as_str()) {
            continue;
        }
        ages.extend(age(interface.version.as_deref()));
        let version = interface.version.unwrap_or_else(|| "without a version".to_owned());
        versions.entry(version).or_default().insert(name);
    }
    let Some(age) = ages.first() else { return Ok(()) };
    let is_old =
        |version: &&String| self::age(Version::parse(version).ok().map(|_| version.as_str())).is_some();
    let old: Vec<&str> = versions.keys().filter(is_old).map(String::as_str).collect();
    let released: Vec<&str> =
        versions.keys().filter(|version| !is_old(version)).map(String::as_str).collect();
    let message = match released.as_slice() {
        [] => format!("`{file}` is built for WASI {}, which is not offered", old.join(" and ")),
        released => format!(
            "`{file}` mixes WASI {}, which is not offered, with WASI {}",
            old.join(" and "),
            released.join(", ")
        ),
    };
    let mut diagnostic = Diagnostic::new("wasi-snapshot", message).at(Location::file(file));
    for (version, interfaces) in &versions {
        let shown: Vec<&str> = interfaces.iter().take(LISTED_MAX).map(String::as_str).collect();
        let more = match interfaces.len().saturating_sub(LISTED_MAX) {
            0 => String::new(),
            more => format!("\nand {more} more"),
        };
        diagnostic = diagnostic.note(format!("found {version}"), format!("{}{more}", shown.join("\n")));
    }
    diagnostic = diagnostic.note("offered", OFFERED);
    if let Some(tools) = tools(file, bytes) {
        diagnostic = diagnostic.note("built with", tools);
    }
    Err(diagnostic.mend(match age {
        Age::Before02 => {
            "Build it again with a toolchain for released WASI 0.2, 0.2.0 or newer: Rust 1.82 or newer (`cargo build --target wasm32-wasip2`), \
             or `tenon build` in every language Tenon builds. A part that is only a library of another toolchain has to be updated with it."
        }
        Age::Before03 => {
            "Build it again with bindings for released WASI 0.3.0: the crate `wasip3` 0.10 or newer in Rust, jco 1.35 for JavaScript, \
             componentize-py 0.25 for Python, or `tenon build` in every language Tenon builds."
        }
        Age::After => {
            "It is newer than what is offered: update Tenon, or build the component again for WASI 0.2 or 0.3.0."
        }
    }))
}

/// The names of what the component itself imports and exports, not of what is nested in it.
fn names(bytes: &[u8]) -> Vec<String> {
    let (mut names, mut depth) = (Vec::new(), 0_usize);
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                names.extend(section.into_iter().flatten().map(|import| import.name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                names.extend(section.into_iter().flatten().map(|export| export.name.name.to_owned()));
            }
            _ => {}
        }
    }
    names
}

/// The tools that wrote the component, as far as it says.
fn tools(file: &str, bytes: &[u8]) -> Option<String> {
    let producers = crate::inspect(file, bytes).ok()?.producers;
    let tools: Vec<String> = producers
        .iter()
        .filter(|producer| producer.field != "language")
        .map(|producer| format!("{} {}", producer.name, producer.version).trim_end().to_owned())
        .collect();
    (!tools.is_empty()).then(|| tools.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> Result<(), String> {
        let imports: String = names.iter().map(|name| format!("(import \"{name}\" (instance))")).collect();
        let bytes = wat::parse_str(format!("(component {imports})")).unwrap();
        require_released_wasi("a.wasm", &bytes).map_err(|diagnostic| {
            assert_eq!(diagnostic.code, "wasi-snapshot");
            diagnostic.to_string()
        })
    }

    #[test]
    fn releases_may_stand_side_by_side() {
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["wasi:io/poll@0.2.3", "wasi:io/error@0.2.12", "wasi:http/types@0.3.0"]), Ok(()));
        assert_eq!(
            check(&["acme:a/b@0.2.0-rc-1", "wasi:keyvalue/store@0.2.0-draft"]),
            Ok(()),
            "proposals are drafts"
        );
    }

    #[test]
    fn a_snapshot_is_named_with_what_is_offered_and_the_mend() {
        let said = check(&["wasi:http/types@0.2.0-rc-2023-11-10"]).unwrap_err();
        assert!(said.contains("is built for WASI 0.2.0-rc-2023-11-10"), "{said}");
        assert!(said.contains("0.2.0 to 0.2.12") && said.contains("Rust 1.82"), "{said}");
        let said = check(&["wasi:clocks/monotonic-clock@0.3.0-rc-2025-09-16"]).unwrap_err();
        assert!(said.contains("0.3.0-rc-2025-09-16") && said.contains("`wasip3` 0.10"), "{said}");
        let said = check(&["wasi:io/poll@0.1.0"]).unwrap_err();
        assert!(said.contains("WASI 0.1.0"), "{said}");
        let said = check(&["wasi:io/poll"]).unwrap_err();
        assert!(said.contains("without a version"), "{said}");
        let said = check(&["wasi:io/poll@0.4.0"]).unwrap_err();
        assert!(said.contains("update Tenon"), "{said}");
    }

    #[test]
    fn a_mixture_names_all_its_versions() {
        let said = check(&["wasi:io/poll@0.2.3", "wasi:http/types@0.2.0-rc-2023-12-05"]).unwrap_err();
        assert!(
            said.contains("mixes WASI 0.2.0-rc-2023-12-05, which is not offered, with WASI 0.2.3"),
            "{said}"
        );
        let said = check(&["wasi:io/poll@0.3.0-rc-1", "wasi:http/types@0.2.0-rc-2"]).unwrap_err();
        assert!(said.contains("WASI 0.2.0-rc-2 and 0.3.0-rc-1"), "{said}");
    }
}
