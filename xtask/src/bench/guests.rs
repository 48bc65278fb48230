//! The measured components and the floor, built from source.

use std::path::PathBuf;

use crate::command::Cmd;
use crate::failure::Result;
use crate::tools;
use crate::workspace::Workspace;

/// The built files.
pub(super) struct Guests {
    /// `wasi:http` 0.2, Rust.
    pub(super) http: PathBuf,
    /// The same, compiled ahead of time by the peer.
    pub(super) http_peer: PathBuf,
    /// The first one, importing what needs a grant.
    pub(super) reach: PathBuf,
    /// The plain handler, Rust.
    pub(super) plain: PathBuf,
    /// `wasi:http` 0.3, Rust.
    pub(super) service: PathBuf,
    /// The same, compiled ahead of time by the peer.
    pub(super) service_peer: PathBuf,
    /// An HTTP server without a sandbox.
    pub(super) floor: PathBuf,
    /// Tenon's request path, each of its guards off unless asked for.
    pub(super) guarded: PathBuf,
    /// Where that keeps what it has compiled.
    pub(super) artifacts: PathBuf,
}

impl Guests {
    /// Builds what is not built, and compiles it ahead of time for both servers.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        let http = guest(workspace, "hello-http", None)?;
        let reach = guest(workspace, "hello-http", Some("reach"))?;
        let plain = guest(workspace, "hello-plain", None)?;
        let service = guest(workspace, "hello-service", None)?;
        for component in [&http, &plain, &service] {
            // What Tenon cannot compile it will not serve either, and is then reported as not measured.
            if let Err(failure) = workspace.run_tenon("release", ["compile"]).arg(component).run() {
                println!("{failure}");
            }
        }
        let target = workspace.target.join("bench/hyper-hello");
        cargo_build(workspace, "benches/hyper-hello").arg("--target-dir").arg(&target).run()?;
        Ok(Self {
            http_peer: peer_artifact(workspace, &http)?,
            service_peer: peer_artifact(workspace, &service)?,
            http,
            plain,
            service,
            floor: target.join("release/hyper-hello"),
            guarded: workspace.target.join("release/bench-guarded"),
            artifacts: workspace.target.join("bench/guarded"),
            reach,
        })
    }
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

fn peer_artifact(workspace: &Workspace, component: &std::path::Path) -> Result<PathBuf> {
    let artifact = component.with_extension("cwasm");
    tools::WASMTIME.command(workspace).arg("compile").arg(component).arg("-o").arg(&artifact).run()?;
    Ok(artifact)
}
