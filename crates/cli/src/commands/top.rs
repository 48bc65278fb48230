//! `tenon top`: what the apps of a node do, interval by interval.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::json;
use tenon_model::format_bytes;
use tenon_node::wire::{Status, Top, TopApp, TopComponent, TopRow};

use crate::admin::Admin;
use crate::args::TopArgs;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::table::Table;
use crate::terminal::Terminal;

/// Begins a page again at its top, and clears what is below it.
const TOP_OF_PAGE: &str = "\u{1b}[H\u{1b}[J";
/// The outcome of what no guest ran for.
const REFUSED: &str = "refused";
/// In place of a revision: what an app did beside those that are there.
const NO_REVISION: &str = "-";

pub(crate) fn run(args: &TopArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let admin = Admin::open(&args.client, settings)?;
    let is_live = !args.once && !terminal.json && std::io::stdout().is_terminal();
    let mut before: Top = admin.get("/v1/top")?;
    loop {
        std::thread::sleep(args.interval);
        let now: Top = admin.get("/v1/top")?;
        let status: Status = admin.get("/v1/status")?;
        let mut rows = rates(&before, &now);
        rows.retain(|row| args.tenant.as_ref().is_none_or(|tenant| row.tenant == tenant.as_str()));
        rows.truncate(usize::from(args.rows));
        let page = page(&status, &rows, args.components);
        let page = if is_live { format!("{TOP_OF_PAGE}{page}") } else { page };
        terminal.result(
            page,
            || json!({ "status": status, "rows": rows.iter().map(Rate::json).collect::<Vec<_>>() }),
        );
        if args.once {
            return Ok(());
        }
        before = now;
    }
}

/// What a revision did in one interval; or an app beside its revisions.
#[derive(Debug, PartialEq)]
struct Rate {
    tenant: String,
    name: String,
    revision: String,
    requests_per_second: f64,
    errors_per_second: f64,
    refused_per_second: f64,
    /// Of one core, in percent.
    cpu_percent: f64,
    cpu_us_per_request: f64,
    /// Memory in use, on average over the interval.
    memory_bytes: f64,
    bytes_in_per_second: f64,
    bytes_out_per_second: f64,
    running: u32,
    p50_us: u64,
    p99_us: u64,
    messages_per_second: f64,
    /// Attempts to handle a message that failed.
    messages_failed_per_second: f64,
    components: Vec<Part>,
}

/// What one component of a composition did of that.
#[derive(Debug, PartialEq)]
struct Part {
    name: String,
    /// Of one core, in percent.
    cpu_percent: f64,
    /// Memory in use, on average over the interval.
    memory_bytes: f64,
}

impl Rate {
    fn json(&self) -> serde_json::Value {
        json!({
            "tenant": self.tenant, "app": self.name, "revision": self.revision,
            "requests_per_second": self.requests_per_second, "errors_per_second": self.errors_per_second,
            "refused_per_second": self.refused_per_second,
            "cpu_percent": self.cpu_percent, "cpu_us_per_request": self.cpu_us_per_request,
            "memory_bytes": self.memory_bytes,
            "bytes_in_per_second": self.bytes_in_per_second, "bytes_out_per_second": self.bytes_out_per_second,
            "running": self.running, "p50_us": self.p50_us, "p99_us": self.p99_us,
            "messages_per_second": self.messages_per_second,
            "messages_failed_per_second": self.messages_failed_per_second,
            "components": self.components.iter().map(Part::json).collect::<Vec<_>>(),
        })
    }
}

impl Part {
    fn json(&self) -> serde_json::Value {
        json!({ "component": self.name, "cpu_percent": self.cpu_percent, "memory_bytes": self.memory_bytes })
    }
}

/// What the components of a revision did between two looks.
#[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
fn parts(before: &[TopComponent], now: &[TopComponent], seconds: f64) -> Vec<Part> {
    let part = |(at, now): (usize, &TopComponent)| {
        let then = before.get(at).filter(|then| then.component == now.component).cloned().unwrap_or_default();
        Part {
            name: now.component.clone(),
            cpu_percent: now.cpu_us.saturating_sub(then.cpu_us) as f64 / seconds / 1e4,
            memory_bytes: now.memory_byte_seconds.saturating_sub(then.memory_byte_seconds) as f64 / seconds,
        }
    };
    now.iter().enumerate().map(part).collect()
}

/// What was counted in one interval.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    errors: u64,
    refused: u64,
    cpu_us: u64,
    memory_byte_seconds: u64,
    bytes_in: u64,
    bytes_out: u64,
    messages: u64,
    messages_failed: u64,
}

impl Counts {
    fn of_row(row: &TopRow) -> Self {
        Self {
            requests: row.requests,
            errors: row.errors,
            refused: row.outcomes.get(REFUSED).copied().unwrap_or(0),
            cpu_us: row.cpu_us,
            memory_byte_seconds: row.memory_byte_seconds,
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            messages: row.messages,
            messages_failed: row.messages_failed,
        }
    }

    fn of_app(app: &TopApp) -> Self {
        Self {
            requests: app.requests,
            errors: app.errors,
            refused: app.refused,
            cpu_us: app.cpu_us,
            memory_byte_seconds: app.memory_byte_seconds,
            bytes_in: app.bytes_in,
            bytes_out: app.bytes_out,
            messages: app.messages,
            messages_failed: app.messages_failed,
        }
    }

    /// Whether anything was asked.
    fn are_some(self) -> bool {
        self.requests + self.refused + self.messages + self.messages_failed > 0
    }

    /// A node that was started again counts from nothing.
    fn without(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            errors: self.errors.saturating_sub(other.errors),
            refused: self.refused.saturating_sub(other.refused),
            cpu_us: self.cpu_us.saturating_sub(other.cpu_us),
            memory_byte_seconds: self.memory_byte_seconds.saturating_sub(other.memory_byte_seconds),
            bytes_in: self.bytes_in.saturating_sub(other.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(other.bytes_out),
            messages: self.messages.saturating_sub(other.messages),
            messages_failed: self.messages_failed.saturating_sub(other.messages_failed),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
    fn rate(self, whose: (&str, &str, &str), seconds: f64) -> Rate {
        let (requests, cpu_us) = (self.requests as f64, self.cpu_us as f64);
        Rate {
            tenant: whose.0.to_owned(),
            name: whose.1.to_owned(),
            revision: whose.2.to_owned(),
            requests_per_second: requests / seconds,
            errors_per_second: self.errors as f64 / seconds,
            refused_per_second: self.refused as f64 / seconds,
            cpu_percent: cpu_us / seconds / 1e4,
            cpu_us_per_request: if requests > 0.0 { cpu_us / requests } else { 0.0 },
            memory_bytes: self.memory_byte_seconds as f64 / seconds,
            bytes_in_per_second: self.bytes_in as f64 / seconds,
            bytes_out_per_second: self.bytes_out as f64 / seconds,
            running: 0,
            p50_us: 0,
            p99_us: 0,
            messages_per_second: self.messages as f64 / seconds,
            messages_failed_per_second: self.messages_failed as f64 / seconds,
            components: Vec::new(),
        }
    }
}

/// The busiest first.
fn rates(before: &Top, now: &Top) -> Vec<Rate> {
    let seconds = Duration::from_micros(now.at_us.saturating_sub(before.at_us)).as_secs_f64().max(1e-6);
    let key = |row: &TopRow| (row.tenant.clone(), row.app.clone(), row.revision.clone());
    let earlier: BTreeMap<_, &TopRow> = before.rows.iter().map(|row| (key(row), row)).collect();
    let mut rest = of_apps(before, now);
    let mut rates = Vec::new();
    for row in &now.rows {
        let before = earlier.get(&key(row));
        let counts =
            Counts::of_row(row).without(before.map_or_else(Counts::default, |before| Counts::of_row(before)));
        if let Some(rest) = rest.get_mut(&(row.tenant.as_str(), row.app.as_str())) {
            *rest = rest.without(counts);
        }
        rates.push(Rate {
            running: row.running,
            p50_us: row.p50_us,
            p99_us: row.p99_us,
            components: parts(before.map_or(&[], |before| &before.components), &row.components, seconds),
            ..counts.rate((&row.tenant, &row.app, &row.revision), seconds)
        });
    }
    let seen = rest.into_iter().filter(|(_, counts)| counts.are_some());
    rates.extend(seen.map(|((tenant, app), counts)| counts.rate((tenant, app, NO_REVISION), seconds)));
    rates.sort_by(|left, right| {
        right
            .cpu_percent
            .total_cmp(&left.cpu_percent)
            .then(right.requests_per_second.total_cmp(&left.requests_per_second))
    });
    rates
}

/// What each app did. Without what its revisions did, it is what was refused, and what revisions did that are gone.
fn of_apps<'a>(before: &'a Top, now: &'a Top) -> BTreeMap<(&'a str, &'a str), Counts> {
    let of = |top: &'a Top| {
        let counts = |app: &'a TopApp| ((app.tenant.as_str(), app.app.as_str()), Counts::of_app(app));
        top.apps.iter().map(counts).collect::<BTreeMap<_, _>>()
    };
    let then = of(before);
    let since = |(key, counts): ((&'a str, &'a str), Counts)| {
        (key, counts.without(then.get(&key).copied().unwrap_or_default()))
    };
    of(now).into_iter().map(since).collect()
}

fn page(status: &Status, rows: &[Rate], components: bool) -> String {
    let mut table = Table::new(&[
        "app",
        "revision",
        ">requests/s",
        ">failed/s",
        ">refused/s",
        ">cpu %",
        ">cpu/request",
        ">memory",
        ">p50",
        ">p99",
        ">running",
        ">messages/s",
        ">not handled/s",
        ">in/s",
        ">out/s",
    ]);
    for row in rows {
        table.row([
            format!("{}/{}", row.tenant, row.name),
            row.revision.clone(),
            format!("{:.0}", row.requests_per_second),
            format!("{:.0}", row.errors_per_second),
            format!("{:.0}", row.refused_per_second),
            format!("{:.1}", row.cpu_percent),
            format!("{:.0}us", row.cpu_us_per_request),
            bytes(row.memory_bytes),
            format!("{}us", row.p50_us),
            format!("{}us", row.p99_us),
            row.running.to_string(),
            format!("{:.0}", row.messages_per_second),
            format!("{:.0}", row.messages_failed_per_second),
            bytes(row.bytes_in_per_second),
            bytes(row.bytes_out_per_second),
        ]);
        for part in row.components.iter().filter(|_| components) {
            let mut cells: [String; 15] = Default::default();
            cells[0] = format!("  {}", part.name);
            cells[5] = format!("{:.1}", part.cpu_percent);
            cells[7] = bytes(part.memory_bytes);
            table.row(cells);
        }
    }
    format!(
        "{}: {} apps, {} in memory, {} of {} sandboxes in use, {} resident\n{table}",
        status.state,
        status.apps,
        status.loaded,
        status.running,
        status.pool_instances,
        format_bytes(status.resident_bytes)
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate of bytes is shown rounded"
)]
fn bytes(rate: f64) -> String {
    format_bytes(rate as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(app: &str, requests: u64, cpu_us: u64) -> TopRow {
        TopRow {
            tenant: "acme".into(),
            app: app.into(),
            revision: "r1".into(),
            requests,
            errors: 0,
            outcomes: BTreeMap::new(),
            running: 0,
            p50_us: 1,
            p99_us: 2,
            cpu_us,
            memory_byte_seconds: 0,
            bytes_in: 0,
            bytes_out: 0,
            loaded: true,
            messages: 0,
            messages_failed: 0,
            components: Vec::new(),
        }
    }

    fn top(at_us: u64, rows: Vec<TopRow>) -> Top {
        Top { at_us, rows, apps: Vec::new() }
    }

    #[test]
    fn rates_are_differences_and_the_busiest_is_first() {
        let before = top(0, vec![row("shop", 100, 1_000)]);
        let now = top(
            2_000_000,
            vec![row("new", 4, 10), TopRow { memory_byte_seconds: 64, ..row("shop", 300, 501_000) }],
        );
        let rates = rates(&before, &now);
        assert_eq!(rates.iter().map(|rate| rate.name.as_str()).collect::<Vec<_>>(), ["shop", "new"]);
        let shop = &rates[0];
        assert_eq!(
            (shop.requests_per_second, shop.cpu_percent, shop.cpu_us_per_request, shop.memory_bytes),
            (100.0, 25.0, 2_500.0, 32.0)
        );
        assert_eq!(rates[1].requests_per_second, 2.0);
    }

    #[test]
    fn messages_are_told_beside_requests() {
        let given = TopRow { messages: 6, messages_failed: 2, ..row("shop", 0, 10) };
        let rates = rates(&top(0, vec![row("shop", 0, 0)]), &top(2_000_000, vec![given]));
        let told = rates[0].json();
        assert_eq!(
            (&told["messages_per_second"], &told["messages_failed_per_second"]),
            (&3.0.into(), &1.0.into())
        );
        assert_eq!(told["requests_per_second"], 0.0, "they are none");
    }

    #[test]
    fn a_node_that_was_started_again_counts_from_nothing() {
        let before = top(9_000_000, vec![row("shop", 100, 1_000)]);
        let now = top(1_000_000, vec![row("shop", 3, 10)]);
        assert_eq!(rates(&before, &now)[0].requests_per_second, 0.0);
    }

    #[test]
    fn what_was_refused_and_what_a_revision_did_that_is_gone_is_shown_once() {
        let all = |requests, refused| {
            vec![TopApp { tenant: "acme".into(), app: "shop".into(), requests, refused, ..TopApp::default() }]
        };
        let before = Top { at_us: 0, rows: vec![row("shop", 100, 0)], apps: all(100, 0) };
        // Of the revision that went, five more had been counted.
        let next = TopRow { revision: "r2".into(), ..row("shop", 20, 0) };
        let now = Top { at_us: 1_000_000, rows: vec![next], apps: all(125, 7) };
        let rates = rates(&before, &now);
        let shown: Vec<_> = rates
            .iter()
            .map(|it| (it.revision.as_str(), it.requests_per_second, it.refused_per_second))
            .collect();
        assert_eq!(shown, [("r2", 20.0, 0.0), (NO_REVISION, 5.0, 7.0)]);
        let last = TopApp { messages_failed: 1, ..all(0, 0)[0].clone() };
        let of_messages = super::rates(
            &Top { at_us: 0, rows: Vec::new(), apps: all(0, 0) },
            &Top { at_us: 1_000_000, rows: Vec::new(), apps: vec![last] },
        );
        assert_eq!(of_messages.len(), 1, "and so is what it did of messages");
        let quiet = Top { at_us: 2_000_000, ..now.clone() };
        assert_eq!(super::rates(&now, &quiet).len(), 1, "nothing is said where there is nothing");
    }
}
