//! Programs that the tasks need and that come from the package registry, at exact versions, in a folder of the
//! project's own.

use std::env::consts::ARCH;
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
    match unpack(&Cmd::new("apt-get"), &root, &REDIS_PACKAGES, REDIS_FETCH_MAX) {
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

/// Fetches Debian's packages and unpacks them into `root`.
fn unpack(apt: &Cmd, root: &Path, packages: &[&str], at_most: Duration) -> Result<()> {
    let folder = root.join("packages");
    fs::create_dir_all(&folder).map_err(|error| Failure::file("make", &folder, &error))?;
    let fetch = apt.clone().args(["download", "--quiet"]).args(packages.iter().copied()).cwd(&folder);
    fetch.run_at_most(at_most)?;
    let listing = fs::read_dir(&folder).map_err(|error| Failure::file("read", &folder, &error))?;
    for package in listing.filter_map(std::result::Result::ok) {
        Cmd::new("dpkg").args(["--extract"]).arg(package.path()).arg(root).run()?;
    }
    fs::remove_dir_all(&folder).map_err(|error| Failure::file("remove", &folder, &error))
}

/// Debian's browser without windows, and what drives it. That asks for the browser with windows, and needs no more than
/// this one.
const BROWSER: &str = "chromium-headless-shell";
const BROWSER_DRIVER: &str = "chromium-driver";
/// How long fetching them may take: a hundred megabytes.
const BROWSER_FETCH_MAX: Duration = Duration::from_secs(180);

/// A browser for the test of the node's page: the system's, or Debian's packages unpacked into the folder of the tools, as
/// those of Redis. Where neither is to be had the test says that it is skipped.
pub(crate) fn complete_browser(workspace: &Workspace) -> Outcome {
    if has_browser(workspace) {
        return Outcome::Skipped("there already".into());
    }
    let root = browser_root(workspace);
    let unpacked = unpack_browser(&root);
    if unpacked.is_ok() && has_browser(workspace) {
        return Outcome::Said("Debian's chromium, unpacked".into());
    }
    // Nothing stays that the test would take for a browser.
    let _there_is_none = fs::remove_dir_all(&root);
    match unpacked {
        Ok(()) => {
            Outcome::Said("NOT TO BE HAD: what the packages have does not run; its test is skipped".into())
        }
        Err(failure) => {
            println!("{failure}");
            Outcome::Said("NOT TO BE HAD from Debian's packages: the test that needs it is skipped".into())
        }
    }
}

/// Whether there is a browser to drive, and it runs.
pub(crate) fn has_browser(workspace: &Workspace) -> bool {
    let root = browser_root(workspace);
    let libraries = root.join(format!("usr/lib/{ARCH}-linux-gnu"));
    let folders = [libraries.join("pulseaudio"), libraries, root.join(format!("lib/{ARCH}-linux-gnu"))];
    let folders = std::env::join_paths(folders).unwrap_or_default();
    let runs =
        |program: PathBuf| Cmd::new(program).args(["--version"]).env("LD_LIBRARY_PATH", &folders).succeeds();
    let unpacked = ["usr/bin/chromedriver", "usr/lib/chromium/chromium-headless-shell"];
    unpacked.iter().all(|program| runs(root.join(program)))
        || ["chromedriver", "chromium"].iter().all(|it| Cmd::new(*it).args(["--version"]).succeeds())
}

fn browser_root(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("browser")
}

fn unpack_browser(root: &Path) -> Result<()> {
    let apt = Cmd::new("apt-get");
    let Err(failure) = fetch_browser(&apt, root) else { return Ok(()) };
    println!("{failure}\n  once more, with new lists of packages:");
    let lists = root.join("lists");
    fs::create_dir_all(&lists).map_err(|error| Failure::file("make", &lists, &error))?;
    let own = ["Dir::State::Lists", "Dir::Cache"].map(|name| format!("{name}={}", lists.display()));
    let apt = own.into_iter().fold(apt, |apt, option| apt.arg("-o").arg(option));
    apt.clone().args(["update", "--quiet"]).run_at_most(BROWSER_FETCH_MAX)?;
    fetch_browser(&apt, root)?;
    fs::remove_dir_all(&lists).map_err(|error| Failure::file("remove", &lists, &error))
}

/// The browser's packages, with those of its libraries that the system does not have.
fn fetch_browser(apt: &Cmd, root: &Path) -> Result<()> {
    let install = apt.clone().args(["--simulate", "--no-install-recommends", "install", BROWSER]);
    let simulated = install.capture()?;
    let missing = simulated.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
    let mut packages = vec![BROWSER, BROWSER_DRIVER];
    packages.extend(missing.filter(|name| *name != BROWSER));
    unpack(apt, root, &packages, BROWSER_FETCH_MAX)
}
