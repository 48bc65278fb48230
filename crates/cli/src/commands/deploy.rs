//! `tenon deploy`: builds and composes here, and has a node serve it.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;
use tenon_compose::manifest::Deploy as Said;
use tenon_model::{
    AppId, AppName, ChosenBy, Diagnostic, Location, RolloutPlan, Step, TenantId, format_duration,
};
use tenon_node::wire;

use crate::admin::Admin;
use crate::app::{App, addressable};
use crate::args::{DeployArgs, too_many_steps};
use crate::commands::rollout;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::terminal::Terminal;

/// How long a step of a rollout lasts where nobody says it.
const HOLD: Duration = Duration::from_secs(60);

/// What is deployed where: build and compose → who and how → upload → deploy → (wait).
pub(crate) fn run(args: &DeployArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let app = App::find(&args.target, &args.dependencies.files, settings, terminal)?;
    let id = whose(args, &app)?;
    let admin = Admin::open(&args.client, settings)?;
    let component = component(args, &app)?;
    let digest = admin.upload(&component, terminal)?;
    let deploy = wire::Deploy {
        component: digest.to_string(),
        terms: terms(args, &app)?,
        routes: routes(args, &app.deploy),
        rollout: plan(args, &app.deploy)?.as_ref().map(wire_of),
        force: args.force,
        note: args.note.clone(),
        generation: None,
    };
    let path = format!("/v1/tenants/{}/apps/{}", id.tenant, id.app);
    let deployed: wire::Deployed = admin.send(Method::PUT, &path, &deploy)?;
    say(&id, &deployed, terminal);
    match args.wait && deployed.app.rollout.is_some() {
        true => rollout::wait(&admin, &id, terminal),
        false => Ok(()),
    }
}

fn say(id: &AppId, deployed: &wire::Deployed, terminal: &Terminal) {
    for step in &deployed.steps {
        let took = format_duration(Duration::from_micros(step.took_us));
        terminal.step(&step.step, format_args!("{} in {took}", or_done(&step.detail)));
    }
    for line in &deployed.grew {
        terminal.step("new access", line);
    }
    let app = &deployed.app;
    let to = match app.routes.as_slice() {
        [] => "for no route: nobody can ask it".to_owned(),
        routes => format!("for {}", routes.join(", ")),
    };
    let text = match (deployed.changed, &app.rollout) {
        (false, Some(rollout)) if rollout.candidate == deployed.revision => format!(
            "{id} has this content already: {}, which gets {}% until its rollout ends; `tenon promote {id}` gives it all",
            deployed.revision, rollout.percent
        ),
        (false, _) => format!("{id} has this content already: {}", deployed.revision),
        (true, Some(rollout)) => format!(
            "{id} {} takes over from {} in {} steps, {to}",
            deployed.revision,
            rollout.stable,
            rollout.plan.steps.len()
        ),
        (true, None) => format!("{id} {} serves, {to}", deployed.revision),
    };
    terminal.result(text, || json!(deployed));
}

fn or_done(detail: &str) -> &str {
    if detail.is_empty() { "done" } else { detail }
}

/// The tenant and the app: from the command line, else from the manifest.
fn whose(args: &DeployArgs, app: &App) -> Result<AppId, Diagnostic> {
    let at = || Location::file(args.target.display().to_string());
    let tenant: TenantId = args.tenant.clone().or_else(|| app.deploy.tenant.clone()).ok_or_else(|| {
        Diagnostic::new("no-tenant", format!("nothing says whose app `{}` is", app.name))
            .at(at())
            .mend("add `--tenant NAME`, or to the manifest:\n[deploy]\ntenant = \"NAME\"")
    })?;
    let named = args.app.clone().or_else(|| app.deploy.app.clone());
    let app = match named {
        Some(name) => name,
        None => app.name.parse::<AppName>().map_err(|error| {
            Diagnostic::new("bad-name", format!("`{}` cannot be the name of an app: {error}", app.name))
                .at(at())
                .mend("add `--app NAME`")
        })?,
    };
    Ok(AppId { tenant, app })
}

fn component(args: &DeployArgs, app: &App) -> Result<Bytes, Diagnostic> {
    app.bytes().map(Bytes::copy_from_slice).ok_or_else(|| {
        Diagnostic::new("not-a-component", format!("`{}` is compiled already", args.target.display()))
            .at(Location::file(args.target.display().to_string()))
            .mend("deploy the component it was compiled from: a node compiles for itself")
    })
}

fn terms(args: &DeployArgs, app: &App) -> Result<wire::Terms, Diagnostic> {
    let limits = addressable(app.limits)?;
    let mut terms = wire::Terms::of(&limits, app.reuse, &app.errors, &app.authorities);
    let health = args.health.as_ref().or(app.deploy.health.as_ref());
    terms.probe = health.map(|path| wire::Probe { path: path.clone(), status: None });
    Ok(terms)
}

fn routes(args: &DeployArgs, said: &Said) -> Vec<String> {
    let routes = if args.routes.is_empty() { &said.routes } else { &args.routes };
    routes.iter().map(ToString::to_string).collect()
}

/// How it takes over: what the manifest says, and over it the command line.
fn plan(args: &DeployArgs, said: &Said) -> Result<Option<RolloutPlan>, Diagnostic> {
    if args.at_once {
        return Ok(None);
    }
    let mut plan = said.rollout.clone().unwrap_or_else(RolloutPlan::at_once);
    if !args.canary.is_empty() {
        if too_many_steps(args.canary.len()) || !args.canary.is_sorted_by(|left, right| left < right) {
            return Err(Diagnostic::new(
                "rollout-steps",
                "the shares of `--canary` have to grow, in at most 20 steps",
            )
            .mend("for example `--canary 5,25,50`"));
        }
        let hold = plan.steps.first().map_or(HOLD, |step| step.hold);
        plan.steps = args.canary.iter().map(|percent| Step { percent: *percent, hold }).collect();
    }
    if let Some(hold) = args.hold {
        if plan.steps.is_empty() {
            return Err(Diagnostic::new(
                "rollout-steps",
                "`--hold` says how long each step lasts, and there is none",
            )
            .mend("add `--canary 5,25,50`"));
        }
        plan.steps.iter_mut().for_each(|step| step.hold = hold);
    }
    plan.sticky = args.sticky.clone().unwrap_or(plan.sticky);
    plan.chosen = args.chosen.clone().or(plan.chosen);
    plan.shadow_percent = args.shadow.unwrap_or(plan.shadow_percent);
    Ok((!plan.is_at_once()).then_some(plan))
}

fn wire_of(plan: &RolloutPlan) -> wire::Rollout {
    let tolerance = plan.tolerance;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    wire::Rollout {
        steps: plan
            .steps
            .iter()
            .map(|step| wire::Step { percent: step.percent, hold_ms: millis(step.hold) })
            .collect(),
        sticky: match &plan.sticky {
            tenon_model::Sticky::Address => wire::Sticky::Address,
            tenon_model::Sticky::Cookie => wire::Sticky::Cookie,
            tenon_model::Sticky::Header(name) => wire::Sticky::Header(name.clone()),
        },
        chosen: plan.chosen.as_ref().map(|chosen| {
            let (header, cookie) = match &chosen.by {
                ChosenBy::Header(name) => (Some(name.clone()), None),
                ChosenBy::Cookie(name) => (None, Some(name.clone())),
            };
            wire::Chosen { header, cookie, value: chosen.value.clone() }
        }),
        tolerance: wire::Tolerance {
            errors_per_mille: tolerance.errors_per_mille,
            p99_percent: tolerance.p99_percent,
            samples: tolerance.samples,
            crashes: tolerance.crashes,
        },
        shadow_percent: plan.shadow_percent,
    }
}
