//! How a new revision takes over, and when it is sent back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The most steps of a rollout.
pub const STEPS_MAX: usize = 20;

/// How surprising a difference between two equal revisions would have to be for a candidate to be sent back: see
/// [`surprise`]. The natural logarithm of 160,000: a rollout looks some hundred times, and no more than one in ten thousand
/// may end by chance.
const SURPRISE_MIN: f64 = 12.0;
/// So many failures are enough where there are too few requests for anything else, and most of them failed.
const MOSTLY_MIN: u64 = 3;

/// One step: this share of requests goes to the candidate for this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Of a hundred requests, those that go to the candidate.
    pub percent: u8,
    /// How long, before the next step.
    pub hold: Duration,
}

/// What requests of one client have in common, so that all of them see the same revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// The client's address.
    Address,
    /// A header field of this name; requests without it go by their address.
    Header(String),
    /// A cookie that the node sets.
    Cookie,
}

/// A request that is for the candidate whatever the share is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The header field, or the cookie, by its name.
    pub by: ChosenBy,
    /// What it has to say.
    pub value: String,
}

/// Where a request says that it is for the candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// In a header field of this name.
    Header(String),
    /// In a cookie of this name.
    Cookie(String),
}

/// The text does not say what keeps clients with one revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("clients are kept with one revision by `address`, by `cookie`, or by `header:NAME`")]
pub struct InvalidSticky;

/// The text does not say which requests are for the candidate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("requests are chosen by `header:NAME=VALUE` or by `cookie:NAME=VALUE`")]
pub struct InvalidChosen;

/// A name of a header field or a cookie: a token of RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl FromStr for Sticky {
    type Err = InvalidSticky;

    /// `address`, `cookie` or `header:NAME`.
    fn from_str(text: &str) -> Result<Self, InvalidSticky> {
        match (text, text.strip_prefix("header:")) {
            ("address", _) => Ok(Self::Address),
            ("cookie", _) => Ok(Self::Cookie),
            (_, Some(name)) if is_token(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            _ => Err(InvalidSticky),
        }
    }
}

impl fmt::Display for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Cookie => f.write_str("cookie"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl FromStr for Chosen {
    type Err = InvalidChosen;

    /// `header:NAME=VALUE` or `cookie:NAME=VALUE`.
    fn from_str(text: &str) -> Result<Self, InvalidChosen> {
        let (by, value) = text.split_once('=').ok_or(InvalidChosen)?;
        let by = match by.split_once(':') {
            Some(("header", name)) if is_token(name) => ChosenBy::Header(name.to_ascii_lowercase()),
            Some(("cookie", name)) if is_token(name) => ChosenBy::Cookie(name.to_owned()),
            _ => return Err(InvalidChosen),
        };
        Ok(Self { by, value: value.to_owned() })
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            ChosenBy::Header(name) => write!(f, "header:{name}={}", self.value),
            ChosenBy::Cookie(name) => write!(f, "cookie:{name}={}", self.value),
        }
    }
}

/// What the candidate may do worse than the stable revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// Failed requests of the candidate in a thousand, beyond those of the stable revision.
    pub errors_per_mille: u32,
    /// The candidate's p99 latency, in percent of the stable revision's.
    pub p99_percent: u32,
    /// Requests that the candidate must have answered before either is judged. A step in which it has fewer is over when its
    /// time is, unless most of them failed.
    pub samples: u64,
    /// This many failures of the guest (traps, out of memory, deadlines) within one look end the rollout without
    /// waiting for samples.
    pub crashes: u64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { errors_per_mille: 10, p99_percent: 200, samples: 100, crashes: 10 }
    }
}

/// How a candidate takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutPlan {
    /// The steps, with growing shares; after the last the candidate is the stable revision.
    pub steps: Vec<Step>,
    /// What keeps a client with one revision.
    pub sticky: Sticky,
    /// Requests that are for the candidate from the start.
    pub chosen: Option<Chosen>,
    /// When it is sent back.
    pub tolerance: Tolerance,
    /// Of a hundred requests that the stable revision answers, those that are copied to the candidate, whose answers are
    /// compared and thrown away.
    pub shadow_percent: u8,
}

impl RolloutPlan {
    /// Everything at once.
    pub fn at_once() -> Self {
        Self {
            steps: Vec::new(),
            sticky: Sticky::Address,
            chosen: None,
            tolerance: Tolerance::default(),
            shadow_percent: 0,
        }
    }

    /// Whether the candidate takes over with the deploy itself.
    pub fn is_at_once(&self) -> bool {
        self.steps.is_empty() && self.chosen.is_none() && self.shadow_percent == 0
    }
}

/// What a revision did since a step began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests that it answered, in whatever way.
    pub requests: u64,
    /// Those answered with a status of 500 or more.
    pub errors: u64,
    /// Those that failed in the guest: traps, out of memory, deadlines.
    pub crashes: u64,
    /// The latency that 99 of 100 requests were below, in microseconds.
    pub p99_us: u64,
}

/// What is to be done with a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is nothing against it.
    Go,
    /// It is worse than it may be, for this reason.
    Revert(Worse),
}

/// In what a candidate is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worse {
    /// It crashed this often at once.
    Crashes(u64),
    /// It failed more often: failed requests in a thousand, its own and the stable revision's.
    Errors {
        /// The candidate's.
        candidate: u64,
        /// The stable revision's.
        stable: u64,
    },
    /// It was hardly asked, and mostly failed.
    Mostly {
        /// Its failed requests.
        errors: u64,
        /// All of its requests.
        requests: u64,
    },
    /// It was slower: p99 in microseconds, its own and the stable revision's.
    Latency {
        /// The candidate's.
        candidate: u64,
        /// The stable revision's.
        stable: u64,
    },
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crashes(count) => write!(f, "it crashed {count} times"),
            Self::Errors { candidate, stable } => {
                write!(f, "{candidate} of 1,000 requests failed, of the stable revision {stable}")
            }
            Self::Mostly { errors, requests } => write!(f, "{errors} of its {requests} requests failed"),
            Self::Latency { candidate, stable } => {
                write!(f, "p99 was {candidate} µs, of the stable revision {stable} µs")
            }
        }
    }
}

/// Some of a revision's requests: those that failed, or those that took long.
#[derive(Clone, Copy, Debug)]
struct Share {
    some: u64,
    all: u64,
}

/// How surprising it is that so many of the `some` of both are the candidate's, if both revisions are equal: then each is the
/// candidate's as likely as any request is. The natural logarithm of one in how many, and rather too little than too much:
/// Chernoff's bound of the binomial distribution.
///
/// A share alone says little: the 99th of 100 requests is the second slowest, and a revision of which one request in a hundred
/// is slow has a p99 that is slow as often as not.
fn surprise(stable: Share, candidate: Share) -> f64 {
    let some = stable.some.saturating_add(candidate.some) as f64;
    let expected = candidate.all as f64 / candidate.all.saturating_add(stable.all).max(1) as f64;
    let found = candidate.some as f64 / some.max(1.0);
    if found <= expected {
        return 0.0;
    }
    let rest = match found < 1.0 {
        true => (1.0 - found) * ((1.0 - found) / (1.0 - expected)).ln(),
        false => 0.0,
    };
    some * (found * (found / expected).ln() + rest)
}

impl Tolerance {
    /// Compares what both did over the same time. `slower` says how many of the stable revision's requests and of the
    /// candidate's took longer than so many microseconds.
    pub fn judge(&self, stable: &Seen, candidate: &Seen, slower: impl FnOnce(u64) -> (u64, u64)) -> Verdict {
        let is_no_chance = |theirs: u64, ours: u64| {
            let stable = Share { some: theirs, all: stable.requests };
            surprise(stable, Share { some: ours, all: candidate.requests }) >= SURPRISE_MIN
        };
        if self.crashes > 0
            && candidate.crashes >= self.crashes
            && (stable.crashes == 0 || is_no_chance(stable.crashes, candidate.crashes))
        {
            return Verdict::Revert(Worse::Crashes(candidate.crashes));
        }
        if candidate.requests < self.samples.max(1) {
            return Verdict::Go;
        }
        let (ours, theirs) = (per_mille(candidate), per_mille(stable));
        if ours > theirs.saturating_add(u64::from(self.errors_per_mille))
            && self.fails_more(stable, candidate)
        {
            return Verdict::Revert(Worse::Errors { candidate: ours, stable: theirs });
        }
        // A stable revision that was hardly asked says nothing about latency.
        if self.p99_percent > 0 && stable.requests >= self.samples.max(1) {
            let bound = u128::from(stable.p99_us) * u128::from(self.p99_percent) / 100;
            let bound = u64::try_from(bound).unwrap_or(u64::MAX);
            if candidate.p99_us > bound {
                let (theirs, ours) = slower(bound);
                if is_no_chance(theirs, ours) {
                    return Verdict::Revert(Worse::Latency {
                        candidate: candidate.p99_us,
                        stable: stable.p99_us,
                    });
                }
            }
        }
        Verdict::Go
    }

    /// What is against a candidate at the end of a step in which it was asked too seldom to be [judged](Self::judge): that most
    /// of its few requests failed, and most of the stable revision's did not.
    pub fn judge_few(&self, stable: &Seen, candidate: &Seen) -> Verdict {
        let Seen { requests, errors, .. } = *candidate;
        let is_worse = is_mostly_failing(candidate) && !is_mostly_failing(stable);
        match requests < self.samples && errors >= MOSTLY_MIN && is_worse {
            true => Verdict::Revert(Worse::Mostly { errors, requests }),
            false => Verdict::Go,
        }
    }

    /// Whether it is no chance that the candidate fails more often than it may. What it may beyond the stable revision is added
    /// to what that did; one that was not asked is taken for one that never fails.
    fn fails_more(&self, stable: &Seen, candidate: &Seen) -> bool {
        if is_mostly_failing(candidate) && !is_mostly_failing(stable) {
            return true;
        }
        let all = if stable.requests == 0 { candidate.requests } else { stable.requests };
        let allowed = (u128::from(all) * u128::from(self.errors_per_mille)).div_ceil(1_000);
        let allowed = u64::try_from(allowed).unwrap_or(u64::MAX);
        let stable = Share { some: stable.errors.saturating_add(allowed).min(all), all };
        surprise(stable, Share { some: candidate.errors, all: candidate.requests }) >= SURPRISE_MIN
    }
}

fn is_mostly_failing(seen: &Seen) -> bool {
    seen.errors > seen.requests / 2
}

/// Failed requests in a thousand.
fn per_mille(seen: &Seen) -> u64 {
    let per_mille = u128::from(seen.errors) * 1_000 / u128::from(seen.requests.max(1));
    u64::try_from(per_mille).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(requests: u64, errors: u64, p99_us: u64) -> Seen {
        Seen { requests, errors, crashes: 0, p99_us }
    }

    #[test]
    fn stickiness_and_choice_are_read_as_they_are_printed() {
        for text in ["address", "cookie", "header:x-user"] {
            assert_eq!(text.parse::<Sticky>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        for text in ["header:x-canary=1", "cookie:canary=yes=no", "header:x-canary="] {
            assert_eq!(text.parse::<Chosen>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("header:X-User".parse(), Ok(Sticky::Header("x-user".into())));
        for text in ["", "header:", "header:a b", "ip"] {
            assert!(text.parse::<Sticky>().is_err(), "{text:?}");
        }
        for text in ["", "header:a", "header:=1", "query:a=1", "a=1"] {
            assert!(text.parse::<Chosen>().is_err(), "{text:?}");
        }
    }

    /// What the default tolerance says where nobody was slow.
    fn judged(stable: &Seen, candidate: &Seen) -> Verdict {
        Tolerance::default().judge(stable, candidate, |_| (0, 0))
    }

    #[test]
    fn too_few_samples_say_nothing() {
        assert_eq!(judged(&seen(1_000, 0, 100), &seen(99, 99, 9_999)), Verdict::Go);
    }

    #[test]
    fn errors_count_beyond_those_of_the_stable_revision_and_beyond_chance() {
        let worse = |candidate, stable| Verdict::Revert(Worse::Errors { candidate, stable });
        assert_eq!(judged(&seen(100_000, 2_000, 100), &seen(100_000, 3_000, 100)), Verdict::Go);
        assert_eq!(judged(&seen(100_000, 2_000, 100), &seen(100_000, 3_500, 100)), worse(35, 20));
        // Of a hundred requests, two are no more than one beyond what may be.
        assert_eq!(judged(&seen(1_000, 0, 100), &seen(100, 2, 100)), Verdict::Go);
        assert_eq!(judged(&seen(1_000, 0, 100), &seen(100, 20, 100)), worse(200, 0));
        // In a step in which nobody asks the stable revision, too.
        assert_eq!(judged(&seen(0, 0, 0), &seen(100, 100, 100)), worse(1_000, 0));
        assert_eq!(judged(&seen(0, 0, 0), &seen(10_000, 100, 100)), Verdict::Go);
    }

    #[test]
    fn latency_is_compared_only_where_both_were_asked_and_where_it_is_no_chance() {
        let tolerance = Tolerance::default();
        let (stable, slow) = (seen(1_000, 0, 100), seen(1_000, 0, 201));
        let judge = |stable: &Seen, candidate: &Seen, theirs, ours| {
            tolerance.judge(stable, candidate, |bound| {
                assert_eq!(bound, 200, "twice the stable revision's p99");
                (theirs, ours)
            })
        };
        assert_eq!(judge(&seen(50, 0, 100), &seen(1_000, 0, 500), 0, 500), Verdict::Go);
        assert_eq!(judge(&stable, &seen(1_000, 0, 200), 5, 5), Verdict::Go);
        assert_eq!(judge(&stable, &slow, 9, 11), Verdict::Go, "two more are chance");
        let worse = Verdict::Revert(Worse::Latency { candidate: 201, stable: 100 });
        assert_eq!(judge(&stable, &slow, 9, 60), worse);
    }

    #[test]
    fn a_burst_of_crashes_needs_no_samples() {
        let crashing = Seen { requests: 12, errors: 12, crashes: 10, p99_us: 1 };
        assert_eq!(judged(&seen(1_000, 0, 1), &crashing), Verdict::Revert(Worse::Crashes(10)));
        let all = |crashes| Seen { crashes, ..seen(12, crashes, 1) };
        assert_eq!(judged(&all(9), &crashing), Verdict::Go, "the stable one crashes too");
        let seldom = Seen { crashes: 1, ..seen(1_000, 1, 1) };
        assert_eq!(judged(&seldom, &crashing), Verdict::Revert(Worse::Crashes(10)));
    }

    #[test]
    fn of_few_requests_it_counts_only_that_most_failed() {
        let tolerance = Tolerance::default();
        let few = |errors, requests| tolerance.judge_few(&seen(1_000, 10, 1), &seen(requests, errors, 1));
        assert_eq!([few(2, 2), few(3, 6), few(0, 0), few(100, 100)], [const { Verdict::Go }; 4]);
        let worse = Worse::Mostly { errors: 3, requests: 5 };
        assert_eq!(few(3, 5), Verdict::Revert(worse));
        assert_eq!(worse.to_string(), "3 of its 5 requests failed");
        let failing = seen(10, 6, 1);
        assert_eq!(tolerance.judge_few(&failing, &seen(5, 5, 1)), Verdict::Go, "both fail");
    }

    #[test]
    fn what_is_likely_is_no_surprise() {
        let of = |some, all| Share { some, all };
        assert!(surprise(of(0, 0), of(0, 0)).abs() < f64::EPSILON);
        assert!(surprise(of(10, 1_000), of(1, 100)).abs() < f64::EPSILON);
        assert!(surprise(of(0, 0), of(100, 100)).abs() < f64::EPSILON, "nobody else was asked");
        // Ten of ten where one in two is expected: one in 2^10.
        let ten = surprise(of(0, 100), of(10, 100));
        assert!((ten - 10.0 * 2_f64.ln()).abs() < 1e-9, "{ten}");
        assert!(surprise(of(u64::MAX / 4, u64::MAX / 2), of(u64::MAX / 2, u64::MAX / 2)).is_finite());
    }
}
