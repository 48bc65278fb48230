//! `tenon dev`: what is saved is served, what is wrong is shown, and nobody who asks meanwhile goes without an answer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tenon_testkit::client::{Reply, call, get, request};
use tenon_testkit::{DEADLINE, Serving, Tenon, until};

use crate::support::tenon;

/// A first build, on a machine that is busy with others.
const BUILD_DEADLINE: Duration = Duration::from_secs(600);

const CARGO: &str = r#"[package]
name = "greeter"
version = "0.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
wit-bindgen = { version = "0.63", default-features = false, features = ["macros", "realloc", "std"] }

[workspace]
"#;

const WIT: &str = "package demo:greeter;

world greeter {
    record request { method: string, path: string, headers: list<tuple<string, string>>, body: option<list<u8>> }
    record response { status: u16, headers: list<tuple<string, string>>, body: list<u8> }
    export handle: func(req: request) -> response;
}
";

fn source(says: &str) -> String {
    format!(
        "mod says;
wit_bindgen::generate!({{ path: \"wit\" }});
struct Greeter;
impl Guest for Greeter {{
    fn handle(_: Request) -> Response {{
        Response {{ status: 200, headers: vec![], body: format!(\"{{}} {says}\", says::WHO).into_bytes() }}
    }}
}}
export!(Greeter);
"
    )
}

/// A copy of a small component in Rust, built once, and its folder.
fn greeter(tenon: &Tenon) -> PathBuf {
    // All of the machine is at work on these while they are built: not beside what is timed here.
    tenon_testkit::Guests::get("plain-root");
    let folder = tenon.data().join("greeter");
    write(&folder, "Cargo.toml", CARGO);
    write(&folder, "wit/greeter.wit", WIT);
    write(&folder, "src/lib.rs", &source("one"));
    write(&folder, "src/says.rs", "pub const WHO: &str = \"hello\";\n");
    tenon_testkit::share_cargo(Path::new(env!("CARGO_TARGET_TMPDIR")), &folder.join(".tenon"));
    tenon.run_for(BUILD_DEADLINE, tenon.data(), ["build".as_ref(), folder.as_os_str()]).expect_code(0);
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn page(server: &Serving) -> Reply {
    let mut asked = get("/");
    asked.headers_mut().insert("accept", "text/html,*/*;q=0.8".parse().unwrap());
    call(server.address(), asked)
}

#[track_caller]
fn answers(server: &Serving, text: &str) {
    until(text, DEADLINE * 4, || (call(server.address(), get("/")).text() == text).then_some(()));
}

#[test]
fn what_is_saved_is_served_and_what_is_wrong_is_shown() {
    let tenon = tenon();
    let folder = greeter(&tenon);
    let server = tenon.dev(&folder).start();
    answers(&server, "hello one");
    assert_eq!(call(server.address(), get("/")).header("x-tenon-notice"), "");

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Somebody asks all the time, and always gets an answer of the app.
        let asking = scope.spawn(|| {
            let mut answers = std::collections::BTreeSet::new();
            while !over.load(Relaxed) {
                answers.insert(call(server.address(), get("/")).expect(200));
            }
            answers
        });
        write(&folder, "src/lib.rs", &source("two"));
        answers(&server, "hello two");
        server.logged(&["served", "src/lib.rs changed", "built greeter (Rust)", "compiled", "serving after"]);

        write(&folder, "src/lib.rs", "fn handle( {\n");
        server.logged(&["broken", "src/lib.rs changed", "the last good state is served on"]);
        server.logged(&["build-failed"]);
        let shown = page(&server);
        assert_eq!(shown.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(shown.header("x-tenon-notice"), "build-failed");
        assert!(shown.header("content-security-policy").starts_with("default-src 'none'"));
        let tag = shown.header("etag").to_owned();
        let shown = shown.expect(503);
        assert!(shown.contains("build-failed") && shown.contains("src/lib.rs:1:"), "{shown}");
        // The page asks like this whether it is over.
        let mut asked = request("HEAD", "/", tenon_testkit::client::empty());
        asked.headers_mut().insert("accept", "text/html".parse().unwrap());
        assert_eq!(call(server.address(), asked).header("etag"), tag);
        let other = call(server.address(), get("/"));
        assert_eq!(other.header("x-tenon-notice"), "build-failed");
        assert_eq!(other.expect(200), "hello two");

        write(&folder, "src/lib.rs", &source("three"));
        answers(&server, "hello three");
        assert_eq!(page(&server).expect(200), "hello three");

        // A file that is gone, and back as it was: nothing is built, and nothing is wrong any more.
        std::fs::remove_file(folder.join("src/says.rs")).unwrap();
        server.logged(&["broken", "src/says.rs changed"]);
        assert_eq!(page(&server).header("x-tenon-notice"), "build-failed");
        write(&folder, "src/says.rs", "pub const WHO: &str = \"hello\";\n");
        server.logged(&["mended", "src/says.rs changed"]);
        assert_eq!(page(&server).expect(200), "hello three");

        over.store(true, Relaxed);
        let answers = asking.join().unwrap();
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["hello one", "hello three", "hello two"]);
    });
    // What a build leaves behind, or an editor, is no change.
    let cycles = server.count_logged(&["changed"]);
    write(&folder, "target/x", "");
    write(&folder, "src/.lib.rs.swp", "");
    write(&folder, "src/says.rs", "pub const WHO: &str = \"good day\";\n");
    answers(&server, "good day three");
    server.logged(&["served", "src/says.rs changed"]);
    assert_eq!(server.count_logged(&["changed"]), cycles + 1, "{}", server.log());
    server.stop();
}

#[test]
fn a_manifest_is_followed_too() {
    let tenon = tenon();
    let folder = tenon.data().join("app");
    let copy = |guest: &str| {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(tenon_testkit::Guests::get(guest), folder.join(format!("{guest}.wasm"))).unwrap();
    };
    copy("plain-root");
    write(&folder, "composition.toml", "[component.app]\npath = \"plain-root.wasm\"\n");
    let server = tenon.dev(&folder).args(["--json"]).start();
    answers(&server, "plain-root GET /\n");

    // Another component, which is not there yet.
    write(&folder, "composition.toml", "[component.app]\npath = \"plain-iface.wasm\"\n");
    until("the notice", DEADLINE, || {
        (page(&server).header("x-tenon-notice") == "file-missing").then_some(())
    });
    assert!(page(&server).expect(503).contains("composition.toml:2:"));
    answers(&server, "plain-root GET /\n");
    copy("plain-iface");
    until("the other component", DEADLINE, || {
        call(server.address(), get("/")).text().starts_with("plain-iface").then_some(())
    });

    // A limit that needs another pool.
    write(
        &folder,
        "composition.toml",
        "[component.app]\npath = \"plain-root.wasm\"\n[limits]\nmemory = \"16MiB\"\nrequest-body = \"1KiB\"\n",
    );
    answers(&server, "plain-root GET /\n");
    let long = tenon_testkit::client::post("/", vec![b'x'; 2_000]);
    call(server.address(), long).expect_failure(413, "request-too-large");

    // Nothing at all.
    std::fs::remove_file(folder.join("composition.toml")).unwrap();
    until("the notice", DEADLINE, || (!page(&server).header("x-tenon-notice").is_empty()).then_some(()));
    answers(&server, "plain-root GET /\n");
    let told = server.stop().stdout;
    let events: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |event: &str| events.iter().filter(|it| it["event"] == event).count();
    assert_eq!((count("serving"), count("served")), (1, 3), "{told}");
    let broken = events.iter().find(|it| it["event"] == "broken").unwrap();
    assert_eq!(broken["diagnostics"][0]["code"], "file-missing");
    assert_eq!(broken["serving"], true);
}

#[test]
fn what_never_built_has_a_page_too() {
    let tenon = tenon();
    let folder = tenon.data().join("app");
    write(&folder, "composition.toml", "[component.app]\npath = 7\n");
    let server = tenon.dev(&folder).args(["--poll"]).start();
    assert!(page(&server).expect(503).contains("composition.toml:2:"));
    call(server.address(), get("/")).expect_failure(503, "not-ready");
    std::fs::copy(tenon_testkit::Guests::get("plain-root"), folder.join("app.wasm")).unwrap();
    write(&folder, "composition.toml", "[component.app]\npath = \"app.wasm\"\n");
    answers(&server, "plain-root GET /\n");
    server.stop();

    let refused = tenon.dev(folder.join("nowhere")).refused().expect_code(1);
    refused.expect_stderr(&["no-manifest"]);
}
