//! `tenon apps`, `tenon revisions`: what a node has.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use tenon_model::format_time;
use tenon_node::wire;

use crate::admin::Admin;
use crate::args::{AppArgs, AppsArgs};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::table::Table;
use crate::terminal::Terminal;

pub(crate) fn list(args: &AppsArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let admin = Admin::open(&args.client, settings)?;
    let found: wire::Apps = match &args.tenant {
        Some(tenant) => admin.get(&format!("/v1/tenants/{tenant}/apps"))?,
        None => admin.get("/v1/apps")?,
    };
    let mut table = Table::new(&["app", "serves", "state", ">running", "routes"]);
    for app in &found.apps {
        table.row([
            format!("{}/{}", app.tenant, app.app),
            app.stable.clone(),
            state(app),
            app.running.to_string(),
            app.routes.join(" "),
        ]);
    }
    match table.is_empty() {
        true => terminal.result("no apps", || json!(found)),
        false => terminal.result(table, || json!(found)),
    }
    Ok(())
}

/// What a person looks for first.
fn state(app: &wire::App) -> String {
    match &app.rollout {
        _ if app.paused => "paused".to_owned(),
        _ if app.breaker_open => "breaker open".to_owned(),
        Some(rollout) if rollout.state == wire::RolloutState::Running => {
            format!("{} {}%", rollout.candidate, rollout.percent)
        }
        Some(rollout) if rollout.state == wire::RolloutState::Paused => {
            format!("{} held at {}%", rollout.candidate, rollout.percent)
        }
        _ if app.loaded => "ready".to_owned(),
        _ => "on disk".to_owned(),
    }
}

pub(crate) fn revisions(
    args: &AppArgs,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    let admin = Admin::open(&args.client, settings)?;
    let path = format!("/v1/tenants/{}/apps/{}/revisions", args.app.tenant, args.app.app);
    let found: wire::Revisions = admin.get(&path)?;
    let mut table = Table::new(&["revision", "state", "made", "by", "component", "note"]);
    for one in &found.revisions {
        let equal = one.reverts_to.as_ref().map(|to| format!("equal to {to} "));
        let ended = one.rollout.as_ref().map(|end| match (end.state, &end.why) {
            (wire::RolloutState::Promoted, _) => "took over in steps ".to_owned(),
            (_, Some(why)) => format!("sent back: {why} "),
            (_, None) => "sent back ".to_owned(),
        });
        table.row([
            one.revision.clone(),
            one.state.clone(),
            time(one.created),
            one.by.clone(),
            short(&one.component),
            format!("{}{}{}", equal.unwrap_or_default(), ended.unwrap_or_default(), one.note),
        ]);
    }
    terminal.result(table, || json!(found));
    Ok(())
}

/// A time on the wire, for people.
pub(crate) fn time(seconds: u64) -> String {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).map_or_else(|| seconds.to_string(), format_time)
}

/// The beginning of a digest, which is enough to tell one from another by eye.
fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}
