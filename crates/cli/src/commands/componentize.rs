//! `tenon componentize`: a core module in, a component out.

use std::path::PathBuf;

use serde_json::json;
use tenon_build::{Adapter, Componentize, componentize};
use tenon_model::{Digest, Location, format_bytes};

use crate::args::{AdapterName, ComponentizeArgs};
use crate::error::CommandError;
use crate::project::{self, COMPONENT_BYTES_MAX, read};
use crate::terminal::Terminal;

pub(crate) fn run(args: &ComponentizeArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let file = args.file.display().to_string();
    let bytes = read(&args.file, COMPONENT_BYTES_MAX)?;
    let made = componentize(&Componentize {
        file: &file,
        bytes: &bytes,
        wit: args.wit.clone(),
        world: args.world.clone(),
        adapter: args.adapter.map(adapter),
    })?;
    // The result is checked as any other component is, before there is a file of it.
    let output = args.output.clone().unwrap_or_else(|| beside(args));
    let named = |mut diagnostic: tenon_model::Diagnostic| {
        diagnostic.at = Some(Location::file(&file));
        diagnostic
    };
    tenon_wit::require_component(&file, &made.bytes).map_err(named)?;
    tenon_wit::require_released_wasi(&file, &made.bytes).map_err(named)?;
    project::write(&output, &made.bytes)?;
    terminal.step("found", made.module.describe());
    if let Some(adapter) = made.adapter {
        terminal.step("adapter", adapter.name());
    }
    for export in &made.exports {
        terminal.step("exports", export);
    }
    let digest = Digest::of(&made.bytes);
    terminal.result(
        format_args!("{}: {}, {digest}", output.display(), format_bytes(made.bytes.len() as u64)),
        || {
            json!({
                "file": output.display().to_string(),
                "bytes": made.bytes.len(),
                "digest": digest.to_string(),
                "found": made.module.describe(),
                "adapter": made.adapter.map(Adapter::name),
                "world": made.world,
                "imports": made.imports,
                "exports": made.exports,
            })
        },
    );
    Ok(())
}

fn adapter(name: AdapterName) -> Adapter {
    match name {
        AdapterName::Command => Adapter::Command,
        AdapterName::Reactor => Adapter::Reactor,
        AdapterName::Proxy => Adapter::Proxy,
    }
}

/// `a.wasm` becomes `a.component.wasm`.
fn beside(args: &ComponentizeArgs) -> PathBuf {
    args.file.with_extension("component.wasm")
}
