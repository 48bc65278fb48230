//! What every key of a manifest means, beside the reader that knows the keys.

/// Tables of the manifest and their keys, in the order in which the reference page shows them.
pub const TABLES: [Table; 19] = [
    Table {
        name: "top of the file",
        keys: &[
            ("name", "what the app is called; default: the name of its folder"),
            (
                "open",
                "imports left open on purpose: interface names without a version, `namespace:package/*`, or `namespace:*`. Whatever \
                 instantiates the result must supply them; `tenon serve` refuses what it does not offer",
            ),
            ("component", "one table a component"),
            (
                "exports",
                "what the result exports under other names: one entry an export, as in `[component.NAME.imports]`",
            ),
            (
                "optimize",
                "`true`: the components are made smaller and quicker to instantiate; they do what they did. Default: \
                 `false`",
            ),
            (
                "grants",
                "what a component served alone may touch: the keys of `[component.NAME.grants]`. With several \
                 components, each has its own",
            ),
            ("limits", "what one request may use up"),
            ("reuse", "how often one sandbox is used; without it, once"),
            ("errors", "the statuses of typed errors, for functions that are called over HTTP"),
            ("deploy", "where and how `tenon deploy` deploys it"),
        ],
    },
    Table {
        name: "[component.NAME]",
        keys: &[
            (
                "path",
                "the component file, relative to the manifest; default with `source`: `.tenon/NAME.wasm`",
            ),
            ("source", "the folder that `tenon build` builds it from"),
            (
                "wit",
                "the folder of its contracts; default: `wit` beside the manifest, else `wit` in `source`",
            ),
            ("world", "the world it targets; needed when the contracts have several"),
            (
                "language",
                "`rust`, `go`, `typescript`, `javascript`, `python`, `c`, `cpp` or `assemblyscript`; default: told from the files in \
                 `source`",
            ),
            (
                "snapshot",
                "`false`: the runtime of a Go component starts anew for every sandbox, not once at build time",
            ),
            (
                "optimize",
                "`\"size\"` or `\"speed\"`: what binaryen optimises its core modules for when `tenon build` builds it; \
                 default: not at all",
            ),
            (
                "export",
                "what of it the result exports: `true` (everything), `false` (nothing), or a list of names. Default: \
                 everything, unless another component imports from it",
            ),
            ("imports", "one entry for each import that another component supplies"),
            ("grants", "what it may touch outside its sandbox; without it, nothing"),
            ("limits", "its own limits, below those of the request"),
        ],
    },
    Table {
        name: "[component.NAME.imports], one entry an import: `\"namespace:package/interface\" = { … }`",
        keys: &[
            ("component", "the component that supplies the import"),
            (
                "export",
                "which of its exports; default: the one of the same name. Versions may be left out. A function of an \
                 interface is `namespace:package/interface.function`, or its name alone",
            ),
        ],
    },
    Table {
        name: "[component.NAME.grants] and [grants]: a WASI package each, in every version",
        keys: &[
            ("wasi:http", "a list of the requests it may send"),
            ("wasi:filesystem", "a list of directories that it finds opened"),
            ("wasi:sockets", "a list of whom it may connect to and where it may listen"),
            ("wasi:keyvalue", "a list of buckets"),
            ("wasi:blobstore", "a list of containers"),
            ("wasi:messaging", "the topics it may publish to and is given messages of"),
            ("wasi:config", "a table of the values it may read: `{ greeting = \"hello\" }`"),
            ("wasi:logging", "`true`: it may write lines with a level into the node's log"),
            ("wasi:cli", "its environment variables and arguments"),
            (
                "wasi:clocks",
                "a wall clock that stands still, and a monotonic clock that only the guest moves; the true time needs no grant",
            ),
            ("wasi:random", "randomness from a seed; the system's needs no grant"),
        ],
    },
    Table {
        name: "an entry of \"wasi:http\" = [{ … }]",
        keys: &[
            (
                "host",
                "the host: a name, `*.` and a name for every name below it, an address, or `*` for every host",
            ),
            ("scheme", "`https` (the default) or `http`"),
            ("port", "the port; default: the scheme's own"),
            (
                "path",
                "what the path has to begin with, as in `/v1/`; default `/`. Without `..`, and without `%`",
            ),
            (
                "private",
                "`true`: the host may have a private, loopback or link-local address; default `false`",
            ),
        ],
    },
    Table {
        name: "an entry of \"wasi:filesystem\" = [{ … }]",
        keys: &[
            ("directory", "the directory on the host, relative to the manifest"),
            ("at", "where the component sees it: `/data`"),
            ("access", "`read` (the default) or `write`, which is both"),
        ],
    },
    Table {
        name: "an entry of \"wasi:sockets\" = [{ … }]",
        keys: &[
            ("protocol", "`tcp` or `udp`"),
            ("direction", "`connect` or `listen`"),
            (
                "host",
                "the other end: an address, a network (`10.0.0.0/8`) or a name; for listening, the address to bind",
            ),
            ("port", "a port, or a range: `\"1000-2000\"`"),
        ],
    },
    Table {
        name: "an entry of \"wasi:keyvalue\" = [{ … }]",
        keys: &[
            ("bucket", "the name that the component opens; `\"\"` is its default bucket"),
            ("access", "`read` (the default) or `write`, which is both"),
            (
                "store",
                "`embedded` (the default: in the node's data directory), or `redis://HOST:PORT/DATABASE`",
            ),
        ],
    },
    Table {
        name: "an entry of \"wasi:blobstore\" = [{ … }]",
        keys: &[
            ("container", "the name that the component opens"),
            ("access", "`read` (the default) or `write`, which is both"),
        ],
    },
    Table {
        name: "\"wasi:messaging\" = { … }",
        keys: &[
            ("publish", "topics it may publish to; a trailing `.*` stands for everything below"),
            ("subscribe", "topics whose messages it is given, likewise"),
        ],
    },
    Table {
        name: "\"wasi:cli\" = { … }",
        keys: &[
            ("environment", "a table of variables: `{ NAME = \"value\" }`"),
            ("arguments", "a list of arguments"),
        ],
    },
    Table {
        name: "\"wasi:clocks\" = { … }",
        keys: &[(
            "now",
            "where the wall clock stands: `\"2026-01-01T00:00:00Z\"`; the monotonic clock then begins at zero in each request",
        )],
    },
    Table {
        name: "\"wasi:random\" = { … }",
        keys: &[("seed", "a whole number: all randomness of a request comes from it")],
    },
    Table {
        name: "[limits]",
        keys: &[
            ("wall", "time from admission to the end of the response, as in `30s` or `500ms`"),
            ("cpu", "time on the processor, as in `5s`; waiting is free"),
            ("memory", "all linear memories of a request together, as in `128MiB`"),
            (
                "table-elements",
                "elements of all tables of a request together; one table has at most 20000, whatever is said here",
            ),
            ("instances", "core instances that the components of a request may consist of"),
            ("stack", "the guest's stack, as in `512KiB`"),
            ("handles", "resources (streams, files, connections, handles between components) held at once"),
            ("host-call-bytes", "what one call between the guest and the host may copy, as in `64MiB`"),
            ("request-body", "the body of a request, as in `8MiB`"),
            ("response-body", "the body of a response, as in `64MiB`"),
            ("header-bytes", "the header fields of a request, and those of a response, as in `48KiB`"),
            ("concurrency", "requests that may run at once"),
            ("queue", "requests that may wait for their turn; one more is refused"),
            ("queue-wait", "how long a request waits for its turn before it is refused, as in `1s`"),
            ("outbound-requests", "HTTP requests that each component may send in a request"),
            (
                "outbound-connections",
                "HTTP connections that each component may hold at once, and sockets it may open in a request, together",
            ),
            ("open-files", "files and directories that each component may hold open at once"),
            ("key-value-bytes", "keys and values that each component may read and write in a request"),
            (
                "log-bytes",
                "what each component, in all its requests, may write to the log in a second, as in `256KiB`; a line counts 128 bytes beside its text",
            ),
        ],
    },
    Table {
        name: "[component.NAME.limits]",
        keys: &[
            (
                "memory",
                "what each of its linear memories may hold; written into the composed component. Default: no cap but \
                 the request's",
            ),
            ("outbound-requests", "instead of the one in [limits], and so are those below"),
            (
                "outbound-connections",
                "HTTP connections it may hold at once, and sockets it may open in a request, together",
            ),
            ("open-files", "files and directories it may hold open at once"),
            ("key-value-bytes", "keys and values it may read and write in a request"),
            ("log-bytes", "what it may write to the log in a second, in all its requests"),
        ],
    },
    Table {
        name: "`reuse = { … }`: instead of a fresh sandbox for each request",
        keys: &[
            ("requests", "requests that a sandbox answers before it is thrown away"),
            (
                "concurrent",
                "how many of them at once; default 1. More than one needs a handler of wasi:http 0.3",
            ),
        ],
    },
    Table {
        name: "[deploy]: where and how `tenon deploy` deploys it; the command line stands over it",
        keys: &[
            ("tenant", "whose app it is"),
            ("app", "what it is called there; default: the manifest's name"),
            (
                "routes",
                "which requests are for it, each `host/path`: `shop.example/*`, `*.shop.example/api/*`, \
                 `shop.example/users/{id}`, `*/health`",
            ),
            (
                "health",
                "a path; a new revision that does not answer it with a status below 500 is not deployed. Without it, a \
                 new revision has to start",
            ),
            ("rollout", "how a new revision takes over; without it, at once"),
        ],
    },
    Table {
        name: "[deploy.rollout]",
        keys: &[
            (
                "steps",
                "shares of the requests in percent, growing: `[5, 25, 50]`; after the last the new revision has all",
            ),
            ("hold", "how long each step lasts; default `1min`"),
            (
                "sticky",
                "what keeps a client with one revision: `address` (default), `cookie` or `header:NAME`",
            ),
            (
                "chosen",
                "requests that get the new revision from the start: `header:NAME=VALUE` or `cookie:NAME=VALUE`",
            ),
            (
                "shadow",
                "of a hundred requests, those that the new revision is given as a copy; its answers are compared and thrown away",
            ),
            (
                "errors",
                "failed requests in a thousand, beyond those of the old revision, that send the new one back; default 10",
            ),
            (
                "p99",
                "the new revision's p99 latency in percent of the old one's that sends it back; default 200; 0 for never",
            ),
            (
                "samples",
                "requests it must have answered before either is judged; default 100. A step with fewer is over when its time is, unless most failed",
            ),
            ("crashes", "failures of the guest at once that send it back without waiting; default 10"),
        ],
    },
    Table {
        name: "[errors]: the status of a typed error; without it, 422",
        keys: &[(
            "\"namespace:package/interface.name\"",
            "`name` is a type of errors: a table with a status for each case, as in `{ expired = 401 }`; or a function: \
             one status for its error, as in `402`. At the root of the world the name stands alone",
        )],
    },
];

/// One table of the manifest.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its heading.
    pub name: &'static str,
    /// Each key and what it means.
    pub keys: &'static [(&'static str, &'static str)],
}

#[cfg(test)]
mod tests {
    use tenon_model::Capability;

    use super::super::reader::{
        BLOBSTORE_KEYS, CLI_KEYS, CLOCK_KEYS, COMPONENT_KEYS, COMPONENT_LIMIT_KEYS, DEPLOY_KEYS,
        FILESYSTEM_KEYS, HTTP_KEYS, KEYVALUE_KEYS, LIMIT_KEYS, MESSAGING_KEYS, RANDOM_KEYS, REUSE_KEYS,
        ROLLOUT_KEYS, SOCKET_KEYS, TOP_KEYS, WIRE_KEYS,
    };
    use super::TABLES;

    #[test]
    fn every_key_that_is_read_is_described_and_no_other() {
        let capabilities = Capability::ALL.map(Capability::key);
        let known: [&[&str]; 18] = [
            &TOP_KEYS,
            &COMPONENT_KEYS,
            &WIRE_KEYS,
            &capabilities,
            &HTTP_KEYS,
            &FILESYSTEM_KEYS,
            &SOCKET_KEYS,
            &KEYVALUE_KEYS,
            &BLOBSTORE_KEYS,
            &MESSAGING_KEYS,
            &CLI_KEYS,
            &CLOCK_KEYS,
            &RANDOM_KEYS,
            &LIMIT_KEYS,
            &COMPONENT_LIMIT_KEYS,
            &REUSE_KEYS,
            &DEPLOY_KEYS,
            &ROLLOUT_KEYS,
        ];
        for (table, known) in TABLES.iter().zip(known) {
            let described: Vec<&str> = table.keys.iter().map(|(key, _)| *key).collect();
            assert_eq!(described, known, "{}", table.name);
        }
    }
}
