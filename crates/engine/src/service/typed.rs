//! Typed functions that requests call.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::Response;
use tenon_model::format_bytes;
use wasmtime::{AsContextMut as _, Error};

use super::guest::{Answer, Given};
use super::{Service, another_entry};
use crate::crash::{Called, core_dump};
use crate::failure::{Failure, Limit, Place};
use crate::gateway::{Callable, Gateway, Problem, Rejected, Route, Streamed, Taken, Unsent};
use crate::meter::Meter;
use crate::received::Received;
use crate::respond::Body;
use crate::reuse::{Made, Sandbox};
use crate::stop::{Stop, is_lift_error};
use crate::value::{Val, to_wave};

/// Arguments that came in more bytes than this are not kept for a crash report, not even where arguments are.
const ARGUMENTS_BYTES_MAX: usize = 16 << 10;

/// How a typed function returned.
enum Returned {
    /// With a result that is all there, or why it cannot be taken over.
    Whole(Result<Option<Val>, String>),
    /// With a stream, of which the response was made.
    Streamed,
}

impl Service {
    /// Calls the function that a request is for, or answers without one and without a sandbox.
    pub(super) async fn run_typed(
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
            Ok(Taken::Stream) => {
                self.note_called(function, &[], None, &meter);
                (Vec::new(), Some(self.counted_body(body, &answer).await?))
            }
            Ok(taken) => {
                let body = self.collect(body).await?;
                let bytes = body.as_ref().map_or(0, Bytes::len);
                match function.arguments(taken, body) {
                    Ok(arguments) => {
                        self.note_called(function, &arguments, Some(bytes), &meter);
                        (arguments, None)
                    }
                    Err(problem) => return refused(problem),
                }
            }
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
            callee.call(&mut *store, arguments).await.map(|result| Returned::Whole(Ok(result)))
        };
        if let Err(error) = &called {
            core_dump(error, store, &self.name);
            if answer.was_given() {
                // Before the store is gone, and with it the body: another thread may be looking at that.
                answer.watch.failed.store(true, Relaxed);
            }
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

    /// Keeps what is called, in case it fails: with its arguments where they are kept, which came in so many bytes. Those
    /// that come bit by bit are not there yet.
    fn note_called(&self, function: &Callable, arguments: &[Val], bytes: Option<usize>, meter: &Meter) {
        let Some(crashes) = &self.crashes else { return };
        let arguments = bytes.filter(|_| crashes.policy.keep_arguments).map(|bytes| {
            if bytes > ARGUMENTS_BYTES_MAX {
                return format!("left out: {}", format_bytes(bytes as u64));
            }
            format!("({})", arguments.iter().map(to_wave).collect::<Vec<_>>().join(", "))
        });
        meter.trail.keep_called(Called { function: Arc::clone(function.full_name()), arguments });
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
}
