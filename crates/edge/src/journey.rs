//! The life of a request.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, SET_COOKIE};
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use tenon_engine::{Body, ErrorCode, Failure, Incoming, Received, Record, Service, head_bytes};

use crate::authority::settle;
use crate::breaker::{Breaker, Ended, Pass};
use crate::canary::{Choice, choose, set_cookie};
use crate::clock::Now;
use crate::identify::{Ids, REQUEST_ID, RequestId};
use crate::rescue::{ERROR_CODE, QUOTA, Refusal, respond};
use crate::shadow::Copy;
use crate::site::{NOTICE, Site, TAKE_GRACE, View};
use crate::slot::Slot;
use crate::table::Entry;
use crate::tenant::{Tenant, Token};
use crate::ticket::{About, Ticket};
use crate::trace::{Draw, trace};
use crate::wire::{Reply, Running, Wire};

/// What one worker has of its own.
#[derive(Debug)]
pub struct Worker {
    /// Makes correlation ids.
    ids: Ids,
    /// Makes ids of spans, and draws shares.
    draw: Draw,
    /// Where it listens: the authority of a request that names none.
    address: HeaderValue,
}

impl Worker {
    /// A worker that listens there.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn new(address: HeaderValue) -> Result<Self, getrandom::Error> {
        Ok(Self { ids: Ids::new()?, draw: Draw::new()?, address })
    }
}

/// Serves one request: identify, route, admit, dispatch, respond. Recording is the last stage; it runs when the
/// guest has ended and the response is taken, and it always runs.
pub async fn serve_request(
    site: &Site,
    worker: &Worker,
    wire: &Arc<Wire>,
    mut request: Request<Received>,
) -> Response<Reply> {
    let running = Running::new(wire);
    let mut about = identify(site, worker, wire, &mut request);
    let (routed, notice) = {
        let view = site.view();
        if let Some(page) =
            view.notice.as_ref().and_then(|notice| notice.page_for(request.headers(), &about.id))
        {
            return reply(page, None, running, site.longest());
        }
        (route(&view, &mut request, &worker.address), view.notice.clone())
    };
    about.note_host(request.headers());
    let mut response = match routed {
        Err(refusal) => {
            let response = respond(&refusal, &about.id);
            let is_told = site.count_unrouted(about.arrived);
            about.refused(is_told, None, None, &refusal, response.status().as_u16());
            reply(response, None, running, site.longest())
        }
        Ok(entry) => serve_app(site, worker, wire, &entry, request, about, running).await,
    };
    if let Some(notice) = &notice {
        notice.mark(response.headers_mut());
    }
    response
}

/// The rest of it, for a request that is for an app: choose, admit, dispatch, respond.
async fn serve_app(
    site: &Site,
    worker: &Worker,
    wire: &Wire,
    entry: &Entry,
    request: Request<Received>,
    about: About,
    running: Running,
) -> Response<Reply> {
    let choice = choose(entry, request.headers(), wire.client, &worker.draw);
    let (slot, place) = (choice.slot, choice.place);
    let longest = slot.limits().wall + TAKE_GRACE;
    let mut response = match admit(site, entry, &choice, &about, &request, wire).await {
        Err(refusal) => {
            let response = respond(&refusal, &about.id);
            let is_told = entry.app.is_alone() || entry.app.tenant().is_told(about.arrived);
            about.refused(is_told, Some(&entry.app), Some(slot), &refusal, response.status().as_u16());
            reply(response, None, running, longest)
        }
        Ok(Admitted { pass, copy, sandbox, service }) => {
            let ticket = Ticket::new(Arc::clone(&entry.app), Arc::clone(slot), pass, about, copy);
            let id = &ticket.about.id;
            let response = match dispatch(&ticket, sandbox, &service, request, wire.secure).await {
                Ok(response) => finish(response, id),
                Err(failure) => respond(&Refusal::Failed(failure), id),
            };
            ticket.answered(response.status().as_u16());
            reply(response, Some(ticket), running, longest)
        }
    };
    if let Some(place) = place {
        response.headers_mut().append(SET_COOKIE, set_cookie(place, wire.secure));
    }
    response
}

fn reply(
    response: Response<Body>,
    ticket: Option<Arc<Ticket>>,
    running: Running,
    longest: Duration,
) -> Response<Reply> {
    response.map(|body| Reply::new(body, ticket, running, longest))
}

/// What the request is known by: its correlation id, and its place in a trace.
fn identify(site: &Site, worker: &Worker, wire: &Wire, request: &mut Request<Received>) -> About {
    let arrived = Now::read();
    let id = worker.ids.identify(request.headers());
    let observer = site.observer();
    let sample = observer.map_or(0, |observer| observer.sample());
    let trace = trace(request.headers_mut(), &worker.draw, sample);
    About::of(request, wire.client, id, arrived, trace, observer.cloned())
}

/// The app that a request is for.
fn route(view: &View, request: &mut Request<Received>, address: &HeaderValue) -> Result<Arc<Entry>, Refusal> {
    settle(request, address)?;
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match view.table.find(host, request.uri().path()) {
        Some(entry) => Ok(Arc::clone(entry)),
        None if !view.ready => Err(Refusal::NotReady),
        None => Err(Refusal::NoRoute),
    }
}

/// Leave to run one request, and what it runs with. A [`Ticket`] is made of it at once, which gives back what the request has
/// entered.
struct Admitted {
    pass: Pass,
    copy: Option<Copy>,
    /// `None` where it joins others in theirs.
    sandbox: Option<Token>,
    service: Arc<Service>,
}

/// Says yes or no to a request before anything runs for it; it may wait for its turn. What costs least comes first, and
/// nothing of another tenant is touched before the tenant's own quotas have said yes.
async fn admit(
    site: &Site,
    Entry { app, paused, .. }: &Entry,
    Choice { slot, shadow, .. }: &Choice<'_>,
    about: &About,
    request: &Request<Received>,
    wire: &Wire,
) -> Result<Admitted, Refusal> {
    let (tenant, limits) = (app.tenant(), slot.limits());
    if *paused {
        return Err(Refusal::Paused);
    }
    if head_bytes(request.headers()) > limits.header_bytes {
        return Err(Refusal::Headers { limit_bytes: limits.header_bytes });
    }
    tenant.check(about.arrived)?;
    let breaker = (!app.is_alone()).then(|| slot.breaker());
    let probe = Probe::of(breaker, about.arrived)?;
    tenant.enter(limits.queue_wait).await?;
    let of_tenant = InTenant(tenant);
    slot.gate().enter().await?;
    let of_slot = InGate(slot);
    let service = slot.ready(site.loads(), about.arrived).await?;
    let sandbox = tenant.sandbox_for(&service, limits.queue_wait).await?;
    // From here on the ticket gives both back.
    std::mem::forget((of_tenant, of_slot));
    let copy = shadow.and_then(|candidate| Copy::of(candidate, site.loads(), request, wire.secure));
    Ok(Admitted { pass: probe.keep(), copy, sandbox, service })
}

/// A request that counts among those of its tenant.
struct InTenant<'a>(&'a Tenant);

impl Drop for InTenant<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A request that counts among those of its revision.
struct InGate<'a>(&'a Slot);

impl Drop for InGate<'_> {
    fn drop(&mut self) {
        self.0.gate().leave();
    }
}

/// A request that the breaker let pass, and that has not come to a guest yet.
struct Probe<'a> {
    breaker: Option<&'a Breaker>,
    pass: Pass,
}

impl<'a> Probe<'a> {
    fn of(breaker: Option<&'a Breaker>, now: Now) -> Result<Self, Refusal> {
        let pass = match breaker {
            Some(breaker) => breaker.pass(now.ns).map_err(|again| Refusal::Open { again })?,
            None => Pass::Ordinary,
        };
        Ok(Self { breaker, pass })
    }

    fn keep(mut self) -> Pass {
        self.breaker = None;
        self.pass
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker {
            breaker.ended(self.pass, Ended::Otherwise, || 0);
        }
    }
}

/// Runs the guest. Only a request with a ticket gets here; it counts as running until it is recorded.
async fn dispatch(
    ticket: &Arc<Ticket>,
    sandbox: Option<Token>,
    service: &Arc<Service>,
    mut request: Request<Received>,
    secure: bool,
) -> Result<Response<Body>, Failure> {
    let About { id, trace, .. } = &ticket.about;
    request.headers_mut().insert(REQUEST_ID, id.header());
    if !request.body().is_end_stream() {
        let tap = Arc::clone(ticket);
        request = request.map(|body| body.tapped(tap));
    }
    let tenant = ticket.app().tenant();
    let (sandbox, claim) = tenant.hand(sandbox, service);
    let incoming = Incoming {
        request,
        id: id.shared(),
        secure,
        account: Some(Arc::clone(tenant.account())),
        trace: trace.map(|trace| trace.header()),
        claim,
    };
    let (held, ran) = (Arc::clone(ticket), Arc::clone(service));
    let record = move |record: Record| {
        held.log(&ran, &record);
        held.guest_ended(record);
        drop(sandbox);
    };
    service.serve(incoming, Box::new(record)).await
}

/// The host's own headers: a guest can neither take the id away nor claim one of the host's error codes.
fn finish(mut response: Response<Body>, id: &RequestId) -> Response<Body> {
    let code = response.extensions_mut().remove::<ErrorCode>();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.header());
    headers.remove(ERROR_CODE);
    headers.remove(QUOTA);
    headers.remove(NOTICE);
    if let Some(ErrorCode(code)) = code {
        headers.insert(ERROR_CODE, HeaderValue::from_static(code));
    }
    response
}
