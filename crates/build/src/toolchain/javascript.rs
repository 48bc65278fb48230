//! TypeScript and JavaScript: types from the contract, `tsc` to check them, `jco` to make the component.
//!
//! The engine inside is QuickJS with its WASI imports stubbed: the component imports what the world says and nothing
//! else. If that is something of WASI, nothing is stubbed. It knows no HTTP of WASI 0.2; for a world that exports that one, the engine is StarlingMonkey.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tenon_model::{Diagnostic, Location};
use wit_parser::{Function, FunctionKind};

use crate::bindings::files_below;
use crate::component::without_functions;
use crate::error::BuildError;
use crate::language::script_entry;
use crate::process::{CommandError, Program};
use crate::skeleton::{Exported, Plan, camel, exported, parameters, pascal, unwritten};
use crate::toolbox::Kit;
use crate::toolchain::{Lacks, Product, Site, Toolchain, write_if_changed};
use tenon_model::Language;

pub(super) struct JavaScript;

/// The engine that a component carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    QuickJs,
    StarlingMonkey,
}

/// A function that the world itself exports.
fn world_function(function: &Function, typed: bool) -> String {
    let name = camel(function.item_name());
    let parameters = word_list(&parameters(function), "");
    let word = if function.kind.is_async() { "async " } else { "" };
    let body = unwritten(function);
    if typed {
        format!(
            "export const {name}: World[{name:?}] = {word}({parameters}) => {{\n  throw new Error({body:?});\n}};\n"
        )
    } else {
        format!("export {word}function {name}({parameters}) {{\n  throw new Error({body:?});\n}}\n")
    }
}

/// An exported interface: an object of functions, and a class for each resource.
fn interface_object(name: &str, exported: &Exported<'_>, typed: bool) -> String {
    let ty = if typed { format!(": World[{name:?}]") } else { String::new() };
    let mut text = format!("export const {name}{ty} = {{\n");
    for function in &exported.functions {
        let word = if function.kind.is_async() { "async " } else { "" };
        let (name, parameters) = (camel(function.item_name()), word_list(&parameters(function), ""));
        text.push_str(&format!(
            "  {word}{name}({parameters}) {{\n    throw new Error({:?});\n  }},\n",
            unwritten(function)
        ));
    }
    for (resource, functions) in &exported.resources {
        // Methods of a class are not told their types by what it is assigned to.
        let ty = if typed { ": unknown" } else { "" };
        text.push_str(&format!("  {}: class {{\n", pascal(resource)));
        for function in functions {
            let name = match &function.kind {
                FunctionKind::Constructor(_) => "constructor".to_owned(),
                FunctionKind::Static(_) => format!("static {}", camel(function.item_name())),
                _ => camel(function.item_name()),
            };
            let result = if typed && name != "constructor" { ": never" } else { "" };
            let parameters = word_list(&parameters(function), ty);
            text.push_str(&format!(
                "    {name}({parameters}){result} {{\n      throw new Error({:?});\n    }}\n",
                unwritten(function)
            ));
        }
        text.push_str("  },\n");
    }
    text + "};\n"
}

/// Parameters in camel case; a word of the language gets a `_`.
fn word_list(names: &[String], ty: &str) -> String {
    const KEYWORDS: [&str; 44] = [
        "arguments",
        "await",
        "break",
        "case",
        "catch",
        "class",
        "const",
        "continue",
        "debugger",
        "default",
        "delete",
        "do",
        "else",
        "enum",
        "eval",
        "export",
        "extends",
        "false",
        "finally",
        "for",
        "function",
        "if",
        "implements",
        "import",
        "in",
        "instanceof",
        "interface",
        "let",
        "new",
        "null",
        "package",
        "private",
        "protected",
        "public",
        "return",
        "static",
        "super",
        "switch",
        "this",
        "throw",
        "true",
        "try",
        "typeof",
        "var",
    ];
    let word = |name: &String| {
        let name = camel(name);
        let mark = if KEYWORDS.contains(&name.as_str())
            || ["void", "while", "with", "yield"].contains(&name.as_str())
        {
            "_"
        } else {
            ""
        };
        format!("{name}{mark}{ty}")
    };
    names.iter().map(word).collect::<Vec<_>>().join(", ")
}

impl Engine {
    fn lacks(self) -> Lacks {
        // QuickJS answers asynchronous calls, and cannot make any.
        let async_exports = self == Self::StarlingMonkey;
        Lacks { async_exports, async_imports: true, streams: true, ..Lacks::default() }
    }
}

/// What the type checker is told; the component's own `tsconfig.json` may extend it. No library of the Web: the
/// engine has none, and what is not there should not type-check.
const TSCONFIG: &str = r#"{
  "compilerOptions": {
    "target": "ES2023",
    "lib": ["ES2023", "ESNext.Disposable"],
    "module": "ESNext",
    "moduleResolution": "Bundler",
    "types": [],
    "strict": true,
    "noUncheckedIndexedAccess": true,
    "allowJs": true,
    "noEmit": true,
    "skipLibCheck": true
  }
}
"#;

/// For a component that has no `tsconfig.json` of its own.
const TSCONFIG_CHECK: &str = r#"{
  "extends": "./tsconfig.json",
  "include": ["..", "types"],
  "exclude": ["../node_modules"]
}
"#;

/// The bundler must leave imports of the contract (`demo:auth/verify@1.0.0`) to the componentizer; but it has modules of its
/// own that look alike, `jco:node-error-globals` for whoever throws an `Error`.
const BUNDLE_CONFIG: &str = "export default { external: [/^(?!jco:|node:)[a-z][a-z0-9-]*:[a-z]/] };\n";

impl Toolchain for JavaScript {
    fn generates(&self) -> fn(&Path) -> bool {
        |_| false
    }

    fn recipe(&self) -> String {
        format!("javascript 7 {} {TSCONFIG}{TSCONFIG_CHECK}{BUNDLE_CONFIG}", Kit::JavaScript.pins())
    }

    fn skeleton(&self, plan: &Plan<'_>) -> Result<Vec<(String, String)>, Diagnostic> {
        engine_for(&plan.contract.exports()).lacks().refuse(plan.language, plan.contract)?;
        let typed = plan.language == Language::TypeScript;
        let mut text = String::new();
        if typed {
            text.push_str(&format!("type World = typeof import({:?});\n", plan.contract.qualified_world()));
        }
        for exported in exported(plan.contract) {
            if !text.is_empty() {
                text.push('\n');
            }
            match &exported.name {
                None => {
                    let functions = exported.functions.iter().map(|function| world_function(function, typed));
                    text.push_str(&functions.collect::<Vec<_>>().join("\n"));
                }
                Some(name) => text.push_str(&interface_object(&camel(name), &exported, typed)),
            }
        }
        Ok(vec![(if typed { "src/main.ts" } else { "src/main.js" }.to_owned(), text)])
    }

    fn bindings(&self, site: &Site<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        let engine = engine_for(&site.contract.exports());
        engine.lacks().refuse(site.language, site.contract)?;
        let folder = site.work.join("types");
        declare(site, &folder, engine)?;
        files_below(&folder)
    }

    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError> {
        let entry = script_entry(site.source)?;
        packages_are_there(site.source)?;
        let engine = engine_for(&site.contract.exports());
        engine.lacks().refuse(site.language, site.contract)?;
        let generated = site.source.join(".tenon");
        write_types(site, &entry, &generated, engine)?;
        let also =
            if site.language == Language::TypeScript { type_check(site, &generated)? } else { Vec::new() };
        let bytes = componentize(site, &entry, &generated, engine)?;
        // The QuickJS back end leaves its own initialisation exported.
        let world = site.contract.exports();
        let bytes =
            without_functions(&bytes, |name| world.iter().any(|export| export == name)).unwrap_or(bytes);
        let tools = match engine {
            Engine::QuickJs => vec![("jco", JCO_VERSION.to_owned()), ("QuickJS", String::new())],
            Engine::StarlingMonkey => {
                vec![("jco", JCO_VERSION.to_owned()), ("StarlingMonkey", String::new())]
            }
        };
        Ok(Product { bytes, also, tools })
    }
}

fn engine_for(exports: &[String]) -> Engine {
    if exports.iter().any(|export| export.starts_with("wasi:http/incoming-handler@0.2.")) {
        Engine::StarlingMonkey
    } else {
        Engine::QuickJs
    }
}

/// Makes sure that what `package.json` depends on has been installed.
fn packages_are_there(source: &Path) -> Result<(), Diagnostic> {
    let manifest = source.join("package.json");
    let package: serde_json::Value = std::fs::read_to_string(&manifest)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let needed = package["dependencies"].as_object().into_iter().flatten().map(|(name, _)| name);
    let missing: Vec<_> =
        needed.filter(|name| !source.join("node_modules").join(name).exists()).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Diagnostic::new("packages-missing", "npm packages that the component depends on are not installed")
        .at(Location::file(manifest.display().to_string()))
        .note("missing", missing.join(", "))
        .mend(format!("cd {} && npm install", source.display())))
}

fn node(site: &Site<'_>, script: &str) -> Program {
    let node = site.host.find("node").unwrap_or_else(|| "node".into());
    Program::new(node, site.source, site.host, |name| matches!(name, "NODE_OPTIONS" | "NODE_PATH"))
        .env("NO_COLOR", "1")
        .arg(site.toolbox.npm(script))
}

/// Its version, which is pinned.
const JCO_VERSION: &str = "1.35.0";
const JCO: &str = "@bytecodealliance/jco/dist/jco.js";
const TSC: &str = "typescript/bin/tsc";

/// Writes the declarations of the world into `.tenon/types`, for the type checker and for the author's editor.
fn write_types(site: &Site<'_>, entry: &Path, generated: &Path, engine: Engine) -> Result<(), BuildError> {
    let folder = generated.join("types");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(BuildError::io("remove", &folder))?;
    }
    write_if_changed(&generated.join(".gitignore"), b"*\n")?;
    write_if_changed(&generated.join("tsconfig.json"), TSCONFIG.as_bytes())?;
    declare(site, &folder, engine)?;
    let exports =
        exports_check(&site.contract.qualified_world(), entry.strip_prefix(site.source).unwrap_or(entry));
    write_if_changed(&folder.join("exports.ts"), exports.as_bytes())
}

/// Writes the declarations of the world into `folder`.
fn declare(site: &Site<'_>, folder: &Path, engine: Engine) -> Result<(), BuildError> {
    std::fs::create_dir_all(folder).map_err(BuildError::io("make the folder", folder))?;
    site.progress.step(site.component, "types from the contract");
    node(site, JCO)
        .args([OsStr::new("guest-types"), site.wit.as_os_str()])
        .args(["--quiet", "--world-name", site.contract.world_name(), "--out-dir"])
        .arg(folder)
        .run(site.component, site.progress)
        .map_err(site.compile_error(None))?;
    if engine == Engine::QuickJs { adapt_to_quickjs(folder) } else { Ok(()) }
}

/// A module that type-checks when the component exports what its world does.
fn exports_check(world: &str, entry: &Path) -> String {
    let entry = entry.with_extension("").display().to_string();
    format!(
        "// What the component exports must fit its world.\n\
         import * as component from {:?};\n\
         component satisfies typeof import({world:?});\n",
        format!("../../{entry}")
    )
}

/// The declarations are those of the other engine. QuickJS has numbers for the 64-bit integers, and `null` for an
/// option that is none.
fn adapt_to_quickjs(folder: &Path) -> Result<(), BuildError> {
    for entry in std::fs::read_dir(folder).map_err(BuildError::io("read", folder))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            adapt_to_quickjs(&path)?;
        } else {
            let text = std::fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
            std::fs::write(&path, quickjs_declarations(&text)).map_err(BuildError::io("write", &path))?;
        }
    }
    Ok(())
}

fn quickjs_declarations(text: &str) -> String {
    let adapt = |line: &str| {
        if line.trim_start().starts_with(['*', '/']) {
            return line.to_owned();
        }
        let line = replace_word(&replace_word(line, "bigint", "number"), "undefined", "null");
        // A field that is an option: `body?: Uint8Array,`.
        match (line.split_once("?: "), line.strip_suffix(',')) {
            (Some((field, _)), Some(whole)) if !field.contains('(') => {
                let value = &whole[field.len() + 3..];
                format!("{field}: {value} | null,")
            }
            _ => line,
        }
    };
    text.lines().map(adapt).fold(String::with_capacity(text.len()), |text, line| text + &line + "\n")
}

fn replace_word(line: &str, word: &str, with: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut replaced = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        replaced.push_str(before);
        let whole = !before.ends_with(is_part) && !after.starts_with(is_part);
        replaced.push_str(if whole { with } else { word });
        rest = after;
    }
    replaced + rest
}

/// Type-checks the component and returns the files outside its folder that it is made of.
fn type_check(site: &Site<'_>, generated: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let own = site.source.join("tsconfig.json");
    let config = if own.is_file() {
        own
    } else {
        let check = generated.join("tsconfig.check.json");
        write_if_changed(&check, TSCONFIG_CHECK.as_bytes())?;
        check
    };
    site.progress.step(site.component, "tsc --noEmit");
    let command = || node(site, TSC).args(["--noEmit", "--pretty", "false", "--project"]).arg(&config);
    // The list of files comes on the standard output, where the errors come too: an error is asked for again alone.
    match command().arg("--listFiles").stdout_is_data().run(site.component, site.progress) {
        Ok(list) => Ok(list
            .lines()
            .map(PathBuf::from)
            .filter(|file| {
                file.is_absolute() && !file.starts_with(site.source) && !file.starts_with(site.toolbox.root())
            })
            .filter(|file| !file.components().any(|part| part.as_os_str() == "node_modules"))
            .collect()),
        Err(CommandError::Failed { .. }) => {
            command().run(site.component, site.progress).map(|_| Vec::new()).map_err(site.compile_error(None))
        }
        Err(error) => Err(site.compile_error(None)(error)),
    }
}

fn componentize(
    site: &Site<'_>,
    entry: &Path,
    generated: &Path,
    engine: Engine,
) -> Result<Vec<u8>, BuildError> {
    let config = generated.join("bundle.config.mjs");
    write_if_changed(&config, BUNDLE_CONFIG.as_bytes())?;
    let output = generated.join(format!("{}.wasm", site.component));
    site.progress.step(site.component, "jco componentize");
    let program = node(site, JCO)
        .arg("componentize")
        .arg(entry)
        .arg("--wit")
        .arg(site.wit)
        .args(["--world-name", &site.contract.qualified_world(), "--bundle", "--bundle-config"])
        .arg(&config)
        .arg("--out")
        .arg(&output);
    let program = match engine {
        Engine::QuickJs => {
            let program = program.args(["--backend", "qjs"]);
            // The stubs stand in for all of WASI, also for what the world imports: calling that would trap.
            let stubbed = !site.contract.imports_wasi();
            let program = if stubbed { program.arg("--backend-qjs-stub-wasi") } else { program };
            // Without what asynchronous functions need, the others are faster.
            if site.contract.has_async() { program } else { program.arg("--backend-qjs-disable-async") }
        }
        Engine::StarlingMonkey => program.args(["--disable", "stdio"]),
    };
    program.run(site.component, site.progress).map_err(site.compile_error(None))?;
    let bytes = std::fs::read(&output).map_err(BuildError::io("read", &output))?;
    std::fs::remove_file(&output).map_err(BuildError::io("remove", &output))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_say_what_quickjs_does() {
        for (declared, adapted) in [
            ("  * a bigint, or undefined", "  * a bigint, or undefined"),
            ("    bigintAt: [bigint, bigint],", "    bigintAt: [number, number],"),
            (
                "  export function f(a: string): Route | undefined;",
                "  export function f(a: string): Route | null;",
            ),
            ("    body?: Uint8Array,", "    body: Uint8Array | null,"),
        ] {
            assert_eq!(quickjs_declarations(declared), format!("{adapted}\n"));
        }
    }

    #[test]
    fn packages_have_to_be_installed() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(root.path().join(name), text).unwrap();
        write("package.json", r#"{"dependencies":{"left":"1"}}"#);
        assert_eq!(packages_are_there(root.path()).unwrap_err().code, "packages-missing");
        std::fs::create_dir_all(root.path().join("node_modules/left")).unwrap();
        assert_eq!(packages_are_there(root.path()), Ok(()));
    }
}
