//! Programs that the tasks need and that come from the package registry, at exact versions, in a folder of the
//! project's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Cmd;
use crate::failure::{Failure, Result};
use crate::steps::Outcome;
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

/// What Debian's `redis-server` needs that a small system does not have. Its other libraries belong to the base.
const REDIS_PACKAGES: [&str; 5] = ["redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"];
/// How long fetching them may take.
const REDIS_FETCH_MAX: Duration = Duration::from_secs(120);

/// A Redis server for the tests of what talks to one: the system's, or Debian's packages unpacked into the folder of
/// the tools, which needs no administrator. Where neither is to be had the tests that need it say that they are
/// skipped.
pub(crate) fn complete_redis(workspace: &Workspace) -> Outcome {
    let root = workspace.tools().join("redis");
    let program = root.join("usr/bin/redis-server");
    if program.is_file() || Cmd::new("redis-server").args(["--version"]).succeeds() {
        return Outcome::Skipped("there already".into());
    }
    match unpack_redis(&root) {
        Ok(()) if program.is_file() => Outcome::Said("Debian's redis-server, unpacked".into()),
        Ok(()) => {
            Outcome::Said("NOT TO BE HAD: the packages do not have the program; tests are skipped".into())
        }
        Err(failure) => {
            println!("{failure}");
            Outcome::Said("NOT TO BE HAD from Debian's packages: tests that need it are skipped".into())
        }
    }
}

fn unpack_redis(root: &Path) -> Result<()> {
    let packages = root.join("packages");
    fs::create_dir_all(&packages).map_err(|error| Failure::file("make", &packages, &error))?;
    let fetch = Cmd::new("apt-get").args(["download", "--quiet"]).args(REDIS_PACKAGES).cwd(&packages);
    fetch.run_at_most(REDIS_FETCH_MAX)?;
    let listing = fs::read_dir(&packages).map_err(|error| Failure::file("read", &packages, &error))?;
    for package in listing.filter_map(std::result::Result::ok) {
        Cmd::new("dpkg").args(["--extract"]).arg(package.path()).arg(root).run()?;
    }
    fs::remove_dir_all(&packages).map_err(|error| Failure::file("remove", &packages, &error))
}
