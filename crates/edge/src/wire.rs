//! What is known of one connection: whether bytes move, and which responses are not taken yet.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tenon_engine::{Body, BodyError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ticket::Ticket;

/// How often a connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often, where connections have become scarce.
const LOOK_EVERY_SCARCE: Duration = Duration::from_secs(1);
/// Where they have, a connection without a request is closed after this time.
const IDLE_SCARCE: Duration = Duration::from_secs(2);

/// One connection, as its stream, its responses and its watch see it.
#[derive(Debug)]
pub struct Wire {
    /// Who is at the other end.
    pub(crate) client: IpAddr,
    /// Whether what passes is encrypted.
    pub(crate) secure: bool,
    moved: AtomicBool,
    /// Requests whose response is not taken yet.
    running: AtomicU32,
    /// Whether a request came since it was looked at.
    asked: AtomicBool,
    untaken: Mutex<Untaken>,
}

/// Responses that clients have begun to take, by when they have to be done.
#[derive(Debug, Default)]
struct Untaken {
    next: u64,
    until: BTreeMap<(Instant, u64), ()>,
}

impl Wire {
    pub(crate) fn new(client: IpAddr, secure: bool) -> Arc<Self> {
        Arc::new(Self {
            client,
            secure,
            moved: AtomicBool::new(false),
            running: AtomicU32::new(0),
            asked: AtomicBool::new(false),
            untaken: Mutex::default(),
        })
    }

    /// Bytes were read or written.
    pub(crate) fn has_moved(&self) {
        self.moved.store(true, Relaxed);
    }

    fn untaken(&self) -> MutexGuard<'_, Untaken> {
        self.untaken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when no byte has moved for `idle`, or a client has not taken its response in time. Where connections are scarce,
    /// also when it holds one without a request, whether bytes move or not.
    pub(crate) async fn stalled(self: Arc<Self>, idle: Duration, is_scarce: impl Fn() -> bool) {
        let (mut still, mut unused) = (Duration::ZERO, Duration::ZERO);
        while still < idle {
            let every = if is_scarce() { LOOK_EVERY_SCARCE } else { LOOK_EVERY }.min(idle);
            tokio::time::sleep(every).await;
            let is_used = self.asked.swap(false, Relaxed) || self.running.load(Relaxed) > 0;
            unused = if is_used { Duration::ZERO } else { unused + every };
            if unused >= IDLE_SCARCE && is_scarce() {
                return;
            }
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

/// A request of a connection, until its response is taken.
pub(crate) struct Running(Arc<Wire>);

impl Running {
    pub(crate) fn new(wire: &Arc<Wire>) -> Self {
        wire.asked.store(true, Relaxed);
        wire.running.fetch_add(1, Relaxed);
        Self(Arc::clone(wire))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
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
            self.wire.has_moved();
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
            self.wire.has_moved();
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
    ticket: Option<Arc<Ticket>>,
    running: Running,
    /// How long the client may take to take it.
    longest: Duration,
    /// Its entry among the wire's untaken responses: made when it is not gone after its first frame.
    entry: Option<(Instant, u64)>,
    polled: bool,
}

impl Reply {
    pub(crate) fn new(body: Body, ticket: Option<Arc<Ticket>>, running: Running, longest: Duration) -> Self {
        Self { body, ticket, running, longest, entry: None, polled: false }
    }

    fn enter(&mut self) {
        if self.polled && self.entry.is_none() {
            let mut untaken = self.running.0.untaken();
            untaken.next += 1;
            let entry = (Instant::now() + self.longest, untaken.next);
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
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(ticket), Some(piece)) = (&self.ticket, frame.data_ref()) {
                    ticket.sent(piece);
                    if self.body.is_end_stream() {
                        ticket.taken();
                    }
                }
            }
            Poll::Ready(None) => {
                if let Some(ticket) = self.ticket.take() {
                    ticket.taken();
                }
            }
            Poll::Ready(Some(Err(_))) => self.ticket = None,
            Poll::Pending => {}
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
            self.running.0.untaken().until.remove(&entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn wire() -> Arc<Wire> {
        Wire::new(Ipv4Addr::LOCALHOST.into(), false)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_nothing_stalls_and_one_that_moves_does_not() {
        let wire = wire();
        let stalled = tokio::spawn(Arc::clone(&wire).stalled(Duration::from_secs(30), || false));
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            wire.moved.store(true, Relaxed);
        }
        assert!(!stalled.is_finished());
        tokio::time::timeout(Duration::from_secs(41), stalled).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_taken_in_time_stalls_its_connection() {
        let wire = wire();
        let mut reply = Reply::new(Body::whole(vec![0; 1 << 20]), None, Running::new(&wire), Duration::ZERO);
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
            () = Arc::clone(&wire).stalled(Duration::from_secs(30), || false) => {}
            () = keeps_moving => {}
        }
        drop(reply);
        assert!(wire.untaken().until.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn where_connections_are_scarce_one_without_a_request_is_closed_soon() {
        let busy = wire();
        let reply = Reply::new(Body::whole("x"), None, Running::new(&busy), Duration::from_secs(99));
        let (unused, used) = (wire(), Arc::clone(&busy));
        let mut used = tokio::spawn(used.stalled(Duration::from_secs(30), || true));
        let trickles = async {
            loop {
                unused.moved.store(true, Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let began = tokio::time::Instant::now();
        tokio::select! {
            () = Arc::clone(&unused).stalled(Duration::from_secs(30), || true) => {}
            () = trickles => {}
            _ = &mut used => unreachable!("it has a request"),
        }
        assert!(began.elapsed() <= Duration::from_secs(4));
        drop(reply);
        tokio::time::timeout(Duration::from_secs(4), used).await.unwrap().unwrap();
    }
}
