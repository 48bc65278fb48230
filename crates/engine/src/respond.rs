//! What comes back from a guest, and what it cost.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;

use crate::failure::Failure;

/// A response body: whole, or streamed by a guest that is still running.
pub struct Body(Inner);

enum Inner {
    Whole(Full<Bytes>),
    Guest(wasmtime_wasi_http::WasiBody),
}

/// The guest's body ended early: the guest failed, or broke its own content-length.
#[derive(Debug, thiserror::Error)]
#[error("the response body ended early: {0}")]
pub struct BodyError(String);

impl Body {
    /// A body that is all there.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Whole(Full::new(bytes.into())))
    }

    pub(crate) fn guest(body: wasmtime_wasi_http::WasiBody) -> Self {
        Self(Inner::Guest(body))
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
            Inner::Whole(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Inner::Guest(body) => {
                Pin::new(body).poll_frame(context).map_err(|error| BodyError(error.to_string()))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(body) => body.is_end_stream(),
            Inner::Guest(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(body) => body.size_hint(),
            Inner::Guest(body) => body.size_hint(),
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
