//! One request and its response, over a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tenon_model::{Diagnostic, Location};

use super::suite::Exchange;
use super::{differ, mismatch};

/// A response's body that is larger fails its test.
const BODY_BYTES_MAX: usize = 64 << 20;
/// A response that takes longer fails its test: the limits of the app are what it is meant to be bounded by.
const PATIENCE: Duration = Duration::from_secs(120);

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Sends the request and compares the response.
pub(super) fn run(address: SocketAddr, exchange: &Exchange) -> Result<(), Diagnostic> {
    let failed = |cause: String| Diagnostic::new("test-failed", format!("no response: {cause}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let answered = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, send(address, exchange))
            .await
            .unwrap_or_else(|_| Err(format!("none within {} s", PATIENCE.as_secs()).into()))
    });
    let response = answered.map_err(|error| failed(error.to_string()))?;
    compare(exchange, &response)
}

async fn send(address: SocketAddr, exchange: &Exchange) -> Result<http::Response<Bytes>, Error> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let mut request = Request::builder().method(exchange.method.as_str()).uri(exchange.path.as_str());
    if !exchange.headers.iter().any(|(name, _)| name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in &exchange.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(exchange.body.clone())))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
    driven.abort();
    Ok(http::Response::from_parts(head, body))
}

fn compare(exchange: &Exchange, response: &http::Response<Bytes>) -> Result<(), Diagnostic> {
    let body = String::from_utf8_lossy(response.body());
    let at = |failure: Diagnostic, at: Option<&Location>| match at {
        Some(at) => failure.at(at.clone()),
        None => failure,
    };
    // A request that says nothing of its response should not fail.
    let status = response.status();
    match &exchange.status {
        Some((expected, place)) if status.as_u16() != *expected => {
            let failure = mismatch("the status is another one", &expected.to_string(), status.as_str(), None);
            return Err(at(failure.note("body", super::cut(&body)), place.as_ref()));
        }
        None if status.is_server_error() => {
            let failure = mismatch("the request failed", "a status below 500", status.as_str(), None);
            return Err(failure.note("body", super::cut(&body)));
        }
        _ => {}
    }
    for (name, expected) in &exchange.expected_headers {
        let found: Vec<_> =
            response.headers().get_all(name).iter().map(|it| it.to_str().unwrap_or("?")).collect();
        if !found.contains(&expected.text.as_str()) {
            let found = if found.is_empty() { "none".to_owned() } else { found.join("\n") };
            let what = format!("the header `{name}` is another one");
            return Err(at(mismatch(&what, &expected.text, &found, None), Some(&expected.at)));
        }
    }
    if let Some(expected) = &exchange.expected_body
        && let Some(difference) = differ::texts(&expected.text, &body)
    {
        let failure = mismatch("the body is another one", &expected.text, &body, Some(&difference));
        return Err(at(failure, Some(&expected.at)));
    }
    if let Some((expected, place)) = &exchange.expected_json {
        let found = serde_json::from_str(&body).map_err(|error| {
            at(
                mismatch(&format!("the body is not JSON: {error}"), &expected.to_string(), &body, None),
                Some(place),
            )
        })?;
        if let Some(difference) = differ::json(expected, &found) {
            let failure = mismatch(
                "the body is another one",
                &expected.to_string(),
                &found.to_string(),
                Some(&difference),
            );
            return Err(at(failure, Some(place)));
        }
    }
    Ok(())
}
