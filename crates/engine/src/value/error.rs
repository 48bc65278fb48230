//! Where a text is not a value of its type.

use std::ops::Range;

/// Where JSON is not a value of the type it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct ValueError {
    /// The spot, as a JSON Pointer (RFC 6901); empty for the whole value.
    pub pointer: String,
    /// What should stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
    /// What to do about it, where that is not plain.
    pub mend: Option<String>,
}

impl ValueError {
    pub(crate) fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { pointer: String::new(), expected: expected.into(), found: found.into(), mend: None }
    }

    pub(crate) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// The same, one step further out: `token` is the member or the index that leads to it.
    #[must_use]
    pub fn within(mut self, token: &str) -> Self {
        let token = token.replace('~', "~0").replace('/', "~1");
        self.pointer = format!("/{token}{}", self.pointer);
        self
    }
}

/// Where WAVE is not a value of the type it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WaveError {
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where: bytes of the text, on character boundaries.
    pub span: Range<usize>,
    /// Which of several arguments it is in.
    pub argument: Option<usize>,
    /// What to do about it, where that is not plain.
    pub mend: Option<String>,
}
