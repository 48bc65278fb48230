//! Why a task stopped.

use std::fmt;
use std::path::Path;

/// What happened, and what a person can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    mend: Option<String>,
}

impl Failure {
    /// Something happened.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), mend: None }
    }

    /// What happened.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// The same, with what to do about it.
    #[must_use]
    pub(crate) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// An operation on a file failed.
    pub(crate) fn file(doing: &str, path: &Path, error: &dyn fmt::Display) -> Self {
        Self::new(format!("{doing} {}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(mend) = &self.mend {
            write!(f, "\n  mend: {mend}")?;
        }
        Ok(())
    }
}

/// What a task's parts return.
pub(crate) type Result<T> = std::result::Result<T, Failure>;
