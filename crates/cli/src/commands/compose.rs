//! `tenon compose`: components in, one component out.

use serde_json::json;
use tenon_compose::Lock;
use tenon_model::{Diagnostic, Digest, Location, format_bytes};

use crate::args::ComposeArgs;
use crate::error::CommandError;
use crate::project::{self, Project, read};
use crate::terminal::Terminal;

/// A lock larger than this is not one.
const LOCK_BYTES_MAX: u64 = 8 << 20;

pub(crate) fn run(args: &ComposeArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let project = Project::open_with(&args.config, &args.dependencies.files)?;
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
    let digest = Digest::of(&composed.bytes);
    terminal.result(
        format_args!("{}: {}, {digest}", args.output.display(), format_bytes(composed.bytes.len() as u64)),
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
