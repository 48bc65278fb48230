//! A stream that a function returns, read while the function runs on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use serde_json::Value;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{OwnedPermit, Receiver, Sender, channel};
use tokio::sync::oneshot;
use wasmtime::component::{Accessor, Source, StreamConsumer, StreamReader, StreamResult, Type};
use wasmtime::{AsContextMut, Error, StoreContextMut};

use super::answer::Unsent;
use crate::host::Host;
use crate::transmit::{Sink, pipe};
use crate::value::{Val, to_json};

/// Pieces that wait for the client; the guest waits when there are as many.
const PIECES_MAX: usize = 2;
/// Bytes of one piece.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The stream that a function returned, alone or as the good side of a `result`; `None` when there is none.
pub(super) fn of(result: Option<&Val>) -> Option<Val> {
    match result? {
        stream @ Val::Stream(_) => Some(stream.clone()),
        Val::Result(Ok(Some(payload))) if matches!(**payload, Val::Stream(_)) => Some((**payload).clone()),
        _ => None,
    }
}

/// Begins to read a stream of bytes. The second value is there once the stream has ended, whoever ended it.
pub(super) fn octets(accessor: &Accessor<Host>, stream: Val) -> Result<(Chunks, Ended), Error> {
    let Val::Stream(stream) = stream else { return Err(Error::msg("it is not a stream")) };
    let reader: StreamReader<u8> = stream.try_into_stream_reader()?;
    let (sender, chunks, ended) = channels();
    accessor.with(|access| reader.pipe(access, Pieces(sender)))?;
    Ok((chunks, ended))
}

/// Begins to read another stream, of the type `ty`, as lines of JSON.
pub(super) fn lines(accessor: &Accessor<Host>, stream: Val, ty: &Type) -> Result<(Chunks, Ended), Error> {
    let element = match ty {
        Type::Stream(stream) => stream.ty(),
        _ => None,
    };
    let (sender, chunks, ended) = channels();
    let lines = Lines { sender, permit: None, element };
    accessor.with(|mut access| pipe(access.as_context_mut(), stream, ty, lines)).map_err(Error::msg)?;
    Ok((chunks, ended))
}

fn channels() -> (Reserve, Chunks, Ended) {
    let (sender, receiver) = channel(PIECES_MAX);
    let (open, ended) = oneshot::channel();
    (Reserve { sender, reserving: None, _open: open }, Chunks(receiver), Ended(ended))
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
pub(super) async fn whole(mut chunks: Chunks, bytes_max: u64) -> Result<Bytes, Unsent> {
    let mut whole = BytesMut::new();
    while let Some(piece) = chunks.0.recv().await {
        if (whole.len() + piece.len()) as u64 > bytes_max {
            return Err(Unsent::TooLong);
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

/// Room in a response's body.
struct Reserve {
    sender: Sender<Bytes>,
    reserving: Option<Reserving>,
    _open: oneshot::Sender<()>,
}

impl Reserve {
    /// Room for one piece; `None` when nobody reads any more, because the client has gone.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<OwnedPermit<Bytes>>> {
        let reserving = self.reserving.get_or_insert_with(|| Box::pin(self.sender.clone().reserve_owned()));
        let reserved = ready!(reserving.as_mut().poll(context));
        self.reserving = None;
        Poll::Ready(reserved.ok())
    }
}

/// Takes the pieces of a stream of bytes as they are written, when there is room for one.
struct Pieces(Reserve);

impl StreamConsumer<Host> for Pieces {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, Host>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<Result<StreamResult, Error>> {
        let permit = match self.0.poll(context) {
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Ready(Some(permit)) => permit,
        };
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

/// Takes the elements of a stream as they are written, each as a line of JSON, when there is room for a piece.
struct Lines {
    sender: Reserve,
    permit: Option<OwnedPermit<Bytes>>,
    element: Option<Type>,
}

impl Sink for Lines {
    // What they have together is bounded by what the guest may have copied in one go.
    const ELEMENTS_MAX: usize = 256;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.permit.is_none() {
            self.permit = ready!(self.sender.poll(context));
        }
        Poll::Ready(self.permit.is_some())
    }

    fn take(&mut self, elements: Val) -> bool {
        let (Some(permit), Val::List(elements)) = (self.permit.take(), elements) else { return false };
        let mut lines = String::new();
        for element in elements {
            let value = self.element.as_ref().map_or(Value::Null, |ty| to_json(&element, ty));
            lines.push_str(&value.to_string());
            lines.push('\n');
        }
        permit.send(lines.into());
        true
    }
}
