//! Brings a revision into memory when a request needs it.

use std::sync::Weak;
use std::sync::atomic::Ordering::Relaxed;

use tenon_edge::{LoadError, Loader, Loading, RevisionKey};

use crate::node::{Inner, said};

/// Loads the revisions of a node.
pub(crate) struct NodeLoader(Weak<Inner>);

impl NodeLoader {
    pub(crate) fn new(node: Weak<Inner>) -> Self {
        Self(node)
    }
}

impl Loader for NodeLoader {
    fn load(&self, key: &RevisionKey) -> Loading {
        let (node, key) = (Weak::clone(&self.0), key.clone());
        Box::pin(async move {
            // Mapping reads a file, and what is damaged is compiled again: not on a worker's thread.
            let loaded = tokio::task::spawn_blocking(move || {
                let Some(node) = node.upgrade() else { return Err(LoadError("the node has ended".into())) };
                let revision = node.live().revision(&key.app, key.revision).cloned();
                let revision = revision.ok_or_else(|| LoadError("the revision is gone".into()))?;
                let (service, bytes) = node.service(&key.app, &revision.content).map_err(|refused| {
                    tracing::error!(app = %key.app, revision = %key.revision, code = refused.0.code, cause = said(&refused), "an app cannot be brought into memory");
                    LoadError(said(&refused).into())
                })?;
                if bytes > 0 {
                    revision.bytes.store(bytes, Relaxed);
                }
                // Full: it has been told already.
                let _ = node.crowded.try_send(());
                Ok(service)
            });
            loaded.await.unwrap_or_else(|error| Err(LoadError(error.to_string().into())))
        })
    }
}
