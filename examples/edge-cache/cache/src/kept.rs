//! What is kept, and where.
//!
//! The store has a fixed number of places, and a hash says which is whose: what comes to a taken place puts out what was
//! there. So the cache is bounded without anybody having to count, and nothing has to be cleaned up. Every record says
//! whose it is: a place that belongs to another is an empty one.

use serde::{Deserialize, Serialize};

use crate::fields::Fields;
use crate::freshness::Times;
use crate::vary::{Key, Variants};

/// Places, for targets and for responses each. With bodies of the greatest size this is 512 MiB.
const PLACES: u64 = 512;

/// The longest body that is kept.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest target that is kept something for.
pub const TARGET_BYTES_MAX: usize = 4096;

/// A response that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub key: Key,
    pub status: u16,
    pub fields: Fields,
    pub times: Times,
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl Kept {
    /// As it is written to the store: a line of JSON, and the body.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("texts and numbers become JSON");
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// What was written, if it was written for `key`.
    pub fn decode(bytes: &[u8], key: &Key) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let mut kept: Self = serde_json::from_slice(&bytes[..end]).ok()?;
        kept.body = bytes[end + 1..].to_vec();
        (kept.key == *key).then_some(kept)
    }
}

impl Variants {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers become JSON")
    }

    /// What was written, if it was written for `target`.
    pub fn decode(bytes: &[u8], target: &str) -> Option<Self> {
        let variants: Self = serde_json::from_slice(bytes).ok()?;
        (variants.target == target).then_some(variants)
    }
}

/// The place of what is known about a target.
pub fn target_place(target: &str) -> String {
    format!("target/{}", hash(target.as_bytes()) % PLACES)
}

/// The place of a response.
pub fn response_place(key: &Key) -> String {
    let text = serde_json::to_vec(key).expect("texts and numbers become JSON");
    format!("response/{}", hash(&text) % PLACES)
}

/// FNV-1a. Whoever makes targets that meet in one place makes the origin work; they could ask for new targets as well.
fn hash(bytes: &[u8]) -> u64 {
    let mixed = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Its low bits alone are those of the bytes' low bits.
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::of;

    fn kept(target: &str) -> Kept {
        Kept {
            key: Key {
                target: target.to_owned(),
                generation: 7,
                selecting: vec![("accept".to_owned(), None)],
            },
            status: 200,
            fields: of(&[("etag", "\"é\u{80}\"")]),
            times: Times { requested: 1, received: 2 },
            body: b"line\nline\0\xff".to_vec(),
        }
    }

    #[test]
    fn what_was_kept_is_read_back_by_its_owner_only() {
        let kept = kept("/a");
        assert_eq!(Kept::decode(&kept.encode(), &kept.key), Some(kept.clone()));
        let other = Key { generation: 8, ..kept.key.clone() };
        assert_eq!(Kept::decode(&kept.encode(), &other), None);
        for cut in 0..kept.encode().len() - kept.body.len() {
            assert_eq!(Kept::decode(&kept.encode()[..cut], &kept.key), None);
        }
    }

    #[test]
    fn there_are_so_many_places() {
        let places: std::collections::BTreeSet<String> =
            (0..10_000).map(|number| target_place(&format!("/{number}"))).collect();
        assert_eq!(places.len() as u64, PLACES, "each is used");
        let place = response_place(&kept("/a").key);
        assert!(place.starts_with("response/"), "{place}");
    }
}
