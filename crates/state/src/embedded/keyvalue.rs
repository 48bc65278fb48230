//! Keys and values.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use tenon_model::store::{
    BATCH_BYTES_MAX, Collection, KeyPage, KeyValue, PAGE_NAMES_MAX, Pending, StoreError, Swap, check,
    check_batch, check_key, check_value,
};

use super::usage::{ENTRY_BYTES, Kind, account};
use super::{Embedded, Quota};

type Key<'a> = (&'a str, &'a str, &'a str, &'a str);

/// (tenant, app, bucket, key) → value.
pub(super) const VALUES: TableDefinition<Key<'static>, &[u8]> = TableDefinition::new("values");

fn row<'a>(bucket: &'a Collection, key: &'a str) -> Key<'a> {
    (bucket.tenant(), bucket.app(), bucket.name(), key)
}

type Done<T> = Result<Result<T, StoreError>, redb::Error>;

/// Goes on when `$checked` is fine, else answers with what is wrong.
macro_rules! proceed {
    ($checked:expr) => {
        match $checked {
            Ok(fine) => fine,
            Err(error) => return Ok(Err(error)),
        }
    };
}

/// What an entry of this size is counted as.
fn weight(key: &str, value: usize) -> u64 {
    (key.len() + value) as u64 + ENTRY_BYTES
}

/// Sets all of these, or, when there is no room for them, none.
fn set(
    transaction: &WriteTransaction,
    quota: Quota,
    bucket: &Collection,
    pairs: &BTreeMap<String, Vec<u8>>,
) -> Done<()> {
    let mut values = transaction.open_table(VALUES)?;
    let (mut added, mut removed) = (0, 0);
    for (key, value) in pairs {
        added += weight(key, value.len());
        removed += values.get(row(bucket, key))?.map_or(0, |old| weight(key, old.value().len()));
    }
    proceed!(account(transaction, quota, Kind::KeyValue, bucket, added, removed)?);
    for (key, value) in pairs {
        values.insert(row(bucket, key), value.as_slice())?;
    }
    Ok(Ok(()))
}

fn delete(transaction: &WriteTransaction, quota: Quota, bucket: &Collection, keys: &[String]) -> Done<()> {
    let mut values = transaction.open_table(VALUES)?;
    let mut removed = 0;
    for key in keys {
        removed += values.remove(row(bucket, key))?.map_or(0, |old| weight(key, old.value().len()));
    }
    // Less is always in order.
    account(transaction, quota, Kind::KeyValue, bucket, 0, removed)
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn page(
    values: &impl ReadableTable<Key<'static>, &'static [u8]>,
    bucket: &Collection,
    from: Option<&str>,
) -> Result<KeyPage, redb::Error> {
    let start = match from {
        Some(last) => Bound::Excluded(row(bucket, last)),
        None => Bound::Included(row(bucket, "")),
    };
    let mut keys = Vec::new();
    for entry in values.range((start, Bound::Unbounded))? {
        let (at, _) = entry?;
        let (tenant, app, name, key) = at.value();
        if (tenant, app, name) != (bucket.tenant(), bucket.app(), bucket.name()) {
            break;
        }
        if keys.len() == PAGE_NAMES_MAX {
            let next = keys.last().cloned();
            return Ok(KeyPage { keys, next });
        }
        keys.push(key.to_owned());
    }
    Ok(KeyPage { keys, next: None })
}

/// An answer that is known at once.
fn refused<T: Send + 'static>(error: StoreError) -> Pending<T> {
    Box::pin(std::future::ready(Err(error)))
}

/// Refuses what does not fit a limit.
macro_rules! fit {
    ($checked:expr) => {
        if let Err(error) = $checked {
            return refused(error);
        }
    };
}

impl KeyValue for Embedded {
    fn get(&self, bucket: &Collection, key: String) -> Pending<Option<Vec<u8>>> {
        fit!(check_key(&key));
        let bucket = bucket.clone();
        Box::pin(self.shared.reader.clone().run(move |transaction| {
            let values = transaction.open_table(VALUES)?;
            Ok(Ok(values.get(row(&bucket, &key))?.map(|value| value.value().to_vec())))
        }))
    }

    fn set(&self, bucket: &Collection, key: String, value: Vec<u8>) -> Pending<()> {
        self.set_many(bucket, vec![(key, value)])
    }

    fn delete(&self, bucket: &Collection, key: String) -> Pending<()> {
        self.delete_many(bucket, vec![key])
    }

    fn exists(&self, bucket: &Collection, key: String) -> Pending<bool> {
        fit!(check_key(&key));
        let bucket = bucket.clone();
        Box::pin(self.shared.reader.clone().run(move |transaction| {
            Ok(Ok(transaction.open_table(VALUES)?.get(row(&bucket, &key))?.is_some()))
        }))
    }

    fn list_keys(&self, bucket: &Collection, from: Option<String>) -> Pending<KeyPage> {
        if let Some(from) = &from {
            fit!(check_key(from));
        }
        let bucket = bucket.clone();
        Box::pin(
            self.shared.reader.clone().run(move |transaction| {
                page(&transaction.open_table(VALUES)?, &bucket, from.as_deref()).map(Ok)
            }),
        )
    }

    fn increment(&self, bucket: &Collection, key: String, delta: i64) -> Pending<i64> {
        fit!(check_key(&key));
        let (bucket, quota) = (bucket.clone(), self.shared.quota);
        self.shared.writer.run(key.len(), move |transaction| {
            let before = {
                let values = transaction.open_table(VALUES)?;
                let found = values.get(row(&bucket, &key))?.map_or(Some(0), |value| number(value.value()));
                proceed!(found.ok_or(StoreError::NotANumber))
            };
            let sum = proceed!(before.checked_add(delta).ok_or(StoreError::NotANumber));
            let pair = BTreeMap::from([(key, sum.to_string().into_bytes())]);
            proceed!(set(transaction, quota, &bucket, &pair)?);
            Ok(Ok(sum))
        })
    }

    fn compare_and_swap(
        &self,
        bucket: &Collection,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Pending<Swap> {
        fit!(check_key(&key).and_then(|()| check_value(&value)));
        let (bucket, quota) = (bucket.clone(), self.shared.quota);
        let bytes = key.len() + value.len() + expected.as_ref().map_or(0, Vec::len);
        self.shared.writer.run(bytes, move |transaction| {
            let found = {
                let values = transaction.open_table(VALUES)?;
                values.get(row(&bucket, &key))?.map(|value| value.value().to_vec())
            };
            if found != expected {
                return Ok(Ok(Swap::Changed(found)));
            }
            proceed!(set(transaction, quota, &bucket, &BTreeMap::from([(key, value)]))?);
            Ok(Ok(Swap::Done))
        })
    }

    fn get_many(&self, bucket: &Collection, keys: Vec<String>) -> Pending<Vec<Option<Vec<u8>>>> {
        fit!(check_batch(keys.iter().map(|key| (key.as_str(), &[] as &[u8]))));
        let bucket = bucket.clone();
        Box::pin(self.shared.reader.clone().run(move |transaction| {
            let values = transaction.open_table(VALUES)?;
            let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
            for key in &keys {
                let value = values.get(row(&bucket, key))?;
                bytes += value.as_ref().map_or(0, |value| value.value().len()) as u64;
                proceed!(check("bytes of a batch", BATCH_BYTES_MAX as u64, bytes));
                found.push(value.map(|value| value.value().to_vec()));
            }
            Ok(Ok(found))
        }))
    }

    fn set_many(&self, bucket: &Collection, pairs: Vec<(String, Vec<u8>)>) -> Pending<()> {
        fit!(check_batch(pairs.iter().map(|(key, value)| (key.as_str(), value.as_slice()))));
        let bytes = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        let (bucket, quota) = (bucket.clone(), self.shared.quota);
        // The last of two values for one key is the one that stays.
        let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
        self.shared.writer.run(bytes, move |transaction| set(transaction, quota, &bucket, &pairs))
    }

    fn delete_many(&self, bucket: &Collection, keys: Vec<String>) -> Pending<()> {
        fit!(check_batch(keys.iter().map(|key| (key.as_str(), &[] as &[u8]))));
        let (bucket, quota) = (bucket.clone(), self.shared.quota);
        let bytes = keys.iter().map(String::len).sum();
        self.shared.writer.run(bytes, move |transaction| delete(transaction, quota, &bucket, &keys))
    }
}
