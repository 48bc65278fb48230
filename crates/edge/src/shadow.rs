//! Requests that are copied to a candidate: it answers them too, its answers are compared with the stable revision's and
//! thrown away.
//!
//! A copy runs after its request, and only where there is room that no request wants. Only bodies within bounds are
//! kept, of a few requests at once; what has a larger one is not compared, nor is what comes while as many are kept as may.

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
    /// `None` once a body is larger than what is kept: then nothing comes of it.
    place: Mutex<Option<Place>>,
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

    /// Says whether all that has come is kept.
    fn push(&self, piece: &Bytes) -> bool {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *bytes {
            Some(kept) if kept.len() + piece.len() <= self.bytes_max => kept.extend_from_slice(piece),
            bytes => *bytes = None,
        }
        bytes.is_some()
    }

    fn forget(&self) {
        *self.bytes.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn into_whole(self) -> Option<Bytes> {
        let bytes = self.bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
        bytes.filter(|_| self.whole.into_inner()).map(BytesMut::freeze)
    }
}

impl Copy {
    /// Keeps what passes of this request, if there is a place for one more.
    pub(crate) fn of(
        candidate: &Arc<Slot>,
        loads: &Arc<Loads>,
        request: &Request<Received>,
        secure: bool,
    ) -> Option<Self> {
        let place = Place::take(candidate)?;
        let copy = Self {
            place: Mutex::new(Some(place)),
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
        Some(copy)
    }

    pub(crate) fn received(&self, piece: &Bytes) {
        if !self.request.push(piece) {
            self.give_up();
        }
    }

    pub(crate) fn received_all(&self) {
        self.request.whole.store(true, Relaxed);
    }

    pub(crate) fn answered(&self, status: u16) {
        self.status.store(status, Relaxed);
    }

    pub(crate) fn sent(&self, piece: &Bytes) {
        if !self.response.push(piece) {
            self.give_up();
        }
    }

    pub(crate) fn taken(&self) {
        self.response.whole.store(true, Relaxed);
    }

    /// Nothing comes of it: what was kept goes, and somebody else has its place, while the request may go on for long.
    fn give_up(&self) {
        self.request.forget();
        self.response.forget();
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Gives the copy to the candidate, if all of it is there, and there is room.
    pub(crate) fn run(self, app: &Arc<App>, id: &RequestId) {
        let Self { place, loads, method, uri, version, headers, secure, request, status, response } = self;
        let Some(place) = place.into_inner().unwrap_or_else(PoisonError::into_inner) else { return };
        let (Some(body), Some(response)) = (request.into_whole(), response.into_whole()) else { return };
        // Outside of a runtime, which is coming down, nothing is begun.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let candidate = Arc::clone(&place.0);
        let Some(room) = Room::take(app, place) else { return };
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

/// A place among the requests that are copied to this candidate.
struct Place(Arc<Slot>);

impl Place {
    fn take(candidate: &Arc<Slot>) -> Option<Self> {
        candidate.enter_shadow().then(|| Self(Arc::clone(candidate)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.leave_shadow();
    }
}

/// A place among copies, among the tenant's requests and among the candidate's.
struct Room {
    app: Arc<App>,
    place: Place,
}

impl Room {
    fn take(app: &Arc<App>, place: Place) -> Option<Self> {
        if !app.tenant().try_enter() {
            return None;
        }
        if !place.0.gate().try_enter() {
            app.tenant().leave();
            return None;
        }
        Some(Self { app: Arc::clone(app), place })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.place.0.gate().leave();
        self.app.tenant().leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::SHADOWS_MAX;
    use crate::slot::tests::slot;

    #[test]
    fn what_is_kept_for_copies_is_bounded_from_the_start_and_what_is_too_large_lets_go() {
        let (candidate, loads) = (slot("a", 2), Arc::new(crate::slot::Loads::default()));
        let request = Request::new(Received::whole(Bytes::new()));
        let copy = || Copy::of(&candidate, &loads, &request, false);
        let mut kept: Vec<Copy> = (0..100).filter_map(|_| copy()).collect();
        assert_eq!(kept.len(), SHADOWS_MAX as usize, "before any of them has ended");
        // A request that ends without a copy gives its place back.
        kept.pop();
        kept.push(copy().unwrap());
        assert!(copy().is_none());
        // So does one that goes on when there is nothing more to keep.
        kept[0].received(&Bytes::from(vec![0; REQUEST_BYTES_MAX]));
        assert!(copy().is_none(), "as much as is kept");
        kept[0].received(&Bytes::from_static(b"!"));
        kept[1].sent(&Bytes::from(vec![0; RESPONSE_BYTES_MAX + 1]));
        kept.extend([copy().unwrap(), copy().unwrap()]);
        assert!(copy().is_none());
        drop(kept);
        assert_eq!((0..100).map_while(|_| copy()).collect::<Vec<_>>().len(), SHADOWS_MAX as usize);
    }
}
