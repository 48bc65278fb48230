//! `cargo xtask bench authoring`: how long it takes in each language from `tenon new` to the first response, and from saving a
//! file to its being served; and what a request costs in a fresh sandbox, and in one that is used again: of each language by itself,
//! and of four in one file.

mod composed;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Value, json};

use super::figures::Spread;
use super::machine::Machine;
use super::{client, process, subject};
use crate::command::{Cmd, Server};
use crate::failure::{Failure, Result};
use crate::http::Request;
use crate::signals;
use crate::steps::{Outcome, Steps};
use crate::usage;
use crate::workspace::Workspace;
use composed::Composed;

/// A language: its name for `--lang`, and for people; the file of its template that has the greeting.
struct Language {
    name: &'static str,
    shown: &'static str,
    source: &'static str,
}

const fn language(name: &'static str, shown: &'static str, source: &'static str) -> Language {
    Language { name, shown, source }
}

const LANGUAGES: [Language; 8] = [
    language("rust", "Rust", "src/lib.rs"),
    language("go", "Go", "handler/handler.go"),
    language("typescript", "TypeScript", "src/main.ts"),
    language("javascript", "JavaScript", "src/main.js"),
    language("python", "Python", "app.py"),
    language("c", "C", "app.c"),
    language("cpp", "C++", "app.cpp"),
    language("assemblyscript", "AssemblyScript", "assembly/handler.ts"),
];

/// What the compilers keep in the folder of tools; nothing measured of a first build may find it.
const COMPILER_CACHES: [&str; 2] = ["go-cache", "zig-cache"];
/// How often a file is saved for the time until it is served.
const SAVES: usize = 5;
/// The time that all of it may take, to which a promise was made.
const PROMISED: Duration = Duration::from_secs(60);
/// How long a server has to start, and what was saved to be served.
const SERVING_MAX: Duration = Duration::from_secs(180);
/// Requests under way at once, and for how long, while it is measured what one costs; and before that, so that all is warm.
const CONNECTIONS: usize = 4;
const LOAD: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(500);
/// More requests than the load can have.
const AGAIN: &str = "1000000";
/// How often a server is asked whether it serves at all; what is timed is told by the server itself, which nothing disturbs then.
const ASK: Duration = Duration::from_millis(50);

/// The steps from nothing to a response, in seconds.
#[derive(Clone, Copy, Default)]
struct Begun {
    new: f64,
    build: f64,
    serve: f64,
    response: f64,
}

impl Begun {
    fn all(&self) -> f64 {
        self.new + self.build + self.serve + self.response
    }
}

/// All that was measured of one language.
struct Measured {
    language: &'static Language,
    /// With nothing compiled before.
    first: Vec<Begun>,
    /// Another project, when the language's own libraries have been compiled.
    next: Vec<Begun>,
    /// From saving a file to the first response that shows it, in seconds.
    saved: Vec<f64>,
    /// Processor time of the server for a request, in microseconds, in a fresh sandbox for each.
    fresh: Vec<f64>,
    /// The same in a sandbox that is used again.
    again: Vec<f64>,
    /// Why there is nothing, if there is nothing.
    missing: Option<String>,
}

/// Measures, and reports.
pub(crate) fn run(workspace: &Workspace, options: &usage::AuthoringBench) -> Result<ExitCode> {
    let mut steps = Steps::new(4);
    steps.run("build", || {
        if options.built {
            return Ok(Outcome::Skipped("it is taken as it is".to_owned()));
        }
        workspace.build_programs(&["tenon"]).map(|()| Outcome::Done)
    })?;
    signals::listen()?;
    let folder = super::results_folder(workspace)?;
    let mut machine = Machine::look(workspace);
    let chosen = |language: &&Language| options.language.as_ref().is_none_or(|name| name == language.name);
    let mut measured: Vec<Measured> = LANGUAGES
        .iter()
        .filter(chosen)
        .map(|language| Measured {
            language,
            first: Vec::new(),
            next: Vec::new(),
            saved: Vec::new(),
            fresh: Vec::new(),
            again: Vec::new(),
            missing: None,
        })
        .collect();
    let chosen = options.language.as_deref().is_none_or(|name| name == composed::NAME);
    let mut composed = chosen.then(Composed::default);
    if measured.is_empty() && composed.is_none() {
        let names: Vec<_> = LANGUAGES.iter().map(|language| language.name).chain([composed::NAME]).collect();
        return Err(Failure::new("there is no such language").mend(format!("one of {}", names.join(", "))));
    }
    steps.run("from nothing to a response, and from a save to one", || {
        for round in 1..=options.rounds {
            for one in measured.iter_mut().filter(|one| one.missing.is_none()) {
                signals::check()?;
                let bench = Bench::begin(workspace, &folder, one.language)?;
                if let Err(failure) = bench.round(one) {
                    signals::check()?;
                    println!("{failure}");
                    one.missing = Some(failure.what().to_owned());
                    continue;
                }
                let all = |of: &[Begun]| of.last().map_or(f64::NAN, Begun::all);
                let last = |of: &[f64]| of.last().copied().unwrap_or(f64::NAN);
                println!(
                    "  round {round}/{}  {:16} {:>6.1} s, then {:>5.1} s; saved to served {:>6.2} s; {:.0} µs a request fresh, {:.0} again",
                    options.rounds,
                    one.language.shown,
                    all(&one.first),
                    all(&one.next),
                    last(&one.saved),
                    last(&one.fresh),
                    last(&one.again)
                );
            }
        }
        Ok(Outcome::Done)
    })?;
    steps.run("four languages in one file", || {
        let Some(composed) = &mut composed else {
            return Ok(Outcome::Skipped("one language is measured".to_owned()));
        };
        for _ in 0..options.rounds {
            signals::check()?;
            if let Err(failure) = composed.round(workspace, &folder) {
                signals::check()?;
                println!("{failure}");
                composed.missing = Some(failure.what().to_owned());
                break;
            }
            print!("  {}", composed.text());
        }
        Ok(Outcome::Done)
    })?;
    machine.look_again();
    steps.run("report", || {
        let composed = composed.as_ref();
        let (text, json) =
            (text(&measured, composed, &machine, options), json(&measured, composed, &machine, options));
        println!("\n{text}");
        let files = [("authoring.txt", text.as_str()), ("authoring.json", json.as_str())];
        super::write(workspace, &folder, options.publish, &files, None)?;
        Ok(Outcome::Done)
    })?;
    steps.print_table("Steps:");
    let languages = measured.iter().map(|one| (one.language.shown, &one.missing));
    let all = languages.chain(composed.iter().map(|one| (composed::NAME, &one.missing)));
    match all.into_iter().find_map(|(name, missing)| Some((name, missing.as_ref()?))) {
        Some((name, why)) => Err(Failure::new(format!("{name} was not measured: {why}"))),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// A folder that nothing has been built in, with the toolchains but nothing that they have compiled.
struct Bench<'a> {
    workspace: &'a Workspace,
    language: &'static Language,
    root: PathBuf,
    log: PathBuf,
}

impl<'a> Bench<'a> {
    fn begin(workspace: &'a Workspace, results: &Path, language: &'static Language) -> Result<Self> {
        let root = workspace.target.join("bench/authoring");
        let _nothing_there = fs::remove_dir_all(&root);
        let tools = root.join("tools");
        fs::create_dir_all(&tools).map_err(|error| Failure::file("create", &tools, &error))?;
        let listing = fs::read_dir(workspace.tools())
            .map_err(|error| Failure::file("read", &workspace.tools(), &error).mend("tenon doctor --fix"))?;
        for entry in listing.filter_map(std::result::Result::ok) {
            let name = entry.file_name();
            if !COMPILER_CACHES.iter().any(|cache| name == *cache) {
                let link = tools.join(name);
                symlink(entry.path(), &link).map_err(|error| Failure::file("create", &link, &error))?;
            }
        }
        Ok(Self { workspace, language, root, log: results.join("logs/authoring.log") })
    }

    fn tenon<'b>(&self, arguments: impl IntoIterator<Item = &'b str>) -> Cmd {
        self.workspace
            .run_tenon(arguments)
            .env("TENON_TOOLS", self.root.join("tools"))
            .env("TENON_DATA", self.root.join("data"))
            .cwd(&self.root)
            .log_to(&self.log)
    }

    /// What a program said, where it failed.
    fn said<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|failure| subject::said(&failure, &self.log))
    }

    fn round(&self, measured: &mut Measured) -> Result<()> {
        measured.first.push(self.begun("first")?);
        // What was compiled to native code for the first project is nothing of this one.
        let data = self.root.join("data");
        fs::remove_dir_all(&data).map_err(|error| Failure::file("remove", &data, &error))?;
        measured.next.push(self.begun("next")?);
        measured.fresh.push(self.cost("next", &[])?);
        measured.again.push(self.cost("next", &["--reuse-requests", AGAIN])?);
        measured.saved.extend(self.saves("next")?);
        Ok(())
    }

    /// `tenon new`, `tenon build`, `tenon serve`, and a request.
    fn begun(&self, project: &str) -> Result<Begun> {
        let timed = |command: Cmd| {
            let started = Instant::now();
            self.said(command.capture())?;
            Ok(started.elapsed().as_secs_f64())
        };
        let new = timed(self.tenon(["new", project, "--lang", self.language.name, "--quiet"]))?;
        let build = timed(self.tenon(["build", project, "--quiet"]))?;
        let (server, address) = self.start(self.tenon(["serve", project]))?;
        let serve = server.started.elapsed().as_secs_f64();
        let asked = Instant::now();
        let greeting = self.ask(address)?;
        let response = asked.elapsed().as_secs_f64();
        server.stop()?;
        let expected = format!("Hello from {} at /some/path\n", self.language.shown);
        if greeting != expected {
            return Err(Failure::new(format!("{expected:?} was expected, and {greeting:?} came")));
        }
        Ok(Begun { new, build, serve, response })
    }

    /// The server's processor time for one request, in microseconds.
    fn cost(&self, project: &str, options: &[&str]) -> Result<f64> {
        let serve = ["serve", project, "--workers", "1"];
        cost_of(self.tenon(serve.into_iter().chain(options.iter().copied())), &self.log, "/some/path")
    }

    fn start(&self, command: Cmd) -> Result<(Server, SocketAddr)> {
        start(command, &self.log)
    }

    fn ask(&self, address: SocketAddr) -> Result<String> {
        Ok(Request { method: "GET", path: "/some/path", ..Request::default() }.send(address)?.text())
    }

    /// Saves the source with another greeting, again and again, while `tenon dev` serves it.
    fn saves(&self, project: &str) -> Result<Vec<f64>> {
        let source = self.root.join(project).join(self.language.source);
        let text = fs::read_to_string(&source).map_err(|error| Failure::file("read", &source, &error))?;
        let (mut server, address) = self.start(self.tenon(["dev", project]))?;
        let deadline = Instant::now() + SERVING_MAX;
        while !self.ask(address)?.starts_with("Hello from") {
            signals::check()?;
            if Instant::now() > deadline {
                return Err(Failure::new("the project as it began was not served"));
            }
            thread::sleep(ASK);
        }
        let mut took = Vec::new();
        for number in 0..SAVES {
            signals::check()?;
            let greeting = format!("Hello for the {number}th time from");
            let saved = Instant::now();
            fs::write(&source, text.replace("Hello from", &greeting))
                .map_err(|error| Failure::file("write", &source, &error))?;
            self.said(self.served(&mut server, address, &greeting))?;
            took.push(saved.elapsed().as_secs_f64());
        }
        server.stop()?;
        Ok(took)
    }

    /// Waits until the server says that it serves something new, and a response begins with `greeting`.
    fn served(&self, server: &mut Server, address: SocketAddr, greeting: &str) -> Result<()> {
        loop {
            let line = server.wait_for_line("{\"", SERVING_MAX)?;
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            match event["event"].as_str() {
                // The start is one, too.
                Some("served") if self.ask(address)?.starts_with(greeting) => return Ok(()),
                Some("broken") => return Err(Failure::new(format!("what was saved does not build: {line}"))),
                _ => {}
            }
        }
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // Compilers' caches: a few hundred megabytes.
        let _nothing_there = fs::remove_dir_all(&self.root);
    }
}

/// Starts a server that writes its log there; it is up when it says where.
fn start(command: Cmd, log: &Path) -> Result<(Server, SocketAddr)> {
    let mut server = command.args(["--json", "--listen", "127.0.0.1:0"]).start()?;
    let line = server.wait_for_line("{\"", SERVING_MAX).map_err(|failure| subject::said(&failure, log))?;
    let event: Value = serde_json::from_str(&line)
        .map_err(|error| Failure::new(format!("the server says {line:?}: {error}")))?;
    let address = event["address"].as_str().and_then(|address| address.parse().ok());
    Ok((server, address.ok_or_else(|| Failure::new(format!("no address in {line:?}")))?))
}

/// The processor time that this server takes for one request of this path, in microseconds.
fn cost_of(command: Cmd, log: &Path, path: &str) -> Result<f64> {
    let (server, address) = start(command, log)?;
    client::load(address, "localhost", path, CONNECTIONS, WARM_UP)?;
    let before = process::cpu(server.id())?;
    let loaded = client::load(address, "localhost", path, CONNECTIONS, LOAD)?;
    let rates = loaded.rates(process::cpu(server.id())?.saturating_sub(before));
    server.stop()?;
    match rates.failed {
        0 => Ok(rates.cpu_us),
        failed => Err(Failure::new(format!("{failed} requests failed"))),
    }
}

/// The middle of one figure over the rounds.
fn middle(of: &[Begun], figure: fn(&Begun) -> f64) -> f64 {
    Spread::of(of.iter().map(figure)).map_or(f64::NAN, |spread| spread.median)
}

fn text(
    measured: &[Measured],
    composed: Option<&Composed>,
    machine: &Machine,
    options: &usage::AuthoringBench,
) -> String {
    let mut text = format!("{}\n\n", machine.text());
    let _infallible = writeln!(
        text,
        "Seconds, the middle of {} round(s). `new` to `response` with the toolchains installed and nothing compiled by them before; \
         `next` is all of it again\nfor another project. `saved` is from saving a source file under `tenon dev` to a response that \
         shows it: the middle and the longest of {} saves. `fresh` and `again` are microseconds of the server's processor time a request,\nin a \
         sandbox of its own and in one that is used again.\n",
        options.rounds,
        options.rounds * SAVES
    );
    let _infallible = writeln!(
        text,
        "{:16}{:>8}{:>8}{:>8}{:>10}{:>8}{:>8}{:>8}{:>9}{:>8}{:>8}{:>8}",
        "language",
        "new",
        "build",
        "serve",
        "response",
        "all",
        "next",
        "saved",
        "longest",
        "fresh",
        "again",
        "times"
    );
    for one in measured {
        if let Some(why) = &one.missing {
            let _infallible = writeln!(text, "{:16} not measured: {why}", one.language.shown);
            continue;
        }
        let saved = Spread::of(one.saved.iter().copied());
        let first = |figure| middle(&one.first, figure);
        let cost = |of: &[f64]| Spread::of(of.iter().copied()).map_or(f64::NAN, |spread| spread.median);
        let (fresh, again) = (cost(&one.fresh), cost(&one.again));
        let _infallible = writeln!(
            text,
            "{:16}{:>8.2}{:>8.1}{:>8.2}{:>10.3}{:>8.1}{:>8.1}{:>8.2}{:>9.2}{fresh:>8.0}{again:>8.0}{:>8.1}",
            one.language.shown,
            first(|it| it.new),
            first(|it| it.build),
            first(|it| it.serve),
            first(|it| it.response),
            first(Begun::all),
            middle(&one.next, Begun::all),
            saved.map_or(f64::NAN, |saved| saved.median),
            saved.map_or(f64::NAN, |saved| saved.max),
            fresh / again
        );
    }
    let slow: Vec<_> = measured
        .iter()
        .filter(|one| middle(&one.first, Begun::all) > PROMISED.as_secs_f64())
        .map(|one| one.language.shown)
        .collect();
    let verdict = if slow.is_empty() {
        let all = measured.iter().all(|one| one.missing.is_none());
        (if all { "Each is within" } else { "Each that was measured is within" }).to_owned()
    } else {
        format!("{} is not within", slow.join(", "))
    };
    if !measured.is_empty() {
        let _infallible = writeln!(
            text,
            "\n{verdict} the {} s from `tenon new` to the first response.",
            PROMISED.as_secs()
        );
    }
    if let Some(composed) = composed {
        let _infallible = write!(text, "\n{}", composed.text());
    }
    text
}

fn json(
    measured: &[Measured],
    composed: Option<&Composed>,
    machine: &Machine,
    options: &usage::AuthoringBench,
) -> String {
    let spread = |values: &mut dyn Iterator<Item = f64>| Spread::of(values).map(|spread| spread.json());
    let begun = |of: &[Begun]| {
        let figure = |figure: fn(&Begun) -> f64| spread(&mut of.iter().map(figure));
        json!({
            "new_s": figure(|it| it.new), "build_s": figure(|it| it.build), "serve_s": figure(|it| it.serve),
            "response_s": figure(|it| it.response), "all_s": figure(Begun::all),
        })
    };
    let languages: Vec<Value> = measured
        .iter()
        .map(|one| {
            json!({
                "language": one.language.name, "first": begun(&one.first), "next": begun(&one.next),
                "saved_s": spread(&mut one.saved.iter().copied()), "fresh_us": spread(&mut one.fresh.iter().copied()),
                "again_us": spread(&mut one.again.iter().copied()), "missing": one.missing,
            })
        })
        .collect();
    let all = json!({
        "shape": "tenon-bench-authoring/1", "machine": machine.json(), "rounds": options.rounds, "saves": SAVES,
        "promised_s": PROMISED.as_secs(), "languages": languages, "composed": composed.map(Composed::json),
    });
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_has_the_greeting_that_is_changed() {
        let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
        for language in &LANGUAGES {
            let text = fs::read_to_string(templates.join(language.name).join(language.source)).unwrap();
            assert!(text.contains("Hello from"), "{}", language.name);
        }
    }

    #[test]
    fn the_table_says_who_is_too_slow() {
        let begun = |build| vec![Begun { new: 0.01, build, serve: 0.2, response: 0.003 }; 3];
        let one = |at: usize, build, missing: Option<&str>| Measured {
            language: &LANGUAGES[at],
            first: if missing.is_some() { Vec::new() } else { begun(build) },
            next: if missing.is_some() { Vec::new() } else { begun(2.0) },
            saved: vec![0.5, 0.7, 0.9],
            fresh: vec![120.0],
            again: vec![60.0],
            missing: missing.map(str::to_owned),
        };
        let options = usage::AuthoringBench::default();
        let machine = Machine::look(&Workspace::find().unwrap());
        let said = |measured: &[Measured]| text(measured, None, &machine, &options);
        let good = said(&[one(0, 20.0, None), one(1, 9.0, None)]);
        assert!(good.contains("Each is within the 60 s"), "{good}");
        let row = good.lines().find(|line| line.starts_with("Rust")).unwrap();
        let figures: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            figures,
            ["Rust", "0.01", "20.0", "0.20", "0.003", "20.2", "2.2", "0.70", "0.90", "120", "60", "2.0"]
        );
        let slow = said(&[one(6, 80.0, None), one(5, 0.0, Some("no compiler"))]);
        assert!(
            slow.contains("C++ is not within the 60 s") && slow.contains("not measured: no compiler"),
            "{slow}"
        );
        let composed = Composed::default();
        let value: Value =
            serde_json::from_str(&json(&[one(0, 1.0, None)], Some(&composed), &machine, &options)).unwrap();
        assert_eq!(value["languages"][0]["saved_s"]["median"], 0.7);
        assert_eq!(value["composed"]["verdict"], "not measured");
        let both = text(&[one(0, 1.0, None)], Some(&composed), &machine, &options);
        assert!(both.ends_with("not measured: nobody asked for it\n"), "{both}");
    }
}
