//! The graph of a composition: which export satisfies which import, what stays open, what is exported.
//!
//! Building it never fails: what is wrong is found beside what can still be understood, so that one run tells
//! everything.

mod cycles;
mod exports;
mod open;
mod resolve;

use std::borrow::Cow;
use std::collections::BTreeMap;

use tenon_model::{Authority, Diagnostic, Digest, InterfaceName, Location};
use tenon_wit::{Contract, Item, most_similar, require_component};

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
    /// The exports of the composition, and what each is.
    pub(crate) exports: BTreeMap<String, Exported>,
}

/// What the composition exports under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exported {
    /// The index of the node that has it.
    pub(crate) node: usize,
    /// What of the node it is.
    pub(crate) target: Target,
}

/// An import or an export of a component, or one function of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// The name in the component, in full.
    pub(crate) name: String,
    /// The function, where only one of an interface is meant.
    pub(crate) function: Option<String>,
}

impl Target {
    pub(crate) fn whole(name: impl Into<String>) -> Self {
        Self { name: name.into(), function: None }
    }

    fn within(self, item: Item<'_>) -> Option<Item<'_>> {
        match &self.function {
            Some(function) => item.function(function),
            None => Some(item),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        match &self.function {
            Some(function) => write!(f, ".{function}"),
            None => Ok(()),
        }
    }
}

/// A component with its bytes and its contract.
pub(crate) struct Node<'a> {
    pub(crate) component: &'a Component,
    pub(crate) file: &'a str,
    pub(crate) bytes: &'a [u8],
    /// The WIT files that it may have been built with.
    pub(crate) wit: &'a [(String, String)],
    pub(crate) digest: Digest,
    pub(crate) contract: Contract,
    /// What it was granted, and its own limits.
    pub(crate) authority: Authority,
}

/// One import satisfied by one export.
pub(crate) struct Edge<'a> {
    pub(crate) wire: Cow<'a, Wire>,
    /// The index of the node that imports.
    pub(crate) importer: usize,
    /// The import, or one function of it.
    pub(crate) import: Target,
    /// The index of the node that exports.
    pub(crate) exporter: usize,
    /// The export, or one function of it.
    pub(crate) export: Target,
}

impl Node<'_> {
    /// What this component imports as `target`.
    pub(crate) fn import(&self, target: &Target) -> Option<Item<'_>> {
        target.clone().within(self.contract.import(&target.name)?)
    }

    /// What this component exports as `target`.
    pub(crate) fn export(&self, target: &Target) -> Option<Item<'_>> {
        target.clone().within(self.contract.export(&target.name)?)
    }
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
        findings.extend(graph.missing_functions());
        findings.extend(graph.settle_open_imports(manifest));
        if all_read {
            // A component that could not be read may be the one that was meant.
            findings.extend(graph.check_open_patterns(manifest));
            findings.extend(graph.settle_exports(manifest));
            if no_circles && graph.exports.is_empty() {
                findings.extend(graph.nothing_exported(manifest));
            } else if findings.is_empty() {
                // A line that could not be resolved may be what would use the component.
                findings.extend(graph.unused());
            }
        }
        (graph, findings)
    }

    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.component.name == name)
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
                wit: input.wit,
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

/// Looks a name up: as it is, without its version, or as the plain name of an interface (`verify` for
/// `demo:auth/verify@0.1.0`).
fn look_up<'n>(wanted: &str, names: &[&'n str]) -> Lookup<'n> {
    if let Some(exact) = names.iter().find(|name| **name == wanted) {
        return Lookup::Found(exact);
    }
    let without_version = InterfaceName::parse(wanted).is_some_and(|interface| interface.version.is_none());
    let matching: Vec<_> = names
        .iter()
        .copied()
        .filter(|name| {
            InterfaceName::parse(name).is_some_and(|interface| match without_version {
                true => interface.unversioned() == wanted,
                false => interface.interface == wanted,
            })
        })
        .collect();
    match matching.as_slice() {
        [] => Lookup::Absent,
        [one] => Lookup::Found(one),
        _ => Lookup::Ambiguous(matching),
    }
}

pub(crate) fn unversioned(name: &str) -> String {
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
