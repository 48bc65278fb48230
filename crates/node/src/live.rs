//! What lives on this node while tables come and go: tenants with their buckets, apps with their breakers, revisions
//! with what they have counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tenon_edge::{App, CounterSnapshot, Latencies, Shares, Slot, Tenant};
use tenon_engine::{ComponentUse, Service};
use tenon_model::{AppId, Digest, RevisionNumber, TenantId};

use crate::components::Components;
use crate::wire;

/// A revision, as it is brought into memory.
#[derive(Debug)]
pub(crate) struct LiveRevision {
    pub(crate) slot: Arc<Slot>,
    pub(crate) content: Arc<Content>,
    /// Bytes of its compiled code, once it was loaded.
    pub(crate) bytes: AtomicU64,
    /// What each of its components has used, if it is a composition.
    pub(crate) components: Components,
}

impl LiveRevision {
    /// Has this service serve it from now on.
    pub(crate) fn preload(&self, service: Arc<Service>) {
        self.components.note(&service);
        self.slot.preload(service);
    }
}

/// What a revision consists of.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) component: Digest,
    pub(crate) terms: wire::Read,
    pub(crate) terms_digest: Digest,
}

/// An app, and those of its revisions that serve, take over, or may be wanted back.
#[derive(Debug)]
pub(crate) struct LiveApp {
    pub(crate) app: Arc<App>,
    pub(crate) revisions: HashMap<RevisionNumber, Arc<LiveRevision>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) tenants: HashMap<TenantId, Arc<Tenant>>,
    pub(crate) apps: HashMap<AppId, LiveApp>,
}

/// What was counted until one moment, taken out so that nobody waits while it is written down.
#[derive(Debug)]
pub(crate) struct Counted {
    /// Apps: all that was asked of them since the node started, what was refused and what revisions did that are gone among
    /// it. These never fall.
    pub(crate) apps: Vec<(AppId, CounterSnapshot)>,
    /// The revisions that are here. Each ends with its revision.
    pub(crate) revisions: Vec<CountedRevision>,
}

/// What was counted of a revision.
#[derive(Debug)]
pub(crate) struct CountedRevision {
    pub(crate) app: AppId,
    pub(crate) revision: RevisionNumber,
    pub(crate) seen: CounterSnapshot,
    /// How long its requests took, by how they ended.
    pub(crate) latencies: Vec<Latencies>,
    /// Its components, if it is a composition.
    pub(crate) components: Vec<ComponentUse>,
    pub(crate) running: u32,
    pub(crate) is_loaded: bool,
}

impl Live {
    /// The tenant, made when it is met first, and held to this quota.
    pub(crate) fn tenant(
        &mut self,
        id: &TenantId,
        quota: tenon_model::Quota,
        shares: &Arc<Shares>,
    ) -> &Arc<Tenant> {
        let tenant = self.tenants.entry(id.clone()).or_insert_with(|| Tenant::new(id.clone(), quota, shares));
        if tenant.quota() != quota {
            tenant.set_quota(quota);
        }
        tenant
    }

    pub(crate) fn revision(&self, id: &AppId, number: RevisionNumber) -> Option<&Arc<LiveRevision>> {
        self.apps.get(id)?.revisions.get(&number)
    }

    /// Every revision.
    pub(crate) fn revisions(&self) -> impl Iterator<Item = (&Arc<App>, &Arc<LiveRevision>)> {
        self.apps.values().flat_map(|app| app.revisions.values().map(move |revision| (&app.app, revision)))
    }

    /// What was counted of every app and of every revision, in order of their names.
    pub(crate) fn counted(&self) -> Counted {
        let app = |live: &LiveApp| (live.app.id().clone(), live.app.counters());
        let revision = |(app, revision): (&Arc<App>, &Arc<LiveRevision>)| CountedRevision {
            app: app.id().clone(),
            revision: revision.slot.key().revision,
            seen: revision.slot.counters().snapshot(),
            latencies: revision.slot.counters().latencies(),
            components: revision.components.used(),
            running: revision.slot.running(),
            is_loaded: revision.slot.is_loaded(),
        };
        let mut apps: Vec<_> = self.apps.values().map(app).collect();
        let mut revisions: Vec<_> = self.revisions().map(revision).collect();
        apps.sort_by(|left, right| left.0.cmp(&right.0));
        revisions.sort_by(|left, right| (&left.app, left.revision).cmp(&(&right.app, right.revision)));
        Counted { apps, revisions }
    }

    /// Bytes of the code that is in memory.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        let loaded = self.revisions().filter(|(_, revision)| revision.slot.is_loaded());
        loaded.map(|(_, revision)| revision.bytes.load(Relaxed)).sum()
    }
}
