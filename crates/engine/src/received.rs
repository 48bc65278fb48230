//! A request's body on its way to the guest, counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming as Received;
use wasmtime_wasi_http::Error;

use crate::respond::Watch;

/// A body that ends in an error once it is larger than it may be.
pub(crate) struct Counted {
    body: Received,
    limit_bytes: u64,
    left_bytes: u64,
    watch: Arc<Watch>,
}

impl Counted {
    pub(crate) fn new(body: Received, limit_bytes: u64, watch: Arc<Watch>) -> Self {
        Self { body, limit_bytes, left_bytes: limit_bytes, watch }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end.map(|frame| frame.map_err(Error::from))),
        };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.left_bytes.checked_sub(bytes) {
            Some(left) => {
                self.left_bytes = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                self.left_bytes = 0;
                self.watch.request_too_large.store(true, Relaxed);
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
