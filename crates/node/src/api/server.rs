//! The server of the admin API: accept → find → limit → authorize → handle → answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tenon_model::Diagnostic;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::authorize::{Permitted, find};
use super::endpoints::Action;
use super::logs::Stream;
use super::places::{Place, Places, PlacesMax};
use super::rate::Rate;
use super::{handle, upload};
use crate::node::Inner;
use crate::refused::{Answer, Refused};
use crate::telemetry::Outlets;
use crate::wire::REQUEST_BYTES_MAX;

/// Connections that are open at once.
const CONNECTIONS_MAX: usize = 512;
/// Requests of one token a second, and how many may come at once.
const REQUESTS_A_SECOND: u32 = 500;
const REQUESTS_BURST: u32 = 1_000;
/// Requests from one address whose token is not valid a second, and how many may come at once.
const STRANGERS_A_SECOND: u32 = 10;
const STRANGERS_BURST: u32 = 50;
/// Deploys and reverts that are under way at once, each: they may compile, which takes a thread for as long.
const DEPLOYS: PlacesMax = PlacesMax { tenant: 4, node: 32 };
/// Other changes that are under way at once: each waits for the disk.
const CHANGES: PlacesMax = PlacesMax { tenant: 8, node: 64 };
/// Where there is no place for a change: when it is worth asking again, in seconds.
const BUSY_AGAIN_S: u64 = 1;
/// A client has this long to send a request's head, or to shake hands.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// A client has this long to send a request's body that is not an upload.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Where nothing is changed because the node is about to end: when it is worth asking again, in seconds.
const DRAINING_AGAIN_S: u64 = 1;
/// After a failed accept: wait before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;

/// An answer.
pub(super) struct Reply(Response<ReplyBody>);

impl Reply {
    pub(super) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Full::default().boxed_unsync());
        *response.status_mut() = status;
        Self(response)
    }

    pub(super) fn whole(kind: &'static str, body: Bytes) -> Self {
        let mut response = Response::new(Full::new(body).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Self(response)
    }

    /// A page, and what a browser is held to that shows it.
    pub(super) fn page(html: &'static str, policy: HeaderValue) -> Self {
        let mut reply = Self::whole("text/html; charset=utf-8", html.into());
        let headers = reply.0.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, policy);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        reply
    }

    pub(super) fn stream(kind: &'static str, body: Stream) -> Self {
        let mut response = Response::new(body.boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Self(response)
    }

    pub(super) fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::whole("application/json", body.into()),
            Err(error) => Self::of(Refused::new("internal", error.to_string(), "report it")),
        }
    }

    /// A problem.
    pub(super) fn of(refused: Refused) -> Self {
        let body = serde_json::to_vec(&refused.0).unwrap_or_default();
        let mut reply = Self::whole("application/problem+json", body.into());
        match refused.0.code.as_str() {
            // The next node takes over within that time, or this one goes on.
            "node-draining" => reply = reply.header("retry-after", DRAINING_AGAIN_S),
            "deploy-busy" | "upload-busy" | "admin-busy" => reply = reply.header("retry-after", BUSY_AGAIN_S),
            _ => {}
        }
        *reply.0.status_mut() =
            StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        reply
    }

    pub(super) fn header(mut self, name: &'static str, value: u64) -> Self {
        self.0.headers_mut().insert(name, value.into());
        self
    }
}

/// A server that is about to run.
pub(crate) struct AdminServer {
    pub(crate) node: Arc<Inner>,
    pub(crate) outlets: Arc<Outlets>,
    pub(crate) tls: Option<TlsAcceptor>,
}

struct Office {
    node: Arc<Inner>,
    outlets: Arc<Outlets>,
    tokens: Rate<String>,
    strangers: Rate<IpAddr>,
    deploys: Arc<Places>,
    /// Whoever wants an earlier revision back does not wait for those who deploy.
    reverts: Arc<Places>,
    changes: Arc<Places>,
}

impl AdminServer {
    /// Serves until it is dropped.
    pub(crate) async fn run(self, listener: std::net::TcpListener) -> std::io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let office = Arc::new(Office {
            node: self.node,
            outlets: self.outlets,
            tokens: Rate::new(REQUESTS_A_SECOND, REQUESTS_BURST),
            strangers: Rate::new(STRANGERS_A_SECOND, STRANGERS_BURST),
            deploys: Places::new(DEPLOYS),
            reverts: Places::new(DEPLOYS),
            changes: Places::new(CHANGES),
        });
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.map_err(std::io::Error::other)?;
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "connections to the admin API cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (office, tls) = (Arc::clone(&office), self.tls.clone());
            tokio::spawn(async move {
                office.connection(stream, client.ip(), tls).await;
                drop(place);
            });
        }
    }
}

impl Office {
    async fn connection(self: Arc<Self>, stream: TcpStream, client: IpAddr, tls: Option<TlsAcceptor>) {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        http.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_TIMEOUT);
        let serve = service_fn(move |request| {
            let office = Arc::clone(&self);
            async move { Ok::<_, Infallible>(office.serve(request, client).await) }
        });
        let ended = match tls {
            None => http.serve_connection(TokioIo::new(stream), serve).await,
            Some(tls) => match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => http.serve_connection(TokioIo::new(stream), serve).await,
                _ => return,
            },
        };
        if let Err(error) = ended {
            tracing::debug!(target: "tenon::connection", %error, "a connection to the admin API ended early");
        }
    }

    async fn serve(&self, request: Request<Incoming>, client: IpAddr) -> Response<ReplyBody> {
        let Reply(mut response) = match self.answer(request, client).await {
            Ok(reply) => reply,
            Err(refused) => Reply::of(refused),
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn answer(&self, request: Request<Incoming>, client: IpAddr) -> Answer<Reply> {
        let (parts, body) = request.into_parts();
        let permitted = find(&parts.method, parts.uri.path())
            .and_then(|found| found.authorize(&self.node.desired, &parts.headers, self.node.now()));
        let permitted = match permitted {
            Ok(permitted) => permitted,
            // Whoever guesses is told less and less.
            Err(refused) => return Ok(self.stranger(client).unwrap_or_else(|| Reply::of(refused))),
        };
        if let Err(again) = self.tokens.take(permitted.who().to_owned(), Instant::now()) {
            return Ok(too_often(again));
        }
        let query = parts.uri.query().unwrap_or_default();
        match permitted.endpoint().action {
            Action::PatchBlob => upload::take(&self.node, &permitted, &parts.headers, body, true).await,
            Action::PutBlob => upload::take(&self.node, &permitted, &parts.headers, body, false).await,
            _ => {
                let body = whole(body).await?;
                self.handle(permitted, query.to_owned(), body).await
            }
        }
    }

    fn stranger(&self, client: IpAddr) -> Option<Reply> {
        self.strangers.take(client, Instant::now()).err().map(too_often)
    }

    /// What touches the state waits for the disk: on a thread where nobody else waits for that.
    async fn handle(&self, permitted: Permitted, query: String, body: Bytes) -> Answer<Reply> {
        let place = self.place(&permitted)?;
        let (node, outlets) = (Arc::clone(&self.node), Arc::clone(&self.outlets));
        let handled = tokio::task::spawn_blocking(move || {
            let handled = handle::handle(&node, &outlets, &permitted, &query, &body);
            // Whether or not the client is still there.
            drop(place);
            handled
        });
        handled.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request to the admin API failed");
            Err(Refused::new("internal", "the node failed", "look into the node's log, and report it"))
        })
    }
}

impl Office {
    /// A place for what changes something. There are more threads than places: whoever only looks always finds one.
    fn place(&self, permitted: &Permitted) -> Answer<Option<Place>> {
        let endpoint = permitted.endpoint();
        let (places, code, said) = match (endpoint.action, &endpoint.method) {
            (_, &Method::GET | &Method::HEAD) => return Ok(None),
            (Action::Deploy, _) => (&self.deploys, "deploy-busy", "as many deploys as may be are under way"),
            (Action::Revert, _) => (&self.reverts, "deploy-busy", "as many reverts as may be are under way"),
            _ => (&self.changes, "admin-busy", "as many changes as may be are under way"),
        };
        let place = places.take(permitted.tenant());
        place
            .map(Some)
            .ok_or_else(|| Refused::new(code, said, "wait as long as `retry-after` says; `tenon` does"))
    }
}

async fn whole(body: Incoming) -> Answer<Bytes> {
    let collected = Limited::new(body, REQUEST_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refused::new(
            "admin-too-large",
            "the request's body is larger than 4 MiB",
            "send less at once",
        )),
        Ok(Err(error)) => Err(Diagnostic::new("admin-request", "the request's body cannot be read")
            .note("cause", error.to_string())
            .mend("send it again")
            .into()),
        Err(_) => {
            Err(Refused::new("admin-request", "the request's body did not come in time", "send it again"))
        }
    }
}

fn too_often(again: Duration) -> Reply {
    let reply = Reply::of(Refused::new("admin-rate", "too many requests", "ask less often"));
    reply.header("retry-after", again.as_secs().max(1))
}
