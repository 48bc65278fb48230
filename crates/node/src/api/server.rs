//! The server of the admin API: accept → find → authorize → limit → read → handle → answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tenon_edge::{Addresses, counted_as};
use tenon_model::Diagnostic;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::authorize::{Permitted, find};
use super::connection::{Connection, HEAD_TIMEOUT, Running, Taken};
use super::endpoints::{Action, Scope};
use super::handle::Desk;
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
/// Of them, those of one address, or of one network of 64 bits where addresses have 128; further ones are closed. As many are
/// left for everybody else.
const ADDRESS_CONNECTIONS_MAX: usize = 256;
/// Where fewer places are left than this, connections without a request are closed sooner.
const CONNECTIONS_SCARCE: usize = CONNECTIONS_MAX / 4;
/// Requests of one connection of HTTP/2 that are under way at once.
const STREAMS_MAX: u32 = 16;
/// Bytes of a request's head, and of what of an answer waits to be written.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// Requests of one token a second, and how many may come at once.
const REQUESTS_A_SECOND: u32 = 500;
const REQUESTS_BURST: u32 = 1_000;
/// Requests from one address whose token is not valid a second, and how many may come at once.
const STRANGERS_A_SECOND: u32 = 10;
const STRANGERS_BURST: u32 = 50;
/// Requests from one address for what everybody may see a second, and how many may come at once.
const PASSERS_A_SECOND: u32 = 50;
const PASSERS_BURST: u32 = 100;
/// Deploys and reverts that are under way at once, each: they may compile, which takes a thread for as long.
const DEPLOYS: PlacesMax = PlacesMax { tenant: 4, node: 32 };
/// Other changes that are under way at once: each waits for the disk.
const CHANGES: PlacesMax = PlacesMax { tenant: 8, node: 64 };
/// Those who follow an app's lines at once: each holds the last lines, and those that it has not read.
const FOLLOWERS: PlacesMax = PlacesMax { tenant: 16, node: 128 };
/// Bytes of requests' bodies that are in memory at once.
const BODIES_BYTES: PlacesMax = PlacesMax { tenant: 16 << 20, node: 128 << 20 };
/// A body that is no larger takes none of them: a revert, which says little, is never refused for the deploys of others. Of
/// these there can be as many as requests.
const BODY_BYTES_SMALL: u64 = 16 << 10;
/// Of a body that is refused, as many bytes are thrown away before the answer, and for as long: a client that has not sent
/// all of it would not see why.
const DISCARDED_BYTES_MAX: usize = 4 * REQUEST_BYTES_MAX;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Where there is no place for a change: when it is worth asking again, in seconds.
const BUSY_AGAIN_S: u64 = 1;
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
            "deploy-busy" | "upload-busy" | "admin-busy" | "admin-full" => {
                reply = reply.header("retry-after", BUSY_AGAIN_S);
            }
            // RFC 9110, section 11.6.1.
            "admin-token" => {
                reply.0.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
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
    desk: Arc<Desk>,
    /// Places for connections.
    open: Arc<Semaphore>,
    by_address: Arc<Addresses>,
    tokens: Rate<String>,
    strangers: Rate<IpAddr>,
    /// Those who ask for what everybody may see.
    passers: Rate<IpAddr>,
    deploys: Arc<Places>,
    /// Whoever wants an earlier revision back does not wait for those who deploy.
    reverts: Arc<Places>,
    changes: Arc<Places>,
    /// One for each byte of a body.
    bodies: Arc<Places>,
}

impl AdminServer {
    /// Serves until it is dropped.
    pub(crate) async fn run(self, listener: std::net::TcpListener) -> std::io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let desk = Desk { node: self.node, outlets: self.outlets, followers: Places::new(FOLLOWERS) };
        let office = Arc::new(Office {
            desk: Arc::new(desk),
            open: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            by_address: Addresses::new(ADDRESS_CONNECTIONS_MAX),
            tokens: Rate::new(REQUESTS_A_SECOND, REQUESTS_BURST),
            strangers: Rate::new(STRANGERS_A_SECOND, STRANGERS_BURST),
            passers: Rate::new(PASSERS_A_SECOND, PASSERS_BURST),
            deploys: Places::new(DEPLOYS),
            reverts: Places::new(DEPLOYS),
            changes: Places::new(CHANGES),
            bodies: Places::new(BODIES_BYTES),
        });
        loop {
            // Whoever waits for one does not wait long: a connection without a request is given up.
            let place = Arc::clone(&office.open).acquire_owned().await.map_err(std::io::Error::other)?;
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "connections to the admin API cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // One more than its address may have is closed.
            let Some(held) = office.by_address.hold(client.ip()) else { continue };
            let (office, tls) = (Arc::clone(&office), self.tls.clone());
            tokio::spawn(async move {
                let _counts = (place, held);
                office.connection(stream, client.ip(), tls).await;
            });
        }
    }
}

impl Office {
    /// The life of a connection. One that is of no use to anybody is given up, whatever it is in the middle of.
    async fn connection(self: Arc<Self>, stream: TcpStream, client: IpAddr, tls: Option<TlsAcceptor>) {
        let connection = Connection::new();
        let given_up = connection.given_up(|| self.open.available_permits() < CONNECTIONS_SCARCE);
        let converse = async {
            match tls {
                None => self.converse(stream, client, &connection).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => self.converse(stream, client, &connection).await,
                    Err(error) => Err(error.into()),
                },
            }
        };
        tokio::select! {
            ended = converse => if let Err(error) = ended {
                tracing::debug!(target: "tenon::connection", %error, "a connection to the admin API ended early");
            },
            why = given_up => {
                tracing::debug!(target: "tenon::connection", why, "a connection to the admin API was closed");
            }
        }
    }

    /// Answers a connection's requests until it ends.
    async fn converse<S>(
        self: &Arc<Self>,
        stream: S,
        client: IpAddr,
        connection: &Arc<Connection>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX as usize);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .keep_alive_interval(HEAD_TIMEOUT);
        let serve = service_fn(move |request| {
            let (office, running) = (Arc::clone(self), connection.begin());
            async move {
                let response = office.serve(request, client, &running).await;
                Ok::<_, Infallible>(response.map(|body| Taken::new(body, running)))
            }
        });
        http.serve_connection(TokioIo::new(stream), serve).await
    }

    async fn serve(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
        running: &Running,
    ) -> Response<ReplyBody> {
        let Reply(mut response) = match self.answer(request, client, running).await {
            Ok(reply) => reply,
            Err(refused) => Reply::of(refused),
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn answer(&self, request: Request<Incoming>, client: IpAddr, running: &Running) -> Answer<Reply> {
        let (parts, body) = request.into_parts();
        let client = counted_as(client);
        let node = &self.desk.node;
        let permitted = find(&parts.method, parts.uri.path())
            .and_then(|found| found.authorize(&node.desired, &parts.headers, node.now()));
        let permitted = match permitted {
            Ok(permitted) => permitted,
            // Whoever guesses is told less and less.
            Err(refused) => return Ok(self.stranger(client).unwrap_or_else(|| Reply::of(refused))),
        };
        if permitted.bearer().is_some() {
            running.is_permitted();
        }
        let endpoint = permitted.endpoint();
        if endpoint.action == Action::Live {
            // Whoever restarts a node that says nothing must not be kept from hearing it; and a refusal costs no less.
            return Ok(handle::live());
        }
        let now = Instant::now();
        let rated = match endpoint.scope {
            Scope::Public => self.passers.take(client, now),
            _ => self.tokens.take(permitted.who().to_owned(), now),
        };
        if let Err(again) = rated {
            return Ok(too_often(again));
        }
        let query = parts.uri.query().unwrap_or_default();
        match endpoint.action {
            Action::PatchBlob => upload::take(node, &permitted, &parts.headers, body, true).await,
            Action::PutBlob => upload::take(node, &permitted, &parts.headers, body, false).await,
            _ => {
                let sent = self.read(&permitted, body).await?;
                self.handle(permitted, query.to_owned(), sent).await
            }
        }
    }

    fn stranger(&self, client: IpAddr) -> Option<Reply> {
        self.strangers.take(client, Instant::now()).err().map(too_often)
    }

    /// A request's body, if its endpoint has one and there is room for it.
    async fn read(&self, permitted: &Permitted, body: Incoming) -> Answer<Sent> {
        if permitted.endpoint().request.is_none() {
            return Ok(Sent::default());
        }
        // One whose length is not said may be as long as any.
        let length = body.size_hint().upper().unwrap_or(REQUEST_BYTES_MAX as u64);
        if length > REQUEST_BYTES_MAX as u64 {
            discard(body).await;
            return Err(too_large());
        }
        let room = match u32::try_from(length) {
            Ok(bytes) if length > BODY_BYTES_SMALL => {
                let Some(room) = self.bodies.take_many(permitted.tenant(), bytes) else {
                    discard(body).await;
                    return Err(Refused::new(
                        "admin-full",
                        "the node reads as many large requests as it may",
                        "wait as long as `retry-after` says; `tenon` does",
                    ));
                };
                Some(room)
            }
            _ => None,
        };
        Ok(Sent { bytes: whole(body).await?, _room: room })
    }

    /// What touches the state waits for the disk: on a thread where nobody else waits for that.
    async fn handle(&self, permitted: Permitted, query: String, sent: Sent) -> Answer<Reply> {
        let place = self.place(&permitted)?;
        let desk = Arc::clone(&self.desk);
        let handled = tokio::task::spawn_blocking(move || {
            let handled = handle::handle(&desk, &permitted, &query, &sent.bytes);
            // Whether or not the client is still there.
            drop((place, sent));
            handled
        });
        handled.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request to the admin API failed");
            Err(Refused::new("internal", "the node failed", "look into the node's log, and report it"))
        })
    }
}

/// A body that was sent, and the room that it takes.
#[derive(Default)]
struct Sent {
    bytes: Bytes,
    _room: Option<Place>,
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
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Diagnostic::new("admin-request", "the request's body cannot be read")
            .note("cause", error.to_string())
            .mend("send it again")
            .into()),
        Err(_) => {
            Err(Refused::new("admin-request", "the request's body did not come in time", "send it again"))
        }
    }
}

fn too_large() -> Refused {
    Refused::new("admin-too-large", "the request's body is larger than 4 MiB", "send less at once")
}

/// Throws away what comes of a body, as much as is worth it.
async fn discard(mut body: Incoming) {
    let mut left = DISCARDED_BYTES_MAX;
    let comes = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
                Some(less) => left = less,
                None => return,
            }
        }
    };
    // Whatever is left, the client is answered.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, comes).await;
}

fn too_often(again: Duration) -> Reply {
    let reply = Reply::of(Refused::new("admin-rate", "too many requests", "ask less often"));
    reply.header("retry-after", again.as_secs().max(1))
}
