//! A client that keeps its connection, and many of them at once.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::failure::{Failure, Result};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of an answer.
const ANSWER_MAX: usize = 1 << 20;

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    address: SocketAddr,
    received: Vec<u8>,
}

impl Client {
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let failed = |error: std::io::Error| Failure::new(format!("no connection to {address}: {error}"));
        let stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        Ok(Self { stream, address, received: Vec::with_capacity(4 << 10) })
    }

    /// One request and its answer: the status, and how long it took to the last byte.
    pub(super) fn ask(&mut self, host: &str, path: &str) -> Result<(u16, Duration)> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let start = Instant::now();
        let answered = self.exchange(request.as_bytes());
        let took = start.elapsed();
        let (status, closes) =
            answered.map_err(|error| Failure::new(format!("GET {path} of {host}: {error}")))?;
        if closes {
            *self = Self::open(self.address)?;
        }
        Ok((status, took))
    }

    fn exchange(&mut self, request: &[u8]) -> std::io::Result<(u16, bool)> {
        self.stream.write_all(request)?;
        self.received.clear();
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some(answer) = whole(&self.received) {
                return Ok(answer);
            }
            let count = self.stream.read(&mut chunk)?;
            if count == 0 || self.received.len() > ANSWER_MAX {
                return Err(std::io::Error::other("the answer has no end"));
            }
            self.received.extend_from_slice(&chunk[..count]);
        }
    }
}

/// The status, and whether the connection ends with it, once the answer is whole.
fn whole(bytes: &[u8]) -> Option<(u16, bool)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let body = &bytes[end + 4..];
    let header = |name: &str| {
        head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    let is_whole = match header("content-length") {
        Some(length) => body.len() >= length.parse::<usize>().ok()?,
        None => body.ends_with(b"0\r\n\r\n"),
    };
    let status = head.get(9..12)?.parse().ok()?;
    is_whole.then_some((status, header("connection") == Some("close")))
}

/// Some of many times, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Percentiles {
    pub(super) count: usize,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
}

impl Percentiles {
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |share: f64| {
            let place = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
        };
        Self { count: times.len(), p50_us: at(0.5), p90_us: at(0.9), p99_us: at(0.99), max_us: at(1.0) }
    }
}

/// What a load came to.
pub(super) struct Loaded {
    times: Vec<Duration>,
    failed: usize,
    took: Duration,
}

/// A server under load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) requests_per_second: f64,
    pub(super) failed: usize,
    /// Processor time of the server, a request.
    pub(super) cpu_us: f64,
    pub(super) times: Percentiles,
}

impl Loaded {
    pub(super) fn rates(self, cpu: Duration) -> Rates {
        let count = self.times.len().max(1) as f64;
        Rates {
            requests_per_second: count / self.took.as_secs_f64(),
            failed: self.failed,
            cpu_us: cpu.as_secs_f64() * 1e6 / count,
            times: Percentiles::of(self.times),
        }
    }
}

/// So many connections, each with one request under way, for so long.
pub(super) fn load(
    address: SocketAddr,
    host: &str,
    path: &str,
    connections: usize,
    length: Duration,
) -> Result<Loaded> {
    let start = Instant::now();
    let clients: Vec<Result<(Vec<Duration>, usize)>> = thread::scope(|scope| {
        let ask = || -> Result<(Vec<Duration>, usize)> {
            let mut client = Client::open(address)?;
            let (mut times, mut failed) = (Vec::new(), 0);
            while start.elapsed() < length {
                let (status, took) = client.ask(host, path)?;
                if status == 200 {
                    times.push(took);
                } else {
                    failed += 1;
                }
            }
            Ok((times, failed))
        };
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(ask)).collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(Failure::new("a client failed")))
        };
        threads.into_iter().map(ended).collect()
    });
    let took = start.elapsed();
    let mut all = Loaded { times: Vec::new(), failed: 0, took };
    for client in clients {
        let (times, failed) = client?;
        all.times.extend(times);
        all.failed += failed;
    }
    Ok(all)
}

/// So many connections that ask together at a fixed rate, for so long. A request's time counts from when it was due: one
/// that has to wait for the one before is no faster for it. What fails on its way is counted, and asked no more.
pub(super) fn paced(
    address: SocketAddr,
    host: &str,
    connections: usize,
    rate: u32,
    length: Duration,
) -> Loaded {
    let apart = Duration::from_secs(1) * u32::try_from(connections).unwrap_or(u32::MAX) / rate.max(1);
    let start = Instant::now();
    let ask = |number: usize| {
        let mut times = Vec::new();
        let mut failed = 0;
        let mut client = Client::open(address).ok();
        // Spread over the time between two of one client.
        let mut due =
            start + apart * u32::try_from(number).unwrap_or(0) / u32::try_from(connections).unwrap_or(1);
        while due.duration_since(start) < length {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            match client.as_mut().map(|client| client.ask(host, "/")) {
                Some(Ok((200, _))) => times.push(due.elapsed()),
                Some(Ok(_)) => failed += 1,
                Some(Err(_)) | None => {
                    failed += 1;
                    client = Client::open(address).ok();
                }
            }
            due += apart;
        }
        (times, failed)
    };
    let clients: Vec<(Vec<Duration>, usize)> = thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(move || ask(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or((Vec::new(), 1))).collect()
    });
    let mut all = Loaded { times: Vec::new(), failed: 0, took: start.elapsed() };
    for (times, failed) in clients {
        all.times.extend(times);
        all.failed += failed;
    }
    all
}

/// Begins a request over a connection from the `number`th address of this machine's own, and goes no further.
pub(super) fn begin_from(number: usize, to: SocketAddr, host: &str) -> Result<TcpStream> {
    connect_from(number, to, &format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-slow: "))
}

/// Asks from the `number`th address of this machine's own, and gives back the connection without waiting for the answer.
pub(super) fn ask_from(number: usize, to: SocketAddr, host: &str, path: &str) -> Result<TcpStream> {
    connect_from(number, to, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
}

fn connect_from(number: usize, to: SocketAddr, sent: &str) -> Result<TcpStream> {
    let last = u8::try_from(number + 1).unwrap_or(u8::MAX);
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    let asked = || -> std::io::Result<TcpStream> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &from)?;
        connect(&socket, &to)?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(sent.as_bytes())?;
        Ok(stream)
    };
    asked().map_err(|error| Failure::new(format!("a request from {from} to {to}: {error}")))
}

/// Whether the other side has neither closed the connection nor said anything.
pub(super) fn is_silent(stream: &TcpStream) -> bool {
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0; 1]));
    looked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Whether the answer that comes is a 200.
pub(super) fn is_ok(mut stream: &TcpStream, patience: Duration) -> bool {
    let mut answer = [0; 12];
    stream.set_read_timeout(Some(patience)).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && &answer == b"HTTP/1.1 200"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"), None);
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), Some((200, false)));
        let chunked =
            b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert_eq!(whole(chunked), Some((404, true)));
        assert_eq!(whole(&chunked[..chunked.len() - 2]), None);
    }

    #[test]
    fn percentiles_are_of_all() {
        let times = (1..=100).map(Duration::from_micros).collect();
        let found = Percentiles::of(times);
        assert_eq!((found.count, found.p50_us, found.p99_us, found.max_us), (100, 51.0, 100.0, 100.0));
    }
}
