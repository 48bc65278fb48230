//! One component, ready to serve: the life of a request inside the engine.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming as Received;
use tenon_model::{Diagnostic, Diagnostics, Digest, Limits};
use wasmtime::component::{ComponentExportIndex, InstancePre};
use wasmtime::{Error, Store, UpdateDeadline};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::artifact::Stored;
use crate::engine::{Engine, Part};
use crate::failure::{Failure, Limit, Place};
use crate::host::Host;
use crate::link::link;
use crate::meter::{Meter, Metered, WallSpent};
use crate::plain;
use crate::respond::{Bill, Body, Record, Recorder};
use crate::shape::{PlainHandler, Shape, detect, export_index};

/// Bytes a plain handler may hand over in one response, all fields together.
const PLAIN_RESPONSE_BYTES_MAX: usize = 64 << 20;

/// A component that is compiled, linked and ready: serving a request needs nothing that is not here.
pub struct Service {
    name: String,
    digest: Digest,
    shape: Shape,
    entry: Entry,
    parts: Vec<Part>,
    limits: Limits,
    pool: u32,
}

/// What is called for a request.
enum Entry {
    Http02(ProxyPre<Host>),
    Http03(ServicePre<Host>),
    Plain { instance: InstancePre<Host>, handler: PlainHandler, export: ComponentExportIndex },
}

/// A request as it came in.
pub struct Incoming {
    /// The request.
    pub request: http::Request<Received>,
    /// Its correlation id.
    pub id: Arc<str>,
    /// Whether it came over TLS.
    pub secure: bool,
}

impl Service {
    /// Links a compiled component and finds what it serves.
    ///
    /// # Errors
    /// All imports that are not granted or not satisfied; or what was found where a handler was expected.
    pub fn new(engine: &Engine, name: &str, stored: Stored, limits: Limits) -> Result<Self, Diagnostics> {
        let lane = engine.lane(stored.lane);
        let component = &stored.component;
        let instance = link(&lane.linker, name, component)?;
        let shape = detect(&lane.engine, name, component)?;
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
        };
        let Stored { digest, parts, .. } = stored;
        let pool = engine.pool().pool.instances;
        Ok(Self { name: name.to_owned(), digest, shape, entry, parts, limits, pool })
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

    /// Serves one request in a fresh sandbox: take a store, run the guest until there is a response, hand the
    /// response over while the guest goes on with its body, record what it cost.
    ///
    /// The caller must be inside a tokio runtime: a guest that streams its body runs on as a task.
    ///
    /// # Errors
    /// Why there is no response. A failure after the response's head is only recorded, and ends the body early.
    pub async fn serve<R: Recorder>(
        self: &Arc<Self>,
        incoming: Incoming,
        recorder: R,
    ) -> Result<Response<Body>, Failure> {
        let meter = Meter::new(self.limits.cpu);
        let answer = Answer::default();
        let ending =
            Ending { service: Arc::clone(self), meter: Arc::clone(&meter), recorder: Some(recorder) };
        let run = Arc::clone(self).run(incoming, Arc::clone(&meter), Arc::clone(&answer));
        let mut run = Metered::new(run, meter, self.limits.wall);

        let ended = std::future::poll_fn(|context| match Pin::new(&mut run).poll(context) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if has_answer(&answer) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        let failure = match ended {
            Some(ended) => ending.end(ended).err(),
            None => {
                tokio::spawn(async move {
                    let ended = run.await;
                    // Nobody is left to tell but the recorder, which `end` does.
                    let _ = ending.end(ended);
                });
                None
            }
        };
        match failure {
            Some(failure) => Err(failure),
            None => take_answer(&answer).unwrap_or_else(|| {
                Err(Failure::NoResponse { cause: "the guest returned without a response".into() })
            }),
        }
    }

    /// Runs the guest to its end, leaving the response in `answer` as soon as there is one.
    async fn run(self: Arc<Self>, incoming: Incoming, meter: Arc<Meter>, answer: Answer) -> Result<(), Stop> {
        let Incoming { request, id, secure } = incoming;
        match &self.entry {
            Entry::Http02(entry) => {
                self.run_http02(entry, request, secure, self.store(meter, id), answer).await
            }
            Entry::Http03(entry) => self.run_http03(entry, request, self.store(meter, id), answer).await,
            Entry::Plain { instance, handler, export } => {
                let (parts, body) = request.into_parts();
                let body = self.collect(body).await?;
                let mut store = self.store(meter, id);
                let instance = instance.instantiate_async(&mut store).await?;
                let response = plain::call(&mut store, &instance, handler, export, &parts, body).await?;
                give_answer(
                    &answer,
                    match response {
                        Ok(response) => Ok(response.map(Body::whole)),
                        Err(cause) => Err(Failure::InvalidResponse { cause }),
                    },
                );
                Ok(())
            }
        }
    }

    async fn run_http02(
        &self,
        entry: &ProxyPre<Host>,
        request: http::Request<Received>,
        secure: bool,
        mut store: Store<Host>,
        answer: Answer,
    ) -> Result<(), Stop> {
        let scheme = if secure { Scheme::Https } else { Scheme::Http };
        let request = store.data_mut().http().new_incoming_request(scheme, request).map_err(bad_request)?;
        let outparam = store.data_mut().http().new_response_outparam_from_callback(move |response| {
            give_answer(
                &answer,
                match response {
                    Ok(response) => Ok(response.map(Body::guest)),
                    Err(code) => Err(Failure::NoResponse {
                        cause: format!("the guest answered with the error {code:?}"),
                    }),
                },
            );
        })?;
        let proxy = entry.instantiate_async(&mut store).await?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, outparam).await?;
        Ok(())
    }

    async fn run_http03(
        &self,
        entry: &ServicePre<Host>,
        request: http::Request<Received>,
        mut store: Store<Host>,
        answer: Answer,
    ) -> Result<(), Stop> {
        let service = entry.instantiate_async(&mut store).await?;
        let (request, received) =
            wasmtime_wasi_http::p3::Request::from_http(store.data_mut().http().hooks, request);
        store
            .run_concurrent(async move |accessor| -> Result<(), Error> {
                match service.handle(accessor, request).await? {
                    Ok(response) => {
                        let response: Response<WasiBody> =
                            accessor.with(|access| response.into_http(access, received))?;
                        give_answer(&answer, Ok(response.map(Body::guest)));
                    }
                    Err(code) => give_answer(
                        &answer,
                        Err(Failure::NoResponse {
                            cause: format!("the guest answered with the error {code:?}"),
                        }),
                    ),
                }
                // The guest goes on after its response: it streams the body.
                std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
                Ok(())
            })
            .await
            .flatten()?;
        Ok(())
    }

    /// A fresh store with the request's allowance and clocks.
    fn store(&self, meter: Arc<Meter>, id: Arc<str>) -> Store<Host> {
        let engine = match &self.entry {
            Entry::Http02(entry) => entry.engine(),
            Entry::Http03(entry) => entry.engine(),
            Entry::Plain { instance, .. } => instance.engine(),
        };
        let ticked = Arc::clone(&meter);
        let mut store = Store::new(engine, Host::new(&self.limits, meter, id));
        store.limiter(|host| &mut host.allowance);
        store.set_hostcall_fuel(PLAIN_RESPONSE_BYTES_MAX);
        store.set_epoch_deadline(1);
        // Past the budget: stop. Within it: let other requests of this thread run, then go on.
        store.epoch_deadline_callback(move |_| {
            ticked.tick()?;
            Ok(UpdateDeadline::Yield(1))
        });
        store
    }

    /// A plain handler gets its body whole; `None` when the request has none.
    async fn collect(&self, body: Received) -> Result<Option<Bytes>, Stop> {
        use http_body::Body as _;
        if body.is_end_stream() {
            return Ok(None);
        }
        let limit_bytes = self.limits.request_body_bytes;
        let too_large = || Stop::Refused(Failure::RequestTooLarge { limit_bytes });
        if body.size_hint().lower() > limit_bytes {
            return Err(too_large());
        }
        match Limited::new(body, usize::try_from(limit_bytes).unwrap_or(usize::MAX)).collect().await {
            Ok(collected) => Ok(Some(collected.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(error) => Err(Stop::Refused(Failure::BadRequest {
                cause: format!("the body could not be read: {error}"),
            })),
        }
    }
}

/// The response, once there is one. The guest leaves it here in the middle of a poll and is polled by the same
/// task that looks for it, so the lock is never waited for.
type Answer = Arc<Mutex<Option<Result<Response<Body>, Failure>>>>;

fn give_answer(answer: &Answer, response: Result<Response<Body>, Failure>) {
    *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
}

fn has_answer(answer: &Answer) -> bool {
    answer.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

fn take_answer(answer: &Answer) -> Option<Result<Response<Body>, Failure>> {
    answer.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Why a guest did not run to its end.
enum Stop {
    /// The engine's word.
    Engine(Error),
    /// We said no before it ran.
    Refused(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

fn bad_request(error: Error) -> Stop {
    Stop::Refused(Failure::BadRequest { cause: error.to_string() })
}

/// Records a request's end exactly once, also when its future is dropped half-way.
struct Ending<R: Recorder> {
    service: Arc<Service>,
    meter: Arc<Meter>,
    recorder: Option<R>,
}

impl<R: Recorder> Ending<R> {
    fn end(mut self, ended: Result<Result<(), Stop>, WallSpent>) -> Result<(), Failure> {
        let outcome = match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Stop::Refused(failure))) => Err(failure),
            Ok(Err(Stop::Engine(error))) => {
                let Service { limits, pool, parts, .. } = &*self.service;
                Err(Failure::sort(&error, limits, *pool, self.meter.denied_bytes(), parts))
            }
            Err(WallSpent) => Err(Failure::Deadline {
                limit: Limit::Wall(self.service.limits.wall),
                place: Place::default(),
            }),
        };
        self.record(outcome.clone().map(|()| true));
        outcome
    }

    fn record(&mut self, outcome: Result<bool, Failure>) {
        if let Some(recorder) = self.recorder.take() {
            let bill = Bill {
                wall: self.meter.wall(),
                cpu: self.meter.spent(),
                memory_bytes: self.meter.memory_bytes(),
            };
            recorder.record(Record { outcome, bill });
        }
    }
}

impl<R: Recorder> Drop for Ending<R> {
    fn drop(&mut self) {
        self.record(Ok(false));
    }
}
