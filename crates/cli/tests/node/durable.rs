//! A node that is killed at any instant of a deploy comes back with everything that it acknowledged.

use std::time::Duration;

use tenon_testkit::{Tenon, until};

use crate::support::{Site, VERSION, write_app};

const HOST: &str = "shop.example";

/// How often in a usual run; `TENON_KILLS=1000` for the long one.
const KILLS: u64 = 12;
/// Where the instants begin; a failure says which one it was.
const SEED: u64 = 7;

/// SplitMix64: the same instants for the same seed.
fn random(state: u64) -> u64 {
    let mut value = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the long run is asked for by a variable, and a test has no main"
)]
fn what_was_acknowledged_is_there_after_every_kill() {
    let kills = std::env::var("TENON_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let mut site = Site { node: tenon.node().start(), tenon };
    site.run(["tenant", "set", "acme"]).expect_code(0);
    site.deploy(&site.app("acme", "shop", HOST, "v0"), &[]);
    site.run(["tenant", "set", "other"]).expect_code(0);
    site.deploy(&site.app("other", "still", "still.example", "here"), &[]);
    let mut served = "v0".to_owned();
    for kill in 1..=kills {
        let next = format!("v{kill}");
        let app = site.app("acme", "shop", HOST, &next);
        let (tenon, url) = (site.tenon.clone(), site.url());
        let deploying = std::thread::spawn(move || {
            let args = ["deploy".as_ref(), app.as_os_str(), "--node".as_ref(), url.as_ref()];
            tenon.run(tenon.data(), args)
        });
        // A deploy takes some tens of milliseconds from the start of the command.
        std::thread::sleep(Duration::from_micros(random(SEED + kill) % 400_000));
        site.node.kill();
        let done = deploying.join().unwrap();
        site.node = site.tenon.node().start();

        let now = site.version(HOST);
        let acknowledged = done.status.success();
        assert!(
            now == next || (now == served && !acknowledged),
            "kill {kill}: {now} serves after {served}, and {next} was {}acknowledged",
            if acknowledged { "" } else { "not " }
        );
        assert_eq!(site.version("still.example"), "here", "kill {kill}");
        // What broke off goes on, and comes to the same.
        site.deploy(&site.app("acme", "shop", HOST, &next), &[]);
        assert_eq!(site.version(HOST), next, "kill {kill}");
        served = next;
    }
    assert_eq!(site.json(["audit", "--limit", "10000"])["intact"], true);
    site.node.stop();
}

#[test]
fn a_damaged_artifact_is_made_again_and_a_node_without_its_key_too() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let mut site = Site { node: tenon.node().start(), tenon };
    site.run(["tenant", "set", "acme"]).expect_code(0);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    site.node.kill();
    let artifacts = site.tenon.data().join("artifacts");
    let mut damaged = 0;
    for entry in std::fs::read_dir(&artifacts).unwrap().flatten() {
        if entry.path().is_file() && entry.metadata().unwrap().len() > 4_096 {
            let mut bytes = std::fs::read(entry.path()).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0xff;
            let _ = std::fs::remove_file(entry.path());
            std::fs::write(entry.path(), bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0, "there is compiled code in {}", artifacts.display());
    site.node = site.tenon.node().start();
    let version = until("the app to be compiled again", tenon_testkit::DEADLINE, || {
        let reply = site.get(HOST, VERSION);
        (reply.status == 200).then(|| reply.text())
    });
    assert_eq!(version, "one");
    site.node.stop();
}

#[test]
fn two_nodes_do_not_share_a_data_directory() {
    let site = Site::of(&["acme"]);
    let second = site.tenon.node().refused().expect_code(1);
    assert!(second.stdout.contains("error") || second.stdout.contains("diagnostics"), "{}", second.stdout);
    assert!(second.stdout.contains("mend"), "{}", second.stdout);
    let folder = site.tenon.data().join("apps/shop");
    write_app(&folder, "keeper", "acme", "shop", HOST, "one");
    site.deploy(&folder, &[]);
    assert_eq!(site.version(HOST), "one", "the first goes on");
    site.node.stop();
}
