//! Requests that are in one sandbox together.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::Response;
use wasmtime::Error;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttpView};

use super::ending::Ending;
use super::guest::Answer;
use super::{Entry, Incoming, Service, answered_with, bad_request, complete_uri};
use crate::crash::{core_dump, stack};
use crate::crowd::{Crowd, Crowds, End, Handler, Inside, Job, Seat, unset_sleep};
use crate::failure::Failure;
use crate::host::Host;
use crate::meter::{CutOff, Metered};
use crate::respond::Body;
use crate::stop::{self, Stop};
use crate::store;

impl Service {
    /// Serves one request in a sandbox that others may be in.
    pub(super) async fn serve_among(
        self: &Arc<Self>,
        crowds: &Crowds,
        incoming: Incoming,
        answer: Answer,
        mut ending: Ending,
    ) -> Result<Response<Body>, Failure> {
        let Incoming { mut request, id, secure, claim, .. } = incoming;
        let until = ending.meter.until(self.limits.wall);
        let entered = async {
            complete_uri(&mut request, secure).map_err(bad_request)?;
            let request = self.counted(request, &answer).await?;
            let seat = Seat::new(id, Arc::clone(&ending.meter), answer.clone());
            let job = Job { request, seat };
            crowds.enter(job, self.reuse, self.guard, self.pool, claim).map_err(Stop::Refused)
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
            let (aside, meter) = (Arc::clone(&self.aside), Arc::clone(&crowd.meter));
            let run = Box::pin(Arc::clone(self).run_crowd(crowd));
            // It says itself how it ended; a panic is told where requests wait for it.
            tokio::spawn(async move { aside.finish(run, &meter).await });
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
        /// Nobody is left waiting when the task ends early, with its runtime. Dropped after the store.
        struct Ended(Arc<Crowd>);

        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.end(None);
                self.0.gone();
            }
        }

        let ended = Ended(Arc::clone(&crowd));
        let Entry::Http03(entry) = &self.entry else { return };
        let fresh = || self.store(entry.engine(), Arc::clone(&crowd.meter), crowd.first_id());
        let mut store = fresh();
        let running = async {
            let mut tries = self.idle.tries();
            let handler = loop {
                match entry.instantiate_async(&mut store).await {
                    Ok(handler) => break handler,
                    Err(error) => {
                        // What it holds already, it does not keep while it waits.
                        store = fresh();
                        if !tries.again(&error).await {
                            return Err(Stop::Start(error));
                        }
                    }
                }
            };
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
        store::ended(&store);
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
