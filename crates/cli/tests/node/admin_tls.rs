//! The admin API's own certificate is replaced while the node runs.

use std::path::Path;

use tenon_testkit::tls::Ca;
use tenon_testkit::{DEADLINE, until};

use crate::support::Site;

#[test]
fn a_new_certificate_of_the_admin_api_is_taken_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let write = |ca: &Ca, name: &str| {
        ca.write(&file(name));
        let (chain, key) = ca.issue("localhost");
        // The key first: a node that reads in between finds a pair that does not fit, and goes on with the old one.
        std::fs::write(file("key.pem"), key).unwrap();
        std::fs::write(file("chain.pem"), chain).unwrap();
    };
    write(&Ca::new("the first authority"), "first.pem");
    let site =
        Site::with(["--admin-tls".as_ref(), file("chain.pem").as_os_str(), file("key.pem").as_os_str()]);
    let url = format!("https://localhost:{}", site.node.admin().port());
    let trusts = |authority: &Path| {
        let args = ["apps".as_ref(), "--node".as_ref(), url.as_ref(), "--ca".as_ref(), authority.as_os_str()];
        site.tenon.run(site.tenon.data(), args).status.success()
    };
    assert!(trusts(&file("first.pem")));
    write(&Ca::new("the second authority"), "second.pem");
    until("the new certificate", DEADLINE, || trusts(&file("second.pem")).then_some(()));
    assert!(!trusts(&file("first.pem")));
    // One that cannot be used leaves the last good one in place.
    std::fs::write(file("chain.pem"), "nonsense").unwrap();
    site.node.logged(&["the certificates stay as they were"]);
    assert!(trusts(&file("second.pem")));
    site.node.stop();
}
