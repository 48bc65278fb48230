//! What each component of a composition has used, for as long as the node knows its revision.

use std::sync::{Arc, Mutex, PoisonError};

use tenon_engine::{ComponentUse, Service, Shares};

/// What the components of one revision have used, over all the times that it was in memory.
#[derive(Debug, Default)]
pub(crate) struct Components(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Of services that are gone.
    past: Vec<ComponentUse>,
    /// Of services that are, or may be, in memory.
    counting: Vec<Arc<Shares>>,
}

impl Components {
    /// This service is going to be used for the revision.
    pub(crate) fn note(&self, service: &Service) {
        let Some(shares) = service.shares() else { return };
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.counting.iter().any(|known| Arc::ptr_eq(known, shares)) {
            state.settle();
            state.counting.push(Arc::clone(shares));
        }
    }

    /// What each has used since the node started, in the order of the composition; nothing for what is not composed.
    pub(crate) fn used(&self) -> Vec<ComponentUse> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle();
        let mut sum = state.past.clone();
        for shares in &state.counting {
            add(&mut sum, shares.used());
        }
        sum
    }
}

impl State {
    /// What nobody counts in any more is kept as numbers.
    fn settle(&mut self) {
        let (gone, counting) =
            std::mem::take(&mut self.counting).into_iter().partition(|shares| Arc::strong_count(shares) == 1);
        self.counting = counting;
        let gone: Vec<Arc<Shares>> = gone;
        for shares in gone {
            add(&mut self.past, shares.used());
        }
    }
}

/// Adds up by position: every service of a revision has the same components.
fn add(sum: &mut Vec<ComponentUse>, more: Vec<ComponentUse>) {
    if sum.is_empty() {
        *sum = more;
        return;
    }
    for (sum, more) in sum.iter_mut().zip(more) {
        sum.cpu += more.cpu;
        sum.memory_byte_us = sum.memory_byte_us.saturating_add(more.memory_byte_us);
        sum.memory_bytes = sum.memory_bytes.max(more.memory_bytes);
    }
}
