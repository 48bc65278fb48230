//! Programs that the tasks need and that come from the package registry, at exact versions, in a folder of the
//! project's own.

use std::fs;
use std::path::PathBuf;

use crate::command::Cmd;
use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

/// A program to install with cargo.
pub(crate) struct Tool {
    package: &'static str,
    version: &'static str,
    binary: &'static str,
    /// Options of `cargo install`, and variables of its environment.
    options: &'static [&'static str],
    profile: &'static [(&'static str, &'static str)],
}

/// Checks licences, bans, sources and advisories. It is run, not measured: built for a quick build.
pub(crate) const CARGO_DENY: Tool = Tool {
    package: "cargo-deny",
    version: "0.20.2",
    binary: "cargo-deny",
    options: &[],
    profile: &[
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ],
};

/// The peer that Tenon is measured against: as its authors release it.
pub(crate) const WASMTIME: Tool =
    Tool { package: "wasmtime-cli", version: "48.0.8", binary: "wasmtime", options: &[], profile: &[] };

/// The load generator. Without its default feature, TLS, it does not compile.
pub(crate) const OHA: Tool = Tool {
    package: "oha",
    version: "1.16.0",
    binary: "oha",
    options: &[],
    profile: &[("CARGO_PROFILE_RELEASE_LTO", "off")],
};

impl Tool {
    /// Where the program is, once installed.
    pub(crate) fn path(&self, workspace: &Workspace) -> PathBuf {
        workspace.tools().join("bin").join(self.binary)
    }

    /// Name and version, for reports.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.package, self.version)
    }

    /// Whether exactly this version is there.
    fn is_installed(&self, workspace: &Workspace) -> bool {
        let installed = fs::read_to_string(workspace.tools().join(".crates.toml")).unwrap_or_default();
        installed.contains(&format!("\"{} {} (", self.package, self.version))
            && self.path(workspace).is_file()
    }

    /// Installs the program unless it is there; says whether it had to.
    pub(crate) fn install(&self, workspace: &Workspace) -> Result<bool> {
        if self.is_installed(workspace) {
            return Ok(false);
        }
        // One folder for all of them, so that what two share is built once; removed when done.
        let target = workspace.target.join("tools");
        let mut install = workspace
            .cargo(["install", self.package, "--version", self.version, "--locked"])
            .args(self.options.iter().copied())
            .arg("--root")
            .arg(workspace.tools())
            .arg("--target-dir")
            .arg(&target);
        for (name, value) in self.profile {
            install = install.env(name, *value);
        }
        install.run()?;
        fs::remove_dir_all(&target).map_err(|error| Failure::file("remove", &target, &error))?;
        Ok(true)
    }

    /// The program, ready for arguments.
    pub(crate) fn command(&self, workspace: &Workspace) -> Cmd {
        Cmd::new(self.path(workspace)).shown_as(self.binary)
    }
}

/// The targets of guests: components, and the modules that are made components of.
const RUST_TARGETS: [&str; 3] = ["wasm32-wasip2", "wasm32-wasip1", "wasm32-unknown-unknown"];

/// Whether the Rust standard library for a target is there.
fn has_target(workspace: &Workspace, target: &str) -> Result<bool> {
    let sysroot = Cmd::new("rustc").args(["--print", "sysroot"]).cwd(&workspace.root).capture()?;
    Ok(PathBuf::from(sysroot.trim()).join("lib/rustlib").join(target).join("lib").is_dir())
}

/// Adds what of Rust itself is missing: the target of the guests, the formatter and the linter.
pub(crate) fn complete_rust(workspace: &Workspace) -> Result<Vec<&'static str>> {
    let mut added = Vec::new();
    for target in RUST_TARGETS {
        if !has_target(workspace, target)? {
            Cmd::new("rustup").args(["target", "add", target]).cwd(&workspace.root).run()?;
            added.push(target);
        }
    }
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !workspace.cargo([command, "--version"]).succeeds() {
            Cmd::new("rustup").args(["component", "add", component]).cwd(&workspace.root).run()?;
            added.push(component);
        }
    }
    Ok(added)
}
