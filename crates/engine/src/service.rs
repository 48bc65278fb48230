//! One component, ready to serve: the life of a request inside the engine.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use tenon_model::store::Message;
use tenon_model::{Diagnostic, Diagnostics, Digest, Limits, Reuse, format_bytes};
use wasmtime::component::{Accessor, ComponentExportIndex, InstancePre};
use wasmtime::{AsContextMut as _, Error, Store};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttpView, p3};

use crate::account::Account;
use crate::artifact::Stored;
use crate::aside::Aside;
use crate::capability::Principals;
use crate::capability::messaging::HANDLER_UNVERSIONED;
use crate::crash::{Boundary, CrashFrame, Crashes, Wreck, core_dump, is_reported, stack};
use crate::crowd::{Crowd, Crowds, End, Handler, Inside, Job, Seat, unset_sleep};
use crate::deliver::{Candidate, Post, Subscriber};
use crate::engine::{Engine, Guard, Lane, Part};
use crate::failure::{Failure, Limit, Place};
use crate::gateway::{Description, Gateway, Problem, Rejected, Route, Streamed, Taken, Unsent};
use crate::host::Host;
use crate::link::{Terms, link};
use crate::meter::{CutOff, Meter, Metered};
use crate::plain;
use crate::received::{Counted, Lent, Received};
use crate::respond::{Bill, Body, Record, Recorder, Watch};
use crate::reuse::{Made, Resting, Sandbox};
use crate::shape::{PlainHandler, Shape, detect, export_index};
use crate::stop::{self, Stop, is_lift_error};
use crate::store;
use crate::value::Val;

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
    limits: Limits,
    principals: Arc<Principals>,
    pool: u32,
    /// Whether the guest can go on after what was called has returned.
    concurrent: bool,
    guard: Guard,
    aside: Arc<Aside>,
    crashes: Option<Arc<Crashes>>,
    /// Sandboxes between two requests; `None` where each request has its own.
    resting: Option<Arc<Resting>>,
    /// Sandboxes that several requests are in at once, where they may be.
    crowds: Option<Crowds>,
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
        let (instance, principals) = link(&lane.linker, component, terms)?;
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
            parts,
            limits,
            principals,
            pool,
            concurrent,
            guard: engine.guard(),
            aside: engine.aside(),
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
            self.crowds = Some(Crowds::default());
        } else if reuse.is_on() {
            self.resting = Some(Resting::new(reuse, self.pool, self.concurrent));
        }
        Ok(self)
    }

    /// How often a sandbox is used.
    pub fn reuse(&self) -> Reuse {
        self.reuse
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

    /// Instantiates the component in a fresh sandbox under the limits of a request, and throws it away: whether it starts.
    ///
    /// The caller must be inside a tokio runtime.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn try_out(self: &Arc<Self>, id: Arc<str>) -> Result<(), Failure> {
        let meter = Meter::new(self.limits.cpu, self.guard);
        let mut ending = Ending {
            service: Arc::clone(self),
            meter: Arc::clone(&meter),
            recorder: None::<fn(Record)>,
            watch: Arc::default(),
            boundary: None,
            function: None,
            stack: Vec::new(),
        };
        let store_meter = Arc::clone(&meter);
        let run = async {
            match &self.entry {
                // Messages come to it as they come: there is no other way in.
                Entry::Nothing => Ok(()),
                _ => self.sandbox(store_meter, id).await.map(drop),
            }
        };
        let ended = Metered::new(run, meter, self.limits.wall).await;
        ending.judge(ended)
    }

    /// Gives the component one message, in a fresh sandbox under the limits of a request, and waits until it has
    /// handled it. `id` stands for it in the log; it is counted in `account`, beside its own bill.
    ///
    /// The caller must be inside a tokio runtime.
    ///
    /// # Errors
    /// Why it was not handled: the guest failed, or its handler answered with an error.
    pub async fn deliver<R: Recorder>(
        self: &Arc<Self>,
        message: Message,
        id: Arc<str>,
        account: Option<Arc<Account>>,
        recorder: R,
    ) -> Result<(), Failure> {
        let meter = Meter::billed(self.limits.cpu, self.guard, account);
        let mut ending = Ending {
            service: Arc::clone(self),
            meter: Arc::clone(&meter),
            recorder: Some(recorder),
            watch: Arc::default(),
            boundary: self.crashes.as_ref().map(|_| Boundary::of_message(&message, &id)),
            function: Some(HANDLER_UNVERSIONED),
            stack: Vec::new(),
        };
        let store_meter = Arc::clone(&meter);
        let run = async {
            let Some(subscriber) = &self.subscriber else {
                let cause = "the component handles no messages".into();
                return Err(Stop::Refused(Failure::Internal { cause }));
            };
            let store = self.store(subscriber.engine(), store_meter, id);
            subscriber.run(store, message, &self.name).await
        };
        // The sandbox goes back to the pool before the delivery stops counting as running.
        let ended = Metered::new(run, meter, self.limits.wall).await;
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
    pub async fn serve<R: Recorder>(
        self: &Arc<Self>,
        mut incoming: Incoming,
        recorder: R,
    ) -> Result<Response<Body>, Failure> {
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
            service: Arc::clone(self),
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
        let run = Arc::clone(self).run(incoming, Arc::clone(&meter), answer.clone());
        let run = Metered::new(run, Arc::clone(&meter), self.limits.wall);
        let mut guest = Guest { run, answer, ending };
        match guest.step(Waits::ForAnswer, MayLeave::Yes).await {
            Step::Long => self.aside(guest).await,
            step => guest.answer(step),
        }
    }

    /// Goes on with a guest that has run long where it is in nobody's way.
    async fn aside<F, R>(&self, mut guest: Guest<F, R>) -> Given
    where
        F: Future<Output = Result<Option<Sandbox>, Stop>> + Send + 'static,
        R: Recorder,
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

    /// Serves one request in a sandbox that others may be in.
    async fn serve_among<R: Recorder>(
        self: &Arc<Self>,
        crowds: &Crowds,
        incoming: Incoming,
        answer: Answer,
        mut ending: Ending<R>,
    ) -> Result<Response<Body>, Failure> {
        let Incoming { mut request, id, secure, .. } = incoming;
        let until = ending.meter.until(self.limits.wall);
        let entered = async {
            complete_uri(&mut request, secure).map_err(bad_request)?;
            let request = self.counted(request, &answer).await?;
            let seat = Seat::new(id, Arc::clone(&ending.meter), answer.clone());
            crowds.enter(Job { request, seat }, self.reuse, self.guard).map_err(Stop::Refused)
        };
        let entered = within(until, entered).await.ok_or(CutOff::WallSpent);
        let (inside, new) = match ending.judge(entered) {
            Ok(entered) => entered,
            Err(failure) => {
                ending.record(Err(failure.clone()));
                return Err(failure);
            }
        };
        if let Some(crowd) = new {
            tokio::spawn(Arc::clone(self).run_crowd(crowd));
        }
        let answered = async {
            while !answer.is_given() && inside.seat.end().is_none() {
                answer.watch.news.notified().await;
            }
        };
        let in_time = within(until, answered).await.is_some();
        match answer.take() {
            Some(Ok(response)) => {
                tokio::spawn(async move {
                    let finished = within(until, finished(&inside)).await;
                    let outcome = ending.ended_among(&inside.seat, finished.is_some());
                    if outcome.is_ok() && ending.watch.is_clean() {
                        inside.well();
                    } else {
                        drop(inside);
                    }
                    ending.record(outcome.map(|()| true));
                });
                Ok(response)
            }
            Some(Err(failure)) => {
                drop(inside);
                ending.record(Err(failure.clone()));
                Err(failure)
            }
            None => {
                let failure = match ending.ended_among(&inside.seat, in_time) {
                    Err(failure) => failure,
                    Ok(()) => Failure::NoResponse { cause: "the guest returned without a response".into() },
                };
                drop(inside);
                ending.record(Err(failure.clone()));
                Err(failure)
            }
        }
    }

    /// Owns a sandbox that several requests are in, for as long as it is of use.
    async fn run_crowd(self: Arc<Self>, crowd: Arc<Crowd>) {
        /// Nobody is left waiting when the task ends early, with its runtime.
        struct Ended(Arc<Crowd>);

        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.end(None);
            }
        }

        let ended = Ended(Arc::clone(&crowd));
        let Entry::Http03(entry) = &self.entry else { return };
        let mut store = self.store(entry.engine(), Arc::clone(&crowd.meter), crowd.first_id());
        let running = async {
            let handler = entry.instantiate_async(&mut store).await.map_err(Stop::Start)?;
            let called = store
                .run_concurrent(async |accessor| {
                    crowd.run(accessor, |job| self.answer_among(accessor, &handler, job)).await
                })
                .await
                .flatten();
            called.inspect_err(|error| core_dump(error, &mut store, &self.name))?;
            Ok(())
        };
        let mut running = Metered::new(running, Arc::clone(&crowd.meter), Duration::MAX);
        let mut rest = unset_sleep();
        let outcome = std::future::poll_fn(|context| {
            if crowd.is_over(context, &mut rest) {
                return Poll::Ready(None);
            }
            Pin::new(&mut running).poll(context).map(Some)
        })
        .await;
        drop(running);
        if let Some(outcome) = outcome {
            let stack = match &outcome {
                Ok(Err(Stop::Engine(error) | Stop::Start(error))) => stack(error, &self.name, &self.parts),
                _ => Vec::new(),
            };
            let judged = stop::judge(outcome, &self.limits, self.pool, &crowd.meter, &self.parts);
            let lines = crowd.meter.trail.take_lines();
            crowd.end(judged.err().map(|failure| End { failure, stack, lines }));
        }
        // After the requests know: their bodies end with it.
        drop(store);
        drop(ended);
    }

    /// Answers one request of those that are in a sandbox.
    async fn answer_among(
        &self,
        accessor: &Accessor<Host>,
        handler: &Handler,
        Job { request, seat }: Job,
    ) -> Result<(), Error> {
        let (request, received) = accessor.with(|mut access| {
            let hooks = access.data_mut().http().hooks;
            let (request, received) = wasmtime_wasi_http::p3::Request::from_http(hooks, request);
            let received: Pin<Box<dyn Future<Output = Result<(), HttpError>> + Send>> = Box::pin(received);
            (request, received)
        });
        let given = match handler.handle(accessor, request).await? {
            Ok(response) => {
                let response: Response<WasiBody> =
                    accessor.with(|access| response.into_http(access, received))?;
                self.streamed(response, &seat.answer)
            }
            Err(code) => Err(answered_with(&code)),
        };
        seat.answer.give(given);
        Ok(())
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

    /// Calls the function that a request is for, or answers without one and without a sandbox.
    async fn run_typed(
        &self,
        gateway: &Gateway,
        request: http::Request<Received>,
        meter: Arc<Meter>,
        id: Arc<str>,
        answer: Answer,
    ) -> Result<Option<Sandbox>, Stop> {
        let (parts, body) = request.into_parts();
        let function = match gateway.route(&parts.method, parts.uri.path()) {
            Route::Call(function) => function,
            Route::Answer(response) => {
                answer.give(Ok(response.map(Body::whole)));
                return Ok(None);
            }
            Route::Refused(problem) => {
                answer.give(Ok(problem.response(&id)));
                return Ok(None);
            }
        };
        let refused = |problem: Problem| {
            answer.give(Ok(problem.response(&id)));
            Ok(None)
        };
        // What is sent whole is looked at before there is a sandbox.
        let (mut arguments, incoming) = match function.taken(&parts.headers) {
            Ok(Taken::Stream) => (Vec::new(), Some(self.counted_body(body, &answer).await?)),
            Ok(taken) => match function.arguments(taken, self.collect(body).await?) {
                Ok(arguments) => (arguments, None),
                Err(problem) => return refused(problem),
            },
            Err(problem) => return refused(problem),
        };
        let mut sandbox = self.sandbox(meter, Arc::clone(&id)).await?;
        let Sandbox { store, made: Made::Typed(instance), .. } = &mut sandbox else {
            return Err(another_entry());
        };
        let callee = function.callee(&mut *store, instance)?;
        let rejected = Rejected::default();
        let bytes_max = self.limits.response_body_bytes;
        let called = if function.transmits() {
            let (answer, rejected) = (answer.clone(), &rejected);
            let headers = &parts.headers;
            store
                .run_concurrent(async move |accessor| -> Result<Returned, Error> {
                    accessor.with(|mut access| match incoming {
                        Some(body) => {
                            arguments = function.incoming(access.as_context_mut(), body, rejected)?;
                            Ok(())
                        }
                        None => function.give(access.as_context_mut(), &mut arguments),
                    })?;
                    let mut result = callee.call_concurrent(accessor, arguments).await?;
                    match function.stream(accessor, headers, result.as_ref(), bytes_max).await? {
                        None => {
                            let collected = function.collect(accessor, result.as_mut(), &self.limits).await;
                            return Ok(Returned::Whole(collected.map(|()| result)));
                        }
                        Some(Streamed::Whole(response)) => answer.give(self.typed(response)),
                        Some(Streamed::Raw(response, ended)) => {
                            answer.give(self.streamed(response, &answer));
                            ended.wait().await;
                        }
                    }
                    // The guest may go on after its result, and after the stream.
                    std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
                    Ok(Returned::Streamed)
                })
                .await
                .flatten()
        } else {
            callee.call(store, arguments).await.map(|result| Returned::Whole(Ok(result)))
        };
        if called.is_err() && answer.was_given() {
            // Before the store is gone, and with it the body: another thread may be looking at that.
            answer.watch.failed.store(true, Relaxed);
        }
        let response = match called {
            Ok(Returned::Streamed) => return Ok(Some(sandbox)),
            Ok(Returned::Whole(collected)) => {
                let answered = |result| function.answer(&parts.headers, result, bytes_max);
                collected.map_err(Unsent::from).and_then(answered)
            }
            Err(error) => match rejected.take() {
                // Too late for a response: the one that was begun ends early.
                Some(problem) if answer.was_given() => {
                    let cause = format!("{problem}, when the response had begun");
                    return Err(Stop::Refused(Failure::BadRequest { cause }));
                }
                Some(problem) => return refused(problem),
                // The guest ended well, and what it returned cannot be taken over.
                None if is_lift_error(&error) => Err(format!("it cannot be read: {error:#}").into()),
                None => return Err(error.into()),
            },
        };
        answer.give(self.typed(response));
        Ok(Some(sandbox))
    }

    /// A response that was made of what a function returned, or why it cannot be.
    fn typed(&self, response: Result<Response<Body>, Unsent>) -> Given {
        match response {
            Ok(response) => self.within_limits(response),
            Err(Unsent::Invalid(cause)) => Err(Failure::InvalidResponse { cause }),
            Err(Unsent::TooLong) => Err(Failure::Exceeded {
                limit: Limit::ResponseBody(self.limits.response_body_bytes),
                cause: "the result is longer than a response's body may be".into(),
                place: Place::default(),
            }),
        }
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
        let host = Host::new(&self.limits, Arc::clone(&meter), id, Arc::clone(&self.principals));
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

/// A guest under way. Its sandbox goes back to the pool before the request stops counting as running: fields are dropped
/// in their order.
struct Guest<F, R: Recorder> {
    run: Metered<F>,
    answer: Answer,
    ending: Ending<R>,
}

/// What a guest is polled for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    ForAnswer,
    ForEnd,
}

/// Whether a guest that runs long is to go on elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MayLeave {
    Yes,
    No,
}

/// How far a guest came.
enum Step {
    Ended(Result<Result<Option<Sandbox>, Stop>, CutOff>),
    /// There is an answer, and the guest goes on.
    Answered,
    /// It has run for long, and there is a place for those.
    Long,
}

impl<F, R> Guest<F, R>
where
    F: Future<Output = Result<Option<Sandbox>, Stop>> + Send + 'static,
    R: Recorder,
{
    async fn step(&mut self, waits: Waits, may_leave: MayLeave) -> Step {
        let Self { run, answer, ending } = self;
        std::future::poll_fn(|context| match Pin::new(&mut *run).poll(context) {
            Poll::Ready(ended) => Poll::Ready(Step::Ended(ended)),
            Poll::Pending if waits == Waits::ForAnswer && answer.is_given() => Poll::Ready(Step::Answered),
            Poll::Pending
                if may_leave == MayLeave::Yes
                    && ending.meter.is_long()
                    // A sandbox that is used again is back before the next request comes.
                    && ending.service.resting.is_none()
                    && ending.service.aside.is_open() =>
            {
                Poll::Ready(Step::Long)
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// What is answered after a step. A guest that goes on does so as a task, if the answer is a response whose body it
    /// writes.
    fn answer(self, step: Step) -> Given {
        let Self { run, answer, mut ending } = self;
        let ended = match step {
            Step::Ended(ended) => ended,
            Step::Answered | Step::Long => {
                let given = answer.take().unwrap_or_else(no_response);
                match &given {
                    Ok(_) => drop(tokio::spawn(Self { run, answer, ending }.rest())),
                    Err(failure) => {
                        drop(run);
                        ending.record(Err(failure.clone()));
                    }
                }
                return given;
            }
        };
        ending.foretell(&ended);
        drop(run);
        let outcome = ending.judge(ended).and_then(|sandbox| {
            let response = answer.take().unwrap_or_else(no_response)?;
            ending.rest(sandbox);
            Ok(response)
        });
        ending.record(outcome.as_ref().map(|_| true).map_err(Failure::clone));
        outcome
    }

    /// Goes on after the answer, to the end.
    async fn rest(mut self) {
        match self.step(Waits::ForEnd, MayLeave::Yes).await {
            Step::Ended(ended) => self.end(ended),
            Step::Answered | Step::Long => {
                let service = Arc::clone(&self.ending.service);
                service.aside.leave(async move {
                    if let Step::Ended(ended) = self.step(Waits::ForEnd, MayLeave::No).await {
                        self.end(ended);
                    }
                });
            }
        }
    }

    fn end(self, ended: Result<Result<Option<Sandbox>, Stop>, CutOff>) {
        let Self { run, mut ending, .. } = self;
        ending.foretell(&ended);
        drop(run);
        let rested = ending.judge(ended).map(|sandbox| ending.rest(sandbox));
        ending.record(rested.map(|()| true));
    }
}

/// What comes of it before a time; `None` when it takes longer.
async fn within<T>(until: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until.into(), future).await.ok(),
        None => Some(future.await),
    }
}

/// Waits until a request that is in a sandbox with others is over.
async fn finished(inside: &Inside) {
    let watch = &inside.seat.answer.watch;
    while inside.seat.end().is_none() && (!watch.body_over.load(Relaxed) || inside.is_last_to_wait()) {
        watch.news.notified().await;
    }
}

/// What a guest answered.
type Given = Result<Response<Body>, Failure>;

/// How a typed function returned.
enum Returned {
    /// With a result that is all there, or why it cannot be taken over.
    Whole(Result<Option<Val>, String>),
    /// With a stream, of which the response was made.
    Streamed,
}

/// The response, once there is one. The guest leaves it here in the middle of a poll, and whoever looks for it takes it
/// out at once: the lock is not waited for.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    given: Arc<Mutex<Option<Given>>>,
    /// Whether there was one, taken or not.
    once: Arc<AtomicBool>,
    pub(crate) watch: Arc<Watch>,
}

impl Answer {
    fn give(&self, response: Given) {
        self.once.store(true, Relaxed);
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
        self.watch.news.notify_one();
    }

    fn was_given(&self) -> bool {
        self.once.load(Relaxed)
    }

    fn is_given(&self) -> bool {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take(&self) -> Option<Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What header fields take, as HTTP/2 counts them (RFC 9113, section 6.5.2).
pub fn head_bytes(headers: &http::HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 32) as u64).sum()
}

fn no_response() -> Given {
    Err(Failure::NoResponse { cause: "the guest returned without a response".into() })
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

/// Records a request's end exactly once, also when its future is dropped half-way.
struct Ending<R: Recorder> {
    service: Arc<Service>,
    meter: Arc<Meter>,
    recorder: Option<R>,
    watch: Arc<Watch>,
    /// What a crash report tells of the request; `None` where none are written.
    boundary: Option<Boundary>,
    /// What is called, where it is not what requests call.
    function: Option<&'static str>,
    /// Where the guest was when it failed.
    stack: Vec<CrashFrame>,
}

impl<R: Recorder> Ending<R> {
    /// Says that the guest failed before its sandbox is gone, and with it the body: another thread may be looking at that.
    fn foretell<T>(&self, ended: &Result<Result<T, Stop>, CutOff>) {
        if !matches!(ended, Ok(Ok(_))) {
            self.watch.failed.store(true, Relaxed);
        }
    }

    /// What a guest's end means.
    fn judge<T>(&mut self, ended: Result<Result<T, Stop>, CutOff>) -> Result<T, Failure> {
        let Service { name, limits, pool, parts, .. } = &*self.service;
        if let (Some(_), Ok(Err(Stop::Engine(error) | Stop::Start(error)))) = (&self.boundary, &ended) {
            self.stack = stack(error, name, parts);
        }
        if self.watch.response_too_large.load(Relaxed) {
            return Err(Failure::Exceeded {
                limit: Limit::ResponseBody(limits.response_body_bytes),
                cause: "the response's body grew larger than it may; it was cut off".into(),
                place: Place::default(),
            });
        }
        // What a guest makes of a body that is cut off is not what happened.
        if self.watch.request_too_large.load(Relaxed)
            && matches!(ended, Ok(Err(Stop::Engine(_) | Stop::Start(_))))
        {
            return Err(Failure::RequestTooLarge { limit_bytes: limits.request_body_bytes });
        }
        stop::judge(ended, limits, *pool, &self.meter, parts)
    }

    /// What the end of a request means that was in a sandbox with others.
    fn ended_among(&mut self, seat: &Seat, in_time: bool) -> Result<(), Failure> {
        if let Some(End { failure, stack, lines }) = seat.end() {
            self.stack = stack;
            self.meter.trail.adopt(lines);
            // A body that is too large is told as such, whatever the guest makes of it.
            self.judge(Ok(Ok(())))?;
            if self.watch.request_too_large.load(Relaxed) {
                let limit_bytes = self.service.limits.request_body_bytes;
                return Err(Failure::RequestTooLarge { limit_bytes });
            }
            return Err(failure);
        }
        self.judge(if in_time { Ok(Ok(())) } else { Err(CutOff::WallSpent) })
    }

    /// Keeps the sandbox of a request that went well for another one.
    fn rest(&self, sandbox: Option<Sandbox>) {
        if let (Some(resting), Some(sandbox)) = (&self.service.resting, sandbox) {
            self.watch.cut_off_request();
            if self.watch.is_clean() {
                resting.put(sandbox);
            }
        }
    }

    fn record(&mut self, outcome: Result<bool, Failure>) {
        if outcome != Ok(true) {
            self.watch.failed.store(true, Relaxed);
        }
        if let Some(recorder) = self.recorder.take() {
            let bill = Bill {
                wall: self.meter.wall(),
                cpu: self.meter.spent(),
                memory_bytes: self.meter.memory_bytes(),
            };
            let crash = outcome.as_ref().err().and_then(|failure| self.report(failure, &bill));
            recorder.record(Record { outcome, bill, ended: self.meter.at(bill.wall), crash });
        }
    }

    /// Hands a failure to whoever writes crash reports.
    fn report(&mut self, failure: &Failure, bill: &Bill) -> Option<Arc<str>> {
        let Service { name, digest, shape, limits, parts, crashes, .. } = &*self.service;
        let crashes = crashes.as_ref().filter(|crashes| is_reported(failure) && crashes.admit())?;
        let (at, trail) = (SystemTime::now(), &self.meter.trail);
        let wreck = Wreck {
            id: crashes.next_id(at),
            at,
            app: name,
            digest,
            files: &crashes.policy.files,
            function: &self.function.map_or_else(|| shape.to_string(), str::to_owned),
            boundary: self.boundary.take()?,
            keep_arguments: crashes.policy.keep_arguments,
            failure,
            bill,
            limits,
            parts,
            stack: std::mem::take(&mut self.stack),
            log: trail.take_lines(),
        };
        crashes.report(wreck, trail.take_core_dump())
    }
}

impl<R: Recorder> Drop for Ending<R> {
    fn drop(&mut self) {
        if self.recorder.is_some() {
            self.record(Ok(false));
        }
    }
}
