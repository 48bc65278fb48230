//! A node that nobody asks anything leaves the processor alone.

use std::time::Duration;

use crate::support::Site;

/// How often threads of this name have gone to sleep.
fn sleeps(site: &Site, name: &str) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{}/task", site.node.id())).unwrap();
    let of_name = threads.flatten().filter_map(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let field = |field: &str| status.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
        (field("Name:") == Some(name)).then(|| field("voluntary_ctxt_switches:")?.parse::<u64>().ok())?
    });
    of_name.sum()
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
