//! Requests that are copied to a candidate: it answers them too, its answers are compared with the stable revision's and
//! thrown away.
//!
//! A copy runs after its request, and only where there is room that no request wants. Only bodies within bounds are
//! kept; what has a larger one is not compared.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use tenon_engine::{Body, Incoming, Received, Record};
use tokio::sync::Semaphore;

use crate::app::App;
use crate::clock::Now;
use crate::count::{Counted, Outcome};
use crate::identify::RequestId;
use crate::slot::Slot;

/// A request with a larger body is not copied.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// An answer with a larger body is not compared.
const RESPONSE_BYTES_MAX: usize = 256 << 10;

/// What is kept of a request and its answer.
pub(crate) struct Copy {
    candidate: Arc<Slot>,
    /// How many are loaded at once.
    loads: Arc<Semaphore>,
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
        loads: &Arc<Semaphore>,
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
            let counted = Arc::clone(&candidate);
            let record = move |record: Record| {
                count(&counted, &record, arrived);
                drop(sandbox);
            };
            let same = match service.serve(incoming, record).await {
                Err(_) => Some(false),
                Ok(other) if other.status().as_u16() != answered.0 => Some(false),
                Ok(other) => collect(other.into_body()).await.map(|body| body == answered.1),
            };
            if let Some(same) = same {
                candidate.counters().count_shadow(same);
            }
            drop(room);
        });
    }
}

async fn collect(body: Body) -> Option<Bytes> {
    Limited::new(body, RESPONSE_BYTES_MAX).collect().await.ok().map(http_body_util::Collected::to_bytes)
}

/// What the candidate did of it counts as what it does for requests: a rollout is judged by it.
fn count(slot: &Slot, record: &Record, arrived: Now) {
    let Record { outcome, bill, ended, .. } = record;
    let outcome = match outcome {
        Ok(true) => Outcome::Answered,
        Ok(false) => Outcome::Gone,
        Err(failure) => Outcome::of_failure(failure),
    };
    slot.counters().count(&Counted {
        outcome,
        cpu: bill.cpu,
        latency: ended.saturating_duration_since(arrived.instant),
        wall: bill.wall,
        memory_bytes: bill.memory_bytes,
        received_bytes: 0,
        sent_bytes: 0,
    });
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
