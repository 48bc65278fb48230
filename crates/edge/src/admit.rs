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

/// Permission to run one request; it counts as running until this is dropped.
#[derive(Debug)]
pub struct Admitted {
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
            Ok(_) => Ok(Admitted { gate: Arc::clone(self) }),
            Err(_) => Err(Refusal::Concurrency { limit: self.limit }),
        }
    }
}

impl Drop for Admitted {
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
        drop(first);
        assert!(gate.admit().is_ok());
    }
}
