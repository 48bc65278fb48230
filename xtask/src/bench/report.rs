//! The figures as text for people and as JSON for programs. The shape of the JSON is described in benches/README.md.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::figures::Spread;
use super::machine::Cores;
use super::subject::Side;
use super::{Measured, Results, Round, Sandboxes};

/// The versions of the JSON's shapes.
const SHAPE: &str = "tenon-bench-http/2";
const SANDBOX_SHAPE: &str = "tenon-bench-sandbox/1";

/// Who is compared with whom, and how much less CPU per request the first one is meant to take.
pub(super) const PAIRS: [(&str, &str, Option<f64>); 5] = [
    ("tenon-http", "peer-http", Some(2.0)),
    ("tenon-plain", "peer-http", Some(4.0)),
    ("tenon-http", "peer-http-reused", None),
    ("tenon-service", "peer-service", None),
    ("tenon-service", "peer-service-reused", None),
];

/// A figure of a round: its name in JSON, its heading in the table, how to get it, and decimals to show.
type Column = (&'static str, &'static str, fn(&Round) -> f64, usize);

const COLUMNS: [Column; 9] = [
    ("requests_per_second", "requests/s", |round| round.requests_per_second, 0),
    ("cpu_us_per_request", "CPU µs/req", |round| round.cpu_us_per_request, 1),
    ("p50_us", "p50 µs", |round| round.p50_us, 0),
    ("p99_us", "p99 µs", |round| round.p99_us, 0),
    ("unloaded_p50_us", "1 conn p50", |round| round.unloaded_p50_us, 0),
    ("unloaded_p99_us", "1 conn p99", |round| round.unloaded_p99_us, 0),
    ("resident_mib", "RSS MiB", |round| round.resident_kib / 1024.0, 1),
    ("resident_peak_mib", "peak MiB", |round| round.resident_peak_kib / 1024.0, 1),
    ("server_core_busy", "core busy", |round| round.server_core_busy, 2),
];

/// A figure that is the better the less it is: its name, and how to get it.
type Ratio = (&'static str, fn(&Round) -> f64);

const RATIOS: [Ratio; 4] = [
    ("CPU per request", |round| round.cpu_us_per_request),
    ("time per request", |round| 1.0 / round.requests_per_second),
    ("p99", |round| round.p99_us),
    ("resident memory", |round| round.resident_kib),
];

/// How many times the other's figure is the one's, round by round.
pub(super) fn ratio(results: &Results, one: &str, other: &str, figure: fn(&Round) -> f64) -> Option<Spread> {
    let rounds = |id: &str| {
        results.measured.iter().find(|measured| measured.subject.id == id).map(|found| &found.rounds)
    };
    Spread::of(rounds(other)?.iter().zip(rounds(one)?).map(|(other, one)| figure(other) / figure(one)))
}

fn name<'a>(results: &'a Results, id: &'a str) -> &'a str {
    results.measured.iter().find(|measured| measured.subject.id == id).map_or(id, |found| found.subject.name)
}

/// Rows and columns of text; the first column is left-aligned, the others right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = " ".repeat(widths[column] - cell.chars().count());
            let _infallible = match column {
                0 => write!(line, "  {cell}{pad}"),
                _ => write!(line, "  {pad}{cell}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn with_range(spread: &Spread, decimals: usize) -> String {
    format!("{:.decimals$} ({:.decimals$}–{:.decimals$})", spread.median, spread.min, spread.max)
}

fn where_run(cores: &Cores) -> String {
    if cores.are_shared() {
        "servers and load share the only core: of these figures only the CPU time per request means anything"
            .to_owned()
    } else {
        format!("servers on core {}, load on core {}", cores.server, cores.load)
    }
}

/// What is measured of Tenon alone, for people.
pub(super) fn sandbox_text(results: &Sandboxes) -> String {
    let Sandboxes { machine, cores, settings, guards, neighbours, generator } = results;
    format!(
        "Machine\n  {}\n\nHow\n  {} rounds of {} s; {}.\n  Load: {generator}.\n\n\
         What guarding a request costs: median, and where half of the turns lie\n{}\n\
         Beside a guest that loops\n{}",
        machine.text(),
        settings.rounds,
        settings.seconds,
        where_run(cores),
        table(&guards.rows()),
        neighbours.text()
    )
}

/// The same for programs.
pub(super) fn sandbox_json(results: &Sandboxes) -> String {
    let Sandboxes { machine, cores, settings, guards, neighbours, generator } = results;
    let report = json!({
        "shape": SANDBOX_SHAPE,
        "machine": machine.json(),
        "settings": {
            "rounds": settings.rounds, "seconds": settings.seconds, "connections": settings.connections,
            "server_core": cores.server, "load_core": cores.load, "generator": generator,
        },
        "guards": guards.json(),
        "neighbours": neighbours.json(),
    });
    format!("{report:#}\n")
}

/// The whole report for people.
pub(super) fn text(results: &Results) -> String {
    let mut text = String::new();
    let mut add = |title: &str, body: &str| {
        let _infallible = write!(text, "{title}\n{body}\n");
    };
    let settings = &results.settings;
    add("Machine", &format!("  {}\n", results.machine.text()));
    let where_run = where_run(&results.cores);
    let how = format!(
        "  {} rounds of {} s for each server in turn; {} keep-alive connections; {where_run}.\n  Load: {}. Peer: {}.\n",
        settings.rounds, settings.seconds, settings.connections, results.generator, results.peer
    );
    add("How", &how);

    let mut rows = vec![
        std::iter::once(String::new()).chain(COLUMNS.map(|(_, heading, ..)| heading.to_owned())).collect(),
    ];
    let mut notes = String::new();
    for measured in &results.measured {
        let name = measured.subject.name;
        if let Some(why) = &measured.missing {
            let _infallible = writeln!(notes, "  {name}: not measured: {why}");
            continue;
        }
        let cells = COLUMNS.map(|(_, _, figure, decimals)| {
            measured.spread(figure).map_or("-".to_owned(), |spread| format!("{:.decimals$}", spread.median))
        });
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
        let failed: u64 = measured.rounds.iter().map(|round| round.failed).sum();
        if failed > 0 {
            let asked = failed + measured.rounds.iter().map(|round| round.requests).sum::<u64>();
            let _infallible =
                writeln!(notes, "  {name}: {failed} of {asked} requests were not answered with 200");
        }
    }
    add("Hello over HTTP, one core (medians of the rounds)", &format!("{}{notes}", table(&rows)));

    let mut rows = vec![vec![String::new()]];
    rows[0].extend(RATIOS.map(|(name, _)| name.to_owned()));
    for (one, other, target) in PAIRS {
        let cells = RATIOS.map(|(_, figure)| {
            ratio(results, one, other, figure).map_or("-".to_owned(), |spread| with_range(&spread, 2))
        });
        let meant = target.map_or(String::new(), |target| format!(" [CPU: at least {target}]"));
        let label = format!("{} : {}{meant}", name(results, other), name(results, one));
        rows.push(std::iter::once(label).chain(cells).collect());
    }
    add(
        "The peer's figure over Tenon's, round by round: median (least–most); above 1, Tenon takes less",
        &table(&rows),
    );

    add(
        "What guarding a request costs: median, and where half of the turns lie",
        &table(&results.guards.rows()),
    );

    add("Beside a guest that loops", &results.neighbours.text());

    let mut rows = vec![["", "median ms", "least", "most"].map(str::to_owned).to_vec()];
    for measured in &results.measured {
        if let Some(spread) = Spread::of(measured.first_byte_ms.iter().copied()) {
            let cells = [spread.median, spread.min, spread.max].map(|value| format!("{value:.1}"));
            rows.push(std::iter::once(measured.subject.name.to_owned()).chain(cells).collect());
        }
    }
    add("First byte after the process is started, from an artifact compiled ahead of time", &table(&rows));

    let mut rows =
        vec![["", "alive", "KiB resident each", "KiB page tables each"].map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for held in &results.held {
        if let Some(why) = &held.missing {
            let _infallible = writeln!(notes, "  {}: not measured: {why}", held.name);
            continue;
        }
        rows.push(vec![
            held.name.to_owned(),
            format!("{} of {}", held.answered, held.asked),
            format!("{:.1}", held.resident_kib),
            format!("{:.1}", held.tables_kib),
        ]);
    }
    let body = format!("{}{notes}", table(&rows));
    add("Instances alive at once, each inside a request, its connection included", &body);

    let size = |bytes: Option<u64>| bytes.map_or("not built".to_owned(), |bytes| format!("{bytes}"));
    let rows: Vec<_> =
        results.sizes.iter().map(|(name, bytes)| vec![(*name).to_owned(), size(*bytes)]).collect();
    add("Component sizes, bytes", &table(&rows));

    let mut rows = vec![["", "to beat", "measured"].map(str::to_owned).to_vec()];
    rows.extend(to_beat(results).into_iter().map(|(name, beat, measured)| {
        vec![name.to_owned(), beat.to_owned(), measured.unwrap_or_else(|| "-".to_owned())]
    }));
    add("Beside the figures published for this kind of system", &table(&rows));
    text
}

fn find<'a>(results: &'a Results, id: &str) -> Option<&'a Measured> {
    results.measured.iter().find(|measured| measured.subject.id == id && measured.missing.is_none())
}

/// A figure, what others publish for it, and what was measured here.
fn to_beat(results: &Results) -> Vec<(&'static str, &'static str, Option<String>)> {
    let spread = |id: &str, figure: fn(&Round) -> f64| find(results, id)?.spread(figure);
    let start = |id: &str| Spread::of(find(results, id)?.first_byte_ms.iter().copied());
    let held = results.held.first().filter(|held| held.missing.is_none());
    let size = results.sizes.last().and_then(|(_, bytes)| *bytes);
    vec![
        (
            "cold start (here: process start to first byte)",
            "1.2 ms, 8 ms",
            start("tenon-http").map(|ms| format!("{} ms", with_range(&ms, 1))),
        ),
        (
            "warm p99, fresh sandbox, one connection",
            "0.9 ms, 2 ms",
            spread("tenon-http", |round| round.unloaded_p99_us / 1e3)
                .map(|ms| format!("{} ms", with_range(&ms, 2))),
        ),
        (
            "warm p99, fresh sandbox, core saturated",
            "0.9 ms, 2 ms",
            spread("tenon-http", |round| round.p99_us / 1e3).map(|ms| format!("{} ms", with_range(&ms, 2))),
        ),
        ("memory per instance", "4 MB, 12 MB", held.map(|held| format!("{:.1} KiB", held.resident_kib))),
        (
            "instances alive on a core",
            "2,000–5,000",
            held.map(|held| format!("{} (as many as were asked for: {})", held.answered, held.asked)),
        ),
        (
            "isolated function runs per second and core (here: over HTTP)",
            "hundreds of thousands",
            spread("tenon-plain", |round| round.requests_per_second).map(|rps| with_range(&rps, 0)),
        ),
        (
            "three-language service, composed",
            "254 KB",
            size.map(|bytes| format!("{:.0} KB", bytes as f64 / 1e3)),
        ),
    ]
}

/// The whole report for programs.
pub(super) fn json(results: &Results) -> String {
    let subjects: Vec<Value> = results.measured.iter().map(subject).collect();
    let mut ratios = Vec::new();
    for (one, other, target) in PAIRS {
        for (what, figure) in RATIOS {
            let spread = ratio(results, one, other, figure).map(|spread| spread.json());
            let target = target.filter(|_| what == RATIOS[0].0);
            ratios.push(json!({ "of": other, "to": one, "what": what, "ratio": spread, "at_least": target }));
        }
    }
    let held: Vec<Value> = results
        .held
        .iter()
        .map(|held| {
            json!({
                "name": held.name, "asked": held.asked, "answered": held.answered, "resident_kib_each": held.resident_kib,
                "page_tables_kib_each": held.tables_kib, "not_measured": held.missing,
            })
        })
        .collect();
    let sizes: Vec<Value> =
        results.sizes.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect();
    let figures: Vec<Value> = to_beat(results)
        .into_iter()
        .map(|(name, beat, measured)| json!({ "name": name, "published": beat, "measured": measured }))
        .collect();
    let settings = &results.settings;
    let report = json!({
        "shape": SHAPE,
        "machine": results.machine.json(),
        "settings": {
            "rounds": settings.rounds, "seconds": settings.seconds, "connections": settings.connections,
            "server_core": results.cores.server, "load_core": results.cores.load,
            "generator": results.generator, "peer": results.peer,
        },
        "subjects": subjects,
        "ratios": ratios,
        "guards": results.guards.json(),
        "neighbours": results.neighbours.json(),
        "held": held,
        "sizes": sizes,
        "figures_to_beat": figures,
    });
    format!("{report:#}\n")
}

fn subject(measured: &Measured) -> Value {
    let side = match measured.subject.side {
        Side::Floor => "floor",
        Side::Tenon => "tenon",
        Side::Peer => "peer",
    };
    let mut value = json!({ "id": measured.subject.id, "name": measured.subject.name, "side": side });
    if let Some(why) = &measured.missing {
        value["not_measured"] = json!(why);
        return value;
    }
    for (name, _, figure, _) in COLUMNS {
        value[name] = json!(measured.spread(figure).map(|spread| spread.json()));
    }
    value["first_byte_ms"] =
        json!(Spread::of(measured.first_byte_ms.iter().copied()).map(|spread| spread.json()));
    value["requests"] = json!(measured.rounds.iter().map(|round| round.requests).sum::<u64>());
    value["failed"] = json!(measured.rounds.iter().map(|round| round.failed).sum::<u64>());
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "µs".to_owned()], vec!["long".to_owned(), "1234".to_owned()]];
        assert_eq!(table(&rows), "  a       µs\n  long  1234\n");
    }
}
