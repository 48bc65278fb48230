//! Requests of the guests of WASI 0.3.

use wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme};
use wasip3::{spawn_local, wit_future, wit_stream};

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
pub async fn shown(ask: &Ask) -> String {
    match fetch(ask).await {
        Ok(response) => format!("ok: {}", read(response).await),
        Err(error) => format!("refused: {error:?}"),
    }
}

/// Sends a request and waits for the head of its response.
pub async fn fetch(ask: &Ask) -> Result<Response, ErrorCode> {
    let (scheme, rest) = ask.url.split_once("://").unwrap_or(("http", &ask.url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let method = match ask.method.as_str() {
        "CONNECT" => Method::Connect,
        "POST" => Method::Post,
        _ => Method::Get,
    };
    let options = RequestOptions::new();
    if let Some(ms) = ask.timeout_ms {
        let _ = options.set_first_byte_timeout(Some(ms * 1_000_000));
        let _ = options.set_between_bytes_timeout(Some(ms * 1_000_000));
    }
    let content = (ask.body_bytes > 0).then(|| {
        let (mut writer, reader) = wit_stream::new();
        let chunks = ask.body_bytes.div_ceil(4096);
        spawn_local(async move {
            for _ in 0..chunks {
                if !writer.write_all(vec![b'y'; 4096]).await.is_empty() {
                    break;
                }
            }
        });
        reader
    });
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), content, trailers, Some(options));
    let refused = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_method(&method).map_err(refused)?;
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(refused)?;
    request.set_authority(Some(authority)).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;
    wasip3::http::client::send(request).await
}

/// Reads a response to its end: status, size, whether it is whole, and its beginning.
pub async fn read(response: Response) -> String {
    let status = response.get_status_code();
    let (_, done) = wit_future::new(|| Ok(()));
    let (content, trailers) = Response::consume_body(response, done);
    let content = content.collect().await;
    let ended = trailers.await.map_or_else(|error| format!("{error:?}"), |_| "whole".to_owned());
    let start = String::from_utf8_lossy(&content[..content.len().min(500)]);
    format!("{status} {} bytes, {ended}: {start}", content.len())
}
