//! A request from its admission to its record.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request};
use tenon_engine::{Failure, Record, Service, Tap};
use tenon_model::RevisionNumber;
use tracing::field::{DisplayValue, display};

use crate::app::App;
use crate::breaker::{Ended, Pass};
use crate::clock::Now;
use crate::count::{Counted, Outcome, micros};
use crate::identify::RequestId;
use crate::observe::{Observed, Observer, RequestHead, What};
use crate::rescue::Refusal;
use crate::shadow::Copy;
use crate::slot::Slot;
use crate::trace::TraceContext;

/// What is known of a request from the start, and told at its end.
pub(crate) struct About {
    pub(crate) id: RequestId,
    pub(crate) head: RequestHead,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) arrived: Now,
    pub(crate) observer: Option<Arc<Observer>>,
}

impl About {
    pub(crate) fn of<B>(
        request: &Request<B>,
        client: IpAddr,
        id: RequestId,
        arrived: Now,
        trace: Option<TraceContext>,
        observer: Option<Arc<Observer>>,
    ) -> Self {
        let (method, path) = (request.method().clone(), request.uri().path_and_query().cloned());
        let head = RequestHead { version: request.version(), method, path, host: None, client };
        Self { id, head, trace, arrived, observer }
    }

    /// Notes the host that the request is for, where somebody observes.
    pub(crate) fn note_host(&mut self, headers: &HeaderMap) {
        if self.observer.is_some() {
            self.head.host = headers.get(HOST).cloned();
        }
    }

    fn path(&self) -> &str {
        self.head.path.as_ref().map_or("", PathAndQuery::path)
    }

    /// Records a request that no guest runs for; `is_told` says whether it is observed.
    pub(crate) fn refused(
        &self,
        is_told: bool,
        app: Option<&Arc<App>>,
        slot: Option<&Arc<Slot>>,
        refusal: &Refusal,
        status: u16,
    ) {
        if let Some(app) = app {
            app.refused().count_refused(refusal.outcome());
        }
        self.say_refused(app, slot, refusal);
        let Some(observer) = &self.observer else { return };
        if is_told {
            observer.observe(Observed {
                app: app.cloned(),
                revision: slot.map(|slot| slot.key().revision),
                id: self.id.shared(),
                what: What::Request(self.head.clone()),
                status: Some(status),
                outcome: refusal.outcome(),
                code: Some(refusal.code()),
                crash: None,
                arrived: self.arrived.instant,
                took: self.arrived.instant.elapsed(),
                cpu: Duration::ZERO,
                memory_bytes: 0,
                received_bytes: 0,
                sent_bytes: 0,
                trace: self.trace,
            });
        } else {
            observer.leave_out();
        }
    }

    /// One line a second for each tenant: who floods must not fill the log, nor make the node pay for it.
    fn say_refused(&self, app: Option<&Arc<App>>, slot: Option<&Arc<Slot>>, refusal: &Refusal) {
        let is_said = |app: &&Arc<App>| app.is_alone() || app.tenant().is_said(self.arrived);
        let Some(app) = app.filter(is_said) else { return };
        let service = slot.and_then(|slot| slot.service());
        let name = service.as_ref().map_or_else(|| app.id().app.as_str(), |service| service.name());
        let (tenant, revision) = whose(app, slot);
        tracing::warn!(
            target: "tenon::request",
            request_id = %self.id,
            tenant,
            app = name,
            revision,
            component = name,
            function = %service.as_ref().map_or_else(String::new, |service| service.shape().to_string()),
            limit = refusal.limit().as_deref().unwrap_or("none"),
            cause = refusal.cause(),
            code = refusal.code(),
            method = %self.head.method,
            path = self.path(),
            "request refused"
        );
    }

    fn log(&self, app: &App, slot: &Arc<Slot>, service: &Service, record: &Record) {
        let Record { outcome, bill, crash, .. } = record;
        let (tenant, revision) = whose(app, Some(slot));
        match outcome {
            Ok(finished) => tracing::debug!(
                target: "tenon::request",
                request_id = %self.id,
                tenant,
                app = service.name(),
                revision,
                method = %self.head.method,
                path = self.path(),
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
                    tenant,
                    app = service.name(),
                    revision,
                    component = place.and_then(|place| place.component.as_deref()).unwrap_or(service.name()),
                    function = place
                        .and_then(|place| place.function.clone())
                        .unwrap_or_else(|| service.shape().to_string()),
                    limit = failure.limit().as_deref().unwrap_or("none"),
                    cause = failure.cause(),
                    code = failure.code(),
                    crash = crash.as_deref().unwrap_or("none"),
                    method = %self.head.method,
                    path = self.path(),
                    cpu_us = micros(bill.cpu),
                    wall_us = micros(bill.wall),
                    memory_bytes = bill.memory_bytes,
                    "request failed"
                );
            }
        }
    }
}

/// Whose a line of the log is, and of which revision: of nobody's and of none where an app is served alone.
pub(crate) fn whose<'a>(
    app: &'a App,
    slot: Option<&Arc<Slot>>,
) -> (Option<&'a str>, Option<DisplayValue<RevisionNumber>>) {
    if app.is_alone() {
        return (None, None);
    }
    (Some(app.id().tenant.as_str()), slot.map(|slot| display(slot.key().revision)))
}

/// Leave to run one request. It counts as running until the last one who holds it lets go: the guest's run holds it, and
/// the response until the client has taken it. Then the request is counted.
pub(crate) struct Ticket {
    app: Arc<App>,
    slot: Arc<Slot>,
    pass: Pass,
    pub(crate) about: About,
    /// The status that was answered with; zero before there is one.
    status: AtomicU16,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    done: OnceLock<Done>,
    /// What is kept to be compared with the other revision's answer.
    copy: Option<Copy>,
}

/// What the guest's end said.
struct Done {
    outcome: Outcome,
    code: Option<&'static str>,
    cpu: Duration,
    wall: Duration,
    memory_bytes: u64,
    ended: Instant,
    crash: Option<Arc<str>>,
}

impl Ticket {
    /// A ticket for a request that has entered its tenant and its revision's gate, and has passed the breaker: it leaves and
    /// returns all of them.
    pub(crate) fn new(
        app: Arc<App>,
        slot: Arc<Slot>,
        pass: Pass,
        about: About,
        copy: Option<Copy>,
    ) -> Arc<Self> {
        Arc::new(Self {
            app,
            slot,
            pass,
            about,
            status: AtomicU16::new(0),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            done: OnceLock::new(),
            copy,
        })
    }

    pub(crate) fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The client is answered with this.
    pub(crate) fn answered(&self, status: u16) {
        self.status.store(status, Relaxed);
        if let Some(copy) = &self.copy {
            copy.answered(status);
        }
    }

    /// A piece of the response is on its way.
    pub(crate) fn sent(&self, piece: &Bytes) {
        self.sent_bytes.fetch_add(piece.len() as u64, Relaxed);
        self.app.tenant().moved(piece.len() as u64, self.about.arrived.ns);
        if let Some(copy) = &self.copy {
            copy.sent(piece);
        }
    }

    /// The response is over, to its end.
    pub(crate) fn taken(&self) {
        if let Some(copy) = &self.copy {
            copy.taken();
        }
    }

    /// Writes the log line of a request that a guest ran for.
    pub(crate) fn log(&self, service: &Service, record: &Record) {
        self.about.log(&self.app, &self.slot, service, record);
    }

    /// The guest has ended.
    pub(crate) fn guest_ended(&self, record: Record) {
        let Record { outcome, bill, ended, crash } = record;
        let code = outcome.as_ref().err().map(Failure::code);
        let (judged, outcome) = (Ended::of(&outcome), Outcome::of(&outcome));
        let (cpu, wall, memory_bytes) = (bill.cpu, bill.wall, bill.memory_bytes);
        let done = Done { outcome, code, cpu, wall, memory_bytes, ended, crash };
        if self.done.set(done).is_ok() {
            self.pass_ended(judged);
        }
    }

    fn pass_ended(&self, ended: Ended) {
        if !self.app.is_alone() {
            self.slot.breaker().ended(self.pass, ended, || Now::read().ns);
        }
    }
}

impl Tap for Ticket {
    fn passed(&self, piece: &Bytes) {
        self.received_bytes.fetch_add(piece.len() as u64, Relaxed);
        self.app.tenant().moved(piece.len() as u64, self.about.arrived.ns);
        if let Some(copy) = &self.copy {
            copy.received(piece);
        }
    }

    fn ended(&self) {
        if let Some(copy) = &self.copy {
            copy.received_all();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.slot.gate().leave();
        self.app.tenant().leave();
        let done = self.done.take();
        if done.is_none() {
            // The client went away before the guest began.
            self.pass_ended(Ended::Otherwise);
        }
        let arrived = self.about.arrived.instant;
        let done = done.unwrap_or(Done {
            outcome: Outcome::Gone,
            code: None,
            cpu: Duration::ZERO,
            wall: Duration::ZERO,
            memory_bytes: 0,
            ended: arrived,
            crash: None,
        });
        let status = Some(*self.status.get_mut()).filter(|status| *status != 0);
        let outcome = done.outcome.answered_with(status.unwrap_or(0));
        let took = done.ended.saturating_duration_since(arrived);
        let (received_bytes, sent_bytes) = (*self.received_bytes.get_mut(), *self.sent_bytes.get_mut());
        let Done { code, cpu, wall, memory_bytes, crash, .. } = done;
        self.slot.counters().count(&Counted {
            outcome,
            cpu,
            latency: took,
            wall,
            memory_bytes,
            received_bytes,
            sent_bytes,
        });
        if let Some(copy) = self.copy.take() {
            copy.run(&self.app, &self.about.id);
        }
        if let Some(observer) = &self.about.observer {
            observer.observe(Observed {
                app: Some(Arc::clone(&self.app)),
                revision: Some(self.slot.key().revision),
                id: self.about.id.shared(),
                what: What::Request(self.about.head.clone()),
                status,
                outcome,
                code,
                crash,
                arrived,
                took,
                cpu,
                memory_bytes,
                received_bytes,
                sent_bytes,
                trace: self.about.trace,
            });
        }
    }
}
