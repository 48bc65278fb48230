//! Objects. Their bytes are in files of their own, one an object; the database says which file is which object.
//!
//! Inside the database every object would be copied through the one thread that writes, and a large one would hold
//! up everybody's keys. A file is written beside everything else, forced to the disk, and then becomes the object by
//! one small change of the database. A file is never changed once it is an object, so a copy is a second name for it,
//! and a reader that holds it open reads what it began to read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use tenon_model::store::{
    BATCH_KEYS_MAX, BlobReader, BlobWriter, Blobs, Collection, NAME_BYTES_MAX, OBJECT_BYTES_MAX,
    OBJECT_CHUNK_BYTES_MAX, ObjectInfo, ObjectPage, PAGE_NAMES_MAX, Pending, StoreError, check,
};
use tokio::runtime::Handle;

use super::reader::{Reader, failed};
use super::usage::{ENTRY_BYTES, Kind, account};
use super::{Embedded, Quota, Shared};

/// Bytes of all objects that are being written and have no place yet: no quota counts those.
const UNPLACED_BYTES_MAX: u64 = 4 << 30;
/// How often opening is tried when the object is replaced at that very moment.
const OPEN_TRIES_MAX: usize = 8;

type Key<'a> = (&'a str, &'a str, &'a str, &'a str);
/// (file, size, created in milliseconds of the Unix epoch)
type Row = (u128, u64, u64);

/// (tenant, app, container) → created in milliseconds of the Unix epoch.
pub(super) const CONTAINERS: TableDefinition<(&str, &str, &str), u64> = TableDefinition::new("containers");
/// (tenant, app, container, object) → its file.
pub(super) const OBJECTS: TableDefinition<Key<'static>, Row> = TableDefinition::new("objects");

fn container_row(container: &Collection) -> (&str, &str, &str) {
    (container.tenant(), container.app(), container.name())
}

fn row<'a>(container: &'a Collection, object: &'a str) -> Key<'a> {
    (container.tenant(), container.app(), container.name(), object)
}

fn path(objects: &Path, file: u128) -> PathBuf {
    objects.join(format!("{file:032x}"))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

fn fresh() -> Result<u128, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| failed(&error))?;
    Ok(u128::from_le_bytes(bytes))
}

fn check_object(object: &str) -> Result<(), StoreError> {
    check("bytes of a name", NAME_BYTES_MAX as u64, object.len() as u64)
}

/// An answer that is known at once.
fn refused<T: Send + 'static>(error: StoreError) -> Pending<T> {
    Box::pin(std::future::ready(Err(error)))
}

fn missing(container: &Collection, object: &str) -> StoreError {
    StoreError::Missing(format!("{}/{object}", container.name()))
}

/// Removes files that are objects no more. One that stays behind is swept at the next start.
fn remove(objects: &Path, files: &[u128]) {
    for file in files {
        if let Err(error) = fs::remove_file(path(objects, *file)) {
            tracing::warn!(%error, "the file of a removed object could not be removed");
        }
    }
}

type Done<T> = Result<Result<T, StoreError>, redb::Error>;

/// Makes `new` the object; gives back the file of the one it replaces.
fn put(
    transaction: &WriteTransaction,
    quota: Quota,
    container: &Collection,
    object: &str,
    new: Row,
) -> Done<Vec<u128>> {
    if transaction.open_table(CONTAINERS)?.get(container_row(container))?.is_none() {
        return Ok(Err(StoreError::Missing(container.name().to_owned())));
    }
    let mut objects = transaction.open_table(OBJECTS)?;
    let old = objects.get(row(container, object))?.map(|old| old.value());
    let removed = old.map_or(0, |old| old.1 + ENTRY_BYTES);
    if let Err(full) = account(transaction, quota, Kind::Objects, container, new.1 + ENTRY_BYTES, removed)? {
        return Ok(Err(full));
    }
    objects.insert(row(container, object), new)?;
    Ok(Ok(old.map(|old| old.0).into_iter().collect()))
}

/// Removes these objects (all of the container's when none are named) and gives back their files.
fn take_out(
    transaction: &WriteTransaction,
    quota: Quota,
    container: &Collection,
    named: Option<&[String]>,
) -> Done<Vec<u128>> {
    let mut objects = transaction.open_table(OBJECTS)?;
    let (mut files, mut bytes) = (Vec::new(), 0);
    let mut out = |row: Row| {
        files.push(row.0);
        bytes += row.1 + ENTRY_BYTES;
    };
    match named {
        Some(names) => {
            for name in names {
                if let Some(old) = objects.remove(row(container, name))? {
                    out(old.value());
                }
            }
        }
        None => {
            let mut names = Vec::new();
            for entry in objects.range(row(container, "")..)? {
                let (key, value) = entry?;
                let (tenant, app, name, object) = key.value();
                if (tenant, app, name) != container_row(container) {
                    break;
                }
                names.push(object.to_owned());
                out(value.value());
            }
            for name in names {
                objects.remove(row(container, &name))?;
            }
        }
    }
    Ok(account(transaction, quota, Kind::Objects, container, 0, bytes)?.map(|()| files))
}

fn find(transaction: &ReadTransaction, container: &Collection, object: &str) -> Done<Row> {
    let objects = transaction.open_table(OBJECTS)?;
    let found = objects.get(row(container, object))?.map(|row| row.value());
    Ok(found.ok_or_else(|| missing(container, object)))
}

impl Shared {
    /// Makes a change that leaves files over, and removes those.
    fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&WriteTransaction) -> Done<Vec<u128>> + Send + 'static,
    ) -> Pending<()> {
        let shared = Arc::clone(self);
        Box::pin(async move {
            let files = shared.writer.run(0, change).await?;
            if files.is_empty() {
                return Ok(());
            }
            let objects = shared.objects.clone();
            let removed = shared.reader.clone().files(move || {
                remove(&objects, &files);
                Ok(())
            });
            removed.await
        })
    }
}

impl Blobs for Embedded {
    fn create_container(&self, container: &Collection) -> Pending<()> {
        let (container, quota) = (container.clone(), self.shared.quota);
        self.shared.writer.run(0, move |transaction| {
            let mut containers = transaction.open_table(CONTAINERS)?;
            if containers.get(container_row(&container))?.is_some() {
                return Ok(Ok(()));
            }
            if let Err(full) = account(transaction, quota, Kind::Objects, &container, ENTRY_BYTES, 0)? {
                return Ok(Err(full));
            }
            containers.insert(container_row(&container), now())?;
            Ok(Ok(()))
        })
    }

    fn container(&self, container: &Collection) -> Pending<Option<SystemTime>> {
        let container = container.clone();
        Box::pin(self.shared.reader.clone().run(move |transaction| {
            let containers = transaction.open_table(CONTAINERS)?;
            Ok(Ok(containers.get(container_row(&container))?.map(|created| time(created.value()))))
        }))
    }

    fn delete_container(&self, container: &Collection) -> Pending<()> {
        let (container, quota) = (container.clone(), self.shared.quota);
        self.shared.change(move |transaction| {
            let existed = transaction.open_table(CONTAINERS)?.remove(container_row(&container))?.is_some();
            let own = if existed { ENTRY_BYTES } else { 0 };
            let _less = account(transaction, quota, Kind::Objects, &container, 0, own)?;
            take_out(transaction, quota, &container, None)
        })
    }

    fn clear(&self, container: &Collection) -> Pending<()> {
        let (container, quota) = (container.clone(), self.shared.quota);
        self.shared.change(move |transaction| take_out(transaction, quota, &container, None))
    }

    fn info(&self, container: &Collection, object: String) -> Pending<ObjectInfo> {
        let container = container.clone();
        Box::pin(self.shared.reader.clone().run(move |transaction| {
            let found = find(transaction, &container, &object)?;
            Ok(found.map(|(_, size, created)| ObjectInfo { created: time(created), size }))
        }))
    }

    fn open(&self, container: &Collection, object: String) -> Pending<Box<dyn BlobReader>> {
        let (container, shared) = (container.clone(), Arc::clone(&self.shared));
        let objects = shared.objects.clone();
        let reader = shared.reader.clone();
        Box::pin(async move {
            for _ in 0..OPEN_TRIES_MAX {
                let (container, object, objects) = (container.clone(), object.clone(), objects.clone());
                let opened = reader.clone().run(move |transaction| {
                    Ok(find(transaction, &container, &object)?.and_then(|(file, size, _)| {
                        match File::open(path(&objects, file)) {
                            Ok(file) => Ok(Some((file, size))),
                            // Replaced or removed since the database was asked.
                            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                            Err(error) => Err(failed(&error)),
                        }
                    }))
                });
                if let Some((file, size)) = opened.await? {
                    return Ok(Box::new(Opened { file: Arc::new(file), size, reader }) as Box<dyn BlobReader>);
                }
            }
            Err(StoreError::Failed("the object's file is missing".into()))
        })
    }

    fn create(&self) -> Pending<Box<dyn BlobWriter>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let file = fresh()?;
            let path = path(&shared.objects, file);
            let begun = path.clone();
            let open =
                shared.reader.clone().files(move || File::options().write(true).create_new(true).open(begun));
            let open = Arc::new(open.await?);
            Ok(Box::new(Begun { shared, open, file, path, size: 0, placed: false }) as Box<dyn BlobWriter>)
        })
    }

    fn delete(&self, container: &Collection, names: Vec<String>) -> Pending<()> {
        let limit = check("objects of a batch", BATCH_KEYS_MAX as u64, names.len() as u64);
        if let Err(error) = limit.and_then(|()| names.iter().try_for_each(|name| check_object(name))) {
            return refused(error);
        }
        let (container, quota) = (container.clone(), self.shared.quota);
        self.shared.change(move |transaction| take_out(transaction, quota, &container, Some(&names)))
    }

    fn list(&self, container: &Collection, after: Option<String>) -> Pending<ObjectPage> {
        use std::ops::Bound;
        let container = container.clone();
        Box::pin(self.shared.reader.clone().run(move |transaction| {
            let objects = transaction.open_table(OBJECTS)?;
            let start = match &after {
                Some(last) => Bound::Excluded(row(&container, last)),
                None => Bound::Included(row(&container, "")),
            };
            let mut names = Vec::new();
            for entry in objects.range((start, Bound::Unbounded))? {
                let (key, _) = entry?;
                let (tenant, app, name, object) = key.value();
                if (tenant, app, name) != container_row(&container) {
                    break;
                }
                if names.len() == PAGE_NAMES_MAX {
                    return Ok(Ok(ObjectPage { names, more: true }));
                }
                names.push(object.to_owned());
            }
            Ok(Ok(ObjectPage { names, more: false }))
        }))
    }

    fn copy(&self, from: (&Collection, String), to: (&Collection, String)) -> Pending<()> {
        if let Err(error) = check_object(&to.1) {
            return refused(error);
        }
        let (from, object, to, target) = (from.0.clone(), from.1, to.0.clone(), to.1);
        let (shared, quota) = (Arc::clone(&self.shared), self.shared.quota);
        Box::pin(async move {
            let file = fresh()?;
            let objects = shared.objects.clone();
            let linked = shared.reader.clone().run(move |transaction| {
                Ok(find(transaction, &from, &object)?.and_then(|(old, size, _)| {
                    // The link holds the bytes even when the original is removed meanwhile.
                    let link = fs::hard_link(path(&objects, old), path(&objects, file));
                    link.and_then(|()| sync_folder(&objects)).map_err(|error| failed(&error)).map(|()| size)
                }))
            });
            let size = linked.await?;
            let placed =
                shared.change(move |transaction| put(transaction, quota, &to, &target, (file, size, now())));
            let placed = placed.await;
            if placed.is_err() {
                remove(&shared.objects, &[file]);
            }
            placed
        })
    }
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[derive(Debug)]
struct Opened {
    file: Arc<File>,
    size: u64,
    reader: Reader,
}

impl BlobReader for Opened {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, length: usize) -> Pending<Vec<u8>> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(OBJECT_CHUNK_BYTES_MAX).min(left);
        let file = Arc::clone(&self.file);
        Box::pin(self.reader.clone().files(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        }))
    }
}

/// An object that is not there yet.
#[derive(Debug)]
struct Begun {
    shared: Arc<Shared>,
    open: Arc<File>,
    file: u128,
    path: PathBuf,
    size: u64,
    /// Whether the database may know the file: then it is not this value's to remove.
    placed: bool,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.shared.unplaced.fetch_sub(self.size, Relaxed);
        if !self.placed {
            remove(&self.shared.objects, &[self.file]);
        }
    }
}

impl BlobWriter for Begun {
    fn write(&mut self, bytes: Vec<u8>) -> Pending<()> {
        let size = self.size.saturating_add(bytes.len() as u64);
        let max = OBJECT_BYTES_MAX.min(self.shared.quota.object_bytes);
        if let Err(error) = check("bytes of an object", max, size) {
            return refused(error);
        }
        let more = bytes.len() as u64;
        let room = |all: u64| all.checked_add(more).filter(|all| *all <= UNPLACED_BYTES_MAX);
        if self.shared.unplaced.fetch_update(Relaxed, Relaxed, room).is_err() {
            return refused(StoreError::Full("the room for objects that are being written"));
        }
        self.size = size;
        let open = Arc::clone(&self.open);
        Box::pin(self.shared.reader.clone().files(move || (&*open).write_all(&bytes)))
    }

    fn place(mut self: Box<Self>, container: &Collection, object: String) -> Pending<()> {
        if let Err(error) = check_object(&object) {
            return refused(error);
        }
        let container = container.clone();
        // A task of its own, which goes on when nobody waits any more: so it is always known whether the file is an
        // object now, or nothing.
        let placing = async move {
            let (open, path) = (Arc::clone(&self.open), self.path.clone());
            let synced = self.shared.reader.clone().files(move || {
                open.sync_all()?;
                path.parent().map_or(Ok(()), sync_folder)
            });
            synced.await?;
            let (quota, new) = (self.shared.quota, (self.file, self.size, now()));
            let shared = Arc::clone(&self.shared);
            let placed =
                shared.change(move |transaction| put(transaction, quota, &container, &object, new)).await;
            // After a failure of the store itself it may be either; the next start sweeps.
            self.placed = !matches!(placed, Err(StoreError::Missing(_) | StoreError::Full(_)));
            placed
        };
        Box::pin(async move {
            let task = Handle::try_current().map_err(|error| failed(&error))?.spawn(placing);
            task.await.map_err(|error| failed(&error))?
        })
    }
}
