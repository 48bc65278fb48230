//! The store in the node's own data directory: one redb file, and a folder of objects beside it.

mod base;
mod blobs;
mod keyvalue;
mod messages;
pub(crate) mod open;
mod reader;
mod usage;
mod writer;

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use redb::Database;

use base::Base;
use messages::Queues;
use reader::Reader;
pub use usage::Quota;
use writer::Writer;

/// Keys, objects and messages in a folder. A clone is the same store.
///
/// What a call has acknowledged has been forced to the disk: it survives the end of the process at any moment, and
/// the end of the machine if its disk keeps what it says it keeps.
#[derive(Clone, Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    reader: Reader,
    writer: Writer,
    queues: Arc<Queues>,
    /// The folder of the objects.
    objects: PathBuf,
    /// Bytes of the objects that are being written.
    unplaced: AtomicU64,
    quota: Quota,
}

/// The open database. Closing one whose file is damaged can panic inside it; that must not end whoever closes it.
pub(crate) struct Opened(Option<Database>);

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened")
    }
}

impl Deref for Opened {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("it is taken out only when it is dropped")
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let database = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::error!("the store is damaged, and was not closed as it should be");
        }
    }
}

impl Embedded {
    fn new(base: Base, objects: PathBuf, quota: Quota) -> std::io::Result<Self> {
        let base = Arc::new(base);
        let reader = Reader::new(Arc::clone(&base));
        let writer = Writer::start(base)?;
        Ok(Self {
            shared: Arc::new(Shared {
                reader,
                writer,
                queues: Arc::new(Queues::default()),
                objects,
                unplaced: AtomicU64::new(0),
                quota,
            }),
        })
    }
}
