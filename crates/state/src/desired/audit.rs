//! The audit log: each entry has a hash over itself and the entry before, so that none can be changed or taken out unseen.

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};
use tenon_model::Digest;

use super::change::By;
use super::open::{AUDIT, META, META_AUDIT};
use super::records::damaged;

/// The newest entries whose hashes are checked when the state is opened.
const CHECKED_MAX: usize = 100_000;
/// The longest detail, in bytes.
const DETAIL_BYTES_MAX: usize = 1 << 10;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its place, from 1 on, without gaps.
    pub sequence: u64,
    /// What the clock said, in seconds since 1970.
    pub at: u64,
    /// Who did it.
    pub who: String,
    /// What was done.
    pub what: String,
    /// To what: `tenant/app`, `tenant`, or `tenant/TOKEN`.
    pub target: String,
    /// In what way.
    pub detail: String,
    /// The hash.
    pub hash: String,
}

#[derive(Serialize, Deserialize)]
struct Row {
    at: u64,
    who: String,
    what: String,
    target: String,
    detail: String,
    hash: String,
}

pub(super) fn read(sequence: u64, text: &str) -> Result<AuditRecord, redb::Error> {
    let Row { at, who, what, target, detail, hash } = serde_json::from_str(text).map_err(damaged)?;
    Ok(AuditRecord { sequence, at, who, what, target, detail, hash })
}

/// The hash over an entry and the hash before it. Lengths go first, so that no two entries have one text.
fn hash(before: &str, entry: &AuditRecord) -> String {
    let AuditRecord { sequence, at, who, what, target, detail, .. } = entry;
    let mut text = format!("{before}\n{sequence}\n{at}\n");
    for part in [who, what, target, detail] {
        text.push_str(&format!("{}:{part}\n", part.len()));
    }
    Digest::of(text.as_bytes()).hex()
}

/// Appends what is done in this transaction.
pub(super) fn append(
    transaction: &redb::WriteTransaction,
    by: &By<'_>,
    what: &str,
    target: &str,
    detail: &str,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(AUDIT)?;
    // Counted beside the log, so that the place of an entry that was taken out is not given to another.
    let sequence = next(transaction)?;
    let before = match table.last()? {
        Some((sequence, row)) => read(sequence.value(), row.value())?.hash,
        None => String::new(),
    };
    let mut entry = AuditRecord {
        sequence,
        at: by.at,
        who: by.who.to_owned(),
        what: what.to_owned(),
        target: target.to_owned(),
        detail: detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)].to_owned(),
        hash: String::new(),
    };
    entry.hash = hash(&before, &entry);
    let AuditRecord { at, who, what, target, detail, hash, .. } = entry;
    let row = serde_json::to_string(&Row { at, who, what, target, detail, hash }).map_err(damaged)?;
    table.insert(sequence, row.as_str())?;
    transaction.open_table(META)?.insert(META_AUDIT, sequence)?;
    Ok(())
}

/// The place of the entry that is appended next.
pub(super) fn next(transaction: &redb::WriteTransaction) -> Result<u64, redb::Error> {
    Ok(transaction.open_table(META)?.get(META_AUDIT)?.map_or(0, |count| count.value()) + 1)
}

/// Whether all entries are there that were ever written, which are `count`, and the newest follow on one another as they
/// were.
pub(super) fn is_intact(
    table: &impl redb::ReadableTable<u64, &'static str>,
    count: u64,
) -> Result<bool, redb::Error> {
    let first = table.first()?.map_or(1, |(sequence, _)| sequence.value());
    let last = table.last()?.map_or(0, |(sequence, _)| sequence.value());
    if (first, last, table.len()?) != (1, count, count) {
        return Ok(false);
    }
    let mut later: Option<AuditRecord> = None;
    for row in table.iter()?.rev().take(CHECKED_MAX) {
        let (sequence, row) = row?;
        let Ok(entry) = read(sequence.value(), row.value()) else { return Ok(false) };
        if let Some(later) = &later
            && (later.sequence != entry.sequence + 1 || later.hash != hash(&entry.hash, later))
        {
            return Ok(false);
        }
        later = Some(entry);
    }
    // The first of all has nothing before it.
    Ok(later.is_none_or(|first| first.sequence != 1 || first.hash == hash("", &first)))
}
