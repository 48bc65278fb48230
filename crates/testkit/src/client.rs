//! An HTTP client over hyper that hides nothing: one connection is one value, a body can be fed by hand.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::DEADLINE;

/// A request body.
pub type Body = BoxBody<Bytes, Infallible>;

/// No body.
pub fn empty() -> Body {
    Empty::new().boxed()
}

/// A body that is there at once, with its length declared.
pub fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).boxed()
}

/// A body that the test feeds chunk by chunk, sent chunked; dropping the sender ends it.
pub fn fed() -> (Sender<Bytes>, Body) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed())
}

/// A GET of `target`.
///
/// # Panics
/// When the target is no path.
pub fn get(target: &str) -> Request<Body> {
    request("GET", target, empty())
}

/// A POST of `content` to `target`.
///
/// # Panics
/// When the target is no path.
pub fn post(target: &str, content: impl Into<Bytes>) -> Request<Body> {
    request("POST", target, full(content))
}

/// A request with its body.
///
/// # Panics
/// When method or target are none.
pub fn request(method: &str, target: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(target).body(body).expect("a valid method and target")
}

/// A response, read to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The fields that came after the body.
    pub trailers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// The value of the header `name`, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, of a response that must have this status.
    ///
    /// # Panics
    /// When it has another.
    #[track_caller]
    pub fn expect(self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{:?}\n{}", self.headers, self.text());
        self.text()
    }

    /// Panics unless this is a failure of the given status and `x-error-code`, with a correlation id.
    ///
    /// # Panics
    /// When it is anything else.
    #[track_caller]
    pub fn expect_failure(self, status: u16, code: &str) -> Self {
        assert_eq!(
            (self.status.as_u16(), self.header("x-error-code")),
            (status, code),
            "{:?}\n{}",
            self.headers,
            self.text()
        );
        assert!(!self.header("x-request-id").is_empty(), "no correlation id in {:?}", self.headers);
        self
    }
}

/// What went wrong between the client and the server.
#[derive(Debug)]
pub enum ClientError {
    /// No connection.
    Connect(std::io::Error),
    /// The connection broke, or what came was not HTTP.
    Http(hyper::Error),
    /// Nothing came in time.
    Timeout,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(_) => f.write_str("cannot connect"),
            Self::Http(_) => f.write_str("the exchange failed"),
            Self::Timeout => write!(f, "no answer within {DEADLINE:?}"),
        }
    }
}

impl ClientError {
    /// Whether the request was not sent, because the server had closed the connection or was about to: whoever asks does so
    /// again on another one (RFC 9113, section 8.7).
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_canceled() || error.is_closed())
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(source) => Some(source),
            Self::Http(source) => Some(source),
            Self::Timeout => None,
        }
    }
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        Self::Http(error)
    }
}

async fn in_time<T>(future: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or(Err(ClientError::Timeout))
}

/// One connection. Dropping it closes it, whatever is under way.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    sender: SendRequest<Body>,
    driver: tokio::task::JoinHandle<()>,
}

impl Connection {
    /// Connects to `address`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(address: SocketAddr) -> Result<Self, ClientError> {
        in_time(async {
            let stream = TcpStream::connect(address).await.map_err(ClientError::Connect)?;
            stream.set_nodelay(true).map_err(ClientError::Connect)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            let driver = tokio::spawn(async move {
                // How the connection ended is told by the exchanges on it.
                let _ = connection.await;
            });
            Ok(Self { address, sender, driver })
        })
        .await
    }

    /// Sends `request` and waits for the head of the response.
    ///
    /// # Errors
    /// When the connection breaks or nothing comes in time.
    pub async fn send(&mut self, mut request: Request<Body>) -> Result<Streaming, ClientError> {
        let host = self.address.to_string().parse().expect("an address is a header value");
        request.headers_mut().entry(HOST).or_insert(host);
        in_time(async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            Ok(Streaming { status: head.status, headers: head.headers, trailers: HeaderMap::new(), body })
        })
        .await
    }

    /// Sends `request` and reads the response to its end.
    ///
    /// # Errors
    /// When the connection breaks or the end does not come in time.
    pub async fn exchange(&mut self, request: Request<Body>) -> Result<Reply, ClientError> {
        self.send(request).await?.finish().await
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// One HTTP/2 connection without TLS (prior knowledge), for many exchanges at once. Dropping it closes it.
#[derive(Debug)]
pub struct Http2 {
    address: SocketAddr,
    sender: http2::SendRequest<Body>,
    driver: tokio::task::JoinHandle<()>,
}

impl Http2 {
    /// Connects to `address`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(address: SocketAddr) -> Result<Self, ClientError> {
        in_time(async {
            let stream = TcpStream::connect(address).await.map_err(ClientError::Connect)?;
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            let driver = tokio::spawn(async move {
                // How the connection ended is told by the exchanges on it.
                let _ = connection.await;
            });
            Ok(Self { address, sender, driver })
        })
        .await
    }

    /// Sends `request`, whose target is a path, and reads the response to its end. Others may be under way. It is for the host
    /// in its headers, where there is one.
    ///
    /// # Errors
    /// When the connection breaks or the end does not come in time.
    pub async fn exchange(&self, mut request: Request<Body>) -> Result<Reply, ClientError> {
        // HTTP/2 sends the authority with the target (RFC 9113, section 8.3.1).
        let host = request.headers_mut().remove(HOST);
        let host = host.as_ref().and_then(|host| host.to_str().ok());
        let target = match host {
            Some(host) => format!("http://{host}{}", request.uri()),
            None => format!("http://{}{}", self.address, request.uri()),
        };
        *request.uri_mut() = target.parse().expect("a path and an address make a URI");
        let mut sender = self.sender.clone();
        in_time(async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            Ok(Reply { status: head.status, headers: head.headers, trailers, body: body.to_bytes() })
        })
        .await
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A response whose body is still coming.
#[derive(Debug)]
pub struct Streaming {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The fields that came after the body, once it has ended.
    pub trailers: HeaderMap,
    body: Incoming,
}

impl Streaming {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks or nothing comes in time.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        in_time(async {
            loop {
                match self.body.frame().await.transpose()? {
                    None => return Ok(None),
                    // Trailers end a body; they are no part of it.
                    Some(frame) => match frame.into_data() {
                        Ok(data) => return Ok(Some(data)),
                        Err(frame) => {
                            if let Ok(trailers) = frame.into_trailers() {
                                self.trailers = trailers;
                            }
                        }
                    },
                }
            }
        })
        .await
    }

    /// Reads what is left of the body.
    ///
    /// # Errors
    /// When the connection breaks or nothing comes in time.
    pub async fn finish(mut self) -> Result<Reply, ClientError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        let Self { status, headers, trailers, .. } = self;
        Ok(Reply { status, headers, trailers, body: body.freeze() })
    }
}

/// One exchange on a connection of its own.
///
/// # Errors
/// When the connection breaks or the end does not come in time.
pub async fn fetch(address: SocketAddr, request: Request<Body>) -> Result<Reply, ClientError> {
    Connection::open(address).await?.exchange(request).await
}

/// One exchange on a connection of its own, for tests that do one thing at a time.
///
/// # Panics
/// When the exchange fails.
#[track_caller]
pub fn call(address: SocketAddr, request: Request<Body>) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(fetch(address, request)).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

/// Sends `bytes` as they are and gives back all that comes until the server closes the connection, or until it
/// has been silent for `patience`.
///
/// # Panics
/// When nobody listens at `address`.
pub fn raw(address: SocketAddr, bytes: &[u8], patience: Duration) -> Vec<u8> {
    let mut stream = std::net::TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(patience)).expect("a timeout can be set");
    // A server that refuses early may close before everything is sent; what it said still counts.
    let _ = stream.write_all(bytes);
    let mut received = Vec::new();
    let mut chunk = [0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        received.extend_from_slice(&chunk[..length]);
    }
    received
}
