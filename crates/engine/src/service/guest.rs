//! A guest under way: how far it came, what it answered, and where it goes on.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::Response;

use super::Service;
use super::ending::Ending;
use crate::failure::Failure;
use crate::meter::{CutOff, Meter, Metered};
use crate::respond::{Body, Watch};
use crate::reuse::Sandbox;
use crate::stop::Stop;

/// From aside, a sandbox is back later than its client can ask again, so the next request may find none at rest. That
/// is worth it only for guests that run really long; until then they yield at every tick like any other.
const LONG_IN_SANDBOX_USED_AGAIN: Duration = Duration::from_millis(10);

/// Whether a guest has run for so long that it is to go on elsewhere.
fn is_long(meter: &Meter, service: &Service) -> bool {
    meter.is_long() && (service.resting.is_none() || meter.spent() >= LONG_IN_SANDBOX_USED_AGAIN)
}

/// A guest under way. Its sandbox goes back to the pool before the request stops counting as running: fields are dropped
/// in their order.
pub(super) struct Guest<F> {
    pub(super) run: Metered<F>,
    pub(super) answer: Answer,
    pub(super) ending: Ending,
}

/// What a guest is polled for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    ForAnswer,
    ForEnd,
}

/// Whether a guest that runs long is to go on elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MayLeave {
    Yes,
    No,
}

/// How far a guest came.
pub(super) enum Step {
    Ended(Result<Result<Option<Sandbox>, Stop>, CutOff>),
    /// There is an answer, and the guest goes on.
    Answered,
    /// It has run for long, and there is a place for those.
    Long,
}

impl<F> Guest<F>
where
    F: Future<Output = Result<Option<Sandbox>, Stop>> + Send + 'static,
{
    pub(super) async fn step(&mut self, waits: Waits, may_leave: MayLeave) -> Step {
        let Self { run, answer, ending } = self;
        std::future::poll_fn(|context| match Pin::new(&mut *run).poll(context) {
            Poll::Ready(ended) => Poll::Ready(Step::Ended(ended)),
            Poll::Pending if waits == Waits::ForAnswer && answer.is_given() => Poll::Ready(Step::Answered),
            Poll::Pending
                if may_leave == MayLeave::Yes
                    && is_long(&ending.meter, &ending.service)
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
    pub(super) fn answer(self, step: Step) -> Given {
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
/// What a guest answered.
pub(super) type Given = Result<Response<Body>, Failure>;

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
    pub(super) fn give(&self, response: Given) {
        self.once.store(true, Relaxed);
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
        self.watch.news.notify_one();
    }

    pub(super) fn was_given(&self) -> bool {
        self.once.load(Relaxed)
    }

    pub(super) fn is_given(&self) -> bool {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn take(&self) -> Option<Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pub(super) fn no_response() -> Given {
    Err(Failure::NoResponse { cause: "the guest returned without a response".into() })
}
