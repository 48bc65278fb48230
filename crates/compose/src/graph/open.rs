//! Imports that no wire satisfies: what may pass through to the host, and what may not.

use std::collections::BTreeMap;

use tenon_model::{Capability, Diagnostic, InterfaceName, PartImport, Standing, standing};
use tenon_wit::{Item, ItemKind, first_difference};

use super::resolve::stands_for;
use super::{Graph, Node, suggestion, unversioned};
use crate::manifest::Manifest;

impl Graph<'_> {
    /// Sorts every import that no wire satisfies: data, inert and granted interfaces pass through, and so does what
    /// is left open on purpose; the rest is a finding.
    pub(super) fn settle_open_imports(&mut self, manifest: &Manifest) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let mut withheld = Vec::new();
            let mut ungranted: BTreeMap<Capability, Vec<String>> = BTreeMap::new();
            for item in node.contract.imports() {
                let name = item.name();
                if PartImport::is_reserved(name) {
                    findings.push(self.reserved(index, name));
                    continue;
                }
                if self.is_wired(index, name) {
                    continue;
                }
                let open_on_purpose =
                    node.component.open || manifest.open.iter().any(|pattern| pattern.matches(name));
                match standing(name) {
                    _ if open_on_purpose || item.is_data_only() => {}
                    Standing::Inert => {}
                    Standing::Grantable(capability) if !node.authority.grants.has(capability) => {
                        ungranted.entry(capability).or_default().push(name.to_owned());
                        continue;
                    }
                    Standing::Grantable(_) => {}
                    Standing::Withheld => {
                        withheld.push(name.to_owned());
                        continue;
                    }
                    Standing::Foreign => {
                        findings.push(self.unsatisfied(index, &item));
                        continue;
                    }
                }
                self.open.entry(name.to_owned()).or_default().push(index);
            }
            for (capability, names) in ungranted {
                findings.push(self.ungranted(index, capability, &names));
            }
            if !withheld.is_empty() {
                findings.push(self.withheld(index, &withheld));
            }
        }
        findings
    }

    /// A pattern that leaves nothing open is a typing error, or stayed behind when its component went.
    pub(super) fn check_open_patterns(&self, manifest: &Manifest) -> Vec<Diagnostic> {
        let imports: Vec<_> = self.nodes.iter().flat_map(|node| node.contract.imports()).collect();
        let names: Vec<_> = imports.iter().map(Item::name).collect();
        let unused = manifest.open.iter().filter(|pattern| !names.iter().any(|name| pattern.matches(name)));
        unused
            .map(|pattern| {
                let mend = match suggestion(pattern.stem(), &names) {
                    Some(near) => format!("Did you mean \"{}\"?", unversioned(near)),
                    None => "Remove it.".to_owned(),
                };
                Diagnostic::new(
                    "unused-open",
                    format!("no component imports anything like `{}`", pattern.text),
                )
                .at(pattern.at.clone())
                .mend(mend)
            })
            .collect()
    }

    /// Whether a wire was written for this import, even one that could not be resolved: that has been reported.
    pub(crate) fn is_wired(&self, index: usize, name: &str) -> bool {
        let means = |written: &str| {
            written == name
                || InterfaceName::parse(written).is_some_and(|it| it.version.is_none())
                    && unversioned(name) == *written
        };
        self.edges.iter().any(|edge| edge.importer == index && edge.import.name == name)
            || self.nodes[index].component.wires.iter().any(|wire| {
                let written = wire.import.name.as_str();
                means(written) || written.rsplit_once('.').is_some_and(|(interface, _)| means(interface))
            })
    }

    fn unsatisfied(&self, index: usize, item: &Item<'_>) -> Diagnostic {
        let node = &self.nodes[index];
        let (component, import) = (&node.component.name, item.name());
        let candidates = self.candidates(index, item);
        // Those that fit as well as the best one does.
        let equal: Vec<_> = candidates
            .iter()
            .filter(|it| it.fits && candidates.first().is_some_and(|best| best.order == it.order))
            .collect();
        let (code, what) = match equal.len() {
            0 | 1 => ("unsatisfied-import", "nothing satisfies it".to_owned()),
            count => ("ambiguous-provider", format!("{count} components could satisfy it")),
        };
        let mut diagnostic = Diagnostic::new(code, format!("`{component}` imports `{import}`, and {what}"))
            .at(node.component.at.clone())
            .note(format!("imported by {component} ({})", node.file), item.text());

        for candidate in &candidates {
            diagnostic = diagnostic.note(
                format!("{} ({})", candidate.component, self.file_of(candidate.component)),
                &candidate.why,
            );
        }
        let lines = candidates.iter().find(|it| it.fits).or(candidates.first()).map(|it| &it.line);
        let open = format!("open = [\"{}\"]", unversioned(import));
        if equal.len() > 1 {
            let lines: Vec<_> = equal.iter().map(|it| it.line.as_str()).collect();
            return diagnostic.mend(format!("Choose one, in the manifest:\n{}", lines.join("\nor\n")));
        }
        if is_wac(node) {
            let argument = match lines {
                Some(line) => line.trim().to_owned(),
                None => format!("\"{}\": NAME[\"EXPORT\"]", unversioned(import)),
            };
            return diagnostic.mend(format!(
                "Pass it where `{component}` is made:\n  new … {{ {argument} }}\n\
                 or leave what is not passed to whoever uses the composed component:\n  new … {{ ... }}"
            ));
        }
        diagnostic.mend(match lines {
            Some(line) => format!(
                "Add to the manifest:\n{line}\n\
                 or leave it to whoever uses the composed component, at the top of the manifest:\n  {open}"
            ),
            None => format!(
                "No component here exports anything like it. Add the one that does, and name it:\n  \
                 [component.{component}.imports]\n  \"{}\" = {{ component = \"NAME\" }}\n\
                 or leave it to whoever uses the composed component, at the top of the manifest:\n  {open}",
                unversioned(import)
            ),
        })
    }

    /// One finding for each grant that is missing, whatever number of interfaces it is for.
    fn ungranted(&self, index: usize, capability: Capability, names: &[String]) -> Diagnostic {
        let node = &self.nodes[index];
        let component = &node.component.name;
        let what = match names {
            [one] => format!("`{one}`, which it was not granted"),
            _ => format!("{} interfaces of `{capability}`, which it was not granted", names.len()),
        };
        Diagnostic::new("import-not-granted", format!("`{component}` imports {what}"))
            .at(node.component.at.clone())
            .note(format!("imported by {component} ({})", node.file), names.join("\n"))
            .mend(format!(
                "Grant what it needs:\n{}\n\
                 or build it without: often a library brings in what the component never uses;\n\
                 or leave it to whoever uses the composed component, at the top of the manifest:\n  open = [\"{capability}/*\"]",
                indented(&capability.lines(Some(component))),
            ))
    }

    fn withheld(&self, index: usize, names: &[String]) -> Diagnostic {
        let node = &self.nodes[index];
        let component = &node.component.name;
        let packages: std::collections::BTreeSet<_> = names
            .iter()
            .filter_map(|name| InterfaceName::parse(name))
            .map(|it| format!("\"{}/*\"", it.package))
            .collect();
        let packages: Vec<_> = packages.into_iter().collect();
        Diagnostic::new(
            "withheld-import",
            format!("`{component}` imports WASI interfaces that are not offered to anybody"),
        )
        .at(node.component.at.clone())
        .note(format!("imported by {component} ({})", node.file), names.join("\n"))
        .mend(format!(
            "Build the component without it: often a library brings in what the component never uses.\n\
             Or leave it to another host, at the top of the manifest:\n  open = [{}]",
            packages.join(", ")
        ))
    }

    /// A name that only the composition gives: whoever brings it along would claim another's authority.
    fn reserved(&self, index: usize, name: &str) -> Diagnostic {
        let node = &self.nodes[index];
        Diagnostic::new(
            "reserved-import",
            format!("`{}` imports `{name}`, a name that only Tenon gives", node.component.name),
        )
        .at(node.component.at.clone())
        .mend("Name the component as it was built, not one that was composed for a node.")
    }

    fn file_of(&self, component: &str) -> &str {
        self.nodes.iter().find(|node| node.component.name == component).map_or("", |node| node.file)
    }

    /// Who exports something that satisfies `item`, or nearly does; what fits comes first.
    fn candidates(&self, importer: usize, item: &Item<'_>) -> Vec<Candidate<'_>> {
        let mut candidates = Vec::new();
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| *index != importer) {
            for export in node.contract.exports() {
                let same_name = unversioned(export.name()) == unversioned(item.name());
                let difference = first_difference(&export, item);
                let fits = difference.is_none();
                // A name in common, or types in common that cannot be so by chance.
                let telling = item.kind() == ItemKind::Interface && export.kind() == ItemKind::Interface;
                if !(same_name || fits && telling) {
                    continue;
                }
                let on_track = stands_for(export.name(), item.name());
                let name = export.name();
                let why = match (fits, same_name, on_track) {
                    (true, true, true) => format!("exports `{name}`, which fits"),
                    (true, true, false) => {
                        format!("exports `{name}`: another version, and its types fit")
                    }
                    (true, false, _) => format!("exports `{name}`: another name, and its types fit"),
                    (false, ..) => format!(
                        "exports `{name}`, but its types differ: {}",
                        difference.map(|it| it.place).unwrap_or_default()
                    ),
                };
                let component = &self.nodes[index].component.name;
                let export_key = match same_name && on_track {
                    true => String::new(),
                    false => format!(", export = \"{name}\""),
                };
                candidates.push(Candidate {
                    component,
                    fits,
                    order: (!fits, !same_name, !on_track),
                    why,
                    line: match is_wac(&self.nodes[importer]) {
                        true => format!("  \"{}\": {component}[\"{name}\"]", unversioned(item.name())),
                        false => format!(
                        "  [component.{}.imports]\n  \"{}\" = {{ component = \"{component}\"{export_key} }}",
                        self.nodes[importer].component.name,
                        unversioned(item.name())
                    ),
                    },
                });
            }
        }
        candidates.sort_by_key(|candidate| candidate.order);
        candidates
    }
}

/// Whether the component is one of a WAC file, and the mend is written in that language.
pub(super) fn is_wac(node: &Node<'_>) -> bool {
    node.component.at.file.ends_with(".wac")
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

struct Candidate<'g> {
    component: &'g str,
    fits: bool,
    /// Best first.
    order: (bool, bool, bool),
    /// What it exports and how that fits.
    why: String,
    /// The lines of TOML that would wire it.
    line: String,
}
