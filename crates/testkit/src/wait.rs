//! Waiting for a condition instead of for a while.

use std::time::{Duration, Instant};

/// Asks again and again until `found` answers, and panics, naming `what`, when `deadline` passes first.
pub fn until<T>(what: &str, deadline: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(5);
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        std::thread::sleep(PAUSE);
    }
}
