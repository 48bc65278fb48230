//! Reading, off the threads that serve requests: a page that is not in memory is read from the disk.

use std::fmt;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase as _};
use tenon_model::store::StoreError;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::base::Base;

/// Reads that may run at once; others wait for their turn.
const READS_AT_ONCE_MAX: usize = 16;

#[derive(Clone)]
pub(super) struct Reader {
    base: Arc<Base>,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(base: Arc<Base>) -> Self {
        Self { base, turns: Arc::new(Semaphore::new(READS_AT_ONCE_MAX)) }
    }

    /// Runs `read` on the state as of the last commit.
    pub(super) async fn run<T: Send + 'static>(
        self,
        read: impl FnOnce(&ReadTransaction) -> Result<Result<T, StoreError>, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let base = self.base;
        aside(self.turns, move || {
            let database = base.get()?;
            let transaction = database.begin_read().map_err(redb::Error::from);
            transaction.and_then(|transaction| read(&transaction)).unwrap_or_else(|error| {
                base.failed(&database, &error);
                Err(failed(&error))
            })
        })
        .await
    }

    /// Runs something else that reads or writes files, within the same bound.
    pub(super) async fn files<T: Send + 'static>(
        self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        aside(self.turns, || work().map_err(|error| failed(&error))).await
    }
}

/// Runs `work` on a thread that may wait.
async fn aside<T: Send + 'static>(
    turns: Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    // Held by the work itself: it runs to its end even when nobody waits for it any more.
    let turn = turns.acquire_owned().await.map_err(|_| StoreError::Failed("the store is closed".into()))?;
    let runtime = Handle::try_current().map_err(|error| StoreError::Failed(error.to_string()))?;
    let done = runtime.spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    // A damaged page can make the database panic; that ends this one read.
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, "reading the store failed");
        Err(StoreError::Failed("reading failed".into()))
    })
}

/// The store's own failures are for the log.
pub(super) fn failed(error: &dyn std::error::Error) -> StoreError {
    tracing::error!(%error, "the store failed");
    StoreError::Failed(error.to_string())
}
