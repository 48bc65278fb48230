//! What a person is told when something they gave us is wrong.

use std::fmt;

/// A place in a file: one-based line and column, and how many bytes of that line are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// One-based line.
    pub line: u32,
    /// One-based column, in characters.
    pub column: u32,
    /// How many characters from `column` on are meant; at least one.
    pub length: u32,
}

impl Position {
    /// The position of the byte range `span` in `text`, cut at the end of its first line.
    pub fn of_span(text: &str, span: std::ops::Range<usize>) -> Self {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end.max(span.start));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let meant = text[start..end].lines().next().unwrap_or("");
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        Self {
            line: u32::try_from(text[..start].matches('\n').count()).unwrap_or(u32::MAX - 1) + 1,
            column: count(&text[line_start..start]) + 1,
            length: count(meant).max(1),
        }
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The file a diagnostic is about and, where one is known, the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The file, as the person named it.
    pub file: String,
    /// The place in the file.
    pub position: Option<Position>,
}

impl Location {
    /// A whole file.
    pub fn file(file: impl Into<String>) -> Self {
        Self { file: file.into(), position: None }
    }

    /// The byte range `span` of `text`, which is the content of `file`.
    pub fn span(file: impl Into<String>, text: &str, span: std::ops::Range<usize>) -> Self {
        Self { file: file.into(), position: Some(Position::of_span(text, span)) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        match self.position {
            Some(Position { line, column, .. }) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// One more thing worth knowing: one side of a mismatch, what was found, what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What the text is: `expected`, `found`, `provider auth`.
    pub label: String,
    /// The text; may have several lines, a type declaration for one.
    pub text: String,
    /// Where it was read.
    pub at: Option<Location>,
}

/// One clear statement of what is wrong, where, and the mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable, documented name for this kind of fault, in kebab case.
    pub code: &'static str,
    /// What happened, in one sentence.
    pub message: String,
    /// Where.
    pub at: Option<Location>,
    /// Both sides of a mismatch, and whatever else helps.
    pub notes: Vec<Note>,
    /// What to do about it.
    pub mend: Option<String>,
}

impl Diagnostic {
    /// A diagnostic with its code and message only.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), at: None, notes: Vec::new(), mend: None }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(mut self, at: Location) -> Self {
        self.at = Some(at);
        self
    }

    /// The same, with one more note.
    #[must_use]
    pub fn note(mut self, label: impl Into<String>, text: impl Into<String>) -> Self {
        self.notes.push(Note { label: label.into(), text: text.into(), at: None });
        self
    }

    /// The same, with one more note that has a place.
    #[must_use]
    pub fn note_at(mut self, label: impl Into<String>, text: impl Into<String>, at: Location) -> Self {
        self.notes.push(Note { label: label.into(), text: text.into(), at: Some(at) });
        self
    }

    /// The same, with the mend.
    #[must_use]
    pub fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    /// The plain rendering, without source excerpts: what logs, fixtures and other libraries show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code, self.message)?;
        if let Some(at) = &self.at {
            writeln!(f, "  --> {at}")?;
        }
        for note in &self.notes {
            match &note.at {
                Some(at) => writeln!(f, "  {} ({at}):", note.label)?,
                None => writeln!(f, "  {}:", note.label)?,
            }
            for line in note.text.lines() {
                writeln!(f, "    {line}")?;
            }
        }
        if let Some(mend) = &self.mend {
            writeln!(f, "  mend:")?;
            for line in mend.lines() {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}

/// Everything found wrong in one run; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// `Ok` when nothing was found.
    ///
    /// # Errors
    /// What was found, when anything was.
    pub fn check(found: Vec<Diagnostic>) -> Result<(), Self> {
        if found.is_empty() { Ok(()) } else { Err(Self(found)) }
    }

    /// All of them, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}
impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_becomes_line_and_column() {
        let text = "one\ntwö three\nfour";
        let start = text.find("three").unwrap();
        assert_eq!(Position::of_span(text, start..start + 5), Position { line: 2, column: 5, length: 5 });
    }

    #[test]
    fn a_span_past_the_end_is_clamped() {
        assert_eq!(Position::of_span("ab", 9..12), Position { line: 1, column: 3, length: 1 });
        assert_eq!(Position::of_span("ö", 1..1), Position { line: 1, column: 1, length: 1 });
    }
}
