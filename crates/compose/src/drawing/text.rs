//! The picture for a terminal.

use std::fmt::Write as _;

use tenon_model::format_bytes;
use tenon_wit::provenance::Source;

use super::{Drawing, Drawn, Outside};

/// The components in order from the exports inwards, each with what it imports from whom.
pub fn to_text(drawing: &Drawing) -> String {
    let mut text = String::new();
    let count = match drawing.components.len() {
        1 => "1 component".to_owned(),
        count => format!("{count} components"),
    };
    let _ = writeln!(text, "{}: {count}, {}", drawing.name, format_bytes(drawing.bytes));
    for (name, source) in &drawing.exports {
        let _ = writeln!(text, "  ▶ {name}{}", from(name, source));
    }
    let columns = drawing.columns();
    let mut order: Vec<usize> = (0..drawing.components.len()).collect();
    order.sort_by_key(|index| (columns[*index], *index));
    for index in order {
        component(&mut text, &drawing.components[index]);
    }
    text
}

fn component(text: &mut String, component: &Drawn) {
    let mut about = component.languages.clone();
    about.push(format_bytes(component.bytes));
    let _ = writeln!(text, "\n{} ({})", component.name, about.join(", "));
    let mut lines: Vec<String> =
        component.imports.iter().map(|(name, source)| format!("{name}{}", from(name, source))).collect();
    let inert = component.outside.iter().filter(|it| it.1 == Outside::Inert).count();
    lines.extend(
        component
            .outside
            .iter()
            .filter(|it| it.1 != Outside::Inert)
            .map(|(name, stands)| format!("{name} ({})", stands.word())),
    );
    if inert > 0 {
        let interfaces = if inert == 1 { "interface" } else { "interfaces" };
        lines.push(format!("{inert} {interfaces} that every component has"));
    }
    for (index, line) in lines.iter().enumerate() {
        let corner = if index + 1 == lines.len() { "└─" } else { "├─" };
        let _ = writeln!(text, "  {corner} {line}");
    }
}

fn from(name: &str, source: &Source) -> String {
    match source.export == name {
        true => format!(" ← {}", source.component),
        false => format!(" ← {} {}", source.component, source.export),
    }
}
