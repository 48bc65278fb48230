//! CPU time and memory of a running process, as the kernel counts them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use super::figures::Spread;
use crate::failure::{Failure, Result};

/// How often the memory of a loaded server is looked at.
const WATCH: Duration = Duration::from_millis(100);

/// CPU time of a process, all its threads, user and system together.
pub(super) fn cpu(id: u32) -> Result<Duration> {
    let stat = read(id, "stat")?;
    let ticks =
        cpu_ticks(&stat).ok_or_else(|| Failure::new(format!("/proc/{id}/stat is not understood: {stat}")))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// utime + stime, the 14th and 15th field; the second one is a name in parentheses and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Memory of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident_kib: f64,
    /// Most that ever was.
    pub(super) peak_kib: f64,
    /// Page tables now.
    pub(super) tables_kib: f64,
}

/// Memory of a process.
pub(super) fn memory(id: u32) -> Result<Memory> {
    let status = read(id, "status")?;
    memory_of(&status).ok_or_else(|| Failure::new(format!("/proc/{id}/status is not understood")))
}

fn memory_of(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().trim_end_matches(" kB").parse().ok()
    };
    Some(Memory { resident_kib: field("VmRSS:")?, peak_kib: field("VmHWM:")?, tables_kib: field("VmPTE:")? })
}

fn read(id: u32, what: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{id}/{what}"))
        .map_err(|error| Failure::new(format!("/proc/{id}/{what} cannot be read: {error}")))
}

/// Looks at the memory of a process again and again.
pub(super) struct Watch<'scope> {
    stop: Arc<AtomicBool>,
    thread: Option<ScopedJoinHandle<'scope, Vec<f64>>>,
}

impl<'scope> Watch<'scope> {
    /// Starts looking.
    pub(super) fn start(scope: &'scope Scope<'scope, '_>, id: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = scope.spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(WATCH);
                seen.extend(memory(id).map(|memory| memory.resident_kib));
            }
            seen
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops looking; the middle of what was resident.
    pub(super) fn stop(mut self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Spread::of(seen).map_or(f64::NAN, |spread| spread.median)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "42 (a) 1 2 (b)) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 7 20 0 1 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("garbage"), None);
    }

    #[test]
    fn memory_is_read() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nVmPTE:\t      64 kB\n";
        assert_eq!(
            memory_of(status),
            Some(Memory { resident_kib: 1024.0, peak_kib: 2048.0, tables_kib: 64.0 })
        );
        assert_eq!(memory_of("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_both() {
        let id = std::process::id();
        assert!(memory(id).unwrap().resident_kib > 0.0);
        assert!(cpu(id).is_ok());
    }
}
