//! Requests of the guests of WASI 0.2.

use std::io::{Read, Write};

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};

/// A request to send.
#[derive(Default)]
pub struct Ask {
    /// `SCHEME://AUTHORITY/PATH`.
    pub url: String,
    /// `CONNECT` or `POST`; GET otherwise.
    pub method: String,
    /// How long to wait for the first byte, and between two.
    pub timeout_ms: Option<u64>,
    /// Bytes of a body.
    pub body_bytes: u64,
}

/// Sends a request and says how that went.
pub fn shown(ask: &Ask) -> String {
    match fetch(ask).and_then(|response| read(&response)) {
        Ok(text) => format!("ok: {text}"),
        Err(error) => format!("refused: {error:?}"),
    }
}

/// Sends a request and waits for the head of its response.
pub fn fetch(ask: &Ask) -> Result<IncomingResponse, ErrorCode> {
    let (scheme, rest) = ask.url.split_once("://").unwrap_or(("http", &ask.url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let request = OutgoingRequest::new(Fields::new());
    let method = match ask.method.as_str() {
        "CONNECT" => Method::Connect,
        "POST" => Method::Post,
        _ => Method::Get,
    };
    let refused = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_method(&method).map_err(refused)?;
    request
        .set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http }))
        .map_err(refused)?;
    request.set_authority(Some(authority)).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;
    let options = RequestOptions::new();
    if let Some(ms) = ask.timeout_ms {
        let _ = options.set_first_byte_timeout(Some(ms * 1_000_000));
        let _ = options.set_between_bytes_timeout(Some(ms * 1_000_000));
    }
    let body = request.body().map_err(refused)?;
    let pending = outgoing_handler::handle(request, Some(options))?;
    if ask.body_bytes > 0 {
        let mut stream = body.write().map_err(refused)?;
        for _ in 0..ask.body_bytes.div_ceil(4096) {
            if stream.write_all(&[b'y'; 4096]).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
    loop {
        match pending.get() {
            Some(result) => return result.map_err(refused)?,
            None => pending.subscribe().block(),
        }
    }
}

/// Reads a response to its end: status, size, whether it is whole, and its beginning.
pub fn read(response: &IncomingResponse) -> Result<String, ErrorCode> {
    let body = response.consume().map_err(|()| ErrorCode::HttpResponseIncomplete)?;
    let mut stream = body.stream().map_err(|()| ErrorCode::HttpResponseIncomplete)?;
    let mut content = Vec::new();
    let mut chunk = [0; 4096];
    let ended = loop {
        match Read::read(&mut stream, &mut chunk) {
            Ok(0) => break "whole".to_owned(),
            Ok(count) => content.extend_from_slice(&chunk[..count]),
            Err(error) => break format!("{error}"),
        }
    };
    let start = String::from_utf8_lossy(&content[..content.len().min(500)]).into_owned();
    Ok(format!("{} {} bytes, {ended}: {start}", response.status(), content.len()))
}
