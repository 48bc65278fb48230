//! Quotas bite with their names, and what one tenant does to the node its neighbours do not feel.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use tenon_testkit::client::Reply;
use tokio::io::AsyncWriteExt as _;

use crate::load::{Asking, Load, Seen, expect_all};
use crate::support::{Site, write_app};

/// A node with a steady tenant and one that is not; both have chaos to offer, only one asks for it.
fn two(noisy: &[&str], node: &[&str]) -> Site {
    let site = Site::with(node);
    site.run(["tenant", "set", "steady"]).expect_code(0);
    site.run([&["tenant", "set", "noisy"], noisy].concat()).expect_code(0);
    for tenant in ["steady", "noisy"] {
        deploy_chaos(&site, tenant, "10s");
    }
    site
}

/// Deploys an app of this tenant, at `TENANT.example`, that does whatever its path says, for as long as `wall`.
fn deploy_chaos(site: &Site, tenant: &str, wall: &str) {
    let folder = site.tenon.data().join("apps").join(tenant);
    write_app(&folder, "chaos-http", tenant, "app", &format!("{tenant}.example"), "one");
    let manifest = folder.join("tenon.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let limits = format!("[limits]\ncpu = \"300ms\"\nwall = \"{wall}\"\nmemory = \"64MiB\"\n");
    std::fs::write(manifest, text + &limits).unwrap();
    site.deploy(&folder, &[]);
}

fn asking(site: &Site, tenant: &str, path: &str, clients: usize) -> Asking {
    Asking {
        address: site.address(),
        host: format!("{tenant}.example"),
        path: path.into(),
        clients,
        pause: Duration::ZERO,
    }
}

/// Asks until it is refused for this quota.
#[track_caller]
fn refused(site: &Site, path: &str, clients: usize, code: &str) -> Vec<Seen> {
    let load = Load::start(asking(site, "noisy", path, clients));
    load.more(200);
    let seen = load.stop();
    expect_refused(&seen, code);
    seen
}

/// Panics unless some were refused with this code, and each of those with the quota's name and when it may ask again.
#[track_caller]
fn expect_refused(seen: &[Seen], code: &str) {
    let refused: Vec<&Seen> = seen.iter().filter(|one| one.code == code).collect();
    assert!(!refused.is_empty(), "no {code} in {:?}", codes(seen));
    let Some((_, status, quota)) = QUOTAS.iter().find(|(named, ..)| *named == code) else { return };
    for one in refused {
        assert_eq!((one.status, one.quota.as_str()), (*status, *quota), "{one:?}");
        assert!(one.retry_after.parse::<u64>().is_ok_and(|seconds| (1..=60).contains(&seconds)), "{one:?}");
    }
}

/// As docs/node.md has them: the code, the status, and what `x-quota` says.
const QUOTAS: [(&str, u16, &str); 6] = [
    ("requests-quota", 429, "requests-per-second"),
    ("cpu-quota", 429, "cpu-per-second"),
    ("bytes-quota", 429, "bytes-per-second"),
    ("memory-quota", 503, "memory"),
    ("concurrency-quota", 503, "concurrency"),
    ("instances-quota", 503, "instances"),
];

#[track_caller]
fn named(reply: &Reply, status: u16, quota: &str) {
    assert_eq!((reply.status.as_u16(), reply.header("x-quota")), (status, quota), "{reply:?}");
    assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{reply:?}");
}

#[test]
fn requests_over_the_quota_are_refused_by_name_and_the_neighbours_are_not() {
    let site = two(&["--requests", "5"], &[]);
    let seen = refused(&site, "/ok", 4, "requests-quota");
    assert!(seen.iter().any(|one| one.status == 200), "some came through");
    let reply = (0..50).map(|_| site.get("noisy.example", "/ok")).find(|reply| reply.status == 429);
    named(&reply.expect("a refusal"), 429, "requests-per-second");
    let steady = Load::start(asking(&site, "steady", "/ok", 4));
    steady.more(400);
    expect_all(&steady.stop(), 200);
    // A quota can be raised while the node runs.
    site.run(["tenant", "set", "noisy", "--requests", "100000"]).expect_code(0);
    let load = Load::start(asking(&site, "noisy", "/ok", 2));
    load.more(100);
    expect_all(&load.stop(), 200);
    site.node.stop();
}

#[test]
fn requests_at_once_over_the_quota_wait_and_are_refused() {
    let site = two(&["--concurrency", "2", "--queue", "1"], &[]);
    let seen = refused(&site, "/sleep?ms=50", 12, "concurrency-quota");
    assert!(seen.iter().any(|one| one.status == 200));
    site.node.stop();
}

#[test]
fn processor_time_over_the_quota_is_refused() {
    let site = two(&["--cpu", "50ms"], &[]);
    refused(&site, "/spin?ms=50", 4, "cpu-quota");
    let reply = (0..50).map(|_| site.get("noisy.example", "/spin?ms=50")).find(|reply| reply.status == 429);
    named(&reply.expect("a refusal"), 429, "cpu-per-second");
    site.node.stop();
}

#[test]
fn bytes_and_memory_over_the_quota_are_refused() {
    let site = two(&["--bytes", "10kB"], &[]);
    refused(&site, "/big?bytes=65536", 2, "bytes-quota");
    site.run(["tenant", "set", "noisy", "--bytes", "1GB", "--memory", "96MiB"]).expect_code(0);
    let load = Load::start(asking(&site, "noisy", "/alloc?mib=40", 6));
    load.more(60);
    expect_refused(&load.stop(), "memory-quota");
    site.node.stop();
}

#[test]
fn sandboxes_that_others_have_in_reserve_are_refused_by_name() {
    let site = two(&[], &["--pool", "8"]);
    site.run(["tenant", "set", "steady", "--reserved", "6"]).expect_code(0);
    // Two are left for it.
    let load = Load::start(asking(&site, "noisy", "/sleep?ms=1500", 12));
    load.more(24);
    let steady = Load::start(asking(&site, "steady", "/ok", 4));
    steady.more(100);
    expect_all(&steady.stop(), 200);
    let seen = load.stop();
    expect_refused(&seen, "instances-quota");
    assert!(seen.iter().any(|one| one.status == 200));
    site.node.stop();
}

#[test]
fn a_tenant_has_no_more_apps_than_it_may() {
    let site = Site::new();
    site.run(["tenant", "set", "acme", "--apps", "1"]).expect_code(0);
    site.deploy(&site.app("acme", "one", "one.example", "1"), &[]);
    let two = site.app("acme", "two", "two.example", "1");
    site.run(["deploy".as_ref(), two.as_os_str()]).expect_code(1).expect_stderr(&["too-many-apps"]);
    site.node.stop();
}

#[test]
fn an_app_that_keeps_failing_is_given_a_rest() {
    let site = two(&[], &[]);
    let seen = refused(&site, "/trap", 4, "circuit-open");
    assert!(seen.iter().any(|one| one.code == "guest-trap"));
    // Nobody else is.
    site.get("steady.example", "/ok").expect(200);
    // And it comes back by itself, once it answers again.
    tenon_testkit::until("the breaker to close", tenon_testkit::DEADLINE, || {
        (site.get("noisy.example", "/ok").status == 200).then_some(())
    });
    site.node.stop();
}

/// Connections that a client has begun to send a request over and goes no further, from several addresses: a node closes
/// those beyond 2,048 of one.
fn slow(site: &Site, count: usize) -> Vec<std::net::TcpStream> {
    const PER_ADDRESS: usize = 2_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut opened = Vec::with_capacity(count);
        for number in 0..count {
            let from = u8::try_from(2 + number / PER_ADDRESS).unwrap();
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, from], 0))).unwrap();
            let mut stream = socket.connect(site.address()).await.unwrap();
            stream.write_all(b"GET /ok HTTP/1.1\r\nhost: slow.exam").await.unwrap();
            opened.push(stream.into_std().unwrap());
        }
        opened
    })
}

/// How many of them the node has not closed.
fn held(slow: &[std::net::TcpStream]) -> usize {
    let is_open = |stream: &&std::net::TcpStream| {
        let looked = <&std::net::TcpStream>::clone(stream).read(&mut [0; 1]);
        looked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    slow.iter().filter(is_open).count()
}

#[test]
fn connections_of_one_address_are_as_many_as_the_node_is_told() {
    let site = Site::with(["--connections-per-address", "2"]);
    let connections = slow(&site, 3);
    tenon_testkit::until("one to be closed", tenon_testkit::DEADLINE, || {
        (held(&connections) < 3).then_some(())
    });
    let metrics = site.admin("/metrics").expect(200);
    assert!(metrics.lines().any(|line| line == "tenon_connections_refused_total 1"), "{metrics}");
    site.node.logged(&["its address has as many as it may", "connections_per_address=2"]);
    drop(connections);
    site.node.stop();
}

/// As many connections as there may be open files, up to this many, with room for everything else; at least so many, or the test
/// says nothing.
fn connections_max(wanted: usize, least: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const OTHERS: u64 = 1_000;
    let limit = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + OTHERS;
    let may = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    if limit.current.is_some_and(|current| current < may) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(may), maximum: limit.maximum }).unwrap();
    }
    let count = wanted.min(usize::try_from(may.saturating_sub(OTHERS)).unwrap());
    assert!(
        count >= least,
        "no more than {may} files may be open: {least} connections need more (`ulimit -Hn {needed}`)"
    );
    if count < wanted {
        eprintln!(
            "only {count} of {wanted} slow connections: this process may have no more than {may} files open"
        );
    }
    count
}

/// A tenant that loops, one that takes memory and one with ten thousand slow connections, each with the quotas that a tenant has
/// where nobody says anything, beside a steady one, which loses no request. How long its requests take is measured by
/// `cargo xtask bench node`: here other tests run at the same time.
#[test]
fn a_steady_neighbour_loses_no_request_to_three_noisy_ones() {
    /// Requests under way at once of each that runs guests.
    const AT_ONCE: usize = 4;
    let count = connections_max(10_000, 3_000);
    let site = Site::of(&["steady", "loops", "bombs", "slow"]);
    for tenant in ["steady", "loops", "bombs", "slow"] {
        deploy_chaos(&site, tenant, "10s");
    }
    let steady = Load::start(Asking { pause: Duration::from_millis(4), ..asking(&site, "steady", "/ok", 2) });
    steady.more(100);
    let loops = Load::start(asking(&site, "loops", "/loop", AT_ONCE));
    let bombs = Load::start(asking(&site, "bombs", "/oom", AT_ONCE));
    loops.more(AT_ONCE as u64);
    bombs.more(AT_ONCE as u64);
    // Last, for a node gives a head thirty seconds. Now all of it goes on at once.
    let slow = slow(&site, count);
    let still = held(&slow);
    steady.more(300);
    let (loops, bombs, steady) = (loops.stop(), bombs.stop(), steady.stop());
    expect_all(&steady, 200);
    let stopped = loops.iter().filter(|one| one.status == 504).count();
    let exhausted = bombs.iter().filter(|one| one.code == "out-of-memory").count();
    assert!(stopped > 0, "no loop was stopped: {:?}", codes(&loops));
    assert!(exhausted > 0, "no memory bomb was stopped: {:?}", codes(&bombs));
    assert!(still * 10 >= count * 9, "only {still} of {count} slow connections were held");
    site.node.stop();
}

fn codes(seen: &[Seen]) -> BTreeSet<&str> {
    seen.iter().map(|one| one.code.as_str()).collect()
}
