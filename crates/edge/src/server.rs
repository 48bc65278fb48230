//! Listeners, workers, and the drain.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Semaphore, watch};

use crate::identify::Ids;
use crate::journey::{Worker, serve_request};
use crate::site::Site;
use crate::wire::{Watched, Wire};

/// Connections one worker holds open; further ones wait in the kernel's queue.
const CONNECTIONS_PER_WORKER_MAX: usize = 10_000;
/// The kernel's queue of connections that are not accepted yet.
const BACKLOG: i32 = 4_096;
/// A client has this long to send a request's head, and to begin the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Beyond the limit on header fields: the request line, and what separates the fields. A head larger than that ends
/// its connection; one within it that is over the limit gets an answer.
const HEAD_BYTES_BESIDE_FIELDS: u64 = 16 << 10;
/// Header fields of a request.
const HEADERS_MAX: usize = 128;
/// Requests one HTTP/2 connection may have open.
const HTTP2_STREAMS_MAX: u32 = 200;
/// After a failed accept, commonly because no file descriptor is left: wait before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How often a drain looks whether guests still run.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody else has the address.
    #[error("{0} is in use by another process")]
    InUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// A worker could not be started.
    #[error("a worker could not be started")]
    Worker(#[source] io::Error),
}

/// Whether everything that was running could finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// False when the drain's own deadline cut connections off.
    pub complete: bool,
}

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Where; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Threads; each has a runtime and a listener of its own, and a connection stays with one.
    pub workers: usize,
    /// How long running requests may go on after the drain began.
    pub drain: Duration,
}

/// A running server.
pub struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<bool>>,
}

impl Server {
    /// Binds, then starts the workers. Connections are accepted when this returns.
    ///
    /// # Errors
    /// When the address is taken or cannot be bound, or a thread cannot be started.
    pub fn start(self, site: Arc<Site>) -> Result<Listening, ServerError> {
        let listeners = bind(self.listen, self.workers.max(1))?;
        let address = listeners[0].local_addr().map_err(|error| ServerError::Listen(self.listen, error))?;
        let (stop, stopped) = watch::channel(false);
        let workers = listeners
            .into_iter()
            .enumerate()
            .map(|(index, listener)| {
                let (site, stopped) = (Arc::clone(&site), stopped.clone());
                let ids = Ids::new().map_err(|error| ServerError::Worker(error.into()))?;
                let authority = HeaderValue::from_str(&address.to_string())
                    .map_err(|error| ServerError::Worker(io::Error::other(error)))?;
                let worker = Arc::new(Worker { ids, address: authority });
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(ServerError::Worker)?;
                std::thread::Builder::new()
                    .name(format!("tenon-worker-{index}"))
                    .spawn(move || runtime.block_on(work(listener, site, worker, stopped, self.drain)))
                    .map_err(ServerError::Worker)
            })
            .collect::<Result<_, _>>()?;
        Ok(Listening { address, stop, workers })
    }
}

impl Listening {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets what is running finish within the drain's time, and waits for it.
    pub fn drain(self) -> Drained {
        self.stop.send_replace(true);
        // Every worker is waited for, also after one that was cut off.
        let drained: Vec<bool> =
            self.workers.into_iter().map(|worker| worker.join().unwrap_or(false)).collect();
        Drained { complete: drained.into_iter().all(|complete| complete) }
    }
}

/// One socket for each worker on the same address; the kernel spreads connections over them.
fn bind(listen: SocketAddr, count: usize) -> Result<Vec<TcpListener>, ServerError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ServerError::InUse(listen),
        _ => ServerError::Listen(listen, error),
    };
    // Sockets that share a port would also share it with another process of this user: a first one that does not
    // share finds out whether anybody listens there. It does not listen itself, for a client that came meanwhile would
    // lose its connection.
    let alone = socket(listen, false).map_err(failed)?;
    let address = alone.local_addr().map_err(failed)?;
    drop(alone);
    (0..count).map(|_| socket(address, true).map_err(failed)).collect()
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// One worker: accepts until it is told to stop, then waits for its connections.
async fn work(
    listener: TcpListener,
    site: Arc<Site>,
    worker: Arc<Worker>,
    mut stopped: watch::Receiver<bool>,
    drain: Duration,
) -> bool {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a worker's listener cannot be used");
            return false;
        }
    };
    let connections = Arc::new(Semaphore::new(CONNECTIONS_PER_WORKER_MAX));
    let graceful = GracefulShutdown::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Said once: it goes on until somebody frees what is missing, commonly file descriptors.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        // What is served may have been replaced since the last connection.
        let http = protocol(site.header_bytes());
        // A request may be waited for without a byte moving as long as it may last.
        let idle = site.longest() + HEAD_TIMEOUT;
        let (site, worker, wire) = (Arc::clone(&site), Arc::clone(&worker), Arc::new(Wire::default()));
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&wire)));
        let stalled = Arc::clone(&wire).stalled(idle);
        let serve = service_fn(move |request| {
            let (site, worker, wire) = (Arc::clone(&site), Arc::clone(&worker), Arc::clone(&wire));
            async move { Ok::<_, Infallible>(serve_request(&site, &worker, &wire, request).await) }
        });
        let connection = graceful.watch(http.serve_connection(stream, serve).into_owned());
        tokio::spawn(async move {
            // A client that breaks off, stalls or sends what is not HTTP ends its own connection, and only that.
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(target: "tenon::connection", %error, "a connection ended early");
                },
                () = stalled => tracing::debug!(target: "tenon::connection", "a stalled connection was closed"),
            }
            drop(permit);
        });
    }
    drop(listener);
    let drained = async {
        graceful.shutdown().await;
        // Guests may run on after their response was taken.
        while site.running() > 0 {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    tokio::time::timeout(drain, drained).await.is_ok()
}

async fn accept(
    listener: &tokio::net::TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

fn protocol(header_bytes: u64) -> auto::Builder<TokioExecutor> {
    let head_bytes = header_bytes.saturating_add(HEAD_BYTES_BESIDE_FIELDS);
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(usize::try_from(head_bytes).unwrap_or(usize::MAX))
        .max_headers(HEADERS_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(HEAD_TIMEOUT);
    http
}
