//! The audit log: each entry has a hash over itself and the entry before, so that none can be changed or taken out unseen.

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};
use tenon_model::Digest;

use super::change::By;
use super::open::AUDIT;
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
    let (sequence, before) = match table.last()? {
        Some((sequence, row)) => (sequence.value() + 1, read(sequence.value(), row.value())?.hash),
        None => (1, String::new()),
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
    Ok(())
}

/// Whether the newest entries follow on one another as they were written.
pub(super) fn is_intact(table: &impl redb::ReadableTable<u64, &'static str>) -> Result<bool, redb::Error> {
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
