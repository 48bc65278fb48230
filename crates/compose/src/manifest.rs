//! What a person wrote in `composition.toml` or `tenon.toml`, turned into types that cannot be half right.
//!
//! The whole file is read before anything is said, so that one run reports everything that is wrong in it.

mod reader;
mod reference;
mod wac;

pub use reference::{TABLES, Table};
pub use wac::{Dependency, deps_paths};

use tenon_model::{
    AppName, Authorities, Diagnostics, Goal, InterfaceName, Language, Limits, Location, Reuse, RolloutPlan,
    Route, TenantId,
};
use tenon_wit::ErrorStatuses;

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
    /// What the composition exports under names that are written for it, beside what its components export: each
    /// the name (`import`), the component and its export.
    pub reexports: Vec<Wire>,
    /// The limits of one request, with defaults where the file says nothing.
    pub limits: Limits,
    /// How often one sandbox is used.
    pub reuse: Reuse,
    /// Whether the parts are made smaller and quicker to instantiate.
    pub optimize: bool,
    /// What each component was granted, and what of the host it may use up. Directories are as written.
    pub authorities: Authorities,
    /// The statuses of typed errors, where they are not the usual one.
    pub errors: ErrorStatuses,
    /// Where and how it is deployed, as far as the manifest says.
    pub deploy: Deploy,
}

/// `[deploy]`: where and how an app is deployed; what is said here, the command line may say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deploy {
    /// Whose it is.
    pub tenant: Option<TenantId>,
    /// What it is called; else the manifest's name.
    pub app: Option<AppName>,
    /// Which requests are for it.
    pub routes: Vec<Route>,
    /// The path that a new revision has to answer with a status below 500 before it gets requests.
    pub health: Option<String>,
    /// How a new revision takes over; all at once where nothing is said.
    pub rollout: Option<RolloutPlan>,
}

impl Manifest {
    /// Reads the manifest `text`, which is the content of `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line and column.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        reader::read(file, text)
    }

    /// Reads the WAC file `text`, which is the content of `file`. `locate` tells where the component of a package lies,
    /// relative to the file, if it is anywhere.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line and column.
    pub fn parse_wac(
        file: &str,
        text: &str,
        locate: &mut dyn FnMut(&Dependency) -> Option<String>,
    ) -> Result<Self, Diagnostics> {
        wac::read(file, text, locate)
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
    /// Whether the start of its language's runtime may be done at build time; it may unless the person says otherwise.
    pub snapshot: bool,
    /// What its core modules are optimised for when it is built, where they are.
    pub optimize: Option<Goal>,
    /// Which of its exports the composition exports.
    pub exports: Exports,
    /// How its imports are satisfied, in order of the names written.
    pub wires: Vec<Wire>,
    /// Components whose exports satisfy every other import that they have by name (WAC's `...NAME`).
    pub spreads: Vec<Named>,
    /// Whether all the rest of its imports is left open on purpose (WAC's `...`).
    pub open: bool,
    /// Where its own memory limit was written, when it has one.
    pub memory_at: Option<Location>,
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

/// One import of a component, or one export of the composition, and the export that shall be it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The import; a version may be left out. `demo:auth/verify.verify-token` is one function of an interface.
    pub import: Named,
    /// The component that exports what is wanted.
    pub component: Named,
    /// The name of that export, when it is not the same; a version may be left out. A function of an interface is
    /// named as in `import`, or by its own name where that is enough.
    pub export: Option<Named>,
}

/// An import that is left open on purpose: an interface without its version, all of a package (`ns:package/*`) or of a
/// namespace (`ns:*`), or a plain name.
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
        let Some(interface) = InterfaceName::parse(name) else { return name == self.text };
        match (self.text.strip_suffix("/*"), self.text.strip_suffix('*')) {
            (Some(package), _) => interface.package == package,
            (None, Some(namespace)) => interface.package.starts_with(namespace),
            (None, None) => interface.unversioned() == self.text,
        }
    }

    /// What it names, without the star.
    pub(crate) fn stem(&self) -> &str {
        self.text.trim_end_matches(['*', '/', ':'])
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
    fn a_snapshot_is_taken_unless_it_is_refused() {
        let snapshot = |line: &str| {
            parse(&format!("[component.a]\nsource = \"a\"\n{line}")).component("a").unwrap().snapshot
        };
        assert!(snapshot("") && snapshot("snapshot = true") && !snapshot("snapshot = false"));
        assert_eq!(codes("[component.a]\nsource = \"a\"\nsnapshot = \"no\""), ["manifest-type"]);
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
    fn sandboxes_are_used_again_where_it_says_so() {
        let reuse = |text: &str| parse(text).reuse;
        assert_eq!(reuse(""), Reuse { requests: 1, concurrent: 1 });
        assert_eq!(reuse("reuse = { requests = 100 }"), Reuse { requests: 100, concurrent: 1 });
        assert_eq!(
            reuse("[reuse]\nrequests = 100\nconcurrent = 16"),
            Reuse { requests: 100, concurrent: 16 }
        );
        assert_eq!(codes("reuse = { concurrent = 2 }"), ["missing-key"]);
        assert_eq!(codes("reuse = { request = 2 }"), ["unknown-key"]);
        for wrong in
            ["{ requests = 0 }", "{ requests = 2, concurrent = 0 }", "{ requests = 2, concurrent = 129 }"]
        {
            assert_eq!(codes(&format!("reuse = {wrong}")), ["manifest-type"], "{wrong}");
        }
        assert_eq!(codes("reuse = 100"), ["manifest-type"]);
        assert_eq!(codes("[component.a]\npath = \"a.wasm\"\nreuse = { requests = 2 }"), ["unknown-key"]);
    }

    #[test]
    fn reads_every_grant() {
        use tenon_model::*;

        let manifest = parse(
            r#"
            [component.shop]
            path = "shop.wasm"
            [component.shop.grants]
            "wasi:http" = [
                { host = "API.example.com" },
                { host = "*.internal", scheme = "http", port = 8080, path = "/v1//x/", private = true },
            ]
            "wasi:filesystem" = [{ directory = "../data", at = "/data/", access = "write" }]
            "wasi:sockets" = [
                { protocol = "tcp", direction = "connect", host = "127.0.0.1", port = 5432 },
                { protocol = "udp", direction = "listen", host = "::1", port = "1000-2000" },
            ]
            "wasi:keyvalue" = [{ bucket = "" }, { bucket = "a", access = "write", store = "redis://127.0.0.1:6379/0" }]
            "wasi:blobstore" = [{ container = "images", access = "write" }]
            "wasi:messaging" = { publish = ["orders.*"], subscribe = ["orders.new"] }
            "wasi:config" = { greeting = "hello" }
            "wasi:logging" = true
            "wasi:cli" = { environment = { A = "b" }, arguments = ["x"] }
            "wasi:clocks" = { now = 2026-01-01T00:00:00Z }
            "wasi:random" = { seed = 42 }
            [component.shop.limits]
            memory = "16MiB"
            open-files = 0

            [component.quiet]
            path = "quiet.wasm"

            [limits]
            open-files = 8
            queue-wait = "0s"
            response-body = "1MiB"
            "#,
        );
        let shop = &manifest.authorities.parts["shop"];
        let bucket = |bucket: &str, store, access| BucketGrant { bucket: bucket.into(), store, access };
        let wanted = Grants {
            http: vec![
                HttpGrant {
                    scheme: HttpScheme::Https,
                    host: HostPattern::Exactly("api.example.com".into()),
                    port: 443,
                    path: "/".into(),
                    private: false,
                },
                HttpGrant {
                    scheme: HttpScheme::Http,
                    host: HostPattern::Below("internal".into()),
                    port: 8080,
                    path: "/v1/x/".into(),
                    private: true,
                },
            ],
            filesystem: vec![DirectoryGrant {
                directory: "../data".into(),
                at: "/data".into(),
                access: Access::Write,
            }],
            sockets: vec![
                SocketGrant {
                    protocol: SocketProtocol::Tcp,
                    direction: SocketDirection::Connect,
                    host: "127.0.0.1".into(),
                    ports: (5432, 5432),
                },
                SocketGrant {
                    protocol: SocketProtocol::Udp,
                    direction: SocketDirection::Listen,
                    host: "::1".into(),
                    ports: (1000, 2000),
                },
            ],
            keyvalue: vec![
                bucket("", StoreName::Embedded, Access::Read),
                bucket("a", StoreName::Redis("redis://127.0.0.1:6379/0".into()), Access::Write),
            ],
            blobstore: vec![ContainerGrant { container: "images".into(), access: Access::Write }],
            messaging: Some(MessagingGrant {
                publish: ["orders.*".to_owned()].into(),
                subscribe: ["orders.new".to_owned()].into(),
            }),
            config: Some([("greeting".to_owned(), "hello".to_owned())].into()),
            logging: true,
            environment: [("A".to_owned(), "b".to_owned())].into(),
            arguments: vec!["x".into()],
            clock: Some(parse_time("2026-01-01T00:00:00Z").unwrap()),
            seed: Some(42),
        };
        assert_eq!(shop.grants, wanted);
        assert_eq!((shop.memory_bytes, shop.outside.open_files), (Some(16 << 20), 0));
        let quiet = &manifest.authorities.parts["quiet"];
        assert_eq!(quiet.grants, Grants::default());
        assert_eq!(
            (quiet.memory_bytes, quiet.outside.open_files),
            (None, 8),
            "the request's where it says nothing"
        );
        assert_eq!(manifest.authorities.whole.outside.open_files, 8);
        assert_eq!(manifest.limits.queue_wait, Duration::ZERO);
    }

    #[test]
    fn a_grant_that_means_nothing_is_refused() {
        let wrong = |line: &str| codes(&format!("[grants]\n{line}"));
        for line in [
            r#""wasi:http" = [{ host = "a.com", path = "/../x" }]"#,
            r#""wasi:http" = [{ host = "a.com", path = "/%2e" }]"#,
            r#""wasi:http" = [{ host = "https://a.com" }]"#,
            r#""wasi:http" = [{ host = "a.com", scheme = "ftp" }]"#,
            r#""wasi:http" = []"#,
            r#""wasi:filesystem" = [{ directory = "data", at = "/../etc" }]"#,
            r#""wasi:filesystem" = [{ directory = "~/data", at = "/data" }]"#,
            r#""wasi:filesystem" = [{ directory = "data", at = "/data", access = "admin" }]"#,
            r#""wasi:sockets" = [{ protocol = "tcp", direction = "listen", host = "localhost", port = 1 }]"#,
            r#""wasi:sockets" = [{ protocol = "tcp", direction = "connect", host = "a", port = "2-1" }]"#,
            r#""wasi:keyvalue" = [{ bucket = "a", store = "memcached://b" }]"#,
            r#""wasi:blobstore" = [{ container = "" }]"#,
            r#""wasi:messaging" = { publish = ["*"] }"#,
            r#""wasi:messaging" = {}"#,
            r#""wasi:cli" = { environment = { "A=B" = "c" } }"#,
            r#""wasi:cli" = {}"#,
            r#""wasi:clocks" = { now = "soon" }"#,
            r#""wasi:clocks" = { now = 2026-01-01 }"#,
            r#""wasi:random" = {}"#,
        ] {
            assert_eq!(wrong(line), ["manifest-value"], "{line}");
        }
        for line in [
            r#""wasi:http" = { host = "a.com" }"#,
            r#""wasi:http" = true"#,
            r#""wasi:http" = ["a.com"]"#,
            r#""wasi:http" = [{ host = 1 }]"#,
            r#""wasi:http" = [{ host = "a.com", port = 0 }]"#,
            r#""wasi:http" = [{ host = "a.com", port = 65536 }]"#,
            r#""wasi:http" = [{ host = "a.com", private = "yes" }]"#,
            r#""wasi:config" = { a = 1 }"#,
            r#""wasi:logging" = "yes""#,
            r#""wasi:random" = { seed = -1 }"#,
            r#""wasi:random" = { seed = 18446744073709551616 }"#,
            r#""wasi:cli" = { arguments = [1] }"#,
        ] {
            assert_eq!(wrong(line), ["manifest-type"], "{line}");
        }
        for line in [
            r#""wasi:http" = [{}]"#,
            r#""wasi:filesystem" = [{ directory = "data" }]"#,
            r#""wasi:keyvalue" = [{ access = "read" }]"#,
        ] {
            assert_eq!(wrong(line), ["missing-key"], "{line}");
        }
        for line in [
            r#""wasi:nn" = true"#,
            r#""wasi:http/outgoing-handler" = [{ host = "a.com" }]"#,
            r#""wasi:http" = [{ host = "a.com", hots = "b" }]"#,
            r#""wasi:cli" = { environment = { A = "b" }, stdin = "x" }"#,
        ] {
            assert_eq!(wrong(line), ["unknown-key"], "{line}");
        }
        for line in [
            r#""wasi:http" = [{ host = "a.com" }, { host = "A.com", port = 443 }]"#,
            r#""wasi:filesystem" = [{ directory = "a", at = "/a" }, { directory = "b", at = "/a/" }]"#,
            r#""wasi:keyvalue" = [{ bucket = "a" }, { bucket = "a", access = "write" }]"#,
            r#""wasi:messaging" = { publish = ["a", "a"] }"#,
        ] {
            assert_eq!(wrong(line), ["duplicate-grant"], "{line}");
        }
        parse("[grants]\n\"wasi:logging\" = false");
    }

    #[test]
    fn grants_at_the_top_are_for_a_component_alone() {
        let (a, b) = ("[component.a]\npath = \"a.wasm\"\n", "[component.b]\npath = \"b.wasm\"\n");
        let top = "[grants]\n\"wasi:logging\" = true\n";
        assert!(parse(top).authorities.whole.grants.logging);
        let one = parse(&format!("{top}{a}")).authorities;
        assert!(one.parts["a"].grants.logging && !one.whole.grants.logging);
        assert_eq!(codes(&format!("{top}{a}{b}")), ["grants-unclear"]);
        let own = "[component.a.grants]\n\"wasi:random\" = { seed = 1 }\n";
        assert_eq!(codes(&format!("{top}{a}{own}")), ["grants-unclear"]);
    }

    #[test]
    fn a_component_has_limits_of_its_own() {
        let with = |line: &str| format!("[component.a]\npath = \"a.wasm\"\n[component.a.limits]\n{line}");
        for line in ["cpu = \"1s\"", "memroy = \"1MiB\""] {
            assert_eq!(codes(&with(line)), ["unknown-key"], "{line}");
        }
        assert_eq!(codes(&with("memory = \"129MiB\"")), ["manifest-value"], "more than the request has");
        assert_eq!(codes(&with("memory = \"0B\"")), ["manifest-value"]);
        assert_eq!(codes(&with("memory = 1")), ["manifest-type"]);
        assert_eq!(codes(&with("open-files = -1")), ["manifest-type"]);
        assert_eq!(parse(&with("log-bytes = \"0B\"")).authorities.parts["a"].outside.log_bytes, 0);
    }

    #[test]
    fn a_composition_has_a_bounded_number_of_components() {
        let with = |count: usize| -> String {
            (0..count).map(|number| format!("[component.a{number}]\npath = \"a.wasm\"\n")).collect()
        };
        assert_eq!(parse(&with(1_000)).components.len(), 1_000);
        assert_eq!(codes(&with(1_001)), ["too-many-components"]);
    }

    #[test]
    fn optimising_is_asked_for() {
        assert!(!parse("").optimize && parse("optimize = true").optimize);
        assert_eq!(codes("optimize = \"size\""), ["manifest-type"]);
        let own = |line: &str| format!("[component.a]\nsource = \"a\"\n{line}");
        assert_eq!(parse(&own("")).components[0].optimize, None);
        assert_eq!(parse(&own("optimize = \"speed\"")).components[0].optimize, Some(Goal::Speed));
        assert_eq!(codes(&own("optimize = \"most\"")), ["manifest-value"]);
        assert_eq!(codes(&own("optimize = true")), ["manifest-type"]);
    }

    #[test]
    fn open_patterns_match_every_version() {
        let manifest = parse("open = [\"acme:metrics/*\", \"acme:log/write\", \"tick\", \"wasi:*\"]");
        let matches = |name: &str| manifest.open.iter().any(|pattern| pattern.matches(name));
        for name in [
            "acme:metrics/count@1.0.0",
            "acme:metrics/gauge",
            "acme:log/write@0.2.0",
            "tick",
            "wasi:sockets/tcp@0.2.6",
            "wasi:http/handler",
        ] {
            assert!(matches(name), "{name}");
        }
        for name in
            ["acme:metric/count", "acme:log/read", "tock", "other:metrics/count", "wasi", "wasi-x:a/b"]
        {
            assert!(!matches(name), "{name}");
        }
        for text in ["acme:log/write@1.0.0", "*", "acme*", "acme:log:*", "acme:log", "Acme"] {
            assert_eq!(codes(&format!("open = [\"{text}\"]")), ["manifest-value"], "{text}");
        }
    }
}
