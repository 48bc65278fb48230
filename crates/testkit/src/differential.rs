//! Whether a service answers from a place of the pool that was used as it does from one that never was.
//!
//! Reset in place or made anew, a sandbox must be the same to whoever asks it. So each question is put to a process of its
//! own, in whose pool nobody was before, and to a process with one place, in which others were just before. The answers
//! have to be equal, byte for byte.

use std::fmt;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use http::header::{DATE, HOST};
use http::{HeaderName, Request, StatusCode};

use crate::client::{Body, ClientError, Reply, empty, fetch, full, request};
use crate::{DEADLINE, Random, Serve, until};

/// Whom every question is for, and what it is called: what is not said would be another one each time.
const AUTHORITY: &str = "differential.test";
const REQUEST_ID: &str = "differential";

/// Refusals that pass: the place is being reset, or an app that failed is given a rest.
const PASSING: [&str; 5] =
    ["pool-exhausted", "concurrency-limit", "queue-wait", "circuit-open", "instances-quota"];

/// Requests that the place has before each question, of the service's own and of those that do harm.
const BEFORE: usize = 2;
/// What is drawn of them.
const SEED: u64 = 0x5eed_7e20;

/// How much of a body is shown where two answers differ.
const SHOWN_BYTES: usize = 2_000;

/// The body of the longer of the [usual] questions, in bytes: more than fits one buffer, less than any limit.
const LONG_BODY_BYTES: usize = 20_000;

/// A request that can be sent as often as wanted, and changes nothing that outlives it.
#[derive(Clone, Debug)]
pub struct Question {
    method: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Question {
    /// A GET of `target`.
    pub fn get(target: impl Into<String>) -> Self {
        Self { method: "GET", target: target.into(), fields: Vec::new(), body: Bytes::new() }
    }

    /// A POST of `body` to `target`.
    pub fn post(target: impl Into<String>, media_type: &str, body: impl Into<Bytes>) -> Self {
        let post = Self { method: "POST", target: target.into(), fields: Vec::new(), body: body.into() };
        post.with("content-type", media_type)
    }

    /// The same with a header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    fn request(&self) -> Request<Body> {
        let body = if self.body.is_empty() { empty() } else { full(self.body.clone()) };
        let mut request = request(self.method, &self.target, body);
        let headers = request.headers_mut();
        headers.insert("x-request-id", REQUEST_ID.parse().expect("a value"));
        for (name, value) in &self.fields {
            headers.append(*name, value.parse().expect("the test sends valid fields"));
        }
        headers.entry(HOST).or_insert(AUTHORITY.parse().expect("a value"));
        request
    }

    /// Sends it, again and again while the place is not free yet, and gives back what comes.
    ///
    /// # Panics
    /// When nobody listens at `address`, or nothing comes in time.
    pub fn ask(&self, address: SocketAddr) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        until("a free place", DEADLINE, || {
            let answer = match runtime.block_on(fetch(address, self.request())) {
                Ok(reply) => Answer::whole(reply),
                Err(ClientError::Http(_)) => Answer::Broken,
                Err(error) => panic!("{self}: {error}: {error:?}"),
            };
            (!answer.passes()).then_some(answer)
        })
    }

    /// Sends all of it but the last byte, and goes away.
    fn leave(&self, address: SocketAddr) {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        let length = self.body.len() + 1;
        let fields: String = self.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{} {} HTTP/1.1\r\nhost: {AUTHORITY}\r\n{fields}content-length: {length}\r\n\r\n",
            self.method, self.target
        );
        // Whoever refuses it early may have closed the connection by then.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&self.body));
    }

    /// Compares the answer from a used place with one from a place that nobody used before. Where they differ, `fresh` asks
    /// once more: of a guest that answers differently each time, whatever was before, only the status and the names of the
    /// header fields are compared, and that is said.
    ///
    /// # Panics
    /// With both answers, when they are not the same.
    #[track_caller]
    pub fn compare(&self, used: &Answer, unused: &Answer, fresh: impl FnOnce() -> Answer) {
        if used == unused {
            return;
        }
        let again = fresh();
        assert!(
            again != *unused,
            "{self}: a used place answers differently\n--- used\n{used}\n--- never used\n{unused}"
        );
        assert_eq!(again.outline(), unused.outline(), "{self}: {again}\n{unused}");
        assert_eq!(
            used.outline(),
            unused.outline(),
            "{self}: a used place answers differently\n--- used\n{used}\n--- never used\n{unused}"
        );
        // Past the test harness, which shows the output only of tests that fail.
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(
            std::io::stderr(),
            "note: {test}: {self} is answered differently each time; only status and header names were compared"
        );
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A response, read to its end. Its date is left out.
    Whole(Box<Reply>),
    /// The connection ended before the response did.
    Broken,
}

impl Answer {
    fn whole(mut reply: Reply) -> Self {
        reply.headers.remove(DATE);
        Self::Whole(Box::new(reply))
    }

    /// Whether it is a refusal that does not last.
    fn passes(&self) -> bool {
        matches!(self, Self::Whole(reply) if PASSING.contains(&reply.header("x-error-code")))
    }

    /// Whether the guest did what it was asked to.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Whole(reply) if reply.status.is_success())
    }

    /// What is the same also where a guest answers differently each time.
    fn outline(&self) -> Option<(StatusCode, Vec<&str>)> {
        let Self::Whole(reply) = self else { return None };
        let mut names: Vec<_> = reply.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        Some((reply.status, names))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Whole(reply) = self else { return f.write_str("the connection broke") };
        let Reply { status, headers, trailers, body } = &**reply;
        let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]);
        write!(f, "{status} {headers:?} {trailers:?} {} bytes: {shown}", body.len())
    }
}

/// Questions that every handler answers somehow: of `path`, with and without a query, a body, fields.
pub fn usual(path: &str) -> Vec<Question> {
    let long: Vec<u8> = (0..LONG_BODY_BYTES).map(|number| b"0123456789abcdef\n"[number % 17]).collect();
    vec![
        Question::get(path),
        Question::get(format!("{path}?first=1&second=%C3%A4"))
            .with("x-client", "one")
            .with("x-client", "two"),
        Question::post(path, "text/plain", long),
    ]
}

/// Asks `serve` each of `questions` in a process of its own, and then all of them in one process with one place, in which
/// there were before each: others of them, some of `hostile`, and a client that went away.
///
/// # Panics
/// When an answer from the used place is another one, or none of them is a good one.
#[track_caller]
pub fn as_fresh(serve: &Serve, questions: &[Question], hostile: &[Question]) {
    // One thread: the place is the same one for all.
    let serve = serve.clone().args(["--pool", "1", "--workers", "1"]);
    let fresh = |question: &Question| {
        let server = serve.clone().start();
        let answer = question.ask(server.address());
        server.stop();
        answer
    };
    // First these: a store is one process's at a time.
    let unused: Vec<Answer> = questions.iter().map(fresh).collect();
    assert!(unused.iter().any(Answer::is_good), "nothing was answered: {}", unused[0]);

    let server = serve.clone().start();
    let mut random = Random(SEED);
    let mut before = |of: &[Question]| {
        for _ in 0..BEFORE.min(of.len()) {
            random.one_of(of).ask(server.address());
        }
    };
    let mut used = Vec::new();
    for question in questions {
        before(questions);
        before(hostile);
        question.leave(server.address());
        used.push(question.ask(server.address()));
    }
    server.stop();

    for ((question, used), unused) in questions.iter().zip(&used).zip(&unused) {
        question.compare(used, unused, || fresh(question));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn answer(status: u16, fields: &[(&'static str, &'static str)], body: &'static str) -> Answer {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Answer::whole(Reply {
            status,
            headers,
            trailers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        })
    }

    /// What a comparison says against the answer from a used place.
    fn said(used: &Answer, unused: &Answer, again: &Answer) -> Option<String> {
        let compare = || Question::get("/").compare(used, unused, || again.clone());
        let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(compare));
        compared.err().map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    }

    #[test]
    fn what_differs_is_told_and_what_differs_by_itself_is_not() {
        let one = answer(200, &[("date", "now"), ("x-a", "1")], "one");
        let same = answer(200, &[("x-a", "1"), ("date", "later")], "one");
        assert_eq!(said(&same, &one, &one), None);
        // A guest that answers the same each time, and another thing from a used place.
        for other in [
            answer(200, &[("x-a", "1")], "two"),
            answer(200, &[("x-a", "2")], "one"),
            answer(500, &[("x-a", "1")], "one"),
            Answer::Broken,
        ] {
            assert!(
                said(&other, &one, &one).is_some_and(|said| said.contains("GET /: a used place answers"))
            );
        }
        // One that answers differently each time may do so there too, but not with another status or other fields.
        let [two, three] = ["two", "three"].map(|body| answer(200, &[("x-a", "1")], body));
        assert_eq!(said(&three, &one, &two), None);
        let other_status = answer(404, &[("x-a", "1")], "three");
        let other_fields = answer(200, &[("x-b", "1")], "three");
        for other in [other_status, other_fields, Answer::Broken] {
            assert!(said(&other, &one, &two).is_some());
        }
    }

    #[test]
    fn what_passes_is_asked_again() {
        assert!(answer(503, &[("x-error-code", "pool-exhausted")], "").passes());
        assert!(!answer(503, &[("x-error-code", "app-paused")], "").passes());
        assert!(!answer(503, &[], "").passes(), "the guest's own");
        assert!(!Answer::Broken.passes());
    }
}
