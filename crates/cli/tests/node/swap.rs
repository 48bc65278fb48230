//! Swaps under load: no request fails, and none sees an older revision than one before it saw.

use std::time::Duration;

use crate::load::{Asking, Load, expect_all};
use crate::support::{Site, VERSION};

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
    // Every key of the configuration at once, read over the time of the request: one revision's.
    let whole = Load::start(asking("/config/all", 2));
    for swap in 0..SWAPS {
        let to = if swap % 2 == 0 { "r1" } else { "r2" };
        site.run(["revert", "acme/shop", "--to", to]).expect_code(0);
        load.more(8);
    }
    let (seen, whole) = (load.stop(), whole.stop());
    expect_all(&seen, 200);
    expect_all(&whole, 200);
    assert!(seen.iter().all(|one| ["even", "odd"].contains(&one.body.as_str())), "{:?}", seen.first());
    for one in &whole {
        assert!(one.body.contains("even") != one.body.contains("odd"), "{}", one.body);
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
