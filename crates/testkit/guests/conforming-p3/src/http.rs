//! `wasi:http/types`.

use std::future::IntoFuture as _;
use std::pin::pin;

use faults::Checks;
use wasip3::http::types::{
    ErrorCode, Fields, HeaderError, Method, Request, RequestOptions, Response, Scheme, Trailers,
};
use wasip3::wit_bindgen::FutureReader;
use wasip3::wit_bindgen::StreamResult::Complete;
use wasip3::{wit_future, wit_stream};

use crate::wait::{now, soon};

/// Trailers that are none.
pub fn no_trailers() -> FutureReader<Result<Option<Trailers>, ErrorCode>> {
    wit_future::new(|| Ok(None)).1
}

/// What a body's reader says: that all is well.
pub fn well() -> FutureReader<Result<(), ErrorCode>> {
    wit_future::new(|| Ok(())).1
}

pub async fn check(checks: &mut Checks, request: &Request) {
    fields(checks);
    received(checks, request);
    requests(checks);
    options(checks);
    responses(checks).await;
}

fn fields(checks: &mut Checks) {
    let fields = Fields::new();
    checks.shows("a field is appended", fields.append("X-One", b"1"), "Ok(())");
    checks.same("names have no case", fields.get("x-one"), vec![b"1".to_vec()]);
    let _ = fields.append("x-one", b"2");
    checks.same("values keep their order", fields.get("X-ONE"), vec![b"1".to_vec(), b"2".to_vec()]);
    checks.same("all of them are copied", fields.copy_all().len(), 2);
    let set = fields.set("x-one", &[b"3".to_vec(), b"4".to_vec()]);
    checks.shows("set takes the place of all", set, "Ok(())");
    checks.same("with as many as it is given", fields.get("x-one"), vec![b"3".to_vec(), b"4".to_vec()]);
    checks.shows("set to nothing", fields.set("x-one", &[]), "Ok(())");
    checks.same("there is nothing", fields.has("x-one"), false);
    let _ = fields.append("x-empty", b"");
    checks.same(
        "an empty value is a value",
        (fields.has("X-Empty"), fields.get("x-empty")),
        (true, vec![vec![]]),
    );
    checks.same("nothing is an empty list", fields.get("none"), Vec::<Vec<u8>>::new());
    checks.same("what is no name is not there", (fields.has("a b"), fields.get("a b").len()), (false, 0));
    checks.shows("bytes above 127", fields.append("x-bytes", &[0xe4, 0xff]), "Ok(())");
    checks.same("stay as they are", fields.get("x-bytes"), vec![vec![0xe4, 0xff]]);
    for name in ["a b", "", "a:", "ä", "a\n"] {
        checks.shows(&format!("no name {name:?}"), fields.append(name, b"x"), "Err(InvalidSyntax)");
        checks.shows(
            &format!("nor to set, {name:?}"),
            fields.set(name, &[b"x".to_vec()]),
            "Err(InvalidSyntax)",
        );
    }
    for value in [&b"a\nb"[..], b"a\rb", b"a\0b"] {
        checks.shows(&format!("no value {value:?}"), fields.append("x", value), "Err(InvalidSyntax)");
        checks.shows(
            &format!("nor to set, {value:?}"),
            fields.set("x", &[value.to_vec()]),
            "Err(InvalidSyntax)",
        );
    }
    for name in [
        "connection",
        "Keep-Alive",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
        "http2-settings",
        "host",
    ] {
        checks.shows(&format!("{name} is the host's"), fields.append(name, b"x"), "Err(Forbidden)");
        checks.shows(&format!("and not set, {name}"), fields.set(name, &[b"x".to_vec()]), "Err(Forbidden)");
    }
    for value in [&b"x"[..], b"-1", b"1, 2", b""] {
        checks.shows(
            &format!("no length {value:?}"),
            fields.append("content-length", value),
            "Err(InvalidSyntax)",
        );
    }
    let _ = fields.append("content-length", b"1");
    checks.shows("one length", fields.append("content-length", b"2"), "Err(InvalidSyntax)");
    checks.shows("taken back", fields.delete("Content-Length"), "Ok(())");

    let _ = (fields.append("x-two", b"1"), fields.append("x-two", b"2"));
    let taken = fields.get_and_delete("X-Two");
    checks.shows("fields are taken out", taken, "Ok([[49], [50]])");
    checks.same("and are gone", fields.has("x-two"), false);
    checks.shows("nothing is taken out", fields.get_and_delete("x-two"), "Ok([])");
    checks.shows("nor deleted", fields.delete("x-two"), "Ok(())");

    let large = fields.append("x-large", &vec![b'x'; 1 << 20]);
    checks.shows("a field larger than the host takes", large, "Err(SizeExceeded)");
    checks.same("is not there", fields.has("x-large"), false);
    let many = (0..100_000).map(|_| fields.append("x-many", &[b'x'; 100])).find(Result::is_err);
    checks.shows("more fields than the host takes", many, "Some(Err(SizeExceeded))");
    checks.shows("may be taken back", fields.delete("x-many"), "Ok(())");
    checks.shows("and make room", fields.append("x-room", b"x"), "Ok(())");

    let list = |entries: &[(&str, &str)]| {
        let entries: Vec<_> =
            entries.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        Fields::from_list(&entries)
    };
    checks.shows("a list of fields", list(&[("a", "1"), ("a", "2")]).map(|it| it.copy_all().len()), "Ok(2)");
    checks.shows("with one that is none", list(&[("a", "1"), ("a b", "")]).map(|_| ()), "Err(InvalidSyntax)");
    checks.shows("with one of the host's", list(&[("connection", "")]).map(|_| ()), "Err(Forbidden)");
    let copy = fields.clone();
    let _ = copy.append("only", b"here");
    checks.same("a copy is a copy", (copy.has("only"), fields.has("only")), (true, false));
}

/// All ways to change fields are refused.
fn immutable(checks: &mut Checks, what: &str, fields: &Fields) {
    let refused = [
        fields.append("a", b"b"),
        fields.set("a", &[b"b".to_vec()]),
        fields.delete("a"),
        fields.get_and_delete("a").map(|_| ()),
    ];
    checks.holds(
        &format!("the fields of {what} cannot be changed"),
        refused.iter().all(|it| matches!(it, Err(HeaderError::Immutable))),
        &format!("{refused:?}"),
    );
    checks.shows(&format!("a copy of the fields of {what} can"), fields.clone().append("a", b"b"), "Ok(())");
}

/// The request that a client sent.
fn received(checks: &mut Checks, request: &Request) {
    immutable(checks, "a request that came", &request.get_headers());
    checks.holds("its method", matches!(request.get_method(), Method::Get), "another");
    checks.holds("its scheme", matches!(request.get_scheme(), Some(Scheme::Http)), "another");
    let authority = request.get_authority();
    checks.holds(
        "its authority",
        authority.as_ref().is_some_and(|it| it.starts_with("127.0.0.1:")),
        &format!("{authority:?}"),
    );
    checks.same("its path and query", request.get_path_with_query(), Some("/http?a=b%20c".to_owned()));
    let headers = request.get_headers();
    for name in ["host", "connection", "transfer-encoding"] {
        checks.same(&format!("{name} is not among its fields"), headers.has(name), false);
    }
    checks.same("what the client sent is", headers.get("x-client"), vec![b"1".to_vec(), b"2".to_vec()]);
    checks.holds("it has no options", request.get_options().is_none(), "it has");
}

fn requests(checks: &mut Checks) {
    let fields = Fields::new();
    let _ = fields.append("a", b"b");
    let (asked, _sent) = Request::new(fields, None, no_trailers(), None);
    checks.holds("a request is a GET unless said", matches!(asked.get_method(), Method::Get), "it is not");
    checks.holds(
        "and has no path, scheme, authority, options",
        asked.get_path_with_query().is_none()
            && asked.get_scheme().is_none()
            && asked.get_authority().is_none()
            && asked.get_options().is_none(),
        "it has",
    );
    checks.same("it has the fields it was given", asked.get_headers().get("a"), vec![b"b".to_vec()]);
    immutable(checks, "a request that was made", &asked.get_headers());
    let other = |name: &str| Method::Other(name.to_owned());
    checks.same("a method of one's own", asked.set_method(&other("BREW")), Ok(()));
    checks.holds(
        "which is read",
        matches!(asked.get_method(), Method::Other(it) if it == "BREW"),
        "it is not",
    );
    for method in ["A B", "", "A\n", "Ä"] {
        checks.same(&format!("no method {method:?}"), asked.set_method(&other(method)), Err(()));
    }
    checks.same("a path with a query", asked.set_path_with_query(Some("/a?b=c")), Ok(()));
    checks.same("it is read", asked.get_path_with_query(), Some("/a?b=c".to_owned()));
    for path in ["/a b", "/\n", "/ä\0"] {
        checks.same(&format!("no path {path:?}"), asked.set_path_with_query(Some(path)), Err(()));
    }
    checks.same("no path at all", asked.set_path_with_query(None), Ok(()));
    checks.same("is none", asked.get_path_with_query(), None);
    for authority in ["example.com", "example.com:80", "[::1]:443", "127.0.0.1"] {
        checks.same(&format!("an authority {authority}"), asked.set_authority(Some(authority)), Ok(()));
        checks.same(&format!("is read, {authority}"), asked.get_authority().as_deref(), Some(authority));
    }
    for authority in ["a b", "a/b", "x:y:z\n", "example.com:", "example.com:x", "example.com:99999"] {
        checks.same(&format!("no authority {authority:?}"), asked.set_authority(Some(authority)), Err(()));
    }
    let scheme = |name: &str| Scheme::Other(name.to_owned());
    checks.same("no scheme that is none", asked.set_scheme(Some(&scheme("a b"))), Err(()));
    checks.same("a scheme", asked.set_scheme(Some(&Scheme::Https)), Ok(()));
    checks.holds(
        "it is the one that was set",
        matches!(asked.get_scheme(), Some(Scheme::Https)),
        "it is not",
    );
    checks.same("a scheme of one's own", asked.set_scheme(Some(&scheme("coap"))), Ok(()));
    checks.same("and none", asked.set_scheme(None), Ok(()));
}

fn options(checks: &mut Checks) {
    let options = RequestOptions::new();
    let read = |options: &RequestOptions| {
        (options.get_connect_timeout(), options.get_first_byte_timeout(), options.get_between_bytes_timeout())
    };
    checks.same("no timeout unless said", read(&options), (None, None, None));
    let set = (
        options.set_connect_timeout(Some(1)),
        options.set_first_byte_timeout(Some(0)),
        options.set_between_bytes_timeout(Some(u64::MAX)),
    );
    checks.shows("timeouts are set", set, "(Ok(()), Ok(()), Ok(()))");
    checks.same("and read", read(&options), (Some(1), Some(0), Some(u64::MAX)));
    let copy = options.clone();
    checks.shows("and taken back", copy.set_connect_timeout(None), "Ok(())");
    checks.same(
        "of a copy alone",
        (copy.get_connect_timeout(), options.get_connect_timeout()),
        (None, Some(1)),
    );
    let (asked, _sent) = Request::new(Fields::new(), None, no_trailers(), Some(options));
    let Some(given) = asked.get_options() else {
        return checks.holds("a request has the options it was given", false, "none");
    };
    checks.same("a request has the options it was given", read(&given), (Some(1), Some(0), Some(u64::MAX)));
    let refused = (
        given.set_connect_timeout(None),
        given.set_first_byte_timeout(None),
        given.set_between_bytes_timeout(Some(1)),
    );
    checks.shows("which cannot be changed", refused, "(Err(Immutable), Err(Immutable), Err(Immutable))");
    checks.shows("though a copy can", given.clone().set_connect_timeout(None), "Ok(())");
}

async fn responses(checks: &mut Checks) {
    let (response, _sent) = Response::new(Fields::new(), None, no_trailers());
    checks.same("a response is 200 unless said", response.get_status_code(), 200);
    for status in [100, 204, 404, 599] {
        let set = response.set_status_code(status).map(|()| response.get_status_code());
        checks.same(&format!("a status {status}"), set, Ok(status));
    }
    for status in [0, 99, 1_000, u16::MAX] {
        checks.same(&format!("no status {status}"), response.set_status_code(status), Err(()));
    }
    immutable(checks, "a response that was made", &response.get_headers());
    let (nothing, _) = Response::consume_body(response, well());
    checks.same("a response without a body has an empty one", soon(nothing.collect()).await, Some(vec![]));

    // One's own message, read as another component would.
    let fields = Fields::new();
    let _ = fields.append("a", b"b");
    let (mut writer, reader) = wit_stream::new();
    let (response, sent) = Response::new(fields, Some(reader), no_trailers());
    let headers = response.get_headers();
    let (verdict, res) = wit_future::new(|| Ok(()));
    let (mut content, _) = Response::consume_body(response, res);
    {
        let mut write = pin!(writer.write(b"hi".to_vec()));
        checks.same("its body waits to be read", now(write.as_mut()).await.map(|it| it.0), None);
        let read = soon(content.read(Vec::with_capacity(9))).await;
        checks.same("and is what was written", read, Some((Complete(2), b"hi".to_vec())));
        checks.same("all of it", write.await.0, Complete(2));
    }
    let mut sent = pin!(sent.into_future());
    checks.shows("its maker waits for the verdict", now(sent.as_mut()).await, "None");
    let failed = ErrorCode::InternalError(Some("no".to_owned()));
    checks.holds(
        "which its reader gives",
        soon(verdict.write(Err(failed))).await.is_some_and(|it| it.is_ok()),
        "not",
    );
    checks.shows("and it is told", soon(sent.as_mut()).await, r#"Some(Err(InternalError(Some("no"))))"#);
    checks.same("fields outlive their message", headers.get("a"), vec![b"b".to_vec()]);

    let (mut writer, reader) = wit_stream::new();
    let (response, sent) = Response::new(Fields::new(), Some(reader), no_trailers());
    drop(response);
    checks.same("nobody reads a message that is gone", soon(writer.write_all(vec![1])).await, Some(vec![1]));
    checks.holds("and its maker does not wait", soon(sent.into_future()).await.is_some(), "it does");
}
