//! What outlives a request: granted, refused, read-only, bounded, and there after a restart.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use tenon_testkit::client::{Reply, call, get};
use tenon_testkit::{Guests, RedisServer, Serving, Tenon};

use crate::support::tenon;

/// What `keeper` imports, whatever it then uses.
const KEEPER: &str = r#"
"wasi:keyvalue" = [{ bucket = "default", access = "write" }, { bucket = "shelf", access = "read" }]
"wasi:config" = { greeting = "hello", language = "en" }
"wasi:logging" = true
"#;

/// A manifest beside the data of `tenon`, of one component with these grants, and these limits.
fn app(tenon: &Tenon, guest: &str, grants: &str, limits: &str) -> PathBuf {
    let folder = tenon.data().join("app");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(Guests::get(guest), folder.join("guest.wasm")).unwrap();
    let file = folder.join("tenon.toml");
    let text = format!(
        "name = \"kept\"\n\n[component.{guest}]\npath = \"guest.wasm\"\n\n[component.{guest}.grants]\n{grants}\n\
         [component.{guest}.limits]\n{limits}"
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn ask(server: &Serving, target: &str) -> Reply {
    call(server.address(), get(target))
}

fn is_there(data: &Path) -> bool {
    data.join("store/state.redb").is_file()
}

#[test]
fn keys_and_values_are_kept_as_the_interface_says() {
    let tenon = tenon();
    let server = tenon.serve(app(&tenon, "keeper", KEEPER, "")).start();
    let said = |target: &str| ask(&server, target).expect(200);
    ask(&server, "/get?key=a").expect(404);
    assert_eq!(said("/set?key=a&value=one"), "set");
    assert_eq!(said("/get?key=a"), "one");
    // The empty name is the bucket `default`.
    assert_eq!(said("/get?key=a&bucket="), "one");
    assert_eq!(said("/exists?key=a"), "true");
    assert_eq!(said("/add?key=n&delta=5"), "5");
    assert_eq!(said("/add?key=n&delta=-7"), "-2");
    assert_eq!(said("/swap?key=a&value=two"), "swapped Some(\"one\")");
    assert_eq!(said("/swap?key=a&value=three&between=x"), "changed Some(\"two\") to Some(\"x\")");
    assert_eq!(said("/get?key=a"), "x");
    assert_eq!(said("/list"), "a,n None");
    assert_eq!(said("/many"), r#"[Some(("m2", "two")), None, Some(("m1", "one"))] ["a", "m2", "n"]"#);
    assert_eq!(said("/delete?key=a"), "deleted");
    assert_eq!(said("/exists?key=a"), "false");
    server.stop();
    assert!(is_there(tenon.data()));
}

#[test]
fn what_is_not_granted_is_refused_before_serving_and_what_is_not_covered_at_the_call() {
    let tenon = tenon();
    // Nothing granted: not served at all.
    let refused = tenon.serve(Guests::get("keeper")).refused().expect_code(1);
    refused.expect_stderr(&["import-not-granted", "wasi:keyvalue/store", "\"wasi:keyvalue\" = ["]);
    assert!(!is_there(tenon.data()), "a store is opened only for a grant");
    // Each of the three without its own line.
    for (package, interface) in [
        ("wasi:keyvalue", "wasi:keyvalue/"),
        ("wasi:config", "wasi:config/"),
        ("wasi:logging", "wasi:logging/"),
    ] {
        let others: Vec<_> = KEEPER.lines().filter(|line| !line.contains(package)).collect();
        let refused = tenon.serve(app(&tenon, "keeper", &others.join("\n"), "")).refused().expect_code(1);
        let line = format!("\"{package}\" = ");
        let refused = refused.expect_stderr(&["import-not-granted", interface, &line]);
        for other in ["wasi:keyvalue/", "wasi:config/", "wasi:logging/"] {
            assert_eq!(refused.stderr.contains(other), other == interface, "{}", refused.stderr);
        }
    }

    let server = tenon.serve(app(&tenon, "keeper", KEEPER, "")).start();
    ask(&server, "/open?bucket=shelf").expect(200);
    for target in [
        "/set?bucket=shelf&key=k&value=v",
        "/delete?bucket=shelf&key=k",
        "/add?bucket=shelf&key=k",
        "/many?bucket=shelf",
    ] {
        assert_eq!(ask(&server, target).expect(403), "access-denied", "{target}");
    }
    assert_eq!(ask(&server, "/swap?bucket=shelf&key=k&value=v").expect(403), "access-denied");
    ask(&server, "/get?bucket=shelf&key=k").expect(404);
    assert_eq!(ask(&server, "/open?bucket=other").expect(403), "access-denied");
    server.logged(&["wasi:keyvalue", "bucket = ", "other", "read"]);
    server.logged(&["wasi:keyvalue", "bucket = ", "shelf", "write"]);
    server.stop();
}

#[test]
fn key_value_bytes_are_bounded() {
    let tenon = tenon();
    let limits = "key-value-bytes = \"3MiB\"\n";
    let server = tenon.serve(app(&tenon, "keeper", KEEPER, limits)).start();
    assert_eq!(ask(&server, "/fill?mib=2").expect(200), "filled");
    let over = ask(&server, "/fill?mib=4").expect(500);
    assert!(over.contains("key-value-bytes"), "{over}");
    server.logged(&["tenon::limit", r#"component="keeper""#, r#"limit="key-value-bytes" value=3145728"#]);
    // The limit is a request's: the next has all of it again.
    assert_eq!(ask(&server, "/fill?mib=2").expect(200), "filled");
    server.stop();
}

#[test]
fn values_survive_a_restart_and_a_kill() {
    let tenon = tenon();
    let manifest = app(&tenon, "keeper", KEEPER, "");
    let mut expected = 0;
    for round in 0..4 {
        let mut server = tenon.serve(&manifest).start();
        for _ in 0..5 {
            expected += 1;
            assert_eq!(ask(&server, "/add?key=n&delta=1").expect(200), expected.to_string(), "round {round}");
        }
        if round % 2 == 0 {
            let process = Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
            kill_process(process, Signal::KILL).unwrap();
            server.wait(tenon_testkit::DEADLINE);
        } else {
            server.stop();
        }
    }
}

#[test]
fn a_bucket_can_be_kept_in_redis() {
    let Some(redis) = RedisServer::start() else { return };
    let tenon = tenon();
    let grants = format!(
        "\"wasi:keyvalue\" = [{{ bucket = \"default\", access = \"write\", store = \"{}\" }}]\n\
         \"wasi:config\" = {{ greeting = \"hello\" }}\n\"wasi:logging\" = true\n",
        redis.url()
    );
    let manifest = app(&tenon, "keeper", &grants, "");
    let server = tenon.serve(&manifest).start();
    let said = |server: &Serving, target: &str| ask(server, target).expect(200);
    assert_eq!(said(&server, "/set?key=a&value=one"), "set");
    assert_eq!(said(&server, "/add?key=n&delta=5"), "5");
    assert_eq!(said(&server, "/swap?key=a&value=two&between=x"), "changed Some(\"one\") to Some(\"x\")");
    server.stop();
    let server = tenon.serve(&manifest).start();
    assert_eq!(said(&server, "/get?key=a"), "x");
    assert_eq!(said(&server, "/list"), "a,n None");
    server.stop();
    assert!(!is_there(tenon.data()), "nothing is kept here");
}

#[test]
fn configuration_is_what_the_manifest_says() {
    let tenon = tenon();
    let server = tenon.serve(app(&tenon, "keeper", KEEPER, "")).start();
    assert_eq!(ask(&server, "/config?key=greeting").expect(200), "hello");
    ask(&server, "/config?key=other").expect(404);
    assert_eq!(ask(&server, "/config/all").expect(200), r#"Ok([("greeting", "hello"), ("language", "en")])"#);
    server.stop();
}

#[test]
fn log_lines_have_a_level_and_cannot_pass_for_others() {
    let tenon = tenon();
    let limits = "log-bytes = \"2KiB\"\n";
    let server = tenon.serve(app(&tenon, "keeper", KEEPER, limits)).start();
    let mut request = get("/log?level=warn&context=shop&message=first%0Asecond");
    request.headers_mut().insert("x-request-id", "logs-1".parse().unwrap());
    call(server.address(), request).expect(200);
    server.logged(&["WARN", "tenon::guest", "first", "logs-1", "shop"]);
    server.logged(&["WARN", "tenon::guest", "second", "logs-1"]);
    ask(&server, "/log?level=critical&message=worst").expect(200);
    server.logged(&["ERROR", "critical", "worst"]);
    ask(&server, "/log?message=again-and-again&times=1000").expect(200);
    server.logged(&["more than it may log in a second"]);
    assert!(server.count_logged(&["again-and-again"]) < 400);
    server.stop();
}

#[test]
fn objects_are_kept_streamed_and_guarded() {
    let tenon = tenon();
    let grants = r#""wasi:blobstore" = [{ container = "images", access = "write" }, { container = "shelf", access = "read" }]"#;
    let manifest = app(&tenon, "archive", grants, "");
    let server = tenon.serve(&manifest).start();
    let said = |server: &Serving, target: &str| ask(server, target).expect(200);
    assert_eq!(said(&server, "/exists"), "false");
    assert_eq!(said(&server, "/create"), "created");
    // Three megabytes, in pieces of 4,096 bytes: each piece is full of its number.
    assert_eq!(said(&server, "/write?object=o&bytes=3000000"), "written");
    let sum: u64 = (0..3_000_000_u64).map(|byte| byte / 4096 % 256).sum();
    assert_eq!(said(&server, "/read?object=o&stream=1"), format!("3000000 3000000 {sum}"));
    assert_eq!(said(&server, "/read?object=o"), format!("3000000 3000000 {sum}"));
    assert_eq!(said(&server, "/read?object=o&start=4096&end=4099"), "4 4 4");
    assert_eq!(said(&server, "/write?object=never&finish=0"), "written");
    assert_eq!(said(&server, "/copy?object=o&to=p"), "copied");
    assert_eq!(said(&server, "/list"), "o,p true");
    for target in ["/create?container=shelf", "/create?container=other", "/exists?container=other"] {
        assert!(ask(&server, target).expect(500).contains("access denied"), "{target}");
    }
    server.logged(&["wasi:blobstore", "container = ", "shelf", "write"]);
    server.stop();

    let server = tenon.serve(&manifest).start();
    assert_eq!(said(&server, "/delete?object=o"), "deleted");
    assert_eq!(said(&server, "/read?object=p"), format!("3000000 3000000 {sum}"));
    server.stop();
    // Its twin without the grant.
    tenon
        .serve(Guests::get("archive"))
        .refused()
        .expect_code(1)
        .expect_stderr(&["import-not-granted", "wasi:blobstore"]);
}

#[test]
fn messages_are_published_where_it_was_granted() {
    let tenon = tenon();
    let grants = r#""wasi:messaging" = { publish = ["orders.*"] }"#;
    let server = tenon.serve(app(&tenon, "courier", grants, "")).start();
    assert_eq!(ask(&server, "/send?topic=orders.new&data=x").expect(200), r#"Some([("a", "2")]) None"#);
    assert!(ask(&server, "/send?topic=bills.new").expect(403).contains("bills.new"));
    assert!(ask(&server, "/request?topic=bills.new").expect(403).contains("bills.new"));
    server.logged(&["wasi:messaging", "publish = ", "bills.new"]);
    // Nobody is there to answer.
    assert_eq!(ask(&server, "/request?topic=orders.new&ms=50").expect(504), "timeout");
    assert_eq!(ask(&server, "/hold?count=60").expect(200), "60 held");
    // A request holds a bounded number of messages, its own among them when it waits for answers.
    ask(&server, "/hold?count=100").expect_failure(500, "guest-trap");
    server.logged(&["tenon::limit", r#"component="courier""#, r#"limit="messages-held" value=64"#]);
    server.logged(&["guest-trap", "courier", "the component holds 64 messages"]);
    assert!(
        ask(&server, "/request?topic=orders.new&ms=50&hold=63").expect(500).contains("holds 64 messages")
    );
    assert_eq!(ask(&server, "/request?topic=orders.new&ms=50&hold=62").expect(504), "timeout");
    server.stop();
    tenon
        .serve(Guests::get("courier"))
        .refused()
        .expect_code(1)
        .expect_stderr(&["import-not-granted", "wasi:messaging"]);
}
