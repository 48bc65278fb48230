//! The desired state: what holds between its records, and that what was acknowledged is there whatever happens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use redb::{TableDefinition, WriteTransaction};
use tenon_model::{AppId, Digest, RevisionNumber, Route, Seen, TenantId};
use tenon_state::desired::{
    AppRecord, BlobError, By, ChangeError, Copies, Ended, NewRevision, Phase, REVISIONS_KEPT_MAX, Takeover,
    TokenRecord, UNUSED_BYTES_MAX, UNUSED_MAX, Uploaded, Uploading,
};
use tenon_state::{BlobFolder, Desired};

/// How often the process that deploys is killed.
const KILLS: u64 = 200;
/// Steps of one deploy, and of the changes after it, at which it is killed, one after another.
const STEPS: u64 = 12;

const BY: By<'static> = By { who: "test", at: 1_000 };

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn app(name: &str) -> AppId {
    let (tenant, app) = name.split_once('/').unwrap();
    AppId { tenant: tenant.parse().unwrap(), app: app.parse().unwrap() }
}

fn routes(texts: &[&str]) -> Vec<Route> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// An upload of whoever runs the node.
fn of(digest: &Digest, offset: u64, length: u64) -> Uploading<'_> {
    Uploading { tenant: None, digest, offset, length, unused_bytes: 0, unused: 0 }
}

fn token(id: &str, tenant: Option<TenantId>) -> TokenRecord {
    TokenRecord {
        id: id.to_owned(),
        tenant,
        verb: "read".into(),
        hash: "first".into(),
        before: None,
        created: 0,
        expires: None,
        note: String::new(),
    }
}

/// How the tables of the state lie in its file, for tests that are somebody who can write it.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const CLAIMS: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("claims");
const CLAIMED: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("claimed");
const AUDIT: TableDefinition<'_, u64, &str> = TableDefinition::new("audit");

/// Changes the file of a state that is not open.
fn tamper(folder: &Path, change: impl FnOnce(&WriteTransaction)) {
    let database = redb::Database::open(folder.join("state.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

struct Node {
    desired: Desired,
    blobs: BlobFolder,
}

impl Node {
    fn open(folder: &Path) -> Self {
        Self {
            desired: Desired::open(folder).unwrap(),
            blobs: BlobFolder::open(&folder.join("blobs")).unwrap(),
        }
    }

    fn with_tenants(folder: &Path) -> Self {
        let node = Self::open(folder);
        for name in ["acme", "zeta"] {
            node.desired.put_tenant(BY, &tenant(name), None, "{}", 10).unwrap();
        }
        node
    }

    fn upload(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut upload = self.blobs.upload(&of(&digest, 0, bytes.len() as u64)).unwrap();
        upload.write(bytes).unwrap();
        assert_eq!(upload.finish().unwrap(), Uploaded::Whole);
        self.desired.claim(None, &digest).unwrap();
        digest
    }

    fn deploy(&self, name: &str, on: &[&str], takeover: Takeover<'_>) -> Result<u64, ChangeError> {
        let component = self.upload(name.as_bytes());
        let new = NewRevision { component, terms: "{}", reverts_to: None, note: "", ends: None };
        let on = routes(on);
        let on = (!on.is_empty()).then_some(on.as_slice());
        self.desired.revise(BY, &app(name), None, &new, on, &takeover).map(|app| app.generation)
    }
}

#[test]
fn a_change_is_made_only_to_what_was_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    let first = node.deploy("acme/shop", &["shop.example/*"], Takeover::AtOnce).unwrap();
    let pause = |expected| {
        node.desired.point(BY, &app("acme/shop"), expected, "pause", "", |app| {
            app.paused = true;
            Ok(())
        })
    };
    let wrong = pause(Some(first + 1)).unwrap_err();
    assert_eq!(wrong, ChangeError::Conflict { expected: first + 1, actual: first });
    let paused = pause(Some(first)).unwrap();
    assert!(paused.paused && paused.generation > first);
    assert!(matches!(pause(Some(first)), Err(ChangeError::Conflict { .. })));
    // What is refused leaves no trace, in memory or on the disk.
    let refused = node.desired.point(BY, &app("acme/shop"), None, "x", "", |app| {
        app.paused = false;
        Err(ChangeError::Refused("no"))
    });
    assert_eq!(refused.unwrap_err(), ChangeError::Refused("no"));
    let before = node.desired.audit(0, 100, None).unwrap();
    drop(node);
    let node = Node::open(folder.path());
    assert!(node.desired.app(&app("acme/shop")).unwrap().paused);
    assert_eq!(node.desired.audit(0, 100, None).unwrap(), before);
}

#[test]
fn routes_are_not_taken_from_another_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    node.deploy("acme/shop", &["shop.example/*", "*.cdn.example/*"], Takeover::AtOnce).unwrap();
    for taken in [
        "shop.example/api",
        "shop.example/*",
        "a.cdn.example/x",
        "*.a.cdn.example/*",
        "*.example/*",
        "*.cdn.example/{x}",
    ] {
        let refused = node.deploy("zeta/spy", &[taken], Takeover::AtOnce).unwrap_err();
        assert!(matches!(refused, ChangeError::RouteTaken { by: None, .. }), "{taken}: {refused}");
        assert!(node.desired.app(&app("zeta/spy")).is_none());
    }
    for free in ["shop.example.org/*", "cdn.example/*", "example/*", "xcdn.example/*", "*/*"] {
        node.deploy("zeta/spy", &[free], Takeover::AtOnce).unwrap_or_else(|error| panic!("{free}: {error}"));
    }
    // Of one tenant, the more exact route wins; two that are as exact are refused, and whose the first is, is said.
    node.deploy("acme/api", &["shop.example/api/*"], Takeover::AtOnce).unwrap();
    let refused = node.deploy("acme/other", &["shop.example/api/*"], Takeover::AtOnce).unwrap_err();
    assert!(matches!(refused, ChangeError::RouteTaken { by: Some(by), .. } if by == app("acme/api")));
    // What an app no longer has, somebody else can have.
    node.desired.delete_app(BY, &app("acme/shop")).unwrap();
    node.deploy("zeta/spy", &["a.cdn.example/x"], Takeover::AtOnce).unwrap();
}

#[test]
fn a_revision_knows_the_routes_that_it_was_made_with() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    node.deploy("acme/shop", &["shop.example/*", "old.example/*"], Takeover::AtOnce).unwrap();
    node.deploy("acme/shop", &["shop.example/*"], Takeover::AtOnce).unwrap();
    // One that says nothing of routes has those of the app.
    node.deploy("acme/shop", &[], Takeover::AtOnce).unwrap();
    drop(node);
    let node = Node::open(folder.path());
    let of = |number| {
        let revision = node.desired.revision(&app("acme/shop"), RevisionNumber(number)).unwrap();
        revision.unwrap().routes.unwrap()
    };
    assert_eq!(of(1), routes(&["shop.example/*", "old.example/*"]));
    assert_eq!([of(2), of(3)], [routes(&["shop.example/*"]), routes(&["shop.example/*"])]);
    // A revision that comes back brings its routes, unless somebody else has them now; then nothing of it is done.
    let old = of(1);
    let component = node.upload(b"acme/shop");
    let back = || {
        let new =
            NewRevision { component, terms: "{}", reverts_to: Some(RevisionNumber(1)), note: "", ends: None };
        node.desired.revise(BY, &app("acme/shop"), None, &new, Some(&old), &Takeover::AtOnce)
    };
    node.deploy("zeta/spy", &["old.example/*"], Takeover::AtOnce).unwrap();
    assert!(matches!(back().unwrap_err(), ChangeError::RouteTaken { by: None, .. }));
    let unchanged = node.desired.app(&app("acme/shop")).unwrap();
    assert_eq!((unchanged.last, &unchanged.routes), (RevisionNumber(3), &routes(&["shop.example/*"])));
    node.desired.delete_app(BY, &app("zeta/spy")).unwrap();
    assert_eq!(back().unwrap().routes, old);
}

#[test]
fn a_candidate_stands_beside_the_stable_revision() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    // The first has nothing to take over from.
    node.deploy("acme/shop", &[], Takeover::ByPlan("{}")).unwrap();
    let first = node.desired.app(&app("acme/shop")).unwrap();
    assert_eq!((first.stable, first.rollout.clone()), (RevisionNumber(1), None));
    node.deploy("acme/shop", &[], Takeover::ByPlan("plan")).unwrap();
    let second = node.desired.app(&app("acme/shop")).unwrap();
    let rollout = second.open_rollout().unwrap();
    assert_eq!(
        (second.stable, rollout.candidate, rollout.plan.as_str()),
        (RevisionNumber(1), RevisionNumber(2), "plan")
    );
    // One at once ends it.
    node.deploy("acme/shop", &[], Takeover::AtOnce).unwrap();
    let third = node.desired.app(&app("acme/shop")).unwrap();
    assert_eq!((third.stable, third.rollout.clone().unwrap().phase), (RevisionNumber(3), Phase::Reverted));
    let revisions = node.desired.revisions(&app("acme/shop")).unwrap();
    let parents: Vec<_> = revisions.iter().map(|it| (it.number.0, it.parent.map(|it| it.0))).collect();
    assert_eq!(parents, [(3, Some(1)), (2, Some(1)), (1, None)]);
}

#[test]
fn old_revisions_and_what_they_were_made_of_go() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    let old = node.upload(b"old");
    let new = |component| NewRevision { component, terms: "{}", reverts_to: None, note: "", ends: None };
    let revise = |component| {
        node.desired.revise(BY, &app("acme/shop"), None, &new(component), None, &Takeover::AtOnce).unwrap()
    };
    revise(old);
    assert_eq!(node.desired.forget_unused(0).unwrap(), [], "a revision is made of it");
    let young = node.upload(b"young");
    for _ in 0..=REVISIONS_KEPT_MAX {
        revise(young);
    }
    assert_eq!(node.desired.revisions(&app("acme/shop")).unwrap().len(), REVISIONS_KEPT_MAX);
    assert_eq!(node.desired.forget_unused(3_600).unwrap(), [], "it was uploaded a moment ago");
    assert_eq!(node.desired.forget_unused(0).unwrap(), [old]);
    let gone = node.desired.revise(BY, &app("acme/shop"), None, &new(old), None, &Takeover::AtOnce);
    assert_eq!(gone.unwrap_err(), ChangeError::NotUploaded);
}

#[test]
fn how_a_rollout_ended_is_kept_as_long_as_its_candidate() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    let id = app("acme/shop");
    let component = node.upload(b"shop");
    let seen = |requests| Seen { requests, errors: 1, crashes: 2, p99_us: 3 };
    let revise = |takeover: Takeover<'_>, requests| {
        let copies = Some(Copies { same: requests, different: 1 });
        let ends = Some(Ended { at: 0, stable: seen(requests), candidate: seen(requests + 1), copies });
        let new = NewRevision { component, terms: "{}", reverts_to: None, note: "", ends };
        node.desired.revise(BY, &id, None, &new, None, &takeover).unwrap()
    };
    revise(Takeover::AtOnce, 0);
    revise(Takeover::ByPlan("{}"), 10);
    assert_eq!(node.desired.rollouts(&id).unwrap(), [], "it has not ended");
    // One takes the place of another, and is sent back; a third goes through.
    revise(Takeover::ByPlan("{}"), 20);
    let end = |phase, why: Option<&str>, requests| {
        let ended = Some(Ended { at: 7, stable: seen(requests), candidate: seen(0), copies: None });
        node.desired
            .point(BY, &id, None, "end", "", |app| {
                let rollout = app.rollout.as_mut().unwrap();
                (rollout.phase, rollout.why, rollout.ended) = (phase, why.map(Into::into), ended);
                if phase == Phase::Promoted {
                    app.stable = rollout.candidate;
                }
                Ok(())
            })
            .unwrap();
    };
    end(Phase::Reverted, Some("it crashed"), 30);
    revise(Takeover::ByPlan("{}"), 0);
    end(Phase::Promoted, None, 40);
    drop(node);

    let node = Node::open(folder.path());
    let ended = node.desired.rollouts(&id).unwrap();
    let told: Vec<_> = ended
        .iter()
        .map(|it| (it.candidate.0, it.phase, it.why.as_deref(), it.ended.unwrap().stable.requests))
        .collect();
    assert_eq!(
        told,
        [
            (4, Phase::Promoted, None, 40),
            (3, Phase::Reverted, Some("it crashed"), 30),
            (2, Phase::Reverted, Some("r3 took its place"), 20),
        ]
    );
    let taken = ended[2].ended.unwrap();
    let copies = Copies { same: 20, different: 1 };
    assert_eq!((taken.at, taken.candidate, taken.copies), (BY.at, seen(21), Some(copies)));
    assert_eq!(node.desired.app(&id).unwrap().rollout.as_ref(), ended.first());
    // They go with their candidates, and with the app.
    let new = NewRevision { component, terms: "{}", reverts_to: None, note: "", ends: None };
    for _ in 0..REVISIONS_KEPT_MAX {
        node.desired.revise(BY, &id, None, &new, None, &Takeover::AtOnce).unwrap();
    }
    let kept: Vec<u64> = node.desired.rollouts(&id).unwrap().iter().map(|it| it.candidate.0).collect();
    assert_eq!(kept, [4], "the last one is shown, and what it names is kept");
    node.desired.delete_app(BY, &id).unwrap();
    assert_eq!(node.desired.rollouts(&id).unwrap(), []);
}

#[test]
fn a_state_is_handed_over_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    node.deploy("acme/shop", &["shop.example/*"], Takeover::AtOnce).unwrap();
    let id = app("acme/shop");
    node.desired.hand_over();
    // What is in memory is there, and nothing is changed.
    assert_eq!(node.desired.app(&id).unwrap().last, RevisionNumber(1));
    assert_eq!(node.desired.revisions(&id).unwrap_err(), ChangeError::HandedOver);
    let delete = || node.desired.delete_app(BY, &id);
    assert_eq!(delete().unwrap_err(), ChangeError::HandedOver);
    let next = Desired::open(folder.path()).unwrap();
    assert_eq!(node.desired.take_back().unwrap_err().code, "store-in-use");
    next.put_tenant(BY, &tenant("more"), None, "{}", 1).unwrap();
    drop(next);
    node.desired.take_back().unwrap();
    assert!(node.desired.tenant(&tenant("more")).is_some(), "what the other changed is seen");
    delete().unwrap();
}

#[test]
fn a_component_is_not_shared_by_knowing_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    let digest = Digest::of(b"secret");
    let may = |name: &str| node.desired.may_use(Some(&tenant(name)), &digest).unwrap();
    node.desired.claim(Some(&tenant("acme")), &digest).unwrap();
    assert!(may("acme") && !may("zeta") && node.desired.may_use(None, &digest).unwrap());
    // A revision is as good as an upload.
    let new = NewRevision { component: digest, terms: "{}", reverts_to: None, note: "", ends: None };
    node.desired.revise(BY, &app("zeta/a"), None, &new, None, &Takeover::AtOnce).unwrap();
    assert!(may("zeta"));
}

#[test]
fn a_tenant_has_no_more_apps_than_it_may_and_goes_without_any() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    node.desired.put_tenant(BY, &tenant("acme"), None, "{}", 1).unwrap();
    node.deploy("acme/one", &[], Takeover::AtOnce).unwrap();
    let refused = node.deploy("acme/two", &[], Takeover::AtOnce).unwrap_err();
    assert_eq!(refused, ChangeError::TooManyApps { max: 1 });
    assert_eq!(node.desired.delete_tenant(BY, &tenant("acme")).unwrap_err(), ChangeError::InUse { apps: 1 });
    let token = token("t", Some(tenant("acme")));
    node.desired.create_token(BY, token.clone()).unwrap();
    node.desired.delete_app(BY, &app("acme/one")).unwrap();
    node.desired.delete_tenant(BY, &tenant("acme")).unwrap();
    assert!(node.desired.token("t").is_none(), "its tokens went with it");
    assert_eq!(node.desired.create_token(BY, token).unwrap_err(), ChangeError::Missing("such tenant"));
    assert!(matches!(node.deploy("acme/one", &[], Takeover::AtOnce), Err(ChangeError::Missing(_))));
}

#[test]
fn the_audit_log_says_who_did_what_and_shows_what_was_changed_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    node.deploy("zeta/a", &[], Takeover::AtOnce).unwrap();
    let entries = node.desired.audit(0, 100, None).unwrap();
    let said: Vec<_> = entries.iter().map(|it| (it.sequence, it.what.as_str(), it.target.as_str())).collect();
    assert_eq!(said, [(1, "put-tenant", "acme"), (2, "put-tenant", "zeta"), (3, "deploy", "zeta/a")]);
    assert_eq!(node.desired.audit(1, 1, None).unwrap(), entries[1..2]);
    assert_eq!(node.desired.audit(0, 100, Some(&tenant("acme"))).unwrap(), entries[..1]);
    assert!(node.desired.is_audit_intact());
    drop(node);
    // Somebody who can write the file changes who did it; the length stays, and so do the pages' own checksums not.
    let file = folder.path().join("state.redb");
    let bytes = fs::read(&file).unwrap();
    let mut changed = bytes.clone();
    let word = br#""what":"deploy""#;
    let places: Vec<_> = (0..bytes.len() - word.len()).filter(|at| bytes[*at..].starts_with(word)).collect();
    for at in &places {
        changed[at + 8..at + 14].copy_from_slice(b"revert");
    }
    assert!(!places.is_empty());
    fs::write(&file, changed).unwrap();
    match Desired::open(folder.path()) {
        Ok(desired) => assert!(!desired.is_audit_intact()),
        Err(said) => assert_eq!(said.code, "state-damaged"),
    }
}

#[test]
fn an_entry_that_was_taken_out_of_the_audit_log_is_missed() {
    for gone in [&[1][..], &[2], &[3], &[2, 3], &[1, 2, 3]] {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::with_tenants(folder.path());
        node.deploy("zeta/a", &[], Takeover::AtOnce).unwrap();
        drop(node);
        tamper(folder.path(), |transaction| {
            let mut log = transaction.open_table(AUDIT).unwrap();
            for sequence in gone {
                assert!(log.remove(sequence).unwrap().is_some());
            }
        });
        let node = Node::open(folder.path());
        assert!(!node.desired.is_audit_intact(), "without {gone:?}");
        // What is written afterwards does not hide it, and does not take its place.
        node.desired.put_tenant(BY, &tenant("more"), None, "{}", 1).unwrap();
        let last = node.desired.audit(0, 100, None).unwrap().pop().unwrap();
        assert_eq!((last.sequence, last.target.as_str()), (4, "more"));
        drop(node);
        assert!(!Node::open(folder.path()).desired.is_audit_intact(), "without {gone:?}");
    }
}

#[test]
fn a_damaged_state_is_left_where_it_is_and_nothing_begins_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    drop(Node::with_tenants(folder.path()));
    let file = folder.path().join("state.redb");
    let whole = fs::read(&file).unwrap();
    let beside = || fs::read_dir(folder.path()).unwrap().count();
    let before = beside();
    let no_database = [&b"no database"[..], &whole[11..]].concat();
    for damaged in [&no_database[..], &whole[..8_192], &whole[..100], b""] {
        fs::write(&file, damaged).unwrap();
        for _ in 0..2 {
            let said = Desired::open(folder.path()).unwrap_err();
            assert_eq!(said.code, "state-damaged", "{said}");
            assert!(said.to_string().contains(file.to_str().unwrap()), "{said}");
            assert!(fs::read(&file).unwrap() == damaged, "it is as it was");
            assert_eq!(beside(), before);
        }
    }
    // As an earlier version of the node left it: nothing begins beside what was set aside.
    let aside = folder.path().join("state.redb.damaged-1");
    fs::rename(&file, &aside).unwrap();
    for _ in 0..2 {
        let said = Desired::open(folder.path()).unwrap_err();
        assert_eq!(said.code, "state-damaged", "{said}");
        assert!(said.to_string().contains(aside.to_str().unwrap()), "{said}");
        assert!(!file.exists());
    }
    // With a backup in its place it goes on; with nothing there it begins anew.
    fs::write(&file, &whole).unwrap();
    assert_eq!(Node::open(folder.path()).desired.tenants().len(), 2);
    fs::remove_file(&file).unwrap();
    fs::remove_file(&aside).unwrap();
    assert_eq!(Node::open(folder.path()).desired.tenants().len(), 0);
    assert_eq!(beside(), before, "nothing else is left of how it began");
}

#[test]
fn a_state_of_the_version_before_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let acme = tenant("acme");
    let node = Node::with_tenants(folder.path());
    let digest = node.upload(b"component");
    node.desired.claim(Some(&acme), &digest).unwrap();
    drop(node);
    tamper(folder.path(), |transaction| {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("version", 1).unwrap();
        meta.remove("audit").unwrap();
        meta.remove("ran").unwrap();
        // It went by the clock.
        transaction
            .open_table(CLAIMS)
            .unwrap()
            .insert((digest.hex().as_str(), "acme"), 1_700_000_000)
            .unwrap();
        transaction.delete_table(CLAIMED).unwrap();
    });
    for _ in 0..2 {
        let node = Node::open(folder.path());
        assert!(node.desired.is_audit_intact());
        assert_eq!(node.desired.unused_by(&acme).unwrap(), [digest]);
        assert_eq!(node.desired.forget_unused(3_600).unwrap(), [], "it counts from now on");
    }
    let node = Node::open(folder.path());
    node.desired.put_tenant(BY, &tenant("more"), None, "{}", 1).unwrap();
    assert_eq!(node.desired.audit(0, 100, None).unwrap().last().unwrap().sequence, 3);
    assert_eq!(node.desired.forget_unused(0).unwrap(), [digest]);
    drop(node);
    tamper(folder.path(), |transaction| {
        transaction.open_table(META).unwrap().insert("version", 3).unwrap();
    });
    assert_eq!(Desired::open(folder.path()).unwrap_err().code, "store-version");
}

#[test]
fn a_tenant_has_nothing_of_the_one_that_had_its_name_before() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    let acme = tenant("acme");
    let digest = node.upload(b"secret");
    node.desired.claim(Some(&acme), &digest).unwrap();
    let half = Digest::of(b"0123456789");
    let mut upload = node.blobs.upload(&Uploading { tenant: Some(&acme), ..of(&half, 0, 10) }).unwrap();
    upload.write(b"0123").unwrap();
    assert_eq!(upload.finish().unwrap(), Uploaded::Part(4));
    node.desired.delete_tenant(BY, &acme).unwrap();
    node.blobs.forget(&acme).unwrap();
    // An upload that was under way ends as nobody's.
    assert_eq!(node.desired.claim(Some(&acme), &digest).unwrap_err(), ChangeError::Missing("such tenant"));
    node.desired.put_tenant(BY, &acme, None, "{}", 10).unwrap();
    drop(node);

    let node = Node::open(folder.path());
    assert!(!node.desired.may_use(Some(&acme), &digest).unwrap());
    assert!(node.desired.may_use(None, &digest).unwrap(), "what is another's stays");
    assert_eq!(node.desired.unused_by(&acme).unwrap(), []);
    assert_eq!(node.blobs.offset(Some(&acme), &half), 0);
    let own = node.desired.audit(0, 100, Some(&acme)).unwrap();
    assert_eq!(own.iter().map(|it| (it.sequence, it.what.as_str())).collect::<Vec<_>>(), [(4, "put-tenant")]);
    assert_eq!(node.desired.audit(0, 100, None).unwrap().len(), 4, "whoever runs the node sees all of it");
}

#[test]
fn an_upload_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobFolder::open(folder.path()).unwrap();
    let bytes = b"0123456789";
    let digest = Digest::of(bytes);
    let mut upload = blobs.upload(&of(&digest, 0, 10)).unwrap();
    assert!(matches!(blobs.upload(&of(&digest, 0, 10)), Err(BlobError::Busy)));
    upload.write(&bytes[..4]).unwrap();
    assert_eq!(upload.finish().unwrap(), Uploaded::Part(4));
    assert_eq!((blobs.length(&digest), blobs.offset(None, &digest)), (None, 4));
    assert!(matches!(blobs.upload(&of(&digest, 3, 10)), Err(BlobError::Offset(4))));
    let mut upload = blobs.upload(&of(&digest, 4, 10)).unwrap();
    assert!(matches!(upload.write(b"4567890"), Err(BlobError::TooLarge(10))));
    upload.write(&bytes[4..]).unwrap();
    assert_eq!(upload.finish().unwrap(), Uploaded::Whole);
    assert_eq!(blobs.read(&digest).unwrap().unwrap(), bytes);

    let mut wrong = blobs.upload(&of(&digest, 0, 10)).unwrap();
    wrong.write(b"9876543210").unwrap();
    assert!(matches!(wrong.finish(), Err(BlobError::Digest(_))));
    assert_eq!(blobs.read(&digest).unwrap().unwrap(), bytes, "what was there before stays");
    assert!(matches!(blobs.upload(&of(&digest, 0, 1 << 40)), Err(BlobError::TooLarge(_))));

    fs::write(blobs.place(&digest), b"damaged").unwrap();
    assert!(matches!(blobs.read(&digest), Err(BlobError::Digest(_))));
    assert!(blobs.read(&digest).unwrap().is_none(), "it can be uploaded again");
}

#[test]
fn tenants_that_upload_the_same_neither_hold_each_other_up_nor_spoil_it() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobFolder::open(folder.path()).unwrap();
    let bytes = b"0123456789";
    let digest = Digest::of(bytes);
    let (acme, zeta) = (tenant("acme"), tenant("zeta"));
    let by = |tenant| Uploading { tenant: Some(tenant), ..of(&digest, 0, 10) };
    // One begins with something else, and stays.
    let mut other = blobs.upload(&by(&acme)).unwrap();
    other.write(b"abcd").unwrap();
    assert!(matches!(blobs.upload(&by(&acme)), Err(BlobError::Busy)));
    assert_eq!(blobs.offset(Some(&zeta), &digest), 0, "nothing of it is another's");
    let mut own = blobs.upload(&by(&zeta)).unwrap();
    own.write(bytes).unwrap();
    assert_eq!(own.finish().unwrap(), Uploaded::Whole);
    assert_eq!(blobs.read(&digest).unwrap().unwrap(), bytes);
    other.write(b"efghij").unwrap();
    assert!(matches!(other.finish(), Err(BlobError::Digest(_))));
    assert_eq!(blobs.read(&digest).unwrap().unwrap(), bytes);
}

#[test]
fn what_is_uploaded_and_not_deployed_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    let acme = tenant("acme");
    let digests: Vec<Digest> = (0..8).map(|number: u8| Digest::of(&[number])).collect();
    let large = |digest, unused_bytes| Uploading {
        tenant: Some(&acme),
        unused_bytes,
        ..of(digest, 0, UNUSED_BYTES_MAX / 4)
    };
    // What is coming counts as if it were there.
    let coming: Vec<_> =
        digests[..4].iter().map(|digest| node.blobs.upload(&large(digest, 0)).unwrap()).collect();
    assert!(matches!(node.blobs.upload(&large(&digests[4], 0)), Err(BlobError::Unused(_))));
    let of_all = Uploading { tenant: None, ..large(&digests[4], 0) };
    node.blobs.upload(&of_all).unwrap();
    drop(coming);
    node.blobs.upload(&large(&digests[4], 0)).unwrap();
    assert!(matches!(node.blobs.upload(&large(&digests[5], UNUSED_BYTES_MAX)), Err(BlobError::Unused(_))));

    // So are many small ones.
    let small = |digest, unused| Uploading { tenant: Some(&acme), unused, ..of(digest, 0, 1) };
    assert!(matches!(node.blobs.upload(&small(&digests[6], UNUSED_MAX)), Err(BlobError::TooMany(_))));
    let coming = node.blobs.upload(&small(&digests[6], UNUSED_MAX - 1)).unwrap();
    let one_more = node.blobs.upload(&small(&digests[7], UNUSED_MAX - 1));
    assert!(matches!(one_more, Err(BlobError::TooMany(_))), "{one_more:?}");
    drop(coming);
    node.blobs.upload(&small(&digests[7], UNUSED_MAX - 1)).unwrap();

    // What a revision is made of does not count.
    let digest = node.upload(b"acme/shop");
    node.desired.claim(Some(&acme), &digest).unwrap();
    assert_eq!(node.desired.unused_by(&acme).unwrap(), [digest]);
    assert!(node.desired.unused_by(&tenant("zeta")).unwrap().is_empty());
    node.deploy("acme/shop", &[], Takeover::AtOnce).unwrap();
    assert!(node.desired.unused_by(&acme).unwrap().is_empty());
    assert_eq!(node.desired.used().unwrap().into_iter().collect::<Vec<_>>(), [digest]);
}

#[test]
fn a_token_that_was_made_invalid_is_not_brought_back_by_who_gives_it_another_secret() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    node.desired.create_token(BY, token("t", None)).unwrap();
    let rotated = node.desired.rotate_token(BY, "t", "second", 2_000).unwrap();
    assert_eq!((rotated.hash.as_str(), &rotated.before), ("second", &Some(("first".to_owned(), 2_000))));
    let rotated = node.desired.rotate_token(BY, "t", "third", BY.at).unwrap();
    assert_eq!((rotated.hash.as_str(), &rotated.before), ("third", &None), "without a time it is not kept");
    node.desired.delete_token(BY, "t").unwrap();
    let refused = node.desired.rotate_token(BY, "t", "fourth", 2_000).unwrap_err();
    assert_eq!(refused, ChangeError::Missing("such token"));
    assert!(node.desired.token("t").is_none());
}

#[test]
fn of_two_who_change_a_tenant_the_second_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with_tenants(folder.path());
    let put = |expected| node.desired.put_tenant(BY, &tenant("acme"), expected, "{}", 3);
    let before = node.desired.tenant(&tenant("acme")).unwrap().generation;
    assert!(before > 0 && put(Some(before)).unwrap().generation > before);
    assert!(
        matches!(put(Some(before)), Err(ChangeError::TenantConflict { expected, .. }) if expected == before)
    );
    assert!(matches!(put(Some(0)), Err(ChangeError::TenantConflict { .. })), "it is there");
    assert_eq!(node.desired.put_tenant(BY, &tenant("new"), Some(0), "{}", 3).unwrap().apps_max, 3);
}

#[test]
fn a_folder_that_cannot_be_written_is_said_to_be_one() {
    let said = Desired::open(Path::new("/proc/tenon")).unwrap_err();
    assert_eq!(said.code, "store-unreadable", "{said}");
    let said = BlobFolder::open(Path::new("/proc/tenon")).unwrap_err();
    assert_eq!(said.code, "store-unreadable", "{said}");
}

/// What the killed process deploys, in the round that it is told.
fn component(number: u64) -> Vec<u8> {
    format!("component {number};").repeat((number % 211 + 1) as usize * 20).into_bytes()
}

/// Ends this process as nobody can prevent.
fn die() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
}

/// Not a test: the process that is killed, or whose disk is full. It does what it is told on its standard input, in the
/// folder it was started in.
#[test]
#[ignore = "the process that other tests start and kill"]
fn does_as_it_is_told() {
    let mut told = String::new();
    std::io::stdin().read_line(&mut told).unwrap();
    let words: Vec<&str> = told.split_whitespace().collect();
    match words[..] {
        ["deploy", from, at] => deploy_until(from.parse().unwrap(), at.parse().unwrap()),
        ["fill"] => fill(),
        _ => {}
    }
}

/// Deploys one component after the other, and makes one of each other change; dies at the step that was asked for, and says
/// what was acknowledged.
fn deploy_until(from: u64, at: u64) {
    let node = Node::open(Path::new("."));
    let mut left = at;
    let mut step = || match left {
        0 => die(),
        _ => left -= 1,
    };
    for number in from.. {
        let bytes = component(number);
        let digest = Digest::of(&bytes);
        let half = bytes.len() / 2;
        let mut upload = node.blobs.upload(&of(&digest, 0, bytes.len() as u64)).unwrap();
        upload.write(&bytes[..half]).unwrap();
        step();
        upload.finish().unwrap();
        step();
        let mut upload = node.blobs.upload(&of(&digest, half as u64, bytes.len() as u64)).unwrap();
        upload.write(&bytes[half..]).unwrap();
        step();
        assert_eq!(upload.finish().unwrap(), Uploaded::Whole);
        step();
        node.desired.claim(Some(&tenant("acme")), &digest).unwrap();
        step();
        let terms = format!("terms {number}");
        let new = NewRevision { component: digest, terms: &terms, reverts_to: None, note: "", ends: None };
        let id = app(&format!("acme/app-{}", number % 3));
        let on =
            routes(&[&format!("{number}.example/*"), "*.apps.example/x"][..1 + usize::from(number % 3 == 0)]);
        let takeover = if number % 2 == 0 { Takeover::AtOnce } else { Takeover::ByPlan("{}") };
        let done = node.desired.revise(BY, &id, None, &new, Some(&on), &takeover).unwrap();
        println!("acknowledged {number} {} {}", number % 3, done.last.0);
        step();
        node.desired.put_tenant(BY, &tenant("acme"), None, &number.to_string(), u32::MAX).unwrap();
        println!("tenant {number}");
        step();
        node.desired.create_token(BY, token(&format!("t{number}"), Some(tenant("acme")))).unwrap();
        println!("token {number}");
        step();
        if done.open_rollout().is_some() {
            let promote = |app: &mut AppRecord| {
                let rollout = app.rollout.as_mut().unwrap();
                (rollout.phase, rollout.ended, app.stable) =
                    (Phase::Promoted, Some(Ended::default()), rollout.candidate);
                Ok(())
            };
            node.desired.point(BY, &id, None, "promote", "", promote).unwrap();
            println!("promoted {} {}", number % 3, done.last.0);
        }
        step();
        let back = NewRevision { reverts_to: Some(done.last), ..new };
        let reverted = node.desired.revise(BY, &id, None, &back, None, &Takeover::AtOnce).unwrap();
        println!("reverted {} {} {}", number % 3, reverted.last.0, done.last.0);
        step();
        let gone = app(&format!("acme/gone-{number}"));
        let new = NewRevision { component: digest, terms: "{}", reverts_to: None, note: "", ends: None };
        node.desired.revise(BY, &gone, None, &new, None, &Takeover::AtOnce).unwrap();
        step();
        node.desired.delete_app(BY, &gone).unwrap();
        println!("deleted {number}");
        step();
    }
}

/// What was acknowledged beside deploys.
#[derive(Default)]
struct Acknowledged {
    tenant: Option<u64>,
    tokens: Vec<u64>,
    /// App and revision.
    promoted: Vec<(u64, u64)>,
    /// App, revision, and which one it is equal to.
    reverted: Vec<(u64, u64, u64)>,
    deleted: Vec<u64>,
}

impl Acknowledged {
    /// Whether a line says that something was.
    fn note(&mut self, what: &str, numbers: &[u64]) -> bool {
        match (what, numbers) {
            ("tenant", [number]) => self.tenant = Some(*number),
            ("token", [number]) => self.tokens.push(*number),
            ("promoted", [app, revision]) => self.promoted.push((*app, *revision)),
            ("reverted", [app, revision, to]) => self.reverted.push((*app, *revision, *to)),
            ("deleted", [number]) => self.deleted.push(*number),
            _ => return false,
        }
        true
    }

    fn check(&self, desired: &Desired, round: u64) {
        let of = |index: &u64| app(&format!("acme/app-{index}"));
        if let Some(number) = self.tenant {
            let document = desired.tenant(&tenant("acme")).unwrap().document.clone();
            assert!(document.parse::<u64>().unwrap() >= number, "round {round}: {document} after {number}");
        }
        for number in &self.tokens {
            assert!(desired.token(&format!("t{number}")).is_some(), "round {round}: token {number}");
        }
        // Older ones go with their revisions.
        for (index, revision) in self.promoted.iter().rev().take(10) {
            let ended = desired.rollouts(&of(index)).unwrap();
            let ended = ended.iter().find(|rollout| rollout.candidate.0 == *revision);
            assert_eq!(
                ended.map(|rollout| rollout.phase),
                Some(Phase::Promoted),
                "round {round}: r{revision}"
            );
        }
        for (index, revision, to) in self.reverted.iter().rev().take(10) {
            let record = desired.revision(&of(index), RevisionNumber(*revision)).unwrap();
            let to = Some(RevisionNumber(*to));
            assert_eq!(record.and_then(|record| record.reverts_to), to, "round {round}: r{revision}");
            assert!(desired.app(&of(index)).unwrap().last.0 >= *revision, "round {round}: r{revision}");
        }
        for number in self.deleted.iter().rev().take(10) {
            let gone = app(&format!("acme/gone-{number}"));
            assert!(desired.app(&gone).is_none(), "round {round}: {gone}");
            assert_eq!(desired.revisions(&gone).unwrap(), [], "round {round}: {gone}");
        }
    }
}

#[test]
fn what_was_acknowledged_survives_hundreds_of_kills_at_every_step() {
    let folder = tempfile::tempdir().unwrap();
    drop(Node::with_tenants(folder.path()));
    let mut acknowledged: Vec<(u64, u64, u64)> = Vec::new();
    let mut others = Acknowledged::default();
    let (mut from, mut audited, mut silent) = (0, 0, 0);
    for round in 0..KILLS {
        // A fixed sequence: the same kills in every run, as far as a clock allows.
        let random = round.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let by_itself = round % 2 == 0;
        let at = if by_itself { (round / 2) % (2 * STEPS) } else { u64::MAX };
        let mut child = start(folder.path(), &format!("deploy {from} {at}"));
        if !by_itself {
            std::thread::sleep(Duration::from_micros(2_000 + random % 12_000));
            child.kill().unwrap();
        }
        let (mut said, before) = (0, acknowledged.len());
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let numbers: Vec<u64> =
                line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
            match (line.split(' ').next().unwrap(), &numbers[..]) {
                ("acknowledged", [number, app, revision]) => {
                    acknowledged.push((*number, *app, *revision));
                    said += 1;
                }
                (what, numbers) => said += u64::from(others.note(what, numbers)),
            }
        }
        child.wait().unwrap();
        silent += u64::from(acknowledged.len() == before);
        from = acknowledged.last().map_or(0, |(number, ..)| number + 1) + 1;

        let node = Node::open(folder.path());
        assert!(node.desired.is_audit_intact(), "round {round}");
        let entries = node.desired.generation();
        assert!(
            entries >= audited + said,
            "round {round}: {entries} changes, {audited} and {said} were made"
        );
        audited = entries;
        others.check(&node.desired, round);
        // What is kept of each app is what was acknowledged, and whatever a pointer names is there and whole.
        for (number, index, revision) in acknowledged.iter().rev().take(20) {
            let id = app(&format!("acme/app-{index}"));
            let record = node.desired.revision(&id, RevisionNumber(*revision)).unwrap();
            let record = record.unwrap_or_else(|| panic!("round {round}: {id} lost r{revision}"));
            assert_eq!(record.terms, format!("terms {number}"), "round {round}");
            assert_eq!(record.component, Digest::of(&component(*number)), "round {round}");
        }
        for app in node.desired.apps().1 {
            for number in [Some(app.stable), app.open_rollout().map(|it| it.candidate)].into_iter().flatten()
            {
                let record = node.desired.revision(&app.id, number).unwrap().unwrap();
                assert!(node.blobs.read(&record.component).unwrap().is_some(), "round {round}: {}", app.id);
            }
        }
    }
    assert!(acknowledged.len() as u64 > KILLS / 4, "{} of {KILLS} rounds said nothing", silent);
    assert!(others.deleted.len() as u64 > KILLS / 8, "{} came to the last change", others.deleted.len());
    assert!(silent > STEPS, "some were killed before anything was acknowledged");
}

fn start(folder: &Path, told: &str) -> std::process::Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "does_as_it_is_told", "--ignored", "--nocapture"])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{told}").unwrap();
    child
}

/// The disk takes no more, and then it does again.
fn fill() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let full = |bytes| setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    // A write beyond the limit is an error then, and not the end.
    signal_hook::flag::register(25, std::sync::Arc::default()).unwrap();
    let node = Node::with_tenants(Path::new("."));
    node.deploy("acme/shop", &["shop.example/*"], Takeover::AtOnce).unwrap();
    let generation = node.desired.generation();
    full(Some(1));
    let pause = || {
        node.desired.point(BY, &app("acme/shop"), None, "pause", "", |app| {
            app.paused = !app.paused;
            Ok(())
        })
    };
    assert!(matches!(pause(), Err(ChangeError::Failed(_))));
    assert!(matches!(pause(), Err(ChangeError::Failed(_))), "and it stays so");
    // What there was is still there to be served.
    assert_eq!(node.desired.generation(), generation);
    assert!(!node.desired.app(&app("acme/shop")).unwrap().paused);
    assert_eq!(node.desired.revisions(&app("acme/shop")).unwrap().len(), 1, "what is on the disk too");
    assert!(node.desired.unwritable().is_some());
    let digest = Digest::of(b"more");
    let failed = node.blobs.upload(&of(&digest, 0, 4)).and_then(|mut upload| {
        upload.write(b"more")?;
        upload.finish()
    });
    assert!(matches!(failed, Err(BlobError::Io(_))), "{failed:?}");
    full(None);
    assert!(pause().unwrap().paused, "it goes on by itself once there is room");
    assert_eq!(node.desired.generation(), generation + 1);
    assert_eq!(node.desired.revisions(&app("acme/shop")).unwrap().len(), 1);
    assert_eq!(node.desired.unwritable(), None);
    node.upload(b"more");

    // The next process finds a disk that takes nothing, after this one was ended cleanly, and after it was not.
    drop(node);
    for is_clean in [true, false] {
        let node = Node::open(Path::new("."));
        full(if is_clean { None } else { Some(1) });
        drop(node);
        full(Some(1));
        let node = Node::open(Path::new("."));
        assert!(node.desired.unwritable().is_some() && node.desired.is_audit_intact());
        assert_eq!((node.desired.generation(), node.desired.apps().1.len()), (generation + 1, 1));
        assert!(node.desired.app(&app("acme/shop")).unwrap().paused);
        let revision = node.desired.revisions(&app("acme/shop")).unwrap().pop().unwrap();
        assert!(node.blobs.read(&revision.component).unwrap().is_some());
        assert!(matches!(node.desired.delete_app(BY, &app("acme/shop")), Err(ChangeError::Failed(_))));
        assert!(matches!(
            node.desired.forget_unused(0),
            Err(ChangeError::Failed(_) | ChangeError::Unknown(_))
        ));
        full(None);
        assert_eq!(node.desired.forget_unused(3_600).unwrap(), [], "it goes on by itself here too");
        assert_eq!((node.desired.unwritable(), node.desired.generation()), (None, generation + 1));
    }
    println!("went on");
}

#[test]
fn a_full_disk_is_an_error_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), "fill");
    let lines: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
    assert!(
        child.wait().unwrap().success() && lines.iter().any(|line| line.contains("went on")),
        "{lines:?}"
    );
}
