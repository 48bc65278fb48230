//! `tenon call`: any typed export, with values.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};
use tenon_engine::call::{Callable, FindError, Function, Session};
use tenon_engine::value::{Arguments, Type, Val, WaveError, to_json_with, to_wave_with};
use tenon_engine::{Backends, Engine, Failure, Pool, Terms};
use tenon_model::Diagnostic;
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use crate::app::{App, addressable};
use crate::args::CallArgs;
use crate::commands::compile;
use crate::error::CommandError;
use crate::settings::Settings;
use crate::stores;
use crate::terminal::Terminal;

/// Sandboxes that the pool holds: one is called, and one may take its place after a failure.
const SANDBOXES: u32 = 2;
/// A line of a session that is longer is not a call.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Functions shown beside a name that is not one of them.
const FUNCTIONS_SHOWN_MAX: usize = 20;

pub(crate) fn run(args: &CallArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    start_log();
    let app = App::find(&args.target, &[], settings, terminal)?;
    let limits = addressable(args.limits.over(app.limits))?;
    let engine = Engine::new(Pool::of(SANDBOXES, &limits)).map_err(Diagnostic::from)?;
    let data = args.data.data.as_deref().unwrap_or(&settings.data);
    let artifacts = compile::open_store(data)?;
    let stored = app.stored(&engine, &artifacts, terminal)?;
    let file = args.target.display().to_string();
    let backends = Backends { stores: stores::open(&app.authorities, data)?, ..Backends::default() };
    let terms =
        Terms { name: &app.name, file: &file, limits, authorities: &app.authorities, backends: &backends };
    let mut callable = Callable::new(&engine, stored, &terms)?;
    // Dropped with the callable, when all reports are written.
    if let Some(crashes) = app.crashes(args.crash_reports, args.keep_arguments, data)? {
        callable = callable.reporting_to(crashes);
    }
    let callable = Arc::new(callable);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::ours("the runtime could not start", &error))?;
    let session = callable.session("call".into());
    match &args.call {
        Some(call) => {
            let answer = Caller { runtime, session }.call(call)?;
            print(&answer, terminal);
            Ok(())
        }
        None if args.session => converse(Caller { runtime, session }, terminal),
        None => {
            list(&callable, terminal);
            Ok(())
        }
    }
}

/// What the guest prints goes to standard error.
fn start_log() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::new("warn,tenon::guest=info"))
        .without_time()
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// All functions with their types, as WIT writes them.
fn list(callable: &Callable, terminal: &Terminal) {
    let names = callable.names();
    let mut text = String::new();
    let mut interface = None;
    for function in callable.functions() {
        if function.interface() != interface {
            interface = function.interface();
            if !text.is_empty() {
                text.push('\n');
            }
            let _ = writeln!(text, "{}", interface.unwrap_or("the world"));
        }
        let indent = if interface.is_some() { "  " } else { "" };
        let _ = writeln!(text, "{indent}{}: {}", function.plain_name(), names.show_function(function.ty()));
    }
    let mentioned = callable.functions().iter().flat_map(types_of);
    let declared = names.declarations(mentioned);
    if !declared.is_empty() {
        let _ = writeln!(text, "\n{}", declared.join("\n"));
    }
    if callable.functions().is_empty() {
        text.push_str("it exports no functions");
    }
    terminal.result(text.trim_end(), || {
        callable
            .functions()
            .iter()
            .map(|function| {
                json!({
                    "name": function.full_name(),
                    "interface": function.interface(),
                    "function": function.name(),
                    "type": names.show_function(function.ty()),
                })
            })
            .collect()
    });
}

fn types_of(function: &Function) -> impl Iterator<Item = Type> + use<> {
    function.params().into_iter().map(|(_, ty)| ty).chain(function.result())
}

/// What a call answered, as text and as JSON; no text where the function has no result.
struct Answer {
    text: Option<String>,
    json: Value,
}

fn print(answer: &Answer, terminal: &Terminal) {
    if terminal.json || answer.text.is_some() {
        terminal.result(answer.text.as_deref().unwrap_or_default(), || answer.json.clone());
    }
}

/// A session, and what drives it.
pub(crate) struct Caller {
    pub(crate) runtime: Runtime,
    pub(crate) session: Session,
}

impl Caller {
    /// One call, from its text to its answer.
    fn call(&mut self, text: &str) -> Result<Answer, CommandError> {
        let value = self.value(text)?;
        Ok(match value {
            Some((value, ty)) => Answer {
                text: Some(to_wave_with(&value, &mut self.session)),
                json: to_json_with(&value, &ty, &mut self.session),
            },
            None => Answer { text: None, json: Value::Null },
        })
    }

    /// One call, from its text to what the function returned, with its type.
    pub(crate) fn value(&mut self, text: &str) -> Result<Option<(Val, Type)>, CommandError> {
        let Self { runtime, session } = self;
        let callable = Arc::clone(session.callable());
        // A name has no parenthesis: what begins with one is the arguments.
        let start = text.find('(').unwrap_or(text.len());
        let function = find(&callable, text[..start].trim())?;
        let call = Call { callable: &callable, function, text, start };
        let given = Arguments::parse(&text[start..]).map_err(|error| call.wrong(&error))?;
        call.count(&given)?;
        let params = runtime.block_on(session.params(function));
        let params = params.map_err(|failure| failed(function, &failure, session.crash()))?;
        let mut arguments = Vec::with_capacity(params.len());
        for (index, (_, ty)) in params.iter().enumerate() {
            arguments.push(match given.span(index) {
                Some(_) => given.value(index, ty, session).map_err(|error| call.wrong(&error))?,
                // Options at the end may be left out.
                None => Val::Option(None),
            });
        }
        let called = runtime.block_on(session.call(function, arguments));
        let value = called.map_err(|failure| failed(function, &failure, session.crash()))?;
        Ok(value.zip(function.result()))
    }

    /// A line of a session that is not a call.
    fn command(&mut self, line: &str, terminal: &Terminal) -> Result<(), CommandError> {
        let Self { runtime, session } = self;
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match command {
            ":drop" => {
                let number = rest.trim().strip_prefix('#').and_then(|number| number.parse().ok());
                let dropped = match number {
                    Some(number) => runtime.block_on(session.drop_handle(number)).map_err(|failure| {
                        let what = format!("the destructor of #{number}");
                        failure_diagnostic(&what, &failure, session.crash())
                    })?,
                    None => false,
                };
                if dropped {
                    return Ok(());
                }
                let held: Vec<_> = session.handles().map(|number| format!("#{number}")).collect();
                Err(Diagnostic::new("no-such-handle", format!("`{}` is no handle of this session", rest.trim()))
                    .note("handles", if held.is_empty() { "none".into() } else { held.join(", ") })
                    .mend("drop one like this: `:drop #1`")
                    .into())
            }
            ":handles" => {
                let held: Vec<_> = session.handles().map(|number| format!("#{number}")).collect();
                terminal.result(held.join(" "), || json!(held));
                Ok(())
            }
            ":functions" => {
                list(session.callable(), terminal);
                Ok(())
            }
            _ => Err(Diagnostic::new("no-such-command", format!("there is no command `{command}`"))
                .mend(":drop #1     drop a resource\n:handles     the resources that are held\n:functions   what can be called")
                .into()),
        }
    }
}

/// Reads a call a line until the input ends.
fn converse(mut caller: Caller, terminal: &Terminal) -> Result<(), CommandError> {
    let input = std::io::stdin();
    let interactive = input.is_terminal();
    let mut input = input.lock();
    let (mut calls, mut failed) = (0_u64, 0_u64);
    loop {
        if interactive {
            terminal.prompt();
        }
        let mut line = String::new();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
        let read = read.map_err(|error| {
            Diagnostic::new("cannot-read", format!("standard input cannot be read: {error}"))
                .mend("give one call a line, as UTF-8 text")
        })?;
        if read == 0 {
            break;
        }
        if read as u64 == LINE_BYTES_MAX && !line.ends_with('\n') {
            let limit = tenon_model::format_bytes(LINE_BYTES_MAX);
            return Err(Diagnostic::new("line-too-long", format!("a line is longer than {limit}"))
                .mend("give less in one call")
                .into());
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        calls += 1;
        let done = if line.starts_with(':') {
            caller.command(line, terminal)
        } else {
            caller.call(line).map(|answer| print(&answer, terminal))
        };
        match done {
            Ok(()) => {}
            Err(CommandError::Ours(diagnostic)) => return Err(CommandError::Ours(diagnostic)),
            Err(error) => {
                failed += 1;
                terminal.error(&error);
            }
        }
    }
    if failed > 0 && !interactive {
        return Err(Diagnostic::new("session-failed", format!("{failed} of {calls} lines failed"))
            .mend("what was wrong with each is above")
            .into());
    }
    Ok(())
}

/// The function that is meant, or the nearest names.
fn find<'a>(callable: &'a Callable, name: &str) -> Result<&'a Function, Diagnostic> {
    let error = match callable.find(name) {
        Ok(function) => return Ok(function),
        Err(error) => error,
    };
    if let FindError::Ambiguous(names) = error {
        return Err(Diagnostic::new(
            "ambiguous-function",
            format!("`{name}` is the name of more than one function of `{}`", callable.name()),
        )
        .note("found", names.join("\n"))
        .mend("write the whole name"));
    }
    let spellings: Vec<(String, String)> = callable
        .functions()
        .iter()
        .flat_map(|function| {
            function.spellings().into_iter().map(move |spelling| (spelling, function.full_name()))
        })
        .collect();
    let near = tenon_wit::most_similar(name, spellings.iter().map(|(spelling, _)| spelling.as_str()));
    let full_name =
        near.and_then(|near| spellings.iter().find(|(spelling, _)| spelling == near)).map(|(_, full)| full);
    let mut known: Vec<String> =
        callable.functions().iter().take(FUNCTIONS_SHOWN_MAX).map(Function::full_name).collect();
    let more = callable.functions().len().saturating_sub(known.len());
    if more > 0 {
        known.push(format!("and {more} more"));
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join("\n") };
    Err(Diagnostic::new("no-such-function", format!("`{}` exports no function `{name}`", callable.name()))
        .note("functions", known)
        .mend(match full_name {
            Some(near) => format!("did you mean `{near}`?"),
            None => "without a function, `tenon call FILE` lists them with their types".into(),
        }))
}

/// A call as it was written, for what is wrong with it.
struct Call<'a> {
    callable: &'a Callable,
    function: &'a Function,
    text: &'a str,
    /// Where the arguments begin.
    start: usize,
}

impl Call<'_> {
    /// As many arguments as parameters; options at the end may be left out.
    fn count(&self, given: &Arguments<'_>) -> Result<(), Diagnostic> {
        let params = self.function.params();
        let required =
            params.iter().rposition(|(_, ty)| !matches!(ty, Type::Option(_))).map_or(0, |last| last + 1);
        if (required..=params.len()).contains(&given.len()) {
            return Ok(());
        }
        let counted =
            |count: usize| if count == 1 { "1 argument".to_owned() } else { format!("{count} arguments") };
        let message = format!(
            "`{}` takes {}, and {} given",
            self.function.plain_name(),
            counted(params.len()),
            if given.len() == 1 { "1 was".to_owned() } else { format!("{} were", given.len()) },
        );
        // Too many: the first that has no parameter. Too few: where the next would stand.
        let span = given.span(params.len()).unwrap_or_else(|| {
            let end = self.text.len() - self.start;
            end.saturating_sub(1)..end
        });
        let missing = (given.len() < required).then_some(given.len());
        Err(self.explain(Diagnostic::new("wrong-arguments", message), span, missing))
    }

    fn wrong(&self, error: &WaveError) -> Diagnostic {
        let (code, message) = match error.argument {
            Some(index) => {
                let name =
                    self.function.params().get(index).map(|(name, _)| name.clone()).unwrap_or_default();
                (
                    "wrong-arguments",
                    format!("`{name}`, argument {} of `{}`: {error}", index + 1, self.function.plain_name()),
                )
            }
            None => (
                "invalid-arguments",
                format!("the arguments of `{}` are not WAVE: {error}", self.function.plain_name()),
            ),
        };
        let diagnostic = self.explain(Diagnostic::new(code, message), error.span.clone(), error.argument);
        match &error.mend {
            Some(mend) => diagnostic.mend(mend.clone()),
            None => diagnostic,
        }
    }

    /// Shows the call with a place of its arguments marked, and the signature with a parameter marked.
    fn explain(&self, diagnostic: Diagnostic, span: Range<usize>, param: Option<usize>) -> Diagnostic {
        let span = self.start + span.start..self.start + span.end;
        let (signature, marks) = self.signature();
        let signature = match param.and_then(|index| marks.get(index).cloned()) {
            Some(mark) => marked(&signature, mark),
            None => signature,
        };
        let diagnostic = diagnostic.note("call", marked(self.text, span)).note("signature", signature);
        let declared = self.callable.names().declarations(types_of(self.function));
        if declared.is_empty() { diagnostic } else { diagnostic.note("types", declared.join("\n")) }
    }

    /// The function's type in one line, and where in it each parameter stands.
    fn signature(&self) -> (String, Vec<Range<usize>>) {
        let names = self.callable.names();
        let ty = names.show_function(self.function.ty());
        let mut text = format!("{}: ", self.function.plain_name());
        let mut at = text.len() + ty.find('(').map_or(0, |open| open + 1);
        text.push_str(&ty);
        let marks = self
            .function
            .params()
            .iter()
            .map(|(name, ty)| {
                let length = name.len() + 2 + names.show(ty).len();
                let mark = at..at + length;
                at += length + 2;
                mark
            })
            .collect();
        (text, marks)
    }
}

/// One line of text, and under it carets at `span`. Long lines are cut around it.
fn marked(text: &str, span: Range<usize>) -> String {
    const BEFORE: usize = 60;
    const AFTER: usize = 60;
    let plain = |part: &str| -> Vec<char> {
        part.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
    };
    let cut = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (start, end) = (cut(span.start), cut(span.end.max(span.start)));
    let (before, meant, after) = (plain(&text[..start]), plain(&text[start..end]), plain(&text[end..]));
    let mut line = String::new();
    if before.len() > BEFORE {
        line.push('…');
        line.extend(&before[before.len() - BEFORE..]);
    } else {
        line.extend(&before);
    }
    let indent = line.chars().count();
    let shown = meant.len().min(AFTER);
    line.extend(&meant[..shown]);
    if meant.len() > shown {
        line.push('…');
    } else if after.len() > AFTER {
        line.extend(&after[..AFTER]);
        line.push('…');
    } else {
        line.extend(&after);
    }
    format!("{line}\n{}{}", " ".repeat(indent), "^".repeat(shown.max(1)))
}

fn failed(function: &Function, failure: &Failure, crash: Option<&str>) -> CommandError {
    failure_diagnostic(&format!("`{}`", function.plain_name()), failure, crash)
}

/// A call that ran and did not end well: the same codes as in serving.
fn failure_diagnostic(what: &str, failure: &Failure, crash: Option<&str>) -> CommandError {
    let mut diagnostic = Diagnostic::new(failure.code(), format!("{what} failed: {}", failure.cause()));
    if let Some(limit) = failure.limit() {
        diagnostic = diagnostic.note("limit", limit);
    }
    if let Some(place) = failure.place() {
        let parts = [
            place.component.as_ref().map(|component| format!("component {component}")),
            place.function.as_ref().map(|function| format!("in {function}")),
        ];
        let place: Vec<String> = parts.into_iter().flatten().collect();
        if !place.is_empty() {
            diagnostic = diagnostic.note("where", place.join("\n"));
        }
    }
    if let Some(id) = crash {
        diagnostic = diagnostic.note("crash report", format!("tenon crash show {id}"));
    }
    let mend = match failure.code() {
        "cpu-deadline" => Some("give it more processor time with `--cpu`"),
        "wall-deadline" => Some("give it more time with `--wall`"),
        "out-of-memory" => Some("give it more memory with `--memory`"),
        _ => None,
    };
    if let Some(mend) = mend {
        diagnostic = diagnostic.mend(mend);
    }
    match failure {
        Failure::Internal { .. } => CommandError::Ours(diagnostic),
        _ => diagnostic.into(),
    }
}
