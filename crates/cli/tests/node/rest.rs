//! Sandboxes that rest between requests are in nobody's way: not in that of a neighbour's reserve, nor of apps that have to
//! come into memory.

use std::time::{Duration, Instant};

use tenon_testkit::{DEADLINE, Guests, until};

use crate::load::{Asking, Load, Seen, expect_all};
use crate::support::Site;

/// How long a sandbox rests that nobody asks for.
const REST: Duration = Duration::from_secs(10);
const ONE_AFTER_ANOTHER: &str = "reuse = { requests = 1000 }\n";
const SEVERAL_AT_ONCE: &str = "reuse = { requests = 1000, concurrent = 16 }\n";

/// Deploys a fixture guest as `tenant/name`, at the host of its name.
fn deploy(site: &Site, tenant: &str, name: &str, guest: &str, reuse: &str) {
    let folder = site.tenon.data().join("apps").join(tenant).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = format!(
        "name = \"{name}\"\n{reuse}[deploy]\ntenant = \"{tenant}\"\nroutes = [\"{name}.example/*\"]\n[component.app]\npath = \"{}\"\n",
        Guests::get(guest).display()
    );
    std::fs::write(folder.join("tenon.toml"), manifest).unwrap();
    site.deploy(&folder, &[]);
}

/// What so many clients see of an app when they ask at once.
fn burst(site: &Site, name: &str, path: &str, clients: usize) -> Vec<Seen> {
    let load = Load::start(Asking {
        address: site.address(),
        host: format!("{name}.example"),
        path: path.into(),
        clients,
        pause: Duration::ZERO,
    });
    load.more(2 * clients as u64);
    load.stop()
}

/// A node with eight sandboxes, of which the steady tenant has so many in reserve.
fn eight(reserved: &str, more: &[&str]) -> Site {
    let site = Site::with([&["--pool", "8"], more].concat());
    site.run(["tenant", "set", "steady", "--reserved", reserved]).expect_code(0);
    site.run(["tenant", "set", "noisy"]).expect_code(0);
    site
}

#[test]
fn a_reserve_is_there_when_a_neighbours_sandboxes_rest() {
    let site = eight("4", &[]);
    deploy(&site, "steady", "steady", "chaos-http", "");
    let noisy = ["one", "two", "three"];
    for name in noisy {
        deploy(&site, "noisy", name, "chaos-http", ONE_AFTER_ANOTHER);
    }
    for name in noisy {
        // Each leaves up to four at rest: together more than there are.
        expect_all(&burst(&site, name, "/sleep?ms=200", 4), 200);
    }
    // All four of its reserve, and the four that are shared.
    expect_all(&burst(&site, "steady", "/sleep?ms=200", 8), 200);
    // And the other way round.
    for name in noisy {
        expect_all(&burst(&site, name, "/sleep?ms=200", 4), 200);
    }
    site.node.stop();
}

#[test]
fn empty_sandboxes_for_several_requests_make_room_too() {
    let site = eight("4", &["--workers", "2"]);
    deploy(&site, "steady", "steady", "service-p3", "");
    for number in 0..10 {
        let name = format!("app-{number}");
        deploy(&site, "noisy", &name, "service-p3", SEVERAL_AT_ONCE);
        site.get(&format!("{name}.example"), "/counter").expect(200);
    }
    let began = Instant::now();
    expect_all(&burst(&site, "steady", "/sleep?ms=200", 4), 200);
    assert!(began.elapsed() < REST, "it took {:?}", began.elapsed());
    site.node.stop();
}

#[test]
fn requests_in_one_sandbox_take_one_place_of_the_share() {
    // The noisy one has one sandbox, and the twin of its app one request in it.
    let site = eight("7", &["--workers", "1"]);
    deploy(&site, "noisy", "crowd", "service-p3", SEVERAL_AT_ONCE);
    deploy(&site, "noisy", "single", "service-p3", ONE_AFTER_ANOTHER);
    let most = |seen: &[Seen]| seen.iter().filter_map(|one| one.body.parse::<u32>().ok()).max();
    let seen = burst(&site, "crowd", "/at-once?ms=400", 8);
    expect_all(&seen, 200);
    assert_eq!(most(&seen), Some(8));
    let seen = burst(&site, "single", "/at-once?ms=400", 8);
    assert!(seen.iter().any(|one| one.code == "instances-quota"), "{seen:?}");
    assert_eq!(most(&seen), Some(1));
    // What is joined again and again is given back when somebody else waits for it.
    let crowd = Load::start(Asking {
        address: site.address(),
        host: "crowd.example".into(),
        path: "/sleep?ms=20".into(),
        clients: 8,
        pause: Duration::ZERO,
    });
    crowd.more(32);
    for _ in 0..5 {
        // A busy machine may take longer to notice than a request waits for its turn.
        until("a place", DEADLINE, || (site.get("single.example", "/ok").status == 200).then_some(()));
    }
    crowd.more(32);
    expect_all(&crowd.stop(), 200);
    site.node.stop();
}

#[test]
fn an_app_whose_sandbox_is_empty_leaves_memory_at_once() {
    let site = eight("0", &["--loaded", "2"]);
    let names = ["one", "two", "three"];
    for name in names {
        deploy(&site, "noisy", name, "service-p3", SEVERAL_AT_ONCE);
    }
    let began = Instant::now();
    for _ in 0..3 {
        for name in names {
            site.get(&format!("{name}.example"), "/ok").expect(200);
        }
    }
    // Without room being made, each would wait for the rest of one before it.
    assert!(began.elapsed() < REST, "it took {:?}", began.elapsed());
    site.node.stop();
}
