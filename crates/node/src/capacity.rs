//! How many more of an app fit, and how much of the machine is used.

use std::fs;

use tenon_model::AppId;

use crate::node::{Inner, put_tenant_of};
use crate::refused::{Answer, missing};
use crate::wire::{Bound, Capacity};

/// Memory of a loaded app beside its code: what is linked, and its counters. An estimate on the safe side.
const LOADED_BYTES: u64 = 192 << 10;
/// Mappings of a loaded app.
const LOADED_MAPPINGS: u64 = 4;

/// An app that is asked about.
pub(crate) struct Question {
    /// One that is there.
    pub(crate) app: Option<AppId>,
    /// The memory of one of its requests.
    pub(crate) memory_bytes: Option<u64>,
    /// Its requests that run at once.
    pub(crate) concurrency: Option<u64>,
    /// Its compiled code.
    pub(crate) artifact_bytes: Option<u64>,
}

/// Answers it: each bound, and the one that is reached first.
pub(crate) fn capacity(node: &Inner, question: &Question) -> Answer<Capacity> {
    let (mut memory_bytes, mut artifact_bytes, mut bounds) = (16 << 20, 1 << 20, Vec::new());
    if let Some(id) = &question.app {
        let app = node.desired.app(id).ok_or_else(|| missing("app"))?;
        let live = node.live();
        if let Some(revision) = live.revision(id, app.stable) {
            memory_bytes = revision.content.terms.limits.memory_bytes;
            artifact_bytes = revision.bytes.load(std::sync::atomic::Ordering::Relaxed).max(artifact_bytes);
        }
        drop(live);
        let tenant = node.desired.tenant(&id.tenant).ok_or_else(|| missing("tenant"))?;
        let has = node.desired.apps_of(&id.tenant).len() as u64;
        bounds.push(bound("apps", 1, u64::from(put_tenant_of(&tenant).quota.apps).saturating_sub(has)));
    }
    let memory_bytes = question.memory_bytes.unwrap_or(memory_bytes);
    let artifact_bytes = question.artifact_bytes.unwrap_or(artifact_bytes);
    let concurrency = question.concurrency.unwrap_or(1).max(1);
    let shares = &node.shares;
    let free = u64::from(
        shares.instances().saturating_sub(shares.reserved()).saturating_sub(shares.shared_in_use()),
    );
    bounds.push(bound("sandboxes", concurrency, free));
    // An app that is not asked can go out of memory: what counts is what runs, and what is loaded beside it.
    let needs = memory_bytes.saturating_mul(concurrency).saturating_add(LOADED_BYTES + artifact_bytes);
    bounds.push(bound("memory", needs, available_memory()));
    if let Ok(disk) = rustix::fs::statvfs(&node.data) {
        bounds.push(bound(
            "disk",
            artifact_bytes.saturating_mul(2),
            disk.f_bavail.saturating_mul(disk.f_frsize),
        ));
    }
    if let (Some(max), Some(has)) = (mappings_max(), mappings()) {
        bounds.push(bound("mappings", LOADED_MAPPINGS, max.saturating_sub(has)));
    }
    let least = bounds.iter().min_by_key(|bound| bound.fits);
    let (fits, bound_by) = least.map_or((0, String::new()), |bound| (bound.fits, bound.bound.clone()));
    Ok(Capacity { fits, bound_by, bounds })
}

fn bound(name: &str, needs: u64, free: u64) -> Bound {
    Bound { bound: name.to_owned(), needs, free, fits: free / needs.max(1) }
}

/// A number of a file of the kernel, in the line that begins so, times 1,024.
fn kibibytes(file: &str, line: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix(line))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

fn available_memory() -> u64 {
    kibibytes("/proc/meminfo", "MemAvailable:").unwrap_or_default()
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    kibibytes("/proc/self/status", "VmRSS:").unwrap_or_default()
}

/// Open files of this process.
pub(crate) fn open_files() -> u32 {
    let count = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // The folder itself is open while it is read.
    u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX)
}

fn mappings_max() -> Option<u64> {
    fs::read_to_string("/proc/sys/vm/max_map_count").ok()?.trim().parse().ok()
}

fn mappings() -> Option<u64> {
    let text = fs::read("/proc/self/maps").ok()?;
    Some(text.iter().filter(|byte| **byte == b'\n').count() as u64)
}
