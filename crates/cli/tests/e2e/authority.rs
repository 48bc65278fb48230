//! What a component may touch: reported, and compared from one version to the next.

use std::fs;

use tenon_testkit::fixtures;

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
