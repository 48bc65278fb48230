//! From the checked graph to the bytes of one component.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use tenon_model::{Diagnostic, Diagnostics, Digest, Location, Standing, standing};
use tenon_wit::{Contract, import_names, require_component, same_track, track};
use wac_graph::types::{ItemKind, Package, Types, WorldId};
use wac_graph::{
    CompositionGraph, EncodeError, EncodeOptions, InstantiationArgumentError, NodeId, PackageId,
};

use crate::adapter::{Adapter, adapter};
use crate::graph::{Edge, Graph, Target};

/// An encoded composition.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// What the component imports, in the order of its binary.
    pub(crate) imports: Vec<String>,
}

/// One part as it is encoded, in the order of the graph's nodes.
#[derive(Clone, Default)]
pub(crate) struct Piece<'p> {
    /// Its bytes, with its memory limit in them.
    pub(crate) bytes: Cow<'p, [u8]>,
    /// Which of its open imports the composed component imports under another name.
    pub(crate) own_names: BTreeMap<String, String>,
    /// What it still imports, where it was optimised: fewer than its contract says.
    pub(crate) imports: Option<BTreeSet<String>>,
}

impl Piece<'_> {
    fn still_imports(&self, name: &str) -> bool {
        self.imports.as_ref().is_none_or(|imports| imports.contains(name))
    }
}

/// Encodes a graph in which every edge fits and no circle is left.
pub(crate) fn encode(graph: &Graph<'_>, pieces: &[Piece<'_>]) -> Result<Encoded, Diagnostics> {
    let mut composition = CompositionGraph::new();
    let instances = instantiate(graph, pieces, &mut composition)?;
    for edges in graph
        .edges
        .chunk_by(|left, right| (left.importer, &left.import.name) == (right.importer, &right.import.name))
    {
        if edges.first().is_some_and(|edge| pieces[edge.importer].still_imports(&edge.import.name)) {
            connect(graph, &mut composition, &instances, edges)?;
        }
    }
    for (name, exported) in &graph.exports {
        let export = alias(&mut composition, instances[exported.node], &exported.target)?;
        composition.export(export, name).map_err(|error| unexpected(&error))?;
    }
    let options = EncodeOptions { define_components: true, validate: true, processor: None };
    let bytes = composition.encode(options).map_err(|error| refused(graph, &instances, &error))?;
    require_component("the composed component", &bytes)?;
    Contract::of("the composed component", &bytes).map_err(|found| {
        let mut diagnostic = Diagnostic::new(
            "not-composable",
            "the components fit one by one, but no contract can describe the component they make",
        );
        diagnostic.notes = found.notes.into_iter().take(1).collect();
        diagnostic
            .mend("Export each interface once, and interfaces together with those whose types they use.")
    })?;
    let imports = import_names(&bytes);
    check_imports(graph, pieces, &imports)?;
    Ok(Encoded { bytes, imports })
}

/// Instantiates every component after those it imports from; the instances stand in the order of the nodes.
fn instantiate(
    graph: &Graph<'_>,
    pieces: &[Piece<'_>],
    composition: &mut CompositionGraph,
) -> Result<Vec<NodeId>, Diagnostic> {
    let mut instances = BTreeMap::new();
    // Optimised parts that are the same are there once.
    let mut defined: BTreeMap<Digest, PackageId> = BTreeMap::new();
    for index in in_order_of_dependency(graph) {
        let node = &graph.nodes[index];
        let piece = &pieces[index];
        let shared =
            (piece.imports.is_some() && piece.own_names.is_empty()).then(|| Digest::of(&piece.bytes));
        if let Some(package) = shared.and_then(|digest| defined.get(&digest)) {
            instances.insert(index, composition.instantiate(*package));
            continue;
        }
        let package =
            Package::from_bytes(&node.component.name, None, piece.bytes.to_vec(), composition.types_mut())
                .map_err(|error| {
                    Diagnostic::new(
                "unsupported-component",
                format!("`{}` is a valid component, but it cannot be composed", node.file),
            )
            .at(Location::file(node.file))
            .note("found", format!("{error:#}"))
            .mend(
                "The composer reads less than an engine runs: build the component without what was found, from a WIT \
                 world with a current toolchain; or serve it alone.",
            )
                })?;
        let world = package.ty();
        let package = composition.register_package(package).map_err(|error| unexpected(&error))?;
        let instance = composition.instantiate(package);
        if let Some(digest) = shared {
            defined.insert(digest, package);
        }
        import_under_own_names(&piece.own_names, world, instance, composition)?;
        instances.insert(index, instance);
    }
    Ok(instances.into_values().collect())
}

/// Makes imports of one part the part's own: the composed component imports each under the name that
/// `own_names` has for it.
fn import_under_own_names(
    own_names: &BTreeMap<String, String>,
    world: WorldId,
    instance: NodeId,
    composition: &mut CompositionGraph,
) -> Result<(), Diagnostic> {
    let renamed = rename_interfaces(own_names, world, composition.types_mut());
    for (name, kind) in renamed {
        let import = composition.import(&own_names[&name], kind).map_err(|error| unexpected(&error))?;
        composition
            .set_instantiation_argument(instance, &name, import)
            .map_err(|error| unexpected(&error))?;
    }
    Ok(())
}

/// Gives the interfaces in `types` that `own_names` has a name for that name. Interfaces which use types of a
/// renamed one follow it, so that a bucket stays the bucket of one part. But an inert interface has only data that
/// others use (a point in time): for those it stays under its old name, or the parts could not share, say, files.
fn rename_interfaces(
    own_names: &BTreeMap<String, String>,
    world: WorldId,
    types: &mut Types,
) -> Vec<(String, ItemKind)> {
    let imports: Vec<(String, ItemKind)> =
        types[world].imports.iter().map(|(name, kind)| (name.clone(), *kind)).collect();
    let mut renamed = Vec::new();
    for (name, kind) in &imports {
        let (Some(own), ItemKind::Instance(interface)) = (own_names.get(name), kind) else { continue };
        if standing(name) == Standing::Inert {
            let shared = types[*interface].clone();
            let shared = types.add_interface(shared);
            for (other, kind) in &imports {
                let ItemKind::Instance(other_interface) = kind else { continue };
                if own_names.contains_key(other) {
                    continue;
                }
                for used in types[*other_interface].uses.values_mut() {
                    if used.interface == *interface {
                        used.interface = shared;
                    }
                }
            }
        }
        types[*interface].id = Some(own.clone());
        renamed.push((name.clone(), *kind));
    }
    renamed
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

/// What an instance exports as `target`.
fn alias(
    composition: &mut CompositionGraph,
    instance: NodeId,
    target: &Target,
) -> Result<NodeId, Diagnostic> {
    let export =
        composition.alias_instance_export(instance, &target.name).map_err(|error| unexpected(&error))?;
    match &target.function {
        Some(function) => {
            composition.alias_instance_export(export, function).map_err(|error| unexpected(&error))
        }
        None => Ok(export),
    }
}

/// Satisfies one import with what `edges` say: one edge, or one for each function of an interface.
fn connect(
    graph: &Graph<'_>,
    composition: &mut CompositionGraph,
    instances: &[NodeId],
    edges: &[Edge<'_>],
) -> Result<(), Diagnostic> {
    let Some(edge) = edges.first() else { return Ok(()) };
    let argument = match &edge.import.function {
        None => alias(composition, instances[edge.exporter], &edge.export)?,
        Some(_) => put_together(graph, composition, instances, edges)?,
    };
    composition.set_instantiation_argument(instances[edge.importer], &edge.import.name, argument).map_err(
        |error| {
            let InstantiationArgumentError::ArgumentTypeMismatch { source, .. } = &error else {
                return unexpected(&error);
            };
            let (from, to) =
                (&graph.nodes[edge.exporter].component.name, &graph.nodes[edge.importer].component.name);
            Diagnostic::new(
                "type-mismatch",
                format!("what `{from}` exports is not what `{to}` imports as `{}`", edge.import.name),
            )
            .at(edge.wire.import.at.clone())
            .note("first difference", format!("{source:#}"))
            .mend(format!("Build `{from}` and `{to}` again against one copy of the contract."))
        },
    )
}

/// An instance that has the functions which `edges` name, under the names that the importer has for them.
fn put_together(
    graph: &Graph<'_>,
    composition: &mut CompositionGraph,
    instances: &[NodeId],
    edges: &[Edge<'_>],
) -> Result<NodeId, Diagnostic> {
    let first = &edges[0];
    let importer = &graph.nodes[first.importer];
    let Some(wanted) = importer.contract.import(&first.import.name) else {
        return Err(Diagnostic::new("internal", format!("the import `{}` is not there", first.import.name)));
    };
    let Adapter { bytes, imports } = adapter(graph, &wanted, &edges.iter().collect::<Vec<_>>())
        .map_err(|found| found.at(first.wire.import.at.clone()))?;
    let name = format!("{} {}", importer.component.name, first.import.name);
    let package = Package::from_bytes(&name, None, bytes, composition.types_mut()).map_err(|error| {
        Diagnostic::new("internal", "an adapter that was written cannot be read")
            .note("found", format!("{error:#}"))
    })?;
    let needed: Vec<String> = composition.types()[package.ty()].imports.keys().cloned().collect();
    let package = composition.register_package(package).map_err(|error| unexpected(&error))?;
    let instance = composition.instantiate(package);
    for name in needed {
        let source = match imports.iter().find(|(import, ..)| *import == name) {
            Some((_, node, export)) => Some((*node, Target::whole(export))),
            None => source_of_types(graph, edges, &name),
        };
        if let Some((node, target)) = source {
            let argument = alias(composition, instances[node], &target)?;
            composition
                .set_instantiation_argument(instance, &name, argument)
                .map_err(|error| unexpected(&error))?;
        }
    }
    Ok(instance)
}

/// Where an interface comes from whose types the joined functions use: from an exporter itself, or from where an
/// exporter has it; otherwise it is left open, as it is for the exporter.
fn source_of_types(graph: &Graph<'_>, edges: &[Edge<'_>], name: &str) -> Option<(usize, Target)> {
    edges.iter().find_map(|edge| {
        if graph.nodes[edge.exporter].contract.export(name).is_some() {
            return Some((edge.exporter, Target::whole(name)));
        }
        let whole = |it: &&Edge<'_>| {
            it.importer == edge.exporter && it.import.name == name && it.import.function.is_none()
        };
        graph.edges.iter().find(whole).map(|it| (it.exporter, it.export.clone()))
    })
}

/// A composition that still imports more than was settled would leave something open that nobody decided on.
fn check_imports(graph: &Graph<'_>, pieces: &[Piece<'_>], imports: &[String]) -> Result<(), Diagnostic> {
    let settled: BTreeSet<_> = graph
        .open
        .iter()
        .flat_map(|(name, nodes)| {
            let importing = nodes.iter().filter(move |node| pieces[**node].still_imports(name));
            importing.map(move |node| pieces[*node].own_names.get(name).unwrap_or(name))
        })
        .map(|name| track(name))
        .collect();
    let is_attributed = pieces.iter().any(|piece| !piece.own_names.is_empty());
    let found: BTreeSet<_> = imports
        .iter()
        .map(|name| track(name))
        // The types of an inert interface are shared, even where its functions are a part's own.
        .filter(|name| !(is_attributed && !settled.contains(name) && standing(name) == Standing::Inert))
        .collect();
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
        // Numbers of the validator's, which differ from run to run, tell nobody anything.
        .note("found", source.message().split(" (ResourceId").next().unwrap_or_default())
        .mend(
            "Most often a composed export uses types of an interface that is satisfied within the composition: \
             export that interface too, or leave it open.",
        ),
        error => unexpected(error),
    }
}

/// A fault of ours: the graph was checked, so the encoder has nothing to refuse.
pub(crate) fn unexpected(error: &dyn std::error::Error) -> Diagnostic {
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
