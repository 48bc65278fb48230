//! The plain handler: `handle: func(req: request) -> response` with records of our own, no WASI needed.
//!
//! `headers` may be absent from either record, which makes four types; the engine lowers and lifts each directly
//! from and into these structures, without an intermediate value.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use wasmtime::component::{ComponentExportIndex, ComponentType, Instance, Lift, Lower};
use wasmtime::{AsContextMut, Error, Store};

use crate::host::Host;
use crate::shape::PlainHandler;

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct RequestWithHeaders<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: Option<&'a [u8]>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct RequestWithoutHeaders<'a> {
    method: &'a str,
    path: &'a str,
    body: Option<&'a [u8]>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct ResponseWithHeaders {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct ResponseWithoutHeaders {
    status: u16,
    body: Vec<u8>,
}

/// A response as the guest gave it.
struct Given {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl From<ResponseWithHeaders> for Given {
    fn from(response: ResponseWithHeaders) -> Self {
        Self { status: response.status, headers: response.headers, body: response.body }
    }
}

impl From<ResponseWithoutHeaders> for Given {
    fn from(response: ResponseWithoutHeaders) -> Self {
        Self { status: response.status, headers: Vec::new(), body: response.body }
    }
}

/// Calls the handler and checks what it returns: the inner error says why it cannot be sent.
pub(crate) async fn call(
    store: &mut Store<Host>,
    instance: &Instance,
    handler: &PlainHandler,
    export: &ComponentExportIndex,
    request: &http::request::Parts,
    body: Option<Bytes>,
) -> Result<Result<http::Response<Bytes>, String>, Error> {
    let method = request.method.as_str();
    let path = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let body = body.as_deref();
    let given = if handler.request_headers {
        let values: Vec<(&str, Cow<'_, str>)> = header_texts(&request.headers).collect();
        let headers: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, &**value)).collect();
        let request = RequestWithHeaders { method, path, headers: &headers, body };
        invoke(store, instance, handler, export, request).await?
    } else {
        invoke(store, instance, handler, export, RequestWithoutHeaders { method, path, body }).await?
    };
    Ok(check(&request.method, given))
}

async fn invoke<P>(
    store: &mut Store<Host>,
    instance: &Instance,
    handler: &PlainHandler,
    export: &ComponentExportIndex,
    request: P,
) -> Result<Given, Error>
where
    P: ComponentType + Lower + Send + Sync,
{
    if handler.response_headers {
        let function =
            instance.get_typed_func::<(P,), (ResponseWithHeaders,)>(store.as_context_mut(), export)?;
        Ok(function.call_async(store, (request,)).await?.0.into())
    } else {
        let function =
            instance.get_typed_func::<(P,), (ResponseWithoutHeaders,)>(store.as_context_mut(), export)?;
        Ok(function.call_async(store, (request,)).await?.0.into())
    }
}

/// The headers a guest is given, without those of the connection. Their values are text: UTF-8 where they are, else
/// byte for byte as Latin-1 (RFC 9110, section 5.5).
fn header_texts(headers: &HeaderMap) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let of_the_message =
        |(name, _): &(&HeaderName, &HeaderValue)| !OF_THE_CONNECTION.contains(&name.as_str());
    headers.iter().filter(of_the_message).map(|(name, value)| {
        let text = match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(value.as_bytes().iter().copied().map(char::from).collect()),
        };
        (name.as_str(), text)
    })
}

/// Headers that frame the message or belong to one connection (RFC 9110, section 7.6.1): the host's, not a guest's.
const OF_THE_CONNECTION: [&str; 7] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// Header fields one response may have: more than any client reads, fewer than the header map can hold.
const RESPONSE_HEADERS_MAX: usize = 1_000;

fn check(method: &Method, given: Given) -> Result<http::Response<Bytes>, String> {
    let status = StatusCode::from_u16(given.status)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()))
        .ok_or_else(|| format!("{} is not a status of a final response (200 to 599)", given.status))?;
    if given.headers.len() > RESPONSE_HEADERS_MAX {
        return Err(format!("it has {} headers; the most is {RESPONSE_HEADERS_MAX}", given.headers.len()));
    }
    let mut response = http::Response::new(Bytes::from(given.body));
    *response.status_mut() = status;
    response.headers_mut().reserve(given.headers.len());
    for (name, value) in given.headers {
        let header =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is not a header name"))?;
        if OF_THE_CONNECTION.contains(&header.as_str()) {
            return Err(format!("the header `{header}` belongs to the connection, not to a response"));
        }
        if header == http::header::CONTENT_LENGTH {
            // Ours to write. A response to HEAD announces the length of a body that it does not have.
            let length = response.body().len();
            if *method != Method::HEAD && value.parse() != Ok(length) {
                return Err(format!("content-length is `{value}`, and the body has {length} bytes"));
            }
            if *method != Method::HEAD
                || response.headers().contains_key(&header)
                || value.parse::<u64>().is_err()
            {
                continue;
            }
        }
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            format!("the value of the header `{header}` has a character that HTTP cannot carry")
        })?;
        response.headers_mut().append(header, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(status: u16, headers: &[(&str, &str)], body: &str) -> Given {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Given { status, headers, body: body.into() }
    }

    #[test]
    fn a_response_http_cannot_carry_is_refused_with_the_reason() {
        for (response, reason) in [
            (given(99, &[], ""), "99 is not a status"),
            (given(101, &[], ""), "101 is not a status"),
            (given(1000, &[], ""), "1000 is not a status"),
            (given(200, &[("a b", "c")], ""), "`a b` is not a header name"),
            (given(200, &[("a", "c\r\nx: y")], ""), "the value of the header `a`"),
            (given(200, &[("Transfer-Encoding", "chunked")], ""), "the header `transfer-encoding` belongs"),
            (
                given(200, &[("content-length", "4")], "abc"),
                "content-length is `4`, and the body has 3 bytes",
            ),
        ] {
            let refused = check(&Method::GET, response).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn a_true_content_length_is_left_to_the_host() {
        let response =
            check(&Method::GET, given(200, &[("content-length", "3"), ("etag", "x")], "abc")).unwrap();
        assert_eq!(response.headers().len(), 1);
        let response = check(&Method::HEAD, given(200, &[("content-length", "10")], "")).unwrap();
        assert_eq!(response.headers()["content-length"], "10");
    }

    #[test]
    fn header_values_that_are_not_utf8_are_read_as_latin1() {
        let mut headers = HeaderMap::new();
        headers.insert("a", HeaderValue::from_bytes(b"\xe9").unwrap());
        headers.insert("b", HeaderValue::from_bytes("é".as_bytes()).unwrap());
        assert!(header_texts(&headers).all(|(_, text)| text == "é"));
    }
}
