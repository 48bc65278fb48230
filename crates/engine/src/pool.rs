//! The pool every sandbox is taken from, and whether its fast settings are sound on this machine.

use std::fmt;

use wasmtime::{Enabled, PoolingAllocationConfig};

/// How much the pool holds. Address space is reserved for all of it at start; memory is used as requests use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Sandboxes alive at once, over all requests.
    pub instances: u32,
    /// The most one linear memory may grow to, in bytes.
    pub memory_bytes: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self { instances: 1_000, memory_bytes: 128 << 20 }
    }
}

/// Core instances one component may consist of: a composed component of 16 parts at four to six each.
const CORE_INSTANCES_PER_COMPONENT: u32 = 96;
/// Linear memories one component may have: one for each part of a composition.
const MEMORIES_PER_COMPONENT: u32 = 16;
/// Tables one component may have.
const TABLES_PER_COMPONENT: u32 = 64;
/// Elements of one table.
const TABLE_ELEMENTS: usize = 20_000;
/// What the pool plans for an average instance. An instance that needs more borrows from the others' share.
const AVERAGE_CORE_INSTANCES: u32 = 24;
const AVERAGE_MEMORIES: u32 = 4;
const AVERAGE_TABLES: u32 = 12;
/// Slots of components that ran lately and may run again keep their memory image mapped.
const WARM_SLOTS: u32 = 1_000;
/// With page scanning, this much of a memory is reset in place instead of being given back and faulted in again.
const KEEP_RESIDENT_BYTES: usize = 1 << 20;
/// Four gibibytes of address space and a guard for each memory; user space has 2^47 bytes.
const MEMORIES_IN_ADDRESS_SPACE: u32 = 24_000;

/// Whether resetting memories by scanning for dirty pages is sound here, and if not, why not.
///
/// The engine skips a dirty page that is not present in memory, so a page that was swapped out or is being
/// migrated would survive into the next instance. It is sound only where neither can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageScan {
    /// Sound: pages can neither be swapped nor moved.
    Sound,
    /// Not sound, or not known to be.
    Unsound(String),
}

impl PageScan {
    /// Looks at this machine.
    pub fn probe() -> Self {
        if !cfg!(target_os = "linux") {
            return Self::Unsound("not Linux".into());
        }
        let read = |path: &str| std::fs::read_to_string(path).ok();
        match read("/proc/swaps") {
            Some(swaps) if swaps.lines().count() <= 1 => {}
            Some(_) => return Self::Unsound("swap is on (/proc/swaps)".into()),
            None => return Self::Unsound("/proc/swaps cannot be read".into()),
        }
        // Direct compaction moves any page that is not locked, and the pool's cannot be: the engine gives pages back
        // with MADV_DONTNEED, which locked memory refuses. So only a kernel built without compaction will do.
        if std::path::Path::new("/proc/sys/vm/compact_memory").exists() {
            return Self::Unsound("the kernel may move pages (it has memory compaction)".into());
        }
        for (path, mover) in [
            ("/proc/sys/kernel/numa_balancing", "balancing between memory nodes"),
            ("/sys/kernel/mm/ksm/run", "same-page merging"),
        ] {
            if let Some(value) = read(path)
                && value.trim() != "0"
            {
                return Self::Unsound(format!("{mover} is on ({path} is {})", value.trim()));
            }
        }
        Self::Sound
    }
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
            // Three for an instance's memory, two for its stack.
            mappings_needed: u64::from(pool.instances) * 5,
        }
    }

    /// The instances the kernel's limit on mappings leaves room for, when that is fewer than were asked for.
    pub fn instances_within_mappings(&self) -> Option<u64> {
        self.mappings_max.filter(|max| *max < self.mappings_needed).map(|max| max / 5)
    }

    pub(crate) fn allocation(&self) -> PoolingAllocationConfig {
        let instances = self.pool.instances;
        let mut config = PoolingAllocationConfig::new();
        config
            .total_component_instances(instances)
            .total_stacks(instances)
            .total_core_instances(
                instances.saturating_mul(AVERAGE_CORE_INSTANCES).max(CORE_INSTANCES_PER_COMPONENT),
            )
            .total_memories(
                instances
                    .saturating_mul(AVERAGE_MEMORIES)
                    .clamp(MEMORIES_PER_COMPONENT, MEMORIES_IN_ADDRESS_SPACE),
            )
            .total_tables(instances.saturating_mul(AVERAGE_TABLES).max(TABLES_PER_COMPONENT))
            .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
            .max_memories_per_component(MEMORIES_PER_COMPONENT)
            .max_tables_per_component(TABLES_PER_COMPONENT)
            .table_elements(TABLE_ELEMENTS)
            .max_memory_size(usize::try_from(self.pool.memory_bytes).unwrap_or(usize::MAX))
            .max_unused_warm_slots(WARM_SLOTS);
        if self.page_scan == PageScan::Sound {
            config.pagemap_scan(Enabled::Auto).linear_memory_keep_resident(KEEP_RESIDENT_BYTES);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_larger_than_the_mappings_says_what_fits() {
        let pool = Pool { instances: 1_000, ..Pool::default() };
        let mut report = PoolReport::probe(pool);
        report.mappings_max = Some(4_000);
        assert_eq!(report.instances_within_mappings(), Some(800));
        report.mappings_max = Some(65_530);
        assert_eq!(report.instances_within_mappings(), None);
    }
}
