//! What a guest that reaches outside finds there: an HTTP/1.1 server that does as the path says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
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
    /// | `/head` | the head of the request |
    /// | `/echo` | the body of the request |
    /// | `/digest` | how long the body of the request is |
    /// | `/early` | `early`, before the body of the request is read, and the end of the connection |
    /// | `/deaf` | no answer, and nothing of the body is read |
    /// | `/trailers` | `summed` in chunks, and `x-sum: 1234` after it |
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
        let target = head.split(' ').nth(1)?;
        let (path, size) = target.split_once('?').unwrap_or((target, ""));
        let size = size.parse::<usize>().unwrap_or(0);
        let content = match path {
            "/early" | "/deaf" => Vec::new(),
            _ => content(&head, &mut reader)?,
        };
        let mut stream = stream;
        let mut reply = |status: &str, fields: &str, length: usize, body: &[u8]| {
            let common = "x-peer: yes\r\nconnection: close\r\n";
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{common}{fields}\r\n");
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(body).ok()
        };
        match path {
            "/redirect" => reply("302 Found", "location: /hello\r\n", 0, b""),
            "/big" => reply("200 OK", "", size, &vec![b'z'; size]),
            "/headers" => reply("200 OK", &format!("x-long: {}\r\n", "h".repeat(size)), 0, b""),
            "/head" => reply("200 OK", "", head.len(), head.as_bytes()),
            "/echo" => reply("200 OK", "", content.len(), &content),
            "/digest" => {
                let told = format!("{} bytes", content.len());
                reply("200 OK", "", told.len(), told.as_bytes())
            }
            "/early" => {
                reply("200 OK", "", 5, b"early")?;
                // What is closed with something unread in it takes the answer with it.
                stream.shutdown(Shutdown::Write).ok()?;
                std::io::copy(&mut reader, &mut std::io::sink()).ok().map(|_| ())
            }
            "/trailers" => stream
                .write_all(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nconnection: close\r\n\r\n\
                      3\r\nsum\r\n3\r\nmed\r\n0\r\nx-sum: 1234\r\nkeep-alive: timeout=1\r\n\r\n",
                )
                .ok(),
            "/never" | "/deaf" => {
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

/// The body of a request, in either of the ways it may be sent (RFC 9112, section 6).
fn content(head: &str, reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let head = head.to_ascii_lowercase();
    let mut content = Vec::new();
    if head.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
            let size = usize::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            content.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Some(content);
            }
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    content.resize(length.unwrap_or(0), 0);
    reader.read_exact(&mut content).ok()?;
    Some(content)
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
