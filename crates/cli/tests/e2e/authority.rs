//! What a component may touch: reported, and compared from one version to the next.

use std::fs;

use tenon_testkit::fixtures;

use crate::parts::{P2, Part, app};
use crate::support::tenon;

/// Imports `wasi:logging/logging` and exports a function.
const LOGS: &str = r#"
(component
  (import "wasi:logging/logging@0.1.0-draft" (instance (export "log" (func (param "message" string)))))
  (core module $m (func (export "run")))
  (core instance $i (instantiate $m))
  (func $run (canon lift (core func $i "run")))
  (export "run" (func $run)))
"#;

const COMPONENT: &str = "[component.shop]\npath = \"shop.wasm\"\n";
const LOGGING: &str = "\"wasi:logging\" = true\n";
const ONE_HOST: &str = "\"wasi:http\" = [{ host = \"a.example.com\" }]\n";
const EVERY_HOST: &str = "\"wasi:http\" = [{ host = \"*\" }]\n";

#[test]
fn what_a_component_may_touch_is_reported_and_may_not_grow() {
    let tenon = tenon();
    let folder = tenon.data();
    fixtures::write(folder, "shop.wasm", LOGS);
    let grant = |lines: &[&str]| {
        let grants = if lines.is_empty() { "" } else { "[component.shop.grants]\n" };
        fs::write(folder.join("tenon.toml"), format!("{COMPONENT}{grants}{}", lines.concat())).unwrap();
    };
    let authority = |args: &[&str]| tenon.run(folder, [&["authority", "."][..], args].concat());
    let compose = || tenon.run(folder, ["compose", "--config", "tenon.toml", "-o", "out.wasm"]);

    grant(&[]);
    let report = authority(&[]).expect_code(0).stdout;
    assert!(
        report.contains("not granted") && report.contains("wasi:logging/logging@0.1.0-draft"),
        "{report}"
    );
    compose().expect_code(1).expect_stderr(&[
        "import-not-granted",
        "[component.shop.grants]",
        LOGGING.trim(),
    ]);

    grant(&[LOGGING, ONE_HOST]);
    compose().expect_code(0);
    let report = authority(&["--json"]).expect_code(0).stdout;
    assert!(report.contains("\"basis\":\"granted\"") && report.contains("a.example.com"), "{report}");
    fs::write(folder.join("base.json"), report).unwrap();
    authority(&["--deny-growth", "base.json"]).expect_code(0);

    grant(&[LOGGING]);
    authority(&["--deny-growth", "base.json"]).expect_code(0);

    grant(&[LOGGING, EVERY_HOST]);
    authority(&["--deny-growth", "base.json"]).expect_code(1).expect_stderr(&[
        "authority-grew",
        "`shop`",
        "https://*:443/",
        "https://a.example.com:443/",
    ]);

    // The composed component alone, against nothing but itself and against one that imports less.
    tenon.run(folder, ["authority", "out.wasm", "--deny-growth", "shop.wasm"]).expect_code(0);
    fixtures::write(folder, "less.wasm", fixtures::STUFF_PROVIDER);
    tenon
        .run(folder, ["authority", "out.wasm", "--deny-growth", "less.wasm"])
        .expect_code(1)
        .expect_stderr(&["authority-grew", "wasi:logging/logging"]);
    tenon.run(folder, ["authority", "out.wasm", "--deny-growth", "tenon.toml"]).expect_code(0);
}

/// What a report says of one component.
fn of<'r>(report: &'r str, name: &str) -> Vec<&'r str> {
    let lines = report.lines().skip_while(|line| *line != name).skip(1);
    lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect()
}

#[test]
fn each_component_of_a_composition_is_reported_with_what_is_its_own() {
    const FRONT: &str = r#""wasi:filesystem" = [{ directory = "front-data", at = "/data", access = "write" }]
"wasi:keyvalue" = [{ bucket = "till", access = "write" }]
"wasi:cli" = { environment = { SECRET = "hidden" } }"#;
    const BACK: &str = r#""wasi:sockets" = [{ protocol = "udp", direction = "listen", host = "127.0.0.1", port = 5353 }]
"wasi:http" = [{ host = "a.example.com", path = "/v1/" }]
"wasi:messaging" = { publish = ["orders.*"] }"#;
    let tenon = tenon();
    let told = |front: &str, back: &str, args: &[&str]| {
        let folder = app(&tenon, P2, &[Part::granted(front), Part::granted(back)]);
        tenon.run(&folder, [&["authority", "."][..], args].concat())
    };
    let report = told(FRONT, BACK, &[]).expect_code(0).stdout;
    let has = |name: &str, text: &str| of(&report, name).iter().any(|line| line.contains(text));
    for (package, text, whose, other) in [
        ("wasi:filesystem", "front-data", "front", "back"),
        ("wasi:keyvalue", "till", "front", "back"),
        ("wasi:cli", "SECRET", "front", "back"),
        ("wasi:sockets", "5353", "back", "front"),
        ("wasi:http", "a.example.com:443/v1/", "back", "front"),
        ("wasi:messaging", "orders.*", "back", "front"),
    ] {
        let lines = of(&report, whose);
        let granted = lines.iter().any(|line| line.starts_with(package) && line.contains(text));
        assert!(granted, "{whose} has no {package} with {text} in\n{report}");
        assert!(!has(other, text), "{other} has {text} in\n{report}");
    }
    for name in ["front", "back"] {
        assert!(has(name, "granted          wasi:keyvalue/store@0.2.0-draft2"), "{report}");
    }
    assert!(!report.contains("hidden"), "values may be secrets: {report}");

    // What moves from one to the other has grown there, although the whole may touch no more.
    let base = told(FRONT, BACK, &["--json"]).expect_code(0).stdout;
    let file = tenon.data().join("base.json");
    fs::write(&file, base).unwrap();
    let base = ["--deny-growth", file.to_str().unwrap()];
    told(FRONT, BACK, &base).expect_code(0);
    let moved = format!("{BACK}\n\"wasi:keyvalue\" = [{{ bucket = \"till\", access = \"write\" }}]");
    let refused = told(FRONT, &moved, &base).expect_code(1);
    let refused = refused.expect_stderr(&["authority-grew", "`back`", "wasi:keyvalue", "till"]);
    assert!(!refused.stderr.contains("`front`"), "{}", refused.stderr);
}
