//! Sandboxes that no request is in make room for those that requests ask for.
//!
//! Who was admitted has a right to a place of the pool; a sandbox that rests between two requests keeps one only until
//! somebody asks for it. Who finds the pool full has the service that has most at rest give its oldest up, and tries
//! again. So what one tenant leaves at rest costs its neighbours no more than the taking down of it, and while the pool has
//! room nothing is looked for and no lock is taken.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use wasmtime::{Error, PoolConcurrencyLimitError};

/// How often a place is asked for while there are sandboxes at rest that could make room.
const TRIES_MAX: u32 = 32;
/// Services with sandboxes at rest that are compared before one of them has to give some up.
const COMPARED_MAX: usize = 64;
/// How long one waits for a sandbox that is being taken down, before it is looked again.
const GONE_WAIT: Duration = Duration::from_millis(100);

/// Asks for a place of the pool for one more sandbox that requests are in. `None`: there is none.
///
/// Where several requests are in one sandbox, only the one that finds no other there asks.
pub type Claim = Box<dyn FnOnce() -> Option<Claimed> + Send>;

/// A place of the pool; it is held for as long as requests are in the sandbox, and given back by being dropped.
pub type Claimed = Box<dyn Send>;

/// Sandboxes of one service that no request is in.
pub(crate) trait Rests: Send + Sync {
    /// How many there are.
    fn resting(&self) -> usize;

    /// Takes up to `most` of them down, those first that have rested longest; how many. They may be gone a little later.
    fn give_up(&self, most: usize) -> usize;
}

/// The sandboxes of one pool that no request is in.
#[derive(Default)]
pub(crate) struct Idle {
    count: AtomicUsize,
    /// Whether any service has ever let sandboxes rest.
    is_used: AtomicBool,
    services: Mutex<Services>,
    /// Those who wait for one to be gone.
    waiting: AtomicUsize,
    news: Notify,
}

#[derive(Default)]
struct Services {
    /// Some may be gone.
    known: Vec<Weak<dyn Rests>>,
    /// As many as there may be before those that are gone are forgotten.
    known_max: usize,
    /// Where it is looked first the next time, so that all have their turn.
    next: usize,
}

impl Idle {
    /// Sandboxes of this service may rest from now on.
    pub(crate) fn know(&self, service: Weak<dyn Rests>) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if services.known.len() >= services.known_max {
            services.known.retain(|known| known.strong_count() > 0);
            services.known_max = (services.known.len() * 2).max(COMPARED_MAX);
        }
        services.known.push(service);
        self.is_used.store(true, Ordering::SeqCst);
    }

    /// A sandbox that no request is in.
    pub(crate) fn one(self: &Arc<Self>) -> AtRest {
        self.count.fetch_add(1, Ordering::SeqCst);
        AtRest(Arc::clone(self))
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// For one sandbox that is to be made.
    pub(crate) fn tries(&self) -> Tries<'_> {
        Tries { idle: self, tried: 0, none_rested: false }
    }

    /// Has the service that has most of them give up to `most`; how many it gave.
    fn give_up(&self, most: usize) -> usize {
        // Asked without the lock: taking a sandbox down takes time.
        self.fullest().map_or(0, |service| service.give_up(most))
    }

    /// The service that has most of them, of as many as are compared.
    fn fullest(&self) -> Option<Arc<dyn Rests>> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let Services { known, next, .. } = &mut *services;
        let (mut fullest, mut most, mut compared) = (None, 0, 0);
        let from = *next % known.len().max(1);
        let (before, behind) = known.split_at(from.min(known.len()));
        for service in behind.iter().chain(before) {
            *next = next.wrapping_add(1);
            let Some(service) = service.upgrade() else { continue };
            let resting = service.resting();
            if resting > most {
                (fullest, most) = (Some(service), resting);
            }
            compared += usize::from(resting > 0);
            if compared == COMPARED_MAX {
                break;
            }
        }
        fullest
    }
}

/// A sandbox that no request is in, until this is dropped: when one is again, or when it is gone.
pub(crate) struct AtRest(Arc<Idle>);

impl Drop for AtRest {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        // Whoever begins to wait after this looks at the count after it has said so.
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.news.notify_waiters();
        }
    }
}

/// How often a sandbox was tried to be made.
pub(crate) struct Tries<'a> {
    idle: &'a Idle,
    tried: u32,
    /// There were none at rest when the last one failed.
    none_rested: bool,
}

impl Tries<'_> {
    /// Whether to try again after this error: when the pool was full, and a sandbox that no request is in has made room.
    pub(crate) async fn again(&mut self, error: &Error) -> bool {
        let is_full = error.is::<PoolConcurrencyLimitError>() && self.idle.is_used.load(Ordering::SeqCst);
        // In a box, for it is hardly ever needed, and each request would have room for it.
        is_full && self.tried < TRIES_MAX && Box::pin(self.make_room()).await
    }

    async fn make_room(&mut self) -> bool {
        let idle = self.idle;
        let _waits = Waits::of(idle);
        let mut news = pin!(idle.news.notified());
        news.as_mut().enable();
        // More each time: a sandbox may need as much room as several others.
        let given = idle.give_up(1 << self.tried.min(16));
        self.tried += 1;
        if given == 0 && idle.count() == 0 {
            // One may have been at rest when it was tried, and have made room since; that is so once, not twice.
            return !std::mem::replace(&mut self.none_rested, true);
        }
        self.none_rested = false;
        // Gone already, or being taken down: by another thread, or by the task that owns it.
        let _ = tokio::time::timeout(GONE_WAIT, news).await;
        true
    }
}

/// One who waits for a sandbox to be gone.
struct Waits<'a>(&'a Idle);

impl<'a> Waits<'a> {
    fn of(idle: &'a Idle) -> Self {
        idle.waiting.fetch_add(1, Ordering::SeqCst);
        Self(idle)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sandboxes that are gone at once.
    struct Several(Mutex<Vec<AtRest>>);

    impl Several {
        fn new(idle: &Arc<Idle>, count: usize) -> Arc<Self> {
            let resting = (0..count).map(|_| idle.one()).collect();
            let some = Arc::new(Self(Mutex::new(resting)));
            let service: Weak<Self> = Arc::downgrade(&some);
            idle.know(service);
            some
        }
    }

    impl Rests for Several {
        fn resting(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        fn give_up(&self, most: usize) -> usize {
            let mut resting = self.0.lock().unwrap();
            let most = most.min(resting.len());
            resting.drain(..most).count()
        }
    }

    #[test]
    fn who_has_most_at_rest_gives_up_first() {
        let idle = Arc::new(Idle::default());
        let all = [1, 3, 2].map(|count| Several::new(&idle, count));
        let resting = || all.each_ref().map(|service| service.resting());
        assert_eq!((idle.give_up(1), resting()), (1, [1, 2, 2]));
        assert_eq!(idle.give_up(2), 2);
        assert_eq!(idle.give_up(2), 2);
        assert_eq!((resting(), idle.count()), ([1, 0, 0], 1));
        assert_eq!((idle.give_up(9), idle.give_up(9), idle.count()), (1, 0, 0));
    }

    #[test]
    fn all_services_have_their_turn_and_those_that_are_gone_are_forgotten() {
        let idle = Arc::new(Idle::default());
        let gone: Vec<_> = (0..3 * COMPARED_MAX).map(|_| Several::new(&idle, 0)).collect();
        drop(gone);
        let all: Vec<_> = (0..3 * COMPARED_MAX).map(|_| Several::new(&idle, 1)).collect();
        for _ in &all {
            assert_eq!(idle.give_up(1), 1);
        }
        assert_eq!(idle.count(), 0);
        assert!(idle.services.lock().unwrap().known.len() <= 4 * COMPARED_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_one_that_is_being_taken_down_is_told_when_it_is_gone() {
        let idle = Arc::new(Idle::default());
        let going = idle.one();
        let mut tries = idle.tries();
        let waited = tokio::join!(tries.make_room(), async { drop(going) });
        assert!(waited.0);
        // Nothing rests any more: once more, and then it is over.
        assert!(tries.make_room().await);
        assert!(!tries.make_room().await);
        assert_eq!(idle.waiting.load(Ordering::SeqCst), 0);
    }
}
