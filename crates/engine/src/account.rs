//! What all guests of one tenant use, counted while they run.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Processor time and memory of several requests together. Whoever gives requests the same account can bound them
/// together.
#[derive(Debug)]
pub struct Account {
    cpu_ns: AtomicU64,
    memory_bytes: AtomicU64,
    memory_bytes_max: AtomicU64,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            cpu_ns: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
            memory_bytes_max: AtomicU64::new(u64::MAX),
        }
    }
}

impl Account {
    /// The linear memory that all may have together. What is held already is held on.
    pub fn set_memory_max(&self, bytes: u64) {
        self.memory_bytes_max.store(bytes, Relaxed);
    }

    /// Processor time used until now, in nanoseconds: also by guests that still run.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Relaxed)
    }

    /// Linear memory held now, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Relaxed)
    }

    /// Linear memory that may be held, in bytes.
    pub fn memory_max(&self) -> u64 {
        self.memory_bytes_max.load(Relaxed)
    }

    /// Whether no more memory is to be had.
    pub fn is_full(&self) -> bool {
        self.memory_bytes() >= self.memory_max()
    }

    /// Counts processor time.
    pub fn spend_cpu(&self, ns: u64) {
        self.cpu_ns.fetch_add(ns, Relaxed);
    }

    /// Holds memory until it is [given back](Self::give_memory); `false` when there is not so much.
    pub fn take_memory(&self, bytes: u64) -> bool {
        let most = self.memory_max();
        let more = |held: u64| held.checked_add(bytes).filter(|held| *held <= most);
        self.memory_bytes.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Gives memory back.
    pub fn give_memory(&self, bytes: u64) {
        if bytes > 0 {
            self.memory_bytes.fetch_sub(bytes, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_held_up_to_the_most_and_given_back() {
        let account = Account::default();
        account.set_memory_max(100);
        assert!(account.take_memory(60) && !account.take_memory(41) && account.take_memory(40));
        assert!(account.is_full());
        account.give_memory(60);
        assert_eq!((account.memory_bytes(), account.is_full()), (40, false));
        account.set_memory_max(10);
        assert!(account.is_full() && !account.take_memory(1));
    }
}
