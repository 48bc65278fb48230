//! What is answered from the cache, and what is kept.

use crate::control::{Said, Wanted};
use crate::fields::{Fields, first};
use crate::freshness::{Times, age, is_cacheable_status, lifetime};
use crate::kept::{BODY_BYTES_MAX, Kept};
use crate::vary;

/// What to do with a request for which there is something in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve it; it is fresh for so many more seconds, or stale since so many, which the client allowed.
    Serve { ttl: i64 },
    /// Serve it stale, and ask the origin once the client has its answer (RFC 5861, section 3).
    ServeThenAsk { ttl: i64 },
    /// Ask the origin whether it is still good (section 4.3).
    Ask(Why),
}

/// Why the origin is asked, in the words of RFC 9211, section 2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// What is there is stale.
    Stale,
    /// The client wants it so.
    Request,
}

/// Whether a request can be answered from the cache, and kept in it, at all.
pub fn is_for_the_cache(method: &str, request: &Fields) -> bool {
    // A part of a response is the origin's to cut; what is not to be stored is not looked up either.
    (method == "GET" || method == "HEAD")
        && first(request, "range").is_none()
        && !has_body(request)
        && !Wanted::of(request).no_store
}

/// Whether a request announces a body. What that means to a GET, only the origin knows.
pub fn has_body(request: &Fields) -> bool {
    first(request, "content-length").is_some_and(|length| length != "0")
}

/// What to do with what is in the cache (sections 4 and 4.2).
pub fn decide(request: &Fields, kept: &Kept, now: u64) -> Decision {
    let wanted = Wanted::of(request);
    let said = Said::of(&kept.fields);
    if said.no_cache {
        return Decision::Ask(Why::Stale);
    }
    let age = age(&kept.fields, kept.times, now);
    let lifetime = lifetime(kept.status, &kept.fields, kept.times).unwrap_or(0);
    let ttl = difference(lifetime, age);
    let too_old = wanted.max_age.is_some_and(|most| age > most);
    let too_short = wanted.min_fresh.is_some_and(|least| ttl < difference(least, 0));
    if wanted.no_cache || too_old || too_short {
        return Decision::Ask(Why::Request);
    }
    if ttl > 0 {
        return Decision::Serve { ttl };
    }
    let stale = age.saturating_sub(lifetime);
    if said.may_be_stale() && wanted.max_stale.is_some_and(|most| stale <= most) {
        return Decision::Serve { ttl };
    }
    if said.may_be_stale() && stale < said.stale_while_revalidate {
        return Decision::ServeThenAsk { ttl };
    }
    Decision::Ask(Why::Stale)
}

/// Whether a stale response is better than the origin's error (RFC 5861, section 4).
pub fn is_good_enough(kept: &Kept, now: u64) -> bool {
    let said = Said::of(&kept.fields);
    let age = age(&kept.fields, kept.times, now);
    let lifetime = lifetime(kept.status, &kept.fields, kept.times).unwrap_or(0);
    said.may_be_stale() && age.saturating_sub(lifetime) < said.stale_if_error
}

/// Whether the response to a GET may be kept (section 3), and is worth it.
pub fn may_keep(request: &Fields, status: u16, response: &Fields, times: Times) -> bool {
    let said = Said::of(response);
    let explicit = said.max_age.is_some() || said.s_maxage.is_some() || first(response, "expires").is_some();
    let is_whole = !matches!(status, 0..=199 | 206 | 304);
    let is_known = said.public || explicit || is_cacheable_status(status);
    // Section 3.5.
    let is_for_all = first(request, "authorization").is_none()
        || said.public
        || said.must_revalidate
        || said.s_maxage.is_some();
    // The RFC leaves this to the origin; an origin that sets a cookie rarely means it for everybody.
    let is_personal = first(response, "set-cookie").is_some();
    // Without either it would be asked for anew each time.
    let is_useful = lifetime(status, response, times).is_some_and(|seconds| seconds > 0)
        || first(response, "etag").is_some()
        || first(response, "last-modified").is_some();
    let length = first(response, "content-length").and_then(|length| length.parse::<usize>().ok());
    !said.no_store
        && !said.private
        && is_whole
        && is_known
        && is_for_all
        && !is_personal
        && is_useful
        && vary::names(response).is_some()
        && length.is_none_or(|length| length <= BODY_BYTES_MAX)
}

/// Whether what is kept for a target has lost its worth after this (section 4.4).
pub fn invalidates(method: &str, status: u16) -> bool {
    !matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE") && (200..400).contains(&status)
}

fn difference(of: u64, and: u64) -> i64 {
    let signed = |value| i64::try_from(value).unwrap_or(i64::MAX);
    signed(of).saturating_sub(signed(and))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::of;
    use crate::vary::Key;

    const NOW: u64 = 1_700_000_000;
    const TIMES: Times = Times { requested: NOW, received: NOW };

    fn kept(control: &str) -> Kept {
        Kept {
            key: Key { target: "/".to_owned(), generation: 0, selecting: Vec::new() },
            status: 200,
            fields: of(&[("cache-control", control), ("etag", "\"1\"")]),
            times: TIMES,
            body: Vec::new(),
        }
    }

    fn after(seconds: u64, control: &str, asked: &str) -> Decision {
        decide(&of(&[("cache-control", asked)]), &kept(control), NOW + seconds)
    }

    #[test]
    fn what_is_fresh_is_served() {
        assert_eq!(after(9, "max-age=10", ""), Decision::Serve { ttl: 1 });
        assert_eq!(after(10, "max-age=10", ""), Decision::Ask(Why::Stale));
        assert_eq!(after(0, "max-age=10, no-cache", ""), Decision::Ask(Why::Stale));
    }

    #[test]
    fn a_client_can_want_more_or_less() {
        assert_eq!(after(5, "max-age=10", "no-cache"), Decision::Ask(Why::Request));
        assert_eq!(after(5, "max-age=10", "max-age=4"), Decision::Ask(Why::Request));
        assert_eq!(after(5, "max-age=10", "max-age=5"), Decision::Serve { ttl: 5 });
        assert_eq!(after(5, "max-age=10", "min-fresh=6"), Decision::Ask(Why::Request));
        assert_eq!(after(12, "max-age=10", "max-stale=2"), Decision::Serve { ttl: -2 });
        assert_eq!(after(13, "max-age=10", "max-stale=2"), Decision::Ask(Why::Stale));
        assert_eq!(after(999, "max-age=10", "max-stale"), Decision::Serve { ttl: -989 });
        assert_eq!(after(12, "max-age=10, must-revalidate", "max-stale"), Decision::Ask(Why::Stale));
    }

    #[test]
    fn what_is_stale_may_be_served_while_the_origin_is_asked() {
        let control = "max-age=10, stale-while-revalidate=5";
        assert_eq!(after(14, control, ""), Decision::ServeThenAsk { ttl: -4 });
        assert_eq!(after(15, control, ""), Decision::Ask(Why::Stale));
        assert_eq!(after(14, "s-maxage=10, stale-while-revalidate=5", ""), Decision::Ask(Why::Stale));
    }

    #[test]
    fn a_stale_response_can_be_better_than_an_error() {
        assert!(is_good_enough(&kept("max-age=10, stale-if-error=60"), NOW + 69));
        assert!(!is_good_enough(&kept("max-age=10, stale-if-error=60"), NOW + 70));
        assert!(!is_good_enough(&kept("max-age=10"), NOW + 11));
        assert!(!is_good_enough(&kept("max-age=10, stale-if-error=60, must-revalidate"), NOW + 11));
    }

    #[test]
    fn what_may_be_kept() {
        let keeps = |request: &[(&str, &str)], status, response: &[(&str, &str)]| {
            may_keep(&of(request), status, &of(response), TIMES)
        };
        let fresh = ("cache-control", "max-age=10");
        assert!(keeps(&[], 200, &[fresh]));
        assert!(keeps(&[], 404, &[fresh]));
        assert!(keeps(&[], 500, &[fresh]), "the origin said so");
        assert!(keeps(&[], 200, &[("etag", "\"1\"")]));
        assert!(!keeps(&[], 200, &[]), "it would never be used");
        assert!(!keeps(&[], 500, &[("etag", "\"1\"")]));
        assert!(!keeps(&[], 206, &[fresh]));
        for control in ["max-age=10, no-store", "max-age=10, private"] {
            assert!(!keeps(&[], 200, &[("cache-control", control)]), "{control}");
        }
        assert!(!keeps(&[], 200, &[fresh, ("vary", "*")]));
        assert!(keeps(&[], 200, &[fresh, ("vary", "accept")]));
        assert!(!keeps(&[], 200, &[fresh, ("set-cookie", "a=b")]));
        assert!(!keeps(&[], 200, &[fresh, ("content-length", "1048577")]));
        let secret = [("authorization", "Bearer x")];
        assert!(!keeps(&secret, 200, &[fresh]));
        for control in ["max-age=10, public", "s-maxage=10", "max-age=10, must-revalidate"] {
            assert!(keeps(&secret, 200, &[("cache-control", control)]), "{control}");
        }
    }

    #[test]
    fn some_requests_pass_the_cache_by() {
        assert!(is_for_the_cache("GET", &of(&[])));
        assert!(is_for_the_cache("HEAD", &of(&[])));
        assert!(!is_for_the_cache("POST", &of(&[])));
        assert!(!is_for_the_cache("GET", &of(&[("range", "bytes=0-1")])));
        assert!(!is_for_the_cache("GET", &of(&[("content-length", "2")])));
        assert!(!is_for_the_cache("GET", &of(&[("cache-control", "no-store")])));
    }

    #[test]
    fn what_changes_a_target_makes_the_kept_worthless() {
        assert!(invalidates("POST", 201));
        assert!(invalidates("DELETE", 303));
        assert!(!invalidates("PUT", 404));
        assert!(!invalidates("GET", 200));
    }
}
