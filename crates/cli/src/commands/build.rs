//! `tenon build`: from source to components.

use std::path::Path;

use serde_json::json;
use tenon_build::{BuildError, Built, Host, Job, Progress, Setting, Toolbox};
use tenon_model::{Diagnostics, format_bytes, format_duration};

use crate::args::BuildArgs;
use crate::error::CommandError;
use crate::project::{Project, has_manifest};
use crate::settings::Settings;
use crate::terminal::Terminal;

/// The project's folder for build products.
const WORK: &str = ".tenon";

pub(crate) fn run(args: &BuildArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let jobs =
        if has_manifest(&args.dir) { jobs(&Project::open(&args.dir)?) } else { vec![lone_job(&args.dir)] };
    let built = build(&jobs, settings, terminal)?;
    terminal.result(text(&built), || json!({ "components": built.iter().map(to_json).collect::<Vec<_>>() }));
    Ok(())
}

/// Builds the components of a project that have a source.
pub(crate) fn build_project(
    project: &Project,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    build(&jobs(project), settings, terminal).map(drop)
}

/// A project's components that are built from source.
pub(crate) fn jobs(project: &Project) -> Vec<Job> {
    let shared_wit = project.folder.join("wit");
    project
        .manifest
        .components
        .iter()
        .filter_map(|component| {
            component.source.as_ref().map(|source| (component, project.folder.join(source)))
        })
        .map(|(component, source)| {
            let wit = match &component.wit {
                Some(wit) => project.folder.join(wit),
                None if shared_wit.is_dir() => shared_wit.clone(),
                None => source.join("wit"),
            };
            Job {
                name: component.name.clone(),
                language: component.language,
                wit,
                world: component.world.clone(),
                optimize: component.optimize,
                output: project.path(component),
                work: project.folder.join(WORK),
                snapshot: component.snapshot,
                source,
            }
        })
        .collect()
}

/// A folder that is the source of one component.
pub(crate) fn lone_job(dir: &Path) -> Job {
    let folder = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let name =
        folder.file_name().map_or_else(|| "component".into(), |name| name.to_string_lossy().into_owned());
    let work = dir.join(WORK);
    Job {
        output: work.join(format!("{name}.wasm")),
        wit: dir.join("wit"),
        source: dir.to_owned(),
        language: None,
        world: None,
        optimize: None,
        name,
        work,
        snapshot: true,
    }
}

/// Builds these components.
pub(crate) fn build(
    jobs: &[Job],
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Vec<Built>, CommandError> {
    let toolbox = Toolbox::new(&settings.tools);
    let host = Host::new(settings.environment.clone());
    let progress = Shown(terminal);
    let setting = Setting {
        toolbox: &toolbox,
        host: &host,
        progress: &progress,
        initialize: Some(&tenon_engine::initialize),
        link: Some(&tenon_compose::link_core_modules),
    };
    let mut built = Vec::new();
    let mut refused = Vec::new();
    let mut ours = None;
    for done in tenon_build::build_project(jobs, setting) {
        match done {
            Ok(one) => {
                if !one.skipped {
                    let took = format_duration(one.duration);
                    terminal.step(
                        "built",
                        format_args!(
                            "{} ({}, {}) in {took}",
                            one.name,
                            one.language,
                            format_bytes(one.bytes)
                        ),
                    );
                }
                built.push(one);
            }
            Err(error @ BuildError::Io { .. }) => ours = Some(error),
            Err(error) => refused.extend(error.diagnostics().iter().cloned()),
        }
    }
    if let Some(error) = ours {
        return Err(CommandError::ours("the components could not be built", &error));
    }
    Diagnostics::check(refused)?;
    let skipped = built.iter().filter(|one| one.skipped).count();
    if skipped > 0 {
        terminal.step("unchanged", format_args!("{skipped} of {} components", built.len()));
    }
    Ok(built)
}

fn text(built: &[Built]) -> String {
    let width = built.iter().map(|one| one.name.len()).max().unwrap_or(0);
    let lines: Vec<String> = built
        .iter()
        .map(|one| {
            let state = if one.skipped { "unchanged" } else { "built" };
            format!(
                "{:width$}  {:10}  {state:9}  {:>9}  {}",
                one.name,
                one.language.to_string(),
                format_bytes(one.bytes),
                one.path.display()
            )
        })
        .collect();
    lines.join("\n")
}

fn to_json(one: &Built) -> serde_json::Value {
    json!({
        "name": one.name,
        "language": one.language.name(),
        "path": one.path.display().to_string(),
        "bytes": one.bytes,
        "digest": one.digest.to_string(),
        "skipped": one.skipped,
        "took_us": u64::try_from(one.duration.as_micros()).unwrap_or(u64::MAX),
    })
}

/// A build's progress on the terminal.
pub(crate) struct Shown<'a>(pub(crate) &'a Terminal);

impl Progress for Shown<'_> {
    fn step(&self, subject: &str, step: &str) {
        self.0.step(subject, step);
    }

    fn line(&self, subject: &str, line: &str) {
        self.0.line(subject, line);
    }
}
