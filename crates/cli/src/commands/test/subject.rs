//! What is tested, with what stands in for its imports.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenon_compose::{Input, Manifest};
use tenon_edge::{Listening, Server, Site};
use tenon_engine::call::{Callable, ImportedFunction};
use tenon_engine::value::{Val, from_wave, to_wave};
use tenon_engine::{Artifacts, Backends, Engine, HostFunctions, Pool, Service, Stores, Terms};
use tenon_model::{Authorities, Diagnostic, Diagnostics, Limits, Location};
use tenon_node::{Known, describe};
use tenon_wit::ErrorStatuses;

use super::suite::{Implementation, Mock, MockAnswer, MockBy, MockFunction, Suite, Target, Text};
use crate::app::addressable;
use crate::args::TestArgs;
use crate::commands::compile;
use crate::commands::serve::refused;
use crate::error::CommandError;
use crate::project::{COMPONENT_BYTES_MAX, Project, read};
use crate::stores::{self, Shelf};
use crate::terminal::Terminal;

/// Sandboxes of one subject: tests run one after the other.
const SANDBOXES: u32 = 4;
/// A response may still be on its way when the last test has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// What all subjects share.
pub(super) struct Bench<'a> {
    pub(super) args: &'a TestArgs,
    pub(super) project: Option<Project>,
    pub(super) artifacts: Artifacts,
    /// The stores of the data directory that was named, if one was.
    pub(super) shelf: Shelf,
    pub(super) terminal: &'a Terminal,
}

/// A component that is compiled, with what stands in for its imports.
pub(super) struct Subject {
    pub(super) name: String,
    file: String,
    bytes: Vec<u8>,
    limits: Limits,
    authorities: Authorities,
    errors: ErrorStatuses,
    engine: Engine,
    backends: Backends,
    /// Where its stores are; goes after them.
    _scratch: Option<TempDir>,
}

/// A component's bytes, and what is known of it.
struct Found {
    name: String,
    file: String,
    bytes: Vec<u8>,
    limits: Limits,
    authorities: Authorities,
    errors: ErrorStatuses,
}

impl Bench<'_> {
    /// Finds, composes with its mocks, and compiles.
    pub(super) fn subject(
        &mut self,
        suite: &Suite,
        implementation: &Implementation,
    ) -> Result<Subject, CommandError> {
        let folder = Path::new(&suite.file).parent().unwrap_or(Path::new(".")).to_owned();
        let mut found = self.find(&folder, &implementation.target, &suite.file)?;
        found.bytes = self.with_components(&folder, &found, suite)?;
        let limits = addressable(self.args.limits.over(found.limits))?;
        let engine = Engine::new(Pool::of(SANDBOXES, &limits)).map_err(Diagnostic::from)?;
        let quiet = Terminal::new(self.terminal.json, true);
        let stored = compile::compiled(&engine, &self.artifacts, &found.name, &found.bytes, &quiet)?;
        let functions = stand_ins(&stored.imports(&engine)?, &suite.mocks)?;
        let (stores, scratch) = self.stores(&found.authorities)?;
        let backends = Backends { stores, functions, ..Backends::default() };
        let Found { name, file, bytes, authorities, errors, .. } = found;
        Ok(Subject { name, file, bytes, limits, authorities, errors, engine, backends, _scratch: scratch })
    }

    /// Stores of its own, empty ones: what a person keeps is nothing to test with, unless they say so.
    fn stores(&mut self, authorities: &Authorities) -> Result<(Stores, Option<TempDir>), CommandError> {
        if let Some(data) = &self.args.data.data {
            return Ok((self.shelf.open(authorities, data)?, None));
        }
        let scratch = tempfile::tempdir()
            .map_err(|error| CommandError::ours("there is no folder for the stores of a test", &error))?;
        Ok((stores::open(authorities, scratch.path())?, Some(scratch)))
    }

    fn find(&self, folder: &Path, target: &Target, suite: &str) -> Result<Found, CommandError> {
        match target {
            Target::Path(path) => {
                let file = folder.join(&path.text);
                let shown = file.display().to_string();
                let bytes = read(&file, COMPONENT_BYTES_MAX).map_err(|error| error.at(path.at.clone()))?;
                tenon_wit::require_component(&shown, &bytes)?;
                tenon_wit::require_released_wasi(&shown, &bytes)?;
                let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                Ok(Found {
                    name: stem,
                    file: shown,
                    bytes,
                    limits: Limits::default(),
                    authorities: Authorities::default(),
                    errors: ErrorStatuses::new(),
                })
            }
            Target::Component(name) => {
                let project = self.project(suite)?;
                let component = project.manifest.component(&name.text).ok_or_else(|| {
                    let names = project.manifest.components.iter().map(|component| component.name.as_str());
                    let near = tenon_wit::most_similar(&name.text, names.clone()).map(str::to_owned);
                    Diagnostic::new(
                        "unknown-component",
                        format!("the manifest has no component `{}`", name.text),
                    )
                    .at(name.at.clone())
                    .note("components", names.collect::<Vec<_>>().join("\n"))
                    .mend(match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "name one of these, or a file with `path`".into(),
                    })
                })?;
                let file = project.path(component);
                let bytes = read(&file, COMPONENT_BYTES_MAX)?;
                let all = project.authorities()?;
                let whole = all.parts.get(&name.text).cloned().unwrap_or_default();
                Ok(Found {
                    name: name.text.clone(),
                    file: file.display().to_string(),
                    bytes,
                    limits: project.manifest.limits,
                    authorities: Authorities { whole, ..Authorities::default() },
                    errors: ErrorStatuses::new(),
                })
            }
            Target::App => {
                let project = self.project(suite)?;
                Ok(Found {
                    name: project.name(),
                    file: project.manifest.file.clone(),
                    bytes: project.composed_to_serve()?,
                    limits: project.manifest.limits,
                    authorities: project.authorities()?,
                    errors: project.manifest.errors.clone(),
                })
            }
        }
    }

    fn project(&self, suite: &str) -> Result<&Project, Diagnostic> {
        self.project.as_ref().ok_or_else(|| {
            Diagnostic::new(
                "no-manifest",
                "there is no manifest, and the test file names no component by its path",
            )
            .at(Location::file(suite))
            .mend("path = \"component.wasm\"")
        })
    }

    /// The component with the components that stand in for its imports composed into it.
    fn with_components(&self, folder: &Path, found: &Found, suite: &Suite) -> Result<Vec<u8>, CommandError> {
        let mut providers = Vec::new();
        let mut open = Vec::new();
        for mock in &suite.mocks {
            match &mock.by {
                MockBy::Component(target) => {
                    providers.push((&mock.interface, self.find(folder, target, &suite.file)?));
                }
                MockBy::Values(_) => open.push(unversioned(&mock.interface.text)),
            }
        }
        if providers.is_empty() {
            return Ok(found.bytes.clone());
        }
        // What it may touch stays open: the host decides about it, as it does without mocks.
        let imports = tenon_wit::inspect(&found.file, &found.bytes)?.component.imports;
        open.extend(imports.iter().filter(|name| name.starts_with("wasi:")).map(|name| unversioned(name)));
        open.sort_unstable();
        open.dedup();
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let mut manifest =
            format!("open = [{}]\n", open.iter().map(|name| text(name)).collect::<Vec<_>>().join(", "));
        manifest.push_str("[component.subject]\npath = \"subject.wasm\"\n[component.subject.imports]\n");
        for (index, (interface, _)) in providers.iter().enumerate() {
            manifest.push_str(&format!("{} = {{ component = \"mock-{index}\" }}\n", text(&interface.text)));
        }
        for index in 0..providers.len() {
            manifest.push_str(&format!("[component.mock-{index}]\npath = \"mock-{index}.wasm\"\n"));
        }
        let names: Vec<String> = (0..providers.len()).map(|index| format!("mock-{index}")).collect();
        let mut inputs =
            vec![Input { component: "subject", file: &found.file, bytes: &found.bytes, wit: &[] }];
        for ((_, provider), name) in providers.iter().zip(&names) {
            inputs.push(Input { component: name, file: &provider.file, bytes: &provider.bytes, wit: &[] });
        }
        let manifest = Manifest::parse("mocks", &manifest)?;
        let composed =
            tenon_compose::compose(&manifest, &inputs).map_err(|found| elsewhere(&found, suite))?;
        Ok(composed.bytes)
    }
}

/// What is wrong with a composition that nobody wrote, told at the mocks that it was made for.
fn elsewhere(found: &Diagnostics, suite: &Suite) -> CommandError {
    let at = suite.mocks.first().map(|mock| mock.interface.at.clone());
    let moved: Vec<Diagnostic> =
        found.iter().map(|one| Diagnostic { at: at.clone(), mend: None, ..one.clone() }).collect();
    match Diagnostics::check(moved) {
        Err(found) => found.into(),
        Ok(()) => CommandError::Ours(Diagnostic::new("internal", "a composition failed without a reason")),
    }
}

fn unversioned(interface: &str) -> String {
    interface.split_once('@').map_or(interface, |(name, _)| name).to_owned()
}

/// A case of a mock, its texts read by the function's types.
struct Case {
    arguments: Option<Vec<String>>,
    answer: Result<Vec<Val>, String>,
}

/// The host functions that answer with the values of the mocks.
fn stand_ins(imports: &[ImportedFunction], mocks: &[Mock]) -> Result<HostFunctions, Diagnostics> {
    let mut functions = HostFunctions::default();
    let mut wrong = Vec::new();
    for mock in mocks {
        let MockBy::Values(mocked) = &mock.by else { continue };
        let meant = |import: &&ImportedFunction| {
            let interface = import.interface.as_deref().unwrap_or_default();
            interface == mock.interface.text || unversioned(interface) == mock.interface.text
        };
        let of_interface: Vec<&ImportedFunction> = imports.iter().filter(meant).collect();
        if of_interface.is_empty() {
            let names: std::collections::BTreeSet<&str> =
                imports.iter().filter_map(|import| import.interface.as_deref()).collect();
            let near = tenon_wit::most_similar(&mock.interface.text, names.iter().copied());
            wrong.push(
                Diagnostic::new(
                    "unused-mock",
                    format!("nothing imports functions of `{}`", mock.interface.text),
                )
                .at(mock.interface.at.clone())
                .note("imports", names.iter().copied().collect::<Vec<_>>().join("\n"))
                .mend(
                    near.map_or_else(
                        || "take the mock away".into(),
                        |near| format!("did you mean `{near}`?"),
                    ),
                ),
            );
            continue;
        }
        for function in mocked {
            if !of_interface.iter().any(|import| import.name == function.name.text) {
                let names = of_interface.iter().map(|import| import.name.as_str());
                let near = tenon_wit::most_similar(&function.name.text, names.clone()).map(str::to_owned);
                let what = format!(
                    "`{}` has no function `{}` that is used",
                    mock.interface.text, function.name.text
                );
                wrong.push(
                    Diagnostic::new("unused-mock", what)
                        .at(function.name.at.clone())
                        .note("functions", names.collect::<Vec<_>>().join("\n"))
                        .mend(
                            near.map_or_else(
                                || "take it away".into(),
                                |near| format!("did you mean `{near}`?"),
                            ),
                        ),
                );
            }
        }
        for import in of_interface {
            let cases = mocked.iter().find(|function| function.name.text == import.name);
            match cases.map_or(Ok(Vec::new()), |function| cases_of(function, import)) {
                Ok(cases) => functions = stand_in(functions, import, cases),
                Err(found) => wrong.extend(found),
            }
        }
    }
    Diagnostics::check(wrong)?;
    Ok(functions)
}

fn stand_in(functions: HostFunctions, import: &ImportedFunction, cases: Vec<Case>) -> HostFunctions {
    let interface = import.interface.clone().unwrap_or_default();
    let name = import.name.clone();
    functions.with(&interface.clone(), &import.name, move |arguments| {
        let given: Vec<String> = arguments.iter().map(to_wave).collect();
        let case = cases.iter().find(|case| case.arguments.as_ref().is_none_or(|wanted| *wanted == given));
        match case {
            Some(case) => case.answer.clone(),
            None => Err(format!("no case of the mock answers {interface}.{name}({})", given.join(", "))),
        }
    })
}

fn cases_of(function: &MockFunction, import: &ImportedFunction) -> Result<Vec<Case>, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut cases = Vec::new();
    for case in &function.cases {
        let arguments = match case.arguments.as_ref().map(|text| arguments(text, import)) {
            None => None,
            Some(Ok(arguments)) => Some(arguments),
            Some(Err(error)) => {
                wrong.push(error);
                continue;
            }
        };
        let answer = match (&case.answer, &import.result) {
            (MockAnswer::Trap(cause), _) => Err(cause.text.clone()),
            (MockAnswer::Value(text), Some(ty)) => match from_wave(&text.text, ty) {
                Ok(value) => Ok(vec![value]),
                Err(error) => {
                    wrong.push(super::not_wave(text, &error, ty));
                    continue;
                }
            },
            (MockAnswer::Nothing, None) => Ok(Vec::new()),
            (MockAnswer::Value(text), None) => {
                wrong.push(
                    Diagnostic::new("invalid-mock", format!("`{}` has no result", function.name.text))
                        .at(text.at.clone())
                        .mend("leave `result` away"),
                );
                continue;
            }
            (MockAnswer::Nothing, Some(ty)) => {
                wrong.push(
                    Diagnostic::new("invalid-mock", format!("`{}` has a result", function.name.text))
                        .at(function.name.at.clone())
                        .note("type", tenon_engine::value::show_type(ty))
                        .mend("result = '…'"),
                );
                continue;
            }
        };
        cases.push(Case { arguments, answer });
    }
    if wrong.is_empty() { Ok(cases) } else { Err(wrong) }
}

/// Arguments as the texts that calls are compared by.
fn arguments(text: &Text, import: &ImportedFunction) -> Result<Vec<String>, Diagnostic> {
    let wrong = |what: String| Diagnostic::new("invalid-mock", what).at(text.at.clone());
    let given = tenon_engine::value::Arguments::parse(&text.text).map_err(|error| {
        wrong(format!("the arguments are not WAVE: {error}")).mend("arguments = '(1, \"a\")'")
    })?;
    if given.len() != import.params.len() {
        return Err(wrong(format!(
            "`{}` takes {} arguments, not {}",
            import.name,
            import.params.len(),
            given.len()
        ))
        .mend("leave `arguments` away where any will do"));
    }
    let read = import.params.iter().enumerate().map(|(index, (name, ty))| {
        let value = given.plain_value(index, ty);
        value.map(|value| to_wave(&value)).map_err(|error| {
            wrong(format!("`{name}`: {error}")).note("type", tenon_engine::value::show_type(ty))
        })
    });
    read.collect()
}

impl Subject {
    fn stored(&self, bench: &Bench<'_>) -> Result<tenon_engine::Stored, CommandError> {
        let quiet = Terminal::new(bench.terminal.json, true);
        compile::compiled(&self.engine, &bench.artifacts, &self.name, &self.bytes, &quiet)
    }

    /// Ready to be called.
    pub(super) fn callable(&self, bench: &Bench<'_>) -> Result<Arc<Callable>, CommandError> {
        let stored = self.stored(bench)?;
        let Self { name, file, limits, authorities, engine, backends, .. } = self;
        Ok(Arc::new(Callable::new(
            engine,
            stored,
            &Terms { name, file, limits: *limits, authorities, backends },
        )?))
    }

    /// Ready to be asked, on a port of this machine.
    pub(super) fn listen(&self, bench: &Bench<'_>) -> Result<Asked, CommandError> {
        let stored = self.stored(bench)?;
        let Self { name, file, limits, authorities, engine, backends, errors, bytes, .. } = self;
        let service =
            Service::new(engine, stored, &Terms { name, file, limits: *limits, authorities, backends })?;
        let site = Arc::new(Site::new(describe(service, &Known::Component(bytes), errors)?));
        let server = Server::new(SocketAddr::from(([127, 0, 0, 1], 0)), 1, DRAIN);
        Ok(Asked { listening: Some(server.start(site).map_err(refused)?) })
    }
}

/// A server for the time of the tests.
pub(super) struct Asked {
    listening: Option<Listening>,
}

impl Asked {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listening.as_ref().map(Listening::address)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.drain();
        }
    }
}
