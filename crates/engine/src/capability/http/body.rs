//! A response's body that counts what passes and does not wait for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error;

/// A response's body that ends with an error at its limit, or when nothing comes for too long.
pub(super) struct BoundedResponse {
    body: Incoming,
    left_bytes: u64,
    limit_bytes: u64,
    between_bytes: Duration,
    /// Set while it waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl BoundedResponse {
    pub(super) fn new(body: Incoming, limit_bytes: u64, between_bytes: Duration) -> Self {
        Self { body, left_bytes: limit_bytes, limit_bytes, between_bytes, deadline: None }
    }
}

impl Body for BoundedResponse {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => {
                this.deadline = None;
                let Some(frame) = frame else { return Poll::Ready(None) };
                let frame = frame.map_err(|error| super::hyper_error(&error))?;
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left_bytes.checked_sub(bytes) {
                    Some(left) => this.left_bytes = left,
                    None => {
                        return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(this.limit_bytes)))));
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                let at = Instant::now() + this.between_bytes;
                let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                deadline.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)))
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
