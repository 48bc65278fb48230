//! More apps than are kept in memory: all of them answer.

use crate::support::Site;

#[test]
fn apps_leave_memory_and_come_back_when_they_are_asked() {
    const APPS: usize = 16;
    const LOADED: usize = 4;
    let site = Site::with(["--loaded", "4"]);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    let host = |number: usize| format!("app-{number}.example");
    for number in 0..APPS {
        let name = format!("app-{number}");
        site.deploy(
            &site.app("acme", &name, &host(number), &format!("version {number}").replace(' ', "-")),
            &[],
        );
    }
    let loaded = || site.json(["status"])["loaded"].as_u64().unwrap();
    for round in 0..3 {
        for number in 0..APPS {
            assert_eq!(site.version(&host(number)), format!("version-{number}"), "round {round}");
            if number % LOADED == 0 {
                assert!(loaded() <= LOADED as u64, "there are never more");
            }
        }
    }
    assert!(loaded() >= 1);
    site.node.stop();
}

#[test]
fn capacity_says_how_many_more_fit_and_what_runs_out_first() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", "shop.example", "one"), &[]);
    let capacity = site.json(["capacity", "acme/shop"]);
    let fits = capacity["fits"].as_u64().unwrap();
    let bound = capacity["bound_by"].as_str().unwrap();
    let bounds = capacity["bounds"].as_array().unwrap();
    let least = bounds.iter().map(|bound| bound["fits"].as_u64().unwrap()).min();
    assert_eq!(least, Some(fits), "{capacity:#}");
    assert!(bounds.iter().any(|one| one["bound"] == bound && one["fits"] == fits), "{capacity:#}");
    assert!(fits > 0);
    let larger = site.json(["capacity", "--memory", "256MiB", "--concurrency", "1000"]);
    assert!(larger["fits"].as_u64().unwrap() <= fits, "{larger:#}");
    site.node.stop();
}
