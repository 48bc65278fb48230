//! `wasi:blobstore` 0.2.0-draft: containers of objects that outlive the request. Objects stream both ways; the host
//! never holds one whole unless the guest asks for it whole.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tenon_model::Access;
use tenon_model::store::{BlobReader, BlobWriter, Blobs, Collection, PAGE_NAMES_MAX, Pending, StoreError};
use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::Caller;
use super::stores::{Held, quoted, told};
use crate::host::Called;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/blobstore",
        world: "wasi:blobstore/imports",
        imports: { default: async | trappable },
        with: {
            "wasi:io/error": wasmtime_wasi_io::bindings::wasi::io::error,
            "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
            "wasi:io/streams": wasmtime_wasi_io::bindings::wasi::io::streams,
            "wasi:blobstore/container.container": super::Container,
            "wasi:blobstore/container.stream-object-names": super::Names,
            "wasi:blobstore/types.outgoing-value": super::Outgoing,
            "wasi:blobstore/types.incoming-value": super::Incoming,
        },
    });
}

pub(super) use bindings::wasi::blobstore::{blobstore, container, types};

/// The version of the package that is implemented.
pub(super) const VERSION: &str = "0.2.0-draft";
/// The largest part of an object that a guest gets in one piece.
const WHOLE_BYTES_MAX: u64 = 16 << 20;
/// What passes through a stream at once.
const CHUNK_BYTES: usize = 64 << 10;

/// An opened container.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the bindings export the types of their resources again")]
pub struct Container {
    caller: Arc<Caller>,
    blobs: Arc<dyn Blobs>,
    collection: Collection,
    access: Access,
}

/// A list of objects that is being read.
#[expect(unreachable_pub, reason = "the bindings export the types of their resources again")]
pub struct Names {
    blobs: Arc<dyn Blobs>,
    collection: Collection,
    after: Option<String>,
    ready: VecDeque<String>,
    more: bool,
}

/// An object to be. It gets its place when it is finished.
#[derive(Default)]
#[expect(unreachable_pub, reason = "the bindings export the types of their resources again")]
pub struct Outgoing {
    sink: Option<Arc<Mutex<Sink>>>,
    place: Option<(Container, String)>,
}

/// Part of an object.
#[expect(unreachable_pub, reason = "the bindings export the types of their resources again")]
pub struct Incoming {
    reader: Arc<dyn BlobReader>,
    start: u64,
    end: u64,
    held: Held,
}

type Said<T> = Result<Result<T, String>>;

/// Goes on when it is fine, else tells the guest.
macro_rules! tell {
    ($result:expr) => {
        match $result {
            Ok(fine) => fine,
            Err(error) => return Ok(Err(error.to_string())),
        }
    };
}

/// A store's refusal, as a guest is told.
struct Told(String);

impl From<StoreError> for Told {
    fn from(error: StoreError) -> Self {
        Self(told(&error))
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn refuse(caller: &Caller, container: &str, access: Access) -> Told {
    let container = quoted(container);
    let (asked, access) = match access {
        Access::Read => (format!("open {container}"), "read"),
        Access::Write => (format!("write {container}"), "write"),
    };
    let line = format!(r#""wasi:blobstore" = [{{ container = {container}, access = "{access}" }}]"#);
    caller.refused("wasi:blobstore", &asked, &line);
    Told(format!("access denied: {asked}"))
}

impl Called<'_> {
    /// The container as far as it was granted, whether there is one or not.
    fn granted(&self, name: &str, access: Access) -> Result<Container, Told> {
        let grant = self.caller.grants().blobstore.iter().find(|grant| grant.container == name);
        let Some(grant) = grant.filter(|grant| grant.access >= access) else {
            return Err(refuse(self.caller, name, access));
        };
        let Some(blobs) = &self.caller.backends().stores.blobs else {
            return Err(Told("this host has no blob store".into()));
        };
        let collection = self.caller.collection(name)?;
        let caller = Arc::clone(self.caller);
        Ok(Container { caller, blobs: Arc::clone(blobs), collection, access: grant.access })
    }

    fn container(&self, container: &Resource<Container>) -> Result<Container> {
        Ok(self.table.get(container)?.clone())
    }

    /// Counts one more opened object.
    fn hold(&self) -> Result<Held, Told> {
        let max = self.caller.authority().outside.open_files;
        Held::one(&self.caller.open_objects, max).ok_or_else(|| {
            self.caller.spent("open-files", u64::from(max));
            Told(format!("open-files: the component holds {max} objects open"))
        })
    }
}

impl Container {
    fn check_write(&self) -> Result<(), Told> {
        if self.access == Access::Write {
            return Ok(());
        }
        Err(refuse(&self.caller, self.collection.name(), Access::Write))
    }

    async fn exists(&self) -> Result<Option<SystemTime>, Told> {
        Ok(self.blobs.container(&self.collection).await?)
    }

    async fn require(&self) -> Result<SystemTime, Told> {
        let missing = || Told(format!("there is no container {}", quoted(self.collection.name())));
        self.exists().await?.ok_or_else(missing)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl blobstore::Host for Called<'_> {
    async fn create_container(&mut self, name: String) -> Said<Resource<Container>> {
        let container = tell!(self.granted(&name, Access::Write));
        tell!(container.blobs.create_container(&container.collection).await.map_err(Told::from));
        Ok(Ok(self.table.push(container)?))
    }

    async fn get_container(&mut self, name: String) -> Said<Resource<Container>> {
        let container = tell!(self.granted(&name, Access::Read));
        tell!(container.require().await);
        Ok(Ok(self.table.push(container)?))
    }

    async fn delete_container(&mut self, name: String) -> Said<()> {
        let container = tell!(self.granted(&name, Access::Write));
        tell!(container.blobs.delete_container(&container.collection).await.map_err(Told::from));
        Ok(Ok(()))
    }

    async fn container_exists(&mut self, name: String) -> Said<bool> {
        let container = tell!(self.granted(&name, Access::Read));
        Ok(Ok(tell!(container.exists().await).is_some()))
    }

    async fn copy_object(&mut self, from: types::ObjectId, to: types::ObjectId) -> Said<()> {
        let source = tell!(self.granted(&from.container, Access::Read));
        let target = tell!(self.granted(&to.container, Access::Write));
        let copied = source.blobs.copy((&source.collection, from.object), (&target.collection, to.object));
        tell!(copied.await.map_err(Told::from));
        Ok(Ok(()))
    }

    async fn move_object(&mut self, from: types::ObjectId, to: types::ObjectId) -> Said<()> {
        let source = tell!(self.granted(&from.container, Access::Write));
        let target = tell!(self.granted(&to.container, Access::Write));
        if (&from.container, &from.object) == (&to.container, &to.object) {
            tell!(source.blobs.info(&source.collection, from.object).await.map_err(Told::from));
            return Ok(Ok(()));
        }
        let copied =
            source.blobs.copy((&source.collection, from.object.clone()), (&target.collection, to.object));
        tell!(copied.await.map_err(Told::from));
        tell!(source.blobs.delete(&source.collection, vec![from.object]).await.map_err(Told::from));
        Ok(Ok(()))
    }
}

impl container::Host for Called<'_> {}
impl types::Host for Called<'_> {}

impl container::HostContainer for Called<'_> {
    async fn name(&mut self, container: Resource<Container>) -> Said<String> {
        Ok(Ok(self.container(&container)?.collection.name().to_owned()))
    }

    async fn info(&mut self, container: Resource<Container>) -> Said<types::ContainerMetadata> {
        let container = self.container(&container)?;
        let created_at = seconds(tell!(container.require().await));
        Ok(Ok(types::ContainerMetadata { name: container.collection.name().to_owned(), created_at }))
    }

    async fn get_data(
        &mut self,
        container: Resource<Container>,
        name: String,
        start: u64,
        end: u64,
    ) -> Said<Resource<Incoming>> {
        let container = self.container(&container)?;
        if start > end {
            return Ok(Err(format!("the part begins at {start} and ends at {end}")));
        }
        let held = tell!(self.hold());
        let reader = tell!(container.blobs.open(&container.collection, name).await.map_err(Told::from));
        // Both ends are part of it; past the end of the object there is nothing.
        let end = end.saturating_add(1).min(reader.size());
        let incoming = Incoming { start: start.min(end), end, reader: Arc::from(reader), held };
        Ok(Ok(self.table.push(incoming)?))
    }

    async fn write_data(
        &mut self,
        container: Resource<Container>,
        name: String,
        data: Resource<Outgoing>,
    ) -> Said<()> {
        let container = self.container(&container)?;
        tell!(container.check_write());
        tell!(container.require().await);
        let outgoing = self.table.get_mut(&data)?;
        if outgoing.place.is_some() {
            return Ok(Err("the value has a place already".into()));
        }
        outgoing.place = Some((container, name));
        Ok(Ok(()))
    }

    async fn list_objects(&mut self, container: Resource<Container>) -> Said<Resource<Names>> {
        let Container { blobs, collection, .. } = self.container(&container)?;
        let names = Names { blobs, collection, after: None, ready: VecDeque::new(), more: true };
        Ok(Ok(self.table.push(names)?))
    }

    async fn delete_object(&mut self, container: Resource<Container>, name: String) -> Said<()> {
        self.delete_objects(container, vec![name]).await
    }

    async fn delete_objects(&mut self, container: Resource<Container>, names: Vec<String>) -> Said<()> {
        let container = self.container(&container)?;
        tell!(container.check_write());
        tell!(container.blobs.delete(&container.collection, names).await.map_err(Told::from));
        Ok(Ok(()))
    }

    async fn has_object(&mut self, container: Resource<Container>, name: String) -> Said<bool> {
        let container = self.container(&container)?;
        match container.blobs.info(&container.collection, name).await {
            Ok(_) => Ok(Ok(true)),
            Err(StoreError::Missing(_)) => Ok(Ok(false)),
            Err(error) => Ok(Err(told(&error))),
        }
    }

    async fn object_info(
        &mut self,
        container: Resource<Container>,
        name: String,
    ) -> Said<types::ObjectMetadata> {
        let container = self.container(&container)?;
        let info = tell!(container.blobs.info(&container.collection, name.clone()).await.map_err(Told::from));
        Ok(Ok(types::ObjectMetadata {
            name,
            container: container.collection.name().to_owned(),
            created_at: seconds(info.created),
            size: info.size,
        }))
    }

    async fn clear(&mut self, container: Resource<Container>) -> Said<()> {
        let container = self.container(&container)?;
        tell!(container.check_write());
        tell!(container.blobs.clear(&container.collection).await.map_err(Told::from));
        Ok(Ok(()))
    }

    async fn drop(&mut self, container: Resource<Container>) -> Result<()> {
        self.table.delete(container)?;
        Ok(())
    }
}

impl Names {
    /// At most `count` names, and whether the list is at its end.
    async fn take(&mut self, count: usize) -> Result<(Vec<String>, bool), StoreError> {
        while self.ready.len() < count && self.more {
            let page = self.blobs.list(&self.collection, self.after.take()).await?;
            self.after = page.names.last().cloned();
            self.more = page.more;
            self.ready.extend(page.names);
        }
        let taken = self.ready.drain(..count.min(self.ready.len())).collect();
        Ok((taken, self.ready.is_empty() && !self.more))
    }
}

impl container::HostStreamObjectNames for Called<'_> {
    async fn read_stream_object_names(
        &mut self,
        names: Resource<Names>,
        count: u64,
    ) -> Said<(Vec<String>, bool)> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(PAGE_NAMES_MAX);
        Ok(Ok(tell!(self.table.get_mut(&names)?.take(count).await.map_err(Told::from))))
    }

    async fn skip_stream_object_names(&mut self, names: Resource<Names>, count: u64) -> Said<(u64, bool)> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(PAGE_NAMES_MAX);
        let (skipped, end) = tell!(self.table.get_mut(&names)?.take(count).await.map_err(Told::from));
        Ok(Ok((skipped.len() as u64, end)))
    }

    async fn drop(&mut self, names: Resource<Names>) -> Result<()> {
        self.table.delete(names)?;
        Ok(())
    }
}

impl types::HostOutgoingValue for Called<'_> {
    async fn new_outgoing_value(&mut self) -> Result<Resource<Outgoing>> {
        Ok(self.table.push(Outgoing::default())?)
    }

    async fn outgoing_value_write_body(
        &mut self,
        value: Resource<Outgoing>,
    ) -> Result<Result<Resource<DynOutputStream>, ()>> {
        if self.table.get(&value)?.sink.is_some() {
            return Ok(Err(()));
        }
        let Ok(held) = self.hold() else { return Ok(Err(())) };
        let Ok(sink) = begin(Arc::clone(self.caller), held).await else { return Ok(Err(())) };
        self.table.get_mut(&value)?.sink = Some(Arc::clone(&sink));
        let stream: DynOutputStream = Box::new(SinkStream(sink));
        Ok(Ok(self.table.push_child(stream, &value)?))
    }

    async fn finish(&mut self, value: Resource<Outgoing>) -> Said<()> {
        // The table refuses while the stream is there, as the interface has it.
        let Outgoing { sink, place } = self.table.delete(value)?;
        let Some((container, name)) = place else {
            return Ok(Err("the value was not given a place with `write-data`".into()));
        };
        let sink = match sink {
            Some(sink) => sink,
            None => tell!(begin(Arc::clone(self.caller), tell!(self.hold())).await),
        };
        poll_fn(|context| lock(&sink).poll_ready(context)).await;
        let (writer, failed) = {
            let mut sink = lock(&sink);
            (sink.writer.take(), sink.failed.take())
        };
        if let Some(error) = failed {
            return Ok(Err(told(&error)));
        }
        let Some(writer) = writer else { return Ok(Err("the value is finished".into())) };
        tell!(writer.place(&container.collection, name).await.map_err(Told::from));
        Ok(Ok(()))
    }

    async fn drop(&mut self, value: Resource<Outgoing>) -> Result<()> {
        self.table.delete(value)?;
        Ok(())
    }
}

impl types::HostIncomingValue for Called<'_> {
    async fn incoming_value_consume_sync(&mut self, value: Resource<Incoming>) -> Said<Vec<u8>> {
        let Incoming { reader, mut start, end, held: _held } = self.table.delete(value)?;
        let size = end - start;
        if size > WHOLE_BYTES_MAX {
            return Ok(Err(format!("{size} bytes are more than {WHOLE_BYTES_MAX}: read them as a stream")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size)?);
        while start < end {
            let more = tell!(reader.read(start, usize::try_from(end - start)?).await.map_err(Told::from));
            if more.is_empty() {
                return Ok(Err("the object ends early".into()));
            }
            start += more.len() as u64;
            bytes.extend(more);
        }
        Ok(Ok(bytes))
    }

    async fn incoming_value_consume_async(
        &mut self,
        value: Resource<Incoming>,
    ) -> Said<Resource<DynInputStream>> {
        let Incoming { reader, start, end, held } = self.table.delete(value)?;
        let source =
            Source { reader, at: start, end, ready: Bytes::new(), pending: None, failed: None, _held: held };
        let stream: DynInputStream = Box::new(source);
        Ok(Ok(self.table.push(stream)?))
    }

    async fn size(&mut self, value: Resource<Incoming>) -> Result<u64> {
        let value = self.table.get(&value)?;
        Ok(value.end - value.start)
    }

    async fn drop(&mut self, value: Resource<Incoming>) -> Result<()> {
        self.table.delete(value)?;
        Ok(())
    }
}

async fn begin(caller: Arc<Caller>, held: Held) -> Result<Arc<Mutex<Sink>>, Told> {
    let Some(blobs) = &caller.backends().stores.blobs else {
        return Err(Told("this host has no blob store".into()));
    };
    let writer = Some(blobs.create().await?);
    Ok(Arc::new(Mutex::new(Sink { writer, pending: None, failed: None, _held: held })))
}

fn lock(sink: &Arc<Mutex<Sink>>) -> MutexGuard<'_, Sink> {
    sink.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An object that is being written, shared by the value and its stream. One write is under way at most.
struct Sink {
    writer: Option<Box<dyn BlobWriter>>,
    pending: Option<Pending<()>>,
    failed: Option<StoreError>,
    _held: Held,
}

impl Sink {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(pending) = &mut self.pending else { return Poll::Ready(()) };
        let Poll::Ready(written) = pending.as_mut().poll(context) else { return Poll::Pending };
        self.pending = None;
        self.failed = written.err();
        Poll::Ready(())
    }

    /// Whether it takes a chunk now.
    fn state(&mut self) -> StreamResult<bool> {
        let idle = self.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready();
        match &self.failed {
            Some(error) => Err(StreamError::LastOperationFailed(wasmtime::Error::msg(told(error)))),
            None if self.writer.is_none() => Err(StreamError::Closed),
            None => Ok(idle),
        }
    }
}

struct SinkStream(Arc<Mutex<Sink>>);

#[wasmtime_wasi::async_trait]
impl Pollable for SinkStream {
    async fn ready(&mut self) {
        poll_fn(|context| lock(&self.0).poll_ready(context)).await;
    }
}

impl OutputStream for SinkStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut sink = lock(&self.0);
        if bytes.len() > CHUNK_BYTES || !sink.state()? {
            return Err(StreamError::trap("a write that `check-write` did not permit"));
        }
        if let Some(writer) = sink.writer.as_mut().filter(|_| !bytes.is_empty()) {
            sink.pending = Some(writer.write(bytes.to_vec()));
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        // What is under way is waited for by `check-write`; what is written is durable when the value is finished.
        lock(&self.0).state().map(|_| ())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(if lock(&self.0).state()? { CHUNK_BYTES } else { 0 })
    }
}

/// Part of an object that is being read.
struct Source {
    reader: Arc<dyn BlobReader>,
    at: u64,
    end: u64,
    ready: Bytes,
    pending: Option<Pending<Vec<u8>>>,
    failed: Option<StoreError>,
    _held: Held,
}

impl Source {
    /// Reads on, unless something is there to be taken.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.ready.is_empty() || self.failed.is_some() || self.at >= self.end {
            return Poll::Ready(());
        }
        let Self { reader, at, end, pending, .. } = self;
        let length = usize::try_from(*end - *at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let pending = pending.get_or_insert_with(|| reader.read(*at, length));
        let Poll::Ready(read) = pending.as_mut().poll(context) else { return Poll::Pending };
        self.pending = None;
        match read {
            Ok(bytes) if bytes.is_empty() => {
                self.failed = Some(StoreError::Failed("the object ends early".into()));
            }
            Ok(bytes) => {
                self.at += bytes.len() as u64;
                self.ready = bytes.into();
            }
            Err(error) => self.failed = Some(error),
        }
        Poll::Ready(())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Source {
    async fn ready(&mut self) {
        poll_fn(|context| self.poll_more(context)).await;
    }
}

impl InputStream for Source {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.poll_more(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Ok(Bytes::new());
        }
        if let Some(error) = self.failed.take() {
            self.end = self.at;
            return Err(StreamError::LastOperationFailed(wasmtime::Error::msg(told(&error))));
        }
        if self.ready.is_empty() {
            return Err(StreamError::Closed);
        }
        Ok(self.ready.split_to(size.min(self.ready.len())))
    }
}
