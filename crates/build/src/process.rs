//! Running programs: their lines as they come, and an error that says what was run and what it said.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;

use crate::host::Host;
use crate::progress::Progress;

/// How much of a program's output is kept, for each of its two streams; a compiler that says more has been
/// shown line by line.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// The longest line that is passed on whole.
const LINE_BYTES_MAX: usize = 64 << 10;

/// A program did not run, or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("`{command}` could not be started")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended with a failure.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed, both streams, in the order the lines came.
        output: String,
    },
}

/// A program to run, in an environment that holds what it was given and nothing else.
pub(crate) struct Program {
    program: PathBuf,
    arguments: Vec<OsString>,
    folder: PathBuf,
    variables: Vec<(OsString, OsString)>,
    stdout_is_data: bool,
}

impl Program {
    /// `program` in `folder`, in the environment of `host` without the variables that `leaks` names.
    pub(crate) fn new(
        program: impl Into<PathBuf>,
        folder: &Path,
        host: &Host,
        leaks: fn(&str) -> bool,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            folder: folder.to_owned(),
            variables: host.variables_without(leaks),
            stdout_is_data: false,
        }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.retain(|(other, _)| other != OsStr::new(name));
        self.variables.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Its standard output is for us: neither shown nor part of an error.
    pub(crate) fn stdout_is_data(mut self) -> Self {
        self.stdout_is_data = true;
        self
    }

    /// The command line as a person would type it.
    pub(crate) fn command_line(&self) -> String {
        let program = self.program.file_name().unwrap_or(self.program.as_os_str());
        std::iter::once(program)
            .chain(self.arguments.iter().map(OsString::as_os_str))
            .map(|word| {
                let word = word.to_string_lossy();
                if word.is_empty() || word.contains(|c: char| c.is_whitespace() || "'\"$\\*?".contains(c)) {
                    format!("'{}'", word.replace('\'', r"'\''"))
                } else {
                    word.into_owned()
                }
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Runs it to its end, passes its lines to `progress` under the name `subject`, and returns its standard
    /// output.
    pub(crate) fn run(self, subject: &str, progress: &dyn Progress) -> Result<String, CommandError> {
        let command = self.command_line();
        let failed_to_start = |source| CommandError::Start { command: command.clone(), source };
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed_to_start)?;
        let said = Mutex::new(String::new());
        let heard = |line: &str| {
            progress.line(subject, line);
            let mut said = said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if said.len() + line.len() < OUTPUT_BYTES_MAX {
                said.push_str(line);
                said.push('\n');
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let data = std::thread::scope(|scope| {
            scope.spawn(|| stderr.map(|stream| lines(stream, LINE_BYTES_MAX, &heard)));
            let mut data = String::new();
            if let Some(stream) = stdout {
                // Data may come in one long line.
                let line_bytes_max = if self.stdout_is_data { OUTPUT_BYTES_MAX } else { LINE_BYTES_MAX };
                lines(stream, line_bytes_max, &mut |line: &str| {
                    if !self.stdout_is_data {
                        heard(line);
                    }
                    if data.len() + line.len() < OUTPUT_BYTES_MAX {
                        data.push_str(line);
                        data.push('\n');
                    }
                });
            }
            data
        });
        let status = child.wait().map_err(failed_to_start)?;
        if status.success() {
            Ok(data)
        } else {
            let output = said.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            Err(CommandError::Failed { command, status, output })
        }
    }
}

/// Hands every line of `stream` to `heard`, without terminal escapes; an over-long line comes in pieces.
fn lines(stream: impl Read, line_bytes_max: usize, mut heard: impl FnMut(&str)) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(line_bytes_max as u64).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => heard(plain(&String::from_utf8_lossy(&line)).trim_end()),
        }
    }
}

/// The text without ECMA-48 control sequences (`ESC [ … letter`).
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\u{1b}' {
            plain.push(character);
        } else if characters.next() == Some('[') {
            characters.by_ref().find(char::is_ascii_alphabetic);
        }
    }
    plain
}

/// The first line that `program` prints when asked `arguments`, if it runs at all.
pub(crate) fn ask(program: &Path, arguments: &[&str], host: &Host) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(host.variables_without(|_| false))
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned();
    output.status.success().then_some(text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn shell(script: &str) -> Result<String, CommandError> {
        let host = Host::new([("A".into(), "1".into()), ("LEAK".into(), "1".into())]);
        Program::new("/bin/sh", Path::new("/"), &host, |name| name == "LEAK")
            .args(["-c", script])
            .run("test", &Silent)
    }

    #[test]
    fn the_environment_is_what_was_given() {
        assert_eq!(shell("echo $A-$LEAK").unwrap(), "1-\n");
    }

    #[test]
    fn a_failure_shows_the_command_and_both_streams() {
        let Err(CommandError::Failed { command, status, output }) = shell("echo out; echo err >&2; exit 3")
        else {
            panic!("it failed");
        };
        assert_eq!(command, "sh -c 'echo out; echo err >&2; exit 3'");
        assert_eq!(status.code(), Some(3));
        assert!(output.contains("out\n") && output.contains("err\n"), "{output}");
    }

    #[test]
    fn terminal_escapes_are_dropped() {
        assert_eq!(plain("\u{1b}[31;1mred\u{1b}[0m and plain"), "red and plain");
    }
}
