//! A node is replaced by another one on the same addresses, and stops when it is told to, without losing a request.

use std::time::Duration;

use crate::load::{Asking, Load, expect_all};
use crate::support::{Site, VERSION};

const HOST: &str = "shop.example";

#[test]
fn a_node_is_replaced_under_load() {
    let mut site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let (address, admin) = (site.address().to_string(), site.node.admin().to_string());
    let load = Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: VERSION.into(),
        clients: 8,
        pause: Duration::from_millis(1),
    });
    load.more(200);
    let next = site.tenon.node_with_admin(&admin).listen(&address).args(["--replace"]).start();
    let mut before = std::mem::replace(&mut site.node, next);
    assert!(before.wait(tenon_testkit::DEADLINE).success(), "{}", before.log());
    load.more(200);
    expect_all(&load.stop(), 200);
    site.deploy(&site.app("acme", "shop", HOST, "two"), &[]);
    assert_eq!(site.version(HOST), "two");
    site.node.stop();
}

#[test]
fn a_node_that_is_told_to_stop_lets_requests_finish() {
    let site = Site::of(&["acme"]);
    let folder = site.tenon.data().join("apps/chaos");
    crate::support::write_app(&folder, "chaos-http", "acme", "chaos", HOST, "one");
    site.deploy(&folder, &[]);
    let address = site.address();
    let slow = std::thread::spawn(move || {
        tenon_testkit::client::call(
            address,
            crate::support::to(HOST, tenon_testkit::client::get("/sleep?ms=1500")),
        )
    });
    site.node.logged(&["sleeping"]);
    site.node.stop();
    assert_eq!(slow.join().unwrap().expect(200), "slept\n");
}
