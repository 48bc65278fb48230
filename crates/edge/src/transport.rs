//! QUIC as the layer of HTTP/3 wants to have it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h3::error::Code;
use h3::quic::{
    BidiStream, Connection, ConnectionErrorIncoming, OpenStreams, RecvStream, SendStream,
    StreamErrorIncoming, StreamId, WriteBuf,
};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};

use crate::sieve::Sieve;
use crate::wire::Wire;

/// What is read of a stream at once.
const PIECE_BYTES_MAX: usize = 64 << 10;

type Soon<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send + Sync>>;

/// A connection.
pub(crate) struct Quic {
    connection: quinn::Connection,
    wire: Arc<Wire>,
    /// Of a request, as they are sent.
    headers_bytes_max: u64,
    two_way: Option<Soon<(quinn::SendStream, quinn::RecvStream)>>,
    one_way: Option<Soon<quinn::RecvStream>>,
    opens: Opens,
}

/// Opens streams of our own.
pub(crate) struct Opens {
    connection: quinn::Connection,
    wire: Arc<Wire>,
    opening: Option<Soon<quinn::SendStream>>,
}

/// A stream with a request and its response.
pub(crate) struct Exchange {
    answer: Sending,
    request: Receiving,
}

/// What goes to the client.
pub(crate) struct Sending {
    stream: quinn::SendStream,
    wire: Arc<Wire>,
    writing: Option<WriteBuf<Bytes>>,
    has_written: bool,
}

/// What comes from the client.
pub(crate) struct Receiving {
    stream: quinn::RecvStream,
    wire: Arc<Wire>,
    sieve: Sieve,
    is_over: bool,
}

impl Quic {
    pub(crate) fn new(connection: quinn::Connection, wire: Arc<Wire>, headers_bytes_max: u64) -> Self {
        let opens = Opens { connection: connection.clone(), wire: Arc::clone(&wire), opening: None };
        Self { connection, wire, headers_bytes_max, two_way: None, one_way: None, opens }
    }
}

impl Sending {
    fn new(stream: quinn::SendStream, wire: Arc<Wire>) -> Self {
        Self { stream, wire, writing: None, has_written: false }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // An answer of nothing is none.
        if !self.has_written {
            let _ = self.stream.reset(code_of(Code::H3_REQUEST_INCOMPLETE.value()));
        }
    }
}

impl Exchange {
    /// Ends when the client does not want the response any more, or has all of it, or is gone.
    pub(crate) fn over(
        &self,
    ) -> impl Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync + 'static {
        self.answer.stream.stopped()
    }
}

/// Polls what is under way, or begins it.
fn next<T>(
    soon: &mut Option<Soon<T>>,
    context: &mut Context<'_>,
    begin: impl FnOnce() -> Soon<T>,
) -> Poll<Result<T, ConnectionErrorIncoming>> {
    let done = ready!(soon.get_or_insert_with(begin).as_mut().poll(context));
    *soon = None;
    Poll::Ready(done.map_err(lost))
}

impl Connection<Bytes> for Quic {
    type RecvStream = Receiving;
    type OpenStreams = Opens;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        let Self { connection, one_way, wire, .. } = self;
        let begin = || {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_uni().await }) as Soon<_>
        };
        let stream = ready!(next(one_way, context, begin))?;
        Poll::Ready(Ok(Receiving::new(stream, Arc::clone(wire), Sieve::one_way())))
    }

    fn poll_accept_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Exchange, ConnectionErrorIncoming>> {
        let Self { connection, two_way, wire, headers_bytes_max, .. } = self;
        let begin = || {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_bi().await }) as Soon<_>
        };
        let (answer, request) = ready!(next(two_way, context, begin))?;
        let sieve = Sieve::request(*headers_bytes_max);
        Poll::Ready(Ok(Exchange {
            answer: Sending::new(answer, Arc::clone(wire)),
            request: Receiving::new(request, Arc::clone(wire), sieve),
        }))
    }

    fn opener(&self) -> Opens {
        let Opens { connection, wire, .. } = &self.opens;
        Opens { connection: connection.clone(), wire: Arc::clone(wire), opening: None }
    }
}

impl OpenStreams<Bytes> for Quic {
    type BidiStream = Exchange;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, context: &mut Context<'_>) -> Poll<Result<Exchange, StreamErrorIncoming>> {
        self.opens.poll_open_bidi(context)
    }

    fn poll_open_send(&mut self, context: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        self.opens.poll_open_send(context)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opens.close(code, reason);
    }
}

impl OpenStreams<Bytes> for Opens {
    type BidiStream = Exchange;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Exchange, StreamErrorIncoming>> {
        // A server has none (RFC 9114, section 6.1).
        let connection_error = ConnectionErrorIncoming::InternalError("a server opens no request".to_owned());
        Poll::Ready(Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error }))
    }

    fn poll_open_send(&mut self, context: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        let Self { connection, opening, wire } = self;
        let begin = || {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await }) as Soon<_>
        };
        let opened = ready!(next(opening, context, begin));
        Poll::Ready(match opened {
            Ok(stream) => Ok(Sending::new(stream, Arc::clone(wire))),
            Err(connection_error) => Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error }),
        })
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(code_of(code.value()), reason);
    }
}

impl BidiStream<Bytes> for Exchange {
    type SendStream = Sending;
    type RecvStream = Receiving;

    fn split(self) -> (Sending, Receiving) {
        (self.answer, self.request)
    }
}

impl SendStream<Bytes> for Exchange {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.answer.poll_ready(context)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.answer.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.answer.poll_finish(context)
    }

    fn reset(&mut self, reset_code: u64) {
        self.answer.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.answer.send_id()
    }
}

impl RecvStream for Exchange {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let polled = self.request.poll_data(context);
        if let Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code })) = &polled {
            // What cannot be read is not answered.
            self.answer.reset(*error_code);
        }
        polled
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.request.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.request.recv_id()
    }
}

impl SendStream<Bytes> for Sending {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let Some(data) = &mut self.writing else { return Poll::Ready(Ok(())) };
        while data.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, data.chunk()));
            data.advance(written.map_err(not_written)?);
            self.has_written = true;
            self.wire.has_moved();
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            let cause = "something is being written already".to_owned();
            return Err(StreamErrorIncoming::ConnectionErrorIncoming {
                connection_error: ConnectionErrorIncoming::InternalError(cause),
            });
        }
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        let finished = self.stream.finish();
        Poll::Ready(finished.map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, reset_code: u64) {
        let _ = self.stream.reset(code_of(reset_code));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Receiving {
    fn new(stream: quinn::RecvStream, wire: Arc<Wire>, sieve: Sieve) -> Self {
        Self { stream, wire, sieve, is_over: false }
    }
}

impl RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            if let Some(piece) = self.sieve.next() {
                return Poll::Ready(Ok(Some(piece)));
            }
            if self.sieve.has_ended() {
                return Poll::Ready(Ok(None));
            }
            let read = pin!(self.stream.read_chunk(PIECE_BYTES_MAX, true)).poll(context);
            match ready!(read) {
                Ok(Some(chunk)) => {
                    self.wire.has_moved();
                    if self.sieve.put(chunk.bytes).is_err() {
                        let error_code = Code::H3_EXCESSIVE_LOAD.value();
                        self.stop_sending(error_code);
                        return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code }));
                    }
                }
                Ok(None) => {
                    self.is_over = true;
                    self.sieve.end();
                }
                Err(error) => {
                    self.is_over = true;
                    return Poll::Ready(Err(not_read(error)));
                }
            }
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.is_over = true;
        let _ = self.stream.stop(code_of(error_code));
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // Whoever was answered needs not send the rest (RFC 9114, section 4.1).
        if !self.is_over {
            self.stop_sending(Code::H3_NO_ERROR.value());
        }
    }
}

fn id(stream: quinn::StreamId) -> StreamId {
    // Both are numbers of at most 62 bits.
    VarInt::from(stream).into_inner().try_into().expect("a stream has an id")
}

pub(crate) fn code_of(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(closed) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: closed.error_code.into_inner() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn not_read(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        ReadError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        error => StreamErrorIncoming::Unknown(error.into()),
    }
}

fn not_written(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into_inner() },
        WriteError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        error => StreamErrorIncoming::Unknown(error.into()),
    }
}
