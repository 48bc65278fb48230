//! What is counted, in one table: [Prometheus](super::prometheus) and [OTLP](super::otlp) write down the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use tenon_edge::{CounterSnapshot, Latencies, Outcome, QuotaName, TenantUsage};
use tenon_engine::ComponentUse;
use tenon_model::AppId;

use super::Outlets;
use crate::capacity::{open_files, resident_bytes};
use crate::live::{Counted, CountedRevision};
use crate::node::Inner;

/// The ends of the buckets that are told of, in microseconds: what is counted is finer.
pub(super) const ENDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// One row of the table.
#[derive(Debug)]
pub(super) struct Metric {
    /// What it is called by Prometheus.
    pub(super) name: &'static str,
    /// What it is called over OTLP.
    pub(super) otlp: &'static str,
    pub(super) kind: Kind,
    /// As OTLP says it (UCUM).
    pub(super) unit: &'static str,
    pub(super) help: &'static str,
    pub(super) points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Never falls.
    Counter,
    Gauge,
    Histogram,
}

/// What a point is told apart by, as far as others have the same.
type Labels = Arc<[(&'static str, String)]>;

#[derive(Debug)]
pub(super) struct Point {
    of: Labels,
    and: Option<(&'static str, &'static str)>,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Count(u64),
    Amount(f64),
    Latencies(Box<Latencies>),
}

impl Point {
    /// Names and values, in their order. What a component is called, whoever made it has chosen: any text.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.of.iter().map(|(name, value)| (*name, value.as_str())).chain(self.and)
    }
}

/// What was counted until one moment, taken out so that nobody waits while it is written down.
#[derive(Debug)]
pub(super) struct Gathered {
    counted: Counted,
    /// In order of their names.
    tenants: Vec<(String, TenantUsage)>,
    node: OfNode,
    dropped: Vec<(&'static str, u64)>,
}

/// What is counted of the node as a whole.
#[derive(Clone, Copy, Debug, Default)]
struct OfNode {
    unrouted: u64,
    crowded_out: u64,
    loaded: u64,
    loaded_bytes: u64,
    instances: u32,
    reserved: u32,
    generation: u64,
    resident_bytes: u64,
    open_files: u64,
}

impl Gathered {
    pub(super) fn of(node: &Inner, outlets: &Outlets) -> Self {
        let (counted, tenants, loaded_bytes) = {
            let live = node.live();
            let mut tenants: Vec<_> =
                live.tenants.values().map(|it| (it.id().to_string(), it.usage())).collect();
            tenants.sort_by(|left, right| left.0.cmp(&right.0));
            (live.counted(), tenants, live.loaded_bytes())
        };
        let of_node = OfNode {
            unrouted: node.site.unrouted(),
            crowded_out: node.site.crowded_out(),
            loaded: node.loaded() as u64,
            loaded_bytes,
            instances: node.shares.instances(),
            reserved: node.shares.reserved(),
            generation: node.desired.generation(),
            resident_bytes: resident_bytes(),
            open_files: open_files().into(),
        };
        let dropped = [
            ("records", outlets.observer.as_ref().map(|it| it.dropped())),
            ("refusals", outlets.observer.as_ref().map(|it| it.left_out())),
            ("access-log", outlets.access.as_ref().map(super::AccessLog::dropped)),
            ("spans", outlets.otlp.as_ref().map(super::Otlp::dropped)),
            ("spans-unsent", outlets.otlp.as_ref().map(super::Otlp::unsent)),
            ("log", outlets.log.as_ref().map(super::LogWriter::dropped)),
            ("log-lines", Some(node.logs.dropped())),
        ];
        let dropped = dropped.into_iter().filter_map(|(what, count)| Some((what, count?))).collect();
        Self { counted, tenants, node: of_node, dropped }
    }

    /// The table. Where nothing was counted there is no point, except of what is one number for the node.
    pub(super) fn metrics(&self) -> Vec<Metric> {
        let mut metrics = of_apps(&self.counted.apps);
        metrics.extend(of_revisions(&self.counted.revisions));
        metrics.extend(of_components(&self.counted.revisions));
        metrics.extend(of_tenants(&self.tenants));
        metrics.extend(of_node(&self.node));
        metrics.push(Metric {
            name: "tenon_telemetry_dropped_total",
            otlp: "tenon.telemetry.dropped",
            kind: Kind::Counter,
            unit: "{item}",
            help: "What was thrown away because nobody took it fast enough.",
            points: self
                .dropped
                .iter()
                .map(|(what, count)| point(&nothing(), Some(("what", *what)), Value::Count(*count)))
                .collect(),
        });
        metrics
    }
}

fn point(of: &Labels, and: Option<(&'static str, &'static str)>, value: Value) -> Point {
    Point { of: Arc::clone(of), and, value }
}

fn nothing() -> Labels {
    Arc::from([])
}

fn app_labels(id: &AppId) -> [(&'static str, String); 2] {
    [("tenant", id.tenant.to_string()), ("app", id.app.to_string())]
}

fn revision_labels(counted: &CountedRevision) -> Labels {
    let revision = ("revision", counted.revision.to_string());
    app_labels(&counted.app).into_iter().chain([revision]).collect()
}

/// A count or an amount of each of several, where it is not nothing.
fn some<T>(rows: &[(Labels, T)], read: impl Fn(&T) -> Value) -> Vec<Point> {
    let is_some = |value: &Value| match value {
        Value::Count(count) => *count > 0,
        Value::Amount(amount) => *amount > 0.0,
        Value::Latencies(latencies) => latencies.requests() > 0,
    };
    let values = rows.iter().map(|(labels, row)| (labels, read(row)));
    values.filter(|(_, value)| is_some(value)).map(|(labels, value)| point(labels, None, value)).collect()
}

fn outcomes<'a>(rows: impl Iterator<Item = (&'a Labels, &'a CounterSnapshot)>) -> Vec<Point> {
    let of_row = |(labels, seen): (&'a Labels, &'a CounterSnapshot)| {
        let counted = Outcome::ALL.into_iter().map(move |outcome| (outcome, seen.of(outcome)));
        counted.filter(|(_, count)| *count > 0).map(move |(outcome, count)| {
            point(labels, Some(("outcome", outcome.name())), Value::Count(count))
        })
    };
    rows.flat_map(of_row).collect()
}

/// What is counted of each app: it is billed by these, so they stay when a revision goes, and have what was refused.
fn of_apps(apps: &[(AppId, CounterSnapshot)]) -> Vec<Metric> {
    let rows: Vec<(Labels, &CounterSnapshot)> =
        apps.iter().map(|(id, seen)| (Labels::from(app_labels(id)), seen)).collect();
    let messages = rows.iter().flat_map(|(labels, seen)| {
        let counted = [("handled", seen.messages_handled), ("failed", seen.messages_failed)];
        let counted = counted.into_iter().filter(|(_, count)| *count > 0);
        counted.map(move |(outcome, count)| point(labels, Some(("outcome", outcome)), Value::Count(count)))
    });
    let counter =
        |name, otlp, unit, help, points| Metric { name, otlp, kind: Kind::Counter, unit, help, points };
    vec![
        counter(
            "tenon_requests_total",
            "tenon.requests",
            "{request}",
            "Requests, by how they ended.",
            outcomes(rows.iter().map(|(labels, seen)| (labels, *seen))),
        ),
        counter(
            "tenon_messages_total",
            "tenon.messages",
            "{message}",
            "Messages that apps were given, each attempt by how it ended.",
            messages.collect(),
        ),
        counter(
            "tenon_cpu_seconds_total",
            "tenon.cpu",
            "s",
            "Time on the processor that guests used.",
            some(&rows, |seen| Value::Amount(seen.cpu_us as f64 / 1e6)),
        ),
        counter(
            "tenon_memory_byte_seconds_total",
            "tenon.memory",
            "By.s",
            "Memory of guests times time.",
            some(&rows, |seen| Value::Amount(seen.memory_kib_ms as f64 * 1.024)),
        ),
        counter(
            "tenon_received_bytes_total",
            "tenon.received",
            "By",
            "Bytes of request bodies.",
            some(&rows, |seen| Value::Count(seen.received_bytes)),
        ),
        counter(
            "tenon_sent_bytes_total",
            "tenon.sent",
            "By",
            "Bytes of response bodies.",
            some(&rows, |seen| Value::Count(seen.sent_bytes)),
        ),
    ]
}

/// What is counted of each revision, to tell one from the next. They end with the revision.
fn of_revisions(revisions: &[CountedRevision]) -> Vec<Metric> {
    let rows: Vec<(Labels, &CountedRevision)> =
        revisions.iter().map(|counted| (revision_labels(counted), counted)).collect();
    let durations = rows.iter().flat_map(|(labels, counted)| {
        counted.latencies.iter().map(move |latencies| {
            let value = Value::Latencies(Box::new(latencies.clone()));
            point(labels, Some(("outcome", latencies.outcome.name())), value)
        })
    });
    vec![
        Metric {
            name: "tenon_revision_requests_total",
            otlp: "tenon.revision.requests",
            kind: Kind::Counter,
            unit: "{request}",
            help: "Requests of a revision, by how they ended.",
            points: outcomes(rows.iter().map(|(labels, counted)| (labels, &counted.seen))),
        },
        Metric {
            name: "tenon_request_duration_seconds",
            otlp: "tenon.request.duration",
            kind: Kind::Histogram,
            unit: "s",
            help: "From a request's arrival to its guest's end, by how it ended.",
            points: durations.collect(),
        },
        Metric {
            name: "tenon_revision_cpu_seconds_total",
            otlp: "tenon.revision.cpu",
            kind: Kind::Counter,
            unit: "s",
            help: "Time on the processor that a revision's guests used.",
            points: some(&rows, |counted| Value::Amount(counted.seen.cpu_us as f64 / 1e6)),
        },
        Metric {
            name: "tenon_shadow_same_total",
            otlp: "tenon.shadow.same",
            kind: Kind::Counter,
            unit: "{request}",
            help: "Copied requests that both revisions answered alike.",
            points: some(&rows, |counted| Value::Count(counted.seen.shadow_same)),
        },
        Metric {
            name: "tenon_shadow_different_total",
            otlp: "tenon.shadow.different",
            kind: Kind::Counter,
            unit: "{request}",
            help: "Copied requests that they answered differently.",
            points: some(&rows, |counted| Value::Count(counted.seen.shadow_different)),
        },
        Metric {
            name: "tenon_running_requests",
            otlp: "tenon.running",
            kind: Kind::Gauge,
            unit: "{request}",
            help: "Requests that run.",
            points: some(&rows, |counted| Value::Count(counted.running.into())),
        },
    ]
}

/// What each component of a composition used, of what its revision did.
fn of_components(revisions: &[CountedRevision]) -> Vec<Metric> {
    let of_revision = |counted: &CountedRevision| {
        let labels = revision_labels(counted);
        // A composition may have two of one name, and a metric has one value for each.
        let mut by_name: BTreeMap<&str, ComponentUse> = BTreeMap::new();
        for used in &counted.components {
            let sum = by_name.entry(&used.name).or_default();
            sum.cpu = sum.cpu.saturating_add(used.cpu);
            sum.memory_byte_us = sum.memory_byte_us.saturating_add(used.memory_byte_us);
            sum.memory_bytes = sum.memory_bytes.max(used.memory_bytes);
        }
        let of_component = |(name, used): (&str, ComponentUse)| {
            let component = ("component", name.to_owned());
            (labels.iter().cloned().chain([component]).collect::<Labels>(), used)
        };
        by_name.into_iter().map(of_component).collect::<Vec<_>>()
    };
    let rows: Vec<(Labels, ComponentUse)> = revisions.iter().flat_map(of_revision).collect();
    vec![
        Metric {
            name: "tenon_component_cpu_seconds_total",
            otlp: "tenon.component.cpu",
            kind: Kind::Counter,
            unit: "s",
            help: "Time on the processor that a component of a composition used, estimated by looking twice a millisecond.",
            points: some(&rows, |used| Value::Amount(used.cpu.as_secs_f64())),
        },
        Metric {
            name: "tenon_component_memory_byte_seconds_total",
            otlp: "tenon.component.memory",
            kind: Kind::Counter,
            unit: "By.s",
            help: "A component's own linear memory at the ends of requests, times how long they took.",
            points: some(&rows, |used| Value::Amount(used.memory_byte_us as f64 / 1e6)),
        },
        Metric {
            name: "tenon_component_memory_bytes_max",
            otlp: "tenon.component.memory_max",
            kind: Kind::Gauge,
            unit: "By",
            help: "The most linear memory that a component had at the end of a request.",
            points: some(&rows, |used| Value::Count(used.memory_bytes)),
        },
    ]
}

fn of_tenants(tenants: &[(String, TenantUsage)]) -> Vec<Metric> {
    let rows: Vec<(Labels, &TenantUsage)> =
        tenants.iter().map(|(tenant, usage)| (Labels::from([("tenant", tenant.clone())]), usage)).collect();
    let refused = rows.iter().flat_map(|(labels, usage)| {
        let counted = QuotaName::ALL.iter().zip(usage.refused).filter(|(_, count)| *count > 0);
        counted.map(move |(quota, count)| point(labels, Some(("quota", quota.name())), Value::Count(count)))
    });
    let memory = rows.iter().map(|(labels, usage)| point(labels, None, Value::Count(usage.memory_bytes)));
    vec![
        Metric {
            name: "tenon_quota_refused_total",
            otlp: "tenon.quota.refused",
            kind: Kind::Counter,
            unit: "{request}",
            help: "Requests refused, by the quota that was used up.",
            points: refused.collect(),
        },
        Metric {
            name: "tenon_tenant_memory_bytes",
            otlp: "tenon.tenant.memory",
            kind: Kind::Gauge,
            unit: "By",
            help: "Memory of a tenant's running requests.",
            points: memory.collect(),
        },
    ]
}

fn of_node(node: &OfNode) -> Vec<Metric> {
    use Kind::{Counter, Gauge};
    let one = |name, otlp, kind, unit, help, value: u64| Metric {
        name,
        otlp,
        kind,
        unit,
        help,
        points: vec![point(&nothing(), None, Value::Count(value))],
    };
    vec![
        one(
            "tenon_unrouted_requests_total",
            "tenon.unrouted",
            Counter,
            "{request}",
            "Requests that were for no app.",
            node.unrouted,
        ),
        one(
            "tenon_connections_refused_total",
            "tenon.connections.refused",
            Counter,
            "{connection}",
            "Connections that were closed because their address had as many as it may.",
            node.crowded_out,
        ),
        one("tenon_apps_loaded", "tenon.apps.loaded", Gauge, "{app}", "Apps in memory.", node.loaded),
        one(
            "tenon_apps_loaded_bytes",
            "tenon.apps.loaded_bytes",
            Gauge,
            "By",
            "Compiled code in memory.",
            node.loaded_bytes,
        ),
        one(
            "tenon_instances",
            "tenon.instances",
            Gauge,
            "{sandbox}",
            "Sandboxes of the pool.",
            node.instances.into(),
        ),
        one(
            "tenon_instances_reserved",
            "tenon.instances_reserved",
            Gauge,
            "{sandbox}",
            "Sandboxes that tenants have in reserve.",
            node.reserved.into(),
        ),
        one(
            "tenon_generation",
            "tenon.generation",
            Counter,
            "{change}",
            "Changes of the desired state.",
            node.generation,
        ),
        one(
            "process_resident_memory_bytes",
            "process.memory.usage",
            Gauge,
            "By",
            "Resident memory.",
            node.resident_bytes,
        ),
        one(
            "process_open_fds",
            "process.unix.file_descriptor.count",
            Gauge,
            "{file_descriptor}",
            "Open files.",
            node.open_files,
        ),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use tenon_model::RevisionNumber;

    use super::*;

    /// A node on which everything there is was counted once.
    pub(in super::super) fn everything() -> Gathered {
        let app = AppId { tenant: "acme".parse().unwrap(), app: "shop".parse().unwrap() };
        let mut seen = CounterSnapshot { cpu_us: 5, memory_kib_ms: 1_000, ..CounterSnapshot::default() };
        (seen.received_bytes, seen.sent_bytes) = (7, 9);
        (seen.shadow_same, seen.shadow_different) = (1, 2);
        (seen.messages_handled, seen.messages_failed) = (4, 1);
        seen.outcomes[Outcome::Refused as usize] = 3;
        seen.outcomes[Outcome::Answered as usize] = 2;
        let mut took = [0; tenon_edge::BUCKETS];
        took[0] = 2;
        let revision = CountedRevision {
            app: app.clone(),
            revision: RevisionNumber(7),
            seen: seen.clone(),
            latencies: vec![Latencies { outcome: Outcome::Answered, sum_us: 1_000_000, buckets: took }],
            components: vec![ComponentUse {
                name: "cart".into(),
                cpu: Duration::from_millis(1),
                memory_byte_us: 1_000_000,
                memory_bytes: 65_536,
            }],
            running: 1,
            is_loaded: true,
        };
        let usage = TenantUsage { refused: [3, 0, 0, 0, 0, 0], memory_bytes: 8, ..TenantUsage::default() };
        Gathered {
            counted: Counted { apps: vec![(app, seen)], revisions: vec![revision] },
            tenants: vec![("acme".into(), usage)],
            node: OfNode { unrouted: 11, loaded: 1, ..OfNode::default() },
            dropped: vec![("records", 1), ("log", 12)],
        }
    }

    #[test]
    fn no_two_are_called_the_same_and_each_has_something_to_tell() {
        let metrics = everything().metrics();
        for name in [|metric: &Metric| metric.name, |metric: &Metric| metric.otlp] {
            let mut names: Vec<_> = metrics.iter().map(name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), metrics.len());
        }
        for metric in &metrics {
            assert!(!metric.points.is_empty(), "{}", metric.name);
            let is_total = metric.name.ends_with("_total") || metric.name == "tenon_generation";
            assert_eq!(metric.kind == Kind::Counter, is_total, "{}", metric.name);
        }
    }

    #[test]
    fn requests_are_told_by_tenant_app_revision_and_outcome() {
        let metrics = everything().metrics();
        for name in ["tenon_revision_requests_total", "tenon_request_duration_seconds"] {
            let metric = metrics.iter().find(|metric| metric.name == name).unwrap();
            let labels: Vec<_> = metric.points[0].labels().collect();
            let all = [("tenant", "acme"), ("app", "shop"), ("revision", "r7"), ("outcome", "answered")];
            assert_eq!(labels, all, "{name}");
        }
    }
}
