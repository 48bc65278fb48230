//! Circles: components that would each have to exist before the other.

use std::collections::VecDeque;

use tenon_model::Diagnostic;

use super::{Edge, Graph};

/// One finding for each group of components that import from one another, naming a shortest circle.
pub(super) fn find(graph: &Graph<'_>) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut reported = vec![false; graph.nodes.len()];
    for start in 0..graph.nodes.len() {
        if reported[start] {
            continue;
        }
        if let Some(circle) = shortest_circle(graph, start) {
            for edge in &circle {
                reported[edge.importer] = true;
            }
            findings.push(describe(graph, &circle));
        }
    }
    findings
}

/// The fewest edges that lead from `start` back to itself, found breadth first.
fn shortest_circle<'g, 'a>(graph: &'g Graph<'a>, start: usize) -> Option<Vec<&'g Edge<'a>>> {
    let mut reached_by: Vec<Option<&Edge<'_>>> = vec![None; graph.nodes.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for edge in graph.edges.iter().filter(|edge| edge.importer == at) {
            if reached_by[edge.exporter].is_some() {
                continue;
            }
            reached_by[edge.exporter] = Some(edge);
            if edge.exporter != start {
                queue.push_back(edge.exporter);
                continue;
            }
            let mut circle = vec![edge];
            while let Some(before) = circle.last().filter(|last| last.importer != start) {
                circle.push(reached_by[before.importer]?);
            }
            circle.reverse();
            return Some(circle);
        }
    }
    None
}

fn describe(graph: &Graph<'_>, circle: &[&Edge<'_>]) -> Diagnostic {
    let name = |index: usize| graph.nodes[index].component.name.as_str();
    let [first, rest @ ..] = circle else {
        unreachable!("a circle has at least one edge");
    };
    let (message, mend) = if rest.is_empty() {
        (
            format!("`{}` imports from itself", name(first.importer)),
            format!(
                "Name another component, or remove the line: within `{}`, call the function directly.",
                name(first.importer)
            ),
        )
    } else {
        let path: Vec<_> =
            circle.iter().map(|edge| name(edge.importer)).chain([name(first.importer)]).collect();
        (
            format!("components import from one another in a circle: {}", path.join(" → ")),
            "A component has to exist before another can import from it. Move what both need into a component \
             that imports from neither, or hand the data over as an argument."
                .to_owned(),
        )
    };
    let mut diagnostic = Diagnostic::new("cycle", message).at(first.wire.import.at.clone());
    for edge in circle {
        diagnostic = diagnostic.note_at(
            format!("{} imports from {}", name(edge.importer), name(edge.exporter)),
            edge.import.to_string(),
            edge.wire.import.at.clone(),
        );
    }
    diagnostic.mend(mend)
}
