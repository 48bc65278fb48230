//! Sandboxes that answer more than one request: where they are between two of them, and which of them may be used
//! again.
//!
//! A sandbox comes here only from the end of a request that went well; one that failed, was stopped or was left by its
//! client is gone with the future that ran it. Each service has a place of its own: no sandbox is ever seen by another
//! service, and no lock is shared with one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tenon_model::Reuse;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime::component::Instance;
use wasmtime_wasi_http::{p2, p3};

use crate::host::Host;
use crate::room::{AtRest, Idle, Rests};
use crate::store;

/// Sandboxes of one service that wait for a request; one more is thrown away.
pub(crate) const RESTING_MAX: usize = 64;
/// A sandbox that no request came for is thrown away after this time; before, if its [place](crate::room) is asked for.
pub(crate) const REST: Duration = Duration::from_secs(10);

/// An instance of a component in a store of its own.
pub(crate) struct Sandbox {
    pub(crate) store: Store<Host>,
    pub(crate) made: Made,
    /// Requests that it answered.
    answered: u32,
    /// Whether a request is in it, whose use is to be counted.
    busy: bool,
}

/// What is called in a sandbox.
pub(crate) enum Made {
    Http02(p2::bindings::Proxy),
    Http03(p3::bindings::Service),
    Plain(Instance),
    Typed(Instance),
}

impl Sandbox {
    pub(crate) fn new(store: Store<Host>, made: Made) -> Self {
        Self { store, made, answered: 0, busy: true }
    }

    /// The request that was in it is over.
    fn rest(&mut self) {
        if std::mem::replace(&mut self.busy, false) {
            store::ended(&self.store);
        }
    }

    /// Whether it can answer another request after one that went well.
    fn is_fit(&mut self, reuse: Reuse, concurrent: bool) -> bool {
        let host = self.store.data_mut();
        self.answered < reuse.requests
            && !host.holds_unfinished_message()
            // What becomes of a socket of 0.3 cannot be told from outside, so it could not be counted on.
            && !(concurrent && host.opened_sockets())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.rest();
    }
}

/// The sandboxes of one service that wait for a request.
pub(crate) struct Resting {
    reuse: Reuse,
    /// Whether they are of the engine that has WASI 0.3.
    concurrent: bool,
    /// As many as may wait: never more than half of the pool.
    most: usize,
    idle: Arc<Idle>,
    place: Mutex<Place>,
}

#[derive(Default)]
struct Place {
    /// The one that came last is used first; the first is the oldest.
    waiting: Vec<Rested>,
    /// Whether there is a task that throws away what has waited for too long.
    watched: bool,
}

/// A sandbox that waits. Fields are dropped in their order: it is gone when that is told.
struct Rested {
    sandbox: Sandbox,
    since: Instant,
    at_rest: AtRest,
}

impl Resting {
    pub(crate) fn new(reuse: Reuse, pool: u32, concurrent: bool, idle: &Arc<Idle>) -> Arc<Self> {
        let most = RESTING_MAX.min(pool as usize / 2).max(1);
        let idle = Arc::clone(idle);
        let resting = Arc::new(Self { reuse, concurrent, most, idle, place: Mutex::default() });
        let service: Weak<Self> = Arc::downgrade(&resting);
        resting.idle.know(service);
        resting
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that has been used before.
    pub(crate) fn take(&self) -> Option<Sandbox> {
        let Rested { mut sandbox, at_rest, .. } = self.place().waiting.pop()?;
        drop(at_rest);
        sandbox.busy = true;
        Some(sandbox)
    }

    /// Takes back a sandbox whose request went well. Must be called inside a tokio runtime.
    pub(crate) fn put(self: &Arc<Self>, mut sandbox: Sandbox) {
        sandbox.answered += 1;
        sandbox.rest();
        if !sandbox.is_fit(self.reuse, self.concurrent) {
            return;
        }
        let mut place = self.place();
        if place.waiting.len() >= self.most {
            // Taking a sandbox down takes time: not under the lock.
            drop(place);
            return drop(sandbox);
        }
        place.waiting.push(Rested { sandbox, since: Instant::now(), at_rest: self.idle.one() });
        if !std::mem::replace(&mut place.watched, true) {
            drop(place);
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Throws away what has waited for too long, and says when to look again; `None` when nothing waits any more.
    fn sweep(&self) -> Option<Instant> {
        let mut place = self.place();
        let now = Instant::now();
        let expired = place.waiting.iter().take_while(|rested| rested.since + REST <= now).count();
        let expired: Vec<_> = place.waiting.drain(..expired).collect();
        let next = place.waiting.first().map(|rested| rested.since + REST);
        place.watched = next.is_some();
        drop(place);
        drop(expired);
        next
    }
}

impl Rests for Resting {
    fn resting(&self) -> usize {
        self.place().waiting.len()
    }

    fn give_up(&self, most: usize) -> usize {
        let mut place = self.place();
        let most = most.min(place.waiting.len());
        let given: Vec<_> = place.waiting.drain(..most).collect();
        drop(place);
        drop(given);
        most
    }
}

/// Lives for as long as something waits.
async fn watch(resting: Weak<Resting>) {
    /// A task ends early with its runtime; the next sandbox that comes then starts another.
    struct Watching(Weak<Resting>);

    impl Drop for Watching {
        fn drop(&mut self) {
            if let Some(resting) = self.0.upgrade() {
                resting.place().watched = false;
            }
        }
    }

    let mut watching = Watching(Weak::clone(&resting));
    let mut next = Instant::now() + REST;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(resting) = resting.upgrade() else { return };
        match resting.sweep() {
            Some(later) => next = later,
            None => break,
        }
    }
    // The place has been told, and may have another watch by now.
    watching.0 = Weak::new();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_over_keeps_nothing() {
        let resting = Resting::new(Reuse::default(), 10, false, &Arc::default());
        let before = Arc::weak_count(&resting);
        resting.place().watched = true;
        let watching = tokio::spawn(watch(Arc::downgrade(&resting)));
        watching.await.unwrap();
        assert_eq!(Arc::weak_count(&resting), before);
        assert!(!resting.place().watched, "the next sandbox starts another");
        // One that ends early, with its runtime.
        resting.place().watched = true;
        let cut_off = tokio::spawn(watch(Arc::downgrade(&resting)));
        tokio::task::yield_now().await;
        cut_off.abort();
        assert!(cut_off.await.is_err());
        assert!(!resting.place().watched, "one that ends early tells");
        assert_eq!(Arc::weak_count(&resting), before);
    }
}
