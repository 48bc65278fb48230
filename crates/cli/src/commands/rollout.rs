//! `tenon rollout`: how a new revision takes over.

use std::time::Duration;

use serde_json::json;
use tenon_model::{AppId, Diagnostic, format_duration};
use tenon_node::wire::{RolloutAnswer, RolloutState, RolloutStatus, Seen, Shadowed};

use crate::admin::Admin;
use crate::args::RolloutArgs;
use crate::commands::apps::time;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::terminal::Terminal;

/// How often a node is asked while somebody waits.
const LOOK: Duration = Duration::from_millis(500);
/// A rollout that is waited for is looked at again even after this many failures of the connection: a node may be
/// replaced meanwhile.
const FAILURES_MAX: u32 = 20;

pub(crate) fn run(args: &RolloutArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let admin = Admin::open(&args.client, settings)?;
    if args.wait {
        return wait(&admin, &args.app, terminal);
    }
    match look(&admin, &args.app)? {
        Some(status) => terminal.result(describe(&args.app, &status), || json!(status)),
        None => terminal.result(format_args!("{} never had a rollout", args.app), || json!(null)),
    }
    Ok(())
}

fn look(admin: &Admin, app: &AppId) -> Result<Option<RolloutStatus>, CommandError> {
    let path = format!("/v1/tenants/{}/apps/{}/rollout", app.tenant, app.app);
    Ok(admin.get::<RolloutAnswer>(&path)?.rollout)
}

/// Tells of each step until the rollout has ended; an error when it was sent back.
pub(crate) fn wait(admin: &Admin, app: &AppId, terminal: &Terminal) -> Result<(), CommandError> {
    let mut told = None;
    let mut failures = 0;
    loop {
        let status = match look(admin, app) {
            Ok(Some(status)) => status,
            Ok(None) => return Ok(()),
            Err(_) if failures < FAILURES_MAX => {
                failures += 1;
                std::thread::sleep(LOOK);
                continue;
            }
            Err(error) => return Err(error),
        };
        failures = 0;
        let now = (status.state, status.step, status.percent);
        if told.replace(now) != Some(now) {
            terminal.step("rollout", describe(app, &status));
        }
        match status.state {
            RolloutState::Running | RolloutState::Paused => std::thread::sleep(LOOK),
            RolloutState::Promoted => {
                terminal.result(format_args!("{app} {} serves", status.candidate), || json!(status));
                return Ok(());
            }
            RolloutState::Reverted => return Err(reverted(app, &status).into()),
        }
    }
}

fn reverted(app: &AppId, status: &RolloutStatus) -> Diagnostic {
    let why = status.why.as_deref().unwrap_or("somebody reverted it");
    Diagnostic::new(
        "rollout-reverted",
        format!("{app} {} was sent back; {} serves: {why}", status.candidate, status.stable),
    )
    .note(status.candidate.clone(), seen(&status.seen_candidate))
    .note(status.stable.clone(), seen(&status.seen_stable))
    .mend(format!("tenon logs {app}"))
}

fn describe(app: &AppId, status: &RolloutStatus) -> String {
    let RolloutStatus { candidate, stable, percent, step, .. } = status;
    let of = status.plan.steps.len();
    let both = format!(
        "\n  {candidate}: {}\n  {stable}: {}",
        seen(&status.seen_candidate),
        seen(&status.seen_stable)
    ) + &shadowed(status);
    let at = status.ended.map_or_else(String::new, |ended| format!(", {}", time(ended)));
    match status.state {
        RolloutState::Running => {
            let left = status.left_ms.map_or(String::new(), |left| {
                format!(", next in {}", format_duration(Duration::from_secs(left.div_ceil(1_000))))
            });
            let why = status.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            format!(
                "{app} {candidate} gets {percent}% instead of {stable}, step {} of {of}{left}{why}{both}",
                step + 1
            )
        }
        RolloutState::Paused => {
            format!("{app} {candidate} is held at {percent}%, step {} of {of}{both}", step + 1)
        }
        RolloutState::Promoted => {
            let few = match status.seen_candidate.requests < status.plan.tolerance.samples {
                true => ", with too few requests in its last step to be judged by",
                false => "",
            };
            format!("{app} {candidate} took over from {stable}{at}{few}{both}")
        }
        RolloutState::Reverted => {
            let why = status.why.as_deref().unwrap_or("somebody reverted it");
            format!("{app} {candidate} was sent back to {stable}: {why}{at}{both}")
        }
    }
}

/// What came of the comparison, if requests are copied.
fn shadowed(status: &RolloutStatus) -> String {
    match status.shadow {
        Some(Shadowed { same, different }) if status.plan.shadow_percent > 0 || same + different > 0 => {
            format!("\n  copies: {same} answered alike, {different} differently")
        }
        _ => String::new(),
    }
}

fn seen(seen: &Seen) -> String {
    format!(
        "{} requests, {} failed, {} crashed, p99 {}",
        seen.requests,
        seen.errors,
        seen.crashes,
        format_duration(Duration::from_micros(seen.p99_us))
    )
}
