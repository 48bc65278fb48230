//! The measured components and the floor, built from source.

use std::path::{Path, PathBuf};

use crate::command::Cmd;
use crate::failure::Result;
use crate::tools;
use crate::workspace::Workspace;

/// What is measured without the peer.
pub(super) struct Guarded {
    /// `wasi:http` 0.2, Rust.
    pub(super) http: PathBuf,
    /// The same, importing what needs a grant.
    pub(super) reach: PathBuf,
    /// Tenon's request path, each of its guards off unless asked for.
    pub(super) server: PathBuf,
    /// Where that keeps what it has compiled.
    pub(super) artifacts: PathBuf,
}

/// The built files.
pub(super) struct Guests {
    /// What is measured without the peer.
    pub(super) guarded: Guarded,
    /// `wasi:http` 0.2, compiled ahead of time by the peer.
    pub(super) http_peer: PathBuf,
    /// The plain handler, Rust.
    pub(super) plain: PathBuf,
    /// `wasi:http` 0.3, Rust.
    pub(super) service: PathBuf,
    /// The same, compiled ahead of time by the peer.
    pub(super) service_peer: PathBuf,
    /// An HTTP server without a sandbox.
    pub(super) floor: PathBuf,
}

impl Guarded {
    /// Builds what is not built, and compiles it ahead of time.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        let http = guest(workspace, "hello-http", None)?;
        let reach = guest(workspace, "hello-http", Some("reach"))?;
        compile(workspace, &http);
        Ok(Self {
            http,
            reach,
            server: workspace.target.join("release/bench-guarded"),
            artifacts: workspace.target.join("bench/guarded"),
        })
    }
}

impl Guests {
    /// Builds what is not built, and compiles it ahead of time for both servers.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        let guarded = Guarded::build(workspace)?;
        let plain = guest(workspace, "hello-plain", None)?;
        let service = guest(workspace, "hello-service", None)?;
        compile(workspace, &plain);
        compile(workspace, &service);
        let target = workspace.target.join("bench/hyper-hello");
        cargo_build(workspace, "benches/hyper-hello").arg("--target-dir").arg(&target).run()?;
        Ok(Self {
            http_peer: peer_artifact(workspace, &guarded.http)?,
            service_peer: peer_artifact(workspace, &service)?,
            guarded,
            plain,
            service,
            floor: target.join("release/hyper-hello"),
        })
    }
}

/// Compiles for Tenon. What it cannot compile it will not serve either, and is then reported as not measured.
fn compile(workspace: &Workspace, component: &Path) {
    if let Err(failure) = workspace.run_tenon(["compile"]).arg(component).run() {
        println!("{failure}");
    }
}

/// One of each kind of handler: of WASI 0.2, plain, and of WASI 0.3.
pub(super) fn of_each_kind(workspace: &Workspace) -> Result<[PathBuf; 3]> {
    let guest = |name| guest(workspace, name, None);
    Ok([guest("hello-http")?, guest("hello-plain")?, guest("hello-service")?])
}

/// The first of them, what the peer makes of it where the peer is installed, and the floor.
pub(super) fn hello(workspace: &Workspace) -> Result<(PathBuf, Option<PathBuf>, PathBuf)> {
    let http = guest(workspace, "hello-http", None)?;
    let peer =
        tools::WASMTIME.path(workspace).is_file().then(|| peer_artifact(workspace, &http)).transpose()?;
    let target = workspace.target.join("bench/hyper-hello");
    cargo_build(workspace, "benches/hyper-hello").arg("--target-dir").arg(&target).run()?;
    Ok((http, peer, target.join("release/hyper-hello")))
}

fn cargo_build(workspace: &Workspace, folder: &str) -> Cmd {
    let manifest = workspace.root.join(folder).join("Cargo.toml");
    workspace.cargo(["build", "--release", "--locked", "--manifest-path"]).arg(manifest)
}

/// One guest, in a target folder of its own: guests of WASI 0.2 and 0.3 link different releases of the same runtime.
fn guest(workspace: &Workspace, name: &str, feature: Option<&str>) -> Result<PathBuf> {
    let target = workspace.target.join("bench").join(feature.unwrap_or(name));
    cargo_build(workspace, &format!("benches/guests/{name}"))
        .args(feature.map(|feature| ["--features", feature]).iter().flatten())
        .args(["--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .run()?;
    Ok(target.join("wasm32-wasip2/release").join(format!("{}.wasm", name.replace('-', "_"))))
}

fn peer_artifact(workspace: &Workspace, component: &Path) -> Result<PathBuf> {
    let artifact = component.with_extension("cwasm");
    tools::WASMTIME.command(workspace).arg("compile").arg(component).arg("-o").arg(&artifact).run()?;
    Ok(artifact)
}
