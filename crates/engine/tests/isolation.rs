//! Nothing of one call is there in the next: of the same component or of another, in whatever place of the pool.
//!
//! Guests write a secret over everything they have: every word of their memories, globals, tables. Each looks for the
//! secrets of all in everything a fresh sandbox has. The pool is small, so that every place is used over and over: one for a
//! table by all in turn, one for a memory by the same guest, for there are more of those than guests. What a guest finds where
//! another's memory was is in `differential.rs`. There are guests for both engines: the one with support for WASI 0.3, and
//! the one without.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use tenon_engine::call::{Callable, Session};
use tenon_engine::value::Val;
use tenon_engine::{Artifacts, Backends, Engine, Failure, Pool, Source, Stores, Terms};
use tenon_model::{
    Access, Authorities, Authority, BucketGrant, DirectoryGrant, Grants, Limits, SocketDirection,
    SocketGrant, SocketProtocol, StoreName,
};
use tenon_state::{Embedded, Quota};

/// Calls that look for secrets, or for handles, on each of the two engines.
const LOOKS: usize = 10_000;
/// What only a component with async functions has, though this one does nothing with it: it runs on the other engine.
const CONCURRENT: &str = "(type (future u32))";
/// Every so many turns a secret is planted.
const PLANT_EVERY: usize = 4;
/// Guests that each engine has, at the least.
const GUESTS: usize = 3;
/// Places in the pool.
const PLACES: u32 = 2;

/// Memory of `pages` at the start and `grow` more when a secret is planted, with data of its own at the end of the
/// first page, which an image of the initial memory holds. After every 4,096 bytes so many are left out: what was written is
/// then in many places.
fn guest(pages: u32, grow: u32, skip: u32, more: &str) -> Vec<u8> {
    let text = format!(
        r#"
(component {more}
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
        (if (i32.eqz (i32.and (local.get $at) (i32.const 4095)))
          (then (local.set $at (i32.add (local.get $at) (i32.const {skip})))))
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
    let guests = [
        ("small", guest(1, 1, 0, "")),
        ("large", guest(24, 8, 0, "")),
        // In 128 places, which are reset one by one; and in more places than that is done with at once.
        ("scattered", guest(16, 0, 4_096, "")),
        ("scattered-far", guest(72, 8, 4_096, "")),
        ("small-concurrent", guest(1, 1, 0, CONCURRENT)),
        ("large-concurrent", guest(24, 8, 0, CONCURRENT)),
        ("scattered-concurrent", guest(16, 0, 4_096, CONCURRENT)),
    ];
    let guests = guests.map(|(name, bytes)| {
        let source = Source { name, bytes: &bytes, parts: &Vec::new, contract: &|| None };
        let stored = artifacts.get(&engine, &source).unwrap();
        let (authorities, backends) = (Authorities::default(), Backends::default());
        let limits = Limits::default();
        let terms = Terms { name, file: name, limits, authorities: &authorities, backends: &backends };
        let callable = Callable::new(&engine, stored, &terms).unwrap();
        Arc::new(callable)
    });

    // The test can see: within one sandbox, what was planted is found.
    for guest in &guests {
        let mut session = guest.session("seen".into());
        let (plant, look) = (guest.find("plant").unwrap().clone(), guest.find("look").unwrap().clone());
        session.call(&plant, vec![Val::U64(5)]).await.unwrap();
        let seen = session.call(&look, vec![Val::U64(5)]).await.unwrap();
        assert!(matches!(seen, Some(Val::U32(words)) if words >= 16_000), "{seen:?}");
    }

    let count = guests.len();
    let mut last: Vec<u64> = (0..count as u64).map(|who| 0x5ec2_e7ff_0000_0001 + who).collect();
    // Each engine gets so many of the looks of a turn.
    for turn in 0..LOOKS.div_ceil(GUESTS) {
        if turn % PLANT_EVERY == 0 {
            let who = turn / PLANT_EVERY % count;
            last[who] = 0x5ec2_e700_0000_0000 | turn as u64;
            assert!(call(&guests[who], "plant", last[who]).await >= 16_000);
        }
        // All look, each for another's secret in turn, and its own.
        for (who, guest) in guests.iter().enumerate() {
            let secret = last[(turn + who) % count];
            assert_eq!(call(guest, "look", secret).await, 0, "turn {turn}, guest {who}");
        }
    }
}

/// Numbers of handles that are tried; those of a fresh instance are given out from 1 on.
const NUMBERS: u32 = 16;
/// What a bucket, a directory, an opened file, a stream into it and a socket are called in the guest below.
const KINDS: u32 = 5;

/// Opens a bucket, a directory, a file in it, a stream into that, a socket, and leaves them all open.
/// `try` uses up one handle of one kind, which fails for a number that does not stand for one of that kind.
const SQUATTER: &str = r#"
(component
  (import "wasi:keyvalue/store@0.2.0-draft2" (instance $keyvalue
    (export "bucket" (type $bucket (sub resource)))
    (type $error' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
    (export "error" (type $error (eq $error')))
    (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
    (export "[method]bucket.exists"
      (func (param "self" (borrow $bucket)) (param "key" string) (result (result bool (error $error)))))))
  (import "wasi:io/streams@0.2.6" (instance $streams
    (export "output-stream" (type (sub resource)))))
  (alias export $streams "output-stream" (type $stream))
  (import "wasi:filesystem/types@0.2.6" (instance $files
    (alias outer 1 $stream (type $stream'))
    (export "output-stream" (type $stream (eq $stream')))
    (export "descriptor" (type $descriptor (sub resource)))
    (type $code' (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota" "exist"
      "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io" "is-directory" "loop"
      "too-many-links" "message-size" "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory"
      "insufficient-space" "not-directory" "not-empty" "not-recoverable" "unsupported" "no-tty" "no-such-device"
      "overflow" "not-permitted" "pipe" "read-only" "invalid-seek" "text-file-busy" "cross-device"))
    (export "error-code" (type $code (eq $code')))
    (type $path-flags' (flags "symlink-follow"))
    (export "path-flags" (type $path-flags (eq $path-flags')))
    (type $open-flags' (flags "create" "directory" "exclusive" "truncate"))
    (export "open-flags" (type $open-flags (eq $open-flags')))
    (type $flags' (flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync"
      "mutate-directory"))
    (export "descriptor-flags" (type $flags (eq $flags')))
    (export "[method]descriptor.open-at" (func (param "self" (borrow $descriptor))
      (param "path-flags" $path-flags) (param "path" string) (param "open-flags" $open-flags)
      (param "flags" $flags) (result (result (own $descriptor) (error $code)))))
    (export "[method]descriptor.append-via-stream"
      (func (param "self" (borrow $descriptor)) (result (result (own $stream) (error $code)))))))
  (alias export $files "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.2.6" (instance $preopens
    (alias outer 1 $descriptor (type $descriptor'))
    (export "descriptor" (type $descriptor (eq $descriptor')))
    (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))
  (import "wasi:sockets/network@0.2.6" (instance $network
    (type $code' (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
      "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
      "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
      "permanent-resolver-failure"))
    (export "error-code" (type (eq $code')))
    (type $family' (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type (eq $family')))))
  (alias export $network "error-code" (type $code))
  (alias export $network "ip-address-family" (type $family))
  (import "wasi:sockets/tcp@0.2.6" (instance $tcp (export "tcp-socket" (type (sub resource)))))
  (alias export $tcp "tcp-socket" (type $socket))
  (import "wasi:sockets/tcp-create-socket@0.2.6" (instance $create
    (alias outer 1 $code (type $code'))
    (export "error-code" (type $code (eq $code')))
    (alias outer 1 $family (type $family'))
    (export "ip-address-family" (type $family (eq $family')))
    (alias outer 1 $socket (type $socket'))
    (export "tcp-socket" (type $socket (eq $socket')))
    (export "create-tcp-socket"
      (func (param "address-family" $family) (result (result (own $socket) (error $code)))))))
  (alias export $keyvalue "bucket" (type $bucket))

  (core module $memory
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $mem))
  (alias core export $m "realloc" (core func $realloc))
  (core func $open (canon lower (func $keyvalue "open") (memory $mem) (realloc $realloc)))
  (core func $exists
    (canon lower (func $keyvalue "[method]bucket.exists") (memory $mem) (realloc $realloc)))
  (core func $directories
    (canon lower (func $preopens "get-directories") (memory $mem) (realloc $realloc)))
  (core func $open-at
    (canon lower (func $files "[method]descriptor.open-at") (memory $mem) (realloc $realloc)))
  (core func $append (canon lower (func $files "[method]descriptor.append-via-stream") (memory $mem)))
  (core func $create-socket (canon lower (func $create "create-tcp-socket") (memory $mem)))
  (core func $drop-bucket (canon resource.drop $bucket))
  (core func $drop-descriptor (canon resource.drop $descriptor))
  (core func $drop-stream (canon resource.drop $stream))
  (core func $drop-socket (canon resource.drop $socket))

  (core module $guest
    (import "m" "memory" (memory 1))
    (import "h" "open" (func $open (param i32 i32 i32)))
    (import "h" "exists" (func $exists (param i32 i32 i32 i32)))
    (import "h" "directories" (func $directories (param i32)))
    (import "h" "open-at" (func $open-at (param i32 i32 i32 i32 i32 i32 i32)))
    (import "h" "append" (func $append (param i32 i32)))
    (import "h" "create-socket" (func $create-socket (param i32 i32)))
    (import "h" "drop-bucket" (func $drop-bucket (param i32)))
    (import "h" "drop-descriptor" (func $drop-descriptor (param i32)))
    (import "h" "drop-stream" (func $drop-stream (param i32)))
    (import "h" "drop-socket" (func $drop-socket (param i32)))
    (data (i32.const 16) "defaultsecret")
    ;; The handle in a result at 64; fails where the result is an error.
    (func $handle (result i32)
      (if (i32.load8_u (i32.const 64)) (then unreachable))
      (i32.load (i32.const 68)))
    ;; The numbers of what was opened, in bits: one for each kind that there is.
    (func (export "plant") (result i32)
      (local $bucket i32) (local $directory i32) (local $file i32) (local $stream i32) (local $socket i32)
      (call $open (i32.const 16) (i32.const 7) (i32.const 64))
      (local.set $bucket (call $handle))
      (call $directories (i32.const 64))
      (local.set $directory (i32.load (i32.load (i32.const 64))))
      ;; Follows links, `secret`, creates, reads and writes.
      (call $open-at (local.get $directory) (i32.const 1) (i32.const 23) (i32.const 6) (i32.const 1) (i32.const 3)
        (i32.const 64))
      (local.set $file (call $handle))
      (call $append (local.get $file) (i32.const 64))
      (local.set $stream (call $handle))
      (call $create-socket (i32.const 0) (i32.const 64))
      (local.set $socket (call $handle))
      (i32.or (i32.or (i32.or (i32.or
        (local.get $bucket)
        (i32.shl (local.get $directory) (i32.const 4)))
        (i32.shl (local.get $file) (i32.const 8)))
        (i32.shl (local.get $stream) (i32.const 12)))
        (i32.shl (local.get $socket) (i32.const 16))))
    (func (export "try") (param $kind i32) (param $number i32) (result i32)
      (block $socket (block $stream (block $file (block $directory (block $bucket
        (br_table $bucket $directory $file $stream $socket (local.get $kind)))
        ;; Also by a use that leaves it where it is.
        (call $exists (local.get $number) (i32.const 23) (i32.const 6) (i32.const 64))
        (call $drop-bucket (local.get $number))
        (return (i32.const 1)))
        (call $drop-descriptor (local.get $number))
        (return (i32.const 1)))
        (call $append (local.get $number) (i32.const 64))
        (return (i32.const 1)))
        (call $drop-stream (local.get $number))
        (return (i32.const 1)))
      (call $drop-socket (local.get $number))
      (i32.const 1)))
  (core instance $host
    (export "open" (func $open)) (export "exists" (func $exists)) (export "directories" (func $directories))
    (export "open-at" (func $open-at)) (export "append" (func $append))
    (export "create-socket" (func $create-socket)) (export "drop-bucket" (func $drop-bucket))
    (export "drop-descriptor" (func $drop-descriptor)) (export "drop-stream" (func $drop-stream))
    (export "drop-socket" (func $drop-socket)))
  (core instance $i (instantiate $guest (with "m" (instance $m)) (with "h" (instance $host))))
  (func (export "plant") (result u32) (canon lift (core func $i "plant")))
  (func (export "try") (param "kind" u32) (param "number" u32) (result u32) (canon lift (core func $i "try"))))
"#;

/// Everything that the guest above opens.
fn all_of_it(folder: &std::path::Path) -> Authorities {
    let grants = Grants {
        keyvalue: vec![BucketGrant {
            bucket: "default".into(),
            store: StoreName::Embedded,
            access: Access::Write,
        }],
        filesystem: vec![DirectoryGrant {
            directory: folder.display().to_string(),
            at: "/data".into(),
            access: Access::Write,
        }],
        sockets: vec![SocketGrant {
            protocol: SocketProtocol::Tcp,
            direction: SocketDirection::Connect,
            host: "127.0.0.1".into(),
            ports: (1, 1),
        }],
        ..Grants::default()
    };
    Authorities { whole: Authority { grants, ..Authority::default() }, ..Authorities::default() }
}

/// What a stream's ends, a future's readable end and a set of waitables are called in the guest below.
const WAITABLE_KINDS: u32 = 4;

/// Makes a stream, a future and a set of waitables, and leaves them all open.
/// `try` drops one handle of one kind, which fails for a number that does not stand for one of that kind.
const WAITER: &str = r#"
(component
  (type $stream (stream u8))
  (type $future (future u8))
  (core func $stream-new (canon stream.new $stream))
  (core func $drop-stream-readable (canon stream.drop-readable $stream))
  (core func $drop-stream-writable (canon stream.drop-writable $stream))
  (core func $future-new (canon future.new $future))
  (core func $drop-future-readable (canon future.drop-readable $future))
  (core func $set-new (canon waitable-set.new))
  (core func $drop-set (canon waitable-set.drop))
  (core module $guest
    (import "h" "stream-new" (func $stream-new (result i64)))
    (import "h" "drop-stream-readable" (func $drop-stream-readable (param i32)))
    (import "h" "drop-stream-writable" (func $drop-stream-writable (param i32)))
    (import "h" "future-new" (func $future-new (result i64)))
    (import "h" "drop-future-readable" (func $drop-future-readable (param i32)))
    (import "h" "set-new" (func $set-new (result i32)))
    (import "h" "drop-set" (func $drop-set (param i32)))
    ;; The numbers of what was made, in bits: one for each kind that there is.
    (func (export "plant") (result i32)
      (local $stream i64) (local $future i64)
      (local.set $stream (call $stream-new))
      (local.set $future (call $future-new))
      (i32.or (i32.or (i32.or
        (i32.wrap_i64 (local.get $stream))
        (i32.shl (i32.wrap_i64 (i64.shr_u (local.get $stream) (i64.const 32))) (i32.const 4)))
        (i32.shl (i32.wrap_i64 (local.get $future)) (i32.const 8)))
        (i32.shl (call $set-new) (i32.const 12))))
    (func (export "try") (param $kind i32) (param $number i32) (result i32)
      (block $set (block $future (block $writable (block $readable
        (br_table $readable $writable $future $set (local.get $kind)))
        (call $drop-stream-readable (local.get $number))
        (return (i32.const 1)))
        (call $drop-stream-writable (local.get $number))
        (return (i32.const 1)))
        (call $drop-future-readable (local.get $number))
        (return (i32.const 1)))
      (call $drop-set (local.get $number))
      (i32.const 1)))
  (core instance $host
    (export "stream-new" (func $stream-new))
    (export "drop-stream-readable" (func $drop-stream-readable))
    (export "drop-stream-writable" (func $drop-stream-writable))
    (export "future-new" (func $future-new))
    (export "drop-future-readable" (func $drop-future-readable))
    (export "set-new" (func $set-new)) (export "drop-set" (func $drop-set)))
  (core instance $i (instantiate $guest (with "h" (instance $host))))
  (func (export "plant") (result u32) (canon lift (core func $i "plant")))
  (func (export "try") (param "kind" u32) (param "number" u32) (result u32) (canon lift (core func $i "try"))))
"#;

/// Whether this number stands for something of this kind in the sandbox of `session`.
async fn is_there(callable: &Arc<Callable>, session: &mut Session, kind: u32, number: u32) -> bool {
    let function = callable.find("try").unwrap().clone();
    match session.call(&function, vec![Val::U32(kind), Val::U32(number)]).await {
        Ok(_) => true,
        Err(Failure::Trap { cause, .. }) => {
            assert!(cause.contains("handle"), "it failed for another reason: {cause}");
            false
        }
        Err(failure) => panic!("{failure}"),
    }
}

/// Two services of the component `text`, which may do the same.
fn squatters(folder: &std::path::Path, text: &str) -> [Arc<Callable>; 2] {
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let engine = Engine::new(Pool { instances: PLACES, ..Pool::default() }).unwrap();
    let artifacts = Artifacts::open(folder).unwrap();
    let store = Arc::new(Embedded::open(&folder.join("store"), Quota::default()).unwrap());
    let mut stores = Stores::default();
    stores.keyvalue.insert(StoreName::Embedded, store);
    let backends = Backends { stores, ..Backends::default() };
    let bytes = wat::parse_str(text).unwrap();
    ["squatter", "neighbour"].map(|name| {
        let source = Source { name, bytes: &bytes, parts: &Vec::new, contract: &|| None };
        let stored = artifacts.get(&engine, &source).unwrap();
        let (limits, authorities) = (Limits::default(), all_of_it(&data));
        let terms = Terms { name, file: name, limits, authorities: &authorities, backends: &backends };
        Arc::new(Callable::new(&engine, stored, &terms).unwrap())
    })
}

/// Nothing of `kinds` kinds that a sandbox leaves open is there in another.
async fn nothing_is_left_open(text: &str, kinds: u32) {
    let folder = tempfile::tempdir().unwrap();
    let guests = squatters(folder.path(), text);
    let plant = guests[0].find("plant").unwrap().clone();

    // The test can see: within the sandbox that opened it, each is there under its number and under no other.
    let mut numbers = Vec::new();
    for kind in 0..kinds {
        let mut session = guests[0].session("seen".into());
        let Some(Val::U32(bits)) = session.call(&plant, vec![]).await.unwrap() else { panic!("no numbers") };
        let number = bits >> (4 * kind) & 15;
        assert!(is_there(&guests[0], &mut session, kind, number).await, "kind {kind}, number {number}");
        numbers.push(number);
    }
    let mut session = guests[0].session("seen".into());
    session.call(&plant, vec![]).await.unwrap();
    assert!(!is_there(&guests[0], &mut session, 0, NUMBERS + 1).await);
    drop(session);

    let mut looked = 0;
    while looked < LOOKS {
        // It stays open while others look, and after that it ends with its sandbox.
        let mut squatter = guests[0].session("squatter".into());
        squatter.call(&plant, vec![]).await.unwrap();
        for number in 1..=NUMBERS {
            for kind in 0..kinds {
                // Both places of the pool, in turn: while it is there, and when it was thrown away.
                if number > NUMBERS / 2 {
                    squatter = guests[0].session("gone".into());
                }
                let guest = &guests[looked % 2];
                let mut fresh = guest.session("look".into());
                assert!(!is_there(guest, &mut fresh, kind, number).await, "kind {kind}, number {number}");
                looked += 1;
            }
        }
        drop(squatter);
    }
    assert!(
        numbers.iter().all(|number| (1..=NUMBERS).contains(number)),
        "{numbers:?} were among those tried"
    );
}

#[tokio::test]
async fn no_handle_that_was_left_open_is_there_in_another_sandbox() {
    nothing_is_left_open(SQUATTER, KINDS).await;
}

#[tokio::test]
async fn nor_is_a_stream_a_future_or_a_set_of_waitables() {
    nothing_is_left_open(WAITER, WAITABLE_KINDS).await;
}
