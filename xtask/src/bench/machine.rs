//! The machine: what it is, how busy it was with other things, and which core does what.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::workspace::Workspace;

/// Which core runs the servers and which one the load.
#[derive(Clone, Copy)]
pub(super) struct Cores {
    /// The servers', one at a time.
    pub(super) server: usize,
    /// The load generator's; the same one where there is no other.
    pub(super) load: usize,
}

impl Cores {
    /// The first and the second core that this process may use.
    pub(super) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(None).map_err(|error| Failure::new(format!("own cores: {error}")))?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let server = cores.next().ok_or_else(|| Failure::new("this process may use no core"))?;
        Ok(Self { server, load: cores.next().unwrap_or(server) })
    }

    /// Whether servers and load share a core: then only the CPU time per request means anything.
    pub(super) fn are_shared(&self) -> bool {
        self.server == self.load
    }
}

/// Does something on one core: what it starts stays there.
pub(super) fn on_core<T>(core: usize, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let failed = |error: rustix::io::Errno| {
        Failure::new(format!("this process cannot be bound to core {core}: {error}"))
    };
    let before = sched_getaffinity(None).map_err(failed)?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).map_err(failed)?;
    let result = act();
    sched_setaffinity(None, &before).map_err(failed)?;
    result
}

/// Lets this process and those it starts hold `files` open at once, if the machine permits.
pub(super) fn allow_open_files(files: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return Ok(());
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: limit.maximum })
        .map_err(|error| Failure::new(format!("{files} files cannot be open at once: {error}")))
}

/// What the machine is, and what else it did meanwhile.
pub(super) struct Machine {
    processor: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// Which `tenon` is measured.
    program: &'static str,
    /// One-minute load before anything was measured: what others were doing.
    load_before: f64,
    measured_at: u64,
    times: Times,
    /// Share of the time that the hypervisor gave to others, once known.
    stolen: f64,
}

#[derive(Clone, Copy, Default)]
struct Times {
    total: u64,
    stolen: u64,
}

impl Times {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what follows is contained in these.
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|tick| tick.parse().ok()).collect();
        Self { total: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }
}

impl Machine {
    /// Looks at the machine before the first measurement.
    pub(super) fn look(workspace: &Workspace) -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':').map(str::trim));
            value.map(str::to_owned)
        };
        let kib = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let uname = rustix::system::uname();
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024,
            kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
            program: workspace.program(),
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN),
            measured_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            times: Times::now(),
            stolen: 0.0,
        }
    }

    /// Looks again after the last one.
    pub(super) fn look_again(&mut self) {
        let now = Times::now();
        let total = now.total.saturating_sub(self.times.total).max(1);
        self.stolen = now.stolen.saturating_sub(self.times.stolen) as f64 / total as f64;
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        format!(
            "{}, {} cores, {} MiB, {}; load before: {:.2}; taken by the hypervisor meanwhile: {:.1} %; tenon: {}",
            self.processor,
            self.cores,
            self.memory_mib,
            self.kernel,
            self.load_before,
            self.stolen * 100.0,
            self.program
        )
    }

    /// For a program.
    pub(super) fn json(&self) -> Value {
        json!({
            "processor": self.processor, "cores": self.cores, "memory_mib": self.memory_mib, "kernel": self.kernel,
            "program": self.program, "load_before": self.load_before, "stolen_share": self.stolen, "measured_at_unix": self.measured_at,
        })
    }
}
