//! Writing: one thread makes all changes, and commits those that came meanwhile together. A commit waits for the
//! disk; that many share one is what makes durable writes affordable.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use redb::WriteTransaction;
use tenon_model::store::{Pending, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::base::Base;

/// Changes that may wait for the thread; whoever brings one more waits.
const CHANGES_WAITING_MAX: usize = 1_024;
/// Changes that one commit may carry.
const COMMIT_CHANGES_MAX: usize = 256;
/// Bytes of all changes that wait, in units of [`UNIT_BYTES`].
const WAITING_UNITS_MAX: usize = (64 << 20) / UNIT_BYTES;
const UNIT_BYTES: usize = 1 << 10;

/// Tells whoever waits, once it is known whether the commit succeeded.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Apply = Box<dyn FnOnce(&WriteTransaction) -> Result<Answer, redb::Error> + Send>;

struct Change {
    apply: Apply,
    /// Given back when the change is done.
    _room: OwnedSemaphorePermit,
}

pub(super) struct Writer {
    changes: Option<mpsc::Sender<Change>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn start(base: Arc<Base>) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(CHANGES_WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("tenon-store".into())
            .spawn(move || write_all(&base, receiver))?;
        Ok(Self {
            changes: Some(sender),
            room: Arc::new(Semaphore::new(WAITING_UNITS_MAX)),
            thread: Some(thread),
        })
    }

    /// Makes one change of about `bytes` bytes; answers when it is on the disk.
    ///
    /// `change` looks first and writes then: once it has written, it may only answer `Ok(Ok(_))`. An outer error
    /// takes back the whole commit.
    pub(super) fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        change: impl FnOnce(&WriteTransaction) -> Result<Result<T, StoreError>, redb::Error> + Send + 'static,
    ) -> Pending<T> {
        let (answer, answered) = oneshot::channel();
        let apply: Apply = Box::new(move |transaction| {
            let done = change(transaction)?;
            Ok(Box::new(move |committed: Result<(), StoreError>| {
                // Nobody may be waiting any more.
                let _ = answer.send(committed.and(done));
            }))
        });
        let units = u32::try_from((bytes / UNIT_BYTES + 1).min(WAITING_UNITS_MAX)).unwrap_or(u32::MAX);
        let (room, changes) = (Arc::clone(&self.room), self.changes.clone());
        Box::pin(async move {
            let closed = || StoreError::Failed("the store is closed".into());
            let room = room.acquire_many_owned(units).await.map_err(|_| closed())?;
            let changes = changes.ok_or_else(closed)?;
            changes.send(Change { apply, _room: room }).await.map_err(|_| closed())?;
            answered.await.map_err(|_| StoreError::Failed("the change was given up".into()))?
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Ends the thread once it has done what waits; the file is then closed in good order.
        self.changes = None;
        if let Some(thread) =
            self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

fn write_all(base: &Base, mut changes: mpsc::Receiver<Change>) {
    let mut waiting = Vec::with_capacity(COMMIT_CHANGES_MAX);
    while changes.blocking_recv_many(&mut waiting, COMMIT_CHANGES_MAX) > 0 {
        let taken = std::mem::take(&mut waiting);
        if catch_unwind(AssertUnwindSafe(|| write(base, taken))).is_err() {
            // The transaction was left in the middle: the lock on writing is not to be had any more. Whoever still
            // comes is told that the store is closed.
            tracing::error!(
                "the store is damaged: nothing more is written; start again to have it looked at"
            );
            return;
        }
        waiting.reserve(COMMIT_CHANGES_MAX);
    }
}

/// Makes all of these changes in one commit.
fn write(base: &Base, changes: Vec<Change>) {
    let database = match base.get() {
        Ok(database) => database,
        // Whoever waits is told that it was given up.
        Err(error) => {
            tracing::error!(%error, changes = changes.len(), "the store cannot be opened again");
            return;
        }
    };
    let mut answers = Vec::with_capacity(changes.len());
    let mut rooms = Vec::with_capacity(changes.len());
    let committed = (|| {
        let mut transaction = database.begin_write().map_err(redb::Error::from)?;
        // After a crash the next start then has nothing to reconstruct, however much is stored.
        transaction.set_quick_repair(true);
        for Change { apply, _room } in changes {
            rooms.push(_room);
            answers.push(apply(&transaction)?);
        }
        transaction.commit().map_err(redb::Error::from)
    })();
    let committed = committed.map_err(|error: redb::Error| {
        tracing::error!(%error, changes = answers.len(), "a commit failed");
        base.failed(&database, &error);
        StoreError::Failed(error.to_string())
    });
    for answer in answers {
        answer(committed.clone());
    }
}
