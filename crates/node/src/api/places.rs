//! How much of something is under way at once: changes, followers, bytes. A deploy keeps a thread for as long as it compiles:
//! whoever sends many must not take those that everybody else needs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenon_model::TenantId;

/// Places of one kind that may be taken at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlacesMax {
    /// By one tenant's tokens.
    pub(super) tenant: u32,
    /// In all.
    pub(super) node: u32,
}

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Places {
    max: PlacesMax,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    /// Only tenants that have some.
    tenants: HashMap<TenantId, u32>,
}

/// A place, or several, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    tenant: Option<TenantId>,
    count: u32,
}

impl Places {
    pub(super) fn new(max: PlacesMax) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    /// A place for whoever has a token of this tenant; of all tenants where there is none, which is only held to what the
    /// node has.
    pub(super) fn take(self: &Arc<Self>, tenant: Option<&TenantId>) -> Option<Place> {
        self.take_many(tenant, 1)
    }

    /// The same for as many at once: all of them, or none.
    pub(super) fn take_many(self: &Arc<Self>, tenant: Option<&TenantId>, count: u32) -> Option<Place> {
        let more = |taken: u32, max: u32| taken.checked_add(count).filter(|taken| *taken <= max);
        let mut taken = self.taken();
        let all = more(taken.all, self.max.node)?;
        if let Some(tenant) = tenant {
            let own = more(taken.tenants.get(tenant).copied().unwrap_or(0), self.max.tenant)?;
            taken.tenants.insert(tenant.clone(), own);
        }
        taken.all = all;
        Some(Place { places: Arc::clone(self), tenant: tenant.cloned(), count })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= self.count;
        let Some(tenant) = &self.tenant else { return };
        if let Some(own) = taken.tenants.get_mut(tenant) {
            *own -= self.count;
            if *own == 0 {
                taken.tenants.remove(tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_some_places_and_all_together_have_no_more_than_there_are() {
        let places = Places::new(PlacesMax { tenant: 2, node: 5 });
        let (acme, zeta): (TenantId, TenantId) = ("acme".parse().unwrap(), "zeta".parse().unwrap());
        let mut of_acme: Vec<_> = (0..4).filter_map(|_| places.take(Some(&acme))).collect();
        let of_zeta: Vec<_> = (0..4).filter_map(|_| places.take(Some(&zeta))).collect();
        assert_eq!((of_acme.len(), of_zeta.len()), (2, 2));
        let of_all: Vec<_> = (0..4).filter_map(|_| places.take(None)).collect();
        assert_eq!(of_all.len(), 1, "only one is left in all");
        of_acme.pop();
        assert!(places.take(Some(&zeta)).is_none(), "the place is not this tenant's");
        let again = places.take(Some(&acme));
        assert!(again.is_some());
        drop((again, of_acme, of_zeta, of_all));
        let taken = places.taken();
        assert_eq!((taken.all, taken.tenants.len()), (0, 0), "nothing is kept of who has gone");
    }

    #[test]
    fn several_places_are_taken_together_or_not_at_all() {
        let places = Places::new(PlacesMax { tenant: 6, node: 10 });
        let acme: TenantId = "acme".parse().unwrap();
        let four = places.take_many(Some(&acme), 4);
        assert!(four.is_some() && places.take_many(Some(&acme), 3).is_none());
        let two = places.take_many(Some(&acme), 2);
        assert!(two.is_some() && places.take_many(None, 5).is_none());
        assert!(places.take_many(None, u32::MAX).is_none());
        drop(four);
        assert!(places.take_many(None, 8).is_some());
        drop(two);
        let taken = places.taken();
        assert_eq!((taken.all, taken.tenants.len()), (0, 0));
    }
}
