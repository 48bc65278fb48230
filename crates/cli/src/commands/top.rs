//! `tenon top`: what the apps of a node do, interval by interval.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::json;
use tenon_model::format_bytes;
use tenon_node::wire::{Status, Top, TopRow};

use crate::admin::Admin;
use crate::args::TopArgs;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::table::Table;
use crate::terminal::Terminal;

/// Begins a page again at its top, and clears what is below it.
const TOP_OF_PAGE: &str = "\u{1b}[H\u{1b}[J";

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
        let page = page(&status, &rows);
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

/// What a revision did in one interval.
#[derive(Debug, PartialEq)]
struct Rate {
    tenant: String,
    name: String,
    revision: String,
    requests_per_second: f64,
    errors_per_second: f64,
    /// Of one core, in percent.
    cpu_percent: f64,
    cpu_us_per_request: f64,
    bytes_in_per_second: f64,
    bytes_out_per_second: f64,
    running: u32,
    p50_us: u64,
    p99_us: u64,
}

impl Rate {
    fn json(&self) -> serde_json::Value {
        json!({
            "tenant": self.tenant, "app": self.name, "revision": self.revision,
            "requests_per_second": self.requests_per_second, "errors_per_second": self.errors_per_second,
            "cpu_percent": self.cpu_percent, "cpu_us_per_request": self.cpu_us_per_request,
            "bytes_in_per_second": self.bytes_in_per_second, "bytes_out_per_second": self.bytes_out_per_second,
            "running": self.running, "p50_us": self.p50_us, "p99_us": self.p99_us,
        })
    }
}

/// The busiest first.
fn rates(before: &Top, now: &Top) -> Vec<Rate> {
    let key = |row: &TopRow| (row.tenant.clone(), row.app.clone(), row.revision.clone());
    let earlier: BTreeMap<_, &TopRow> = before.rows.iter().map(|row| (key(row), row)).collect();
    let seconds = Duration::from_micros(now.at_us.saturating_sub(before.at_us)).as_secs_f64().max(1e-6);
    let mut rates: Vec<Rate> =
        now.rows.iter().map(|row| rate(earlier.get(&key(row)).copied(), row, seconds)).collect();
    rates.sort_by(|left, right| {
        right
            .cpu_percent
            .total_cmp(&left.cpu_percent)
            .then(right.requests_per_second.total_cmp(&left.requests_per_second))
    });
    rates
}

#[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
fn rate(before: Option<&TopRow>, now: &TopRow, seconds: f64) -> Rate {
    // A node that was started again counts from nothing.
    let since = |count: fn(&TopRow) -> u64| count(now).saturating_sub(before.map_or(0, count)) as f64;
    let (requests, cpu_us) = (since(|row| row.requests), since(|row| row.cpu_us));
    Rate {
        tenant: now.tenant.clone(),
        name: now.app.clone(),
        revision: now.revision.clone(),
        requests_per_second: requests / seconds,
        errors_per_second: since(|row| row.errors) / seconds,
        cpu_percent: cpu_us / seconds / 1e4,
        cpu_us_per_request: if requests > 0.0 { cpu_us / requests } else { 0.0 },
        bytes_in_per_second: since(|row| row.bytes_in) / seconds,
        bytes_out_per_second: since(|row| row.bytes_out) / seconds,
        running: now.running,
        p50_us: now.p50_us,
        p99_us: now.p99_us,
    }
}

fn page(status: &Status, rows: &[Rate]) -> String {
    let mut table = Table::new(&[
        "app",
        "revision",
        ">requests/s",
        ">failed/s",
        ">cpu %",
        ">cpu/request",
        ">p50",
        ">p99",
        ">running",
        ">in/s",
        ">out/s",
    ]);
    for row in rows {
        table.row([
            format!("{}/{}", row.tenant, row.name),
            row.revision.clone(),
            format!("{:.0}", row.requests_per_second),
            format!("{:.0}", row.errors_per_second),
            format!("{:.1}", row.cpu_percent),
            format!("{:.0}us", row.cpu_us_per_request),
            format!("{}us", row.p50_us),
            format!("{}us", row.p99_us),
            row.running.to_string(),
            bytes(row.bytes_in_per_second),
            bytes(row.bytes_out_per_second),
        ]);
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
        }
    }

    #[test]
    fn rates_are_differences_and_the_busiest_is_first() {
        let before = Top { at_us: 0, rows: vec![row("shop", 100, 1_000)] };
        let now = Top { at_us: 2_000_000, rows: vec![row("new", 4, 10), row("shop", 300, 501_000)] };
        let rates = rates(&before, &now);
        assert_eq!(rates.iter().map(|rate| rate.name.as_str()).collect::<Vec<_>>(), ["shop", "new"]);
        let shop = &rates[0];
        assert_eq!(
            (shop.requests_per_second, shop.cpu_percent, shop.cpu_us_per_request),
            (100.0, 25.0, 2_500.0)
        );
        assert_eq!(rates[1].requests_per_second, 2.0);
    }

    #[test]
    fn a_node_that_was_started_again_counts_from_nothing() {
        let before = Top { at_us: 9_000_000, rows: vec![row("shop", 100, 1_000)] };
        let now = Top { at_us: 1_000_000, rows: vec![row("shop", 3, 10)] };
        assert_eq!(rates(&before, &now)[0].requests_per_second, 0.0);
    }
}
