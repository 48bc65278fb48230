//! What is kept, in the bucket that was granted. Whatever the store fails at makes a miss, and one line of the log.

use std::time::{SystemTime, UNIX_EPOCH};

use super::wasi::keyvalue::store::{self, Bucket};
use crate::fields::Fields;
use crate::kept::{Kept, TARGET_BYTES_MAX, response_place, target_place};
use crate::vary::{self, Key, Variants};

const BUCKET: &str = "responses";

pub(super) struct Store {
    bucket: Bucket,
}

impl Store {
    pub(super) fn open() -> Result<Self, String> {
        let bucket = store::open(BUCKET).map_err(|error| format!("the bucket `{BUCKET}`: {error:?}"))?;
        Ok(Self { bucket })
    }

    /// The response that is kept for a request to `target` with these fields.
    pub(super) fn find(&self, target: &str, request: &Fields) -> Option<Kept> {
        let key = self.variants(target)?.key(request);
        Kept::decode(&self.get(&response_place(&key))?, &key)
    }

    /// The key under which a response is kept, which says what it varies by; `None` when it is kept under none.
    pub(super) fn key(&self, target: &str, request: &Fields, response: &Fields) -> Option<Key> {
        let names = vary::names(response)?;
        if target.len() > TARGET_BYTES_MAX {
            return None;
        }
        let known = self.variants(target).filter(|variants| variants.names == names);
        let variants = known.unwrap_or_else(|| {
            let variants = Variants { target: target.to_owned(), names, generation: generation() };
            self.set(&target_place(target), &variants.encode());
            variants
        });
        Some(variants.key(request))
    }

    /// Keeps a response.
    pub(super) fn keep(&self, kept: &Kept) {
        self.set(&response_place(&kept.key), &kept.encode());
    }

    /// Makes everything that is kept for `target` unfindable (section 4.4).
    pub(super) fn forget(&self, target: &str) {
        if self.variants(target).is_some()
            && let Err(error) = self.bucket.delete(&target_place(target))
        {
            eprintln!("the store cannot forget {target}: {error:?}");
        }
    }

    fn variants(&self, target: &str) -> Option<Variants> {
        Variants::decode(&self.get(&target_place(target))?, target)
    }

    fn get(&self, place: &str) -> Option<Vec<u8>> {
        self.bucket.get(place).unwrap_or_else(|error| {
            eprintln!("the store cannot read {place}: {error:?}");
            None
        })
    }

    fn set(&self, place: &str, value: &[u8]) {
        if let Err(error) = self.bucket.set(place, value) {
            eprintln!("the store cannot write {place}: {error:?}");
        }
    }
}

/// A number that no earlier generation had.
fn generation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
