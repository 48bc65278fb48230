//! `cargo xtask test`: everything that must hold, in one run. Every step runs, whatever came of those before it.

use std::fs;
use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::command::Cmd;
use crate::counts::{Counts, Told};
use crate::demo;
use crate::failure::{Failure, Result};
use crate::reference;
use crate::rules;
use crate::scan;
use crate::steps::{Outcome, Steps};
use crate::tools;
use crate::usage;
use crate::workspace::Workspace;

/// How long fetching the advisories may take.
const FETCH_MAX: Duration = Duration::from_secs(90);
/// How many tests of a program run at the same time; what runs them reads it.
const TEST_THREADS: &str = "RUST_TEST_THREADS";
/// How often a node is killed; the test reads it.
const KILLS: &str = "TENON_KILLS";
/// How deep below a folder sources and programs are looked for.
const DEPTH_MAX: usize = 8;

/// Runs the checks and tests; the last line says how many passed and failed.
pub(crate) fn run(workspace: &Workspace, options: &usage::Test) -> Result<ExitCode> {
    let steps = match &options.filter {
        Some(filter) => matching(workspace, filter),
        None => everything(workspace, options),
    };
    if steps.is_empty() {
        let asked = options.step.as_deref().unwrap_or_default();
        return Err(Failure::new(format!("no step has {asked:?} in its name")));
    }
    steps.print_table("Summary:");
    let counts = steps.counts();
    // A test that failed may have failed inside a step that went on: the count decides.
    let code =
        if counts.failed == 0 && steps.expect_all().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    println!("\n{counts}");
    Ok(code)
}

/// The tests whose name contains `filter`, and nothing else.
fn matching(workspace: &Workspace, filter: &str) -> Steps {
    let mut steps = Steps::new(1);
    // What came of each step is in `steps`; the run goes on whatever it is.
    let _recorded = steps.run("tests", || cargo_tests(workspace, Some(filter)));
    steps
}

fn everything(workspace: &Workspace, options: &usage::Test) -> Steps {
    let mut steps = Steps::new(14).only(options.step.as_deref());
    let quick = options.quick;
    let not_quick = |step: &dyn Fn() -> Result<Outcome>| {
        if quick { Ok(Outcome::Skipped("--quick".into())) } else { step() }
    };
    let _recorded = [
        steps.run("set up Rust", || {
            let added = tools::complete_rust(workspace)?;
            Ok(if added.is_empty() {
                Outcome::Done
            } else {
                Outcome::Said(format!("added {}", added.join(", ")))
            })
        }),
        steps.run("format", || format(workspace)),
        steps.run("never list", || {
            let metadata = rules::check(workspace);
            let sources = scan::check(workspace);
            Ok(Outcome::Said(format!("{}; {}", metadata?, sources?)))
        }),
        // Before everything that tests: it builds the engine once, as the tests want it. Building the program by itself
        // would leave out what the tests need of shared dependencies, and so build those twice.
        steps.run("build", || {
            workspace.cargo(["test", "--release", "--workspace", "--no-run"]).run().map(|()| Outcome::Done)
        }),
        steps.run("set up toolchains", || demo::complete_all_toolchains(workspace)),
        steps.run("set up Redis", || Ok(tools::complete_redis(workspace))),
        steps.run("set up a browser", || Ok(tools::complete_browser(workspace))),
        steps.run("lint", || {
            // As optimised as the build: what its build scripts and macros are made of is there already.
            let lint = ["clippy", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"];
            // The fuzz targets among them: a build script would compile the fuzzer, in C++, which nothing that is checked
            // links.
            let lint = workspace.cargo(lint).env("CUSTOM_LIBFUZZER_PATH", "/unused/libFuzzer.a");
            lint.run().map(|()| Outcome::Done)
        }),
        // Shares what `lint` has checked of the dependencies.
        steps.run("documentation", || {
            reference::check(workspace)?;
            not_quick(&|| {
                let doc = workspace
                    .cargo(["doc", "--release", "--workspace", "--no-deps"])
                    .env("RUSTDOCFLAGS", "--deny warnings");
                doc.run().map(|()| Outcome::Done)
            })
        }),
        steps.run("tests", || cargo_tests(workspace, None)),
        steps.run("tests of Rust guests", || not_quick(&|| rust_guest_tests(workspace))),
        steps.run("tests of Go guests", || not_quick(&|| go_guest_tests(workspace))),
        steps.run("licences, bans, sources", || not_quick(&|| deny(workspace))),
        steps.run("advisories", || not_quick(&|| advisories(workspace))),
        steps.run_if_asked("kills", || kills(workspace)),
    ];
    steps
}

fn format(workspace: &Workspace) -> Result<Outcome> {
    // The formatter colours what it would change even when nobody sees colours.
    let colour = if std::io::stdout().is_terminal() { "auto" } else { "never" };
    let check = |manifest: &Path| {
        let check = workspace.cargo(["fmt", "--all", "--check", "--manifest-path"]).arg(manifest);
        check.args(["--", "--color", colour]).run()
    };
    let mut failed = check(&workspace.root.join("Cargo.toml")).err();
    let guests = manifests_outside(workspace)?;
    for manifest in &guests {
        let checked = check(manifest);
        failed = failed.or(checked.err());
    }
    match failed {
        None => Ok(Outcome::Said(format!("the workspace and {} folders beside it", guests.len()))),
        Some(failure) => Err(failure),
    }
}

/// The manifests of Rust packages that are not members of the workspace: guests, examples, the measured floor.
fn manifests_outside(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["examples", "benches", "crates/testkit/guests"] {
        files(&workspace.root.join(folder), DEPTH_MAX, &mut |file| {
            if file.file_name().is_some_and(|name| name == "Cargo.toml") {
                found.push(file.to_path_buf());
            }
        })?;
    }
    // Members of the workspace are tested with it, and building the engine once more would take minutes.
    found.retain(|manifest| {
        !fs::read_to_string(manifest).is_ok_and(|text| text.contains(".workspace = true"))
    });
    // A workspace of guests speaks for its members.
    let roots: Vec<PathBuf> = found.clone();
    found.retain(|manifest| {
        let Some(folder) = manifest.parent() else { return true };
        !roots.iter().any(|root| root.parent().is_some_and(|root| root != folder && folder.starts_with(root)))
    });
    Ok(found)
}

/// Every file below `folder` that is not a product, in order.
fn files(folder: &Path, depth: usize, each: &mut dyn FnMut(&Path)) -> Result<()> {
    if depth == 0 || !folder.is_dir() {
        return Ok(());
    }
    let failed = |error: std::io::Error| Failure::file("read", folder, &error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                files(&path, depth - 1, each)?;
            }
        } else {
            each(&path);
        }
    }
    Ok(())
}

/// Runs test programs and adds up what they count. A run that failed without a failed test (it did not compile, it
/// was killed) counts as one failure.
fn counted(command: &Cmd, told: &mut Told, read: impl Fn(&str) -> Option<Counts>) -> Result<Counts> {
    let mut counts = Counts::default();
    let status = command.stream(|line| {
        told.take(line);
        if let Some(more) = read(line) {
            counts += more;
        }
    })?;
    if !status.success() {
        println!("{}", command.failed(&status.to_string()));
        counts.failed = counts.failed.max(1);
    }
    Ok(counts)
}

fn cargo_tests(workspace: &Workspace, filter: Option<&str>) -> Result<Outcome> {
    let mut tests = workspace
        .cargo(["test", "--release", "--workspace", "--no-fail-fast"])
        .args(filter)
        .env("TENON_TOOLS", workspace.tools());
    if std::env::var_os(TEST_THREADS).is_none() {
        // One more than there are processors: many tests wait for something.
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get) + 1;
        tests = tests.env(TEST_THREADS, threads.to_string());
    }
    // Where there is a browser, a test that does not find it is not skipped: it fails.
    if tools::has_browser(workspace) {
        tests = tests.env("TENON_BROWSER_REQUIRED", "1");
    }
    let mut told = Told::default();
    let counts = counted(&tests, &mut told, Counts::of_rust)?;
    Ok(Outcome::Counted(counts, told))
}

/// A node that is killed as often as is asked for, or a thousand times.
fn kills(workspace: &Workspace) -> Result<Outcome> {
    let asked = std::env::var_os(KILLS).unwrap_or_else(|| "1000".into());
    let test = workspace
        .cargo(["test", "--release", "--workspace", "--test", "node", "durable::what_was"])
        .args(["--", "--nocapture"])
        .env("TENON_TOOLS", workspace.tools())
        .env(KILLS, asked);
    let mut told = Told::default();
    let counts = counted(&test, &mut told, Counts::of_rust)?;
    Ok(Outcome::Counted(counts, told))
}

/// The host tests of guests written in Rust, where they have any.
fn rust_guest_tests(workspace: &Workspace) -> Result<Outcome> {
    let (mut sum, mut told) = (Counts::default(), Told::default());
    let mut ran = 0;
    for manifest in manifests_outside(workspace)? {
        let Some(folder) = manifest.parent() else { continue };
        let mut has_tests = false;
        files(folder, DEPTH_MAX, &mut |file| {
            let is_rust = file.extension().is_some_and(|extension| extension == "rs");
            has_tests |= is_rust && fs::read_to_string(file).is_ok_and(|text| text.contains("#[test]"));
        })?;
        if has_tests {
            let target = workspace.target.join("guest-tests");
            let tests = workspace
                .cargo(["test", "--no-fail-fast", "--manifest-path"])
                .arg(&manifest)
                .arg("--target-dir")
                .arg(target);
            sum += counted(&tests, &mut told, Counts::of_rust)?;
            ran += 1;
        }
    }
    Ok(if ran == 0 { Outcome::Skipped("no guest has any".into()) } else { Outcome::Counted(sum, told) })
}

/// The tests of guests written in Go: of the packages that have any, which need none of the generated bindings.
fn go_guest_tests(workspace: &Workspace) -> Result<Outcome> {
    let mut folders = Vec::new();
    files(&workspace.root.join("examples"), DEPTH_MAX, &mut |file| {
        let is_test = file.to_str().is_some_and(|name| name.ends_with("_test.go"));
        if let Some(folder) = file.parent().filter(|_| is_test) {
            folders.push(folder.to_path_buf());
        }
    })?;
    folders.dedup();
    if folders.is_empty() {
        return Ok(Outcome::Skipped("no guest has any".into()));
    }
    // Where `tenon doctor --fix` unpacks it; `.tools/go/bin/go` is a script of the package, not the program.
    let go = workspace.tools().join("go/go/bin/go");
    if !go.is_file() {
        return Err(Failure::new("there is no Go in the folder of the toolchains")
            .mend("run `cargo xtask test --step toolchains`, which sets it up"));
    }
    let (mut sum, mut told) = (Counts::default(), Told::default());
    for folder in folders {
        let tests = Cmd::new(&go)
            .shown_as("go")
            .args(["test", "-v", "-vet=off", "."])
            .cwd(&folder)
            .env("GOTOOLCHAIN", "local")
            .env("GOPROXY", "off")
            .env("GOCACHE", workspace.tools().join("go-cache"));
        sum += counted(&tests, &mut told, Counts::of_go)?;
    }
    Ok(Outcome::Counted(sum, told))
}

fn deny(workspace: &Workspace) -> Result<Outcome> {
    tools::CARGO_DENY.install(workspace)?;
    let mut manifests = vec![workspace.root.join("Cargo.toml")];
    manifests.extend(manifests_outside(workspace)?);
    let mut failed = None;
    for manifest in &manifests {
        let check = cargo_deny(workspace)
            .arg("--manifest-path")
            .arg(manifest)
            .arg("--config")
            .arg(workspace.root.join("deny.toml"))
            .args(["--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
        let checked = check.run();
        failed = failed.or(checked.err());
    }
    match failed {
        None => Ok(Outcome::Said(format!("{} lock files", manifests.len()))),
        Some(failure) => Err(failure),
    }
}

fn cargo_deny(workspace: &Workspace) -> Cmd {
    tools::CARGO_DENY.command(workspace).cwd(&workspace.root)
}

/// Checks for published vulnerabilities, wherever the database of them can be had.
fn advisories(workspace: &Workspace) -> Result<Outcome> {
    tools::CARGO_DENY.install(workspace)?;
    let fetched = cargo_deny(workspace).args(["fetch", "db"]).run_at_most(FETCH_MAX);
    // What there is to fetch has been fetched.
    let check = cargo_deny(workspace).args(["--offline", "check", "--hide-inclusion-graph", "advisories"]);
    match (fetched, has_advisories()) {
        (Ok(()), _) => check.run().map(|()| Outcome::Done),
        (Err(_), true) => {
            check.run().map(|()| Outcome::Said("with the database that was there: no newer one".into()))
        }
        (Err(failure), false) => {
            println!("{failure}");
            Ok(Outcome::Skipped("the database cannot be fetched, and there is none on this machine".into()))
        }
    }
}

/// Whether cargo's home has an advisory database, from an earlier fetch or put there by hand.
fn has_advisories() -> bool {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let entries = home.and_then(|home| fs::read_dir(home.join("advisory-dbs")).ok());
    entries.into_iter().flatten().flatten().any(|entry| entry.path().join("crates").is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Cmd {
        Cmd::new("sh").args(["-c", script])
    }

    #[test]
    fn results_of_several_programs_are_added_up() {
        let script = "echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'
                      echo noise
                      echo 'test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out'";
        let counts = counted(&sh(script), &mut Told::default(), Counts::of_rust).unwrap();
        assert_eq!(counts, Counts { passed: 7, failed: 0, skipped: 1 });
    }

    #[test]
    fn a_run_that_breaks_down_is_a_failure_even_if_no_test_failed() {
        let counts = counted(&sh("exit 101"), &mut Told::default(), Counts::of_rust).unwrap();
        assert_eq!(counts.failed, 1);
        let failing = sh("echo '--- FAIL: A (0s)'; echo '--- FAIL: B (0s)'; exit 1");
        let counts = counted(&failing, &mut Told::default(), Counts::of_go).unwrap();
        assert_eq!(counts.failed, 2);
    }
}
