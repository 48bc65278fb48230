//! The database, opened again after its disk failed: a database that could not write takes nothing more.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenon_model::store::StoreError;

use super::Opened;
use super::open::reopened;

/// The database of a store that is open.
#[derive(Debug)]
pub(super) struct Base {
    file: PathBuf,
    /// Empty after the disk failed, until somebody needs it.
    opened: Mutex<Option<Arc<Opened>>>,
}

impl Base {
    pub(super) fn new(file: PathBuf, opened: Opened) -> Self {
        Self { file, opened: Mutex::new(Some(Arc::new(opened))) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Opened>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database, opened again if the disk failed before. It reads files: not on a thread that serves requests.
    pub(super) fn get(&self) -> Result<Arc<Opened>, StoreError> {
        let mut opened = self.lock();
        if let Some(opened) = &*opened {
            return Ok(Arc::clone(opened));
        }
        // While somebody still reads from the one that failed, this fails too, and is tried again when it is needed next.
        let again = reopened(&self.file).map_err(|error| StoreError::Failed(error.to_string()))?;
        tracing::info!(file = %self.file.display(), "the store was opened again after it had failed");
        Ok(Arc::clone(opened.insert(Arc::new(again))))
    }

    /// Notes that `failed` did: after a fault of the disk it is closed, and what comes next opens the file again.
    pub(super) fn failed(&self, failed: &Arc<Opened>, error: &redb::Error) {
        if !matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
            return;
        }
        let mut opened = self.lock();
        if opened.as_ref().is_some_and(|opened| Arc::ptr_eq(opened, failed)) {
            *opened = None;
        }
    }
}
