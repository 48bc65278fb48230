//! Python: `componentize-py`, which puts CPython and the author's modules into a component and starts it once, at
//! build time.

use std::path::{Path, PathBuf};

use tenon_model::{Diagnostic, Location};

use crate::error::BuildError;
use crate::process::Program;
use crate::toolbox::Kit;
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
        format!("python 1 {}", Kit::Python.pins())
    }

    fn build(&self, site: &Site<'_>) -> Result<Product, BuildError> {
        let folders = module_folders(site.source)?;
        let output = site.work.join(format!("{}.py.wasm", site.component));
        let python = site.host.find("python3").unwrap_or_else(|| "python3".into());
        site.progress.step(site.component, "componentize-py");
        let mut program = Program::new(python, site.source, site.host, |name| name.starts_with("PYTHON"))
            .env("PYTHONPATH", site.toolbox.python())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            // Without it, packages that happen to be installed on the machine would be found.
            .env("VIRTUAL_ENV", site.toolbox.python())
            .env("RUST_BACKTRACE", "0")
            .args(["-c", "import sys; from componentize_py import script; sys.exit(script())"])
            .arg("--wit-path")
            .arg(site.wit)
            .args(["--world", &site.contract.qualified_world(), "componentize"]);
        // Without WASI, unless the contract asks for it: what Python's library imports would be all of it.
        if !site.contract.imports().iter().any(|import| import.starts_with("wasi:")) {
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
        Ok(Product { bytes, also: Vec::new() })
    }
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
