//! A disk that takes nothing more, and a data directory that cannot be written.

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
