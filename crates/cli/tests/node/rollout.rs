//! Canaries: who gets the new revision, and when it is sent back.

use std::time::Duration;

use http::Request;
use serde_json::Value;
use tenon_testkit::client::{Body, call, get};
use tenon_testkit::{DEADLINE, Finished, until};

use crate::load::{Asking, Load, expect_all};
use crate::support::{Site, VERSION, to, write_app};

const HOST: &str = "shop.example";

/// A node with version `one` serving, and `two` on its way.
fn rolling(more: &[&str]) -> Site {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let done = site.deploy(&site.app("acme", "shop", HOST, "two"), more);
    assert_eq!(done["app"]["rollout"]["state"], "running", "{done:#}");
    site
}

/// A command that went well, and said all of this.
#[track_caller]
fn expect_said(done: &Finished, texts: &[&str]) {
    assert!(done.status.success(), "{}", done.stderr);
    for text in texts {
        assert!(done.stdout.contains(text), "no `{text}` in\n{}", done.stdout);
    }
}

fn with(name: &str, value: &str) -> Request<Body> {
    let mut request = to(HOST, get(VERSION));
    request.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    request
}

#[test]
fn a_client_stays_with_its_revision_and_both_are_seen() {
    let site = rolling(&["--canary", "50", "--hold", "10min", "--sticky", "header:x-user"]);
    let version = |user: usize| call(site.address(), with("x-user", &format!("user-{user}"))).expect(200);
    let first: Vec<String> = (0..60).map(version).collect();
    for (user, before) in first.iter().enumerate() {
        assert_eq!(*before, version(user), "user {user} changed revisions");
    }
    let new = first.iter().filter(|version| *version == "two").count();
    assert!((10..=50).contains(&new), "{new} of 60 users got the new revision at 50%");

    site.run(["promote", "acme/shop"]).expect_code(0);
    assert!((0..20).all(|user| version(user) == "two"));
    assert_eq!(site.json(["rollout", "acme/shop"])["state"], "promoted");
    site.node.stop();
}

#[test]
fn a_cookie_keeps_a_client_with_its_revision() {
    let site = rolling(&["--canary", "50", "--hold", "10min", "--sticky", "cookie"]);
    for _ in 0..20 {
        let first = call(site.address(), to(HOST, get(VERSION)));
        let cookie = first.header("set-cookie").split(';').next().unwrap().to_owned();
        assert!(!cookie.is_empty(), "{first:?}");
        let version = first.expect(200);
        assert_eq!(call(site.address(), with("cookie", &cookie)).expect(200), version);
    }
    site.node.stop();
}

#[test]
fn who_chooses_the_candidate_gets_it_and_a_revert_is_instant() {
    let site = rolling(&["--canary", "1", "--hold", "10min", "--chosen", "header:x-canary=yes"]);
    assert_eq!(call(site.address(), with("x-canary", "yes")).expect(200), "two");
    site.run(["pause", "acme/shop", "--rollout"]).expect_code(0);
    assert_eq!(site.json(["rollout", "acme/shop"])["state"], "paused");
    site.run(["revert", "acme/shop"]).expect_code(0);
    assert_eq!(call(site.address(), with("x-canary", "yes")).expect(200), "one");
    assert_eq!(site.json(["rollout", "acme/shop"])["state"], "reverted");
    site.node.stop();
}

#[test]
fn a_cookie_chooses_the_candidate_too() {
    let site = rolling(&["--canary", "1", "--hold", "10min", "--chosen", "cookie:canary=yes"]);
    let version = |cookie: &str| call(site.address(), with("cookie", cookie)).expect(200);
    for _ in 0..20 {
        assert_eq!(version("theme=dark; canary=yes"), "two");
    }
    // Of one address, which at 1% has the stable revision or, seldom, has not: but always the same.
    let others: std::collections::BTreeSet<String> =
        ["canary=no", "canary=yess", "xcanary=yes", "theme=yes"].map(version).into();
    assert_eq!(others.len(), 1, "{others:?}");
    assert!(others.contains("one"), "127.0.0.1 is not among the first hundredth");
    site.node.stop();
}

#[test]
fn steps_follow_one_another_by_themselves() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let next = site.app("acme", "shop", HOST, "two");
    let rest = ["--canary", "10,50", "--hold", "300ms", "--wait", "--json"].map(std::ffi::OsStr::new);
    let done = site.run([&["deploy".as_ref(), next.as_os_str()][..], &rest].concat()).expect_code(0);
    // The deploy, then what became of the rollout.
    let last: Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["state"], "promoted", "{last:#}");
    assert_eq!(site.version(HOST), "two");
    site.node.stop();
}

#[test]
fn a_candidate_that_crashes_is_sent_back_by_itself() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    // What the first does not know, the second dies of.
    let load = Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: "/trap".into(),
        clients: 4,
        pause: Duration::from_millis(1),
    });
    load.more(50);
    let bad = site.tenon.data().join("apps/bad");
    write_app(&bad, "chaos-http", "acme", "shop", HOST, "bad");
    let args = [
        "deploy".as_ref(),
        bad.as_os_str(),
        "--canary".as_ref(),
        "30".as_ref(),
        "--hold".as_ref(),
        "10min".as_ref(),
        "--sticky".as_ref(),
        "cookie".as_ref(),
        "--wait".as_ref(),
    ];
    site.run(args).expect_code(1).expect_stderr(&["rollout-reverted", "r2 was sent back", "crashed"]);
    let status = site.json(["rollout", "acme/shop"]);
    assert_eq!(status["state"], "reverted", "{status:#}");
    assert!(status["seen_candidate"]["crashes"].as_u64().unwrap() >= 10, "it stays to be seen: {status:#}");
    let told = site.run(["rollout", "acme/shop"]).expect_code(0).stdout;
    assert!(told.contains("was sent back to r1: it crashed") && !told.contains("r2: 0 requests"), "{told}");
    let told = site.run(["revisions", "acme/shop"]).expect_code(0).stdout;
    assert!(told.contains("sent back: it crashed"), "{told}");
    // From here on nobody meets it.
    let before = load.stop();
    assert!(before.iter().any(|one| one.code == "guest-trap"), "nobody met the bad revision");
    for _ in 0..20 {
        assert_eq!(site.get(HOST, "/trap").status, 404);
    }
    assert_eq!(site.version(HOST), "one");
    let audit = site.json(["audit"]);
    let reverted = audit["entries"].as_array().unwrap().iter().any(|entry| entry["who"] == "node");
    assert!(reverted, "the node says that it was the node: {audit:#}");
    site.node.stop();
}

#[test]
fn a_candidate_that_crashes_at_each_of_few_requests_is_sent_back() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let bad = site.tenon.data().join("apps/bad");
    write_app(&bad, "chaos-http", "acme", "shop", HOST, "bad");
    // Neither a burst nor enough to be compared, however fast they come: so much is tolerated.
    let manifest = bad.join("tenon.toml");
    let told = std::fs::read_to_string(&manifest).unwrap();
    let tolerance = "[deploy.rollout]\nsteps = [50]\nhold = \"60min\"\nsticky = \"cookie\"\ncrashes = 1000\nsamples = 1000\n";
    std::fs::write(&manifest, told.replace("[component.app]", &format!("{tolerance}[component.app]")))
        .unwrap();
    site.deploy(&bad, &[]);
    let mut asked = 0;
    let rollout = until("it to be sent back", DEADLINE, || {
        for _ in 0..4 {
            asked += 1;
            site.get(HOST, "/trap");
        }
        let rollout = site.json(["rollout", "acme/shop"]);
        (rollout["state"] == "reverted").then_some(rollout)
    });
    assert!(rollout["why"].as_str().unwrap().contains("its breaker opened"), "{rollout:#}");
    assert!(rollout["seen_candidate"]["requests"].as_u64().unwrap() < 100, "of {asked}: {rollout:#}");
    site.get(HOST, "/trap").expect(404);
    site.node.stop();
}

#[test]
fn a_candidate_that_is_as_good_takes_over_under_load() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let load = Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: VERSION.into(),
        clients: 4,
        pause: Duration::from_millis(1),
    });
    load.more(100);
    let next = site.app("acme", "shop", HOST, "two");
    let plan =
        ["--canary", "20,50", "--hold", "1s", "--sticky", "cookie", "--wait"].map(std::ffi::OsStr::new);
    site.run([&["deploy".as_ref(), next.as_os_str()][..], &plan].concat()).expect_code(0);
    expect_all(&load.stop(), 200);
    assert_eq!(site.version(HOST), "two");
    site.node.stop();
}

#[test]
fn a_rollout_that_is_paused_stays_at_its_step_and_goes_on_when_it_is_resumed() {
    // So many steps that the last is far when the first is over.
    let shares: Vec<String> = (1..=20).map(|share: u32| share.to_string()).collect();
    let site = rolling(&["--canary", &shares.join(","), "--hold", "700ms"]);
    let rollout = || site.json(["rollout", "acme/shop"]);
    expect_said(&site.run(["pause", "acme/shop", "--rollout"]), &["r2 stays at "]);
    let held = rollout();
    assert_eq!(held["state"], "paused", "{held:#}");
    // Twice as long as a step is held.
    std::thread::sleep(Duration::from_millis(1_400));
    let still = rollout();
    assert_eq!((&still["state"], &still["step"]), (&held["state"], &held["step"]), "{still:#}");
    expect_said(&site.run(["resume", "acme/shop", "--rollout"]), &["goes on"]);
    until("the step after it", DEADLINE, || {
        let rollout = rollout();
        let is_next = rollout["step"].as_u64() > held["step"].as_u64() || rollout["state"] == "promoted";
        is_next.then_some(())
    });
    site.node.stop();
}

#[test]
fn a_revert_after_another_one_goes_no_further() {
    let site = Site::of(&["acme"]);
    for version in ["one", "two"] {
        site.deploy(&site.app("acme", "shop", HOST, version), &[]);
    }
    site.deploy(&site.app("acme", "shop", HOST, "three"), &["--canary", "1", "--hold", "60min"]);
    expect_said(&site.run(["revert", "acme/shop"]), &["acme/shop r2 serves\n"]);
    let told = ["r2 serves, nothing was to be done: r3 was sent back already", "`--to REVISION`"];
    expect_said(&site.run(["revert", "acme/shop"]), &told);
    assert_eq!(site.version(HOST), "two");
    expect_said(&site.run(["revert", "acme/shop", "--to", "r1"]), &["r4 serves"]);
    assert_eq!(site.version(HOST), "one");
    site.node.stop();
}

#[test]
fn routes_do_not_change_in_steps_and_come_back_with_a_revert() {
    let site = Site::of(&["acme"]);
    let both = ["--route", "shop.example/*", "--route", "old.example/*"];
    site.deploy(&site.app("acme", "shop", HOST, "one"), &both);
    let next = site.app("acme", "shop", HOST, "two");
    let deploy = |more: &[&str]| {
        let more = more.iter().map(std::ffi::OsStr::new);
        site.run(["deploy".as_ref(), next.as_os_str()].into_iter().chain(more).collect::<Vec<_>>())
    };
    // The manifest has one of them.
    deploy(&["--canary", "5"]).expect_code(1).expect_stderr(&[
        "rollout-routes",
        "old.example/*",
        "--at-once",
    ]);
    assert_eq!(site.version("old.example"), "one", "nobody lost it");
    // In another order they are the same.
    let turned = ["--route", "old.example/*", "--route", "shop.example/*"];
    let candidate = site.deploy(&next, &[&turned[..], &["--canary", "5", "--hold", "60min"]].concat());
    assert_eq!(candidate["app"]["rollout"]["state"], "running", "{candidate:#}");
    let again = deploy(&[&both[..], &["--at-once"]].concat());
    expect_said(&again, &["has this content already: r2", "5%", "tenon promote acme/shop"]);

    deploy(&["--at-once"]).expect_code(0);
    assert_eq!(site.version(HOST), "two");
    site.get("old.example", VERSION).expect_failure(404, "no-route");
    site.run(["revert", "acme/shop", "--to", "r1"]).expect_code(0);
    assert_eq!((site.version(HOST), site.version("old.example")), ("one".into(), "one".into()));
    site.node.stop();
}

/// Deploys `chaos-http` in the place of version `one`, as a candidate for half of the requests, while clients ask for `path`;
/// what the command says when it was sent back, and how the rollout ended.
fn sent_back(path: &str, clients: usize) -> (String, Value) {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let load = Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: path.into(),
        clients,
        pause: Duration::from_millis(1),
    });
    load.more(200);
    let next = site.tenon.data().join("apps/next");
    write_app(&next, "chaos-http", "acme", "shop", HOST, "next");
    let plan =
        ["--canary", "50", "--hold", "10min", "--sticky", "cookie", "--wait"].map(std::ffi::OsStr::new);
    let ended = site.run([&["deploy".as_ref(), next.as_os_str()][..], &plan].concat()).expect_code(1);
    load.stop();
    assert_eq!(site.version(HOST), "one");
    let status = site.json(["rollout", "acme/shop"]);
    assert_eq!(status["state"], "reverted", "{status:#}");
    site.node.stop();
    (ended.expect_stderr(&["rollout-reverted", "r2 was sent back"]).stderr, status)
}

#[test]
fn a_candidate_that_fails_more_often_is_sent_back_by_itself() {
    // The stable revision answers 404, the candidate 503: neither crashes.
    let (said, status) = sent_back("/status?code=503", 4);
    assert!(said.contains("1000 of 1,000 requests failed, of the stable revision 0"), "{said}");
    let (candidate, stable) = (&status["seen_candidate"], &status["seen_stable"]);
    assert!(candidate["requests"].as_u64().unwrap() >= 100, "too few to say so: {status:#}");
    assert_eq!(candidate["errors"], candidate["requests"]);
    assert_eq!((&candidate["crashes"], &stable["errors"]), (&0.into(), &0.into()), "{status:#}");
}

#[test]
fn a_candidate_that_is_slower_is_sent_back_by_itself() {
    // The stable revision knows nothing of that path and says so at once.
    let (said, status) = sent_back("/sleep?ms=400", 16);
    assert!(said.contains("p99 was ") && said.contains(" µs, of the stable revision "), "{said}");
    let (candidate, stable) = (&status["seen_candidate"], &status["seen_stable"]);
    assert!(candidate["p99_us"].as_u64() > stable["p99_us"].as_u64().map(|us| us * 2), "{status:#}");
    assert_eq!((&candidate["errors"], &stable["errors"]), (&0.into(), &0.into()), "{status:#}");
    for seen in [candidate, stable] {
        assert!(seen["requests"].as_u64().unwrap() >= 100, "too few to say so: {status:#}");
    }
}

#[test]
fn shadow_requests_reach_the_candidate_and_no_client_sees_it() {
    let site = rolling(&["--shadow", "100"]);
    // The candidate's labels: what it answered like the stable revision, and what it did not.
    let compared = |what: &str| {
        let labels = ["tenant=\"acme\"", "app=\"shop\"", "revision=\"r2\""];
        site.counted(&format!("tenon_shadow_{what}_total"), &labels)
    };
    until("different answers to be counted", DEADLINE, || {
        assert_eq!(site.version(HOST), "one");
        (compared("different") >= 10).then_some(())
    });
    assert_eq!(compared("same"), 0, "each says its version");
    until("like answers to be counted", DEADLINE, || {
        site.get(HOST, "/get?key=nothing").expect(404);
        (compared("same") >= 10).then_some(())
    });
    let rollout = site.json(["rollout", "acme/shop"]);
    assert!(rollout["seen_candidate"]["requests"].as_u64().unwrap() >= 20, "{rollout:#}");
    assert_eq!(rollout["state"], "running");
    site.node.stop();
}
