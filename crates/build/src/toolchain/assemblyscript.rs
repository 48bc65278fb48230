//! AssemblyScript: glue from the contract, `asc`, and the component made from that.
//!
//! The author's modules lie in `assembly`: one for each exported interface, with the interface's name, and `world.ts`
//! for functions that the world itself exports. What is generated lies in `assembly/wit`.

mod glue;

use std::path::Path;

use tenon_model::{Diagnostic, Location};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection};
use wasmparser::{ExternalKind, Parser, Payload};
use wit_component::StringEncoding;

use crate::error::BuildError;
use crate::process::Program;
use crate::skeleton::Plan;
use crate::toolbox::Kit;
use crate::toolchain::{Lacks, Product, Site, Toolchain, core, write_generated};
use glue::{GENERATED_FOLDER, Glue, SOURCE_FOLDER};

pub(super) struct AssemblyScript;

/// The compiler's version, which is pinned.
const ASC_VERSION: &str = "0.28.20";
const ASC: &str = "assemblyscript/bin/asc.js";

/// Small; a failed assertion traps, and nothing is imported for it.
const FLAGS: [&str; 7] =
    ["-Oz", "--use", "abort=", "--runtime", "incremental", "--exportStart", "_initialize"];

/// What the glue is not written for.
const LACKS: Lacks = Lacks {
    async_exports: true,
    async_imports: true,
    streams: true,
    exported_resources: true,
    resources: true,
};

impl Toolchain for AssemblyScript {
    fn generates(&self) -> fn(&Path) -> bool {
        |path| path == Path::new(GENERATED_FOLDER)
    }

    fn recipe(&self) -> String {
        format!("assemblyscript 2 {} {FLAGS:?} {}", Kit::AssemblyScript.pins(), glue::RUNTIME)
    }

    fn skeleton(&self, plan: &Plan<'_>) -> Result<Vec<(String, String)>, Diagnostic> {
        LACKS.refuse(plan.language, plan.contract)?;
        let glue = Glue::generate(&plan.contract.resolve, plan.contract.world)?;
        let begun = |stub: &str| stub.trim_start().replace("// ...", "throw new Error(\"to be written\");");
        let file = |module: &str| format!("{SOURCE_FOLDER}/{module}.ts");
        Ok(glue.exports.iter().map(|export| (file(&export.module), begun(&export.stub))).collect())
    }

    fn bindings(&self, site: &Site<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        LACKS.refuse(site.language, site.contract)?;
        let glue = Glue::generate(&site.contract.resolve, site.contract.world)?;
        let file = |(name, text): (String, String)| (format!("{GENERATED_FOLDER}/{name}"), text.into_bytes());
        Ok(glue.files.into_iter().map(file).collect())
    }

    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError> {
        LACKS.refuse(site.language, site.contract)?;
        site.progress.step(site.component, "bindings from the contract");
        let glue = Glue::generate(&site.contract.resolve, site.contract.world)?;
        write_generated(
            site,
            GENERATED_FOLDER,
            glue.files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())),
        )?;
        implemented(site, &glue)?;
        let compiled = compile(site)?;
        let renamed = rename(&compiled, &glue.names).ok_or_else(|| {
            Diagnostic::new("not-componentized", "what was compiled is not a core module that can be read")
        })?;
        Ok(Product {
            bytes: core::componentize(site.contract, renamed, StringEncoding::UTF8)?,
            also: Vec::new(),
            tools: vec![("assemblyscript", ASC_VERSION.to_owned()), core::adapter()],
        })
    }
}

/// Makes sure that there is a module for everything the world exports; the compiler would only name a file that nobody
/// wrote.
fn implemented(site: &Site<'_>, glue: &Glue) -> Result<(), Diagnostic> {
    for export in &glue.exports {
        let file = site.source.join(SOURCE_FOLDER).join(format!("{}.ts", export.module));
        if !file.is_file() {
            let what =
                format!("`{}` has no module for `{}`, which its world exports", site.component, export.name);
            return Err(Diagnostic::new("assemblyscript-export-missing", what)
                .at(Location::file(file.display().to_string()))
                .note("to begin with", export.stub.trim_end())
                .mend(format!("write `{SOURCE_FOLDER}/{}.ts`", export.module)));
        }
    }
    Ok(())
}

fn compile(site: &Site<'_>) -> Result<Vec<u8>, BuildError> {
    let output = site.work.join(format!("{}.core.wasm", site.component));
    let node = site.host.find("node").unwrap_or_else(|| "node".into());
    site.progress.step(site.component, "asc");
    Program::new(node, site.source, site.host, |name| matches!(name, "NODE_OPTIONS" | "NODE_PATH"))
        .env("NO_COLOR", "1")
        .arg(site.toolbox.assemblyscript(ASC))
        .arg(format!("{GENERATED_FOLDER}/exports.ts"))
        .args(FLAGS)
        .arg("--outFile")
        .arg(&output)
        .run(site.component, site.progress)
        .map_err(site.compile_error(None))?;
    let bytes = std::fs::read(&output).map_err(BuildError::io("read", &output))?;
    std::fs::remove_file(&output).map_err(BuildError::io("remove", &output))?;
    Ok(bytes)
}

/// The module with its functions exported under the names of the component's ABI, which AssemblyScript cannot spell.
fn rename(bytes: &[u8], names: &[(String, String)]) -> Option<Vec<u8>> {
    let mut module = Module::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.ok()?;
        if let Payload::ExportSection(section) = &payload {
            let mut exports = ExportSection::new();
            for export in section.clone() {
                let export = export.ok()?;
                let kind = match export.kind {
                    ExternalKind::Func => ExportKind::Func,
                    ExternalKind::Table => ExportKind::Table,
                    ExternalKind::Memory => ExportKind::Memory,
                    ExternalKind::Global => ExportKind::Global,
                    _ => return None,
                };
                let name =
                    names.iter().find(|(from, _)| from == export.name).map_or(export.name, |(_, to)| to);
                exports.export(name, kind, export.index);
            }
            module.section(&exports);
        } else if let Some((id, range)) = payload.as_section() {
            let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
            module.section(&RawSection { id, data: bytes.get(start..end)? });
        }
    }
    Some(module.finish())
}
