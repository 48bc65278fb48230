//! `tenon node`: the apps of many tenants, deployed, replaced and watched while they run.

mod control;
mod detach;
mod harden;
mod notify;
mod watch;

use std::io::{IsTerminal as _, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::time::Duration;

use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tenon_model::{AppId, Diagnostic, Digest, Location};
use tenon_node::{
    Bounds, Config, Http3Listen, LogWriter, Logs, Node, Reopen, Running, StartError, Telemetry, TlsFiles,
    TlsListen,
};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::admin::connector;
use crate::args::{LogFormat, NodeArgs};
use crate::commands::serve::refused;
use crate::error::CommandError;
use crate::log::Log;
use crate::process;
use crate::settings::Settings;
use crate::terminal::Terminal;
use control::Control;
use notify::Notify;
use watch::Watch;

/// How long a node that is being replaced may take to let go of its state.
const REPLACE_WAIT: Duration = Duration::from_secs(120);
/// How often the files of certificates are looked at.
const CERTIFICATES_LOOK: Duration = Duration::from_millis(500);
/// In place of a file: standard error.
const STANDARD_ERROR: &str = "-";
/// Of 10,000 requests: what the node counts in. The command line counts in thousands.
const SAMPLE_PER_MILLE: u32 = 10;

/// Why the node wakes.
#[derive(Debug)]
enum Wake {
    /// Somebody wants it to stop.
    Stop,
    /// Another one may take its place, and wants to know what is served.
    Tell(SyncSender<Vec<(AppId, Digest)>>),
    /// Another one is about to take its place, and wants its state; who asked is told once it may have it.
    HandOver(SyncSender<()>),
    /// That one is gone, and has not taken its place.
    TakeBack,
    /// Another one takes its place.
    Replaced,
    /// Somebody wants the certificates read again, and the access log opened anew.
    Reload,
}

/// Set up → harden → start → announce → until it is told to stop → drain.
pub(crate) fn run(args: &NodeArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    if args.detach {
        return detach::run(terminal);
    }
    let prepared = process::prepare();
    let logs = Logs::new();
    let mut log = Log::new();
    start_log(args, &logs, log.writer());
    let data = args.data.data.as_deref().unwrap_or(&settings.data);
    let mut config = config(args, data, logs)?;
    config.telemetry.log = Some(log.writer());
    // A write beyond a limit on the size of files is an error, as on a disk that is full, and not the node's end.
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())
        .map_err(|error| CommandError::ours("signals cannot be handled", &error))?;
    harden::drop_privileges(&[Some(args.listen), args.tls_listen, Some(args.admin)]);
    log.begin()?;
    prepared.say();
    let (wake, woken) = channel();
    let notify = Notify::new(settings.notify.clone());
    // Until it has asked another node for its state, it may end at once.
    let is_idle = Arc::new(AtomicBool::new(args.replace));
    // Asked for before anything is announced: whoever reads the line below may send a signal at once.
    listen_to_signals(wake.clone(), Arc::clone(&is_idle))?;
    if args.replace {
        config.replaces = Some(REPLACE_WAIT);
        config.predecessor = Some(Box::new(control::Before::new(data, is_idle, notify.clone())));
    }
    let running = Node::start(config).map_err(not_started)?;
    let control = Control::listen(data, wake);
    if !args.replace {
        notify.serves();
    }
    announce(&running, args.http3, terminal, &log);
    let why = serve(&running, &woken);
    match why {
        Wake::Replaced => control.leave(),
        _ => {
            drop(control);
            notify.stops();
        }
    }
    log.step(
        terminal,
        "draining",
        match why {
            Wake::Replaced => "another node takes over; running requests may finish",
            _ => "running requests may finish; a second signal ends them",
        },
    );
    let impatient = impatient(woken, matches!(why, Wake::Stop));
    if !running.drain().complete {
        tracing::warn!("requests were still running when the drain's time was over");
    }
    drop(impatient);
    Ok(())
}

/// Until it is told to stop; meanwhile certificates are read again when their files change.
fn serve(running: &Running, woken: &Receiver<Wake>) -> Wake {
    let mut watch = Watch::of(&running.certificate_files());
    loop {
        match woken.recv_timeout(CERTIFICATES_LOOK) {
            Ok(why @ (Wake::Stop | Wake::Replaced)) => return why,
            Ok(Wake::Tell(asked)) => {
                let _ = asked.send(running.serving());
                continue;
            }
            Ok(Wake::HandOver(done)) => {
                tracing::info!(
                    "another node is about to take over: the state is its, and requests are served on"
                );
                running.hand_over();
                let _ = done.send(());
                continue;
            }
            Ok(Wake::TakeBack) => {
                take_back(running);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
            Err(RecvTimeoutError::Timeout) if !watch.has_changed() => continue,
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Wake::Reload) => running.reopen_access_log(),
        }
        match running.reload_certificates() {
            Ok(()) => tracing::info!("the certificates were read again"),
            Err(error) => {
                tracing::error!(
                    code = error.code,
                    cause = error.message,
                    "the certificates stay as they were"
                );
            }
        }
    }
}

/// The node that was to take over is gone, and this one goes on.
fn take_back(running: &Running) {
    match running.take_back() {
        Ok(()) => tracing::warn!("the node that was to take over is gone: this one goes on"),
        Err(error) => tracing::error!(
            code = error.code,
            cause = error.message,
            "the node that was to take over is gone, and the state cannot be taken back: what is in memory is served on, start it anew"
        ),
    }
}

fn announce(running: &Running, has_http3: bool, terminal: &Terminal, log: &Log) {
    if let Some(file) = running.first_token() {
        log.step(
            terminal,
            "token",
            format_args!("the first one, which may do everything, is in {}", file.display()),
        );
    }
    let pool = running.pool();
    if let Some(fits) = pool.instances_within_mappings() {
        tracing::warn!(
            instances = pool.pool.instances,
            fits,
            mend = format!("sysctl vm.max_map_count={}", pool.mappings_needed * 2),
            "the kernel's limit on mappings leaves room for fewer sandboxes than the pool holds"
        );
    }
    tracing::info!(instances = pool.pool.instances, page_scan = %pool.page_scan, "the pool is ready");
    let addresses = running.addresses();
    let (admin, apps) = (running.admin(), running.apps());
    let scheme = if running.is_admin_tls() { "https" } else { "http" };
    log.step(terminal, "admin", format_args!("{scheme}://{admin}"));
    if let Some(tls) = addresses.get(1) {
        log.step(terminal, "tls", format_args!("https://{tls}"));
        if has_http3 {
            log.step(
                terminal,
                "http3",
                format_args!("https://{tls}, over UDP; 0-RTT is off, for it can be replayed"),
            );
        }
    }
    let address = addresses.first().map(ToString::to_string).unwrap_or_default();
    terminal.result(format_args!("serving {apps} apps on http://{address}"), || {
        json!({
            "event": "serving", "name": "node", "address": address, "admin": admin.to_string(),
            "tls": addresses.get(1).map(ToString::to_string), "http3": has_http3, "apps": apps,
        })
    });
}

/// `is_idle` as long as nothing would be lost if the process ended at once.
fn listen_to_signals(wake: Sender<Wake>, is_idle: Arc<AtomicBool>) -> Result<(), CommandError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| CommandError::ours("signals cannot be handled", &error))?;
    std::thread::Builder::new()
        .name("tenon-signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let why = if signal == SIGHUP { Wake::Reload } else { Wake::Stop };
                if signal != SIGHUP && is_idle.load(SeqCst) {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                if wake.send(why).is_err() {
                    return;
                }
            }
        })
        .map(drop)
        .map_err(|error| CommandError::ours("a thread could not be started", &error))
}

/// Ends the process when it is told a second time to stop. One that was replaced has not been told once: systemd tells it together
/// with the one that took its place.
fn impatient(woken: Receiver<Wake>, mut was_told: bool) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while let Ok(why) = woken.recv() {
            if matches!(why, Wake::Stop) {
                if was_told {
                    // The person has said it twice.
                    let _ = signal_hook::low_level::emulate_default_handler(SIGTERM);
                }
                was_told = true;
            }
        }
    })
}

fn config(args: &NodeArgs, data: &Path, logs: Arc<Logs>) -> Result<Config, CommandError> {
    if !args.admin.ip().is_loopback() && args.admin_tls.is_empty() && !args.admin_insecure {
        return Err(Diagnostic::new("admin-in-clear", format!("the admin API on {} would send tokens in clear", args.admin))
            .mend("give it a certificate with `--admin-tls CERT KEY`; or keep it on loopback; or, behind a proxy that has TLS, \
                   say `--admin-insecure`")
            .into());
    }
    let mut config = Config::new(data.to_path_buf(), args.listen, args.admin);
    config.logs = logs;
    config.admin_tls = pairs(&args.admin_tls).into_iter().next();
    let http3 = args.http3.then_some(Http3Listen { port: args.http3_port });
    config.tls = args.tls_listen.map(|address| TlsListen { address, certificates: pairs(&args.tls), http3 });
    if let Some(workers) = args.workers {
        config.workers = usize::from(workers);
    }
    config.connections.per_address_max = args.connections_per_address as usize;
    config.drain = args.drain;
    config.bounds = Bounds {
        pool_instances: args.pool,
        pool_memory_bytes: args.pool_memory,
        loaded_max: args.loaded as usize,
        loaded_bytes_max: args.loaded_bytes,
        ..Bounds::default()
    };
    let program = std::env::current_exe()
        .map_err(|error| CommandError::ours("this program does not know where it lies", &error))?;
    config.compiler = Some(vec![program.into(), "compile-worker".into()]);
    config.telemetry = Telemetry {
        otlp: args.otlp.clone(),
        otlp_tls: match &args.otlp {
            Some(url) if url.starts_with("https:") => Some(connector(args.otlp_ca.as_deref())?),
            _ => None,
        },
        sample: u32::from(args.trace) * SAMPLE_PER_MILLE,
        access_log: args.access_log.as_deref().map(access_log).transpose()?,
        access_log_again: args.access_log.as_deref().and_then(access_log_again),
        log: None,
    };
    Ok(config)
}

fn pairs(files: &[std::path::PathBuf]) -> Vec<TlsFiles> {
    let pair = |pair: &[std::path::PathBuf]| {
        Some(TlsFiles { chain: pair.first()?.clone(), key: pair.get(1)?.clone() })
    };
    files.chunks(2).filter_map(pair).collect()
}

fn access_log(file: &Path) -> Result<Box<dyn Write + Send>, Diagnostic> {
    if file == Path::new(STANDARD_ERROR) {
        return Ok(Box::new(std::io::stderr()));
    }
    open_to_append(file).map_err(|error| {
        Diagnostic::new(
            "cannot-write",
            format!("the access log `{}` cannot be written: {error}", file.display()),
        )
        .at(Location::file(file.display().to_string()))
        .mend("make its folder writable, or choose another place")
    })
}

/// A file is opened where it was named, whoever has moved the other one away meanwhile.
fn access_log_again(file: &Path) -> Option<Reopen> {
    let file = (file != Path::new(STANDARD_ERROR)).then(|| file.to_owned())?;
    Some(Box::new(move || open_to_append(&file)))
}

fn open_to_append(file: &Path) -> std::io::Result<Box<dyn Write + Send>> {
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
    Ok(Box::new(opened))
}

fn start_log(args: &NodeArgs, logs: &Arc<Logs>, writer: LogWriter) {
    let format = tracing_subscriber::fmt::layer().with_writer(writer);
    let format = match args.log_format {
        LogFormat::Json => format.json().flatten_event(true).boxed(),
        LogFormat::Text => format.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry()
        .with(EnvFilter::new("warn,tenon=info"))
        .with(format)
        .with(logs.layer())
        .init();
}

fn not_started(error: StartError) -> CommandError {
    match error {
        StartError::Refused(diagnostic) => tenon_model::Diagnostics::from(diagnostic).into(),
        StartError::Server(error) => refused(error),
        StartError::System(error) => CommandError::ours("the node could not start", &error),
    }
}
