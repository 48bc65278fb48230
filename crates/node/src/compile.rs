//! Compiling in a process of its own: what a hostile component does to a compiler ends with that process.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tenon_engine::{Artifacts, Engine, Origin, Part, Pool, Source};
use tenon_model::{AppId, Diagnostic, Diagnostics, Digest, Limits, TenantId, format_bytes, format_duration};

use crate::refused::{Answer, Refused};
use crate::wire::Problem;

/// The largest component, in bytes.
const COMPONENT_BYTES_MAX: u64 = 512 << 20;
/// The longest answer of a compiler, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How the line of the answer begins: whatever else a program writes is not meant.
const ANSWER: &str = "tenon-compiled ";
/// A compiler is in nobody's way.
const NICE: i32 = 10;

/// What one compiler may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Time on the processor.
    pub cpu: Duration,
    /// Time on the wall.
    pub wall: Duration,
    /// Bytes of the compiled code.
    pub artifact_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            cpu: Duration::from_secs(300),
            wall: Duration::from_secs(600),
            artifact_bytes: 1 << 30,
        }
    }
}

/// What a compiler is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    data: PathBuf,
    component: PathBuf,
    digest: String,
    name: String,
    memory_bytes: u64,
    cpu_s: u64,
    artifact_bytes: u64,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Compiled { bytes: u64, took_us: u64, loaded: bool },
    Refused(Problem),
}

/// Who compiles, and how many at once.
#[derive(Debug)]
pub(crate) struct Compiler {
    command: Option<Vec<OsString>>,
    data: PathBuf,
    limits: CompileLimits,
    turns: Mutex<Turns>,
    changed: Condvar,
}

/// Who compiles, and who waits. Tenants take turns: one that deploys much does not hold up one that deploys once.
#[derive(Debug)]
struct Turns {
    free: usize,
    /// Those who wait, in the order in which they came.
    waiting: VecDeque<(u64, TenantId)>,
    /// When a tenant that waits or compiles last had its turn.
    last: HashMap<TenantId, (u64, usize)>,
    count: u64,
}

impl Turns {
    fn new(compilers: usize) -> Self {
        Self { free: compilers.max(1), waiting: VecDeque::new(), last: HashMap::new(), count: 0 }
    }

    /// Stands in the line.
    fn stand(&mut self, tenant: &TenantId) -> u64 {
        self.count += 1;
        self.waiting.push_back((self.count, tenant.clone()));
        self.last.entry(tenant.clone()).or_default().1 += 1;
        self.count
    }

    /// Takes the turn, if it is that one's: of the tenant whose last turn is the longest ago, whoever came first.
    fn take(&mut self, number: u64) -> bool {
        let last = |tenant: &TenantId| self.last.get(tenant).map_or(0, |(last, _)| *last);
        let next =
            self.waiting.iter().enumerate().min_by_key(|(_, (number, tenant))| (last(tenant), *number));
        let Some(at) = next.filter(|(_, next)| self.free > 0 && next.0 == number).map(|(at, _)| at) else {
            return false;
        };
        if let Some((_, tenant)) = self.waiting.remove(at) {
            self.count += 1;
            self.last.entry(tenant).or_default().0 = self.count;
        }
        self.free -= 1;
        true
    }

    /// Gives the turn back. A tenant that nobody waits for any more is forgotten.
    fn leave(&mut self, tenant: &TenantId) {
        self.free += 1;
        if let Some((_, there)) = self.last.get_mut(tenant) {
            *there -= 1;
            if *there == 0 {
                self.last.remove(tenant);
            }
        }
    }
}

impl Compiler {
    pub(crate) fn new(
        command: Option<Vec<OsString>>,
        data: &Path,
        limits: CompileLimits,
        compilers: usize,
    ) -> Self {
        let turns = Mutex::new(Turns::new(compilers));
        Self { command, data: data.to_owned(), limits, turns, changed: Condvar::new() }
    }

    /// Compiles the component that lies there, unless it has been; says which. Waits for its turn.
    pub(crate) fn compile(
        &self,
        here: (&Engine, &Artifacts),
        app: &AppId,
        component: &Path,
        digest: &Digest,
    ) -> Answer<&'static str> {
        let _turn = self.turn(&app.tenant);
        let order = Order {
            data: self.data.clone(),
            component: component.to_owned(),
            digest: digest.to_string(),
            name: app.to_string(),
            memory_bytes: self.limits.memory_bytes,
            cpu_s: self.limits.cpu.as_secs().max(1),
            artifact_bytes: self.limits.artifact_bytes,
        };
        let said = match &self.command {
            Some(command) => self.elsewhere(command, &order),
            None => carry_out(here.0, here.1, &order).unwrap_or_else(|refused| Said::Refused(*refused.0)),
        };
        match said {
            Said::Compiled { loaded: true, .. } => Ok("compiled before"),
            Said::Compiled { .. } => Ok("compiled"),
            Said::Refused(problem) => Err(Refused(Box::new(problem))),
        }
    }

    /// Waits for a turn of this tenant. How many wait is bounded where deploys come in, and where revisions are loaded.
    fn turn(&self, tenant: &TenantId) -> Turn<'_> {
        let mut turns = self.turns();
        let number = turns.stand(tenant);
        while !turns.take(number) {
            turns = self.changed.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        drop(turns);
        // Where more than one is free, the next one's turn has come.
        self.changed.notify_all();
        Turn { compiler: self, tenant: tenant.clone() }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a process of its own.
    fn elsewhere(&self, command: &[OsString], order: &Order) -> Said {
        let failed = |what: String| Said::Refused(*Refused::from(worker_failed(what)).0);
        let [program, arguments @ ..] = command else { return failed("no program was named".into()) };
        let spawned = Command::new(program)
            .args(arguments)
            // A compiler needs to know nothing of who runs the node.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return failed(error.to_string()),
        };
        let (Some(mut told), Some(answer)) = (child.stdin.take(), child.stdout.take()) else {
            return failed("it has no standard streams".into());
        };
        let written =
            serde_json::to_vec(order).map_err(std::io::Error::other).and_then(|order| told.write_all(&order));
        drop(told);
        let (sender, answered) = sync_channel(1);
        let reader = std::thread::Builder::new().name("tenon-compile".into()).spawn(move || {
            let mut text = Vec::new();
            let _ = answer.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
            let _ = sender.send(text);
        });
        let text = match reader {
            Ok(_) => answered.recv_timeout(self.limits.wall),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        // Whatever became of it, it is not left behind.
        if text.is_err() {
            let _ = child.kill();
        }
        let ended = child.wait();
        if let Err(RecvTimeoutError::Timeout) = text {
            let what = format!("compiling took longer than {}", format_duration(self.limits.wall));
            return Said::Refused(*Refused::from(too_much(order, what)).0);
        }
        let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
        let line = text.lines().rev().find_map(|line| line.strip_prefix(ANSWER));
        match line.and_then(|line| serde_json::from_str(line).ok()) {
            Some(said) => said,
            // It ended without a word: a limit, or a crash.
            None => {
                let how = match (ended, written) {
                    (Ok(status), Ok(())) => status.to_string(),
                    (Err(error), _) | (_, Err(error)) => error.to_string(),
                };
                let what = format!(
                    "compiling ended with {how}: most likely it needs more than {} of memory or {} of processor time",
                    format_bytes(self.limits.memory_bytes),
                    format_duration(self.limits.cpu)
                );
                Said::Refused(*Refused::from(too_much(order, what)).0)
            }
        }
    }
}

/// A compiler's place, given back when it is dropped.
struct Turn<'a> {
    compiler: &'a Compiler,
    tenant: TenantId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.compiler.turns().leave(&self.tenant);
        self.compiler.changed.notify_all();
    }
}

fn too_much(order: &Order, what: String) -> Diagnostic {
    Diagnostic::new("compile-limits", format!("`{}` cannot be compiled within the node's limits", order.name))
        .note("cause", what)
        .mend("make the component smaller; or have whoever runs the node raise what a compiler may use")
}

fn worker_failed(cause: String) -> Diagnostic {
    Diagnostic::new("compile-worker", "the node's compiler could not be run")
        .note("cause", cause)
        .mend("look into the node's log; the program of the node has to be where it was when it started")
}

/// The other side: reads an order, holds this process to its limits, compiles, and writes one line.
///
/// # Errors
/// When the order cannot be read or the answer cannot be written. What is wrong with the component is in the answer.
pub fn compile_worker(order: impl Read, mut answer: impl Write) -> std::io::Result<()> {
    let mut text = Vec::new();
    order.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
    let order: Order = serde_json::from_slice(&text)?;
    let done = hold(&order).map_err(|error| Refused::from(worker_failed(error.to_string()))).and_then(|()| {
        let artifacts = Artifacts::open(&order.data)
            .map_err(|error| Refused::from(worker_failed(format!("{error}: {}", error.source))))?;
        // Compiling needs the engine's settings, not its pool.
        let pool = Pool { instances: 1, memory_bytes: Pool::MEMORY_BYTES_MAX, ..Pool::default() };
        // Within these limits: the machine itself has room, for the node runs on it.
        let engine = Engine::new(pool).map_err(|error| Refused::from(too_much(&order, error.to_string())))?;
        carry_out(&engine, &artifacts, &order)
    });
    let said = done.unwrap_or_else(|refused| Said::Refused(*refused.0));
    writeln!(answer, "{ANSWER}{}", serde_json::to_string(&said)?)?;
    answer.flush()
}

/// Holds this process to the limits, for good.
fn hold(order: &Order) -> std::io::Result<()> {
    let limits = [
        // Address space is reserved by the tebibyte and costs nothing; what can be written to is what counts.
        (Resource::Data, order.memory_bytes),
        (Resource::Cpu, order.cpu_s),
        (Resource::Fsize, order.artifact_bytes),
        (Resource::Core, 0),
    ];
    for (resource, limit) in limits {
        let limit = getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    rustix::process::nice(NICE)?;
    Ok(())
}

fn carry_out(engine: &Engine, artifacts: &Artifacts, order: &Order) -> Answer<Said> {
    let began = Instant::now();
    let unreadable = |error: std::io::Error| {
        Refused::from(
            Diagnostic::new("state-failed", "the component cannot be read").note("cause", error.to_string()),
        )
    };
    let mut bytes = Vec::new();
    File::open(&order.component)
        .and_then(|file| file.take(COMPONENT_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if Digest::of(&bytes).to_string() != order.digest {
        return Err(unreadable(std::io::Error::other("its file is damaged")));
    }
    let name = order.name.as_str();
    tenon_wit::require_component(name, &bytes)?;
    tenon_wit::require_released_wasi(name, &bytes)?;
    let source = Source {
        name,
        bytes: &bytes,
        parts: &|| parts_of(name, &bytes),
        contract: &|| tenon_wit::contract(&bytes),
    };
    let refused = |refused| explain_refusal(engine, name, &bytes, refused);
    let stored = artifacts.get(engine, &source).map_err(refused)?;
    let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Said::Compiled { bytes: stored.bytes, took_us, loaded: stored.origin == Origin::Loaded })
}

/// Why an engine refuses a component: where it does not fit a sandbox, what it needs more of than there is, and which
/// of its components need how much.
pub fn explain_refusal(engine: &Engine, name: &str, bytes: &[u8], refused: Diagnostic) -> Diagnostics {
    if refused.code != "exceeds-limits" {
        return refused.into();
    }
    let pool = engine.pool().pool;
    let limits =
        Limits { instances: pool.core_instances, memory_bytes: pool.memory_bytes, ..Limits::default() };
    tenon_wit::Needs::of(bytes).explain(name, &limits, refused)
}

/// The parts of a composition. A component whose types WIT cannot say still runs; its parts then have no names in
/// the log.
pub fn parts_of(name: &str, bytes: &[u8]) -> Vec<Part> {
    let Ok(inspection) = tenon_wit::inspect(name, bytes) else { return Vec::new() };
    let named = |part: &tenon_wit::Nested| {
        let range = usize::try_from(part.range.start).ok()?..usize::try_from(part.range.end).ok()?;
        Some(Part { name: part.name.clone()?, range })
    };
    inspection.component.components.iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns_however_many_of_one_wait() {
        let (acme, zeta): (TenantId, TenantId) = ("acme".parse().unwrap(), "zeta".parse().unwrap());
        let mut turns = Turns::new(1);
        let of_acme: Vec<u64> = (0..3).map(|_| turns.stand(&acme)).collect();
        let of_zeta = turns.stand(&zeta);
        assert!(!turns.take(of_zeta), "who came first is first");
        assert!(turns.take(of_acme[0]) && !turns.take(of_acme[1]), "there is one compiler");
        turns.leave(&acme);
        assert!(!turns.take(of_acme[1]) && turns.take(of_zeta), "then it is another tenant's turn");
        turns.leave(&zeta);
        assert!(!turns.take(of_acme[2]) && turns.take(of_acme[1]));
        turns.leave(&acme);
        assert!(turns.take(of_acme[2]));
        turns.leave(&acme);
        assert!((turns.last.len(), turns.waiting.len(), turns.free) == (0, 0, 1), "{turns:?}");
    }
}
