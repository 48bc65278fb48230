//! Which app a request comes to: by host, by path, by a parameter in it; the most exact route wins.

use crate::support::Site;

/// Each app answers with its name at whatever path ends so.
const NAME: &str = "config?key=version";

/// Deploys an app for these routes.
fn deploy(site: &Site, tenant: &str, name: &str, routes: &[&str]) {
    // One folder for all: they are one component on terms of their own, which is compiled once.
    let app = site.app(tenant, "one-of-many", "unused.invalid", name);
    let routes = routes.iter().flat_map(|route| ["--route", route]);
    site.deploy(&app, &["--app", name].into_iter().chain(routes).collect::<Vec<_>>());
}

#[test]
fn the_most_exact_route_wins() {
    let site = Site::of(&["acme"]);
    // The widest last: the order in which they come says nothing.
    for (name, routes) in [
        ("exact", &["shop.example/api/v1/config"][..]),
        ("user", &["shop.example/users/{id}/*"]),
        ("orders", &["shop.example/users/{id}/orders/config"]),
        ("ada", &["shop.example/users/ada/*"]),
        ("deep", &["shop.example/api/v1/*"]),
        ("api", &["shop.example/api/*", "api.example/*"]),
        ("whole", &["shop.example/*"]),
        ("eu", &["*.eu.example/*"]),
        ("below", &["*.example/*"]),
        ("health", &["*/health/*"]),
    ] {
        deploy(&site, "acme", name, routes);
    }
    for (host, path, name) in [
        ("shop.example", "", "whole"),
        ("shop.example", "cart/", "whole"),
        // A prefix is of whole segments.
        ("shop.example", "apis/", "whole"),
        ("shop.example", "api/", "api"),
        ("shop.example", "api/v2/", "api"),
        ("shop.example", "api/v1/", "exact"),
        ("shop.example", "api/v1/cart/", "deep"),
        ("api.example", "anything/", "api"),
        // A parameter is any one segment, and what is written out is before it.
        ("shop.example", "users/bob/", "user"),
        ("shop.example", "users/bob/cart/", "user"),
        ("shop.example", "users/bob/orders/", "orders"),
        ("shop.example", "users/ada/orders/", "ada"),
        // A prefix is the path itself, too.
        ("shop.example", "users/", "user"),
        ("shop.example", "user/", "whole"),
        // The longest name below which it is, and any host for what no other route has.
        ("a.eu.example", "", "eu"),
        ("a.b.eu.example", "", "eu"),
        ("eu.example", "", "below"),
        ("SHOP.example", "api/", "api"),
        ("elsewhere.test", "health/", "health"),
        ("shop.example", "health/", "whole"),
    ] {
        let reply = site.get(host, &format!("/{path}{NAME}"));
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, name), "{host}/{path}");
    }
    for (host, path) in [("elsewhere.test", "/healthy/config"), ("example", "/config")] {
        site.get(host, path).expect_failure(404, "no-route");
    }
    site.node.stop();
}

#[test]
fn a_route_that_goes_leaves_its_requests_to_the_next_best() {
    let site = Site::of(&["acme"]);
    deploy(&site, "acme", "whole", &["shop.example/*"]);
    deploy(&site, "acme", "api", &["shop.example/api/*"]);
    let name = |path: &str| site.get("shop.example", &format!("/{path}{NAME}")).expect(200);
    assert_eq!(name("api/"), "api");
    // Its routes are others now, and then it is gone.
    deploy(&site, "acme", "api", &["shop.example/v2/*"]);
    assert_eq!((name("api/").as_str(), name("v2/").as_str()), ("whole", "api"));
    site.run(["delete", "acme/api"]).expect_code(0);
    assert_eq!(name("v2/"), "whole");
    site.node.stop();
}
