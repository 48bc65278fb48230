//! `wasi:http/client`, and the streams and futures of a request and its response.

use std::future::IntoFuture as _;
use std::pin::pin;

use faults::Checks;
use wasip3::http::client::send;
use wasip3::http::types::{
    ErrorCode, Fields, HeaderError, Method, Request, RequestOptions, Response, Scheme,
};
use wasip3::spawn_local;
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamWriter};
use wasip3::{wit_future, wit_stream};

use crate::http::{no_trailers, well};
use crate::wait::{both, now, soon, within};

type Transmitted = FutureReader<Result<(), ErrorCode>>;

/// A request to be sent.
struct Ask<'a> {
    authority: &'a str,
    method: Method,
    path: &'a str,
    fields: Vec<(&'a str, &'a str)>,
    content: Option<StreamReader<u8>>,
    options: Option<RequestOptions>,
}

impl<'a> Ask<'a> {
    fn get(authority: &'a str, path: &'a str) -> Self {
        Self { authority, method: Method::Get, path, fields: vec![], content: None, options: None }
    }

    /// A POST, and what its content is written to.
    fn post(authority: &'a str, path: &'a str, fields: &[(&'a str, &'a str)]) -> (Self, StreamWriter<u8>) {
        let (writer, reader) = wit_stream::new();
        let fields = fields.to_vec();
        let ask = Self { method: Method::Post, fields, content: Some(reader), ..Self::get(authority, path) };
        (ask, writer)
    }

    fn request(self) -> (Request, Transmitted) {
        let fields = Fields::new();
        for (name, value) in self.fields {
            fields.append(name, value.as_bytes()).expect("fields that may be sent");
        }
        let (request, sent) = Request::new(fields, self.content, no_trailers(), self.options);
        request.set_method(&self.method).expect("a method");
        request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
        request.set_authority(Some(self.authority)).expect("an authority");
        request.set_path_with_query(Some(self.path)).expect("a path");
        (request, sent)
    }

    async fn send(self) -> (Option<Result<Response, ErrorCode>>, Transmitted) {
        let (request, sent) = self.request();
        (soon(send(request)).await, sent)
    }
}

/// The status of a response to a GET of `/`.
pub async fn status(authority: &str) -> Result<u16, ErrorCode> {
    let (request, _sent) = Ask::get(authority, "/").request();
    Ok(send(request).await?.get_status_code())
}

/// A response: its status, its body as text, and how the body ended.
async fn read(response: Response) -> (u16, String, String) {
    let status = response.get_status_code();
    let (content, trailers) = Response::consume_body(response, well());
    let content = soon(content.collect()).await.unwrap_or_default();
    let ended = soon(trailers.into_future()).await.map(|it| it.map(|it| it.map(|it| it.copy_all())));
    (status, String::from_utf8_lossy(&content).into_owned(), format!("{ended:?}").replace("ErrorCode::", ""))
}

/// What a GET of `path` ends in.
async fn fetch(authority: &str, path: &str) -> (u16, String, String) {
    match Ask::get(authority, path).send().await {
        (Some(Ok(response)), _) => read(response).await,
        (other, _) => (0, String::new(), format!("{other:?}").replace("ErrorCode::", "")),
    }
}

const WELL: &str = "Some(Ok(None))";

pub async fn check(checks: &mut Checks, peer: u16, closed: u16) {
    let peer = &format!("127.0.0.1:{peer}");
    asked(checks, peer).await;
    sent(checks, peer).await;
    lengths(checks, peer).await;
    endings(checks, peer).await;
    waits(checks, peer).await;
    passed_on(checks, peer).await;
    refused(checks, peer, &format!("127.0.0.1:{closed}")).await;
    let alive = fetch(peer, "/hello").await;
    checks.same(
        "after all that, a request is as good as the first",
        (alive.0, alive.2.as_str()),
        (200, WELL),
    );
}

/// What is asked arrives as it was asked.
async fn asked(checks: &mut Checks, peer: &str) {
    let mut ask = Ask::get(peer, "/head?a=b%20c");
    ask.fields = vec![("x-one", "1"), ("x-one", "2"), ("user-agent", "conforming")];
    let (response, transmitted) = ask.send().await;
    let Some(Ok(response)) = response else {
        return checks.holds("a request is answered", false, &format!("{response:?}"));
    };
    let headers = response.get_headers();
    checks.holds(
        "the fields of a response cannot be changed",
        matches!(headers.append("a", b"b"), Err(HeaderError::Immutable)),
        "they can",
    );
    checks.same("a field of the response", headers.get("X-Peer"), vec![b"yes".to_vec()]);
    checks.same("those of the connection are not among them", headers.has("connection"), false);
    let (status, head, ended) = read(response).await;
    checks.same("the status", status, 200);
    checks.same("the body ends well and has no trailers", ended.as_str(), WELL);
    checks.shows("so did the request", soon(transmitted.into_future()).await, "Some(Ok(()))");
    checks.same("fields outlive their response", headers.has("x-peer"), true);
    let head = head.to_ascii_lowercase();
    checks.holds("the path and the query", head.starts_with("get /head?a=b%20c http/1.1\r\n"), &head);
    for line in [&format!("host: {peer}"), "x-one: 1", "x-one: 2", "user-agent: conforming"] {
        let count = head.lines().filter(|it| *it == line).count();
        checks.same(&format!("once, {line}"), count, 1);
    }
    for name in ["transfer-encoding:", "connection: upgrade", "proxy-", "x-forwarded-"] {
        checks.holds(&format!("and no {name}"), !head.contains(name), &head);
    }
    for (method, name) in [
        (Method::Put, "PUT"),
        (Method::Delete, "DELETE"),
        (Method::Patch, "PATCH"),
        (Method::Other("BREW".into()), "BREW"),
    ] {
        let ask = Ask { method, ..Ask::get(peer, "/head") };
        let answer = match ask.send().await.0 {
            Some(Ok(response)) => read(response).await.1,
            other => format!("{other:?}"),
        };
        checks.holds(&format!("a method {name}"), answer.starts_with(name), &answer);
    }
    let head = Ask { method: Method::Head, ..Ask::get(peer, "/big?5") };
    if let (Some(Ok(response)), _) = head.send().await {
        checks.same(
            "the answer to HEAD has no body",
            read(response).await,
            (200, String::new(), WELL.to_owned()),
        );
    }
}

/// Bodies that are sent.
async fn sent(checks: &mut Checks, peer: &str) {
    let (ask, mut writer) = Ask::post(peer, "/echo", &[]);
    let writing = async move {
        let mut left = 0;
        for part in ["one", "", "two", ""] {
            left += writer.write_all(part.as_bytes().to_vec()).await.len();
        }
        left
    };
    let ((response, transmitted), left) = both(ask.send(), soon(writing)).await;
    checks.same("a body is taken in parts, empty ones among them", left, Some(0));
    if let Some(Ok(response)) = response {
        checks.same("and arrives whole", read(response).await, (200, "onetwo".to_owned(), WELL.to_owned()));
    }
    checks.shows("its result", soon(transmitted.into_future()).await, "Some(Ok(()))");

    let (ask, writer) = Ask::post(peer, "/echo", &[]);
    drop(writer);
    if let (Some(Ok(response)), _) = ask.send().await {
        checks.same("a body of nothing", read(response).await, (200, String::new(), WELL.to_owned()));
    }

    const BYTES: usize = 1 << 20;
    let (ask, mut writer) = Ask::post(peer, "/digest", &[]);
    let writing = async move { writer.write_all(vec![b'x'; BYTES]).await.len() };
    let ((response, _), left) = both(ask.send(), soon(writing)).await;
    checks.same("a large body is taken", left, Some(0));
    if let Some(Ok(response)) = response {
        checks.same("and arrives", read(response).await.1, format!("{BYTES} bytes"));
    }

    // Who answers early does not have to read on.
    let (ask, mut writer) = Ask::post(peer, "/early", &[]);
    let ((response, _), _) = both(ask.send(), soon(writer.write_all(b"some".to_vec()))).await;
    let answered = match response {
        Some(Ok(response)) => read(response).await.1,
        other => format!("{other:?}"),
    };
    checks.same("a response may come before the body", answered.as_str(), "early");
    drop(writer);

    // Who does not read holds the writer back.
    let (ask, mut writer) = Ask::post(peer, "/deaf", &[]);
    let (request, _) = ask.request();
    let mut sending = pin!(send(request));
    let mut writing = pin!(writer.write_all(vec![b'x'; 32 << 20]));
    let neither = within(300_000_000, both(sending.as_mut(), writing.as_mut())).await;
    checks.holds("a peer that does not read holds the writer back", neither.is_none(), "it does not");
}

/// `content-length` is what is sent.
async fn lengths(checks: &mut Checks, peer: &str) {
    let exact = async |declared: &str, content: &str| {
        let (ask, mut writer) = Ask::post(peer, "/echo", &[("content-length", declared)]);
        let writing = async move { writer.write_all(content.as_bytes().to_vec()).await.len() };
        let ((response, transmitted), left) = both(ask.send(), soon(writing)).await;
        let answer = match response {
            Some(Ok(response)) => Ok(read(response).await.1),
            other => Err(format!("{other:?}")),
        };
        let transmitted = soon(transmitted.into_future()).await;
        (left, answer, format!("{transmitted:?}").replace("ErrorCode::", ""))
    };
    let (left, answer, transmitted) = exact("5", "hello").await;
    checks.same("as much as was declared", (left, answer), (Some(0), Ok("hello".to_owned())));
    checks.same("ends well", transmitted.as_str(), "Some(Ok(()))");
    let (_, answer, transmitted) = exact("9", "hello").await;
    checks.holds("less than was declared", answer.is_err(), &format!("{answer:?}"));
    checks.same("and the result says so", transmitted.as_str(), "Some(Err(HttpRequestBodySize(Some(5))))");
    let (left, answer, transmitted) = exact("3", "hello").await;
    checks.same("no more than was declared is taken", left, Some(5));
    checks.holds("nor answered", answer.is_err(), &format!("{answer:?}"));
    checks.same(
        "which the result says, too",
        transmitted.as_str(),
        "Some(Err(HttpRequestBodySize(Some(5))))",
    );
    let (left, answer, transmitted) = exact("0", "").await;
    checks.same("nothing was declared", (left, answer), (Some(0), Ok(String::new())));
    checks.same("and nothing sent", transmitted.as_str(), "Some(Ok(()))");

    let fields = vec![("content-length", "5")];
    let ask = Ask { method: Method::Post, fields, ..Ask::get(peer, "/echo") };
    let (response, _) = ask.send().await;
    checks.holds("no body where one was declared", !matches!(&response, Some(Ok(_))), "it was answered");
}

/// How bodies end.
async fn endings(checks: &mut Checks, peer: &str) {
    let (status, content, ended) = fetch(peer, "/trailers").await;
    checks.same("a body with trailers", (status, content.as_str()), (200, "summed"));
    checks.same(
        "which come after it, without those of the connection",
        ended.as_str(),
        r#"Some(Ok(Some([("x-sum", [49, 50, 51, 52])])))"#,
    );
    if let (Some(Ok(response)), _) = Ask::get(peer, "/trailers").send().await {
        let (mut content, trailers) = Response::consume_body(response, well());
        let mut trailers = pin!(trailers.into_future());
        let _ = soon(content.read(Vec::with_capacity(3))).await;
        checks.holds("they wait for its end", now(trailers.as_mut()).await.is_none(), "they do not");
        let _ = soon(content.collect()).await;
        let found = soon(trailers.as_mut()).await;
        let fixed = match &found {
            Some(Ok(Some(trailers))) => matches!(trailers.append("a", b"b"), Err(HeaderError::Immutable)),
            _ => false,
        };
        checks.holds("and cannot be changed", fixed, &format!("{found:?}"));
    }
    let (_, content, ended) = fetch(peer, "/half").await;
    checks.same("half a body is read", content.as_str(), "half.");
    checks.holds("and its end says so", ended.starts_with("Some(Err("), &ended);
    checks.same("a redirect is not followed", fetch(peer, "/redirect").await.0, 302);
    let (_, content, ended) = fetch(peer, "/big?300000").await;
    checks.same("a large body is read whole", (content.len(), ended.as_str()), (300_000, WELL));

    if let (Some(Ok(response)), transmitted) = Ask::get(peer, "/big?3000000").send().await {
        let (mut content, trailers) = Response::consume_body(response, well());
        let _ = soon(content.read(Vec::with_capacity(10))).await;
        drop(content);
        checks.holds(
            "a body that is not read on ends",
            soon(trailers.into_future()).await.is_some(),
            "never",
        );
        checks.holds("and so does its request", soon(transmitted.into_future()).await.is_some(), "never");
    }
    if let (Some(Ok(response)), transmitted) = Ask::get(peer, "/big?3000000").send().await {
        drop(response);
        checks.holds(
            "a response that is not read ends",
            soon(transmitted.into_future()).await.is_some(),
            "never",
        );
    }

    // Trailers that are an error end the request.
    let (mut writer, reader) = wit_stream::new();
    let (verdict, trailers) = wit_future::new(|| Ok(None));
    let (request, transmitted) = Request::new(Fields::new(), Some(reader), trailers, None);
    let set = (
        request.set_method(&Method::Post),
        request.set_scheme(Some(&Scheme::Http)),
        request.set_authority(Some(peer)),
        request.set_path_with_query(Some("/echo")),
    );
    checks.shows("a request by hand", set, "(Ok(()), Ok(()), Ok(()), Ok(()))");
    let writing = async move {
        writer.write_all(b"some".to_vec()).await;
        drop(writer);
        verdict.write(Err(ErrorCode::InternalError(Some("given up".to_owned())))).await
    };
    let (response, _) = both(soon(send(request)), soon(writing)).await;
    checks.holds(
        "trailers that are an error are not answered",
        !matches!(&response, Some(Ok(_))),
        "they are",
    );
    let transmitted = soon(transmitted.into_future()).await;
    checks.holds("and the result says so", transmitted.is_some(), &format!("{transmitted:?}"));
}

/// Timeouts, and what is given up.
async fn waits(checks: &mut Checks, peer: &str) {
    let patient = |connect: Option<u64>, first: Option<u64>, between: Option<u64>| {
        let options = RequestOptions::new();
        for set in [
            options.set_connect_timeout(connect),
            options.set_first_byte_timeout(first),
            options.set_between_bytes_timeout(between),
        ] {
            set.expect("timeouts can be set");
        }
        Some(options)
    };
    const SHORT: Option<u64> = Some(200_000_000);
    let ask = Ask { options: patient(None, SHORT, None), ..Ask::get(peer, "/never") };
    checks.shows("no first byte in time", ask.send().await.0, "Some(Err(ConnectionReadTimeout))");
    let ask = Ask { options: patient(None, None, SHORT), ..Ask::get(peer, "/stall") };
    if let (Some(Ok(response)), _) = ask.send().await {
        let (_, content, ended) = read(response).await;
        checks.same("no further byte in time", content.as_str(), "half.");
        checks.same("which the end says", ended.as_str(), "Some(Err(ConnectionReadTimeout))");
    }
    let ask = Ask { options: patient(None, Some(0), None), ..Ask::get(peer, "/never") };
    checks.shows("no time at all", ask.send().await.0, "Some(Err(ConnectionReadTimeout))");
    let all = Some(u64::MAX);
    let ask = Ask { options: patient(all, all, all), ..Ask::get(peer, "/hello") };
    let found = ask.send().await.0.map(|it| it.map(|it| it.get_status_code()));
    checks.shows("all the time there is", found, "Some(Ok(200))");

    {
        let (request, _sent) = Ask::get(peer, "/never").request();
        let mut sending = pin!(send(request));
        let early = within(100_000_000, sending.as_mut()).await;
        checks.holds("a request waits for its answer", early.is_none(), "it does not");
    }
    checks.same("and one that is given up holds nobody up", fetch(peer, "/hello").await.0, 200);
    let (one, two) = both(fetch(peer, "/hello"), fetch(peer, "/big?10")).await;
    checks.same("two may be sent at once", (one.0, two.0, two.1.len()), (200, 200, 10));
}

/// A body that came is handed on as one that is sent.
async fn passed_on(checks: &mut Checks, peer: &str) {
    let (Some(Ok(response)), _) = Ask::get(peer, "/big?100000").send().await else { return };
    let (content, trailers) = Response::consume_body(response, well());
    let (request, transmitted) = Request::new(Fields::new(), Some(content), trailers, None);
    let set = (
        request.set_method(&Method::Post),
        request.set_scheme(Some(&Scheme::Http)),
        request.set_authority(Some(peer)),
        request.set_path_with_query(Some("/digest")),
    );
    checks.shows("a request of a response", set, "(Ok(()), Ok(()), Ok(()), Ok(()))");
    let answered = match soon(send(request)).await {
        Some(Ok(response)) => read(response).await.1,
        other => format!("{other:?}"),
    };
    checks.same("carries its body", answered.as_str(), "100000 bytes");
    checks.shows("and ends well", soon(transmitted.into_future()).await, "Some(Ok(()))");

    // A reader of one's own between the two.
    let (Some(Ok(response)), _) = Ask::get(peer, "/big?100000").send().await else { return };
    let (mut content, _) = Response::consume_body(response, well());
    let (ask, mut writer) = Ask::post(peer, "/digest", &[("content-length", "100000")]);
    spawn_local(async move {
        loop {
            let (result, chunk) = content.read(Vec::with_capacity(7_000)).await;
            let over = chunk.is_empty() && result == wasip3::wit_bindgen::StreamResult::Dropped;
            if over || !writer.write_all(chunk).await.is_empty() {
                break;
            }
        }
    });
    let answered = match ask.send().await.0 {
        Some(Ok(response)) => read(response).await.1,
        other => format!("{other:?}"),
    };
    checks.same("and so does one that was read in between", answered.as_str(), "100000 bytes");
}

/// Requests that cannot be sent.
async fn refused(checks: &mut Checks, peer: &str, closed: &str) {
    checks.same("nobody listens there", fetch(closed, "/").await.2.as_str(), "Some(Err(ConnectionRefused))");
    let denied = fetch("127.0.0.2:80", "/").await.2;
    checks.same("nobody may ask there", denied.as_str(), "Some(Err(HttpRequestDenied))");
    let made = |scheme: Option<&Scheme>, authority: Option<&str>| {
        let (request, _) = Request::new(Fields::new(), None, no_trailers(), None);
        let set = (
            request.set_scheme(scheme),
            request.set_authority(authority),
            request.set_path_with_query(Some("/")),
        );
        assert_eq!(set, (Ok(()), Ok(()), Ok(())), "a request can be made so");
        request
    };
    let ftp = Scheme::Other("ftp".to_owned());
    for (what, request) in [
        ("without an authority", made(Some(&Scheme::Http), None)),
        ("of another scheme", made(Some(&ftp), Some(peer))),
        ("without a scheme, which is then https", made(None, Some(peer))),
    ] {
        let refused = soon(send(request)).await;
        checks.holds(&format!("no request {what}"), matches!(refused, Some(Err(_))), &format!("{refused:?}"));
    }
}
