//! Why a component was not built.

use std::path::PathBuf;

use tenon_model::{Diagnostic, Diagnostics};

use crate::doctor::Check;
use crate::process::CommandError;
use tenon_model::Language;

/// Why a component was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Something in the job, its source or its contract is wrong.
    #[error("{0}")]
    Refused(Diagnostics),
    /// A part of the language's toolchain is missing or has the wrong version.
    #[error("the {language} toolchain is not complete")]
    Toolchain {
        /// The component.
        component: String,
        /// Its language.
        language: Language,
        /// What is not as it should be; never empty.
        checks: Vec<Check>,
    },
    /// The toolchain ran and said no.
    #[error("{component} ({language}) does not build")]
    Compile {
        /// The component.
        component: String,
        /// Its language.
        language: Language,
        /// What was run, and what it said.
        source: CommandError,
        /// What this usually means, where the compiler's own words do not say.
        mend: Option<String>,
    },
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// `read`, `write`, `lock`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl BuildError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether this is for the author to mend, as opposed to a fault of the machine or of Tenon.
    pub fn is_the_authors(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }

    /// What a person is told.
    pub fn diagnostics(&self) -> Diagnostics {
        let one = match self {
            Self::Refused(diagnostics) => return diagnostics.clone(),
            Self::Toolchain { component, language, checks } => checks.iter().fold(
                Diagnostic::new(
                    "toolchain-missing",
                    format!("`{component}` is written in {language}, and its toolchain is not complete"),
                )
                .mend(mends(checks)),
                |diagnostic, check| diagnostic.note(check.what.clone(), check.state.to_string()),
            ),
            Self::Compile { component, language, source, mend } => {
                let diagnostic =
                    Diagnostic::new("build-failed", format!("`{component}` ({language}) does not build"));
                let diagnostic = match source {
                    CommandError::Start { command, source } => {
                        diagnostic.note("could not be started", format!("{command}\n{source}"))
                    }
                    CommandError::Failed { command, status, output } => diagnostic
                        .note("command", format!("{command}\n({status})"))
                        .note("output", output.trim_end()),
                };
                match mend {
                    Some(mend) => diagnostic.mend(mend.clone()),
                    None => diagnostic,
                }
            }
            Self::Io { source, .. } => Diagnostic::new("io", format!("{self}: {source}")),
        };
        one.into()
    }
}

/// The command that installs what can be installed, after what the person has to install.
fn mends(checks: &[Check]) -> String {
    let by_hand = checks.iter().filter(|check| !check.installable).map(|check| check.mend.as_str());
    let installs = checks.iter().any(|check| check.installable).then_some("tenon doctor --fix");
    by_hand.chain(installs).collect::<Vec<_>>().join("\n")
}

impl From<Diagnostic> for BuildError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Refused(diagnostic.into())
    }
}
