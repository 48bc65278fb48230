//! `tenon compile`: native code, ahead of time.

use std::path::Path;

use serde_json::json;
use tenon_engine::{Artifacts, Engine, Origin, Pool, Source, Stored};
use tenon_model::{Diagnostic, format_bytes, format_duration};

use crate::args::CompileArgs;
use crate::error::CommandError;
use crate::project::{self, COMPONENT_BYTES_MAX, read};
use crate::settings::Settings;
use crate::terminal::Terminal;

/// What a data directory has in it that a node serves from.
const NODE_FOLDER: &str = "node";

pub(crate) fn run(args: &CompileArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let bytes = read(&args.file, COMPONENT_BYTES_MAX)?;
    tenon_wit::require_component(&args.file.display().to_string(), &bytes)?;
    tenon_wit::require_released_wasi(&args.file.display().to_string(), &bytes)?;
    let artifacts = open_store(args.data.data.as_deref().unwrap_or(&settings.data))?;
    // Compiling needs the engine's settings, not its pool.
    let engine = Engine::new(Pool { instances: 1, memory_bytes: Pool::MEMORY_BYTES_MAX, ..Pool::default() })
        .map_err(Diagnostic::from)?;
    let stored = compiled(&engine, &artifacts, &args.file.display().to_string(), &bytes, terminal)?;
    if let Some(output) = &args.output {
        let artifact = read(&stored.path, u64::MAX)?;
        project::write(output, &artifact)?;
    }
    let written = args.output.as_ref().unwrap_or(&stored.path);
    terminal.result(format_args!("{}: {}", written.display(), format_bytes(stored.bytes)), || {
        json!({
            "artifact": written.display().to_string(),
            "bytes": stored.bytes,
            "digest": stored.digest.to_string(),
            "origin": origin(stored.origin),
            "took_us": u64::try_from(stored.took.as_micros()).unwrap_or(u64::MAX),
        })
    });
    Ok(())
}

/// Opens the artifact store of a data directory, and removes what is too much. Of a node's, the node does: only it knows what
/// its apps need.
pub(crate) fn open_store(data: &Path) -> Result<Artifacts, CommandError> {
    let opened = Artifacts::open(data).and_then(|artifacts| {
        if !data.join(NODE_FOLDER).exists() {
            artifacts.prune_all()?;
        }
        Ok(artifacts)
    });
    opened.map_err(|error| {
        Diagnostic::new(
            "data-directory",
            format!("the data directory cannot be used: {error}: {}", error.source),
        )
        .mend("choose another one with `--data DIR` or TENON_DATA")
        .into()
    })
}

/// The compiled form of a component, from the store or compiled now; says which.
pub(crate) fn compiled(
    engine: &Engine,
    artifacts: &Artifacts,
    name: &str,
    bytes: &[u8],
    terminal: &Terminal,
) -> Result<Stored, CommandError> {
    let source = Source {
        name,
        bytes,
        parts: &|| tenon_node::parts_of(name, bytes),
        contract: &|| tenon_wit::contract(bytes),
    };
    let stored = artifacts
        .get(engine, &source)
        .map_err(|refused| tenon_node::explain_refusal(engine, name, bytes, refused))?;
    terminal.step(origin(stored.origin), format_args!("{name} in {}", format_duration(stored.took)));
    Ok(stored)
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Loaded => "loaded",
        Origin::Compiled => "compiled",
        Origin::Recompiled => "recompiled",
    }
}
