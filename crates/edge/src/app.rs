//! An app: what stays while its revisions come and go.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tenon_model::AppId;

use crate::count::{CounterSnapshot, Counters};
use crate::slot::Slot;
use crate::tenant::Tenant;

/// An app: across snapshots it keeps its counters.
pub struct App {
    id: AppId,
    tenant: Arc<Tenant>,
    /// Whether it is served alone: its failures are nobody else's concern.
    alone: bool,
    /// What ended before a revision was chosen.
    refused: Counters,
    revisions: Mutex<Revisions>,
}

/// Counters are taken over from a revision that is gone, so that an app's never count backwards.
#[derive(Default)]
struct Revisions {
    gone: CounterSnapshot,
    known: Vec<(Weak<Slot>, Arc<Counters>)>,
}

impl App {
    /// An app of this tenant.
    pub fn new(id: AppId, tenant: Arc<Tenant>) -> Arc<Self> {
        Self::with(id, tenant, false)
    }

    /// An app that is served alone: no breaker opens for it.
    pub(crate) fn alone(id: AppId, tenant: Arc<Tenant>) -> Arc<Self> {
        Self::with(id, tenant, true)
    }

    fn with(id: AppId, tenant: Arc<Tenant>, alone: bool) -> Arc<Self> {
        Arc::new(Self { id, tenant, alone, refused: Counters::default(), revisions: Mutex::default() })
    }

    /// Which it is.
    pub fn id(&self) -> &AppId {
        &self.id
    }

    /// Whose it is.
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// Whether the breaker of one of its revisions is open: guests failed too often in a row, and requests are refused until a
    /// probe goes well. Each revision has its own, so that the one that is reverted to serves at once.
    pub fn is_open(&self) -> bool {
        let revisions = self.revisions();
        revisions.known.iter().filter_map(|(slot, _)| slot.upgrade()).any(|slot| slot.breaker().is_open())
    }

    /// What was seen of its requests, over all its revisions since the node started.
    pub fn counters(&self) -> CounterSnapshot {
        let mut revisions = self.revisions();
        revisions.take_over();
        let living = revisions.known.iter().map(|(_, counters)| counters.snapshot());
        living.fold(self.refused.snapshot().plus(&revisions.gone), |sum, seen| sum.plus(&seen))
    }

    /// Whether it is served alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    pub(crate) fn refused(&self) -> &Counters {
        &self.refused
    }

    fn revisions(&self) -> MutexGuard<'_, Revisions> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what this revision sees among what the app's do.
    pub(crate) fn know(&self, slot: &Arc<Slot>) {
        let mut revisions = self.revisions();
        // Each table asks: what is gone does not pile up where nobody looks at the counters.
        revisions.take_over();
        let counters = slot.shared_counters();
        if !revisions.known.iter().any(|(_, known)| Arc::ptr_eq(known, counters)) {
            revisions.known.push((Arc::downgrade(slot), Arc::clone(counters)));
        }
    }
}

impl Revisions {
    /// Takes over what was counted by revisions that are gone. One that a request still runs on is not.
    fn take_over(&mut self) {
        let Self { gone, known } = self;
        known.retain(|(slot, counters)| {
            let is_there = slot.strong_count() > 0;
            if !is_there {
                *gone = gone.plus(&counters.snapshot());
            }
            is_there
        });
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("id", &self.id).field("open", &self.is_open()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::Outcome;
    use crate::slot::tests::slot;
    use crate::tenant::Shares;
    use crate::tenant::tests::generous;

    #[test]
    fn what_a_revision_counted_stays_counted_when_it_is_gone() {
        let tenant = Tenant::new("tenant".parse().unwrap(), generous(), &Shares::new(1));
        let (first, second) = (slot("a", 1), slot("a", 2));
        let app = App::new(first.key().app.clone(), tenant);
        app.know(&first);
        app.know(&first);
        app.know(&second);
        for counters in [first.counters(), second.counters(), app.refused()] {
            counters.count_refused(Outcome::Refused);
        }
        assert_eq!(app.counters().of(Outcome::Refused), 3);
        drop(first);
        assert_eq!(app.counters().of(Outcome::Refused), 3);
        assert_eq!(app.counters().of(Outcome::Refused), 3);
    }

    #[test]
    fn revisions_that_are_gone_leave_nothing_behind_but_what_they_counted() {
        let tenant = Tenant::new("tenant".parse().unwrap(), generous(), &Shares::new(1));
        let app = App::new(slot("a", 1).key().app.clone(), tenant);
        for number in 1..=50 {
            let slot = slot("a", number);
            app.know(&slot);
            slot.counters().count_refused(Outcome::Refused);
        }
        let last = slot("a", 51);
        app.know(&last);
        assert_eq!(app.revisions().known.len(), 1, "the one that is there");
        assert_eq!(app.counters().of(Outcome::Refused), 50);
    }
}
