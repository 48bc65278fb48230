//! `tenon authority`: what each component may touch, and whether a new version asks for more.

use std::path::Path;

use tenon_compose::authority::{self, Report};
use tenon_model::{Diagnostic, Diagnostics, Location};

use crate::args::AuthorityArgs;
use crate::error::CommandError;
use crate::project::{COMPONENT_BYTES_MAX, Project, is_manifest, read};
use crate::terminal::Terminal;

/// A printed report begins with this; neither a component nor a manifest does.
const JSON_START: u8 = b'{';

pub(crate) fn run(args: &AuthorityArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let report = report_of(&args.target)?;
    let Some(base) = &args.deny_growth else {
        terminal.result(authority::render(&report).trim_end(), || authority::to_json(&report));
        return Ok(());
    };
    let base = report_of(base)?;
    Diagnostics::check(authority::growth(&base, &report))?;
    terminal.result(
        format_args!("{} asks for no more than {}", report.file, base.file),
        || serde_json::json!({ "file": report.file, "base": base.file, "grew": false }),
    );
    Ok(())
}

fn report_of(target: &Path) -> Result<Report, CommandError> {
    if is_manifest(target) {
        return Ok(Project::open(target)?.authority()?);
    }
    let file = target.display().to_string();
    let bytes = read(target, COMPONENT_BYTES_MAX)?;
    if bytes.first() == Some(&JSON_START) {
        let text = String::from_utf8(bytes).map_err(|_| {
            Diagnostic::new("not-a-report", format!("`{file}` is not UTF-8 text")).at(Location::file(&file))
        })?;
        return Ok(authority::from_json(&file, &text)?);
    }
    let name = target.file_stem().map_or_else(|| "app".into(), |name| name.to_string_lossy().into_owned());
    Ok(authority::of_component(&name, &file, &bytes)?)
}
