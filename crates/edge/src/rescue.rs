//! The one table from a refusal or a failure to what the client is told.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tenon_engine::{Body, Failure};

use crate::identify::{REQUEST_ID, RequestId};

/// The header that carries the stable error code.
pub(crate) const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
/// Seconds after which a client may try again when there was no room.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// Why there is no response from a guest: we said no, or it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The app runs as many requests as it may.
    Concurrency {
        /// The limit.
        limit: u32,
    },
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
pub const TABLE: [Told; 11] = [
    told("guest-trap", 500, "The app failed.", false),
    told("out-of-memory", 500, "The app ran out of memory.", false),
    told("guest-no-response", 500, "The app did not respond.", false),
    told("invalid-response", 500, "The app's response cannot be sent.", false),
    INTERNAL,
    told("cpu-deadline", 504, "The app took too long.", false),
    told("wall-deadline", 504, "The app took too long.", false),
    told("pool-exhausted", 503, "The node has no free sandbox.", true),
    told("concurrency-limit", 503, "The app is handling as many requests as it may.", true),
    told("bad-request", 400, "The request cannot be handled.", false),
    told("request-too-large", 413, "The request's body is too large.", false),
];

impl Refusal {
    /// The stable code: the value of `x-error-code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Concurrency { .. } => "concurrency-limit",
            Self::Failed(failure) => failure.code(),
        }
    }

    /// What happened, for the log.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Concurrency { .. } => "the app is handling as many requests as it may".into(),
            Self::Failed(failure) => failure.cause(),
        }
    }

    /// The limit that was hit, if one was.
    pub(crate) fn limit(&self) -> Option<String> {
        match self {
            Self::Concurrency { limit } => Some(format!("concurrency {limit}")),
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
        let (wall, cpu) = (Limit::Wall(std::time::Duration::ZERO), Limit::Cpu(std::time::Duration::ZERO));
        for failure in [
            Failure::Trap { cause: cause(), place: place() },
            Failure::Deadline { limit: wall, place: place() },
            Failure::Deadline { limit: cpu, place: place() },
            Failure::OutOfMemory { limit: Limit::Memory(0), asked_bytes: 0, place: place() },
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
        let concurrency = Refusal::Concurrency { limit: 1 };
        assert_eq!(concurrency.told().code, concurrency.code());
    }
}
