//! Swaps under load: no request fails, and none sees an older revision than one before it saw.

use std::time::Duration;

use tenon_testkit::client::{call, get};

use crate::load::{Asking, Load, expect_all};
use crate::support::{Site, VERSION, to};

const SWAPS: u64 = 100;

#[test]
fn a_hundred_swaps_under_load_lose_nothing() {
    const HOST: &str = "shop.example";
    let site = Site::of(&["acme"]);
    for version in ["even", "odd"] {
        site.deploy(&site.app("acme", "shop", HOST, version), &[]);
    }
    let asking = |path: &str, clients| Asking {
        address: site.address(),
        host: HOST.into(),
        path: path.into(),
        clients,
        pause: Duration::ZERO,
    };
    let load = Load::start(asking(VERSION, 6));
    // Read when the request begins and again when it is about to end, longer than many a swap takes: one revision's.
    let whole = Load::start(asking("/config/twice?key=version&ms=100", 4));
    for swap in 0..SWAPS {
        let to = if swap % 2 == 0 { "r1" } else { "r2" };
        site.run(["revert", "acme/shop", "--to", to]).expect_code(0);
        load.more(8);
    }
    let (seen, whole) = (load.stop(), whole.stop());
    expect_all(&seen, 200);
    expect_all(&whole, 200);
    assert!(seen.iter().all(|one| ["even", "odd"].contains(&one.body.as_str())), "{:?}", seen.first());
    assert!(whole.len() as u64 >= SWAPS / 2, "{} requests were under way during swaps", whole.len());
    for one in &whole {
        assert!(["even even", "odd odd"].contains(&one.body.as_str()), "{}", one.body);
    }
    // All of them saw many of the swaps.
    let changes =
        seen.windows(2).filter(|pair| pair[0].client == pair[1].client && pair[0].body != pair[1].body);
    assert!(changes.count() as u64 >= SWAPS / 2);
    let revisions = site.json(["revisions", "acme/shop"]);
    assert_eq!(revisions["revisions"][0]["revision"], format!("r{}", SWAPS + 2));

    // Revisions that are no longer served are let go of, but for the one before.
    let status = site.json(["status"]);
    assert!(status["loaded"].as_u64().unwrap() <= 2, "{status:#}");
    site.node.stop();
}

#[test]
fn a_request_ends_on_the_revision_that_it_began_with() {
    const HOST: &str = "shop.example";
    let site = Site::of(&["acme"]);
    let address = site.address();
    // A machine that is busy may take longer to swap than the first takes to answer.
    let outlived = [3_000, 12_000, 24_000].into_iter().any(|ms| {
        let (before, after) = (format!("before-{ms}"), format!("after-{ms}"));
        site.deploy(&site.app("acme", "shop", HOST, &before), &[]);
        let path = format!("/config/twice?key=version&ms={ms}&say=it-has-begun-{ms}");
        let long = std::thread::spawn(move || call(address, to(HOST, get(&path))));
        site.node.logged(&[&format!("it-has-begun-{ms}")]);
        site.deploy(&site.app("acme", "shop", HOST, &after), &[]);
        assert_eq!(site.version(HOST), after);
        let outlives = !long.is_finished();
        assert_eq!(long.join().unwrap().expect(200), format!("{before} {before}"));
        outlives
    });
    assert!(outlived, "each swap took longer than the request");
    site.node.stop();
}
