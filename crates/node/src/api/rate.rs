//! How often somebody may ask.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Those who are remembered; when there are more, those who asked long ago are forgotten.
const KNOWN_MAX: usize = 10_000;

/// A rate for each of many.
pub(super) struct Rate<K> {
    per_second: f64,
    burst: f64,
    left: Mutex<HashMap<K, (f64, Instant)>>,
}

impl<K: Hash + Eq> Rate<K> {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second.into(), burst: burst.into(), left: Mutex::default() }
    }

    /// Counts one more, or says when it is worth trying again.
    pub(super) fn take(&self, who: K, now: Instant) -> Result<(), Duration> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let full_after = Duration::from_secs_f64(self.burst / self.per_second);
        if left.len() >= KNOWN_MAX && !left.contains_key(&who) {
            left.retain(|_, (_, at)| now.duration_since(*at) < full_after);
            if left.len() >= KNOWN_MAX {
                // More than can be told apart: then all of them are one.
                left.clear();
            }
        }
        let (tokens, at) = left.entry(who).or_insert((self.burst, now));
        *tokens = (*tokens + now.duration_since(*at).as_secs_f64() * self.per_second).min(self.burst);
        *at = now;
        if *tokens >= 1.0 {
            *tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - *tokens) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate_for_each() {
        let rate = Rate::new(10, 3);
        let now = Instant::now();
        let take = |who, millis| rate.take(who, now + Duration::from_millis(millis)).is_ok();
        assert_eq!([take("a", 0), take("a", 0), take("a", 0), take("a", 0)], [true, true, true, false]);
        assert!(take("b", 0));
        assert!(!take("a", 99) && take("a", 250) && take("a", 250) && !take("a", 250));
    }
}
