//! What the lines of a manifest mean: which import, and which export of which component satisfies it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use tenon_model::{Diagnostic, Location};
use tenon_wit::{Item, ItemKind, compare_versions, first_difference, same_track};

use super::open::is_wac;
use super::{Edge, Graph, Lookup, Node, Target, listed, look_up, suggestion, unversioned};
use crate::manifest::{Named, Wire};

impl<'a> Graph<'a> {
    pub(super) fn resolve_wires(&mut self) -> Vec<Diagnostic> {
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
                let overlaps = |edge: &&Edge<'_>| {
                    let functions = (&edge.import.function, &import.function);
                    let apart = matches!(functions, (Some(left), Some(right)) if left != right);
                    edge.importer == importer && edge.import.name == import.name && !apart
                };
                if let Some(other) = edges.iter().find(overlaps) {
                    findings.push(satisfied_twice(node, &import, wire, other));
                    continue;
                }
                // A component that could not be read has been reported already.
                let Some(exporter) = self.index_of(&wire.component.name) else { continue };
                let wanted = import.name.clone();
                match resolve_export(node, import, &self.nodes[exporter], wire) {
                    Ok((import, export)) => {
                        edges.push(Edge { wire: Cow::Borrowed(wire), importer, import, exporter, export });
                    }
                    Err(finding) => {
                        findings.push(self.exported_elsewhere(finding, &wanted, [importer, exporter], wire));
                    }
                }
            }
        }
        for (importer, node) in
            self.nodes.iter().enumerate().filter(|(_, it)| !it.component.spreads.is_empty())
        {
            let taken: BTreeSet<String> = edges
                .iter()
                .filter(|edge| edge.importer == importer)
                .map(|edge| edge.import.name.clone())
                .collect();
            for item in node.contract.imports().filter(|item| !taken.contains(item.name())) {
                edges.extend(self.spread(importer, item.name()));
            }
        }
        edges.sort_by(|left, right| (left.importer, &left.import).cmp(&(right.importer, &right.import)));
        self.edges = edges;
        findings
    }

    /// The export of the same name that a spread component has for an import.
    fn spread(&self, importer: usize, import: &str) -> Option<Edge<'a>> {
        self.nodes[importer].component.spreads.iter().find_map(|spread| {
            let exporter = self.index_of(&spread.name)?;
            let exports: Vec<_> =
                self.nodes[exporter].contract.exports().map(|it| it.name().to_owned()).collect();
            let export = newest_that_stands_for(exports.iter().map(String::as_str), import)?;
            let named = |name: &str| Named { name: name.to_owned(), at: spread.at.clone() };
            let wire = Wire { import: named(import), component: spread.clone(), export: Some(named(export)) };
            Some(Edge {
                wire: Cow::Owned(wire),
                importer,
                import: Target::whole(import),
                exporter,
                export: Target::whole(export),
            })
        })
    }

    /// An interface that is put together from functions needs all of them, and the types that they are written with.
    pub(super) fn missing_functions(&self) -> Vec<Diagnostic> {
        let mut findings = Vec::new();
        let interfaces: BTreeSet<_> = self
            .edges
            .iter()
            .filter(|edge| edge.import.function.is_some())
            .map(|edge| (edge.importer, edge.import.name.as_str()))
            .collect();
        for (importer, interface) in interfaces {
            let edges: Vec<_> = self
                .edges
                .iter()
                .filter(|it| it.importer == importer && it.import.name == interface)
                .collect();
            let (Some(first), Some(item)) = (edges.first(), self.nodes[importer].contract.import(interface))
            else {
                continue;
            };
            let node = &self.nodes[importer];
            let name = &node.component.name;
            let lacks =
                |function: &str| !edges.iter().any(|it| it.import.function.as_deref() == Some(function));
            for (function, text) in item.functions().into_iter().filter(|(function, _)| lacks(function)) {
                if self.has_unresolved_wire(importer, interface, function) {
                    continue;
                }
                findings.push(
                    Diagnostic::new(
                        "unsatisfied-import",
                        format!("`{name}` imports the function `{function}` of `{interface}`, and nothing satisfies it"),
                    )
                    .at(first.wire.import.at.clone())
                    .note(format!("imported by {name} ({})", node.file), text)
                    .mend(format!(
                        "The interface is put together function by function; name one for each:\n\
                         \"{}.{function}\" = {{ component = \"NAME\", export = \"FUNCTION\" }}",
                        unversioned(interface)
                    )),
                );
            }
            // Where a function itself does not fit, its types are a consequence.
            let all_fit = edges.iter().all(|edge| {
                let sides = (self.nodes[edge.exporter].export(&edge.export), node.import(&edge.import));
                matches!(sides, (Some(export), Some(import)) if first_difference(&export, &import).is_none())
            });
            for ty in item.types().into_iter().filter(|_| all_fit) {
                let declared = edges.iter().find_map(|edge| {
                    let exporter = &self.nodes[edge.exporter];
                    Some((edge, exporter.contract.export(&edge.export.name)?.named_type(ty)?))
                });
                let imported = item.named_type(ty);
                let difference = match (&declared, &imported) {
                    (Some((_, exported)), Some(imported)) => first_difference(exported, imported),
                    _ => None,
                };
                if declared.is_some() && difference.is_none() {
                    continue;
                }
                let from: Vec<_> =
                    edges.iter().map(|edge| self.nodes[edge.exporter].component.name.as_str()).collect();
                let found = match &difference {
                    Some(difference) => format!("another type: {}", difference.place),
                    None => "no type of that name".to_owned(),
                };
                findings.push(
                    Diagnostic::new(
                        "type-mismatch",
                        format!("`{interface}` of `{name}` has a type `{ty}`, which the functions' own interfaces do not have"),
                    )
                    .at(first.wire.import.at.clone())
                    .note(format!("found in {}", from.join(", ")), found)
                    .note(
                        format!("{name} ({}) imports `{interface}`", node.file),
                        imported.map(|it| it.text()).unwrap_or_default(),
                    )
                    .mend("Functions are joined one by one when the types they use have the same names on both sides."),
                );
            }
        }
        findings
    }

    /// Which component does export what a line looks for in another one: likelier meant than an export of that one whose
    /// name is similar.
    fn exported_elsewhere(
        &self,
        finding: Diagnostic,
        wanted: &str,
        ends: [usize; 2],
        wire: &Wire,
    ) -> Diagnostic {
        if finding.code != "unknown-export" || wire.export.is_some() {
            return finding;
        }
        let exports_it =
            |node: &Node<'_>| node.contract.exports().any(|item| stands_for(item.name(), wanted));
        let others =
            self.nodes.iter().enumerate().filter(|(at, node)| !ends.contains(at) && exports_it(node));
        let names: Vec<_> = others.map(|(_, node)| node.component.name.as_str()).collect();
        let Some(other) = names.first() else { return finding };
        let mend =
            format!("Did you mean `{other}`? \"{}\" = {{ component = \"{other}\" }}", wire.import.name);
        finding.note(format!("exported as `{wanted}` by"), names.join(", ")).mend(mend)
    }

    /// Whether a line was written for this very function; when it could not be resolved, that has been reported.
    fn has_unresolved_wire(&self, importer: usize, interface: &str, function: &str) -> bool {
        self.nodes[importer].component.wires.iter().any(|wire| {
            wire.import.name.rsplit_once('.').is_some_and(|(head, tail)| {
                tail == function && (head == interface || head == unversioned(interface))
            })
        })
    }
}

fn satisfied_twice(node: &Node<'_>, import: &Target, wire: &Wire, other: &Edge<'_>) -> Diagnostic {
    Diagnostic::new(
        "duplicate-import",
        format!("`{}` satisfies its import `{import}` twice", node.component.name),
    )
    .at(wire.import.at.clone())
    .note_at("first satisfied", format!("from `{}`", other.wire.component.name), other.wire.import.at.clone())
    .mend("Remove one of the two lines.")
}

fn several_versions(code: &'static str, message: String, at: &Location, matching: &[&str]) -> Diagnostic {
    Diagnostic::new(code, message)
        .at(at.clone())
        .note("found", matching.join("\n"))
        .mend("Write the name in full, with its version; one line for each.")
}

fn resolve_import(node: &Node<'_>, wire: &Wire) -> Result<Target, Diagnostic> {
    let (name, wanted) = (&node.component.name, &wire.import.name);
    let items: Vec<_> = node.contract.imports().collect();
    let names: Vec<_> = items.iter().map(Item::name).collect();
    let ambiguous = |matching: &[&str]| {
        several_versions(
            "ambiguous-import",
            format!("`{name}` imports several interfaces that `{wanted}` may mean"),
            &wire.import.at,
            matching,
        )
    };
    match look_up(wanted, &names) {
        Lookup::Found(found) => return Ok(Target::whole(found)),
        Lookup::Ambiguous(matching) => return Err(ambiguous(&matching)),
        Lookup::Absent => {}
    }
    // `demo:auth/verify.verify-token`: a function of an interface.
    if let Some((interface, function)) = wanted.rsplit_once('.') {
        match look_up(interface, &names) {
            Lookup::Found(found) => {
                let item = items.iter().find(|item| item.name() == found);
                return match item {
                    Some(item) if item.function(function).is_some() => {
                        joinable(node, item, &wire.import.at)?;
                        Ok(Target { name: found.to_owned(), function: Some(function.to_owned()) })
                    }
                    _ => Err(unknown_function(
                        "unknown-import",
                        format!("`{name}` imports no function `{function}` of `{found}`"),
                        item,
                        function,
                        &wire.import.at,
                    )),
                };
            }
            Lookup::Ambiguous(matching) => return Err(ambiguous(&matching)),
            Lookup::Absent => {}
        }
    }
    let mend = match suggestion(wanted, &names) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "Remove the line; a toolchain leaves out imports that the source never uses.".to_owned(),
    };
    Err(Diagnostic::new("unknown-import", format!("`{name}` does not import `{wanted}`"))
        .at(wire.import.at.clone())
        .note(format!("imports of {name} ({})", node.file), listed(&names))
        .mend(mend))
}

/// A resource belongs to one interface of one component: its functions cannot come from several.
fn joinable(node: &Node<'_>, item: &Item<'_>, at: &Location) -> Result<(), Diagnostic> {
    if !item.has_resources() {
        return Ok(());
    }
    let name = &node.component.name;
    Err(Diagnostic::new(
        "function-with-resource",
        format!("`{}` of `{name}` has resources, so its functions cannot be joined one by one", item.name()),
    )
    .at(at.clone())
    .note(format!("{name} ({})", node.file), item.text())
    .mend("Join the interface as a whole: name an interface that has the same functions and resources."))
}

fn unknown_function(
    code: &'static str,
    message: String,
    item: Option<&Item<'_>>,
    function: &str,
    at: &Location,
) -> Diagnostic {
    let functions = item.map(Item::functions).unwrap_or_default();
    let names: Vec<_> = functions.iter().map(|(name, _)| *name).collect();
    let mend = match tenon_wit::most_similar(function, names.iter().copied()) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "Name one of them, or the interface as a whole.".to_owned(),
    };
    let there: Vec<_> = functions.into_iter().map(|(_, text)| text).collect();
    Diagnostic::new(code, message).at(at.clone()).note("functions it has", there.join("\n")).mend(mend)
}

/// The export that a line means, and the import again: of an interface of one function, the function is meant where
/// the export is a function.
fn resolve_export(
    importer: &Node<'_>,
    import: Target,
    exporter: &Node<'_>,
    wire: &Wire,
) -> Result<(Target, Target), Diagnostic> {
    let name = &exporter.component.name;
    let items: Vec<_> = exporter.contract.exports().collect();
    let names: Vec<_> = items.iter().map(Item::name).collect();
    let (wanted, at) = match &wire.export {
        Some(export) => (export.name.clone(), &export.at),
        None => (import.to_string(), &wire.component.at),
    };
    let is_function =
        |name: &str| items.iter().any(|item| item.name() == name && item.kind() == ItemKind::Function);
    match look_up(&wanted, &names) {
        Lookup::Found(found) if is_function(found) => {
            return Ok((one_function(importer, import, wire)?, Target::whole(found)));
        }
        Lookup::Found(found) if is_other_version(found, &wanted, &import) => {
            return Err(other_version(importer, &import.name, exporter, found, wire));
        }
        Lookup::Found(found) => return Ok((import, Target::whole(found))),
        Lookup::Ambiguous(matching) => {
            // The version that was left out is the one that fits, where only the versions are several.
            let same = matching.iter().filter(|name| unversioned(name) == unversioned(&import.name));
            if import.function.is_none()
                && let Some(newest) = newest_that_stands_for(same.copied(), &import.name)
            {
                return Ok((import, Target::whole(newest)));
            }
            return Err(several_versions(
                "ambiguous-export",
                format!("`{name}` exports several interfaces that `{wanted}` may mean"),
                at,
                &matching,
            ));
        }
        Lookup::Absent => {}
    }
    if wire.export.is_none() && import.function.is_none() {
        // Versions of one track stand for one another where the exporter's is not the older one; whether the types
        // agree is checked for every edge.
        if let Some(compatible) = newest_that_stands_for(names.iter().copied(), &import.name) {
            return Ok((import, Target::whole(compatible)));
        }
        if let Some(other) = names.iter().find(|name| unversioned(name) == unversioned(&import.name)) {
            return Err(other_version(importer, &import.name, exporter, other, wire));
        }
    }
    let of_interface = functions_called(&items, &wanted, wire.export.is_none());
    match of_interface.as_slice() {
        [export] => {
            if let Some(item) = items.iter().find(|item| item.name() == export.name) {
                joinable(exporter, item, at)?;
            }
            return Ok((one_function(importer, import, wire)?, export.clone()));
        }
        [] => {}
        several => {
            let found: Vec<_> = several.iter().map(Target::to_string).collect();
            return Err(Diagnostic::new(
                "ambiguous-export",
                format!("`{name}` exports `{wanted}` in several interfaces"),
            )
            .at(at.clone())
            .note("found", found.join("\n"))
            .mend(format!("Say which one: export = \"{}\".", found[0])));
        }
    }
    if let Some((interface, function)) = wanted.rsplit_once('.')
        && let Lookup::Found(found) = look_up(interface, &names)
    {
        return Err(unknown_function(
            "unknown-export",
            format!("`{name}` exports no function `{function}` of `{found}`"),
            items.iter().find(|item| item.name() == found),
            function,
            at,
        ));
    }
    let mend = match suggestion(&wanted, &names) {
        Some(near) => format!("Did you mean `{near}`? export = \"{near}\""),
        None => "Name one of its exports with `export = \"…\"`, or another component.".to_owned(),
    };
    Err(Diagnostic::new("unknown-export", format!("`{name}` does not export `{wanted}`"))
        .at(at.clone())
        .note(format!("exports of {name} ({})", exporter.file), listed(&names))
        .mend(mend))
}

/// The functions that `wanted` may mean: `demo:auth/verify.verify-token`, or `verify-token` alone. The version of a
/// name that was not written but follows from the import is not taken literally.
pub(super) fn functions_called(items: &[Item<'_>], wanted: &str, unwritten: bool) -> Vec<Target> {
    let (interface, function) = match wanted.rsplit_once('.') {
        // The methods of a resource have a dot and a bracket in their names; they go with the resource.
        Some((interface, function)) if !wanted.starts_with('[') => (Some(interface), function),
        _ => (None, wanted),
    };
    let is_meant = |item: &Item<'_>| match interface {
        None => item.kind() == ItemKind::Interface,
        Some(interface) if unwritten => stands_for(item.name(), interface),
        Some(interface) => matches!(look_up(interface, &[item.name()]), Lookup::Found(_)),
    };
    items
        .iter()
        .filter(|item| is_meant(item) && item.function(function).is_some())
        .map(|item| Target { name: item.name().to_owned(), function: Some(function.to_owned()) })
        .collect()
}

/// Whether an export of this name satisfies an import of that name, as far as names go: the same interface on the
/// same version track, and not older.
pub(super) fn stands_for(export: &str, import: &str) -> bool {
    same_track(export, import) && compare_versions(export, import) != Some(Ordering::Less)
}

/// Whether `wanted`, which leaves the version out, found another version of what is imported than one that stands for it:
/// only a version that was written says that the types shall decide.
fn is_other_version(found: &str, wanted: &str, import: &Target) -> bool {
    wanted != found
        && unversioned(found) == unversioned(&import.name)
        && compare_versions(found, &import.name).is_some()
        && !stands_for(found, &import.name)
}

/// The export that satisfies an import, as far as names go: the very version where it is there, else the newest.
fn newest_that_stands_for<'n>(exports: impl Iterator<Item = &'n str>, import: &str) -> Option<&'n str> {
    let fitting: Vec<_> = exports.filter(|export| stands_for(export, import)).collect();
    let newest = || fitting.iter().copied().max_by(|a, b| compare_versions(a, b).unwrap_or(Ordering::Equal));
    fitting.iter().copied().find(|export| *export == import).or_else(newest)
}

/// The import as one function, for an export that is one.
fn one_function(importer: &Node<'_>, import: Target, wire: &Wire) -> Result<Target, Diagnostic> {
    let Some(item) = importer.import(&import) else { return Ok(import) };
    if item.kind() != ItemKind::Interface {
        return Ok(import);
    }
    joinable(importer, &item, &wire.import.at)?;
    let functions = item.functions();
    if let [(only, _)] = functions.as_slice() {
        return Ok(Target { function: Some((*only).to_owned()), ..import });
    }
    let name = &importer.component.name;
    let component = &wire.component.name;
    let lines: Vec<_> = functions
        .iter()
        .map(|(function, _)| {
            let interface = unversioned(&import.name);
            format!("\"{interface}.{function}\" = {{ component = \"{component}\", export = \"FUNCTION\" }}")
        })
        .collect();
    Err(Diagnostic::new(
        "type-mismatch",
        format!(
            "`{}` of `{name}` has {} functions, and one function cannot satisfy it",
            import.name,
            functions.len()
        ),
    )
    .at(wire.export.as_ref().map_or(&wire.import.at, |export| &export.at).clone())
    .note(format!("{name} ({}) imports `{}`", importer.file, import.name), item.text())
    .mend(format!("Name a whole interface, or a function for each:\n{}", lines.join("\n"))))
}

/// Both sides have the interface, in versions that do not stand for one another.
fn other_version(
    importer: &Node<'_>,
    import: &str,
    exporter: &Node<'_>,
    export: &str,
    wire: &Wire,
) -> Diagnostic {
    let (from, to) = (&exporter.component.name, &importer.component.name);
    let order = compare_versions(export, import);
    let age = |is_newer: bool| if is_newer { ", the newer one" } else { ", the older one" };
    let mark = |newer: Ordering| order.map_or("", |order| age(order == newer));
    let message = match same_track(export, import) {
        true => format!("`{to}` imports `{import}`, but what `{from}` exports is older"),
        false => {
            format!("`{to}` imports `{import}`, but `{from}` exports it in a version that is not compatible")
        }
    };
    let build = match order {
        Some(Ordering::Less) => format!(
            "`{from}` is behind: build it against the version that `{to}` imports. Or build `{to}` against the older one."
        ),
        Some(Ordering::Greater) => format!(
            "`{to}` is behind: build it against the version that `{from}` exports. Or build `{from}` against the older one."
        ),
        _ => {
            format!("Build `{to}` against the version that `{from}` exports, or `{from}` against the other.")
        }
    };
    let line = match is_wac(importer) {
        true => format!("\"{}\": {from}[\"{export}\"]", unversioned(import)),
        false => {
            format!("\"{}\" = {{ component = \"{from}\", export = \"{export}\" }}", wire.import.name)
        }
    };
    Diagnostic::new("version-mismatch", message)
        .at(wire.import.at.clone())
        .note(format!("imported by {to} ({}){}", importer.file, mark(Ordering::Less)), import)
        .note(format!("exported by {from} ({}){}", exporter.file, mark(Ordering::Greater)), export)
        .mend(format!(
            "{build}\n\
             When the change between the two does not matter here, say so and let the types decide:\n{line}"
        ))
}
