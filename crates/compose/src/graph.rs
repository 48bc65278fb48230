//! The graph of a composition: which export satisfies which import, what stays open, what is exported.
//!
//! Building it never fails: what is wrong is found beside what can still be understood, so that one run tells
//! everything.

mod cycles;
mod exports;
mod open;

use std::collections::BTreeMap;

use tenon_model::{Authority, Diagnostic, Digest, InterfaceName, Location};
use tenon_wit::{Contract, most_similar, require_component, same_track};

use crate::compose::Input;
use crate::manifest::{Component, Manifest, Wire};

/// A composition whose names are all resolved.
pub(crate) struct Graph<'a> {
    /// The components that could be read, in order of their names.
    pub(crate) nodes: Vec<Node<'a>>,
    /// The imports that are satisfied within the composition, in order of importer and import.
    pub(crate) edges: Vec<Edge<'a>>,
    /// The imports that are left open, and which nodes have them.
    pub(crate) open: BTreeMap<String, Vec<usize>>,
    /// The exports of the composition, and which node has them.
    pub(crate) exports: BTreeMap<String, usize>,
}

/// A component with its bytes and its contract.
pub(crate) struct Node<'a> {
    pub(crate) component: &'a Component,
    pub(crate) file: &'a str,
    pub(crate) bytes: &'a [u8],
    pub(crate) digest: Digest,
    pub(crate) contract: Contract,
    /// What it was granted, and its own limits.
    pub(crate) authority: Authority,
}

/// One import satisfied by one export.
pub(crate) struct Edge<'a> {
    pub(crate) wire: &'a Wire,
    /// The index of the node that imports.
    pub(crate) importer: usize,
    /// The name of the import, in full.
    pub(crate) import: String,
    /// The index of the node that exports.
    pub(crate) exporter: usize,
    /// The name of the export, in full.
    pub(crate) export: String,
}

impl<'a> Graph<'a> {
    /// The graph of `manifest` over `inputs`, and everything that is wrong with it.
    pub(crate) fn of(manifest: &'a Manifest, inputs: &[Input<'a>]) -> (Self, Vec<Diagnostic>) {
        let (nodes, mut findings) = nodes(manifest, inputs);
        let all_read = findings.is_empty();
        let mut graph = Self { nodes, edges: Vec::new(), open: BTreeMap::new(), exports: BTreeMap::new() };
        findings.extend(graph.resolve_wires());
        let circles = cycles::find(&graph);
        let no_circles = circles.is_empty();
        findings.extend(circles);
        findings.extend(graph.settle_open_imports(manifest));
        if all_read {
            // A component that could not be read may be the one that was meant.
            findings.extend(graph.check_open_patterns(manifest));
            findings.extend(graph.settle_exports());
            if no_circles && graph.exports.is_empty() {
                findings.extend(graph.nothing_exported(manifest));
            }
        }
        (graph, findings)
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.component.name == name)
    }

    fn resolve_wires(&mut self) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        let mut edges: Vec<Edge<'a>> = Vec::new();
        for (importer, node) in self.nodes.iter().enumerate() {
            for wire in &node.component.wires {
                let import = match resolve_import(node, wire) {
                    Ok(import) => import,
                    Err(finding) => {
                        findings.push(finding);
                        continue;
                    }
                };
                if let Some(other) = edges.iter().find(|it| it.importer == importer && it.import == import) {
                    findings.push(
                        Diagnostic::new(
                            "duplicate-import",
                            format!("`{}` satisfies its import `{import}` twice", node.component.name),
                        )
                        .at(wire.import.at.clone())
                        .note_at(
                            "first satisfied",
                            format!("from `{}`", other.wire.component.name),
                            other.wire.import.at.clone(),
                        )
                        .mend("Remove one of the two lines."),
                    );
                    continue;
                }
                // A component that could not be read has been reported already.
                let Some(exporter) = self.index_of(&wire.component.name) else { continue };
                match resolve_export(node, &import, &self.nodes[exporter], wire) {
                    Ok(export) => edges.push(Edge { wire, importer, import, exporter, export }),
                    Err(finding) => findings.push(finding),
                }
            }
        }
        edges.sort_by(|left, right| (left.importer, &left.import).cmp(&(right.importer, &right.import)));
        self.edges = edges;
        findings
    }
}

fn nodes<'a>(manifest: &'a Manifest, inputs: &[Input<'a>]) -> (Vec<Node<'a>>, Vec<Diagnostic>) {
    let (mut nodes, mut findings) = (Vec::new(), Vec::new());
    if manifest.components.is_empty() {
        findings.push(
            Diagnostic::new("no-components", "the manifest names no components")
                .at(Location::file(&manifest.file))
                .mend("Add one: a table [component.NAME] with `path = \"FILE.wasm\"`."),
        );
    }
    for component in &manifest.components {
        let Some(input) = inputs.iter().find(|input| input.component == component.name) else {
            findings.push(
                Diagnostic::new(
                    "missing-input",
                    format!("there is no file for the component `{}`", component.name),
                )
                .at(component.path_at.clone().unwrap_or_else(|| component.at.clone()))
                .mend(format!("Build it, or put it at `{}`.", component.path)),
            );
            continue;
        };
        let read = require_component(input.file, input.bytes)
            .and_then(|()| Contract::of(input.file, input.bytes))
            .map_err(|finding| named_by(component, finding));
        match read {
            Ok(contract) => nodes.push(Node {
                component,
                file: input.file,
                bytes: input.bytes,
                digest: Digest::of(input.bytes),
                contract,
                authority: manifest.authorities.parts.get(&component.name).cloned().unwrap_or_default(),
            }),
            Err(finding) => findings.push(finding),
        }
    }
    (nodes, findings)
}

/// Adds where the manifest names the file.
fn named_by(component: &Component, finding: Diagnostic) -> Diagnostic {
    let at = component.path_at.clone().unwrap_or_else(|| component.at.clone());
    finding.note_at("named by", format!("the component `{}`", component.name), at)
}

/// What a name that may lack its version stands for among `names`.
enum Lookup<'n> {
    Found(&'n str),
    Ambiguous(Vec<&'n str>),
    Absent,
}

fn look_up<'n>(wanted: &str, names: &[&'n str]) -> Lookup<'n> {
    if let Some(exact) = names.iter().find(|name| **name == wanted) {
        return Lookup::Found(exact);
    }
    let without_version = InterfaceName::parse(wanted).is_some_and(|interface| interface.version.is_none());
    let matching: Vec<_> = names
        .iter()
        .copied()
        .filter(|name| {
            without_version
                && InterfaceName::parse(name).is_some_and(|interface| interface.unversioned() == wanted)
        })
        .collect();
    match matching.as_slice() {
        [] => Lookup::Absent,
        [one] => Lookup::Found(one),
        _ => Lookup::Ambiguous(matching),
    }
}

fn resolve_import(node: &Node<'_>, wire: &Wire) -> Result<String, Diagnostic> {
    let (name, wanted) = (&node.component.name, &wire.import.name);
    let items: Vec<_> = node.contract.imports().collect();
    let names: Vec<_> = items.iter().map(tenon_wit::Item::name).collect();
    match look_up(wanted, &names) {
        Lookup::Found(found) => Ok(found.to_owned()),
        Lookup::Ambiguous(matching) => Err(Diagnostic::new(
            "ambiguous-import",
            format!("`{name}` imports `{wanted}` in several versions"),
        )
        .at(wire.import.at.clone())
        .note("found", matching.join("\n"))
        .mend("Write the version too; one line for each.")),
        Lookup::Absent => {
            let mend = match suggestion(wanted, &names) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => {
                    "Remove the line; a toolchain leaves out imports that the source never uses.".to_owned()
                }
            };
            Err(Diagnostic::new("unknown-import", format!("`{name}` does not import `{wanted}`"))
                .at(wire.import.at.clone())
                .note(format!("imports of {name} ({})", node.file), listed(&names))
                .mend(mend))
        }
    }
}

fn resolve_export(
    importer: &Node<'_>,
    import: &str,
    exporter: &Node<'_>,
    wire: &Wire,
) -> Result<String, Diagnostic> {
    let name = &exporter.component.name;
    let items: Vec<_> = exporter.contract.exports().collect();
    let names: Vec<_> = items.iter().map(tenon_wit::Item::name).collect();
    let (wanted, at) = match &wire.export {
        Some(export) => (export.name.as_str(), &export.at),
        None => (import, &wire.component.at),
    };
    match look_up(wanted, &names) {
        Lookup::Found(found) => return Ok(found.to_owned()),
        Lookup::Ambiguous(matching) => {
            return Err(Diagnostic::new(
                "ambiguous-export",
                format!("`{name}` exports `{wanted}` in several versions"),
            )
            .at(at.clone())
            .note("found", matching.join("\n"))
            .mend("Write the version too."));
        }
        Lookup::Absent => {}
    }
    if wire.export.is_none() {
        // Versions of one track stand for one another; whether the types agree is checked for every edge.
        if let Some(compatible) = names.iter().find(|name| same_track(name, import)) {
            return Ok((*compatible).to_owned());
        }
        if let Some(other) = names.iter().find(|name| unversioned(name) == unversioned(import)) {
            return Err(Diagnostic::new(
                "version-mismatch",
                format!(
                    "`{}` imports `{import}`, but `{name}` exports it in a version that is not compatible",
                    importer.component.name
                ),
            )
            .at(wire.import.at.clone())
            .note(format!("imported by {} ({})", importer.component.name, importer.file), import)
            .note(format!("exported by {name} ({})", exporter.file), *other)
            .mend(format!(
                "Build `{}` against the version that `{name}` exports, or `{name}` against the other.\n\
                 When the change between the two does not matter here, say so and let the types decide:\n\
                 \"{}\" = {{ component = \"{name}\", export = \"{other}\" }}",
                importer.component.name, wire.import.name
            )));
        }
    }
    let within = items.iter().find(|item| item.functions().iter().any(|(function, _)| *function == wanted));
    let mend = match (suggestion(wanted, &names), within) {
        (_, Some(item)) => format!(
            "The function `{wanted}` is part of the interface `{}`; an export can name the interface: \
             export = \"{}\".",
            item.name(),
            item.name()
        ),
        (Some(near), None) => format!("Did you mean `{near}`? export = \"{near}\""),
        (None, None) => "Name one of its exports with `export = \"…\"`, or another component.".to_owned(),
    };
    Err(Diagnostic::new("unknown-export", format!("`{name}` does not export `{wanted}`"))
        .at(at.clone())
        .note(format!("exports of {name} ({})", exporter.file), listed(&names))
        .mend(mend))
}

fn unversioned(name: &str) -> String {
    InterfaceName::parse(name).map_or_else(|| name.to_owned(), |interface| interface.unversioned())
}

/// The name a person probably meant: one that differs in a few letters, or has the same interface in another
/// package.
fn suggestion<'n>(wanted: &str, names: &[&'n str]) -> Option<&'n str> {
    let interface = |name: &str| InterfaceName::parse(name).map(|it| it.interface);
    let wanted_interface = interface(wanted);
    let same_interface = || {
        let mut matching =
            names.iter().filter(|name| wanted_interface.is_some() && interface(name) == wanted_interface);
        matching.next().copied()
    };
    let pairs: Vec<_> = names.iter().map(|name| (unversioned(name), *name)).collect();
    let near = most_similar(&unversioned(wanted), pairs.iter().map(|(short, _)| short.as_str()));
    near.and_then(|near| pairs.iter().find(|(short, _)| short == near))
        .map(|(_, name)| *name)
        .or_else(same_interface)
}

/// Names one a line; what the host offers to everyone is only counted.
fn listed(names: &[&str]) -> String {
    let (host, own): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.starts_with("wasi:"));
    let mut lines: Vec<String> = own.into_iter().map(str::to_owned).collect();
    match host.len() {
        0 => {}
        1..=3 => lines.extend(host.into_iter().map(str::to_owned)),
        count => lines.push(format!("and {count} interfaces of wasi")),
    }
    if lines.is_empty() { "none".to_owned() } else { lines.join("\n") }
}
