//! The life of a request.

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming as Received;
use tenon_engine::{Body, Failure, Incoming, Record, Service};

use crate::admit::{Admitted, Gate};
use crate::identify::{Ids, REQUEST_ID, RequestId};
use crate::rescue::{Refusal, respond};

/// What a request is served from: immutable, shared by all workers.
pub struct Site {
    service: Arc<Service>,
    gate: Arc<Gate>,
}

impl Site {
    /// A site of one app, which gets every request.
    pub fn new(service: Service) -> Self {
        let gate = Gate::new(service.limits().concurrency);
        Self { service: Arc::new(service), gate }
    }

    /// The app that a request is for.
    fn route(&self, _request: &Request<Received>) -> (&Arc<Service>, &Arc<Gate>) {
        (&self.service, &self.gate)
    }
}

/// Serves one request: identify, route, admit, dispatch, respond. Recording is the last stage; it runs when the
/// guest has ended, which may be after its response was sent, and it always runs.
pub async fn serve_request(site: &Site, ids: &Ids, request: Request<Received>) -> Response<Body> {
    let id = ids.identify(request.headers());
    let (service, gate) = site.route(&request);
    let seen = Seen {
        id: id.clone(),
        service: Arc::clone(service),
        method: request.method().clone(),
        path: request.uri().path().into(),
    };
    let admitted = match gate.admit() {
        Ok(admitted) => admitted,
        Err(refusal) => {
            seen.refused(&refusal);
            return respond(&refusal, &id);
        }
    };
    match dispatch(service, admitted, seen, request).await {
        Ok(response) => finish(response, &id),
        Err(failure) => respond(&Refusal::Failed(failure), &id),
    }
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

fn finish(mut response: Response<Body>, id: &RequestId) -> Response<Body> {
    response.headers_mut().insert(REQUEST_ID, id.header());
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
    fn record(&self, Record { outcome, bill }: &Record) {
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
            limit = format!("concurrency {}", self.service.limits().concurrency),
            cause = "the app is handling as many requests as it may",
            code = refusal.code(),
            method = %self.method,
            path = &*self.path,
            "request refused"
        );
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
