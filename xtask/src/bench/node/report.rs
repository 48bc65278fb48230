//! What was measured, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Figures;
use crate::bench::client::Percentiles;
use crate::bench::machine::Machine;
use crate::usage;

/// The names of figures, for people.
const ROWS: [(&str, &str, &str); 29] = [
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
    ("steady_quiet_p99_us", "p99 of a tenant that asks 1,000 times a second, by itself", "us"),
    (
        "steady_crowded_p99_us",
        "by itself, while another process holds as many connections as those below",
        "us",
    ),
    ("steady_beside_p99_us", "beside tenants that loop, take memory and hold connections open", "us"),
    ("steady_p99_ratio", "the last over the first, median of three rounds", ""),
    ("steady_p99_ratio_crowded", "the last over the second, median of three rounds", ""),
    ("steady_requests", "its requests", ""),
    ("steady_failed", "of them not answered with 200", ""),
    ("slow_connections", "half-sent requests that were held open beside it", ""),
    ("loops_stopped", "loops that were stopped meanwhile", ""),
    ("bombs_stopped", "guests that were stopped at the end of their memory", ""),
    ("noise_refused", "requests of the noisy tenants that were refused", ""),
];

/// The longest that the first request to an app that is not in memory is to take.
const FIRST_US_MAX: f64 = 500.0;
/// How much longer a steady neighbour's requests may take beside noisy ones.
const RATIO_MAX: f64 = 2.0;
/// What the servers are called that the aim for processor time is about.
pub(super) const NODE: &str = "tenon node, wasi:http 0.2, fresh";
pub(super) const PEER_REUSED: &str = "peer, wasi:http 0.2, reused 128 times";

/// What was aimed at, and what came of it; nothing where it was not measured.
struct Aim {
    what: &'static str,
    measured: Option<(f64, f64)>,
    is_hit: fn(f64, f64) -> bool,
    unit: &'static str,
}

impl Aim {
    /// Of all that is aimed at.
    fn all(figures: &Figures) -> Vec<Self> {
        let first = figures.times.get("first_request_us");
        let cpu =
            |name: &str| figures.servers.iter().find(|(is, _)| is == name).map(|(_, rates)| rates.cpu_us);
        let figure = |name: &str| figures.node.get(name).copied();
        vec![
            Self {
                what: "first request of an app not in memory, p50",
                measured: first.map(|times| (times.p50_us, FIRST_US_MAX)),
                is_hit: |value, bound| value < bound,
                unit: "us",
            },
            Self {
                what: "first request of an app not in memory, p99",
                measured: first.map(|times| (times.p99_us, FIRST_US_MAX)),
                is_hit: |value, bound| value < bound,
                unit: "us",
            },
            Self {
                what: "processor time of a fresh sandbox, beside the peer's reused one",
                measured: cpu(NODE).zip(cpu(PEER_REUSED)),
                is_hit: |value, bound| value < bound,
                unit: "us",
            },
            Self {
                what: "p99 of a steady neighbour, times its quiet one",
                measured: figure("steady_p99_ratio").map(|ratio| (ratio, RATIO_MAX)),
                is_hit: |value, bound| value <= bound,
                unit: "",
            },
            Self {
                what: "the same, times its own while another process holds as many connections",
                measured: figure("steady_p99_ratio_crowded").map(|ratio| (ratio, RATIO_MAX)),
                is_hit: |value, bound| value <= bound,
                unit: "",
            },
            Self {
                what: "requests that the steady neighbour lost",
                measured: figure("steady_failed").map(|failed| (failed, 0.0)),
                is_hit: |value, bound| value <= bound,
                unit: "",
            },
        ]
    }

    fn verdict(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some((value, bound)) if (self.is_hit)(value, bound) => "hit",
            Some(_) => "miss",
        }
    }
}

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
    let _infallible = writeln!(text, "\n{:>10} {:>10}     aims", "measured", "bound");
    for aim in Aim::all(figures) {
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let (value, bound) = aim.measured.unzip();
        let _infallible = writeln!(
            text,
            "{:>10} {:>10} {:3} {:12}  {}",
            shown(value),
            shown(bound),
            aim.unit,
            aim.verdict(),
            aim.what
        );
    }
    for missing in &figures.missing {
        let _infallible = writeln!(text, "not measured: {missing}");
    }
    for left_out in &figures.left_out {
        let _infallible = writeln!(text, "left out: {left_out}");
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
    let aims: Vec<Value> = Aim::all(figures)
        .iter()
        .map(|aim| {
            let (value, bound) = aim.measured.unzip();
            json!({
                "aim": aim.what, "measured": value.map(round), "bound": bound.map(round), "unit": aim.unit,
                "verdict": aim.verdict(),
            })
        })
        .collect();
    let all = json!({
        "machine": machine.json(), "connections": options.connections, "seconds": options.seconds, "node": node,
        "times": times, "servers": servers, "aims": aims, "missing": figures.missing, "left_out": figures.left_out,
    });
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::client::Rates;

    fn verdicts(figures: &Figures) -> Vec<&'static str> {
        Aim::all(figures).iter().map(Aim::verdict).collect()
    }

    #[test]
    fn an_aim_is_hit_missed_or_not_measured() {
        let mut figures = Figures::default();
        assert_eq!(verdicts(&figures), ["not measured"; 6]);
        let times = Percentiles { count: 1, p50_us: 499.0, p90_us: 500.0, p99_us: 500.0, max_us: 900.0 };
        figures.times.insert("first_request_us", times);
        figures.node.insert("steady_p99_ratio", 2.0);
        figures.node.insert("steady_p99_ratio_crowded", 2.1);
        figures.node.insert("steady_failed", 1.0);
        let rates = |cpu_us| Rates { requests_per_second: 1.0, failed: 0, cpu_us, times };
        figures.servers.push((NODE.to_owned(), rates(36.0)));
        assert_eq!(verdicts(&figures), ["hit", "miss", "not measured", "hit", "miss", "miss"]);
        figures.servers.push((PEER_REUSED.to_owned(), rates(57.0)));
        assert_eq!(verdicts(&figures)[2], "hit");
    }
}
