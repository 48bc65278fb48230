//! One connection to the admin API: how long it may go without a request, and its client without taking what it asked for.
//!
//! Whoever reaches the port can open connections. None of them may keep a place that somebody else needs, by being silent,
//! by sending half of something, or by reading nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// A client has this long to shake hands, to send a request's head, and to begin the next one.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where places for connections have become scarce.
const HEAD_TIMEOUT_SCARCE: Duration = Duration::from_secs(2);
/// A client that takes nothing of an answer for this long has gone.
const UNTAKEN_MAX: Duration = Duration::from_secs(30);
/// How often a connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes of an answer that are handed over at once. What a client does not take is seen by that the next are not asked for.
const PIECE_BYTES: usize = 32 << 10;

/// What is known of one connection.
#[derive(Debug)]
pub(super) struct Connection(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests whose answer is not taken yet.
    running: u32,
    /// Since when there is none, of those that somebody with a token sent.
    idle_since: Instant,
    next: u64,
    /// Answers of which a piece was handed over and the next not asked for, and since when.
    untaken: HashMap<u64, Instant>,
}

impl Connection {
    pub(super) fn new() -> Arc<Self> {
        let (idle_since, untaken) = (Instant::now(), HashMap::new());
        Arc::new(Self(Mutex::new(State { running: 0, idle_since, next: 0, untaken })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when its place is to be somebody else's, and says why.
    pub(super) async fn given_up(&self, is_scarce: impl Fn() -> bool) -> &'static str {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let idle_max = if is_scarce() { HEAD_TIMEOUT_SCARCE } else { HEAD_TIMEOUT };
            if let Some(why) = self.is_of_no_use(idle_max) {
                return why;
            }
        }
    }

    fn is_of_no_use(&self, idle_max: Duration) -> Option<&'static str> {
        let state = self.state();
        if state.running == 0 && state.idle_since.elapsed() >= idle_max {
            return Some("it had no request");
        }
        let is_stuck = state.untaken.values().any(|since| since.elapsed() >= UNTAKEN_MAX);
        is_stuck.then_some("its client took nothing of an answer")
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        let mut state = self.state();
        state.running += 1;
        state.next += 1;
        Running { connection: Arc::clone(self), number: state.next, is_permitted: AtomicBool::new(false) }
    }
}

/// A request, until its answer is taken or its client gone.
#[derive(Debug)]
pub(super) struct Running {
    connection: Arc<Connection>,
    number: u64,
    is_permitted: AtomicBool,
}

impl Running {
    /// Somebody sent it who has a token. Requests of others keep no place for a connection.
    pub(super) fn is_permitted(&self) {
        self.is_permitted.store(true, Relaxed);
    }

    /// Who is waited for: the client, which was handed a piece, or the node.
    fn waits_for_client(&self, it_does: bool) {
        let mut state = self.connection.state();
        match it_does {
            true => state.untaken.insert(self.number, Instant::now()),
            false => state.untaken.remove(&self.number),
        };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.connection.state();
        state.untaken.remove(&self.number);
        state.running -= 1;
        if self.is_permitted.load(Relaxed) {
            state.idle_since = Instant::now();
        }
    }
}

/// An answer's body on its way, in pieces.
#[derive(Debug)]
pub(super) struct Taken<B> {
    body: B,
    /// What is left of a piece of the body that was too large.
    rest: Bytes,
    running: Running,
}

impl<B> Taken<B> {
    pub(super) fn new(body: B, running: Running) -> Self {
        // It may wait behind answers that the client does not take, before it is first polled.
        running.waits_for_client(true);
        Self { body, rest: Bytes::new(), running }
    }
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for Taken<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => {
                    self.running.waits_for_client(false);
                    return other;
                }
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        self.running.waits_for_client(true);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    /// For how many seconds the connection is kept, if nothing else happens on it; `None` for an hour at least.
    async fn kept(connection: &Connection, is_scarce: bool) -> Option<u64> {
        let began = Instant::now();
        let given_up = connection.given_up(|| is_scarce);
        let ended = tokio::time::timeout(Duration::from_secs(3_600), given_up).await;
        ended.is_ok().then(|| began.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_given_up_sooner_where_they_are_scarce() {
        assert_eq!(kept(&Connection::new(), false).await, Some(HEAD_TIMEOUT.as_secs()));
        assert_eq!(kept(&Connection::new(), true).await, Some(HEAD_TIMEOUT_SCARCE.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_its_time_and_the_next_one_has_as_long_as_the_first() {
        let connection = Connection::new();
        let running = connection.begin();
        running.is_permitted();
        assert_eq!(kept(&connection, true).await, None, "the node is at work");
        drop(running);
        assert_eq!(kept(&connection, false).await, Some(HEAD_TIMEOUT.as_secs()));
        // Who has no token has not become of use by asking.
        tokio::time::advance(HEAD_TIMEOUT).await;
        drop(connection.begin());
        assert_eq!(kept(&connection, false).await, Some(LOOK_EVERY.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_its_answer_is_given_up_and_one_that_waits_is_not() {
        let connection = Connection::new();
        let large = Full::new(Bytes::from(vec![b'x'; 3 * PIECE_BYTES]));
        let mut stuck = Taken::new(large, connection.begin());
        assert!(stuck.frame().await.is_some(), "it has begun to take it");
        assert_eq!(kept(&connection, false).await, Some(UNTAKEN_MAX.as_secs()));
        drop(stuck);
        // So is one whose answer waits behind others that it does not take.
        let waiting = Taken::new(Full::new(Bytes::from_static(b"x")), connection.begin());
        assert_eq!(kept(&connection, false).await, Some(UNTAKEN_MAX.as_secs()));
        drop(waiting);

        // A body of which nothing comes for the moment: the client has taken all there is.
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let mut following = Taken::new(Coming(receiver), connection.begin());
        sender.send(Bytes::from_static(b"a line")).await.unwrap();
        assert!(following.frame().await.is_some());
        let next = tokio::time::timeout(Duration::from_secs(1), following.frame());
        assert!(next.await.is_err(), "nothing comes");
        assert_eq!(kept(&connection, true).await, None);
        drop(following);
        let state = connection.state();
        assert_eq!((state.untaken.len(), state.running), (0, 0), "nothing is kept of what has ended");
    }

    struct Coming(tokio::sync::mpsc::Receiver<Bytes>);

    impl Body for Coming {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_the_same_answer() {
        let all: Bytes = (0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
        let connection = Connection::new();
        let body = Taken::new(Full::new(all.clone()), connection.begin());
        assert_eq!(body.size_hint().exact(), Some(all.len() as u64));
        let mut body = body;
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((first.len(), body.is_end_stream()), (PIECE_BYTES, false));
        assert_eq!(body.size_hint().exact(), Some((all.len() - PIECE_BYTES) as u64));
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!([first, rest].concat(), all);
        let empty = Taken::new(Full::<Bytes>::default(), connection.begin());
        assert!(empty.is_end_stream(), "an answer without a body has none");
    }
}
