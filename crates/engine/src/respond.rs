//! What comes back from a guest, and what it cost.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::failure::Failure;

/// A response body: whole, or streamed by a guest that is still running.
pub struct Body(Inner);

enum Inner {
    Whole(Bytes),
    /// The flag says that the guest failed: the engine's own bodies end alike, whether it did or not.
    Guest(wasmtime_wasi_http::WasiBody, Arc<AtomicBool>),
}

/// A whole body goes out in pieces of this size, so that what a client does not read is counted as unread.
const PIECE_BYTES: usize = 64 << 10;

/// The guest's body ended early: the guest failed, or broke its own content-length.
#[derive(Debug, thiserror::Error)]
#[error("the response body ended early: {0}")]
pub struct BodyError(String);

impl Body {
    /// A body that is all there.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Whole(bytes.into()))
    }

    pub(crate) fn guest(body: wasmtime_wasi_http::WasiBody, failed: Arc<AtomicBool>) -> Self {
        Self(Inner::Guest(body, failed))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Inner::Guest(body, failed) => match ready!(Pin::new(body).poll_frame(context)) {
                None if failed.load(Relaxed) => Poll::Ready(Some(Err(BodyError("the guest failed".into())))),
                frame => Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError(error.to_string())))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Guest(body, failed) => !failed.load(Relaxed) && body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Guest(body, _) => body.size_hint(),
        }
    }
}

/// What a request cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// Time from admission to the guest's end.
    pub wall: Duration,
    /// Time on the processor inside the guest and the host functions it called.
    pub cpu: Duration,
    /// The most linear memory it had, in bytes.
    pub memory_bytes: u64,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `Ok(true)`: the guest finished. `Ok(false)`: nobody waited for it any longer and it was stopped.
    /// A failure may come after the response's head was sent.
    pub outcome: Result<bool, Failure>,
    /// What it cost.
    pub bill: Bill,
}

/// Told once about every request, however it ends: also when the client goes away.
pub trait Recorder: Send + 'static {
    /// The request is over.
    fn record(self, record: Record);
}

impl<F: FnOnce(Record) + Send + 'static> Recorder for F {
    fn record(self, record: Record) {
        self(record);
    }
}
