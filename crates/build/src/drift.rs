//! Toolchains that have drifted apart: what a component says of how it was made, and combinations known not to work.
//!
//! A component names its tools in its producers sections, and its WASI snapshots in its imports; a source folder names
//! libraries in its lock file. Each combination in [`KNOWN`] was met; what is not in it is not suspected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use semver::Version;
use serde_json::Value;
use tenon_model::{Diagnostic, InterfaceName, Language, Location};
use tenon_wit::{Inspection, Producer};

/// A lock file larger than this is not read.
const LOCK_BYTES_MAX: u64 = 32 << 20;

/// A combination known not to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What it is called, in what is printed and in the documentation.
    pub name: &'static str,
    /// What is combined.
    pub what: &'static str,
    /// What comes of it.
    pub then: &'static str,
    /// What to do.
    pub mend: &'static str,
}

/// Bindings made before WASI 0.3.0, in a component with async functions.
const ASYNC_BINDINGS: Known = Known {
    name: "async-bindings",
    what: "async functions, streams, futures or WASI 0.3, and wit-bindgen before 0.63 or componentize-py before 0.25",
    then: "they speak the ABI of a draft: the component does not link, or traps at its first call",
    mend: "build it again with wit-bindgen 0.63 (in Rust with the crate `wasip3` 0.10) or componentize-py 0.25, or with `tenon build`",
};
/// Two components that call one another asynchronously, of two releases of the bindings.
const ASYNC_RELEASES: Known = Known {
    name: "async-releases",
    what: "two components with async functions, made by two releases of wit-bindgen before 1.0",
    then: "what one says of streams and tasks the other may read in another way",
    mend: "build both with the same release of wit-bindgen",
};
/// Two releases of `wit-bindgen` in one crate.
const BINDGEN_TWICE: Known = Known {
    name: "bindgen-twice",
    what: "the crate `wasip2` or `wasip3`, and another release of `wit-bindgen` than the one it is built on",
    then: "types of the one are not types of the other, and the result may define `cabi_realloc` twice",
    mend: "match them in Cargo.toml: `wit-bindgen` 0.62 with `wasip2` 2.0, `wit-bindgen` 0.63 with `wasip3` 0.10",
};
/// An adapter newer or older than the world it stands in.
const ADAPTER_SNAPSHOT: Known = Known {
    name: "adapter-snapshot",
    what: "an adapter of WASI 0.1 and a world that import one interface in two releases of WASI 0.2",
    then: "a stream or a file of the one release is no stream or file of the other",
    mend: "build it again with `tenon build` or `tenon componentize`, whose adapter is merged with the world's release",
};
/// StarlingMonkey's fetch handler.
const STARLINGMONKEY_HTTP: Known = Known {
    name: "starlingmonkey-http",
    what: "StarlingMonkey (componentize-js) and a world that exports `wasi:http/incoming-handler` 0.2.11 or newer",
    then: "the engine does not find `handle`, and every request fails",
    mend: "write the world against `wasi:http` 0.2.10, or export an interface of your own: it is then built with QuickJS",
};
/// A release of jco's shim that reads no contracts.
const PREVIEW2_SHIM: Known = Known {
    name: "preview2-shim",
    what: "jco 1.35 and `@bytecodealliance/preview2-shim` 0.26.1",
    then: "`jco componentize` cannot read the folder of contracts (os error 44)",
    mend: "pin it in package.json: \"overrides\": { \"@bytecodealliance/preview2-shim\": \"0.26.0\" }",
};

/// Every combination that is looked for.
pub const KNOWN: [Known; 6] =
    [ASYNC_BINDINGS, ASYNC_RELEASES, BINDGEN_TWICE, ADAPTER_SNAPSHOT, STARLINGMONKEY_HTTP, PREVIEW2_SHIM];

/// The first release of bindings that speaks the released ABI of async functions.
static ASYNC_SINCE: [(&str, Version); 6] = [
    ("wit-bindgen-rust", Version::new(0, 63, 0)),
    ("wit-bindgen-c", Version::new(0, 63, 0)),
    ("wit-bindgen-cpp", Version::new(0, 63, 0)),
    ("wit-bindgen-go", Version::new(0, 63, 0)),
    ("wit-bindgen", Version::new(0, 63, 0)),
    ("componentize-py", Version::new(0, 25, 0)),
];

/// What StarlingMonkey's toolchain calls itself.
const STARLINGMONKEY: [&str; 2] = ["ComponentizeJS", "StarlingMonkey"];
/// The first release whose handler it does not find.
const STARLINGMONKEY_LACKS: Version = Version::new(0, 2, 11);

/// What a component says of how it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The component's name in its manifest.
    pub component: String,
    /// Its file.
    pub file: String,
    /// Languages and tools, of everything nested in it.
    pub producers: Vec<Producer>,
    /// The releases of WASI that it imports or exports, oldest first as text.
    pub wasi: BTreeSet<String>,
    /// Whether it holds an adapter from WASI 0.1.
    pub adapter: bool,
    /// Whether it has async functions, streams or futures, or WASI 0.3.
    pub is_async: bool,
    /// The names of its imports and exports.
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Origin {
    /// Reads it from a component.
    ///
    /// # Errors
    /// When the file is not a component.
    pub fn of(component: &str, file: &str, bytes: &[u8]) -> Result<Self, Diagnostic> {
        let found = tenon_wit::inspect(file, bytes)?;
        let names =
            |externs: &[tenon_wit::Extern]| externs.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        let (imports, exports) = (names(&found.imports), names(&found.exports));
        let wasi: BTreeSet<String> = imports
            .iter()
            .chain(&exports)
            .filter_map(|name| InterfaceName::parse(name))
            .filter(|interface| interface.package.starts_with("wasi:"))
            .filter_map(|interface| interface.version)
            .collect();
        let is_async = wasi.iter().any(|version| version.starts_with("0.3.")) || has_async(&found);
        Ok(Self {
            component: component.to_owned(),
            file: file.to_owned(),
            adapter: has_adapter(&found.component),
            producers: found.producers,
            wasi,
            is_async,
            imports,
            exports,
        })
    }

    /// The release of a tool, if the component names it.
    ///
    /// Libraries of languages have bindings of their own, and name theirs: Rust's and C's standard libraries do. So the
    /// newest that is named counts, and for `wit-bindgen` only what `tenon build` wrote, which knows the author's.
    fn tool(&self, name: &str) -> Option<Version> {
        let has = |name: &str| self.producers.iter().any(|producer| producer.name == name);
        let is_of_a_library = name == "wit-bindgen-c" && has("wit-bindgen-rust");
        if name.starts_with("wit-bindgen") && (!has("tenon") || is_of_a_library) {
            return None;
        }
        let named = self.producers.iter().filter(|producer| producer.name == name);
        // Some write more than a version: `1.2.3 (abc 2026-01-01)`.
        named.filter_map(|it| Version::parse(it.version.split([' ', '-', '(']).next()?).ok()).max()
    }
}

fn has_async(found: &Inspection) -> bool {
    found.imports.iter().chain(&found.exports).flat_map(|it| &it.functions).any(|function| {
        function.contains("async func") || function.contains("stream<") || function.contains("future<")
    })
}

fn has_adapter(component: &tenon_wit::Nested) -> bool {
    let named = |name: &Option<String>| {
        name.as_ref().is_some_and(|name| name.contains("adapter:wasi_snapshot_preview1"))
    };
    component.core_modules.iter().any(|module| named(&module.name))
        || component.components.iter().any(has_adapter)
}

/// What is known not to work of these components, one by one and together.
pub fn drift(origins: &[Origin]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for origin in origins {
        async_bindings(origin, &mut found);
        adapter_snapshot(origin, &mut found);
        starlingmonkey_http(origin, &mut found);
    }
    async_releases(origins, &mut found);
    found
}

fn finding(known: Known, at: &str, what: String, found: String) -> Diagnostic {
    Diagnostic::new("toolchain-drift", what)
        .at(Location::file(at))
        .note("found", found)
        .note("then", known.then)
        .note("known as", known.name)
        .mend(known.mend)
}

fn async_bindings(origin: &Origin, found: &mut Vec<Diagnostic>) {
    if !origin.is_async {
        return;
    }
    for (tool, since) in &ASYNC_SINCE {
        if let Some(version) = origin.tool(tool).filter(|version| version < since) {
            found.push(finding(
                ASYNC_BINDINGS,
                &origin.file,
                format!("`{}` is asynchronous, and its bindings are older than WASI 0.3.0", origin.component),
                format!("{tool} {version}; async functions need {since} or newer"),
            ));
        }
    }
}

fn adapter_snapshot(origin: &Origin, found: &mut Vec<Diagnostic>) {
    if !origin.adapter {
        return;
    }
    let mut releases: BTreeMap<String, BTreeSet<&String>> = BTreeMap::new();
    for name in &origin.imports {
        if name.starts_with("wasi:") {
            releases.entry(tenon_wit::track(name)).or_default().insert(name);
        }
    }
    if let Some(twice) = releases.into_values().find(|names| names.len() > 1) {
        let names: Vec<&str> = twice.into_iter().map(String::as_str).collect();
        found.push(finding(
            ADAPTER_SNAPSHOT,
            &origin.file,
            format!(
                "`{}` imports one interface of WASI twice: its adapter and its world are of two releases",
                origin.component
            ),
            names.join("\n"),
        ));
    }
}

fn starlingmonkey_http(origin: &Origin, found: &mut Vec<Diagnostic>) {
    let Some(engine) = STARLINGMONKEY.iter().find(|name| origin.producers.iter().any(|it| it.name == **name))
    else {
        return;
    };
    let handler = origin.exports.iter().find(|name| {
        InterfaceName::parse(name).is_some_and(|interface| {
            interface.unversioned() == "wasi:http/incoming-handler"
                && interface.version.and_then(|version| Version::parse(&version).ok()).is_some_and(
                    |version| version.major == 0 && version.minor == 2 && version >= STARLINGMONKEY_LACKS,
                )
        })
    });
    if let Some(handler) = handler {
        found.push(finding(
            STARLINGMONKEY_HTTP,
            &origin.file,
            format!("`{}` exports a handler that its engine does not find", origin.component),
            format!("{handler}, made by {engine}"),
        ));
    }
}

fn async_releases(origins: &[Origin], found: &mut Vec<Diagnostic>) {
    let mut releases: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    let mut file = None;
    for origin in origins.iter().filter(|origin| origin.is_async) {
        let tools = ASYNC_SINCE.iter().filter(|(tool, _)| tool.starts_with("wit-bindgen"));
        for (tool, version) in tools.filter_map(|(tool, _)| Some((tool, origin.tool(tool)?))) {
            if version.major == 0 {
                file = file.or(Some(&origin.file));
                let named = format!("{}: {tool} {version}", origin.component);
                releases.entry((version.major, version.minor)).or_default().push(named);
            }
        }
    }
    if let Some(file) = file.filter(|_| releases.len() > 1) {
        let named: Vec<String> = releases.into_values().flatten().collect();
        found.push(finding(
            ASYNC_RELEASES,
            file,
            "components with async functions were made by two releases of wit-bindgen".to_owned(),
            named.join("\n"),
        ));
    }
}

/// What is known not to work of the libraries that a source folder has locked.
pub fn source_drift(component: &str, folder: &Path, language: Language) -> Vec<Diagnostic> {
    match language {
        Language::Rust => cargo_lock(component, folder).into_iter().collect(),
        Language::JavaScript | Language::TypeScript => shim(component, folder).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn text(file: &Path) -> Option<String> {
    let small = file.metadata().ok().is_some_and(|it| it.len() <= LOCK_BYTES_MAX);
    small.then(|| std::fs::read_to_string(file).ok()).flatten()
}

/// The versions of a crate in a `Cargo.lock`, which has a line for the name and one for the version; oldest first.
pub(crate) fn locked(lock: &str, name: &str) -> BTreeSet<Version> {
    let mut lines = lock.lines().peekable();
    let mut versions = BTreeSet::new();
    while let Some(line) = lines.next() {
        let is_it = line.strip_prefix("name = \"").and_then(|it| it.strip_suffix('"')) == Some(name);
        if let (true, Some(next)) = (is_it, lines.peek()) {
            let version = next.strip_prefix("version = \"").and_then(|it| it.strip_suffix('"'));
            versions.extend(version.and_then(|it| Version::parse(it).ok()));
        }
    }
    versions
}

fn cargo_lock(component: &str, folder: &Path) -> Option<Diagnostic> {
    let file = folder.join("Cargo.lock");
    let lock = text(&file)?;
    let bindings = locked(&lock, "wit-bindgen");
    let wasip: Vec<String> = ["wasip2", "wasip3"]
        .iter()
        .flat_map(|name| locked(&lock, name).into_iter().map(move |version| format!("{name} {version}")))
        .collect();
    if bindings.len() < 2 || wasip.is_empty() {
        return None;
    }
    let named: Vec<String> =
        bindings.iter().map(|version| format!("wit-bindgen {version}")).chain(wasip).collect();
    Some(finding(
        BINDGEN_TWICE,
        &file.display().to_string(),
        format!("`{component}` is built with two releases of `wit-bindgen`"),
        named.join("\n"),
    ))
}

fn shim(component: &str, folder: &Path) -> Option<Diagnostic> {
    const SHIM: &str = "@bytecodealliance/preview2-shim";
    let version = |file: &Path, find: &dyn Fn(&Value) -> Value| {
        let found = find(&serde_json::from_str(&text(file)?).ok()?);
        found.as_str().map(str::to_owned)
    };
    let installed = folder.join("node_modules").join(SHIM).join("package.json");
    let lock = folder.join("package-lock.json");
    let (file, version) = [
        version(&installed, &|package| package["version"].clone()).map(|found| (installed, found)),
        version(&lock, &|lock| lock["packages"][format!("node_modules/{SHIM}")]["version"].clone())
            .map(|found| (lock, found)),
    ]
    .into_iter()
    .flatten()
    .next()?;
    (version == "0.26.1").then(|| {
        finding(
            PREVIEW2_SHIM,
            &file.display().to_string(),
            format!("`{component}` has a release of jco's library that cannot read contracts"),
            format!("{SHIM} {version}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(producers: &[(&str, &str)], imports: &[&str], exports: &[&str]) -> Origin {
        let producers = producers
            .iter()
            .chain(&[("tenon", "0.1.0")])
            .map(|(name, version)| Producer {
                field: "processed-by".into(),
                name: (*name).into(),
                version: (*version).into(),
            })
            .collect();
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Origin {
            component: "part".into(),
            file: "part.wasm".into(),
            producers,
            is_async: imports.iter().chain(exports).any(|name| name.contains("@0.3.")),
            adapter: true,
            imports: owned(imports),
            exports: owned(exports),
            ..Origin::default()
        }
    }

    fn names(found: &[Diagnostic]) -> Vec<&str> {
        found
            .iter()
            .flat_map(|it| &it.notes)
            .filter(|note| note.label == "known as")
            .map(|note| note.text.as_str())
            .collect()
    }

    #[test]
    fn what_is_known_is_found_and_its_neighbour_is_not() {
        let http3 = &["wasi:http/handler@0.3.0"][..];
        for (producers, imports, exports, expected) in [
            (&[("wit-bindgen-rust", "0.62.0")][..], &[][..], http3, &["async-bindings"][..]),
            (&[("wit-bindgen-rust", "0.63.0")], &[], http3, &[]),
            (&[("wit-bindgen-rust", "0.62.0")], &["wasi:io/poll@0.2.12"], &[], &[]),
            (&[("wit-bindgen-rust", "0.45.0"), ("wit-bindgen-rust", "0.63.0")], &[], http3, &[]),
            (&[("wit-bindgen-rust", "0.63.0"), ("wit-bindgen-c", "0.51.0")], &[], http3, &[]),
            (&[("componentize-py", "0.24.9")], &[], http3, &["async-bindings"]),
            (&[], &["wasi:io/poll@0.2.0", "wasi:io/poll@0.2.12"], &[], &["adapter-snapshot"]),
            (&[], &["wasi:io/poll@0.2.12", "wasi:io/error@0.2.12"], &[], &[]),
            (
                &[("ComponentizeJS", "0.23.0")],
                &[],
                &["wasi:http/incoming-handler@0.2.12"],
                &["starlingmonkey-http"],
            ),
            (&[("ComponentizeJS", "0.23.0")], &[], &["wasi:http/incoming-handler@0.2.10"], &[]),
            (&[("other", "1.0.0")], &[], &["wasi:http/incoming-handler@0.2.12"], &[]),
        ] {
            assert_eq!(
                names(&drift(&[origin(producers, imports, exports)])),
                expected,
                "{producers:?} {exports:?}"
            );
        }
    }

    #[test]
    fn releases_are_compared_among_async_components_only() {
        let http3 = &["wasi:http/handler@0.3.0"][..];
        let (new, newer) = (&[("wit-bindgen-rust", "0.63.0")][..], &[("wit-bindgen-c", "0.64.1")][..]);
        assert_eq!(names(&drift(&[origin(new, &[], http3), origin(newer, &[], http3)])), ["async-releases"]);
        assert!(drift(&[origin(new, &[], http3), origin(newer, &[], &[])]).is_empty());
        assert!(drift(&[origin(new, &[], http3), origin(new, &[], http3)]).is_empty());
    }

    #[test]
    fn lock_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let package = |name: &str, version: &str| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n")
        };
        let found = |language| source_drift("part", root.path(), language);
        assert!(found(Language::Rust).is_empty());
        let one = package("wit-bindgen", "0.63.0") + &package("wasip3", "0.10.0");
        write("Cargo.lock", &one);
        assert!(found(Language::Rust).is_empty());
        write("Cargo.lock", &(one + &package("wit-bindgen", "0.62.0")));
        assert_eq!(names(&found(Language::Rust)), ["bindgen-twice"]);
        assert!(found(Language::Go).is_empty());
        let shim = |version: &str| {
            format!(
                r#"{{"packages":{{"node_modules/@bytecodealliance/preview2-shim":{{"version":"{version}"}}}}}}"#
            )
        };
        write("package-lock.json", &shim("0.26.1"));
        assert_eq!(names(&found(Language::TypeScript)), ["preview2-shim"]);
        write("node_modules/@bytecodealliance/preview2-shim/package.json", r#"{"version":"0.26.0"}"#);
        assert!(found(Language::JavaScript).is_empty(), "what is installed counts more than what is locked");
    }

    #[test]
    fn the_documentation_has_every_combination() {
        let docs = include_str!("../../../docs/languages.md");
        for known in KNOWN {
            let row = format!("| `{}` | {} | {} | {} |", known.name, known.what, known.then, known.mend);
            assert!(docs.contains(&row), "docs/languages.md lacks this row:\n{row}");
        }
    }
}
