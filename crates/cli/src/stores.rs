//! The stores that an app needs, as a node has them.

use std::path::Path;

use tenon_engine::Stores;
use tenon_model::Authorities;
pub(crate) use tenon_node::Shelf;

use crate::error::CommandError;

/// The stores behind these authorities.
pub(crate) fn open(authorities: &Authorities, data: &Path) -> Result<Stores, CommandError> {
    Ok(Shelf::default().open(authorities, data)?)
}
