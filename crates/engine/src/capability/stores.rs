//! What key-value, blob and message stores have in common on the guest's side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tenon_model::StoreName;
use tenon_model::store::{Blobs, Collection, KeyValue, Messages, StoreError};

use super::Caller;
use super::messaging::Inboxes;

/// Everything belongs to one tenant on a node that serves one app.
pub(crate) const TENANT: &str = "default";
/// A refused name is not repeated at greater length in the log, in bytes.
const SAID_BYTES_MAX: usize = 128;

/// Where what outlives a request is kept. Empty stores are an error to whoever was granted them.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// Keys and values, by the name that grants have for the store.
    pub keyvalue: BTreeMap<StoreName, Arc<dyn KeyValue>>,
    /// Objects.
    pub blobs: Option<Arc<dyn Blobs>>,
    /// Messages.
    pub messages: Option<Arc<dyn Messages>>,
    /// Requests that wait for answers.
    pub(super) inboxes: Arc<Inboxes>,
}

/// One of something that a component may hold a number of, for as long as this lives.
pub(super) struct Held(Arc<AtomicU32>);

impl Held {
    /// One more, unless `max` are held.
    pub(super) fn one(count: &Arc<AtomicU32>, max: u32) -> Option<Self> {
        let more = count.fetch_update(Relaxed, Relaxed, |held| (held < max).then(|| held + 1));
        more.is_ok().then(|| Self(Arc::clone(count)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Caller {
    /// What the service calls `name`. All parts of a composition mean the same with it; who may touch it, their
    /// grants say.
    pub(super) fn collection(&self, name: &str) -> Result<Collection, StoreError> {
        let (tenant, app) = self.owner();
        Collection::new(tenant, app, name)
    }

    /// Whose collections it uses: the tenant, and the app.
    pub(super) fn owner(&self) -> (&str, &str) {
        (self.backends().tenant.as_deref().unwrap_or(TENANT), self.service())
    }
}

/// What a guest is told: nothing of the machine.
pub(super) fn told(error: &StoreError) -> String {
    match error {
        StoreError::Failed(_) => "the store failed".into(),
        error => error.to_string(),
    }
}

/// The name in quotation marks, as a manifest has it, and not at any length.
pub(super) fn quoted(name: &str) -> String {
    let short = &name[..name.floor_char_boundary(SAID_BYTES_MAX)];
    let mut quoted = String::with_capacity(short.len() + 2);
    quoted.push('"');
    for character in short.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(character)));
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_name_cannot_break_out_of_its_line() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000Ad""#);
        assert_eq!(quoted(&"ä".repeat(1_000)).len(), SAID_BYTES_MAX + 2);
    }

    #[test]
    fn a_guest_learns_nothing_of_the_machine() {
        assert_eq!(told(&StoreError::Failed("/var/lib/secret: I/O error".into())), "the store failed");
    }
}
