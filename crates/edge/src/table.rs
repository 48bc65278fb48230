//! Which app a request is for: an immutable table of hosts and paths.
//!
//! A host is found by hashing it, and a path segment by segment in a tree, so looking up costs the same among ten routes
//! and ten thousand. From the left, a segment that is written out wins over a parameter, and that over all that is below;
//! a host that is written out wins over `*.` and its parent, and a longer parent over a shorter one. `*` is for hosts that
//! no route names.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::Arc;

use tenon_model::{HOST_BYTES_MAX, Route, RouteHost, RoutePath, Segment};

use crate::app::App;
use crate::canary::Candidate;
use crate::slot::Slot;

/// One app in a snapshot.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The app.
    pub app: Arc<App>,
    /// Which requests are for it.
    pub routes: Vec<Route>,
    /// The revision that serves it.
    pub stable: Arc<Slot>,
    /// The one that may take over, and which requests it gets.
    pub candidate: Option<Candidate>,
    /// Whether its requests are refused.
    pub paused: bool,
}

impl Entry {
    /// Its revisions.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        std::iter::once(&self.stable).chain(self.candidate.iter().map(|candidate| &candidate.slot))
    }
}

/// What is served at one moment.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Arc<Entry>>,
    exact: HashMap<Box<str>, Node>,
    /// By the name that they are below.
    below: HashMap<Box<str>, Node>,
    any: Option<Node>,
}

/// What begins with some segments.
#[derive(Debug, Default)]
struct Node {
    exact: HashMap<Box<str>, Node>,
    parameter: Option<Box<Node>>,
    /// What is for the path that ends here.
    here: Option<usize>,
    /// What is for that path and all below.
    below: Option<usize>,
}

impl Table {
    /// A table of these. Where two routes say the same, the one that comes first has it: whoever makes the table has seen to
    /// it that no two do.
    pub fn new(entries: Vec<Entry>) -> Self {
        let mut table = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            for slot in entry.slots() {
                entry.app.know(slot);
            }
            for route in &entry.routes {
                if !table.node(&route.host).insert(&route.path, index) {
                    tracing::error!(target: "tenon::route", app = %entry.app.id(), %route, "another app has this route");
                }
            }
        }
        table.entries = entries.into_iter().map(Arc::new).collect();
        table
    }

    fn node(&mut self, host: &RouteHost) -> &mut Node {
        match host {
            RouteHost::Exact(name) => self.exact.entry(name.clone()).or_default(),
            RouteHost::Below(name) => self.below.entry(name.clone()).or_default(),
            RouteHost::Any => self.any.get_or_insert_default(),
        }
    }

    /// The app that a request is for. `authority` is what it says in `host`; a port in it does not matter.
    pub fn find(&self, authority: &str, path: &str) -> Option<&Arc<Entry>> {
        let found = match (&self.any, self.exact.is_empty() && self.below.is_empty()) {
            // What is served alone: no host is looked at.
            (any, true) => any.as_ref()?.find(path),
            (any, false) => {
                let host = host_of(authority)?;
                let (found, is_named) = self.find_named(&host, path);
                if is_named { found } else { any.as_ref()?.find(path) }
            }
        }?;
        self.entries.get(found)
    }

    /// What is for a host by its name, and whether there is a route that names it.
    fn find_named(&self, host: &str, path: &str) -> (Option<usize>, bool) {
        let exact = self.exact.get(host);
        let first = parent(host).filter(|_| !self.below.is_empty());
        let below = std::iter::successors(first, |host| parent(host)).filter_map(|name| self.below.get(name));
        let mut is_named = false;
        for node in exact.into_iter().chain(below) {
            is_named = true;
            if let Some(found) = node.find(path) {
                return (Some(found), true);
            }
        }
        (None, is_named)
    }

    /// All apps.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }
}

/// A host name without its first label.
fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, parent)| parent).filter(|parent| !parent.is_empty())
}

/// The name in an authority: no port, no dot at the end, lower case.
fn host_of(authority: &str) -> Option<Cow<'_, str>> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rfind(':') {
        // Colons within brackets are an address's own.
        Some(at) if host[at + 1..].bytes().all(|byte| byte.is_ascii_digit()) => &host[..at],
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let fits = !host.is_empty() && host.len() <= HOST_BYTES_MAX;
    fits.then(|| match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    })
}

impl Node {
    /// Whether there was nothing there yet.
    fn insert(&mut self, path: &RoutePath, entry: usize) -> bool {
        let mut node = self;
        for segment in &path.segments {
            node = match segment {
                Segment::Exact(text) => match node.exact.entry(text.clone()) {
                    Place::Occupied(place) => place.into_mut(),
                    Place::Vacant(place) => place.insert(Self::default()),
                },
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
            };
        }
        let place = if path.below { &mut node.below } else { &mut node.here };
        place.is_none() && place.replace(entry).is_none()
    }

    fn find(&self, path: &str) -> Option<usize> {
        let rest = path.strip_prefix('/')?;
        self.find_from((!rest.is_empty()).then_some(rest))
    }

    /// `rest` is what follows a slash; `None` where nothing does. No place of the tree is looked at twice: a place is
    /// reached by one way only.
    fn find_from(&self, rest: Option<&str>) -> Option<usize> {
        let Some(rest) = rest else { return self.here.or(self.below) };
        let (segment, after) = match rest.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (rest, None),
        };
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(segment).and_then(|node| node.find_from(after))
        {
            return Some(found);
        }
        if !segment.is_empty()
            && let Some(found) = self.parameter.as_ref().and_then(|node| node.find_from(after))
        {
            return Some(found);
        }
        self.below
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Instant;

    use super::*;
    use crate::slot::tests::slot;
    use crate::tenant::tests::generous;
    use crate::tenant::{Shares, Tenant};

    pub(crate) fn entry(app: &str, routes: &[&str]) -> Entry {
        let stable = slot(app, 1);
        let tenant = Tenant::new(stable.key().app.tenant.clone(), generous(), &Shares::new(10));
        Entry {
            app: App::new(stable.key().app.clone(), tenant),
            routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
            stable,
            candidate: None,
            paused: false,
        }
    }

    fn found(table: &Table, url: &str) -> String {
        let at = url.find('/').unwrap();
        let entry = table.find(&url[..at], &url[at..]);
        entry.map_or_else(|| "-".into(), |entry| entry.app.id().app.to_string())
    }

    #[test]
    fn the_most_exact_route_wins() {
        let table = Table::new(vec![
            entry("shop", &["shop.example/*"]),
            entry("cart", &["shop.example/cart", "shop.example/cart/{id}/items/*"]),
            entry("mine", &["shop.example/cart/mine/*"]),
            entry("sub", &["*.shop.example/*"]),
            entry("deep", &["*.a.shop.example/x"]),
            entry("rest", &["*/*", "other.example/only"]),
        ]);
        for (url, app) in [
            ("shop.example/", "shop"),
            ("shop.example/x/y", "shop"),
            ("SHOP.example:8080/cart", "cart"),
            ("shop.example./cart", "cart"),
            ("user@shop.example/cart", "cart"),
            ("shop.example/cart/", "shop"),
            ("shop.example/cart/7/items", "cart"),
            ("shop.example/cart/7/items/x/y", "cart"),
            ("shop.example/cart//items/x", "shop"),
            ("shop.example/cart/mine/items", "mine"),
            ("shop.example/cart/7/other", "shop"),
            ("x.shop.example/", "sub"),
            ("x.a.shop.example/x", "deep"),
            ("x.a.shop.example/y", "sub"),
            ("a.shop.example/x", "sub"),
            ("elsewhere/", "rest"),
            ("127.0.0.1:80/", "rest"),
            ("[::1]:80/", "rest"),
            ("other.example/only", "rest"),
            ("other.example/more", "-"),
            (".example/x", "rest"),
        ] {
            assert_eq!(found(&table, url), app, "{url}");
        }
        assert!(table.find("shop.example", "*").is_none());
        assert!(table.find("", "/").is_none());
        assert!(table.find(&"a.".repeat(200), "/").is_none());
    }

    #[test]
    fn a_name_that_is_a_route_is_nobody_elses() {
        let table = Table::new(vec![
            entry("a", &["x.example/api/*"]),
            entry("b", &["*.example/web/*"]),
            entry("any", &["*/*"]),
        ]);
        assert_eq!(found(&table, "x.example/web/1"), "b");
        assert_eq!(found(&table, "x.example/other"), "-");
        assert_eq!(found(&table, "y.example/api/1"), "-");
        assert_eq!(found(&table, "example/web/1"), "any");
    }

    #[test]
    fn the_first_of_two_that_say_the_same_has_the_route() {
        let table = Table::new(vec![entry("a", &["x/{id}"]), entry("b", &["x/{name}", "x/*"])]);
        assert_eq!(found(&table, "x/1"), "a");
        assert_eq!(found(&table, "x/1/2"), "b");
    }

    #[test]
    fn looking_up_costs_the_same_among_ten_and_ten_thousand() {
        let table = |count: usize| {
            let tenant = Tenant::new("tenant".parse().unwrap(), generous(), &Shares::new(10));
            let stable = slot("app", 1);
            let app = App::new(stable.key().app.clone(), tenant);
            let entries = (0..count).map(|index| Entry {
                app: Arc::clone(&app),
                routes: vec![
                    format!("host{index}.example/api/{{id}}/*").parse().unwrap(),
                    format!("one.example/app{index}/*").parse().unwrap(),
                ],
                stable: Arc::clone(&stable),
                candidate: None,
                paused: false,
            });
            Table::new(entries.collect())
        };
        let cost = |table: &Table| {
            let once = || {
                let began = Instant::now();
                for index in 0..2_000_usize {
                    let index = index % 10;
                    let host = ["host0.example", "host9.example"][index % 2];
                    assert!(table.find(host, "/api/7/x").is_some());
                    assert!(table.find("one.example", ["/app1/x", "/app8/y/z"][index % 2]).is_some());
                }
                began.elapsed()
            };
            (0..15).map(|_| once()).min().unwrap()
        };
        let (few, many) = (table(10), table(10_000));
        let (few, many) = (cost(&few), cost(&many));
        assert!(many < few * 3, "{few:?} among 10, {many:?} among 10,000");
    }
}
