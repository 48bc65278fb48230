//! What the composition exports.

use std::collections::{BTreeMap, BTreeSet};

use tenon_model::{Diagnostic, InterfaceName, Location};
use tenon_wit::{Item, ItemKind};

use super::resolve::functions_called;
use super::{Exported, Graph, Lookup, Target, listed, look_up, suggestion, unversioned};
use crate::manifest::{Exports, Manifest, Named};

impl Graph<'_> {
    /// Settles who exports what; a component that others import from is exported only where that was asked for.
    pub(super) fn settle_exports(&mut self, manifest: &Manifest) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        let mut exports: Vec<(String, Exported, &Location)> = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let items: Vec<_> = node.contract.exports().collect();
            let whole =
                |name: &str, at| (name.to_owned(), Exported { node: index, target: Target::whole(name) }, at);
            let all = || items.iter().map(|item| whole(item.name(), &node.component.at));
            match &node.component.exports {
                Exports::All => exports.extend(all()),
                Exports::Unsaid if !self.is_imported_from(&node.component.name) => exports.extend(all()),
                Exports::Unsaid | Exports::None => {}
                Exports::Named(wanted) => {
                    for named in wanted {
                        match self.find_export(index, named) {
                            Ok(target) => exports.push(match target.function {
                                // A function of an interface stands at the root, under its own name.
                                Some(ref function) => {
                                    (function.clone(), Exported { node: index, target }, &named.at)
                                }
                                None => whole(&target.name, &named.at),
                            }),
                            Err(finding) => findings.push(finding),
                        }
                    }
                }
            }
        }
        for reexport in &manifest.reexports {
            let Some(node) = self.index_of(&reexport.component.name) else { continue };
            match self.find_export(node, reexport.export.as_ref().unwrap_or(&reexport.import)) {
                Ok(target) => {
                    let written = &reexport.import;
                    let is_function = target.function.is_some()
                        || self.nodes[node].export(&target).is_some_and(|it| it.kind() == ItemKind::Function);
                    if is_function && InterfaceName::parse(&written.name).is_some() {
                        findings.push(function_as_interface(written, &target));
                        continue;
                    }
                    // The version that was left out is the exporter's.
                    let name = match unversioned(&target.name) == written.name {
                        true => target.name.clone(),
                        false => written.name.clone(),
                    };
                    exports.push((name, Exported { node, target }, &written.at));
                }
                Err(finding) => findings.push(finding),
            }
        }
        let mut settled: BTreeMap<String, (Exported, &Location)> = BTreeMap::new();
        for (name, exported, at) in exports {
            match settled.get(&name) {
                None => {
                    settled.insert(name, (exported, at));
                }
                Some((first, _)) if *first == exported => {} // listed twice
                Some((first, first_at)) => {
                    findings.push(self.duplicate(&name, (first.node, first_at), (exported.node, at)));
                }
            }
        }
        findings.extend(self.exported_twice(&settled));
        self.exports = settled.into_iter().map(|(name, (exported, _))| (name, exported)).collect();
        findings
    }

    /// An interface under two names would define its types twice, which no contract can say.
    fn exported_twice(&self, settled: &BTreeMap<String, (Exported, &Location)>) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for (index, (name, (exported, at))) in settled.iter().enumerate() {
            let node = &self.nodes[exported.node];
            let earlier = settled.iter().take(index).find(|(_, (other, _))| other == exported);
            let is_interface =
                node.export(&exported.target).is_some_and(|it| it.kind() == ItemKind::Interface);
            if let (Some((other, (_, other_at))), true) = (earlier, is_interface) {
                findings.push(
                    Diagnostic::new(
                        "duplicate-export",
                        format!(
                            "`{}` of `{}` is exported under two names: `{other}` and `{name}`",
                            exported.target, node.component.name
                        ),
                    )
                    .at((*at).clone())
                    .note_at("first exported", format!("as `{other}`"), (*other_at).clone())
                    .mend("Keep one of the two: an interface under two names would have each of its types twice."),
                );
            }
        }
        findings
    }

    /// The export of a node that `wanted` names, or the function of one of its interfaces.
    fn find_export(&self, index: usize, wanted: &Named) -> Result<Target, Diagnostic> {
        let node = &self.nodes[index];
        let items: Vec<_> = node.contract.exports().collect();
        let names: Vec<_> = items.iter().map(Item::name).collect();
        let component = &node.component.name;
        match look_up(&wanted.name, &names) {
            Lookup::Found(name) => return Ok(Target::whole(name)),
            Lookup::Ambiguous(matching) => {
                return Err(Diagnostic::new(
                    "ambiguous-export",
                    format!("`{component}` exports several interfaces that `{}` may mean", wanted.name),
                )
                .at(wanted.at.clone())
                .note("found", matching.join("\n"))
                .mend("Write the name in full, with its version."));
            }
            Lookup::Absent => {}
        }
        if let [only] = functions_called(&items, &wanted.name, false).as_slice() {
            return Ok(only.clone());
        }
        Err(Diagnostic::new("unknown-export", format!("`{component}` does not export `{}`", wanted.name))
            .at(wanted.at.clone())
            .note(format!("exports of {component} ({})", node.file), listed(&names))
            .mend(match suggestion(&wanted.name, &names) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => "Remove it, or name one of its exports.".to_owned(),
            }))
    }

    /// Components that nothing exported reaches: they would be carried along and never called.
    pub(super) fn unused(&self) -> Vec<Diagnostic> {
        let mut used: BTreeSet<usize> = self.exports.values().map(|exported| exported.node).collect();
        let mut waiting: Vec<usize> = used.iter().copied().collect();
        while let Some(index) = waiting.pop() {
            for edge in self.edges.iter().filter(|edge| edge.importer == index) {
                if used.insert(edge.exporter) {
                    waiting.push(edge.exporter);
                }
            }
        }
        let unused = self.nodes.iter().enumerate().filter(|(index, _)| !used.contains(index));
        unused
            .map(|(_, node)| {
                let name = &node.component.name;
                let importers: Vec<_> = self
                    .edges
                    .iter()
                    .filter(|edge| self.nodes[edge.exporter].component.name == *name)
                    .map(|edge| self.nodes[edge.importer].component.name.as_str())
                    .collect();
                let why = match importers.as_slice() {
                    [] => "no component imports from it, and nothing of it is exported".to_owned(),
                    [importer, ..] => format!("only `{importer}` imports from it, which is not used either"),
                };
                let names: Vec<_> = node.contract.exports().map(|item| item.name().to_owned()).collect();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                Diagnostic::new("unused-component", format!("`{name}` is not used: {why}"))
                    .at(node.component.at.clone())
                    .note(format!("exports of {name} ({})", node.file), listed(&names))
                    .mend(format!(
                        "Remove [component.{name}], let another component import from it, or export it: `export = true`."
                    ))
            })
            .collect()
    }

    /// Nobody could call a composition without exports.
    pub(super) fn nothing_exported(&self, manifest: &Manifest) -> Option<Diagnostic> {
        let asked_for = !manifest.reexports.is_empty()
            || self.nodes.iter().any(|node| matches!(node.component.exports, Exports::Named(_)));
        (!self.nodes.is_empty() && !asked_for).then(|| {
            Diagnostic::new("nothing-exported", "the composition exports nothing, so nobody could call it")
                .at(Location::file(&manifest.file))
                .mend("Set `export = true` in the table of the component that answers requests.")
        })
    }

    fn is_imported_from(&self, name: &str) -> bool {
        let others = self.nodes.iter().filter(|node| node.component.name != name);
        others.map(|node| &node.component).any(|other| {
            let wired = other.wires.iter().any(|wire| wire.component.name == name);
            wired || other.spreads.iter().any(|spread| spread.name == name)
        })
    }

    fn duplicate(&self, name: &str, first: (usize, &Location), second: (usize, &Location)) -> Diagnostic {
        let (first_at, second_at) = (first.1.clone(), second.1.clone());
        let (first, second) = (&self.nodes[first.0], &self.nodes[second.0]);
        let (a, b) = (&first.component.name, &second.component.name);
        Diagnostic::new(
            "duplicate-export",
            format!("`{a}` and `{b}` both export `{name}` from the composition"),
        )
        .at(second_at.clone())
        .note_at("first exported by", format!("{a} ({})", first.file), first_at)
        .note_at("also exported by", format!("{b} ({})", second.file), second_at)
        .mend(format!(
            "Say which one is meant: `export = false` in the table of the other, or a list of the names it \
                 shall still export.\nOr join them: when `{a}` shall be called by `{b}`, name it in \
                 [component.{b}.imports]."
        ))
    }
}

fn function_as_interface(written: &Named, target: &Target) -> Diagnostic {
    let plain = target.function.as_deref().unwrap_or(&target.name);
    Diagnostic::new(
        "manifest-value",
        format!("`{target}` is a function, and `{}` is the name of an interface", written.name),
    )
    .at(written.at.clone())
    .mend(format!("Export the function under a plain name, `{plain}` for one, or name a whole interface."))
}
