//! Quotas bite with their names, and what one tenant does to the node its neighbours do not feel.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use tenon_testkit::client::Reply;

use crate::load::{Asking, Load, Seen, expect_all, p99};
use crate::support::{Site, write_app};

/// A node with a steady tenant and one that is not; both have chaos to offer, only one asks for it.
fn two(noisy: &[&str], node: &[&str]) -> Site {
    let site = Site::with(node);
    site.run(["tenant", "set", "steady"]).expect_code(0);
    site.run([&["tenant", "set", "noisy"], noisy].concat()).expect_code(0);
    for tenant in ["steady", "noisy"] {
        let folder = site.tenon.data().join("apps").join(tenant);
        write_app(&folder, "chaos-http", tenant, "app", &format!("{tenant}.example"), "one");
        let manifest = folder.join("tenon.toml");
        let text = std::fs::read_to_string(&manifest).unwrap();
        std::fs::write(manifest, text + "[limits]\ncpu = \"300ms\"\nwall = \"2s\"\nmemory = \"64MiB\"\n")
            .unwrap();
        site.deploy(&folder, &[]);
    }
    site
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
    assert!(
        seen.iter().any(|one| one.code == code),
        "no {code} in {:?}",
        seen.iter().map(|one| &one.code).collect::<std::collections::BTreeSet<_>>()
    );
    seen
}

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
    let reply = (0..50).map(|_| site.get("noisy.example", "/ok")).find(|reply| reply.status == 429);
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
    let seen = load.stop();
    assert!(seen.iter().any(|one| one.code == "memory-quota"), "{:?}", seen.first());
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

/// Loops, memory bombs and slow connections beside a steady tenant, which loses no request and is about as fast as before.
#[test]
fn a_steady_neighbour_does_not_feel_the_noise() {
    let site = two(&["--concurrency", "16", "--queue", "16", "--cpu", "500ms"], &[]);
    let quiet = {
        let load = Load::start(asking(&site, "steady", "/ok", 2));
        load.more(2_000);
        load.stop()
    };
    expect_all(&quiet, 200);
    let mut slow = Vec::new();
    for _ in 0..1_000 {
        let Ok(mut stream) = TcpStream::connect(site.address()) else { break };
        let _ = stream.write_all(b"GET /ok HTTP/1.1\r\nhost: noisy.exam");
        slow.push(stream);
    }
    let noise: Vec<_> = ["/loop", "/oom", "/spin?ms=250"]
        .iter()
        .map(|path| Load::start(asking(&site, "noisy", path, 4)))
        .collect();
    noise[0].more(4);
    let load = Load::start(asking(&site, "steady", "/ok", 2));
    load.more(2_000);
    let steady = load.stop();
    let noise: Vec<Seen> = noise.into_iter().flat_map(Load::stop).collect();
    drop(slow);
    expect_all(&steady, 200);
    assert!(noise.iter().any(|one| one.status >= 500 || one.status == 429), "there was noise");
    // Twice its quiet p99; on a machine that other tests use at the same time, and some milliseconds.
    let bound = p99(&quiet) * 2 + Duration::from_millis(25);
    assert!(p99(&steady) <= bound, "p99 {:?} beside noise, {:?} without", p99(&steady), p99(&quiet));
    site.node.stop();
}
