//! A `stream<u8>` that a function returns, read while the function runs on.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender, channel};
use tokio::sync::oneshot;
use wasmtime::component::{Accessor, Source, StreamConsumer, StreamReader, StreamResult, Val};
use wasmtime::{Error, StoreContextMut};

use crate::host::Host;

/// Pieces that wait for the client; the guest waits when there are as many.
const PIECES_MAX: usize = 2;
/// Bytes of one piece.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The stream that a function returned, alone or as the good side of a `result`; `None` when there is none.
pub(super) fn take(results: &[Val]) -> Result<Option<StreamReader<u8>>, Error> {
    let found = match results {
        [Val::Stream(stream)] => stream,
        [Val::Result(Ok(Some(payload)))] => match &**payload {
            Val::Stream(stream) => stream,
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    found.clone().try_into_stream_reader::<u8>().map(Some)
}

/// Begins to read. The second value is there once the stream has ended, whoever ended it.
pub(super) fn open(accessor: &Accessor<Host>, reader: StreamReader<u8>) -> Result<(Chunks, Ended), Error> {
    let (sender, receiver) = channel(PIECES_MAX);
    let (open, ended) = oneshot::channel();
    accessor.with(|access| reader.pipe(access, Pieces { sender, reserving: None, _open: open }))?;
    Ok((Chunks(receiver), Ended(ended)))
}

/// Waits for the end of a stream.
pub(crate) struct Ended(oneshot::Receiver<()>);

impl Ended {
    /// The function may have returned long before it has written everything.
    pub(crate) async fn wait(self) {
        // Nothing is ever sent: the other half goes away with the stream.
        let _ = self.0.await;
    }
}

/// The whole stream, if it has at most `bytes_max`.
pub(super) async fn whole(mut chunks: Chunks, bytes_max: u64) -> Result<Bytes, String> {
    let mut whole = BytesMut::new();
    while let Some(piece) = chunks.0.recv().await {
        if (whole.len() + piece.len()) as u64 > bytes_max {
            return Err(super::answer::too_long(bytes_max));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// What was read: a body.
pub(super) struct Chunks(Receiver<Bytes>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

type Reserving = Pin<Box<dyn Future<Output = Result<OwnedPermit<Bytes>, SendError<()>>> + Send>>;

/// Takes the pieces of a stream as they are written, when there is room for one.
struct Pieces {
    sender: Sender<Bytes>,
    reserving: Option<Reserving>,
    _open: oneshot::Sender<()>,
}

impl StreamConsumer<Host> for Pieces {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, Host>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<Result<StreamResult, Error>> {
        let this = &mut *self;
        let reserving = this.reserving.get_or_insert_with(|| Box::pin(this.sender.clone().reserve_owned()));
        let reserved = match reserving.as_mut().poll(context) {
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(reserved) => reserved,
        };
        this.reserving = None;
        // Nobody reads any more: the client has gone.
        let Ok(permit) = reserved else { return Poll::Ready(Ok(StreamResult::Dropped)) };
        let mut source = source.as_direct(store);
        let written = source.remaining();
        let taken = written.len().min(PIECE_BYTES_MAX);
        if taken > 0 {
            permit.send(Bytes::copy_from_slice(&written[..taken]));
            source.mark_read(taken);
        }
        Poll::Ready(Ok(StreamResult::Completed))
    }
}
