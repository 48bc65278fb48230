//! `tenon dev`: what is saved is served.
//!
//! One thread watches and makes the next state; the server's threads serve the last good one and know of nothing. A
//! state is put in place at once and as a whole, so no request is lost, and what goes wrong on the way is shown on the
//! terminal and in the browser.

mod page;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tenon_build::Built;
use tenon_edge::{Server, Site};
use tenon_engine::{Artifacts, Backends, CrashPolicy, Crashes, Engine, Pool, Service, Stored, Terms};
use tenon_model::{Authorities, Diagnostic, Digest, Limits, Reuse, format_duration};
use tenon_node::{Known, describe};
use tenon_wit::ErrorStatuses;
use tracing_subscriber::EnvFilter;

use crate::app::addressable;
use crate::args::DevArgs;
use crate::commands::serve::refused;
use crate::commands::{build, compile};
use crate::error::CommandError;
use crate::process;
use crate::project::{COMPONENT_BYTES_MAX, Project, has_manifest, read};
use crate::settings::Settings;
use crate::stores::Shelf;
use crate::terminal::{Terminal, to_json};
use watch::{Roots, Snapshot, Watch, Woken};

/// Sandboxes alive at once: one person looks.
const SANDBOXES: u32 = 64;
/// Threads that serve: the others are for the compilers.
const WORKERS: usize = 1;
/// Crash reports that are kept.
const CRASH_REPORTS: usize = 20;
/// Changed files named in a status line.
const CHANGED_SHOWN_MAX: usize = 3;
/// At the end, a build that is running has this long to end by itself.
const BUILD_GRACE: Duration = Duration::from_secs(1);
/// How long running requests may go on after the end was asked for.
const DRAIN: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &DevArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let prepared = process::prepare_to_build();
    start_log();
    prepared.say();
    if !args.dir.is_dir() {
        let what = format!("`{}` is no folder", args.dir.display());
        return Err(Diagnostic::new("no-manifest", what)
            .mend("name a folder with a manifest, or with the source of one component")
            .into());
    }
    let site = Arc::new(Site::empty());
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| CommandError::ours("signals cannot be handled", &error))?;
    let listening = Server::new(args.listen, WORKERS, DRAIN).start(Arc::clone(&site)).map_err(refused)?;
    let (watch, stop) = Watch::new(args.poll);
    let data = args.data.data.as_deref().unwrap_or(&settings.data).to_owned();
    let maker = Maker {
        folder: args.dir.clone(),
        args: args.clone(),
        settings: settings.clone(),
        terminal: *terminal,
        artifacts: compile::open_store(&data)?,
        data,
        site,
        address: listening.address().to_string(),
        engine: None,
        shelf: Shelf::default(),
        crashes: None,
        roots: Roots::default(),
        served: None,
        broken: None,
        announced: false,
    };
    let making = std::thread::Builder::new()
        .name("tenon-dev".into())
        .spawn(move || maker.work(watch))
        .map_err(|error| CommandError::ours("the watcher could not start", &error))?;

    signals.forever().next();
    terminal.step("ending", "running requests may finish");
    // Nobody takes it while a compiler runs, and the channel may hold a notice: then sending waits.
    std::thread::spawn(move || stop.send(Woken::Stop));
    listening.drain();
    let since = Instant::now();
    // A compiler that is still at work ends with the terminal's own signal, or by itself.
    while !making.is_finished() && since.elapsed() < BUILD_GRACE {
        std::thread::sleep(Duration::from_millis(5));
    }
    if making.is_finished() && making.join().is_err() {
        return Err(CommandError::Ours(Diagnostic::new("internal", "the watcher failed")));
    }
    Ok(())
}

fn start_log() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::new("warn,tenon::guest=info"))
        .without_time()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

/// Makes one state after the other.
struct Maker {
    folder: PathBuf,
    args: DevArgs,
    settings: Settings,
    terminal: Terminal,
    artifacts: Artifacts,
    data: PathBuf,
    site: Arc<Site>,
    address: String,
    /// The engine, and the pool it was made with: another limit in the manifest may need another one.
    engine: Option<(Pool, Engine)>,
    shelf: Shelf,
    crashes: Option<Arc<Crashes>>,
    roots: Roots,
    /// What the state that is served was made from.
    served: Option<Identity>,
    /// What was wrong with the last state, when it was not served.
    broken: Option<Vec<Diagnostic>>,
    announced: bool,
}

/// Tells one state from another.
#[derive(Clone, PartialEq)]
struct Identity {
    component: Digest,
    limits: Limits,
    reuse: Reuse,
    authorities: Authorities,
    errors: ErrorStatuses,
}

/// A state before it is compiled.
struct Source {
    name: String,
    limits: Limits,
    reuse: Reuse,
    authorities: Authorities,
    errors: ErrorStatuses,
    component: Vec<u8>,
    built: Vec<Built>,
    files: Vec<PathBuf>,
}

/// How long each step of a cycle took.
#[derive(Default)]
struct Times {
    noticed: Duration,
    built: Duration,
    composed: Duration,
    compiled: Duration,
    linked: Duration,
}

/// How a cycle ended.
enum Made {
    /// Another state is served.
    New { name: String, handler: String, digest: Digest, built: Vec<Built>, times: Times },
    /// It is what is served already.
    Same,
}

impl Maker {
    fn work(mut self, mut watch: Watch) {
        let mut before = Snapshot::default();
        loop {
            let began = Instant::now();
            self.find_roots();
            let now = watch.snapshot(&self.roots, &before);
            let changed: Vec<String> =
                now.changed_since(&before).into_iter().map(|path| self.show(path)).collect();
            let first = !self.announced;
            if first || !changed.is_empty() {
                let made = self.make(first, began);
                self.tell(made, &changed, began);
                before = now;
                // What was saved meanwhile woke nobody who looked.
                continue;
            }
            before = now;
            if watch.wait() == Woken::Stop {
                return;
            }
        }
    }

    /// What is watched: the folder, and what its manifest names outside of it. A manifest that cannot be read has said
    /// before what that is.
    fn find_roots(&mut self) {
        let real = |path: &Path| {
            path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.into())
        };
        let folder = real(&self.folder);
        let mut roots = Roots { folders: [folder.clone()].into(), ..Roots::default() };
        match Project::open(&self.folder) {
            Ok(project) => {
                for job in build::jobs(&project) {
                    let wit = real(&job.wit);
                    let wit = if wit.is_file() {
                        wit.parent().map_or_else(|| wit.clone(), Path::to_owned)
                    } else {
                        wit
                    };
                    roots.folders.extend([real(&job.source), wit]);
                    roots.products.insert(real(&job.output));
                }
                for component in &project.manifest.components {
                    if component.source.is_none()
                        && let Some(folder) = real(&project.path(component)).parent()
                    {
                        roots.folders.insert(folder.to_owned());
                    }
                }
            }
            Err(_) if has_manifest(&self.folder) => {
                roots.folders.extend(self.roots.folders.iter().cloned());
                roots.products.extend(self.roots.products.iter().cloned());
            }
            Err(_) => {}
        }
        // A folder within another is watched with it.
        let all = roots.folders.clone();
        roots.folders.retain(|one| !all.iter().any(|other| one != other && one.starts_with(other)));
        self.roots = roots;
    }

    fn show(&self, path: &Path) -> String {
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        path.strip_prefix(folder).unwrap_or(path).display().to_string()
    }

    /// From the files as they are to a state that is served.
    fn make(&mut self, first: bool, began: Instant) -> Result<Made, CommandError> {
        let mut times = Times { noticed: began.elapsed(), ..Times::default() };
        let mut source = self.source(first, &mut times)?;
        let limits = addressable(self.args.limits.over(source.limits))?;
        let identity = Identity {
            component: Digest::of(&source.component),
            limits,
            reuse: source.reuse,
            authorities: source.authorities.clone(),
            errors: source.errors.clone(),
        };
        if self.served.as_ref() == Some(&identity) {
            self.site.announce(None);
            return Ok(Made::Same);
        }
        let compiling = Instant::now();
        let engine = self.engine(&limits)?;
        let quiet = Terminal::new(self.terminal.json, true);
        let stored = compile::compiled(&engine, &self.artifacts, &source.name, &source.component, &quiet)?;
        times.compiled = compiling.elapsed();
        let linking = Instant::now();
        let built = std::mem::take(&mut source.built);
        let service = self.service(&engine, &source, stored, limits)?;
        let (name, handler, digest) = (source.name, service.shape().to_string(), *service.digest());
        self.site.replace(service);
        times.linked = linking.elapsed();
        self.served = Some(identity);
        Ok(Made::New { name, handler, digest, built, times })
    }

    /// Builds and composes.
    fn source(&self, first: bool, times: &mut Times) -> Result<Source, CommandError> {
        // The first build may have to fetch what it needs: that is shown. Later ones are told in one line.
        let told = Terminal::new(self.terminal.json, !first);
        let building = Instant::now();
        if !has_manifest(&self.folder) {
            let job = build::lone_job(&self.folder);
            let built = build::build(std::slice::from_ref(&job), &self.settings, &told)?;
            times.built = building.elapsed();
            let file = job.output.display().to_string();
            let component = read(&job.output, COMPONENT_BYTES_MAX)?;
            tenon_wit::require_released_wasi(&file, &component)?;
            return Ok(Source {
                name: job.name,
                limits: Limits::default(),
                reuse: Reuse::default(),
                authorities: Authorities::default(),
                errors: ErrorStatuses::new(),
                component,
                built,
                files: vec![job.output],
            });
        }
        let project = Project::open(&self.folder)?;
        let built = build::build(&build::jobs(&project), &self.settings, &told)?;
        times.built = building.elapsed();
        let composing = Instant::now();
        let component = project.composed_to_serve()?;
        times.composed = composing.elapsed();
        Ok(Source {
            name: project.name(),
            limits: project.manifest.limits,
            reuse: project.manifest.reuse,
            authorities: project.authorities()?,
            files: project.manifest.components.iter().map(|component| project.path(component)).collect(),
            errors: project.manifest.errors,
            component,
            built,
        })
    }

    /// The engine for these limits.
    fn engine(&mut self, limits: &Limits) -> Result<Engine, CommandError> {
        let pool = Pool::of(SANDBOXES, limits);
        match &self.engine {
            Some((with, engine)) if *with == pool => Ok(engine.clone()),
            _ => {
                let engine = Engine::new(pool).map_err(Diagnostic::from)?;
                self.engine = Some((pool, engine.clone()));
                Ok(engine)
            }
        }
    }

    fn service(
        &mut self,
        engine: &Engine,
        source: &Source,
        stored: Stored,
        limits: Limits,
    ) -> Result<Service, CommandError> {
        let Source { name, authorities, errors, component, files, .. } = source;
        let stores = self.shelf.open(authorities, &self.data)?;
        let backends = Backends { stores, ..Backends::default() };
        let file = self.folder.display().to_string();
        let mut service = Service::new(
            engine,
            stored,
            &Terms { name, file: &file, limits, authorities, backends: &backends },
        )?
        .reusing(source.reuse)?;
        if service.post().is_some() && !self.announced {
            self.terminal.step("messages", "are not delivered here; `tenon serve` does that");
        }
        if let Some(crashes) = self.crashes(files, component) {
            service = service.reporting_to(crashes);
        }
        Ok(describe(service, &Known::Component(component), errors)?)
    }

    /// Where failed requests are reported to. An author can do without.
    fn crashes(&mut self, files: &[PathBuf], component: &[u8]) -> Option<Arc<Crashes>> {
        if self.crashes.is_none() {
            let absolute = |file: &PathBuf| {
                std::path::absolute(file).unwrap_or_else(|_| file.clone()).display().to_string()
            };
            let policy = CrashPolicy {
                keep: CRASH_REPORTS,
                keep_arguments: true,
                files: files.iter().map(absolute).collect(),
            };
            self.crashes = Crashes::open(&self.data, policy)
                .inspect_err(|error| tracing::warn!(%error, "no crash reports are kept"))
                .ok();
        }
        let crashes = self.crashes.clone()?;
        if let Err(error) = crashes.keep_component(component) {
            tracing::warn!(%error, "the component is not kept for its crash reports");
        }
        Some(crashes)
    }

    /// Says how a cycle ended, on the terminal and, when it did not end well, in the browser.
    fn tell(&mut self, made: Result<Made, CommandError>, changed: &[String], began: Instant) {
        match made {
            Ok(Made::New { name, handler, digest, built, times }) => {
                self.broken = None;
                self.announce(&name, &handler, &digest);
                self.tell_served(changed, &digest, &built, &times, began.elapsed());
            }
            Ok(Made::Same) => {
                if self.broken.take().is_some() {
                    self.mended(changed, began.elapsed());
                }
            }
            Err(error) => self.tell_broken(&error, changed),
        }
    }

    /// Where it is served, once.
    fn announce(&mut self, name: &str, handler: &str, digest: &Digest) {
        if std::mem::replace(&mut self.announced, true) {
            return;
        }
        self.terminal.step("handler", handler);
        self.announce_address(name, json!(handler), json!(digest.to_string()));
    }

    fn announce_address(&self, name: &str, handler: serde_json::Value, digest: serde_json::Value) {
        let address = &self.address;
        self.terminal.result(format_args!("serving {name} on http://{address}"), || {
            json!({ "event": "serving", "name": name, "address": address, "handler": handler, "digest": digest })
        });
    }

    fn tell_served(
        &self,
        changed: &[String],
        digest: &Digest,
        built: &[Built],
        times: &Times,
        took: Duration,
    ) {
        let Times { noticed, built: build, composed, compiled, linked } = times;
        if self.terminal.json {
            let names: Vec<_> = built.iter().filter(|one| !one.skipped).map(|one| &one.name).collect();
            self.terminal.result("", || {
                json!({
                    "event": "served", "changed": changed, "built": names, "digest": digest.to_string(),
                    "noticed_us": micros(*noticed), "build_us": micros(*build), "compose_us": micros(*composed),
                    "compile_us": micros(*compiled), "link_us": micros(*linked), "took_us": micros(took),
                })
            });
            return;
        }
        let names: Vec<String> = built
            .iter()
            .filter(|one| !one.skipped)
            .map(|one| format!("{} ({})", one.name, one.language))
            .collect();
        let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let time = format_duration;
        self.terminal.step(
            "served",
            format_args!(
                "{} changed → built {names} {} → composed {} → compiled {} → serving after {}",
                shown(changed),
                time(*build),
                time(*composed),
                time(*compiled),
                time(took),
            ),
        );
    }

    fn mended(&self, changed: &[String], took: Duration) {
        let what = format_args!("{} changed; it is what is served already", shown(changed)).to_string();
        self.terminal.step("mended", what);
        if self.terminal.json {
            self.terminal
                .result("", || json!({ "event": "mended", "changed": changed, "took_us": micros(took) }));
        }
    }

    fn tell_broken(&mut self, error: &CommandError, changed: &[String]) {
        let diagnostics: Vec<Diagnostic> = error.diagnostics().into_iter().cloned().collect();
        let serving = self.served.is_some();
        let name =
            Project::open(&self.folder).map_or_else(|_| build::lone_job(&self.folder).name, |it| it.name());
        self.site.announce(Some(page::notice(&name, &diagnostics.iter().collect::<Vec<_>>(), serving)));
        // A toolchain that writes into the source folder makes a second cycle of one change.
        if self.broken.as_ref() != Some(&diagnostics) {
            if self.terminal.json {
                let found: Vec<_> = diagnostics.iter().map(to_json).collect();
                self.terminal.result("", || {
                    json!({ "event": "broken", "changed": changed, "serving": serving, "diagnostics": found })
                });
            } else {
                self.terminal.error(error);
            }
            let state = if serving { "the last good state is served on" } else { "nothing is served yet" };
            self.terminal.step("broken", format_args!("{} changed; {state}", shown(changed)));
            self.broken = Some(diagnostics);
        }
        if !std::mem::replace(&mut self.announced, true) {
            self.announce_address(&name, json!(null), json!(null));
        }
    }
}

/// The changed files, as many as fit on a line.
fn shown(changed: &[String]) -> String {
    match changed.len() {
        0 => "nothing".into(),
        count if count > CHANGED_SHOWN_MAX => format!("{count} files"),
        _ => changed.join(", "),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
