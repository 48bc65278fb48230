//! Who has the engines look at the guests that run, twice a millisecond.
//!
//! A thread does, but where that wakes in the middle of a request, Linux goes on with whoever has had less of the processor: a
//! guest that runs long, and the request waits until the next tick. So where requests are served, the kernel interrupts the
//! serving thread instead, and nobody is scheduled. The ticker only watches that these ticks are made.
//!
//! Where no guest runs there are no such ticks: the one that finds none is the last, and the next guest has them go on. A
//! guest that runs is found by a tick all the same, for it is counted before it looks whether there are ticks, and whoever makes
//! the last one looks for it after having said that there are none.

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, compiler_fence,
};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::Lanes;
use crate::meter::{TICK, nanos};
use crate::running::{self, Running};
use crate::schedule;

/// How often the ticker looks whether the interrupted thread makes the ticks.
const WATCH: Duration = Duration::from_millis(10);

/// A thread of this process is interrupted: no second one is.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
/// Whether the next tick is on its way; also where no thread is interrupted, and nobody can have one made.
static IS_DUE: AtomicBool = AtomicBool::new(true);

/// A guest runs from now on, as long as what comes back is there, and is looked at.
pub(crate) fn look_at_me() -> Running {
    let running = Running::begin();
    if !IS_DUE.load(SeqCst) {
        make_due();
    }
    running
}

/// Has the next tick made, if nobody else does.
fn make_due() {
    if IS_DUE.compare_exchange(false, true, SeqCst, SeqCst).is_ok() {
        timer::set();
    }
}

/// Has no further tick made, unless a guest runs: one that began meanwhile has seen that a tick was due, and waits for it.
fn rest() {
    IS_DUE.store(false, SeqCst);
    if running::is_any() {
        make_due();
    }
}

/// Ticks of an engine that an interrupted thread makes.
#[derive(Debug, Default)]
pub(crate) struct Interrupted {
    /// There is such a thread.
    is_on: AtomicBool,
    made: AtomicU64,
    /// How often one was the last for now.
    rests: AtomicU64,
}

/// What the ticker has seen of them.
#[derive(Default)]
struct Seen {
    made: u64,
    rests: u64,
    due: bool,
}

impl Interrupted {
    fn see(&self) -> Seen {
        Seen { made: self.made.load(Relaxed), rests: self.rests.load(Relaxed), due: IS_DUE.load(Relaxed) }
    }

    /// Whether the ticker has to tick itself, having seen this a while ago: where no thread is interrupted, or that one hardly runs.
    fn is_late(&self, before: &Seen, now: &Seen, wait: Duration) -> bool {
        if !self.is_on.load(Relaxed) {
            return true;
        }
        // All the time there were ticks to be made, and less than half of them were.
        let all_the_time = before.due && now.due && before.rests == now.rests;
        all_the_time && (now.made - before.made).saturating_mul(2) < nanos(wait) / nanos(TICK)
    }
}

/// Ticks the engines from a thread of its own, so that a guest which keeps a worker busy is still looked at; while another thread
/// is interrupted to do so, only watches it. Dropping the sender ends it.
pub(crate) fn start_ticker(lanes: Weak<Lanes>) -> std::io::Result<SyncSender<()>> {
    let (alive, ended) = sync_channel::<()>(1);
    std::thread::Builder::new().name("tenon-ticker".into()).spawn(move || {
        // It has to look at a guest that keeps the very processor busy which it wakes on, and does not interrupt a request.
        schedule::set(0, schedule::SLICE_PROMPT);
        let mut seen = Seen::default();
        let mut wait = TICK;
        while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let Some(lanes) = lanes.upgrade() else { return };
            let now = lanes.interrupted.see();
            let is_late = lanes.interrupted.is_late(&seen, &now, wait);
            if is_late {
                lanes.tick();
            }
            (seen, wait) = (now, if is_late { TICK } else { WATCH });
        }
    })?;
    Ok(alive)
}

/// While it is there, the kernel interrupts the thread that made it for each tick, with the first real-time signal (`SIGRTMIN`): system
/// calls that it is in go on where they can, and others fail with `EINTR`. Where no guest runs there are no ticks.
pub struct Interrupts {
    _timer: timer::Timer,
    /// What the interrupted thread ticks.
    lanes: Arc<Lanes>,
    /// It is of the thread that made it.
    _stays: PhantomData<*const ()>,
}

thread_local! {
    /// The engines that this thread ticks when it is interrupted; null where it does not.
    static TICKED: AtomicPtr<Lanes> = const { AtomicPtr::new(ptr::null_mut()) };
}

impl Interrupts {
    /// `None` where the system has no such timer, or a thread of this process is interrupted already.
    pub(crate) fn start(lanes: &Arc<Lanes>) -> Option<Self> {
        if IS_TAKEN.swap(true, SeqCst) {
            return None;
        }
        tick(Arc::as_ptr(lanes).cast_mut());
        match timer::Timer::start() {
            Ok(timer) => {
                let interrupts = Self { _timer: timer, lanes: Arc::clone(lanes), _stays: PhantomData };
                lanes.interrupted.is_on.store(true, Relaxed);
                rest();
                Some(interrupts)
            }
            Err(error) => {
                tick(ptr::null_mut());
                IS_TAKEN.store(false, SeqCst);
                tracing::warn!(%error, "ticks are made by a thread, and short requests wait for long ones at times");
                None
            }
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        // The timer goes after this, and finds nothing to tick meanwhile.
        tick(ptr::null_mut());
        IS_DUE.store(true, SeqCst);
        self.lanes.interrupted.is_on.store(false, Relaxed);
    }
}

/// Has this thread tick these engines, or none, when it is interrupted from now on.
fn tick(lanes: *mut Lanes) {
    TICKED.with(|ticked| ticked.store(lanes, Relaxed));
    compiler_fence(SeqCst);
}

mod timer {
    use std::io;
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicI32;
    use std::sync::atomic::Ordering::{Relaxed, SeqCst};

    use super::{IS_TAKEN, TICKED, rest};
    use crate::meter::{TICK, nanos};
    use crate::running;

    /// No timer.
    const NONE: i32 = -1;
    /// The kernel's number of the timer there is.
    static TIMER: AtomicI32 = AtomicI32::new(NONE);

    /// A timer of the kernel's that interrupts one thread. timer_create(2), without the C library: its own names of timers may be
    /// memory that is gone with the timer, and another thread may be about to set it then.
    pub(super) struct Timer(i32);

    impl Timer {
        /// One for the thread that calls, which interrupts it when it is set.
        #[expect(unsafe_code, reason = "system calls that no library wraps")]
        pub(super) fn start() -> io::Result<Self> {
            let signal = install()?;
            // SAFETY: a `sigevent` is numbers and pointers, for which zeros are values.
            let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            // SAFETY: gettid(2) has no arguments and cannot fail.
            event.sigev_notify_thread_id = unsafe { libc::gettid() };
            let mut timer = NONE;
            // SAFETY: both point to values that live until after the call, which keeps no pointer to them.
            let made = unsafe {
                libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
            };
            done(made)?;
            TIMER.store(timer, SeqCst);
            Ok(Self(timer))
        }
    }

    impl Drop for Timer {
        #[expect(unsafe_code, reason = "a system call that no library wraps")]
        fn drop(&mut self) {
            TIMER.store(NONE, SeqCst);
            // SAFETY: the timer is this value's, and was not deleted before.
            unsafe { libc::syscall(libc::SYS_timer_delete, self.0) };
            IS_TAKEN.store(false, SeqCst);
        }
    }

    /// Has the timer interrupt its thread once, a tick from now. It may be called between any two instructions.
    #[expect(unsafe_code, reason = "a system call that no library wraps")]
    pub(super) fn set() {
        let tick = libc::timespec { tv_sec: 0, tv_nsec: nanos(TICK) as libc::c_long };
        let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let times = libc::itimerspec { it_interval: once, it_value: tick };
        let error = libc_error();
        // SAFETY: it points to this thread's number of the last error, which is there as long as the thread is.
        let before = unsafe { error.read() };
        // SAFETY: `times` lives until after the call, and nothing is wanted back. Where the timer is gone meanwhile the call fails,
        // or sets the one that came after it, which is of this kind: a tick more.
        unsafe {
            libc::syscall(
                libc::SYS_timer_settime,
                TIMER.load(SeqCst),
                0,
                &raw const times,
                ptr::null_mut::<libc::itimerspec>(),
            )
        };
        // SAFETY: as above. Whoever was interrupted may be about to read it.
        unsafe { error.write(before) };
    }

    /// Where the C library keeps the number of this thread's last error. errno(3)
    #[expect(unsafe_code, reason = "a function of the C library that no library wraps")]
    fn libc_error() -> *mut libc::c_int {
        // SAFETY: it has no arguments and cannot fail.
        unsafe { libc::__errno_location() }
    }

    /// Has the signal handled, once for the process; which it is.
    #[expect(unsafe_code, reason = "a signal's handler")]
    fn install() -> io::Result<libc::c_int> {
        static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
        let signal = libc::SIGRTMIN();
        let install = || {
            // SAFETY: a `sigaction` is numbers and a pointer, for which zeros are values.
            let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
            action.sa_sigaction = interrupted as extern "C" fn(libc::c_int) as libc::sighandler_t;
            // On the stack for signals: a guest's own may be nearly full. Calls that were interrupted go on.
            action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
            // SAFETY: the same, and `before` lives until after the call, which changes nothing.
            let mut before: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
            // SAFETY: as above.
            done(unsafe { libc::sigaction(signal, ptr::null(), &raw mut before) }.into())?;
            if before.sa_sigaction != libc::SIG_DFL {
                return Err(io::Error::other("the program has another use for the signal"));
            }
            // SAFETY: `action` lives until after the call. The handler does only what may be done between any two
            // instructions: see there.
            done(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }.into())
        };
        match INSTALLED.get_or_init(|| install().map_err(|error| error.to_string())) {
            Ok(()) => Ok(signal),
            Err(why) => Err(io::Error::other(why.clone())),
        }
    }

    /// Interrupts whatever the thread does, so it takes no lock, allocates nothing, and calls nothing of the system but what may
    /// be called then (timer_settime(2), signal-safety(7)).
    #[expect(unsafe_code, reason = "it cannot be handed a reference")]
    extern "C" fn interrupted(_: libc::c_int) {
        // SAFETY: null, or a pointer into an `Arc` that `Interrupts` holds, which is this thread's and sets it to null before it lets
        // go. Whoever else sends the signal reaches a thread that ticks, or one that has null here.
        let Some(lanes) = (unsafe { TICKED.with(|ticked| ticked.load(Relaxed)).as_ref() }) else { return };
        lanes.interrupted.made.fetch_add(1, Relaxed);
        lanes.tick();
        if running::is_any() {
            set();
            return;
        }
        lanes.interrupted.rests.fetch_add(1, Relaxed);
        rest();
    }

    fn done(code: libc::c_long) -> io::Result<()> {
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::meter::thread_cpu_ns;

    /// Ticks that were made by interrupts while this thread did something.
    fn made(lanes: &Lanes, act: impl FnOnce()) -> u64 {
        let before = lanes.interrupted.see().made;
        act();
        lanes.interrupted.see().made - before
    }

    /// For so long on the processor, whatever else the machine does.
    fn spin(time: Duration) {
        let until = thread_cpu_ns() + nanos(time);
        while thread_cpu_ns() < until {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_thread_that_is_interrupted_ticks_whatever_it_does_and_no_longer_than_it_should() {
        let lanes = Arc::new(Lanes::default());
        let time = Duration::from_millis(200);
        let guest = look_at_me();
        assert_eq!(made(&lanes, || spin(time)), 0);
        let interrupts = Interrupts::start(&lanes).unwrap();
        assert!(Interrupts::start(&lanes).is_none(), "one is enough");
        assert!(made(&lanes, || spin(time)) > 100, "while it computes");
        assert!(made(&lanes, || std::thread::sleep(time)) > 0, "while it sleeps");

        // Guests of other tests may run all the while: as soon as none does.
        drop(guest);
        let since = Instant::now();
        while lanes.interrupted.see().rests == 0 && since.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(lanes.interrupted.see().rests > 0, "it rests where no guest runs");
        let guest = std::thread::spawn(look_at_me).join().unwrap();
        assert!(made(&lanes, || spin(time)) > 100, "a guest of any thread has the ticks go on");

        drop(interrupts);
        assert_eq!(Arc::strong_count(&lanes), 1);
        assert_eq!(made(&lanes, || spin(time)), 0);
        assert!(Interrupts::start(&lanes).is_some(), "another one can follow");
        drop(guest);
    }

    #[test]
    fn the_ticker_ticks_where_nobody_else_does() {
        let interrupted = Interrupted::default();
        let seen = |made, rests, due| Seen { made, rests, due };
        let is_late = |before, now| interrupted.is_late(&before, &now, WATCH);
        assert!(is_late(seen(0, 0, false), seen(0, 0, false)), "no thread is interrupted");
        interrupted.is_on.store(true, Relaxed);
        assert!(is_late(seen(5, 3, true), seen(14, 3, true)), "9 of 20");
        assert!(!is_late(seen(5, 3, true), seen(15, 3, true)), "10 of 20");
        assert!(!is_late(seen(5, 3, true), seen(6, 4, true)), "it rested");
        assert!(!is_late(seen(5, 3, false), seen(5, 3, true)), "a guest has only begun");
        assert!(!is_late(seen(5, 3, false), seen(5, 3, false)), "none runs");
    }
}
