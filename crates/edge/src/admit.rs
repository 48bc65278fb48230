//! Admission: how many requests of a revision may run at once, and how many may wait for their turn.

use std::sync::Arc;
use std::time::Duration;

use tenon_model::Limits;

use crate::rescue::Refusal;
use crate::turns::{Full, Turns};

/// Counts a revision's running and waiting requests against its limits.
#[derive(Debug)]
pub(crate) struct Gate {
    turns: Arc<Turns>,
    queue: u32,
    queue_wait: Duration,
}

impl Gate {
    /// A gate with these limits' concurrency and queue.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { turns: Turns::new(limits.concurrency), queue: limits.queue, queue_wait: limits.queue_wait }
    }

    /// Lets a request in: at once, or when its turn comes. Those who wait are let in in the order they came. It counts
    /// as running until it [leaves](Self::leave).
    ///
    /// # Errors
    /// When as many run as may and as many wait as may, or when no turn came in time.
    pub(crate) async fn enter(&self) -> Result<(), Refusal> {
        if self.turns.take() {
            return Ok(());
        }
        match self.turns.wait(self.queue) {
            Err(Full) => Err(Refusal::Concurrency { limit: self.turns.all(), queue: self.queue }),
            Ok(turn) => tokio::time::timeout(self.queue_wait, turn)
                .await
                .map_err(|_| Refusal::Waited { limit: self.queue_wait }),
        }
    }

    /// Lets one in at once or not at all.
    pub(crate) fn try_enter(&self) -> bool {
        self.turns.take()
    }

    /// A request that was let in is over.
    pub(crate) fn leave(&self) {
        self.turns.give();
    }

    /// Requests running now.
    pub(crate) fn running(&self) -> u32 {
        self.turns.taken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrency: u32, queue: u32) -> Arc<Gate> {
        let limits = Limits { concurrency, queue, queue_wait: Duration::from_secs(1), ..Limits::default() };
        Arc::new(Gate::new(&limits))
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_the_limit_and_again_after_one_has_left() {
        let gate = gate(2, 0);
        gate.enter().await.unwrap();
        gate.enter().await.unwrap();
        assert_eq!(gate.enter().await.unwrap_err(), Refusal::Concurrency { limit: 2, queue: 0 });
        assert_eq!(gate.running(), 2);
        gate.leave();
        assert!(gate.enter().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_admitted_in_turn_or_told_that_it_took_too_long() {
        let gate = gate(1, 1);
        gate.enter().await.unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(gate.enter().await.unwrap_err(), Refusal::Concurrency { limit: 1, queue: 1 });
        gate.leave();
        waiting.await.unwrap().unwrap();
        assert_eq!(gate.enter().await.unwrap_err(), Refusal::Waited { limit: Duration::from_secs(1) });
        assert_eq!(gate.turns.waiting(), 0, "a place is given back");
    }
}
