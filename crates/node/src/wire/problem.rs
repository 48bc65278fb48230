//! What a client is told when something is wrong: RFC 9457, with the parts of a diagnostic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenon_model::Diagnostic;

/// `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `about:blank`: what kind of problem it is, `code` says.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code: `app-conflict`.
    pub code: String,
    /// What happened, in one sentence.
    pub title: String,
    /// Both sides of a mismatch, and whatever else helps.
    #[serde(default)]
    pub notes: Vec<ProblemNote>,
    /// What to do about it.
    #[serde(default)]
    pub mend: Option<String>,
    /// Further problems that were found at the same time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Problem>,
}

/// One more thing worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemNote {
    /// What the text is.
    pub label: String,
    /// The text.
    pub text: String,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

impl Problem {
    /// A diagnostic, with the status that its answer has.
    pub fn of(status: u16, diagnostic: &Diagnostic) -> Self {
        let note =
            |note: &tenon_model::Note| ProblemNote { label: note.label.clone(), text: note.text.clone() };
        let place = diagnostic.at.as_ref().map(|at| ProblemNote { label: "at".into(), text: at.to_string() });
        Self {
            kind: about_blank(),
            status,
            code: diagnostic.code.to_owned(),
            title: diagnostic.message.clone(),
            notes: place.into_iter().chain(diagnostic.notes.iter().map(note)).collect(),
            mend: diagnostic.mend.clone(),
            more: Vec::new(),
        }
    }
}
