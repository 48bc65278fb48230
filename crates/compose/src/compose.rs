//! The life of a composition.

use tenon_model::{Diagnostics, Digest};
use tenon_wit::provenance::{self, Provenance, Source};

use crate::edges::check_edges;
use crate::encode::encode;
use crate::graph::Graph;
use crate::manifest::Manifest;

/// The bytes of one component of a manifest.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The component's name in the manifest.
    pub component: &'a str,
    /// The file the bytes are from, as the person named it.
    pub file: &'a str,
    /// The bytes.
    pub bytes: &'a [u8],
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
}

/// One component within a composed component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name in the manifest.
    pub name: String,
    /// The digest of its bytes, which the composed component holds unchanged.
    pub digest: Digest,
    /// The number of its bytes.
    pub size: usize,
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

    let encoded = encode(&graph)?;
    Ok(Composed {
        bytes: provenance::append(encoded.bytes, &provenance_of(manifest, &graph)),
        parts: graph
            .nodes
            .iter()
            .map(|node| Part {
                name: node.component.name.clone(),
                digest: node.digest,
                size: node.bytes.len(),
            })
            .collect(),
        imports: encoded.imports,
        exports: graph.exports.keys().cloned().collect(),
    })
}

fn provenance_of(manifest: &Manifest, graph: &Graph<'_>) -> Provenance {
    let part = |(index, node): (usize, &crate::graph::Node<'_>)| provenance::Part {
        name: node.component.name.clone(),
        digest: node.digest,
        imports: graph
            .edges
            .iter()
            .filter(|edge| edge.importer == index)
            .map(|edge| {
                let component = graph.nodes[edge.exporter].component.name.clone();
                (edge.import.clone(), Source { component, export: edge.export.clone() })
            })
            .collect(),
    };
    Provenance { name: manifest.name.clone(), components: graph.nodes.iter().enumerate().map(part).collect() }
}
