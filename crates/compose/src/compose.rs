//! The life of a composition.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tenon_model::{Diagnostic, Diagnostics, Digest, format_bytes};
use tenon_wit::provenance::{self, Provenance, Source};
use tenon_wit::require_component;

use crate::attribution::own_names;
use crate::edges::check_edges;
use crate::encode::{Encoded, Piece, encode};
use crate::graph::{Exported, Graph, Node};
use crate::manifest::Manifest;
use crate::memory::{CapError, cap_memories};
use crate::optimize::{Shared, Side, Unsuitable, core_instances, side_file, slim};

/// The bytes of one component of a manifest.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The component's name in the manifest.
    pub component: &'a str,
    /// The file the bytes are from, as the person named it.
    pub file: &'a str,
    /// The bytes.
    pub bytes: &'a [u8],
    /// The WIT files that it may have been built with, each with its name and text: to show where something is
    /// declared. Nothing depends on them.
    pub wit: &'a [(String, String)],
}

/// A composed component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// The component, validated, with its provenance.
    pub bytes: Vec<u8>,
    /// What it was made from, in order of the names.
    pub parts: Vec<Part>,
    /// What it still imports, in the order of its binary.
    pub imports: Vec<String>,
    /// What it exports, in order of the names.
    pub exports: Vec<String>,
    /// The core modules that several of its parts have, and that an optimised composition has once.
    pub shared: Vec<SharedModule>,
    /// What was left out of an optimised composition: names and debug information, as a side file for crash reports.
    pub side: Option<Vec<u8>>,
    /// The same component in the form that a node serves, where it differs: see [`Composed::attributed`].
    attributed: Option<Vec<u8>>,
}

impl Composed {
    /// The component in the form that a node serves: what a part imports with a grant of its own, it imports under
    /// a name of its own ([`tenon_model::PartImport`]), so that the host knows from the binary who asks. Where no
    /// part has a grant, these are the same bytes.
    pub fn attributed(&self) -> &[u8] {
        self.attributed.as_deref().unwrap_or(&self.bytes)
    }
}

/// One component within a composed component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in the manifest.
    pub name: String,
    /// The digest of its file.
    pub digest: Digest,
    /// The digest of what the composed component holds: another one where a memory limit was written into it.
    pub held: Digest,
    /// The number of bytes of what the composed component holds for it alone.
    pub size: usize,
    /// What optimising it came to, where that was asked for.
    pub optimized: Option<Saving>,
}

/// A core module that an optimised composition has once, for all parts that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedModule {
    /// The number of its bytes.
    pub size: usize,
    /// The names of the parts that have it.
    pub parts: Vec<String>,
}

/// What optimising a part came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saving {
    /// The number of bytes it had before.
    pub bytes_before: usize,
    /// How many core instances it made before.
    pub core_instances_before: u32,
    /// How many it makes now.
    pub core_instances: u32,
    /// Why something of it stays as it was, where it does.
    pub kept: Option<String>,
}

/// Joins `inputs` as `manifest` says. The same manifest and the same bytes give the same result, in whatever
/// order they are handed over.
///
/// # Errors
/// Everything that keeps the components from being joined: files that are not components, imports that nobody
/// satisfies, types that differ, circles.
pub fn compose(manifest: &Manifest, inputs: &[Input<'_>]) -> Result<Composed, Diagnostics> {
    let (graph, mut findings) = Graph::of(manifest, inputs);
    findings.extend(check_edges(&graph));
    Diagnostics::check(findings)?;

    let plain = pieces(&graph)?;
    let joined = match manifest.optimize {
        true => share(&graph, join_optimized(manifest, &graph, plain)?),
        false => join(manifest, &graph, plain)?,
    };
    let Joined { pieces, encoded, attributed, savings, sides, shared } = joined;
    let provenance = provenance_of(manifest, &graph, &pieces);
    Ok(Composed {
        attributed: attributed.map(|bytes| provenance::append(bytes, &provenance)),
        bytes: provenance::append(encoded.bytes, &provenance),
        shared,
        side: side_file(&sides),
        parts: graph
            .nodes
            .iter()
            .zip(&pieces)
            .enumerate()
            .map(|(index, (node, piece))| Part {
                name: node.component.name.clone(),
                digest: node.digest,
                held: held(node, piece),
                size: piece.bytes.len(),
                optimized: savings.get(index).cloned(),
            })
            .collect(),
        imports: encoded.imports,
        exports: graph.exports.keys().cloned().collect(),
    })
}

/// A composition that is encoded, and from what.
struct Joined<'g> {
    pieces: Vec<Piece<'g>>,
    encoded: Encoded,
    attributed: Option<Vec<u8>>,
    /// For each part, where it was optimised.
    savings: Vec<Saving>,
    sides: Vec<Side>,
    shared: Vec<SharedModule>,
}

fn join<'g>(
    manifest: &Manifest,
    graph: &Graph<'_>,
    pieces: Vec<Piece<'g>>,
) -> Result<Joined<'g>, Diagnostics> {
    let encoded = encode(graph, &pieces)?;
    let attributed = attribute(manifest, graph, &pieces)?;
    Ok(Joined { pieces, encoded, attributed, savings: Vec::new(), sides: Vec::new(), shared: Vec::new() })
}

/// Joins the parts as small as they can be joined: without the exports that nobody uses; where types keep them
/// together, with all exports; else as they are.
fn join_optimized<'g>(
    manifest: &Manifest,
    graph: &Graph<'_>,
    plain: Vec<Piece<'g>>,
) -> Result<Joined<'g>, Diagnostics> {
    let mut refused = None;
    for drops_exports in [true, false] {
        let optimized = optimize(graph, &plain, drops_exports);
        match join(manifest, graph, optimized.pieces) {
            Ok(joined) => {
                return Ok(Joined { savings: optimized.savings, sides: optimized.sides, ..joined });
            }
            Err(found) => refused = found.iter().next().map(|found| found.message.clone()),
        }
    }
    let savings = plain.iter().map(|piece| unchanged(&piece.bytes, refused.clone())).collect();
    Ok(Joined { savings, ..join(manifest, graph, plain)? })
}

/// The same with each core module once; as it is where that cannot be done for certain.
fn share<'g>(graph: &Graph<'_>, joined: Joined<'g>) -> Joined<'g> {
    match shared(graph, &joined) {
        Ok(Some(shared)) => Joined { savings: joined.savings, sides: joined.sides, ..shared },
        Ok(None) | Err(_) => joined,
    }
}

/// What differs in it, if anything does.
fn shared<'g>(graph: &Graph<'_>, joined: &Joined<'g>) -> Result<Option<Joined<'g>>, Unsuitable> {
    let parts: Vec<&[u8]> = joined.pieces.iter().map(|piece| &*piece.bytes).collect();
    let shared = Shared::of(&parts)?;
    if shared.is_empty() {
        return Ok(None);
    }
    let whole = |bytes: &[u8]| {
        let bytes = shared.whole(bytes)?;
        require_component("a composed component", &bytes)
            .map_err(|found| Unsuitable::Unreadable(found.message))?;
        Ok::<_, Unsuitable>(bytes)
    };
    let mut modules: Vec<_> = shared
        .modules()
        .iter()
        .map(|module| SharedModule { size: module.len(), parts: Vec::new() })
        .collect();
    let mut pieces = Vec::new();
    for (node, piece) in graph.nodes.iter().zip(&joined.pieces) {
        for index in shared.of_part(&piece.bytes)? {
            if let Some(module) = modules.get_mut(index as usize) {
                module.parts.push(node.component.name.clone());
            }
        }
        pieces.push(Piece { bytes: Cow::Owned(shared.part(&piece.bytes)?), ..piece.clone() });
    }
    Ok(Some(Joined {
        encoded: Encoded { bytes: whole(&joined.encoded.bytes)?, imports: joined.encoded.imports.clone() },
        attributed: joined.attributed.as_deref().map(whole).transpose()?,
        pieces,
        savings: Vec::new(),
        sides: Vec::new(),
        shared: modules,
    }))
}

struct Optimized<'g> {
    pieces: Vec<Piece<'g>>,
    savings: Vec<Saving>,
    sides: Vec<Side>,
}

fn optimize<'g>(graph: &Graph<'_>, plain: &[Piece<'g>], drops_exports: bool) -> Optimized<'g> {
    let mut optimized = Optimized { pieces: Vec::new(), savings: Vec::new(), sides: Vec::new() };
    for (index, piece) in plain.iter().enumerate() {
        let used = used_exports(graph, index).filter(|_| drops_exports);
        let keep = |export: &str| used.as_ref().is_none_or(|used| used.contains(export));
        let slim = slim(&piece.bytes, &keep).map_err(|why| why.to_string());
        let (piece, saving) = match slim {
            Ok(slim) if slim.bytes.len() < piece.bytes.len() => {
                optimized.sides.extend(slim.sides);
                let saving = Saving {
                    core_instances: core_instances(&slim.bytes),
                    ..unchanged(&piece.bytes, slim.unlinked.map(|why| why.to_string()))
                };
                let imports = tenon_wit::import_names(&slim.bytes).into_iter().collect();
                let slim =
                    Piece { bytes: Cow::Owned(slim.bytes), imports: Some(imports), ..Piece::default() };
                (slim, saving)
            }
            slim => (piece.clone(), unchanged(&piece.bytes, slim.err())),
        };
        optimized.pieces.push(piece);
        optimized.savings.push(saving);
    }
    optimized
}

fn unchanged(bytes: &[u8], kept: Option<String>) -> Saving {
    let core_instances = core_instances(bytes);
    Saving { bytes_before: bytes.len(), core_instances_before: core_instances, core_instances, kept }
}

/// The exports of a part that others or the composition use. `None` where single functions of it are used: the adapter
/// may need the types of any.
fn used_exports<'g>(graph: &'g Graph<'_>, index: usize) -> Option<BTreeSet<&'g str>> {
    let mut used = BTreeSet::new();
    for edge in graph.edges.iter().filter(|edge| edge.exporter == index) {
        if edge.import.function.is_some() || edge.export.function.is_some() {
            return None;
        }
        used.insert(edge.export.name.as_str());
    }
    for exported in graph.exports.values().filter(|exported| exported.node == index) {
        used.insert(exported.target.name.as_str());
    }
    Some(used)
}

/// The parts with their memory limits in them.
fn pieces<'g>(graph: &'g Graph<'_>) -> Result<Vec<Piece<'g>>, Diagnostics> {
    let (mut pieces, mut findings) = (Vec::new(), Vec::new());
    for node in &graph.nodes {
        let bytes = match node.authority.memory_bytes {
            None => Cow::Borrowed(node.bytes),
            Some(limit_bytes) => match cap_memories(node.bytes, limit_bytes) {
                Ok(capped) => Cow::Owned(capped),
                Err(error) => {
                    findings.push(cannot_cap(node, limit_bytes, &error));
                    continue;
                }
            },
        };
        pieces.push(Piece { bytes, ..Piece::default() });
    }
    Diagnostics::check(findings)?;
    Ok(pieces)
}

fn cannot_cap(node: &Node<'_>, limit_bytes: u64, error: &CapError) -> Diagnostic {
    let name = &node.component.name;
    let at = node.component.memory_at.clone().unwrap_or_else(|| node.component.at.clone());
    match error {
        CapError::StartsLarger { initial_bytes } => Diagnostic::new(
            "memory-limit",
            format!(
                "`{name}` starts with {} of memory, and its limit is {}",
                whole(*initial_bytes),
                format_bytes(limit_bytes)
            ),
        )
        .at(at)
        .mend(format!(
            "Raise `memory` in [component.{name}.limits] to {} and what it needs on top, or build it with a smaller \
             stack and fewer static data.",
            whole(*initial_bytes)
        )),
        CapError::Unreadable(why) => {
            Diagnostic::new("internal", format!("the memories of `{name}` cannot be limited")).note("found", why)
        }
    }
}

/// A size of whole pages as a manifest may say it, to the byte.
fn whole(bytes: u64) -> String {
    match bytes.is_multiple_of(1 << 20) {
        true => format_bytes(bytes),
        false => format!("{}KiB", bytes.div_ceil(1 << 10)),
    }
}

/// The composed component with names of their own for what was granted to single parts; `None` where nothing was.
fn attribute(
    manifest: &Manifest,
    graph: &Graph<'_>,
    pieces: &[Piece<'_>],
) -> Result<Option<Vec<u8>>, Diagnostics> {
    let own = |(index, (node, piece)): (usize, (&Node<'_>, &Piece<'_>))| Piece {
        bytes: Cow::Owned(piece.bytes.to_vec()),
        own_names: own_names(
            &node.component.name,
            &node.authority,
            &manifest.limits.outside,
            graph.open.iter().filter(|(_, nodes)| nodes.contains(&index)).map(|(name, _)| name.as_str()),
        ),
        imports: piece.imports.clone(),
    };
    let pieces: Vec<Piece<'_>> = graph.nodes.iter().zip(pieces).enumerate().map(own).collect();
    if pieces.iter().all(|piece| piece.own_names.is_empty()) {
        return Ok(None);
    }
    match encode(graph, &pieces) {
        Ok(Encoded { bytes, .. }) => Ok(Some(bytes)),
        Err(found) => {
            let mut diagnostic = Diagnostic::new(
                "grant-crosses",
                "the components fit, but not when each has its grants to itself",
            );
            for finding in found.iter() {
                diagnostic = diagnostic.note(&finding.message, notes_of(finding));
            }
            Err(diagnostic
                .at(tenon_model::Location::file(&manifest.file))
                .mend(
                    "A resource of a granted interface, such as a bucket or a socket, belongs to the component that \
                     was granted it. Hand data to the neighbour, or export functions that do what it needs.",
                )
                .into())
        }
    }
}

fn notes_of(finding: &Diagnostic) -> String {
    finding.notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>().join("\n")
}

fn held(node: &Node<'_>, piece: &Piece<'_>) -> Digest {
    match &piece.bytes {
        Cow::Borrowed(_) => node.digest,
        Cow::Owned(bytes) => Digest::of(bytes),
    }
}

fn provenance_of(manifest: &Manifest, graph: &Graph<'_>, pieces: &[Piece<'_>]) -> Provenance {
    let part = |(index, node): (usize, &Node<'_>)| provenance::Part {
        name: node.component.name.clone(),
        digest: node.digest,
        held: held(node, &pieces[index]),
        imports: graph
            .edges
            .iter()
            .filter(|edge| edge.importer == index)
            .map(|edge| {
                let component = graph.nodes[edge.exporter].component.name.clone();
                (edge.import.to_string(), Source { component, export: edge.export.to_string() })
            })
            .collect(),
    };
    let export = |(name, exported): (&String, &Exported)| {
        let component = graph.nodes[exported.node].component.name.clone();
        (name.clone(), Source { component, export: exported.target.to_string() })
    };
    Provenance {
        name: manifest.name.clone(),
        components: graph.nodes.iter().enumerate().map(part).collect(),
        exports: graph.exports.iter().map(export).collect(),
    }
}
