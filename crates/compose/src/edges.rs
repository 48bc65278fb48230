//! Every edge of the graph: does the export fit the import?

use std::cmp::Ordering;

use tenon_model::{Diagnostic, Location};
use tenon_wit::{Difference, Item, Sources, compare_versions, first_difference, same_track};

use crate::graph::{Edge, Graph, Node, unversioned};

/// What does not fit, one finding an edge.
pub(crate) fn check_edges(graph: &Graph<'_>) -> Vec<Diagnostic> {
    graph.edges.iter().filter_map(|edge| check(graph, edge)).collect()
}

fn check(graph: &Graph<'_>, edge: &Edge<'_>) -> Option<Diagnostic> {
    let export = graph.nodes[edge.exporter].export(&edge.export)?;
    let import = graph.nodes[edge.importer].import(&edge.import)?;
    if export.kind() != import.kind() {
        return Some(kinds_differ(graph, edge, &export, &import));
    }
    let difference = first_difference(&export, &import)?;
    Some(mismatch(graph, edge, &difference))
}

fn kinds_differ(graph: &Graph<'_>, edge: &Edge<'_>, export: &Item<'_>, import: &Item<'_>) -> Diagnostic {
    let (exporter, importer) = (&graph.nodes[edge.exporter], &graph.nodes[edge.importer]);
    let (from, to) = (&exporter.component.name, &importer.component.name);
    let (exported, imported) = (export.kind().with_article(), import.kind().with_article());
    Diagnostic::new(
        "type-mismatch",
        format!(
            "`{}` of `{from}` is {exported}, but `{to}` imports `{}`, {imported}",
            edge.export, edge.import
        ),
    )
    .at(edge.wire.export.as_ref().map_or(&edge.wire.import.at, |export| &export.at).clone())
    .note(format!("{from} ({}) exports `{}`", exporter.file, edge.export), export.text())
    .note(format!("{to} ({}) imports `{}`", importer.file, edge.import), import.text())
    .mend(format!("Name {imported} with `export`; `tenon inspect {}` shows what there is.", exporter.file))
}

fn mismatch(graph: &Graph<'_>, edge: &Edge<'_>, difference: &Difference) -> Diagnostic {
    let (exporter, importer) = (&graph.nodes[edge.exporter], &graph.nodes[edge.importer]);
    let (from, to) = (&exporter.component.name, &importer.component.name);
    let side = |who: &str, there: &Option<String>| match there {
        Some(text) if text.lines().nth(1).is_none() => format!("{who} has `{text}`"),
        Some(_) => format!("{who} has it"),
        None => format!("{who} has nothing there"),
    };
    let order = order(edge);
    let age = |when_older: Ordering| match order {
        None | Some(Ordering::Equal) => "",
        Some(order) if order == when_older => ", the older one",
        Some(_) => ", the newer one",
    };
    let text = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    let mut diagnostic = Diagnostic::new(
        "type-mismatch",
        format!("what `{from}` exports is not what `{to}` imports as `{}`", edge.import),
    )
    .at(edge.wire.import.at.clone())
    .note(
        "first difference",
        format!(
            "{}: {}, {}",
            difference.place,
            side(from, &difference.exported),
            side(to, &difference.imported)
        ),
    )
    .note(
        format!("{from} ({}) exports `{}`{}", exporter.file, edge.export, age(Ordering::Less)),
        text(&difference.exporter_text),
    )
    .note(
        format!("{to} ({}) imports `{}`{}", importer.file, edge.import, age(Ordering::Greater)),
        text(&difference.importer_text),
    )
    .mend(mend(edge, difference, from, to));
    // The two declarations are the last notes.
    let sides = [
        (exporter, exporter.contract.export(&edge.export.name)),
        (importer, importer.contract.import(&edge.import.name)),
    ];
    let declarations = diagnostic.notes.iter_mut().rev().take(2).rev();
    for (index, (note, (node, item))) in declarations.zip(sides).enumerate() {
        note.at = item.and_then(|item| declared_at(node, &item, difference, index == 0));
    }
    diagnostic
}

/// Where one side declares what differs, when the WIT text is there.
fn declared_at(
    node: &Node<'_>,
    item: &Item<'_>,
    difference: &Difference,
    exported: bool,
) -> Option<Location> {
    let side = |(left, right): &(String, String)| if exported { left.clone() } else { right.clone() };
    let sources = Sources::read(node.wit);
    // The first name of the place is the innermost: the field, the case.
    let inner = difference.place.split('`').nth(1);
    let within = &difference.within;
    within
        .types
        .iter()
        .find_map(|names| sources.locate(item, &side(names), inner))
        .or_else(|| within.functions.iter().find_map(|names| sources.locate(item, &side(names), None)))
}

/// How old the export's version of an interface is, seen from the import's; `None` for two different interfaces.
fn order(edge: &Edge<'_>) -> Option<Ordering> {
    let (export, import) = (&edge.export.name, &edge.import.name);
    (unversioned(export) == unversioned(import)).then(|| compare_versions(export, import)).flatten()
}

fn mend(edge: &Edge<'_>, difference: &Difference, from: &str, to: &str) -> String {
    let behind = match order(edge) {
        Some(Ordering::Less) => Some((from, &edge.import.name)),
        Some(Ordering::Greater) => Some((to, &edge.export.name)),
        _ => None,
    };
    match (&difference.exported, edge.export == edge.import) {
        (None, _) if difference.place.starts_with("function") => format!(
            "Add the function to `{from}`, or build `{to}` against the contract that `{from}` was built with."
        ),
        (_, true) => format!(
            "The two were built against different texts of the same contract. Build `{from}` and `{to}` again \
             against one copy of it; a changed type wants a new version of its package."
        ),
        (_, false) => behind.map_or_else(|| format!(
            "Build `{from}` and `{to}` against one version of the contract; linking never converts a type, not \
             even a narrower integer into a wider one."
        ), |(who, newer)| {
            let changed = match same_track(&edge.export.name, &edge.import.name) {
                true => " A type that changes wants a new track, such as 2.0.0 after 1.x: these two versions claim to stand for one another.",
                false => "",
            };
            format!("`{who}` is behind: build it against `{newer}`.{changed}")
        }),
    }
}
