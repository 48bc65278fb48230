//! The `tenon` process, driven as a person drives it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{repository, until};

/// How long a test waits for something that should take milliseconds, on a machine that is busy with others.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// One `tenon` binary and a data directory for it.
#[derive(Clone, Debug)]
pub struct Tenon {
    binary: PathBuf,
    data: Arc<TempDir>,
}

/// What a command that ran to its end left behind.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Tenon {
    /// The binary at `binary`, which a test has from `env!("CARGO_BIN_EXE_tenon")`, with an empty data directory
    /// of its own.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let data = TempDir::with_prefix("tenon-data-").expect("a temporary directory");
        Self { binary: binary.into(), data: Arc::new(data) }
    }

    /// The data directory. It goes away with the last clone of this value.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    fn command(&self, folder: &Path) -> Command {
        self.command_through(&[], folder)
    }

    fn command_through(&self, through: &[OsString], folder: &Path) -> Command {
        let mut command = match through {
            [] => Command::new(&self.binary),
            [program, args @ ..] => {
                let mut command = Command::new(program);
                command.args(args).arg(&self.binary);
                command
            }
        };
        command
            .current_dir(folder)
            .env("TENON_DATA", self.data())
            .env("TENON_TOOLS", repository().join(".tools"))
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `tenon ARGS…` in `folder` to its end.
    ///
    /// # Panics
    /// When it cannot be started, or has not ended after `deadline`.
    pub fn run_for<A: AsRef<OsStr>>(
        &self,
        deadline: Duration,
        folder: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Finished {
        let mut command = self.command(folder);
        command.args(args);
        self.finish(deadline, command)
    }

    fn finish(&self, deadline: Duration, mut command: Command) -> Finished {
        let described = describe(&command);
        let mut process = Process::start(&mut command);
        let status =
            process.wait(deadline).unwrap_or_else(|| panic!("{described} has not ended after {deadline:?}"));
        Finished {
            command: described,
            status,
            stdout: process.stdout.finish(),
            stderr: process.stderr.finish(),
        }
    }

    /// [`run_for`](Self::run_for) two minutes at most.
    ///
    /// # Panics
    /// As that does.
    pub fn run<A: AsRef<OsStr>>(&self, folder: &Path, args: impl IntoIterator<Item = A>) -> Finished {
        self.run_for(Duration::from_secs(120), folder, args)
    }

    /// Starts `tenon ARGS…` in `folder`, for what goes on by itself until somebody ends it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn watch<A: AsRef<OsStr>>(&self, folder: &Path, args: impl IntoIterator<Item = A>) -> Watched {
        let mut command = self.command(folder);
        command.args(args);
        Watched { process: Process::start(&mut command), command: describe(&command) }
    }

    /// Runs `tenon ARGS…` in `folder` to its end, with `input` on its standard input.
    ///
    /// # Panics
    /// As [`run`](Self::run) does.
    pub fn run_with_input<A: AsRef<OsStr>>(
        &self,
        folder: &Path,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Finished {
        self.run_with_input_for(Duration::from_secs(120), folder, args, input)
    }

    /// The same, `deadline` at most.
    ///
    /// # Panics
    /// As [`run`](Self::run) does.
    pub fn run_with_input_for<A: AsRef<OsStr>>(
        &self,
        deadline: Duration,
        folder: &Path,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Finished {
        // A file, not a pipe: there is nobody who would have to write while the command runs.
        let path = self.data().join("input.txt");
        std::fs::write(&path, input).expect("the input is written");
        let mut command = self.command(folder);
        command.args(args).stdin(std::fs::File::open(&path).expect("the input is there"));
        self.finish(deadline, command)
    }

    /// A `tenon serve` of `target`, a component, an artifact or a folder, to be started.
    pub fn serve(&self, target: impl AsRef<OsStr>) -> Serve {
        self.server("serve", target.as_ref())
    }

    /// A `tenon dev` of the folder `target`, to be started.
    pub fn dev(&self, target: impl AsRef<OsStr>) -> Serve {
        self.server("dev", target.as_ref())
    }

    /// A `tenon node` on its data directory, with its admin API on a free port, to be started.
    pub fn node(&self) -> Serve {
        self.node_with_admin("127.0.0.1:0")
    }

    /// The same, whose admin API is at this address.
    pub fn node_with_admin(&self, admin: &str) -> Serve {
        let mut node = self.server("node", OsStr::new("--json"));
        node.args.extend(["--admin".into(), admin.into()]);
        node
    }

    fn server(&self, command: &str, target: &OsStr) -> Serve {
        self.serving([OsStr::new(command), target])
    }

    /// A `tenon` with these arguments, which say what serves and not where, to be started.
    pub fn serving<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Serve {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Serve {
            tenon: self.clone(),
            args,
            listen: "127.0.0.1:0".to_owned(),
            folder: self.data().to_owned(),
            environment: Vec::new(),
            unread: false,
            through: Vec::new(),
        }
    }
}

impl Finished {
    /// Panics with all the output unless the command ended with `code`.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{} ended with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Panics unless standard error contains every one of `texts`.
    ///
    /// # Panics
    /// When one is missing.
    #[track_caller]
    pub fn expect_stderr(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "{}: no `{text}` in\n{}", self.command, self.stderr);
        }
        self
    }

    /// Standard output as one JSON value.
    ///
    /// # Panics
    /// When it is not one.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("{}: not JSON ({error})\n{}\n--- stderr\n{}", self.command, self.stdout, self.stderr)
        })
    }
}

/// A command that goes on by itself. Dropping it ends it.
#[derive(Debug)]
pub struct Watched {
    process: Process,
    command: String,
}

impl Watched {
    /// Waits until as many lines as `count` of its standard output contain all of `texts`, and gives back the last of them.
    ///
    /// # Panics
    /// With all that it said, when there are fewer in time.
    #[track_caller]
    pub fn shows(&self, count: usize, texts: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let shown = self.process.stdout.all(texts);
            if let Some(line) = count.checked_sub(1).and_then(|last| shown.get(last)) {
                return line.clone();
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{}: {} of {count} lines with {texts:?}\n--- stdout\n{}\n--- stderr\n{}",
                self.command,
                shown.len(),
                self.process.stdout.text(),
                self.process.stderr.text()
            );
            self.process.stdout.wait_for_more(Duration::from_millis(20));
        }
    }

    /// How many lines of its standard output contain all of `texts` now.
    pub fn count(&self, texts: &[&str]) -> usize {
        self.process.stdout.all(texts).len()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().is_none()
    }
}

/// A `tenon serve` that has not been started.
#[derive(Clone, Debug)]
pub struct Serve {
    tenon: Tenon,
    args: Vec<OsString>,
    listen: String,
    folder: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    unread: bool,
    through: Vec<OsString>,
}

impl Serve {
    /// The same with more arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// The same with a variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    /// The same, started by another program, whose last arguments are this one and its own. That program has to become this
    /// one (`exec`), so that the process is the same.
    #[must_use]
    pub fn through<A: AsRef<OsStr>>(mut self, command: impl IntoIterator<Item = A>) -> Self {
        self.through = command.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// The same on this address instead of a free port.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// The same, whose standard error nobody reads before [`Serving::read_log`]: its pipe becomes full, and stays so.
    #[must_use]
    pub fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    fn all_args(&self) -> Vec<OsString> {
        [&self.args[..], &["--listen".into(), self.listen.clone().into()]].concat()
    }

    /// Starts it and waits until it accepts connections.
    ///
    /// # Panics
    /// With what it said, when it ends or does not get there in time.
    #[track_caller]
    pub fn start(self) -> Serving {
        let mut command = self.tenon.command_through(&self.through, &self.folder);
        command.args(self.all_args()).envs(self.environment.iter().cloned());
        let described = describe(&command);
        let mut process = Process::start_unread(&mut command);
        if !self.unread {
            process.read();
        }
        let start = Instant::now();
        loop {
            let announced = process.stdout.find(announced_address);
            if let Some(address) = announced {
                let admin = process.stdout.find(|line| event_address(line, "admin"));
                let tls = process.stdout.find(|line| event_address(line, "tls"));
                return Serving { process, address, admin, tls, tenon: self.tenon };
            }
            let ended = process.try_wait();
            if ended.is_some() || start.elapsed() > DEADLINE * 4 {
                panic!(
                    "{described} does not serve ({ended:?})\n--- stdout\n{}\n--- stderr\n{}",
                    process.stdout.text(),
                    process.stderr.text()
                );
            }
            process.stdout.wait_for_more(Duration::from_millis(20));
        }
    }

    /// Runs it to its end: for what must be refused.
    ///
    /// # Panics
    /// When it is still running after a minute.
    #[track_caller]
    pub fn refused(self) -> Finished {
        self.tenon.run_for(Duration::from_secs(60), &self.folder, self.all_args())
    }
}

/// The address in `serving NAME on http://ADDRESS` or in the event of that name.
fn announced_address(line: &str) -> Option<SocketAddr> {
    if line.starts_with('{') {
        return event_address(line, "address");
    }
    line.strip_prefix("serving ")?.rsplit_once(" on http://")?.1.trim_end_matches('/').parse().ok()
}

/// The address under `key` of the event that says that it serves.
fn event_address(line: &str, key: &str) -> Option<SocketAddr> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    (event["event"] == "serving").then(|| event[key].as_str())??.parse().ok()
}

/// A running `tenon serve`. Dropping it ends the process.
#[derive(Debug)]
pub struct Serving {
    process: Process,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    tenon: Tenon,
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin API of a node is.
    ///
    /// # Panics
    /// When it is no node.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("it is a node")
    }

    /// Where a node serves over TLS.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn tls(&self) -> SocketAddr {
        self.tls.expect("it serves over TLS")
    }

    /// Kills it (SIGKILL), as a machine that fails would.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(mut self) {
        kill_process(self.process.pid(), Signal::KILL).expect("the process takes a signal");
        self.wait(DEADLINE);
    }

    /// The binary and the data directory it was started with.
    pub fn tenon(&self) -> &Tenon {
        &self.tenon
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Everything on standard output so far.
    pub fn stdout(&self) -> String {
        self.process.stdout.text()
    }

    /// Everything on standard error so far: the log.
    pub fn log(&self) -> String {
        self.process.stderr.text()
    }

    /// Reads the log of one that was started [unread](Serve::unread) from now on.
    pub fn read_log(&mut self) {
        self.process.read();
    }

    /// Waits for the log line that contains all of `texts`.
    ///
    /// # Panics
    /// With the whole log, when there is none in time.
    #[track_caller]
    pub fn logged(&self, texts: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let line = self
                .process
                .stderr
                .find(|line| texts.iter().all(|text| line.contains(text)).then(|| line.to_owned()));
            if let Some(line) = line {
                return line;
            }
            assert!(start.elapsed() < DEADLINE, "no log line with {texts:?} in\n{}", self.log());
            self.process.stderr.wait_for_more(Duration::from_millis(20));
        }
    }

    /// How many log lines there are now that contain all of `texts`.
    pub fn count_logged(&self, texts: &[&str]) -> usize {
        self.log().lines().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().is_none()
    }

    /// The largest resident set it had so far, in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn peak_resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the process has a status");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok()).expect("the status has a peak") * 1024
    }

    /// Its threads: the name of each, and how much lower than usual its priority is.
    ///
    /// # Panics
    /// When the process is gone, or is not described as Linux does.
    pub fn threads(&self) -> Vec<(String, i64)> {
        let folder = format!("/proc/{}/task", self.id());
        let threads = std::fs::read_dir(folder).expect("the process has threads");
        // A thread may end while it is looked at.
        let stats =
            threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        stats
            .map(|stat| {
                let (name, fields) =
                    stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).expect("a name");
                let nice = fields.split_whitespace().nth(16).and_then(|nice| nice.parse().ok());
                (name.to_owned(), nice.expect("a priority"))
            })
            .collect()
    }

    /// Of each of its threads the name, and one field of its status in `/proc`; threads without that field are left out.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn thread_statuses(&self, field: &str) -> Vec<(String, String)> {
        let folder = format!("/proc/{}/task", self.id());
        let threads = std::fs::read_dir(folder).expect("the process has threads");
        // A thread may end while it is looked at.
        let statuses =
            threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
        let value = |status: &str, field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        statuses.filter_map(|status| Some((value(&status, "Name")?, value(&status, field)?))).collect()
    }

    /// Tells a node to read its certificates again (SIGHUP).
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn reload(&self) {
        kill_process(self.process.pid(), Signal::HUP).expect("the process takes a signal");
    }

    /// Asks it to stop (SIGTERM).
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn terminate(&self) {
        kill_process(self.process.pid(), Signal::TERM).expect("the process takes a signal");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let status = self.process.wait(deadline);
        status.unwrap_or_else(|| panic!("still running after {deadline:?}; its log:\n{}", self.log()))
    }

    /// Asks it to stop, expects exit code 0, and gives back all it ever said.
    ///
    /// While it runs, [`log`](Self::log) may lack a line that was written a moment ago; this has every one.
    ///
    /// # Panics
    /// When it ends otherwise, or not at all.
    #[track_caller]
    pub fn stop(mut self) -> Finished {
        self.terminate();
        let status = self.wait(DEADLINE);
        let (stdout, stderr) = (self.process.stdout.finish(), self.process.stderr.finish());
        Finished { command: "tenon serve".to_owned(), status, stdout, stderr }.expect_code(0)
    }
}

/// A child process, its output collected line by line; killed when dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    /// Standard error, as long as nobody reads it.
    unread: Option<ChildStderr>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut process = Self::start_unread(command);
        process.read();
        process
    }

    fn start_unread(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", describe(command)));
        let stdout = Lines::collect(child.stdout.take().expect("standard output is piped"));
        let unread = child.stderr.take();
        Self { child, stdout, stderr: Lines::none(), unread }
    }

    fn read(&mut self) {
        if let Some(pipe) = self.unread.take() {
            self.stderr = Lines::collect(pipe);
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < deadline {
            if let Some(status) = self.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.try_wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Harmless when it has ended: the handle knows its own process and no other.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, collected as they come.
#[derive(Debug)]
struct Lines {
    shared: Arc<(Mutex<Vec<String>>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn none() -> Self {
        Self { shared: Arc::default(), reader: None }
    }

    fn collect(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let target = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                line.clear();
                target.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                target.1.notify_all();
            }
        });
        Self { shared, reader: Some(reader) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find<T>(&self, wanted: impl FnMut(&str) -> Option<T>) -> Option<T> {
        self.lock().iter().map(String::as_str).find_map(wanted)
    }

    /// The lines that contain all of `texts`.
    fn all(&self, texts: &[&str]) -> Vec<String> {
        self.lock().iter().filter(|line| texts.iter().all(|text| line.contains(text))).cloned().collect()
    }

    fn text(&self) -> String {
        self.lock().iter().map(|line| format!("{line}\n")).collect()
    }

    fn wait_for_more(&self, longest: Duration) {
        let guard = self.lock();
        drop(self.shared.1.wait_timeout(guard, longest));
    }

    /// Everything, once the pipe is closed.
    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            until("the end of the output", DEADLINE, || reader.is_finished().then_some(()));
        }
        self.text()
    }
}

fn describe(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut words = vec![name.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_address_in_both_announcements() {
        let address = Some("127.0.0.1:4711".parse().unwrap());
        assert_eq!(announced_address("serving store front on http://127.0.0.1:4711"), address);
        assert_eq!(
            announced_address(r#"{"event":"serving","name":"x","address":"127.0.0.1:4711"}"#),
            address
        );
        assert_eq!(announced_address(r#"{"event":"compiled"}"#), None);
        assert_eq!(announced_address("compiling"), None);
    }

    #[test]
    fn collects_output_and_exit_code() {
        let tenon = Tenon::new("/bin/sh");
        let finished = tenon.run(tenon.data(), ["-c", "echo out; echo $TENON_DATA >&2; exit 3"]);
        let finished = finished.expect_code(3).expect_stderr(&[tenon.data().to_str().unwrap()]);
        assert_eq!(finished.stdout, "out\n");
    }
}
