//! Brings a revision into memory when a request needs it.

use std::pin::Pin;
use std::sync::Weak;
use std::time::{Duration, Instant};

use tenon_edge::{LoadError, LoadTurns, Loader, Loading, RevisionKey};

use crate::memory::Wait;
use crate::node::{Inner, Ready, Tried, said};
use crate::refused::{Answer, Refused, draining, missing};

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

    fn load(&self, key: &RevisionKey, turns: LoadTurns) -> Loading {
        let (node, key) = (Weak::clone(&self.0), key.clone());
        Box::pin(async move {
            loaded(&node, &key, &turns).await.map(|ready| ready.service).map_err(|refused| {
                tracing::error!(app = %key.app, revision = %key.revision, code = refused.0.code, cause = said(&refused), "an app cannot be brought into memory");
                LoadError(said(&refused).into())
            })
        })
    }
}

/// Maps and links it, in turn with others; what has to be compiled, or waits for a place, keeps no turn of theirs meanwhile.
async fn loaded(node: &Weak<Inner>, key: &RevisionKey, turns: &LoadTurns) -> Answer<Ready> {
    let (mut is_compiled, mut wait) = (false, None);
    loop {
        let turn = turns.load().await;
        // Mapping reads a file, and what is served now may be locked while it is replaced: not on a worker's thread.
        let of = key.clone();
        let (tried, component) = elsewhere(node, move |node| {
            let revision = node.live().revision(&of.app, of.revision).cloned();
            let revision = revision.ok_or_else(|| missing("revision"))?;
            let tried = node.try_service(&of.app, &revision.content)?;
            if let Tried::Ready(ready) = &tried {
                revision.components.note(&ready.service);
                node.came(&revision, ready.bytes);
            }
            Ok((tried, revision.content.component))
        })
        .await?;
        drop(turn);
        match tried {
            Tried::Ready(ready) => return Ok(ready),
            Tried::NoCode if is_compiled => return Err(missing("artifact")),
            Tried::NoCode => {
                is_compiled = true;
                let _turn = turns.compile().await;
                let id = key.app.clone();
                elsewhere(node, move |node| node.compile(&id, &component)).await?;
            }
            Tried::NoPlace => {
                let wait = wait.get_or_insert_with(Wait::begin);
                let look = match node.upgrade() {
                    Some(node) => wait.again(&node)?,
                    None => return Err(draining()),
                };
                tokio::time::sleep(look).await;
            }
        }
    }
}

/// Does something that takes its time on a thread where nobody waits for it.
async fn elsewhere<T: Send + 'static>(
    node: &Weak<Inner>,
    what: impl FnOnce(&Inner) -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let node = node.upgrade().ok_or_else(draining)?;
    let done = tokio::task::spawn_blocking(move || what(&node));
    done.await
        .unwrap_or_else(|error| Err(Refused::new("internal", error.to_string(), "look into the node's log")))
}

impl Inner {
    /// Whether the stores that this revision needs can be opened, as far as another process is concerned.
    fn has_stores(&self, key: &RevisionKey) -> bool {
        let Some(revision) = self.live().revision(&key.app, key.revision).cloned() else { return true };
        let opened = self.shelf.open(&revision.content.terms.authorities, &self.data);
        !opened.is_err_and(|error| error.code == "store-in-use")
    }
}
