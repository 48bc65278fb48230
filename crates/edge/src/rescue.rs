//! The one table from a refusal or a failure to what the client is told.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tenon_engine::{Body, Failure};
use tenon_model::{format_bytes, format_duration};

use crate::count::Outcome;
use crate::identify::{REQUEST_ID, RequestId};
use crate::slot::LoadError;
use crate::tenant::{OverQuota, QuotaName};

/// The header that carries the stable error code.
pub(crate) const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
/// The header that names the quota that a tenant is at the end of.
pub(crate) const QUOTA: HeaderName = HeaderName::from_static("x-quota");
/// When a client may try again where nothing says how long it takes.
const SOON: Duration = Duration::from_secs(1);
/// No client is told to wait longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

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
    /// No app has the request's host and path.
    NoRoute,
    /// The app's requests are refused, because somebody said so.
    Paused,
    /// The tenant is at the end of a quota.
    Quota(OverQuota),
    /// The app failed too often in a row.
    Open {
        /// When it is tried again.
        again: Duration,
    },
    /// The app's revision is not in memory, and could not be loaded.
    NotLoaded(LoadError),
    /// The guest, or the engine, failed.
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<OverQuota> for Refusal {
    fn from(over: OverQuota) -> Self {
        Self::Quota(over)
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        Self::NotLoaded(error)
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
pub const TABLE: [Told; 35] = [
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
    told("no-route", 404, "No app has this host and path.", false),
    told("app-paused", 503, "The app is paused.", true),
    told("circuit-open", 503, "The app keeps failing, and is given a rest.", true),
    told("not-loaded", 503, "The app cannot be loaded now.", true),
    told("requests-quota", 429, "The tenant sends more requests a second than it may.", true),
    told("cpu-quota", 429, "The tenant uses more processor time than it may.", true),
    told("bytes-quota", 429, "The tenant moves more bytes a second than it may.", true),
    told("memory-quota", 503, "The tenant uses as much memory as it may.", true),
    told("concurrency-quota", 503, "The tenant runs as many requests as it may.", true),
    told("instances-quota", 503, "The tenant's share of the sandboxes is in use.", true),
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
            Self::NoRoute => "no-route",
            Self::Paused => "app-paused",
            Self::Quota(over) => match over.quota {
                QuotaName::Requests => "requests-quota",
                QuotaName::Cpu => "cpu-quota",
                QuotaName::Bytes => "bytes-quota",
                QuotaName::Memory => "memory-quota",
                QuotaName::Concurrency => "concurrency-quota",
                QuotaName::Instances => "instances-quota",
            },
            Self::Open { .. } => "circuit-open",
            Self::NotLoaded(_) => "not-loaded",
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
            Self::NoRoute => "no app has this host and path".into(),
            Self::Paused => "the app is paused".into(),
            Self::Quota(_) => "the tenant is at the end of a quota".into(),
            Self::Open { .. } => "the app failed too often in a row".into(),
            Self::NotLoaded(error) => format!("the app cannot be loaded: {error}"),
            Self::Failed(failure) => failure.cause(),
        }
    }

    /// The limit that was hit, if one was.
    pub(crate) fn limit(&self) -> Option<String> {
        match self {
            Self::Concurrency { limit, queue } => Some(format!("concurrency {limit}, queue {queue}")),
            Self::Waited { limit } => Some(format!("queue-wait {}", format_duration(*limit))),
            Self::Headers { limit_bytes } => Some(format!("header-bytes {}", format_bytes(*limit_bytes))),
            Self::Quota(over) => Some(format!("{} {}", over.quota.name(), over.limit)),
            Self::NotReady | Self::NoRoute | Self::Paused | Self::Open { .. } | Self::NotLoaded(_) => None,
            Self::Failed(failure) => failure.limit(),
        }
    }

    /// The quota that it is about.
    fn quota(&self) -> Option<&'static str> {
        match self {
            Self::Quota(over) => Some(over.quota.name()),
            Self::Failed(failure) if failure.code() == "memory-quota" => Some(QuotaName::Memory.name()),
            _ => None,
        }
    }

    /// When it is worth trying again.
    fn again(&self) -> Duration {
        match self {
            Self::Quota(OverQuota { again, .. }) | Self::Open { again } => *again,
            _ => SOON,
        }
    }

    /// How the request ended.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(failure) => Outcome::of_failure(failure),
            Self::Headers { .. } => Outcome::Rejected,
            _ => Outcome::Refused,
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
    if let Some(quota) = refusal.quota() {
        headers.insert(QUOTA, HeaderValue::from_static(quota));
    }
    if again {
        // Whole seconds, of which the last has to be over.
        let wait = refusal.again().clamp(SOON, RETRY_AFTER_MAX);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
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
            Failure::OutOfMemory { limit: Limit::AccountMemory(0), asked_bytes: 0, place: place() },
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
            Refusal::NoRoute,
            Refusal::Paused,
            Refusal::Open { again: Duration::ZERO },
            Refusal::NotLoaded(LoadError("".into())),
        ] {
            assert_eq!(refusal.told().code, refusal.code());
        }
        for quota in QuotaName::ALL {
            let refusal = Refusal::Quota(OverQuota { quota, limit: 1, again: Duration::ZERO });
            assert_eq!(refusal.told().code, refusal.code());
        }
        for (code, status, title) in tenon_engine::PROBLEMS {
            let row = TABLE.iter().find(|row| row.code == code);
            assert_eq!(row, Some(&told(code, status, title, false)));
        }
    }

    #[test]
    fn a_quota_is_named_and_the_wait_is_told() {
        let over = |quota, again| Refusal::Quota(OverQuota { quota, limit: 1, again });
        let id = RequestId::parse("id").unwrap();
        for (refusal, status, quota, seconds) in [
            (over(QuotaName::Cpu, Duration::from_millis(2_100)), 429, "cpu-per-second", "3"),
            (over(QuotaName::Requests, Duration::ZERO), 429, "requests-per-second", "1"),
            (over(QuotaName::Bytes, Duration::from_secs(9_999)), 429, "bytes-per-second", "60"),
            (over(QuotaName::Concurrency, SOON), 503, "concurrency", "1"),
        ] {
            let response = respond(&refusal, &id);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[QUOTA], quota);
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
        }
        assert!(!respond(&Refusal::NoRoute, &id).headers().contains_key(RETRY_AFTER));
    }
}
