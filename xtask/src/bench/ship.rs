//! `cargo xtask ship`: the program that people are given, compiled for what it does most.
//!
//! Profile-guided: a first build counts how often it comes where, does what a node does, and a second one is compiled with
//! those counts. What that brings is in ARCHITECTURE.md.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::client::{self, Client};
use super::node::{Node, distinct, set_tenant};
use super::subject;
use crate::command::Cmd;
use crate::failure::{Failure, Result};
use crate::signals;
use crate::steps::{Outcome, Steps};
use crate::tools;
use crate::workspace::{Program, Workspace};

/// How long each server is asked, and over how many connections.
const ASKED: Duration = Duration::from_secs(8);
const CONNECTIONS: usize = 16;
/// How long what was built is asked, to see that it serves.
const TRIED: Duration = Duration::from_secs(1);
/// Apps of a node, of which few are in memory at a time.
const APPS: usize = 40;
const LOADED: &str = "10";

/// Counts, then builds with the counts.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    signals::listen()?;
    let counts = workspace.target.join("counts");
    let merged = counts.join("merged.profdata");
    let shipped = workspace.running(Program::Shipped);
    let counting = workspace.running(Program::Counting);
    let mut steps = Steps::new(5);
    let library = host_library(workspace)?;
    let target = library.parent().and_then(Path::file_name).unwrap_or_default();
    let mut guests = Vec::new();
    steps.run("set up", || {
        tools::complete_rust(workspace)?;
        Cmd::new("rustup").args(["component", "add", "llvm-tools"]).cwd(&workspace.root).run()?;
        guests = super::guests::of_each_kind(workspace)?.to_vec();
        Ok(Outcome::Done)
    })?;
    steps.run("build to count", || {
        let _nothing_there = fs::remove_dir_all(&counts);
        let flags = format!("-Cprofile-generate={}", counts.display());
        build(workspace, target, &[&flags], &counting.tenon()).map(|()| Outcome::Done)
    })?;
    steps.run("count", || {
        for guest in &guests {
            serve(&counting, guest, ASKED)?;
        }
        node(&counting, &guests[0])?;
        let raw = files(&counts)?;
        if raw.is_empty() {
            return Err(Failure::new(format!("nothing was counted: {} is empty", counts.display())));
        }
        Cmd::new(library.with_file_name("bin/llvm-profdata"))
            .args(["merge", "-o"])
            .arg(&merged)
            .args(raw)
            .run()?;
        Ok(Outcome::Done)
    })?;
    steps.run("build with the counts", || {
        // Of code that was never reached there are no counts: that is no reason to warn.
        let flags =
            [&format!("-Cprofile-use={}", merged.display()), "-Cllvm-args=-pgo-warn-missing-function=false"];
        build(workspace, target, &flags, &shipped.tenon()).map(|()| Outcome::Done)
    })?;
    steps.run("try", || {
        for guest in &guests {
            serve(&shipped, guest, TRIED)?;
        }
        Ok(Outcome::Said(shipped.tenon().display().to_string()))
    })?;
    steps.print_table("Steps:");
    Ok(ExitCode::SUCCESS)
}

/// The folder of the libraries of this machine's own target: `…/lib/rustlib/TARGET/lib`.
fn host_library(workspace: &Workspace) -> Result<PathBuf> {
    let library = Cmd::new("rustc").args(["--print", "target-libdir"]).cwd(&workspace.root).capture()?;
    Ok(PathBuf::from(library.trim()))
}

/// Builds the program with these flags, in a folder of its own, so that what is built for tests stays as it is.
fn build(workspace: &Workspace, target: &OsStr, flags: &[&str], to: &Path) -> Result<()> {
    let folder = workspace.target.join("guided");
    // With a target named, the flags are not those of build scripts and macros, which are built once for both.
    workspace
        .cargo(["build", "--release", "--locked", "--package", "tenon-cli", "--target"])
        .arg(target)
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .run()?;
    let built = folder.join(target).join("release/tenon");
    let into = to.parent().unwrap_or(to);
    fs::create_dir_all(into).map_err(|error| Failure::file("create", into, &error))?;
    fs::copy(&built, to).map_err(|error| Failure::file("copy", &built, &error)).map(drop)
}

/// Serves a component under load, for so long.
fn serve(counting: &Workspace, guest: &Path, asked: Duration) -> Result<()> {
    let address = subject::free_address()?;
    let mut server = counting
        .run_tenon(["serve", "--quiet", "--workers", "1"])
        .arg(guest)
        .arg("--listen")
        .arg(address.to_string())
        .start()?;
    subject::first_byte(&mut server, address, "/")?;
    client::load(address, "served.example", "/", CONNECTIONS, asked)?;
    server.stop().map(drop)
}

/// Deploys to a node, brings apps into memory and out of it, and asks them; some fail.
fn node(counting: &Workspace, guest: &Path) -> Result<()> {
    let data = counting.target.join("counts/node");
    let _nothing_there = fs::remove_dir_all(&data);
    let log = super::results_folder(counting)?.join("logs/ship.log");
    let node = Node::start(counting, None, &data, &["--loaded", LOADED], &log)?;
    let tenon = node.tenon(counting, &data);
    set_tenant(&tenon, "counted")?;
    let component = fs::read(guest).map_err(|error| Failure::file("read", guest, &error))?;
    for number in 0..APPS {
        signals::check()?;
        deploy(&tenon, &data.join("apps").join(number.to_string()), &component, number)?;
    }
    let mut client = Client::open(node.address)?;
    for _ in 0..5 {
        for number in 0..APPS {
            client.ask(&host(number), "/")?;
        }
    }
    client::load(node.address, &host(1), "/", CONNECTIONS, ASKED)?;
    // At the end: what they take of their tenant's quota would have the others refused, and refusals would be what is counted.
    for path in ["/bomb", "/spin"] {
        client.ask(&host(0), path)?;
    }
    node.stop()?;
    fs::remove_dir_all(&data).map_err(|error| Failure::file("remove", &data, &error))
}

fn host(number: usize) -> String {
    format!("app{number}.example")
}

/// One app with a digest of its own.
fn deploy(tenon: &Cmd, folder: &Path, component: &[u8], number: usize) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| Failure::file("create", folder, &error))?;
    let manifest = format!(
        "name = \"app{number}\"\n[deploy]\ntenant = \"counted\"\nroutes = [\"{}/*\"]\n[component.hello]\npath = \"hello.wasm\"\n[limits]\ncpu = \"200ms\"\n",
        host(number)
    );
    let component = distinct(component, number);
    for (name, content) in [("tenon.toml", manifest.as_bytes()), ("hello.wasm", &component)] {
        let file = folder.join(name);
        fs::write(&file, content).map_err(|error| Failure::file("write", &file, &error))?;
    }
    tenon.clone().arg("deploy").arg(folder).capture().map(drop)
}

/// What was counted, each process by itself.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).map_err(|error| Failure::file("read", folder, &error))?;
    let paths = listed.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "profraw")).collect())
}
