//! `tenon serve`: one app over HTTP.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tenon_edge::{Server, ServerError, Site};
use tenon_engine::{Artifacts, Backends, CrashPolicy, Crashes, Engine, Pool, Service, Stored, Tuning};
use tenon_model::{Authorities, Diagnostic, Limits, Location};
use tenon_wit::ErrorStatuses;
use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, ServeArgs};
use crate::commands::{build, compile};
use crate::describe::describe;
use crate::error::CommandError;
use crate::project::{COMPONENT_BYTES_MAX, Project, read};
use crate::settings::Settings;
use crate::stores;
use crate::terminal::Terminal;

pub(crate) fn run(args: &ServeArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    start_log(args);
    allow_open_files();
    let app = App::find(&args.target, settings, terminal)?;
    let limits = addressable(args.limits.over(app.limits))?;
    let pool = Pool::of(args.pool, &limits);
    let tuning = Tuning { core_dumps: args.core_dumps, ..Tuning::default() };
    let engine = Engine::configured(pool, tuning).map_err(Diagnostic::from)?;
    say_pool(&engine);
    let data = args.data.data.as_deref().unwrap_or(&settings.data);
    let artifacts = compile::open_store(data)?;
    let stored = app.stored(&engine, &artifacts, terminal)?;
    let file = args.target.display().to_string();
    let backends = Backends { stores: stores::open(&app.authorities, data)?, ..Backends::default() };
    let mut service = Service::new(&engine, &app.name, &file, stored, limits, &app.authorities, &backends)?;
    let crashes = app.crashes(args, data)?;
    if let Some(crashes) = &crashes {
        service = service.reporting_to(Arc::clone(crashes));
    }
    let service = describe(service, app.bytes(), &app.errors)?;
    let shape = service.shape().to_string();
    let digest = service.digest().to_string();

    // Asked for before anything is announced: whoever reads the line below may send a signal at once.
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| CommandError::ours("signals cannot be handled", &error))?;
    let workers = args.workers.map_or_else(cores, usize::from);
    let site = Arc::new(Site::new(service));
    let server = Server { listen: args.listen, workers, drain: site.longest() };
    let listening = server.start(site).map_err(refused)?;
    let address = listening.address();
    terminal.step("handler", &shape);
    terminal.result(format_args!("serving {} on http://{address}", app.name), || {
        json!({
            "event": "serving", "name": app.name, "address": address.to_string(), "handler": shape,
            "digest": digest, "workers": workers,
        })
    });

    signals.forever().next();
    terminal.step("draining", "running requests may finish; a second signal ends them");
    let handle = signals.handle();
    let impatient = std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // The person has said it twice.
            let _ = signal_hook::low_level::emulate_default_handler(SIGTERM);
        }
    });
    let drained = listening.drain();
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

/// What is served, before it is compiled.
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) authorities: Authorities,
    pub(crate) errors: ErrorStatuses,
    code: Code,
    /// The component files it comes from.
    files: Vec<std::path::PathBuf>,
}

enum Code {
    Component(Vec<u8>),
    /// Compiled already, by this node.
    Artifact(std::path::PathBuf),
}

impl App {
    pub(crate) fn find(
        target: &Path,
        settings: &Settings,
        terminal: &Terminal,
    ) -> Result<Self, CommandError> {
        let extension = target.extension().and_then(|extension| extension.to_str());
        if target.is_dir() || extension == Some("toml") {
            let project = Project::open(target)?;
            build::build_project(&project, settings, terminal)?;
            let composed = project.composed_to_serve()?;
            let files = project.manifest.components.iter().map(|component| project.path(component)).collect();
            return Ok(Self {
                name: project.name(),
                limits: project.manifest.limits,
                authorities: project.authorities()?,
                errors: project.manifest.errors,
                code: Code::Component(composed),
                files,
            });
        }
        let name =
            target.file_stem().map_or_else(|| "app".into(), |name| name.to_string_lossy().into_owned());
        let code = match extension {
            Some("cwasm") if target.is_file() => Code::Artifact(target.to_owned()),
            _ => {
                let bytes = read(target, COMPONENT_BYTES_MAX)?;
                tenon_wit::require_component(&target.display().to_string(), &bytes)?;
                tenon_wit::require_released_wasi(&target.display().to_string(), &bytes)?;
                Code::Component(bytes)
            }
        };
        Ok(Self {
            name,
            limits: Limits::default(),
            authorities: Authorities::default(),
            errors: ErrorStatuses::new(),
            code,
            files: vec![target.to_path_buf()],
        })
    }

    /// The component, where it is not compiled code only.
    fn bytes(&self) -> Option<&[u8]> {
        match &self.code {
            Code::Component(bytes) => Some(bytes),
            Code::Artifact(_) => None,
        }
    }

    /// Where failed requests are reported to, and the component that the reports will be about.
    fn crashes(&self, args: &ServeArgs, data: &Path) -> Result<Option<Arc<Crashes>>, CommandError> {
        if args.crash_reports == 0 {
            return Ok(None);
        }
        let absolute = |file: &std::path::PathBuf| {
            std::path::absolute(file).unwrap_or_else(|_| file.clone()).display().to_string()
        };
        let policy = CrashPolicy {
            keep: args.crash_reports as usize,
            keep_arguments: args.keep_arguments,
            files: self.files.iter().map(absolute).collect(),
        };
        let crashes = Crashes::open(data, policy).map_err(|error| {
            Diagnostic::new(
                "data-directory",
                format!("crash reports cannot be kept: {error}: {}", error.source),
            )
            .mend("choose another data directory with `--data DIR` or TENON_DATA, or `--crash-reports 0`")
        })?;
        if let Code::Component(bytes) = &self.code
            && let Err(error) = crashes.keep_component(bytes)
        {
            // Reports are written all the same; they need the file to be shown with source lines.
            tracing::warn!(%error, "the component is not kept for its crash reports");
        }
        Ok(Some(crashes))
    }

    pub(crate) fn stored(
        &self,
        engine: &Engine,
        artifacts: &Artifacts,
        terminal: &Terminal,
    ) -> Result<Stored, CommandError> {
        match &self.code {
            Code::Component(bytes) => compile::compiled(engine, artifacts, &self.name, bytes, terminal),
            Code::Artifact(path) => Ok(artifacts.adopt(engine, Path::new(path))?),
        }
    }
}

/// Limits that a component can use.
pub(crate) fn addressable(limits: Limits) -> Result<Limits, Diagnostic> {
    if limits.memory_bytes <= Pool::MEMORY_BYTES_MAX {
        return Ok(limits);
    }
    let what = "the memory limit is larger than a component can address";
    Err(Diagnostic::new("exceeds-limits", what).mend("choose at most 4GiB"))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn start_log(args: &ServeArgs) {
    let level = if args.access_log { "warn,tenon=info,tenon::request=debug" } else { "warn,tenon=info" };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(EnvFilter::new(level));
    match args.log_format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
}

/// Every connection is an open file, and the usual soft limit is far below the hard one.
fn allow_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit on open files could not be raised");
        }
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

fn refused(error: ServerError) -> CommandError {
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
