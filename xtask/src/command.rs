//! Running other programs: what is run is shown, what fails is said with how to run it again, and what keeps
//! running is stopped by its own id.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Result};
use crate::signals;

/// How long a server has to end after SIGTERM before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// How often a child is looked at while waiting for it to end.
const POLL: Duration = Duration::from_millis(10);

/// A program with its arguments, and how to show it to a person.
#[derive(Clone)]
pub(crate) struct Cmd {
    program: OsString,
    shown: Option<String>,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    cwd: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl Cmd {
    /// `program` without arguments.
    pub(crate) fn new(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), shown: None, args: Vec::new(), env: Vec::new(), cwd: None, log: None }
    }

    /// Another program, without arguments, in the same environment and folder.
    #[must_use]
    pub(crate) fn with_program(&self, program: impl Into<OsString>) -> Self {
        Self { program: program.into(), shown: None, args: Vec::new(), ..self.clone() }
    }

    /// Shows the program under a shorter name.
    #[must_use]
    pub(crate) fn shown_as(mut self, name: &str) -> Self {
        self.shown = Some(name.to_owned());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub(crate) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Runs in `folder`.
    #[must_use]
    pub(crate) fn cwd(mut self, folder: &Path) -> Self {
        self.cwd = Some(folder.to_path_buf());
        self
    }

    /// Writes what the program says on standard error to `file`.
    #[must_use]
    pub(crate) fn log_to(mut self, file: &Path) -> Self {
        self.log = Some(file.to_path_buf());
        self
    }

    /// The command as a person would type it in its folder.
    pub(crate) fn line(&self) -> String {
        let mut line = String::new();
        for (name, value) in &self.env {
            line.push_str(&format!("{name}={} ", self.word(value)));
        }
        line.push_str(&self.shown.clone().unwrap_or_else(|| self.word(&self.program)));
        for arg in &self.args {
            line.push(' ');
            line.push_str(&self.word(arg));
        }
        line
    }

    /// One word, a path below the folder of the command relative to it.
    fn word(&self, word: &OsStr) -> String {
        let relative = self.cwd.as_ref().and_then(|folder| Path::new(word).strip_prefix(folder).ok());
        match relative {
            Some(path) if !path.as_os_str().is_empty() => quoted(path.as_os_str()),
            _ => quoted(word),
        }
    }

    /// What it is called where the whole line would be too much: the program and its first argument.
    fn name(&self) -> String {
        let program = Path::new(&self.program).file_name().unwrap_or(&self.program);
        let first = self.args.first().map(|arg| arg.to_string_lossy()).filter(|arg| !arg.starts_with('-'));
        format!("{} {}", program.to_string_lossy(), first.unwrap_or_default()).trim_end().to_owned()
    }

    /// How to run it again from anywhere.
    fn rerun(&self) -> String {
        match &self.cwd {
            Some(folder) => format!("(cd {} && {})", quoted(folder.as_os_str()), self.line()),
            None => self.line(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // What cargo tells this program about its package would be taken for the packages' own: build scripts that look at
        // it would run again, and what depends on them be compiled again, whenever somebody calls cargo by hand.
        let names = std::env::vars_os().map(|(name, _)| name);
        for name in names.filter(|name| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        }) {
            command.env_remove(name);
        }
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if let Some(folder) = &self.cwd {
            command.current_dir(folder);
        }
        if let Some(file) = self.log.as_ref().and_then(|file| File::create(file).ok()) {
            command.stderr(file);
        }
        command
    }

    fn spawn(&self, mut command: Command) -> Result<Child> {
        command.spawn().map_err(|error| {
            Failure::new(format!("`{}` cannot be started: {error}", self.line()))
                .mend(format!("is it installed? then: {}", self.rerun()))
        })
    }

    /// The failure of this command.
    pub(crate) fn failed(&self, how: &str) -> Failure {
        Failure::new(format!("`{}` failed: {how}", self.line()))
            .mend(format!("run it alone: {}", self.rerun()))
    }

    fn expect_success(&self, status: ExitStatus) -> Result<()> {
        if status.success() { Ok(()) } else { Err(self.failed(&status.to_string())) }
    }

    /// Shows the command and runs it to its end; what it prints goes straight through.
    pub(crate) fn run(&self) -> Result<()> {
        println!("  $ {}", self.line());
        let status = self.spawn(self.command())?.wait();
        self.expect_success(status.map_err(|error| self.failed(&error.to_string()))?)
    }

    /// Like [`run`](Self::run), but stops it after a time, and when somebody asks us to stop.
    pub(crate) fn run_at_most(&self, at_most: Duration) -> Result<()> {
        println!("  $ {}", self.line());
        let mut child = Server::of(Instant::now(), self.spawn(self.command())?, self.name());
        while child.started.elapsed() < at_most {
            signals::check()?;
            if let Ok(Some(status)) = child.child.try_wait() {
                return self.expect_success(status);
            }
            thread::sleep(POLL);
        }
        Err(self.failed(&format!("not done after {} s", at_most.as_secs())))
    }

    /// Shows the command and runs it to its end; its output passes through `each`, line by line, and is echoed.
    /// Returns how it ended, so that what was counted is not lost when it failed.
    pub(crate) fn stream(&self, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
        println!("  $ {}", self.line());
        let mut command = self.command();
        command.stdout(Stdio::piped());
        let mut child = self.spawn(command)?;
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            // By bytes: a test may print anything.
            while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line);
                print!("{text}");
                each(text.trim_end());
                line.clear();
            }
        }
        child.wait().map_err(|error| self.failed(&error.to_string()))
    }

    /// Runs the command without showing it and returns what it printed.
    pub(crate) fn capture(&self) -> Result<String> {
        let mut command = self.command();
        command.stdout(Stdio::piped());
        let mut child = self.spawn(command)?;
        let mut text = Vec::new();
        if let Some(mut output) = child.stdout.take() {
            output.read_to_end(&mut text).map_err(|error| self.failed(&error.to_string()))?;
        }
        self.expect_success(child.wait().map_err(|error| self.failed(&error.to_string()))?)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Whether the command runs and succeeds; nothing is shown.
    pub(crate) fn succeeds(&self) -> bool {
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Starts a server. It is stopped when the returned value goes away, whatever the reason.
    pub(crate) fn start(&self) -> Result<Server> {
        let mut command = self.command();
        command.stdout(Stdio::piped());
        let started = Instant::now();
        Ok(Server::of(started, self.spawn(command)?, self.name()))
    }
}

/// A word of a shell command, quoted where it must be.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A running server: a child of ours that ends with this value.
pub(crate) struct Server {
    child: Child,
    name: String,
    lines: Receiver<String>,
    /// When it was started.
    pub(crate) started: Instant,
}

impl Server {
    fn of(started: Instant, mut child: Child, name: String) -> Self {
        let (sender, lines) = channel();
        if let Some(output) = child.stdout.take() {
            // Reads to the end even when nobody listens, so that the server never blocks on a full pipe.
            thread::spawn(move || {
                for line in BufReader::new(output).lines() {
                    let Ok(line) = line else { break };
                    let _nobody_listens = sender.send(line);
                }
            });
        }
        Self { child, name, lines, started }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of its standard output that starts with `start`.
    pub(crate) fn wait_for_line(&mut self, start: &str, at_most: Duration) -> Result<String> {
        let deadline = Instant::now() + at_most;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(start) => return Ok(line),
                Ok(line) => println!("  {line}"),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Failure::new(format!(
                        "`{}` did not say {start:?} within {} s",
                        self.name,
                        at_most.as_secs()
                    )));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
    }

    /// How it ended, when it has.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn ended(&mut self) -> Failure {
        let how = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        Failure::new(format!("`{}` ended before it was asked to: {how}", self.name))
    }

    /// An error when it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.has_ended() { Err(self.ended()) } else { Ok(()) }
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        self.end().map_err(|error| Failure::new(format!("`{}` could not be stopped: {error}", self.name)))
    }

    fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // The child has not been waited for, so its id cannot belong to anybody else yet.
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + STOP_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already stopped, or there is nobody left to tell.
        let _status = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Cmd {
        Cmd::new("sh").args(["-c", script])
    }

    #[test]
    fn another_program_has_the_same_environment_and_none_of_the_arguments() {
        let other = sh("exit 3").env("WHO", "me").with_program("printenv").arg("WHO");
        assert_eq!(other.capture().unwrap(), "me\n");
    }

    #[test]
    fn a_failure_says_what_was_run_and_how_to_run_it_again() {
        let failure = sh("exit 3").cwd(Path::new("/")).env("WHO", "it's me").run().unwrap_err().to_string();
        assert!(failure.contains("sh -c 'exit 3'") && failure.contains("exit status: 3"), "{failure}");
        assert!(failure.contains(r"(cd / && WHO='it'\''s me' sh -c 'exit 3')"), "{failure}");
    }

    #[test]
    fn paths_below_the_folder_are_shown_relative_to_it() {
        let command =
            Cmd::new("/repo/target/x").args(["/repo/a b", "/repository", "/repo"]).cwd(Path::new("/repo"));
        assert_eq!(command.line(), "target/x 'a b' /repository /repo");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let failure = Cmd::new("no-such-program").run().unwrap_err().to_string();
        assert!(failure.contains("`no-such-program` cannot be started"), "{failure}");
    }

    #[test]
    fn streamed_lines_are_seen_and_the_status_is_kept() {
        let mut seen = Vec::new();
        let status = sh("printf 'a\\nb\\n'; exit 4").stream(|line| seen.push(line.to_owned())).unwrap();
        assert_eq!((seen, status.code()), (vec!["a".to_owned(), "b".to_owned()], Some(4)));
    }

    #[test]
    fn a_server_is_waited_for_and_stopped_by_its_id() {
        let mut server =
            sh("trap 'exit 0' TERM; echo starting; echo serving x; while :; do sleep 0.05; done")
                .start()
                .unwrap();
        let line = server.wait_for_line("serving", Duration::from_secs(5)).unwrap();
        assert_eq!(line, "serving x");
        assert!(!server.has_ended());
        assert!(server.stop().unwrap().success());
    }

    #[test]
    fn a_server_that_is_dropped_is_gone() {
        let server = sh("echo up; exec sleep 60").start().unwrap();
        let entry = PathBuf::from(format!("/proc/{}", server.id()));
        assert!(entry.exists());
        drop(server);
        assert!(!entry.exists());
    }

    #[test]
    fn a_server_that_ends_early_or_stays_silent_is_an_error() {
        let mut ended = sh("exit 7").start().unwrap();
        let failure = ended.wait_for_line("serving", Duration::from_secs(5)).unwrap_err().to_string();
        assert!(failure.contains("exit status: 7"), "{failure}");
        let mut silent = sh("exec sleep 60").start().unwrap();
        assert!(silent.wait_for_line("serving", Duration::from_millis(50)).is_err());
    }
}
