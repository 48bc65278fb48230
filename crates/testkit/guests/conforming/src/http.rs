//! `wasi:http/types`.

use wasip2::http::types::{
    Fields, HeaderError, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    RequestOptions, Scheme,
};

use faults::Checks;

pub fn check(checks: &mut Checks, request: &IncomingRequest) {
    fields(checks);
    let request_headers = request.headers();
    checks.holds(
        "the fields of a request cannot be changed",
        matches!(request_headers.append("a", b"b"), Err(HeaderError::Immutable)),
        "they can",
    );
    checks.holds("nor set", matches!(request_headers.set("a", &[]), Err(HeaderError::Immutable)), "they can");
    checks.holds(
        "nor removed",
        matches!(request_headers.delete("a"), Err(HeaderError::Immutable)),
        "they can",
    );
    let copy = request_headers.clone();
    checks.holds("a copy of them can", copy.append("a", b"b").is_ok(), "it cannot");
    checks.holds("the method of the request", matches!(request.method(), Method::Get), "another");
    checks.holds("its scheme", matches!(request.scheme(), Some(Scheme::Http)), "another");
    checks.holds(
        "its authority",
        request.authority().is_some_and(|it| it.starts_with("127.0.0.1:")),
        "another",
    );
    let body = request.consume();
    checks.holds("a body is taken once", body.is_ok() && request.consume().is_err(), "it is not");
    if let Ok(body) = body {
        let stream = body.stream();
        checks.holds("and so is its stream", stream.is_ok() && body.stream().is_err(), "it is not");
        drop(stream);
    }

    let asked = OutgoingRequest::new(Fields::new());
    checks.holds("a request is a GET unless said", matches!(asked.method(), Method::Get), "it is not");
    checks.holds(
        "and has no path, scheme, authority",
        asked.path_with_query().is_none() && asked.scheme().is_none() && asked.authority().is_none(),
        "it has",
    );
    checks.same("a method of one's own", asked.set_method(&Method::Other("BREW".into())), Ok(()));
    for method in ["A B", "", "A\n", "Ä"] {
        checks.same(
            &format!("no method {method:?}"),
            asked.set_method(&Method::Other(method.into())),
            Err(()),
        );
    }
    checks.same("a path with a query", asked.set_path_with_query(Some("/a?b=c")), Ok(()));
    checks.same("which is read", asked.path_with_query(), Some("/a?b=c".to_owned()));
    for path in ["/a b", "/\n", "/ä\0"] {
        checks.same(&format!("no path {path:?}"), asked.set_path_with_query(Some(path)), Err(()));
    }
    checks.same("an authority", asked.set_authority(Some("example.com:80")), Ok(()));
    for authority in ["a b", "a/b", "x:y:z\n"] {
        checks.same(&format!("no authority {authority:?}"), asked.set_authority(Some(authority)), Err(()));
    }
    checks.same("no scheme that is none", asked.set_scheme(Some(&Scheme::Other("a b".into()))), Err(()));
    checks.same("a scheme", asked.set_scheme(Some(&Scheme::Https)), Ok(()));
    checks.holds(
        "the fields of what was made cannot be changed",
        matches!(asked.headers().append("a", b"b"), Err(HeaderError::Immutable)),
        "they can",
    );
    checks.holds("its body is taken once", asked.body().is_ok() && asked.body().is_err(), "it is not");

    let options = RequestOptions::new();
    checks.same(
        "no timeout unless said",
        (options.connect_timeout(), options.first_byte_timeout(), options.between_bytes_timeout()),
        (None, None, None),
    );
    checks.same(
        "timeouts are set",
        (
            options.set_connect_timeout(Some(1)),
            options.set_first_byte_timeout(Some(2)),
            options.set_between_bytes_timeout(Some(3)),
        ),
        (Ok(()), Ok(()), Ok(())),
    );
    checks.same(
        "and read",
        (options.connect_timeout(), options.first_byte_timeout(), options.between_bytes_timeout()),
        (Some(1), Some(2), Some(3)),
    );
    checks.same(
        "and taken back",
        options.set_connect_timeout(None).map(|()| options.connect_timeout()),
        Ok(None),
    );

    let response = OutgoingResponse::new(Fields::new());
    checks.same("a response is 200 unless said", response.status_code(), 200);
    checks.same("a status", response.set_status_code(404).map(|()| response.status_code()), Ok(404));
    checks.same("no status above 999", response.set_status_code(1_000), Err(()));
    let sized = Fields::new();
    let _ = sized.append("content-length", b"5");
    let response = OutgoingResponse::new(sized);
    if let Ok(body) = response.body() {
        if let Ok(stream) = body.write() {
            checks.holds(
                "less than the content-length is written",
                stream.blocking_write_and_flush(b"abc").is_ok(),
                "it is not",
            );
        }
        checks.holds("and then the body is not whole", OutgoingBody::finish(body, None).is_err(), "it is");
    }
    let sized = Fields::new();
    let _ = sized.append("content-length", b"2");
    let response = OutgoingResponse::new(sized);
    if let Ok(body) = response.body() {
        let more = body.write().map(|stream| stream.blocking_write_and_flush(b"abc").is_err());
        let whole = OutgoingBody::finish(body, None).is_ok();
        checks.holds("no more than the content-length is written", more == Ok(true) || !whole, "it is");
    }
}

/// The error as text: it cannot be compared.
fn told<T>(result: Result<T, HeaderError>) -> Result<T, String> {
    result.map_err(|error| format!("{error:?}"))
}

fn fields(checks: &mut Checks) {
    let fields = Fields::new();
    checks.same("a field is appended", told(fields.append("X-One", b"1")), Ok(()));
    checks.same("names have no case", fields.get("x-one"), vec![b"1".to_vec()]);
    let _ = fields.append("x-one", b"2");
    checks.same("values keep their order", fields.get("X-ONE"), vec![b"1".to_vec(), b"2".to_vec()]);
    checks.same(
        "set takes the place of all",
        told(fields.set("x-one", &[b"3".to_vec()])).map(|()| fields.get("x-one")),
        Ok(vec![b"3".to_vec()]),
    );
    checks.same("there is what there is", (fields.has("X-one"), fields.has("none")), (true, false));
    checks.same("nothing is an empty list", fields.get("none"), Vec::<Vec<u8>>::new());
    checks.same(
        "bytes above 127 stay",
        told(fields.append("x-bytes", &[0xe4, 0xff])).map(|()| fields.get("x-bytes")),
        Ok(vec![vec![0xe4, 0xff]]),
    );
    for name in ["a b", "", "a:", "ä", "a\n"] {
        checks.holds(
            &format!("no name {name:?}"),
            matches!(fields.append(name, b"x"), Err(HeaderError::InvalidSyntax)),
            "it is one",
        );
    }
    for value in [&b"a\nb"[..], b"a\rb", b"a\0b"] {
        checks.holds(
            &format!("no value {value:?}"),
            matches!(fields.append("x", value), Err(HeaderError::InvalidSyntax)),
            "it is one",
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
        checks.holds(
            &format!("{name} is the host's"),
            matches!(fields.append(name, b"x"), Err(HeaderError::Forbidden)),
            "it is not",
        );
    }
    checks.same("deleted", told(fields.delete("x-ONE")).map(|()| fields.has("x-one")), Ok(false));
    checks.same(
        "a list of fields",
        told(Fields::from_list(&[("a".into(), b"1".to_vec()), ("a".into(), b"2".to_vec())]))
            .map(|it| it.entries().len()),
        Ok(2),
    );
    checks.holds(
        "with one that is none",
        matches!(Fields::from_list(&[("a b".into(), vec![])]), Err(HeaderError::InvalidSyntax)),
        "it is taken",
    );
    checks.holds(
        "with one of the host's",
        matches!(Fields::from_list(&[("connection".into(), vec![])]), Err(HeaderError::Forbidden)),
        "it is taken",
    );
    let copy = fields.clone();
    let _ = copy.append("only", b"here");
    checks.same("a copy is a copy", fields.has("only"), false);
}
