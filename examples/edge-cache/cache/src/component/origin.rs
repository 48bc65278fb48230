//! The origin's side.

use super::client::{from_wasi, to_wasi, write};
use super::wasi::config::store as configuration;
use super::wasi::http::outgoing_handler;
use super::wasi::http::types::{
    ErrorCode, Fields as WasiFields, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use super::wasi::io::streams::{InputStream, StreamError};
use super::{NAME, now};
use crate::fields::{Fields, end_to_end};
use crate::freshness::Times;

const CONNECT_NANOSECONDS_MAX: u64 = 5_000_000_000;
const FIRST_BYTE_NANOSECONDS_MAX: u64 = 15_000_000_000;
const CHUNK_BYTES: u64 = 64 << 10;

/// Where responses come from.
pub(super) struct Origin {
    scheme: Scheme,
    authority: String,
}

impl Origin {
    /// The one that the manifest names; or what is wrong with that.
    pub(super) fn configured() -> Result<Self, String> {
        let url = match configuration::get("origin") {
            Ok(Some(url)) => url,
            Ok(None) => return Err("the configuration has no `origin`".to_owned()),
            Err(error) => return Err(format!("the configuration cannot be had: {error:?}")),
        };
        let (scheme, authority) = match url.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(format!("`origin` is `{url}`; it should begin with http:// or https://")),
        };
        let authority = authority.trim_end_matches('/');
        if authority.is_empty() || authority.contains('/') {
            return Err(format!("`origin` is `{url}`; it should be a scheme, a host and a port"));
        }
        Ok(Self { scheme, authority: authority.to_owned() })
    }

    /// Sends a request, and waits for the head of the response.
    pub(super) fn send(
        &self,
        method: &str,
        target: &str,
        mut fields: Fields,
        body: Option<IncomingBody>,
    ) -> Result<(Response, Times), ErrorCode> {
        fields.push(("via".to_owned(), format!("1.1 {NAME}")));
        let head = WasiFields::from_list(&to_wasi(&fields)).map_err(|_| ErrorCode::HttpProtocolError)?;
        let request = OutgoingRequest::new(head);
        let refused = |()| ErrorCode::HttpRequestUriInvalid;
        request.set_method(&method_of(method)).map_err(refused)?;
        request.set_scheme(Some(&self.scheme)).map_err(refused)?;
        request.set_authority(Some(&self.authority)).map_err(refused)?;
        request.set_path_with_query(Some(target)).map_err(refused)?;
        let options = RequestOptions::new();
        let _ = options.set_connect_timeout(Some(CONNECT_NANOSECONDS_MAX));
        let _ = options.set_first_byte_timeout(Some(FIRST_BYTE_NANOSECONDS_MAX));
        let sending = request.body().map_err(refused)?;
        let requested = now();
        let pending = outgoing_handler::handle(request, Some(options))?;
        send_body(sending, body)?;
        let response = loop {
            match pending.get() {
                Some(result) => break result.map_err(|()| ErrorCode::InternalError(None))??,
                None => pending.subscribe().block(),
            }
        };
        let times = Times { requested, received: now() };
        Ok((Response::of(&response), times))
    }
}

fn send_body(sending: OutgoingBody, body: Option<IncomingBody>) -> Result<(), ErrorCode> {
    if let Some(body) = body {
        let closed = |()| ErrorCode::InternalError(None);
        let from = body.stream().map_err(closed)?;
        let to = sending.write().map_err(closed)?;
        loop {
            match from.blocking_read(CHUNK_BYTES) {
                // An origin that reads no further may still answer.
                Ok(chunk) => {
                    if write(&to, &chunk).is_err() {
                        break;
                    }
                }
                Err(StreamError::Closed) => break,
                Err(StreamError::LastOperationFailed(_)) => return Err(ErrorCode::ConnectionTerminated),
            }
        }
        let _ = to.blocking_flush();
    }
    OutgoingBody::finish(sending, None)
}

/// A response whose body may still be coming.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) fields: Fields,
    pub(super) body: Option<Body>,
}

/// A body that comes.
pub(super) struct Body {
    // Given back before the body that it belongs to.
    stream: InputStream,
    _body: IncomingBody,
}

impl Response {
    fn of(response: &IncomingResponse) -> Self {
        let body = response.consume().ok().and_then(|body| {
            let stream = body.stream().ok()?;
            Some(Body { stream, _body: body })
        });
        Self { status: response.status(), fields: end_to_end(from_wasi(&response.headers())), body }
    }

    /// The next piece of the body; `None` at its end.
    pub(super) fn chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(body) = &self.body else { return Ok(None) };
        match body.stream.blocking_read(CHUNK_BYTES) {
            Ok(chunk) => Ok(Some(chunk)),
            Err(StreamError::Closed) => Ok(None),
            Err(StreamError::LastOperationFailed(error)) => Err(error.to_debug_string()),
        }
    }

    /// The body, if it comes whole and has at most so many bytes.
    pub(super) fn whole_body(&mut self, most: usize) -> Option<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().ok()? {
            whole.extend_from_slice(&chunk);
            if whole.len() > most {
                return None;
            }
        }
        Some(whole)
    }
}

fn method_of(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}
