//! Admission: how many requests of an app may run at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::rescue::Refusal;

/// Counts an app's running requests against its limit.
#[derive(Debug)]
pub struct Gate {
    running: AtomicU32,
    limit: u32,
}

/// Permission to run one request. It counts as running until the last clone is dropped: one is held by the guest's
/// run, one by the response until the client has taken it.
#[derive(Clone, Debug)]
pub struct Admitted {
    _slot: Arc<Slot>,
}

#[derive(Debug)]
struct Slot {
    gate: Arc<Gate>,
}

impl Gate {
    /// A gate that lets `limit` requests run at once.
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { running: AtomicU32::new(0), limit })
    }

    /// Admits a request, or refuses it at once: nobody waits here.
    ///
    /// # Errors
    /// When the limit is reached.
    pub fn admit(self: &Arc<Self>) -> Result<Admitted, Refusal> {
        let within = |running: u32| (running < self.limit).then_some(running + 1);
        match self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within) {
            Ok(_) => Ok(Admitted { _slot: Arc::new(Slot { gate: Arc::clone(self) }) }),
            Err(_) => Err(Refusal::Concurrency { limit: self.limit }),
        }
    }

    /// Requests running now.
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gate.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_limit_and_again_after_one_has_left() {
        let gate = Gate::new(2);
        let first = gate.admit().unwrap();
        let _second = gate.admit().unwrap();
        assert_eq!(gate.admit().unwrap_err(), Refusal::Concurrency { limit: 2 });
        let held_by_the_response = first.clone();
        drop(first);
        assert!(gate.admit().is_err());
        drop(held_by_the_response);
        assert!(gate.admit().is_ok());
    }
}
