//! `tenon status`, `capacity` and `audit`: how a node is, what still fits, who changed what.

use std::time::Duration;

use serde_json::json;
use tenon_model::{format_bytes, format_duration};
use tenon_node::wire;

use crate::admin::Admin;
use crate::args::{AuditArgs, CapacityArgs, StatusArgs};
use crate::commands::apps::time;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::table::Table;
use crate::terminal::Terminal;

pub(crate) fn status(
    args: &StatusArgs,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    let status: wire::Status = Admin::open(&args.client, settings)?.get("/v1/status")?;
    let mut text = format!(
        "{} for {}, tenon {}\n  listening   {}\n  tenants     {}\n  apps        {}, {} in memory\n  requests    {} \
         running, of {} sandboxes\n  memory      {} resident\n  open files  {}",
        status.state,
        format_duration(Duration::from_secs(status.uptime_s)),
        status.version,
        status.listen.join(", "),
        status.tenants,
        status.apps,
        status.loaded,
        status.running,
        status.pool_instances,
        format_bytes(status.resident_bytes),
        status.open_files,
    );
    for wrong in &status.wrong {
        text.push_str(&format!("\n  wrong       {} ({})", wrong.title, wrong.code));
        if let Some(mend) = &wrong.mend {
            text.push_str(&format!("\n              {mend}"));
        }
    }
    terminal.result(text, || json!(status));
    Ok(())
}

pub(crate) fn capacity(
    args: &CapacityArgs,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    let mut query: Vec<String> = Vec::new();
    if let Some(app) = &args.app {
        query.push(format!("tenant={}&app={}", app.tenant, app.app));
    }
    query.extend(args.memory.map(|bytes| format!("memory_bytes={bytes}")));
    query.extend(args.concurrency.map(|count| format!("concurrency={count}")));
    query.extend(args.artifact.map(|bytes| format!("artifact_bytes={bytes}")));
    let path = match query.is_empty() {
        true => "/v1/capacity".to_owned(),
        false => format!("/v1/capacity?{}", query.join("&")),
    };
    let found: wire::Capacity = Admin::open(&args.client, settings)?.get(&path)?;
    let mut table = Table::new(&["bound", ">one needs", ">free", ">fit"]);
    for bound in &found.bounds {
        table.row([
            bound.bound.clone(),
            bound.needs.to_string(),
            bound.free.to_string(),
            bound.fits.to_string(),
        ]);
    }
    let text = format!("{} more fit; {} is used up first\n{table}", found.fits, found.bound_by);
    terminal.result(text, || json!(found));
    Ok(())
}

pub(crate) fn audit(args: &AuditArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let path = format!("/v1/audit?after={}&limit={}", args.after, args.limit);
    let found: wire::Audit = Admin::open(&args.client, settings)?.get(&path)?;
    let mut table = Table::new(&[">", "when", "who", "what", "of", "how"]);
    for entry in &found.entries {
        table.row([
            entry.sequence.to_string(),
            time(entry.at),
            entry.who.clone(),
            entry.what.clone(),
            entry.target.clone(),
            entry.detail.clone(),
        ]);
    }
    if !found.intact {
        terminal.step("broken", "entries of the log were changed or taken out");
    }
    terminal.result(table, || json!(found));
    Ok(())
}
