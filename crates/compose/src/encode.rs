//! From the checked graph to the bytes of one component.

use std::collections::{BTreeMap, BTreeSet};

use tenon_model::{Diagnostic, Diagnostics, Location};
use tenon_wit::{import_names, require_component, same_track, track};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeError, EncodeOptions, InstantiationArgumentError, NodeId};

use crate::graph::{Edge, Graph};

/// An encoded composition.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// What the component imports, in the order of its binary.
    pub(crate) imports: Vec<String>,
}

/// Encodes a graph in which every edge fits and no circle is left.
pub(crate) fn encode(graph: &Graph<'_>) -> Result<Encoded, Diagnostics> {
    let mut composition = CompositionGraph::new();
    let instances = instantiate(graph, &mut composition)?;
    for edge in &graph.edges {
        connect(graph, &mut composition, &instances, edge)?;
    }
    for (name, index) in &graph.exports {
        let export =
            composition.alias_instance_export(instances[*index], name).map_err(|error| unexpected(&error))?;
        composition.export(export, name).map_err(|error| unexpected(&error))?;
    }
    let options = EncodeOptions { define_components: true, validate: true, processor: None };
    let bytes = composition.encode(options).map_err(|error| refused(graph, &instances, &error))?;
    require_component("the composed component", &bytes)?;
    let imports = import_names(&bytes);
    check_imports(graph, &imports)?;
    Ok(Encoded { bytes, imports })
}

/// Instantiates every component after those it imports from; the instances stand in the order of the nodes.
fn instantiate(graph: &Graph<'_>, composition: &mut CompositionGraph) -> Result<Vec<NodeId>, Diagnostic> {
    let mut instances = BTreeMap::new();
    for index in in_order_of_dependency(graph) {
        let node = &graph.nodes[index];
        let package =
            Package::from_bytes(&node.component.name, None, node.bytes.to_vec(), composition.types_mut())
                .map_err(|error| {
                    Diagnostic::new(
                "unsupported-component",
                format!("`{}` is a valid component, but it cannot be composed", node.file),
            )
            .at(Location::file(node.file))
            .note("found", format!("{error:#}"))
            .mend("Build it from a WIT world: only interfaces, functions and named types can be joined.")
                })?;
        let package = composition.register_package(package).map_err(|error| unexpected(&error))?;
        instances.insert(index, composition.instantiate(package));
    }
    Ok(instances.into_values().collect())
}

/// The nodes such that each stands after those it imports from; among those that could stand next, the first by
/// name does.
fn in_order_of_dependency(graph: &Graph<'_>) -> Vec<usize> {
    let mut waiting: BTreeSet<usize> = (0..graph.nodes.len()).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(next) = waiting.iter().copied().find(|index| {
        graph.edges.iter().all(|edge| edge.importer != *index || !waiting.contains(&edge.exporter))
    }) {
        waiting.remove(&next);
        order.push(next);
    }
    debug_assert!(waiting.is_empty(), "circles are found before anything is encoded");
    order.extend(waiting);
    order
}

fn connect(
    graph: &Graph<'_>,
    composition: &mut CompositionGraph,
    instances: &[NodeId],
    edge: &Edge<'_>,
) -> Result<(), Diagnostic> {
    let export = composition
        .alias_instance_export(instances[edge.exporter], &edge.export)
        .map_err(|error| unexpected(&error))?;
    composition.set_instantiation_argument(instances[edge.importer], &edge.import, export).map_err(|error| {
        let InstantiationArgumentError::ArgumentTypeMismatch { source, .. } = &error else {
            return unexpected(&error);
        };
        let (from, to) =
            (&graph.nodes[edge.exporter].component.name, &graph.nodes[edge.importer].component.name);
        Diagnostic::new(
            "type-mismatch",
            format!("what `{from}` exports is not what `{to}` imports as `{}`", edge.import),
        )
        .at(edge.wire.import.at.clone())
        .note("first difference", format!("{source:#}"))
        .mend(format!("Build `{from}` and `{to}` again against one copy of the contract."))
    })
}

/// A composition that still imports more than was settled would leave something open that nobody decided on.
fn check_imports(graph: &Graph<'_>, imports: &[String]) -> Result<(), Diagnostic> {
    let settled: BTreeSet<_> = graph.open.keys().map(|name| track(name)).collect();
    let found: BTreeSet<_> = imports.iter().map(|name| track(name)).collect();
    if settled == found {
        return Ok(());
    }
    let list = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join("\n");
    let mut diagnostic = Diagnostic::new(
        "open-import",
        "the composed component imports something else than its manifest leaves open",
    );
    let (more, less) =
        (list(found.difference(&settled).collect()), list(settled.difference(&found).collect()));
    if !more.is_empty() {
        diagnostic = diagnostic.note("imported, though not left open", more);
    }
    if !less.is_empty() {
        diagnostic = diagnostic.note("left open, though not imported", less);
    }
    Err(diagnostic.mend(
        "An interface that is left open uses types of one that is satisfied here. Satisfy both from the same \
         component, or leave both open.",
    ))
}

fn refused(graph: &Graph<'_>, instances: &[NodeId], error: &EncodeError) -> Diagnostic {
    let name = |id: &NodeId| {
        let index = instances.iter().position(|instance| instance == id);
        index.map_or("?", |index| graph.nodes[index].component.name.as_str())
    };
    match error {
        EncodeError::ImportTypeMergeConflict { import, first, second, source } => {
            let mut diagnostic = Diagnostic::new(
                "import-conflict",
                format!(
                    "`{}` and `{}` both import `{import}`, which is left open, but with different types",
                    name(first),
                    name(second)
                ),
            )
            .note("first difference", format!("{source:#}"));
            for id in [first, second] {
                let node = instances.iter().position(|it| it == id).map(|index| &graph.nodes[index]);
                let item = node.and_then(|node| {
                    let item = node.contract.imports().find(|item| same_track(item.name(), import))?;
                    Some((node, item))
                });
                if let Some((node, item)) = item {
                    let label = format!("{} ({}) imports `{}`", node.component.name, node.file, item.name());
                    diagnostic = diagnostic.note_at(label, item.text(), node.component.at.clone());
                }
            }
            diagnostic.mend(
                "The composed component can import it only once. Build both against one copy of the contract, or \
                 satisfy the import of one of the two from another component.",
            )
        }
        EncodeError::ValidationFailure { source } => Diagnostic::new(
            "not-composable",
            "the components fit one by one, but the component they make is not valid",
        )
        .note("found", source.message())
        .mend(
            "Most often a composed export uses types of an interface that is satisfied within the composition: \
             export that interface too, or leave it open.",
        ),
        error => unexpected(error),
    }
}

/// A fault of ours: the graph was checked, so the encoder has nothing to refuse.
fn unexpected(error: &dyn std::error::Error) -> Diagnostic {
    let mut causes = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    Diagnostic::new("internal", "the composition could not be encoded, and that is a fault of Tenon")
        .note("found", causes.join(": "))
        .mend("Please report it with the manifest and the output of `tenon inspect` on each component.")
}
