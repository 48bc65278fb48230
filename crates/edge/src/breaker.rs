//! A breaker for a revision that keeps failing: while it is open, requests are refused at once instead of failing dearly.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tenon_engine::Failure;

use crate::clock::nanos;
use crate::count::Outcome;

/// The breaker opens when so many requests in a row have failed in the guest.
pub(crate) const FAILURES_IN_A_ROW: u32 = 20;
/// How long it stays open at first; each probe that fails doubles it.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest that it stays open before it is probed.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: AtomicU32,
    /// When a probe may be made; zero while the breaker is closed.
    probe_at_ns: AtomicU64,
    probing: AtomicBool,
    /// Probes that failed since it opened.
    probes: AtomicU32,
    /// How often it has opened.
    opened: AtomicU64,
}

/// What a request is to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// One of many.
    Ordinary,
    /// The one that finds out whether the app works again.
    Probe,
}

/// How a request with a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Crashed,
    /// In a way that says nothing about the app.
    Otherwise,
}

impl Ended {
    /// What a guest's run says: to its end, broken off, or with a failure. It speaks for a rest that the guest failed by itself, or
    /// made a response that cannot be sent; one that answers with an error may only hand on what was wrong with the request.
    pub(crate) fn of(ended: &Result<bool, Failure>) -> Self {
        match ended {
            Ok(true) => Self::Well,
            Err(Failure::InvalidResponse { .. }) => Self::Crashed,
            Err(failure) if Outcome::of_failure(failure).is_crash() => Self::Crashed,
            Ok(false) | Err(_) => Self::Otherwise,
        }
    }
}

impl Breaker {
    /// A pass, which has to be [returned](Self::ended).
    ///
    /// # Errors
    /// While it is open: how long until it is probed.
    pub(crate) fn pass(&self, now_ns: u64) -> Result<Pass, Duration> {
        match self.probe_at_ns.load(Relaxed) {
            0 => Ok(Pass::Ordinary),
            at if at > now_ns => Err(Duration::from_nanos(at - now_ns)),
            _ if self.probing.swap(true, Relaxed) => Err(PAUSE),
            _ => Ok(Pass::Probe),
        }
    }

    /// The request of a pass is over.
    pub(crate) fn ended(&self, pass: Pass, ended: Ended, now_ns: impl FnOnce() -> u64) {
        match (pass, ended) {
            (Pass::Ordinary, Ended::Well) => {
                if self.failures.load(Relaxed) != 0 {
                    self.failures.store(0, Relaxed);
                }
            }
            (Pass::Ordinary, Ended::Crashed) => {
                let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
                if failures == FAILURES_IN_A_ROW {
                    self.probes.store(0, Relaxed);
                    self.opened.fetch_add(1, Relaxed);
                    self.open(now_ns(), PAUSE);
                }
            }
            (Pass::Ordinary, Ended::Otherwise) => {}
            (Pass::Probe, Ended::Well) => {
                self.failures.store(0, Relaxed);
                self.probe_at_ns.store(0, Relaxed);
                self.probing.store(false, Relaxed);
            }
            (Pass::Probe, Ended::Crashed) => {
                let probes = self.probes.fetch_add(1, Relaxed).saturating_add(1);
                self.open(now_ns(), (PAUSE * 2_u32.saturating_pow(probes.min(16))).min(PAUSE_MAX));
                self.probing.store(false, Relaxed);
            }
            (Pass::Probe, Ended::Otherwise) => self.probing.store(false, Relaxed),
        }
    }

    fn open(&self, now_ns: u64, pause: Duration) {
        self.probe_at_ns.store(now_ns.saturating_add(nanos(pause)).max(1), Relaxed);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.probe_at_ns.load(Relaxed) != 0
    }

    /// How often it has opened, be it closed again or not.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND_NS;

    fn crash(breaker: &Breaker, now_ns: u64) -> Option<Pass> {
        let pass = breaker.pass(now_ns).ok()?;
        breaker.ended(pass, Ended::Crashed, || now_ns);
        Some(pass)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_a_probe_that_went_well() {
        let breaker = Breaker::default();
        for _ in 1..FAILURES_IN_A_ROW {
            crash(&breaker, 5);
        }
        breaker.ended(Pass::Ordinary, Ended::Well, || 5);
        for _ in 1..FAILURES_IN_A_ROW {
            crash(&breaker, 5);
        }
        breaker.ended(Pass::Ordinary, Ended::Otherwise, || 5);
        assert!(!breaker.is_open());
        assert_eq!(crash(&breaker, 5), Some(Pass::Ordinary));
        assert!(breaker.is_open());
        assert_eq!(breaker.pass(5), Err(PAUSE));

        let at = 5 + SECOND_NS;
        assert_eq!(breaker.pass(at), Ok(Pass::Probe));
        assert_eq!(breaker.pass(at), Err(PAUSE), "one probe at a time");
        breaker.ended(Pass::Probe, Ended::Otherwise, || at);
        assert_eq!(crash(&breaker, at), Some(Pass::Probe));
        assert_eq!(breaker.pass(at), Err(2 * PAUSE));
        assert_eq!(breaker.pass(at + 2 * SECOND_NS), Ok(Pass::Probe));
        breaker.ended(Pass::Probe, Ended::Well, || at);
        assert_eq!(breaker.pass(at), Ok(Pass::Ordinary));
        assert_eq!((breaker.is_open(), breaker.opened()), (false, 1), "that it was open stays known");
    }

    #[test]
    fn it_is_probed_twice_a_minute_at_least() {
        let breaker = Breaker::default();
        let mut now_ns = 1;
        for _ in 0..FAILURES_IN_A_ROW + 40 {
            if let Err(wait) = breaker.pass(now_ns) {
                assert!(wait <= PAUSE_MAX);
                now_ns += nanos(wait);
            }
            crash(&breaker, now_ns);
        }
    }
}
