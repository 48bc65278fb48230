//! How much processor time a guest has used, and the two clocks that stop it.
//!
//! A guest is billed for the time spent inside polls of its future: waiting is free, looping is not. A poll that
//! ends within one tick is timed by the monotonic clock alone, which costs no system call; from the first tick
//! that finds a guest running, its polls are timed by the thread's processor clock, so a guest is not billed for
//! the time its thread was off the processor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::account::Account;
use crate::crash::{Trail, enter};
use crate::engine::Guard;
use crate::tick;

/// How often a running guest is looked at. A guest past its budget is stopped within one tick.
pub(crate) const TICK: Duration = Duration::from_micros(500);

/// Raised inside a guest that has used up its processor time.
#[derive(Debug, thiserror::Error)]
#[error("the guest used up its processor time")]
pub(crate) struct CpuSpent;

/// One request's use of the processor. Written by the thread that polls the guest, read by anybody.
#[derive(Debug)]
pub(crate) struct Meter {
    guard: Guard,
    budget_ns: u64,
    /// Finished polls, in nanoseconds.
    spent_ns: AtomicU64,
    /// Where the running poll began: on the thread's processor clock when `exact`, else on the monotonic one.
    poll_began_ns: AtomicU64,
    exact: AtomicBool,
    /// The running poll has been looked at before.
    ticked: AtomicBool,
    /// The guest has run for longer than a tick.
    long: AtomicBool,
    began: Instant,
    memory_bytes: AtomicU64,
    /// What the guest asked for when it was last refused memory; zero when it never was.
    memory_denied_bytes: AtomicU64,
    /// What the guest asked for when it was last refused growth of a memory beyond that memory's own maximum, and that
    /// maximum; zero when it never was.
    own_memory_denied_bytes: AtomicU64,
    own_memory_max_bytes: AtomicU64,
    /// The most elements that there may be, where the guest was last refused elements of a table; zero when it was not, or
    /// has been given some since.
    tables_denied_at: AtomicU64,
    /// Whether that was the most of one table.
    one_table_denied: AtomicBool,
    /// Of a sandbox that several requests are in at once: whom its time is billed to, in equal parts.
    sharers: Option<Mutex<Vec<Arc<Meter>>>>,
    /// Whose use of the machine it is, together with others.
    account: Option<Arc<Account>>,
    /// Whether it was the account that had no memory left, when the guest was last refused some.
    account_full: AtomicBool,
    /// What the request leaves for its crash report.
    pub(crate) trail: Arc<Trail>,
}

impl Meter {
    pub(crate) fn new(budget: Duration, guard: Guard) -> Arc<Self> {
        Self::billed(budget, guard, None)
    }

    /// The same, counted in an account too.
    pub(crate) fn billed(budget: Duration, guard: Guard, account: Option<Arc<Account>>) -> Arc<Self> {
        Arc::new(Self { account, ..Self::with(nanos(budget), guard, None) })
    }

    /// A meter of a sandbox that several requests are in at once: it has no budget but theirs.
    /// Its memory is the account's; its time is counted in those of who shares it.
    pub(crate) fn shared(guard: Guard, account: Option<Arc<Account>>) -> Arc<Self> {
        Arc::new(Self { account, ..Self::with(u64::MAX, guard, Some(Mutex::default())) })
    }

    fn with(budget_ns: u64, guard: Guard, sharers: Option<Mutex<Vec<Arc<Meter>>>>) -> Self {
        Self {
            guard,
            budget_ns,
            spent_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            exact: AtomicBool::new(false),
            ticked: AtomicBool::new(false),
            long: AtomicBool::new(false),
            began: Instant::now(),
            memory_bytes: AtomicU64::new(0),
            memory_denied_bytes: AtomicU64::new(0),
            own_memory_denied_bytes: AtomicU64::new(0),
            own_memory_max_bytes: AtomicU64::new(0),
            tables_denied_at: AtomicU64::new(0),
            one_table_denied: AtomicBool::new(false),
            sharers,
            account: None,
            account_full: AtomicBool::new(false),
            trail: Arc::default(),
        }
    }

    /// Bills time to these from now on.
    pub(crate) fn share(&self, among: Vec<Arc<Meter>>) {
        if let Some(sharers) = &self.sharers {
            *sharers.lock().unwrap_or_else(PoisonError::into_inner) = among;
        }
    }

    /// Counts time; whether the budget, or that of one who shares it, is used up.
    fn spend(&self, ns: u64) -> bool {
        let spent = self.spent_ns.fetch_add(ns, Relaxed).saturating_add(ns);
        let Some(sharers) = &self.sharers else {
            if let Some(account) = &self.account {
                account.spend_cpu(ns);
            }
            return spent >= self.budget_ns;
        };
        let sharers = sharers.lock().unwrap_or_else(PoisonError::into_inner);
        // What runs when nobody is in the sandbox runs for nobody.
        let Some(part) = ns.checked_div(sharers.len() as u64) else { return true };
        // Each is billed, also after one whose budget is used up.
        sharers.iter().filter(|sharer| sharer.spend(part)).count() > 0
    }

    /// Whether the guest is held to limits and billed.
    pub(crate) fn guard(&self) -> Guard {
        self.guard
    }

    /// Processor time of finished polls.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent_ns.load(Relaxed))
    }

    /// When its time on the wall is over.
    pub(crate) fn until(&self, wall: Duration) -> Option<Instant> {
        self.began.checked_add(wall)
    }

    /// Time since the request was admitted.
    pub(crate) fn wall(&self) -> Duration {
        self.began.elapsed()
    }

    /// The moment at which its wall clock showed this.
    pub(crate) fn at(&self, wall: Duration) -> Instant {
        self.began.checked_add(wall).unwrap_or(self.began)
    }

    pub(crate) fn memory_used(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn memory_denied(&self, asked_bytes: u64) {
        self.memory_denied_bytes.store(asked_bytes, Relaxed);
    }

    /// The account that it is billed to, if there is one.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    pub(crate) fn set_account_full(&self, full: bool) {
        self.account_full.store(full, Relaxed);
    }

    /// What all of the account may hold together, where that is why the guest was last refused memory.
    pub(crate) fn full_account_bytes(&self) -> Option<u64> {
        let account = self.account.as_ref().filter(|_| self.account_full.load(Relaxed));
        account.map(|account| account.memory_max())
    }

    /// The most memory the guest had; linear memories never shrink.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Relaxed)
    }

    /// What the guest asked for when it was last refused memory, if it was.
    pub(crate) fn denied_bytes(&self) -> Option<u64> {
        Some(self.memory_denied_bytes.load(Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// A memory was not given more than its own maximum.
    pub(crate) fn own_memory_denied(&self, asked_bytes: u64, maximum_bytes: u64) {
        self.own_memory_denied_bytes.store(asked_bytes, Relaxed);
        self.own_memory_max_bytes.store(maximum_bytes, Relaxed);
    }

    /// What the guest asked of a memory when it was last refused more than that memory's own maximum, and the maximum.
    pub(crate) fn own_denied_bytes(&self) -> Option<(u64, u64)> {
        let asked = self.own_memory_denied_bytes.load(Relaxed);
        (asked > 0).then(|| (asked, self.own_memory_max_bytes.load(Relaxed)))
    }

    /// Elements of tables were refused, or given.
    pub(crate) fn set_tables_denied(&self, denied: Option<TablesDenied>) {
        let (at, one) = match denied {
            None => (0, false),
            Some(TablesDenied::All(most)) => (most, false),
            Some(TablesDenied::One(most)) => (most, true),
        };
        self.tables_denied_at.store(at, Relaxed);
        self.one_table_denied.store(one, Relaxed);
    }

    /// Why the guest was last refused elements of a table, if it was.
    pub(crate) fn tables_denied(&self) -> Option<TablesDenied> {
        let most = Some(self.tables_denied_at.load(Relaxed)).filter(|most| *most > 0)?;
        let one = self.one_table_denied.load(Relaxed);
        Some(if one { TablesDenied::One(most) } else { TablesDenied::All(most) })
    }

    /// Has the guest timed by the clock of its thread from its first poll on: for one that begins where its thread has to give way, and
    /// is off the processor in the middle of a poll. To be called before that.
    pub(crate) fn time_exactly(&self) {
        self.exact.store(true, Relaxed);
    }

    fn now_ns(&self) -> u64 {
        if self.exact.load(Relaxed) { thread_cpu_ns() } else { nanos(self.began.elapsed()) }
    }

    fn poll_begins(&self) {
        if !self.guard.billing {
            return;
        }
        self.ticked.store(false, Relaxed);
        self.poll_began_ns.store(self.now_ns(), Relaxed);
    }

    fn poll_ends(&self) {
        if !self.guard.billing {
            return;
        }
        let in_poll = self.now_ns().saturating_sub(self.poll_began_ns.load(Relaxed));
        self.spend(in_poll);
    }

    /// Whether the guest has run for longer than a tick: most never do. A sandbox with several requests in it has when it
    /// did not stop between two ticks: it lives long, and is not to be judged by the sum.
    pub(crate) fn is_long(&self) -> bool {
        self.long.load(Relaxed)
    }

    /// Called on the guest's own thread, within a poll, when a tick finds it running. Past the budget it is to stop;
    /// within it, it may have to let others have their turn.
    pub(crate) fn tick(&self) -> Result<Turn, CpuSpent> {
        if !self.guard.billing {
            return Ok(Turn::Over);
        }
        let in_poll = self.now_ns().saturating_sub(self.poll_began_ns.load(Relaxed));
        // Until now the poll was timed by the wall: what is more than the guest can have run since the last tick is
        // time its thread was off the processor.
        let in_poll = if self.exact.load(Relaxed) { in_poll } else { in_poll.min(2 * nanos(TICK)) };
        let used_up = self.spend(in_poll);
        // Timed by the wall, it may have been off the processor: that alone makes nobody long.
        let exact = self.exact.swap(true, Relaxed);
        self.poll_began_ns.store(self.now_ns(), Relaxed);
        if used_up {
            return Err(CpuSpent);
        }
        let ticked = self.ticked.swap(true, Relaxed);
        let long = exact
            && match self.sharers {
                Some(_) => ticked && in_poll >= nanos(TICK) / 2,
                None => self.spent_ns.load(Relaxed) >= nanos(TICK),
            };
        self.long.store(long, Relaxed);
        Ok(if long { Turn::Over } else { Turn::GoesOn })
    }
}

/// Which tables had no room for more elements, and how many they may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TablesDenied {
    /// All of the sandbox together.
    All(u64),
    /// A single one.
    One(u64),
}

/// Whether a guest that is found running may go on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It has only begun.
    GoesOn,
    /// It has had its share: others first.
    Over,
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What this thread was on the processor for.
pub(crate) fn thread_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Why a guest's future was not polled to its end.
#[derive(Debug)]
pub(crate) enum CutOff {
    /// The guest's time on the wall ran out.
    WallSpent,
    /// The host panicked while it served the guest.
    Panicked(String),
}

/// A guest's future under its meter and its deadline. The deadline stands outside the engine's own event loop,
/// which a guest can keep from running.
pub(crate) struct Metered<F> {
    future: Pin<Box<F>>,
    meter: Arc<Meter>,
    wall: Duration,
    /// Set when the guest first waits: most never do, and a timer is not free.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Away while the guest is polled: what it writes meanwhile is its own.
    trail: Option<Arc<Trail>>,
}

impl<F: Future> Metered<F> {
    pub(crate) fn new(future: F, meter: Arc<Meter>, wall: Duration) -> Self {
        let trail = Some(Arc::clone(&meter.trail));
        Self { future: Box::pin(future), meter, wall, deadline: None, trail }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = Result<F::Output, CutOff>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let running = tick::look_at_me();
        this.meter.poll_begins();
        enter(&mut this.trail);
        // A panic ends this request and no other. Nothing is used again that it could have left half-changed: the
        // store goes with the request.
        let polled = catch_unwind(AssertUnwindSafe(|| this.future.as_mut().poll(context)));
        enter(&mut this.trail);
        this.meter.poll_ends();
        drop(running);
        let polled = match polled {
            Ok(polled) => polled,
            Err(panic) => return Poll::Ready(Err(CutOff::Panicked(message(panic.as_ref())))),
        };
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Ok(output));
        }
        // A time that never comes is none.
        let Some(until) = this.meter.began.checked_add(this.wall) else { return Poll::Pending };
        let deadline = this.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
        deadline.as_mut().poll(context).map(|()| Err(CutOff::WallSpent))
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the host panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_poll_is_billed_and_stopped_and_a_waiting_one_is_not() {
        let meter = Meter::new(Duration::from_millis(20), Guard::default());
        meter.poll_begins();
        let began = Instant::now();
        let mut ticks = 0;
        while meter.tick().is_ok() {
            ticks += 1;
            let until = began + TICK * ticks;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
        meter.poll_ends();
        assert!(meter.spent() >= Duration::from_millis(20), "{:?}", meter.spent());

        let meter = Meter::new(Duration::from_millis(20), Guard::default());
        for _ in 0..3 {
            meter.poll_begins();
            meter.tick().unwrap();
            std::thread::sleep(Duration::from_millis(20));
            meter.tick().unwrap();
            meter.poll_ends();
        }
        assert!(
            meter.spent() < Duration::from_millis(20),
            "asleep is not on the processor: {:?}",
            meter.spent()
        );
    }
}
