//! The sockets and the handshakes of HTTP/3. One thread reads datagrams for all of an address; a connection stays with the
//! worker that it was given to, as every other one does.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout, Incoming, Runtime as _,
    TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::InvalidCid;
use ring::hmac;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::{mpsc, oneshot, watch};

use crate::connections::ConnectionLimits;
use crate::handover::{HandOver, Sorted};
use crate::server::STREAMS_MAX;
use crate::tls::Certificates;

/// Streams in one direction that a client may have open: three that the protocol needs, and some that mean nothing.
const ONE_WAY_STREAMS_MAX: u32 = 8;
/// Bytes of one request's body that wait to be read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes of all bodies of a connection that wait to be read.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of all responses of a connection that are not known to have arrived.
const SEND_WINDOW_BYTES: u64 = 1 << 20;
/// What the kernel is asked to keep of datagrams, either way.
const UDP_BUFFER_BYTES: usize = 4 << 20;
/// Connections that nobody has looked at yet; further ones are refused.
const INCOMING_MAX: usize = 1_024;
/// What comes for one of them meanwhile.
const INCOMING_BYTES_MAX: u64 = 32 << 10;
/// And for all of them.
const ALL_INCOMING_BYTES_MAX: u64 = 8 << 20;
/// Connections that wait for a worker to take them.
const KNOCKING_MAX: usize = 256;
/// How long is waited at the end for those who are told that it is the end.
const FAREWELL: Duration = Duration::from_millis(50);
/// Clients are told that HTTP/3 is to be had for as long: a day.
const ALT_SVC_AGE_S: u32 = 86_400;
/// An id of a connection: what makes it one of many, which process made it, and a proof that it was this node.
const CID_BYTES: usize = NONCE_BYTES + MARK_BYTES + TAG_BYTES;
const NONCE_BYTES: usize = 3;
const MARK_BYTES: usize = 2;
const TAG_BYTES: usize = 3;

/// HTTP/3 at an address, beside TLS.
#[derive(Clone, Debug)]
pub struct Http3 {
    /// The port that clients are told; `None`: the one that is listened on.
    pub port: Option<u16>,
    /// What tells the node's own connections, also those of the process before.
    pub key: Http3Key,
}

/// A secret of the node.
#[derive(Clone)]
pub struct Http3Key(pub [u8; 32]);

impl fmt::Debug for Http3Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http3Key")
    }
}

impl Http3 {
    /// What responses over TLS say about it (RFC 7838).
    pub(crate) fn alt_svc(&self, bound: SocketAddr) -> String {
        format!("h3=\":{}\"; ma={ALT_SVC_AGE_S}", self.port.unwrap_or(bound.port()))
    }
}

/// A connection that wants to come in, and counts among the handshakes under way.
pub(crate) struct Knock {
    pub(crate) incoming: Incoming,
    pub(crate) under_way: UnderWay,
}

/// A handshake under way.
pub(crate) struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Relaxed);
        Self(Arc::clone(all))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Where connections of HTTP/3 come in. Its thread reads datagrams from the start, so that those of the process that is being
/// replaced are handed on; who asks for a connection waits until there are workers.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    begin: oneshot::Sender<Begin>,
    open: Open,
}

/// Who takes connections, and until when.
struct Begin {
    workers: Vec<mpsc::Sender<Knock>>,
    stopped: watch::Receiver<bool>,
}

/// A gate whose connections are taken.
pub(crate) struct Open {
    finish: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Gate {
    /// Binds, and starts the thread.
    pub(crate) fn bind(
        address: SocketAddr,
        certificates: &Certificates,
        http3: &Http3,
        limits: &ConnectionLimits,
        replaces: bool,
        hand_over: &mut Option<HandOver>,
    ) -> io::Result<Self> {
        if !replaces {
            // One that does not share finds out whether anybody is there, as for TCP.
            drop(socket(address, false)?);
        }
        let bound = socket(address, true)?;
        give_room(&bound);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let cids = Cids::new(&http3.key)?;
        let is_leaving = Arc::new(AtomicBool::new(false));
        let datagrams = TokioRuntime.wrap_udp_socket(bound)?;
        let datagrams = match hand_over.take() {
            Some(hand_over) => Sorted::over(datagrams, hand_over, cids.clone(), Arc::clone(&is_leaving))?,
            None => datagrams,
        };
        let (server, endpoint) = (server(certificates, limits)?, endpoint(&http3.key, cids));
        let tokio = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new_with_abstract_socket(endpoint, Some(server), datagrams, tokio)?;
        drop(entered);
        let (begin, begun) = oneshot::channel();
        let (finish, finished) = watch::channel(false);
        let keeper =
            Keeper { under_way: Arc::default(), limits: *limits, workers: Vec::new(), next: 0, is_leaving };
        let thread = std::thread::Builder::new()
            .name("tenon-http3".into())
            .spawn(move || runtime.block_on(keeper.run(endpoint, begun, finished)))?;
        Ok(Self { address, begin, open: Open { finish, thread } })
    }

    /// From now on connections go to the workers in turn.
    pub(crate) fn start(self, workers: Vec<mpsc::Sender<Knock>>, stopped: watch::Receiver<bool>) -> Open {
        // Its thread waits for this, and for nothing else.
        let _ = self.begin.send(Begin { workers, stopped });
        self.open
    }
}

impl Open {
    /// Channels that connections go to workers through.
    pub(crate) fn channel() -> (mpsc::Sender<Knock>, mpsc::Receiver<Knock>) {
        mpsc::channel(KNOCKING_MAX)
    }

    /// Ends the thread: no worker has connections any more.
    pub(crate) fn finish(self) {
        self.finish.send_replace(true);
        let _ = self.thread.join();
    }
}

/// Decides who may come in.
struct Keeper {
    under_way: Arc<AtomicUsize>,
    limits: ConnectionLimits,
    workers: Vec<mpsc::Sender<Knock>>,
    next: usize,
    /// Whether this process takes nothing new.
    is_leaving: Arc<AtomicBool>,
}

impl Keeper {
    async fn run(
        mut self,
        endpoint: Endpoint,
        begun: oneshot::Receiver<Begin>,
        mut finished: watch::Receiver<bool>,
    ) {
        // Without an answer, there will be no workers.
        let Ok(Begin { workers, mut stopped }) = begun.await else { return };
        self.workers = workers;
        loop {
            let is_leaving = self.is_leaving.load(Relaxed);
            tokio::select! {
                biased;
                _ = finished.wait_for(|finished| *finished) => break,
                _ = stopped.wait_for(|stopped| *stopped), if !is_leaving => self.is_leaving.store(true, Relaxed),
                incoming = endpoint.accept() => match incoming {
                    // Nobody answers, so that it is asked again: by then the next process is there, or nobody is.
                    Some(incoming) if is_leaving => incoming.ignore(),
                    Some(incoming) => self.knock(incoming),
                    None => break,
                },
            }
        }
        endpoint.close(VarInt::from_u32(0), b"");
        let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
    }

    /// Gives a connection to a worker. Where many handshakes are under way, a client has to show first that it is where it
    /// says (RFC 9000, section 8.1.2): one that lies about its address costs no more than that.
    fn knock(&mut self, incoming: Incoming) {
        let under_way = self.under_way.load(Relaxed);
        if under_way >= self.limits.handshakes_max {
            tracing::debug!(target: "tenon::connection", "too many handshakes are under way");
            return incoming.refuse();
        }
        if under_way >= self.limits.handshakes_unproved_max
            && !incoming.remote_address_validated()
            && incoming.may_retry()
        {
            let _ = incoming.retry();
            return;
        }
        let mut knock = Knock { incoming, under_way: UnderWay::new(&self.under_way) };
        for _ in 0..self.workers.len() {
            let worker = &self.workers[self.next];
            self.next = (self.next + 1) % self.workers.len();
            match worker.try_send(knock) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => {
                    knock = back;
                }
            }
        }
        knock.incoming.refuse();
    }
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Asks the kernel for room, and says when there is less than there should be.
fn give_room(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    let asked = socket
        .set_recv_buffer_size(UDP_BUFFER_BYTES)
        .and_then(|()| socket.set_send_buffer_size(UDP_BUFFER_BYTES))
        .and_then(|()| Ok(socket.recv_buffer_size()?.min(socket.send_buffer_size()?)));
    match asked {
        // The kernel says twice of what it was asked for.
        Ok(twice) if twice / 2 < UDP_BUFFER_BYTES => tracing::warn!(
            asked_bytes = UDP_BUFFER_BYTES,
            has_bytes = twice / 2,
            mend =
                format!("sysctl net.core.rmem_max={UDP_BUFFER_BYTES} net.core.wmem_max={UDP_BUFFER_BYTES}"),
            "the kernel keeps less of HTTP/3's datagrams than it should: in a burst some are lost, and sent again"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the buffers of HTTP/3 could not be set"),
    }
}

fn endpoint(key: &Http3Key, cids: Cids) -> EndpointConfig {
    // With the key of the process before, its clients can be told that their connections are gone.
    let mut endpoint = EndpointConfig::new(Arc::new(derived(key, b"reset")));
    endpoint.cid_generator(move || Box::new(cids.clone()));
    endpoint
}

fn server(certificates: &Certificates, limits: &ConnectionLimits) -> io::Result<quinn::ServerConfig> {
    let tls = certificates.over_quic().map_err(io::Error::other)?;
    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS_MAX.into())
        .max_concurrent_uni_streams(ONE_WAY_STREAMS_MAX.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        // A client that does not answer is gone; one that is there answers, whether it asks for anything or not.
        .max_idle_timeout(IdleTimeout::try_from(limits.head).ok())
        .keep_alive_interval(Some(limits.head / 2));
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    server
        .transport_config(Arc::new(transport))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(ALL_INCOMING_BYTES_MAX);
    Ok(server)
}

/// A key for one use.
fn derived(key: &Http3Key, of: &[u8]) -> hmac::Key {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.0);
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, of).as_ref())
}

/// Makes the ids of connections, and knows them again.
#[derive(Clone)]
pub(crate) struct Cids {
    key: hmac::Key,
    mark: [u8; MARK_BYTES],
}

impl Cids {
    pub(crate) fn new(key: &Http3Key) -> Result<Self, getrandom::Error> {
        let mut mark = [0; MARK_BYTES];
        getrandom::fill(&mut mark)?;
        Ok(Self { key: derived(key, b"id"), mark })
    }

    fn tag(&self, of: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hmac::sign(&self.key, of).as_ref()[..TAG_BYTES]);
        tag
    }

    /// Whether this node has made the id, in this process or another.
    fn is_of_node(&self, id: &[u8]) -> bool {
        id.len() == CID_BYTES && {
            let (of, tag) = id.split_at(NONCE_BYTES + MARK_BYTES);
            self.tag(of) == tag
        }
    }

    /// Whether this process has made it.
    fn is_ours(&self, id: &[u8]) -> bool {
        id.get(NONCE_BYTES..NONCE_BYTES + MARK_BYTES) == Some(&self.mark[..]) && self.is_of_node(id)
    }
}

impl fmt::Debug for Cids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cids").field("mark", &self.mark).finish_non_exhaustive()
    }
}

impl ConnectionIdGenerator for Cids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CID_BYTES];
        // One that is taken is made again; there is always randomness once the process has started.
        let _ = getrandom::fill(&mut id[..NONCE_BYTES]);
        id[NONCE_BYTES..][..MARK_BYTES].copy_from_slice(&self.mark);
        let tag = self.tag(&id[..NONCE_BYTES + MARK_BYTES]);
        id[NONCE_BYTES + MARK_BYTES..].copy_from_slice(&tag);
        ConnectionId::new(&id)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        if self.is_of_node(cid) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Whom a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A connection of this process.
    Ours,
    /// Nobody yet: it asks for a connection.
    New,
    /// Another process, if there is one.
    Other,
}

impl Whose {
    /// Told by the part of a datagram that is the same in every version (RFC 8999), and by the types of packets of version 1.
    pub(crate) fn of(datagram: &[u8], cids: &Cids) -> Self {
        let Some(first) = datagram.first() else { return Self::Other };
        if first & 0x80 == 0 {
            let is_ours = datagram.get(1..=CID_BYTES).is_some_and(|id| cids.is_ours(id));
            return if is_ours { Self::Ours } else { Self::Other };
        }
        // The version, then the length of the id.
        let id = datagram.get(5).and_then(|length| datagram.get(6..6 + usize::from(*length)));
        if id.is_some_and(|id| cids.is_ours(id)) {
            return Self::Ours;
        }
        // 2 is a handshake that goes on, and 3 is not for servers.
        if datagram.get(1..5) == Some(&[0, 0, 0, 1]) && first >> 4 & 0b11 >= 2 {
            Self::Other
        } else {
            Self::New
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Cids {
        /// As another process of the node makes them.
        pub(crate) fn marked(self, mark: [u8; MARK_BYTES]) -> Self {
            Self { mark, ..self }
        }
    }

    pub(crate) fn cids() -> Cids {
        Cids { key: derived(&Http3Key([1; 32]), b"id"), mark: [7, 7] }
    }

    /// A short header with an id of this process.
    pub(crate) fn datagram_of(cids: &mut Cids, rest: &[u8]) -> Vec<u8> {
        [&[0x40][..], &cids.generate_cid(), rest].concat()
    }

    #[test]
    fn an_id_says_which_node_and_which_process_made_it() {
        let mut ours = cids();
        let mut before = ours.clone().marked([8, 8]);
        let mut stranger = Cids { key: derived(&Http3Key([2; 32]), b"id"), ..ours.clone() };
        let (mine, theirs, alien) = (ours.generate_cid(), before.generate_cid(), stranger.generate_cid());
        assert!(ours.validate(&mine).is_ok() && ours.validate(&theirs).is_ok());
        assert!(ours.validate(&alien).is_err() && ours.validate(&ConnectionId::new(&[])).is_err());
        assert!(ours.is_ours(&mine) && !ours.is_ours(&theirs) && !ours.is_ours(&alien));
        assert_ne!(ours.generate_cid(), mine);
    }

    #[test]
    fn a_datagram_says_whose_it_is() {
        let mut ours = cids();
        let mut before = ours.clone().marked([8, 8]);
        let (mine, theirs) = (ours.generate_cid(), before.generate_cid());
        let whose = |bytes: &[&[u8]]| Whose::of(&bytes.concat(), &ours);
        let (v1, v9) = (&[0, 0, 0, 1][..], &[0, 0, 0, 9][..]);
        assert_eq!(whose(&[&[0x40], &mine, b"rest"]), Whose::Ours);
        assert_eq!(whose(&[&[0x40], &theirs, b"rest"]), Whose::Other);
        assert_eq!(whose(&[&[0x40]]), Whose::Other);
        assert_eq!(whose(&[]), Whose::Other);
        assert_eq!(whose(&[&[0xc0], v1, &[8], b"anything"]), Whose::New);
        assert_eq!(whose(&[&[0xd0], v1, &[8], b"anything"]), Whose::New);
        assert_eq!(whose(&[&[0xe0], v1, &[8], &mine]), Whose::Ours);
        assert_eq!(whose(&[&[0xc0], v1, &[8], &mine]), Whose::Ours);
        assert_eq!(whose(&[&[0xe0], v1, &[8], &theirs]), Whose::Other);
        assert_eq!(
            whose(&[&[0xe0], v9, &[8], &theirs]),
            Whose::New,
            "its version is refused by whoever is there"
        );
    }

    #[test]
    fn clients_are_told_the_port_that_they_can_reach() {
        let http3 = Http3 { port: None, key: Http3Key([0; 32]) };
        let bound = "127.0.0.1:4433".parse().unwrap();
        assert_eq!(http3.alt_svc(bound), "h3=\":4433\"; ma=86400");
        assert_eq!(Http3 { port: Some(443), ..http3 }.alt_svc(bound), "h3=\":443\"; ma=86400");
    }
}
