//! Deploys: what is served afterwards, and what is not.

use tenon_testkit::Guests;

use crate::support::{Site, VERSION};

const HOST: &str = "shop.example";

#[test]
fn what_is_deployed_serves_and_the_same_again_is_nothing() {
    let site = Site::of(&["acme"]);
    // A node without any app knows the host as little as one with others does.
    site.get(HOST, VERSION).expect_failure(404, "no-route");
    let app = site.app("acme", "shop", HOST, "one");
    let first = site.deploy(&app, &["--note", "the first"]);
    assert_eq!((&first["revision"], &first["changed"]), (&"r1".into(), &true.into()), "{first:#}");
    assert_eq!(site.version(HOST), "one");

    let again = site.run(["deploy".as_ref(), app.as_os_str()]).expect_code(0);
    assert!(again.stdout.contains("has this content already: r1"), "{}", again.stdout);
    assert!(!again.stderr.contains("uploaded"), "what is there is not sent again: {}", again.stderr);

    let forced = site.deploy(&app, &["--force"]);
    assert_eq!((&forced["revision"], &forced["changed"]), (&"r2".into(), &true.into()));

    let app = site.app("acme", "shop", HOST, "two");
    assert_eq!(site.deploy(&app, &[])["revision"], "r3");
    assert_eq!(site.version(HOST), "two");
    site.get("other.example", VERSION).expect_failure(404, "no-route");

    let revisions = site.json(["revisions", "acme/shop"]);
    let all: Vec<_> = revisions["revisions"].as_array().unwrap().iter().collect();
    assert_eq!(all.iter().map(|one| &one["revision"]).collect::<Vec<_>>(), ["r3", "r2", "r1"]);
    assert_eq!((&all[0]["state"], &all[0]["parent"]), (&"stable".into(), &"r2".into()));
    assert_eq!(all[2]["note"], "the first");
    site.node.stop();
}

#[test]
fn a_deploy_that_fails_leaves_the_old_revision_serving() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);

    // A component that asks for what it was not granted.
    let none = Guests::get("wants-outgoing");
    let args = [
        "deploy".as_ref(),
        none.as_os_str(),
        "--tenant".as_ref(),
        "acme".as_ref(),
        "--app".as_ref(),
        "shop".as_ref(),
    ];
    site.run(args).expect_code(1).expect_stderr(&["import-not-granted", "mend"]);
    assert_eq!(site.version(HOST), "one");

    // A component that does not pass its probe.
    let chaos = Guests::get("chaos-http");
    let args = |health: &'static str| {
        [
            "deploy".as_ref(),
            chaos.as_os_str(),
            "--tenant".as_ref(),
            "acme".as_ref(),
            "--app".as_ref(),
            "shop".as_ref(),
            "--health".as_ref(),
            health.as_ref(),
        ]
    };
    site.run(args("/trap")).expect_code(1).expect_stderr(&["probe-failed"]);
    assert_eq!(site.version(HOST), "one");
    assert_eq!(site.json(["revisions", "acme/shop"])["revisions"].as_array().unwrap().len(), 1);

    // The same, with a probe that it passes.
    site.run(args("/ok")).expect_code(0);
    site.get(HOST, "/ok").expect(200);
    site.node.stop();
}

#[test]
fn what_a_revision_may_touch_more_than_the_one_before_is_told() {
    let site = Site::of(&["acme"]);
    let app = site.app("acme", "shop", HOST, "one");
    let manifest = app.join("tenon.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let deploy = |access: &str, more: &[&str]| {
        std::fs::write(&manifest, text.replace("access = \"write\"", &format!("access = \"{access}\"")))
            .unwrap();
        let args =
            [&["deploy".as_ref(), app.as_os_str()][..], &more.iter().map(AsRef::as_ref).collect::<Vec<_>>()];
        site.run(args.concat()).expect_code(0)
    };
    // The first has nothing before it.
    let first = deploy("read", &[]);
    assert!(!first.stderr.contains("new access"), "{}", first.stderr);
    site.get(HOST, "/set?key=a&value=b").expect(403);
    let wider = deploy("write", &[]);
    let told: Vec<_> = wider.stderr.lines().filter(|line| line.contains("new access")).collect();
    assert_eq!(told.len(), 1, "{}", wider.stderr);
    assert!(told[0].contains("wasi:keyvalue") && told[0].contains("default"), "{}", told[0]);
    assert!(wider.stderr.contains("asks for 1 more than before"), "{}", wider.stderr);
    site.get(HOST, "/set?key=a&value=b").expect(200);
    let narrower = deploy("read", &["--json"]);
    assert_eq!(narrower.json()["grew"], serde_json::json!([]));
    // Against the one that serves, not against any that there was.
    let again = deploy("write", &["--json"]).json();
    assert_eq!(again["grew"].as_array().unwrap().len(), 1, "{again:#}");
    site.node.stop();
}

#[test]
fn a_revert_is_a_new_revision_that_is_equal_to_the_old() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    site.deploy(&site.app("acme", "shop", HOST, "two"), &[]);
    let done = site.json(["revert", "acme/shop", "--note", "two is wrong"]);
    assert_eq!(done["app"]["stable"], "r3", "{done:#}");
    assert_eq!(site.version(HOST), "one");
    assert_eq!(site.json(["revisions", "acme/shop"])["revisions"][0]["reverts_to"], "r1");
    site.json(["revert", "acme/shop", "--to", "r2"]);
    assert_eq!(site.version(HOST), "two");
    site.run(["revert", "acme/shop", "--to", "r99"]).expect_code(1).expect_stderr(&["no-such-revision"]);
    assert_eq!(site.version(HOST), "two");
    site.node.stop();
}

#[test]
fn an_app_is_paused_resumed_and_deleted() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    site.run(["pause", "acme/shop"]).expect_code(0);
    assert_ne!(site.get(HOST, VERSION).expect_failure(503, "app-paused").header("retry-after"), "");
    assert_eq!(site.json(["apps"])["apps"][0]["paused"], true);
    site.run(["resume", "acme/shop"]).expect_code(0);
    assert_eq!(site.version(HOST), "one");

    site.run(["tenant", "delete", "acme"]).expect_code(1).expect_stderr(&["tenant-in-use"]);
    site.run(["delete", "acme/shop"]).expect_code(0);
    site.get(HOST, VERSION).expect_failure(404, "no-route");
    site.run(["tenant", "delete", "acme"]).expect_code(0);
    site.run(["delete", "acme/shop"]).expect_code(1);
    site.node.stop();
}

#[test]
fn what_a_person_gets_wrong_is_said() {
    let site = Site::of(&["acme"]);
    let app = site.app("acme", "shop", HOST, "one");
    let folder = site.tenon.data().to_owned();
    let run = |args: &[&str]| site.tenon.run(&folder, args);

    site.run(["deploy".as_ref(), app.as_os_str(), "--tenant".as_ref(), "nobody".as_ref()])
        .expect_code(1)
        .expect_stderr(&["no-such-tenant", "tenon tenant set"]);
    run(&["apps", "--node", "http://127.0.0.1:1"])
        .expect_code(1)
        .expect_stderr(&["node-unreachable", "tenon node"]);
    run(&["apps", "--node", "127.0.0.1:1"]).expect_code(1).expect_stderr(&["invalid-node"]);
    run(&["apps", "--node", "http://edge.example:1"])
        .expect_code(1)
        .expect_stderr(&["no-token", "TENON_TOKEN"]);
    // Apps are served there, and no admin API.
    run(&["apps", "--node", &format!("http://{}", site.address())])
        .expect_code(1)
        .expect_stderr(&["not-a-node"]);
    let wrong = folder.join("wrong-token");
    std::fs::write(&wrong, "nonsense").unwrap();
    site.run(["apps".as_ref(), "--token-file".as_ref(), wrong.as_os_str()])
        .expect_code(1)
        .expect_stderr(&["admin-token"]);
    run(&["revisions", "shop"]).expect_code(2).expect_stderr(&["TENANT/APP"]);
    run(&["deploy", "--canary", "0"]).expect_code(2);

    let alone = Guests::get("keeper");
    let said = run(&["deploy", alone.to_str().unwrap(), "--node", &site.url()]).expect_code(1);
    said.expect_stderr(&["no-tenant", "--tenant NAME", "[deploy]"]);
    site.node.stop();
}
