//! What one tenant cannot see or take of another; each with its twin that may.

use std::path::Path;

use crate::support::{Site, VERSION, write_app};

/// A token for a tenant, in a file.
fn token(site: &Site, tenant: &str, verb: &str) -> std::path::PathBuf {
    let secret =
        site.run(["token", "create", "--tenant", tenant, "--verb", verb, "--quiet"]).expect_code(0).stdout;
    let file = site.tenon.data().join(format!("{tenant}-{verb}.token"));
    std::fs::write(&file, secret).unwrap();
    file
}

#[test]
fn a_token_changes_its_own_tenant_and_no_other() {
    let site = Site::of(&["acme", "evil"]);
    let (acme, evil) = (token(&site, "acme", "deploy"), token(&site, "evil", "deploy"));
    let app = site.app("acme", "shop", "shop.example", "one");
    let deploy = |token: &Path| {
        site.run(["deploy".as_ref(), app.as_os_str(), "--token-file".as_ref(), token.as_os_str()])
    };
    deploy(&evil).expect_code(1).expect_stderr(&["admin-forbidden"]);
    site.get("shop.example", VERSION).expect_failure(404, "no-route");
    deploy(&acme).expect_code(0);
    assert_eq!(site.version("shop.example"), "one");

    let run = |token: &Path, args: &[&str]| {
        let token = ["--token-file".as_ref(), token.as_os_str()];
        site.run(args.iter().map(AsRef::as_ref).chain(token).collect::<Vec<&std::ffi::OsStr>>())
    };
    for args in [
        &["delete", "acme/shop"][..],
        &["revert", "acme/shop"],
        &["pause", "acme/shop"],
        &["logs", "acme/shop"],
        &["revisions", "acme/shop"],
    ] {
        run(&evil, args).expect_code(1).expect_stderr(&["admin-forbidden"]);
    }
    assert!(!run(&evil, &["apps"]).expect_code(0).stdout.contains("acme"));
    assert!(run(&acme, &["apps"]).expect_code(0).stdout.contains("acme/shop"));
    // To look is not to change.
    let reader = token(&site, "acme", "read");
    run(&reader, &["revisions", "acme/shop"]).expect_code(0);
    run(&reader, &["delete", "acme/shop"]).expect_code(1).expect_stderr(&["admin-forbidden"]);
    // Nor does a token of a tenant make others.
    run(&acme, &["tenant", "set", "acme", "--requests", "1000000"])
        .expect_code(1)
        .expect_stderr(&["admin-forbidden"]);
    assert_eq!(site.version("shop.example"), "one");
    site.node.stop();
}

#[test]
fn a_token_that_was_rotated_or_deleted_is_worth_nothing() {
    let site = Site::of(&["acme"]);
    let made = site.json(["token", "create", "--tenant", "acme", "--verb", "read", "--note", "ci"]);
    let name = made["token"]["token"].as_str().unwrap().to_owned();
    let file = site.tenon.data().join("token");
    let apps = || site.run(["apps".as_ref(), "--token-file".as_ref(), file.as_os_str()]);
    std::fs::write(&file, made["secret"].as_str().unwrap()).unwrap();
    apps().expect_code(0);
    let rotated = site.json(["token", "rotate", &name]);
    apps().expect_code(1).expect_stderr(&["admin-token"]);
    std::fs::write(&file, rotated["secret"].as_str().unwrap()).unwrap();
    apps().expect_code(0);
    site.run(["token", "delete", &name]).expect_code(0);
    apps().expect_code(1).expect_stderr(&["admin-token"]);
    // The secret is nowhere on the disk, only what it hashes to.
    let secret = rotated["secret"].as_str().unwrap().as_bytes();
    let state = std::fs::read(site.tenon.data().join("node/state.redb")).unwrap();
    assert!(!state.windows(secret.len()).any(|window| window == secret));
    site.node.stop();
}

#[test]
fn a_route_of_another_tenant_cannot_be_taken() {
    let site = Site::of(&["acme", "evil"]);
    site.deploy(&site.app("acme", "shop", "shop.example", "acme"), &[]);
    for host in ["shop.example", "*.example"] {
        let thief = site.app("evil", "thief", host, "evil");
        site.run(["deploy".as_ref(), thief.as_os_str()]).expect_code(1).expect_stderr(&["route-taken"]);
    }
    assert_eq!(site.version("shop.example"), "acme");
    // Its own tenant may share the host out.
    let part = site.app("acme", "part", "shop.example", "part");
    site.deploy(&part, &["--route", "shop.example/part/*"]);
    assert_eq!(site.version("shop.example"), "acme");
    site.node.stop();
}

#[test]
fn buckets_of_one_name_are_each_tenants_own() {
    let site = Site::of(&["acme", "evil"]);
    site.deploy(&site.app("acme", "shop", "acme.example", "one"), &[]);
    site.deploy(&site.app("evil", "shop", "evil.example", "one"), &[]);
    assert_eq!(site.get("acme.example", "/set?key=k&value=secret").expect(200), "set");
    assert_eq!(site.get("acme.example", "/get?key=k").expect(200), "secret");
    site.get("evil.example", "/get?key=k").expect(404);
    site.node.stop();
}

#[test]
fn what_belongs_to_the_machine_is_granted_only_where_the_node_allows_it() {
    let site = Site::of(&["acme"]);
    let folder = site.tenon.data().join("apps/files");
    write_app(&folder, "chaos-http", "acme", "files", "files.example", "one");
    let shared = site.tenon.data().join("shared");
    std::fs::create_dir_all(&shared).unwrap();
    let manifest = folder.join("tenon.toml");
    let mut text = std::fs::read_to_string(&manifest).unwrap();
    text.push_str(&format!(
        "\"wasi:filesystem\" = [{{ directory = \"{}\", at = \"/data\" }}]\n",
        shared.display()
    ));
    std::fs::write(&manifest, text).unwrap();
    site.run(["deploy".as_ref(), folder.as_os_str()]).expect_code(1).expect_stderr(&["grant-not-allowed"]);
    let allow = format!("directory:{}", shared.display());
    site.run(["tenant", "set", "acme", "--allow", &allow]).expect_code(0);
    site.deploy(&folder, &[]);
    site.get("files.example", "/ok").expect(200);
    site.node.stop();
}
