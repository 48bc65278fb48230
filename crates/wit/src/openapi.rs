//! Typed exports as an HTTP interface: an OpenAPI document for programs, a page for people.
//!
//! The mapping of types, paths and statuses is `docs/http-json.md`. What cannot be called over HTTP is left out of the
//! document and listed under `x-tenon-skipped`, with the reason.

mod docs;
mod functions;
mod page;
mod schema;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tenon_model::{
    Diagnostic, Diagnostics, ErrorStatus, ExportedFunction, Location, TYPED_ERROR_STATUS, most_similar,
};
use wit_component::DecodedWasm;
use wit_parser::{Resolve, Type, TypeDefKind, WorldId};

use crate::contract::decode;
use crate::render::function_text;
use functions::{Exported, Form, awaited, exported, form, kind, ok_and_err};
use schema::{Schemas, text};

pub use docs::with_docs;
pub use page::Page;

/// The version of the OpenAPI Specification that documents are written in.
const OPENAPI: &str = "3.1.1";
/// The media type of a refusal (RFC 9457).
const PROBLEM: &str = "application/problem+json";
/// The media type of raw bytes.
const OCTETS: &str = "application/octet-stream";
/// The media type of one JSON value a line.
const NDJSON: &str = "application/x-ndjson";

/// Which statuses a person wants for typed errors: the name of an error type or of a function, as
/// `namespace:package/interface.name` (a version may be left out) or `name` at the root, and what is said of it.
pub type ErrorStatuses = BTreeMap<String, (ErrorStatus, Location)>;

/// The HTTP interface of a component's typed exports.
#[derive(Clone, Debug)]
pub struct HttpApi {
    /// The OpenAPI document.
    pub document: Value,
    /// The page for people.
    pub page: Page,
    /// The statuses of typed errors, for the functions whose errors do not all have the usual one.
    pub statuses: BTreeMap<ExportedFunction, ErrorStatus>,
    /// How many functions can be called.
    pub callable: usize,
}

impl HttpApi {
    /// Describes the component `bytes`, which people call `name`.
    ///
    /// # Errors
    /// The component's types cannot be written as WIT, or `statuses` names what is not there.
    pub fn of(name: &str, bytes: &[u8], statuses: &ErrorStatuses) -> Result<Self, Diagnostics> {
        let (mut resolve, world) = match decode(name, bytes)? {
            DecodedWasm::Component(resolve, world) => (resolve, world),
            DecodedWasm::WitPackage(..) => {
                return Err(Diagnostic::new("wit-package", format!("`{name}` is a WIT package"))
                    .at(Location::file(name))
                    .into());
            }
        };
        docs::apply(&mut resolve, world, bytes);
        Self::of_world(name, &resolve, world, statuses)
    }

    /// The same of what [`contract`] kept of a component.
    ///
    /// # Errors
    /// `contract` is not what was kept, or `statuses` names what is not there.
    pub fn of_contract(name: &str, contract: &str, statuses: &ErrorStatuses) -> Result<Self, Diagnostics> {
        let not_wit = |error: String| {
            Diagnostic::new("not-wit", format!("what is known of the types of `{name}` cannot be read"))
                .at(Location::file(name))
                .note("found", error)
                .mend("compile the component again")
        };
        let mut resolve = Resolve::default();
        let package =
            resolve.push_str("contract.wit", contract).map_err(|error| not_wit(format!("{error:#}")))?;
        let world = resolve.packages[package].worlds.values().next();
        let world = *world.ok_or_else(|| not_wit("it has no world".into()))?;
        Self::of_world(name, &resolve, world, statuses)
    }

    fn of_world(
        name: &str,
        resolve: &Resolve,
        world: WorldId,
        statuses: &ErrorStatuses,
    ) -> Result<Self, Diagnostics> {
        let functions = exported(resolve, world);
        let statuses = assign(resolve, &functions, statuses)?;
        let schemas = schemas_of(resolve, &functions);
        let document = document(name, resolve, world, &functions, &schemas, &statuses);
        let page = page::render(name, resolve, &functions, &schemas);
        let callable = functions.iter().filter(|function| function.skipped.is_none()).count();
        Ok(Self { document, page, statuses, callable })
    }
}

/// The types of a component as WIT text, with the documentation that it carries: what remains of it where only its code is
/// kept. `None` where its types cannot be written as WIT.
pub fn contract(bytes: &[u8]) -> Option<String> {
    let Ok(DecodedWasm::Component(mut resolve, world)) = decode("component", bytes) else { return None };
    docs::apply(&mut resolve, world, bytes);
    let main = resolve.worlds[world].package?;
    crate::contract::print(&resolve, main).ok()
}

/// The OpenAPI 3.1 document of a component's typed exports.
///
/// # Errors
/// When the component's types cannot be written as WIT.
pub fn openapi(name: &str, bytes: &[u8]) -> Result<Value, Diagnostics> {
    HttpApi::of(name, bytes, &ErrorStatuses::new()).map(|api| api.document)
}

/// The page for people of a component's typed exports.
///
/// # Errors
/// When the component's types cannot be written as WIT.
pub fn page(name: &str, bytes: &[u8]) -> Result<Page, Diagnostics> {
    HttpApi::of(name, bytes, &ErrorStatuses::new()).map(|api| api.page)
}

fn schemas_of<'a>(resolve: &'a Resolve, functions: &[Exported<'_>]) -> Schemas<'a> {
    let callable = functions.iter().filter(|exported| exported.skipped.is_none());
    let types = callable.flat_map(|exported| {
        let result = exported.function.result.map(|ty| awaited(resolve, &ty));
        exported.function.params.iter().map(|parameter| parameter.ty).chain(result)
    });
    // A result on top becomes two responses: its name, if it has one, is not needed, and its sides are.
    let roots: Vec<Type> = types
        .flat_map(|ty| match kind(resolve, &ty) {
            Some(TypeDefKind::Result(result)) => result.ok.into_iter().chain(result.err).collect(),
            _ => vec![ty],
        })
        .collect();
    Schemas::of(resolve, roots.into_iter())
}

fn document(
    name: &str,
    resolve: &Resolve,
    world: WorldId,
    functions: &[Exported<'_>],
    schemas: &Schemas<'_>,
    statuses: &BTreeMap<ExportedFunction, ErrorStatus>,
) -> Value {
    let mut paths = Map::new();
    let mut tags: Vec<Value> = Vec::new();
    let mut skipped = Vec::new();
    for exported in functions {
        if let Some(reason) = &exported.skipped {
            skipped.push(json!({
                "function": exported.name.to_string(),
                "signature": function_text(resolve, exported.function),
                "reason": reason,
            }));
            continue;
        }
        if let Some(interface) = &exported.name.interface
            && !tags.iter().any(|tag| tag["name"] == interface.as_str())
        {
            let mut tag = json!({ "name": interface });
            if let (Value::Object(tag), Some(docs)) = (&mut tag, text(exported.interface_docs)) {
                tag.insert("description".into(), docs.into());
            }
            tags.push(tag);
        }
        let Some(path) = exported.paths.first() else { continue };
        let operation = operation(resolve, exported, schemas, statuses.get(&exported.name));
        paths.insert(path.clone(), json!({ "post": operation }));
    }
    let mut components = schemas.components();
    components.insert("Problem".into(), problem_schema());
    let mut info = json!({ "title": name, "version": version_of(functions) });
    if let (Value::Object(info), Some(docs)) = (&mut info, text(&resolve.worlds[world].docs)) {
        info.insert("description".into(), docs.into());
    }
    let mut document = json!({
        "openapi": OPENAPI,
        "info": info,
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": { "schemas": components, "responses": shared_responses() },
    });
    if let (Value::Object(document), false) = (&mut document, skipped.is_empty()) {
        document.insert("x-tenon-skipped".into(), skipped.into());
    }
    document
}

/// The version that all exported packages share; `0.0.0`, which OpenAPI needs, where there is none.
fn version_of(functions: &[Exported<'_>]) -> String {
    let mut versions = functions.iter().filter_map(|exported| {
        exported.name.interface.as_deref()?.split_once('@').map(|(_, version)| version)
    });
    let first = versions.next();
    match (first, versions.all(|version| Some(version) == first)) {
        (Some(version), true) => version.to_owned(),
        _ => "0.0.0".to_owned(),
    }
}

fn operation(
    resolve: &Resolve,
    exported: &Exported<'_>,
    schemas: &Schemas<'_>,
    status: Option<&ErrorStatus>,
) -> Value {
    let function = exported.function;
    let mut operation = Map::new();
    operation.insert("operationId".into(), exported.name.to_string().into());
    operation.insert("summary".into(), function_text(resolve, function).into());
    if let Some(docs) = text(&function.docs) {
        operation.insert("description".into(), docs.into());
    }
    if let Some(interface) = &exported.name.interface {
        operation.insert("tags".into(), json!([interface]));
    }
    operation.insert("requestBody".into(), request_body(resolve, exported, schemas));

    let (ok, err) = match &function.result {
        None => (None, None),
        Some(result) => ok_and_err(resolve, result),
    };
    let mut responses = Map::new();
    match &ok {
        None => {
            responses.insert("204".into(), json!({ "description": "Done; there is nothing to return." }));
        }
        Some(ty) => {
            responses.insert(
                "200".into(),
                json!({ "description": "The result.", "content": content(resolve, schemas, ty) }),
            );
        }
    }
    if let Some(err) = &err {
        let schema = err.as_ref().map_or_else(|| json!({ "type": "null" }), |ty| schemas.used(ty));
        for (status, cases) in statuses_of(resolve, err.as_ref(), status) {
            let description = match cases.as_slice() {
                [] => "The function's own error.".to_owned(),
                cases => format!("The function's own error: {}.", cases.join(", ")),
            };
            let content = json!({ "application/json": { "schema": schema } });
            responses.insert(status.to_string(), json!({ "description": description, "content": content }));
        }
    }
    for (status, name) in [
        ("400", "BadRequest"),
        ("413", "TooLarge"),
        ("415", "UnsupportedMediaType"),
        ("500", "Failed"),
        ("503", "Busy"),
        ("504", "TookTooLong"),
    ] {
        let shared = json!({ "$ref": format!("#/components/responses/{name}") });
        match responses.get_mut(status) {
            None => {
                responses.insert(status.into(), shared);
            }
            // A typed error with a status that refusals have, too: the media type tells them apart.
            Some(Value::Object(response)) => {
                if let Some(Value::Object(content)) = response.get_mut("content") {
                    content.insert(PROBLEM.into(), problem_content());
                }
            }
            Some(_) => {}
        }
    }
    operation.insert("responses".into(), responses.into());
    operation.into()
}

fn request_body(resolve: &Resolve, exported: &Exported<'_>, schemas: &Schemas<'_>) -> Value {
    let parameters = &exported.function.params;
    let members = parameters.iter().map(|parameter| (parameter.name.as_str(), &parameter.ty, None));
    let schema = schemas.object(members);
    let required = schema["required"].as_array().is_some_and(|required| !required.is_empty());
    let mut content = json!({ "application/json": { "schema": schema } });
    if let (Value::Object(content), [only]) = (&mut content, parameters.as_slice()) {
        content.extend(other_forms(resolve, schemas, &only.ty));
    }
    json!({ "required": required, "content": content })
}

/// What a response of this type may be sent as.
fn content(resolve: &Resolve, schemas: &Schemas<'_>, ty: &Type) -> Value {
    let mut content = json!({ "application/json": { "schema": schemas.used(ty) } });
    if let Value::Object(content) = &mut content {
        content.extend(other_forms(resolve, schemas, ty));
    }
    content
}

/// The media types that a value may have beside JSON.
fn other_forms(resolve: &Resolve, schemas: &Schemas<'_>, ty: &Type) -> Option<(String, Value)> {
    match form(resolve, ty) {
        Form::Json => None,
        Form::Octets | Form::OctetStream => Some((OCTETS.into(), json!({}))),
        // OpenAPI 3.1 has no word for a sequence of values, as 3.2 has with `itemSchema`: a schema of the whole text
        // says what a line is.
        Form::Lines => {
            let element = match kind(resolve, ty) {
                Some(TypeDefKind::Stream(Some(element))) => schemas.used(element),
                _ => json!({ "type": "null" }),
            };
            let schema = json!({
                "type": "string",
                "description": "One JSON value a line, each as `x-item-schema` says, sent as it comes.",
                "x-item-schema": element,
            });
            Some((NDJSON.into(), json!({ "schema": schema })))
        }
    }
}

/// The statuses that a typed error may have, each with the cases that have it.
fn statuses_of(
    resolve: &Resolve,
    err: Option<&Type>,
    status: Option<&ErrorStatus>,
) -> BTreeMap<u16, Vec<String>> {
    let cases = err.and_then(|err| cases(resolve, err)).unwrap_or_default();
    match status {
        Some(ErrorStatus::Whole(status)) => BTreeMap::from([(*status, Vec::new())]),
        Some(status @ ErrorStatus::Cases(_)) if !cases.is_empty() => {
            let mut statuses: BTreeMap<u16, Vec<String>> = BTreeMap::new();
            for case in cases {
                statuses.entry(status.of(Some(case))).or_default().push(format!("`{case}`"));
            }
            statuses
        }
        _ => BTreeMap::from([(TYPED_ERROR_STATUS, Vec::new())]),
    }
}

/// The names of the cases of an error's type, if it has cases.
fn cases<'a>(resolve: &'a Resolve, err: &Type) -> Option<Vec<&'a str>> {
    match kind(resolve, err)? {
        TypeDefKind::Enum(cases) => Some(cases.cases.iter().map(|case| case.name.as_str()).collect()),
        TypeDefKind::Variant(variant) => Some(variant.cases.iter().map(|case| case.name.as_str()).collect()),
        _ => None,
    }
}

/// Finds the functions that each status is meant for.
fn assign(
    resolve: &Resolve,
    functions: &[Exported<'_>],
    wanted: &ErrorStatuses,
) -> Result<BTreeMap<ExportedFunction, ErrorStatus>, Diagnostics> {
    struct Failing<'a> {
        function: &'a ExportedFunction,
        names: Vec<String>,
        cases: Option<Vec<&'a str>>,
    }
    let failing: Vec<Failing<'_>> = functions
        .iter()
        .filter_map(|exported| {
            let err = ok_and_err(resolve, exported.function.result.as_ref()?).1?;
            let mut names = vec![unversioned(&exported.name.to_string())];
            names.extend(err.and_then(|err| type_path(resolve, &err)));
            let cases = err.and_then(|err| cases(resolve, &err));
            Some(Failing { function: &exported.name, names, cases })
        })
        .collect();
    let mut found = Vec::new();
    let mut assigned: BTreeMap<ExportedFunction, ErrorStatus> = BTreeMap::new();
    for (name, (status, at)) in wanted {
        let name = unversioned(name);
        let mut hit = false;
        for failing in failing.iter().filter(|failing| failing.names.contains(&name)) {
            hit = true;
            if let (ErrorStatus::Cases(statuses), cases) =
                (status, failing.cases.as_deref().unwrap_or_default())
                && let Some(unknown) = statuses.keys().find(|case| !cases.contains(&case.as_str()))
            {
                let diagnostic =
                    Diagnostic::new("unknown-error", format!("`{name}` has no case `{unknown}`"))
                        .at(at.clone())
                        .note("cases", if cases.is_empty() { "none".to_owned() } else { cases.join(", ") });
                found.push(match most_similar(unknown, cases.iter().copied()) {
                    Some(near) => diagnostic.mend(format!("Did you mean `{near}`?")),
                    None if cases.is_empty() => {
                        diagnostic.mend(format!("Write one status for it: \"{name}\" = 400"))
                    }
                    None => diagnostic.mend("Use one of the cases that are listed."),
                });
                break;
            }
            // What is said of a function goes before what is said of its error's type.
            let of_function = failing.names.first() == Some(&name);
            if of_function || !assigned.contains_key(failing.function) {
                assigned.insert(failing.function.clone(), status.clone());
            }
        }
        if !hit {
            let known: Vec<&str> =
                failing.iter().flat_map(|failing| &failing.names).map(String::as_str).collect();
            let diagnostic =
                Diagnostic::new("unknown-error", format!("no exported function fails with `{name}`"))
                    .at(at.clone())
                    .note("errors", if known.is_empty() { "none".to_owned() } else { known.join("\n") });
            found.push(match most_similar(&name, known.iter().copied()) {
                Some(near) => diagnostic.mend(format!("Did you mean `{near}`?")),
                None => diagnostic.mend("Name a function that returns a `result`, or the type of its error."),
            });
        }
    }
    Diagnostics::check(found)?;
    Ok(assigned)
}

/// `namespace:package/interface.type`, or the name alone at the root.
fn type_path(resolve: &Resolve, ty: &Type) -> Option<String> {
    let Type::Id(mut id) = *ty else { return None };
    while let TypeDefKind::Type(Type::Id(other)) = resolve.types[id].kind {
        id = other;
    }
    let definition = &resolve.types[id];
    let name = definition.name.as_ref()?;
    match definition.owner {
        wit_parser::TypeOwner::Interface(interface) => {
            let interface = resolve.id_of(interface)?;
            Some(unversioned(&format!("{interface}.{name}")))
        }
        _ => Some(name.clone()),
    }
}

/// `a:b/c@1.0.0.name` as `a:b/c.name`. Names have no dots, and versions do.
fn unversioned(name: &str) -> String {
    match (name.split_once('@'), name.rsplit_once('.')) {
        (Some((interface, _)), Some((_, name))) => format!("{interface}.{name}"),
        _ => name.to_owned(),
    }
}

fn problem_content() -> Value {
    json!({ "schema": { "$ref": "#/components/schemas/Problem" } })
}

/// A refusal or a failure (RFC 9457).
fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "Why there is no result (RFC 9457).",
        "properties": {
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string", "description": "Stable; the header `x-error-code` has it, too." },
            "detail": { "type": "string", "description": "What is wrong with this request." },
            "pointer": { "type": "string", "description": "Where in the request's body: a JSON Pointer (RFC 6901)." },
            "expected": { "type": "string" },
            "found": { "type": "string" },
            "mend": { "type": "string" },
            "request_id": { "type": "string" },
        },
        "required": ["title", "status", "code", "request_id"],
    })
}

fn shared_responses() -> Value {
    let response =
        |description: &str| json!({ "description": description, "content": { PROBLEM: problem_content() } });
    json!({
        "BadRequest": response("The body is not JSON, or not an object of the function's parameters."),
        "TooLarge": response("The body is larger than the app takes."),
        "UnsupportedMediaType": response("The body is of a media type that the function does not take."),
        "Failed": response("The function failed: it trapped, ran out of memory, or returned what cannot be sent."),
        "Busy": response("There is no room for the request now. Try again after `Retry-After` seconds."),
        "TookTooLong": response("The function took longer than it may."),
    })
}

#[cfg(test)]
mod tests;
