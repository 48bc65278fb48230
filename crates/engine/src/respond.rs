//! What comes back from a guest, and what it cost.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::Notify;

use crate::failure::Failure;
use crate::received::Received;

/// A response body: whole, or streamed by a guest that is still running.
pub struct Body(Inner);

enum Inner {
    Whole(Bytes),
    Guest(GuestBody),
}

/// A body that a guest writes while it is read.
struct GuestBody {
    body: wasmtime_wasi_http::WasiBody,
    left_bytes: u64,
    /// Bytes that are still to come, where the response's head said how many there are.
    announced_bytes: Option<u64>,
    ended: bool,
    watch: Arc<Watch>,
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        // Whoever sends a body of known length need not ask for its end.
        if !(self.ended || self.announced_bytes == Some(0) || self.body.is_end_stream()) {
            self.watch.abandoned.store(true, Relaxed);
        }
        self.watch.body_over.store(true, Relaxed);
        self.watch.news.notify_one();
    }
}

/// What the bodies of a request and the run of its guest tell one another.
#[derive(Default)]
pub(crate) struct Watch {
    /// The request's body, while the guest may read it.
    pub(crate) request: Mutex<Option<Received>>,
    /// The response's body went away before its end: whoever asked is gone.
    pub(crate) abandoned: AtomicBool,
    /// The response's body is over, one way or the other.
    pub(crate) body_over: AtomicBool,
    /// Told when any of this changes, or an answer is given: one waits for it.
    pub(crate) news: Notify,
    /// The guest failed after its response was given: its body must not end as if it were whole, and the engine's own
    /// bodies end alike, whether it did or not.
    pub(crate) failed: AtomicBool,
    /// More of the response came than a response may have.
    pub(crate) response_too_large: AtomicBool,
    /// More of the request came than a request may have.
    pub(crate) request_too_large: AtomicBool,
}

impl Watch {
    /// Waits for the end of the response's body.
    pub(crate) async fn body_ends(&self) {
        while !self.body_over.load(Relaxed) {
            self.news.notified().await;
        }
    }

    /// Whether nothing was wrong with the request, nor with what was made of it.
    pub(crate) fn is_clean(&self) -> bool {
        let flags = [&self.failed, &self.abandoned, &self.response_too_large, &self.request_too_large];
        !flags.into_iter().any(|flag| flag.load(Relaxed))
    }

    /// Takes the request's body away from a guest that has kept it past the request's end: the connection must not
    /// wait for it.
    pub(crate) fn cut_off_request(&self) {
        drop(self.request.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
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

    /// A body that a guest writes, of at most `bytes_max`; of `announced_bytes`, if it said so.
    pub(crate) fn guest(
        body: wasmtime_wasi_http::WasiBody,
        bytes_max: u64,
        announced_bytes: Option<u64>,
        watch: Arc<Watch>,
    ) -> Self {
        Self(Inner::Guest(GuestBody { body, left_bytes: bytes_max, announced_bytes, ended: false, watch }))
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
            Inner::Guest(GuestBody { body, left_bytes, announced_bytes, ended, watch }) => {
                let polled = ready!(Pin::new(body).poll_frame(context));
                *ended = polled.is_none();
                let frame = match polled {
                    None if watch.failed.load(Relaxed) => Some(Err(BodyError("the guest failed".into()))),
                    frame => frame.map(|frame| frame.map_err(|error| BodyError(error.to_string()))),
                };
                if let Some(Ok(frame)) = &frame {
                    let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                    let Some(left) = left_bytes.checked_sub(bytes) else {
                        watch.response_too_large.store(true, Relaxed);
                        return Poll::Ready(Some(Err(BodyError("it is larger than it may be".into()))));
                    };
                    *left_bytes = left;
                    *announced_bytes = announced_bytes.map(|announced| announced.saturating_sub(bytes));
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Guest(GuestBody { body, watch, .. }) => {
                !watch.failed.load(Relaxed) && body.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Guest(guest) => guest.body.size_hint(),
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
    /// When it ended.
    pub ended: Instant,
    /// The id of the crash report, if one is written.
    pub crash: Option<Arc<str>>,
}

/// Told once about a request, however it ends: also when the client goes away.
pub type Recorder = Box<dyn FnOnce(Record) + Send>;
