//! One component, ready to serve: the life of a request inside the engine.

mod among;
mod ending;
mod guest;
mod typed;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use tenon_model::store::Message;
use tenon_model::{Diagnostic, Diagnostics, Digest, Limits, Reuse, format_bytes};
use wasmtime::component::{Accessor, ComponentExportIndex, InstancePre};
use wasmtime::{Error, Store};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p3};

use crate::Running;
use crate::account::Account;
use crate::artifact::Stored;
use crate::aside::{Aside, Habit};
use crate::capability::Principals;
use crate::capability::messaging::HANDLER_UNVERSIONED;
use crate::crash::{Boundary, Crashes, core_dump};
use crate::crowd::Crowds;
use crate::deliver::{Candidate, Post, Subscriber};
use crate::engine::{Engine, Guard, Lane, Part};
use crate::failure::{Failure, Limit, Place};
use crate::gateway::{Description, Gateway, Problem};
use crate::host::Host;
use crate::link::{Terms, link};
use crate::meter::{CutOff, Meter, Metered};
use crate::plain;
use crate::received::{Counted, Lent, Received};
use crate::respond::{Body, Recorder};
use crate::reuse::{Made, Resting, Sandbox};
use crate::room::{Claim, Idle, Rests as _};
use crate::shape::{PlainHandler, Shape, detect, export_index};
use crate::shares::Shares;
use crate::stop::{Stop, is_lift_error};
use crate::store;

use self::ending::Ending;
pub(crate) use self::guest::Answer;
use self::guest::{Given, Guest, MayLeave, Step, Waits};

/// Bytes past the limit on request bodies that are read and thrown away, so that the client can read its refusal.
const LINGER_BYTES: u64 = 16 << 20;

/// A component that is compiled, linked and ready: serving a request needs nothing that is not here.
pub struct Service {
    name: String,
    digest: Digest,
    shape: Shape,
    entry: Entry,
    subscriber: Option<Subscriber>,
    parts: Vec<Part>,
    shares: Option<Arc<Shares>>,
    limits: Limits,
    principals: Arc<Principals>,
    pool: u32,
    /// Whether the guest can go on after what was called has returned.
    concurrent: bool,
    guard: Guard,
    aside: Arc<Aside>,
    /// Whether its requests run long.
    habit: Habit,
    /// The sandboxes of the pool that no request is in, of all services.
    idle: Arc<Idle>,
    crashes: Option<Arc<Crashes>>,
    /// Sandboxes between two requests; `None` where each request has its own.
    resting: Option<Arc<Resting>>,
    /// Sandboxes that several requests are in at once, where they may be.
    crowds: Option<Arc<Crowds>>,
    reuse: Reuse,
}

/// What is called for a request.
enum Entry {
    Http02(ProxyPre<Host>),
    Http03(ServicePre<Host>),
    Plain {
        instance: InstancePre<Host>,
        handler: PlainHandler,
        export: ComponentExportIndex,
    },
    Typed(Box<Gateway>),
    /// Nothing: it is given messages only.
    Nothing,
}

/// A request as it came in.
pub struct Incoming {
    /// The request.
    pub request: http::Request<Received>,
    /// Its correlation id.
    pub id: Arc<str>,
    /// Whether it came over TLS.
    pub secure: bool,
    /// What it is counted in, beside its own bill.
    pub account: Option<Arc<Account>>,
    /// What requests that the guest sends say of the trace they are part of: a `traceparent`.
    pub trace: Option<HeaderValue>,
    /// Where [several requests](Service::lets_in_several) are in one sandbox: how to get a place of the pool for another
    /// one, should this request need it. Without it, places are not counted.
    pub claim: Option<Claim>,
}

impl Service {
    /// Links a compiled component on these terms and finds what it serves.
    ///
    /// # Errors
    /// All imports that are not granted or not satisfied; or what was found where a handler was expected.
    pub fn new(engine: &Engine, stored: Stored, terms: &Terms<'_>) -> Result<Self, Diagnostics> {
        let Terms { name, file, limits, .. } = *terms;
        let lane = engine.lane(stored.lane).map_err(Diagnostic::from)?;
        let component = &stored.component;
        let (instance, principals) = link(&lane.linker, component, terms, engine.guard())?;
        let candidate =
            Candidate { engine: &lane.engine, file, component, instance: &instance, principals: &principals };
        let subscriber = Subscriber::find(&candidate, terms.authorities, terms.backends)?;
        let shape = detect(&lane.engine, name, file, component)?;
        let unfit = |error: Error| {
            Diagnostic::new(
                "not-a-handler",
                format!("`{name}` exports `{shape}` with another signature: {error:#}"),
            )
        };
        let entry = match &shape {
            Shape::Http02 => Entry::Http02(ProxyPre::new(instance).map_err(unfit)?),
            Shape::Http03 => Entry::Http03(ServicePre::new(instance).map_err(unfit)?),
            Shape::Plain(handler) => Entry::Plain {
                export: export_index(component, handler)
                    .ok_or_else(|| unfit(Error::msg("the export cannot be found again")))?,
                handler: handler.clone(),
                instance,
            },
            Shape::Typed { .. } => {
                Entry::Typed(Box::new(Gateway::new(&lane.engine, component, instance).map_err(unfit)?))
            }
            Shape::Messages => Entry::Nothing,
        };
        let concurrent = stored.lane == Lane::Concurrent;
        let Stored { digest, parts, .. } = stored;
        let pool = engine.pool().pool.instances;
        Ok(Self {
            name: name.to_owned(),
            digest,
            shape,
            entry,
            subscriber,
            shares: Shares::of(&parts),
            parts,
            limits,
            principals,
            pool,
            concurrent,
            guard: engine.guard(),
            aside: engine.aside(),
            habit: Habit::default(),
            idle: Arc::clone(&lane.idle),
            crashes: None,
            resting: None,
            crowds: None,
            reuse: Reuse::default(),
        })
    }

    /// The same, whose sandboxes are used again.
    ///
    /// # Errors
    /// When requests cannot be answered as `reuse` says.
    pub fn reusing(mut self, reuse: Reuse) -> Result<Self, Diagnostic> {
        let crowded = reuse.concurrent > 1 && reuse.is_on();
        if crowded && !matches!(self.entry, Entry::Http03(_)) {
            return Err(Diagnostic::new(
                "reuse-concurrent",
                format!("`{}` cannot answer {} requests at once in one sandbox", self.name, reuse.concurrent),
            )
            .note("handler", format!("`{}` is called for one request, and again once it has answered", self.shape))
            .mend("leave `concurrent` at 1: as many sandboxes as there are requests run at the same time. Only a handler of wasi:http 0.3 can answer several at once"));
        }
        self.reuse = reuse;
        if crowded {
            self.crowds = Some(Crowds::new(&self.idle));
        } else if reuse.is_on() {
            self.resting = Some(Resting::new(reuse, self.pool, self.concurrent, &self.idle));
        }
        Ok(self)
    }

    /// How often a sandbox is used.
    pub fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// Whether several requests are in one of its sandboxes at the same time. Such a sandbox is not that of the request
    /// that it was made for, and may outlive it: see [`Incoming::claim`].
    pub fn lets_in_several(&self) -> bool {
        self.crowds.is_some()
    }

    /// Whether a request that is served now, on this thread, is let into a sandbox that others are in.
    pub fn has_room(&self) -> bool {
        self.crowds.as_ref().is_some_and(|crowds| crowds.have_room(self.reuse))
    }

    /// Waits until a request has come to a sandbox on this thread that no other was in: those who wait may join it. Where
    /// there is no such sandbox, for ever.
    pub async fn room(&self) {
        match &self.crowds {
            Some(crowds) => crowds.open(self.reuse).await,
            None => std::future::pending().await,
        }
    }

    /// Throws away the sandboxes that no request is in. Those that several requests can be in are gone a moment later; until
    /// then they keep the service in memory.
    pub fn shed(&self) {
        if let Some(resting) = &self.resting {
            resting.give_up(usize::MAX);
        }
        if let Some(crowds) = &self.crowds {
            crowds.give_up(usize::MAX);
        }
    }

    /// What each component of it uses; `None` where it is not composed.
    pub fn shares(&self) -> Option<&Arc<Shares>> {
        self.shares.as_ref()
    }

    /// Reports failed requests to `crashes`.
    #[must_use]
    pub fn reporting_to(mut self, crashes: Arc<Crashes>) -> Self {
        self.crashes = Some(crashes);
        self
    }

    /// The same, telling clients what its typed exports are. A component that is not served by its typed exports tells
    /// nothing.
    #[must_use]
    pub fn described(mut self, description: Description) -> Self {
        if let Entry::Typed(gateway) = &mut self.entry {
            gateway.describe(description);
        }
        self
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The component's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The contract it is served by.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What a request may use up.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Where the messages come from that it is given; `None` when it is given none.
    pub fn post(&self) -> Option<Post> {
        self.subscriber.as_ref().map(|subscriber| subscriber.post(&self.name))
    }

    /// Instantiates the component in a fresh sandbox under the limits of a request, and throws it away: whether it starts. What
    /// it uses is counted in `account`.
    ///
    /// The caller must be inside a tokio runtime.
    ///
    /// # Errors
    /// Why it does not.
    pub fn try_out(
        self: &Arc<Self>,
        id: Arc<str>,
        account: Option<Arc<Account>>,
    ) -> Running<'static, Result<(), Failure>> {
        Box::pin(Arc::clone(self).tried_out(id, account))
    }

    async fn tried_out(self: Arc<Self>, id: Arc<str>, account: Option<Arc<Account>>) -> Result<(), Failure> {
        let meter = Meter::billed(self.limits.cpu, self.guard, account);
        let mut ending = Ending {
            service: Arc::clone(&self),
            meter: Arc::clone(&meter),
            recorder: None,
            watch: Arc::default(),
            boundary: None,
            function: None,
            stack: Vec::new(),
        };
        let (service, store_meter) = (Arc::clone(&self), Arc::clone(&meter));
        let run = async move {
            match &service.entry {
                // Messages come to it as they come: there is no other way in.
                Entry::Nothing => Ok(()),
                _ => service.sandbox(store_meter, id).await.map(drop),
            }
        };
        let ended = self.to_the_end(run, meter).await;
        ending.judge(ended)
    }

    /// Gives the component one message, in a fresh sandbox under the limits of a request, and waits until it has
    /// handled it. `id` stands for it in the log, and what it uses is counted in `account`, beside its own bill.
    ///
    /// The caller must be inside a tokio runtime.
    ///
    /// # Errors
    /// Why it was not handled: the guest failed, or its handler answered with an error.
    pub fn deliver(
        self: &Arc<Self>,
        message: Message,
        id: Arc<str>,
        account: Option<Arc<Account>>,
        recorder: Recorder,
    ) -> Running<'static, Result<(), Failure>> {
        Box::pin(Arc::clone(self).delivered(message, id, account, recorder))
    }

    async fn delivered(
        self: Arc<Self>,
        message: Message,
        id: Arc<str>,
        account: Option<Arc<Account>>,
        recorder: Recorder,
    ) -> Result<(), Failure> {
        let meter = Meter::billed(self.limits.cpu, self.guard, account);
        let mut ending = Ending {
            service: Arc::clone(&self),
            meter: Arc::clone(&meter),
            recorder: Some(recorder),
            watch: Arc::default(),
            boundary: self.crashes.as_ref().map(|_| Boundary::of_message(&message, &id)),
            function: Some(HANDLER_UNVERSIONED),
            stack: Vec::new(),
        };
        let (service, store_meter) = (Arc::clone(&self), Arc::clone(&meter));
        let run = async move {
            let Some(subscriber) = &service.subscriber else {
                let cause = "the component handles no messages".into();
                return Err(Stop::Refused(Failure::Internal { cause }));
            };
            let fresh = || service.store(subscriber.engine(), Arc::clone(&store_meter), Arc::clone(&id));
            subscriber.run(fresh, service.idle.tries(), message, &service.name).await
        };
        // The sandbox goes back to the pool before the delivery stops counting as running.
        let ended = self.to_the_end(run, meter).await;
        let outcome = ending.judge(ended);
        ending.record(outcome.as_ref().map(|()| true).map_err(Failure::clone));
        outcome
    }

    /// Serves one request: take a sandbox, run the guest until there is a response, hand the response over while the
    /// guest goes on with its body, record what it cost. The sandbox is a fresh one, except where the service is
    /// [reusing](Service::reusing) them.
    ///
    /// The caller must be inside a tokio runtime: a guest that streams its body runs on as a task.
    ///
    /// # Errors
    /// Why there is no response. A failure after the response's head is only recorded, and ends the body early.
    pub fn serve(
        self: &Arc<Self>,
        incoming: Incoming,
        recorder: Recorder,
    ) -> Running<'static, Result<Response<Body>, Failure>> {
        Box::pin(Arc::clone(self).served(incoming, recorder))
    }

    async fn served(self: Arc<Self>, mut incoming: Incoming, recorder: Recorder) -> Given {
        let meter = Meter::billed(self.limits.cpu, self.guard, incoming.account.take());
        if let Some(trace) = incoming.trace.take() {
            meter.trail.set_trace(trace);
        }
        let answer = Answer::default();
        let watch = Arc::clone(&answer.watch);
        let boundary = self
            .crashes
            .as_ref()
            .map(|crashes| Boundary::of(&incoming.request, &incoming.id, crashes.policy.keep_arguments));
        let ending = Ending {
            service: Arc::clone(&self),
            meter: Arc::clone(&meter),
            recorder: Some(recorder),
            watch,
            boundary,
            function: None,
            stack: Vec::new(),
        };
        if let Some(crowds) = &self.crowds {
            return self.serve_among(crowds, incoming, answer, ending).await;
        }
        let run = Arc::clone(&self).run(incoming, Arc::clone(&meter), answer.clone());
        let run = Metered::new(run, Arc::clone(&meter), self.limits.wall);
        let mut guest = Guest { run, answer, ending };
        if self.habit.is_long() && self.resting.is_none() && self.aside.is_open() {
            guest.ending.meter.time_exactly();
            return self.aside(guest).await;
        }
        match guest.step(Waits::ForAnswer, MayLeave::Yes).await {
            Step::Long => self.aside(guest).await,
            step => guest.answer(step),
        }
    }

    /// Runs a guest that answers nobody, elsewhere once it has run long.
    async fn to_the_end<F, T>(&self, run: F, meter: Arc<Meter>) -> Result<Result<T, Stop>, CutOff>
    where
        F: Future<Output = Result<T, Stop>> + Send + 'static,
        T: Send + 'static,
    {
        let run = Metered::new(run, Arc::clone(&meter), self.limits.wall);
        self.aside.finish(run, &meter).await.unwrap_or_else(|error| Err(CutOff::Panicked(error.to_string())))
    }

    /// Goes on with a guest that has run long where it is in nobody's way.
    async fn aside<F>(&self, mut guest: Guest<F>) -> Given
    where
        F: Future<Output = Result<Option<Sandbox>, Stop>> + Send + 'static,
    {
        let answered = self.aside.run(async move {
            let step = guest.step(Waits::ForAnswer, MayLeave::No).await;
            guest.answer(step)
        });
        let ended = match answered {
            Some(answered) => answered.wait().await.map_err(|error| error.to_string()),
            None => Err("there are no threads for long requests".to_owned()),
        };
        ended.unwrap_or_else(|cause| Err(Failure::Internal { cause }))
    }

    /// Runs the guest to its end, leaving the response in `answer` as soon as there is one. What comes back is the
    /// sandbox, where it may be used again.
    async fn run(
        self: Arc<Self>,
        incoming: Incoming,
        meter: Arc<Meter>,
        answer: Answer,
    ) -> Result<Option<Sandbox>, Stop> {
        let Incoming { request, id, secure, .. } = incoming;
        let mut sandbox = match &self.entry {
            Entry::Http02(_) | Entry::Http03(_) => {
                let request = self.counted(request, &answer).await?;
                let mut sandbox = self.sandbox(meter, id).await?;
                let Sandbox { store, made, .. } = &mut sandbox;
                let watch = Arc::clone(&answer.watch);
                let called = match made {
                    Made::Http02(proxy) => self.run_http02(proxy, request, secure, store, answer).await,
                    Made::Http03(service) => self.run_http03(service, request, secure, store, answer).await,
                    Made::Plain(_) | Made::Typed(_) => return Err(another_entry()),
                };
                // Before the store is gone, and with it the body: another thread may be looking at that.
                called.inspect_err(|_| watch.failed.store(true, Relaxed))?;
                sandbox
            }
            Entry::Plain { handler, export, .. } => {
                let (parts, body) = request.into_parts();
                let body = self.collect(body).await?;
                let mut sandbox = self.sandbox(meter, id).await?;
                let Sandbox { store, made: Made::Plain(instance), .. } = &mut sandbox else {
                    return Err(another_entry());
                };
                let called = plain::call(store, instance, handler, export, &parts, body).await;
                if let Err(error) = &called {
                    core_dump(error, store, &self.name);
                }
                let response = match called {
                    Ok(response) => response,
                    // The guest ended well, and what it returned cannot be taken over.
                    Err(error) if is_lift_error(&error) => Err(format!("it cannot be read: {error:#}")),
                    Err(error) => return Err(error.into()),
                };
                answer.give(match response {
                    Ok(response) => self.within_limits(response.map(Body::whole)),
                    Err(cause) => Err(Failure::InvalidResponse { cause }),
                });
                sandbox
            }
            Entry::Typed(gateway) => match self.run_typed(gateway, request, meter, id, answer).await? {
                Some(sandbox) => sandbox,
                None => return Ok(None),
            },
            Entry::Nothing => {
                let problem = Problem::not_found("the app is given messages, and answers no requests");
                answer.give(Ok(problem.response(&id)));
                return Ok(None);
            }
        };
        if self.resting.is_none() {
            // Taken down here, within what the request is billed for.
            return Ok(None);
        }
        if self.concurrent {
            // What the guest goes on with after its result is this request's, not the next one's.
            let over = async |accessor: &Accessor<Host>| {
                std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            };
            sandbox.store.run_concurrent(over).await?;
        }
        Ok(Some(sandbox))
    }

    /// A sandbox for a request: one that rests, if there is one, else a fresh one.
    async fn sandbox(&self, meter: Arc<Meter>, id: Arc<str>) -> Result<Sandbox, Stop> {
        if let Some(mut sandbox) = self.resting.as_ref().and_then(|resting| resting.take()) {
            store::renew(&mut sandbox.store, meter, &id);
            return Ok(sandbox);
        }
        let mut tries = self.idle.tries();
        loop {
            let error = match self.fresh(Arc::clone(&meter), Arc::clone(&id)).await {
                Err(Stop::Start(error)) => error,
                made => return made,
            };
            if !tries.again(&error).await {
                return Err(Stop::Start(error));
            }
        }
    }

    /// A fresh sandbox, if the pool has room for it.
    async fn fresh(&self, meter: Arc<Meter>, id: Arc<str>) -> Result<Sandbox, Stop> {
        let store = |engine: &wasmtime::Engine| self.store(engine, meter, id);
        let (made, store) = match &self.entry {
            Entry::Http02(entry) => {
                let mut store = store(entry.engine());
                (entry.instantiate_async(&mut store).await.map(Made::Http02), store)
            }
            Entry::Http03(entry) => {
                let mut store = store(entry.engine());
                (entry.instantiate_async(&mut store).await.map(Made::Http03), store)
            }
            Entry::Plain { instance, .. } => {
                let mut store = store(instance.engine());
                (instance.instantiate_async(&mut store).await.map(Made::Plain), store)
            }
            Entry::Typed(gateway) => {
                let mut store = store(gateway.instance.engine());
                (gateway.instance.instantiate_async(&mut store).await.map(Made::Typed), store)
            }
            Entry::Nothing => return Err(another_entry()),
        };
        Ok(Sandbox::new(store, made.map_err(Stop::Start)?))
    }

    async fn run_http02(
        self: &Arc<Self>,
        proxy: &Proxy,
        request: http::Request<Counted<Lent>>,
        secure: bool,
        store: &mut Store<Host>,
        answer: Answer,
    ) -> Result<(), Stop> {
        let scheme = if secure { Scheme::Https } else { Scheme::Http };
        let request = store.data_mut().http().new_incoming_request(scheme, request).map_err(bad_request)?;
        let service = Arc::clone(self);
        let outparam = store.data_mut().http().new_response_outparam_from_callback(move |response| {
            answer.give(match response {
                Ok(response) => service.streamed(response, &answer),
                Err(code) => Err(answered_with(&code)),
            });
        })?;
        let called = proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, outparam).await;
        called.inspect_err(|error| core_dump(error, store, &self.name))?;
        Ok(())
    }

    async fn run_http03(
        &self,
        service: &p3::bindings::Service,
        mut request: http::Request<Counted<Lent>>,
        secure: bool,
        store: &mut Store<Host>,
        answer: Answer,
    ) -> Result<(), Stop> {
        complete_uri(&mut request, secure).map_err(bad_request)?;
        let reused = self.resting.is_some();
        let (request, received) =
            wasmtime_wasi_http::p3::Request::from_http(store.data_mut().http().hooks, request);
        let called = store
            .run_concurrent(async move |accessor| -> Result<(), Error> {
                match service.handle(accessor, request).await? {
                    Ok(response) => {
                        let response: Response<WasiBody> =
                            accessor.with(|access| response.into_http(access, received))?;
                        answer.give(self.streamed(response, &answer));
                    }
                    Err(code) => {
                        answer.give(Err(answered_with(&code)));
                        return Ok(());
                    }
                }
                // The guest goes on after its response: it streams the body.
                std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
                if reused {
                    // Unlike one that is taken down now, the sandbox must not be left with half of a body.
                    answer.watch.body_ends().await;
                }
                Ok(())
            })
            .await
            .flatten();
        called.inspect_err(|error| core_dump(error, store, &self.name))?;
        Ok(())
    }

    /// A fresh store with the request's allowance and clocks.
    fn store(&self, engine: &wasmtime::Engine, meter: Arc<Meter>, id: Arc<str>) -> Store<Host> {
        let host = Host::new(
            &self.limits,
            Arc::clone(&meter),
            id,
            Arc::clone(&self.principals),
            self.shares.clone(),
        );
        store::fresh(engine, host, &self.limits, meter)
    }

    /// A request whose body the guest streams. One that announces more than it may have is refused before the guest
    /// runs; one that turns out to have more ends in an error.
    async fn counted(
        &self,
        request: http::Request<Received>,
        answer: &Answer,
    ) -> Result<http::Request<Counted<Lent>>, Stop> {
        let (parts, body) = request.into_parts();
        Ok(http::Request::from_parts(parts, self.counted_body(body, answer).await?))
    }

    /// The body of such a request.
    async fn counted_body(&self, body: Received, answer: &Answer) -> Result<Counted<Lent>, Stop> {
        let limit_bytes = self.limits.request_body_bytes;
        if body.size_hint().lower() > limit_bytes {
            self.collect(body).await?;
            return Err(Stop::Refused(Failure::RequestTooLarge { limit_bytes }));
        }
        let lent = Lent::new(body, &answer.watch);
        Ok(Counted::new(lent, limit_bytes).watched(Arc::clone(&answer.watch)))
    }

    /// A response whose body the guest streams.
    fn streamed(&self, response: Response<WasiBody>, answer: &Answer) -> Given {
        if answer.watch.request_too_large.load(Relaxed) {
            return Err(Failure::RequestTooLarge { limit_bytes: self.limits.request_body_bytes });
        }
        let bytes_max = self.limits.response_body_bytes;
        let announced_bytes = response.headers().get(CONTENT_LENGTH);
        let announced_bytes = announced_bytes.and_then(|length| length.to_str().ok()?.parse().ok());
        let watch = Arc::clone(&answer.watch);
        self.within_limits(response.map(|body| Body::guest(body, bytes_max, announced_bytes, watch)))
    }

    /// Refuses a response whose head says that it is larger than it may be.
    fn within_limits(&self, response: Response<Body>) -> Given {
        let exceeded = |limit, cause: String| Failure::Exceeded { limit, cause, place: Place::default() };
        let Limits { response_body_bytes, header_bytes, .. } = self.limits;
        let head = head_bytes(response.headers());
        if head > header_bytes {
            let cause = format!("the response has {} of header fields", format_bytes(head));
            return Err(exceeded(Limit::ResponseHeaders(header_bytes), cause));
        }
        let body = response.body().size_hint().lower();
        if body > response_body_bytes {
            let cause = format!("the response's body has {}", format_bytes(body));
            return Err(exceeded(Limit::ResponseBody(response_body_bytes), cause));
        }
        Ok(response)
    }

    /// A body that is handed over whole; `None` when the request has none.
    ///
    /// Of a body that is too large, the rest is read and thrown away, within bounds: a client that is still sending
    /// when its connection closes loses the answer that tells it why (RFC 9112, section 9.6).
    async fn collect(&self, mut body: Received) -> Result<Option<Bytes>, Stop> {
        if body.is_end_stream() {
            return Ok(None);
        }
        let limit_bytes = self.limits.request_body_bytes;
        let too_large = || Stop::Refused(Failure::RequestTooLarge { limit_bytes });
        let drained_bytes_max = limit_bytes.saturating_add(LINGER_BYTES);
        if body.size_hint().lower() > drained_bytes_max {
            return Err(too_large());
        }
        let mut whole = BytesMut::new();
        let mut received: u64 = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Stop::Refused(Failure::BadRequest { cause: format!("the body could not be read: {error}") })
            })?;
            let Ok(data) = frame.into_data() else { continue };
            received += data.len() as u64;
            if received > drained_bytes_max {
                break;
            }
            if received <= limit_bytes {
                whole.extend_from_slice(&data);
            }
        }
        if received > limit_bytes { Err(too_large()) } else { Ok(Some(whole.freeze())) }
    }
}

/// What header fields take, as HTTP/2 counts them (RFC 9113, section 6.5.2).
pub fn head_bytes(headers: &http::HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 32) as u64).sum()
}

fn answered_with(code: &dyn std::fmt::Debug) -> Failure {
    Failure::NoResponse { cause: format!("the guest answered with the error {code:?}") }
}

/// Writes the scheme and the authority into the URI, which is where WASI 0.3 reads them; the edge has made sure that
/// there is one `host`.
fn complete_uri<B>(request: &mut http::Request<B>, secure: bool) -> Result<(), Error> {
    let host = request.headers().get(HOST).map(|host| host.as_bytes().to_vec()).unwrap_or_default();
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::builder()
        .scheme(if secure { "https" } else { "http" })
        .authority(host.as_slice())
        .path_and_query(path)
        .build()?;
    Ok(())
}

/// A sandbox is of the service that made it: this cannot be, and is told as ours if it is.
fn another_entry() -> Stop {
    Stop::Refused(Failure::Internal { cause: "the sandbox has another entry than the service".into() })
}

fn bad_request(error: Error) -> Stop {
    Stop::Refused(Failure::BadRequest { cause: error.to_string() })
}
