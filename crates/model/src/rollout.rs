//! How a new revision takes over, and when it is sent back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The most steps of a rollout.
pub const STEPS_MAX: usize = 20;

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
    /// Requests that the candidate must have answered before either is judged.
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
            Self::Latency { candidate, stable } => {
                write!(f, "p99 was {candidate} µs, of the stable revision {stable} µs")
            }
        }
    }
}

impl Tolerance {
    /// Compares what both did over the same time.
    pub fn judge(&self, stable: &Seen, candidate: &Seen) -> Verdict {
        if self.crashes > 0 && candidate.crashes >= self.crashes && stable.crashes < candidate.crashes {
            return Verdict::Revert(Worse::Crashes(candidate.crashes));
        }
        if candidate.requests < self.samples.max(1) {
            return Verdict::Go;
        }
        let per_mille = |seen: &Seen| {
            u64::try_from(u128::from(seen.errors) * 1_000 / u128::from(seen.requests.max(1)))
                .unwrap_or(u64::MAX)
        };
        let (ours, theirs) = (per_mille(candidate), per_mille(stable));
        if ours > theirs.saturating_add(u64::from(self.errors_per_mille)) {
            return Verdict::Revert(Worse::Errors { candidate: ours, stable: theirs });
        }
        // A stable revision that was hardly asked says nothing about latency.
        if stable.requests >= self.samples.max(1) {
            let bound = u128::from(stable.p99_us) * u128::from(self.p99_percent) / 100;
            if self.p99_percent > 0 && u128::from(candidate.p99_us) > bound {
                return Verdict::Revert(Worse::Latency {
                    candidate: candidate.p99_us,
                    stable: stable.p99_us,
                });
            }
        }
        Verdict::Go
    }
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

    #[test]
    fn too_few_samples_say_nothing() {
        let judged = Tolerance::default().judge(&seen(1_000, 0, 100), &seen(99, 99, 9_999));
        assert_eq!(judged, Verdict::Go);
    }

    #[test]
    fn errors_count_beyond_those_of_the_stable_revision() {
        let tolerance = Tolerance::default();
        assert_eq!(tolerance.judge(&seen(1_000, 20, 100), &seen(1_000, 30, 100)), Verdict::Go);
        assert_eq!(
            tolerance.judge(&seen(1_000, 20, 100), &seen(1_000, 31, 100)),
            Verdict::Revert(Worse::Errors { candidate: 31, stable: 20 })
        );
    }

    #[test]
    fn latency_is_compared_only_where_both_were_asked() {
        let tolerance = Tolerance::default();
        assert_eq!(tolerance.judge(&seen(50, 0, 100), &seen(1_000, 0, 500)), Verdict::Go);
        assert_eq!(tolerance.judge(&seen(1_000, 0, 100), &seen(1_000, 0, 200)), Verdict::Go);
        assert_eq!(
            tolerance.judge(&seen(1_000, 0, 100), &seen(1_000, 0, 201)),
            Verdict::Revert(Worse::Latency { candidate: 201, stable: 100 })
        );
    }

    #[test]
    fn a_burst_of_crashes_needs_no_samples() {
        let crashing = Seen { requests: 12, errors: 12, crashes: 10, p99_us: 1 };
        assert_eq!(
            Tolerance::default().judge(&seen(1_000, 0, 1), &crashing),
            Verdict::Revert(Worse::Crashes(10))
        );
        let all = Seen { crashes: 10, ..seen(1_000, 10, 1) };
        assert_eq!(Tolerance::default().judge(&all, &crashing), Verdict::Go, "the stable one crashes too");
    }
}
