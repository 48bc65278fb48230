//! `tenon compose`: components in, one component out.

use serde_json::json;
use tenon_model::{Digest, format_bytes};

use crate::args::ComposeArgs;
use crate::error::CommandError;
use crate::project::{self, Project};
use crate::terminal::Terminal;

pub(crate) fn run(args: &ComposeArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let project = Project::open(&args.config)?;
    let composed = project.compose(&args.files)?;
    project::write(&args.output, &composed.bytes)?;
    for part in &composed.parts {
        terminal.step(
            "joined",
            format_args!("{} ({}, {})", part.name, format_bytes(part.size as u64), part.digest),
        );
    }
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
                "imports": composed.imports,
                "exports": composed.exports,
            })
        },
    );
    Ok(())
}
