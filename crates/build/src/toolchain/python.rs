//! Python: `componentize-py`, which puts CPython and the author's modules into a component and starts it once, at
//! build time.

use std::path::{Path, PathBuf};

use tenon_model::{Diagnostic, Location};
use wit_parser::{Function, FunctionKind};

use crate::bindings::files_below;
use crate::error::BuildError;
use crate::process::Program;
use crate::skeleton::{Plan, exported, parameters, pascal, unwritten};
use crate::toolbox::{Kit, PYTHON_VERSION};
use crate::toolchain::{Product, Site, Toolchain};

pub(super) struct Python;

/// The module that a component begins with.
const ENTRY: &str = "app";

/// Folders of the author's modules, in the order in which Python looks, and one of modules that were installed
/// there (`pip install --target vendor`).
const MODULE_FOLDERS: [&str; 2] = ["src", "vendor"];

impl Toolchain for Python {
    fn generates(&self) -> fn(&Path) -> bool {
        |_| false
    }

    fn recipe(&self) -> String {
        format!("python 2 {}", Kit::Python.pins())
    }

    fn skeleton(&self, plan: &Plan<'_>) -> Result<Vec<(String, String)>, Diagnostic> {
        let mut app = String::from("import wit_world\nimport wit_world.exports\n");
        let mut files = Vec::new();
        for exported in exported(plan.contract) {
            let class = exported.name.as_deref().map_or_else(
                || "class WitWorld(wit_world.WitWorld):\n".to_owned(),
                |name| format!("class {0}(wit_world.exports.{0}):\n", pascal(name)),
            );
            let functions = exported.functions.iter().map(|function| method(function));
            let body: Vec<String> = functions.collect();
            if !body.is_empty() {
                app.push_str(&format!("\n\n{class}{}", body.join("\n")));
            }
            // A resource is a class in a module of the interface's name.
            if let (Some(name), false) = (&exported.name, exported.resources.is_empty()) {
                let module = snake(name);
                let mut text = format!("import wit_world.exports.{module}\n");
                for (resource, functions) in &exported.resources {
                    let methods: Vec<String> = functions.iter().map(|function| method(function)).collect();
                    let methods =
                        if methods.is_empty() { "    pass\n".to_owned() } else { methods.join("\n") };
                    text.push_str(&format!(
                        "\n\nclass {0}(wit_world.exports.{module}.{0}):\n{methods}",
                        pascal(resource)
                    ));
                }
                files.push((format!("{module}.py"), text));
            }
        }
        files.insert(0, (format!("{ENTRY}.py"), app));
        Ok(files)
    }

    fn bindings(&self, site: &Site<'_>) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
        let folder = site.work.join("bindings");
        componentize_py(site)
            .arg("--wit-path")
            .arg(site.wit)
            .args(["--world", &site.contract.qualified_world(), "bindings"])
            .arg(&folder)
            .run(site.component, site.progress)
            .map_err(site.compile_error(None))?;
        files_below(&folder)
    }

    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError> {
        let folders = module_folders(site.source)?;
        let output = site.work.join(format!("{}.py.wasm", site.component));
        site.progress.step(site.component, "componentize-py");
        let mut program = componentize_py(site).arg("--wit-path").arg(site.wit).args([
            "--world",
            &site.contract.qualified_world(),
            "componentize",
        ]);
        // Without WASI, unless the contract asks for it: what Python's library imports would be all of it.
        if !site.contract.imports_wasi() {
            program = program.arg("--stub-wasi");
        }
        for folder in folders {
            program = program.arg("--python-path").arg(folder);
        }
        program
            .arg("--output")
            .arg(&output)
            .arg(ENTRY)
            .run(site.component, site.progress)
            .map_err(site.compile_error(None))?;
        let bytes = std::fs::read(&output).map_err(BuildError::io("read", &output))?;
        std::fs::remove_file(&output).map_err(BuildError::io("remove", &output))?;
        Ok(Product {
            bytes: linked(site, bytes),
            also: Vec::new(),
            tools: vec![("componentize-py", PYTHON_VERSION.to_owned())],
        })
    }
}

/// The same with CPython, its libraries and what stands between them as one core module: one for each is five thousand entries in
/// a table for every instance.
fn linked(site: &Site<'_>, bytes: Vec<u8>) -> Vec<u8> {
    let Some(link) = site.link else { return bytes };
    site.progress.step(site.component, "link");
    match link(&bytes) {
        Ok(linked) => linked,
        Err(why) => {
            let said = format!("its core modules are not linked, and a sandbox takes longer to make: {why}");
            site.progress.line(site.component, &said);
            bytes
        }
    }
}

fn componentize_py(site: &Site<'_>) -> Program {
    let python = site.host.find("python3").unwrap_or_else(|| "python3".into());
    Program::new(python, site.source, site.host, |name| name.starts_with("PYTHON"))
        .env("PYTHONPATH", site.toolbox.python())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // Without it, packages that happen to be installed on the machine would be found.
        .env("VIRTUAL_ENV", site.toolbox.python())
        .env("RUST_BACKTRACE", "0")
        .args(["-c", "import sys; from componentize_py import script; sys.exit(script())"])
}

/// A method that is to be written.
fn method(function: &Function) -> String {
    let (decorator, name) = match &function.kind {
        FunctionKind::Constructor(_) => ("", "__init__".to_owned()),
        FunctionKind::Static(_) | FunctionKind::AsyncStatic(_) => {
            ("    @classmethod\n", snake(function.item_name()))
        }
        _ => ("", snake(function.item_name())),
    };
    let first = if decorator.is_empty() { "self" } else { "cls" };
    let parameters: String =
        parameters(function).iter().map(|parameter| format!(", {}", snake(parameter))).collect();
    let def = if function.kind.is_async() { "async def" } else { "def" };
    format!(
        "{decorator}    {def} {name}({first}{parameters}):\n        raise NotImplementedError({:?})\n",
        unwritten(function)
    )
}

/// A name of a contract in Python; a word of the language gets a `_`.
fn snake(name: &str) -> String {
    const KEYWORDS: [&str; 35] = [
        "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
        "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in",
        "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
    ];
    let name = name.to_lowercase().replace('-', "_");
    if KEYWORDS.contains(&name.as_str()) { name + "_" } else { name }
}

fn module_folders(source: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let file = format!("{ENTRY}.py");
    let folders: Vec<PathBuf> = std::iter::once(source.to_owned())
        .chain(MODULE_FOLDERS.iter().map(|name| source.join(name)))
        .filter(|folder| folder.is_dir())
        .collect();
    if folders.iter().any(|folder| folder.join(&file).is_file()) {
        return Ok(folders);
    }
    Err(Diagnostic::new(
        "entry-missing",
        format!("there is no `{file}`, which a component in Python begins with"),
    )
    .at(Location::file(source.display().to_string()))
    .mend(format!("write `{file}`, in the folder itself or in `src`")))
}
