//! The report as JSON, both ways. Grants have the form that they have in a manifest, so that one reader reads both;
//! of variables, arguments and values only the names or the number are there.

use serde_json::{Map, Value, json};
use tenon_model::{
    Access, Authority, Capability, Diagnostic, Grants, HttpScheme, Location, SocketDirection, SocketProtocol,
    format_time,
};

use super::{Basis, Import, PartReport, Report, host, store};
use crate::manifest::Manifest;

/// The version of the format.
const VERSION: u64 = 1;
/// The name under which a part's grants are read.
const PART: &str = "part";

/// The report as JSON.
pub fn to_json(report: &Report) -> Value {
    let parts: Vec<Value> = report.parts.iter().map(part).collect();
    json!({ "version": VERSION, "file": report.file, "parts": parts })
}

fn part(part: &PartReport) -> Value {
    let imports: Vec<Value> = part
        .imports
        .iter()
        .map(|import| {
            let (basis, grant) = match import.basis {
                Basis::Inert => ("inert", None),
                Basis::Granted(capability) => ("granted", Some(capability)),
                Basis::Missing(capability) => ("not-granted", Some(capability)),
                Basis::NotOffered => ("not-offered", None),
                Basis::Open => ("open", None),
            };
            json!({ "name": import.name, "basis": basis, "grant": grant.map(Capability::key) })
        })
        .collect();
    let Authority { outside, memory_bytes, .. } = part.authority;
    json!({
        "name": part.name,
        "imports": imports,
        "grants": grants(&part.authority.grants),
        "unused": part.unused().iter().map(|capability| capability.key()).collect::<Vec<_>>(),
        "limits": {
            "memory-bytes": memory_bytes,
            "outbound-requests": outside.outbound_requests,
            "outbound-connections": outside.outbound_connections,
            "open-files": outside.open_files,
            "key-value-bytes": outside.key_value_bytes,
            "log-bytes": outside.log_bytes,
        },
    })
}

fn grants(grants: &Grants) -> Map<String, Value> {
    let access = |access| if access == Access::Write { "write" } else { "read" };
    let mut all = Map::new();
    let mut list = |key: &str, entries: Vec<Value>| {
        if !entries.is_empty() {
            all.insert(key.to_owned(), Value::Array(entries));
        }
    };
    list(
        "wasi:http",
        grants
            .http
            .iter()
            .map(|it| {
                let scheme = if it.scheme == HttpScheme::Http { "http" } else { "https" };
                json!({
                    "host": host(&it.host), "scheme": scheme, "port": it.port, "path": it.path, "private": it.private,
                })
            })
            .collect(),
    );
    list(
        "wasi:filesystem",
        grants
            .filesystem
            .iter()
            .map(|it| json!({ "directory": it.directory, "at": it.at, "access": access(it.access) }))
            .collect(),
    );
    list(
        "wasi:sockets",
        grants
            .sockets
            .iter()
            .map(|it| {
                let protocol = if it.protocol == SocketProtocol::Tcp { "tcp" } else { "udp" };
                let direction = if it.direction == SocketDirection::Connect { "connect" } else { "listen" };
                let port = format!("{}-{}", it.ports.0, it.ports.1);
                json!({ "protocol": protocol, "direction": direction, "host": it.host, "port": port })
            })
            .collect(),
    );
    list(
        "wasi:keyvalue",
        grants
            .keyvalue
            .iter()
            .map(|it| json!({ "bucket": it.bucket, "access": access(it.access), "store": store(&it.store) }))
            .collect(),
    );
    list(
        "wasi:blobstore",
        grants
            .blobstore
            .iter()
            .map(|it| json!({ "container": it.container, "access": access(it.access) }))
            .collect(),
    );
    let mut one = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            all.insert(key.to_owned(), value);
        }
    };
    one(
        "wasi:messaging",
        grants.messaging.as_ref().map(|it| json!({ "publish": it.publish, "subscribe": it.subscribe })),
    );
    one("wasi:config", grants.config.as_ref().map(|it| json!(it.keys().collect::<Vec<_>>())));
    one("wasi:logging", grants.logging.then_some(Value::Bool(true)));
    let has_cli = !grants.environment.is_empty() || !grants.arguments.is_empty();
    one(
        "wasi:cli",
        has_cli.then(|| {
            let names: Vec<_> = grants.environment.keys().collect();
            json!({ "environment": names, "arguments": grants.arguments.len() })
        }),
    );
    one("wasi:clocks", grants.clock.map(|now| json!({ "now": format_time(now) })));
    one("wasi:random", grants.seed.map(|seed| json!({ "seed": seed })));
    all
}

/// Reads what [`to_json`] wrote; values of variables and the like are empty.
///
/// # Errors
/// When `text`, the content of `file`, is something else.
pub fn from_json(file: &str, text: &str) -> Result<Report, Diagnostic> {
    let unreadable = |why: String| {
        Diagnostic::new("not-a-report", format!("`{file}` is not a report of `tenon authority --json`"))
            .at(Location::file(file))
            .note("found", why)
            .mend("Write it anew with `tenon authority … --json`, or name the file or folder itself.")
    };
    let document: Value = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    if document["version"] != VERSION {
        return Err(unreadable(format!("its version is not {VERSION}")));
    }
    let parts = document["parts"].as_array().ok_or_else(|| unreadable("it has no parts".into()))?;
    let parts = parts.iter().map(|part| read_part(part).ok_or("a part of it cannot be read"));
    let parts: Vec<PartReport> = parts.collect::<Result<_, _>>().map_err(|why| unreadable(why.to_owned()))?;
    Ok(Report { file: file.to_owned(), parts })
}

fn read_part(part: &Value) -> Option<PartReport> {
    let grants = read_grants(part["grants"].as_object()?)?;
    let imports = part["imports"].as_array()?.iter().map(|import| {
        let name = import["name"].as_str()?;
        let is_data_only = import["basis"] == "inert";
        Some(Import { name: name.to_owned(), basis: Basis::of(name, &grants, is_data_only) })
    });
    Some(PartReport {
        name: part["name"].as_str()?.to_owned(),
        imports: imports.collect::<Option<_>>()?,
        authority: Authority { grants, ..Authority::default() },
    })
}

/// Through the reader of manifests: what it refuses is no report.
fn read_grants(grants: &Map<String, Value>) -> Option<Grants> {
    let mut text = format!("[component.{PART}]\npath = \"{PART}.wasm\"\n[component.{PART}.grants]\n");
    for (key, value) in grants {
        let value = match key.as_str() {
            "wasi:config" => named(value)?,
            "wasi:cli" => {
                let count = usize::try_from(value["arguments"].as_u64()?).ok()?.min(1_000);
                format!(
                    "{{ environment = {}, arguments = {} }}",
                    named(&value["environment"])?,
                    toml(&json!(vec![""; count]))?
                )
            }
            _ => toml(value)?,
        };
        text.push_str(&format!("{} = {value}\n", Value::from(key.as_str())));
    }
    let manifest = Manifest::parse("report", &text).ok()?;
    manifest.authorities.parts.into_values().next().map(|authority| authority.grants)
}

/// A table with these names and nothing behind them.
fn named(names: &Value) -> Option<String> {
    let entries =
        names.as_array()?.iter().map(|name| Some(format!("{} = \"\"", Value::from(name.as_str()?))));
    Some(format!("{{ {} }}", entries.collect::<Option<Vec<_>>>()?.join(", ")))
}

/// JSON as TOML; strings of both are escaped alike.
fn toml(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(values) => {
            format!("[{}]", values.iter().map(toml).collect::<Option<Vec<_>>>()?.join(", "))
        }
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Some(format!("{} = {}", Value::from(key.as_str()), toml(value)?)));
            format!("{{ {} }}", entries.collect::<Option<Vec<_>>>()?.join(", "))
        }
    })
}
