//! Metrics as text, in the form that Prometheus reads (exposition format 0.0.4).

use std::borrow::Cow;
use std::fmt::Write as _;

use tenon_edge::Latencies;

use super::Outlets;
use super::metrics::{ENDS_US, Gathered, Kind, Metric, Point, Value};
use crate::node::Inner;

/// Everything that is counted.
pub(crate) fn render(node: &Inner, outlets: &Outlets) -> String {
    text(&Gathered::of(node, outlets).metrics())
}

fn text(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for Metric { name, kind, help, points, .. } in metrics {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for point in points {
            let labels = labels(point);
            match &point.value {
                Value::Count(count) => line(&mut text, name, &labels, count),
                Value::Amount(amount) => line(&mut text, name, &labels, amount),
                Value::Latencies(latencies) => histogram(&mut text, name, &labels, latencies),
            }
        }
    }
    text
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

fn histogram(text: &mut String, name: &str, labels: &str, latencies: &Latencies) {
    let (bucket, requests) = (format!("{name}_bucket"), latencies.requests());
    for end in ENDS_US {
        let seconds = end as f64 / 1e6;
        line(text, &bucket, &format!("{labels},le=\"{seconds}\""), latencies.below(end));
    }
    line(text, &bucket, &format!("{labels},le=\"+Inf\""), requests);
    line(text, &format!("{name}_sum"), labels, latencies.sum_us as f64 / 1e6);
    line(text, &format!("{name}_count"), labels, requests);
}

fn labels(point: &Point) -> String {
    let mut labels = String::new();
    for (name, value) in point.labels() {
        let comma = if labels.is_empty() { "" } else { "," };
        let _ = write!(labels, "{comma}{name}=\"{}\"", escaped(value));
    }
    labels
}

/// The text as a label's value has it.
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', '"', '\n']) {
        return value.into();
    }
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n").into()
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::everything;
    use super::*;

    #[test]
    fn whoever_names_a_component_ends_no_line() {
        assert_eq!(escaped("auth"), "auth");
        assert_eq!(escaped("a\"} 1\nb\\"), r#"a\"} 1\nb\\"#);
    }

    #[test]
    fn every_row_of_the_table_is_written_down() {
        let metrics = everything().metrics();
        let text = text(&metrics);
        for metric in &metrics {
            assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
            let suffix = if metric.kind == Kind::Histogram { "_count" } else { "" };
            let own = |line: &&str| {
                let rest = line.strip_prefix(metric.name).and_then(|rest| rest.strip_prefix(suffix));
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            assert_eq!(text.lines().filter(own).count(), metric.points.len(), "{}", metric.name);
        }
        for line in [
            r#"tenon_requests_total{tenant="acme",app="shop",outcome="refused"} 3"#,
            r#"tenon_messages_total{tenant="acme",app="shop",outcome="failed"} 1"#,
            r#"tenon_cpu_seconds_total{tenant="acme",app="shop"} 0.000005"#,
            r#"tenon_memory_byte_seconds_total{tenant="acme",app="shop"} 1024"#,
            r#"tenon_request_duration_seconds_bucket{tenant="acme",app="shop",revision="r7",outcome="answered",le="0.0001"} 2"#,
            r#"tenon_request_duration_seconds_sum{tenant="acme",app="shop",revision="r7",outcome="answered"} 1"#,
            r#"tenon_quota_refused_total{tenant="acme",quota="requests-per-second"} 3"#,
            r#"tenon_telemetry_dropped_total{what="log"} 12"#,
            "tenon_unrouted_requests_total 11",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }
}
