//! Nothing of one call is there in the next: of the same component or of another, in whatever place of the pool.
//!
//! Two guests write a secret over everything they have: every word of their memories, globals, tables. Each looks for
//! the secrets of both in everything a fresh sandbox has. The pool is small, so that every place is used over and over,
//! by both in turn.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use tenon_engine::call::Callable;
use tenon_engine::value::Val;
use tenon_engine::{Artifacts, Backends, Engine, Pool, Source, Terms};
use tenon_model::{Authorities, Limits};

/// Calls of each guest that look for secrets.
const LOOKS: usize = 10_000;
/// Every so many calls a secret is planted.
const PLANT_EVERY: usize = 8;
/// Places in the pool.
const PLACES: u32 = 2;

/// Memory of `pages` at the start and `grow` more when a secret is planted, with data of its own at the end of the
/// first page, which an image of the initial memory holds.
fn guest(pages: u32, grow: u32) -> Vec<u8> {
    let text = format!(
        r#"
(component
  (core module $m
    (memory (export "memory") {pages})
    (data (i32.const 65000) "what the component starts with")
    (table $table 64 funcref)
    (elem declare func $plant)
    (global $number (mut i64) (i64.const 7))
    (global $wide (mut v128) (v128.const i64x2 7 7))
    (global $reference (mut funcref) (ref.null func))
    ;; Writes the secret into every word, global and element, and returns how many words it wrote.
    (func $plant (export "plant") (param $secret i64) (result i32)
      (local $at i32) (local $end i32)
      (drop (memory.grow (i32.const {grow})))
      (local.set $end (i32.mul (memory.size) (i32.const 65536)))
      (loop $words
        (i64.store (local.get $at) (local.get $secret))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $words (i32.lt_u (local.get $at) (local.get $end))))
      (global.set $number (local.get $secret))
      (global.set $wide (i64x2.splat (local.get $secret)))
      (global.set $reference (ref.func $plant))
      (table.fill $table (i32.const 0) (ref.func $plant) (i32.const 64))
      (drop (table.grow $table (ref.func $plant) (i32.const 64)))
      (i32.div_u (local.get $end) (i32.const 8)))
    ;; Counts what is left of the secret, and of anything else that was not there at the start.
    (func (export "look") (param $secret i64) (result i32)
      (local $at i32) (local $end i32) (local $found i32)
      (drop (memory.grow (i32.const {grow})))
      (local.set $end (i32.mul (memory.size) (i32.const 65536)))
      (loop $words
        (if (i64.eq (i64.load (local.get $at)) (local.get $secret))
          (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $words (i32.lt_u (local.get $at) (local.get $end))))
      (if (i64.ne (global.get $number) (i64.const 7))
        (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
      (if (i64.ne (i64x2.extract_lane 0 (global.get $wide)) (i64.const 7))
        (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
      (if (i32.eqz (ref.is_null (global.get $reference)))
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
      ;; The component's own data is there again.
      (if (i32.ne (i32.load8_u (i32.const 65000)) (i32.const 0x77))
        (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
      (local.get $found)))
  (core instance $i (instantiate $m))
  (func (export "plant") (param "secret" u64) (result u32) (canon lift (core func $i "plant")))
  (func (export "look") (param "secret" u64) (result u32) (canon lift (core func $i "look"))))
"#
    );
    wat::parse_str(text).unwrap()
}

/// One call in a sandbox of its own.
async fn call(callable: &Arc<Callable>, function: &str, secret: u64) -> u32 {
    let function = callable.find(function).unwrap().clone();
    let mut session = callable.session("isolation".into());
    match session.call(&function, vec![Val::U64(secret)]).await.unwrap() {
        Some(Val::U32(number)) => number,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_secret_of_any_guest_is_found_by_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(Pool { instances: PLACES, ..Pool::default() }).unwrap();
    let artifacts = Artifacts::open(folder.path()).unwrap();
    // One fits what is kept resident of a place, the other does not; their images differ.
    let guests = [("small", guest(1, 1)), ("large", guest(24, 8))].map(|(name, bytes)| {
        let source = Source { name, bytes: &bytes, parts: &Vec::new };
        let stored = artifacts.get(&engine, &source).unwrap();
        let (authorities, backends) = (Authorities::default(), Backends::default());
        let limits = Limits::default();
        let terms = Terms { name, file: name, limits, authorities: &authorities, backends: &backends };
        let callable = Callable::new(&engine, stored, &terms).unwrap();
        Arc::new(callable)
    });

    // The test can see: within one sandbox, what was planted is found.
    let mut session = guests[0].session("seen".into());
    let (plant, look) = (guests[0].find("plant").unwrap().clone(), guests[0].find("look").unwrap().clone());
    session.call(&plant, vec![Val::U64(5)]).await.unwrap();
    let seen = session.call(&look, vec![Val::U64(5)]).await.unwrap();
    assert!(matches!(seen, Some(Val::U32(words)) if words >= 16_000), "{seen:?}");
    drop(session);

    let mut last = [0x5ec2_e7ff_0000_0001, 0x5ec2_e7ff_0000_0002];
    for turn in 0..LOOKS {
        if turn % PLANT_EVERY == 0 {
            let who = turn / PLANT_EVERY % 2;
            last[who] = 0x5ec2_e700_0000_0000 | turn as u64;
            assert!(call(&guests[who], "plant", last[who]).await >= 16_000);
        }
        // Both look, each for the other's secret and its own.
        for (who, guest) in guests.iter().enumerate() {
            let secret = last[(turn + who) % 2];
            assert_eq!(call(guest, "look", secret).await, 0, "turn {turn}, guest {who}");
        }
    }
}
