//! The life of a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming as Received;
use tenon_engine::{Body, ErrorCode, Failure, Incoming, Record, Service, head_bytes};

use crate::admit::{Admitted, Gate};
use crate::authority::settle;
use crate::identify::{Ids, REQUEST_ID, RequestId};
use crate::rescue::{ERROR_CODE, Refusal, respond};
use crate::wire::{Reply, Wire};

/// After a request's time on the wall, its client has this long to take the rest of the response.
pub(crate) const TAKE_GRACE: Duration = Duration::from_secs(5);

/// What a request is served from: immutable, shared by all workers.
pub struct Site {
    service: Arc<Service>,
    gate: Arc<Gate>,
}

impl Site {
    /// A site of one app, which gets every request.
    pub fn new(service: Service) -> Self {
        let gate = Gate::new(service.limits());
        Self { service: Arc::new(service), gate }
    }

    /// Requests running now.
    pub fn running(&self) -> u32 {
        self.gate.running()
    }

    /// The longest that a request and the taking of its response may last.
    pub fn longest(&self) -> Duration {
        self.service.limits().wall + TAKE_GRACE
    }

    /// What the header fields of a request may take, in bytes.
    pub fn header_bytes(&self) -> u64 {
        self.service.limits().header_bytes
    }

    /// The app whose messages are delivered.
    pub(crate) fn app(&self) -> (&Arc<Service>, &Arc<Gate>) {
        (&self.service, &self.gate)
    }

    /// The app that a request is for.
    fn route(&self, _request: &Request<Received>) -> (&Arc<Service>, &Arc<Gate>) {
        (&self.service, &self.gate)
    }
}

/// What one worker has of its own.
#[derive(Debug)]
pub struct Worker {
    /// Makes correlation ids.
    pub ids: Ids,
    /// Where it listens: the authority of a request that names none.
    pub address: HeaderValue,
}

/// Serves one request: identify, route, admit, dispatch, respond. Recording is the last stage; it runs when the
/// guest has ended, which may be after its response was sent, and it always runs.
pub async fn serve_request(
    site: &Site,
    worker: &Worker,
    wire: &Arc<Wire>,
    mut request: Request<Received>,
) -> Response<Reply> {
    let id = worker.ids.identify(request.headers());
    let (service, gate) = site.route(&request);
    let seen = Seen::of(&request, &id, service);
    let reply = |response: Response<Body>, admitted| {
        let until = Instant::now() + site.longest();
        response.map(|body| Reply::new(body, admitted, Arc::clone(wire), until))
    };
    let admitted = match admit(&mut request, worker, service, gate).await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            seen.refused(&refusal);
            return reply(respond(&refusal, &id), None);
        }
    };
    match dispatch(service, admitted.clone(), seen, request).await {
        Ok(response) => reply(finish(response, &id), Some(admitted)),
        Err(failure) => reply(respond(&Refusal::Failed(failure), &id), Some(admitted)),
    }
}

/// Says yes or no to a request before anything runs for it; it may wait for its turn.
async fn admit(
    request: &mut Request<Received>,
    worker: &Worker,
    service: &Service,
    gate: &Arc<Gate>,
) -> Result<Admitted, Refusal> {
    settle(request, &worker.address)?;
    let limit_bytes = service.limits().header_bytes;
    if head_bytes(request.headers()) > limit_bytes {
        return Err(Refusal::Headers { limit_bytes });
    }
    gate.admit().await
}

/// Runs the guest. Only an admitted request gets here; it counts as running until it is recorded.
async fn dispatch(
    service: &Arc<Service>,
    admitted: Admitted,
    seen: Seen,
    mut request: Request<Received>,
) -> Result<Response<Body>, Failure> {
    let id = seen.id.shared();
    request.headers_mut().insert(REQUEST_ID, seen.id.header());
    let record = move |record: Record| {
        seen.record(&record);
        drop(admitted);
    };
    service.serve(Incoming { request, id, secure: false }, record).await
}

/// The host's own headers: a guest can neither take the id away nor claim one of the host's error codes.
fn finish(mut response: Response<Body>, id: &RequestId) -> Response<Body> {
    let code = response.extensions_mut().remove::<ErrorCode>();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.header());
    headers.remove(ERROR_CODE);
    if let Some(ErrorCode(code)) = code {
        headers.insert(ERROR_CODE, HeaderValue::from_static(code));
    }
    response
}

/// What the record of a request names.
struct Seen {
    id: RequestId,
    service: Arc<Service>,
    method: Method,
    path: Box<str>,
}

impl Seen {
    fn of(request: &Request<Received>, id: &RequestId, service: &Arc<Service>) -> Self {
        let (method, path) = (request.method().clone(), request.uri().path().into());
        Self { id: id.clone(), service: Arc::clone(service), method, path }
    }

    fn record(&self, Record { outcome, bill, crash }: &Record) {
        match outcome {
            Ok(finished) => tracing::debug!(
                target: "tenon::request",
                request_id = %self.id,
                app = self.service.name(),
                method = %self.method,
                path = &*self.path,
                finished,
                cpu_us = micros(bill.cpu),
                wall_us = micros(bill.wall),
                memory_bytes = bill.memory_bytes,
                "served"
            ),
            Err(failure) => {
                let place = failure.place();
                tracing::error!(
                    target: "tenon::request",
                    request_id = %self.id,
                    app = self.service.name(),
                    component = place.and_then(|place| place.component.as_deref()).unwrap_or(self.service.name()),
                    function = place
                        .and_then(|place| place.function.clone())
                        .unwrap_or_else(|| self.service.shape().to_string()),
                    limit = failure.limit().as_deref().unwrap_or("none"),
                    cause = failure.cause(),
                    code = failure.code(),
                    crash = crash.as_deref().unwrap_or("none"),
                    method = %self.method,
                    path = &*self.path,
                    cpu_us = micros(bill.cpu),
                    wall_us = micros(bill.wall),
                    memory_bytes = bill.memory_bytes,
                    "request failed"
                );
            }
        }
    }

    fn refused(&self, refusal: &Refusal) {
        tracing::warn!(
            target: "tenon::request",
            request_id = %self.id,
            app = self.service.name(),
            component = self.service.name(),
            function = %self.service.shape(),
            limit = refusal.limit().as_deref().unwrap_or("none"),
            cause = refusal.cause(),
            code = refusal.code(),
            method = %self.method,
            path = &*self.path,
            "request refused"
        );
    }
}

pub(crate) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
