//! How long a response is fresh, and how old it is (RFC 9111, section 4.2).

use serde::{Deserialize, Serialize};

use crate::control::Said;
use crate::fields::{Fields, date, first};

/// When a response was asked for and when it came, in seconds since 1970 by this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    pub requested: u64,
    pub received: u64,
}

/// What may be kept without the origin having said for how long (RFC 9110, section 15.1), of what this cache keeps.
const HEURISTIC: [u16; 10] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414];

/// At most a day by the heuristic: an origin that wants more can say so.
const HEURISTIC_SECONDS_MAX: u64 = 24 * 3600;

/// For how many seconds from its making a response is fresh (section 4.2.1), for a shared cache. `None`: the origin did
/// not say, and there is nothing to guess from.
pub fn lifetime(status: u16, fields: &Fields, times: Times) -> Option<u64> {
    let said = Said::of(fields);
    if said.contradictory {
        return Some(0);
    }
    if let Some(seconds) = said.s_maxage.or(said.max_age) {
        return Some(seconds);
    }
    let made = date(fields, "date").unwrap_or(times.received);
    if first(fields, "expires").is_some() {
        // What is no date, such as `0`, is in the past (section 5.3).
        return Some(date(fields, "expires").map_or(0, |expires| expires.saturating_sub(made)));
    }
    // Section 4.2.2: a tenth of the time since it was last changed.
    let is_guessable = HEURISTIC.contains(&status) || said.public;
    let changed = date(fields, "last-modified").filter(|_| is_guessable)?;
    Some((made.saturating_sub(changed) / 10).min(HEURISTIC_SECONDS_MAX))
}

/// How many seconds old a response is at `now` (section 4.2.3).
pub fn age(fields: &Fields, times: Times, now: u64) -> u64 {
    let made = date(fields, "date").unwrap_or(times.received);
    let apparent = times.received.saturating_sub(made);
    let told: u64 = first(fields, "age").and_then(|age| age.parse().ok()).unwrap_or(0);
    let delay = times.received.saturating_sub(times.requested);
    let resident = now.saturating_sub(times.received);
    apparent.max(told.saturating_add(delay)).saturating_add(resident)
}

/// Whether the origin said anything about freshness, or something can be guessed from the status alone (section 3).
pub fn is_cacheable_status(status: u16) -> bool {
    HEURISTIC.contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::{of, shown};

    const NOW: u64 = 1_700_000_000;
    const TIMES: Times = Times { requested: NOW, received: NOW };

    fn lifetime_of(fields: &[(&str, &str)]) -> Option<u64> {
        lifetime(200, &of(fields), TIMES)
    }

    #[test]
    fn what_is_said_for_shared_caches_goes_first() {
        let expires = shown(NOW + 40);
        let date = shown(NOW - 10);
        let fields = [("date", date.as_str()), ("expires", expires.as_str())];
        assert_eq!(lifetime_of(&fields), Some(50));
        let with = |control| lifetime_of(&[fields[0], fields[1], ("cache-control", control)]);
        assert_eq!(with("max-age=5"), Some(5));
        assert_eq!(with("max-age=5, s-maxage=7"), Some(7));
        assert_eq!(with("max-age=5, max-age=6"), Some(0));
    }

    #[test]
    fn what_has_expired_is_not_fresh() {
        assert_eq!(lifetime_of(&[("expires", "0")]), Some(0));
        assert_eq!(lifetime_of(&[("expires", &shown(NOW - 1))]), Some(0));
    }

    #[test]
    fn a_tenth_of_the_time_since_a_change_is_guessed() {
        assert_eq!(lifetime_of(&[("last-modified", &shown(NOW - 1000))]), Some(100));
        assert_eq!(lifetime_of(&[("last-modified", &shown(0))]), Some(HEURISTIC_SECONDS_MAX));
        assert_eq!(lifetime_of(&[]), None);
        let changed = of(&[("last-modified", &shown(NOW - 1000))]);
        assert_eq!(lifetime(500, &changed, TIMES), None);
    }

    #[test]
    fn age_is_the_greater_of_what_is_told_and_what_is_seen() {
        let times = Times { requested: NOW - 3, received: NOW };
        assert_eq!(age(&of(&[]), times, NOW), 3);
        assert_eq!(age(&of(&[("age", "20")]), times, NOW + 5), 28);
        let old = shown(NOW - 100);
        assert_eq!(age(&of(&[("date", &old), ("age", "20")]), times, NOW + 5), 105);
        // A clock that is ahead of ours makes nothing young.
        let ahead = shown(NOW + 100);
        assert_eq!(age(&of(&[("date", &ahead)]), TIMES, NOW), 0);
    }
}
