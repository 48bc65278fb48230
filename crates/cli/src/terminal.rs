//! Output: for people on a terminal, JSON when asked.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use tenon_model::{Diagnostic, Location, Position};

use crate::error::CommandError;

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const BLUE: Style = AnsiColor::BrightBlue.on_default().bold();
const GREEN: Style = AnsiColor::Green.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// Where a command's words go: results to standard output, everything else to standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) json: bool,
    quiet: bool,
}

impl Terminal {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// The result of the command: text for people, or a value.
    pub(crate) fn result(&self, text: impl Display, value: impl FnOnce() -> Value) {
        let mut out = anstream::stdout().lock();
        // A reader that went away is no fault of the command.
        let _ = if self.json { writeln!(out, "{}", value()) } else { writeln!(out, "{text}") };
        let _ = out.flush();
    }

    /// Asks the person for the next line.
    pub(crate) fn prompt(&self) {
        let mut out = anstream::stderr().lock();
        let _ = write!(out, "{BLUE}>{BLUE:#} ");
        let _ = out.flush();
    }

    /// What is being done.
    pub(crate) fn step(&self, subject: &str, what: impl Display) {
        if !self.quiet && !self.json {
            let _ = writeln!(anstream::stderr(), "{GREEN}{subject:>12}{GREEN:#} {what}");
        }
    }

    /// The same, into what does not wait for whoever reads it.
    pub(crate) fn step_into(&self, mut to: impl Write, subject: &str, what: impl Display) {
        if !self.quiet && !self.json {
            let mut text = AutoStream::new(Vec::new(), AutoStream::choice(&std::io::stderr()));
            let _ = writeln!(text, "{GREEN}{subject:>12}{GREEN:#} {what}");
            let _ = to.write_all(&text.into_inner());
        }
    }

    /// A line of a program that is run.
    pub(crate) fn line(&self, subject: &str, line: &str) {
        if !self.quiet && !self.json {
            let _ = writeln!(anstream::stderr(), "{DIM}{subject:>12} | {line}{DIM:#}");
        }
    }

    /// What went wrong.
    pub(crate) fn error(&self, error: &CommandError) {
        let diagnostics = error.diagnostics();
        if self.json {
            let value =
                json!({ "diagnostics": diagnostics.iter().map(|one| to_json(one)).collect::<Vec<_>>() });
            let _ = writeln!(std::io::stdout(), "{value}");
            return;
        }
        let mut out = anstream::stderr().lock();
        for diagnostic in diagnostics {
            let _ = write!(out, "{}", Rendered { kind: "error", style: RED, diagnostic });
        }
    }

    /// What will go wrong elsewhere with what the command has made. As a value it belongs into the result.
    pub(crate) fn warning(&self, diagnostic: &Diagnostic) {
        if !self.json {
            let rendered = Rendered { kind: "warning", style: YELLOW, diagnostic };
            let _ = write!(anstream::stderr(), "{rendered}");
        }
    }
}

/// A diagnostic with an excerpt of the file it is about.
struct Rendered<'a> {
    kind: &'static str,
    style: Style,
    diagnostic: &'a Diagnostic,
}

impl Display for Rendered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, style, diagnostic } = self;
        let Diagnostic { code, message, at, notes, mend } = diagnostic;
        writeln!(f, "{style}{kind}[{code}]{style:#}: {message}")?;
        if let Some(at) = at {
            writeln!(f, " {BLUE}-->{BLUE:#} {at}")?;
            excerpt(f, at)?;
        }
        for note in notes {
            match &note.at {
                Some(at) => writeln!(f, "{BLUE}{}{BLUE:#} ({at})", note.label)?,
                None => writeln!(f, "{BLUE}{}{BLUE:#}", note.label)?,
            }
            for line in note.text.lines() {
                writeln!(f, "    {line}")?;
            }
        }
        if let Some(mend) = mend {
            writeln!(f, "{GREEN}mend{GREEN:#}")?;
            for line in mend.lines() {
                writeln!(f, "    {line}")?;
            }
        }
        writeln!(f)
    }
}

/// The line a diagnostic is about, and what of it.
fn excerpt(f: &mut std::fmt::Formatter<'_>, at: &Location) -> std::fmt::Result {
    let Some(Position { line, column, length }) = at.position else { return Ok(()) };
    let Ok(text) = std::fs::read_to_string(Path::new(&at.file)) else { return Ok(()) };
    let Some(source) = text.lines().nth(line as usize - 1) else { return Ok(()) };
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let before: String = source
        .chars()
        .take(column as usize - 1)
        .map(|character| if character == '\t' { '\t' } else { ' ' })
        .collect();
    writeln!(f, "{margin} {BLUE}|{BLUE:#}")?;
    writeln!(f, "{BLUE}{number} |{BLUE:#} {source}")?;
    writeln!(f, "{margin} {BLUE}|{BLUE:#} {before}{RED}{}{RED:#}", "^".repeat(length as usize))
}

/// A diagnostic as a value.
pub(crate) fn to_json(diagnostic: &Diagnostic) -> Value {
    let place = |at: &Location| {
        json!({
            "file": at.file,
            "line": at.position.map(|position| position.line),
            "column": at.position.map(|position| position.column),
        })
    };
    json!({
        "code": diagnostic.code,
        "message": diagnostic.message,
        "at": diagnostic.at.as_ref().map(place),
        "notes": diagnostic.notes.iter().map(|note| json!({
            "label": note.label, "text": note.text, "at": note.at.as_ref().map(place),
        })).collect::<Vec<_>>(),
        "mend": diagnostic.mend,
    })
}
