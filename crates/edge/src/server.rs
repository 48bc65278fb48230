//! Listeners, workers, and the drain.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use http::header::{ALT_SVC, CONNECTION};
use http::{HeaderValue, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tenon_engine::Engine;
use tenon_model::HEADER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::clock::Now;
use crate::connections::{Addresses, ConnectionLimits, Held};
use crate::handover::HandOver;
use crate::http3;
use crate::journey::{Worker, serve_request};
use crate::quic::{Gate, Http3, Knock, Open};
use crate::site::Site;
use crate::tls::Certificates;
use crate::wire::{Watched, Why, Wire};

/// The kernel's queue of connections that are not accepted yet.
const BACKLOG: i32 = 4_096;
/// Beyond the limit on header fields: the request line, and what separates the fields. A head larger than that ends
/// its connection; one within it that is over the limit gets an answer.
pub(crate) const HEAD_BYTES_BESIDE_FIELDS: u64 = 16 << 10;
/// Header fields of a request.
const HEADERS_MAX: usize = 128;
/// Requests one connection of HTTP/2 or HTTP/3 may have open.
pub(crate) const STREAMS_MAX: u32 = 200;
/// After a failed accept, commonly because no file descriptor is left: wait before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Where fewer than one in so many of a worker's connections is left, those without a request are closed soon.
const SCARCE_PART: usize = 8;
/// When a drain begins, connections go on for so long, told with each response that it is the last: a client that has just
/// sent a request, or is about to, must not find its connection closed.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// How long a worker waits at its end, so that clients of HTTP/3 are told that it is.
const FAREWELL: Duration = Duration::from_millis(20);
/// Free ports that are tried, until one is free for TCP and UDP.
const PORT_TRIES: usize = 16;

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

/// An address to listen on.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where; port 0 picks a free one.
    pub address: SocketAddr,
    /// What connections are encrypted with; `None` where they are not.
    pub tls: Option<Arc<Certificates>>,
    /// HTTP/3 at the same port of UDP, where there is TLS.
    pub http3: Option<Http3>,
}

/// How to listen.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where.
    pub listen: Vec<Listen>,
    /// Threads; each has a runtime and listeners of its own, and a connection stays with one.
    pub workers: usize,
    /// How long running requests may go on after the drain began, at most; never longer than any of them may last then.
    pub drain: Option<Duration>,
    /// What is given to connections.
    pub connections: ConnectionLimits,
    /// Whether another process of the same user may listen on the same addresses meanwhile: it is being replaced.
    pub replaces: bool,
    /// The engine of what is served, where it is one: the first worker is [interrupted](Engine::interrupt_here) for it. Without it,
    /// its own thread ticks.
    pub engine: Option<Engine>,
}

/// A server that has its addresses and accepts nobody yet.
pub struct Bound {
    server: Server,
    addresses: Vec<SocketAddr>,
    doors: Vec<Vec<Door>>,
    gates: Vec<Gate>,
}

/// A running server.
pub struct Listening {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<bool>>,
    gates: Vec<Open>,
}

/// What a worker listens on.
struct Door {
    listener: TcpListener,
    tls: Option<Arc<Certificates>>,
    authority: HeaderValue,
    /// What responses say about HTTP/3.
    alt_svc: Option<HeaderValue>,
}

/// Where a worker gets connections of HTTP/3 from.
struct Entrance {
    knocking: mpsc::Receiver<Knock>,
    authority: HeaderValue,
}

impl Server {
    /// A server of one address without TLS, all of whose connections may be of one client.
    pub fn new(address: SocketAddr, workers: usize, drain: Duration) -> Self {
        Self {
            listen: vec![Listen { address, tls: None, http3: None }],
            workers,
            drain: Some(drain),
            connections: ConnectionLimits { per_address_max: usize::MAX, ..ConnectionLimits::default() },
            replaces: false,
            engine: None,
        }
    }

    /// Binds, then starts the workers. Connections are accepted when this returns.
    ///
    /// # Errors
    /// When an address is taken or cannot be bound, or a thread cannot be started.
    pub fn start(self, site: Arc<Site>) -> Result<Listening, ServerError> {
        self.bind()?.start(site)
    }

    /// Binds. Who connects waits until the workers are started; where another process is being replaced, they go to that one
    /// until then.
    ///
    /// # Errors
    /// When an address is taken or cannot be bound.
    pub fn bind(self) -> Result<Bound, ServerError> {
        self.bind_handing_over(None)
    }

    /// The same, with a way to hand datagrams of HTTP/3 to the processes before and after this one. It is for the first
    /// address that has HTTP/3.
    ///
    /// # Errors
    /// When an address is taken or cannot be bound.
    pub fn bind_handing_over(self, mut hand_over: Option<HandOver>) -> Result<Bound, ServerError> {
        let workers = self.workers.max(1);
        let mut addresses = Vec::new();
        let mut doors: Vec<Vec<Door>> = (0..workers).map(|_| Vec::new()).collect();
        let mut gates = Vec::new();
        for listen in &self.listen {
            let (listeners, gate) = bind_both(listen, workers, &self, &mut hand_over)?;
            let bound =
                listeners[0].local_addr().map_err(|error| ServerError::Listen(listen.address, error))?;
            let value = |text: String| {
                HeaderValue::try_from(text).map_err(|error| ServerError::Worker(io::Error::other(error)))
            };
            let authority = value(bound.to_string())?;
            let http3 = listen.http3.as_ref().filter(|_| gate.is_some());
            let alt_svc = http3.map(|http3| value(http3.alt_svc(bound))).transpose()?;
            for (doors, listener) in doors.iter_mut().zip(listeners) {
                let (tls, authority, alt_svc) = (listen.tls.clone(), authority.clone(), alt_svc.clone());
                doors.push(Door { listener, tls, authority, alt_svc });
            }
            addresses.push(bound);
            gates.extend(gate);
        }
        Ok(Bound { server: self, addresses, doors, gates })
    }
}

impl Bound {
    /// Starts the workers. Connections are accepted when this returns.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(self, site: Arc<Site>) -> Result<Listening, ServerError> {
        let Self { server, addresses, doors, gates } = self;
        if server.replaces {
            // From now on connections come here too.
            for door in doors.iter().flatten() {
                let listening = SockRef::from(&door.listener).listen(BACKLOG);
                listening.map_err(|error| ServerError::Listen(addresses[0], error))?;
            }
        }
        let (stop, stopped) = watch::channel(false);
        let by_address = Addresses::new(server.connections.per_address_max);
        let mut entrances: Vec<Vec<Entrance>> = doors.iter().map(|_| Vec::new()).collect();
        let mut open = Vec::new();
        for gate in gates {
            let authority = HeaderValue::try_from(gate.address.to_string())
                .map_err(|error| ServerError::Worker(io::Error::other(error)))?;
            let (senders, receivers): (Vec<_>, Vec<_>) = doors.iter().map(|_| Open::channel()).unzip();
            for (entrances, knocking) in entrances.iter_mut().zip(receivers) {
                entrances.push(Entrance { knocking, authority: authority.clone() });
            }
            open.push(gate.start(senders, stopped.clone()));
        }
        let workers = doors
            .into_iter()
            .zip(entrances)
            .enumerate()
            .map(|(index, (doors, entrances))| {
                let office = Arc::new(Office {
                    site: Arc::clone(&site),
                    limits: server.connections,
                    open: Arc::new(Semaphore::new(server.connections.per_worker_max)),
                    by_address: Arc::clone(&by_address),
                    draining: AtomicBool::new(false),
                    leaving: watch::Sender::new(false),
                    cut_off: watch::Sender::new(false),
                });
                let (stopped, drain) = (stopped.clone(), server.drain);
                let ticked = (index == 0).then(|| server.engine.clone()).flatten();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(ServerError::Worker)?;
                std::thread::Builder::new()
                    .name(format!("tenon-worker-{index}"))
                    .spawn(move || {
                        tenon_engine::serve_promptly();
                        let _interrupts = ticked.as_ref().and_then(Engine::interrupt_here);
                        runtime.block_on(office.work(doors, entrances, stopped, drain))
                    })
                    .map_err(ServerError::Worker)
            })
            .collect::<Result<_, _>>()?;
        Ok(Listening { addresses, stop, workers, gates: open })
    }
}

impl Listening {
    /// Where it listens; of several addresses, the first.
    ///
    /// # Panics
    /// When it was told to listen nowhere.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where it listens, in the order in which it was told to.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting, lets what is running finish within the drain's time, and waits for it.
    pub fn drain(self) -> Drained {
        self.stop.send_replace(true);
        // Every worker is waited for, also after one that was cut off.
        let drained: Vec<bool> =
            self.workers.into_iter().map(|worker| worker.join().unwrap_or(false)).collect();
        // Until here they read for the connections of the workers.
        self.gates.into_iter().for_each(Open::finish);
        Drained { complete: drained.into_iter().all(|complete| complete) }
    }
}

/// What is listened on at an address: TCP, and UDP at the same port where there is HTTP/3.
fn bind_both(
    Listen { address, tls, http3 }: &Listen,
    workers: usize,
    Server { connections, replaces, .. }: &Server,
    hand_over: &mut Option<HandOver>,
) -> Result<(Vec<TcpListener>, Option<Gate>), ServerError> {
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        let listeners = bind(*address, workers, *replaces)?;
        let (Some(tls), Some(http3)) = (tls, http3) else { return Ok((listeners, None)) };
        let bound = listeners[0].local_addr().map_err(|error| ServerError::Listen(*address, error))?;
        tries -= 1;
        match Gate::bind(bound, tls, http3, connections, *replaces, hand_over) {
            Ok(gate) => return Ok((listeners, Some(gate))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ServerError::InUse(bound));
            }
            Err(error) => return Err(ServerError::Listen(bound, error)),
        }
    }
}

/// One socket for each worker on the same address; the kernel spreads connections over them.
fn bind(listen: SocketAddr, count: usize, replaces: bool) -> Result<Vec<TcpListener>, ServerError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ServerError::InUse(listen),
        _ => ServerError::Listen(listen, error),
    };
    // Sockets that share a port would also share it with another process of this user: a first one that does not
    // share finds out whether anybody listens there. It does not listen itself, for a client that came meanwhile would
    // lose its connection.
    let address = if replaces {
        listen
    } else {
        let alone: TcpListener = socket(listen, false).map_err(failed)?.into();
        alone.local_addr().map_err(failed)?
    };
    let one = || {
        let socket = socket(address, true)?;
        if !replaces {
            socket.listen(BACKLOG)?;
        }
        Ok(socket.into())
    };
    (0..count).map(|_| one().map_err(failed)).collect()
}

/// Listens on an address that other processes of this user may only share when they replace this one.
///
/// # Errors
/// When it is taken or cannot be bound.
pub fn listen_alone(address: SocketAddr, replaces: bool) -> Result<TcpListener, ServerError> {
    let failed = |error| ServerError::Listen(address, error);
    let bound =
        bind(address, 1, replaces)?.pop().ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
    SockRef::from(&bound).listen(BACKLOG).map_err(failed)?;
    Ok(bound)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What the connections of one worker have in common.
pub(crate) struct Office {
    pub(crate) site: Arc<Site>,
    pub(crate) limits: ConnectionLimits,
    /// Places for connections.
    open: Arc<Semaphore>,
    by_address: Arc<Addresses>,
    /// Whether each response is its connection's last.
    draining: AtomicBool,
    /// Whether connections end with the requests that are open.
    leaving: watch::Sender<bool>,
    /// Whether the drain's time is over.
    pub(crate) cut_off: watch::Sender<bool>,
}

/// A connection that was accepted, and counts until it is over.
struct Accepted {
    stream: TcpStream,
    client: SocketAddr,
    _place: OwnedSemaphorePermit,
    _held: Held,
}

/// What a door makes of a connection.
#[derive(Clone)]
struct Acceptor {
    tls: TlsAcceptor,
    alt_svc: Option<HeaderValue>,
}

impl Office {
    /// One worker: accepts until it is told to stop, then waits for its connections.
    async fn work(
        self: Arc<Self>,
        doors: Vec<Door>,
        entrances: Vec<Entrance>,
        stopped: watch::Receiver<bool>,
        drain: Option<Duration>,
    ) -> bool {
        let has_http3 = !entrances.is_empty();
        let mut accepting = Vec::new();
        for door in doors {
            let office = Arc::clone(&self);
            accepting.push(tokio::spawn(office.accept_all(door, stopped.clone())));
        }
        for entrance in entrances {
            accepting.push(tokio::spawn(Arc::clone(&self).accept_http3(entrance, stopped.clone())));
        }
        let mut complete = true;
        for door in accepting {
            complete &= door.await.unwrap_or(false);
        }
        let drained = async {
            // Nobody is left who would find its connection closed.
            let all = u32::try_from(self.limits.per_worker_max).unwrap_or(u32::MAX);
            let _ = tokio::time::timeout(LINGER, self.open.acquire_many(all)).await;
            self.leaving.send_replace(true);
            let _ = self.open.acquire_many(all).await;
            // Guests may run on after their response was taken.
            while self.site.running() > 0 {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        // What is served now: apps may have come since the server started.
        let longest = self.site.longest_running();
        let drain = drain.map_or(longest, |most| most.min(longest));
        complete &= tokio::time::timeout(drain, drained).await.is_ok();
        self.cut_off.send_replace(true);
        if has_http3 {
            tokio::time::sleep(FAREWELL).await;
        }
        complete
    }

    /// Accepts from one listener until it is told to stop; then what waits in the kernel's queue, which would be lost with
    /// it.
    async fn accept_all(
        self: Arc<Self>,
        Door { listener, tls, authority, alt_svc }: Door,
        stopped: watch::Receiver<bool>,
    ) -> bool {
        let worker = Worker::new(authority).map_err(io::Error::other);
        let listener = tokio::net::TcpListener::from_std(listener);
        let (worker, listener) = match worker.and_then(|worker| Ok((Arc::new(worker), listener?))) {
            Ok(both) => both,
            Err(error) => {
                tracing::error!(%error, "a worker's listener cannot be used");
                return false;
            }
        };
        let acceptor = tls.map(|certificates| Acceptor { tls: certificates.acceptor(), alt_svc });
        let begin = |accepted| {
            let (office, worker, acceptor) = (Arc::clone(&self), Arc::clone(&worker), acceptor.clone());
            tokio::spawn(office.connection(accepted, worker, acceptor, stopped.clone()));
        };
        let mut told = stopped.clone();
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&listener) => accepted,
                _ = told.wait_for(|stopped| *stopped) => break,
            };
            match accepted {
                Ok(accepted) => {
                    failing = false;
                    if let Some(accepted) = accepted {
                        begin(accepted);
                    }
                }
                Err(error) => {
                    // Said once: it goes on until somebody frees what is missing, commonly file descriptors.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "connections cannot be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        self.draining.store(true, Relaxed);
        if let Ok(listener) = listener.into_std() {
            while let Ok((stream, client)) = listener.accept() {
                let Ok(place) = Arc::clone(&self.open).try_acquire_owned() else { break };
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let (Ok(stream), Some(held)) = (stream, self.hold(client.ip())) {
                    begin(Accepted { stream, client, _place: place, _held: held });
                }
            }
        }
        true
    }

    /// The next connection; `None` for one whose address has too many.
    async fn accept(&self, listener: &tokio::net::TcpListener) -> io::Result<Option<Accepted>> {
        let place = Arc::clone(&self.open).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, client) = listener.accept().await?;
        let held = self.hold(client.ip());
        Ok(held.map(|held| Accepted { stream, client, _place: place, _held: held }))
    }

    /// One more connection of this address, unless it has as many as it may.
    fn hold(&self, client: IpAddr) -> Option<Held> {
        let held = self.by_address.hold(client);
        if held.is_none() && self.site.count_crowded_out(Now::read()) {
            tracing::warn!(
                target: "tenon::connection",
                %client,
                connections_per_address = self.limits.per_address_max,
                "a connection was closed: its address has as many as it may"
            );
        }
        held
    }

    /// The life of a connection. A client that breaks off, stalls or sends what is not HTTP ends its own, and only that.
    async fn connection(
        self: Arc<Self>,
        Accepted { stream, client, _place, _held }: Accepted,
        worker: Arc<Worker>,
        acceptor: Option<Acceptor>,
        stopped: watch::Receiver<bool>,
    ) {
        if stream.set_nodelay(true).is_err() || !self.speaks(&stream, stopped).await {
            return;
        }
        let wire = Wire::new(client.ip(), acceptor.is_some());
        match acceptor {
            None => self.serve(stream, worker, wire, None).await,
            Some(Acceptor { tls, alt_svc }) => {
                match tokio::time::timeout(self.limits.handshake, tls.accept(stream)).await {
                    Ok(Ok(stream)) => self.serve(stream, worker, wire, alt_svc).await,
                    Ok(Err(error)) => {
                        tracing::debug!(target: "tenon::connection", %error, "a handshake failed");
                    }
                    Err(_) => tracing::debug!(target: "tenon::connection", "a handshake took too long"),
                }
            }
        }
    }

    /// Takes connections of HTTP/3 until it is told to stop.
    async fn accept_http3(
        self: Arc<Self>,
        Entrance { mut knocking, authority }: Entrance,
        stopped: watch::Receiver<bool>,
    ) -> bool {
        let worker = match Worker::new(authority) {
            Ok(worker) => Arc::new(worker),
            Err(error) => {
                tracing::error!(%error, "a worker cannot serve HTTP/3");
                return false;
            }
        };
        let mut told = stopped.clone();
        loop {
            tokio::select! {
                biased;
                _ = told.wait_for(|stopped| *stopped) => break,
                knock = knocking.recv() => match knock {
                    Some(knock) => self.let_in(knock, &worker, &stopped),
                    None => break,
                },
            }
        }
        knocking.close();
        while let Ok(Knock { incoming, .. }) = knocking.try_recv() {
            // Asks again, and comes to the next process.
            incoming.ignore();
        }
        true
    }

    /// Begins a connection of HTTP/3, if there is room for it. One for which there is none is told so: it cannot wait in the
    /// kernel's queue as others do, and its client commonly has another way.
    fn let_in(
        self: &Arc<Self>,
        Knock { incoming, under_way }: Knock,
        worker: &Arc<Worker>,
        stopped: &watch::Receiver<bool>,
    ) {
        let client = incoming.remote_address().ip();
        let place = Arc::clone(&self.open).try_acquire_owned();
        let Ok(place) = place else { return incoming.refuse() };
        let Some(held) = self.hold(client) else { return incoming.refuse() };
        let connecting = match incoming.accept() {
            Ok(connecting) => connecting,
            Err(error) => {
                tracing::debug!(target: "tenon::connection", %error, "a handshake failed");
                return;
            }
        };
        let (office, worker, stopped) = (Arc::clone(self), Arc::clone(worker), stopped.clone());
        tokio::spawn(async move {
            let _counts = (place, held);
            match tokio::time::timeout(office.limits.handshake, connecting).await {
                Ok(Ok(connection)) => {
                    drop(under_way);
                    http3::serve(office, connection, worker, Wire::new(client, true), stopped).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!(target: "tenon::connection", %error, "a handshake failed");
                }
                Err(_) => tracing::debug!(target: "tenon::connection", "a handshake took too long"),
            }
        });
    }

    /// Waits for a client's first bytes; `false` when none come while they may.
    async fn speaks(&self, stream: &TcpStream, mut stopped: watch::Receiver<bool>) -> bool {
        let until = tokio::time::Instant::now() + self.limits.head;
        let is_scarce = async {
            loop {
                tokio::time::sleep(ACCEPT_PAUSE * 50).await;
                if self.is_scarce() {
                    return;
                }
            }
        };
        let lingered = async {
            // Its sender lives as long as the server.
            if stopped.wait_for(|stopped| *stopped).await.is_ok() {
                tokio::time::sleep(LINGER).await;
            }
        };
        tokio::select! {
            biased;
            readable = stream.readable() => readable.is_ok(),
            () = tokio::time::sleep_until(until) => false,
            () = is_scarce => false,
            () = lingered => false,
        }
    }

    pub(crate) fn is_scarce(&self) -> bool {
        self.open.available_permits() < self.limits.per_worker_max / SCARCE_PART
    }

    /// Serves a connection's requests.
    async fn serve<S>(
        self: &Arc<Self>,
        stream: S,
        worker: Arc<Worker>,
        wire: Arc<Wire>,
        alt_svc: Option<HeaderValue>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // What is served may have been replaced since the last connection.
        let http = protocol(self.site.header_bytes(), self.limits.head);
        let stream = TokioIo::new(Watched::new(stream, Arc::clone(&wire)));
        let watched = Arc::clone(&wire);
        let mut silent = pin!(self.silent(&watched));
        let mut leaving = self.leaving.subscribe();
        let office = Arc::clone(self);
        let serve = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (office, worker, wire) = (Arc::clone(&office), Arc::clone(&worker), Arc::clone(&wire));
            let alt_svc = alt_svc.clone();
            async move {
                let may_be_told = request.version() < Version::HTTP_2;
                let mut response = serve_request(&office.site, &worker, &wire, request.map(Into::into)).await;
                if let Some(alt_svc) = alt_svc {
                    // Where a guest knows better, it has said so.
                    response.headers_mut().entry(ALT_SVC).or_insert(alt_svc);
                }
                if may_be_told && office.draining.load(Relaxed) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = pin!(http.serve_connection(stream, serve).into_owned());
        let why = tokio::select! {
            ended = &mut connection => return early(&ended),
            why = &mut silent => why,
            // Its sender lives as long as the worker.
            _ = leaving.wait_for(|leaving| *leaving) => Why::Unused,
        };
        if why == Why::Unused {
            // The client is told, and what it has sent before it knew is answered.
            connection.as_mut().graceful_shutdown();
            silent.set(self.silent(&watched));
            tokio::select! {
                ended = &mut connection => return early(&ended),
                // Nothing is open: it does not read what it was told.
                _ = &mut silent => {}
            }
        }
        tracing::debug!(target: "tenon::connection", "a stalled connection was closed");
    }

    /// Ends when a connection is to end, because nothing happens on it.
    pub(crate) fn silent(self: &Arc<Self>, wire: &Arc<Wire>) -> impl Future<Output = Why> + use<> {
        // A request may be waited for without a byte moving as long as it may last.
        let (office, looked) = (Arc::clone(self), Arc::clone(self));
        let idle = move || office.site.longest() + office.limits.head;
        Arc::clone(wire).silent(idle, self.limits.head, move || looked.is_scarce())
    }
}

fn early<E: std::fmt::Display>(ended: &Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(target: "tenon::connection", %error, "a connection ended early");
    }
}

fn protocol(header_bytes: u64, head: Duration) -> auto::Builder<TokioExecutor> {
    // Whoever says what is served may have been wrong: a connection has no more room than this.
    let head_bytes = header_bytes.min(HEADER_BYTES_MAX) + HEAD_BYTES_BESIDE_FIELDS;
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(usize::try_from(head_bytes).unwrap_or(usize::MAX))
        .max_headers(HEADERS_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(head);
    http
}
