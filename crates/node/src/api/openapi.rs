//! The description of the admin API (OpenAPI 3.1.1), made from the table of endpoints and the types of the wire.

use std::sync::LazyLock;

use bytes::Bytes;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::endpoints::{ENDPOINTS, Endpoint, Scope};
use super::server::Reply;
use crate::tokens::verb_text;
use crate::wire;

/// The description as it is sent. It is made once: everybody may ask for it.
static TEXT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// The description, as an answer.
pub(super) fn reply() -> Reply {
    Reply::whole("application/json", TEXT.clone())
}

/// The description.
pub(super) fn document() -> Value {
    // OpenAPI 3.1 has the schemas of JSON Schema 2020-12 as they are.
    let mut schemas = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.meta_schema = None;
            settings.definitions_path = "/components/schemas".into();
        })
        .into_generator();
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation(endpoint, &mut schemas);
    }
    schema(&mut schemas, "Problem");
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Tenon node",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Tenants, tokens, apps, revisions and rollouts of one node.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(endpoint: &Endpoint, schemas: &mut SchemaGenerator) -> Value {
    let named = endpoint.path.split('/').filter_map(|it| it.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = named
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let whose = match endpoint.scope {
        Scope::Public => "No token is needed.".to_owned(),
        Scope::Own => {
            format!("Needs `{}`; shows and changes what the token's tenant has.", verb_text(endpoint.verb))
        }
        Scope::Tenant => format!("Needs `{}` for the tenant.", verb_text(endpoint.verb)),
        Scope::Node => format!("Needs `{}` for all tenants.", verb_text(endpoint.verb)),
    };
    let answer = match content(endpoint.response, schemas) {
        None => json!({ "description": "Done." }),
        Some(content) => json!({ "description": "What was asked for.", "content": content }),
    };
    let problem = json!({
        "description": "What is wrong, and what mends it.",
        "content": { "application/problem+json": { "schema": schema(schemas, "Problem") } },
    });
    let mut operation = json!({
        "operationId": format!("{:?}{}", endpoint.action, if endpoint.path == "/metrics" { "Alias" } else { "" }),
        "summary": endpoint.summary,
        "description": whose,
        "parameters": parameters,
        "responses": { "2XX": answer, "default": problem },
    });
    if endpoint.scope != Scope::Public {
        operation["security"] = json!([{ "token": [] }]);
    }
    if let Some(content) = endpoint.request.and_then(|request| content(request, schemas)) {
        operation["requestBody"] = json!({ "content": content });
    }
    operation
}

/// What a body is: a type of the wire, or a media type.
fn content(name: &str, schemas: &mut SchemaGenerator) -> Option<Value> {
    match name {
        "" => None,
        media if media.contains('/') => Some(json!({ media: {} })),
        name => Some(json!({ "application/json": { "schema": schema(schemas, name) } })),
    }
}

/// The types that the table names.
fn schema(schemas: &mut SchemaGenerator, name: &str) -> Value {
    macro_rules! types {
        ($($name:ident)*) => {
            match name {
                $(stringify!($name) => schemas.subschema_for::<wire::$name>().to_value(),)*
                _ => json!({}),
            }
        };
    }
    types!(App Apps Audit Capacity Change Deploy Deployed NewToken PostToken Problem PutTenant Revert Revisions
        RolloutAnswer RotateToken Status Tenant Tenants Tokens Top)
}
