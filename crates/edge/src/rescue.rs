//! The one table from a refusal or a failure to what the client is told.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tenon_engine::{Body, Failure};
use tenon_model::{format_bytes, format_duration};

use crate::identify::{REQUEST_ID, RequestId};

/// The header that carries the stable error code.
pub(crate) const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
/// Seconds after which a client may try again when there was no room.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// Why there is no response from a guest: we said no, or it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The app runs as many requests as it may, and as many wait as may wait.
    Concurrency {
        /// How many may run.
        limit: u32,
        /// How many may wait.
        queue: u32,
    },
    /// The app runs as many requests as it may, and none of them ended while this one waited.
    Waited {
        /// How long it waited.
        limit: Duration,
    },
    /// The request's header fields are larger than they may be.
    Headers {
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// There is nothing to serve yet.
    NotReady,
    /// The guest, or the engine, failed.
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// One row of the table: what a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The stable code: the value of `x-error-code`.
    pub code: &'static str,
    /// The status.
    pub status: u16,
    /// One sentence that says no more than a stranger may know.
    pub title: &'static str,
    /// Whether the client may try again soon: `Retry-After` is sent.
    pub again: bool,
}

const fn told(code: &'static str, status: u16, title: &'static str, again: bool) -> Told {
    Told { code, status, title, again }
}

const INTERNAL: Told = told("internal", 500, "The node failed.", false);

/// Every refusal and failure there is.
pub const TABLE: [Told; 25] = [
    told("guest-trap", 500, "The app failed.", false),
    told("out-of-memory", 500, "The app ran out of memory.", false),
    told("stack-limit", 500, "The app used up its stack.", false),
    told("table-limit", 500, "The app used up its tables.", false),
    told("handle-limit", 500, "The app holds too many resources.", false),
    told("host-call-limit", 500, "The app copied too much at once.", false),
    told("response-body-limit", 500, "The app's response is too large.", false),
    told("response-headers-limit", 500, "The app's response is too large.", false),
    told("guest-no-response", 500, "The app did not respond.", false),
    told("invalid-response", 500, "The app's response cannot be sent.", false),
    INTERNAL,
    told("cpu-deadline", 504, "The app took too long.", false),
    told("wall-deadline", 504, "The app took too long.", false),
    told("pool-exhausted", 503, "The node has no free sandbox.", true),
    told("concurrency-limit", 503, "The app is handling as many requests as it may.", true),
    told("queue-wait", 503, "The app is handling as many requests as it may.", true),
    told("not-ready", 503, "There is nothing to serve yet.", true),
    told("headers-too-large", 431, "The request's header fields are too large.", false),
    told("bad-request", 400, "The request cannot be handled.", false),
    told("request-too-large", 413, "The request's body is too large.", false),
    // The gateway to typed exports tells these itself, with what is wrong and where.
    told("not-found", 404, "There is nothing at this path.", false),
    told("method-not-allowed", 405, "The path does not take this method.", false),
    told("unsupported-media-type", 415, "The function does not take a body of this media type.", false),
    told("invalid-json", 400, "The body is not JSON.", false),
    told("invalid-arguments", 400, "The body is not what the function takes.", false),
];

impl Refusal {
    /// The stable code: the value of `x-error-code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Concurrency { .. } => "concurrency-limit",
            Self::Waited { .. } => "queue-wait",
            Self::Headers { .. } => "headers-too-large",
            Self::NotReady => "not-ready",
            Self::Failed(failure) => failure.code(),
        }
    }

    /// What happened, for the log.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Concurrency { .. } => {
                "the app is handling as many requests as it may, and as many wait as may wait".into()
            }
            Self::Waited { .. } => "no running request ended in time".into(),
            Self::Headers { .. } => "the request's header fields are larger than they may be".into(),
            Self::NotReady => "there is nothing to serve yet".into(),
            Self::Failed(failure) => failure.cause(),
        }
    }

    /// The limit that was hit, if one was.
    pub(crate) fn limit(&self) -> Option<String> {
        match self {
            Self::Concurrency { limit, queue } => Some(format!("concurrency {limit}, queue {queue}")),
            Self::Waited { limit } => Some(format!("queue-wait {}", format_duration(*limit))),
            Self::Headers { limit_bytes } => Some(format!("header-bytes {}", format_bytes(*limit_bytes))),
            Self::NotReady => None,
            Self::Failed(failure) => failure.limit(),
        }
    }

    fn told(&self) -> &'static Told {
        let code = self.code();
        TABLE.iter().find(|row| row.code == code).unwrap_or(&INTERNAL)
    }
}

/// The response for a refusal: a problem document (RFC 9457) that says no more than a stranger may know.
pub fn respond(refusal: &Refusal, id: &RequestId) -> Response<Body> {
    let Told { code, status, title, again } = *refusal.told();
    // Neither the code, the title nor an id has a character that JSON would escape.
    let problem = format!(
        "{{\"title\":\"{title}\",\"status\":{status},\"code\":\"{code}\",\"request_id\":\"{id}\"}}\n"
    );
    let mut response = Response::new(Body::whole(problem));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(ERROR_CODE, HeaderValue::from_static(code));
    headers.insert(REQUEST_ID, id.header());
    if again {
        headers.insert(RETRY_AFTER, RETRY_AFTER_S);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_row() {
        use tenon_engine::{Limit, Place};
        let place = Place::default;
        let cause = String::new;
        let exceeded = |limit| Failure::Exceeded { limit, cause: cause(), place: place() };
        let (wall, cpu) = (Limit::Wall(std::time::Duration::ZERO), Limit::Cpu(std::time::Duration::ZERO));
        for failure in [
            Failure::Trap { cause: cause(), place: place() },
            Failure::Deadline { limit: wall, place: place() },
            Failure::Deadline { limit: cpu, place: place() },
            Failure::OutOfMemory { limit: Limit::Memory(0), asked_bytes: 0, place: place() },
            exceeded(Limit::Stack(0)),
            exceeded(Limit::Tables(0)),
            exceeded(Limit::Handles(0)),
            exceeded(Limit::HostCall(0)),
            exceeded(Limit::ResponseBody(0)),
            exceeded(Limit::ResponseHeaders(0)),
            Failure::PoolExhausted { limit: Limit::Pool(0), cause: cause() },
            Failure::NoResponse { cause: cause() },
            Failure::InvalidResponse { cause: cause() },
            Failure::BadRequest { cause: cause() },
            Failure::RequestTooLarge { limit_bytes: 0 },
            Failure::Internal { cause: cause() },
        ] {
            let refusal = Refusal::Failed(failure);
            assert_eq!(refusal.told().code, refusal.code());
        }
        for refusal in [
            Refusal::Concurrency { limit: 1, queue: 0 },
            Refusal::Waited { limit: Duration::ZERO },
            Refusal::Headers { limit_bytes: 0 },
            Refusal::NotReady,
        ] {
            assert_eq!(refusal.told().code, refusal.code());
        }
        for (code, status, title) in tenon_engine::PROBLEMS {
            let row = TABLE.iter().find(|row| row.code == code);
            assert_eq!(row, Some(&told(code, status, title, false)));
        }
    }
}
