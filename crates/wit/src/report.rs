//! An inspection for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tenon_model::{Digest, format_bytes};

use crate::contract::ItemKind;
use crate::footprint::Footprint;
use crate::inspection::{CoreModule, Extern, Inspection, Nested};

/// The inspection as text for a person.
pub fn render_text(inspection: &Inspection) -> String {
    let mut text = String::new();
    let component = &inspection.component;
    let name = component.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let _ = writeln!(text, "{}: component{name}, {}", inspection.file, format_bytes(component.size()));
    let _ = writeln!(text, "{}", component.digest);

    externs(&mut text, "imports", &inspection.imports);
    externs(&mut text, "exports", &inspection.exports);
    components(&mut text, inspection);
    core_modules(&mut text, component);

    let _ = writeln!(text, "\nin a sandbox");
    let _ = writeln!(text, "  {}", inspection.needs.whole);
    let parts = &inspection.needs.parts;
    rows(&mut text, &parts.iter().map(|(name, it)| vec![name.clone(), it.to_string()]).collect::<Vec<_>>());

    let sizes = &inspection.sizes;
    let rest = sizes.total.saturating_sub(sizes.code + sizes.data + sizes.custom);
    let _ = writeln!(text, "\nsizes");
    rows(
        &mut text,
        &[
            vec!["code".into(), format_bytes(sizes.code)],
            vec!["data".into(), format_bytes(sizes.data)],
            vec!["custom".into(), format_bytes(sizes.custom)],
            vec!["other".into(), format_bytes(rest)],
            vec!["total".into(), format_bytes(sizes.total)],
        ],
    );
    if !inspection.producers.is_empty() {
        let _ = writeln!(text, "\nproducers");
        let producers: Vec<_> = inspection
            .producers
            .iter()
            .map(|producer| vec![producer.field.clone(), format!("{} {}", producer.name, producer.version)])
            .collect();
        rows(&mut text, &producers);
    }
    text
}

fn externs(text: &mut String, title: &str, externs: &[Extern]) {
    let _ = writeln!(text, "\n{title}");
    if externs.is_empty() {
        let _ = writeln!(text, "  none");
    }
    for it in externs {
        match (it.kind, it.functions.as_slice()) {
            (ItemKind::Function, [function]) => {
                let _ = writeln!(text, "  {function}");
            }
            (ItemKind::Type, _) => {
                let _ = writeln!(text, "  type {}", it.name);
            }
            (_, functions) => {
                let _ = writeln!(text, "  {}", it.name);
                for function in functions {
                    let _ = writeln!(text, "    {function}");
                }
                if functions.is_empty() && !it.types.is_empty() {
                    let _ = writeln!(text, "    types {}", it.types.join(", "));
                }
            }
        }
    }
}

fn components(text: &mut String, inspection: &Inspection) {
    let is_part = |nested: &Nested| {
        let mut parts = inspection.composition.iter().flat_map(|composition| &composition.components);
        parts.any(|part| part.held == nested.digest)
    };
    // Wrappings are the toolchain's business; they are counted, not shown.
    let (wrappings, shown): (Vec<_>, Vec<_>) =
        inspection.component.components.iter().partition(|nested| nested.is_wrapping() && !is_part(nested));
    if shown.is_empty() {
        return;
    }
    let _ = writeln!(text, "\ncomponents");
    let summaries: Vec<_> = shown
        .iter()
        .map(|nested| {
            let modules = match nested.core_modules.len() {
                1 => "1 core module".to_owned(),
                count => format!("{count} core modules"),
            };
            vec![
                nested.name.clone().unwrap_or_else(|| "(no name)".to_owned()),
                format_bytes(nested.size()),
                modules,
                nested.digest.to_string(),
            ]
        })
        .collect();
    for (nested, line) in shown.iter().zip(aligned(&summaries)) {
        let _ = writeln!(text, "  {line}");
        if let Some(digest) = made_from(inspection, nested) {
            let _ = writeln!(text, "    made from {digest}");
        }
        for name in &nested.imports {
            let _ = writeln!(text, "    imports {name}{}", satisfied_from(inspection, nested, name));
        }
        for name in &nested.exports {
            let _ = writeln!(text, "    exports {name}");
        }
    }
    if !wrappings.is_empty() {
        let _ = writeln!(text, "  and {} that only wrap types", wrappings.len());
    }
}

/// The digest of the file that a part was made from, where the composition holds it otherwise: with a memory limit, or
/// optimised.
fn made_from(inspection: &Inspection, nested: &Nested) -> Option<Digest> {
    let mut parts = inspection.composition.iter().flat_map(|composition| &composition.components);
    let part = parts.find(|part| Some(&part.name) == nested.name.as_ref() && part.held == nested.digest)?;
    (part.digest != nested.digest).then_some(part.digest)
}

fn satisfied_from(inspection: &Inspection, nested: &Nested, import: &str) -> String {
    let part = inspection
        .composition
        .iter()
        .flat_map(|composition| &composition.components)
        .find(|part| Some(&part.name) == nested.name.as_ref());
    match part.and_then(|part| part.imports.get(import)) {
        Some(source) if source.export == import => format!(" from {}", source.component),
        Some(source) => format!(" from {} {}", source.component, source.export),
        None => String::new(),
    }
}

fn core_modules(text: &mut String, component: &Nested) {
    if component.core_modules.is_empty() {
        return;
    }
    let _ = writeln!(text, "\ncore modules");
    let modules: Vec<_> = component
        .core_modules
        .iter()
        .map(|module| {
            let name = module.name.clone().unwrap_or_else(|| "(no name)".to_owned());
            vec![name, format_bytes(module.range.end - module.range.start)]
        })
        .collect();
    rows(text, &modules);
}

fn rows(text: &mut String, rows: &[Vec<String>]) {
    for line in aligned(rows) {
        let _ = writeln!(text, "  {line}");
    }
}

/// The rows with their columns padded to the widest, two spaces between them.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    rows.iter()
        .map(|row| {
            let cells =
                row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// The inspection as JSON. The shape is stable: members are added, not renamed or removed.
///
/// ```json
/// {
///   "file": "storefront.wasm", "name": "storefront", "digest": "sha256:…", "size": 123456,
///   "imports": [{ "name": "wasi:io/poll@0.2.6", "kind": "interface", "functions": ["poll: func(…)"], "types": ["pollable"] }],
///   "exports": [{ "name": "handle", "kind": "function", "functions": ["handle: func(…)"], "types": [] }],
///   "components": [{
///     "name": "auth", "digest": "sha256:…", "made_from": null, "size": 4567, "range": [12, 4579],
///     "imports": [{ "name": "demo:auth/keys", "from": { "component": "keys", "export": "demo:auth/keys" } }],
///     "exports": ["demo:auth/verify@0.1.0"],
///     "components": [], "core_modules": [{ "name": "main", "size": 4000, "range": [40, 4040] }],
///     "instances": 0, "core_instances": 3
///   }],
///   "core_modules": [], "instances": 3, "core_instances": 0,
///   "sandbox": {
///     "core_instances": 4, "memories": 1, "memory_bytes": 1114112, "tables": 2, "instance_data_bytes": 5120,
///     "components": [{ "name": "auth", "core_instances": 4, … }]
///   },
///   "sizes": { "total": 123456, "code": 100000, "data": 20000, "custom": 456 },
///   "producers": [{ "field": "language", "name": "Rust", "version": "" }]
/// }
/// ```
///
/// `made_from` is the digest of a component's file where the composition holds it otherwise: with a memory limit, or
/// optimised. `sandbox` is what an instance of the component takes up, and each component in it that has code, in the order they
/// are instantiated; `memory_bytes` is what the memories begin with. A `name` that is not known is `null`; `kind` is `interface`, `function` or `type`; `from` is there only
/// where the composition satisfies the import; ranges are byte offsets, the end excluded.
pub fn render_json(inspection: &Inspection) -> Value {
    let component = &inspection.component;
    json!({
        "file": inspection.file,
        "name": component.name,
        "digest": component.digest.to_string(),
        "size": component.size(),
        "imports": inspection.imports.iter().map(extern_json).collect::<Vec<_>>(),
        "exports": inspection.exports.iter().map(extern_json).collect::<Vec<_>>(),
        "components": component.components.iter().map(|it| nested_json(inspection, it)).collect::<Vec<_>>(),
        "core_modules": component.core_modules.iter().map(module_json).collect::<Vec<_>>(),
        "instances": component.instances,
        "core_instances": component.core_instances,
        "sandbox": sandbox_json(inspection),
        "sizes": {
            "total": inspection.sizes.total,
            "code": inspection.sizes.code,
            "data": inspection.sizes.data,
            "custom": inspection.sizes.custom,
        },
        "producers": inspection.producers.iter().map(|producer| json!({
            "field": producer.field, "name": producer.name, "version": producer.version,
        })).collect::<Vec<_>>(),
    })
}

fn sandbox_json(inspection: &Inspection) -> Value {
    let of = |footprint: &Footprint| {
        json!({
            "core_instances": footprint.core_instances,
            "memories": footprint.memories,
            "memory_bytes": footprint.memory_bytes,
            "tables": footprint.tables,
            "instance_data_bytes": footprint.data_bytes,
        })
    };
    let mut sandbox = of(&inspection.needs.whole);
    let named = |(name, footprint): &(String, Footprint)| {
        let mut part = of(footprint);
        part["name"] = json!(name);
        part
    };
    sandbox["components"] = inspection.needs.parts.iter().map(named).collect();
    sandbox
}

fn extern_json(it: &Extern) -> Value {
    let kind = match it.kind {
        ItemKind::Interface => "interface",
        ItemKind::Function => "function",
        ItemKind::Type => "type",
    };
    json!({ "name": it.name, "kind": kind, "functions": it.functions, "types": it.types })
}

fn nested_json(inspection: &Inspection, nested: &Nested) -> Value {
    let part = inspection
        .composition
        .iter()
        .flat_map(|composition| &composition.components)
        .find(|part| Some(&part.name) == nested.name.as_ref());
    let import = |name: &String| {
        let mut import = json!({ "name": name });
        if let Some(source) = part.and_then(|part| part.imports.get(name)) {
            import["from"] = json!({ "component": source.component, "export": source.export });
        }
        import
    };
    json!({
        "name": nested.name,
        "digest": nested.digest.to_string(),
        "made_from": made_from(inspection, nested).map(|digest| digest.to_string()),
        "size": nested.size(),
        "range": [nested.range.start, nested.range.end],
        "imports": nested.imports.iter().map(import).collect::<Vec<_>>(),
        "exports": nested.exports,
        "components": nested.components.iter().map(|it| nested_json(inspection, it)).collect::<Vec<_>>(),
        "core_modules": nested.core_modules.iter().map(module_json).collect::<Vec<_>>(),
        "instances": nested.instances,
        "core_instances": nested.core_instances,
    })
}

fn module_json(module: &CoreModule) -> Value {
    json!({
        "name": module.name,
        "size": module.range.end - module.range.start,
        "range": [module.range.start, module.range.end],
    })
}
