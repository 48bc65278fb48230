//! A request's body on its way to or from the guest, counted.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use wasmtime_wasi_http::Error;

use crate::respond::Watch;

/// A request's body on its way in, wherever it comes from.
pub struct Received {
    source: Source,
    tap: Option<Arc<dyn Tap>>,
}

enum Source {
    Wire(Incoming),
    Whole(Bytes),
    /// From a wire that hyper does not serve.
    Other(Pin<Box<dyn Body<Data = Bytes, Error = Broken> + Send + Sync>>),
}

/// Told of every piece of a body that passes.
pub trait Tap: Send + Sync + 'static {
    /// This piece has passed.
    fn passed(&self, piece: &Bytes);
    /// Nothing comes after what has passed.
    fn ended(&self);
}

/// A body could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ReceivedError(Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Wire(#[from] hyper::Error),
    #[error(transparent)]
    Other(#[from] Broken),
}

/// What a body ends in when its client or the connection breaks it off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The client took it back, or the connection is gone.
    #[error("the client ended it early: {0}")]
    Ended(String),
    /// It is not what the protocol says that it has to be.
    #[error("it breaks the protocol: {0}")]
    Malformed(&'static str),
}

impl From<ReceivedError> for Error {
    fn from(error: ReceivedError) -> Self {
        match error.0 {
            Cause::Wire(error) => error.into(),
            Cause::Other(Broken::Ended(_)) => Self::ConnectionTerminated,
            Cause::Other(Broken::Malformed(_)) => Self::HttpProtocolError,
        }
    }
}

impl From<Incoming> for Received {
    fn from(body: Incoming) -> Self {
        Self { source: Source::Wire(body), tap: None }
    }
}

impl Received {
    /// A body that is all there.
    pub fn whole(bytes: Bytes) -> Self {
        Self { source: Source::Whole(bytes), tap: None }
    }

    /// A body that comes over a wire which hyper does not serve.
    pub fn streamed(body: impl Body<Data = Bytes, Error = Broken> + Send + Sync + 'static) -> Self {
        Self { source: Source::Other(Box::pin(body)), tap: None }
    }

    /// The same, telling `tap` what passes.
    #[must_use]
    pub fn tapped(self, tap: Arc<dyn Tap>) -> Self {
        Self { tap: Some(tap), ..self }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = ReceivedError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceivedError>>> {
        let Self { source, tap } = &mut *self;
        let polled = match source {
            Source::Wire(body) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                frame.map(|frame| frame.map_err(Cause::from))
            }
            Source::Whole(bytes) if bytes.is_empty() => None,
            Source::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Source::Other(body) => {
                let frame = ready!(body.as_mut().poll_frame(context));
                frame.map(|frame| frame.map_err(Cause::from))
            }
        };
        if let Some(tap) = tap {
            match &polled {
                Some(Ok(frame)) => {
                    if let Some(piece) = frame.data_ref() {
                        tap.passed(piece);
                    }
                }
                Some(Err(_)) => {}
                None => tap.ended(),
            }
        }
        Poll::Ready(polled.map(|frame| frame.map_err(ReceivedError)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Wire(body) => body.is_end_stream(),
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Wire(body) => body.size_hint(),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Other(body) => body.size_hint(),
        }
    }
}

/// A request's body that its request lends to the guest: it can be taken away, wherever the guest has put it.
pub(crate) struct Lent(Arc<Watch>);

impl Lent {
    pub(crate) fn new(body: Received, watch: &Arc<Watch>) -> Self {
        *watch.request.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        Self(Arc::clone(watch))
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Received) -> T) -> Option<T> {
        // Only the guest reads it: the lock is never waited for, but for the moment in which it is taken away.
        self.0.request.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(ask)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.cut_off_request();
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.with(|body| Pin::new(body).poll_frame(context)) {
            Some(polled) => polled.map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            None => Poll::Ready(Some(Err(Error::ConnectionTerminated))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream()).unwrap_or_default()
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint()).unwrap_or_default()
    }
}

/// A request's body that ends in an error once it is larger than it may be.
pub(crate) struct Counted<B> {
    body: B,
    limit_bytes: u64,
    left_bytes: u64,
    /// Who else is told that it was.
    watch: Option<Arc<Watch>>,
}

impl<B> Counted<B> {
    pub(crate) fn new(body: B, limit_bytes: u64) -> Self {
        Self { body, limit_bytes, left_bytes: limit_bytes, watch: None }
    }

    /// The same, telling `watch` when it is too large.
    pub(crate) fn watched(self, watch: Arc<Watch>) -> Self {
        Self { watch: Some(watch), ..self }
    }
}

impl<B: Body<Data = Bytes, Error: Into<Error>> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end.map(|frame| frame.map_err(Into::into))),
        };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left_bytes.checked_sub(bytes) {
            Some(left) => {
                self.left_bytes = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                self.left_bytes = 0;
                if let Some(watch) = &self.watch {
                    watch.request_too_large.store(true, Relaxed);
                }
                Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(self.limit_bytes)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
