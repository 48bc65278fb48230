//! `tenon revert`, `promote`, `pause`, `resume` and `delete`: changes of an app that need nothing built.

use http::Method;
use serde_json::json;
use tenon_model::AppId;
use tenon_node::wire;

use crate::admin::Admin;
use crate::args::{AppArgs, ChangeArgs, PromoteArgs, RevertArgs};
use crate::error::CommandError;
use crate::settings::Settings;
use crate::terminal::Terminal;

fn path(app: &AppId, what: &str) -> String {
    format!("/v1/tenants/{}/apps/{}{what}", app.tenant, app.app)
}

pub(crate) fn revert(
    args: &RevertArgs,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    let admin = Admin::open(&args.client, settings)?;
    let to = args.to.map(|revision| revision.to_string());
    let body = wire::Revert { to, note: args.note.clone(), generation: None };
    let done: wire::Deployed = admin.send(Method::POST, &path(&args.app, "/revert"), &body)?;
    let serves = format!("{} {} serves", args.app, done.app.stable);
    let text = match done.steps.last() {
        Some(step) if !done.changed => {
            format!(
                "{serves}, nothing was to be done: {}\nto go back further, say to which: `--to REVISION`",
                step.detail
            )
        }
        _ => serves,
    };
    terminal.result(text, || json!(done));
    Ok(())
}

pub(crate) fn promote(
    args: &PromoteArgs,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    let body = wire::Change { rollout: false, note: args.note.clone(), generation: None };
    let admin = Admin::open(&args.client, settings)?;
    let app: wire::App = admin.send(Method::POST, &path(&args.app, "/promote"), &body)?;
    terminal.result(format_args!("{} {} serves", args.app, app.stable), || json!(app));
    Ok(())
}

pub(crate) fn pause(args: &ChangeArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let app = change(args, settings, "/pause")?;
    let text = match (&app.rollout, args.rollout) {
        (Some(rollout), true) => format!("{} stays at {}%", rollout.candidate, rollout.percent),
        _ => "is out of service".to_owned(),
    };
    terminal.result(format_args!("{} {text}", args.app), || json!(app));
    Ok(())
}

pub(crate) fn resume(
    args: &ChangeArgs,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    let app = change(args, settings, "/resume")?;
    let text = if args.rollout { "goes on" } else { "serves again" };
    terminal.result(format_args!("{} {text}", args.app), || json!(app));
    Ok(())
}

fn change(args: &ChangeArgs, settings: &Settings, what: &str) -> Result<wire::App, CommandError> {
    let body = wire::Change { rollout: args.rollout, note: args.note.clone(), generation: None };
    Admin::open(&args.client, settings)?.send(Method::POST, &path(&args.app, what), &body)
}

pub(crate) fn delete(args: &AppArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    Admin::open(&args.client, settings)?.delete(&path(&args.app, ""))?;
    terminal.result(format_args!("{} is gone", args.app), || json!({ "deleted": args.app.to_string() }));
    Ok(())
}
