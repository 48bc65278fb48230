//! What a guest that reaches outside finds there: an HTTP/1.1 server that does as the path says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A server on a free port of 127.0.0.1. It lives as long as the test process.
#[derive(Clone, Debug)]
pub struct Peer {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Starts one.
    ///
    /// | path | what it does |
    /// | --- | --- |
    /// | `/redirect` | 302 to `/hello` |
    /// | `/big?BYTES` | a body of that many bytes |
    /// | `/headers?BYTES` | header fields of that many bytes |
    /// | `/never` | no answer |
    /// | `/stall` | half a body, and no more |
    /// | `/half` | half a body, and the end of the connection |
    /// | all else | `hello from PATH` |
    ///
    /// # Panics
    /// When no port is free.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let peer = Self { address, heads: Arc::default() };
        let serving = peer.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // A client that goes away ends its own thread.
                thread::spawn(move || serving.answer(stream));
            }
        });
        peer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS/PATH`, percent-encoded where it is to stand in a query.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The heads of the requests it got, in order.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
        if head.contains("transfer-encoding: chunked") {
            let mut last = Vec::new();
            while !last.ends_with(b"0\r\n\r\n") {
                let mut chunk = [0; 4096];
                let count = reader.read(&mut chunk).ok().filter(|count| *count > 0)?;
                last.extend_from_slice(&chunk[..count]);
                last.drain(..last.len().saturating_sub(5));
            }
        }
        let target = head.split(' ').nth(1)?;
        let (path, size) = target.split_once('?').unwrap_or((target, ""));
        let size = size.parse::<usize>().unwrap_or(0);
        let mut stream = stream;
        let mut reply = |status: &str, fields: &str, length: usize, body: &[u8]| {
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{fields}\r\n");
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(body).ok()
        };
        match path {
            "/redirect" => reply("302 Found", "location: /hello\r\n", 0, b""),
            "/big" => reply("200 OK", "", size, &vec![b'z'; size]),
            "/headers" => reply("200 OK", &format!("x-long: {}\r\n", "h".repeat(size)), 0, b""),
            "/never" => {
                thread::sleep(Duration::from_secs(600));
                None
            }
            "/stall" => {
                reply("200 OK", "", 10, b"half.")?;
                thread::sleep(Duration::from_secs(600));
                None
            }
            "/half" => reply("200 OK", "", 10, b"half."),
            _ => {
                let body = format!("hello from {target}");
                reply("200 OK", "", body.len(), body.as_bytes())
            }
        }
    }
}

/// A UDP socket on a free port of 127.0.0.1 that sends back what it gets.
///
/// # Panics
/// When no port is free.
pub fn echo_udp() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("a bound address");
    thread::spawn(move || {
        let mut content = [0; 2048];
        while let Ok((count, from)) = socket.recv_from(&mut content) {
            // Whoever asked may be gone.
            let _ = socket.send_to(&content[..count], from);
        }
    });
    address
}
