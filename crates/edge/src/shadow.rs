//! Requests that are copied to a candidate: it answers them too, its answers are compared with the stable revision's and
//! thrown away.
//!
//! A copy runs after its request, and only where there is room that no request wants. Only bodies within bounds are
//! kept; what has a larger one is not compared.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use tenon_engine::{Body, Incoming, Received, Record};

use crate::app::App;
use crate::clock::Now;
use crate::count::{Counted, Outcome};
use crate::identify::RequestId;
use crate::slot::{Loads, Slot};

/// A request with a larger body is not copied.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// An answer with a larger body is not compared.
const RESPONSE_BYTES_MAX: usize = 256 << 10;

/// What is kept of a request and its answer.
pub(crate) struct Copy {
    candidate: Arc<Slot>,
    /// How many are loaded at once.
    loads: Arc<Loads>,
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    secure: bool,
    request: Kept,
    status: AtomicU16,
    response: Kept,
}

/// The pieces of a body that pass, together.
struct Kept {
    /// `None` once there is more than is kept.
    bytes: Mutex<Option<BytesMut>>,
    bytes_max: usize,
    whole: AtomicBool,
}

impl Kept {
    fn new(bytes_max: usize) -> Self {
        Self { bytes: Mutex::new(Some(BytesMut::new())), bytes_max, whole: AtomicBool::new(false) }
    }

    fn push(&self, piece: &Bytes) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *bytes {
            Some(kept) if kept.len() + piece.len() <= self.bytes_max => kept.extend_from_slice(piece),
            bytes => *bytes = None,
        }
    }

    fn into_whole(self) -> Option<Bytes> {
        let bytes = self.bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
        bytes.filter(|_| self.whole.into_inner()).map(BytesMut::freeze)
    }
}

impl Copy {
    /// Keeps what passes of this request.
    pub(crate) fn of(
        candidate: &Arc<Slot>,
        loads: &Arc<Loads>,
        request: &Request<Received>,
        secure: bool,
    ) -> Self {
        let copy = Self {
            candidate: Arc::clone(candidate),
            loads: Arc::clone(loads),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            secure,
            request: Kept::new(REQUEST_BYTES_MAX),
            status: AtomicU16::new(0),
            response: Kept::new(RESPONSE_BYTES_MAX),
        };
        if request.body().is_end_stream() {
            copy.received_all();
        }
        copy
    }

    pub(crate) fn received(&self, piece: &Bytes) {
        self.request.push(piece);
    }

    pub(crate) fn received_all(&self) {
        self.request.whole.store(true, Relaxed);
    }

    pub(crate) fn answered(&self, status: u16) {
        self.status.store(status, Relaxed);
    }

    pub(crate) fn sent(&self, piece: &Bytes) {
        self.response.push(piece);
    }

    pub(crate) fn taken(&self) {
        self.response.whole.store(true, Relaxed);
    }

    /// Gives the copy to the candidate, if all of it is there, and there is room.
    pub(crate) fn run(self, app: &Arc<App>, id: &RequestId) {
        let Self { candidate, loads, method, uri, version, headers, secure, request, status, response } =
            self;
        let (Some(body), Some(response)) = (request.into_whole(), response.into_whole()) else { return };
        // Outside of a runtime, which is coming down, nothing is begun.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Some(room) = Room::take(app, &candidate) else { return };
        let Some(sandbox) = app.tenant().try_sandbox() else { return };
        let mut request = Request::new(Received::whole(body));
        (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (method, uri, version);
        *request.headers_mut() = headers;
        let (tenant, id) = (Arc::clone(app.tenant()), id.shared());
        let answered = (status.into_inner(), response);
        runtime.spawn(async move {
            // Nobody else may ask for it before it has a share: the copies bring it into memory.
            let Ok(service) = candidate.ready(&loads, Now::read()).await else { return };
            let arrived = Now::read();
            let (sandbox, claim) = tenant.hand(Some(sandbox), &service);
            let account = Some(Arc::clone(tenant.account()));
            let incoming = Incoming { request, id, secure, account, trace: None, claim };
            let counted = Counting::new(&candidate, arrived);
            let ended = Arc::clone(&counted);
            let record = move |record: Record| {
                ended.guest_ended(&record);
                drop((ended, sandbox));
            };
            let same = match service.serve(incoming, Box::new(record)).await {
                Err(_) => Some(false),
                Ok(other) => {
                    let status = other.status().as_u16();
                    counted.answered(status);
                    if status == answered.0 {
                        collect(other.into_body()).await.map(|body| body == answered.1)
                    } else {
                        Some(false)
                    }
                }
            };
            if let Some(same) = same {
                candidate.counters().count_shadow(same);
            }
            drop((counted, room));
        });
    }
}

async fn collect(body: Body) -> Option<Bytes> {
    Limited::new(body, RESPONSE_BYTES_MAX).collect().await.ok().map(http_body_util::Collected::to_bytes)
}

/// What the candidate did of a copy counts as what it does for requests: a rollout is judged by it. It is counted once both
/// its guest has ended and its answer's status is known, whichever comes last.
struct Counting {
    slot: Arc<Slot>,
    arrived: Now,
    /// Zero before there is one.
    status: AtomicU16,
    done: OnceLock<Counted>,
}

impl Counting {
    fn new(slot: &Arc<Slot>, arrived: Now) -> Arc<Self> {
        Arc::new(Self { slot: Arc::clone(slot), arrived, status: AtomicU16::new(0), done: OnceLock::new() })
    }

    fn answered(&self, status: u16) {
        self.status.store(status, Relaxed);
    }

    fn guest_ended(&self, record: &Record) {
        let Record { outcome, bill, ended, .. } = record;
        let outcome = match outcome {
            Ok(true) => Outcome::Answered,
            Ok(false) => Outcome::Gone,
            Err(failure) => Outcome::of_failure(failure),
        };
        let _ = self.done.set(Counted {
            outcome,
            cpu: bill.cpu,
            latency: ended.saturating_duration_since(self.arrived.instant),
            wall: bill.wall,
            memory_bytes: bill.memory_bytes,
            received_bytes: 0,
            sent_bytes: 0,
        });
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let Some(counted) = self.done.take() else { return };
        let outcome = counted.outcome.answered_with(*self.status.get_mut());
        self.slot.counters().count(&Counted { outcome, ..counted });
    }
}

/// A place among copies, among the tenant's requests and among the candidate's.
struct Room {
    app: Arc<App>,
    candidate: Arc<Slot>,
}

impl Room {
    fn take(app: &Arc<App>, candidate: &Arc<Slot>) -> Option<Self> {
        if !candidate.enter_shadow() {
            return None;
        }
        if !app.tenant().try_enter() {
            candidate.leave_shadow();
            return None;
        }
        if !candidate.gate().try_enter() {
            candidate.leave_shadow();
            app.tenant().leave();
            return None;
        }
        Some(Self { app: Arc::clone(app), candidate: Arc::clone(candidate) })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.candidate.gate().leave();
        self.app.tenant().leave();
        self.candidate.leave_shadow();
    }
}
