//! The pool every sandbox is taken from, and whether its fast settings are sound on this machine.

use std::fmt;

use tenon_model::{INSTANCE_DATA_BYTES_MAX, Limits, MEMORIES_MAX, TABLES_MAX};
use wasmtime::{Enabled, PoolingAllocationConfig};

/// How much the pool holds. Address space is reserved for all of it at start; memory is used as requests use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Sandboxes alive at once, over all requests.
    pub instances: u32,
    /// The most one linear memory may grow to, in bytes.
    pub memory_bytes: u64,
    /// Stack of one guest, in bytes.
    pub stack_bytes: u64,
    /// Core instances one component may consist of; one that consists of more is refused when it is loaded.
    pub core_instances: u32,
}

impl Pool {
    /// The most one linear memory can hold: its addresses have 32 bits.
    pub const MEMORY_BYTES_MAX: u64 = 4 << 30;

    /// A pool of `instances` sandboxes, each within `limits`.
    pub fn of(instances: u32, limits: &Limits) -> Self {
        Self {
            instances,
            memory_bytes: limits.memory_bytes.min(Self::MEMORY_BYTES_MAX),
            stack_bytes: limits.stack_bytes,
            core_instances: limits.instances,
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::of(1_000, &Limits::default())
    }
}

/// Elements of one table, whatever all of them may have together.
pub(crate) const TABLE_ELEMENTS: usize = 20_000;
/// What the pool plans for an average instance. An instance that needs more borrows from the others' share.
const AVERAGE_CORE_INSTANCES: u32 = 24;
const AVERAGE_MEMORIES: u32 = 8;
const AVERAGE_TABLES: u32 = 12;
/// Three mappings for each memory of an average instance, two for its stack.
const MAPPINGS_PER_INSTANCE: u64 = 3 * AVERAGE_MEMORIES as u64 + 2;
/// Where guests are concurrent: stacks for tasks beside an instance's first one, which are calls of one component to another that
/// wait. As many as there are instances, but no fewer than this, for a chain of calls in a pool of one.
const STACKS_BESIDE_MIN: u32 = 16;
/// And no more: each takes two mappings and some microseconds at start, whether it is used or not.
const STACKS_BESIDE_MAX: u32 = 1_000;
/// Slots of components that ran lately and may run again keep their memory image mapped.
const WARM_SLOTS: u32 = 1_000;
/// With page scanning, this much of a memory is reset in place instead of being given back and faulted in again.
const KEEP_RESIDENT_BYTES: usize = 1 << 20;
/// Tables are small: clearing one in place costs less than giving its page back and faulting it in again. Without page scanning
/// that much is cleared whether it was written or not.
const TABLE_KEEP_RESIDENT_BYTES: usize = 4 << 10;
/// With page scanning only what was written is cleared, so all of a table may stay: eight bytes for each element.
const TABLE_SCANNED_RESIDENT_BYTES: usize = 8 * TABLE_ELEMENTS;
/// Four gibibytes of address space and a guard for each memory; user space has 2^47 bytes, and two engines share it.
const MEMORIES_IN_ADDRESS_SPACE: u32 = 12_000;

/// Whether memories are reset by scanning for the pages that were written, and if not, why not.
///
/// The kernel says which pages of a sandbox's memory were written, and only those are put back. That is sound if it
/// names every page whose contents may differ from the pristine image. The engine is patched to count pages that are
/// swapped out or being moved (`third_party/README.md`); what is left is the kernel replacing a written page behind
/// the engine's back, which same-page merging may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageScan {
    /// Sound here, and used.
    Sound,
    /// Not to be had, or not sound.
    Unsound(String),
}

/// The first kernel that has `PAGEMAP_SCAN`.
const KERNEL_WITH_SCAN: (u32, u32) = (6, 7);

impl PageScan {
    /// Looks at this machine.
    pub fn probe() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Self::judge(
            read("/proc/sys/kernel/osrelease").as_deref(),
            read("/sys/kernel/mm/ksm/run").as_deref(),
            // The call itself: a kernel that has it can be built without, and a container can be kept from it.
            PoolingAllocationConfig::is_pagemap_scan_available,
        )
    }

    /// What holds for this kernel, with same-page merging set so: the contents of the two files, where they are there, and
    /// whether the engine can make the call.
    fn judge(release: Option<&str>, merging: Option<&str>, is_available: impl FnOnce() -> bool) -> Self {
        let Some(release) = release else {
            return Self::Unsound("not Linux".into());
        };
        if kernel_version(release).is_none_or(|version| version < KERNEL_WITH_SCAN) {
            let (major, minor) = KERNEL_WITH_SCAN;
            return Self::Unsound(format!("the kernel is {}, and {major}.{minor} has it", release.trim()));
        }
        match merging {
            Some(run) if run.trim() != "0" => {
                Self::Unsound("same-page merging is on (/sys/kernel/mm/ksm/run)".into())
            }
            _ if !is_available() => {
                Self::Unsound("the kernel refuses the call (`PAGEMAP_SCAN` on /proc/self/pagemap)".into())
            }
            _ => Self::Sound,
        }
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl fmt::Display for PageScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sound => f.write_str("on"),
            Self::Unsound(why) => write!(f, "off: {why}"),
        }
    }
}

/// What the pool was set to, and why: for the log and for `tenon doctor`.
#[derive(Clone, Debug)]
pub struct PoolReport {
    /// The pool as asked for.
    pub pool: Pool,
    /// Whether memories are reset by scanning for dirty pages.
    pub page_scan: PageScan,
    /// The most mappings the kernel allows this process, where it says.
    pub mappings_max: Option<u64>,
    /// Mappings that the pool may need when every sandbox is in use.
    pub mappings_needed: u64,
}

impl PoolReport {
    /// Looks at this machine.
    pub fn probe(pool: Pool) -> Self {
        let mappings_max = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Self {
            pool,
            page_scan: PageScan::probe(),
            mappings_max,
            mappings_needed: u64::from(pool.instances) * MAPPINGS_PER_INSTANCE,
        }
    }

    /// The instances the kernel's limit on mappings leaves room for, when that is fewer than were asked for.
    pub fn instances_within_mappings(&self) -> Option<u64> {
        self.mappings_max.filter(|max| *max < self.mappings_needed).map(|max| max / MAPPINGS_PER_INSTANCE)
    }

    /// The pool's settings. Where guests are concurrent, a call from one component to another is a task with a stack of its own.
    pub(crate) fn allocation(&self, is_concurrent: bool) -> PoolingAllocationConfig {
        let instances = self.pool.instances;
        let beside = if is_concurrent { instances.clamp(STACKS_BESIDE_MIN, STACKS_BESIDE_MAX) } else { 0 };
        let instance_data_bytes = usize::try_from(INSTANCE_DATA_BYTES_MAX).unwrap_or(usize::MAX);
        let mut config = PoolingAllocationConfig::new();
        config
            .total_component_instances(instances)
            .total_stacks(instances.saturating_add(beside))
            .total_core_instances(
                instances.saturating_mul(AVERAGE_CORE_INSTANCES).max(self.pool.core_instances),
            )
            .total_memories(
                instances.saturating_mul(AVERAGE_MEMORIES).clamp(MEMORIES_MAX, MEMORIES_IN_ADDRESS_SPACE),
            )
            .total_tables(instances.saturating_mul(AVERAGE_TABLES).max(TABLES_MAX))
            .max_core_instances_per_component(self.pool.core_instances)
            .max_memories_per_component(MEMORIES_MAX)
            .max_tables_per_component(TABLES_MAX)
            // How they are spread over a component's modules is its own affair.
            .max_memories_per_module(MEMORIES_MAX)
            .max_tables_per_module(TABLES_MAX)
            // Only bounds: nothing is reserved for them.
            .max_component_instance_size(instance_data_bytes)
            .max_core_instance_size(instance_data_bytes)
            .table_elements(TABLE_ELEMENTS)
            .max_memory_size(usize::try_from(self.pool.memory_bytes).unwrap_or(usize::MAX))
            .max_unused_warm_slots(WARM_SLOTS)
            .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES);
        if self.page_scan == PageScan::Sound {
            config
                .pagemap_scan(Enabled::Auto)
                .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
                .table_keep_resident(TABLE_SCANNED_RESIDENT_BYTES);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_scanned_where_that_is_sound_and_nowhere_else() {
        for (release, merging) in [("6.7.0", None), ("6.12.1-amd64\n", Some("0\n")), ("7.0.0", Some("0"))] {
            let found = PageScan::judge(Some(release), merging, || true);
            assert_eq!(found, PageScan::Sound, "{release} {merging:?}");
            let refused = PageScan::judge(Some(release), merging, || false).to_string();
            assert!(refused.starts_with("off: the kernel refuses"), "{refused}");
        }
        for (release, merging, why) in [
            (None, None, "not Linux"),
            (Some("6.6.99\n"), Some("0"), "6.7 has it"),
            (Some("nonsense"), Some("0"), "6.7 has it"),
            (Some("6.12.1"), Some("1\n"), "same-page merging is on"),
            (Some("6.12.1"), Some("2"), "same-page merging is on"),
        ] {
            let found = PageScan::judge(release, merging, || true);
            assert!(found.to_string().starts_with("off: ") && found.to_string().contains(why), "{found}");
        }
    }

    #[test]
    fn the_engine_is_the_one_whose_scan_is_sound() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        // Swapped pages are counted as dirty: see `third_party/README.md`.
        let pagemap = read("third_party/wasmtime/src/runtime/vm/sys/unix/pagemap.rs");
        assert!(pagemap.contains(".category_anyof_mask(Categories::PRESENT | Categories::SWAPPED)"));
        assert!(
            pagemap.contains("const MAX_REGIONS: usize = 512;"),
            "what that saves is in docs/languages.md"
        );
        // And it is the engine that is built: a package of this repository has no source.
        let lock = read("Cargo.lock");
        let engines: Vec<_> =
            lock.split("[[package]]").filter(|it| it.contains("\nname = \"wasmtime\"\n")).collect();
        assert_eq!(engines.len(), 1, "{engines:?}");
        assert!(engines.iter().all(|it| !it.contains("\nsource = ")), "{engines:?}");
    }

    #[test]
    fn kernels_are_told_apart() {
        for (release, has_scan) in
            [("6.7.0", true), ("6.18.44-x\n", true), ("6.6.9", false), ("5.15", false), ("?", false)]
        {
            let has = kernel_version(release).is_some_and(|version| version >= KERNEL_WITH_SCAN);
            assert_eq!(has, has_scan, "{release}");
        }
    }

    #[test]
    fn a_pool_larger_than_the_mappings_says_what_fits() {
        let pool = Pool { instances: 1_000, ..Pool::default() };
        let mut report = PoolReport::probe(pool);
        report.mappings_max = Some(13_000);
        assert_eq!(report.instances_within_mappings(), Some(500));
        report.mappings_max = Some(65_530);
        assert_eq!(report.instances_within_mappings(), None);
    }
}
