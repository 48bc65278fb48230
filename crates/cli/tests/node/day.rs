//! A day in the life of a node, as docs/operations.md tells it.

use std::time::Duration;

use tenon_testkit::client::{call, get};

use crate::load::{Asking, Load, expect_all};
use crate::support::{Site, VERSION, to, write_app};

#[test]
fn a_day_in_the_life() {
    // In the morning: a node, two tenants, each with a token of its own and an app.
    let mut site = Site::of(&["acme", "zenith"]);
    let token = |tenant: &str| {
        let secret = site
            .run(["token", "create", "--tenant", tenant, "--verb", "deploy", "--quiet"])
            .expect_code(0)
            .stdout;
        let file = site.tenon.data().join(format!("{tenant}.token"));
        std::fs::write(&file, secret).unwrap();
        file
    };
    let (acme, zenith) = (token("acme"), token("zenith"));
    let deploy = |site: &Site, tenant: &std::path::Path, app: &std::path::Path, more: &[&str]| {
        let args = ["deploy".as_ref(), app.as_os_str(), "--token-file".as_ref(), tenant.as_os_str()];
        site.run(args.into_iter().chain(more.iter().map(AsRef::as_ref)).collect::<Vec<&std::ffi::OsStr>>())
    };
    let shop = site.app("acme", "shop", "shop.example", "monday");
    deploy(&site, &acme, &shop, &[]).expect_code(0);
    let portal = site.app("zenith", "portal", "portal.example", "steady");
    deploy(&site, &zenith, &portal, &[]).expect_code(0);
    deploy(&site, &zenith, &shop, &[]).expect_code(1).expect_stderr(&["admin-forbidden"]);

    // At noon: a bad version of the shop goes out in steps, under load, and comes back by itself.
    let asking = |site: &Site, host: &str, path: &str| Asking {
        address: site.address(),
        host: host.into(),
        path: path.into(),
        clients: 3,
        pause: Duration::from_millis(1),
    };
    let neighbour = Load::start(asking(&site, "portal.example", VERSION));
    let customers = Load::start(asking(&site, "shop.example", "/trap"));
    customers.more(50);
    let bad = site.tenon.data().join("apps/acme/bad");
    write_app(&bad, "chaos-http", "acme", "shop", "shop.example", "tuesday");
    deploy(&site, &acme, &bad, &["--canary", "20,60", "--hold", "10min", "--sticky", "cookie", "--wait"])
        .expect_code(1)
        .expect_stderr(&["rollout-reverted"]);
    let customers = customers.stop();
    assert!(customers.iter().all(|one| [404, 500, 503].contains(&one.status)), "{:?}", customers.last());
    assert_eq!(site.version("shop.example"), "monday");
    let neighbour = neighbour.stop();
    expect_all(&neighbour, 200);

    // In the evening: the machine loses power in the middle of a deploy.
    let next = site.app("acme", "shop", "shop.example", "wednesday");
    let (tenon, url) = (site.tenon.clone(), site.url());
    let deploying = std::thread::spawn(move || {
        tenon.run(tenon.data(), ["deploy".as_ref(), next.as_os_str(), "--node".as_ref(), url.as_ref()])
    });
    std::thread::sleep(Duration::from_millis(80));
    site.node.kill();
    let done = deploying.join().unwrap();

    // It comes back: nothing that was acknowledged is lost, the neighbour is as it was, and the deploy goes on.
    site.node = site.tenon.node().start();
    let version = site.version("shop.example");
    assert!(version == "wednesday" || (version == "monday" && !done.status.success()), "{version}");
    assert_eq!(call(site.address(), to("portal.example", get(VERSION))).expect(200), "steady");
    let next = site.app("acme", "shop", "shop.example", "wednesday");
    deploy(&site, &acme, &next, &[]).expect_code(0);
    assert_eq!(site.version("shop.example"), "wednesday");

    // Who did what is on record.
    let audit = site.json(["audit", "--limit", "1000"]);
    assert_eq!(audit["intact"], true);
    let did = |what: &str| {
        audit["entries"].as_array().unwrap().iter().filter(|entry| entry["what"] == what).count()
    };
    assert!(did("deploy") >= 4, "{audit:#}");
    site.node.stop();
}
