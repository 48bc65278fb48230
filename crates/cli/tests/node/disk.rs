//! A disk that takes nothing more, and a data directory that cannot be written.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tenon_testkit::{DEADLINE, Tenon, until};

use crate::support::Site;

const HOST: &str = "shop.example";

/// Lets the node write files of so many bytes from now on: further ones are an error, as on a disk that is full.
fn limit(site: &Site, bytes: &str) {
    let of = format!("--pid={}", site.node.id());
    let set = Command::new("prlimit").args([of.as_str(), &format!("--fsize={bytes}:")]).status().unwrap();
    assert!(set.success());
}

#[test]
fn a_node_whose_disk_is_full_serves_says_so_and_goes_on_when_there_is_room() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let next = site.app("acme", "shop", HOST, "two");
    // Other bytes, so that there is something to upload.
    let other = site.tenon.data().join("apps/other");
    crate::support::write_app(&other, "chaos-http", "acme", "other", "other.example", "one");

    limit(&site, "1");
    let deploy = |folder: &std::path::Path| site.run(["deploy".as_ref(), folder.as_os_str()]);
    let said = deploy(&other).expect_code(1).expect_stderr(&["state-failed", "cannot keep what is uploaded"]);
    assert!(said.stderr.contains("disk has room"), "{}", said.stderr);
    let wrong = |site: &Site| site.json(["status"])["wrong"].to_string();
    assert!(wrong(&site).contains("cannot keep what is uploaded"), "{}", wrong(&site));
    let told = site.run(["status"]).expect_code(0).stdout;
    assert!(told.contains("wrong") && told.contains("state-failed"), "{told}");
    // A change that needs no upload is refused too, and nothing of it is served.
    deploy(&next).expect_code(1).expect_stderr(&["state-failed"]);
    assert_eq!(site.version(HOST), "one");

    limit(&site, "unlimited");
    deploy(&other).expect_code(0);
    assert_eq!(site.get("other.example", "/ok").status, 200);
    deploy(&next).expect_code(0);
    until("the new revision", DEADLINE, || (site.version(HOST) == "two").then_some(()));
    assert_eq!(wrong(&site), "[]");
    site.node.stop();
}

/// What a shell does in a mount namespace of its own before it becomes the node: the data directory cannot be written, by
/// nobody, as on a disk that the kernel has made read-only.
const READ_ONLY: &str = "mount --bind \"$TENON_DATA\" \"$TENON_DATA\" \
    && mount -o remount,bind,ro \"$TENON_DATA\" && exec \"$0\" \"$@\"";

/// The command that runs another one on a data directory that is read-only, if this machine lets the tests have one.
fn read_only(site: &Site) -> Option<Vec<String>> {
    [&["unshare", "--mount"][..], &["unshare", "--mount", "--map-root-user"]].into_iter().find_map(
        |unshare| {
            let command: Vec<String> =
                [unshare, &["sh", "-c", READ_ONLY]].concat().into_iter().map(Into::into).collect();
            let tried = Command::new(&command[0])
                .args(&command[1..])
                .args(["sh", "-c", "! touch \"$TENON_DATA/written\""])
                .env("TENON_DATA", site.tenon.data())
                .stderr(std::process::Stdio::null())
                .status();
            tried.is_ok_and(|status| status.success()).then_some(command)
        },
    )
}

#[test]
fn a_node_that_starts_on_a_read_only_disk_serves_what_it_has_and_says_so() {
    let mut site = Site::of(&["acme"]);
    let Some(read_only) = read_only(&site) else {
        // Past the harness, which keeps what a test that passes prints.
        let _ = writeln!(std::io::stderr(), "skipped: only who may mount can have a read-only disk");
        return;
    };
    let (shop, more) = (site.tenon.data().join("apps/shop"), site.tenon.data().join("apps/more"));
    crate::support::write_app(&shop, "chaos-http", "acme", "shop", HOST, "one");
    crate::support::write_app(&more, "chaos-http", "acme", "more", "more.example", "one");
    site.deploy(&shop, &[]);
    let wrong = |site: &Site| site.json(["status"])["wrong"].to_string();
    // The one before was ended as it should be, and then it was not.
    for kills in [false, true] {
        if kills {
            site.node.kill();
        } else {
            site.node.stop();
        }
        site.node = site.tenon.node().through(&read_only).start();
        assert_eq!(site.get(HOST, "/ok").status, 200);
        assert!(wrong(&site).contains("Read-only"), "{}", wrong(&site));
        assert_eq!(site.json(["revisions", "acme/shop"])["revisions"][0]["revision"], "r1");
        assert_eq!(site.json(["audit"])["intact"], true);
        let change = site.run(["pause", "acme/shop"]).expect_code(1);
        change.expect_stderr(&["state-failed", "Read-only", "disk has room"]);
        let deploy = site.run(["deploy".as_ref(), more.as_os_str()]).expect_code(1);
        deploy.expect_stderr(&["state-failed", "Read-only"]);
        assert_eq!(site.get(HOST, "/ok").status, 200);
        site.node.stop();
        site.node = site.tenon.node().start();
        assert_eq!(wrong(&site), "[]");
    }
    site.deploy(&more, &[]);
    assert_eq!(site.get("more.example", "/ok").status, 200);
    site.node.stop();
}

#[test]
fn a_candidate_that_crashes_gets_nothing_more_though_the_disk_is_full() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    let bad = site.tenon.data().join("apps/bad");
    crate::support::write_app(&bad, "chaos-http", "acme", "shop", HOST, "bad");
    site.deploy(&bad, &["--canary", "50", "--hold", "60min", "--sticky", "cookie"]);
    let rollout = || site.json(["rollout", "acme/shop"]);
    limit(&site, "1");
    // What the first does not know, the second dies of.
    let meets_nobody = || (0..40).all(|_| site.get(HOST, "/trap").status == 404);
    until("the candidate to get nothing", DEADLINE, || meets_nobody().then_some(()));
    let told = rollout();
    assert_eq!((&told["state"], &told["percent"]), (&"running".into(), &0.into()), "{told:#}");
    assert!(told["why"].as_str().unwrap().contains("cannot be written"), "{told:#}");
    assert!(site.json(["status"])["wrong"].to_string().contains("state-failed"));

    limit(&site, "unlimited");
    let told = until("it to be written", DEADLINE, || {
        let told = rollout();
        (told["state"] == "reverted").then_some(told)
    });
    assert!(told["why"].as_str().unwrap().contains("it crashed"), "{told:#}");
    assert!(meets_nobody());
    assert_eq!(site.json(["status"])["wrong"].to_string(), "[]");
    site.node.stop();
}

#[test]
fn a_data_directory_that_cannot_be_written_is_said_to_be_one() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o500)).unwrap();
    let data = data.to_str().unwrap();
    let args = ["node", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data", data];
    let said = tenon.run(folder.path(), args).expect_code(1);
    said.expect_stderr(&["data-directory", data, "Permission denied", "--data DIR"]);
}
