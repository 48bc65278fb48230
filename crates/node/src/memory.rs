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

/// What a service is made of: its app, its component and its terms.
pub(crate) type ServiceKey = (AppId, Digest, Digest);

/// The services that are in memory.
#[derive(Default)]
pub(crate) struct Memory {
    /// By what they are made of: a revision that is equal to another shares its service. Some may be gone.
    services: HashMap<ServiceKey, Weak<Service>>,
    /// In memory until the requests have ended that run on them; no other comes to them.
    leaving: Vec<Weak<Service>>,
    /// Places of services on their way into memory.
    coming: usize,
    /// Bytes of the code that is in memory: exact when it was last looked who could go, and what came since.
    bytes_at_most: u64,
}

impl Memory {
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
pub(crate) struct Place<'a>(&'a Inner);

impl Place<'_> {
    /// The service has come; where an equal one came first, that one is it.
    pub(crate) fn fill(self, key: ServiceKey, service: Arc<Service>) -> Arc<Service> {
        let mut memory = self.0.memory();
        if let Some(first) = memory.services.get(&key).and_then(Weak::upgrade) {
            return first;
        }
        memory.services.insert(key, Arc::downgrade(&service));
        service
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.memory().coming -= 1;
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
        let Memory { services, leaving, .. } = &mut *self.memory();
        let (theirs, others) =
            std::mem::take(services).into_iter().partition(|((app, ..), _)| app.tenant == *tenant);
        *services = others;
        let theirs: HashMap<ServiceKey, Weak<Service>> = theirs;
        leaving.extend(theirs.into_values());
    }

    /// A place for one more, at once or when one has gone that no request runs on: that which was asked longest ago goes
    /// first. Waits; not on a thread that serves requests.
    pub(crate) fn place(&self) -> Answer<Place<'_>> {
        let (began, most) = (Instant::now(), self.bounds.loaded_max.max(1));
        loop {
            {
                let mut memory = self.memory();
                if memory.at_most() >= most {
                    memory.forget_gone();
                }
                if memory.at_most() < most {
                    memory.coming += 1;
                    return Ok(Place(self));
                }
            }
            if self.unload_one() {
                continue;
            }
            if began.elapsed() >= PLACE_WAIT {
                return Err(Refused::new(
                    "memory-full",
                    format!("as many apps are in memory as may be, {most}, and requests run on all of them"),
                    "raise `--loaded`; or try again when fewer requests run",
                ));
            }
            self.shed_left();
            std::thread::sleep(PLACE_LOOK);
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
