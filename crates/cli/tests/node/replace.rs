//! A node is replaced by another one on the same addresses, and stops when it is told to, without losing a request.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tenon_testkit::client::{Http2, call, get, post};
use tenon_testkit::{DEADLINE, Tenon, until};

use crate::load::{Asking, Load, expect_all};
use crate::manager::{Manager, Orphan};
use crate::support::{Site, VERSION, to};

const HOST: &str = "shop.example";

#[test]
fn a_node_is_replaced_under_load() {
    let mut site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let (address, admin) = (site.address().to_string(), site.node.admin().to_string());
    let asking = |clients| Asking {
        address: site.address(),
        host: HOST.into(),
        path: VERSION.into(),
        clients,
        pause: Duration::from_millis(1),
    };
    let (load, http2) = (Load::start(asking(8)), Load::start_http2(asking(4)));
    load.more(200);
    http2.more(100);
    let next = site.tenon.node_with_admin(&admin).listen(&address).args(["--replace"]).start();
    let mut before = std::mem::replace(&mut site.node, next);
    assert!(before.wait(DEADLINE).success(), "{}", before.log());
    load.more(200);
    http2.more(100);
    expect_all(&load.stop(), 200);
    expect_all(&http2.stop(), 200);
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
    assert!(before.wait(DEADLINE).success(), "{}", before.log());
    site.node.stop();
}

#[test]
fn a_node_whose_successor_fails_goes_on() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    // It asks for the state, and ends before it serves.
    let socket = site.tenon.data().join("node/control.sock");
    let mut asking = std::os::unix::net::UnixStream::connect(socket).unwrap();
    asking.write_all(b"state\n").unwrap();
    let mut word = [0; 6];
    asking.read_exact(&mut word).unwrap();
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
    let request = || to(HOST, get("/sleep?ms=1500"));
    let slow = std::thread::spawn(move || call(address, request()));
    site.node.logged(&["sleeping"]);
    let http2 = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Http2::open(address).await.unwrap().exchange(request()).await.unwrap() })
    });
    until("both to have begun", DEADLINE, || (site.node.count_logged(&["sleeping"]) == 2).then_some(()));
    site.node.stop();
    for slept in [slow, http2] {
        assert_eq!(slept.join().unwrap().expect(200), "slept\n");
    }
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

/// The compiled code in a data directory.
fn artifacts(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data.join("artifacts")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|it| it == "cwasm")).collect();
    files.sort();
    files
}

/// As after an upgrade of the engine: the next node has compiled code of nothing that is served.
#[test]
fn what_is_served_is_compiled_for_the_next_node_before_it_takes_over() {
    let mut site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let (address, admin) = (site.address().to_string(), site.node.admin().to_string());
    let before = artifacts(site.tenon.data());
    assert!(!before.is_empty());
    before.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    assert_eq!(site.version(HOST), "one", "what is in memory is served");
    let next = site.tenon.node_with_admin(&admin).listen(&address).args(["--replace"]).start();
    // It listens, and nobody has asked it for anything.
    assert_eq!(artifacts(site.tenon.data()), before);
    next.logged(&["compiling ahead what is served"]);
    next.logged(&["compiling ahead is over"]);
    next.logged(&["all that is served is compiled for this engine"]);
    let mut old = std::mem::replace(&mut site.node, next);
    assert!(old.wait(DEADLINE).success(), "{}", old.log());
    assert_eq!(site.version(HOST), "one");
    site.node.stop();
}

#[test]
fn whoever_started_a_node_is_told_which_process_serves_and_when_it_ends() {
    let manager = Manager::new();
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let start = |serve: tenon_testkit::Serve| serve.env("NOTIFY_SOCKET", manager.path()).start();
    let mut first = start(tenon.node());
    assert_eq!(manager.told(), format!("READY=1\nMAINPID={}", first.id()));
    let (address, admin) = (first.address().to_string(), first.admin().to_string());
    let next = start(tenon.node_with_admin(&admin).listen(&address).args(["--replace"]));
    assert_eq!(manager.told(), format!("READY=1\nMAINPID={}", next.id()));
    // The one before says nothing of its end: the node goes on.
    assert!(first.wait(DEADLINE).success(), "{}", first.log());
    assert_eq!(manager.told_already(), None);
    next.stop();
    assert_eq!(manager.told(), "STOPPING=1");
}

#[test]
fn a_next_node_that_has_not_asked_for_the_state_ends_at_once() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    std::fs::create_dir(tenon.data().join("node")).unwrap();
    // A node that takes very long to say what it serves: as long, for the next one, as compiling all of it.
    let before = UnixListener::bind(tenon.data().join("node/control.sock")).unwrap();
    before.set_nonblocking(true).unwrap();
    let mut next = Command::new(env!("CARGO_BIN_EXE_tenon"))
        .args(["node", "--replace", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .env("TENON_DATA", tenon.data())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let process = Orphan(i32::try_from(next.id()).unwrap());
    let (mut asked, _) = until("the next node's question", DEADLINE, || before.accept().ok());
    let mut word = [0; 6];
    asked.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"serve\n");
    kill_process(process.pid(), Signal::TERM).unwrap();
    let ended = until("its end", DEADLINE, || {
        // It goes on to say something, for otherwise it would not be waited for.
        let _ = asked.write_all(b".");
        next.try_wait().unwrap()
    });
    assert_eq!(ended.signal(), Some(Signal::TERM.as_raw()));
}
