//! From a core module to a component: the world is embedded, WASI preview 1 is adapted, and the result is checked.

use std::path::PathBuf;

use tenon_model::{Diagnostic, Location};
use tenon_wit::{Kind, Module, System, classify};
use wasi_preview1_component_adapter_provider as provider;
use wasmparser::{ExternalKind, Parser, Payload, TypeRef, Validator, WasmFeatures};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::component;
use crate::contract::Contract;

/// How many names a diagnostic lists.
const LISTED_MAX: usize = 12;

/// Which adapter stands between a module of WASI preview 1 and WASI 0.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// For a program with `_start`: the component exports `wasi:cli/run`.
    Command,
    /// For a library, whose exports are called.
    Reactor,
    /// For a library that serves HTTP: without files, environment and arguments.
    Proxy,
}

impl Adapter {
    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Reactor => "reactor",
            Self::Proxy => "proxy",
        }
    }

    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Command => provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
            Self::Reactor => provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            Self::Proxy => provider::WASI_SNAPSHOT_PREVIEW1_PROXY_ADAPTER,
        }
    }
}

/// What to make a component of, and how.
#[derive(Clone, Debug)]
pub struct Componentize<'a> {
    /// What people call the module: its file.
    pub file: &'a str,
    /// The module.
    pub bytes: &'a [u8],
    /// A folder or file of contracts, when the module does not carry its world.
    pub wit: Option<PathBuf>,
    /// The world in it; needed when there are several.
    pub world: Option<String>,
    /// The adapter; without it, the one that fits the module.
    pub adapter: Option<Adapter>,
}

/// A module that was made a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Componentized {
    /// The component, validated.
    pub bytes: Vec<u8>,
    /// What the module was.
    pub module: Module,
    /// The adapter, if one was needed.
    pub adapter: Option<Adapter>,
    /// The world that was embedded, with its package, if one was.
    pub world: Option<String>,
    /// What the component imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// Makes a component of a core module.
///
/// # Errors
/// One diagnostic: the file is not a core module, or one for a host that there is no adapter for; the contracts cannot
/// be read; the module does not fit its world; something is missing that every component needs.
pub fn componentize(job: &Componentize<'_>) -> Result<Componentized, Diagnostic> {
    let module = require_module(job)?;
    let surface = Surface::of(job)?;
    let contract = match &job.wit {
        Some(path) => Some(Contract::load(path, job.world.as_deref())?),
        None if job.world.is_some() => {
            return Err(Diagnostic::new("wit-missing", "a world was named and no contracts were given")
                .at(Location::file(job.file))
                .mend("name the folder with the `.wit` files, too: `--wit DIR`"));
        }
        None => None,
    };
    let adapter = adapter_for(job, module, &surface)?;
    if contract.is_none() && !module.embedded_world && adapter != Some(Adapter::Command) {
        return Err(nothing_exported(job, &surface));
    }

    let mut core = job.bytes.to_vec();
    if let Some(contract) = &contract {
        embed_component_metadata(&mut core, &contract.resolve, contract.world, StringEncoding::UTF8, false)
            .map_err(|error| refused(job, "the world cannot be written into it", &format!("{error:#}")))?;
    }
    let bytes = encode(&core, adapter)
        .map_err(|said| explain(job, module, contract.as_ref(), &surface, adapter, &said))?;
    let names =
        component::Names::of(&bytes).map_err(|what| refused(job, "the result cannot be read", &what))?;
    if let Some(contract) = &contract {
        component::check(job.file, contract, &bytes)?;
    } else {
        Validator::new_with_features(WasmFeatures::all())
            .validate_all(&bytes)
            .map_err(|error| refused(job, "the result is not valid", &error.to_string()))?;
    }
    if names.exports.is_empty() {
        return Err(nothing_exported(job, &surface));
    }
    Ok(Componentized {
        bytes,
        module,
        adapter,
        world: contract.map(|contract| contract.qualified_world()),
        imports: names.imports,
        exports: names.exports,
    })
}

/// A core module that there is a way for.
fn require_module(job: &Componentize<'_>) -> Result<Module, Diagnostic> {
    match classify(job.bytes) {
        Kind::CoreModule(module) if module.can_be_wrapped() => Ok(module),
        Kind::Component => {
            Err(Diagnostic::new("already-component", format!("`{}` is a component already", job.file))
                .at(Location::file(job.file))
                .mend(format!("use it as it is: `tenon serve {}`, `tenon compose`", job.file)))
        }
        // What it is and what to do instead, in the words that every command has for it.
        _ => Err(match tenon_wit::require_component(job.file, job.bytes) {
            Err(diagnostic) => diagnostic,
            Ok(()) => refused(job, "it is not a core module", "a component"),
        }),
    }
}

/// What a module imports and exports.
#[derive(Default)]
struct Surface<'a> {
    imports: Vec<(&'a str, &'a str)>,
    functions: Vec<&'a str>,
    memories: Vec<&'a str>,
    has_memory: bool,
}

impl<'a> Surface<'a> {
    fn of(job: &Componentize<'a>) -> Result<Self, Diagnostic> {
        let invalid = |what: String| {
            Diagnostic::new("invalid-module", format!("`{}` is not a valid core module", job.file))
                .at(Location::file(job.file))
                .note("found", what)
                .mend("The file is damaged, or the toolchain that wrote it has a fault: build it again.")
        };
        Validator::new_with_features(WasmFeatures::all())
            .validate_all(job.bytes)
            .map_err(|error| invalid(format!("{} (at byte {:#x})", error.message(), error.offset())))?;
        Ok(Self::read(job.bytes))
    }

    /// What is in `bytes`, which are a valid module.
    fn read(bytes: &'a [u8]) -> Self {
        let mut surface = Self::default();
        for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
            match payload {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports().flatten() {
                        surface.has_memory |= matches!(import.ty, TypeRef::Memory(_));
                        surface.imports.push((import.module, import.name));
                    }
                }
                Payload::MemorySection(memories) => surface.has_memory |= memories.count() > 0,
                Payload::ExportSection(exports) => {
                    for export in exports.into_iter().flatten() {
                        match export.kind {
                            ExternalKind::Func => surface.functions.push(export.name),
                            ExternalKind::Memory => surface.memories.push(export.name),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        surface
    }
}

fn adapter_for(
    job: &Componentize<'_>,
    module: Module,
    surface: &Surface<'_>,
) -> Result<Option<Adapter>, Diagnostic> {
    if job.adapter == Some(Adapter::Command) && !module.command {
        return Err(Diagnostic::new(
            "wrong-adapter",
            format!("`{}` is not a command: it exports no `_start`", job.file),
        )
        .at(Location::file(job.file))
        .note("the module exports", list(&surface.functions))
        .mend("use `--adapter reactor`, or build it as a program"));
    }
    Ok(match (job.adapter, module) {
        (Some(adapter), _) => Some(adapter),
        (None, Module { system: System::Preview1, command: true, .. }) => Some(Adapter::Command),
        (None, Module { command: true, embedded_world: false, .. }) if job.wit.is_none() => {
            Some(Adapter::Command)
        }
        (None, Module { system: System::Preview1, .. }) => Some(Adapter::Reactor),
        _ => None,
    })
}

fn encode(core: &[u8], adapter: Option<Adapter>) -> Result<Vec<u8>, String> {
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true);
    encoder.module(core).map_err(|error| format!("{error:#}"))?;
    if let Some(adapter) = adapter {
        encoder.adapter(PREVIEW1, adapter.bytes()).map_err(|error| format!("{error:#}"))?;
    }
    encoder.encode().map_err(|error| format!("{error:#}"))
}

/// Why the encoder said no, in the order in which causes hide one another.
fn explain(
    job: &Componentize<'_>,
    module: Module,
    contract: Option<&Contract>,
    surface: &Surface<'_>,
    adapter: Option<Adapter>,
    said: &str,
) -> Diagnostic {
    let at = || Location::file(job.file);
    let unknown = unknown_imports(surface, contract, adapter);
    if !unknown.is_empty() && (contract.is_some() || !module.embedded_world || adapter.is_some()) {
        let from_adapter = unknown.iter().all(|import| import.starts_with(PREVIEW1));
        let mend = if from_adapter {
            "These are not part of WASI preview 1 as it was published: build the module for plain WASI preview 1, without threads and without \
             the extensions of one runtime."
        } else {
            "Import them through an interface of the world, link what implements them into the module, or build without them."
        };
        return Diagnostic::new(
            "unsatisfied-import",
            format!("`{}` imports what neither its world nor the adapter has", job.file),
        )
        .at(at())
        .note("imports", list(&unknown))
        .note("the tool says", said)
        .mend(mend);
    }
    if surface.has_memory && !surface.memories.contains(&"memory") {
        return Diagnostic::new("memory-not-exported", format!("`{}` does not export its memory", job.file))
            .at(at())
            .note("the module exports the memories", list(&surface.memories))
            .note("the tool says", said)
            .mend("Export it as `memory`: linkers do so unless told otherwise (`--export-memory`, not `--import-memory`).");
    }
    let missing = contract.map(|contract| missing_exports(contract, surface)).unwrap_or_default();
    if let Some(contract) = contract
        && !missing.is_empty()
    {
        return Diagnostic::new(
            "missing-export",
            format!("`{}` does not export what its world `{}` does", job.file, contract.qualified_world()),
        )
        .at(at())
        .note("missing, by the names the module would use", list(&missing))
        .note("the module exports", list(&surface.functions))
        .note("the tool says", said)
        .mend(
            "Generate bindings for the world in the module's language (`wit-bindgen`), or name the world it was written for with `--world`.",
        );
    }
    if contract.is_some()
        && ["cabi_realloc", "cabi_import_realloc"].iter().all(|name| !surface.functions.contains(name))
        && said.contains("realloc")
    {
        return Diagnostic::new("missing-export", format!("`{}` exports no allocator", job.file))
            .at(at())
            .note("missing, by the names the module would use", "cabi_realloc: (i32, i32, i32, i32) -> i32")
            .note("the tool says", said)
            .mend("Strings and lists are handed over in memory that the module allocates: generate bindings for the world, which bring it.");
    }
    refused(job, "it does not fit its world, or lacks what a component needs", said)
}

const PREVIEW1: &str = provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;

/// Imports that nothing will satisfy, as `module name`.
fn unknown_imports(
    surface: &Surface<'_>,
    contract: Option<&Contract>,
    adapter: Option<Adapter>,
) -> Vec<String> {
    let offered = adapter.map(|adapter| Surface::read(adapter.bytes()).functions).unwrap_or_default();
    let world = contract.map(Contract::imports).unwrap_or_default();
    let exports = contract.map(Contract::exports).unwrap_or_default();
    // The names that the Component Model's build-time conventions give a meaning ("BuildTargets.md").
    let known = |module: &str, name: &str| match module {
        PREVIEW1 => offered.contains(&name),
        "$root" => true,
        _ if module.starts_with("[export]") || module.starts_with("cm32p2") => true,
        _ => world
            .iter()
            .chain(&exports)
            .any(|import| import == module || tenon_wit::same_track(import, module)),
    };
    // Without a contract, the embedded world is the encoder's to read: only what is certain is named.
    let certain = |module: &str| contract.is_some() || module == PREVIEW1 || !module.contains(':');
    surface
        .imports
        .iter()
        .filter(|(module, name)| !known(module, name) && certain(module) && !name.starts_with('['))
        .map(|(module, name)| format!("{module} {name}"))
        .collect()
}

/// What the world exports and no export of the module is named for, in the older of the two conventions, which is the
/// one that generators write.
fn missing_exports(contract: &Contract, surface: &Surface<'_>) -> Vec<String> {
    let world = &contract.resolve.worlds[contract.world];
    let mut missing = Vec::new();
    for (key, item) in &world.exports {
        let name = contract.resolve.name_world_key(key);
        let expected: Vec<String> = match item {
            wit_parser::WorldItem::Function(function) => vec![function.name.clone()],
            wit_parser::WorldItem::Interface { id, .. } => contract.resolve.interfaces[*id]
                .functions
                .keys()
                .map(|function| format!("{name}#{function}"))
                .collect(),
            wit_parser::WorldItem::Type { .. } => continue,
        };
        missing.extend(expected.into_iter().filter(|expected| {
            !surface.functions.iter().any(|found| {
                // Async exports carry a prefix; the newer convention another one, and a bar.
                *found == expected
                    || found.strip_prefix("[async-lift]").is_some_and(|found| found == expected)
                    || found.strip_prefix("[async-lift-stackful]").is_some_and(|found| found == expected)
                    || found
                        .strip_prefix("cm32p2|")
                        .is_some_and(|found| found.replacen('|', "#", 1) == *expected)
            })
        }));
    }
    missing
}

fn nothing_exported(job: &Componentize<'_>, surface: &Surface<'_>) -> Diagnostic {
    Diagnostic::new("nothing-exported", format!("`{}` would be a component that exports nothing", job.file))
        .at(Location::file(job.file))
        .note("the module exports, without types that a component has", list(&surface.functions))
        .mend("Say which world it was written for: `--wit DIR --world NAME`.")
}

fn refused(job: &Componentize<'_>, what: &str, said: &str) -> Diagnostic {
    Diagnostic::new("not-componentized", format!("`{}` cannot be made a component: {what}", job.file))
        .at(Location::file(job.file))
        .note("the tool says", said)
        .mend("Read what the tool says; build the module again with bindings generated from the same contracts.")
}

fn list<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let mut lines: Vec<String> = names.iter().take(LISTED_MAX).map(|name| name.as_ref().to_owned()).collect();
    if names.len() > LISTED_MAX {
        lines.push(format!("and {} more", names.len() - LISTED_MAX));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIT: &str = "package a:b; interface text { upper: func(text: string) -> string; } \
                       world plain { export add: func(a: u32, b: u32) -> u32; } \
                       world wants { import log: func(); export add: func(a: u32, b: u32) -> u32; } \
                       world texts { export text; }";

    fn run(text: &str, world: Option<&str>, adapter: Option<Adapter>) -> Result<Componentized, Diagnostic> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.wit"), WIT).unwrap();
        let bytes = wat::parse_str(text).unwrap();
        componentize(&Componentize {
            file: "m.wasm",
            bytes: &bytes,
            wit: world.map(|_| folder.path().to_owned()),
            world: world.map(str::to_owned),
            adapter,
        })
    }

    fn refusal(text: &str, world: Option<&str>, adapter: Option<Adapter>) -> (&'static str, String) {
        let diagnostic = run(text, world, adapter).unwrap_err();
        assert!(diagnostic.mend.is_some(), "{diagnostic}");
        (diagnostic.code, diagnostic.to_string())
    }

    const ADD: &str =
        r#"(func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))"#;
    const WRITE: &str =
        r#"(import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))"#;
    const START: &str = r#"(func (export "_start") (drop (call $w (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))))"#;

    #[test]
    fn a_command_of_preview_1_becomes_a_component_that_runs() {
        let made =
            run(&format!(r#"(module {WRITE} (memory (export "memory") 1) {START})"#), None, None).unwrap();
        assert_eq!(made.adapter, Some(Adapter::Command));
        assert!(made.exports.iter().any(|name| name.starts_with("wasi:cli/run@0.2.")), "{:?}", made.exports);
        assert!(
            made.imports.iter().any(|name| name.starts_with("wasi:cli/stdout@0.2.")),
            "{:?}",
            made.imports
        );
        assert_eq!(tenon_wit::require_component("m.wasm", &made.bytes), Ok(()));
        assert_eq!(tenon_wit::require_released_wasi("m.wasm", &made.bytes), Ok(()));
    }

    #[test]
    fn a_bare_module_becomes_a_component_of_its_world() {
        let made = run(&format!("(module {ADD})"), Some("plain"), None).unwrap();
        assert_eq!((made.adapter, made.imports.len()), (None, 0));
        assert_eq!(made.exports, ["add"]);
        assert_eq!(made.world.as_deref(), Some("a:b/plain"));
    }

    #[test]
    fn a_reactor_of_preview_1_gets_the_adapter_that_is_asked_for_or_its_own() {
        let module = format!(
            r#"(module {WRITE} (memory (export "memory") 1) {ADD}
               (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 16))
               (func (export "unused") (drop (call $w (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))))"#
        );
        assert_eq!(run(&module, Some("plain"), None).unwrap().adapter, Some(Adapter::Reactor));
        let proxy = run(&module, Some("plain"), Some(Adapter::Proxy)).unwrap();
        assert!(
            !proxy.imports.iter().any(|name| name.starts_with("wasi:filesystem/")),
            "{:?}",
            proxy.imports
        );
    }

    #[test]
    fn a_module_with_its_world_inside_needs_no_contracts() {
        let mut module = wat::parse_str(format!("(module {ADD})")).unwrap();
        let mut resolve = wit_parser::Resolve::default();
        let package = resolve.push_str("a.wit", WIT).unwrap();
        let world = resolve.select_world(&[package], Some("plain")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
        let made = componentize(&Componentize {
            file: "m.wasm",
            bytes: &module,
            wit: None,
            world: None,
            adapter: None,
        })
        .unwrap();
        assert!(made.module.embedded_world);
        assert_eq!(made.exports, ["add"]);
    }

    #[test]
    fn what_would_export_nothing_is_refused() {
        assert_eq!(refusal(&format!("(module {ADD})"), None, None).0, "nothing-exported");
        let (code, said) =
            refusal(&format!(r#"(module {WRITE} (memory (export "memory") 1) {ADD})"#), None, None);
        assert_eq!(code, "nothing-exported");
        assert!(said.contains("add") && said.contains("--wit DIR --world NAME"), "{said}");
    }

    #[test]
    fn what_the_world_exports_and_the_module_does_not_is_named() {
        let (code, said) = refusal(r#"(module (func (export "sum")))"#, Some("plain"), None);
        assert_eq!(code, "missing-export");
        assert!(said.contains("a:b/plain") && said.contains("add") && said.contains("sum"), "{said}");
        let (code, said) = refusal(r#"(module (memory (export "memory") 1))"#, Some("texts"), None);
        assert_eq!(code, "missing-export");
        assert!(said.contains("a:b/text#upper"), "{said}");
        let (code, said) = refusal(
            r#"(module (memory (export "memory") 1)
                 (func (export "a:b/text#upper") (param i32 i32) (result i32) unreachable))"#,
            Some("texts"),
            None,
        );
        assert_eq!(code, "missing-export");
        assert!(said.contains("cabi_realloc"), "{said}");
    }

    #[test]
    fn imports_that_nothing_satisfies_are_named() {
        let (code, said) =
            refusal(&format!(r#"(module (import "env" "hook" (func)) {ADD})"#), Some("plain"), None);
        assert_eq!(code, "unsatisfied-import");
        assert!(said.contains("env hook"), "{said}");
        let (code, said) = refusal(
            &format!(
                r#"(module (import "wasi_snapshot_preview1" "sock_made_up" (func)) (memory (export "memory") 1) {ADD})"#
            ),
            Some("plain"),
            None,
        );
        assert_eq!(code, "unsatisfied-import");
        assert!(said.contains("sock_made_up") && said.contains("not part of WASI preview 1"), "{said}");
        assert!(
            run(&format!(r#"(module (import "$root" "log" (func)) {ADD})"#), Some("wants"), None).is_ok()
        );
    }

    #[test]
    fn a_memory_that_is_kept_to_itself_is_named() {
        let (code, _) = refusal(&format!("(module {WRITE} (memory 1) {START})"), None, None);
        assert_eq!(code, "memory-not-exported");
    }

    #[test]
    fn what_is_no_core_module_is_refused_in_the_words_of_every_command() {
        assert_eq!(refusal("(component)", None, None).0, "already-component");
        assert_eq!(refusal(r#"(module (import "wasi_unstable" "a" (func)))"#, None, None).0, "core-module");
        let job = |bytes| Componentize { file: "m", bytes, wit: None, world: None, adapter: None };
        assert_eq!(componentize(&job(b"#!/bin/sh")).unwrap_err().code, "not-wasm");
        assert_eq!(componentize(&job(b"\0asm\x01\0\0\0\x01\xff")).unwrap_err().code, "invalid-module");
        assert_eq!(
            refusal(&format!("(module {ADD})"), Some("plain"), Some(Adapter::Command)).0,
            "wrong-adapter"
        );
        assert_eq!(refusal(&format!("(module {ADD})"), Some("nowhere"), None).0, "world-unknown");
    }

    #[test]
    fn a_type_that_differs_from_the_worlds_is_refused() {
        let (code, said) = refusal(r#"(module (func (export "add") (param i32)))"#, Some("plain"), None);
        assert_eq!(code, "not-componentized");
        assert!(said.contains("add"), "{said}");
    }
}
