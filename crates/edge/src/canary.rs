//! Which of an app's two revisions a request is for.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use tenon_model::{Chosen, ChosenBy, Sticky};

use crate::slot::Slot;
use crate::table::Entry;
use crate::trace::Draw;

/// The cookie that keeps a client with one revision: its place among all clients.
const COOKIE_NAME: &str = "tenon-place";
/// Places that clients are spread over: a hundred for each percent.
const PLACES: u32 = 10_000;

/// A revision that may take over.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The revision.
    pub slot: Arc<Slot>,
    /// Of a hundred requests, those that it gets.
    pub percent: u8,
    /// What keeps a client with one revision.
    pub sticky: Sticky,
    /// Requests that are for it whatever the share is.
    pub chosen: Option<Chosen>,
    /// Of a hundred requests that the stable revision answers, those that are copied to it.
    pub shadow_percent: u8,
}

/// The revision for a request.
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) slot: &'a Arc<Slot>,
    /// The place that the client is to be told of.
    pub(crate) place: Option<u32>,
    /// The revision that gets a copy.
    pub(crate) shadow: Option<&'a Arc<Slot>>,
}

/// Chooses. A client that went to the candidate goes there again when its share has grown.
pub(crate) fn choose<'a>(entry: &'a Entry, headers: &HeaderMap, client: IpAddr, draw: &Draw) -> Choice<'a> {
    let Some(candidate) = &entry.candidate else {
        return Choice { slot: &entry.stable, place: None, shadow: None };
    };
    let to_candidate = Choice { slot: &candidate.slot, place: None, shadow: None };
    if candidate.chosen.as_ref().is_some_and(|chosen| is_chosen(chosen, headers)) {
        return to_candidate;
    }
    let shares = (1..100).contains(&candidate.percent);
    let (place, told) = match &candidate.sticky {
        _ if !shares => (0, None),
        Sticky::Cookie => match cookie(headers, COOKIE_NAME).and_then(read_place) {
            Some(place) if place < PLACES => (place, None),
            _ => {
                let place = draw.below(PLACES);
                (place, Some(place))
            }
        },
        Sticky::Header(name) => match headers.get(name) {
            Some(value) => (place_of(entry, candidate, value.as_bytes()), None),
            None => (address_place(entry, candidate, client), None),
        },
        Sticky::Address => (address_place(entry, candidate, client), None),
    };
    if place < u32::from(candidate.percent) * (PLACES / 100) {
        return Choice { place: told, ..to_candidate };
    }
    let is_copied = candidate.shadow_percent > 0 && draw.below(100) < u32::from(candidate.shadow_percent);
    Choice { slot: &entry.stable, place: told, shadow: is_copied.then_some(&candidate.slot) }
}

/// Tells a client its place.
pub(crate) fn set_cookie(place: u32, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE_NAME}={place}; Path=/; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&cookie).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The address's place; that of its network, where an address of IPv6 is one of many that a client has.
fn address_place(entry: &Entry, candidate: &Candidate, client: IpAddr) -> u32 {
    match client {
        IpAddr::V4(address) => place_of(entry, candidate, &address.octets()),
        IpAddr::V6(address) => place_of(entry, candidate, &address.octets()[..8]),
    }
}

/// A place that is the same each time, and another one for the next candidate.
fn place_of(entry: &Entry, candidate: &Candidate, of: &[u8]) -> u32 {
    // Keyed with nothing: all workers, and the node that comes after this one, find the same.
    let mut hasher = DefaultHasher::new();
    (entry.app.id(), candidate.slot.key().revision, of).hash(&mut hasher);
    u32::try_from(hasher.finish() % u64::from(PLACES)).unwrap_or(0)
}

fn is_chosen(chosen: &Chosen, headers: &HeaderMap) -> bool {
    match &chosen.by {
        ChosenBy::Header(name) => HeaderName::try_from(name).is_ok_and(|name| {
            headers.get_all(name).iter().any(|value| value.as_bytes() == chosen.value.as_bytes())
        }),
        ChosenBy::Cookie(name) => cookie(headers, name) == Some(chosen.value.as_bytes()),
    }
}

/// The value of a cookie (RFC 6265, section 5.4). A line is bytes: what some other cookie in it is written in says nothing
/// about this one.
fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut named = pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..at], &pair[at + 1..]))
    });
    named.find(|(name, _)| *name == wanted.as_bytes()).map(|(_, value)| value)
}

fn read_place(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::tests::slot;
    use crate::table::tests::entry;

    fn canary(percent: u8, sticky: Sticky) -> Entry {
        let candidate = Candidate { slot: slot("a", 2), percent, sticky, chosen: None, shadow_percent: 0 };
        Entry { candidate: Some(candidate), ..entry("a", &["*/*"]) }
    }

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    fn revision(choice: &Choice<'_>) -> u64 {
        choice.slot.key().revision.0
    }

    #[test]
    fn shares_are_as_large_as_asked_for_and_a_client_stays_with_one_revision() {
        let draw = Draw::new().unwrap();
        let headers = HeaderMap::new();
        let to_candidate = |percent| -> Vec<u32> {
            let entry = canary(percent, Sticky::Address);
            let goes = |client: &u32| revision(&choose(&entry, &headers, address(*client), &draw)) == 2;
            let once: Vec<_> = (0..10_000).filter(goes).collect();
            assert_eq!(once, (0..10_000).filter(goes).collect::<Vec<_>>());
            once
        };
        let (five, twenty) = (to_candidate(5), to_candidate(20));
        assert!((400..600).contains(&five.len()), "{}", five.len());
        assert!((1_800..2_200).contains(&twenty.len()), "{}", twenty.len());
        assert!(five.iter().all(|client| twenty.contains(client)), "a larger share holds the smaller one");
        assert_eq!((to_candidate(0).len(), to_candidate(100).len()), (0, 10_000));
    }

    #[test]
    fn a_header_or_a_cookie_keeps_a_client_where_it_was() {
        let draw = Draw::new().unwrap();
        let entry = canary(50, Sticky::Header("x-user".into()));
        let by_user = |user: &str, client| {
            revision(&choose(&entry, &with(HeaderName::from_static("x-user"), user), address(client), &draw))
        };
        for user in 0..50 {
            let user = format!("user{user}");
            assert_eq!(by_user(&user, 1), by_user(&user, 2));
        }
        let entry = canary(50, Sticky::Cookie);
        for client in 0..50 {
            let first = choose(&entry, &HeaderMap::new(), address(client), &draw);
            let told = set_cookie(first.place.unwrap(), true);
            let told = told.to_str().unwrap().split(';').next().unwrap();
            let headers = with(COOKIE, &format!("other=1; {told}; more=2"));
            let again = choose(&entry, &headers, address(client + 1), &draw);
            assert_eq!((revision(&again), again.place), (revision(&first), None));
        }
        let made_up = with(COOKIE, "tenon-place=10000");
        assert!(choose(&entry, &made_up, address(1), &draw).place.is_some());
    }

    #[test]
    fn a_cookie_is_found_beside_others_in_whatever_they_are_written() {
        let draw = Draw::new().unwrap();
        let line = |bytes: &[u8]| HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(bytes).unwrap())]);
        // UTF-8, Latin-1, and bytes that are neither.
        for other in ["name=J\u{fc}rgen".as_bytes(), &b"name=J\xfcrgen"[..], &b"\xff\xfe=\x80"[..]] {
            let headers = line(&[other, &b"; tenon-place=12; try=next"[..]].concat());
            let mut entry = canary(50, Sticky::Cookie);
            let choice = choose(&entry, &headers, address(1), &draw);
            assert_eq!((revision(&choice), choice.place), (2, None), "its place is known");
            entry = canary(0, Sticky::Cookie);
            entry.candidate.as_mut().unwrap().chosen =
                Some(Chosen { by: ChosenBy::Cookie("try".into()), value: "next".into() });
            assert_eq!(revision(&choose(&entry, &headers, address(1), &draw)), 2);
        }
        // A value that is not ASCII chooses too.
        let mut entry = canary(0, Sticky::Address);
        entry.candidate.as_mut().unwrap().chosen =
            Some(Chosen { by: ChosenBy::Cookie("who".into()), value: "J\u{fc}rgen".into() });
        let headers = line("a=b; who=J\u{fc}rgen".as_bytes());
        assert_eq!(revision(&choose(&entry, &headers, address(1), &draw)), 2);
    }

    #[test]
    fn who_is_chosen_goes_there_whatever_the_share_is() {
        let draw = Draw::new().unwrap();
        let mut entry = canary(0, Sticky::Address);
        let mut choose_by = |by| {
            entry.candidate.as_mut().unwrap().chosen = Some(Chosen { by, value: "next".into() });
            let goes = |headers: HeaderMap| revision(&choose(&entry, &headers, address(1), &draw));
            [
                goes(with(HeaderName::from_static("x-try"), "next")),
                goes(with(HeaderName::from_static("x-try"), "nexT")),
                goes(with(COOKIE, "a=b; try=next")),
                goes(HeaderMap::new()),
            ]
        };
        assert_eq!(choose_by(ChosenBy::Header("X-Try".into())), [2, 1, 1, 1]);
        assert_eq!(choose_by(ChosenBy::Cookie("try".into())), [1, 1, 2, 1]);
    }

    #[test]
    fn so_many_of_the_stable_revisions_requests_are_copied() {
        let draw = Draw::new().unwrap();
        let mut entry = canary(0, Sticky::Address);
        entry.candidate.as_mut().unwrap().shadow_percent = 25;
        let copied = |entry: &Entry| {
            let copies =
                |client: &u32| choose(entry, &HeaderMap::new(), address(*client), &draw).shadow.is_some();
            (0..10_000).filter(copies).count()
        };
        assert!((2_200..2_800).contains(&copied(&entry)));
        entry.candidate.as_mut().unwrap().percent = 100;
        assert_eq!(copied(&entry), 0, "what it answers itself is not copied");
    }
}
