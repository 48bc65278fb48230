//! A composition as a picture: for a terminal, for programs, and as SVG.
//!
//! Everything is told from the composed component itself; who was granted what is told by the manifest, where there is
//! one.

mod svg;
mod text;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tenon_model::{Authorities, PartImport, Standing, standing};
use tenon_wit::provenance::Source;
use tenon_wit::{Inspection, Nested};

pub use svg::to_svg;
pub use text::to_text;

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// What the composition is called.
    pub name: String,
    /// The size of the composed component.
    pub bytes: u64,
    /// The components, in order of their names.
    pub components: Vec<Drawn>,
    /// What the composition exports: the name, and the component that has it.
    pub exports: BTreeMap<String, Source>,
}

/// One component of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Its name in the composition.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The languages it was written in, as its producers say.
    pub languages: Vec<String>,
    /// The tools that made it, likewise.
    pub tools: Vec<String>,
    /// Its imports that other components satisfy.
    pub imports: BTreeMap<String, Source>,
    /// Its other imports, and how they stand to the outside.
    pub outside: Vec<(String, Outside)>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// How an import that no component satisfies stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outside {
    /// It reaches outside, and the component was granted that.
    Granted,
    /// Whoever runs the composition has to supply it.
    Open,
    /// Every component has it, or it holds types only.
    Inert,
}

impl Outside {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Open => "open",
            Self::Inert => "for everyone",
        }
    }
}

impl Drawing {
    /// The picture of the component that was looked into; `name` is what it is called where it does not say.
    pub fn of(name: &str, inspection: &Inspection, authorities: &Authorities) -> Self {
        let whole = &inspection.component;
        let is_data = |import: &str| {
            let found = inspection.imports.iter().find(|it| it.name == import);
            found.is_some_and(|it| it.functions.is_empty() && it.kind == tenon_wit::ItemKind::Interface)
                && !import.starts_with("wasi:")
        };
        let stands = |part: &str, import: &str| {
            let own = PartImport::parse(import).map(|it| it.interface.to_string());
            let import = own.as_deref().unwrap_or(import);
            let authority = authorities.parts.get(part).unwrap_or(&authorities.whole);
            match standing(import) {
                Standing::Inert => Outside::Inert,
                Standing::Grantable(capability) if authority.grants.has(capability) => Outside::Granted,
                _ if is_data(import) => Outside::Inert,
                _ => Outside::Open,
            }
        };
        let drawn = |name: &str, nested: &Nested, imports: &BTreeMap<String, Source>| {
            let mut producers = Vec::new();
            collect(nested, &mut producers);
            let of = |field: &str| -> Vec<String> {
                let mut found: Vec<String> =
                    producers.iter().filter(|it| it.0 == field).map(|it| it.1.clone()).collect();
                found.sort();
                found.dedup();
                found
            };
            // A function on its own is wired under `interface.function`.
            let is_wired = |import: &str| {
                imports.keys().any(|key| {
                    key == import || key.strip_prefix(import).is_some_and(|it| it.starts_with('.'))
                })
            };
            let mut outside: Vec<_> = nested
                .imports
                .iter()
                .filter(|import| !is_wired(import))
                .map(|import| (import.clone(), stands(name, import)))
                .collect();
            outside.sort_by(|left, right| (left.1, &left.0).cmp(&(right.1, &right.0)));
            Drawn {
                name: name.to_owned(),
                bytes: nested.size(),
                languages: match (&nested.languages, of("language")) {
                    (own, _) if !own.is_empty() => own.clone(),
                    (_, languages) if languages.is_empty() => told_by_tools(&of("processed-by")),
                    (_, languages) => languages,
                },
                tools: of("processed-by"),
                imports: imports.clone(),
                outside,
                exports: nested.exports.clone(),
            }
        };
        let own = |component: &str| -> BTreeMap<String, Source> {
            whole
                .exports
                .iter()
                .map(|export| {
                    (export.clone(), Source { component: component.to_owned(), export: export.clone() })
                })
                .collect()
        };
        match &inspection.composition {
            Some(composition) => {
                let part = |part: &tenon_wit::provenance::Part| {
                    // Of several instances of one component, the first has the name.
                    let named = whole.components.iter().find(|it| it.name.as_ref() == Some(&part.name));
                    let nested =
                        named.or_else(|| whole.components.iter().find(|it| it.digest == part.held))?;
                    Some(drawn(&part.name, nested, &part.imports))
                };
                Self {
                    name: composition.name.clone().unwrap_or_else(|| name.to_owned()),
                    bytes: whole.size(),
                    components: composition.components.iter().filter_map(part).collect(),
                    exports: composition.exports.clone(),
                }
            }
            None => {
                let name = whole.name.as_deref().unwrap_or(name);
                Self {
                    name: name.to_owned(),
                    bytes: whole.size(),
                    components: vec![drawn(name, whole, &BTreeMap::new())],
                    exports: own(name),
                }
            }
        }
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.components.iter().position(|it| it.name == name)
    }

    /// For each component, how many others stand between it and an export at most: its column in a picture.
    fn columns(&self) -> Vec<usize> {
        let mut columns = vec![0; self.components.len()];
        // A composition has no circles; the bound holds for provenance that says otherwise.
        for _ in 0..self.components.len() {
            let mut moved = false;
            for (index, component) in self.components.iter().enumerate() {
                for source in component.imports.values() {
                    if let Some(exporter) = self.index_of(&source.component)
                        && columns[exporter] <= columns[index]
                        && columns[index] < self.components.len()
                    {
                        columns[exporter] = columns[index] + 1;
                        moved = true;
                    }
                }
            }
            if !moved {
                break;
            }
        }
        columns
    }
}

/// The language that the generator of a component's bindings is for, where nothing names the language itself.
fn told_by_tools(tools: &[String]) -> Vec<String> {
    const GENERATORS: [(&str, &str); 5] = [
        ("wit-bindgen-rust", "Rust"),
        ("wit-bindgen-c", "C"),
        ("wit-bindgen-go", "Go"),
        ("componentize-py", "Python"),
        ("ComponentizeJS", "JavaScript"),
    ];
    let is_one_of = |name: &str| tools.iter().any(|tool| tool.split(' ').next() == Some(name));
    GENERATORS
        .into_iter()
        .filter(|(tool, _)| is_one_of(tool))
        .map(|(_, language)| language.to_owned())
        .collect()
}

fn collect(nested: &Nested, into: &mut Vec<(String, String)>) {
    into.extend(nested.producers.iter().map(|it| {
        let version = it.version.split_whitespace().next().unwrap_or_default();
        (it.field.clone(), format!("{} {version}", it.name).trim_end().to_owned())
    }));
    for inner in &nested.components {
        collect(inner, into);
    }
}

/// The picture as JSON. Members are added, not renamed or removed.
pub fn to_json(drawing: &Drawing) -> Value {
    let source = |source: &Source| json!({ "component": source.component, "export": source.export });
    json!({
        "name": drawing.name,
        "bytes": drawing.bytes,
        "components": drawing.components.iter().map(|component| json!({
            "name": component.name,
            "bytes": component.bytes,
            "languages": component.languages,
            "tools": component.tools,
            "imports": component.imports.iter().map(|(name, from)| json!({ "name": name, "from": source(from) }))
                .chain(component.outside.iter().map(|(name, stands)| json!({ "name": name, "outside": stands.word() })))
                .collect::<Vec<_>>(),
            "exports": component.exports,
        })).collect::<Vec<_>>(),
        "exports": drawing.exports.iter().map(|(name, from)| json!({ "name": name, "from": source(from) })).collect::<Vec<_>>(),
    })
}
