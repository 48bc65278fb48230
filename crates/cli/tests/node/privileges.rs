//! What the process of a node has given up, as the kernel tells it.

use std::collections::BTreeSet;
use std::net::TcpListener;

use tenon_testkit::{DEADLINE, Serving, Tenon, until};

/// The capability of low ports, in the kernel's numbering.
const NET_BIND_SERVICE: u64 = 1 << 10;
/// Sets of capabilities, as `/proc/PID/status` calls them.
const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// The values that all threads of a process have of one field of their status.
fn of_all_threads(node: &Serving, field: &str) -> BTreeSet<String> {
    node.thread_statuses(field).into_iter().map(|(_, value)| value).collect()
}

fn capabilities(node: &Serving, set: &str) -> u64 {
    let values = of_all_threads(node, set);
    assert_eq!(values.len(), 1, "{set} differs between threads: {values:?}");
    u64::from_str_radix(values.first().unwrap(), 16).unwrap()
}

/// What the test itself may do decides what a node could keep.
fn own(set: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(':'));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

/// The limit on core dumps, soft and hard.
fn core_limits(node: &Serving) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

/// Those who cannot narrow what their children could have are left with it: it is worth nothing to them.
fn narrows() -> bool {
    const SETPCAP: u64 = 1 << 8;
    own("CapEff") & SETPCAP != 0
}

#[test]
fn a_node_has_no_capability_gains_none_and_leaves_no_core() {
    let node = Tenon::new(env!("CARGO_BIN_EXE_tenon")).node().start();
    assert_eq!(of_all_threads(&node, "NoNewPrivs"), BTreeSet::from(["1".to_owned()]));
    for set in SETS.into_iter().filter(|set| *set != "CapBnd" || narrows()) {
        assert_eq!(capabilities(&node, set), 0, "{set}");
    }
    assert_eq!(core_limits(&node), ["0", "0"]);
    node.stop();
}

#[test]
fn a_node_on_a_low_port_keeps_what_that_needs_and_nothing_else() {
    let low = (900..1_024).rev().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let Some(port) = low.filter(|_| own("CapEff") & NET_BIND_SERVICE != 0) else {
        eprintln!("skipped: only who has the capability of low ports can see a node keep it");
        return;
    };
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let node = tenon.node().listen(format!("127.0.0.1:{port}")).start();
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(capabilities(&node, set), NET_BIND_SERVICE, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(capabilities(&node, set), 0, "{set}");
    }
    assert_eq!(of_all_threads(&node, "NoNewPrivs"), BTreeSet::from(["1".to_owned()]));
    node.stop();
}

/// What would make requests wait for the kernel later: a table of open files that grows, and memory that is given in huge pages.
#[test]
fn a_node_has_asked_the_kernel_for_what_takes_long_before_it_serves() {
    let node = Tenon::new(env!("CARGO_BIN_EXE_tenon")).node().start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.id())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let limits: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(limits[0], limits[1], "as many files as may be open");
    let most = limits[0].parse::<u64>().unwrap_or(u64::MAX).min(1 << 18);
    let places = of_all_threads(&node, "FDSize");
    let places: u64 = places.first().unwrap().parse().unwrap();
    assert!(places >= most, "{places} places for {most} files");
    assert_eq!(of_all_threads(&node, "THP_enabled"), BTreeSet::from(["0".to_owned()]));
    node.stop();
}

/// Whom the kernel interrupts so that guests are looked at: the first of those who serve, so that no thread has to wake.
#[test]
fn the_first_worker_is_interrupted_for_each_tick() {
    let node = Tenon::new(env!("CARGO_BIN_EXE_tenon")).node().args(["--workers", "2"]).start();
    let process = format!("/proc/{}", node.id());
    let timers = || std::fs::read_to_string(format!("{process}/timers")).ok();
    if timers().is_none() {
        eprintln!("skipped: this kernel does not list a process's timers");
        return;
    }
    // Who serves says so before all who do have begun.
    let interrupted = until("a timer", DEADLINE, || {
        timers()?.lines().find_map(|line| line.strip_prefix("notify: signal/tid.").map(str::to_owned))
    });
    let thread = std::fs::read_to_string(format!("{process}/task/{interrupted}/comm")).unwrap();
    assert_eq!(thread, "tenon-worker-0\n");
    node.stop();
}
