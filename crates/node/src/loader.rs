//! Brings a revision into memory when a request needs it.

use std::pin::Pin;
use std::sync::Weak;
use std::time::{Duration, Instant};

use tenon_edge::{LoadError, Loader, Loading, RevisionKey};

use crate::node::{Inner, said};

/// Loads the revisions of a node.
pub(crate) struct NodeLoader(Weak<Inner>);

impl NodeLoader {
    pub(crate) fn new(node: Weak<Inner>) -> Self {
        Self(node)
    }
}

/// How often it is looked whether the node that is being replaced has let go of the apps' store.
const STORE_LOOK: Duration = Duration::from_millis(20);

impl Loader for NodeLoader {
    fn wait(&self, key: &RevisionKey) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (node, key) = (Weak::clone(&self.0), key.clone());
        Box::pin(async move {
            let until = node.upgrade().and_then(|node| node.store_until);
            while until.is_some_and(|until| Instant::now() < until) {
                let (node, key) = (Weak::clone(&node), key.clone());
                let tried = tokio::task::spawn_blocking(move || {
                    node.upgrade().is_none_or(|node| node.has_stores(&key))
                });
                if tried.await.unwrap_or(true) {
                    return;
                }
                tokio::time::sleep(STORE_LOOK).await;
            }
        })
    }

    fn load(&self, key: &RevisionKey) -> Loading {
        let (node, key) = (Weak::clone(&self.0), key.clone());
        Box::pin(async move {
            // Mapping reads a file, and what is damaged is compiled again: not on a worker's thread.
            let loaded = tokio::task::spawn_blocking(move || {
                let Some(node) = node.upgrade() else { return Err(LoadError("the node has ended".into())) };
                let revision = node.live().revision(&key.app, key.revision).cloned();
                let revision = revision.ok_or_else(|| LoadError("the revision is gone".into()))?;
                let ready = node.service(&key.app, &revision.content).map_err(|refused| {
                    tracing::error!(app = %key.app, revision = %key.revision, code = refused.0.code, cause = said(&refused), "an app cannot be brought into memory");
                    LoadError(said(&refused).into())
                })?;
                revision.components.note(&ready.service);
                node.came(&revision, ready.bytes);
                Ok(ready.service)
            });
            loaded.await.unwrap_or_else(|error| Err(LoadError(error.to_string().into())))
        })
    }
}

impl Inner {
    /// Whether the stores that this revision needs can be opened, as far as another process is concerned.
    fn has_stores(&self, key: &RevisionKey) -> bool {
        let Some(revision) = self.live().revision(&key.app, key.revision).cloned() else { return true };
        let opened = self.shelf.open(&revision.content.terms.authorities, &self.data);
        !opened.is_err_and(|error| error.code == "store-in-use")
    }
}
