//! The life of a request.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming as Received;
use tenon_engine::{Body, ErrorCode, Failure, Incoming, Record, Service, head_bytes};

use crate::admit::{Admitted, Gate};
use crate::authority::settle;
use crate::identify::{Ids, REQUEST_ID, RequestId};
use crate::rescue::{ERROR_CODE, Refusal, respond};
use crate::site::{NOTICE, Revision, Site, View};
use crate::wire::{Reply, Wire};

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
    let view = site.view();
    let reply = |mut response: Response<Body>, admitted| {
        if let Some(notice) = &view.notice {
            notice.mark(response.headers_mut());
        }
        let until = Instant::now() + view.longest();
        response.map(|body| Reply::new(body, admitted, Arc::clone(wire), until))
    };
    if let Some(page) = view.notice.as_ref().and_then(|notice| notice.page_for(request.headers(), &id)) {
        return reply(page, None);
    }
    let Some(Revision { service, gate }) = view.route(&request) else {
        return reply(respond(&Refusal::NotReady, &id), None);
    };
    let seen = Seen::of(&request, &id, service);
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

impl View {
    /// The app that a request is for.
    fn route(&self, _request: &Request<Received>) -> Option<&Revision> {
        self.revision.as_ref()
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
    headers.remove(NOTICE);
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
