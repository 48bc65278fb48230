//! A client of HTTP/3: one connection is one value.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use h3::client::{RequestStream, SendRequest};
use h3_quinn::OpenStreams;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
pub use quinn::ConnectionError;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, TransportConfig, VarInt};
use tokio::task::JoinHandle;

use crate::DEADLINE;
use crate::client::{Body, Reply};
use crate::tls::Ca;

/// How often a client says that it is still there.
const ALIVE: Duration = Duration::from_secs(5);

/// One connection. Dropping it closes it, whatever is under way.
pub struct Http3 {
    connection: quinn::Connection,
    requests: SendRequest<OpenStreams, Bytes>,
    driver: JoinHandle<()>,
    name: String,
    // Lives as long as its connection.
    _endpoint: Endpoint,
}

/// A response whose body is still coming.
pub struct Streaming {
    /// Status and headers.
    pub head: Response<()>,
    stream: RequestStream<h3_quinn::RecvStream, Bytes>,
    sending: JoinHandle<()>,
}

impl Http3 {
    /// Connects to `address` as `name`, trusting `ca` alone.
    ///
    /// # Errors
    /// When nobody answers in time, or who does cannot be trusted.
    pub async fn open(address: SocketAddr, ca: &Ca, name: &str) -> io::Result<Self> {
        Self::open_within(DEADLINE, address, ca, name).await
    }

    /// The same, waiting so long at most.
    ///
    /// # Errors
    /// As that has.
    pub async fn open_within(wait: Duration, address: SocketAddr, ca: &Ca, name: &str) -> io::Result<Self> {
        let mut tls = ca.client();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let tls = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = ClientConfig::new(Arc::new(tls));
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(ALIVE));
        config.transport_config(Arc::new(transport));
        let from = if address.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
        let endpoint = Endpoint::client(from.parse().expect("an address"))?;
        let connecting = endpoint.connect_with(config, address, name).map_err(io::Error::other)?;
        let connection = in_time(wait, async { connecting.await.map_err(io::Error::other) }).await?;
        let (mut driver, requests) = h3::client::builder()
            .send_grease(true)
            .build(h3_quinn::Connection::new(connection.clone()))
            .await
            .map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // How the connection ended is told by the exchanges on it.
            let _ = poll_fn(|context| driver.poll_close(context)).await;
        });
        Ok(Self { connection, requests, driver, name: name.to_owned(), _endpoint: endpoint })
    }

    /// The server's certificate.
    ///
    /// # Panics
    /// When it showed none.
    pub fn certificate(&self) -> Vec<u8> {
        let identity = self.connection.peer_identity().expect("the handshake is over");
        let chain = identity.downcast::<Vec<tokio_rustls::rustls::pki_types::CertificateDer<'static>>>();
        chain.expect("a chain of certificates").first().map(|first| first.to_vec()).expect("a certificate")
    }

    /// Sends `request`, whose target is a path, and waits for the head of the response; the body is sent meanwhile.
    ///
    /// # Errors
    /// When the server or the connection breaks it off, or nothing comes in time.
    pub async fn send(&mut self, request: Request<Body>) -> io::Result<Streaming> {
        let (mut head, body) = request.into_parts();
        let target = format!("https://{}{}", self.name, head.uri);
        head.uri = target.parse().expect("a name and a path make a URI");
        in_time(DEADLINE, async {
            let stream = self.requests.send_request(Request::from_parts(head, ())).await;
            let (to, mut stream) = stream.map_err(io::Error::other)?.split();
            let sending = tokio::spawn(send(to, body));
            let head = stream.recv_response().await.map_err(io::Error::other)?;
            Ok(Streaming { head, stream, sending })
        })
        .await
    }

    /// Sends `request` and reads the response to its end.
    ///
    /// # Errors
    /// As [`send`](Self::send) has, and when the response is broken off.
    pub async fn exchange(&mut self, request: Request<Body>) -> io::Result<Reply> {
        self.send(request).await?.finish().await
    }

    /// Waits until the connection is over, and says why.
    ///
    /// # Panics
    /// When it is not over in time.
    pub async fn closed(&self) -> ConnectionError {
        tokio::time::timeout(DEADLINE, self.connection.closed()).await.expect("the connection ends")
    }
}

impl Drop for Http3 {
    fn drop(&mut self) {
        // That there is no error, as the protocol says it.
        self.connection.close(VarInt::from_u32(0x100), b"");
        self.driver.abort();
    }
}

impl Streaming {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When it is broken off, or nothing comes in time.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        in_time(DEADLINE, async {
            let chunk = self.stream.recv_data().await.map_err(io::Error::other)?;
            Ok(chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining())))
        })
        .await
    }

    /// Reads what is left of the body.
    ///
    /// # Errors
    /// When it is broken off, or nothing comes in time.
    pub async fn finish(mut self) -> io::Result<Reply> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        let trailers =
            in_time(DEADLINE, async { self.stream.recv_trailers().await.map_err(io::Error::other) }).await?;
        let (head, ()) = std::mem::replace(&mut self.head, Response::new(())).into_parts();
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            trailers: trailers.unwrap_or_else(HeaderMap::new),
            body: body.freeze(),
        })
    }

    /// Takes the request back: what is dropped is stopped (STOP_SENDING). `h3-quinn` cannot be asked to in the middle of
    /// a read.
    pub fn cancel(self) {
        self.sending.abort();
    }
}

async fn in_time<T>(wait: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {wait:?}")));
    tokio::time::timeout(wait, what).await.unwrap_or_else(late)
}

/// Sends a body. A server that does not want the rest says what it says in its response.
async fn send(mut to: RequestStream<h3_quinn::SendStream<Bytes>, Bytes>, mut body: Body) {
    let sent = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame;
            match frame.into_data() {
                Ok(data) => to.send_data(data).await?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        to.send_trailers(trailers).await?;
                    }
                }
            }
        }
        to.finish().await
    };
    let _ = sent.await;
}

/// One exchange on a connection of its own, for tests that do one thing at a time.
///
/// # Panics
/// When the exchange fails.
#[track_caller]
pub fn call(address: SocketAddr, ca: &Ca, name: &str, request: Request<Body>) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let exchange = async { Http3::open(address, ca, name).await?.exchange(request).await };
    runtime.block_on(exchange).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}
