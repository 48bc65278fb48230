//! TLS: the certificate of the name that is asked for, replaced while the node runs.

use tenon_testkit::tls::{Ca, fetch};
use tenon_testkit::{DEADLINE, until};

use crate::support::{Site, VERSION};

#[test]
fn each_name_has_its_certificate_and_a_new_one_is_taken_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("an authority of ours");
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str| {
        let (chain, key) = ca.issue(&format!("{name}.example"));
        // The key first: a node that reads in between finds a pair that does not fit, and goes on with the old one.
        std::fs::write(file(&format!("{name}.key")), key).unwrap();
        std::fs::write(file(&format!("{name}.pem")), chain).unwrap();
    };
    write("shop");
    write("blog");
    let pair = |name: &str| ["--tls".to_owned(), file(&format!("{name}.pem")), file(&format!("{name}.key"))];
    let args: Vec<String> = ["--tls-listen".to_owned(), "127.0.0.1:0".to_owned()]
        .into_iter()
        .chain(pair("shop"))
        .chain(pair("blog"))
        .collect();
    let site = Site::with(args);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    for name in ["shop", "blog"] {
        site.deploy(&site.app("acme", name, &format!("{name}.example"), name), &[]);
    }
    let address = site.node.tls();
    let first = fetch(address, &ca, "shop.example", VERSION, &["h2", "http/1.1"]).unwrap();
    assert_eq!((first.body.as_str(), first.protocol.as_deref()), ("shop", Some("h2")));
    let blog = fetch(address, &ca, "blog.example", VERSION, &["http/1.1"]).unwrap();
    assert_eq!((blog.body.as_str(), blog.protocol.as_deref()), ("blog", Some("http/1.1")));
    assert_ne!(first.certificate, blog.certificate);
    assert!(fetch(address, &ca, "other.example", VERSION, &[]).is_err(), "nobody vouches for that name here");
    assert!(fetch(address, &Ca::new("another"), "shop.example", VERSION, &[]).is_err());

    write("shop");
    until("the new certificate", DEADLINE, || {
        let now = fetch(address, &ca, "shop.example", VERSION, &[]).unwrap();
        (now.certificate != first.certificate).then_some(())
    });
    // One that cannot be used leaves the last good one in place.
    std::fs::write(file("shop.pem"), "nonsense").unwrap();
    site.node.logged(&["certificate"]);
    assert_eq!(fetch(address, &ca, "shop.example", VERSION, &[]).unwrap().body, "shop");
    site.node.stop();
}

#[test]
fn certificates_are_read_again_when_a_person_says_so() {
    /// Every certificate file here is as long.
    const BYTES: usize = 4_096;
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("an authority of ours");
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    // Files of one length and date: whoever only looks at them sees no change.
    let write = || {
        let (certificate, secret) = ca.issue("shop.example");
        for (file, text) in [(&key, secret), (&chain, certificate)] {
            std::fs::write(file, format!("{text:<BYTES$}\n")).unwrap();
            std::fs::File::options().write(true).open(file).unwrap().set_modified(at).unwrap();
        }
    };
    write();
    let files = [chain.as_os_str(), key.as_os_str()];
    let args = [&["--tls-listen".as_ref(), "127.0.0.1:0".as_ref(), "--tls".as_ref()][..], &files].concat();
    let site = Site::with(args);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    site.deploy(&site.app("acme", "shop", "shop.example", "one"), &[]);
    let shown =
        || fetch(site.node.tls(), &ca, "shop.example", VERSION, &[]).map(|it| it.certificate).unwrap();
    let first = shown();
    write();
    // Longer than it takes to look at files.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(shown(), first, "nobody has said anything");
    site.node.reload();
    until("the new certificate", DEADLINE, || (shown() != first).then_some(()));
    site.node.stop();
}

#[test]
fn the_admin_api_is_in_clear_on_loopback_only() {
    let tenon = tenon_testkit::Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let refused = tenon.run(tenon.data(), ["node", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]);
    refused.expect_code(1).expect_stderr(&["admin-in-clear", "--admin-tls"]);
}

#[test]
fn the_admin_api_can_have_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new("an authority of ours");
    let (chain, key) = ca.issue("localhost");
    let file = |name: &str| folder.path().join(name);
    ca.write(&file("ca.pem"));
    std::fs::write(file("chain.pem"), chain).unwrap();
    std::fs::write(file("key.pem"), key).unwrap();
    let site =
        Site::with(["--admin-tls".as_ref(), file("chain.pem").as_os_str(), file("key.pem").as_os_str()]);
    let url = format!("https://localhost:{}", site.node.admin().port());
    let run = |more: &[&std::ffi::OsStr]| {
        let args = [&["apps".as_ref(), "--node".as_ref(), url.as_ref()][..], more].concat();
        site.tenon.run(site.tenon.data(), args)
    };
    run(&["--ca".as_ref(), file("ca.pem").as_os_str()]).expect_code(0);
    run(&[]).expect_code(1).expect_stderr(&["node-untrusted", "--ca"]);
    site.run(["apps"]).expect_code(1);
    site.node.stop();
}
