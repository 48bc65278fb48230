//! A node that nobody asks anything leaves the processor alone.

use std::time::Duration;

use crate::support::Site;

/// How often threads of this name have gone to sleep.
fn sleeps(site: &Site, name: &str) -> u64 {
    let counts = site.node.thread_statuses("voluntary_ctxt_switches").into_iter();
    counts.filter(|(of, _)| of == name).map(|(_, count)| count.parse::<u64>().unwrap()).sum()
}

#[test]
fn workers_sleep_while_no_guest_runs() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", "shop.example", "one"), &[]);
    // Guests have run, and are looked at twice a millisecond while they do.
    for _ in 0..20 {
        assert_eq!(site.version("shop.example"), "one");
    }
    let before = sleeps(&site, "tenon-worker-0");
    std::thread::sleep(Duration::from_secs(2));
    let since = sleeps(&site, "tenon-worker-0") - before;
    // What was opened is still closed, once it has been idle for long.
    assert!(since < 200, "the first worker woke {since} times in two seconds for nothing");
    assert_eq!(site.version("shop.example"), "one");
    site.node.stop();
}
