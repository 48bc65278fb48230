//! A node that is killed at any instant of a deploy comes back with everything that it acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tenon_testkit::{Guests, Tenon, until};

use crate::marks::{Before, Mark};
use crate::support::{Site, VERSION, write_app};

const HOST: &str = "shop.example";

/// How often at the least in a usual run, which goes on for [`BUDGET`]; `TENON_KILLS=1000` for the long one.
const KILLS: u64 = 12;
/// How long a usual run goes on killing.
const BUDGET: Duration = Duration::from_secs(30);
/// Where the instants begin; `TENON_SEED` for other ones. A failure says which it was.
const SEED: u64 = 7;
/// A deploy that is killed at no step of it is killed within this time of its start, in microseconds.
const WITHIN_US: u64 = 1_000_000;
/// One that is killed at a step, within this time of when the step is seen: most steps take no longer.
const AFTER_US: u64 = 20_000;

/// SplitMix64: the same instants for the same seed.
fn random(state: u64) -> u64 {
    let mut value = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// When a deploy is killed.
#[derive(Clone, Copy, Debug)]
struct Instants {
    /// Once this was seen; else from its start.
    mark: Option<Mark>,
    after: Duration,
}

impl Instants {
    /// Of the `kill`th: each mark in turn, then one at no mark.
    fn of(kill: u64, seed: u64) -> Self {
        let turn = usize::try_from(kill % (Mark::ALL.len() as u64 + 1)).unwrap();
        let mark = Mark::ALL.get(turn).copied();
        let within = if mark.is_some() { AFTER_US } else { WITHIN_US };
        let random = random(seed.wrapping_add(kill));
        // Every other one as soon as the mark is seen.
        let after = if mark.is_some() && random.is_multiple_of(2) { 0 } else { random % within };
        Self { mark, after: Duration::from_micros(after) }
    }
}

/// An app whose component is one of its own, so that it is uploaded and compiled: the fixture, and a section that means
/// nothing.
fn distinct(site: &Site, version: &str) -> std::path::PathBuf {
    let app = site.app("acme", "shop", HOST, version);
    let mut bytes = std::fs::read(Guests::get("keeper")).unwrap();
    let payload = [&[1, b'v'], version.as_bytes()].concat();
    // A custom section: id 0, its length in LEB128, which for less than 128 is one byte (Core specification, section 5.5.3).
    bytes.extend([0, u8::try_from(payload.len()).unwrap()]);
    bytes.extend(payload);
    std::fs::write(app.join("app.wasm"), bytes).unwrap();
    let manifest = app.join("tenon.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let keeper = Guests::get("keeper").display().to_string();
    std::fs::write(&manifest, text.replace(&keeper, "app.wasm")).unwrap();
    app
}

fn deploying(site: &Site, app: &Path) -> std::thread::JoinHandle<tenon_testkit::Finished> {
    let (tenon, url, app) = (site.tenon.clone(), site.url(), app.to_owned());
    std::thread::spawn(move || {
        let args = ["deploy".as_ref(), app.as_os_str(), "--node".as_ref(), url.as_ref()];
        tenon.run(tenon.data(), args)
    })
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the long run is asked for by a variable, and a test has no main"
)]
fn what_was_acknowledged_is_there_after_every_kill() {
    let said = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (kills, seed) = (said("TENON_KILLS"), said("TENON_SEED").unwrap_or(SEED));
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    // A small pool: a node is started for each kill.
    let start = |tenon: &Tenon| tenon.node().args(["--pool", "16"]).start();
    let mut site = Site { node: start(&tenon), tenon };
    site.run(["tenant", "set", "acme"]).expect_code(0);
    site.deploy(&distinct(&site, "v0"), &[]);
    site.run(["tenant", "set", "other"]).expect_code(0);
    site.deploy(&site.app("other", "still", "still.example", "here"), &[]);
    let mut served = "v0".to_owned();
    // How many of the kills at each mark found the deploy there, and not over already.
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    let began = Instant::now();
    let goes_on = |kill: u64, met: &BTreeMap<String, u64>| match kills {
        Some(kills) => kill <= kills,
        None if kill <= KILLS || began.elapsed() < BUDGET => true,
        // A slow machine comes to few in its time, and has met no deploy at some mark.
        None => met.len() < Mark::ALL.len() && kill <= 10 * KILLS,
    };
    let mut kill = 0;
    while goes_on(kill + 1, &met) {
        kill += 1;
        let at = Instants::of(kill, seed);
        let which = format!("kill {kill} at {at:?} (TENON_SEED={seed})");
        let next = format!("v{kill}");
        let app = distinct(&site, &next);
        let before = Before::of(&site, "acme/shop");
        let deploy = deploying(&site, &app);
        if let Some(mark) = at.mark
            && before.wait(&site, mark, &deploy)
        {
            *met.entry(format!("{mark:?}")).or_default() += 1;
        }
        std::thread::sleep(at.after);
        site.node.kill();
        let done = deploy.join().unwrap();
        site.node = start(&site.tenon);

        let now = site.version(HOST);
        let acknowledged = done.status.success();
        assert!(
            now == next || (now == served && !acknowledged),
            "{which}: {now} serves after {served}, and {next} was {}acknowledged",
            if acknowledged { "" } else { "not " }
        );
        if at.mark == Some(Mark::Committed) && !acknowledged {
            assert_eq!(now, next, "{which}: somebody had seen that it is committed");
        }
        assert_eq!(site.version("still.example"), "here", "{which}");
        // What broke off goes on, and comes to the same.
        site.deploy(&app, &[]);
        assert_eq!(site.version(HOST), next, "{which}");
        served = next;
    }
    println!("kills that met the deploy at its step: {met:?}");
    for mark in Mark::ALL {
        let mark = format!("{mark:?}");
        assert!(met.get(&mark).is_some_and(|count| *count > 0), "none at {mark}: {met:?}");
    }
    assert_eq!(site.json(["audit", "--limit", "10000"])["intact"], true);
    site.node.stop();
}

#[test]
fn an_upload_that_was_cut_off_before_its_last_step_is_finished() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let mut site = Site { node: tenon.node().start(), tenon };
    site.run(["tenant", "set", "acme"]).expect_code(0);
    let app = site.app("acme", "shop", HOST, "one");
    site.deploy(&app, &[]);
    let component = site.json(["revisions", "acme/shop"])["revisions"][0]["component"].clone();
    let hex = component.as_str().unwrap().strip_prefix("sha256:").unwrap();
    let blobs = site.tenon.data().join("node/blobs");
    let (whole, unfinished) =
        (blobs.join("sha256").join(&hex[..2]).join(hex), blobs.join("unfinished").join(hex));
    // As a kill leaves it after the last byte and before it is put in its place; then damaged, as a loss of power may.
    for damages in [false, true] {
        site.node.kill();
        std::fs::rename(&whole, &unfinished).unwrap();
        if damages {
            std::fs::write(&unfinished, vec![0; unfinished.metadata().unwrap().len().try_into().unwrap()])
                .unwrap();
        }
        site.node = site.tenon.node().start();
        let args = ["deploy".as_ref(), app.as_os_str(), "--force".as_ref()];
        let deployed = site.run(args).expect_code(0);
        let again = deployed.stderr.contains("what was there of it was damaged");
        assert_eq!(again, damages, "{}", deployed.stderr);
        assert!(whole.is_file() && !unfinished.exists());
    }
    assert_eq!(site.version(HOST), "one");
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
fn a_damaged_state_stops_the_node_until_somebody_has_decided() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let mut site = Site { node: tenon.node().start(), tenon };
    site.run(["tenant", "set", "acme"]).expect_code(0);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let component = site.json(["revisions", "acme/shop"])["revisions"][0]["component"].clone();
    let hex = component.as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    site.node.stop();
    let folder = site.tenon.data().join("node");
    let (state, token) = (folder.join("state.redb"), folder.join("admin-token"));
    let blob = folder.join("blobs/sha256").join(&hex[..2]).join(&hex);
    let whole = std::fs::read(&state).unwrap();
    let damaged = [&b"no database"[..], &whole[11..]].concat();
    std::fs::write(&state, &damaged).unwrap();
    let before = std::fs::read(&token).unwrap();
    // As a supervisor does that starts it again and again.
    for _ in 0..2 {
        let refused = site.tenon.node().refused().expect_code(1);
        for said in ["state-damaged", "state.redb", "put a backup in its place", "or begin anew"] {
            assert!(refused.stdout.contains(said), "no `{said}` in {}", refused.stdout);
        }
        assert!(std::fs::read(&state).unwrap() == damaged, "it is as it was");
        assert_eq!(std::fs::read(&token).unwrap(), before);
        assert!(blob.is_file());
    }
    // A backup makes it the node that it was.
    std::fs::write(&state, &whole).unwrap();
    site.node = site.tenon.node().start();
    assert_eq!(site.version(HOST), "one");
    site.node.stop();
    // With the file out of the way, somebody has decided to begin anew.
    std::fs::rename(&state, site.tenon.data().join("damaged")).unwrap();
    site.node = site.tenon.node().start();
    assert_eq!(site.json(["status"])["tenants"], 0);
    assert_ne!(std::fs::read(&token).unwrap(), before);
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
