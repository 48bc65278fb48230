//! Messages reach whom they were granted to: each in a sandbox of its own, tried again when that fails, and never lost
//! with the process.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use tenon_testkit::client::{Reply, call, get};
use tenon_testkit::{DEADLINE, Guests, Serving, Tenon, until};

use crate::support::tenon;

const NOTES: &str = r#""wasi:keyvalue" = [{ bucket = "default", access = "write" }]"#;
const BOTH_WAYS: &str =
    r#""wasi:messaging" = { publish = ["orders.*", "bills.*"], subscribe = ["orders.*"] }"#;

/// A manifest of these components: name, guest, lines of its table, grants.
fn app(tenon: &Tenon, components: &[(&str, &str, &str, &str)], limits: &str) -> PathBuf {
    let folder = tenon.data().join("app");
    std::fs::create_dir_all(&folder).unwrap();
    let mut text = format!("name = \"post\"\n\n[limits]\n{limits}\n");
    for (name, guest, lines, grants) in components {
        std::fs::copy(Guests::get(guest), folder.join(format!("{name}.wasm"))).unwrap();
        text += &format!(
            "\n[component.{name}]\npath = \"{name}.wasm\"\n{lines}\n[component.{name}.grants]\n{grants}\n"
        );
    }
    let file = folder.join("tenon.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn alone(tenon: &Tenon, messaging: &str, limits: &str) -> PathBuf {
    app(tenon, &[("clerk", "clerk", "", &format!("{NOTES}\n{messaging}"))], limits)
}

fn ask(server: &Serving, path: &str, data: &str) -> Reply {
    let data = data.replace('%', "%25").replace('&', "%26").replace('=', "%3d").replace('?', "%3f");
    call(server.address(), get(&format!("{path}data={data}")))
}

fn send(server: &Serving, topic: &str, data: &str) {
    assert_eq!(ask(server, &format!("/send?topic={topic}&"), data).expect(200), "sent");
}

/// What was noted of the message, once it is.
fn noted(server: &Serving, data: &str) -> String {
    until("the note", DEADLINE, || {
        let reply = ask(server, "/noted?", data);
        (reply.status == 200).then(|| reply.expect(200))
    })
}

fn tries(server: &Serving, data: &str) -> String {
    ask(server, "/tries?", data).expect(200)
}

#[test]
fn a_message_is_handled_by_the_component_that_sent_it() {
    let tenon = tenon();
    let server = tenon.serve(alone(&tenon, BOTH_WAYS, "")).start();
    send(&server, "orders.new", "one");
    assert_eq!(noted(&server, "one"), r#"orders.new one Some([("a", "1")]) None None"#);
    assert_eq!(tries(&server, "one"), "1");
    // A topic that it may send to and is not given.
    send(&server, "bills.new", "two");
    send(&server, "orders.old", "three");
    noted(&server, "three");
    ask(&server, "/noted?", "two").expect(404);
    // Whoever waits for an answer gets it.
    assert_eq!(ask(&server, "/request?topic=orders.new&", "four").expect(200), "noted four");
    let said = server.stop();
    assert!(said.stderr.contains("orders.* to clerk"), "{}", said.stderr);
    assert!(said.stderr.contains("handled=3"), "{}", said.stderr);
}

#[test]
fn a_message_goes_to_the_part_that_was_granted_it() {
    let tenon = tenon();
    let handler = format!("{NOTES}\n\"wasi:messaging\" = {{ subscribe = [\"orders.new\"] }}");
    let sender = r#""wasi:messaging" = { publish = ["orders.*"] }"#;
    let only = r#"export = ["wasi:messaging/incoming-handler"]"#;
    let components = [("shop", "courier", "", sender), ("clerk", "clerk", only, handler.as_str())];
    let server = tenon.serve(app(&tenon, &components, "")).start();
    let sent = call(server.address(), get("/send?topic=orders.new&data=%2ffail%3ftimes%3d99"));
    sent.expect(200);
    server.logged(&["a message was not handled", "component=\"clerk\"", "attempt 1"]);
    server.stop();

    // Granted to a part that has no handler for them.
    let sender = r#""wasi:messaging" = { publish = ["orders.*"], subscribe = ["orders.new"] }"#;
    let components = [("shop", "courier", "", sender), ("clerk", "clerk", only, handler.as_str())];
    let refused = tenon.serve(app(&tenon, &components, "")).refused().expect_code(1);
    refused.expect_stderr(&["no-message-handler", "`shop`", "orders.new"]);
}

#[test]
fn without_the_grant_the_handler_is_refused_with_its_line() {
    let tenon = tenon();
    let publish = r#""wasi:messaging" = { publish = ["orders.*"] }"#;
    let refused = tenon.serve(alone(&tenon, publish, "")).refused().expect_code(1);
    refused.expect_stderr(&[
        "not-subscribed",
        "[component.clerk.grants]\n",
        r#""wasi:messaging" = { subscribe = ["orders.*"] }"#,
    ]);
    let refused = tenon.serve(alone(&tenon, "", "")).refused().expect_code(1);
    refused.expect_stderr(&["import-not-granted", "wasi:messaging"]);
    let nobody = app(&tenon, &[("courier", "courier", "", BOTH_WAYS)], "");
    let refused = tenon.serve(nobody).refused().expect_code(1);
    refused.expect_stderr(&["no-message-handler", "wasi:messaging/incoming-handler@0.2.0-draft"]);
}

#[test]
fn a_message_whose_handling_fails_is_tried_again_and_given_up_in_the_end() {
    let tenon = tenon();
    let limits = "cpu = \"100ms\"\nmemory = \"16MiB\"";
    let server = tenon.serve(alone(&tenon, BOTH_WAYS, limits)).start();
    // One that always fails keeps nobody from being handled.
    for data in ["/trap", "/oom", "/fail?times=99"] {
        send(&server, "orders.bad", data);
    }
    send(&server, "orders.new", "/fail?times=2");
    send(&server, "orders.new", "fine");
    noted(&server, "fine");
    noted(&server, "/fail?times=2");
    assert_eq!(tries(&server, "/fail?times=2"), "3");
    send(&server, "orders.new", "/loop");
    server.logged(&["a message was not handled", "cpu 100ms", "cpu-deadline"]);
    server.logged(&["a message was not handled", "memory 16MiB", "out-of-memory"]);
    let thrown_away = || server.count_logged(&["a message was thrown away", "attempts=5"]);
    until("all are given up", DEADLINE, || (thrown_away() == 4).then_some(()));
    for data in ["/trap", "/oom", "/fail?times=99", "/loop"] {
        assert_eq!(tries(&server, data), "5", "{data}");
    }
    let said = server.stop();
    assert!(said.stderr.contains("handled=2 failed=22 thrown_away=4"), "{}", said.stderr);
    // A failure is a failure: there are reports of it.
    let reports = tenon.run(tenon.data(), ["crash", "list"]).expect_code(0);
    assert!(reports.stdout.contains("out-of-memory"), "{}", reports.stdout);
}

#[test]
fn each_message_has_a_sandbox_of_its_own() {
    let tenon = tenon();
    let server = tenon.serve(alone(&tenon, BOTH_WAYS, "")).start();
    send(&server, "orders.new", "?plant=7");
    let planted = noted(&server, "?plant=7");
    assert!(!planted.contains("None None") && !planted.contains("Some(0)"), "{planted}");
    for number in 0..50 {
        let data = format!("?find=7&n={number}");
        send(&server, "orders.new", &data);
        assert!(noted(&server, &data).ends_with("None Some(0)"));
    }
    server.stop();
}

#[test]
fn messages_survive_a_kill() {
    let tenon = tenon();
    let manifest = alone(&tenon, BOTH_WAYS, "");
    let mut server = tenon.serve(&manifest).start();
    for number in 0..20 {
        // Each rests after its first attempts, and is there when the process ends.
        send(&server, "orders.new", &format!("/fail?times=3&n={number}"));
    }
    let process = Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    kill_process(process, Signal::KILL).unwrap();
    server.wait(DEADLINE);
    let server = tenon.serve(&manifest).start();
    for number in 0..20 {
        noted(&server, &format!("/fail?times=3&n={number}"));
    }
    server.stop();
}
