//! Who has the engines look at the guests that run, twice a millisecond.
//!
//! A thread does, but where that wakes in the middle of a request, Linux goes on with whoever has had less of the processor: a
//! guest that runs long, and the request waits until the next tick. So where requests are served, the kernel interrupts the
//! serving thread instead, and nobody is scheduled. The ticker only watches that these ticks are made.

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, compiler_fence};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::Lanes;
use crate::meter::{TICK, nanos};
use crate::schedule;

/// How often the ticker looks whether the interrupted thread makes the ticks.
const WATCH: Duration = Duration::from_millis(10);

/// Ticks that an interrupted thread has made.
#[derive(Debug, Default)]
pub(crate) struct Interrupted(AtomicU64);

impl Interrupted {
    fn made(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Ticks the engines from a thread of its own, so that a guest which keeps a worker busy is still looked at; while another thread
/// is interrupted to do so, only watches it. Dropping the sender ends it.
pub(crate) fn start_ticker(lanes: Weak<Lanes>) -> std::io::Result<SyncSender<()>> {
    let (alive, ended) = sync_channel::<()>(1);
    std::thread::Builder::new().name("tenon-ticker".into()).spawn(move || {
        // It has to look at a guest that keeps the very processor busy which it wakes on, and does not interrupt a request.
        schedule::set(0, schedule::SLICE_PROMPT);
        let mut seen = 0;
        let mut wait = TICK;
        while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let Some(lanes) = lanes.upgrade() else { return };
            let made = lanes.interrupted.made();
            // Fewer than half of those that were due: the interrupted thread hardly runs, if there is one.
            let few = (made - seen).saturating_mul(2) < nanos(wait) / nanos(TICK);
            if few {
                lanes.tick();
            }
            (seen, wait) = (made, if few { TICK } else { WATCH });
        }
    })?;
    Ok(alive)
}

/// While it is there, the kernel interrupts the thread that made it for each tick, with the first real-time signal (`SIGRTMIN`): system
/// calls that it is in go on where they can, and others fail with `EINTR`.
pub struct Interrupts {
    _timer: timer::Timer,
    /// What the interrupted thread ticks.
    _lanes: Arc<Lanes>,
    /// It is of the thread that made it.
    _stays: PhantomData<*const ()>,
}

thread_local! {
    /// The engines that this thread ticks when it is interrupted; null where it does not.
    static TICKED: AtomicPtr<Lanes> = const { AtomicPtr::new(ptr::null_mut()) };
}

impl Interrupts {
    /// `None` where the system has no such timer, or this thread is interrupted already.
    pub(crate) fn start(lanes: &Arc<Lanes>) -> Option<Self> {
        if !TICKED.with(|ticked| ticked.load(Relaxed)).is_null() {
            return None;
        }
        tick(Arc::as_ptr(lanes).cast_mut());
        match timer::Timer::start() {
            Ok(timer) => Some(Self { _timer: timer, _lanes: Arc::clone(lanes), _stays: PhantomData }),
            Err(error) => {
                tick(ptr::null_mut());
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
    use std::sync::atomic::Ordering::Relaxed;

    use super::TICKED;
    use crate::meter::{TICK, nanos};

    /// A timer of the kernel's that interrupts one thread. timer_create(2)
    pub(super) struct Timer(libc::timer_t);

    impl Timer {
        /// One for the thread that calls.
        #[expect(unsafe_code, reason = "system calls that no library wraps")]
        pub(super) fn start() -> io::Result<Self> {
            let signal = install()?;
            // SAFETY: a `sigevent` is numbers and pointers, for which zeros are values.
            let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal;
            // SAFETY: gettid(2) has no arguments and cannot fail.
            event.sigev_notify_thread_id = unsafe { libc::gettid() };
            let mut timer = ptr::null_mut();
            // SAFETY: both point to values that live until after the call, which keeps no pointer to them.
            done(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) })?;
            let timer = Self(timer);
            let tick = libc::timespec { tv_sec: 0, tv_nsec: nanos(TICK) as libc::c_long };
            let times = libc::itimerspec { it_interval: tick, it_value: tick };
            // SAFETY: the timer was just made; `times` lives until after the call, and nothing is wanted back.
            done(unsafe { libc::timer_settime(timer.0, 0, &raw const times, ptr::null_mut()) })?;
            Ok(timer)
        }
    }

    impl Drop for Timer {
        #[expect(unsafe_code, reason = "a system call that no library wraps")]
        fn drop(&mut self) {
            // SAFETY: the timer is this value's, and was not deleted before.
            unsafe { libc::timer_delete(self.0) };
        }
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
            done(unsafe { libc::sigaction(signal, ptr::null(), &raw mut before) })?;
            if before.sa_sigaction != libc::SIG_DFL {
                return Err(io::Error::other("the program has another use for the signal"));
            }
            // SAFETY: `action` lives until after the call. The handler does only what may be done between any two
            // instructions: see there.
            done(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })
        };
        match INSTALLED.get_or_init(|| install().map_err(|error| error.to_string())) {
            Ok(()) => Ok(signal),
            Err(why) => Err(io::Error::other(why.clone())),
        }
    }

    /// Interrupts whatever the thread does, so it takes no lock, allocates nothing and calls nothing of the system.
    #[expect(unsafe_code, reason = "it cannot be handed a reference")]
    extern "C" fn interrupted(_: libc::c_int) {
        // SAFETY: null, or a pointer into an `Arc` that `Interrupts` holds, which is this thread's and sets it to null before it lets
        // go. Whoever else sends the signal reaches a thread that ticks, or one that has null here.
        let Some(lanes) = (unsafe { TICKED.with(|ticked| ticked.load(Relaxed)).as_ref() }) else { return };
        lanes.interrupted.0.fetch_add(1, Relaxed);
        lanes.tick();
    }

    fn done(code: libc::c_int) -> io::Result<()> {
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::thread_cpu_ns;

    /// Ticks that were made by interrupts while this thread did something.
    fn made(lanes: &Lanes, act: impl FnOnce()) -> u64 {
        let before = lanes.interrupted.made();
        act();
        lanes.interrupted.made() - before
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
        assert_eq!(made(&lanes, || spin(time)), 0);
        let interrupts = Interrupts::start(&lanes).unwrap();
        assert!(Interrupts::start(&lanes).is_none(), "one is enough");
        assert!(made(&lanes, || spin(time)) > 100, "while it computes");
        assert!(made(&lanes, || std::thread::sleep(time)) > 0, "while it sleeps");
        drop(interrupts);
        assert_eq!(Arc::strong_count(&lanes), 1);
        assert_eq!(made(&lanes, || spin(time)), 0);
        assert!(Interrupts::start(&lanes).is_some(), "another one can follow");
    }
}
