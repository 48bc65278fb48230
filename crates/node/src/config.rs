//! How a node is set up. Whoever starts it has read the command line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tenon_edge::ConnectionLimits;
use tenon_model::{AppId, Diagnostic, Digest};
use tokio_rustls::TlsConnector;

use crate::compile::CompileLimits;
use crate::logs::Logs;
use crate::telemetry::LogWriter;

/// A certificate and its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those that vouch for it: PEM.
    pub chain: PathBuf,
    /// Its private key: PEM.
    pub key: PathBuf,
}

/// An address that apps are served on over TLS.
#[derive(Clone, Debug)]
pub struct TlsListen {
    /// Where.
    pub address: SocketAddr,
    /// With what.
    pub certificates: Vec<TlsFiles>,
    /// Whether HTTP/3 is there too, at the same port of UDP.
    pub http3: Option<Http3Listen>,
}

/// HTTP/3 beside TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Http3Listen {
    /// The port that clients are told, where it is another one outside.
    pub port: Option<u16>,
}

/// What the admin API is encrypted with.
pub type AdminTls = TlsFiles;

/// Opens once more what is written to.
pub type Reopen = Box<dyn Fn() -> io::Result<Box<dyn Write + Send>> + Send>;

/// What goes out about what happens.
#[derive(Default)]
pub struct Telemetry {
    /// The collector that metrics and traces are sent to (OTLP over HTTP, as JSON): `http://127.0.0.1:4318`.
    pub otlp: Option<String>,
    /// Whom it trusts, where the collector is `https://`.
    pub otlp_tls: Option<TlsConnector>,
    /// Of 10,000 requests that come without a trace, those that begin one.
    pub sample: u32,
    /// Where a line of JSON goes for each request and each message.
    pub access_log: Option<Box<dyn Write + Send>>,
    /// How that is opened anew, when its file was moved away; `None` where it cannot be.
    pub access_log_again: Option<Reopen>,
    /// The way of the log's own lines, for its count of those that were lost.
    pub log: Option<LogWriter>,
}

/// How much of the machine a node takes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Sandboxes alive at once, over all requests.
    pub pool_instances: u32,
    /// The most memory of one sandbox, in bytes: an app whose limit is higher is not deployed.
    pub pool_memory_bytes: u64,
    /// Apps in memory; those asked longest ago go.
    pub loaded_max: usize,
    /// Compiled code in memory, in bytes.
    pub loaded_bytes_max: u64,
    /// Compilers that run at the same time.
    pub compilers: usize,
    /// Crash reports that are kept; 0: none are written.
    pub crash_reports: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            pool_instances: 1_000,
            pool_memory_bytes: 256 << 20,
            loaded_max: 2_000,
            loaded_bytes_max: 2 << 30,
            compilers: 1,
            crash_reports: 100,
        }
    }
}

/// A node that is being replaced, as it is asked by the one that takes its place. It serves until it is told to leave.
pub trait Predecessor: Send {
    /// What it serves: each component once, with an app that has it. It is asked this first, so that what has to be compiled for
    /// another engine is compiled while it serves on, and may be changed.
    ///
    /// # Errors
    /// When it cannot be asked, or does not know how to say it.
    fn serving(&mut self) -> Result<Vec<(AppId, Digest)>, Diagnostic>;

    /// Has it let go of its state; it goes on serving what is in its memory.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn hand_over(&mut self) -> Result<(), Diagnostic>;

    /// Has it take nothing new and end when its requests have. Dropping it without that has it take its state back.
    fn leave(self: Box<Self>);
}

/// A node, before it is started.
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// Where apps are served.
    pub listen: SocketAddr,
    /// Where apps are served over TLS.
    pub tls: Option<TlsListen>,
    /// Where the admin API is.
    pub admin: SocketAddr,
    /// With what the admin API is encrypted; in clear where nothing is said, which is for loopback.
    pub admin_tls: Option<AdminTls>,
    /// Threads that serve requests.
    pub workers: usize,
    /// What connections are given.
    pub connections: ConnectionLimits,
    /// How much of the machine is taken.
    pub bounds: Bounds,
    /// The program that compiles, and its arguments: it calls [`compile_worker`](crate::compile_worker). Where there is none,
    /// this process compiles, with all that a hostile component can do to a compiler.
    pub compiler: Option<Vec<OsString>>,
    /// What one compiler may use up.
    pub compile_limits: CompileLimits,
    /// What goes out about what happens.
    pub telemetry: Telemetry,
    /// What apps write, kept for `logs`. Its [layer](Logs::layer) has to be part of the log.
    pub logs: Arc<Logs>,
    /// How long running requests, and messages, may go on once the node drains, at most; as long as any of them may last then
    /// where there is none.
    pub drain: Option<Duration>,
    /// Whether another process of this user may listen on the same addresses meanwhile, and how long it is waited for until
    /// it has closed the state: it is being replaced.
    pub replaces: Option<Duration>,
    /// The node that is being replaced, if there is one.
    pub predecessor: Option<Box<dyn Predecessor>>,
    /// What time it is.
    pub clock: fn() -> SystemTime,
}

impl Config {
    /// A node of this data directory on these addresses, with everything else as usual.
    pub fn new(data: PathBuf, listen: SocketAddr, admin: SocketAddr) -> Self {
        Self {
            data,
            listen,
            tls: None,
            admin,
            admin_tls: None,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            connections: ConnectionLimits::default(),
            bounds: Bounds::default(),
            compiler: None,
            compile_limits: CompileLimits::default(),
            telemetry: Telemetry::default(),
            logs: Arc::default(),
            drain: None,
            replaces: None,
            predecessor: None,
            clock: SystemTime::now,
        }
    }
}
