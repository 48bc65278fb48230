//! What the composition exports.

use tenon_model::{Diagnostic, Location};
use tenon_wit::Item;

use super::{Graph, Lookup, listed, look_up, suggestion};
use crate::manifest::{Exports, Manifest};

impl Graph<'_> {
    /// Settles who exports what; a component that others import from is exported only where that was asked for.
    pub(super) fn settle_exports(&mut self) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        let mut exports: Vec<(String, usize)> = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let items: Vec<_> = node.contract.exports().collect();
            let names: Vec<_> = items.iter().map(Item::name).collect();
            let all = || names.iter().map(|name| ((*name).to_owned(), index));
            match &node.component.exports {
                Exports::All => exports.extend(all()),
                Exports::Unsaid if !self.is_imported_from(&node.component.name) => exports.extend(all()),
                Exports::Unsaid | Exports::None => {}
                Exports::Named(wanted) => {
                    for named in wanted {
                        match look_up(&named.name, &names) {
                            Lookup::Found(name) => exports.push((name.to_owned(), index)),
                            Lookup::Ambiguous(matching) => findings.push(
                                Diagnostic::new(
                                    "ambiguous-export",
                                    format!(
                                        "`{}` exports `{}` in several versions",
                                        node.component.name, named.name
                                    ),
                                )
                                .at(named.at.clone())
                                .note("found", matching.join("\n"))
                                .mend("Write the version too."),
                            ),
                            Lookup::Absent => findings.push(
                                Diagnostic::new(
                                    "unknown-export",
                                    format!("`{}` does not export `{}`", node.component.name, named.name),
                                )
                                .at(named.at.clone())
                                .note(
                                    format!("exports of {} ({})", node.component.name, node.file),
                                    listed(&names),
                                )
                                .mend(
                                    match suggestion(&named.name, &names) {
                                        Some(near) => format!("Did you mean \"{near}\"?"),
                                        None => "Remove it from the list.".to_owned(),
                                    },
                                ),
                            ),
                        }
                    }
                }
            }
        }
        for (name, index) in exports {
            match self.exports.get(&name) {
                None => {
                    self.exports.insert(name, index);
                }
                Some(first) if *first == index => {} // listed twice
                Some(first) => findings.push(self.duplicate(&name, *first, index)),
            }
        }
        findings
    }

    /// Nobody could call a composition without exports.
    pub(super) fn nothing_exported(&self, manifest: &Manifest) -> Option<Diagnostic> {
        let asked_for = self.nodes.iter().any(|node| matches!(node.component.exports, Exports::Named(_)));
        (!self.nodes.is_empty() && !asked_for).then(|| {
            Diagnostic::new("nothing-exported", "the composition exports nothing, so nobody could call it")
                .at(Location::file(&manifest.file))
                .mend("Set `export = true` in the table of the component that answers requests.")
        })
    }

    fn is_imported_from(&self, name: &str) -> bool {
        let others = self.nodes.iter().filter(|node| node.component.name != name);
        others.flat_map(|node| &node.component.wires).any(|wire| wire.component.name == name)
    }

    fn duplicate(&self, name: &str, first: usize, second: usize) -> Diagnostic {
        let (first, second) = (&self.nodes[first], &self.nodes[second]);
        let (a, b) = (&first.component.name, &second.component.name);
        Diagnostic::new(
            "duplicate-export",
            format!("`{a}` and `{b}` both export `{name}` from the composition"),
        )
        .at(second.component.at.clone())
        .note_at("first exported by", format!("{a} ({})", first.file), first.component.at.clone())
        .note_at("also exported by", format!("{b} ({})", second.file), second.component.at.clone())
        .mend(format!(
            "Say which one is meant: `export = false` in the table of the other, or a list of the names it \
                 shall still export.\nOr join them: when `{a}` shall be called by `{b}`, name it in \
                 [component.{b}.imports]."
        ))
    }
}
