//! `tenon test`: does a component do what its contract's users count on.
//!
//! A test calls a function, or sends a request, and compares what comes back. The same file is run against every
//! implementation it names, whatever language each is written in.

mod differ;
mod exchange;
mod generate;
mod report;
mod subject;
mod suite;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenon_engine::call::Callable;
use tenon_engine::value::{Type, Val, WaveError, from_wave, show_type, to_wave, to_wave_with};
use tenon_model::{Diagnostic, Diagnostics, Location};
use tracing_subscriber::EnvFilter;

use crate::args::TestArgs;
use crate::commands::call::Caller;
use crate::commands::{build, compile};
use crate::error::CommandError;
use crate::project::{self, Project, has_manifest, read};
use crate::settings::Settings;
use crate::stores::Shelf;
use crate::terminal::Terminal;
use generate::Random;
use report::Outcome;
use subject::{Asked, Bench, Subject};
use suite::{Act, Expect, Implementation, Suite, Test, Text};

/// A test file larger than this is not one.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Test files of a folder.
const FILES_MAX: usize = 1_000;
/// A folder's test file, and its folder of test files.
const LONE: &str = "tenon.test.toml";
const FOLDER: &str = "tests";
/// A mismatch shown is cut here.
const SHOWN_BYTES_MAX: usize = 4 << 10;
/// Codes of what is wrong with a call before it is one: no expectation of a test.
const NO_CALL: [&str; 4] = ["no-such-function", "ambiguous-function", "wrong-arguments", "invalid-arguments"];

pub(crate) fn run(args: &TestArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    start_log();
    let (folder, files) = find(&args.target)?;
    let project = if has_manifest(&folder) { Some(Project::open(&folder)?) } else { None };
    // Everything that is wrong in any of the files is told at once, and before anything is built.
    let mut suites = Vec::new();
    let mut wrong = Vec::new();
    for file in &files {
        let text = String::from_utf8_lossy(&read(file, FILE_BYTES_MAX)?).into_owned();
        match suite::read(&file.display().to_string(), &text) {
            Ok(suite) => suites.push(suite),
            Err(found) => wrong.extend(found.iter().cloned()),
        }
    }
    Diagnostics::check(wrong)?;
    if let Some(project) = &project {
        build::build_project(project, settings, terminal)?;
    }
    let data = args.data.data.as_deref().unwrap_or(&settings.data);
    let artifacts = compile::open_store(data)?;
    let mut bench = Bench { args, project, artifacts, shelf: Shelf::default(), terminal };
    let mut outcomes = Vec::new();
    for suite in &suites {
        for implementation in &suite.subjects {
            let began = Instant::now();
            // What one of them lacks is told beside the results of the others.
            if let Err(error) = implemented(&mut bench, suite, implementation, &mut outcomes) {
                outcomes.extend(error.diagnostics().into_iter().map(|failure| Outcome {
                    file: suite.file.clone(),
                    subject: implementation.name.clone(),
                    name: "it can be tested".into(),
                    took: began.elapsed(),
                    failure: Some(failure.clone()),
                }));
            }
        }
    }
    if outcomes.is_empty() {
        return Err(Diagnostic::new("no-tests", "the test files have no tests")
            .at(Location::file(files[0].display().to_string()))
            .mend("[[test]]\ncall = 'add(1, 2)'\nexpect = '3'")
            .into());
    }
    terminal.result(report::text(&outcomes), || report::value(&outcomes));
    let unwritten = match &args.junit {
        Some(file) => project::write(file, report::junit(&outcomes).as_bytes()).err(),
        None => None,
    };
    let failures = outcomes.into_iter().filter_map(|outcome| outcome.failure);
    Ok(Diagnostics::check(failures.chain(unwritten).collect())?)
}

/// The tests of one file against one of its implementations.
fn implemented(
    bench: &mut Bench<'_>,
    suite: &Suite,
    implementation: &Implementation,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), CommandError> {
    let subject = bench.subject(suite, implementation)?;
    let mut run = Run {
        bench,
        suite,
        subject: &subject,
        name: implementation.name.clone(),
        callable: None,
        asked: None,
        outcomes,
    };
    run.tests()?;
    match bench.args.generate {
        Some(cases) => run.generated(cases, bench.args.seed),
        None => Ok(()),
    }
}

/// What guests print is shown when somebody looks for why a test fails; it is not part of the results.
fn start_log() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::new("error,tenon::request=off,tenon::guest=info"))
        .without_time()
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

/// The folder whose manifest counts, and the test files in the order of their names.
fn find(target: &Path) -> Result<(PathBuf, Vec<PathBuf>), Diagnostic> {
    if !target.is_dir() {
        let own = target.parent().filter(|own| !own.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let above = own.join("..");
        let folder = if !has_manifest(own) && has_manifest(&above) { above } else { own.to_owned() };
        return Ok((folder, vec![target.to_owned()]));
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(target.join(FOLDER))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .take(FILES_MAX)
        .collect();
    files.sort();
    let lone = target.join(LONE);
    if lone.is_file() {
        files.insert(0, lone);
    }
    if files.is_empty() {
        let what =
            format!("`{}` has neither a {LONE} nor a {FOLDER} folder with .toml files", target.display());
        return Err(Diagnostic::new("no-tests", what)
            .at(Location::file(target.display().to_string()))
            .mend(format!("write {LONE}:\n[[test]]\ncall = 'add(1, 2)'\nexpect = '3'")));
    }
    Ok((target.to_owned(), files))
}

/// The tests of one file against one implementation.
struct Run<'a> {
    bench: &'a Bench<'a>,
    suite: &'a Suite,
    subject: &'a Subject,
    name: Option<String>,
    callable: Option<Arc<Callable>>,
    asked: Option<Asked>,
    outcomes: &'a mut Vec<Outcome>,
}

impl Run<'_> {
    fn tests(&mut self) -> Result<(), CommandError> {
        for test in &self.suite.tests {
            let began = Instant::now();
            let failure = match &test.act {
                Act::Call { before, call, expect } => {
                    let mut caller = self.caller()?;
                    self.call(&mut caller, before, call, expect)
                }
                Act::Request(exchange) => {
                    if self.asked.is_none() {
                        self.asked = Some(self.subject.listen(self.bench)?);
                    }
                    let address = self.asked.as_ref().and_then(Asked::address);
                    address.map_or(Ok(()), |address| exchange::run(address, exchange))
                }
            };
            let failure = match failure {
                Ok(()) => None,
                Err(failure) => Some(self.named(test, failure)),
            };
            self.record(test.name.clone(), began.elapsed(), failure);
        }
        Ok(())
    }

    fn record(&mut self, name: String, took: Duration, failure: Option<Diagnostic>) {
        let (file, subject) = (self.suite.file.clone(), self.name.clone());
        self.outcomes.push(Outcome { file, subject, name, took, failure });
    }

    /// The failure with the name of its test, at its place or the test's own.
    fn named(&self, test: &Test, failure: Diagnostic) -> Diagnostic {
        let of = self.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        let message = format!("{}{of}: {}", test.name, failure.message);
        let at = failure.at.clone().or_else(|| Some(test.at.clone()));
        Diagnostic { code: "test-failed", message, at, ..failure }
    }

    /// A fresh sandbox: no test sees what another left.
    fn caller(&mut self) -> Result<Caller, CommandError> {
        let callable = match &self.callable {
            Some(callable) => Arc::clone(callable),
            None => Arc::clone(self.callable.insert(self.subject.callable(self.bench)?)),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::ours("the runtime could not start", &error))?;
        Ok(Caller { runtime, session: callable.session("test".into()) })
    }

    fn call(
        &self,
        caller: &mut Caller,
        before: &[Text],
        call: &Text,
        expect: &Expect,
    ) -> Result<(), Diagnostic> {
        for call in before {
            let value = caller.value(&call.text).map_err(|error| unexpected(&error, call))?;
            // A resource has its number from being written.
            value.inspect(|(value, _)| drop(to_wave_with(value, &mut caller.session)));
        }
        let called = caller.value(&call.text);
        match (called, expect) {
            (Ok(Some((found @ Val::Result(Err(_)), _))), Expect::Success) => {
                let what = "it returned an error";
                Err(mismatch(what, "that it ends well", &to_wave(&found), None).at(call.at.clone()))
            }
            (Ok(_), Expect::Success) => Ok(()),
            (Ok(Some((found, ty))), Expect::Value(expected)) => {
                let wanted =
                    from_wave(&expected.text, &ty).map_err(|error| not_wave(expected, &error, &ty))?;
                same(&wanted, &found).map_err(|failure| failure.at(expected.at.clone()))
            }
            (Ok(None), Expect::Value(expected)) => {
                Err(Diagnostic::new("test-failed", "the function has no result").at(expected.at.clone()))
            }
            (Ok(value), Expect::Error(expected)) => is_error(value, expected),
            (Err(error), Expect::Error(expected)) => {
                let code = error.diagnostics().first().map_or("", |first| first.code);
                if code == expected.text && !NO_CALL.contains(&code) {
                    return Ok(());
                }
                Err(unexpected(&error, call).note("expected error", &expected.text))
            }
            (Err(error), _) => Err(unexpected(&error, call)),
        }
    }

    /// Every function whose values can be made up, called with such values.
    fn generated(&mut self, cases: u32, seed: u64) -> Result<(), CommandError> {
        let mut caller = self.caller()?;
        let callable = Arc::clone(caller.session.callable());
        for (index, function) in callable.functions().iter().enumerate() {
            let (params, result) = (function.params(), function.result());
            if params.is_empty() || !params.iter().all(|(_, ty)| generate::can_generate(ty)) {
                continue;
            }
            let name = function.full_name();
            let echo = self.suite.echo.iter().find(|pattern| matches(&pattern.text, &function.spellings()));
            let began = Instant::now();
            let mut random = Random::new(seed.wrapping_add(index as u64));
            let mut failure = None;
            for _ in 0..cases {
                let given: Vec<Val> =
                    params.iter().map(|(_, ty)| generate::value(ty, &mut random, 0)).collect();
                let texts: Vec<String> = given.iter().map(to_wave).collect();
                let call = format!("{name}({})", texts.join(", "));
                let failed = round_trip(&params, &given, &texts).and_then(|()| match caller.value(&call) {
                    Err(error) => Err(unexpected(&error, &text(&call))),
                    Ok(found) => returned(found, result.as_ref(), echo.map(|_| &given[..])),
                });
                if let Err(one) = failed {
                    let what = format!("generated, seed {seed}: {name}: {}", one.message);
                    let at = Location::file(self.suite.file.clone());
                    let one = Diagnostic { code: "test-failed", message: what, at: Some(at), ..one };
                    failure = Some(one.note("call", cut(&call)));
                    break;
                }
            }
            let kind = if echo.is_some() { "gives back what it is given" } else { "takes any value" };
            self.record(format!("{name} {kind} ({cases} generated)"), began.elapsed(), failure);
        }
        if let Some(unused) =
            self.suite.echo.iter().find(|pattern| {
                !callable.functions().iter().any(|it| matches(&pattern.text, &it.spellings()))
            })
        {
            return Err(Diagnostic::new(
                "no-such-function",
                format!("no function is called `{}`", unused.text),
            )
            .at(unused.at.clone())
            .mend("name a function, or all of an interface: `package:name/interface.*`")
            .into());
        }
        Ok(())
    }
}

fn text(text: &str) -> Text {
    Text { text: text.to_owned(), at: Location::file(""), span: 0..0 }
}

/// Whether a function is meant: by one of its names, with a star for any part of it.
fn matches(pattern: &str, spellings: &[String]) -> bool {
    spellings.iter().any(|spelling| match pattern.split_once('*') {
        Some((start, end)) => spelling.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)),
        None => spelling == pattern,
    })
}

/// Text and back: a value is what its text says.
fn round_trip(params: &[(String, Type)], given: &[Val], texts: &[String]) -> Result<(), Diagnostic> {
    for ((value, text), (name, ty)) in given.iter().zip(texts).zip(params) {
        let again = from_wave(text, ty).map_err(|error| {
            Diagnostic::new("test-failed", format!("`{name}` cannot be read back: {error}"))
        })?;
        same(value, &again)?;
    }
    Ok(())
}

/// Whether a generated call returned what it may: a value of its type, and of an echo the value it was given.
fn returned(
    found: Option<(Val, Type)>,
    result: Option<&Type>,
    echo: Option<&[Val]>,
) -> Result<(), Diagnostic> {
    let (Some((found, ty)), Some(_)) = (found, result) else {
        return match echo {
            Some(_) => Err(Diagnostic::new("test-failed", "it gives nothing back")),
            None => Ok(()),
        };
    };
    if generate::can_generate(&ty) {
        round_trip(&[("the result".into(), ty)], std::slice::from_ref(&found), &[to_wave(&found)])?;
    }
    match echo {
        Some([given]) => same(given, &found),
        Some(given) => same(&Val::Tuple(given.to_vec()), &found),
        None => Ok(()),
    }
}

/// The two values are the same, or what of them is not.
fn same(expected: &Val, found: &Val) -> Result<(), Diagnostic> {
    let Some(difference) = differ::values(expected, found) else { return Ok(()) };
    Err(mismatch("the value is another one", &to_wave(expected), &to_wave(found), Some(&difference)))
}

/// Both sides, and where they part.
fn mismatch(what: &str, expected: &str, found: &str, difference: Option<&differ::Difference>) -> Diagnostic {
    let failure =
        Diagnostic::new("test-failed", what).note("expected", cut(expected)).note("found", cut(found));
    match difference {
        Some(difference) if !difference.at.is_empty() => {
            let at = difference.at.trim_start_matches(", ");
            let differs = format!("at {at}\nexpected {}\nfound    {}", difference.expected, difference.found);
            failure.note("first difference", cut(&differs))
        }
        _ => failure,
    }
}

/// Whether a call that ended well returned this error.
fn is_error(value: Option<(Val, Type)>, expected: &Text) -> Result<(), Diagnostic> {
    let failed =
        |what: &str, found: &str| Err(mismatch(what, &expected.text, found, None).at(expected.at.clone()));
    let Some((value, ty)) = value else { return failed("it ended well", "no result") };
    let (Val::Result(Err(payload)), Type::Result(result)) = (&value, &ty) else {
        return failed("it ended well", &to_wave(&value));
    };
    let (Some(payload), Some(error)) = (payload, result.err()) else {
        return if expected.text.is_empty() {
            Ok(())
        } else {
            failed("the error has no value", &to_wave(&value))
        };
    };
    let named = match &**payload {
        Val::Variant(case, _) | Val::Enum(case) => *case == expected.text,
        Val::String(text) => *text == expected.text,
        _ => false,
    };
    if named {
        return Ok(());
    }
    match from_wave(&expected.text, &error) {
        Ok(wanted) => same(&wanted, payload).map_err(|failure| failure.at(expected.at.clone())),
        Err(_) => failed("the error is another one", &to_wave(payload)),
    }
}

/// A call that did not end well, though it should have.
fn unexpected(error: &CommandError, call: &Text) -> Diagnostic {
    let Some(first) = error.diagnostics().first().map(|first| (*first).clone()) else {
        return Diagnostic::new("test-failed", "the call failed").at(call.at.clone());
    };
    Diagnostic {
        message: format!("{} [{}]", first.message, first.code),
        at: Some(call.at.clone()).filter(|at| !at.file.is_empty()),
        ..first
    }
}

/// An expectation or a mock that is no value of its type.
fn not_wave(text: &Text, error: &WaveError, ty: &Type) -> Diagnostic {
    let diagnostic =
        Diagnostic::new("invalid-value", format!("`{}` is not a value of the type: {error}", text.text))
            .at(text.at.clone())
            .note("type", show_type(ty));
    match &error.mend {
        Some(mend) => diagnostic.mend(mend.clone()),
        None => diagnostic,
    }
}

/// A text that may be long.
fn cut(text: &str) -> String {
    if text.len() <= SHOWN_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=SHOWN_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}
