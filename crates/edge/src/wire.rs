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

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// No request came for as long as one may be waited for. Its client is told first: one may be on its way.
    Unused,
    /// At once: no byte has moved for as long as a request may last, a client has not taken its response in time, or it holds
    /// a connection without a request where connections are scarce.
    Stalled,
}

/// Responses that clients have begun to take, by when they have to be done.
#[derive(Debug, Default)]
struct Untaken {
    next: u64,
    until: BTreeMap<(Instant, u64), ()>,
}

impl Wire {
    /// A connection of this client. One of IPv4 is known by its own address, also where the listener is one of IPv6.
    pub(crate) fn new(client: IpAddr, secure: bool) -> Arc<Self> {
        Arc::new(Self {
            client: client.to_canonical(),
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

    /// Ends when the connection is to end: [`Why`] says in which way.
    ///
    /// What is looked at without a request is requests, not bytes: what keeps a connection alive moves some. `idle` is asked
    /// at each look, since what is served may have been replaced.
    pub(crate) async fn silent(
        self: Arc<Self>,
        idle: impl Fn() -> Duration,
        unused_max: Duration,
        is_scarce: impl Fn() -> bool,
    ) -> Why {
        let (mut still, mut unused) = (Duration::ZERO, Duration::ZERO);
        loop {
            let every = if is_scarce() { LOOK_EVERY_SCARCE } else { LOOK_EVERY }.min(idle()).min(unused_max);
            tokio::time::sleep(every).await;
            let is_used = self.asked.swap(false, Relaxed) || self.running.load(Relaxed) > 0;
            unused = if is_used { Duration::ZERO } else { unused + every };
            if unused >= IDLE_SCARCE && is_scarce() {
                return Why::Stalled;
            }
            let overdue = self
                .untaken()
                .until
                .first_key_value()
                .is_some_and(|((until, _), ())| *until < Instant::now());
            if overdue {
                return Why::Stalled;
            }
            still = if self.moved.swap(false, Relaxed) { Duration::ZERO } else { still + every };
            if still >= idle() {
                return Why::Stalled;
            }
            if unused > unused_max {
                return Why::Unused;
            }
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

    const UNUSED_MAX: Duration = Duration::from_secs(30);

    fn wire() -> Arc<Wire> {
        Wire::new(Ipv4Addr::LOCALHOST.into(), false)
    }

    fn silent(wire: &Arc<Wire>, is_scarce: bool) -> impl Future<Output = Why> + use<> {
        Arc::clone(wire).silent(|| Duration::from_secs(30), UNUSED_MAX, move || is_scarce)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_nothing_stalls_and_one_that_moves_does_not() {
        let wire = wire();
        let request = Running::new(&wire);
        let stalled = tokio::spawn(silent(&wire, false));
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            wire.moved.store(true, Relaxed);
        }
        assert!(!stalled.is_finished());
        let why = tokio::time::timeout(Duration::from_secs(41), stalled).await.unwrap().unwrap();
        assert_eq!(why, Why::Stalled);
        drop(request);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_only_bytes_keep_it_alive_is_unused() {
        let wire = wire();
        let keeps_alive = async {
            loop {
                wire.moved.store(true, Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let mut request = Some(Running::new(&wire));
        let mut watched = std::pin::pin!(silent(&wire, false));
        let mut keeps_alive = std::pin::pin!(keeps_alive);
        tokio::select! {
            _ = &mut watched => unreachable!("its request is open"),
            () = &mut keeps_alive => {}
            () = tokio::time::sleep(Duration::from_secs(600)) => {}
        }
        drop(request.take());
        let began = tokio::time::Instant::now();
        let why = tokio::select! {
            why = &mut watched => why,
            () = &mut keeps_alive => unreachable!("it goes on for ever"),
        };
        assert_eq!(why, Why::Unused);
        assert!(began.elapsed() <= UNUSED_MAX + 2 * LOOK_EVERY, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_it_may_be_still_is_looked_up_again_and_again() {
        let wire = wire();
        let _request = Running::new(&wire);
        let idle_s = Arc::new(AtomicU32::new(30));
        let asked = Arc::clone(&idle_s);
        let idle = move || Duration::from_secs(u64::from(asked.load(Relaxed)));
        let stalled = tokio::spawn(Arc::clone(&wire).silent(idle, UNUSED_MAX, || false));
        tokio::time::sleep(Duration::from_secs(20)).await;
        // An app with a longer limit was deployed.
        idle_s.store(300, Relaxed);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!stalled.is_finished());
        tokio::time::timeout(Duration::from_secs(300), stalled).await.unwrap().unwrap();
    }

    #[test]
    fn a_client_of_ipv4_is_known_by_its_own_address_on_a_listener_of_ipv6() {
        let of = |client: &str| Wire::new(client.parse().unwrap(), false).client.to_string();
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!((of("10.0.0.1"), of("2001:db8::1")), ("10.0.0.1".into(), "2001:db8::1".into()));
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
            why = silent(&wire, false) => assert_eq!(why, Why::Stalled),
            () = keeps_moving => {}
        }
        drop(reply);
        assert!(wire.untaken().until.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn where_connections_are_scarce_one_without_a_request_is_closed_soon() {
        let busy = wire();
        let reply = Reply::new(Body::whole("x"), None, Running::new(&busy), Duration::from_secs(99));
        let unused = wire();
        let mut used = tokio::spawn(silent(&busy, true));
        let trickles = async {
            loop {
                unused.moved.store(true, Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let began = tokio::time::Instant::now();
        tokio::select! {
            why = silent(&unused, true) => assert_eq!(why, Why::Stalled),
            () = trickles => {}
            _ = &mut used => unreachable!("it has a request"),
        }
        assert!(began.elapsed() <= Duration::from_secs(4));
        drop(reply);
        tokio::time::timeout(Duration::from_secs(4), used).await.unwrap().unwrap();
    }
}
