//! What two processes that share an address do with each other's datagrams, while the one takes the other's place.
//!
//! The kernel gives a datagram to either of them, by its addresses. Which process it is for, its connection's id says; the
//! one that has it by mistake hands it to the other, over a socket in the file system. So the connections of the one that
//! leaves go on until they are over, and the other one gets all that are new.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::ReadBuf;

use crate::quic::{Cids, Whose};

/// What stands before datagrams that are handed over: the client's address and port, ours, the congestion mark, and how
/// long each of them is but the last.
const HEAD_BYTES: usize = ADDRESS_BYTES + 2 + ADDRESS_BYTES + 1 + 2;
/// An address: its family, then the address itself.
const ADDRESS_BYTES: usize = 1 + 16;
/// The kernel joins no more of what comes together.
const DATAGRAMS_BYTES_MAX: usize = 65_535;

/// Where datagrams are handed over.
#[derive(Debug)]
pub struct HandOver {
    /// What this process is handed.
    pub socket: UnixDatagram,
    /// Where the one that is being replaced takes what is for it; `None` when there is none.
    pub before: Option<PathBuf>,
    /// Where the one that comes after takes what is for it.
    pub next: PathBuf,
}

/// A socket whose datagrams are sorted: each goes to the process that it is for.
pub(crate) struct Sorted {
    datagrams: Arc<dyn AsyncUdpSocket>,
    handed: tokio::net::UnixDatagram,
    /// The same, to hand over by: whether the other has room is told by trying, and by nothing else.
    hands: UnixDatagram,
    before: Option<PathBuf>,
    /// Whether the process before is still there.
    has_before: AtomicBool,
    next: PathBuf,
    cids: Cids,
    is_leaving: Arc<AtomicBool>,
    buffer: Mutex<Vec<u8>>,
}

impl Sorted {
    pub(crate) fn over(
        datagrams: Arc<dyn AsyncUdpSocket>,
        HandOver { socket, before, next }: HandOver,
        cids: Cids,
        is_leaving: Arc<AtomicBool>,
    ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        socket.set_nonblocking(true)?;
        let has_before = AtomicBool::new(before.is_some());
        let buffer = Mutex::new(vec![0; HEAD_BYTES + DATAGRAMS_BYTES_MAX]);
        let hands = socket.try_clone()?;
        let handed = tokio::net::UnixDatagram::from_std(socket)?;
        Ok(Arc::new(Self { datagrams, handed, hands, before, has_before, next, cids, is_leaving, buffer }))
    }

    /// Where a datagram goes; `None`: it stays.
    fn goes(&self, datagram: &[u8]) -> Option<&Path> {
        match Whose::of(datagram, &self.cids) {
            Whose::Ours => None,
            Whose::New | Whose::Other if self.is_leaving.load(Relaxed) => Some(&self.next),
            Whose::Other if self.has_before.load(Relaxed) => self.before.as_deref(),
            Whose::New | Whose::Other => None,
        }
    }

    /// Hands datagrams that came together to another process. What it has no room for is lost, as it would be in the network,
    /// and sent again.
    fn hand(&self, to: &Path, datagrams: &[u8], meta: &RecvMeta) {
        let handed = self.hands.send_to(&packed(datagrams, meta), to);
        let is_gone = handed.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock);
        if is_gone && Some(to) == self.before.as_deref() {
            self.has_before.store(false, Relaxed);
        }
    }

    /// Leaves in a buffer what this process keeps of its datagrams, and hands over the rest.
    fn sort(&self, bytes: &mut [u8], meta: &mut RecvMeta) {
        let (stride, length) = (meta.stride.max(1), meta.len.min(bytes.len()));
        let mut kept = 0;
        // Datagrams one after the other that go the same way.
        let mut run: Option<(&Path, usize)> = None;
        for start in (0..length).step_by(stride) {
            let end = (start + stride).min(length);
            let goes = self.goes(&bytes[start..end]);
            if let Some((to, from)) = run
                && goes != Some(to)
            {
                self.hand(to, &bytes[from..start], meta);
                run = None;
            }
            match goes {
                Some(to) => run = run.or(Some((to, start))),
                None => {
                    bytes.copy_within(start..end, kept);
                    kept += end - start;
                }
            }
        }
        if let Some((to, from)) = run {
            self.hand(to, &bytes[from..length], meta);
        }
        meta.len = kept;
    }

    /// The next datagrams that the other process has handed over.
    fn poll_handed(&self, context: &mut Context<'_>, bytes: &mut [u8], meta: &mut RecvMeta) -> Poll<()> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match self.handed.poll_recv(context, &mut read) {
                Poll::Ready(Ok(())) => {
                    if let Some((datagrams, about)) = unpacked(read.filled())
                        && let Some(room) = bytes.get_mut(..datagrams.len())
                    {
                        room.copy_from_slice(datagrams);
                        *meta = about;
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(target: "tenon::connection", %error, "nothing can be handed over");
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl AsyncUdpSocket for Sorted {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.datagrams).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.datagrams.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if let (Some(buffer), Some(meta)) = (buffers.first_mut(), metas.first_mut())
            && self.poll_handed(context, buffer, meta).is_ready()
        {
            return Poll::Ready(Ok(1));
        }
        let polled = self.datagrams.poll_recv(context, buffers, metas);
        let is_shared = self.has_before.load(Relaxed) || self.is_leaving.load(Relaxed);
        if let Poll::Ready(Ok(count)) = polled
            && is_shared
        {
            for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()).take(count) {
                self.sort(buffer, meta);
            }
        }
        polled
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.datagrams.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.datagrams.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.datagrams.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.datagrams.may_fragment()
    }
}

impl fmt::Debug for Sorted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sorted").field("datagrams", &self.datagrams).finish_non_exhaustive()
    }
}

fn packed(datagrams: &[u8], meta: &RecvMeta) -> Vec<u8> {
    let stride = u16::try_from(meta.stride.min(datagrams.len())).unwrap_or(u16::MAX);
    let mut packed = Vec::with_capacity(HEAD_BYTES + datagrams.len());
    packed.extend_from_slice(&bits(Some(meta.addr.ip())));
    packed.extend_from_slice(&meta.addr.port().to_be_bytes());
    packed.extend_from_slice(&bits(meta.dst_ip));
    packed.push(meta.ecn.map_or(0, |ecn| ecn as u8));
    packed.extend_from_slice(&stride.to_be_bytes());
    packed.extend_from_slice(datagrams);
    packed
}

fn unpacked(packed: &[u8]) -> Option<(&[u8], RecvMeta)> {
    let (client, rest) = packed.split_first_chunk::<ADDRESS_BYTES>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (ours, rest) = rest.split_first_chunk::<ADDRESS_BYTES>()?;
    let (ecn, rest) = rest.split_first()?;
    let (stride, datagrams) = rest.split_first_chunk::<2>()?;
    let meta = RecvMeta {
        addr: SocketAddr::new(address(client)?, u16::from_be_bytes(*port)),
        len: datagrams.len(),
        stride: u16::from_be_bytes(*stride).into(),
        ecn: EcnCodepoint::from_bits(*ecn),
        dst_ip: address(ours),
    };
    (meta.stride > 0 && !datagrams.is_empty()).then_some((datagrams, meta))
}

/// An address of the family that the socket has it in: one of IPv4 within IPv6 stays so.
fn bits(address: Option<IpAddr>) -> [u8; ADDRESS_BYTES] {
    let mut bits = [0; ADDRESS_BYTES];
    match address {
        None => {}
        Some(IpAddr::V4(address)) => {
            bits[0] = 4;
            bits[1..5].copy_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            bits[0] = 6;
            bits[1..].copy_from_slice(&address.octets());
        }
    }
    bits
}

fn address(bits: &[u8; ADDRESS_BYTES]) -> Option<IpAddr> {
    let [family, rest @ ..] = bits;
    match family {
        4 => Some(Ipv4Addr::from(*rest.first_chunk::<4>()?).into()),
        6 => Some(Ipv6Addr::from(*rest).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use quinn::{Runtime as _, TokioRuntime};

    use super::*;
    use crate::quic::tests::{cids, datagram_of};

    #[test]
    fn what_is_handed_over_arrives_as_it_was() {
        for (client, ours) in [
            ("192.0.2.1:4711", Some("198.51.100.2")),
            ("[::ffff:192.0.2.1]:4711", Some("::ffff:198.51.100.2")),
            ("[2001:db8::1]:1", None),
        ] {
            let meta = RecvMeta {
                addr: client.parse().unwrap(),
                len: 5,
                stride: 3,
                ecn: Some(EcnCodepoint::Ect0),
                dst_ip: ours.map(|ours| ours.parse().unwrap()),
            };
            let packed = packed(b"bytes", &meta);
            let (datagram, about) = unpacked(&packed).unwrap();
            assert_eq!((datagram, about.addr, about.dst_ip), (&b"bytes"[..], meta.addr, meta.dst_ip));
            assert_eq!((about.len, about.stride, about.ecn), (5, 3, meta.ecn));
            assert!(unpacked(&packed[..HEAD_BYTES]).is_none() && unpacked(&packed[..3]).is_none());
        }
    }

    /// What a socket gives within a short time.
    async fn received(socket: &dyn AsyncUdpSocket) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut space = vec![0; 64 << 10];
        loop {
            let mut metas = [RecvMeta::default()];
            let next = std::future::poll_fn(|context| {
                socket.poll_recv(context, &mut [IoSliceMut::new(&mut space)], &mut metas)
            });
            match tokio::time::timeout(Duration::from_millis(200), next).await {
                Ok(count) => {
                    assert_eq!(count.unwrap(), 1);
                    let RecvMeta { len, stride, .. } = metas[0];
                    all.extend(space[..len].chunks(stride.max(1)).map(<[u8]>::to_vec));
                }
                Err(_) => return all,
            }
        }
    }

    #[tokio::test]
    async fn each_process_gets_what_is_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let (old_at, new_at) = (folder.path().join("old"), folder.path().join("new"));
        let key = cids();
        let sorted = |at: &PathBuf, before: Option<&PathBuf>, mark, is_leaving| {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = udp.local_addr().unwrap();
            let hand_over = HandOver {
                socket: UnixDatagram::bind(at).unwrap(),
                before: before.cloned(),
                next: new_at.clone(),
            };
            let cids = key.clone().marked(mark);
            let udp = TokioRuntime.wrap_udp_socket(udp).unwrap();
            let is_leaving = Arc::new(AtomicBool::new(is_leaving));
            (address, Sorted::over(udp, hand_over, cids, is_leaving).unwrap())
        };
        let (old_address, old) = sorted(&old_at, None, [1, 1], true);
        let (new_address, new) = sorted(&new_at, Some(&old_at), [2, 2], false);
        let of_old = datagram_of(&mut key.clone().marked([1, 1]), b"for the old one");
        let of_new = datagram_of(&mut key.clone().marked([2, 2]), b"for the new one");
        let first = [&[0xc0, 0, 0, 0, 1, 8][..], b"whatever", b"asks for a connection"].concat();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for address in [old_address, new_address] {
            for datagram in [&of_old, &of_new, &first] {
                client.send_to(datagram, address).unwrap();
            }
        }
        let sort = |mut all: Vec<Vec<u8>>| {
            all.sort();
            all
        };
        // Each hands over what it reads, so both have to read before either has everything.
        let (at_old, at_new) = (received(&*old).await, received(&*new).await);
        let at_old = [at_old, received(&*old).await].concat();
        assert_eq!(sort(at_old), [of_old.clone(), of_old.clone()]);
        assert_eq!(sort(at_new), sort(vec![of_new.clone(), of_new, first.clone(), first]));
        drop(old);
        // The first one shows that nobody else is there; from then on this one answers that the connection is gone.
        for expected in [vec![], vec![of_old.clone()]] {
            client.send_to(&of_old, new_address).unwrap();
            assert_eq!(received(&*new).await, expected);
        }
    }

    #[tokio::test]
    async fn what_comes_together_is_handed_over_together_however_much_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (at, next) = (folder.path().join("this"), folder.path().join("next"));
        let other = UnixDatagram::bind(&next).unwrap();
        other.set_nonblocking(true).unwrap();
        let udp = TokioRuntime.wrap_udp_socket(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let cids = cids();
        let sorted = Sorted {
            datagrams: udp,
            handed: tokio::net::UnixDatagram::unbound().unwrap(),
            hands: UnixDatagram::bind(&at).unwrap(),
            before: None,
            has_before: AtomicBool::new(false),
            next,
            cids: cids.clone(),
            is_leaving: Arc::new(AtomicBool::new(true)),
            buffer: Mutex::default(),
        };
        sorted.hands.set_nonblocking(true).unwrap();
        let ours = datagram_of(&mut cids.clone(), b"ours");
        let theirs = datagram_of(&mut cids.marked([9, 9]), b"them");
        let meta = |len| RecvMeta {
            addr: "192.0.2.1:1".parse().unwrap(),
            len,
            stride: ours.len(),
            ecn: None,
            dst_ip: None,
        };
        let mut bytes = [&theirs[..], &theirs, &ours, &theirs, &ours, &theirs[..9]].concat();
        let mut kept = meta(bytes.len());
        sorted.sort(&mut bytes, &mut kept);
        assert_eq!(&bytes[..kept.len], [&ours[..], &ours].concat());
        let mut buffer = [0; 1_024];
        let mut handed = || {
            let length = other.recv(&mut buffer).ok()?;
            unpacked(&buffer[..length]).map(|(datagrams, meta)| (datagrams.to_vec(), meta.stride))
        };
        assert_eq!(handed(), Some(([&theirs[..], &theirs].concat(), ours.len())));
        assert_eq!(handed(), Some((theirs.clone(), ours.len())));
        assert_eq!(handed(), Some((theirs[..9].to_vec(), 9)));
        assert_eq!(handed(), None);
        // One that reads nothing for a while loses some; it gets what comes later.
        for _ in 0..10_000 {
            sorted.sort(&mut theirs.clone(), &mut meta(theirs.len()));
        }
        while handed().is_some() {}
        sorted.sort(&mut theirs.clone(), &mut meta(theirs.len()));
        assert_eq!(handed(), Some((theirs.clone(), ours.len())));
    }
}
