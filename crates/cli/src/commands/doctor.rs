//! `tenon doctor`: what is missing, and the command that mends it.

use std::fmt::Write as _;

use serde_json::json;
use tenon_build::{Check, Host, Language, State, Toolbox};
use tenon_engine::{Pool, PoolReport};
use tenon_model::{Diagnostic, Diagnostics, Reuse};

use crate::args::DoctorArgs;
use crate::commands::build::Shown;
use crate::error::CommandError;
use crate::project::{Project, has_manifest};
use crate::settings::Settings;
use crate::terminal::Terminal;

pub(crate) fn run(args: &DoctorArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let toolbox = Toolbox::new(&settings.tools);
    let host = Host::new(settings.environment.clone());
    let languages = languages(args)?;
    let optimized = optimized(args)?;
    if args.fix {
        fix(&toolbox, &host, &languages, optimized, terminal)?;
    }
    let mut checks: Vec<Check> =
        languages.iter().flat_map(|language| tenon_build::doctor(&toolbox, &host, *language)).collect();
    if let Some(language) = optimized {
        checks.extend(tenon_build::doctor_optimizer(&toolbox, &host, language));
    }
    let node = PoolReport::probe(Pool::default());
    let reuse = reuse(args)?;
    terminal.result(text(&checks, &node, reuse).trim_end(), || {
        json!({
            "checks": checks.iter().map(to_json).collect::<Vec<_>>(),
            "node": {
                "page_scan": node.page_scan.to_string(),
                "mappings_max": node.mappings_max,
                "mappings_needed": node.mappings_needed,
            },
            "reuse": reuse.map(|reuse| json!({ "requests": reuse.requests, "concurrent": reuse.concurrent })),
        })
    });
    let missing: Vec<Diagnostic> = checks
        .iter()
        .filter(|check| !check.is_good())
        .map(|check| {
            Diagnostic::new(
                "toolchain-missing",
                format!("{}: {} {}", check.language, check.what, check.state),
            )
            .mend(check.mend.clone())
        })
        .collect();
    Ok(Diagnostics::check(missing)?)
}

/// What a folder's manifest says of the reuse of sandboxes.
fn reuse(args: &DoctorArgs) -> Result<Option<Reuse>, CommandError> {
    let Some(dir) = args.dir.as_ref().filter(|dir| has_manifest(dir)) else { return Ok(None) };
    Ok(Some(Project::open(dir)?.manifest.reuse))
}

/// The language of a folder's first component that is to be optimised, where there is one.
fn optimized(args: &DoctorArgs) -> Result<Option<Language>, CommandError> {
    let Some(dir) = args.dir.as_ref().filter(|dir| has_manifest(dir)) else { return Ok(None) };
    let jobs = crate::commands::build::jobs(&Project::open(dir)?);
    let Some(job) = jobs.into_iter().find(|job| job.optimize.is_some()) else { return Ok(None) };
    Ok(Some(job.language.map_or_else(|| tenon_build::detect(&job.source), Ok)?))
}

/// The languages of a folder's components, or all of them.
fn languages(args: &DoctorArgs) -> Result<Vec<Language>, CommandError> {
    let Some(dir) = &args.dir else { return Ok(Language::ALL.to_vec()) };
    if !has_manifest(dir) {
        return Ok(vec![tenon_build::detect(dir)?]);
    }
    let project = Project::open(dir)?;
    let mut languages = Vec::new();
    for job in crate::commands::build::jobs(&project) {
        let language = job.language.map_or_else(|| tenon_build::detect(&job.source), Ok)?;
        if !languages.contains(&language) {
            languages.push(language);
        }
    }
    Ok(languages)
}

fn fix(
    toolbox: &Toolbox,
    host: &Host,
    languages: &[Language],
    optimized: Option<Language>,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    let refused = |what: String, error: tenon_build::InstallError| {
        Diagnostic::new("install-failed", format!("the {what} could not be installed"))
            .note("cause", error.to_string())
            .mend("check that the package registries can be reached, then run `tenon doctor --fix` again")
    };
    if optimized.is_some() {
        toolbox
            .install_optimizer(host, &Shown(terminal))
            .map_err(|error| refused("optimiser".to_owned(), error))?;
    }
    for language in languages {
        let installable = |check: &Check| !check.is_good() && check.installable;
        if tenon_build::doctor(toolbox, host, *language).iter().any(installable) {
            toolbox
                .install(*language, host, &Shown(terminal))
                .map_err(|error| refused(format!("{language} toolchain"), error))?;
        }
    }
    Ok(())
}

fn text(checks: &[Check], node: &PoolReport, reuse: Option<Reuse>) -> String {
    let mut text = String::new();
    let width = checks.iter().map(|check| check.what.len()).max().unwrap_or(0);
    let mut language = None;
    for check in checks {
        if language != Some(check.language) {
            language = Some(check.language);
            let _ = writeln!(text, "{}", check.language);
        }
        let mark = if check.is_good() { "ok     " } else { "missing" };
        let _ = writeln!(text, "  {mark}  {:width$}  {}", check.what, check.state);
        if !check.is_good() {
            let _ = writeln!(text, "           {:width$}  {}", "mend", check.mend);
        }
    }
    if let Some(reuse) = reuse {
        let _ = writeln!(text, "app\n  isolation      {reuse}");
    }
    let _ = writeln!(text, "node");
    let _ = writeln!(text, "  page scanning  {}", node.page_scan);
    match node.instances_within_mappings() {
        Some(fits) => {
            let _ = writeln!(
                text,
                "  mappings       room for {fits} of {} sandboxes; mend: sysctl vm.max_map_count={}",
                node.pool.instances,
                node.mappings_needed * 2
            );
        }
        None => {
            let _ = writeln!(
                text,
                "  mappings       room for all {} sandboxes of the default pool",
                node.pool.instances
            );
        }
    }
    text
}

fn to_json(check: &Check) -> serde_json::Value {
    json!({
        "language": check.language.to_string(),
        "what": check.what,
        "good": check.is_good(),
        "state": check.state.to_string(),
        "found": match &check.state { State::Found(version) => Some(version), _ => None },
        "mend": check.mend,
    })
}
