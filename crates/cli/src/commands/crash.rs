//! `tenon crash`: what failed requests left behind.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tenon_engine::{CrashFolder, CrashFrame, CrashReport, CrashesError};
use tenon_model::{Diagnostic, Digest, Location, format_bytes, format_duration};
use tenon_wit::{SourceFrame, Symbols};

use crate::args::{CrashArgs, CrashCommand, CrashListArgs, CrashShowArgs};
use crate::error::CommandError;
use crate::project::{COMPONENT_BYTES_MAX, read, side_file};
use crate::settings::Settings;
use crate::terminal::Terminal;

pub(crate) fn run(args: &CrashArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    match &args.command {
        CrashCommand::List(args) => list(args, settings, terminal),
        CrashCommand::Show(args) => show(args, settings, terminal),
    }
}

fn list(args: &CrashListArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let reports = folder(args.data.data.as_deref(), settings).list().map_err(unreadable)?;
    let mut text = String::new();
    for report in &reports {
        let CrashReport { id, app, outcome, request, .. } = report;
        let _ = writeln!(
            text,
            "{id}  {:<17}  {}  {} {}",
            outcome.code,
            printable(if outcome.component.is_empty() { app } else { &outcome.component }),
            printable(&request.method),
            printable(&request.path)
        );
    }
    if reports.is_empty() {
        text.push_str("no request has failed");
    }
    terminal.result(text.trim_end(), || {
        let crashes: Vec<Value> = reports
            .iter()
            .map(|report| {
                json!({
                    "id": report.id, "time": report.time, "app": report.app, "request": report.request.id,
                    "code": report.outcome.code, "component": report.outcome.component,
                    "function": report.outcome.function, "method": report.request.method, "path": report.request.path,
                })
            })
            .collect();
        json!({ "crashes": crashes })
    });
    Ok(())
}

fn show(args: &CrashShowArgs, settings: &Settings, terminal: &Terminal) -> Result<(), CommandError> {
    let folder = folder(args.data.data.as_deref(), settings);
    let found = folder.find(args.id.as_deref().unwrap_or_default()).map_err(unreadable)?;
    let report = found.ok_or_else(|| {
        let what = args.id.as_ref().map_or_else(|| "no request has failed".to_owned(), |id| format!("there is no crash report `{id}`"));
        Diagnostic::new("no-crash", what)
            .mend("`tenon crash list` shows those that are kept; the oldest go first, and `--data` names the data directory of the node")
    })?;
    let component = component(args, &folder, &report)?;
    let sides = sides(args, &report)?;
    let mut symbols = component.as_deref().map(Symbols::read).unwrap_or_default();
    for (file, bytes, asked_for) in &sides {
        if symbols.attach(bytes) == 0 && *asked_for && component.is_some() {
            return Err(mismatch(file).into());
        }
    }
    let sources: Vec<Vec<SourceFrame>> = report
        .stack
        .iter()
        .map(|frame| frame.offset.map(|offset| symbols.resolve(offset)).unwrap_or_default())
        .collect();
    let hint = match (&component, symbols.has_lines()) {
        _ if report.stack.is_empty() => None,
        (None, _) => {
            Some("the component is no longer kept: name it with `--component FILE` to see source lines")
        }
        (Some(_), false) => Some(
            "the component has no debug information: name the file it was stripped from with `--debug-info FILE`",
        ),
        (Some(_), true) => None,
    };
    let dump = folder.core_dump(&report);
    terminal.result(page(&report, &sources, hint, dump.as_deref()).trim_end(), || {
        to_json(&report, &sources, dump.as_deref())
    });
    Ok(())
}

fn folder(data: Option<&Path>, settings: &Settings) -> CrashFolder {
    CrashFolder::of(data.unwrap_or(&settings.data))
}

fn unreadable(error: CrashesError) -> CommandError {
    Diagnostic::new("data-directory", format!("the crash reports cannot be read: {error}: {}", error.source))
        .mend("choose another data directory with `--data DIR` or TENON_DATA")
        .into()
}

/// The component of a report: the one that is named, else the copy that was kept, else a file that it was read from.
fn component(
    args: &CrashShowArgs,
    folder: &CrashFolder,
    report: &CrashReport,
) -> Result<Option<Vec<u8>>, CommandError> {
    let is_it = |bytes: &Vec<u8>| Digest::of(bytes).to_string() == report.digest;
    if let Some(file) = &args.component {
        let bytes = read(file, COMPONENT_BYTES_MAX)?;
        if !is_it(&bytes) {
            return Err(Diagnostic::new(
                "debug-info-mismatch",
                format!("`{}` is not the component that failed", file.display()),
            )
            .at(Location::file(file.display().to_string()))
            .note("failed", report.digest.clone())
            .note("given", Digest::of(&bytes).to_string())
            .mend("name the very file that was served; one that was built with debug information goes to `--debug-info`")
            .into());
        }
        return Ok(Some(bytes));
    }
    Ok(folder.component(report).or_else(|| {
        report.files.iter().filter_map(|file| read(Path::new(file), COMPONENT_BYTES_MAX).ok()).find(is_it)
    }))
}

/// Files of debug information: those that are named, and those that lie beside the files the component was read from.
fn sides(args: &CrashShowArgs, report: &CrashReport) -> Result<Vec<(PathBuf, Vec<u8>, bool)>, CommandError> {
    let mut sides = Vec::new();
    for file in &args.debug_info {
        sides.push((file.clone(), read(file, COMPONENT_BYTES_MAX)?, true));
    }
    for file in &report.files {
        let file = side_file(Path::new(file));
        if let Ok(bytes) = read(&file, COMPONENT_BYTES_MAX) {
            sides.push((file, bytes, false));
        }
    }
    Ok(sides)
}

fn mismatch(file: &Path) -> Diagnostic {
    Diagnostic::new(
        "debug-info-mismatch",
        format!("`{}` has no debug information for what failed", file.display()),
    )
    .at(Location::file(file.display().to_string()))
    .note("looked for", "a core module with DWARF whose build id, or whose code, is that of a module without")
    .mend("name the component or module as it was before it was stripped, from the same build")
}

fn page(
    report: &CrashReport,
    sources: &[Vec<SourceFrame>],
    hint: Option<&str>,
    dump: Option<&Path>,
) -> String {
    let CrashReport { id, time, app, digest, request, outcome, usage, stack, log, .. } = report;
    let mut page = String::new();
    let _ = writeln!(page, "crash     {id}  {time}");
    let _ = writeln!(page, "app       {}  {digest}", printable(app));
    let _ = writeln!(page, "outcome   {}: {}", outcome.code, printable(&outcome.cause));
    let _ = writeln!(
        page,
        "in        {}{}",
        printable(&outcome.component),
        outcome.function.as_ref().map(|function| format!(", {}", printable(function))).unwrap_or_default()
    );
    if let Some(limit) = &outcome.limit {
        let _ = writeln!(page, "limit     {limit}");
    }
    let micros = |us| format_duration(std::time::Duration::from_micros(us));
    let _ = writeln!(
        page,
        "used      cpu {} of {}, wall {} of {}, memory {} of {}",
        micros(usage.cpu_us),
        micros(usage.cpu_limit_us),
        micros(usage.wall_us),
        micros(usage.wall_limit_us),
        format_bytes(usage.memory_bytes),
        format_bytes(usage.memory_limit_bytes)
    );
    for other in &usage.others {
        let amount =
            |number| if other.limit.ends_with("-bytes") { format_bytes(number) } else { number.to_string() };
        let (used, most) = (amount(other.used), amount(other.most));
        let _ = writeln!(
            page,
            "          {} {used} of {most}, {}",
            printable(&other.limit),
            printable(&other.component)
        );
    }
    let _ = writeln!(page, "request   {}", printable(&request.id));
    if let Some(trace) = &request.trace_id {
        let _ = writeln!(page, "trace     {}", printable(trace));
    }
    let arguments = request.arguments.as_deref().unwrap_or_default();
    let _ = writeln!(page, "called    {}{}", printable(&request.function), printable(arguments));
    let _ = writeln!(page, "          {} {}", printable(&request.method), printable(&request.path));
    for field in &request.headers {
        let value = field.value.as_deref().map_or_else(|| "(left out)".to_owned(), printable);
        let _ = writeln!(page, "          {}: {value}", printable(&field.name));
    }
    if let Some(bytes) = request.body_bytes {
        let _ = writeln!(page, "          a body of {}", format_bytes(bytes));
    }
    if let Some(dump) = dump {
        let _ = writeln!(page, "dump      {}", dump.display());
    }
    let _ = writeln!(
        page,
        "\n{}",
        if stack.is_empty() { "stack: the guest was not running" } else { "stack, innermost first" }
    );
    for (index, (frame, source)) in stack.iter().zip(sources).enumerate() {
        write_frame(&mut page, index, frame, source);
    }
    if let Some(hint) = hint {
        let _ = writeln!(page, "  ({hint})");
    }
    if !log.is_empty() {
        let _ = writeln!(page, "\nlast lines of the guest");
        for line in log {
            let _ = writeln!(page, "  {} | {}", printable(&line.stream), printable(&line.text));
        }
    }
    page
}

fn write_frame(page: &mut String, index: usize, frame: &CrashFrame, source: &[SourceFrame]) {
    let offset = frame.offset.map(|offset| format!(" +{offset:#x}")).unwrap_or_default();
    let _ = write!(page, "{index:>4}  {}{offset}  ", printable(&frame.component));
    if source.is_empty() {
        let name = frame.function.as_deref().map(printable);
        let _ = writeln!(page, "{}", name.unwrap_or_else(|| format!("function {}", frame.function_index)));
        return;
    }
    for (depth, at) in source.iter().enumerate() {
        if depth > 0 {
            page.push_str("      inlined into ");
        }
        let name = at.function.as_deref().or(frame.function.as_deref()).map(printable);
        let _ = writeln!(page, "{}", name.unwrap_or_else(|| format!("function {}", frame.function_index)));
        if let Some(file) = &at.file {
            let place: String =
                [at.line, at.column].iter().flatten().map(|number| format!(":{number}")).collect();
            let _ = writeln!(page, "          at {}{place}", printable(file));
        }
    }
}

fn to_json(report: &CrashReport, sources: &[Vec<SourceFrame>], dump: Option<&Path>) -> Value {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Some(stack) = value["stack"].as_array_mut() {
        for (frame, source) in stack.iter_mut().zip(sources) {
            frame["source"] = source
                .iter()
                .map(|at| json!({ "function": at.function, "file": at.file, "line": at.line, "column": at.column }))
                .collect();
        }
    }
    value["core_dump"] = json!(dump.map(|dump| dump.display().to_string()));
    value
}

/// Text that a guest or a client chose, without what a terminal would take for a command.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let escaped = character.is_control().then(|| character.escape_default());
            escaped.into_iter().flatten().chain((!character.is_control()).then_some(character))
        })
        .collect()
}
