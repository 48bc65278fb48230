//! What a composed component was made from, written into the component itself.
//!
//! A custom section `tenon:composition` holds compact JSON with its keys in a fixed order:
//!
//! ```json
//! {"version":1,"name":"storefront","components":[
//!   {"name":"auth","digest":"sha256:…","imports":{}},
//!   {"name":"handler","digest":"sha256:…","imports":{
//!     "demo:auth/verify@0.1.0":{"component":"auth","export":"demo:auth/verify@0.1.0"}}}],
//!  "exports":{"handle":{"component":"handler","export":"handle"}}}
//! ```
//!
//! A function on its own, as an import or an export, is `demo:auth/verify@0.1.0.verify-token`.
//! `name` is left out when the composition has none. A component whose memory limit was written into it has the
//! digest of what the composed component holds beside that of its file: `"held":"sha256:…"`. Components stand in order of their names, imports in order
//! of theirs. The section is a label, not a proof: who needs proof hashes the nested components.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tenon_model::Digest;
use wasm_encoder::Section as _;
use wasmparser::{Parser, Payload};

/// The name of the custom section.
pub const SECTION: &str = "tenon:composition";

/// The version of the format that is written and read.
const VERSION: u64 = 1;

/// What a composed component was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The name of the composition, where it has one.
    pub name: Option<String>,
    /// The components, in order of their names.
    pub components: Vec<Part>,
    /// Which export of which component stands behind which export of the composition.
    pub exports: BTreeMap<String, Source>,
}

/// One component of a composition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in the composition.
    pub name: String,
    /// The digest of its file.
    pub digest: Digest,
    /// The digest of what the composed component holds: another one where a memory limit was written into it.
    pub held: Digest,
    /// Which export of which component satisfies which of its imports.
    pub imports: BTreeMap<String, Source>,
}

/// Where an import is satisfied from, or an export comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The component.
    pub component: String,
    /// The name of its export.
    pub export: String,
}

/// The component `bytes` with the section added at its end.
pub fn append(mut bytes: Vec<u8>, provenance: &Provenance) -> Vec<u8> {
    let json = to_json(provenance).to_string();
    wasm_encoder::CustomSection { name: SECTION.into(), data: json.as_bytes().into() }.append_to(&mut bytes);
    bytes
}

/// The section of the component itself, not of one nested in it; `None` when there is none or it is not in the
/// format above.
pub fn read(bytes: &[u8]) -> Option<Provenance> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 1 && section.name() == SECTION => {
                return from_json(&serde_json::from_slice(section.data()).ok()?);
            }
            _ => {}
        }
    }
    None
}

fn to_json(provenance: &Provenance) -> Value {
    let sources = |sources: &BTreeMap<String, Source>| -> Map<String, Value> {
        sources
            .iter()
            .map(|(name, source)| {
                (name.clone(), json!({ "component": source.component, "export": source.export }))
            })
            .collect()
    };
    let components: Vec<_> = provenance
        .components
        .iter()
        .map(|part| {
            let imports = sources(&part.imports);
            let mut json =
                json!({ "name": part.name, "digest": part.digest.to_string(), "imports": imports });
            if part.held != part.digest {
                json["held"] = json!(part.held.to_string());
            }
            json
        })
        .collect();
    let mut document =
        json!({ "version": VERSION, "components": components, "exports": sources(&provenance.exports) });
    if let Some(name) = &provenance.name {
        document["name"] = json!(name);
    }
    document
}

fn from_json(document: &Value) -> Option<Provenance> {
    if document.get("version")?.as_u64()? != VERSION {
        return None;
    }
    let text = |value: &Value, key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let sources = |value: &Value| -> Option<BTreeMap<String, Source>> {
        let read = |(name, source): (&String, &Value)| {
            let source = Source { component: text(source, "component")?, export: text(source, "export")? };
            Some((name.clone(), source))
        };
        value.as_object()?.iter().map(read).collect()
    };
    let part = |value: &Value| {
        let digest: Digest = text(value, "digest")?.parse().ok()?;
        let held = match value.get("held") {
            Some(held) => held.as_str()?.parse().ok()?,
            None => digest,
        };
        Some(Part { name: text(value, "name")?, digest, held, imports: sources(value.get("imports")?)? })
    };
    Some(Provenance {
        name: text(document, "name"),
        components: document.get("components")?.as_array()?.iter().map(part).collect::<Option<_>>()?,
        // Those who wrote it before it was there left it out.
        exports: document.get("exports").map_or(Some(BTreeMap::new()), sources)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Provenance {
        let source = Source { component: "auth".into(), export: "demo:auth/verify".into() };
        Provenance {
            name: Some("shop".into()),
            components: vec![
                Part {
                    name: "auth".into(),
                    digest: Digest::of(b"a"),
                    held: Digest::of(b"a"),
                    imports: BTreeMap::new(),
                },
                Part {
                    name: "handler".into(),
                    digest: Digest::of(b"b"),
                    held: Digest::of(b"capped b"),
                    imports: [("demo:auth/verify".to_owned(), source.clone())].into(),
                },
            ],
            exports: [("acme:login/verify".to_owned(), source)].into(),
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        let component = wat::parse_str("(component (component))").unwrap();
        assert_eq!(read(&component), None);
        let labelled = append(component.clone(), &example());
        assert!(labelled.starts_with(&component));
        assert_eq!(read(&labelled), Some(example()));
        assert_eq!(crate::require_component("a.wasm", &labelled), Ok(()));
    }

    #[test]
    fn a_section_of_a_nested_component_is_not_meant() {
        let nested = append(b"\0asm\x0d\0\x01\0".to_vec(), &example());
        let mut outer = wasm_encoder::Component::new();
        outer.section(&wasm_encoder::RawSection { id: 4, data: &nested });
        let outer = outer.finish();
        assert_eq!(crate::require_component("a.wasm", &outer), Ok(()));
        assert_eq!(read(&outer), None);
    }

    #[test]
    fn another_format_is_no_provenance() {
        for json in ["", "{}", r#"{"version":2,"components":[]}"#, r#"{"version":1,"components":[{}]}"#] {
            let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
            wasm_encoder::CustomSection { name: SECTION.into(), data: json.as_bytes().into() }
                .append_to(&mut bytes);
            assert_eq!(read(&bytes), None, "{json}");
        }
    }
}
