//! One reading of the clock for a request: what is counted over time is counted in nanoseconds since the process began
//! to serve, which fit an atomic.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A second, in nanoseconds.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// A moment, both ways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Nanoseconds since the process began to serve.
    pub(crate) ns: u64,
}

impl Now {
    pub(crate) fn read() -> Self {
        // First, so that nothing is before it.
        let began = *BEGAN;
        let instant = Instant::now();
        Self { instant, ns: nanos(instant.saturating_duration_since(began)) }
    }
}

/// Time since the process began to serve: what [`Slot::last_used`](crate::Slot::last_used) is told in.
pub fn since_start() -> Duration {
    Duration::from_nanos(Now::read().ns)
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
