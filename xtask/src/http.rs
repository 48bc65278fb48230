//! A small HTTP/1.1 client over a real connection: one request, one response, then closed.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are read.
const RESPONSE_MAX: u64 = 16 << 20;

/// A request.
#[derive(Clone, Default)]
pub(crate) struct Request<'a> {
    /// The method.
    pub(crate) method: &'a str,
    /// Path and query.
    pub(crate) path: &'a str,
    /// Headers besides `host`, `connection` and `content-length`.
    pub(crate) headers: Vec<(&'a str, String)>,
    /// The body.
    pub(crate) body: Option<&'a [u8]>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, without its framing.
    pub(crate) body: Vec<u8>,
    /// From before connecting to the last byte.
    pub(crate) took: Duration,
}

impl Response {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Request<'_> {
    /// The bytes to send.
    pub(crate) fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            let _infallible = write!(head, "{name}: {value}\r\n");
        }
        if let Some(body) = self.body {
            let _infallible = write!(head, "content-length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.unwrap_or_default());
        bytes
    }

    /// Sends it and reads the answer.
    pub(crate) fn send(&self, to: SocketAddr) -> Result<Response> {
        let started = Instant::now();
        let failed =
            |error: std::io::Error| Failure::new(format!("{} {} to {to}: {error}", self.method, self.path));
        let mut stream = TcpStream::connect_timeout(&to, TIMEOUT).map_err(failed)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.write_all(&self.bytes(to)).map_err(failed)?;
        let mut bytes = Vec::new();
        stream.take(RESPONSE_MAX).read_to_end(&mut bytes).map_err(failed)?;
        parse(&bytes, started.elapsed()).ok_or_else(|| {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            Failure::new(format!("{} {} to {to}: the answer is not HTTP: {text:?}", self.method, self.path))
        })
    }
}

fn parse(bytes: &[u8], took: Duration) -> Option<Response> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<Option<_>>()?;
    let rest = &bytes[end + 4..];
    let value = |name: &str| headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str());
    let body = match (value("transfer-encoding"), value("content-length")) {
        (Some("chunked"), _) => dechunked(rest)?,
        (None, Some(length)) => rest.get(..length.parse().ok()?)?.to_vec(),
        _ => rest.to_vec(),
    };
    Some(Response { status, headers, body, took })
}

fn dechunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let chunk_end = (end + 2).checked_add(size)?;
        body.extend_from_slice(bytes.get(end + 2..chunk_end)?);
        bytes = bytes.get(chunk_end + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one request with `answer` and returns what was asked.
    fn exchange(request: &Request<'_>, answer: &'static str) -> (Result<Response>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let expected = request.bytes(address).len();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; expected];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        let response = request.send(address);
        (response, server.join().unwrap())
    }

    #[test]
    fn a_request_is_framed_and_its_answer_read() {
        let headers = vec![("authorization", "Bearer x".to_owned())];
        let request = Request { method: "POST", path: "/orders", headers, body: Some(b"{}") };
        let (response, asked) = exchange(
            &request,
            "HTTP/1.1 201 Created\r\nX-Request-Id: 7\r\ncontent-length: 2\r\n\r\nokignored",
        );
        let response = response.unwrap();
        assert_eq!((response.status, response.text().as_str()), (201, "ok"));
        assert_eq!(response.header("x-request-id"), Some("7"));
        assert!(asked.starts_with("POST /orders HTTP/1.1\r\nhost: 127.0.0.1:"), "{asked}");
        assert!(asked.ends_with("authorization: Bearer x\r\ncontent-length: 2\r\n\r\n{}"), "{asked}");
    }

    #[test]
    fn chunks_are_joined() {
        let request = Request { method: "GET", path: "/", ..Request::default() };
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(exchange(&request, chunked).0.unwrap().text(), "abc0123456789");
    }

    #[test]
    fn an_answer_that_is_cut_short_is_an_error() {
        let request = Request { method: "GET", path: "/", ..Request::default() };
        for cut in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-le",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
        ] {
            assert!(exchange(&request, cut).0.is_err(), "{cut:?}");
        }
    }
}
