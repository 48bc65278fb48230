//! More at once than the node takes: whoever deploys waits, and gets there.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use tenon_testkit::{DEADLINE, until};

use crate::support::Site;

#[test]
fn many_deploys_of_one_tenant_wait_for_one_another_and_all_serve() {
    const APPS: usize = 10;
    let site = Site::of(&["acme"]);
    let secret = site.run(["token", "create", "--tenant", "acme", "--verb", "deploy"]).expect_code(0).stdout;
    let token = site.tenon.data().join("deploy-token");
    std::fs::write(&token, secret.trim()).unwrap();
    let folders: Vec<_> = (0..APPS)
        .map(|number| site.app("acme", &format!("app-{number}"), &format!("app-{number}.example"), "one"))
        .collect();
    std::thread::scope(|scope| {
        let deploys: Vec<_> = folders
            .iter()
            .map(|folder| {
                let args =
                    ["deploy".as_ref(), folder.as_os_str(), "--token-file".as_ref(), token.as_os_str()];
                let site = &site;
                scope.spawn(move || site.run(args))
            })
            .collect();
        for deploy in deploys {
            deploy.join().unwrap().expect_code(0);
        }
    });
    for number in 0..APPS {
        assert_eq!(site.version(&format!("app-{number}.example")), "one");
    }
    site.node.stop();
}

/// Where a node keeps the bytes of this digest.
fn blob(site: &Site, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    site.tenon.data().join("node/blobs/sha256").join(&hex[..2]).join(hex)
}

#[test]
fn a_deploy_waits_while_somebody_else_uploads_the_same() {
    // What is uploaded, another node tells.
    let other = Site::of(&["acme"]);
    other.deploy(&other.app("acme", "shop", "shop.example", "one"), &[]);
    let revisions = other.json(["revisions", "acme/shop"]);
    let digest = revisions["revisions"][0]["component"].as_str().unwrap();
    let bytes = std::fs::read(blob(&other, digest)).unwrap();
    other.node.stop();

    let site = Site::of(&["acme"]);
    let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
    let mut somebody = TcpStream::connect(site.node.admin()).unwrap();
    let head = format!(
        "PATCH /v1/blobs/{digest} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {}\r\nupload-offset: 0\r\n\
         upload-length: {length}\r\ncontent-length: {length}\r\n\r\n",
        token.trim(),
        length = bytes.len()
    );
    somebody.write_all(head.as_bytes()).unwrap();
    somebody.write_all(&bytes[..10]).unwrap();
    let unfinished = site.tenon.data().join("node/blobs/unfinished");
    until("the upload to begin", DEADLINE, || {
        (std::fs::read_dir(&unfinished).unwrap().count() == 1).then_some(())
    });
    let folder = site.app("acme", "shop", "shop.example", "one");
    std::thread::scope(|scope| {
        let deploy = scope.spawn(|| site.run(["deploy".as_ref(), folder.as_os_str()]));
        std::thread::sleep(Duration::from_secs(4));
        assert!(!deploy.is_finished(), "it waits");
        drop(somebody);
        deploy.join().unwrap().expect_code(0).expect_stderr(&["uploaded by somebody else"]);
    });
    assert_eq!(site.version("shop.example"), "one");
    site.node.stop();
}
