//! `tenon compose`: components in, one component out.

mod measure;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tenon_compose::{Composed, Lock};
use tenon_model::{Diagnostic, Digest, Location, format_bytes, format_duration};
use tenon_wit::Needs;

use crate::args::ComposeArgs;
use crate::error::CommandError;
use crate::project::{self, Project, read};
use crate::settings::Settings;
use crate::terminal::{Terminal, to_json};

/// A lock larger than this is not one.
const LOCK_BYTES_MAX: u64 = 8 << 20;

pub(crate) fn run(args: &ComposeArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let mut project = Project::open_with(&args.config, &args.dependencies.files)?;
    project.manifest.optimize |= args.optimize;
    let composed = project.compose(&args.files)?;
    let lock = Lock::of(&composed);
    if args.locked {
        check_lock(&project, &lock)?;
    }
    project::write(&args.output, &composed.bytes)?;
    for part in &composed.parts {
        terminal.step(
            "joined",
            format_args!("{} ({}, {})", part.name, format_bytes(part.size as u64), part.digest),
        );
    }
    let locked = args.locked || write_lock(&project, &lock, terminal);
    let saved = match project.manifest.optimize {
        true => {
            let data = args.data.data.as_deref().unwrap_or(&settings.data);
            Some(saved(&mut project, args, &composed, data, terminal)?)
        }
        false => None,
    };
    // Another host may have room for what a sandbox here has not: the component is good all the same.
    let too_large =
        Needs::of(composed.attributed()).beyond(&args.output.display().to_string(), &project.manifest.limits);
    for finding in &too_large {
        terminal.warning(finding);
    }
    let digest = Digest::of(&composed.bytes);
    let table = saved.as_ref().map(|saved| saved.table(&composed)).unwrap_or_default();
    terminal.result(
        format_args!(
            "{table}{}: {}, {digest}",
            args.output.display(),
            format_bytes(composed.bytes.len() as u64)
        ),
        || {
            json!({
                "file": args.output.display().to_string(),
                "bytes": composed.bytes.len(),
                "digest": digest.to_string(),
                "components": composed.parts.iter().map(|part| json!({
                    "name": part.name, "bytes": part.size, "digest": part.digest.to_string(),
                })).collect::<Vec<_>>(),
                "lock": locked.then(|| project.lock.display().to_string()),
                "imports": composed.imports,
                "exports": composed.exports,
                "warnings": too_large.iter().map(to_json).collect::<Vec<_>>(),
                "optimized": saved.as_ref().map(|saved| saved.to_json(&composed)),
            })
        },
    );
    Ok(())
}

/// A lock that is not what was composed is a finding, and so is none at all.
fn check_lock(project: &Project, now: &Lock) -> Result<(), CommandError> {
    let file = project.lock.display().to_string();
    let text = read(&project.lock, LOCK_BYTES_MAX).map_err(|found| match found.code {
        "file-missing" => {
            Diagnostic::new("lock-missing", format!("there is no lock `{file}` to hold the composition to"))
                .at(Location::file(&file))
                .mend("Write it: `tenon compose` without `--locked`, and keep it with the manifest.")
        }
        _ => found,
    })?;
    let locked = Lock::parse(&file, &String::from_utf8_lossy(&text))?;
    Ok(locked.check(&file, now)?)
}

/// Keeps the lock beside the manifest, and says whether it is there. Where it cannot be written, or something else has
/// its name, the composition is good all the same.
fn write_lock(project: &Project, lock: &Lock, terminal: &Terminal) -> bool {
    let text = lock.render();
    let heading = text.lines().next().unwrap_or_default();
    let written = match read(&project.lock, LOCK_BYTES_MAX) {
        Ok(old) if old == text.as_bytes() => return true,
        Ok(old) if !old.starts_with(heading.as_bytes()) => {
            Err(format!("`{}` is there, and is no lock of a composition", project.lock.display()))
        }
        Err(found) if found.code != "file-missing" => Err(found.message),
        _ => project::write(&project.lock, text.as_bytes()).map_err(|found| found.message),
    };
    match &written {
        Ok(()) => terminal.step("locked", project.lock.display()),
        Err(why) => terminal.step("not locked", why),
    }
    written.is_ok()
}

/// The core modules that several components have, by the components that have them: how many, and their bytes.
fn shared(composed: &Composed) -> Vec<(&[String], usize, u64)> {
    let mut shared: Vec<(&[String], usize, u64)> = Vec::new();
    for module in &composed.shared {
        match shared.iter_mut().find(|(parts, ..)| *parts == module.parts) {
            Some((_, modules, bytes)) => {
                *modules += 1;
                *bytes += module.size as u64;
            }
            None => shared.push((&module.parts, 1, module.size as u64)),
        }
    }
    shared
}

/// What optimising a composition came to.
struct Saved {
    bytes_before: usize,
    /// What an instance took before, and takes now; why it was not measured, where it was not.
    instantiation: Result<[Duration; 2], String>,
    /// Where names and debug information went.
    side: Option<PathBuf>,
}

/// Keeps what was left out beside the component, and compares with the composition as it is without optimising.
fn saved(
    project: &mut Project,
    args: &ComposeArgs,
    composed: &Composed,
    data: &Path,
    terminal: &Terminal,
) -> Result<Saved, CommandError> {
    let side = match &composed.side {
        None => None,
        Some(bytes) => {
            let file = project::side_file(&args.output);
            project::write(&file, bytes)?;
            Some(file)
        }
    };
    project.manifest.optimize = false;
    let plain = project.compose(&args.files)?;
    let components = [plain.attributed(), composed.attributed()];
    // A composition that leaves imports open is as good as any, and cannot be instantiated here.
    let instantiation = measure::instantiation(project, components, data, terminal)
        .map_err(|error| error.diagnostics().first().map_or_else(String::new, |it| it.message.clone()));
    Ok(Saved { bytes_before: plain.bytes.len(), instantiation, side })
}

impl Saved {
    fn table(&self, composed: &Composed) -> String {
        let mut text = String::new();
        let width = composed.parts.iter().map(|part| part.name.len()).chain(["instantiation".len()]).max();
        let width = width.unwrap_or_default();
        let mut row = |name: &str, before: String, now: String, what: String| {
            let _ =
                writeln!(text, "{}", format!("{name:<width$}  {before:>9} -> {now:<9}  {what}").trim_end());
        };
        for part in &composed.parts {
            let Some(saving) = &part.optimized else { continue };
            let mut what =
                format!("{} -> {} core instances", saving.core_instances_before, saving.core_instances);
            if let Some(kept) = &saving.kept {
                let _ = write!(what, "; not linked: {kept}");
            }
            row(&part.name, format_bytes(saving.bytes_before as u64), format_bytes(part.size as u64), what);
        }
        for (parts, modules, bytes) in shared(composed) {
            let what = match modules {
                1 => "core module".to_owned(),
                count => format!("{count} core modules"),
            };
            row(
                "shared",
                String::new(),
                format_bytes(bytes),
                format!("{what} of {}, once", parts.join(", ")),
            );
        }
        let now = composed.bytes.len();
        row("composed", format_bytes(self.bytes_before as u64), format_bytes(now as u64), {
            let percent = 100.0 - 100.0 * now as f64 / self.bytes_before.max(1) as f64;
            format!("{percent:.0}% less")
        });
        match &self.instantiation {
            Ok([before, now]) => {
                let percent = 100.0 - 100.0 * now.as_secs_f64() / before.as_secs_f64().max(f64::MIN_POSITIVE);
                row(
                    "instantiation",
                    format_duration(*before),
                    format_duration(*now),
                    format!("{percent:.0}% less, the median of a fresh sandbox each"),
                );
            }
            Err(why) => {
                let _ = writeln!(text, "{:<width$}  not measured: {why}", "instantiation");
            }
        }
        if let Some(side) = &self.side {
            let _ = writeln!(text, "names and debug information: {}", side.display());
        }
        text
    }

    fn to_json(&self, composed: &Composed) -> Value {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let times = self.instantiation.as_ref().ok();
        json!({
            "bytes_before": self.bytes_before,
            "bytes": composed.bytes.len(),
            "instantiation_before_ns": times.map(|[before, _]| nanos(*before)),
            "instantiation_ns": times.map(|[_, now]| nanos(*now)),
            "not_measured": self.instantiation.as_ref().err(),
            "shared": composed.shared.iter().map(|module| json!({
                "bytes": module.size, "components": module.parts,
            })).collect::<Vec<_>>(),
            "debug": self.side.as_ref().map(|side| side.display().to_string()),
            "components": composed.parts.iter().filter_map(|part| {
                let saving = part.optimized.as_ref()?;
                Some(json!({
                    "name": part.name,
                    "bytes_before": saving.bytes_before,
                    "bytes": part.size,
                    "core_instances_before": saving.core_instances_before,
                    "core_instances": saving.core_instances,
                    "kept": saving.kept,
                }))
            }).collect::<Vec<_>>(),
        })
    }
}
