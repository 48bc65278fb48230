//! Opens the stores that the grants of apps need, and no other.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tenon_engine::Stores;
use tenon_model::{Authorities, Diagnostic, Grants, StoreName};
use tenon_state::{Embedded, Quota, Redis};

/// The folder of the embedded store in the data directory.
const FOLDER: &str = "store";

/// Stores that stay open while apps come and go: the embedded one can be opened only once. A node whose apps keep
/// nothing has no store, and no file of one.
#[derive(Debug, Default)]
pub struct Shelf {
    embedded: Mutex<Option<Arc<Embedded>>>,
}

impl Shelf {
    /// Lets go of the embedded store: it is closed when the last app that has it is.
    pub(crate) fn let_go(&self) {
        *self.embedded.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The stores behind these authorities.
    ///
    /// # Errors
    /// When a store cannot be opened, or the URL of one is none.
    pub fn open(&self, authorities: &Authorities, data: &Path) -> Result<Stores, Diagnostic> {
        let grants =
            || authorities.parts.values().chain([&authorities.whole]).map(|authority| &authority.grants);
        let mut stores = Stores::default();
        if grants().any(keeps_here) {
            let mut place = self.embedded.lock().unwrap_or_else(PoisonError::into_inner);
            let embedded = match &*place {
                Some(embedded) => Arc::clone(embedded),
                None => {
                    let opened = Arc::new(Embedded::open(&data.join(FOLDER), Quota::default())?);
                    Arc::clone(place.insert(opened))
                }
            };
            stores.keyvalue.insert(StoreName::Embedded, embedded.clone());
            stores.blobs = Some(embedded.clone());
            stores.messages = Some(embedded);
        }
        open_redis(&mut stores, grants())?;
        Ok(stores)
    }
}

fn open_redis<'a>(stores: &mut Stores, grants: impl Iterator<Item = &'a Grants>) -> Result<(), Diagnostic> {
    for name in grants.flat_map(|grants| &grants.keyvalue).map(|grant| &grant.store) {
        if let (StoreName::Redis(url), false) = (name, stores.keyvalue.contains_key(name)) {
            let redis = Redis::new(url).map_err(|error| {
                Diagnostic::new(
                    "invalid-redis-url",
                    "a bucket is to be kept in a Redis server that cannot be used",
                )
                .note("cause", error.to_string())
                .mend("write `store = \"redis://HOST:PORT/NUMBER\"`")
            })?;
            stores.keyvalue.insert(name.clone(), Arc::new(redis));
        }
    }
    Ok(())
}

/// Whether these grants need the embedded store.
fn keeps_here(grants: &Grants) -> bool {
    !grants.blobstore.is_empty()
        || grants.messaging.is_some()
        || grants.keyvalue.iter().any(|grant| grant.store == StoreName::Embedded)
}
