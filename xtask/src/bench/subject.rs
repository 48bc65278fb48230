//! The servers that are measured, and how each is started.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Run;
use super::guests::Guests;
use super::machine::on_core;
use crate::command::{Cmd, Server};
use crate::failure::{Failure, Result};
use crate::http::Request;
use crate::tools;
use crate::workspace::Workspace;

/// How long a server may take to its first byte.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(60);
/// How long to wait before trying again to connect to a server that does not listen yet: this bounds how exactly
/// the first byte is timed.
const RETRY: Duration = Duration::from_micros(100);

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// HTTP without a sandbox.
    Floor,
    /// This project.
    Tenon,
    /// The peer.
    Peer,
}

/// One server in one configuration.
pub(super) struct Subject {
    /// A stable name for programs.
    pub(super) id: &'static str,
    /// A name for people.
    pub(super) name: &'static str,
    /// Whose it is.
    pub(super) side: Side,
    /// What is asked for.
    pub(super) path: &'static str,
    command: Cmd,
    /// The option that the address follows, if it is not the last argument.
    listen: Option<&'static str>,
}

/// All of them, in the order they take turns in.
pub(super) fn all(workspace: &Workspace, guests: &Guests, composed: Option<&Path>) -> Vec<Subject> {
    let tenon = |component: &Path| workspace.run_tenon(["serve", "--quiet"]).arg(component);
    let peer = |artifact: &Path| peer(workspace, artifact);
    let subject = |id, name, side, command, listen| Subject { id, name, side, path: "/", command, listen };
    let mut all = vec![
        subject("floor", "hyper, no sandbox", Side::Floor, Cmd::new(&guests.floor), None),
        subject(
            "tenon-plain",
            "Tenon, plain handler, fresh",
            Side::Tenon,
            tenon(&guests.plain),
            Some("--listen"),
        ),
        subject(
            "tenon-http",
            "Tenon, wasi:http 0.2, fresh",
            Side::Tenon,
            tenon(&guests.guarded.http),
            Some("--listen"),
        ),
        subject(
            "peer-http",
            "peer, wasi:http 0.2, fresh",
            Side::Peer,
            peer(&guests.http_peer),
            Some("--addr"),
        ),
        subject(
            "peer-http-reused",
            "peer, wasi:http 0.2, reused 128 times",
            Side::Peer,
            peer(&guests.http_peer).args(["--max-instance-reuse-count", "128"]),
            Some("--addr"),
        ),
        subject(
            "tenon-service",
            "Tenon, wasi:http 0.3, fresh",
            Side::Tenon,
            tenon(&guests.service),
            Some("--listen"),
        ),
        subject(
            "peer-service",
            "peer, wasi:http 0.3, fresh",
            Side::Peer,
            peer(&guests.service_peer).args(["--max-instance-reuse-count", "1"]),
            Some("--addr"),
        ),
        subject(
            "peer-service-reused",
            "peer, wasi:http 0.3, reused (its default)",
            Side::Peer,
            peer(&guests.service_peer),
            Some("--addr"),
        ),
    ];
    if let Some(composed) = composed {
        let command = tenon(composed);
        let name = "Tenon, storefront: Rust, Go, TypeScript, fresh";
        let storefront = subject("tenon-storefront", name, Side::Tenon, command, Some("--listen"));
        all.push(Subject { path: "/products", ..storefront });
    }
    all
}

/// The peer, serving an artifact that it has compiled ahead of time.
pub(super) fn peer(workspace: &Workspace, artifact: &Path) -> Cmd {
    tools::WASMTIME.command(workspace).args(["serve", "--allow-precompiled", "-Scli"]).arg(artifact)
}

impl Subject {
    /// Starts it on a core and waits for its first answer, which must be a 200. Returns how long the first byte of
    /// that took, from before the process existed.
    pub(super) fn start(&self, core: usize, logs: &Path) -> Result<(Server, SocketAddr, Duration)> {
        let log = logs.join(format!("{}.log", self.id));
        start(self.command.clone().args(self.listen), self.path, core, &log)
    }
}

fn start(command: Cmd, path: &str, core: usize, log: &Path) -> Result<(Server, SocketAddr, Duration)> {
    let address = free_address()?;
    let command = command.arg(address.to_string()).log_to(log);
    let mut server = on_core(core, || command.start())?;
    let first_byte = first_byte(&mut server, address, path).map_err(|failure| said(&failure, log))?;
    Ok((server, address, first_byte))
}

/// Starts any server that takes its address as the last argument.
pub(super) fn serve(command: Cmd, run: &Run<'_>, name: &str) -> Result<(Server, SocketAddr)> {
    let log = run.logs.join(format!("{name}.log"));
    let (server, address, _) = start(command, "/", run.cores.server, &log)?;
    Ok((server, address))
}

/// The failure of a server, with the last thing it said.
pub(super) fn said(failure: &Failure, log: &Path) -> Failure {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    match log.lines().rfind(|line| !line.trim().is_empty()) {
        Some(last) => Failure::new(format!("{}; the last thing it said: {}", failure.what(), last.trim())),
        None => Failure::new(failure.what()),
    }
}

/// An address that nobody listens on now.
pub(super) fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| Failure::new(format!("no free port: {error}")))
}

/// Asks as soon as the server listens; the time from its start to the first byte of the answer.
pub(super) fn first_byte(server: &mut Server, address: SocketAddr, path: &str) -> Result<Duration> {
    let failed = |error: std::io::Error| Failure::new(format!("the first request to {address}: {error}"));
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                server.check()?;
                if server.started.elapsed() > FIRST_BYTE_MAX {
                    return Err(Failure::new(format!("nothing listens on {address}")));
                }
                thread::sleep(RETRY);
            }
            Err(error) => return Err(failed(error)),
        }
    };
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(FIRST_BYTE_MAX)).map_err(failed)?;
    let request = Request { method: "GET", path, ..Request::default() };
    stream.write_all(&request.bytes(address)).map_err(failed)?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer[..1]).map_err(failed)?;
    let took = Instant::now() - server.started;
    stream.read_exact(&mut answer[1..]).map_err(failed)?;
    if &answer == b"HTTP/1.1 200" {
        return Ok(took);
    }
    let mut rest = String::new();
    let _shown_as_far_as_it_came = stream.read_to_string(&mut rest);
    Err(Failure::new(format!("the first answer is not a 200: {}{rest}", String::from_utf8_lossy(&answer))))
}
