//! `tenon serve`: one app over HTTP.

use std::sync::Arc;

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tenon_edge::{Deliveries, Server, ServerError, Site};
use tenon_engine::{Backends, Engine, Pool, Service, Terms, Tuning};
use tenon_model::{Diagnostic, Location};
use tenon_node::{Known, LogWriter, describe};
use tracing_subscriber::EnvFilter;

use crate::app::{App, addressable};
use crate::args::{LogFormat, ServeArgs};
use crate::commands::compile;
use crate::error::CommandError;
use crate::log::Log;
use crate::process;
use crate::settings::Settings;
use crate::stores;
use crate::terminal::Terminal;

pub(crate) fn run(args: &ServeArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let prepared = process::prepare();
    let mut log = Log::new();
    start_log(args, log.writer());
    log.begin()?;
    prepared.say();
    let app = App::find(&args.target, &args.dependencies.files, settings, terminal)?;
    let limits = addressable(args.limits.over(app.limits))?;
    let reuse = args.reuse.over(app.reuse)?;
    let pool = Pool::of(args.pool, &limits);
    let tuning = Tuning { core_dumps: args.core_dumps, ..Tuning::default() };
    let engine = Engine::configured(pool, tuning).map_err(Diagnostic::from)?;
    say_pool(&engine);
    let data = args.data.data.as_deref().unwrap_or(&settings.data);
    let artifacts = compile::open_store(data)?;
    let stored = app.stored(&engine, &artifacts, terminal)?;
    let contract = stored.contract.clone();
    let file = args.target.display().to_string();
    let backends = Backends { stores: stores::open(&app.authorities, data)?, ..Backends::default() };
    let terms =
        Terms { name: &app.name, file: &file, limits, authorities: &app.authorities, backends: &backends };
    let mut service = Service::new(&engine, stored, &terms)?.reusing(reuse)?;
    let crashes = app.crashes(args.crash_reports, args.keep_arguments, data)?;
    if let Some(crashes) = &crashes {
        service = service.reporting_to(Arc::clone(crashes));
    }
    let known = match app.bytes() {
        Some(bytes) => Known::Component(bytes),
        None => Known::Contract(contract.as_deref()),
    };
    let service = describe(service, &known, &app.errors)?;
    let shape = service.shape().to_string();
    let digest = service.digest().to_string();
    let post = service.post();

    // Asked for before anything is announced: whoever reads the line below may send a signal at once.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| CommandError::ours("signals cannot be handled", &error))?;
    let workers = args.workers.map_or_else(cores, usize::from);
    let site = Arc::new(Site::new(service));
    let server = Server { engine: Some(engine.clone()), ..Server::new(args.listen, workers, site.longest()) };
    // Said before anything is served: whoever does not read it holds up nothing that runs.
    terminal.step("handler", &shape);
    if reuse.is_on() {
        terminal.step("reuse", reuse.to_string());
    }
    if let Some(post) = &post {
        let topics: Vec<_> = post.subscription.topics.iter().map(String::as_str).collect();
        terminal.step("messages", format_args!("{} to {}", topics.join(", "), post.component));
    }
    let listening = server.start(Arc::clone(&site)).map_err(refused)?;
    let deliveries = Deliveries::start(&site).map_err(refused)?;
    let address = listening.address();
    terminal.result(format_args!("serving {} on http://{address}", app.name), || {
        json!({
            "event": "serving", "name": app.name, "address": address.to_string(), "handler": shape,
            "digest": digest, "workers": workers,
            "reuse": { "requests": reuse.requests, "concurrent": reuse.concurrent },
        })
    });

    signals.forever().next();
    log.step(terminal, "draining", "running requests may finish; a second signal ends them");
    let handle = signals.handle();
    let impatient = std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // The person has said it twice.
            let _ = signal_hook::low_level::emulate_default_handler(SIGTERM);
        }
    });
    // Both at once: neither takes anything new while the other's requests finish.
    let messages = deliveries.map(|deliveries| std::thread::spawn(move || deliveries.drain(None)));
    let drained = listening.drain();
    if let Some(messages) = messages {
        let _ = messages.join();
    }
    handle.close();
    let _ = impatient.join();
    if let Some(crashes) = crashes {
        crashes.finish();
    }
    if !drained.complete {
        tracing::warn!("requests were still running when the drain's time was over");
    }
    Ok(())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn start_log(args: &ServeArgs, writer: LogWriter) {
    let level = if args.access_log { "warn,tenon=info,tenon::request=debug" } else { "warn,tenon=info" };
    let log = tracing_subscriber::fmt().with_writer(writer).with_env_filter(EnvFilter::new(level));
    match args.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
}

fn say_pool(engine: &Engine) {
    let report = engine.pool();
    if let Some(fits) = report.instances_within_mappings() {
        tracing::warn!(
            instances = report.pool.instances,
            fits,
            mend = format!("sysctl vm.max_map_count={}", report.mappings_needed * 2),
            "the kernel's limit on mappings leaves room for fewer sandboxes than the pool holds"
        );
    }
    tracing::info!(instances = report.pool.instances, page_scan = %report.page_scan, "the pool is ready");
}

pub(crate) fn refused(error: ServerError) -> CommandError {
    match error {
        ServerError::InUse(address) => {
            Diagnostic::new("address-in-use", format!("{address} is in use by another process"))
                .mend("stop that process, or choose another address with `--listen`; port 0 picks a free one")
                .into()
        }
        ServerError::Listen(address, cause) => {
            Diagnostic::new("cannot-listen", format!("cannot listen on {address}: {cause}"))
                .at(Location::file(address.to_string()))
                .mend("choose an address of this machine, and a port above 1023 unless you are root")
                .into()
        }
        ServerError::Worker(_) => CommandError::ours("the server could not start", &error),
    }
}
