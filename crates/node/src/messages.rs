//! Messages for the apps of a node: each app that is subscribed to topics is given what comes, by its stable revision.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tenon_edge::{App, Deliveries, Entry, Site, Slot, Table};
use tenon_model::{AppId, RevisionNumber};

use crate::live::{Content, LiveRevision};
use crate::node::{Inner, said};

/// Apps that are given messages: each has a thread of its own.
const APPS_MAX: usize = 256;
/// How often it is tried again to begin with an app that went out of memory meanwhile.
const START_TRIES_MAX: usize = 8;

/// Those that are given messages, by which revision.
#[derive(Default)]
pub(crate) struct Messages {
    by_app: HashMap<AppId, (Arc<Slot>, Option<Deliveries>)>,
    /// The table that this was done for.
    published: Option<u64>,
    ended: bool,
}

/// An app that is to be given messages.
struct Wanted {
    app: Arc<App>,
    revision: Arc<LiveRevision>,
}

impl Inner {
    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes who is given messages equal to who should be. Safe to run again and again.
    pub(crate) fn deliver(&self) {
        let published = self.published.load(Relaxed);
        let mut messages = self.messages();
        if messages.ended || messages.published == Some(published) {
            return;
        }
        messages.published = Some(published);
        let wanted = self.subscribed();
        let is_current = |id: &AppId, slot: &Arc<Slot>| {
            wanted.get(id).is_some_and(|wanted| Arc::ptr_eq(&wanted.revision.slot, slot))
        };
        let gone: Vec<AppId> = messages
            .by_app
            .iter()
            .filter(|(id, (slot, _))| !is_current(id, slot))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            if let Some((_, Some(deliveries))) = messages.by_app.remove(&id) {
                // What it has begun it ends, while the next revision takes what comes.
                drained(deliveries, None);
            }
        }
        for (id, Wanted { app, revision }) in wanted {
            if messages.by_app.contains_key(&id) {
                continue;
            }
            if messages.by_app.len() >= APPS_MAX {
                tracing::error!(
                    target: "tenon::message",
                    tenant = id.tenant.as_str(),
                    app = id.app.as_str(),
                    max = APPS_MAX,
                    "the app is given no messages: too many apps are"
                );
                continue;
            }
            let deliveries = match self.deliveries(&id, &app, &revision) {
                Ok(deliveries) => deliveries,
                // The node that is being replaced still has the store: it is tried again.
                Err((code, _)) if code == "store-in-use" && self.waits_for_store() => {
                    messages.published = None;
                    continue;
                }
                Err((_, cause)) => {
                    tracing::error!(
                        target: "tenon::message",
                        tenant = id.tenant.as_str(),
                        app = id.app.as_str(),
                        cause,
                        "the app is given no messages"
                    );
                    None
                }
            };
            messages.by_app.insert(id, (Arc::clone(&revision.slot), deliveries));
        }
    }

    fn waits_for_store(&self) -> bool {
        self.store_until.is_some_and(|until| Instant::now() < until)
    }

    /// Takes no further message for anybody; what is being handled is waited for by whoever joins, `most` at the longest.
    pub(crate) fn stop_delivering(&self, most: Option<Duration>) -> Vec<JoinHandle<()>> {
        let mut messages = self.messages();
        messages.ended = true;
        messages.by_app.drain().filter_map(|(_, (_, deliveries))| drained(deliveries?, most)).collect()
    }

    fn subscribed(&self) -> HashMap<AppId, Wanted> {
        let (_, apps) = self.desired.apps();
        let live = self.live();
        let wanted = |id: &AppId, stable: RevisionNumber| {
            let revision = live.revision(id, stable).filter(|it| is_subscribed(&it.content))?;
            Some(Wanted { app: Arc::clone(&live.apps.get(id)?.app), revision: Arc::clone(revision) })
        };
        let served = apps.iter().filter(|app| !app.paused);
        served.filter_map(|app| Some((app.id.clone(), wanted(&app.id, app.stable)?))).collect()
    }

    fn deliveries(
        &self,
        id: &AppId,
        app: &Arc<App>,
        revision: &LiveRevision,
    ) -> Result<Option<Deliveries>, (String, String)> {
        let ready = self.service(id, &revision.content);
        let ready = ready.map_err(|refused| (refused.0.code.clone(), said(&refused)))?;
        revision.preload(Arc::clone(&ready.service));
        self.came(revision, ready.bytes);
        // The same app and revision as requests have, so that both come through one gate.
        let entry = Entry {
            app: Arc::clone(app),
            routes: Vec::new(),
            stable: Arc::clone(&revision.slot),
            candidate: None,
            paused: false,
        };
        let site = Arc::new(Site::of(Table::new(vec![entry])).beside(&self.site));
        let failed = |error: tenon_edge::ServerError| ("internal".to_owned(), error.to_string());
        let mut started = Deliveries::start(&site).map_err(failed)?;
        for _ in 0..START_TRIES_MAX {
            if started.is_some() || revision.slot.is_loaded() {
                break;
            }
            // It had to make room for another one in between.
            revision.preload(Arc::clone(&ready.service));
            started = Deliveries::start(&site).map_err(failed)?;
        }
        Ok(started)
    }
}

fn is_subscribed(content: &Content) -> bool {
    let authorities = &content.terms.authorities;
    let mut grants =
        authorities.parts.values().chain([&authorities.whole]).map(|authority| &authority.grants);
    grants.any(|grants| grants.messaging.as_ref().is_some_and(|messaging| !messaging.subscribe.is_empty()))
}

fn drained(deliveries: Deliveries, most: Option<Duration>) -> Option<JoinHandle<()>> {
    std::thread::Builder::new().name("tenon-messages-end".into()).spawn(move || deliveries.drain(most)).ok()
}
