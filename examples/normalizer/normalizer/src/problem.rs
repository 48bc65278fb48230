//! What can be wrong with a document, and where.

/// What is wrong, for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    Syntax,
    EntityRefused,
    TooLarge,
    UnknownElement(String),
    MissingField(String),
    DuplicateField(String),
    BadNumber(String),
    BadValue(String),
}

impl Cause {
    /// The name of the case in the contract.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::EntityRefused => "entity-refused",
            Self::TooLarge => "too-large",
            Self::UnknownElement(_) => "unknown-element",
            Self::MissingField(_) => "missing-field",
            Self::DuplicateField(_) => "duplicate-field",
            Self::BadNumber(_) => "bad-number",
            Self::BadValue(_) => "bad-value",
        }
    }
}

/// Where a part of a document is: which part, and at which byte it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    pub path: String,
    pub offset: usize,
}

impl Spot {
    /// Where the part `name` of this one is, which begins at `offset`.
    pub fn child(&self, name: impl std::fmt::Display, offset: usize) -> Self {
        Self { path: format!("{}/{name}", self.path), offset }
    }
}

/// What is wrong and where, before anybody has counted lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub cause: Cause,
    pub at: Spot,
    pub message: String,
}

impl Fault {
    pub fn new(cause: Cause, at: &Spot, message: impl Into<String>) -> Self {
        Self { cause, at: at.clone(), message: message.into() }
    }

    /// With line and column of the place in `document`.
    pub fn in_document(self, document: &str) -> Problem {
        let mut offset = self.at.offset.min(document.len());
        while !document.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &document[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Problem {
            cause: self.cause,
            path: self.at.path,
            line: count(before.matches('\n').count()),
            column: count(before[line_start..].chars().count()),
            message: self.message,
        }
    }
}

/// A count from 1.
fn count(from_zero: usize) -> u32 {
    u32::try_from(from_zero).map_or(u32::MAX, |count| count.saturating_add(1))
}

/// Why a document was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub cause: Cause,
    pub path: String,
    /// Counted from 1, as is the column, in characters.
    pub line: u32,
    pub column: u32,
    pub message: String,
}
