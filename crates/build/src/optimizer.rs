//! Core modules made smaller or quicker by binaryen, within the component that a toolchain made.

use std::fs;

use tenon_model::{Diagnostic, Goal};
use wasm_encoder::{Component, RawSection};

use crate::component::sections;
use crate::error::BuildError;
use crate::process::Program;
use crate::toolbox::Kit;
use crate::toolchain::Site;

/// Section of a component that holds a core module (`Binary.md` of the Component Model).
const CORE_MODULE_SECTION: u8 = 1;
/// Section of a component that holds a component.
const COMPONENT_SECTION: u8 = 4;
/// Components nested deeper than this are not valid.
const DEPTH_MAX: usize = 100;
/// Smaller modules hold a table or a few calls: there is nothing to gain.
const MODULE_BYTES_MIN: usize = 1024;

/// What the toolchains use of WebAssembly, and every engine has; the optimiser may use it too.
const FEATURES: [&str; 10] = [
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-call-indirect-overlong",
    "--enable-exception-handling",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-simd",
];

fn flag(goal: Goal) -> &'static str {
    match goal {
        Goal::Size => "-Os",
        Goal::Speed => "-O3",
    }
}

/// What changes an optimised component besides its source.
pub(crate) fn optimizer_recipe(goal: Goal) -> String {
    format!("binaryen {} {} {FEATURES:?}", Kit::Binaryen.pins(), flag(goal))
}

/// The component with each of its core modules optimised.
pub(crate) fn optimize(site: &Site<'_>, component: &[u8], goal: Goal) -> Result<Vec<u8>, BuildError> {
    let mut optimizer = Optimizer { site, goal, modules: 0 };
    optimizer.component(component, 0)
}

struct Optimizer<'s> {
    site: &'s Site<'s>,
    goal: Goal,
    modules: usize,
}

impl Optimizer<'_> {
    fn component(&mut self, bytes: &[u8], depth: usize) -> Result<Vec<u8>, BuildError> {
        let sections = sections(bytes).filter(|_| depth <= DEPTH_MAX).ok_or_else(|| {
            Diagnostic::new(
                "invalid-component",
                format!("`{}` was made and cannot be read", self.site.component),
            )
        })?;
        let mut optimized = Component::new();
        for (id, _, content) in sections {
            let data = &bytes[content];
            let data = match id {
                CORE_MODULE_SECTION if data.len() >= MODULE_BYTES_MIN => &self.module(data)?,
                COMPONENT_SECTION => &self.component(data, depth + 1)?,
                _ => data,
            };
            optimized.section(&RawSection { id, data });
        }
        Ok(optimized.finish())
    }

    fn module(&mut self, bytes: &[u8]) -> Result<Vec<u8>, BuildError> {
        let Site { component, work, toolbox, host, progress, .. } = *self.site;
        if has_lines(bytes) {
            // The optimiser moves code, and its own account of where lines went is not to be relied on.
            progress.line(component, "a core module has debug information, and is not optimised");
            return Ok(bytes.to_vec());
        }
        self.modules += 1;
        let input = work.join(format!("{component}.{}.core.wasm", self.modules));
        let output = work.join(format!("{component}.{}.optimized.wasm", self.modules));
        fs::write(&input, bytes).map_err(BuildError::io("write", &input))?;
        progress.step(component, &format!("wasm-opt {}", flag(self.goal)));
        let node = host.find("node").unwrap_or_else(|| "node".into());
        let run = Program::new(node, work, host, leaks)
            .arg(toolbox.wasm_opt())
            .arg(flag(self.goal))
            .args(FEATURES)
            // Names of functions stay, for traps.
            .arg("-g")
            .arg(&input)
            .arg("-o")
            .arg(&output)
            .run(component, progress)
            .map_err(self.site.compile_error(None));
        let optimized = run.and_then(|_| fs::read(&output).map_err(BuildError::io("read", &output)));
        for file in [&input, &output] {
            let _ = fs::remove_file(file);
        }
        // A module that gains nothing stays what the compiler made.
        optimized.map(|optimized| if optimized.len() < bytes.len() { optimized } else { bytes.to_vec() })
    }
}

/// Variables that change what Node.js does.
fn leaks(name: &str) -> bool {
    matches!(name, "NODE_OPTIONS" | "NODE_PATH") || name.starts_with("BINARYEN_")
}

/// Whether a core module says which source line each piece of code is of.
fn has_lines(module: &[u8]) -> bool {
    wasmparser::Parser::new(0).parse_all(module).map_while(Result::ok).any(
        |payload| matches!(payload, wasmparser::Payload::CustomSection(section) if section.name() == ".debug_line"),
    )
}
