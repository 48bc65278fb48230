//! What every key of a manifest means, beside the reader that knows the keys.

/// Tables of the manifest and their keys, in the order in which the reference page shows them.
pub const TABLES: [Table; 4] = [
    Table {
        name: "top of the file",
        keys: &[
            ("name", "what the app is called; default: the name of its folder"),
            (
                "open",
                "imports left open on purpose: interface names without a version, or `namespace:package/*`. Whatever \
                 instantiates the result must supply them; `tenon serve` refuses what it does not offer",
            ),
            ("component", "one table a component"),
            ("limits", "what one request may use up"),
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
                "`rust`, `go`, `typescript` or `javascript`; default: told from the files in `source`",
            ),
            (
                "export",
                "what of it the result exports: `true` (everything), `false` (nothing), or a list of names. Default: \
                 everything, unless another component imports from it",
            ),
            ("imports", "one entry for each import that another component supplies"),
        ],
    },
    Table {
        name: "[component.NAME.imports], one entry an import: `\"namespace:package/interface\" = { … }`",
        keys: &[
            ("component", "the component that supplies the import"),
            ("export", "which of its exports; default: the one of the same name. Versions may be left out"),
        ],
    },
    Table {
        name: "[limits]",
        keys: &[
            ("wall", "time from admission to the end of the response, as in `30s` or `500ms`"),
            ("cpu", "time on the processor, as in `5s`; waiting is free"),
            ("memory", "all linear memories of a request together, as in `128MiB`"),
            ("request-body", "the largest body a plain handler is given, as in `8MiB`"),
            ("concurrency", "requests that may run at once"),
        ],
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
    use super::super::reader::{COMPONENT_KEYS, LIMIT_KEYS, TOP_KEYS, WIRE_KEYS};
    use super::TABLES;

    #[test]
    fn every_key_that_is_read_is_described_and_no_other() {
        let known: [&[&str]; 4] = [&TOP_KEYS, &COMPONENT_KEYS, &WIRE_KEYS, &LIMIT_KEYS];
        for (table, known) in TABLES.iter().zip(known) {
            let described: Vec<&str> = table.keys.iter().map(|(key, _)| *key).collect();
            assert_eq!(described, known, "{}", table.name);
        }
    }
}
