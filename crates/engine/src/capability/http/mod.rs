//! `wasi:http` client: requests to the hosts that a component was granted.
//!
//! No redirect is followed (the guest gets the response and may ask again, under the same grants), no proxy is used,
//! no connection outlives its request, and nothing is shared between two components.

mod address;
mod body;
mod connect;
mod destination;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::{HOST, HeaderMap};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime::component::{Accessor, LinkerInstance, Resource};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttp};

pub use connect::Roots;

use self::body::BoundedResponse;
use self::connect::{Connection, Mistrust, NoConnection, connect};
use self::destination::Destination;
use super::{Caller, Sent};
use crate::host::{self, Host};
use crate::received::Counted;

/// Header fields a response may have.
const RESPONSE_FIELDS_MAX: usize = 256;
/// The least buffer the client works with.
const BUFFER_BYTES_MIN: usize = 16 << 10;

/// Sends a request for a component: check the grant, count it, connect, write, wait for the response's head.
///
/// What is returned beside the response is the connection's own work, to be polled while bodies move.
pub(crate) async fn send(
    caller: Arc<Caller>,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Sent, Error> {
    let destination = Destination::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
    let limits = *caller.limits();
    // CONNECT asks for a tunnel: what goes through it could not be looked at.
    let granted = destination.granted(&caller.grants().http).filter(|_| request.method() != Method::CONNECT);
    let Some(private) = granted else {
        caller.refused("wasi:http", &destination.origin(), &destination.line(false));
        return Err(Error::HttpRequestDenied);
    };
    if !caller.count_request() {
        return Err(Error::HttpRequestDenied);
    }
    check_headers(request.headers(), limits.header_bytes).map_err(Error::HttpRequestHeaderSectionSize)?;
    let held = caller.hold_connection().ok_or(Error::ConnectionLimitReached)?;

    let bounded = |asked: Option<Duration>| asked.unwrap_or(limits.wall).min(limits.wall);
    let connected_by = Instant::now() + bounded(options.connect_timeout);
    let connecting = connect(&destination, private, &caller.backends().roots);
    let connection = match timeout_at(connected_by, connecting).await {
        Err(_) => return Err(Error::ConnectionTimeout),
        Ok(Ok(connection)) => connection,
        Ok(Err(NoConnection::Failed(error))) => return Err(error),
        Ok(Err(NoConnection::Mistrusted(Mistrust { cause, mend }))) => {
            caller.mistrusted(&destination.origin(), &cause, mend);
            return Err(Error::TlsCertificateError);
        }
        Ok(Err(NoConnection::Prohibited)) => {
            caller.refused("wasi:http", &destination.origin(), &destination.line(true));
            return Err(Error::DestinationIpProhibited);
        }
    };

    let request = request.map(|body| Counted::new(body, limits.request_body_bytes));
    let first_byte = bounded(options.first_byte_timeout);
    let exchanging =
        exchange(connection, request, &destination, limits.header_bytes, connected_by, first_byte);
    let (response, work) = exchanging.await?;
    check_headers(response.headers(), limits.header_bytes).map_err(Error::HttpResponseHeaderSectionSize)?;
    let between_bytes = bounded(options.between_bytes_timeout);
    let response = response
        .map(|body| BoundedResponse::new(body, limits.response_body_bytes, between_bytes).boxed_unsync());
    let work = Box::new(async move {
        let ended = work.await;
        drop(held);
        ended
    });
    Ok((response, work))
}

/// `wasi:http/handler` of 0.3 as an import: what a middleware hands on goes where a client's request would.
pub(super) fn add_handler03(instance: &mut LinkerInstance<'_, Host>, who: usize) -> wasmtime::Result<()> {
    use wasmtime_wasi_http::p3::bindings::http::{client, types};
    instance.func_wrap_concurrent(
        "handle",
        move |store: &Accessor<Host>, (request,): (Resource<types::Request>,)| {
            Box::pin(async move {
                let within = &store.with_getter::<WasiHttp>(host::http(who));
                match <WasiHttp as client::HostWithStore<Host>>::send(within, request).await {
                    Ok(response) => Ok((Ok(response),)),
                    Err(error) => Ok((Err(within
                        .with(|mut access| types::Host::convert_error_code(&mut access.get(), error))?),)),
                }
            })
        },
    )
}

type Work = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Writes the request and waits for the head of its response, doing the connection's work meanwhile.
async fn exchange(
    Connection { stream, h2 }: Connection,
    mut request: Request<Counted<WasiBody>>,
    destination: &Destination,
    header_bytes: u64,
    connected_by: Instant,
    first_byte: Duration,
) -> Result<(Response<Incoming>, Work), Error> {
    let io = TokioIo::new(stream);
    let header_bytes = usize::try_from(header_bytes).unwrap_or(usize::MAX);
    let failed = |error: hyper::Error| hyper_error(&error);
    if h2 {
        // The authority goes into the URI, and nowhere else (RFC 9113, section 8.3.1).
        request.headers_mut().remove(HOST);
        *request.uri_mut() = absolute(request.uri(), destination)?;
        let handshake = http2::Builder::new(Spawn)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_reset_streams(1)
            .handshake(io);
        let (mut sender, connection) = timeout_at(connected_by, handshake)
            .await
            .map_err(|_| Error::ConnectionTimeout)?
            .map_err(failed)?;
        let work: Work = Box::pin(async move { connection.await.map_err(failed) });
        return first(sender.send_request(request), work, first_byte).await;
    }
    let host = HeaderValue::try_from(destination.authority()).map_err(|_| Error::HttpRequestUriInvalid)?;
    request.headers_mut().insert(HOST, host);
    *request.uri_mut() = origin_form(request.uri())?;
    let handshake = http1::Builder::new()
        .max_headers(RESPONSE_FIELDS_MAX)
        .max_buf_size(header_bytes.max(BUFFER_BYTES_MIN))
        .handshake(io);
    let (mut sender, connection) =
        timeout_at(connected_by, handshake).await.map_err(|_| Error::ConnectionTimeout)?.map_err(failed)?;
    let work: Work = Box::pin(async move { connection.await.map_err(failed) });
    first(sender.send_request(request), work, first_byte).await
}

/// Waits for the response's head; the connection must be polled for there to be one.
async fn first(
    sending: impl Future<Output = hyper::Result<Response<Incoming>>>,
    work: Work,
    first_byte: Duration,
) -> Result<(Response<Incoming>, Work), Error> {
    let mut sending = pin!(sending);
    let (mut work, mut broken) = (Some(work), None);
    let response = poll_fn(|context| {
        if let Poll::Ready(response) = sending.as_mut().poll(context) {
            return Poll::Ready(response.map_err(|error| hyper_error(&error)));
        }
        let Some(working) = work.as_mut() else { return Poll::Pending };
        let ended = ready!(working.as_mut().poll(context));
        work = None;
        // It may have left a response behind. A server that answers before it has read the whole request may hang up
        // at once (RFC 9112, section 9.5): what it said counts.
        match (sending.as_mut().poll(context), ended) {
            (Poll::Ready(Ok(response)), ended) => {
                broken = ended.err();
                Poll::Ready(Ok(response))
            }
            (_, Err(error)) => Poll::Ready(Err(error)),
            (response, Ok(())) => response.map_err(|error| hyper_error(&error)),
        }
    });
    let response = timeout(first_byte, response).await.map_err(|_| Error::ConnectionReadTimeout)??;
    let rest: Work = match (work, broken) {
        (Some(work), _) => work,
        (None, None) => Box::pin(std::future::ready(Ok(()))),
        (None, Some(error)) => Box::pin(async {
            // What ends at once is taken for a response that never came.
            tokio::task::yield_now().await;
            Err(error)
        }),
    };
    Ok((response, rest))
}

/// What HTTP/1.1 puts on the request line (RFC 9112, section 3.2.1).
fn origin_form(uri: &Uri) -> Result<Uri, Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder().path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)
}

fn absolute(uri: &Uri, destination: &Destination) -> Result<Uri, Error> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder()
        .scheme("https")
        .authority(destination.authority())
        .path_and_query(path)
        .build()
        .map_err(|_| Error::HttpRequestUriInvalid)
}

/// The size of a set of header fields, when it is over the limit.
fn check_headers(headers: &HeaderMap, bytes_max: u64) -> Result<(), Option<u32>> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes as u64 > bytes_max { Err(u32::try_from(bytes).ok()) } else { Ok(()) }
}

/// What a failed exchange is to the guest. Not logged: the guest chose the peer, and the peer chose to fail.
fn hyper_error(error: &hyper::Error) -> Error {
    // An error of the guest's own body comes back as it was.
    let own = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    if let Some(Error::HttpRequestBodySize(size)) = own {
        return Error::HttpRequestBodySize(*size);
    }
    if error.is_timeout() {
        Error::HttpResponseTimeout
    } else if error.is_incomplete_message() {
        Error::HttpResponseIncomplete
    } else if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(None)
    } else if error.is_closed() || error.is_canceled() {
        Error::ConnectionTerminated
    } else {
        Error::HttpProtocolError
    }
}

/// Runs what HTTP/2 does beside the connection, which ends with it.
#[derive(Clone, Copy)]
struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}
