//! Clients that ask without a pause while something happens, and keep what they saw.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tenon_testkit::client::{ClientError, Connection, Http2, Reply, get};
use tenon_testkit::{DEADLINE, until};

use crate::support::to;

/// What one request came to.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Which client asked; its answers are in order.
    pub(crate) client: usize,
    pub(crate) status: u16,
    pub(crate) code: String,
    /// The quota that it was refused for.
    pub(crate) quota: String,
    /// After how many seconds it may ask again.
    pub(crate) retry_after: String,
    pub(crate) body: String,
}

/// Clients that run until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<Vec<Seen>>,
}

/// Who asks for what.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) clients: usize,
    /// Between two requests of a client.
    pub(crate) pause: Duration,
}

/// A header of every request.
pub(crate) type Header = (HeaderName, HeaderValue);

impl Load {
    pub(crate) fn start(asking: Asking) -> Self {
        Self::start_with(asking, None)
    }

    /// The same, each request with this header.
    pub(crate) fn start_with(asking: Asking, header: Option<Header>) -> Self {
        Self::start_over(asking, header, Over::Http1)
    }

    /// The same over HTTP/2, each client with a connection of its own.
    pub(crate) fn start_http2(asking: Asking) -> Self {
        Self::start_over(asking, None, Over::Http2)
    }

    fn start_over(asking: Asking, header: Option<Header>, over: Over) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let clients: Vec<_> = (0..asking.clients)
                        .map(|client| {
                            tokio::spawn(ask(
                                client,
                                asking.clone(),
                                header.clone(),
                                over,
                                Arc::clone(&stop),
                                Arc::clone(&answered),
                            ))
                        })
                        .collect();
                    let mut seen = Vec::new();
                    for client in clients {
                        seen.extend(client.await.unwrap());
                    }
                    seen
                })
            })
        };
        Self { stop, answered, thread }
    }

    /// Waits until this many more requests were answered.
    pub(crate) fn more(&self, count: u64) {
        let from = self.answered.load(Relaxed);
        until("more answers", DEADLINE, || (self.answered.load(Relaxed) >= from + count).then_some(()));
    }

    /// Everything they saw.
    pub(crate) fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

/// What clients speak.
#[derive(Clone, Copy)]
enum Over {
    Http1,
    Http2,
}

/// A connection of a client.
enum Open {
    Http1(Connection),
    Http2(Http2),
}

impl Open {
    async fn new(address: SocketAddr, over: Over) -> Result<Self, ClientError> {
        Ok(match over {
            Over::Http1 => Self::Http1(Connection::open(address).await?),
            Over::Http2 => Self::Http2(Http2::open(address).await?),
        })
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(open) => open.is_closed(),
            Self::Http2(open) => open.is_closed(),
        }
    }

    async fn exchange(&mut self, asking: &Asking, header: &Option<Header>) -> Result<Reply, ClientError> {
        let mut request = to(&asking.host, get(&asking.path));
        request.headers_mut().extend(header.clone());
        match self {
            Self::Http1(open) => open.exchange(request).await,
            Self::Http2(open) => open.exchange(request).await,
        }
    }
}

async fn ask(
    client: usize,
    asking: Asking,
    header: Option<Header>,
    over: Over,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut connection: Option<Open> = None;
    while !stop.load(Relaxed) {
        let reply: Result<_, ClientError> = async {
            if let Some(mut open) = connection.take().filter(|open| !open.is_closed()) {
                match (over, open.exchange(&asking, &header).await) {
                    // A server that goes says so, and what was not sent by then is sent to the next.
                    (Over::Http2, Err(error)) if error.is_unsent() => {}
                    (_, done) => {
                        connection = Some(open);
                        return done;
                    }
                }
            }
            let open = connection.insert(Open::new(asking.address, over).await?);
            open.exchange(&asking, &header).await
        }
        .await;
        match reply {
            Ok(reply) => {
                if reply.header("connection").eq_ignore_ascii_case("close") {
                    connection = None;
                }
                let header = |name| reply.header(name).to_owned();
                seen.push(Seen {
                    client,
                    status: reply.status.as_u16(),
                    code: header("x-error-code"),
                    quota: header("x-quota"),
                    retry_after: header("retry-after"),
                    body: reply.text(),
                });
            }
            Err(error) => {
                connection = None;
                seen.push(Seen {
                    client,
                    status: 0,
                    code: format!("{error}: {error:?}"),
                    quota: String::new(),
                    retry_after: String::new(),
                    body: String::new(),
                });
            }
        }
        answered.fetch_add(1, Relaxed);
        tokio::time::sleep(asking.pause).await;
    }
    seen
}

/// Panics with the first request that was not answered with this status.
#[track_caller]
pub(crate) fn expect_all(seen: &[Seen], status: u16) {
    let other: Vec<_> = seen.iter().filter(|one| one.status != status).collect();
    assert!(other.is_empty(), "{} of {} requests, first {:?}", other.len(), seen.len(), other.first());
    assert!(!seen.is_empty(), "nobody asked");
}
