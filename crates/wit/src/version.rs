//! Version tracks: which versions of an interface stand for one another.

use std::cmp::Ordering;

use semver::{Version, VersionReq};
use tenon_model::InterfaceName;
use wasmparser::names::split_canonical_version;

/// The interface name with its version cut down to its track: `demo:auth/verify@1.2.3` to
/// `demo:auth/verify@1`, `@0.2.3` to `@0.2`, `@0.0.3` and pre-releases left whole. A plain name is its own track.
///
/// See "Canonical Interface Names" in the Component Model's `Explainer.md`.
pub fn track(name: &str) -> String {
    let Some(interface) = InterfaceName::parse(name) else {
        return name.to_owned();
    };
    match interface.version.as_deref() {
        Some(version) => {
            let canonical = split_canonical_version(version).map_or(version, |(canonical, _)| canonical);
            format!("{}@{canonical}", interface.unversioned())
        }
        None => interface.unversioned(),
    }
}

/// Whether two names mean the same interface on the same version track.
pub fn same_track(left: &str, right: &str) -> bool {
    track(left) == track(right)
}

/// Which of two interface names has the newer version; `None` where either has none that can be compared.
pub fn compare_versions(left: &str, right: &str) -> Option<Ordering> {
    let version = |name: &str| Version::parse(&InterfaceName::parse(name)?.version?).ok();
    Some(version(left)?.cmp_precedence(&version(right)?))
}

/// Whether `path` is a reference to a package, `namespace:name@RANGE` or without the range, and no file; and whether the
/// range is one, else why not.
pub fn registry_reference(path: &str) -> Option<Result<(), String>> {
    let (package, range) =
        path.split_once('@').map_or((path, None), |(package, range)| (package, Some(range)));
    let is_package = InterfaceName::parse(&format!("{package}/i")).is_some_and(|it| it.package == package);
    if !is_package || package.contains('/') {
        return None;
    }
    Some(
        range.map_or(Ok(()), |range| VersionReq::parse(range).map(|_| ()).map_err(|error| error.to_string())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_what_semver_keeps_compatible() {
        assert!(same_track("a:b/c@1.2.3", "a:b/c@1.9.0"));
        assert!(same_track("a:b/c@0.2.6", "a:b/c@0.2.12"));
        assert!(!same_track("a:b/c@0.2.6", "a:b/c@0.3.0"));
        assert!(!same_track("a:b/c@0.0.1", "a:b/c@0.0.2"));
        assert!(!same_track("a:b/c@1.0.0-rc1", "a:b/c@1.0.0"));
        assert!(!same_track("a:b/c", "a:b/c@1.0.0"));
        assert!(!same_track("a:b/c@1.0.0", "a:b/d@1.0.0"));
        assert!(same_track("verify", "verify"));
    }

    #[test]
    fn versions_are_compared_as_versions() {
        let compared = |left, right| compare_versions(left, right);
        assert_eq!(compared("a:b/c@1.9.0", "a:b/c@1.10.0"), Some(Ordering::Less));
        assert_eq!(compared("a:b/c@1.0.0-rc.1", "a:b/c@1.0.0"), Some(Ordering::Less));
        assert_eq!(compared("a:b/c@1.0.0", "a:b/c@1.0.0"), Some(Ordering::Equal));
        assert_eq!(compared("a:b/c", "a:b/c@1.0.0"), None);
    }

    #[test]
    fn packages_are_told_from_files() {
        for path in ["demo:auth", "demo:auth@1.2", "demo:auth@^0.1.3", "demo:auth@>=1.2, <2"] {
            assert_eq!(registry_reference(path), Some(Ok(())), "{path}");
        }
        assert!(registry_reference("demo:auth@soon").is_some_and(|range| range.is_err()));
        for path in
            ["auth.wasm", "vendor/auth@1.2.wasm", "./demo:auth", "auth", "c:/auth.wasm", "../a:b/c.wasm"]
        {
            assert_eq!(registry_reference(path), None, "{path}");
        }
    }
}
