//! What a language needs, whether it is there, and the command that mends it.

use std::fmt;

use crate::host::Host;
use crate::process::ask;
use crate::toolbox::{GO_VERSION, Kit, PYTHON_VERSION, Presence, RUST_TARGET, Toolbox, ZIG_VERSION};
use tenon_model::Language;

/// The oldest Node.js that the JavaScript toolchain runs on.
const NODE_MAJOR_MIN: u32 = 20;

/// One thing that a language's toolchain needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The language.
    pub language: Language,
    /// What is needed: `cargo`, `node`, `Go toolchain`.
    pub what: String,
    /// Whether it is there.
    pub state: State,
    /// What to type when it is not.
    pub mend: String,
    /// Whether [`Toolbox::install`] mends it.
    pub installable: bool,
}

/// Whether something is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is, in this version.
    Found(String),
    /// It is not.
    Missing,
    /// It is, and its version will not do.
    Wrong {
        /// What is there.
        found: String,
        /// What is needed.
        wanted: String,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(version) => f.write_str(version),
            Self::Missing => f.write_str("missing"),
            Self::Wrong { found, wanted } => write!(f, "found {found}, needs {wanted}"),
        }
    }
}

impl Check {
    /// Whether nothing has to be done.
    pub fn is_good(&self) -> bool {
        matches!(self.state, State::Found(_))
    }
}

/// Everything that `language` needs, in the order in which to mend it.
pub fn doctor(toolbox: &Toolbox, host: &Host, language: Language) -> Vec<Check> {
    let check = |what: &str, state, mend: &str, installable| Check {
        language,
        what: what.to_owned(),
        state,
        mend: mend.to_owned(),
        installable,
    };
    let version = |program: &str, arguments: &[&str]| {
        host.find(program)
            .and_then(|program| ask(&program, arguments, host))
            .map_or(State::Missing, |line| State::Found(version_in(&line)))
    };
    match language {
        Language::Rust => vec![
            check("cargo", version("cargo", &["--version"]), RUST_MEND, false),
            check("target wasm32-wasip2", rust_target(host), "rustup target add wasm32-wasip2", true),
        ],
        Language::Go => vec![
            check("python3 with pip", version("python3", &["-m", "pip", "--version"]), PYTHON_MEND, false),
            check("Go toolchain", kit(toolbox, Kit::Go, GO_VERSION), INSTALL, true),
        ],
        Language::TypeScript | Language::JavaScript => vec![
            check("node", at_least(version("node", &["--version"]), NODE_MAJOR_MIN), NODE_MEND, false),
            check("npm", version("npm", &["--version"]), NODE_MEND, false),
            check(
                "JavaScript toolchain",
                kit(toolbox, Kit::JavaScript, "jco 1.35.0, componentize-js 0.23.0"),
                INSTALL,
                true,
            ),
        ],
        Language::Python => vec![
            check("python3 with pip", version("python3", &["-m", "pip", "--version"]), PYTHON_MEND, false),
            check("python3", python_at_least(version("python3", &["--version"])), PYTHON_MEND, false),
            check(
                "Python toolchain",
                kit(toolbox, Kit::Python, &format!("componentize-py {PYTHON_VERSION}")),
                INSTALL,
                true,
            ),
        ],
        Language::C | Language::Cpp => vec![
            check("python3 with pip", version("python3", &["-m", "pip", "--version"]), PYTHON_MEND, false),
            check(
                "C and C++ toolchain",
                kit(toolbox, Kit::Zig, &format!("zig {ZIG_VERSION}")),
                INSTALL,
                true,
            ),
        ],
        Language::AssemblyScript => vec![
            check("node", at_least(version("node", &["--version"]), NODE_MAJOR_MIN), NODE_MEND, false),
            check("npm", version("npm", &["--version"]), NODE_MEND, false),
            check(
                "AssemblyScript toolchain",
                kit(toolbox, Kit::AssemblyScript, "assemblyscript 0.28.20"),
                INSTALL,
                true,
            ),
        ],
    }
}

/// What a component of `language` needs on top of it when it is to be optimised.
pub fn doctor_optimizer(toolbox: &Toolbox, host: &Host, language: Language) -> Vec<Check> {
    let node = host
        .find("node")
        .and_then(|program| ask(&program, &["--version"], host))
        .map_or(State::Missing, |line| State::Found(version_in(&line)));
    let check = |what: &str, state, mend: &str, installable| Check {
        language,
        what: what.to_owned(),
        state,
        mend: mend.to_owned(),
        installable,
    };
    vec![
        check("node", at_least(node, NODE_MAJOR_MIN), NODE_MEND, false),
        check("optimiser", kit(toolbox, Kit::Binaryen, "binaryen 130.0.0"), INSTALL, true),
    ]
}

/// All kits are pinned, so there is one way to install them: `Toolbox::install`.
const INSTALL: &str = "tenon doctor --fix";
const RUST_MEND: &str = "install Rust with rustup: https://rustup.rs";
const PYTHON_MEND: &str = "install Python 3 with pip (Debian: apt-get install python3-pip)";
const NODE_MEND: &str = "install Node.js 20 or newer with npm: https://nodejs.org";

/// What of `language` a build needs and is not there. Looks only at what can be told without running package
/// tools, which a build does not use.
pub(crate) fn missing_for_build(toolbox: &Toolbox, host: &Host, language: Language) -> Vec<Check> {
    let needless = ["python3 with pip", "npm"];
    doctor(toolbox, host, language)
        .into_iter()
        .filter(|check| !check.is_good() && !needless.contains(&check.what.as_str()))
        .collect()
}

fn kit(toolbox: &Toolbox, kit: Kit, version: &str) -> State {
    match toolbox.presence(kit) {
        Presence::Complete => State::Found(version.to_owned()),
        Presence::Missing => State::Missing,
        Presence::OtherPins => {
            State::Wrong { found: "another version, or half of one".to_owned(), wanted: version.to_owned() }
        }
    }
}

/// The target is installed when its library folder is there; that is so with and without rustup.
fn rust_target(host: &Host) -> State {
    let Some(rustc) = host.find("rustc") else { return State::Missing };
    match ask(&rustc, &["--print", "target-libdir", "--target", RUST_TARGET], host) {
        Some(folder) if std::path::Path::new(&folder).is_dir() => State::Found(
            ask(&rustc, &["--version"], host)
                .map_or_else(|| "installed".to_owned(), |line| version_in(&line)),
        ),
        _ => State::Missing,
    }
}

/// `componentize-py` is an extension of the machine's own Python, of the stable ABI; older ones are not tried.
fn python_at_least(state: State) -> State {
    const MINOR_MIN: u32 = 10;
    match state {
        State::Found(version) => {
            let mut numbers = version.split('.').map(str::parse::<u32>);
            match (numbers.next(), numbers.next()) {
                (Some(Ok(3)), Some(Ok(minor))) if minor >= MINOR_MIN => State::Found(version),
                _ => State::Wrong { found: version, wanted: format!("3.{MINOR_MIN} or newer") },
            }
        }
        other => other,
    }
}

fn at_least(state: State, major_min: u32) -> State {
    match state {
        State::Found(version) => match version.split('.').next().map(str::parse::<u32>) {
            Some(Ok(major)) if major >= major_min => State::Found(version),
            _ => State::Wrong { found: version, wanted: format!("{major_min} or newer") },
        },
        other => other,
    }
}

/// The version in a line such as `cargo 1.95.0 (f2d3ce0bd 2026-03-21)` or `v20.20.2`; the line if there is none.
fn version_in(line: &str) -> String {
    line.split_whitespace()
        .map(|word| word.trim_start_matches(['v', 'V']))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
        .unwrap_or(line)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (line, version) in [
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", "1.95.0"),
            ("v20.20.2", "20.20.2"),
            ("11.19.1", "11.19.1"),
            ("pip 23.2.1 from /usr/lib/python3.11/site-packages/pip (python 3.11)", "23.2.1"),
            ("something else", "something else"),
        ] {
            assert_eq!(version_in(line), version);
        }
    }

    #[test]
    fn an_old_node_is_wrong() {
        let found = |version: &str| State::Found(version.to_owned());
        assert_eq!(at_least(found("20.0.0"), 20), found("20.0.0"));
        assert_eq!(at_least(found("22.1.0"), 20), found("22.1.0"));
        let wrong = State::Wrong { found: "18.19.1".to_owned(), wanted: "20 or newer".to_owned() };
        assert_eq!(at_least(found("18.19.1"), 20), wrong);
        assert_eq!(at_least(State::Missing, 20), State::Missing);
        assert_eq!(python_at_least(found("3.11.7")), found("3.11.7"));
        let wrong = State::Wrong { found: "3.8.2".to_owned(), wanted: "3.10 or newer".to_owned() };
        assert_eq!(python_at_least(found("3.8.2")), wrong);
    }

    #[test]
    fn on_an_empty_machine_everything_is_missing() {
        let root = tempfile::tempdir().unwrap();
        for language in Language::ALL {
            let checks = doctor(&Toolbox::new(root.path()), &Host::default(), language);
            assert!(checks.iter().all(|check| check.state == State::Missing && !check.mend.is_empty()));
            assert!(checks.iter().any(|check| check.installable));
        }
    }
}
