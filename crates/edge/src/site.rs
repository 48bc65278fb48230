//! What is served now, and how it is replaced while requests run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tenon_engine::{Body, Service};
use tenon_model::Limits;

use crate::admit::Gate;
use crate::identify::{REQUEST_ID, RequestId};

/// After a request's time on the wall, its client has this long to take the rest of the response.
const TAKE_GRACE: Duration = Duration::from_secs(5);
/// What every response has while there is a [`Notice`]: its code.
pub const NOTICE: HeaderName = HeaderName::from_static("x-tenon-notice");

/// What requests are served from, shared by all workers. It is replaced as a whole: a request sees one state of it from
/// its beginning to its end.
pub struct Site {
    view: ArcSwap<View>,
    /// Gates of revisions that were replaced, while requests that they admitted still run.
    retired: Mutex<Vec<Arc<Gate>>>,
}

/// What is served at one moment.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) revision: Option<Revision>,
    pub(crate) notice: Option<Arc<Notice>>,
}

/// One state of an app, and who may come in.
#[derive(Clone)]
pub(crate) struct Revision {
    pub(crate) service: Arc<Service>,
    pub(crate) gate: Arc<Gate>,
}

/// Why the app is not in the state its author expects, for the author: requests of a browser for a page get it instead
/// of an answer of the app, all others get its code in a header beside the app's answer.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The stable code of what is wrong.
    pub code: HeaderValue,
    /// The page.
    pub page: Bytes,
    /// What the page may do.
    pub content_security_policy: HeaderValue,
    /// Tells one notice from the next: a quoted entity tag.
    pub tag: HeaderValue,
}

impl Site {
    /// A site of one app, which gets every request.
    pub fn new(service: Service) -> Self {
        Self::of(View { revision: Some(Revision::new(service)), notice: None })
    }

    /// A site that has nothing to serve yet.
    pub fn empty() -> Self {
        Self::of(View::default())
    }

    fn of(view: View) -> Self {
        Self { view: ArcSwap::from_pointee(view), retired: Mutex::default() }
    }

    /// Serves this from now on. Requests that have begun end on what they began with. A notice is taken down.
    pub fn replace(&self, service: Service) {
        let next = View { revision: Some(Revision::new(service)), notice: None };
        // Held while the view is swapped: whoever counts what runs sees a gate on one side or the other.
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.view.swap(Arc::new(next));
        retired.retain(|gate| gate.running() > 0);
        retired.extend(before.revision.as_ref().map(|revision| Arc::clone(&revision.gate)));
    }

    /// Puts up a notice, or takes it down. What is served stays what it is.
    pub fn announce(&self, notice: Option<Notice>) {
        let notice = notice.map(Arc::new);
        self.view.rcu(|view| View { revision: view.revision.clone(), notice: notice.clone() });
    }

    /// What is served now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Requests running now, those on revisions that were replaced too.
    pub fn running(&self) -> u32 {
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.view.load().revision.as_ref().map_or(0, |revision| revision.gate.running());
        retired.iter().map(|gate| gate.running()).fold(current, u32::saturating_add)
    }

    /// The longest that a request and the taking of its response may last.
    pub fn longest(&self) -> Duration {
        self.view.load().longest()
    }

    /// What the header fields of a request may take, in bytes.
    pub fn header_bytes(&self) -> u64 {
        self.view.load().limits().header_bytes
    }
}

impl Revision {
    fn new(service: Service) -> Self {
        let gate = Gate::new(service.limits());
        Self { service: Arc::new(service), gate }
    }
}

impl View {
    fn limits(&self) -> Limits {
        self.revision.as_ref().map_or_else(Limits::default, |revision| *revision.service.limits())
    }

    pub(crate) fn longest(&self) -> Duration {
        self.limits().wall + TAKE_GRACE
    }
}

impl Notice {
    /// The page, for a request of somebody who looks at pages.
    pub(crate) fn page_for(&self, asked: &HeaderMap, id: &RequestId) -> Option<Response<Body>> {
        let html = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/html"));
        if !asked.get_all(ACCEPT).iter().any(html) {
            return None;
        }
        let mut response = Response::new(Body::whole(self.page.clone()));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CONTENT_SECURITY_POLICY, self.content_security_policy.clone());
        headers.insert(ETAG, self.tag.clone());
        headers.insert(REQUEST_ID, id.header());
        self.mark(headers);
        Some(response)
    }

    /// Says on another answer that there is a notice.
    pub(crate) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(NOTICE, self.code.clone());
    }
}
