//! Opens the stores that the grants of an app need, and no other.

use std::path::Path;
use std::sync::Arc;

use tenon_engine::Stores;
use tenon_model::{Authorities, Diagnostic, Grants, StoreName};
use tenon_state::{Embedded, Quota, Redis};

use crate::error::CommandError;

/// The folder of the embedded store in the data directory.
const FOLDER: &str = "store";

/// The stores behind these authorities. A node whose app keeps nothing has no store, and no file of one.
pub(crate) fn open(authorities: &Authorities, data: &Path) -> Result<Stores, CommandError> {
    Shelf::default().open(authorities, data)
}

/// Stores that stay open while one state of an app follows the other: the embedded one can be opened only once.
#[derive(Default)]
pub(crate) struct Shelf {
    embedded: Option<Arc<Embedded>>,
}

impl Shelf {
    /// As [`open`], with what is open already.
    pub(crate) fn open(&mut self, authorities: &Authorities, data: &Path) -> Result<Stores, CommandError> {
        let grants =
            || authorities.parts.values().chain([&authorities.whole]).map(|authority| &authority.grants);
        let mut stores = Stores::default();
        if grants().any(keeps_here) {
            let embedded = match &self.embedded {
                Some(embedded) => Arc::clone(embedded),
                None => {
                    let opened = Arc::new(Embedded::open(&data.join(FOLDER), Quota::default())?);
                    Arc::clone(self.embedded.insert(opened))
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

fn open_redis<'a>(stores: &mut Stores, grants: impl Iterator<Item = &'a Grants>) -> Result<(), CommandError> {
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
