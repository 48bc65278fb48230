//! What each component of an app may touch outside its sandbox, for people, for programs, and from one version to
//! the next.

mod growth;
mod wire;

use std::fmt::Write as _;

use tenon_model::{
    Access, Authorities, Authority, Capability, Diagnostic, Diagnostics, Grants, HostPattern, HttpScheme,
    OutsideLimits, SocketDirection, SocketProtocol, Standing, StoreName, format_bytes, format_time, standing,
};
use tenon_wit::{Contract, inspect, require_component, same_track};

pub use growth::growth;
pub use wire::{from_json, to_json};

use crate::compose::Input;
use crate::graph::Graph;
use crate::manifest::Manifest;

/// What an app may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The file it was read from, as the person named it.
    pub file: String,
    /// Its components, in order of their names; one, when it is not composed.
    pub parts: Vec<PartReport>,
}

/// What one component may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReport {
    /// Its name.
    pub name: String,
    /// What it imports and no neighbour supplies, in the order of its binary.
    pub imports: Vec<Import>,
    /// Its grants, and its own limits.
    pub authority: Authority,
}

/// An import, and on what grounds the component has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its name in the binary.
    pub name: String,
    /// The grounds.
    pub basis: Basis,
}

/// On what grounds a component has an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It reaches nothing outside the request, or only describes data.
    Inert,
    /// A grant decides what it reaches.
    Granted(Capability),
    /// It would need a grant that the component does not have: it is refused.
    Missing(Capability),
    /// A WASI interface that nobody is offered: it is refused.
    NotOffered,
    /// Not the host's: whoever uses the app has to supply it.
    Open,
}

impl Basis {
    fn of(name: &str, grants: &Grants, is_data_only: bool) -> Self {
        match (grants.behind(name), standing(name)) {
            (Some(capability), _) => Self::Granted(capability),
            (None, Standing::Inert) => Self::Inert,
            (None, _) if is_data_only => Self::Inert,
            (None, Standing::Grantable(capability)) => Self::Missing(capability),
            (None, Standing::Withheld) => Self::NotOffered,
            (None, Standing::Foreign) => Self::Open,
        }
    }
}

impl PartReport {
    /// Grants that none of its imports needs.
    pub fn unused(&self) -> Vec<Capability> {
        let is_used = |capability| self.imports.iter().any(|it| it.basis == Basis::Granted(capability));
        let has = |capability: &Capability| self.authority.grants.has(*capability);
        Capability::ALL.into_iter().filter(has).filter(|it| !is_used(*it)).collect()
    }
}

/// What the components of `manifest` may touch, whether or not they fit.
///
/// # Errors
/// When a component cannot be read.
pub fn of_manifest(manifest: &Manifest, inputs: &[Input<'_>]) -> Result<Report, Diagnostics> {
    let (graph, findings) = Graph::of(manifest, inputs);
    if graph.nodes.len() < manifest.components.len() || graph.nodes.is_empty() {
        Diagnostics::check(findings)?;
    }
    let part = |(index, node): (usize, &crate::graph::Node<'_>)| PartReport {
        name: node.component.name.clone(),
        imports: node
            .contract
            .imports()
            .filter(|item| !graph.is_wired(index, item.name()))
            .map(|item| Import {
                name: item.name().to_owned(),
                basis: Basis::of(item.name(), &node.authority.grants, item.is_data_only()),
            })
            .collect(),
        authority: node.authority.clone(),
    };
    Ok(Report { file: manifest.file.clone(), parts: graph.nodes.iter().enumerate().map(part).collect() })
}

/// What a component without a manifest would touch: `name` alone, or its parts when it is composed. It has no
/// grants.
///
/// # Errors
/// When it cannot be read.
pub fn of_component(name: &str, file: &str, bytes: &[u8]) -> Result<Report, Diagnostic> {
    of_granted(name, file, bytes, &Authorities::default())
}

/// What a component may touch that was composed, or not, and runs with these authorities.
///
/// # Errors
/// When it cannot be read.
pub fn of_granted(
    name: &str,
    file: &str,
    bytes: &[u8],
    authorities: &Authorities,
) -> Result<Report, Diagnostic> {
    require_component(file, bytes)?;
    let contract = Contract::of(file, bytes)?;
    let nothing = Authority::default();
    let import = |name: &str, authority: &Authority| {
        let item = contract.imports().find(|item| same_track(item.name(), name));
        let is_data_only = item.is_none_or(|item| item.is_data_only());
        Import { name: name.to_owned(), basis: Basis::of(name, &authority.grants, is_data_only) }
    };
    let inspection = inspect(file, bytes)?;
    let mut parts: Vec<PartReport> = Vec::new();
    for part in inspection.composition.iter().flat_map(|composition| &composition.components) {
        let nested = inspection.component.components.iter().find(|it| it.name.as_deref() == Some(&part.name));
        let imports = nested.map(|nested| nested.imports.as_slice()).unwrap_or_default();
        let authority = authorities.parts.get(&part.name).unwrap_or(&nothing);
        parts.push(PartReport {
            name: part.name.clone(),
            imports: imports
                .iter()
                .filter(|name| !part.imports.contains_key(*name))
                .map(|name| import(name, authority))
                .collect(),
            authority: authority.clone(),
        });
    }
    if parts.is_empty() {
        parts.push(PartReport {
            name: name.to_owned(),
            imports: contract.imports().map(|item| import(item.name(), &authorities.whole)).collect(),
            authority: authorities.whole.clone(),
        });
    }
    Ok(Report { file: file.to_owned(), parts })
}

/// The report as people read it.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for part in &report.parts {
        let _ = writeln!(text, "{}", part.name);
        let lines = described(&part.authority.grants);
        if lines.is_empty() {
            let _ = writeln!(text, "  may touch nothing outside its sandbox");
        }
        for (capability, line) in &lines {
            let unused = if part.unused().contains(capability) { " (no import needs it)" } else { "" };
            let _ = writeln!(text, "  {:<16} {line}{unused}", capability.key());
        }
        let of = |wanted: fn(&Basis) -> bool| part.imports.iter().filter(move |it| wanted(&it.basis));
        for it in of(|basis| matches!(basis, Basis::Granted(_))) {
            let _ = writeln!(text, "  granted          {}", it.name);
        }
        for it in &part.imports {
            match it.basis {
                Basis::Missing(capability) => {
                    let _ = writeln!(text, "  not granted      {}: {}", it.name, capability.example());
                }
                Basis::NotOffered => {
                    let _ = writeln!(text, "  not offered      {}", it.name);
                }
                Basis::Open => {
                    let _ = writeln!(text, "  left open        {}", it.name);
                }
                Basis::Inert | Basis::Granted(_) => {}
            }
        }
        let inert = of(|basis| *basis == Basis::Inert).count();
        let _ = writeln!(text, "  inert            {inert} imports that reach nothing");
        let _ = writeln!(text, "  limits           {}", limits(&part.authority));
    }
    text
}

fn limits(authority: &Authority) -> String {
    let OutsideLimits { outbound_requests, outbound_connections, open_files, key_value_bytes, log_bytes } =
        authority.outside;
    let memory = authority.memory_bytes.map_or("the request's".to_owned(), format_bytes);
    format!(
        "memory {memory}, {outbound_requests} requests, {outbound_connections} connections, {open_files} open files, \
         key-value {}, log {}/s",
        format_bytes(key_value_bytes),
        format_bytes(log_bytes)
    )
}

/// Each grant in one line. Values of variables and the like are not shown: they may be secrets.
fn described(grants: &Grants) -> Vec<(Capability, String)> {
    let access = |access| if access == Access::Write { "read and write" } else { "read" };
    let mut lines = Vec::new();
    let mut line = |capability, text: String| lines.push((capability, text));
    for grant in &grants.http {
        let scheme = if grant.scheme == HttpScheme::Http { "http" } else { "https" };
        let private = if grant.private { ", also at private addresses" } else { "" };
        line(
            Capability::Http,
            format!("{scheme}://{}:{}{}{private}", host(&grant.host), grant.port, grant.path),
        );
    }
    for grant in &grants.filesystem {
        line(Capability::Filesystem, format!("{} {} as {}", access(grant.access), grant.directory, grant.at));
    }
    for grant in &grants.sockets {
        let protocol = if grant.protocol == SocketProtocol::Tcp { "tcp" } else { "udp" };
        let direction = match grant.direction {
            SocketDirection::Connect => "connect to",
            SocketDirection::Listen => "listen on",
        };
        line(Capability::Sockets, format!("{protocol} {direction} {} {}", grant.host, ports(grant.ports)));
    }
    for grant in &grants.keyvalue {
        line(
            Capability::Keyvalue,
            format!("{} bucket \"{}\" in {}", access(grant.access), grant.bucket, store(&grant.store)),
        );
    }
    for grant in &grants.blobstore {
        line(Capability::Blobstore, format!("{} container \"{}\"", access(grant.access), grant.container));
    }
    if let Some(grant) = &grants.messaging {
        for topic in &grant.publish {
            line(Capability::Messaging, format!("publish {topic}"));
        }
        for topic in &grant.subscribe {
            line(Capability::Messaging, format!("subscribe {topic}"));
        }
    }
    if let Some(config) = &grants.config {
        line(Capability::Config, format!("values {}", listed(config.keys())));
    }
    if grants.logging {
        line(Capability::Logging, "lines in the log".to_owned());
    }
    if !grants.environment.is_empty() {
        line(Capability::Cli, format!("variables {}", listed(grants.environment.keys())));
    }
    if !grants.arguments.is_empty() {
        line(Capability::Cli, format!("{} arguments", grants.arguments.len()));
    }
    if let Some(now) = grants.clock {
        line(Capability::Clocks, format!("the wall clock stands at {}", format_time(now)));
    }
    if let Some(seed) = grants.seed {
        line(Capability::Random, format!("randomness from the seed {seed}"));
    }
    lines
}

fn listed<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exactly(host) if host.contains(':') => format!("[{host}]"),
        HostPattern::Exactly(host) => host.clone(),
        HostPattern::Below(name) => format!("*.{name}"),
        HostPattern::Any => "*".to_owned(),
    }
}

fn ports((first, last): (u16, u16)) -> String {
    if first == last { format!("port {first}") } else { format!("ports {first}-{last}") }
}

/// Without the user and the password, which a report must not give away.
fn store(store: &StoreName) -> String {
    match store {
        StoreName::Embedded => "embedded".to_owned(),
        StoreName::Redis(url) => {
            let rest = url.strip_prefix("redis://").unwrap_or(url);
            let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
            let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
            format!("redis://{place}/{database}")
        }
    }
}
