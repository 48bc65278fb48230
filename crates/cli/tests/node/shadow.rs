//! Copied requests: what the candidate does of them is compared, shown, and judged.

use std::time::Duration;

use tenon_testkit::{DEADLINE, until};

use crate::load::{Asking, Load};
use crate::support::{Site, write_app};

const HOST: &str = "shop.example";

#[test]
fn a_candidate_that_fails_at_copies_is_sent_back_before_a_client_meets_it() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    // What the first does not know, the second answers with 500, and says so itself.
    let bad = site.tenon.data().join("apps/bad");
    write_app(&bad, "chaos-http", "acme", "shop", HOST, "bad");
    site.deploy(&bad, &["--shadow", "100"]);
    let load = Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: "/status?code=500".into(),
        clients: 2,
        pause: Duration::from_millis(1),
    });
    let rollout = until("it to be sent back", DEADLINE, || {
        let rollout = site.json(["rollout", "acme/shop"]);
        (rollout["state"] == "reverted").then_some(rollout)
    });
    let seen = load.stop();
    assert!(seen.iter().all(|one| one.status == 404), "no client met it");
    assert!(rollout["seen_candidate"]["errors"].as_u64() >= Some(100), "{rollout:#}");
    assert!(rollout["why"].as_str().unwrap().contains("fail"), "{rollout:#}");
    site.node.stop();
}

#[test]
fn a_rollout_shows_how_answers_to_copies_compare() {
    let mut site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    site.deploy(&site.app("acme", "shop", HOST, "two"), &["--shadow", "100"]);
    let rollout = until("both kinds of answers", DEADLINE, || {
        site.version(HOST);
        site.get(HOST, "/nothing").expect(404);
        let rollout = site.json(["rollout", "acme/shop"]);
        let count = |kind: &str| rollout["shadow"][kind].as_u64().unwrap_or(0);
        (count("same") > 0 && count("different") > 0).then_some(rollout)
    });
    assert_eq!(rollout["state"], "running", "a difference alone sends nobody back: {rollout:#}");
    let told = site.run(["rollout", "acme/shop"]).expect_code(0).stdout;
    assert!(told.contains("answered alike, ") && told.contains("differently"), "{told}");
    // It stays to be seen once the rollout has ended, and after the node has.
    site.run(["revert", "acme/shop"]).expect_code(0);
    let ended = site.json(["rollout", "acme/shop"]);
    let count = |kind: &str| ended["shadow"][kind].as_u64() >= rollout["shadow"][kind].as_u64();
    assert!(count("same") && count("different"), "{ended:#}");
    site.node.stop();
    site.node = site.tenon.node().start();
    assert_eq!(site.json(["rollout", "acme/shop"])["shadow"], ended["shadow"]);
    site.node.stop();
}
