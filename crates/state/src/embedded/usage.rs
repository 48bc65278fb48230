//! How much each app keeps, so that no app fills the disk.

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};
use tenon_model::store::{Collection, StoreError};

/// (tenant, app, kind) → bytes.
pub(super) const USAGE: TableDefinition<(&str, &str, &str), u64> = TableDefinition::new("usage");

/// What every entry costs beside its own bytes.
pub(super) const ENTRY_BYTES: u64 = 64;

/// What one app may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Keys and values, in bytes.
    pub key_value_bytes: u64,
    /// Objects, in bytes.
    pub object_bytes: u64,
    /// Messages that wait, in bytes.
    pub message_bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { key_value_bytes: 1 << 30, object_bytes: 10 << 30, message_bytes: 256 << 20 }
    }
}

/// What is counted.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    KeyValue,
    Objects,
    Messages,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::KeyValue => "key-value",
            Self::Objects => "objects",
            Self::Messages => "messages",
        }
    }

    fn full(self) -> StoreError {
        StoreError::Full(match self {
            Self::KeyValue => "the app's key-value store",
            Self::Objects => "the app's blob store",
            Self::Messages => "the app's message store",
        })
    }

    fn max(self, quota: Quota) -> u64 {
        match self {
            Self::KeyValue => quota.key_value_bytes,
            Self::Objects => quota.object_bytes,
            Self::Messages => quota.message_bytes,
        }
    }
}

/// Counts `added` and `removed` bytes, unless the app would then keep more than it may. Call it before writing.
pub(super) fn account(
    transaction: &WriteTransaction,
    quota: Quota,
    kind: Kind,
    of: &Collection,
    added: u64,
    removed: u64,
) -> Result<Result<(), StoreError>, redb::Error> {
    let mut usage = transaction.open_table(USAGE)?;
    let row = (of.tenant(), of.app(), kind.name());
    let before = usage.get(row)?.map_or(0, |bytes| bytes.value());
    let after = before.saturating_add(added).saturating_sub(removed);
    if after > before && after > kind.max(quota) {
        return Ok(Err(kind.full()));
    }
    usage.insert(row, after)?;
    Ok(Ok(()))
}
