//! How many more of an app fit, and how much of the machine is used.

use std::fs;
use std::path::Path;

use tenon_edge::Tenant;
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
    let mut share = None;
    if let Some(id) = &question.app {
        let app = node.desired.app(id).ok_or_else(|| missing("app"))?;
        let live = node.live();
        if let Some(revision) = live.revision(id, app.stable) {
            memory_bytes = revision.content.terms.limits.memory_bytes;
            artifact_bytes = revision.bytes.load(std::sync::atomic::Ordering::Relaxed).max(artifact_bytes);
        }
        let lives = live.tenants.get(&id.tenant).cloned();
        drop(live);
        share = lives.map(|tenant| Share::of(&tenant));
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
    bounds.extend(of_share(share, free, memory_bytes, concurrency));
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

/// What a tenant has left of its quotas.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// Sandboxes of its reserve that no request is in.
    idle_reserve: u64,
    /// Requests that may run besides those that do.
    concurrency: u64,
    memory_bytes: u64,
}

impl Share {
    fn of(tenant: &Tenant) -> Self {
        let (quota, usage) = (tenant.quota(), tenant.usage());
        Self {
            idle_reserve: tenant.idle_reserve().into(),
            concurrency: quota.concurrency.saturating_sub(usage.running).into(),
            memory_bytes: quota.memory_bytes.saturating_sub(usage.memory_bytes),
        }
    }
}

/// The bounds that are the tenant's, where one is asked about, with what all share.
fn of_share(share: Option<Share>, shared_free: u64, memory_bytes: u64, concurrency: u64) -> Vec<Bound> {
    let Some(Share { idle_reserve, concurrency: turns, memory_bytes: left }) = share else {
        return vec![bound("sandboxes", concurrency, shared_free)];
    };
    vec![
        bound("concurrency", concurrency, turns),
        bound("tenant-memory", memory_bytes.saturating_mul(concurrency), left),
        bound("sandboxes", concurrency, shared_free + idle_reserve),
    ]
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
    fn a_tenants_own_quotas_bound_what_fits_and_its_reserve_is_its() {
        let fits = |share, shared_free| {
            let bounds = of_share(share, shared_free, 10, 2);
            bounds.iter().map(|it| (it.bound.clone(), it.fits)).collect::<Vec<_>>()
        };
        assert_eq!(fits(None, 8), [("sandboxes".into(), 4)]);
        let share = Share { idle_reserve: 6, concurrency: 100, memory_bytes: 1_000 };
        let all = |concurrency, memory, sandboxes| {
            [("concurrency", concurrency), ("tenant-memory", memory), ("sandboxes", sandboxes)]
                .map(|(name, fits)| (name.to_owned(), fits))
        };
        assert_eq!(fits(Some(share), 8), all(50, 50, 7));
        assert_eq!(fits(Some(share), 0), all(50, 50, 3), "nobody else can take it");
        assert_eq!(fits(Some(Share { concurrency: 3, ..share }), 8), all(1, 50, 7));
        assert_eq!(fits(Some(Share { memory_bytes: 30, ..share }), 8), all(50, 1, 7));
    }

    #[test]
    fn what_a_tenant_has_left_is_its_quota_without_what_runs() {
        let quota = tenon_model::Quota {
            reserved_instances: 3,
            concurrency: 7,
            memory_bytes: 100,
            ..tenon_model::Quota::default()
        };
        let tenant = Tenant::new("acme".parse().unwrap(), quota, &tenon_edge::Shares::new(5));
        let share = Share::of(&tenant);
        assert_eq!((share.idle_reserve, share.concurrency, share.memory_bytes), (3, 7, 100));
    }

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
