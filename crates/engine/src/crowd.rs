//! A sandbox that answers several requests of wasi:http 0.3 at once.
//!
//! It runs as a task of its own, which owns the store; requests enter it, wait for what becomes of them, and leave. What
//! cannot be told apart inside of one sandbox is shared: processor time is billed in equal parts to the requests that
//! are in it, log lines carry the ids of the first of them, and a failure of the guest ends all of them. A request that runs
//! out of time, or whose client goes away, closes the sandbox: nobody enters any more, the others may finish.
//!
//! It is the sandbox that has a place of the pool, from the first request in it to the last. An empty one waits for a while, and
//! makes [room](crate::room) when a place is asked for.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread::{ThreadId, current};
use std::time::Duration;

use tenon_model::Reuse;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};
use wasmtime::Error;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3;

use crate::account::Account;
use crate::crash::{CrashFrame, CrashLine};
use crate::engine::Guard;
use crate::failure::{Failure, Limit};
use crate::host::Host;
use crate::meter::Meter;
use crate::received::{Counted, Lent};
use crate::reuse::REST;
use crate::room::{AtRest, Claim, Claimed, Idle, Rests};
use crate::service::Answer;

/// Requests whose ids a log line carries; of further ones it says how many.
const IDS_MAX: usize = 4;

/// What a request brings into a sandbox.
pub(crate) struct Job {
    pub(crate) request: http::Request<Counted<Lent>>,
    pub(crate) seat: Arc<Seat>,
}

/// A request that is in a sandbox.
pub(crate) struct Seat {
    pub(crate) id: Arc<str>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) answer: Answer,
    /// Why the sandbox ended under it, if it did.
    end: Mutex<Option<End>>,
}

/// How a sandbox ended under the requests that were in it.
#[derive(Clone)]
pub(crate) struct End {
    pub(crate) failure: Failure,
    pub(crate) stack: Vec<CrashFrame>,
    pub(crate) lines: Vec<CrashLine>,
}

impl Seat {
    pub(crate) fn new(id: Arc<str>, meter: Arc<Meter>, answer: Answer) -> Arc<Self> {
        Arc::new(Self { id, meter, answer, end: Mutex::default() })
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ended(&self, end: End) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        // The body must not look whole, whoever asks first.
        self.answer.watch.failed.store(true, Relaxed);
        self.answer.watch.news.notify_one();
    }
}

/// One sandbox and the requests in it.
pub(crate) struct Crowd {
    reuse: Reuse,
    /// The thread that runs it. Requests of other threads have sandboxes of their own, or all would share one processor.
    home: ThreadId,
    /// Counts for all of them: processor time goes to each in equal parts.
    pub(crate) meter: Arc<Meter>,
    idle: Arc<Idle>,
    state: Mutex<State>,
}

/// What a sandbox with requests in it holds: a place of the pool, where those are counted.
struct Place(#[expect(dead_code, reason = "held until it is dropped")] Option<Claimed>);

struct State {
    inside: Vec<Arc<Seat>>,
    entering: Vec<Job>,
    entered: u32,
    closed: bool,
    /// Nothing of the guest is left running.
    quiet: bool,
    /// Who is in it has changed since the guest was last told.
    changed: bool,
    /// Since when it has been empty.
    empty_since: Instant,
    /// While requests are in it.
    place: Option<Place>,
    /// While none is, until its store is gone.
    at_rest: Option<AtRest>,
    /// Whether its store is gone.
    gone: bool,
    /// The task that owns the store, and the future inside of the engine's loop.
    wakers: [Option<Waker>; 2],
}

impl Crowd {
    fn new(reuse: Reuse, guard: Guard, account: Option<Arc<Account>>, idle: &Arc<Idle>) -> Arc<Self> {
        let state = State {
            inside: Vec::new(),
            entering: Vec::new(),
            entered: 0,
            closed: false,
            quiet: true,
            changed: false,
            empty_since: Instant::now(),
            place: None,
            at_rest: None,
            gone: false,
            wakers: [None, None],
        };
        // Its budget is those of the requests in it.
        let meter = Meter::shared(guard, account);
        let idle = Arc::clone(idle);
        Arc::new(Self { reuse, home: current().id(), meter, idle, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, unless it is full or closed. Whoever is the first in it brings a place.
    fn enter(self: &Arc<Self>, job: &mut Option<Job>, place: &mut Option<Place>) -> Option<Inside> {
        let mut state = self.state();
        if !state.has_room(self.reuse) || (state.inside.is_empty() && place.is_none()) {
            return None;
        }
        let job = job.take()?;
        if state.inside.is_empty() {
            state.place = place.take();
            state.at_rest = None;
        }
        state.entered += 1;
        state.closed = state.entered >= self.reuse.requests;
        state.quiet = false;
        state.changed = true;
        let seat = Arc::clone(&job.seat);
        // Whoever waited for the guest to be done need not any more.
        state.inside.iter().for_each(|seat| seat.answer.watch.news.notify_one());
        state.inside.push(Arc::clone(&seat));
        state.entering.push(job);
        self.share(&mut state);
        state.wake();
        Some(Inside { crowd: Arc::clone(self), seat, well: false })
    }

    /// After one has left, or all: a sandbox without requests has no place, only what it takes until it is asked for. What
    /// comes back is given back without the lock.
    #[must_use]
    fn left(&self, state: &mut State) -> Option<Place> {
        if !state.inside.is_empty() {
            return None;
        }
        if !state.gone && state.at_rest.is_none() {
            state.at_rest = Some(self.idle.one());
        }
        state.place.take()
    }

    /// Its store is gone.
    pub(crate) fn gone(&self) {
        let mut state = self.state();
        state.gone = true;
        let told = (state.at_rest.take(), state.place.take());
        drop(state);
        drop(told);
    }

    /// Closes it if nobody is in it, so that it is taken down at once; whether it did.
    fn close(&self) -> bool {
        let mut state = self.state();
        let closes = state.rests();
        if closes {
            state.closed = true;
            state.wake();
        }
        closes
    }

    /// Tells the meter between whom time is divided from now on.
    fn share(&self, state: &mut State) {
        self.meter.share(state.inside.iter().map(|seat| Arc::clone(&seat.meter)).collect());
    }

    /// Whose sandbox it is, while it is made.
    pub(crate) fn first_id(&self) -> Arc<str> {
        self.state().inside.first().map_or_else(|| "".into(), |seat| Arc::clone(&seat.id))
    }

    /// Whether the sandbox is of no use any more: closed and left by everybody, or empty for too long.
    pub(crate) fn is_over(&self, context: &mut Context<'_>, rest: &mut Pin<Box<Sleep>>) -> bool {
        let mut state = self.state();
        state.wakers[0] = Some(context.waker().clone());
        if !state.inside.is_empty() {
            return false;
        }
        if !state.closed {
            let until = state.empty_since + REST;
            if rest.deadline() != until {
                rest.as_mut().reset(until);
            }
            state.closed = rest.as_mut().poll(context).is_ready();
        }
        state.closed
    }

    /// Ends the requests that are still in it.
    pub(crate) fn end(&self, end: Option<End>) {
        let mut state = self.state();
        state.closed = true;
        state.entering.clear();
        let inside = std::mem::take(&mut state.inside);
        self.share(&mut state);
        let place = self.left(&mut state);
        drop(state);
        drop(place);
        for seat in inside {
            let end = end.clone().unwrap_or_else(|| End {
                failure: Failure::Internal { cause: "the sandbox ended early".into() },
                stack: Vec::new(),
                lines: Vec::new(),
            });
            seat.meter.memory_used(self.meter.memory_bytes());
            // There is one copy of the guest's memory, for one report.
            if let Some(dump) = self.meter.trail.take_core_dump() {
                seat.meter.trail.keep_core_dump(dump);
            }
            seat.ended(end);
        }
    }

    /// What runs inside of the engine's loop: takes in who enters, and goes on until the sandbox is taken down.
    /// `answer` answers one request.
    pub(crate) async fn run<'a, F>(
        &'a self,
        accessor: &'a Accessor<Host>,
        answer: impl Fn(Job) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>> + 'a,
    {
        let mut running: Vec<Pin<Box<F>>> = Vec::new();
        std::future::poll_fn(|context| {
            loop {
                let entering = self.take_entering(context.waker(), accessor);
                let entered = !entering.is_empty();
                running.extend(entering.into_iter().map(|job| Box::pin(answer(job))));
                let mut index = 0;
                while let Some(future) = running.get_mut(index) {
                    match future.as_mut().poll(context) {
                        Poll::Pending => index += 1,
                        Poll::Ready(Ok(())) => drop(running.swap_remove(index)),
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    }
                }
                if !entered {
                    break;
                }
            }
            let quiet = running.is_empty() && accessor.poll_no_interesting_tasks(context).is_ready();
            self.set_quiet(quiet, accessor);
            Poll::Pending
        })
        .await
    }

    fn take_entering(&self, waker: &Waker, accessor: &Accessor<Host>) -> Vec<Job> {
        let mut state = self.state();
        state.wakers[1] = Some(waker.clone());
        let entering = std::mem::take(&mut state.entering);
        if std::mem::take(&mut state.changed) && !state.inside.is_empty() {
            let mut ids: Vec<&str> = state.inside.iter().take(IDS_MAX).map(|seat| &*seat.id).collect();
            let more = format!("+{}", state.inside.len().saturating_sub(IDS_MAX));
            if state.inside.len() > IDS_MAX {
                ids.push(&more);
            }
            let ids: Arc<str> = ids.join(",").into();
            let (anew, alone) = (!entering.is_empty(), state.inside.len() == entering.len());
            accessor.with(|mut access| access.data_mut().renew_among(&ids, anew, alone));
        }
        entering
    }

    fn set_quiet(&self, quiet: bool, accessor: &Accessor<Host>) {
        // What becomes of a socket of 0.3 cannot be told from outside, so it could not be counted on.
        let opened_sockets = quiet && accessor.with(|mut access| access.data_mut().opened_sockets());
        let mut state = self.state();
        state.closed |= opened_sockets;
        // One may have come in meanwhile.
        let quiet = quiet && state.entering.is_empty();
        if quiet && !state.quiet {
            for seat in &state.inside {
                seat.answer.watch.news.notify_one();
            }
        }
        state.quiet = quiet;
    }
}

impl State {
    fn has_room(&self, reuse: Reuse) -> bool {
        !self.closed && self.inside.len() < reuse.concurrent as usize
    }

    /// Whether it is there for a request that may come.
    fn rests(&self) -> bool {
        !self.closed && self.inside.is_empty()
    }

    fn wake(&mut self) {
        for waker in self.wakers.iter().flatten() {
            waker.wake_by_ref();
        }
    }
}

/// A request's being in a sandbox, until this is dropped. Unless it went [well](Inside::well), nobody enters after it.
pub(crate) struct Inside {
    crowd: Arc<Crowd>,
    pub(crate) seat: Arc<Seat>,
    well: bool,
}

impl Inside {
    /// Whether the guest goes on with something that this request has to answer for: it may be its own.
    pub(crate) fn is_last_to_wait(&self) -> bool {
        let state = self.crowd.state();
        state.inside.len() == 1 && !state.quiet
    }

    /// Leaves after all went well.
    pub(crate) fn well(mut self) {
        self.well = true;
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.seat.meter.memory_used(self.crowd.meter.memory_bytes());
        self.seat.answer.watch.cut_off_request();
        let mut state = self.crowd.state();
        state.inside.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
        state.entering.retain(|job| !Arc::ptr_eq(&job.seat, &self.seat));
        state.closed |= !self.well;
        state.changed = true;
        state.empty_since = Instant::now();
        self.crowd.share(&mut state);
        let place = self.crowd.left(&mut state);
        state.wake();
        drop(state);
        drop(place);
    }
}

/// The sandboxes of one service that requests can enter.
pub(crate) struct Crowds {
    idle: Arc<Idle>,
    all: Mutex<Vec<Arc<Crowd>>>,
    /// Told when somebody has entered one that nobody was in.
    opened: Notify,
}

impl Crowds {
    pub(crate) fn new(idle: &Arc<Idle>) -> Arc<Self> {
        let crowds = Arc::new(Self { idle: Arc::clone(idle), all: Mutex::default(), opened: Notify::new() });
        let service: Weak<Self> = Arc::downgrade(&crowds);
        idle.know(service);
        crowds
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Crowd>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request on this thread would come to others, into a sandbox that has a place already.
    pub(crate) fn have_room(&self, reuse: Reuse) -> bool {
        let here = current().id();
        self.all().iter().filter(|crowd| crowd.home == here).any(|crowd| {
            let state = crowd.state();
            state.has_room(reuse) && !state.inside.is_empty()
        })
    }

    /// Waits until somebody enters one on this thread that nobody was in, and more may.
    pub(crate) async fn open(&self, reuse: Reuse) {
        loop {
            self.opened.notified().await;
            if self.have_room(reuse) {
                return;
            }
        }
    }

    /// Lets a request into a sandbox that has room: to others, else into an empty one, else into a new one, which is
    /// returned too: it has to be run. Where nobody else is in it, a place is claimed for it.
    pub(crate) fn enter(
        &self,
        job: Job,
        reuse: Reuse,
        guard: Guard,
        pool: u32,
        claim: Option<Claim>,
    ) -> Result<(Inside, Option<Arc<Crowd>>), Failure> {
        let mut crowds = self.all();
        crowds.retain(|crowd| !crowd.state().closed);
        // All its requests are of one app, and so of one account.
        let account = job.seat.meter.account().cloned();
        let (mut job, mut place) = (Some(job), None);
        if let Some(inside) = enter_one(&crowds, &mut job, &mut place) {
            return Ok((inside, None));
        }
        place = Some(Place(match claim {
            Some(claim) => Some(claim().ok_or_else(|| full(pool))?),
            None => None,
        }));
        // They look when this is over: on this thread, or behind the lock.
        self.opened.notify_waiters();
        if let Some(inside) = enter_one(&crowds, &mut job, &mut place) {
            return Ok((inside, None));
        }
        let crowd = Crowd::new(reuse, guard, account, &self.idle);
        let Some(inside) = crowd.enter(&mut job, &mut place) else {
            return Err(Failure::Internal { cause: "a new sandbox lets nobody in".into() });
        };
        crowds.push(Arc::clone(&crowd));
        Ok((inside, Some(crowd)))
    }
}

impl Rests for Crowds {
    fn resting(&self) -> usize {
        self.all().iter().filter(|crowd| crowd.state().rests()).count()
    }

    fn give_up(&self, most: usize) -> usize {
        let mut empty: Vec<_> = {
            let crowds = self.all();
            let resting = crowds.iter().filter_map(|crowd| {
                let state = crowd.state();
                state.rests().then(|| (state.empty_since, Arc::clone(crowd)))
            });
            resting.collect()
        };
        empty.sort_by_key(|(since, _)| *since);
        // One that somebody has entered meanwhile stays.
        empty.iter().filter(|(_, crowd)| crowd.close()).take(most).count()
    }
}

/// Lets a request into the first of these that lets it in, of those of this thread.
fn enter_one(crowds: &[Arc<Crowd>], job: &mut Option<Job>, place: &mut Option<Place>) -> Option<Inside> {
    let here = current().id();
    crowds.iter().filter(|crowd| crowd.home == here).find_map(|crowd| crowd.enter(job, place))
}

/// Who claims a place that there is none of: others came to it first.
fn full(pool: u32) -> Failure {
    Failure::PoolExhausted {
        limit: Limit::Pool(pool),
        cause: "all places of the tenant's share are taken, and the sandbox that had room has none any more"
            .into(),
    }
}

/// The service that a sandbox calls.
pub(crate) type Handler = p3::bindings::Service;

/// A sleep that somebody sets.
pub(crate) fn unset_sleep() -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(Duration::ZERO))
}
