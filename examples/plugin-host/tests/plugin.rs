//! The host as people run it, with a plugin written down as text: it logs, and asks for its metric.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Imports both interfaces of the metrics application, and exports what it exports.
const PLUGIN: &str = r#"
(component
  (type $logging' (instance
    (type $level' (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))))
  (import "demo:metrics/logging@1.0.0" (instance $logging (type $logging')))
  (import "demo:metrics/math-ops@1.0.0" (instance $math
    (export "calculate-metric" (func (param "data" (list f64)) (result f64)))))
  (core module $memory
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $m (instantiate $memory))
  (core func $log (canon lower (func $logging "log") (memory (core memory $m "memory"))))
  (core func $metric (canon lower (func $math "calculate-metric") (memory (core memory $m "memory"))))
  (core module $app
    (import "host" "memory" (memory 1))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (import "host" "metric" (func $metric (param i32 i32) (result f64)))
    (data (i32.const 16) "half way")
    (data (i32.const 64) "2.5")
    (data (i32.const 80) "odd")
    (func (export "process-data") (param i32 i32) (result i32)
      (call $log (i32.const 2) (i32.const 16) (i32.const 8))
      (f64.store (i32.const 128) (f64.const 1))
      (f64.store (i32.const 136) (f64.const 4))
      (i32.store (i32.const 260) (i32.const 3))
      (if (f64.eq (call $metric (i32.const 128) (i32.const 2)) (f64.const 2.5))
        (then (i32.store (i32.const 256) (i32.const 64)))
        (else (i32.store (i32.const 256) (i32.const 80))))
      (i32.const 256)))
  (core instance $host
    (export "memory" (memory $m "memory")) (export "log" (func $log)) (export "metric" (func $metric)))
  (core instance $i (instantiate $app (with "host" (instance $host))))
  (func (export "process-data") (param "input" (list u8)) (result string)
    (canon lift (core func $i "process-data") (memory (core memory $m "memory"))
      (realloc (core func $m "realloc")))))
"#;

/// The same with an import that the host does not offer.
const GREEDY: &str = r#"
(component
  (import "wasi:sockets/instance-network@0.2.6" (instance
    (export "network" (type (sub resource)))
    (export "instance-network" (func (result u32))))))
"#;

fn run(plugin: &str) -> std::io::Result<Output> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("plugin.wasm");
    std::fs::write(&file, wat::parse_str(plugin).map_err(std::io::Error::other)?)?;
    let mut host = Command::new(env!("CARGO_BIN_EXE_plugin-host"))
        .arg(file)
        .env("TMPDIR", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = host.stdin.take() {
        // A host that refuses its plugin reads nothing.
        let _ = input.write_all(b"1\n4\n");
    }
    host.wait_with_output()
}

#[test]
fn the_host_offers_what_the_plugin_imports() -> std::io::Result<()> {
    let output = run(PLUGIN)?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    assert_eq!(out, "2.5\n");
    assert_eq!(err, "plugin: warn: half way\n");
    Ok(())
}

#[test]
fn and_nothing_else() -> std::io::Result<()> {
    let output = run(GREEDY)?;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("wasi:sockets/instance-network"), "{output:?}");
    Ok(())
}
