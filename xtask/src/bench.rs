//! `cargo xtask bench`: Tenon and its peer on the same component, the same core, in turns.

pub(crate) mod authoring;
mod client;
mod figures;
mod guards;
mod guests;
mod held;
mod load;
mod machine;
mod neighbours;
pub(crate) mod node;
mod picture;
mod process;
mod report;
pub(crate) mod ship;
mod subject;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, thread};

use figures::Spread;
use guests::{Guarded, Guests};
use load::Load;
use machine::{Cores, Machine};
use subject::Subject;

use crate::demo;
use crate::failure::{Failure, Result};
use crate::signals;
use crate::steps::{Outcome, Steps};
use crate::tools;
use crate::usage;
use crate::workspace::Workspace;

/// Seconds of load before a measurement, to fill caches and pools.
const WARM_UP_SECONDS: u64 = 1;
/// Seconds of load over one connection, for the latency of a server that nobody else is asking.
const UNLOADED_SECONDS: u64 = 2;
/// How often each server is started to see how long its first answer takes.
const STARTS: usize = 11;
/// Requests held open at once, each in an instance of its own.
const HELD: usize = 2_000;

/// What one round of one server gave.
#[derive(Clone, Default)]
struct Round {
    requests: u64,
    failed: u64,
    requests_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    unloaded_p50_us: f64,
    unloaded_p99_us: f64,
    cpu_us_per_request: f64,
    server_core_busy: f64,
    resident_kib: f64,
    resident_peak_kib: f64,
}

/// All that was measured of one server.
struct Measured {
    subject: Subject,
    rounds: Vec<Round>,
    first_byte_ms: Vec<f64>,
    /// Why there is nothing, if there is nothing.
    missing: Option<String>,
}

impl Measured {
    /// The spread over the rounds of one figure, unless nothing was measured.
    fn spread(&self, figure: impl Fn(&Round) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(figure))
    }
}

/// Everything that a report is made of.
struct Results {
    machine: Machine,
    cores: Cores,
    settings: usage::Bench,
    measured: Vec<Measured>,
    held: Vec<held::Held>,
    guards: guards::Guards,
    neighbours: neighbours::Neighbours,
    sizes: Vec<(&'static str, Option<u64>)>,
    peer: String,
    generator: String,
}

/// Measures what was asked for.
pub(crate) fn run(workspace: &Workspace, options: &usage::Bench) -> Result<ExitCode> {
    if options.sandbox { run_sandbox(workspace, options) } else { run_http(workspace, options) }
}

fn install(steps: &mut Steps, workspace: &Workspace, name: &'static str, tool: &tools::Tool) -> Result<()> {
    steps.run(name, || {
        let installed = tool.install(workspace)?;
        Ok(if installed { Outcome::Done } else { Outcome::Skipped(format!("{} is there", tool.name())) })
    })
}

fn build(steps: &mut Steps, workspace: &Workspace) -> Result<()> {
    steps.run("build tenon", || {
        // Together with the host whose guards can be switched off, so that both are of one build of the engine.
        workspace.build_programs(&["tenon", "bench-guarded"]).map(|()| Outcome::Done)
    })
}

/// Where results and logs go.
fn results_folder(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.root.join("benches/results");
    fs::create_dir_all(folder.join("logs")).map_err(|error| Failure::file("create", &folder, &error))?;
    Ok(folder)
}

/// What is measured of Tenon alone.
struct Sandboxes {
    machine: Machine,
    cores: Cores,
    settings: usage::Bench,
    guards: guards::Guards,
    neighbours: neighbours::Neighbours,
    generator: String,
}

/// Prepares, measures and reports what needs no peer.
fn run_sandbox(workspace: &Workspace, options: &usage::Bench) -> Result<ExitCode> {
    let mut steps = Steps::new(5);
    install(&mut steps, workspace, "load generator", &tools::OHA)?;
    build(&mut steps, workspace)?;
    let mut guests = None;
    steps.run("guests", || {
        guests = Some(Guarded::build(workspace)?);
        Ok(Outcome::Done)
    })?;
    let guests = guests.ok_or_else(|| Failure::new("the guests were not built"))?;
    signals::listen()?;
    let folder = results_folder(workspace)?;
    let run = Run { workspace, cores: Cores::choose()?, options, logs: folder.join("logs") };
    let mut machine = Machine::look(workspace);
    let (guards, neighbours) = measure_sandbox(&mut steps, &run, &guests)?;
    machine.look_again();
    let results = Sandboxes {
        machine,
        cores: run.cores,
        settings: options.clone(),
        guards,
        neighbours,
        generator: tools::OHA.name(),
    };
    let (text, json) = (report::sandbox_text(&results), report::sandbox_json(&results));
    println!("\n{text}");
    let files = [("sandbox.txt", text.as_str()), ("sandbox.json", json.as_str())];
    let also = options.json.as_deref().map(|file| (file, json.as_str()));
    write(workspace, &folder, options.publish, &files, also)?;
    steps.print_table("Steps:");
    Ok(ExitCode::SUCCESS)
}

fn measure_sandbox(
    steps: &mut Steps,
    run: &Run<'_>,
    guests: &Guarded,
) -> Result<(guards::Guards, neighbours::Neighbours)> {
    let (mut guards, mut neighbours) = (guards::Guards::default(), neighbours::Neighbours::default());
    steps.run("what guarding costs", || {
        guards = guards::measure(run, guests)?;
        Ok(Outcome::Done)
    })?;
    steps.run("neighbours of a guest that loops", || {
        neighbours = neighbours::measure(run, guests)?;
        Ok(Outcome::Done)
    })?;
    Ok((guards, neighbours))
}

/// Prepares, measures and reports all of it.
fn run_http(workspace: &Workspace, options: &usage::Bench) -> Result<ExitCode> {
    let mut steps = Steps::new(12);
    install(&mut steps, workspace, "peer", &tools::WASMTIME)?;
    install(&mut steps, workspace, "load generator", &tools::OHA)?;
    build(&mut steps, workspace)?;
    let mut guests = None;
    steps.run("guests and the floor", || {
        guests = Some(Guests::build(workspace)?);
        Ok(Outcome::Done)
    })?;
    let guests = guests.ok_or_else(|| Failure::new("the guests were not built"))?;
    // A report beside the others: without it they are still worth having.
    let composed = demo::build_storefront(workspace, &mut steps).ok();

    signals::listen()?;
    let folder = results_folder(workspace)?;
    let cores = Cores::choose()?;
    let mut machine = Machine::look(workspace);
    let mut measured: Vec<Measured> = subject::all(workspace, &guests, composed.as_deref())
        .into_iter()
        .map(|subject| Measured { subject, rounds: Vec::new(), first_byte_ms: Vec::new(), missing: None })
        .collect();
    let mut held = Vec::new();
    let run = Run { workspace, cores, options, logs: folder.join("logs") };
    steps.run("load", || run.rounds(&mut measured).map(|()| Outcome::Done))?;
    steps.run("first byte and held instances", || {
        run.starts(&mut measured)?;
        held = held::measure(&run, &guests, HELD)?;
        Ok(Outcome::Done)
    })?;
    let (guards, neighbours) = measure_sandbox(&mut steps, &run, &guests.guarded)?;
    machine.look_again();

    let size = |file: &Path| file.metadata().ok().map(|metadata| metadata.len());
    let sizes = vec![
        ("hello, wasi:http 0.2 (Rust)", size(&guests.guarded.http)),
        ("hello, plain handler (Rust)", size(&guests.plain)),
        ("hello, wasi:http 0.3 (Rust)", size(&guests.service)),
        ("storefront, composed (Rust, Go, TypeScript)", composed.as_deref().and_then(size)),
    ];
    let results = Results {
        machine,
        cores,
        settings: options.clone(),
        measured,
        held,
        guards,
        neighbours,
        sizes,
        peer: tools::WASMTIME.name(),
        generator: tools::OHA.name(),
    };
    let (text, json, picture) = (report::text(&results), report::json(&results), picture::svg(&results));
    println!("\n{text}");
    let files = [("http.txt", text.as_str()), ("http.json", json.as_str()), ("http.svg", picture.as_str())];
    let also = options.json.as_deref().map(|file| (file, json.as_str()));
    write(workspace, &folder, options.publish, &files, also)?;
    steps.print_table("Steps:");
    Ok(ExitCode::SUCCESS)
}

/// Writes each file among the results and, where that is asked for, among what is published; and one more, where somebody
/// wants it.
fn write(
    workspace: &Workspace,
    results: &Path,
    publish: bool,
    named: &[(&str, &str)],
    also: Option<(&Path, &str)>,
) -> Result<()> {
    let published = workspace.root.join("docs/benchmarks");
    let mut files: Vec<(PathBuf, &str)> = Vec::new();
    for folder in [results].into_iter().chain(publish.then_some(published.as_path())) {
        fs::create_dir_all(folder).map_err(|error| Failure::file("create", folder, &error))?;
        files.extend(named.iter().map(|(name, content)| (folder.join(name), *content)));
    }
    files.extend(also.map(|(file, content)| (file.to_path_buf(), content)));
    for (file, content) in files {
        fs::write(&file, content).map_err(|error| Failure::file("write", &file, &error))?;
        println!("wrote {}", file.display());
    }
    Ok(())
}

/// What every measurement needs.
struct Run<'a> {
    workspace: &'a Workspace,
    cores: Cores,
    options: &'a usage::Bench,
    logs: PathBuf,
}

impl Run<'_> {
    /// All servers in turn, then all again: what disturbs the machine for a while disturbs them all.
    fn rounds(&self, measured: &mut [Measured]) -> Result<()> {
        for round in 1..=self.options.rounds {
            for one in measured.iter_mut().filter(|one| one.missing.is_none()) {
                signals::check()?;
                match self.round(&one.subject) {
                    Ok(result) => {
                        println!(
                            "  round {round}/{}  {:44} {:>8.0} requests/s  {:>7.1} µs CPU",
                            self.options.rounds,
                            one.subject.name,
                            result.requests_per_second,
                            result.cpu_us_per_request
                        );
                        one.rounds.push(result);
                    }
                    Err(failure) => {
                        signals::check()?;
                        println!(
                            "  round {round}/{}  {:44} {failure}",
                            self.options.rounds, one.subject.name
                        );
                        one.rounds.clear();
                        one.missing = Some(failure.what().to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    /// One server, from its start to its end.
    fn round(&self, subject: &Subject) -> Result<Round> {
        let (mut server, address, _) = subject.start(self.cores.server, &self.logs)?;
        let load = |connections, seconds| Load {
            connections,
            seconds,
            rate: None,
            address,
            path: subject.path,
            core: self.cores.load,
        };
        load(self.options.connections, WARM_UP_SECONDS).run(self.workspace)?;

        let id = server.id();
        let before = process::cpu(id)?;
        let (loaded, memory) = thread::scope(|scope| {
            let watch = process::Watch::start(scope, id);
            let loaded = load(self.options.connections, self.options.seconds).run(self.workspace);
            loaded.map(|loaded| (loaded, watch.stop()))
        })?;
        let cpu = process::cpu(id)?.saturating_sub(before);
        let unloaded = load(1, UNLOADED_SECONDS).run(self.workspace)?;
        let resident_peak_kib = process::memory(id)?.peak_kib;
        server.check()?;
        server.stop()?;
        if loaded.answered == 0 {
            return Err(Failure::new("not one request was answered with 200"));
        }
        Ok(Round {
            requests: loaded.answered,
            failed: loaded.failed,
            requests_per_second: loaded.answered as f64 / loaded.seconds,
            p50_us: loaded.p50_us,
            p99_us: loaded.p99_us,
            unloaded_p50_us: unloaded.p50_us,
            unloaded_p99_us: unloaded.p99_us,
            cpu_us_per_request: cpu.as_secs_f64() * 1e6 / loaded.answered as f64,
            server_core_busy: cpu.as_secs_f64() / loaded.seconds,
            resident_kib: memory,
            resident_peak_kib,
        })
    }

    /// Starts every server again and again and times its first byte, in turns.
    fn starts(&self, measured: &mut [Measured]) -> Result<()> {
        for _ in 0..STARTS {
            for one in measured.iter_mut().filter(|one| one.missing.is_none()) {
                signals::check()?;
                let (server, _, first_byte) = one.subject.start(self.cores.server, &self.logs)?;
                one.first_byte_ms.push(first_byte.as_secs_f64() * 1e3);
                server.stop()?;
            }
        }
        Ok(())
    }
}
