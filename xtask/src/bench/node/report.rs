//! What was measured, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Figures;
use super::client::Percentiles;
use crate::bench::machine::Machine;
use crate::usage;

/// The names of figures, for people.
const ROWS: [(&str, &str, &str); 18] = [
    ("apps", "apps with digests of their own", ""),
    ("deploy_seconds", "to deploy them all", "s"),
    ("apps_answering", "of them answer, all in memory", ""),
    ("resident_kib_empty", "resident, none in memory", "KiB"),
    ("resident_kib_all_loaded", "resident, all in memory", "KiB"),
    ("resident_kib_per_loaded_app", "for each app in memory", "KiB"),
    ("open_files_all_loaded", "open files, all in memory", ""),
    ("loaded_bound", "apps that may be in memory, in the next rows", ""),
    ("apps_answering_bounded", "answer all the same", ""),
    ("resident_kib_bounded", "resident then", "KiB"),
    ("open_files_bounded", "open files then", ""),
    ("cpu_us_10_routes", "processor time a request, 10 routes", "us"),
    ("cpu_us_10000_routes", "processor time a request, 10,000 routes", "us"),
    ("held", "requests held at once, each in an instance of its own", ""),
    ("held_running_at_once", "of them running when it was looked", ""),
    ("held_seconds", "until the last was answered", "s"),
    ("resident_kib_per_live_instance", "for each live instance", "KiB"),
    ("page_tables_kib_per_live_instance", "page tables for each", "KiB"),
];

const TIMES: [(&str, &str); 5] = [
    ("first_request_us", "first request, app not in memory: one Rust component"),
    ("second_request_us", "the next one"),
    ("first_request_gateway_us", "first request, app not in memory: a gateway of six components"),
    ("second_request_gateway_us", "the next one"),
    ("warm_us", "warm, fresh sandbox, under load"),
];

pub(super) fn write(figures: &Figures, machine: &Machine, options: &usage::NodeBench) -> (String, String) {
    (text(figures, machine, options), json(figures, machine, options))
}

fn text(figures: &Figures, machine: &Machine, options: &usage::NodeBench) -> String {
    let mut text = format!("{}\n\n", machine.text());
    for (name, meaning, unit) in ROWS {
        if let Some(value) = figures.node.get(name) {
            let _infallible = writeln!(text, "{value:>12.1} {unit:3}  {meaning}");
        }
    }
    let _infallible =
        writeln!(text, "\n{:>10} {:>10} {:>10} {:>10}  microseconds", "p50", "p90", "p99", "most");
    for (name, meaning) in TIMES {
        if let Some(Percentiles { count, p50_us, p90_us, p99_us, max_us }) = figures.times.get(name) {
            let _infallible = writeln!(
                text,
                "{p50_us:>10.0} {p90_us:>10.0} {p99_us:>10.0} {max_us:>10.0}  {meaning} ({count})"
            );
        }
    }
    let _infallible = writeln!(
        text,
        "\n{:>10} {:>10} {:>10} {:>7}  one core, {} connections, {} s",
        "requests/s", "CPU us", "p99 us", "failed", options.connections, options.seconds
    );
    for (name, rates) in &figures.servers {
        let _infallible = writeln!(
            text,
            "{:>10.0} {:>10.1} {:>10.0} {:>7}  {name}",
            rates.requests_per_second, rates.cpu_us, rates.times.p99_us, rates.failed
        );
    }
    for missing in &figures.missing {
        let _infallible = writeln!(text, "not measured: {missing}");
    }
    text
}

fn json(figures: &Figures, machine: &Machine, options: &usage::NodeBench) -> String {
    let round = |value: f64| (value * 1e3).round() / 1e3;
    let node: Map<String, Value> =
        figures.node.iter().map(|(name, value)| ((*name).to_owned(), json!(round(*value)))).collect();
    let percentiles = |it: &Percentiles| {
        json!({
            "count": it.count, "p50": round(it.p50_us), "p90": round(it.p90_us), "p99": round(it.p99_us),
            "max": round(it.max_us),
        })
    };
    let times: Map<String, Value> =
        figures.times.iter().map(|(name, it)| ((*name).to_owned(), percentiles(it))).collect();
    let servers: Vec<Value> = figures
        .servers
        .iter()
        .map(|(name, rates)| {
            json!({
                "name": name, "requests_per_second": round(rates.requests_per_second), "failed": rates.failed,
                "cpu_us_per_request": round(rates.cpu_us), "times_us": percentiles(&rates.times),
            })
        })
        .collect();
    let all = json!({
        "machine": machine.json(), "connections": options.connections, "seconds": options.seconds, "node": node,
        "times": times, "servers": servers, "missing": figures.missing,
    });
    format!("{all:#}\n")
}
