//! Where guests go that run long: threads of a lower priority, so that requests which are short do not wait behind them.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};

use crate::meter::Meter;

/// How much lower: such a thread gets about a quarter of a busy processor, and all of an idle one.
const NICE: i32 = 5;
/// What such a thread asks to run for in one piece, the most that Linux grants. Whoever wakes and asks for less takes
/// the processor from it at once (since Linux 6.12), instead of after the three milliseconds that are the rule. It is not
/// given more for that, nor less.
const SLICE: Duration = Duration::from_millis(100);

/// The threads, started when the first guest has run long.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    runtime: OnceLock<Option<Runtime>>,
}

impl Aside {
    /// Whether there is such a place: if its threads cannot be started, guests stay where they are.
    pub(crate) fn is_open(&self) -> bool {
        self.runtime().is_some()
    }

    /// Runs a future there that nobody waits for.
    pub(crate) fn leave(&self, future: impl Future<Output = ()> + Send + 'static) {
        match self.runtime() {
            Some(runtime) => drop(runtime.spawn(future)),
            None => drop(tokio::spawn(future)),
        }
    }

    /// Runs a future where it is called, and from when its guest has run long, there.
    ///
    /// # Errors
    /// When it panicked there, or the threads were stopped.
    pub(crate) async fn finish<F>(&self, mut future: F, meter: &Meter) -> Result<F::Output, JoinError>
    where
        F: Future<Output: Send> + Send + Unpin + 'static,
    {
        let here = poll_fn(|context| match Pin::new(&mut future).poll(context) {
            Poll::Pending if meter.is_long() && self.is_open() => Poll::Ready(None),
            polled => polled.map(Some),
        });
        if let Some(output) = here.await {
            return Ok(output);
        }
        match self.runtime() {
            Some(runtime) => Remote(runtime.spawn(future)).wait().await,
            None => Ok(future.await),
        }
    }

    /// Runs a future there, which ends with whoever waits for it.
    pub(crate) fn run<F>(&self, future: F) -> Option<Remote<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime().map(|runtime| Remote(runtime.spawn(future)))
    }

    fn runtime(&self) -> Option<&Runtime> {
        let start = || {
            Builder::new_multi_thread()
                .worker_threads(std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
                .thread_name("tenon-aside")
                .on_thread_start(step_back)
                .enable_all()
                .build()
                .inspect_err(|error| tracing::warn!(%error, "long requests stay among the short ones"))
                .ok()
        };
        self.runtime.get_or_init(start).as_ref()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed where this may happen: inside another runtime.
        if let Some(runtime) = self.runtime.take().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of the thread that calls it. Where the system refuses, the thread shares as all others do.
fn step_back() {
    #[expect(clippy::cast_possible_truncation, reason = "a structure of 48 bytes")]
    let attributes = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: libc::SCHED_OTHER as u32,
        nice: NICE,
        runtime: SLICE.as_nanos() as u64,
        ..SchedAttr::default()
    };
    #[expect(unsafe_code, reason = "a system call that no library wraps")]
    // SAFETY: sched_setattr(2) reads `size` bytes of the structure, which lives until after the call, and keeps no
    // pointer to it. Thread 0 is the one that calls.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } != 0;
    if refused {
        // A kernel that does not let a thread choose its slice. Of this thread alone, on Linux.
        let _ = rustix::process::nice(NICE);
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

/// What runs there; stopped when this is dropped.
pub(crate) struct Remote<T>(JoinHandle<T>);

impl<T> Remote<T> {
    /// Its result.
    ///
    /// # Errors
    /// When it panicked, or the threads were stopped.
    pub(crate) async fn wait(mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for Remote<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
