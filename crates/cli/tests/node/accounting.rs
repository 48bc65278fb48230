//! What an app used, and what was refused it, is told of the app: whichever revision did it, and whatever became of that.

use serde_json::Value;
use tenon_testkit::client::{call, get};
use tenon_testkit::{DEADLINE, until};

use crate::support::Site;

const HOST: &str = "shop.example";

/// An answer of the admin API to whoever runs the node.
fn admin(site: &Site, path: &str) -> String {
    let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
    let mut request = get(path);
    request.headers_mut().insert("authorization", format!("Bearer {}", token.trim()).parse().unwrap());
    call(site.node.admin(), request).expect(200)
}

/// What a counter of the app says, over all its lines that have these labels.
fn total(site: &Site, name: &str, labels: &str) -> f64 {
    let metrics = admin(site, "/metrics");
    let lines = metrics.lines().filter(|line| {
        line.starts_with(&format!("{name}{{")) && line.contains("app=\"shop\"") && line.contains(labels)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn of_top(site: &Site) -> Value {
    let top: Value = serde_json::from_str(&admin(site, "/v1/top")).unwrap();
    top["apps"].as_array().unwrap().iter().find(|app| app["app"] == "shop").cloned().unwrap_or_default()
}

#[test]
fn what_was_refused_is_counted_for_its_app() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    site.run(["pause", "acme/shop"]).expect_code(0);
    for _ in 0..3 {
        site.get(HOST, "/config?key=version").expect_failure(503, "app-paused");
    }
    assert_eq!(total(&site, "tenon_requests_total", "outcome=\"refused\""), 3.0);
    assert_eq!(of_top(&site)["refused"], 3);
    site.node.stop();
}

#[test]
fn what_an_app_used_does_not_fall_when_revisions_go() {
    let site = Site::of(&["acme"]);
    let used = ["tenon_cpu_seconds_total", "tenon_memory_byte_seconds_total", "tenon_sent_bytes_total"];
    let mut before = [0.0; 3];
    let mut asked = 0;
    let mut step = |what: &str, site: &Site| {
        for _ in 0..5 {
            site.version(HOST);
        }
        asked += 5;
        until("all to be counted", DEADLINE, || {
            (total(site, "tenon_requests_total", "outcome=\"answered\"") as u64 >= asked).then_some(())
        });
        let now = used.map(|name| total(site, name, ""));
        for ((name, before), now) in used.iter().zip(before).zip(now) {
            assert!(now > before, "{what}: {name} was {before} and is {now}");
        }
        before = now;
    };
    for version in ["one", "two", "three", "four"] {
        site.deploy(&site.app("acme", "shop", HOST, version), &[]);
        step(version, &site);
    }
    // All of its revisions come into being anew.
    site.run(["tenant", "set", "acme", "--allow", "sockets"]).expect_code(0);
    step("allowed something else", &site);
    let top = of_top(&site);
    assert_eq!(top["requests"], 25, "{top:#}");
    assert!(top["memory_byte_seconds"].as_u64().is_some() && top["bytes_out"].as_u64() > Some(0), "{top:#}");
    site.node.stop();
}
