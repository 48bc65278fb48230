//! `wasi:keyvalue` 0.2.0-draft2 and 0.2.0-draft: buckets of keys and values that outlive the request.

use std::sync::Arc;

use tenon_model::Access;
use tenon_model::store::{Collection, KeyPage, KeyValue, StoreError, Swap};
use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::ResourceTableError;

use super::Caller;
use super::stores::{quoted, told};
use crate::host::Called;

/// The bucket that a guest means with the empty name, unless it was granted one of that name.
const DEFAULT: &str = "default";
/// What every key costs of the key-value bytes, beside its own: asking for nothing is not free.
const KEY_BYTES: usize = 16;

/// An opened bucket.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the bindings export the types of their resources again")]
pub struct Bucket {
    caller: Arc<Caller>,
    store: Arc<dyn KeyValue>,
    collection: Collection,
    access: Access,
}

/// A value as it was when the guest looked.
#[expect(unreachable_pub, reason = "the bindings export the types of their resources again")]
pub struct Cas {
    bucket: Bucket,
    key: String,
    seen: Option<Vec<u8>>,
}

/// Why an operation failed.
pub(crate) enum Error {
    NoSuchStore,
    AccessDenied,
    Other(String),
    /// The request ends.
    Trap(wasmtime::Error),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Other(told(&error))
    }
}

impl From<ResourceTableError> for Error {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type Done<T> = Result<T, Error>;

impl Called<'_> {
    fn open_bucket(&self, name: &str) -> Done<Bucket> {
        let granted =
            |wanted: &str| self.caller.grants().keyvalue.iter().find(|grant| grant.bucket == wanted);
        let grant = granted(name).or_else(|| granted(DEFAULT).filter(|_| name.is_empty()));
        let Some(grant) = grant else {
            let name = if name.is_empty() { DEFAULT } else { name };
            refuse(self.caller, name, Access::Read);
            return Err(Error::AccessDenied);
        };
        let Some(store) = self.caller.backends().stores.keyvalue.get(&grant.store) else {
            return Err(Error::NoSuchStore);
        };
        let collection = self.caller.collection(&grant.bucket)?;
        let caller = Arc::clone(self.caller);
        Ok(Bucket { caller, store: Arc::clone(store), collection, access: grant.access })
    }

    fn bucket(&self, bucket: &Resource<Bucket>) -> Done<Bucket> {
        Ok(self.table.get(bucket)?.clone())
    }
}

/// Says in the log what was refused, and the line that would grant it.
fn refuse(caller: &Caller, bucket: &str, access: Access) {
    let bucket = quoted(bucket);
    let (asked, access) = match access {
        Access::Read => (format!("open {bucket}"), "read"),
        Access::Write => (format!("write {bucket}"), "write"),
    };
    let line = format!(r#""wasi:keyvalue" = [{{ bucket = {bucket}, access = "{access}" }}]"#);
    caller.refused("wasi:keyvalue", &asked, &line);
}

impl Bucket {
    fn check_write(&self) -> Done<()> {
        if self.access == Access::Write {
            return Ok(());
        }
        refuse(&self.caller, self.collection.name(), Access::Write);
        Err(Error::AccessDenied)
    }

    fn spend(&self, bytes: usize) -> Done<()> {
        if self.caller.count_key_value_bytes(bytes as u64) {
            return Ok(());
        }
        Err(Error::Other(
            "key-value-bytes: the component has read and written as much as one request may".into(),
        ))
    }

    async fn get(&self, key: String) -> Done<Option<Vec<u8>>> {
        self.spend(key.len() + KEY_BYTES)?;
        let value = self.store.get(&self.collection, key).await?;
        self.spend(value.as_ref().map_or(0, Vec::len))?;
        Ok(value)
    }

    async fn set(&self, key: String, value: Vec<u8>) -> Done<()> {
        self.check_write()?;
        self.spend(key.len() + value.len() + KEY_BYTES)?;
        Ok(self.store.set(&self.collection, key, value).await?)
    }

    async fn delete(&self, key: String) -> Done<()> {
        self.check_write()?;
        self.spend(key.len() + KEY_BYTES)?;
        Ok(self.store.delete(&self.collection, key).await?)
    }

    async fn exists(&self, key: String) -> Done<bool> {
        self.spend(key.len() + KEY_BYTES)?;
        Ok(self.store.exists(&self.collection, key).await?)
    }

    async fn list(&self, from: Option<String>) -> Done<KeyPage> {
        self.spend(KEY_BYTES)?;
        let page = self.store.list_keys(&self.collection, from).await?;
        self.spend(page.keys.iter().map(|key| key.len() + KEY_BYTES).sum())?;
        Ok(page)
    }

    async fn add(&self, key: String, delta: i64) -> Done<i64> {
        self.check_write()?;
        self.spend(key.len() + KEY_BYTES)?;
        Ok(self.store.increment(&self.collection, key, delta).await?)
    }

    async fn swap(&self, key: String, seen: Option<Vec<u8>>, value: Vec<u8>) -> Done<Swap> {
        self.check_write()?;
        self.spend(key.len() + value.len() + KEY_BYTES)?;
        let swapped = self.store.compare_and_swap(&self.collection, key, seen, value).await?;
        if let Swap::Changed(Some(found)) = &swapped {
            self.spend(found.len())?;
        }
        Ok(swapped)
    }

    async fn get_many(&self, keys: Vec<String>) -> Done<Vec<Option<(String, Vec<u8>)>>> {
        self.spend(keys.iter().map(|key| key.len() + KEY_BYTES).sum())?;
        let values = self.store.get_many(&self.collection, keys.clone()).await?;
        self.spend(values.iter().flatten().map(Vec::len).sum())?;
        Ok(keys.into_iter().zip(values).map(|(key, value)| value.map(|value| (key, value))).collect())
    }

    async fn set_many(&self, pairs: Vec<(String, Vec<u8>)>) -> Done<()> {
        self.check_write()?;
        self.spend(pairs.iter().map(|(key, value)| key.len() + value.len() + KEY_BYTES).sum())?;
        Ok(self.store.set_many(&self.collection, pairs).await?)
    }

    async fn delete_many(&self, keys: Vec<String>) -> Done<()> {
        self.check_write()?;
        self.spend(keys.iter().map(|key| key.len() + KEY_BYTES).sum())?;
        Ok(self.store.delete_many(&self.collection, keys).await?)
    }
}

/// What both drafts say alike.
macro_rules! alike {
    ($module:ident) => {
        impl $module::store::Host for Called<'_> {
            async fn open(&mut self, identifier: String) -> Done<Resource<Bucket>> {
                let bucket = self.open_bucket(&identifier)?;
                Ok(self.table.push(bucket)?)
            }

            fn convert_error(&mut self, error: Error) -> Result<$module::store::Error> {
                match error {
                    Error::NoSuchStore => Ok($module::store::Error::NoSuchStore),
                    Error::AccessDenied => Ok($module::store::Error::AccessDenied),
                    Error::Other(cause) => Ok($module::store::Error::Other(cause)),
                    Error::Trap(cause) => Err(cause),
                }
            }
        }

        impl $module::batch::Host for Called<'_> {
            async fn get_many(
                &mut self,
                bucket: Resource<Bucket>,
                keys: Vec<String>,
            ) -> Done<Vec<Option<(String, Vec<u8>)>>> {
                self.bucket(&bucket)?.get_many(keys).await
            }

            async fn set_many(
                &mut self,
                bucket: Resource<Bucket>,
                pairs: Vec<(String, Vec<u8>)>,
            ) -> Done<()> {
                self.bucket(&bucket)?.set_many(pairs).await
            }

            async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Done<()> {
                self.bucket(&bucket)?.delete_many(keys).await
            }
        }
    };
}

/// What both drafts say alike of buckets; the cursor of a list they say differently.
macro_rules! alike_of_buckets {
    () => {
        async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Done<Option<Vec<u8>>> {
            self.bucket(&bucket)?.get(key).await
        }

        async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Done<()> {
            self.bucket(&bucket)?.set(key, value).await
        }

        async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Done<()> {
            self.bucket(&bucket)?.delete(key).await
        }

        async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Done<bool> {
            self.bucket(&bucket)?.exists(key).await
        }

        async fn drop(&mut self, bucket: Resource<Bucket>) -> Result<()> {
            self.table.delete(bucket)?;
            Ok(())
        }
    };
}

/// `wasi:keyvalue` 0.2.0-draft2.
pub(super) mod draft2 {
    mod bindings {
        wasmtime::component::bindgen!({
            path: "wit/keyvalue",
            world: "wasi:keyvalue/imports",
            imports: { default: async | trappable },
            with: {
                "wasi:keyvalue/store.bucket": super::super::Bucket,
                "wasi:keyvalue/atomics.cas": super::super::Cas,
            },
            trappable_error_type: { "wasi:keyvalue/store.error" => super::super::Error },
        });
    }

    pub(crate) use bindings::wasi::keyvalue::{atomics, batch, store};

    /// The version of the package.
    pub(crate) const VERSION: &str = "0.2.0-draft2";
}

/// `wasi:keyvalue` 0.2.0-draft: numbers without a sign, cursors that are numbers, no compare-and-swap.
pub(super) mod draft {
    mod bindings {
        wasmtime::component::bindgen!({
            path: "wit/keyvalue-draft",
            world: "wasi:keyvalue/imports",
            imports: { default: async | trappable },
            with: { "wasi:keyvalue/store.bucket": super::super::Bucket },
            trappable_error_type: { "wasi:keyvalue/store.error" => super::super::Error },
        });
    }

    pub(crate) use bindings::wasi::keyvalue::{atomics, batch, store};

    /// The version of the package.
    pub(crate) const VERSION: &str = "0.2.0-draft";
}

alike!(draft2);
alike!(draft);

impl draft2::store::HostBucket for Called<'_> {
    alike_of_buckets!();

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> Done<draft2::store::KeyResponse> {
        let KeyPage { keys, next } = self.bucket(&bucket)?.list(cursor).await?;
        Ok(draft2::store::KeyResponse { keys, cursor: next })
    }
}

/// Pages that one call goes through to reach a cursor that is a number.
const PAGES_PASSED_MAX: u64 = 100;

impl draft::store::HostBucket for Called<'_> {
    alike_of_buckets!();

    /// The cursor counts pages: the store's own cursors are texts, and are gone through again.
    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Done<draft::store::KeyResponse> {
        let wanted = cursor.unwrap_or(0);
        if wanted > PAGES_PASSED_MAX {
            return Err(Error::Other(
                "the bucket has more keys than this version of the interface can list".into(),
            ));
        }
        let bucket = self.bucket(&bucket)?;
        let mut page = bucket.list(None).await?;
        for _ in 0..wanted {
            let Some(next) = page.next.take() else {
                page.keys.clear();
                break;
            };
            page = bucket.list(Some(next)).await?;
        }
        Ok(draft::store::KeyResponse { keys: page.keys, cursor: page.next.map(|_| wanted + 1) })
    }
}

impl draft2::atomics::Host for Called<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Done<i64> {
        self.bucket(&bucket)?.add(key, delta).await
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> Result<Result<(), draft2::atomics::CasError>> {
        use draft2::store::Host as _;
        let Cas { bucket, key, seen } = self.table.delete(cas)?;
        match bucket.swap(key.clone(), seen, value).await {
            Ok(Swap::Done) => Ok(Ok(())),
            Ok(Swap::Changed(seen)) => {
                let again = self.table.push(Cas { bucket, key, seen })?;
                Ok(Err(draft2::atomics::CasError::CasFailed(again)))
            }
            Err(error) => Ok(Err(draft2::atomics::CasError::StoreError(self.convert_error(error)?))),
        }
    }
}

impl draft2::atomics::HostCas for Called<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Done<Resource<Cas>> {
        let bucket = self.bucket(&bucket)?;
        // The only use of the handle is to write.
        bucket.check_write()?;
        let seen = bucket.get(key.clone()).await?;
        Ok(self.table.push(Cas { bucket, key, seen })?)
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Done<Option<Vec<u8>>> {
        let Cas { bucket, seen, .. } = self.table.get(&cas)?;
        bucket.spend(seen.as_ref().map_or(0, Vec::len))?;
        Ok(seen.clone())
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl draft::atomics::Host for Called<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Done<u64> {
        let Ok(delta) = i64::try_from(delta) else { return Err(StoreError::NotANumber.into()) };
        let sum = self.bucket(&bucket)?.add(key, delta).await?;
        u64::try_from(sum).map_err(|_| StoreError::NotANumber.into())
    }
}
