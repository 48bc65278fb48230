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

#[test]
fn as_many_apps_as_capacity_says_are_deployed_and_no_more() {
    let site = Site::new();
    site.run(["tenant", "set", "acme", "--apps", "3"]).expect_code(0);
    let deploy = |name: &str| {
        // One component, which is compiled once.
        let app = site.app("acme", "one-of-many", &format!("{name}.example"), "one");
        site.run(["deploy".as_ref(), app.as_os_str(), "--app".as_ref(), name.as_ref()])
    };
    let fits = || {
        let capacity = site.json(["capacity", "acme/one"]);
        (capacity["fits"].as_u64().unwrap(), capacity["bound_by"].as_str().unwrap().to_owned())
    };
    deploy("one").expect_code(0);
    assert_eq!(fits(), (2, "apps".to_owned()));
    for name in ["two", "three"] {
        deploy(name).expect_code(0);
    }
    assert_eq!(fits(), (0, "apps".to_owned()));
    deploy("four").expect_code(1).expect_stderr(&["too-many-apps"]);
    site.get("four.example", crate::support::VERSION).expect_failure(404, "no-route");
    // With leave for one more there is room for one more.
    site.run(["tenant", "set", "acme", "--apps", "4"]).expect_code(0);
    assert_eq!(fits().0, 1);
    deploy("four").expect_code(0);
    assert_eq!(site.version("four.example"), "one");
    site.node.stop();
}
