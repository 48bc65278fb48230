//! What a person wrote in `composition.toml` or `tenon.toml`, turned into types that cannot be half right.
//!
//! The whole file is read before anything is said, so that one run reports everything that is wrong in it.

mod reader;
mod reference;

pub use reference::{TABLES, Table};

use tenon_model::{Diagnostics, InterfaceName, Language, Limits, Location};

/// A composition: named components, how they are joined, and the limits of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The file it was read from, as the person named it.
    pub file: String,
    /// The name of the composition; the folder's name stands in where there is none.
    pub name: Option<String>,
    /// Imports left open on purpose.
    pub open: Vec<OpenPattern>,
    /// The components, in order of their names.
    pub components: Vec<Component>,
    /// The limits of one request, with defaults where the file says nothing.
    pub limits: Limits,
}

impl Manifest {
    /// Reads the manifest `text`, which is the content of `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line and column.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        reader::read(file, text)
    }

    /// The component called `name`.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.iter().find(|component| component.name == name)
    }
}

/// One component of a composition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its name: kebab-case, unique in the composition.
    pub name: String,
    /// Where its table starts.
    pub at: Location,
    /// The component's file, relative to the manifest.
    pub path: String,
    /// Where `path` was written; `None` when it is the default of a component that has a source.
    pub path_at: Option<Location>,
    /// The folder of its source, relative to the manifest, for a component that is built.
    pub source: Option<String>,
    /// The folder of its contracts, relative to the manifest.
    pub wit: Option<String>,
    /// The world it targets.
    pub world: Option<String>,
    /// The language of its source, where the person names it.
    pub language: Option<Language>,
    /// Which of its exports the composition exports.
    pub exports: Exports,
    /// How its imports are satisfied, in order of the names written.
    pub wires: Vec<Wire>,
}

/// Which exports of a component the composition exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exports {
    /// All, when no other component imports from it; else none.
    Unsaid,
    /// All.
    All,
    /// None.
    None,
    /// Those named; a version may be left out.
    Named(Vec<Named>),
}

/// A name and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// Where.
    pub at: Location,
}

/// One import of a component and the export that shall satisfy it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The import; a version may be left out.
    pub import: Named,
    /// The component that exports what is wanted.
    pub component: Named,
    /// The name of that export, when it is not the same; a version may be left out.
    pub export: Option<Named>,
}

/// An import that is left open on purpose: an interface without its version, all of a package (`ns:package/*`),
/// or a plain name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPattern {
    /// As it was written.
    pub text: String,
    /// Where.
    pub at: Location,
}

impl OpenPattern {
    /// Whether the import `name` is meant, whatever its version.
    pub fn matches(&self, name: &str) -> bool {
        match (InterfaceName::parse(name), self.text.strip_suffix("/*")) {
            (Some(interface), Some(package)) => interface.package == package,
            (Some(interface), None) => interface.unversioned() == self.text,
            (None, _) => name == self.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Manifest {
        Manifest::parse("tenon.toml", text).unwrap()
    }

    fn codes(text: &str) -> Vec<&'static str> {
        Manifest::parse("tenon.toml", text).unwrap_err().iter().map(|found| found.code).collect()
    }

    #[test]
    fn reads_everything_a_manifest_may_say() {
        let manifest = parse(
            r#"
            name = "storefront"
            open = ["acme:metrics/*", "acme:log/write", "tick"]

            [component.handler]
            source = "handler"
            wit = "contracts"
            world = "demo:app/handler"
            language = "typescript"
            export = ["handle"]
            [component.handler.imports]
            "demo:auth/verify" = { component = "auth", export = "demo:auth/check@0.2.0" }

            [component.auth]
            path = "auth.wasm"
            export = false

            [limits]
            wall = "20s"
            cpu = "500ms"
            memory = "64MiB"
            request-body = "1MB"
            concurrency = 16
            "#,
        );
        assert_eq!(manifest.name.as_deref(), Some("storefront"));
        assert_eq!(
            manifest.components.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
            ["auth", "handler"]
        );
        let auth = manifest.component("auth").unwrap();
        assert_eq!((auth.path.as_str(), &auth.exports), ("auth.wasm", &Exports::None));
        let handler = manifest.component("handler").unwrap();
        assert_eq!(handler.path, ".tenon/handler.wasm", "the default where there is a source");
        assert_eq!(handler.language, Some(Language::TypeScript));
        assert_eq!(handler.at.position.unwrap().line, 5);
        let [wire] = handler.wires.as_slice() else { panic!("one wire") };
        assert_eq!(wire.import.name, "demo:auth/verify");
        assert_eq!(wire.import.at.to_string(), "tenon.toml:12:13");
        assert_eq!(wire.component.name, "auth");
        assert_eq!(wire.export.as_ref().unwrap().name, "demo:auth/check@0.2.0");
        assert_eq!(
            manifest.limits,
            Limits {
                wall: Duration::from_secs(20),
                cpu: Duration::from_millis(500),
                memory_bytes: 64 << 20,
                request_body_bytes: 1_000_000,
                concurrency: 16,
                ..Limits::default()
            }
        );
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let manifest = parse("[component.a]\npath = \"a.wasm\"");
        assert_eq!((manifest.name, manifest.limits), (None, Limits::default()));
        assert_eq!(manifest.components[0].exports, Exports::Unsaid);
        assert_eq!(parse("").components, [], "a manifest may hold limits only");
    }

    #[test]
    fn the_order_of_the_tables_means_nothing() {
        let (a, b) = ("[component.a]\npath = \"a.wasm\"\n", "[component.b]\npath = \"b.wasm\"\n");
        let names = |text: String| parse(&text).components.into_iter().map(|it| it.name).collect::<Vec<_>>();
        assert_eq!(names(format!("{a}{b}")), names(format!("{b}{a}")));
    }

    #[test]
    fn names_are_kebab_case() {
        for name in ["a", "auth", "order-store", "auth-2", "a1-b2"] {
            parse(&format!("[component.{name}]\npath = \"a.wasm\""));
        }
        for name in ["Auth", "order_store", "2auth", "-a", "a-", "a--b"] {
            assert_eq!(codes(&format!("[component.{name}]\npath = \"a.wasm\"")), ["bad-name"], "{name}");
        }
    }

    #[test]
    fn limits_of_nothing_are_refused() {
        for line in ["wall = \"0s\"", "cpu = \"0ms\"", "memory = \"0B\"", "wall = \"soon\"", "memory = \"1\""]
        {
            assert_eq!(codes(&format!("[limits]\n{line}")), ["manifest-value"], "{line}");
        }
        for line in ["concurrency = 0", "concurrency = -1", "concurrency = 4294967296", "wall = 30"] {
            assert_eq!(codes(&format!("[limits]\n{line}")), ["manifest-type"], "{line}");
        }
    }

    #[test]
    fn open_patterns_match_every_version() {
        let manifest = parse("open = [\"acme:metrics/*\", \"acme:log/write\", \"tick\"]");
        let matches = |name: &str| manifest.open.iter().any(|pattern| pattern.matches(name));
        for name in ["acme:metrics/count@1.0.0", "acme:metrics/gauge", "acme:log/write@0.2.0", "tick"] {
            assert!(matches(name), "{name}");
        }
        for name in ["acme:metric/count", "acme:log/read", "tock", "other:metrics/count"] {
            assert!(!matches(name), "{name}");
        }
        for text in ["acme:log/write@1.0.0", "*", "acme:*", "acme:log", "Acme"] {
            assert_eq!(codes(&format!("open = [\"{text}\"]")), ["manifest-value"], "{text}");
        }
    }
}
