//! A real Redis server, for the tests of what talks to one.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{DEADLINE, repository, until};

/// Where `cargo xtask test` unpacks Debian's packages.
const UNPACKED: &str = ".tools/redis";

/// A `redis-server` on a port of its own, with a folder of its own, that ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    address: SocketAddr,
    folder: TempDir,
    process: Child,
}

impl RedisServer {
    /// Starts a server. Where there is none to start it says so, for everybody to see, and the test is skipped:
    /// a machine without administrator may have no package of it.
    ///
    /// # Panics
    /// When there is a program and it does not become a server.
    pub fn start() -> Option<Self> {
        let Some(program) = find() else {
            // Past the test harness, which shows the output only of tests that fail.
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED 1 test: {test}: there is no redis-server (install Debian's package `redis-server`)"
            );
            return None;
        };
        let folder = TempDir::with_prefix("tenon-redis-").expect("a temporary directory");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port");
        drop(listener);
        let process = run(&program, address, folder.path());
        Some(Self { program, address, folder, process })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Kills it, as a machine that fails would.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn stop(&mut self) {
        self.process.kill().expect("the server is killed");
        self.process.wait().expect("the server ends");
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// When it does not become a server.
    pub fn start_again(&mut self) {
        self.process = run(&self.program, self.address, self.folder.path());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn find() -> Option<PathBuf> {
    let unpacked = repository().join(UNPACKED).join("usr/bin/redis-server");
    if unpacked.is_file() {
        return Some(unpacked);
    }
    let installed = PathBuf::from("redis-server");
    let runs = Command::new(&installed).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    runs.is_ok_and(|status| status.success()).then_some(installed)
}

fn run(program: &Path, address: SocketAddr, folder: &Path) -> Child {
    let mut command = Command::new(program);
    // Its libraries lie beside it when it was only unpacked.
    if let Some(root) = program.ancestors().nth(3).filter(|_| program.is_absolute()) {
        command.env(
            "LD_LIBRARY_PATH",
            root.join("usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)),
        );
    }
    let process = command
        .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server can be started");
    until("redis-server to answer", DEADLINE, || answers(address).then_some(()));
    process
}

fn answers(address: SocketAddr) -> bool {
    let Ok(mut connection) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let mut answer = [0; 7];
    connection.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && connection.write_all(b"PING\r\n").is_ok()
        && connection.read_exact(&mut answer).is_ok()
        && answer == *b"+PONG\r\n"
}
