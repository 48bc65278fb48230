//! A crash report: its form on disk, and how it is made of what the engine knows.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use serde::{Deserialize, Serialize};
use tenon_model::store::Message;
use tenon_model::{Digest, Limits};
use wasmtime::{Error, FrameInfo, WasmBacktrace};

use super::trail::Used;
use crate::capability::Principals;
use crate::engine::Part;
use crate::failure::{Failure, rustc_name};
use crate::respond::Bill;

/// The form of a report; raised when a reader of the former one would misread it.
pub(crate) const FORMAT: u32 = 1;
/// Frames of a stack, from the innermost on.
pub(crate) const FRAMES_MAX: usize = 64;
/// Header fields of a request.
const FIELDS_MAX: usize = 64;
/// A longer name, path or cause is cut.
const TEXT_BYTES_MAX: usize = 2 << 10;
/// Never kept, not even with `--keep-arguments`: they are keys, not arguments.
const SECRETS: [HeaderName; 4] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE];

/// What a failed request left behind. Its JSON is documented in `docs/crashes.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashReport {
    /// The form of this report.
    pub format: u32,
    /// Its name: begins with the time, so that names sort by age.
    pub id: String,
    /// When the request ended, RFC 3339 in UTC.
    pub time: String,
    /// What people call the component or composition.
    pub app: String,
    /// Its digest.
    pub digest: String,
    /// The files it was read from.
    pub files: Vec<String>,
    /// The request.
    pub request: CrashRequest,
    /// What happened.
    pub outcome: CrashOutcome,
    /// What the request used up, and its limits.
    #[serde(rename = "use")]
    pub usage: CrashUse,
    /// The parts of a composition: which bytes of it each one is.
    pub parts: Vec<CrashSpan>,
    /// Where the guest was, innermost first; empty when it was not running.
    pub stack: Vec<CrashFrame>,
    /// The last lines the guest wrote.
    pub log: Vec<CrashLine>,
    /// The core dump beside this report.
    pub core_dump: Option<String>,
}

/// The boundary: which function was called, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRequest {
    /// The correlation id.
    pub id: String,
    /// The trace that the request is part of, where it is part of one: 32 hexadecimal digits (W3C Trace Context).
    #[serde(default)]
    pub trace_id: Option<String>,
    /// The exported function.
    pub function: String,
    /// What a typed function was called with, as WAVE; only where arguments are kept.
    #[serde(default)]
    pub arguments: Option<String>,
    /// The method; `call` when a function was called by its name.
    pub method: String,
    /// The path; with its query only where arguments are kept. Of a call, the function, with its arguments likewise.
    pub path: String,
    /// The header fields; values only where arguments are kept, and never those of credentials.
    pub headers: Vec<CrashField>,
    /// The body's length in bytes, where the request said.
    pub body_bytes: Option<u64>,
}

/// A header field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashField {
    /// Its name.
    pub name: String,
    /// Its value; `None` when it was left out.
    pub value: Option<String>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashOutcome {
    /// The code that the client was told.
    pub code: String,
    /// What happened, in words.
    pub cause: String,
    /// The limit that was hit, and its value.
    pub limit: Option<String>,
    /// The component it happened in.
    pub component: String,
    /// The innermost function.
    pub function: Option<String>,
}

/// What a request used up, each beside its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashUse {
    /// Time on the processor, in microseconds.
    pub cpu_us: u64,
    /// Its limit.
    pub cpu_limit_us: u64,
    /// Time from admission to the end, in microseconds.
    pub wall_us: u64,
    /// Its limit.
    pub wall_limit_us: u64,
    /// The most linear memory it had, in bytes.
    pub memory_bytes: u64,
    /// Its limit.
    pub memory_limit_bytes: u64,
    /// What else it used anything of, when its sandbox was taken down; nothing where others were in the sandbox.
    #[serde(default)]
    pub others: Vec<CrashUsed>,
}

/// What one component used up of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashUsed {
    /// The component; the app, where the limit is the whole request's.
    pub component: String,
    /// The limit, as the manifest calls it.
    pub limit: String,
    /// What was used of it.
    pub used: u64,
    /// Its value.
    pub most: u64,
}

/// Bytes of a composition that are one of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashSpan {
    /// The part.
    pub name: String,
    /// Its first byte.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
}

/// A function call that had not returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashFrame {
    /// The component: within a composition, the part.
    pub component: String,
    /// The function's name, demangled where it is Rust's.
    pub function: Option<String>,
    /// Its index in its core module.
    pub function_index: u32,
    /// The instruction: its offset in the whole component's file.
    pub offset: Option<u64>,
}

/// A line the guest wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashLine {
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The line.
    pub text: String,
}

/// What is kept of a request from its beginning, in case it fails: reference counts, and the names of its fields.
pub(crate) struct Boundary {
    id: Arc<str>,
    method: Method,
    uri: Uri,
    /// The function and what it was called with, where it was not a request of HTTP.
    called: Option<String>,
    fields: Vec<(HeaderName, Option<HeaderValue>)>,
    body_bytes: Option<u64>,
}

impl Boundary {
    pub(crate) fn of<B>(request: &Request<B>, id: &Arc<str>, keep_arguments: bool) -> Self {
        let headers = request.headers();
        let kept = |name: &HeaderName, value: &HeaderValue| {
            (keep_arguments && !SECRETS.contains(name) && !value.is_sensitive()).then(|| value.clone())
        };
        Self {
            id: Arc::clone(id),
            method: request.method().clone(),
            uri: request.uri().clone(),
            called: None,
            fields: headers
                .iter()
                .take(FIELDS_MAX)
                .map(|(name, value)| (name.clone(), kept(name, value)))
                .collect(),
            body_bytes: headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()),
        }
    }

    /// What is kept of a message: its topic stands where a request has its path.
    pub(crate) fn of_message(message: &Message, id: &Arc<str>) -> Self {
        let topic: String = message.topic.chars().filter(char::is_ascii_graphic).collect();
        Self {
            id: Arc::clone(id),
            method: Method::from_bytes(b"MESSAGE").unwrap_or_default(),
            uri: Uri::builder().path_and_query(format!("/{topic}")).build().unwrap_or_default(),
            called: None,
            fields: Vec::new(),
            body_bytes: Some(message.data.len() as u64),
        }
    }

    /// Of a function that was called by its name; `called` has its arguments where they are kept.
    pub(crate) fn of_call(id: &Arc<str>, called: String) -> Self {
        Self {
            id: Arc::clone(id),
            method: Method::default(),
            uri: Uri::default(),
            called: Some(called),
            fields: Vec::new(),
            body_bytes: None,
        }
    }

    fn write(
        self,
        function: &str,
        arguments: Option<&str>,
        trace_id: Option<String>,
        keep_arguments: bool,
    ) -> CrashRequest {
        let path = match self.uri.path_and_query() {
            Some(whole) if keep_arguments => whole.as_str(),
            _ => self.uri.path(),
        };
        CrashRequest {
            id: self.id.to_string(),
            trace_id,
            function: cut(function, TEXT_BYTES_MAX),
            arguments: arguments.map(|arguments| cut(arguments, TEXT_BYTES_MAX)),
            method: match &self.called {
                Some(_) => "call".to_owned(),
                None => cut(self.method.as_str(), TEXT_BYTES_MAX),
            },
            path: cut(self.called.as_deref().unwrap_or(path), TEXT_BYTES_MAX),
            headers: self
                .fields
                .into_iter()
                .map(|(name, value)| CrashField {
                    name: cut(name.as_str(), TEXT_BYTES_MAX),
                    value: value.map(|value| cut(&String::from_utf8_lossy(value.as_bytes()), TEXT_BYTES_MAX)),
                })
                .collect(),
            body_bytes: self.body_bytes,
        }
    }
}

/// What a report is made of.
pub(crate) struct Wreck<'a> {
    pub(crate) id: String,
    pub(crate) at: SystemTime,
    pub(crate) app: &'a str,
    pub(crate) digest: &'a Digest,
    pub(crate) files: &'a [String],
    pub(crate) function: &'a str,
    pub(crate) arguments: Option<&'a str>,
    pub(crate) trace_id: Option<String>,
    pub(crate) boundary: Boundary,
    pub(crate) keep_arguments: bool,
    pub(crate) failure: &'a Failure,
    pub(crate) bill: &'a Bill,
    pub(crate) limits: &'a Limits,
    pub(crate) used: Option<Used>,
    pub(crate) principals: &'a Principals,
    pub(crate) parts: &'a [Part],
    pub(crate) stack: Vec<CrashFrame>,
    pub(crate) log: Vec<CrashLine>,
}

impl Wreck<'_> {
    pub(crate) fn report(self) -> CrashReport {
        let others = self.used.as_ref().map(|used| self.others(used)).unwrap_or_default();
        let place = self.failure.place();
        CrashReport {
            format: FORMAT,
            time: rfc3339(self.at),
            id: self.id,
            app: self.app.to_owned(),
            digest: self.digest.to_string(),
            files: self.files.to_vec(),
            request: self.boundary.write(self.function, self.arguments, self.trace_id, self.keep_arguments),
            outcome: CrashOutcome {
                code: self.failure.code().to_owned(),
                cause: cut(&self.failure.cause(), TEXT_BYTES_MAX),
                limit: self.failure.limit(),
                component: place.and_then(|place| place.component.as_deref()).unwrap_or(self.app).to_owned(),
                function: place
                    .and_then(|place| place.function.as_deref())
                    .map(|function| cut(function, TEXT_BYTES_MAX)),
            },
            usage: CrashUse {
                cpu_us: micros(self.bill.cpu),
                cpu_limit_us: micros(self.limits.cpu),
                wall_us: micros(self.bill.wall),
                wall_limit_us: micros(self.limits.wall),
                memory_bytes: self.bill.memory_bytes,
                memory_limit_bytes: self.limits.memory_bytes,
                others,
            },
            parts: self
                .parts
                .iter()
                .map(|part| CrashSpan {
                    name: part.name.clone(),
                    start: part.range.start as u64,
                    end: part.range.end as u64,
                })
                .collect(),
            stack: self.stack,
            log: self.log,
            core_dump: None,
        }
    }

    /// What was used up beside time and memory.
    fn others(&self, used: &Used) -> Vec<CrashUsed> {
        let whole = |limit: &str, used, most| CrashUsed {
            component: self.app.to_owned(),
            limit: limit.to_owned(),
            used,
            most,
        };
        let mut others = vec![
            whole("table-elements", used.table_elements, self.limits.table_elements),
            whole("handles", used.handles, self.limits.handles.into()),
        ];
        others.retain(|other| other.used > 0);
        others.extend(self.principals.used(&used.outside));
        others
    }
}

/// Where in the component's binary a frame is, which tells whose it is. One that called another component has no instruction of
/// its own, for what hands values over is compiled into it: then it is where its function begins.
pub(crate) fn place(frame: &FrameInfo) -> Option<usize> {
    frame.module_offset().or_else(|| frame.func_start_offset())
}

/// The stack of an error; `app` is the component where there are no parts.
pub(crate) fn stack(error: &Error, app: &str, parts: &[Part]) -> Vec<CrashFrame> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let component = |offset: Option<usize>| {
        let part = offset.and_then(|offset| parts.iter().find(|part| part.range.contains(&offset)));
        part.map_or(app, |part| &part.name).to_owned()
    };
    backtrace
        .frames()
        .iter()
        .take(FRAMES_MAX)
        .map(|frame| CrashFrame {
            component: component(place(frame)),
            function: frame.func_name().map(|name| cut(&rustc_name(name), TEXT_BYTES_MAX)),
            function_index: frame.func_index(),
            offset: frame.module_offset().map(|offset| offset as u64),
        })
        .collect()
}

/// Whether a failure is worth a report: what the guest did or we did, not what a client or the load did.
pub(crate) fn is_reported(failure: &Failure) -> bool {
    !matches!(
        failure,
        Failure::BadRequest { .. } | Failure::RequestTooLarge { .. } | Failure::PoolExhausted { .. }
    )
}

/// `text`, cut to so many bytes at the end of a character.
pub(crate) fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Year, month, day, hour, minute, second, millisecond of a time, in UTC.
fn civil(at: SystemTime) -> [u64; 7] {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), u64::from(since.subsec_millis()));
    // "Date Algorithms" by Howard Hinnant, `civil_from_days`, for days after 1970: eras of 400 years, years from March.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let second = seconds % 86_400;
    [year, month, day, second / 3_600, second / 60 % 60, second % 60, millis]
}

/// RFC 3339 with milliseconds.
fn rfc3339(at: SystemTime) -> String {
    let [year, month, day, hour, minute, second, millis] = civil(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// A report's id: the time, and a number that tells reports of one moment apart.
pub(crate) fn id(at: SystemTime, number: u16) -> String {
    let [year, month, day, hour, minute, second, millis] = civil(at);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{millis:03}-{number:04x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_people_read_it() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_millis(seconds * 1_000 + 7);
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00.007Z");
        assert_eq!(rfc3339(at(951_782_400)), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(at(1_772_323_199)), "2026-02-28T23:59:59.007Z");
        assert_eq!(rfc3339(at(1_772_323_200)), "2026-03-01T00:00:00.007Z");
        assert_eq!(id(at(4_102_444_799), 0xab), "20991231-235959-007-00ab");
    }

    #[test]
    fn values_are_left_out_unless_they_are_asked_for_and_credentials_always() {
        let request = Request::builder()
            .method("POST")
            .uri("/pay?card=4242")
            .header("x-tenant", "acme")
            .header("authorization", "Bearer secret")
            .header("content-length", "12")
            .body(())
            .unwrap();
        let written = |keep| Boundary::of(&request, &"r1".into(), keep).write("handle", None, None, keep);
        let value = |request: &CrashRequest, name: &str| {
            request.headers.iter().find(|field| field.name == name).unwrap().value.clone()
        };
        let redacted = written(false);
        assert_eq!((redacted.method.as_str(), redacted.path.as_str()), ("POST", "/pay"));
        assert_eq!((value(&redacted, "x-tenant"), redacted.body_bytes), (None, Some(12)));
        assert!(!serde_json::to_string(&redacted).unwrap().contains("4242"));
        let kept = written(true);
        assert_eq!(kept.path, "/pay?card=4242");
        assert_eq!(value(&kept, "x-tenant").as_deref(), Some("acme"));
        assert_eq!(value(&kept, "authorization"), None);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("äöü", 3), "ä…");
        assert_eq!(cut("abc", 3), "abc");
    }
}
