//! The picture: CPU time per request of every server, with its spread over the rounds.

use std::fmt::Write as _;

use super::Results;
use super::subject::Side;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 330.0;
const VALUES: f64 = 90.0;
const ROW: f64 = 30.0;
const BAR: f64 = 16.0;
const TOP: f64 = 58.0;
const BOTTOM: f64 = 44.0;

/// Readable on light and dark pages alike.
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-size:16px;font-weight:600}\
                     .note{font-size:11px;fill:#59636e}.floor{fill:#8c959f}.tenon{fill:#0969da}.peer{fill:#bc4c00}\
                     .spread{stroke:#1f2328;stroke-width:1.5}\
                     @media (prefers-color-scheme:dark){text{fill:#f0f6fc}.note{fill:#9198a1}.tenon{fill:#4493f8}\
                     .peer{fill:#f0883e}.spread{stroke:#f0f6fc}}";

/// The picture as SVG.
pub(super) fn svg(results: &Results) -> String {
    let rows: Vec<_> = results
        .measured
        .iter()
        .filter_map(|one| Some((one, one.spread(|round| round.cpu_us_per_request)?)))
        .collect();
    let most = rows.iter().map(|(_, spread)| spread.max).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS - VALUES) / most;
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"CPU time per request\">\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"12\" y=\"26\">CPU time per request, hello over HTTP</text>\n\
         <text class=\"note\" x=\"12\" y=\"44\">microseconds, less is better; bar: median of {} rounds, line: least to most</text>\n",
        results.settings.rounds
    );
    for (row, (one, spread)) in rows.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let middle = y + BAR / 2.0;
        let class = match one.subject.side {
            Side::Floor => "floor",
            Side::Tenon => "tenon",
            Side::Peer => "peer",
        };
        let (left, right) = (LABELS + spread.min * scale, LABELS + spread.max * scale);
        let _infallible = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{class}\" x=\"{LABELS}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>\n\
             <line class=\"spread\" x1=\"{left:.1}\" y1=\"{middle:.1}\" x2=\"{right:.1}\" y2=\"{middle:.1}\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{:.1}</text>\n",
            LABELS - 10.0,
            y + 13.0,
            escaped(one.subject.name),
            spread.median * scale,
            right.max(LABELS + spread.median * scale) + 8.0,
            y + 13.0,
            spread.median,
        );
    }
    let _infallible = write!(
        svg,
        "<text class=\"note\" x=\"12\" y=\"{:.1}\">{}</text>\n</svg>\n",
        height - 16.0,
        escaped(&format!("peer: {}. {}", results.peer, results.machine.text()))
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
