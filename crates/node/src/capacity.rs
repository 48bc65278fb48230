//! How many more of an app fit, and how much of the machine is used.

use std::fs;
use std::path::Path;

use tenon_model::AppId;

use crate::node::{Inner, put_tenant_of};
use crate::refused::{Answer, missing};
use crate::wire::{Bound, Capacity};

/// Where the kernel shows its control groups.
const CGROUPS: &str = "/sys/fs/cgroup";
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

/// What the machine has left, or this process's group, whichever is less.
fn available_memory() -> u64 {
    let machine = kibibytes("/proc/meminfo", "MemAvailable:").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = own.lines().find_map(|line| line.strip_prefix("0::"));
    group.and_then(|group| group_memory(Path::new(CGROUPS), group)).map_or(machine, |left| left.min(machine))
}

/// What a control group (version 2) and those around it leave of their limits, if they have any. Pages of files that nobody
/// used lately are counted as theirs, and can be had.
fn group_memory(root: &Path, group: &str) -> Option<u64> {
    let left = |folder: &Path| {
        let text = |file: &str| fs::read_to_string(folder.join(file)).ok();
        let number = |file: &str| text(file)?.trim().parse::<u64>().ok();
        let stat = text("memory.stat").unwrap_or_default();
        let unused = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
        let unused: u64 = unused.and_then(|it| it.trim().parse().ok()).unwrap_or(0);
        let used = number("memory.current")?.saturating_sub(unused);
        Some(number("memory.max")?.saturating_sub(used))
    };
    let own = root.join(group.trim_start_matches('/'));
    own.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(left).min()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_around_the_process_says_what_is_left() {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: &str, max: &str, current: &str| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("memory.max"), max).unwrap();
            fs::write(folder.join("memory.current"), current).unwrap();
            folder
        };
        let own = write("a/b", "max\n", "100\n");
        assert_eq!(group_memory(root.path(), "/a/b"), None, "nobody has said how much it may be");
        let around = write("a", "1000\n", "700\n");
        assert_eq!(group_memory(root.path(), "/a/b"), Some(300));
        fs::write(around.join("memory.stat"), "anon 1\ninactive_file 200\n").unwrap();
        assert_eq!(group_memory(root.path(), "/a/b"), Some(500));
        fs::write(own.join("memory.max"), "150\n").unwrap();
        assert_eq!(group_memory(root.path(), "/a/b"), Some(50));
    }
}
