//! Older drafts of an interface that are still linked: granted and refused as the newer ones are.

use tenon_testkit::client::{call, get};
use tenon_testkit::{Guests, Serving, Tenon};

use crate::support::tenon;

/// `tenon serve` of `drafted` with these grants.
fn drafted(tenon: &Tenon, grants: &str) -> tenon_testkit::Serve {
    let folder = tenon.data().join("app");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(Guests::get("drafted"), folder.join("guest.wasm")).unwrap();
    let manifest =
        format!("[component.drafted]\npath = \"guest.wasm\"\n[component.drafted.grants]\n{grants}\n");
    std::fs::write(folder.join("tenon.toml"), manifest).unwrap();
    tenon.serve(folder)
}

fn said(server: &Serving, target: &str) -> String {
    call(server.address(), get(target)).expect(200)
}

#[test]
fn the_older_draft_of_keyvalue_keeps_and_counts_and_lists() {
    let tenon = tenon();
    let grant = r#""wasi:keyvalue" = [{ bucket = "default", access = "write" }, { bucket = "shelf", access = "read" }]"#;
    let server = drafted(&tenon, grant).start();
    assert_eq!(said(&server, "/get?key=a"), "None");
    assert_eq!(said(&server, "/set?key=a&value=one"), "set");
    assert_eq!(said(&server, "/get?key=a"), r#"Some("one")"#);
    assert_eq!(said(&server, "/exists?key=a"), "true");
    assert_eq!(said(&server, "/add?key=n&delta=5"), "5");
    assert_eq!(said(&server, "/add?key=n&delta=37"), "42");
    assert_eq!(said(&server, "/delete?key=a"), "deleted");
    assert_eq!(said(&server, "/exists?key=a"), "false");
    assert_eq!(said(&server, "/delete?key=n"), "deleted");

    // More than come in one page: the cursor, a number here, leads on to the next, and to each key once.
    assert_eq!(said(&server, "/set-many?n=2500"), "set");
    assert_eq!(said(&server, "/list"), "3 pages, 2500 keys, sorted: true");
    assert_eq!(said(&server, "/get-many"), r#"[Some(("many-00001", "Some(\"1\")")), None]"#);
    assert_eq!(said(&server, "/delete-many"), "deleted");
    assert_eq!(said(&server, "/exists?key=many-00001"), "false");

    for target in
        ["/set?bucket=shelf&key=k", "/add?bucket=shelf&key=k", "/set-many?bucket=shelf", "/get?bucket=other"]
    {
        let answer = said(&server, target);
        assert!(answer.starts_with("refused: ") && answer.contains("AccessDenied"), "{target}: {answer}");
    }
    assert_eq!(said(&server, "/get?bucket=shelf&key=k"), "None");
    server.logged(&["not granted", "component.drafted.grants", "bucket = ", "other"]);
    server.stop();
}

#[test]
fn without_the_grant_the_older_draft_is_refused_before_serving() {
    let refused = drafted(&tenon(), "").refused().expect_code(1);
    refused.expect_stderr(&[
        "import-not-granted",
        "wasi:keyvalue/store@0.2.0-draft",
        "[component.drafted.grants]",
        "\"wasi:keyvalue\" = [",
    ]);
}
