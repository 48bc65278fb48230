//! The picture as SVG: columns from the exports inwards, a box for each component, a line for each import that another
//! component satisfies. It follows the reader's light or dark setting.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tenon_model::format_bytes;

use super::{Drawing, Drawn, Outside};

const MARGIN: f64 = 28.0;
/// Between two columns, where the lines run.
const COLUMN_GAP: f64 = 110.0;
/// Between two boxes of a column.
const BOX_GAP: f64 = 28.0;
const TITLE_HEIGHT: f64 = 56.0;
const HEADER_HEIGHT: f64 = 52.0;
const ROW_HEIGHT: f64 = 22.0;
const PADDING: f64 = 14.0;
/// The width of one character of the small fixed-width type.
const CHARACTER: f64 = 6.9;
const BOX_WIDTH_MIN: f64 = 210.0;
/// The height of an export's label at the left.
const PILL_HEIGHT: f64 = 26.0;

const STYLE: &str = "
  .page { fill: #ffffff } .title { fill: #16181d } .quiet { fill: #626b7a } .name { fill: #16181d }
  .box { fill: #f7f8fa; stroke: #d5dae2; stroke-width: 1 } .rule { stroke: #e3e7ed; stroke-width: 1 }
  .bar { fill: #e3e7ed } .filled { fill: #5b6ee1 } .port { fill: #2f3744 }
  .wire { fill: none; stroke: #5b6ee1; stroke-width: 1.75 } .dot { fill: #5b6ee1 }
  .pill { fill: #eaf6ef; stroke: #9ed0b4 } .pill-text { fill: #14663c } .out { fill: none; stroke: #3f9d6b; stroke-width: 1.75 }
  .granted { fill: #9a5b00 } .open { fill: #b3261e }
  text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif }
  .mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; font-size: 11.5px }
  @media (prefers-color-scheme: dark) {
    .page { fill: #14161b } .title, .name { fill: #f0f2f6 } .quiet { fill: #97a1b3 }
    .box { fill: #1d2027; stroke: #353b47 } .rule { stroke: #2c313b } .bar { fill: #2c313b } .filled { fill: #8b9bff }
    .port { fill: #d3d9e4 } .wire { stroke: #8b9bff } .dot { fill: #8b9bff }
    .pill { fill: #16291f; stroke: #2f6b4a } .pill-text { fill: #8fdcb2 } .out { stroke: #4cb37f }
    .granted { fill: #f0b45a } .open { fill: #ff8a80 }
  }
";

/// A line of a box: what it says, how it looks, and whose wires start or end there.
struct Row {
    text: String,
    class: &'static str,
    /// The import that starts at its right end.
    import: Option<String>,
    /// The export that lines end at, at its left end.
    export: Option<String>,
}

struct Placed<'d> {
    component: &'d Drawn,
    rows: Vec<Row>,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Placed<'_> {
    fn row_y(&self, index: usize) -> f64 {
        self.y + HEADER_HEIGHT + ROW_HEIGHT * index as f64 + ROW_HEIGHT / 2.0 + 4.0
    }

    /// Where a line to the export ends: at its row, or at the header.
    fn export_y(&self, export: &str) -> f64 {
        let row = self.rows.iter().position(|row| row.export.as_deref() == Some(export));
        row.map_or(self.y + HEADER_HEIGHT / 2.0, |row| self.row_y(row))
    }
}

/// The picture as an SVG document.
pub fn to_svg(drawing: &Drawing) -> String {
    let pill = |name: &str| name.chars().count() as f64 * CHARACTER + 2.0 * PADDING;
    let pills_width = drawing.exports.keys().map(|name| pill(name)).fold(0.0, f64::max);
    let placed = place(drawing, MARGIN + pills_width + if pills_width > 0.0 { COLUMN_GAP } else { 0.0 });
    let right = placed.iter().map(|it| it.x + it.width).fold(MARGIN + pills_width, f64::max);
    let title_width = drawing.name.chars().count() as f64 * 11.0 + 260.0;
    let width = (right + MARGIN).max(title_width);
    let boxes_bottom = placed.iter().map(|it| it.y + it.height).fold(0.0, f64::max);
    let pills = place_pills(drawing, &placed);
    let pills_bottom = pills.values().map(|y| y + PILL_HEIGHT).fold(0.0, f64::max);
    let height = boxes_bottom.max(pills_bottom) + MARGIN;

    let mut svg = String::new();
    let count = drawing.components.len();
    let summary = format!(
        "{count} {}, {}",
        if count == 1 { "component" } else { "components" },
        format_bytes(drawing.bytes)
    );
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{0}: {1}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"{2}\" font-size=\"19\" font-weight=\"650\">{0}</text>\n\
         <text class=\"quiet\" x=\"{MARGIN}\" y=\"{3}\" font-size=\"12.5\">{1}</text>\n",
        escaped(&drawing.name),
        escaped(&summary),
        MARGIN + 10.0,
        MARGIN + 29.0,
    );
    wires(&mut svg, &placed);
    for (name, source) in &drawing.exports {
        let Some(target) = placed.iter().find(|it| it.component.name == source.component) else { continue };
        let (y, end) = (pills.get(name).copied().unwrap_or_default(), target.export_y(&source.export));
        let own_width = pill(name);
        let x = MARGIN + pills_width - own_width;
        curve(&mut svg, "out", (MARGIN + pills_width, y + PILL_HEIGHT / 2.0), (target.x, end));
        let _ = writeln!(
            svg,
            "<g><title>{0} is exported, from {1}</title>\
             <rect class=\"pill\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{own_width:.1}\" height=\"{PILL_HEIGHT}\" rx=\"13\"/>\
             <text class=\"mono pill-text\" x=\"{2:.1}\" y=\"{3:.1}\">{0}</text></g>",
            escaped(name),
            escaped(&source.component),
            x + PADDING,
            y + 17.0,
        );
    }
    let largest = drawing.components.iter().map(|it| it.bytes).max().unwrap_or(1).max(1);
    for it in &placed {
        component(&mut svg, it, largest);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Columns from left to right; within a column, boxes stand near those that import from them.
fn place(drawing: &Drawing, left: f64) -> Vec<Placed<'_>> {
    let columns = drawing.columns();
    let last = columns.iter().copied().max().unwrap_or(0);
    let mut placed: Vec<Placed<'_>> = Vec::new();
    let mut x = left;
    for column in 0..=last {
        let mut members: Vec<(f64, &Drawn)> = drawing
            .components
            .iter()
            .zip(&columns)
            .filter(|(_, of)| **of == column)
            .map(|(component, _)| (importers_middle(&placed, component), component))
            .collect();
        members.sort_by(|left, right| left.0.total_cmp(&right.0));
        let rows: Vec<_> = members.iter().map(|(_, component)| rows(drawing, component)).collect();
        let width = members
            .iter()
            .zip(&rows)
            .map(|((_, component), rows)| box_width(component, rows))
            .fold(BOX_WIDTH_MIN, f64::max);
        let mut y = MARGIN + TITLE_HEIGHT;
        for ((_, component), rows) in members.into_iter().zip(rows) {
            let height =
                HEADER_HEIGHT + ROW_HEIGHT * rows.len() as f64 + if rows.is_empty() { 0.0 } else { 10.0 };
            placed.push(Placed { component, rows, x, y, width, height });
            y += height + BOX_GAP;
        }
        x += width + COLUMN_GAP;
    }
    placed
}

/// The middle of the rows that a component's lines come from.
fn importers_middle(placed: &[Placed<'_>], component: &Drawn) -> f64 {
    let ends: Vec<f64> = placed
        .iter()
        .flat_map(|it| {
            it.rows.iter().enumerate().filter_map(|(index, row)| {
                let source = it.component.imports.get(row.import.as_ref()?)?;
                (source.component == component.name).then(|| it.row_y(index))
            })
        })
        .collect();
    if ends.is_empty() { 0.0 } else { ends.iter().sum::<f64>() / ends.len() as f64 }
}

fn rows(drawing: &Drawing, component: &Drawn) -> Vec<Row> {
    let used = |export: &str| {
        let mut sources =
            drawing.components.iter().flat_map(|it| it.imports.values()).chain(drawing.exports.values());
        sources.any(|source| source.component == component.name && source.export == export)
    };
    let mut exports: Vec<String> = component.exports.iter().filter(|it| used(it)).cloned().collect();
    // Functions that were joined on their own.
    let sources =
        drawing.components.iter().flat_map(|it| it.imports.values()).chain(drawing.exports.values());
    for source in sources.filter(|source| source.component == component.name) {
        if !exports.contains(&source.export) {
            exports.push(source.export.clone());
        }
    }
    // As the imports are, so that lines do not cross without need.
    exports.sort();
    let row = |text: String, class| Row { text, class, import: None, export: None };
    let mut rows: Vec<Row> =
        exports.into_iter().map(|name| Row { export: Some(name.clone()), ..row(name, "port") }).collect();
    rows.extend(component.imports.iter().map(|(name, source)| {
        let text = match source.export == *name {
            true => name.clone(),
            false => format!("{name} = {}", source.export),
        };
        Row { import: Some(name.clone()), ..row(text, "port") }
    }));
    rows.extend(component.outside.iter().filter(|it| it.1 != Outside::Inert).map(|(name, stands)| {
        let class = if *stands == Outside::Granted { "granted" } else { "open" };
        row(format!("{name} ({})", stands.word()), class)
    }));
    let inert = component.outside.iter().filter(|it| it.1 == Outside::Inert).count();
    if inert > 0 {
        rows.push(row(format!("+ {inert} that every component has"), "quiet"));
    }
    rows
}

fn about(component: &Drawn) -> String {
    let mut about = component.languages.clone();
    about.push(format_bytes(component.bytes));
    about.join(" · ")
}

fn box_width(component: &Drawn, rows: &[Row]) -> f64 {
    let characters = |text: &str| text.chars().count() as f64;
    let header = (characters(&component.name) * 9.0).max(characters(&about(component)) * 6.6);
    let widest = rows.iter().map(|row| characters(&row.text) * CHARACTER).fold(header, f64::max);
    widest + 2.0 * PADDING
}

/// Each export's label stands at the height of what it exports, and none on another.
fn place_pills(drawing: &Drawing, placed: &[Placed<'_>]) -> BTreeMap<String, f64> {
    let mut wanted: Vec<(f64, &String)> = drawing
        .exports
        .iter()
        .map(|(name, source)| {
            let target = placed.iter().find(|it| it.component.name == source.component);
            (target.map_or(0.0, |it| it.export_y(&source.export)) - PILL_HEIGHT / 2.0, name)
        })
        .collect();
    wanted.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut next = MARGIN + TITLE_HEIGHT;
    wanted
        .into_iter()
        .map(|(y, name)| {
            let y = y.max(next);
            next = y + PILL_HEIGHT + 8.0;
            (name.clone(), y)
        })
        .collect()
}

fn wires(svg: &mut String, placed: &[Placed<'_>]) {
    for from in placed {
        for (index, row) in from.rows.iter().enumerate() {
            let Some(source) = row.import.as_ref().and_then(|import| from.component.imports.get(import))
            else {
                continue;
            };
            let Some(to) = placed.iter().find(|it| it.component.name == source.component) else { continue };
            let (start, end) = (from.row_y(index), to.export_y(&source.export));
            let _ = write!(
                svg,
                "<g><title>{} imports {} from {}</title>",
                escaped(&from.component.name),
                escaped(&row.text),
                escaped(&source.component)
            );
            curve(svg, "wire", (from.x + from.width, start), (to.x, end));
            svg.push_str("</g>\n");
        }
    }
}

fn curve(svg: &mut String, class: &str, (x, y): (f64, f64), (to_x, to_y): (f64, f64)) {
    // Steep lines are drawn out, or they would hug the boxes that they pass.
    let reach = ((to_x - x) / 2.0).max(40.0);
    let _ = write!(
        svg,
        "<path class=\"{class}\" d=\"M{x:.1},{y:.1} C{:.1},{y:.1} {:.1},{to_y:.1} {to_x:.1},{to_y:.1}\"/>",
        x + reach,
        to_x - reach
    );
}

fn component(svg: &mut String, it: &Placed<'_>, largest: u64) {
    let Placed { component, rows, x, y, width, height } = it;
    let text_x = x + PADDING;
    let mut hint = vec![component.name.clone(), about(component)];
    hint.extend(component.tools.iter().cloned());
    let _ = write!(
        svg,
        "<g><title>{0}</title><rect class=\"box\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"9\"/>\
         <text class=\"name\" x=\"{text_x:.1}\" y=\"{1:.1}\" font-size=\"14.5\" font-weight=\"620\">{2}</text>\
         <text class=\"quiet\" x=\"{text_x:.1}\" y=\"{3:.1}\" font-size=\"11.5\">{4}</text>",
        escaped(&hint.join("\n")),
        y + 22.0,
        escaped(&component.name),
        y + 39.0,
        escaped(&about(component)),
    );
    let (bar_x, bar_y, bar_width) = (x + width - PADDING - 56.0, y + 15.0, 56.0);
    let share = (component.bytes as f64 / largest as f64 * bar_width).max(2.0);
    let _ = write!(
        svg,
        "<rect class=\"bar\" x=\"{bar_x:.1}\" y=\"{bar_y:.1}\" width=\"{bar_width}\" height=\"5\" rx=\"2.5\"/>\
         <rect class=\"filled\" x=\"{bar_x:.1}\" y=\"{bar_y:.1}\" width=\"{share:.1}\" height=\"5\" rx=\"2.5\"/>"
    );
    if !rows.is_empty() {
        let rule = y + HEADER_HEIGHT - 2.0;
        let _ = write!(
            svg,
            "<line class=\"rule\" x1=\"{x:.1}\" y1=\"{rule:.1}\" x2=\"{:.1}\" y2=\"{rule:.1}\"/>",
            x + width
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let middle = it.row_y(index);
        let end = x + width;
        let (anchor, at) = match row.import {
            Some(_) => ("end", end - PADDING),
            None => ("start", text_x),
        };
        let _ = write!(
            svg,
            "<text class=\"mono {}\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            row.class,
            middle + 4.0,
            escaped(&row.text)
        );
        if row.import.is_some() {
            let _ = write!(svg, "<circle class=\"dot\" cx=\"{end:.1}\" cy=\"{middle:.1}\" r=\"3.5\"/>");
        }
        if row.export.is_some() {
            let _ = write!(svg, "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"3.5\"/>");
        }
    }
    svg.push_str("</g>\n");
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no way to say most control characters.
            control if control.is_control() && control != '\n' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
