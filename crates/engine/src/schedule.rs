//! How Linux schedules the threads that have to give way, and those that must not wait.
//!
//! A thread asks for slices of time. Whoever wakes and asks for shorter ones than the thread that runs takes the processor from
//! it at once, instead of after the three milliseconds that are the rule (since Linux 6.12). It gets no more of the
//! processor for that, and no less.

use std::time::Duration;

/// The longest slice that Linux grants.
pub(crate) const SLICE_MAX: Duration = Duration::from_millis(100);
/// Of those that must not wait. Less than Linux grants by itself (0.7 ms on one core, more on several), and more than most requests
/// take: until it is over, nobody who wakes with a longer one or the same takes the processor away. Whoever did would not give it
/// back to the request, but to a guest that runs long, which has had less of it.
pub(crate) const SLICE_PROMPT: Duration = Duration::from_micros(500);

/// `SCHED_FLAG_RESET_ON_FORK` of sched_setattr(2): what is set is of this thread alone.
const RESET_ON_FORK: u64 = 1;
/// How much lower than others a thread is that gives way: it gets about a tenth of a processor that short requests keep busy, and all
/// of an idle one.
///
/// It also decides who goes on after another thread has interrupted a short request: Linux lets nobody go on who is ahead of the
/// average of all that run, weighed by their priorities. With less of a difference the average is so far from the request
/// that a guest that runs long has the processor until the next tick.
const NICE: i32 = 10;
/// The lowest priority.
const NICE_MAX: i32 = 19;

/// Has the thread that calls it take the processor at once when it has something to do, from threads that work on for longer
/// and may wait: bringing an app into memory, taking one down, writing records. It gets no more of the processor for that.
/// Threads that it starts do not: they are of that kind.
pub fn serve_promptly() {
    set_with(0, SLICE_PROMPT, RESET_ON_FORK);
}

/// Has the thread that calls it give way to all others that have something to do, as guests do that run long: for what nobody waits for.
pub fn give_way() {
    set(NICE, SLICE_MAX);
}

/// Has the thread that calls it run with a priority that is so much lower than it had, in slices of this length.
/// Where the system refuses, the thread shares as all others do.
pub(crate) fn set(lower: i32, slice: Duration) {
    set_with(lower, slice, 0);
}

fn set_with(lower: i32, slice: Duration, flags: u64) {
    let nice = rustix::process::getpriority_process(None).unwrap_or(0).saturating_add(lower).min(NICE_MAX);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a structure of 48 bytes, and nanoseconds of a slice"
    )]
    let attributes = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags,
        nice,
        runtime: slice.as_nanos() as u64,
        ..SchedAttr::default()
    };
    #[expect(unsafe_code, reason = "a system call that no library wraps")]
    // SAFETY: sched_setattr(2) reads `size` bytes of the structure, which lives until after the call, and keeps no
    // pointer to it. Thread 0 is the one that calls.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if refused {
        // A kernel that does not let a thread choose its slice. Of this thread alone, on Linux.
        let _ = rustix::process::nice(lower);
    }
}

/// How Linux schedules a thread: `struct sched_attr` of sched_setattr(2), as of its first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// Nanoseconds.
    runtime: u64,
    deadline: u64,
    period: u64,
}
