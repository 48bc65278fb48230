//! Interfaces put together from functions: a component without code between the exporters and an importer.
//!
//! The adapter imports the interfaces that the functions are in and exports each function, and each type that the
//! importer's interface names, at its root, under the importer's names. An instance of it is then the very instance
//! that the importer wants. Calls go straight through: nothing is lifted, lowered or copied on the way.

use std::collections::BTreeSet;

use tenon_model::Diagnostic;
use tenon_wit::Item;
use wac_graph::types::{ItemKind, Package};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

use crate::encode::unexpected;
use crate::graph::{Edge, Graph};

/// An adapter, encoded.
pub(crate) struct Adapter {
    pub(crate) bytes: Vec<u8>,
    /// What it imports from whom: the name of its import, the index of a node, the name of that node's export.
    pub(crate) imports: Vec<(String, usize, String)>,
}

/// The adapter that makes `wanted`, an interface, of the functions that `edges` name. The functions and types were
/// found to agree.
pub(crate) fn adapter(
    graph: &Graph<'_>,
    wanted: &Item<'_>,
    edges: &[&Edge<'_>],
) -> Result<Adapter, Diagnostic> {
    let mut composition = CompositionGraph::new();
    let mut sources: Vec<Source> = Vec::new();
    for edge in edges {
        if !sources.iter().any(|it| it.node == edge.exporter && it.export == edge.export.name) {
            sources.push(import(graph, edge, sources.len(), &mut composition)?);
        }
    }
    let source =
        |edge: &Edge<'_>| sources.iter().find(|it| it.node == edge.exporter && it.export == edge.export.name);
    let mut exported = BTreeSet::new();
    for ty in wanted.types() {
        let with = edges.iter().find(|edge| {
            let contract = &graph.nodes[edge.exporter].contract;
            contract.export(&edge.export.name).and_then(|item| item.named_type(ty)).is_some()
        });
        if let Some(source) = with.and_then(|edge| source(edge))
            && exported.insert(ty.to_owned())
        {
            let alias = composition.alias_instance_export(source.id, ty).map_err(|it| unexpected(&it))?;
            composition.export(alias, ty).map_err(|it| unexpected(&it))?;
        }
    }
    for edge in edges {
        let (Some(source), Some(function)) = (source(edge), &edge.import.function) else { continue };
        let id = match &edge.export.function {
            Some(inner) => {
                composition.alias_instance_export(source.id, inner).map_err(|it| unexpected(&it))?
            }
            None => source.id,
        };
        // A node is exported once; a function that stands in for two is aliased for each.
        composition.export(id, function).map_err(|it| unexpected(&it))?;
    }
    let options = EncodeOptions { define_components: true, validate: true, processor: None };
    let bytes = composition.encode(options).map_err(|error| {
        Diagnostic::new(
            "not-composable",
            "the functions fit one by one, but the interface they make is not valid",
        )
        .note("found", format!("{error:#}"))
        .mend("Join the interface as a whole, or give the functions' types the same names on both sides.")
    })?;
    let imports = sources.into_iter().map(|it| (it.import, it.node, it.export)).collect();
    Ok(Adapter { bytes, imports })
}

/// An export of a node that the adapter imports.
struct Source {
    node: usize,
    export: String,
    /// Its name among the adapter's imports.
    import: String,
    id: NodeId,
}

fn import(
    graph: &Graph<'_>,
    edge: &Edge<'_>,
    index: usize,
    composition: &mut CompositionGraph,
) -> Result<Source, Diagnostic> {
    let node = &graph.nodes[edge.exporter];
    let package = Package::from_bytes(
        &format!("{}-{index}", node.component.name),
        None,
        node.bytes.to_vec(),
        composition.types_mut(),
    )
    .map_err(|error| {
        Diagnostic::new("internal", "a component could be read once and not twice")
            .note("found", format!("{error:#}"))
    })?;
    let exports = package.instance_type();
    let kind = composition.types()[exports].exports.get(&edge.export.name).copied();
    let Some(kind) = kind else {
        return Err(Diagnostic::new("internal", format!("the export `{}` is not there", edge.export.name)));
    };
    let mut import = edge.export.name.clone();
    // Two components may export one interface each, and an import has to be called something of its own.
    if composition.imports().any(|(name, ..)| name == import) {
        import = match kind {
            ItemKind::Instance(interface) => {
                let own = format!("tenon:adapter/source-{index}");
                composition.types_mut()[interface].id = Some(own.clone());
                own
            }
            _ => format!("source-{index}"),
        };
    }
    let id = composition.import(&import, kind).map_err(|it| unexpected(&it))?;
    Ok(Source { node: edge.exporter, export: edge.export.name.clone(), import, id })
}
