//! A rate: so much a second, on average, and at most a second's worth beyond that at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::SECOND_NS;

/// Longer than anything runs; sums of it still fit.
const FOR_EVER_NS: u64 = u64::MAX / 4;

/// What is used of a rate, as one moment: when everything that was used is paid for, if nothing more is used. It is never
/// more than a second ahead when something is let through.
#[derive(Debug)]
pub(crate) struct Bucket {
    paid_at_ns: AtomicU64,
    per_second: AtomicU64,
}

impl Bucket {
    pub(crate) fn new(per_second: u64) -> Self {
        Self { paid_at_ns: AtomicU64::new(0), per_second: AtomicU64::new(per_second) }
    }

    /// Sets the rate. What was used beyond another one is not waited for at this one's pace.
    pub(crate) fn set_rate(&self, per_second: u64, now_ns: u64) {
        if self.per_second.swap(per_second, Relaxed) != per_second {
            self.paid_at_ns.fetch_min(now_ns + SECOND_NS, Relaxed);
        }
    }

    fn cost_ns(&self, amount: u64) -> u64 {
        let rate = self.per_second.load(Relaxed);
        let cost = match amount.checked_mul(SECOND_NS) {
            Some(ns) => ns.checked_div(rate),
            None => (u128::from(amount) * u128::from(SECOND_NS))
                .checked_div(rate.into())
                .and_then(|cost| u64::try_from(cost).ok()),
        };
        // Of nothing a second, anything takes for ever.
        cost.unwrap_or(FOR_EVER_NS).min(FOR_EVER_NS)
    }

    /// Uses `amount`, if it is there now.
    ///
    /// # Errors
    /// How long until it is.
    pub(crate) fn take(&self, amount: u64, now_ns: u64) -> Result<(), Duration> {
        let cost = self.cost_ns(amount);
        let until = |paid_at: u64| paid_at.max(now_ns).saturating_add(cost);
        let fits = |paid_at: u64| Some(until(paid_at)).filter(|paid_at| *paid_at <= now_ns + SECOND_NS);
        match self.paid_at_ns.fetch_update(Relaxed, Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(paid_at) => Err(Duration::from_nanos(until(paid_at).saturating_sub(now_ns + SECOND_NS))),
        }
    }

    /// Uses `amount`, whether it is there or not: what has been used cannot be refused.
    pub(crate) fn charge(&self, amount: u64, now_ns: u64) {
        if amount == 0 {
            return;
        }
        let cost = self.cost_ns(amount);
        let charged = |paid_at: u64| Some(paid_at.max(now_ns).saturating_add(cost));
        // It is never refused.
        let _ = self.paid_at_ns.fetch_update(Relaxed, Relaxed, charged);
    }

    /// Whether more was used than there was.
    ///
    /// # Errors
    /// How long until no more.
    pub(crate) fn check(&self, now_ns: u64) -> Result<(), Duration> {
        match self.paid_at_ns.load(Relaxed).saturating_sub(now_ns + SECOND_NS) {
            0 => Ok(()),
            ns => Err(Duration::from_nanos(ns)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_on_average_and_a_second_at_once() {
        let bucket = Bucket::new(10);
        let start = 5 * SECOND_NS;
        let takes = |now| (0..100).take_while(|_| bucket.take(1, now).is_ok()).count();
        assert_eq!(takes(start), 10);
        assert_eq!(bucket.take(1, start), Err(Duration::from_millis(100)));
        assert_eq!(takes(start + SECOND_NS / 2), 5);
        assert_eq!(takes(start + 100 * SECOND_NS), 10, "what is not used is not saved up");
    }

    #[test]
    fn what_was_used_beyond_it_is_waited_for() {
        let bucket = Bucket::new(1_000_000);
        bucket.charge(3_000_000, 0);
        assert_eq!(bucket.check(0), Err(Duration::from_secs(2)));
        assert_eq!(bucket.check(2 * SECOND_NS), Ok(()));
        let later = 100 * SECOND_NS;
        bucket.set_rate(0, later);
        assert!(bucket.take(1, later).is_err(), "nothing a second is nothing");
        bucket.charge(1, later);
        bucket.set_rate(5, later);
        assert_eq!(bucket.check(later), Ok(()), "it is not waited for for ever");
    }
}
