//! A node is replaced by another one on the same addresses, and stops when it is told to, without losing a request.

use std::time::Duration;

use tenon_testkit::client::{call, get, post};

use crate::load::{Asking, Load, expect_all};
use crate::support::{Site, VERSION, to};

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
fn the_next_node_serves_at_once_while_the_one_before_finishes_its_requests() {
    let mut site = Site::of(&["acme"]);
    let folder = site.tenon.data().join("apps/chaos");
    crate::support::write_app(&folder, "chaos-http", "acme", "chaos", "slow.example", "one");
    site.deploy(&folder, &[]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let (address, admin) = (site.address(), site.node.admin().to_string());
    let slow = std::thread::spawn(move || call(address, to("slow.example", get("/sleep?ms=12000"))));
    site.node.logged(&["sleeping"]);
    let next = site.tenon.node_with_admin(&admin).listen(address.to_string()).args(["--replace"]).start();
    let mut before = std::mem::replace(&mut site.node, next);
    // The one before still runs a request; the next one has everything else, and may be changed. What keeps something waits
    // until the one before has let go of the store, which no request needs.
    site.get("slow.example", "/ok").expect(200);
    for _ in 0..20 {
        assert_eq!(site.version(HOST), "one");
    }
    site.deploy(&site.app("acme", "shop", HOST, "two"), &[]);
    assert_eq!(site.version(HOST), "two");
    assert!(!slow.is_finished(), "the next one waited for a request of the one before");
    assert_eq!(slow.join().unwrap().expect(200), "slept\n");
    assert!(before.wait(tenon_testkit::DEADLINE).success(), "{}", before.log());
    site.node.stop();
}

#[test]
fn a_node_whose_successor_fails_goes_on() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    // It asks for the state, and ends before it serves.
    let socket = site.tenon.data().join("node/control.sock");
    let mut asking = std::os::unix::net::UnixStream::connect(socket).unwrap();
    std::io::Write::write_all(&mut asking, b"state\n").unwrap();
    let mut word = [0; 6];
    std::io::Read::read_exact(&mut asking, &mut word).unwrap();
    assert_eq!(&word, b"yours\n");
    // Nothing is changed meanwhile, and everything served.
    assert_eq!(site.version(HOST), "one");
    let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
    let mut pause = post("/v1/tenants/acme/apps/shop/pause", Vec::new());
    pause.headers_mut().insert("authorization", format!("Bearer {}", token.trim()).parse().unwrap());
    let refused = call(site.node.admin(), pause);
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (503, "1"), "{refused:?}");
    assert!(refused.text().contains("node-draining"), "{refused:?}");
    // The command asks again until it is.
    let (tenon, url) = (site.tenon.clone(), site.url());
    let pausing =
        std::thread::spawn(move || tenon.run(tenon.data(), ["pause", "acme/shop", "--node", url.as_str()]));
    drop(asking);
    site.node.logged(&["this one goes on"]);
    pausing.join().unwrap().expect_code(0);
    site.run(["resume", "acme/shop"]).expect_code(0);
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
    let slow = std::thread::spawn(move || call(address, to(HOST, get("/sleep?ms=1500"))));
    site.node.logged(&["sleeping"]);
    site.node.stop();
    assert_eq!(slow.join().unwrap().expect(200), "slept\n");
}

#[test]
fn a_drain_ends_when_it_is_said_to() {
    let mut site = Site::with(["--drain", "500ms"]);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    let folder = site.tenon.data().join("apps/chaos");
    crate::support::write_app(&folder, "chaos-http", "acme", "chaos", "slow.example", "one");
    let manifest = folder.join("tenon.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    // Such a request would hold the node up for longer than any test waits.
    std::fs::write(&manifest, text + "[limits]\nwall = \"30min\"\n").unwrap();
    site.deploy(&folder, &[]);
    let address = site.address();
    let _slow = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = to("slow.example", get("/sleep?ms=1000000"));
        let _ = runtime.block_on(tenon_testkit::client::fetch(address, asked));
    });
    site.node.logged(&["sleeping"]);
    site.node.terminate();
    assert!(site.node.wait(tenon_testkit::DEADLINE).success(), "{}", site.node.log());
    site.node.logged(&["requests were still running when the drain's time was over"]);
}
