//! Which services are in memory: never more than may be.
//!
//! Whatever comes into memory takes a place first, and has room made for it where there is none. A service counts until
//! the last request that runs on it has ended, whoever still knows it.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tenon_engine::Service;
use tenon_model::{AppId, Digest, TenantId};

use crate::live::{Content, LiveRevision};
use crate::node::Inner;
use crate::refused::{Answer, Refused};

/// How long a service waits for a place while requests run on all that are in memory.
const PLACE_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked whether one of them can go.
const PLACE_LOOK: Duration = Duration::from_millis(5);
/// Where fewer than one place in so many is free, some are made before anybody waits for them.
const SPARE_PART: usize = 20;

/// How often a service is made again that its tenant was changed under.
pub(crate) const CHANGED_MAX: u32 = 100;

/// What a service is made of: its app, its component and its terms.
pub(crate) type ServiceKey = (AppId, Digest, Digest);

/// The services that are in memory.
pub(crate) struct Memory<S = Service> {
    /// By what they are made of: a revision that is equal to another shares its service. Some may be gone.
    services: HashMap<ServiceKey, Weak<S>>,
    /// In memory until the requests have ended that run on them; no other comes to them.
    leaving: Vec<Weak<S>>,
    /// How often each tenant's services were let go: one that was made before that must not come after it, with what its
    /// tenant was allowed then.
    epochs: HashMap<TenantId, u64>,
    /// Places of services on their way into memory.
    coming: usize,
    /// Bytes of the code that is in memory: exact when it was last looked who could go, and what came since.
    bytes_at_most: u64,
}

impl<S> Default for Memory<S> {
    fn default() -> Self {
        Self {
            services: HashMap::new(),
            leaving: Vec::new(),
            epochs: HashMap::new(),
            coming: 0,
            bytes_at_most: 0,
        }
    }
}

impl<S> Memory<S> {
    fn epoch(&self, tenant: &TenantId) -> u64 {
        self.epochs.get(tenant).copied().unwrap_or(0)
    }

    /// A service has come that was begun in this epoch of its tenant; where an equal one came first, that one is it. `None`
    /// where the tenant's services were let go meanwhile.
    fn fill(&mut self, epoch: u64, key: ServiceKey, service: Arc<S>) -> Option<Arc<S>> {
        if self.epoch(&key.0.tenant) != epoch {
            return None;
        }
        if let Some(first) = self.services.get(&key).and_then(Weak::upgrade) {
            return Some(first);
        }
        self.services.insert(key, Arc::downgrade(&service));
        Some(service)
    }

    /// No further request comes to this tenant's services: neither to those that are there nor to those that are being made.
    fn let_go(&mut self, tenant: &TenantId) {
        *self.epochs.entry(tenant.clone()).or_default() += 1;
        let theirs = |(app, ..): &ServiceKey| app.tenant == *tenant;
        self.leaving.extend(self.services.extract_if(|key, _| theirs(key)).map(|(_, service)| service));
    }

    /// Whether it is this one that requests come to.
    fn has(&self, key: &ServiceKey, service: &Arc<S>) -> bool {
        self.services.get(key).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(service)))
    }

    /// As many as there are at the most: what is gone may still be among them.
    fn at_most(&self) -> usize {
        self.services.len() + self.leaving.len() + self.coming
    }

    fn forget_gone(&mut self) {
        self.services.retain(|_, service| service.strong_count() > 0);
        self.leaving.retain(|service| service.strong_count() > 0);
    }
}

/// A place for one service on its way into memory.
pub(crate) struct Place<'a> {
    node: &'a Inner,
    /// Of its tenant, when it was taken.
    epoch: u64,
}

impl Place<'_> {
    /// The service has come; where an equal one came first, that one is it. `None` where its tenant was changed meanwhile: it
    /// has to be made again, as its tenant is now allowed to.
    pub(crate) fn fill(self, key: ServiceKey, service: Arc<Service>) -> Option<Arc<Service>> {
        // Taking a service down takes time: not under the lock.
        let _outlives_the_lock = Arc::clone(&service);
        self.node.memory().fill(self.epoch, key, service)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.node.memory().coming -= 1;
    }
}

/// How long a service has waited for a place.
pub(crate) struct Wait(Instant);

impl Wait {
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// How long to wait before it is looked again.
    ///
    /// # Errors
    /// `memory-full`, when it has waited long enough.
    pub(crate) fn again(&self, node: &Inner) -> Answer<Duration> {
        if self.0.elapsed() < PLACE_WAIT {
            return Ok(PLACE_LOOK);
        }
        let most = node.bounds.loaded_max.max(1);
        Err(Refused::new(
            "memory-full",
            format!("as many apps are in memory as may be, {most}, and requests run on all of them"),
            "raise `--loaded`; or try again when fewer requests run",
        ))
    }
}

impl Inner {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes of a revision's code have come into memory; none where an equal one had brought them. Has room made where
    /// that is due: looking who could go takes all revisions, so not beside every first request.
    pub(crate) fn came(&self, revision: &LiveRevision, bytes: u64) {
        if bytes > 0 {
            revision.bytes.store(bytes, Relaxed);
        }
        let is_crowded = {
            let mut memory = self.memory();
            memory.bytes_at_most = memory.bytes_at_most.saturating_add(bytes);
            memory.at_most() > self.few_enough() || memory.bytes_at_most > self.bounds.loaded_bytes_max
        };
        if is_crowded {
            // Full: it has been told already.
            let _ = self.crowded.try_send(());
        }
    }

    /// With more services than these in memory, places are made before anybody waits for them.
    fn few_enough(&self) -> usize {
        let most = self.bounds.loaded_max.max(1);
        most - most / SPARE_PART
    }

    /// The service of this content, if it is in memory.
    pub(crate) fn in_memory(&self, id: &AppId, content: &Content) -> Option<Arc<Service>> {
        self.memory().services.get(&key(id, content)).and_then(Weak::upgrade)
    }

    /// Services that are in memory.
    pub(crate) fn loaded(&self) -> usize {
        let mut memory = self.memory();
        memory.forget_gone();
        memory.services.len() + memory.leaving.len()
    }

    /// No further request comes to the services of this tenant's apps.
    pub(crate) fn let_go(&self, tenant: &TenantId) {
        self.memory().let_go(tenant);
    }

    /// Has this service serve the revision, unless it is one that its tenant's apps no longer come to; whether it does.
    pub(crate) fn preload(&self, id: &AppId, revision: &LiveRevision, service: &Arc<Service>) -> bool {
        // Held meanwhile: who lets go of the tenant's services comes before, or takes this one away as well.
        let memory = self.memory();
        let is_current = memory.has(&key(id, &revision.content), service);
        if is_current {
            revision.preload(Arc::clone(service));
        }
        is_current
    }

    /// A place for one more of this tenant, if there is one, or one can go that no request runs on: that which was asked longest
    /// ago goes first. Not on a thread that serves requests.
    pub(crate) fn place(&self, tenant: &TenantId) -> Option<Place<'_>> {
        let most = self.bounds.loaded_max.max(1);
        loop {
            {
                let mut memory = self.memory();
                if memory.at_most() >= most {
                    memory.forget_gone();
                }
                if memory.at_most() < most {
                    memory.coming += 1;
                    return Some(Place { node: self, epoch: memory.epoch(tenant) });
                }
            }
            if !self.unload_one() {
                self.shed_left();
                return None;
            }
        }
    }

    /// Services that no revision has any more do not stay in memory for the sake of sandboxes that no request is in.
    fn shed_left(&self) {
        let kept: HashSet<*const Service> = {
            let live = self.live();
            let loaded = live.revisions().filter_map(|(_, revision)| revision.slot.service());
            loaded.map(|service| Arc::as_ptr(&service)).collect()
        };
        let left: Vec<_> = {
            let memory = self.memory();
            let all = memory.services.values().chain(&memory.leaving).filter_map(Weak::upgrade);
            all.filter(|service| !kept.contains(&Arc::as_ptr(service))).collect()
        };
        // Without the locks: to take one down takes time, and the last who holds a service ends it.
        for service in left {
            service.shed();
        }
    }

    /// Takes the revision out of memory that was asked longest ago, of those that no request runs on; whether there was one.
    fn unload_one(&self) -> bool {
        let oldest = {
            let live = self.live();
            let idle = live
                .revisions()
                .map(|(_, revision)| revision)
                .filter(|revision| revision.slot.is_loaded() && revision.slot.running() == 0);
            idle.min_by_key(|revision| revision.slot.last_used()).cloned()
        };
        // A request may have come to it meanwhile: then it is looked for another one.
        oldest.is_some_and(|revision| revision.slot.unload() || revision.slot.running() > 0)
    }

    /// Takes apps out of memory that were not asked for long, before those that come have to wait for it.
    pub(crate) fn make_room(&self) {
        let (most, bytes_most) = (self.bounds.loaded_max.max(1), self.bounds.loaded_bytes_max);
        let mut loaded: Vec<(Duration, Arc<LiveRevision>)> = {
            let live = self.live();
            live.revisions()
                .filter(|(_, revision)| revision.slot.is_loaded())
                .map(|(_, revision)| (revision.slot.last_used(), Arc::clone(revision)))
                .collect()
        };
        let mut count = self.loaded();
        let mut bytes: u64 = loaded.iter().map(|(_, revision)| revision.bytes.load(Relaxed)).sum();
        self.memory().bytes_at_most = bytes;
        if count <= self.few_enough() && bytes <= bytes_most {
            return;
        }
        loaded.sort_by_key(|(used, _)| *used);
        // Some more than have to go, so that it is not looked for one at each request.
        let (count_max, bytes_max) = (most - most / 10, bytes_most / 10 * 9);
        for (_, revision) in loaded {
            if count <= count_max && bytes <= bytes_max {
                return;
            }
            if revision.slot.unload() {
                count -= 1;
                bytes = bytes.saturating_sub(revision.bytes.load(Relaxed));
            }
        }
    }
}

/// What a service of this content is known by.
pub(crate) fn key(id: &AppId, content: &Content) -> ServiceKey {
    (id.clone(), content.component, content.terms_digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(app: &str) -> ServiceKey {
        let (tenant, app) = app.split_once('/').unwrap();
        let id = AppId { tenant: tenant.parse().unwrap(), app: app.parse().unwrap() };
        (id, Digest::of(b"component"), Digest::of(b"terms"))
    }

    #[test]
    fn a_service_that_was_begun_before_its_tenant_was_changed_does_not_come_after_it() {
        let mut memory: Memory<u32> = Memory::default();
        let (shop, other) = (key_of("acme/shop"), key_of("zenith/shop"));
        let (before, others) = (memory.epoch(&shop.0.tenant), memory.epoch(&other.0.tenant));
        // What it was allowed was looked up; then that is taken away.
        memory.let_go(&shop.0.tenant);
        let old = Arc::new(1);
        assert!(memory.fill(before, shop.clone(), Arc::clone(&old)).is_none());
        assert!(!memory.has(&shop, &old) && memory.services.is_empty());
        assert!(memory.fill(others, other, Arc::new(2)).is_some(), "another tenant is not concerned");
        // Made again, it comes.
        let again = memory.epoch(&shop.0.tenant);
        let new = memory.fill(again, shop.clone(), Arc::new(3)).unwrap();
        assert!(memory.has(&shop, &new));
        // An equal one that comes later is the one that is there.
        assert_eq!(*memory.fill(again, shop.clone(), Arc::new(4)).unwrap(), 3);
        memory.let_go(&shop.0.tenant);
        assert!(!memory.has(&shop, &new), "nobody comes to it any more");
        assert_eq!(memory.leaving.len(), 1);
    }
}
