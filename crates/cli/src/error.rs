//! How a command ends when it does not end well.

use tenon_model::{Diagnostic, Diagnostics};

/// Exit code for something the person gave us.
pub(crate) const PERSON: u8 = 1;
/// Exit code for a command line that is not one.
pub(crate) const USAGE: u8 = 2;
/// Exit code for a fault of ours or of the machine (`EX_SOFTWARE` of sysexits).
pub(crate) const OURS: u8 = 70;

/// Whose fault it was, and what to tell them.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// The person can mend it.
    Person(Diagnostics),
    /// The person cannot.
    Ours(Diagnostic),
}

impl CommandError {
    pub(crate) fn ours(what: impl Into<String>, cause: &dyn std::error::Error) -> Self {
        let mut chain = cause.to_string();
        let mut next = cause.source();
        while let Some(cause) = next {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            next = cause.source();
        }
        Self::Ours(Diagnostic::new("internal", what).note("cause", chain))
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Person(_) => PERSON,
            Self::Ours(_) => OURS,
        }
    }

    /// Whether one of these codes is among what it says.
    pub(crate) fn is_any(&self, codes: &[&str]) -> bool {
        self.diagnostics().iter().any(|one| codes.contains(&one.code))
    }

    pub(crate) fn diagnostics(&self) -> Vec<&Diagnostic> {
        match self {
            Self::Person(diagnostics) => diagnostics.iter().collect(),
            Self::Ours(diagnostic) => vec![diagnostic],
        }
    }
}

impl From<Diagnostics> for CommandError {
    fn from(diagnostics: Diagnostics) -> Self {
        // The code that the libraries give to what cannot happen.
        let ours = diagnostics.iter().find(|one| one.code == "internal").cloned();
        ours.map_or(Self::Person(diagnostics), Self::Ours)
    }
}

impl From<Diagnostic> for CommandError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Person(diagnostic.into())
    }
}
