//! What the documentation of WASI promises, function by function: a guest asserts it from within, and names what it
//! finds otherwise.

use tenon_testkit::client::{call, get};
use tenon_testkit::peer::echo_udp;
use tenon_testkit::{Guests, Serving, Tenon};

use crate::support::tenon;

const GRANTS: &str = r#"
"wasi:filesystem" = [{ directory = "data", at = "/data", access = "write" }]
"wasi:keyvalue" = [{ bucket = "default", access = "write" }]
"wasi:cli" = { environment = { A = "b" }, arguments = ["x", "y"] }
"wasi:sockets" = [
  { protocol = "tcp", direction = "connect", host = "127.0.0.1", port = "1-65535" },
  { protocol = "tcp", direction = "listen", host = "127.0.0.1", port = "1-65535" },
  { protocol = "udp", direction = "connect", host = "127.0.0.1", port = "1-65535" },
  { protocol = "udp", direction = "listen", host = "127.0.0.1", port = "1-65535" },
]
"#;

pub(crate) fn serving(tenon: &Tenon, optimize: bool) -> Serving {
    let folder = tenon.data().join("app");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::fs::copy(Guests::get("conforming"), folder.join("guest.wasm")).unwrap();
    let manifest = format!(
        "optimize = {optimize}\n[component.conforming]\npath = \"guest.wasm\"\n[component.conforming.grants]\n{GRANTS}\n\
         [limits]\noutbound-connections = 64\n"
    );
    std::fs::write(folder.join("tenon.toml"), manifest).unwrap();
    tenon.serve(folder).start()
}

/// Each of at least `least` assertions holds.
#[track_caller]
fn all_hold(path: &str, least: usize) {
    let tenon = tenon();
    let server = serving(&tenon, false);
    assert_all_hold(&server, path, least);
    server.stop();
}

#[track_caller]
pub(crate) fn assert_all_hold(server: &Serving, path: &str, least: usize) {
    let said = call(server.address(), get(path)).expect(200);
    let failed: Vec<_> = said.lines().filter(|line| !line.starts_with("ok ")).collect();
    assert!(failed.is_empty(), "{path}:\n{}", failed.join("\n"));
    assert!(said.lines().count() >= least, "{path}: only {} assertions\n{said}", said.lines().count());
}

#[test]
fn clocks() {
    all_hold("/clocks", 15);
}

#[test]
fn filesystem() {
    all_hold("/filesystem", 66);
}

#[test]
fn http() {
    all_hold("/http", 60);
}

#[test]
fn keyvalue() {
    all_hold("/keyvalue", 25);
}

#[test]
fn sockets() {
    all_hold(&format!("/sockets?udp={}", echo_udp().port()), 50);
}

#[test]
fn random_and_cli() {
    all_hold("/surroundings", 14);
}
