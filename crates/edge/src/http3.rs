//! The life of a connection of HTTP/3, and of what is asked over it. A request goes the way of every other one from
//! [`serve_request`] on.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::{Buf as _, Bytes};
use h3::error::{Code, ConnectionError, StreamError};
use h3::frame::FrameStream;
use h3::server::{RequestResolver, RequestStream};
use h3::stream::BufRecvStream;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tenon_engine::{Broken, Received};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use crate::journey::{Worker, serve_request};
use crate::server::{HEAD_BYTES_BESIDE_FIELDS, LINGER, Office, STREAMS_MAX};
use crate::transport::{Quic, Receiving, Sending};
use crate::wire::{Reply, Why, Wire};

/// The header fields of a request as they are sent may be so much longer than as they are counted: text that does not
/// compress is sent as it is, with its length.
const HEADERS_SENT_MORE_BYTES: u64 = 16 << 10;
/// Heads of one connection that are read at the same time. Each is kept until all of it has come, as large as it may be;
/// others wait where the client has to wait as well.
const HEADS_MAX: usize = 16;
/// Header fields of any app: what counts them has room for 32,768, and each counts as 32 bytes and more.
const FIELDS_BYTES_MAX: u64 = 1 << 20;
/// What is about a connection of HTTP/1 and means nothing here (RFC 9114, section 4.2).
const OF_HTTP_1: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Serves a connection until it has ended, stalls, or is cut off.
pub(crate) async fn serve(
    office: Arc<Office>,
    connection: quinn::Connection,
    worker: Arc<Worker>,
    wire: Arc<Wire>,
    stopped: watch::Receiver<bool>,
) {
    let mut cut_off = office.cut_off.subscribe();
    let (unused, told) = oneshot::channel();
    let silent = async {
        if office.silent(&wire).await == Why::Unused {
            // The client is told, and what it has sent before it knew is answered.
            let _ = unused.send(());
            office.silent(&wire).await;
        }
    };
    tokio::select! {
        ended = requests(&office, connection, worker, Arc::clone(&wire), stopped, told) => match ended {
            Err(error) if !error.is_h3_no_error() => {
                tracing::debug!(target: "tenon::connection", %error, "a connection ended early");
            }
            _ => {}
        },
        () = silent => tracing::debug!(target: "tenon::connection", "a stalled connection was closed"),
        _ = cut_off.wait_for(|cut_off| *cut_off) => {}
    }
}

/// Takes requests until the client leaves, or the server does and all of them are answered. Whoever drops this closes
/// the connection and ends what runs for it.
async fn requests(
    office: &Arc<Office>,
    connection: quinn::Connection,
    worker: Arc<Worker>,
    wire: Arc<Wire>,
    mut stopped: watch::Receiver<bool>,
    unused: oneshot::Receiver<()>,
) -> Result<(), ConnectionError> {
    // What is served may have been replaced since the last connection.
    let fields_bytes_max = office.site.header_bytes().saturating_add(HEAD_BYTES_BESIDE_FIELDS);
    let fields_bytes_max = fields_bytes_max.min(FIELDS_BYTES_MAX);
    let quic = Quic::new(connection, Arc::clone(&wire), fields_bytes_max + HEADERS_SENT_MORE_BYTES);
    let mut http = h3::server::builder()
        .max_field_section_size(fields_bytes_max)
        .send_grease(false)
        .build::<_, Bytes>(quic)
        .await?;
    let mut running = JoinSet::new();
    let heads = Arc::new(Semaphore::new(HEADS_MAX));
    let mut stop = pin!(async {
        tokio::select! {
            // Its sender lives as long as the server.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            // And this one's as long as the connection.
            _ = unused => {}
        }
    });
    let mut lingered = pin!(tokio::time::sleep(LINGER));
    let mut leaving = Leaving::No;
    while leaving != Leaving::Told || !running.is_empty() {
        tokio::select! {
            biased;
            Some(_) = running.join_next(), if !running.is_empty() => {}
            () = &mut stop, if leaving == Leaving::No => {
                http.shutdown(STREAMS_MAX as usize).await?;
                lingered.as_mut().reset(tokio::time::Instant::now() + LINGER);
                leaving = Leaving::Announced;
            }
            () = &mut lingered, if leaving == Leaving::Announced => {
                http.shutdown(1).await?;
                leaving = Leaving::Told;
            }
            stream = poll_fn(|context| http.poll_accept_request_stream(context)) => {
                // Without one, the client has said that it leaves.
                let Some(stream) = stream? else { break };
                let over = stream.over();
                let resolver = http.create_resolver(FrameStream::new(BufRecvStream::new(stream)));
                let (office, worker, wire) = (Arc::clone(office), Arc::clone(&worker), Arc::clone(&wire));
                let heads = Arc::clone(&heads);
                running.spawn(async move {
                    let mut over = pin!(over);
                    let is_sent = tokio::select! {
                        biased;
                        // The client does not want it any more: what runs for it ends here.
                        _ = &mut over => false,
                        is_sent = request(&office, &worker, &wire, &heads, resolver) => is_sent,
                    };
                    if is_sent {
                        // Until the client has it, the connection must not be closed.
                        let _ = over.await;
                    }
                });
            }
        }
    }
    while running.join_next().await.is_some() {}
    Ok(())
}

/// How far a connection is on the way to its end. First the client is told that no more should come, and a while later
/// which request was the last: none that is on its way is lost (RFC 9114, section 5.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    Announced,
    Told,
}

/// The life of a request, on the wire; says whether a response is on its way.
async fn request(
    office: &Office,
    worker: &Worker,
    wire: &Arc<Wire>,
    heads: &Semaphore,
    resolver: RequestResolver<Quic, Bytes>,
) -> bool {
    let head = async {
        let _reading = heads.acquire().await;
        resolver.resolve_request().await
    };
    let (request, stream) = match tokio::time::timeout(office.limits.head, head).await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => {
            tracing::debug!(target: "tenon::connection", %error, "a request's head could not be read");
            return matches!(error, StreamError::HeaderTooBig { .. });
        }
        Err(_) => {
            tracing::debug!(target: "tenon::connection", "a request's head took too long");
            return false;
        }
    };
    let (answer, body) = stream.split();
    let answer = Answer { stream: answer, is_whole: false };
    let length = match announced(&request) {
        Ok(length) => length,
        Err(cause) => {
            tracing::debug!(target: "tenon::connection", cause, "a request is malformed");
            answer.refuse();
            return false;
        }
    };
    let is_head = request.method() == Method::HEAD;
    let body = Incoming::begin(body, length).await;
    let response = serve_request(&office.site, worker, wire, request.map(|()| body)).await;
    match answer.send(response, is_head).await {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(target: "tenon::connection", %error, "a response was broken off");
            false
        }
    }
}

/// How long a request says that its body is.
fn announced(request: &Request<()>) -> Result<Option<u64>, &'static str> {
    let headers = request.headers();
    if OF_HTTP_1.iter().any(|name| headers.contains_key(name)) {
        return Err("it has a field that is about a connection of HTTP/1");
    }
    if headers.get_all(TE).iter().any(|value| value != "trailers") {
        return Err("it asks for a transfer coding");
    }
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let said = digits.and_then(|text| text.parse::<u64>().ok()).ok_or("its length is no number")?;
        if length.is_some_and(|length| length != said) {
            return Err("it has two lengths");
        }
        length = Some(said);
    }
    Ok(length)
}

/// A response on its way. One that is dropped before it is whole is broken off, so that nobody takes it for whole.
struct Answer {
    stream: RequestStream<Sending, Bytes>,
    is_whole: bool,
}

impl Answer {
    async fn send(mut self, response: Response<Reply>, is_head: bool) -> Result<(), Unsent> {
        let (mut head, body) = response.into_parts();
        for name in &OF_HTTP_1 {
            head.headers.remove(name);
        }
        let date = || HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now()));
        if !head.headers.contains_key(DATE)
            && let Ok(date) = date()
        {
            head.headers.insert(DATE, date);
        }
        let has_body = !is_head && !body.is_end_stream();
        if has_body && let Some(length) = body.size_hint().exact() {
            head.headers.entry(CONTENT_LENGTH).or_insert(length.into());
        }
        self.stream.send_response(Response::from_parts(head, ())).await?;
        let mut body = pin!(body);
        while has_body && let Some(frame) = body.frame().await {
            match frame.map_err(|error| Unsent::Guest(error.to_string()))?.into_data() {
                Ok(data) if data.is_empty() => {}
                // Waits until there is room: a client that does not take it holds up its guest, and nothing else.
                Ok(data) => self.stream.send_data(data).await?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.send_trailers(trailers).await?;
                    }
                }
            }
        }
        self.stream.finish().await?;
        self.is_whole = true;
        Ok(())
    }

    /// Tells the client that its request is malformed (RFC 9114, section 4.1.2).
    fn refuse(mut self) {
        self.stream.stop_stream(Code::H3_MESSAGE_ERROR);
        self.is_whole = true;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.is_whole {
            self.stream.stop_stream(Code::H3_INTERNAL_ERROR);
        }
    }
}

/// Why a response did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error(transparent)]
    Client(#[from] StreamError),
    #[error("its body ended early: {0}")]
    Guest(String),
}

/// A request's body on its way in. It is read as it is asked for; until then the client has to wait.
struct Incoming {
    stream: RequestStream<Receiving, Bytes>,
    /// What came with the head.
    first: Option<Result<Frame<Bytes>, Broken>>,
    /// Of the length that was announced.
    left: Option<u64>,
    at: At,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Data,
    Trailers,
    End,
}

impl Incoming {
    /// The body of a request of this length, if it announced one.
    async fn begin(stream: RequestStream<Receiving, Bytes>, length: Option<u64>) -> Received {
        let mut body = Self { stream, first: None, left: length, at: At::Data };
        // Most requests have none, and have ended with their head.
        match poll_fn(|context| Poll::Ready(body.poll_next(context))).await {
            Poll::Ready(None) => Received::whole(Bytes::new()),
            Poll::Ready(first) => {
                body.first = first;
                Received::streamed(body)
            }
            Poll::Pending => Received::streamed(body),
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = ready!(self.poll_stream(context));
        if matches!(polled, None | Some(Err(_))) {
            self.at = At::End;
        }
        Poll::Ready(polled)
    }

    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let ended = |error: StreamError| Some(Err(Broken::Ended(error.to_string())));
        if self.at == At::Data {
            match ready!(self.stream.poll_recv_data(context)) {
                Ok(Some(mut data)) => {
                    let data = data.copy_to_bytes(data.remaining());
                    if let Some(left) = &mut self.left {
                        let Some(less) = left.checked_sub(data.len() as u64) else {
                            return Poll::Ready(Some(Err(Broken::Malformed("it is longer than announced"))));
                        };
                        *left = less;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(None) if self.left.is_some_and(|left| left > 0) => {
                    return Poll::Ready(Some(Err(Broken::Malformed("it is shorter than announced"))));
                }
                Ok(None) => self.at = At::Trailers,
                Err(error) => return Poll::Ready(ended(error)),
            }
        }
        if self.at == At::Trailers {
            let trailers: Option<HeaderMap> = match ready!(self.stream.poll_recv_trailers(context)) {
                Ok(trailers) => trailers,
                Err(error) => return Poll::Ready(ended(error)),
            };
            self.at = At::End;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(None)
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.poll_next(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.at == At::End && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = match &self.first {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        match self.left {
            Some(left) => SizeHint::with_exact(left.saturating_add(first)),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(fields: &[(&str, &str)]) -> Result<Option<u64>, &'static str> {
        let mut request = Request::new(());
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        announced(&request)
    }

    #[test]
    fn a_request_has_one_length_and_no_field_of_http_1() {
        assert_eq!(length(&[]), Ok(None));
        assert_eq!(length(&[("content-length", "12"), ("te", "trailers")]), Ok(Some(12)));
        assert_eq!(length(&[("content-length", "12"), ("content-length", "12")]), Ok(Some(12)));
        for bad in [
            &[("content-length", "12"), ("content-length", "13")][..],
            &[("content-length", "+1")],
            &[("content-length", "18446744073709551616")],
            &[("transfer-encoding", "chunked")],
            &[("connection", "close")],
            &[("te", "gzip")],
        ] {
            assert!(length(bad).is_err(), "{bad:?}");
        }
    }
}
