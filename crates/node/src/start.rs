//! Starting a node, and ending it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tenon_edge::{
    Certificate, CertificateError, Certificates, Drained, Http3, Listen, Listening, Observer, Server,
    ServerError, Site, listen_alone,
};
use tenon_engine::{Artifacts, CrashPolicy, Crashes, Engine, Pool};
use tenon_model::{AppId, Diagnostic, Digest, Limits, Location};
use tenon_state::{BlobFolder, Desired};

use crate::ahead::{self, Ahead};
use crate::api::AdminServer;
use crate::compile::Compiler;
use crate::config::{Config, Http3Listen, Telemetry, TlsFiles};
use crate::http3;
use crate::node::{Inner, Made};
use crate::rollouts::LOOK;
use crate::telemetry::{self, AccessLog, Collector, Otlp, Outlets, RECORDS_MAX};
use crate::tokens;

/// What belongs to the node in the data directory.
const FOLDER: &str = "node";
/// Uploads in it.
const BLOBS: &str = "blobs";
/// Threads of the admin API.
const ADMIN_THREADS: usize = 2;
/// How often a state that is open elsewhere is tried again.
const REPLACE_LOOK: Duration = Duration::from_millis(20);
/// How long after a node began to drain its connections may still bring requests.
const RELEASE_AFTER: Duration = Duration::from_secs(1);
/// How long it is waited for more apps that come into memory, before some have to go.
const GATHER: Duration = Duration::from_millis(20);
/// How often what nobody needs is thrown away.
const SWEEP: Duration = Duration::from_secs(600);
/// An upload that nothing was made of is kept this long, in seconds.
const UNUSED_S_MAX: u64 = 24 * 3_600;
/// How long the last records may take to be written when the node ends.
const LAST_RECORDS_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked whether they are.
const LAST_RECORDS_LOOK: Duration = Duration::from_millis(5);
/// A file of a certificate that is larger is none.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it was given cannot be used.
    #[error(transparent)]
    Refused(#[from] Diagnostic),
    /// It cannot listen.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The machine refuses.
    #[error("the node cannot start")]
    System(#[from] io::Error),
}

/// A node.
pub struct Node;

/// A node that runs.
pub struct Running {
    inner: Arc<Inner>,
    listening: Listening,
    certificates: Option<(Arc<Certificates>, Vec<TlsFiles>)>,
    admin: SocketAddr,
    admin_tls: Option<(Arc<Certificates>, TlsFiles)>,
    /// Accepts connections to the admin API.
    api: tokio::task::JoinHandle<()>,
    outlets: Arc<Outlets>,
    token: Option<PathBuf>,
    stop: std::sync::mpsc::SyncSender<()>,
    threads: Vec<JoinHandle<()>>,
    /// What writes records; each ends when the last record is written.
    writers: Vec<JoinHandle<()>>,
    /// How long what runs may go on once it drains, at most.
    drain: Option<Duration>,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    /// Opens the state, makes what is served equal to it, and listens.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: Config) -> Result<Running, StartError> {
        let Config { data, telemetry, bounds, .. } = config;
        let Telemetry { otlp, otlp_tls, sample, access_log, access_log_again, log } = telemetry;
        let collector = otlp.as_deref().map(Collector::read).transpose()?;
        if collector.as_ref().is_some_and(Collector::is_tls) && otlp_tls.is_none() {
            return Err(Diagnostic::new("otlp-url", "the collector is `https://`, and nobody is trusted")
                .mend("say whom to trust, or name a collector that is `http://`")
                .into());
        }
        let admin_tls = config.admin_tls.as_ref().map(admin_certificates).transpose()?;
        let certificates = match &config.tls {
            Some(tls) => {
                let read = certificates(&tls.certificates)?;
                let made = Certificates::new(&read).map_err(|error| unusable(&error))?;
                Some((made, tls.certificates.clone()))
            }
            None => None,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(ADMIN_THREADS)
            .thread_name("tenon-admin")
            .enable_all()
            .build()?;

        let artifacts = Artifacts::open(&data).map_err(|error| {
            Diagnostic::new(
                "data-directory",
                format!("the data directory cannot be used: {error}: {}", error.source),
            )
            .mend("choose another one with `--data DIR` or TENON_DATA")
        })?;
        let folder = data.join(FOLDER);
        let limits = Limits { memory_bytes: bounds.pool_memory_bytes, ..Limits::default() };
        let engine = Engine::new(Pool::of(bounds.pool_instances, &limits)).map_err(Diagnostic::from)?;
        let compiler = Compiler::new(config.compiler, &data, config.compile_limits, bounds.compilers);
        let mut predecessor = config.predecessor;
        if let Some(predecessor) = &mut predecessor {
            // It may take long, so it is before everything that is the other one's as long as it serves: its ports, its state.
            let blobs = BlobFolder::open(&folder.join(BLOBS))?;
            let (engine, artifacts, compiler, blobs) = (&engine, &artifacts, &compiler, &blobs);
            Ahead { engine, artifacts, compiler, blobs, compilers: bounds.compilers }
                .of(&mut **predecessor)?;
        }
        let mut listen = vec![Listen { address: config.listen, tls: None, http3: None }];
        if let (Some(tls), Some((certificates, _))) = (&config.tls, &certificates) {
            let http3 = match tls.http3 {
                Some(Http3Listen { port }) => Some(Http3 { port, key: http3::key(&folder)? }),
                None => None,
            };
            listen.push(Listen { address: tls.address, tls: Some(Arc::clone(certificates)), http3 });
        }
        let server = Server {
            listen,
            workers: config.workers,
            drain: config.drain,
            connections: config.connections,
            replaces: config.replaces.is_some(),
            engine: Some(engine.clone()),
        };
        // What cannot be bound is found out before the one that is replaced is asked for anything.
        let has_http3 = config.tls.as_ref().is_some_and(|tls| tls.http3.is_some());
        let hand_over = has_http3.then(|| http3::hand_over(&folder, config.replaces.is_some())).flatten();
        let server = server.bind_handing_over(hand_over)?;
        if let Some(predecessor) = &mut predecessor {
            predecessor.hand_over()?;
        }
        let desired = open_state(&folder, config.replaces)?;
        let blobs = BlobFolder::open(&folder.join(BLOBS))?;
        let crashes = match crashes(&data, bounds.crash_reports) {
            Err(said) if desired.unwritable().is_some() => {
                tracing::warn!(cause = said.message, "no crash reports are kept");
                None
            }
            opened => opened?,
        };
        let (observer, observations) = Observer::new(RECORDS_MAX, sample);
        // Not ready until what is desired is published.
        let site = Arc::new(Site::empty().observed(Arc::clone(&observer)));
        let (crowded, room) = sync_channel(1);
        config.logs.start()?;
        let inner = Inner::new(Made {
            compiler,
            data,
            bounds,
            clock: config.clock,
            desired,
            blobs,
            engine,
            artifacts,
            crashes,
            site: Arc::clone(&site),
            logs: config.logs,
            crowded,
            runtime: runtime.handle().clone(),
            replaces: config.replaces,
        });
        let token = tokens::first(&inner.desired, &folder, inner.now())?;
        inner.reconcile();
        if predecessor.is_some() {
            ahead::finish(&inner)?;
        }

        let mut writers = Vec::new();
        let access = match access_log {
            Some(to) => {
                let (access, writer) = AccessLog::start(to, access_log_again)?;
                writers.push(writer);
                Some(access)
            }
            None => None,
        };
        let (otlp, sending) = match collector {
            Some(collector) => {
                let (otlp, spans) = Otlp::new();
                (Some(otlp), Some((spans, collector)))
            }
            None => (None, None),
        };
        let outlets = Arc::new(Outlets { observer: Some(observer), access, otlp, log });
        if let (Some(otlp), Some((spans, collector))) = (&outlets.otlp, sending) {
            writers.push(otlp.start(spans, collector, otlp_tls, (&inner, &outlets))?);
        }
        let (stop, stopped) = sync_channel(1);
        let threads = vec![
            telemetry::observe(&Arc::downgrade(&inner), observations, Arc::clone(&outlets))?,
            keep(Arc::downgrade(&inner), room)?,
            watch(Arc::downgrade(&inner), stopped)?,
        ];

        let admin = listen_alone(config.admin, config.replaces.is_some())?;
        let admin_address = admin.local_addr()?;
        let listening = server.start(site)?;
        let addresses = listening.addresses().iter().map(ToString::to_string).collect();
        let _ = inner.addresses.set(addresses);
        ahead::check(&inner);
        let tls = admin_tls.as_ref().map(|(certificates, _)| certificates.acceptor());
        let api = AdminServer { node: Arc::clone(&inner), outlets: Arc::clone(&outlets), tls };
        let api = runtime.spawn(async move {
            if let Err(error) = api.run(admin).await {
                tracing::error!(%error, "the admin API has ended");
            }
        });
        // Connections come here already.
        if let Some(predecessor) = predecessor {
            predecessor.leave();
        }
        let admin = admin_address;
        Ok(Running {
            inner,
            listening,
            certificates,
            admin,
            admin_tls,
            api,
            outlets,
            token,
            stop,
            threads,
            writers,
            drain: config.drain,
            runtime,
        })
    }
}

impl Running {
    /// Where apps are served: first in clear, then over TLS.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.listening.addresses()
    }

    /// Where the admin API is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Whether the admin API is spoken to over TLS.
    pub fn is_admin_tls(&self) -> bool {
        self.admin_tls.is_some()
    }

    /// The file of the token that was made now, at the first start.
    pub fn first_token(&self) -> Option<&Path> {
        self.token.as_deref()
    }

    /// The pool of sandboxes, and why it is as it is.
    pub fn pool(&self) -> &tenon_engine::PoolReport {
        self.inner.engine.pool()
    }

    /// Apps there are.
    pub fn apps(&self) -> usize {
        self.inner.desired.apps().1.len()
    }

    /// The files of certificates, that of the admin API too, for whoever watches them.
    pub fn certificate_files(&self) -> Vec<TlsFiles> {
        let apps = self.certificates.iter().flat_map(|(_, files)| files);
        apps.chain(self.admin_tls.as_ref().map(|(_, files)| files)).cloned().collect()
    }

    /// Reads the certificates again. Connections that have begun are not touched; nothing changes when one cannot be used: of
    /// apps none, or that of the admin API.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn reload_certificates(&self) -> Result<(), Diagnostic> {
        let apps = match &self.certificates {
            Some((current, files)) => {
                certificates(files).and_then(|read| current.replace(&read).map_err(|error| unusable(&error)))
            }
            None => Ok(()),
        };
        let admin = match &self.admin_tls {
            Some((current, files)) => admin_certificate(files)
                .and_then(|read| current.replace(&read).map_err(|error| admin_unusable(files, &error))),
            None => Ok(()),
        };
        apps.and(admin)
    }

    /// The components of what serves, each once, with an app that has it: for a node that is to take this one's place, which may
    /// have to compile them for its own engine.
    pub fn serving(&self) -> Vec<(AppId, Digest)> {
        self.inner.serving()
    }

    /// Opens the access log anew, as its [configuration](Telemetry::access_log_again) says: its file was moved away.
    pub fn reopen_access_log(&self) {
        if let Some(access) = &self.outlets.access {
            access.reopen();
        }
    }

    /// Lets go of the state, for a node that takes this one's place. Requests are served on, from what is in memory; nothing
    /// is changed any more. Then it is [drained](Self::drain), or [takes the state back](Self::take_back).
    pub fn hand_over(&self) {
        self.inner.hand_over();
    }

    /// Takes the state back: nobody took this node's place.
    ///
    /// # Errors
    /// When another process has the state, or it cannot be read. Then what is in memory is served on.
    pub fn take_back(&self) -> Result<(), Diagnostic> {
        self.inner.take_back()
    }

    /// Takes nothing new, lets what runs finish, closes the state.
    pub fn drain(self) -> Drained {
        let Self { inner, listening, api, outlets, stop, threads, writers, drain, runtime, .. } = self;
        inner.draining.store(true, std::sync::atomic::Ordering::SeqCst);
        let _ = stop.try_send(());
        if inner.desired.is_handed_over() {
            // Whoever asks the admin API from now on asks the next one; and that one waits for the apps' store.
            api.abort();
            release(&inner);
        }
        // Both at once: neither takes anything new while the other's requests finish.
        let messages = inner.stop_delivering(drain);
        let drained = listening.drain();
        for each in messages {
            let _ = each.join();
        }
        // Deploys that have begun are finished, or go on when they are asked for again: nothing is half done.
        runtime.shutdown_timeout(Duration::from_secs(5));
        if let Some(crashes) = &inner.crashes {
            crashes.finish();
        }
        // What was counted since the metrics were sent last is billed by, too.
        if let Some(otlp) = &outlets.otlp {
            otlp.finish(&inner, &outlets);
        }
        drop((inner, outlets));
        // What still compiles for nobody keeps them: it is left to itself.
        finish(threads.into_iter().chain(writers).collect());
        drained
    }
}

/// Waits until all records are written; for a disk or a collector that does not take them, or something that takes long, only so long.
fn finish(writers: Vec<JoinHandle<()>>) {
    let began = Instant::now();
    for writer in writers {
        while !writer.is_finished() && began.elapsed() < LAST_RECORDS_WAIT {
            std::thread::sleep(LAST_RECORDS_LOOK);
        }
        if writer.is_finished() {
            let _ = writer.join();
        } else {
            tracing::warn!(
                thread = writer.thread().name(),
                "it did not end in time; the last records may be lost"
            );
        }
    }
}

/// Opens the state; one that another process has is waited for, if it is being replaced.
fn open_state(folder: &Path, replaces: Option<Duration>) -> Result<Desired, Diagnostic> {
    let began = Instant::now();
    loop {
        match Desired::open(folder) {
            Err(said)
                if said.code == "store-in-use" && replaces.is_some_and(|wait| began.elapsed() < wait) =>
            {
                std::thread::sleep(REPLACE_LOOK);
            }
            opened => return opened,
        }
    }
}

/// Lets go of the apps' store as soon as no request needs it: each app goes out of memory when its requests have ended.
fn release(inner: &Arc<Inner>) {
    let node = Arc::downgrade(inner);
    let released = std::thread::Builder::new().name("tenon-release".into()).spawn(move || {
        // Connections that are there already may bring requests until then.
        std::thread::sleep(RELEASE_AFTER);
        while let Some(node) = node.upgrade() {
            node.shelf.let_go();
            let all: Vec<_> = node.live().revisions().map(|(_, revision)| Arc::clone(revision)).collect();
            for revision in all.iter().filter(|revision| revision.slot.is_loaded()) {
                revision.slot.unload();
            }
            drop((all, node));
            std::thread::sleep(REPLACE_LOOK);
        }
    });
    if let Err(error) = released {
        tracing::warn!(%error, "the apps' store is let go of when the last request has ended");
    }
}

fn crashes(data: &Path, keep: usize) -> Result<Option<Arc<Crashes>>, Diagnostic> {
    if keep == 0 {
        return Ok(None);
    }
    let policy = CrashPolicy { keep, keep_arguments: false, files: Vec::new() };
    let opened = Crashes::open(data, policy).map_err(|error| {
        Diagnostic::new("data-directory", format!("crash reports cannot be kept: {error}: {}", error.source))
            .mend("choose another data directory with `--data DIR` or TENON_DATA")
    })?;
    Ok(Some(opened))
}

/// Takes apps out of memory when there are too many, and throws away what nobody needs.
fn keep(node: Weak<Inner>, room: Receiver<()>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("tenon-keep".into()).spawn(move || {
        let mut swept = Instant::now();
        loop {
            let told = room.recv_timeout(LOOK);
            let Some(node) = node.upgrade() else { return };
            match told {
                Ok(()) => {
                    // Many that come at once are looked at once.
                    std::thread::sleep(GATHER);
                    node.make_room();
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            node.deliver();
            node.look_at_reserves();
            if swept.elapsed() >= SWEEP && !node.desired.is_handed_over() {
                swept = Instant::now();
                node.sweep(UNUSED_S_MAX);
            }
        }
    })
}

/// Looks at the rollouts, and whether what is desired is served.
fn watch(node: Weak<Inner>, stopped: Receiver<()>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("tenon-rollouts".into()).spawn(move || {
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let Some(node) = node.upgrade() else { return };
            node.catch_up();
            node.look_at_rollouts();
        }
    })
}

fn pem(file: &Path) -> Result<Vec<u8>, Diagnostic> {
    let unreadable = |cause: String| {
        Diagnostic::new("tls-files", format!("`{}` cannot be read: {cause}", file.display()))
            .at(Location::file(file.display().to_string()))
            .mend("name a PEM file that the node may read")
    };
    let meta = fs::metadata(file).map_err(|error| unreadable(error.to_string()))?;
    if meta.len() > PEM_BYTES_MAX {
        return Err(unreadable("it is too large".into()));
    }
    fs::read(file).map_err(|error| unreadable(error.to_string()))
}

fn certificates(files: &[TlsFiles]) -> Result<Vec<Certificate>, Diagnostic> {
    let one = |files: &TlsFiles| {
        let name = files.chain.display().to_string();
        Ok(Certificate { name, chain: pem(&files.chain)?, key: pem(&files.key)? })
    };
    files.iter().map(one).collect()
}

fn unusable(error: &CertificateError) -> Diagnostic {
    Diagnostic::new("tls-files", error.to_string())
        .mend("give a certificate chain and the private key that belongs to it, both as PEM files")
}

fn admin_certificate(files: &TlsFiles) -> Result<Vec<Certificate>, Diagnostic> {
    certificates(std::slice::from_ref(files))
}

fn admin_unusable(files: &TlsFiles, error: &CertificateError) -> Diagnostic {
    Diagnostic::new("tls-files", format!("the admin API's certificate cannot be used: {error}"))
        .at(Location::file(files.chain.display().to_string()))
        .mend("give a certificate chain and the private key that belongs to it, both as PEM files")
}

/// The admin API's certificate, for whoever connects, and where it is from.
fn admin_certificates(files: &TlsFiles) -> Result<(Arc<Certificates>, TlsFiles), Diagnostic> {
    let unusable = |error: &CertificateError| admin_unusable(files, error);
    let read = admin_certificate(files)?.pop().ok_or_else(|| unusable(&CertificateError::None))?;
    let made = Certificates::for_all(read).map_err(|error| unusable(&error))?;
    Ok((made, files.clone()))
}
