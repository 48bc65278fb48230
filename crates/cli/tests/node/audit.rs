//! Each change that is made over the admin API leaves exactly one entry in the audit log, and whatever is refused leaves none.

use std::collections::BTreeSet;

use serde_json::Value;
use tenon_testkit::client::{call, get};

use crate::support::Site;

const HOST: &str = "shop.example";
/// Operations that change nothing that is desired: uploads, which a deploy makes use of or a day later nobody has.
const UPLOADS: [&str; 3] = ["HeadBlob", "PatchBlob", "PutBlob"];

/// Somebody who reads what is new in the log.
struct Auditor<'a> {
    site: &'a Site,
    /// The name of the token that everything is done with.
    who: String,
    after: u64,
    operations: BTreeSet<String>,
}

impl Auditor<'_> {
    fn of(site: &Site) -> Auditor<'_> {
        let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
        let who = token.split('_').nth(1).unwrap().to_owned();
        let mut auditor = Auditor { site, who, after: 0, operations: BTreeSet::new() };
        auditor.unread();
        auditor
    }

    /// The entries that have come since.
    fn unread(&mut self) -> Vec<Value> {
        let after = self.after.to_string();
        let audit = self.site.json(["audit", "--after", &after, "--limit", "1000"]);
        assert_eq!(audit["intact"], true);
        let entries = audit["entries"].as_array().unwrap().clone();
        if let Some(last) = entries.last() {
            self.after = last["sequence"].as_u64().unwrap();
        }
        entries
    }

    /// The only new entry, which has to say what `operation` of the API has done, and to what.
    #[track_caller]
    fn one(&mut self, operation: &str, what: &str, target: &str) -> Value {
        let entries = self.unread();
        assert_eq!(entries.len(), 1, "{operation}: {entries:#?}");
        let said = [&entries[0]["who"], &entries[0]["what"], &entries[0]["target"]];
        assert_eq!(said, [self.who.as_str(), what, target], "{operation}: {entries:#?}");
        assert!(entries[0]["at"].as_u64() > Some(0) && entries[0]["hash"] != "");
        self.operations.insert(operation.to_owned());
        entries[0].clone()
    }
}

#[test]
fn each_change_has_one_entry_and_what_is_refused_has_none() {
    let site = Site::new();
    let mut auditor = Auditor::of(&site);
    let run = |args: &[&str]| site.run(args).expect_code(0);

    run(&["tenant", "set", "zeta", "--requests", "77"]);
    let entry = auditor.one("PutTenant", "put-tenant", "zeta");
    assert!(entry["detail"].as_str().unwrap().contains("77"), "{entry:#}");
    let made =
        site.json(["token", "create", "--tenant", "zeta", "--verb", "read", "--note", "for-a-visitor"]);
    let token = made["token"]["token"].as_str().unwrap();
    let target = format!("zeta/token {token}");
    let entry = auditor.one("PostToken", "create-token", &target);
    assert!(entry["detail"].as_str().unwrap().contains("read for-a-visitor"), "{entry:#}");
    run(&["token", "rotate", token, "--grace", "10min"]);
    auditor.one("RotateToken", "rotate-token", &target);
    run(&["token", "delete", token]);
    auditor.one("DeleteToken", "delete-token", &target);

    let shop = "zeta/shop";
    site.deploy(&site.app("zeta", "shop", HOST, "one"), &["--note", "the-first"]);
    let entry = auditor.one("Deploy", "deploy", shop);
    let detail = entry["detail"].as_str().unwrap();
    assert!(detail.contains("r1 sha256:") && detail.contains("the-first"), "{entry:#}");
    // The same again is no change.
    site.deploy(&site.app("zeta", "shop", HOST, "one"), &[]);
    assert_eq!(auditor.unread(), Vec::<Value>::new());
    site.deploy(&site.app("zeta", "shop", HOST, "two"), &["--canary", "50", "--hold", "10min"]);
    auditor.one("Deploy", "deploy", shop);
    // To hold a rollout is not to take an app out of service.
    run(&["pause", shop, "--rollout", "--note", "lunch"]);
    assert_eq!(auditor.one("Pause", "pause-rollout", shop)["detail"], "lunch");
    run(&["resume", shop, "--rollout"]);
    auditor.one("Resume", "resume-rollout", shop);
    run(&["promote", shop]);
    auditor.one("Promote", "promote", shop);
    run(&["revert", shop]);
    auditor.one("Revert", "revert", shop);
    run(&["pause", shop]);
    auditor.one("Pause", "pause", shop);
    run(&["resume", shop]);
    auditor.one("Resume", "resume", shop);

    for refused in [
        &["tenant", "delete", "zeta"][..],
        &["promote", shop],
        &["revert", shop, "--to", "r99"],
        &["token", "delete", "none"],
        &["delete", "zeta/none"],
    ] {
        site.run(refused).expect_code(1);
        assert_eq!(auditor.unread(), Vec::<Value>::new(), "{refused:?}");
    }

    run(&["delete", shop]);
    auditor.one("DeleteApp", "delete-app", shop);
    run(&["tenant", "delete", "zeta"]);
    auditor.one("DeleteTenant", "delete-tenant", "zeta");

    // As many as the API says that it has; one that is added is done here, too.
    let document: Value =
        serde_json::from_str(&call(site.node.admin(), get("/v1/openapi.json")).expect(200)).unwrap();
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap());
    let changing: BTreeSet<String> = operations
        .filter(|(method, _)| *method != "get")
        .map(|(_, operation)| operation["operationId"].as_str().unwrap().to_owned())
        .filter(|operation| !UPLOADS.contains(&operation.as_str()))
        .collect();
    assert_eq!(auditor.operations, changing);
    site.node.stop();
}
