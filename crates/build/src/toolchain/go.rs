//! Go: bindings from the contract, the standard compiler for `wasip1`, and the component made from that.
//!
//! What is generated lies in `internal/wit` of the author's module: the types of an interface `demo:routing/match` are
//! the package `internal/wit/demo_routing_match`, those of WIT itself (`Option`, `Result`, …) are `internal/wit/types`.
//! An exported interface is implemented by a package of the author's in a folder with the interface's name, `match`;
//! functions that the world itself exports by the package in the folder `world`.

mod adapter;
mod bindings;
mod overlay;

use std::path::Path;

use tenon_model::{Diagnostic, Location};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::contract::Contract;
use crate::error::BuildError;
use crate::process::Program;
use crate::skeleton::Plan;
use crate::snapshot::{Snapshot, snapshot};
use crate::toolbox::Kit;
use crate::toolchain::{Product, Site, Toolchain, clear_generated, core, write_if_changed};
use bindings::{Bindings, GENERATED_FILE, GENERATED_FOLDER};

pub(super) struct Go;

impl Toolchain for Go {
    fn generates(&self) -> fn(&Path) -> bool {
        |path| path == Path::new(GENERATED_FOLDER) || path.ends_with(GENERATED_FILE)
    }

    fn recipe(&self) -> String {
        format!(
            "go 2 {} wit-bindgen-go 0.63.0 {}\n{}\n{}",
            Kit::Go.pins(),
            bindings::pins(),
            adapter::PINS.concat(),
            overlay::OURS
        )
    }

    fn skeleton(&self, plan: &Plan<'_>) -> Result<Vec<(String, String)>, Diagnostic> {
        // As the template's `go.mod` has it: not every name can stand alone there, `go` for one.
        let (world, module) = (plan.contract.qualified_world(), format!("example.com/{}", plan.name));
        let bindings = Bindings::generate(plan.wit, &world, &module)?;
        bindings
            .exports
            .iter()
            .map(|export| {
                let stub = Bindings::stub(plan.wit, &world, &module, export)?;
                Ok((format!("{0}/{0}.go", export.folder), stub))
            })
            .collect()
    }

    fn bindings(&self, site: &Site<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        let bindings = Bindings::generate(site.wit, &site.contract.qualified_world(), site.component)?;
        Ok(bindings.files.into_iter().map(|(name, text)| (name, text.into_bytes())).collect())
    }

    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError> {
        let module = module_path(site.source)?;
        site.progress.step(site.component, "bindings from the contract");
        let bindings = Bindings::generate(site.wit, &site.contract.qualified_world(), &module)?;
        implemented(site, &bindings, &module)?;
        write_bindings(site, &bindings)?;
        let core = compile(site)?;
        let (core, area) = started(site, core);
        site.progress.step(site.component, "component");
        let bytes = componentize(site.contract, core, area)?;
        Ok(Product {
            bytes,
            also: Vec::new(),
            tools: vec![("wit-bindgen-go", "0.63.0".to_owned()), core::adapter()],
        })
    }
}

/// The module's path, from `go.mod`.
fn module_path(source: &Path) -> Result<String, Diagnostic> {
    let file = source.join("go.mod");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    text.lines()
        .find_map(|line| line.trim().strip_prefix("module "))
        .map(|path| path.split("//").next().unwrap_or("").trim().trim_matches('"').to_owned())
        .ok_or_else(|| {
            Diagnostic::new("go-no-module", "there is no `go.mod` that names a module")
                .at(Location::file(file.display().to_string()))
                .mend("write a go.mod:\nmodule example\n\ngo 1.27")
        })
}

/// Makes sure that there is a package for everything the world exports; the compiler would only say that a file it
/// was never told about imports a package it cannot find.
fn implemented(site: &Site<'_>, bindings: &Bindings, module: &str) -> Result<(), BuildError> {
    let is_source = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "go") && !path.ends_with(GENERATED_FILE)
    };
    for export in &bindings.exports {
        let folder = site.source.join(&export.folder);
        let there = std::fs::read_dir(&folder)
            .is_ok_and(|entries| entries.flatten().any(|entry| is_source(&entry.path())));
        if !there {
            let stub = Bindings::stub(site.wit, &site.contract.qualified_world(), module, export)?;
            return Err(Diagnostic::new(
                "go-export-missing",
                format!("`{}` has no package for `{}`, which its world exports", site.component, export.name),
            )
            .at(Location::file(folder.display().to_string()))
            .note("to begin with", stub)
            .mend(format!("write the package `{}` in the folder `{}`", export.package, export.folder))
            .into());
        }
    }
    Ok(())
}

fn write_bindings(site: &Site<'_>, bindings: &Bindings) -> Result<(), BuildError> {
    clear_generated(site.source, GENERATED_FOLDER, "go-folder-taken")?;
    for (path, text) in &bindings.files {
        write_if_changed(&site.source.join(path), text.as_bytes())?;
    }
    Ok(())
}

/// Variables that would change what is compiled.
fn leaks(name: &str) -> bool {
    name.starts_with("GO") || name.starts_with("CGO_")
}

fn compile(site: &Site<'_>) -> Result<Vec<u8>, BuildError> {
    let core = site.work.join(format!("{}.core.wasm", site.component));
    let overlay = overlay::write(&site.toolbox.go_root(), site.work)?;
    site.progress.step(site.component, "go build");
    // The module cache is where Go looks by default, under HOME: dependencies have to be there or vendored.
    Program::new(site.toolbox.go(), site.source, site.host, leaks)
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
        .env("GOENV", "off")
        .env("GOWORK", "off")
        .env("GOFLAGS", "")
        .env("GOPROXY", "off")
        .env("GOSUMDB", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOCACHE", site.toolbox.go_cache())
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-overlay"])
        .arg(overlay)
        // Symbols and debug information go. The runtime of the bindings reaches into Go's own (`sbrk`, the collector's
        // settings), which the linker refuses unless told otherwise.
        .args(["-ldflags", "-s -w -checklinkname=0", "-o"])
        .arg(&core)
        .arg(format!("./{GENERATED_FOLDER}"))
        .run(site.component, site.progress)
        .map_err(site.compile_error(None))?;
    let bytes = std::fs::read(&core).map_err(BuildError::io("read", &core))?;
    std::fs::remove_file(&core).map_err(BuildError::io("remove", &core))?;
    Ok(bytes)
}

/// Does what Go's runtime does at its start, and what packages do at theirs, once and for all; and says where the adapter's
/// memory is then. Where the environment and files are a component's own, or its start asks for what would be another
/// one at another time, it starts anew in every sandbox as ever.
fn started(site: &Site<'_>, core: Vec<u8>) -> (Vec<u8>, Option<u32>) {
    let Some(initialize) = site.initialize.filter(|_| adapter::is_small(&site.contract.imports())) else {
        return (core, None);
    };
    site.progress.step(site.component, "snapshot");
    match snapshot(&core, initialize) {
        Ok(Snapshot { module, area }) => (module, Some(area)),
        Err(reason) => {
            let what = format!("no snapshot: {reason}; Go's runtime starts anew in every sandbox");
            site.progress.line(site.component, &what);
            (core, None)
        }
    }
}

fn componentize(contract: &Contract, mut core: Vec<u8>, area: Option<u32>) -> Result<Vec<u8>, Diagnostic> {
    let failed = |what: String| {
        Diagnostic::new("not-componentized", "what Go compiled does not make a component").note("found", what)
    };
    let adapter = adapter::for_world(&contract.imports(), area).map_err(failed)?;
    embed_component_metadata(&mut core, &contract.resolve, contract.world, StringEncoding::UTF8, false)
        .map_err(|error| failed(format!("{error:#}")))?;
    ComponentEncoder::default()
        .module(&core)
        .and_then(|encoder| encoder.adapter(adapter::NAME, &adapter))
        .and_then(ComponentEncoder::encode)
        .map_err(|error| failed(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_path_is_read() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(module_path(root.path()).unwrap_err().code, "go-no-module");
        std::fs::write(root.path().join("go.mod"), "// a\nmodule \"example.org/x\" // b\n\ngo 1.27\n")
            .unwrap();
        assert_eq!(module_path(root.path()).unwrap(), "example.org/x");
    }
}
