//! Go: bindings from the contract, the standard compiler for `wasip1`, and the component made from that.
//!
//! What is generated lies in `internal/wit` of the author's module: the types of an interface `demo:routing/match` are
//! the package `internal/wit/demo_routing_match`, those of WIT itself (`Option`, `Result`, …) are `internal/wit/types`.
//! An exported interface is implemented by a package of the author's in a folder with the interface's name, `match`;
//! functions that the world itself exports by the package in the folder `world`.

mod adapter;
mod bindings;

use std::path::Path;

use tenon_model::{Diagnostic, Location};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{LiveTypes, TypeDefKind, WorldItem};

use crate::contract::Contract;
use crate::error::BuildError;
use crate::process::Program;
use crate::toolbox::Kit;
use crate::toolchain::{Product, Site, Toolchain, clear_generated, write_if_changed};
use bindings::{Bindings, GENERATED_FILE, GENERATED_FOLDER};

pub(super) struct Go;

impl Toolchain for Go {
    fn generates(&self) -> fn(&Path) -> bool {
        |path| path == Path::new(GENERATED_FOLDER) || path.ends_with(GENERATED_FILE)
    }

    fn recipe(&self) -> String {
        format!(
            "go 1 {} wit-bindgen-go 0.63.0 {}\n{}",
            Kit::Go.pins(),
            bindings::pins(),
            adapter::PINS.concat()
        )
    }

    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError> {
        refuse_async(site.contract)?;
        let module = module_path(site.source)?;
        site.progress.step(site.component, "bindings from the contract");
        let bindings = Bindings::generate(site.wit, &site.contract.qualified_world(), &module)?;
        implemented(site, &bindings, &module)?;
        write_bindings(site, &bindings)?;
        let core = compile(site)?;
        site.progress.step(site.component, "component");
        let bytes = componentize(site.contract, core)?;
        Ok(Product { bytes, also: Vec::new() })
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

/// Asynchronous functions need a hook in Go's scheduler that the stock runtime does not have.
fn refuse_async(contract: &Contract) -> Result<(), Diagnostic> {
    let resolve = &contract.resolve;
    let world = &resolve.worlds[contract.world];
    let is_async = world.imports.values().chain(world.exports.values()).any(|item| match item {
        WorldItem::Function(function) => function.kind.is_async(),
        WorldItem::Interface { id, .. } => {
            resolve.interfaces[*id].functions.values().any(|function| function.kind.is_async())
        }
        WorldItem::Type { .. } => false,
    });
    let mut types = LiveTypes::default();
    types.add_world(resolve, contract.world);
    let has_streams = types
        .iter()
        .any(|id| matches!(resolve.types[id].kind, TypeDefKind::Stream(_) | TypeDefKind::Future(_)));
    if is_async || has_streams {
        return Err(Diagnostic::new(
            "go-async",
            format!("the world `{}` has async functions, streams or futures", contract.qualified_world()),
        )
        .mend("a component in Go can have none of them: write this one in Rust, or change the contract"));
    }
    Ok(())
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
        .args(["build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared"])
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

fn componentize(contract: &Contract, mut core: Vec<u8>) -> Result<Vec<u8>, Diagnostic> {
    let failed = |what: String| {
        Diagnostic::new("not-componentized", "what Go compiled does not make a component").note("found", what)
    };
    let adapter = adapter::for_world(&contract.imports()).map_err(failed)?;
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

    fn contract(text: &str) -> Contract {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a.wit"), text).unwrap();
        Contract::load(root.path(), None).unwrap()
    }

    #[test]
    fn async_contracts_are_refused() {
        for text in [
            "package a:b; world w { export f: async func(); }",
            "package a:b; interface i { f: async func(); } world w { import i; }",
            "package a:b; interface i { f: func() -> stream<u8>; } world w { export i; }",
        ] {
            assert_eq!(refuse_async(&contract(text)).unwrap_err().code, "go-async", "{text}");
        }
        assert_eq!(refuse_async(&contract("package a:b; world w { export f: func() -> list<u8>; }")), Ok(()));
    }

    #[test]
    fn the_module_path_is_read() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(module_path(root.path()).unwrap_err().code, "go-no-module");
        std::fs::write(root.path().join("go.mod"), "// a\nmodule \"example.org/x\" // b\n\ngo 1.27\n")
            .unwrap();
        assert_eq!(module_path(root.path()).unwrap(), "example.org/x");
    }
}
