//! Admission: how many requests of an app may run at once, and how many may wait for their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tenon_model::Limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::rescue::Refusal;

/// Counts an app's running and waiting requests against its limits.
#[derive(Debug)]
pub struct Gate {
    turns: Arc<Semaphore>,
    limit: u32,
    waiting: AtomicU32,
    queue: u32,
    queue_wait: Duration,
}

/// Permission to run one request. It counts as running until the last clone is dropped: one is held by the guest's
/// run, one by the response until the client has taken it.
#[derive(Clone, Debug)]
pub struct Admitted {
    _turn: Arc<OwnedSemaphorePermit>,
}

impl Gate {
    /// A gate with these limits' concurrency and queue.
    pub fn new(limits: &Limits) -> Arc<Self> {
        // The semaphore has a limit of its own, far beyond what can run.
        let limit = limits.concurrency.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Arc::new(Self {
            turns: Arc::new(Semaphore::new(limit as usize)),
            limit,
            waiting: AtomicU32::new(0),
            queue: limits.queue,
            queue_wait: limits.queue_wait,
        })
    }

    /// Admits a request: at once, or when its turn comes. Those who wait are admitted in the order they came.
    ///
    /// # Errors
    /// When as many run as may and as many wait as may, or when no turn came in time.
    pub async fn admit(&self) -> Result<Admitted, Refusal> {
        if let Some(admitted) = self.try_admit() {
            return Ok(admitted);
        }
        let _place = self.wait()?;
        let turn = Arc::clone(&self.turns).acquire_owned();
        match tokio::time::timeout(self.queue_wait, turn).await {
            Ok(Ok(permit)) => Ok(Admitted { _turn: Arc::new(permit) }),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Refusal::Waited { limit: self.queue_wait }),
        }
    }

    /// Admits at once or not at all.
    pub(crate) fn try_admit(&self) -> Option<Admitted> {
        let permit = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        Some(Admitted { _turn: Arc::new(permit) })
    }

    /// A place among those who wait.
    fn wait(&self) -> Result<Waiting<'_>, Refusal> {
        let within = |waiting: u32| (waiting < self.queue).then_some(waiting + 1);
        match self.waiting.fetch_update(Relaxed, Relaxed, within) {
            Ok(_) => Ok(Waiting(self)),
            Err(_) => Err(Refusal::Concurrency { limit: self.limit, queue: self.queue }),
        }
    }

    /// Requests running now.
    pub fn running(&self) -> u32 {
        self.limit - u32::try_from(self.turns.available_permits()).unwrap_or(self.limit)
    }
}

/// Given back when the turn came, the time was over, or the client went away.
struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrency: u32, queue: u32) -> Arc<Gate> {
        Gate::new(&Limits { concurrency, queue, queue_wait: Duration::from_secs(1), ..Limits::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_the_limit_and_again_after_one_has_left() {
        let gate = gate(2, 0);
        let first = gate.admit().await.unwrap();
        let _second = gate.admit().await.unwrap();
        assert_eq!(gate.admit().await.unwrap_err(), Refusal::Concurrency { limit: 2, queue: 0 });
        assert_eq!(gate.running(), 2);
        let held_by_the_response = first.clone();
        drop(first);
        assert!(gate.admit().await.is_err());
        drop(held_by_the_response);
        assert!(gate.admit().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_admitted_in_turn_or_told_that_it_took_too_long() {
        let gate = gate(1, 1);
        let running = gate.admit().await.unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.admit().await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert_eq!(gate.admit().await.unwrap_err(), Refusal::Concurrency { limit: 1, queue: 1 });
        drop(running);
        waiting.await.unwrap().unwrap();

        let _running = gate.admit().await.unwrap();
        assert_eq!(gate.admit().await.unwrap_err(), Refusal::Waited { limit: Duration::from_secs(1) });
        assert_eq!(gate.waiting.load(Relaxed), 0, "a place is given back");
    }
}
