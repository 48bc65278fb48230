//! `tenon doctor`: what is missing, and the command that mends it.

use std::fmt::Write as _;

use serde_json::json;
use tenon_build::{Check, Host, Language, Origin, State, Toolbox};
use tenon_engine::{Pool, PoolReport};
use tenon_model::{Diagnostic, Diagnostics, Reuse};

use crate::args::DoctorArgs;
use crate::commands::build::Shown;
use crate::error::CommandError;
use crate::project::{COMPONENT_BYTES_MAX, Project, has_manifest, read};
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
    let (origins, drifted) = origins(args)?;
    let node = PoolReport::probe(Pool::default());
    let reuse = reuse(args)?;
    let text = text(&checks, &node, reuse) + &origins_text(&origins);
    terminal.result(text.trim_end(), || {
        json!({
            "checks": checks.iter().map(to_json).collect::<Vec<_>>(),
            "components": origins.iter().map(origin_json).collect::<Vec<_>>(),
            "drift": drifted.iter().map(drift_json).collect::<Vec<_>>(),
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
    Ok(Diagnostics::check([missing, drifted].concat())?)
}

/// What the built components of a folder say of how they were made, and what is known not to work of that.
fn origins(args: &DoctorArgs) -> Result<(Vec<Origin>, Vec<Diagnostic>), CommandError> {
    let Some(dir) = &args.dir else { return Ok(Default::default()) };
    let (jobs, files) = if has_manifest(dir) {
        let project = Project::open(dir)?;
        let components = &project.manifest.components;
        let files: Vec<_> = components.iter().map(|it| (it.name.clone(), project.path(it))).collect();
        (crate::commands::build::jobs(&project), files)
    } else {
        let job = crate::commands::build::lone_job(dir);
        let file = (job.name.clone(), job.output.clone());
        (vec![job], vec![file])
    };
    let mut origins = Vec::new();
    for (name, file) in files.iter().filter(|(_, file)| file.is_file()) {
        origins.push(Origin::of(name, &file.display().to_string(), &read(file, COMPONENT_BYTES_MAX)?)?);
    }
    let mut drifted = tenon_build::drift(&origins);
    for job in jobs {
        if let Some(language) = job.language.or_else(|| tenon_build::detect(&job.source).ok()) {
            drifted.extend(tenon_build::source_drift(&job.name, &job.source, language));
        }
    }
    Ok((origins, drifted))
}

fn origins_text(origins: &[Origin]) -> String {
    let mut text = String::new();
    if !origins.is_empty() {
        text.push_str("components\n");
    }
    let width = origins.iter().map(|it| it.component.len()).max().unwrap_or(0);
    for origin in origins {
        // A version, without where it was built and when.
        let mut said: Vec<String> = origin
            .producers
            .iter()
            .map(|it| {
                format!("{} {}", it.name, it.version.split(' ').next().unwrap_or("")).trim_end().to_owned()
            })
            .collect();
        said.dedup();
        if said.is_empty() {
            said.push("says nothing of its tools".to_owned());
        }
        if !origin.wasi.is_empty() {
            let releases: Vec<&str> = origin.wasi.iter().map(String::as_str).collect();
            said.push(format!("WASI {}", releases.join(" and ")));
        }
        if origin.adapter {
            said.push("an adapter from WASI 0.1".to_owned());
        }
        let _ = writeln!(text, "  {:width$}  {}", origin.component, said.join(", "));
    }
    text
}

fn origin_json(origin: &Origin) -> serde_json::Value {
    let producer =
        |it: &tenon_wit::Producer| json!({ "field": it.field, "name": it.name, "version": it.version });
    json!({
        "name": origin.component,
        "file": origin.file,
        "producers": origin.producers.iter().map(producer).collect::<Vec<_>>(),
        "wasi": origin.wasi,
        "adapter": origin.adapter,
        "async": origin.is_async,
    })
}

fn drift_json(drift: &Diagnostic) -> serde_json::Value {
    let known = drift.notes.iter().find(|note| note.label == "known as");
    json!({
        "name": known.map(|note| &note.text),
        "file": drift.at.as_ref().map(|at| &at.file),
        "what": drift.message,
        "mend": drift.mend,
    })
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
