//! Where guests go that run long: threads of a lower priority, so that requests which are short do not wait behind them.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};

use crate::meter::Meter;
use crate::schedule;

/// The threads, started when the first guest has run long.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    runtime: OnceLock<Option<Runtime>>,
}

impl Aside {
    /// Whether there is such a place: if its threads cannot be started, guests stay where they are.
    pub(crate) fn is_open(&self) -> bool {
        self.runtime().is_some()
    }

    /// Runs a future there that nobody waits for.
    pub(crate) fn leave(&self, future: impl Future<Output = ()> + Send + 'static) {
        match self.runtime() {
            Some(runtime) => drop(runtime.spawn(future)),
            None => drop(tokio::spawn(future)),
        }
    }

    /// Runs a future where it is called, and from when its guest has run long, there.
    ///
    /// # Errors
    /// When it panicked there, or the threads were stopped.
    pub(crate) async fn finish<F>(&self, mut future: F, meter: &Meter) -> Result<F::Output, JoinError>
    where
        F: Future<Output: Send> + Send + Unpin + 'static,
    {
        let here = poll_fn(|context| match Pin::new(&mut future).poll(context) {
            Poll::Pending if meter.is_long() && self.is_open() => Poll::Ready(None),
            polled => polled.map(Some),
        });
        if let Some(output) = here.await {
            return Ok(output);
        }
        match self.runtime() {
            Some(runtime) => Remote(runtime.spawn(future)).wait().await,
            None => Ok(future.await),
        }
    }

    /// Runs a future there, which ends with whoever waits for it.
    pub(crate) fn run<F>(&self, future: F) -> Option<Remote<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime().map(|runtime| Remote(runtime.spawn(future)))
    }

    fn runtime(&self) -> Option<&Runtime> {
        let start = || {
            Builder::new_multi_thread()
                .worker_threads(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
                .thread_name("tenon-aside")
                .on_thread_start(schedule::give_way)
                .enable_all()
                .build()
                .inspect_err(|error| tracing::warn!(%error, "long requests stay among the short ones"))
                .ok()
        };
        self.runtime.get_or_init(start).as_ref()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed where this may happen: inside another runtime.
        if let Some(runtime) = self.runtime.take().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// How many requests in a row have run long.
#[derive(Debug, Default)]
pub(crate) struct Habit(AtomicU8);

impl Habit {
    /// After so many, the next one is taken to run long, too: it begins where it would go on after a tick or two, which others
    /// would wait for.
    const SURE: u8 = 4;

    /// One has ended, or has answered and ended. Of two that end at the same time, one may be forgotten.
    pub(crate) fn note(&self, long: bool) {
        self.0.store(if long { self.0.load(Relaxed).saturating_add(1) } else { 0 }, Relaxed);
    }

    /// Whether the next one is taken to run long.
    pub(crate) fn is_long(&self) -> bool {
        self.0.load(Relaxed) >= Self::SURE
    }
}

/// What runs there; stopped when this is dropped.
pub(crate) struct Remote<T>(JoinHandle<T>);

impl<T> Remote<T> {
    /// Its result.
    ///
    /// # Errors
    /// When it panicked, or the threads were stopped.
    pub(crate) async fn wait(mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for Remote<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_to_run_long_after_some_in_a_row_that_did_and_none_after_one_that_did_not() {
        let habit = Habit::default();
        let after = |long: bool| {
            habit.note(long);
            habit.is_long()
        };
        for _ in 0..2 {
            let foretold: Vec<bool> = (0..6).map(|_| after(true)).collect();
            assert_eq!(foretold, [false, false, false, true, true, true]);
            assert!(!after(false));
        }
        (0..1_000).for_each(|_| habit.note(true));
        assert!(habit.is_long());
    }
}
