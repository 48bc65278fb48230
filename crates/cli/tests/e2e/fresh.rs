//! A fresh sandbox for each request: nothing of one request is there in the next.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenon_testkit::client::{Connection, call, get};
use tenon_testkit::{Guests, Serving, Tenon, fixtures};

use crate::support::{serve, tenon};

const CONNECTIONS: usize = 4;

/// Requests that look for secrets which others left, of all the apps of a node together.
const LOOKS: usize = 10_000;
/// Every so many looks of a connection, its app plants a secret of its own.
const PLANT_EVERY: usize = 50;

/// A plain handler that writes a secret over all it has, every word of its memory, a global and a table, or counts what is
/// left of one there: `/p` and eight characters plant, `/l` and eight characters look. The answer is a number of four bytes.
///
/// The secret is the characters changed by a mask, so that a request that looks does not bring along what it looks for.
pub(crate) const OVERWRITER: &str = r#"
(component
  (type $request' (record
    (field "method" string)
    (field "path" string)
    (field "body" (option (list u8)))))
  (import "request" (type $request (eq $request')))
  (type $response' (record (field "status" u16) (field "body" (list u8))))
  (import "response" (type $response (eq $response')))
  (core module $m
    (memory (export "memory") 4)
    (table $table 64 funcref)
    (elem declare func $plant)
    (global $number (mut i64) (i64.const 7))
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func $plant (param $secret i64) (result i32)
      (local $at i32) (local $end i32)
      (drop (memory.grow (i32.const 4)))
      (local.set $end (i32.mul (memory.size) (i32.const 65536)))
      (loop $words
        (i64.store (local.get $at) (local.get $secret))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $words (i32.lt_u (local.get $at) (local.get $end))))
      (global.set $number (local.get $secret))
      (table.fill $table (i32.const 0) (ref.func $plant) (i32.const 64))
      (drop (table.grow $table (ref.func $plant) (i32.const 64)))
      (i32.div_u (local.get $end) (i32.const 8)))
    (func $look (param $secret i64) (result i32)
      (local $at i32) (local $end i32) (local $found i32)
      (drop (memory.grow (i32.const 4)))
      (local.set $end (i32.mul (memory.size) (i32.const 65536)))
      (loop $words
        (if (i64.eq (i64.load (local.get $at)) (local.get $secret))
          (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $words (i32.lt_u (local.get $at) (local.get $end))))
      (if (i64.ne (global.get $number) (i64.const 7))
        (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
      (if (i32.ne (table.size $table) (i32.const 64))
        (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
      (drop (table.grow $table (ref.null func) (i32.const 64)))
      (local.set $at (i32.const 0))
      (loop $elements
        (if (i32.eqz (ref.is_null (table.get $table (local.get $at))))
          (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $elements (i32.lt_u (local.get $at) (i32.const 128))))
      (local.get $found))
    (func (export "handle") (param i32 i32) (param $path i32) (param i32 i32 i32 i32) (result i32)
      (local $secret i64) (local $said i32)
      (local.set $secret
        (i64.xor (i64.load (i32.add (local.get $path) (i32.const 2))) (i64.const 0x9e3779b97f4a7c15)))
      (if (i32.eq (i32.load8_u (i32.add (local.get $path) (i32.const 1))) (i32.const 0x70))
        (then
          (local.set $said (call $plant (local.get $secret)))
          ;; What was planted is found, by the one who planted it.
          (if (i32.lt_u (call $look (local.get $secret)) (local.get $said)) (then unreachable)))
        (else (local.set $said (call $look (local.get $secret)))))
      (i32.store16 (i32.const 512) (i32.const 200))
      (i32.store (i32.const 516) (i32.const 1024))
      (i32.store (i32.const 520) (i32.const 4))
      (i32.store (i32.const 1024) (local.get $said))
      (i32.const 512)))
  (core instance $i (instantiate $m))
  (func $handle (param "req" $request) (result $response)
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (export "handle" (func $handle)))
"#;

/// Plants a secret now and then, and looks for it `reads` times over several connections.
async fn no_secret_is_left_behind(server: &Serving, reads: usize) {
    const KEY: u64 = 0x5eed_0000_5ec2_e700;
    let planted = call_async(server, &format!("/secret-write?key={KEY}")).await;
    assert!(planted >= 200_000, "a planted secret is found by the one who planted it: {planted}");
    let address = server.address();
    let lanes: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await.unwrap();
                for turn in 0..reads / CONNECTIONS {
                    if turn % 50 == 25 {
                        connection
                            .exchange(get(&format!("/secret-write?key={KEY}")))
                            .await
                            .unwrap()
                            .expect(200);
                    }
                    let reply = connection.exchange(get(&format!("/secret-read?key={KEY}"))).await.unwrap();
                    assert_eq!(reply.expect(200), "0", "turn {turn} found words of an earlier request");
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}

async fn call_async(server: &Serving, target: &str) -> usize {
    let mut connection = Connection::open(server.address()).await.unwrap();
    connection.exchange(get(target)).await.unwrap().expect(200).parse().unwrap()
}

#[tokio::test]
async fn no_secret_is_left_behind_by_wasi_0_2() {
    let server = serve("chaos-http").start();
    no_secret_is_left_behind(&server, 1000).await;
    server.stop();
}

#[tokio::test]
async fn no_secret_is_left_behind_by_a_plain_handler() {
    let server = serve("plain-chaos").start();
    no_secret_is_left_behind(&server, 400).await;
    server.stop();
}

#[tokio::test]
async fn no_secret_is_left_behind_by_wasi_0_3() {
    let server = serve("service-p3").start();
    no_secret_is_left_behind(&server, 400).await;
    server.stop();
}

#[tokio::test]
async fn nor_in_a_place_that_is_used_again_at_once() {
    // One place in the pool: every request gets the memory of the one before it.
    let server = serve("chaos-http").args(["--pool", "1"]).start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    for turn in 0..50 {
        // A refusal can come while the former request is still being taken down; it is no answer, so ask again.
        let mut ask = async |target: &str| loop {
            let reply = connection.exchange(get(target)).await.unwrap();
            if reply.status != 503 {
                break reply.expect(200);
            }
        };
        let planted: usize = ask("/secret-write?key=77").await.parse().unwrap();
        assert!(planted >= 200_000);
        assert_eq!(ask("/secret-read?key=77").await, "0", "turn {turn}");
    }
    server.stop();
}

/// The secret that was planted last by each of the apps below.
type Planted = Arc<[AtomicU64; 3]>;

/// The apps of the node: two tenants' secretive guest, with the same names of a bucket and a file, and one beside them that
/// writes over all that it has.
const HOSTS: [&str; 3] = ["one.example", "other.example", "plain.example"];
/// Which of them that is.
const PLAIN: usize = 2;

/// Deploys one app of a tenant, which is granted the bucket `notes` and a directory at `/data` where it imports them.
pub(crate) fn deploy(node: &Serving, tenant: &str, component: &Path, host: &str, is_secretive: bool) {
    let tenon = node.tenon();
    let folder = tenon.data().join("apps").join(tenant);
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let grants = if is_secretive {
        format!(
            "[grants]\n\"wasi:keyvalue\" = [{{ bucket = \"notes\", access = \"write\" }}]\n\
             \"wasi:filesystem\" = [{{ directory = \"{}\", at = \"/data\", access = \"write\" }}]\n",
            data.display()
        )
    } else {
        String::new()
    };
    let manifest = format!(
        "name = \"app\"\n[deploy]\ntenant = \"{tenant}\"\nroutes = [\"{host}/*\"]\n\
         [component.app]\npath = \"{}\"\n{grants}",
        component.display()
    );
    std::fs::write(folder.join("tenon.toml"), manifest).unwrap();
    let admin = format!("http://{}", node.admin());
    let run = |args: &[&str]| {
        tenon.run(tenon.data(), [args, &["--node", admin.as_str()]].concat()).expect_code(0);
    };
    run(&["tenant", "set", tenant, "--allow", &format!("directory:{}", data.display())]);
    run(&["deploy", folder.to_str().unwrap()]);
}

/// The answer to `path` of one of the apps.
async fn ask(connection: &mut Connection, app: usize, path: &str) -> bytes::Bytes {
    let mut request = get(path);
    request.headers_mut().insert("host", HOSTS[app].parse().unwrap());
    let reply = connection.exchange(request).await.unwrap();
    assert_eq!(reply.status, 200, "{}: {reply:?}", HOSTS[app]);
    reply.body
}

/// Has the app leave a secret that no other has.
async fn plant(connection: &mut Connection, app: usize, planted: &Planted, number: u64) {
    // Eight decimal digits, for either kind of app.
    let secret = 10_000_000 * (app as u64 + 1) + number;
    planted[app].store(secret, Ordering::Relaxed);
    if app == PLAIN {
        let words = ask(connection, app, &format!("/p{secret}")).await;
        assert!(u32::from_le_bytes(words[..].try_into().unwrap()) >= 65_536);
    } else {
        let words = ask(connection, app, &format!("/plant?key={secret}")).await;
        let words: usize = std::str::from_utf8(&words).unwrap().parse().unwrap();
        assert!(words >= 200_000, "a planted secret is found by the one who planted it: {words}");
    }
}

/// Has the app look for the secret of another, or its own, where that may not be.
async fn look(connection: &mut Connection, app: usize, whose: usize, planted: &Planted) {
    let secret = planted[whose].load(Ordering::Relaxed);
    if app == PLAIN {
        let found = ask(connection, app, &format!("/l{secret}")).await;
        assert_eq!(found[..], [0; 4], "{} found what {} left", HOSTS[app], HOSTS[whose]);
        return;
    }
    let found = ask(connection, app, &format!("/look?key={secret}")).await;
    let found = std::str::from_utf8(&found).unwrap();
    assert!(found.starts_with("0 words, "), "{} found what {} left: {found}", HOSTS[app], HOSTS[whose]);
    // What it keeps itself is there, and nothing else is: each secret begins with the number of its app.
    let own = format!("Some(\"{}", app + 1);
    for place in ["bucket ", "file "] {
        let (_, kept) = found.split_once(place).unwrap();
        assert!(kept.starts_with(&own), "{}: {found}", HOSTS[app]);
    }
}

#[tokio::test]
async fn ten_thousand_requests_of_several_apps_find_no_secret_of_any() {
    let tenon: Tenon = tenon();
    // Fewer places than are asked for at once would be refusals; few enough that each is used by all in turn.
    let node = tenon.node().args(["--pool", "8"]).start();
    let plain = fixtures::write(tenon.data(), "overwriter.wasm", OVERWRITER);
    deploy(&node, "one", &Guests::get("secretive"), HOSTS[0], true);
    deploy(&node, "other", &Guests::get("secretive"), HOSTS[1], true);
    deploy(&node, "plain", &plain, HOSTS[PLAIN], false);
    let planted = Planted::default();
    let address = node.address();
    let mut connection = Connection::open(address).await.unwrap();
    for (app, host) in HOSTS.iter().enumerate() {
        // Before it has left anything under the names that the others use, it finds nothing there.
        if app != PLAIN {
            let found = ask(&mut connection, app, "/look?key=1").await;
            assert_eq!(found, "0 words, bucket None, file None", "{host}");
        }
        plant(&mut connection, app, &planted, 0).await;
    }
    let lanes: Vec<_> = (0..CONNECTIONS)
        .map(|lane| {
            let planted = Arc::clone(&planted);
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await.unwrap();
                for turn in 0..(LOOKS / HOSTS.len()).div_ceil(CONNECTIONS) {
                    for app in 0..HOSTS.len() {
                        if turn % PLANT_EVERY == lane * PLANT_EVERY / CONNECTIONS {
                            let number = (lane * LOOKS + turn) as u64;
                            plant(&mut connection, app, &planted, number).await;
                        }
                        look(&mut connection, app, (app + turn) % HOSTS.len(), &planted).await;
                    }
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    node.stop();
}

#[test]
fn a_counter_never_counts() {
    for guest in ["chaos-http", "plain-chaos", "service-p3"] {
        let server = serve(guest).start();
        for _ in 0..50 {
            assert_eq!(call(server.address(), get("/counter")).expect(200), "1");
        }
        server.stop();
    }
}

#[test]
fn how_a_sandbox_is_reset_is_said_at_the_start_and_by_doctor() {
    let tenon = tenon();
    let doctor = tenon.run(tenon.data(), ["--json", "doctor"]).json();
    let said = doctor["node"]["page_scan"].as_str().unwrap_or_default().to_owned();
    assert!(said == "on" || said.starts_with("off: "), "{doctor}");
    let server = serve("plain-echo").start();
    server.logged(&["the pool is ready", "page_scan", &said]);
    server.stop();
}
