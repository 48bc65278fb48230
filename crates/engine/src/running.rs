//! Whether any guest of this process is on a processor: whoever looks at guests need not where there is none.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// So many threads count each by itself; further ones together with one of those.
const COUNTS: usize = 16;

/// What one thread counts, in a cache line that no other thread writes to.
#[repr(align(128))]
struct Count(AtomicUsize);

static RUNNING: [Count; COUNTS] = [const { Count(AtomicUsize::new(0)) }; COUNTS];

thread_local! {
    static MINE: &'static Count = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        &RUNNING[THREADS.fetch_add(1, Relaxed) % COUNTS]
    };
}

/// A guest that runs, as long as this is there.
pub(crate) struct Running(&'static Count);

impl Running {
    /// Whoever finds out after this whether one is running finds this one.
    pub(crate) fn begin() -> Self {
        let mine = MINE.with(|mine| *mine);
        mine.0.fetch_add(1, SeqCst);
        Self(mine)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

/// Whether a guest runs now. It may be called between any two instructions.
pub(crate) fn is_any() -> bool {
    RUNNING.iter().any(|count| count.0.load(SeqCst) > 0)
}
