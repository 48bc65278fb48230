//! What is known of one connection: whether bytes move, and which responses are not taken yet.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tenon_engine::{Body, BodyError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::admit::Admitted;

/// How often a connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// One connection, as its stream, its responses and its watch see it.
#[derive(Debug, Default)]
pub struct Wire {
    moved: AtomicBool,
    untaken: Mutex<Untaken>,
}

/// Responses that clients have begun to take, by when they have to be done.
#[derive(Debug, Default)]
struct Untaken {
    next: u64,
    until: BTreeMap<(Instant, u64), ()>,
}

impl Wire {
    fn untaken(&self) -> MutexGuard<'_, Untaken> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when no byte has moved for `idle`, or a client has not taken its response in time.
    pub(crate) async fn stalled(self: Arc<Self>, idle: Duration) {
        let every = LOOK_EVERY.min(idle);
        let mut still = Duration::ZERO;
        while still < idle {
            tokio::time::sleep(every).await;
            let overdue = self
                .untaken()
                .until
                .first_key_value()
                .is_some_and(|((until, _), ())| *until < Instant::now());
            if overdue {
                return;
            }
            still = if self.moved.swap(false, Relaxed) { Duration::ZERO } else { still + every };
        }
    }
}

/// A stream that tells its wire when bytes move.
pub(crate) struct Watched<S> {
    stream: S,
    wire: Arc<Wire>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, wire: Arc<Wire>) -> Self {
        Self { stream, wire }
    }

    fn moved(&self, polled: &Poll<io::Result<usize>>) {
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.wire.moved.store(true, Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.wire.moved.store(true, Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.moved(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.moved(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A response's body on its way to the client. Until the client has taken it, its request counts as running; a
/// client that takes longer than the request had loses its connection.
pub struct Reply {
    body: Body,
    admitted: Option<Admitted>,
    wire: Arc<Wire>,
    until: Instant,
    /// Its entry among the wire's untaken responses: made when it is not gone after its first frame.
    entry: Option<(Instant, u64)>,
    polled: bool,
}

impl Reply {
    pub(crate) fn new(body: Body, admitted: Option<Admitted>, wire: Arc<Wire>, until: Instant) -> Self {
        Self { body, admitted, wire, until, entry: None, polled: false }
    }

    fn enter(&mut self) {
        if self.polled && self.entry.is_none() {
            let mut untaken = self.wire.untaken();
            untaken.next += 1;
            let entry = (self.until, untaken.next);
            untaken.until.insert(entry, ());
            drop(untaken);
            self.entry = Some(entry);
        }
        self.polled = true;
    }
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.enter();
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.admitted = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            self.wire.untaken().until.remove(&entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_nothing_stalls_and_one_that_moves_does_not() {
        let wire = Arc::new(Wire::default());
        let stalled = tokio::spawn(Arc::clone(&wire).stalled(Duration::from_secs(30)));
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            wire.moved.store(true, Relaxed);
        }
        assert!(!stalled.is_finished());
        tokio::time::timeout(Duration::from_secs(41), stalled).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_taken_in_time_stalls_its_connection() {
        let wire = Arc::new(Wire::default());
        let mut reply = Reply::new(Body::whole(vec![0; 1 << 20]), None, Arc::clone(&wire), Instant::now());
        for _ in 0..2 {
            assert!(std::future::poll_fn(|context| Pin::new(&mut reply).poll_frame(context)).await.is_some());
        }
        let keeps_moving = async {
            loop {
                wire.moved.store(true, Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = Arc::clone(&wire).stalled(Duration::from_secs(30)) => {}
            () = keeps_moving => {}
        }
        drop(reply);
        assert!(wire.untaken().until.is_empty());
    }
}
