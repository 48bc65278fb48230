//! Metrics as text, in the form that Prometheus reads (exposition format 0.0.4).

use std::fmt::Write as _;

use tenon_edge::{CounterSnapshot, Outcome, QuotaName};
use tenon_engine::ComponentUse;
use tenon_model::AppId;

use super::Outlets;
use crate::capacity::{open_files, resident_bytes};
use crate::live::CountedRevision;
use crate::node::Inner;

/// The ends of the buckets that are told of, in microseconds: what is counted is finer.
pub(super) const ENDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// Requests that took no longer, as far as the finer buckets say.
pub(super) fn below(seen: &CounterSnapshot, end_us: u64) -> u64 {
    seen.buckets().take_while(|(top, _)| *top <= end_us).map(|(_, count)| count).sum()
}

struct Text(String);

impl Text {
    fn about(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.about(name, kind, help);
        self.value(name, "", value);
    }
}

/// Everything that is counted. Names are labels of DNS, so nothing has to be escaped.
pub(crate) fn render(node: &Inner, outlets: &Outlets) -> String {
    let mut text = Text(String::new());
    let (counted, tenants, bytes) = {
        let live = node.live();
        let mut tenants: Vec<_> = live.tenants.values().map(|it| (it.id().to_string(), it.usage())).collect();
        tenants.sort_by(|left, right| left.0.cmp(&right.0));
        (live.counted(), tenants, live.loaded_bytes())
    };
    apps(&mut text, &counted.apps);
    revisions(&mut text, &counted.revisions);
    text.about("tenon_quota_refused_total", "counter", "Requests refused, by the quota that was used up.");
    for (tenant, usage) in &tenants {
        for (quota, count) in QuotaName::ALL.iter().zip(usage.refused) {
            if count > 0 {
                text.value(
                    "tenon_quota_refused_total",
                    &format!("tenant=\"{tenant}\",quota=\"{}\"", quota.name()),
                    count,
                );
            }
        }
    }
    text.about("tenon_tenant_memory_bytes", "gauge", "Memory of a tenant's running requests.");
    for (tenant, usage) in &tenants {
        text.value("tenon_tenant_memory_bytes", &format!("tenant=\"{tenant}\""), usage.memory_bytes);
    }
    text.one(
        "tenon_unrouted_requests_total",
        "counter",
        "Requests that were for no app.",
        node.site.unrouted(),
    );
    text.one(
        "tenon_connections_refused_total",
        "counter",
        "Connections that were closed because their address had as many as it may.",
        node.site.crowded_out(),
    );
    text.one("tenon_apps_loaded", "gauge", "Apps in memory.", node.loaded() as u64);
    text.one("tenon_apps_loaded_bytes", "gauge", "Compiled code in memory.", bytes);
    text.one("tenon_instances", "gauge", "Sandboxes of the pool.", node.shares.instances());
    text.one(
        "tenon_instances_reserved",
        "gauge",
        "Sandboxes that tenants have in reserve.",
        node.shares.reserved(),
    );
    text.one("tenon_generation", "counter", "Changes of the desired state.", node.desired.generation());
    text.one("process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
    text.one("process_open_fds", "gauge", "Open files.", open_files());
    let dropped = [
        ("records", outlets.observer.as_ref().map(|it| it.dropped())),
        ("access-log", outlets.access.as_ref().map(super::AccessLog::dropped)),
        ("spans", outlets.otlp.as_ref().map(super::Otlp::dropped)),
        ("log-lines", Some(node.logs.dropped())),
    ];
    text.about(
        "tenon_telemetry_dropped_total",
        "counter",
        "What was thrown away because nobody took it fast enough.",
    );
    for (what, count) in dropped {
        if let Some(count) = count {
            text.value("tenon_telemetry_dropped_total", &format!("what=\"{what}\""), count);
        }
    }
    text.0
}

type Read = fn(&CounterSnapshot) -> f64;

/// What is counted of each app: it is billed by these, so they stay when a revision goes, and have what was refused.
fn apps(text: &mut Text, apps: &[(AppId, CounterSnapshot)]) {
    let rows: Vec<_> = apps.iter().map(|(id, seen)| (labels(id), seen)).collect();
    text.about("tenon_requests_total", "counter", "Requests, by how they ended.");
    for (labels, seen) in &rows {
        outcomes(text, "tenon_requests_total", labels, seen);
    }
    text.about(
        "tenon_messages_total",
        "counter",
        "Messages that apps were given, each attempt by how it ended.",
    );
    for (labels, seen) in &rows {
        for (outcome, count) in [("handled", seen.messages_handled), ("failed", seen.messages_failed)] {
            if count > 0 {
                text.value("tenon_messages_total", &format!("{labels},outcome=\"{outcome}\""), count);
            }
        }
    }
    let counters: [(&str, &str, Read); 4] = [
        ("tenon_cpu_seconds_total", "Time on the processor that guests used.", |seen| {
            seen.cpu_us as f64 / 1e6
        }),
        ("tenon_memory_byte_seconds_total", "Memory of guests times time.", |seen| {
            seen.memory_kib_ms as f64 * 1.024
        }),
        ("tenon_received_bytes_total", "Bytes of request bodies.", |seen| seen.received_bytes as f64),
        ("tenon_sent_bytes_total", "Bytes of response bodies.", |seen| seen.sent_bytes as f64),
    ];
    for (name, help, read) in counters {
        text.about(name, "counter", help);
        for (labels, seen) in rows.iter().filter(|(_, seen)| read(seen) > 0.0) {
            text.value(name, labels, read(seen));
        }
    }
}

/// What is counted of each revision, to tell one from the next. They end with the revision.
fn revisions(text: &mut Text, revisions: &[CountedRevision]) {
    let rows: Vec<_> = revisions
        .iter()
        .map(|it| (format!("{},revision=\"{}\"", labels(&it.app), it.revision), &it.seen, it.running))
        .collect();
    text.about("tenon_revision_requests_total", "counter", "Requests of a revision, by how they ended.");
    for (labels, seen, _) in &rows {
        outcomes(text, "tenon_revision_requests_total", labels, seen);
    }
    text.about("tenon_request_duration_seconds", "histogram", "From a request's arrival to its guest's end.");
    for (labels, seen, _) in rows.iter().filter(|(_, seen, _)| seen.requests() > 0) {
        for end in ENDS_US {
            let seconds = end as f64 / 1e6;
            let count = below(seen, end);
            text.value("tenon_request_duration_seconds_bucket", &format!("{labels},le=\"{seconds}\""), count);
        }
        text.value(
            "tenon_request_duration_seconds_bucket",
            &format!("{labels},le=\"+Inf\""),
            seen.requests(),
        );
        text.value("tenon_request_duration_seconds_sum", labels, seen.latency_us as f64 / 1e6);
        text.value("tenon_request_duration_seconds_count", labels, seen.requests());
    }
    let counters: [(&str, &str, Read); 3] = [
        (
            "tenon_revision_cpu_seconds_total",
            "Time on the processor that a revision's guests used.",
            |seen| seen.cpu_us as f64 / 1e6,
        ),
        ("tenon_shadow_same_total", "Copied requests that both revisions answered alike.", |seen| {
            seen.shadow_same as f64
        }),
        ("tenon_shadow_different_total", "Copied requests that they answered differently.", |seen| {
            seen.shadow_different as f64
        }),
    ];
    for (name, help, read) in counters {
        text.about(name, "counter", help);
        for (labels, seen, _) in rows.iter().filter(|(_, seen, _)| read(seen) > 0.0) {
            text.value(name, labels, read(seen));
        }
    }
    components(text, revisions);
    text.about("tenon_running_requests", "gauge", "Requests that run.");
    for (labels, _, running) in rows.iter().filter(|(_, _, running)| *running > 0) {
        text.value("tenon_running_requests", labels, running);
    }
}

/// What each component of a composition used, of what its revision did.
fn components(text: &mut Text, revisions: &[CountedRevision]) {
    type Read = fn(&ComponentUse) -> f64;
    let counters: [(&str, &str, &str, Read); 3] = [
        (
            "tenon_component_cpu_seconds_total",
            "counter",
            "Time on the processor that a component of a composition used, estimated by looking twice a millisecond.",
            |used| used.cpu.as_secs_f64(),
        ),
        (
            "tenon_component_memory_byte_seconds_total",
            "counter",
            "A component's own linear memory at the ends of requests, times how long they took.",
            |used| used.memory_byte_us as f64 / 1e6,
        ),
        (
            "tenon_component_memory_bytes_max",
            "gauge",
            "The most linear memory that a component had at the end of a request.",
            |used| used.memory_bytes as f64,
        ),
    ];
    for (name, kind, help, read) in counters {
        text.about(name, kind, help);
        for counted in revisions {
            let of = format!("{},revision=\"{}\"", labels(&counted.app), counted.revision);
            for used in counted.components.iter().filter(|used| read(used) > 0.0) {
                text.value(name, &format!("{of},component=\"{}\"", used.name), read(used));
            }
        }
    }
}

fn labels(id: &AppId) -> String {
    format!("tenant=\"{}\",app=\"{}\"", id.tenant, id.app)
}

fn outcomes(text: &mut Text, name: &str, labels: &str, seen: &CounterSnapshot) {
    for outcome in Outcome::ALL {
        let count = seen.of(outcome);
        if count > 0 {
            text.value(name, &format!("{labels},outcome=\"{}\"", outcome.name()), count);
        }
    }
}
