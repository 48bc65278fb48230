//! A place of the pool that was used is as one that never was: a guest takes down all that it begins with, and what it
//! finds is the same whatever was done in the place before.
//!
//! `isolation.rs` looks for what was planted. This compares all that a guest can see at its first instruction with that in the
//! first sandbox of a new engine: every word of its memories, every global, every element of its tables, the number of its
//! first handle, its passive segments. What is done in the place before is in [`ACTS`].
//!
//! Each engine is tried twice: with the fast reset, where the machine has it, and with the one that takes its place elsewhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tenon_engine::call::{Callable, Session};
use tenon_engine::value::Val;
use tenon_engine::{
    Artifacts, Backends, Engine, Failure, Incoming, Limit, PageScan, Pool, Received, Record, Service, Source,
    Stored, Terms, Tuning,
};
use tenon_model::{Authorities, Limits, MEMORIES_MAX, TABLES_MAX};
use tenon_testkit::Random;

/// Sandboxes at once. There are more places for memories and tables than that: as many as one sandbox may have.
const PLACES: u32 = 1;
/// Processor time of the neighbour, which now and then runs for ever. All else that it does takes a few milliseconds.
const CPU: Duration = Duration::from_millis(80);
/// All memories of a sandbox together, in bytes.
const MEMORY_BYTES: u64 = 96 << 20;
/// How long a guest runs that is given up.
const PATIENCE: Duration = Duration::from_millis(3);
/// Acts at random between two looks, at the most, and looks after such.
const ACTS_MAX: u64 = 3;
const LOOKS: usize = 16;
/// What the random acts are drawn from.
const SEED: u64 = 0x7e20_2024;

/// What makes a component run on the engine with streams, futures and async functions; this one does nothing with it.
const CONCURRENT: &str = "(type (future u32))";

/// A core module: what it begins with, and how much more it asks for.
struct Shape {
    /// Pages of its memory.
    pages: u32,
    /// Pages that it asks for.
    more: u32,
    /// Where its memory has bytes at the start: the engine maps an image of it then.
    data: &'static [u32],
    /// Elements of each of its two tables. It asks for twice as many.
    elements: u32,
    /// The function that runs when it is instantiated.
    start: Option<&'static str>,
    /// Instances of it.
    instances: u32,
}

/// What is looked at. The last has more written places than are reset one by one, and tables of several pages.
const SUBJECT: &[Shape] = &[
    Shape { pages: 1, more: 1, data: &[65_000], elements: 40, start: None, instances: 1 },
    Shape { pages: 4, more: 4, data: &[], elements: 600, start: None, instances: 1 },
    Shape { pages: 0, more: 3, data: &[], elements: 5, start: None, instances: 1 },
    Shape { pages: 20, more: 140, data: &[9, 1_300_000], elements: 3_000, start: None, instances: 1 },
];

/// It has every place for a memory and every place for a table, so that whatever comes after it gets places of its.
const NEIGHBOUR: &[Shape] = &[
    Shape { pages: 2, more: 22, data: &[70_000], elements: 600, start: None, instances: 15 },
    Shape { pages: 0, more: 24, data: &[], elements: 600, start: None, instances: 16 },
    Shape { pages: 160, more: 0, data: &[5, 4_000_000], elements: 3_000, start: None, instances: 1 },
];

/// The same, but it ends while it is instantiated.
const STILLBORN: &[Shape] = &[
    Shape { pages: 2, more: 22, data: &[70_000], elements: 600, start: Some("scatter"), instances: 31 },
    Shape { pages: 2, more: 22, data: &[], elements: 600, start: Some("trap"), instances: 1 },
];

/// What can be done to a place, each a function of the module below.
const ACTS: [&str; 12] = [
    "read", "rewrite", "scatter", "flood", "replace", "hoard", "forget", "overrun", "trap", "overflow",
    "bomb", "spin",
];

/// Those that end the sandbox. The others that it consists of have scattered by then.
const ENDS: [&str; 5] = ["overrun", "trap", "overflow", "bomb", "spin"];

/// Those that are seen by whoever looks at the same sandbox afterwards.
const SEEN: [&str; 5] = ["scatter", "flood", "replace", "hoard", "forget"];

/// The core module of a [`Shape`]. `digest` takes down all that there is, then asks for more and takes that down too.
const MODULE: &str = r#"
  (core module $m{number}
    (type $numbered (func (result i32)))
    (import "h" "handle" (func $handle (param i32) (result i32)))
    (memory {pages} 2048)
    {data}
    (data $spare "bytes that a module begins with and has to fetch {salt}")
    (table $filled {elements} 20000 funcref)
    (table $empty {elements} 20000 funcref)
    (elem (table $filled) (i32.const 0) func $one $two)
    (elem (table $filled) (i32.const {last_elements}) func $two $one)
    (elem $more func $two $three)
    (elem declare func $spoiled)
    (global $hash (mut i64) (i64.const 7))
    (global $int (mut i32) (i32.const {salt}))
    (global $single (mut f32) (f32.const 1.5))
    (global $double (mut f64) (f64.const -0.25))
    (global $wide (mut v128) (v128.const i64x2 3 4))
    (global $reference (mut funcref) (ref.func $three))
    (func $one (result i32) (i32.const 11))
    (func $two (result i32) (i32.const 22))
    (func $three (result i32) (i32.const 33))
    (func $spoiled (result i32) (i32.const 0x5ec2e7))

    (func $end (result i32) (i32.mul (memory.size) (i32.const 65536)))
    (func $mix (param $word i64)
      (global.set $hash
        (i64.rotl
          (i64.mul (i64.xor (global.get $hash) (local.get $word)) (i64.const 0x9e3779b97f4a7c15))
          (i64.const 23))))
    (func $mix-memory
      (local $at i32)
      (call $mix (i64.extend_i32_u (call $end)))
      (block $done
        (loop $words
          (br_if $done (i32.ge_u (local.get $at) (call $end)))
          (call $mix (i64.load (local.get $at)))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br $words))))
    (func $mix-filled
      (local $at i32)
      (call $mix (i64.extend_i32_u (table.size $filled)))
      (block $done
        (loop $elements
          (br_if $done (i32.ge_u (local.get $at) (table.size $filled)))
          (call $mix
            (if (result i64) (ref.is_null (table.get $filled (local.get $at)))
              (then (i64.const -1))
              (else (i64.extend_i32_u (call_indirect $filled (type $numbered) (local.get $at))))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $elements))))
    (func $mix-empty
      (local $at i32)
      (call $mix (i64.extend_i32_u (table.size $empty)))
      (block $done
        (loop $elements
          (br_if $done (i32.ge_u (local.get $at) (table.size $empty)))
          (call $mix
            (if (result i64) (ref.is_null (table.get $empty (local.get $at)))
              (then (i64.const -1))
              (else (i64.extend_i32_u (call_indirect $empty (type $numbered) (local.get $at))))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $elements))))
    (func $mix-globals
      (call $mix (i64.extend_i32_u (global.get $int)))
      (call $mix (i64.extend_i32_u (i32.reinterpret_f32 (global.get $single))))
      (call $mix (i64.reinterpret_f64 (global.get $double)))
      (call $mix (i64x2.extract_lane 0 (global.get $wide)))
      (call $mix (i64x2.extract_lane 1 (global.get $wide)))
      ;; Which function it is: through a table, where an element is put and taken out again.
      (table.set $empty (i32.const 0) (global.get $reference))
      (call $mix (i64.extend_i32_u (call_indirect $empty (type $numbered) (i32.const 0))))
      (table.set $empty (i32.const 0) (ref.null func)))
    (func $got (param $before i32)
      (call $mix (i64.extend_i32_u (local.get $before)))
      (if (i32.eq (local.get $before) (i32.const -1)) (then unreachable)))
    (func (export "digest") (result i64)
      (call $mix-memory)
      (call $mix-filled)
      (call $mix-empty)
      (call $mix-globals)
      (call $mix (i64.extend_i32_u (call $handle (i32.const 7))))
      (call $got (memory.grow (i32.const {more})))
      (memory.init $spare (i32.const 100) (i32.const 0) (i32.const 40))
      (call $mix-memory)
      (call $got (table.grow $filled (ref.null func) (i32.const {more_elements})))
      (call $got (table.grow $empty (ref.null func) (i32.const {more_elements})))
      (table.init $empty $more (i32.const 1) (i32.const 0) (i32.const 2))
      (call $mix-filled)
      (call $mix-empty)
      (global.get $hash))

    (func $grow (drop (memory.grow (i32.const {more}))))
    ;; Maps every page, and changes nothing but what it mixes.
    (func $read
      (call $mix-memory)
      (call $grow)
      (call $mix-memory)
      (call $mix-filled)
      (call $mix-empty))
    ;; Makes every page its own, and leaves in it what was there.
    (func $rewrite
      (local $at i32)
      (block $done
        (loop $words
          (br_if $done (i32.ge_u (local.get $at) (call $end)))
          (i64.store (local.get $at) (i64.load (local.get $at)))
          (local.set $at (i32.add (local.get $at) (i32.const 2048)))
          (br $words))))
    ;; A byte in every other page of the machine, from the second one on.
    (func $scatter
      (local $at i32)
      (call $grow)
      (local.set $at (i32.const 5000))
      (block $done
        (loop $pages
          (br_if $done (i32.ge_u (local.get $at) (call $end)))
          (i32.store8 (local.get $at) (i32.const 0x5e))
          (local.set $at (i32.add (local.get $at) (i32.const 8192)))
          (br $pages))))
    (func $flood
      (call $grow)
      (memory.fill (i32.const 0) (i32.const 0x5e) (call $end)))
    ;; All that is not memory.
    (func $replace
      (global.set $hash (i64.const 0x5ec2e7))
      (global.set $int (i32.const 0x5ec2e7))
      (global.set $single (f32.const nan:0x200001))
      (global.set $double (f64.const 5e-324))
      (global.set $wide (i64x2.splat (i64.const 0x5ec2e7)))
      (global.set $reference (ref.func $spoiled))
      (table.fill $filled (i32.const 0) (ref.func $spoiled) (table.size $filled))
      (table.fill $empty (i32.const 0) (ref.func $spoiled) (table.size $empty))
      (drop (table.grow $filled (ref.func $spoiled) (i32.const {more_elements})))
      (drop (table.grow $empty (ref.func $spoiled) (i32.const {more_elements}))))
    (func $hoard
      (local $count i32)
      (loop $handles
        (drop (call $handle (local.get $count)))
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (br_if $handles (i32.lt_u (local.get $count) (i32.const 100)))))
    (func $forget (data.drop $spare) (elem.drop $more))
    ;; Past the end of the memory, in the middle of everything.
    (func $overrun
      (call $scatter)
      (call $replace)
      (i64.store (i32.const -8) (i64.const 0x5e)))
    (func $trap
      (call $scatter)
      (call $replace)
      unreachable)
    (func $deeper (param $depth i32)
      (if (i32.lt_u (i32.mul (local.get $depth) (i32.const 1024)) (call $end))
        (then (i32.store (i32.mul (local.get $depth) (i32.const 1024)) (local.get $depth))))
      (call $deeper (i32.add (local.get $depth) (i32.const 1)))
      ;; There is something left to do: the frame stays.
      (global.set $int (local.get $depth)))
    (func $overflow
      (call $grow)
      (call $deeper (i32.const 1)))
    ;; Takes what it can get, touches every page of the machine that it has got, and gives up.
    (func $bomb
      (local $at i32)
      (loop $again
        (if (i32.ne (memory.grow (i32.const 16)) (i32.const -1))
          (then
            (block $done
              (loop $pages
                (br_if $done (i32.ge_u (local.get $at) (call $end)))
                (i32.store8 (local.get $at) (i32.const 0x5e))
                (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                (br $pages)))
            (br $again))))
      unreachable)
    (func $spin
      (local $at i32)
      (call $grow)
      (call $replace)
      (loop $again
        (i32.store8 (local.get $at) (i32.const 0x5e))
        (local.set $at (i32.rem_u (i32.add (local.get $at) (i32.const 4099)) (call $end)))
        (br $again)))
    (func (export "act") (param $kind i32)
      {acts})
    {start})
"#;

/// A component of these shapes. No other number than its own has its bytes.
fn component(shapes: &[Shape], salt: u32, more: &str) -> Vec<u8> {
    let mut acts = String::new();
    for (kind, act) in ACTS.iter().enumerate() {
        write!(acts, "(if (i32.eq (local.get $kind) (i32.const {kind})) (then (call ${act})))\n      ")
            .unwrap();
    }
    let mut text = format!(
        "(component {more}\n  (type $thing (resource (rep i32)))\n  (core func $handle (canon resource.new $thing))\n  \
         (core instance $host (export \"handle\" (func $handle)))\n"
    );
    let mut instance = 0;
    for (number, shape) in shapes.iter().enumerate() {
        let data = shape
            .data
            .iter()
            .map(|at| format!("(data (i32.const {at}) \"what is there at the start {salt}\")"));
        let fields = [
            ("number", number.to_string()),
            ("salt", salt.to_string()),
            ("pages", shape.pages.to_string()),
            ("more", shape.more.to_string()),
            ("data", data.collect()),
            ("elements", shape.elements.to_string()),
            ("last_elements", (shape.elements - 2).to_string()),
            ("more_elements", (2 * shape.elements).to_string()),
            ("start", shape.start.map(|name| format!("(start ${name})")).unwrap_or_default()),
            ("acts", acts.clone()),
        ];
        let module = fields
            .iter()
            .fold(MODULE.to_owned(), |text, (field, value)| text.replace(&format!("{{{field}}}"), value));
        text.push_str(&module);
        for _ in 0..shape.instances {
            write!(
                text,
                "  (core instance $i{instance} (instantiate $m{number} (with \"h\" (instance $host))))\n  \
                 (func (export \"digest-i{instance}\") (result u64) (canon lift (core func $i{instance} \"digest\")))\n  \
                 (func (export \"act-i{instance}\") (param \"kind\" u32) (canon lift (core func $i{instance} \"act\")))\n"
            )
            .unwrap();
            instance += 1;
        }
    }
    wat::parse_str(text + ")").unwrap()
}

/// A component that is ready, and the core instances that it consists of.
struct Guest {
    callable: Arc<Callable>,
    instances: u32,
}

impl Guest {
    fn new(engine: &Engine, artifacts: &Artifacts, limits: Limits, bytes: &[u8], shapes: &[Shape]) -> Self {
        let (authorities, backends) = (Authorities::default(), Backends::default());
        let stored = stored(engine, artifacts, bytes);
        let callable = Callable::new(engine, stored, &terms(limits, &authorities, &backends)).unwrap();
        Self { callable: Arc::new(callable), instances: instances(shapes) }
    }

    async fn act_in(&self, session: &mut Session, instance: u32, act: &str) -> Result<(), Failure> {
        let function = self.callable.find(&format!("act-i{instance}")).unwrap();
        let kind = ACTS.iter().position(|known| *known == act).unwrap();
        session.call(function, vec![Val::U32(u32::try_from(kind).unwrap())]).await.map(drop)
    }

    /// Has all that a fresh sandbox consists of do this. What ends the sandbox is done by the last.
    async fn act(&self, act: &str) -> Result<(), Failure> {
        let mut session = self.callable.session("act".into());
        let last = self.instances - 1;
        for instance in 0..last {
            let harmless = if ENDS.contains(&act) { "scatter" } else { act };
            self.act_in(&mut session, instance, harmless).await?;
        }
        self.act_in(&mut session, last, act).await
    }

    /// Gives a fresh sandbox up in the middle of what it does, as when a client goes away.
    async fn leave(&self) {
        let mut session = self.callable.session("left".into());
        let running = self.act_in(&mut session, self.instances - 1, "spin");
        // Where the machine is busy, its own time may be up before.
        if let Ok(ended) = tokio::time::timeout(PATIENCE, running).await {
            assert!(is_as_meant("spin", &ended), "{ended:?}");
        }
    }

    async fn digest_in(&self, session: &mut Session, instance: u32) -> Result<u64, Failure> {
        let function = self.callable.find(&format!("digest-i{instance}")).unwrap();
        match session.call(function, vec![]).await? {
            Some(Val::U64(digest)) => Ok(digest),
            other => panic!("{other:?}"),
        }
    }

    /// What a fresh sandbox finds, of each core instance.
    async fn digest(&self) -> Vec<u64> {
        let mut session = self.callable.session("digest".into());
        let mut found = Vec::new();
        for instance in 0..self.instances {
            found.push(self.digest_in(&mut session, instance).await.unwrap());
        }
        found
    }
}

/// Instances of these shapes together.
fn instances(shapes: &[Shape]) -> u32 {
    shapes.iter().map(|shape| shape.instances).sum()
}

fn limits() -> Limits {
    Limits { memory_bytes: MEMORY_BYTES, ..Limits::default() }
}

fn terms<'a>(limits: Limits, authorities: &'a Authorities, backends: &'a Backends) -> Terms<'a> {
    Terms { name: "guest", file: "guest", limits, authorities, backends }
}

fn stored(engine: &Engine, artifacts: &Artifacts, bytes: &[u8]) -> Stored {
    let source = Source { name: "guest", bytes, parts: &Vec::new, contract: &|| None };
    artifacts.get(engine, &source).unwrap()
}

/// An engine whose places nobody has used.
fn engine(blind_reset: bool) -> Engine {
    let tuning = Tuning { blind_reset, ..Tuning::default() };
    let engine = Engine::configured(Pool::of(PLACES, &limits()), tuning).unwrap();
    let is_fast = !blind_reset && PageScan::probe() == PageScan::Sound;
    assert_eq!(engine.pool().page_scan == PageScan::Sound, is_fast);
    engine
}

/// Whether what came of an act is what it is for.
fn is_as_meant(act: &str, outcome: &Result<(), Failure>) -> bool {
    match act {
        "overrun" | "trap" => matches!(outcome, Err(Failure::Trap { .. })),
        "overflow" => matches!(outcome, Err(Failure::Exceeded { limit: Limit::Stack(_), .. })),
        // It gives up when it is refused, or is stopped before.
        "bomb" => matches!(
            outcome,
            Err(Failure::OutOfMemory { .. } | Failure::Trap { .. } | Failure::Deadline { .. })
        ),
        "spin" => matches!(outcome, Err(Failure::Deadline { limit: Limit::Cpu(_), .. })),
        _ => outcome.is_ok(),
    }
}

/// The three guests, and what the subject finds in a place that nobody has used.
struct Trial {
    subject: Guest,
    neighbour: Guest,
    stillborn: Guest,
    pristine: Vec<u64>,
}

impl Trial {
    fn new(engine: &Engine, artifacts: &Artifacts, more: &str, pristine: &[u64]) -> Self {
        let guest = |shapes: &[Shape], salt, limits| {
            Guest::new(engine, artifacts, limits, &component(shapes, salt, more), shapes)
        };
        let hasty = Limits { cpu: CPU, ..limits() };
        Self {
            subject: guest(SUBJECT, 1, limits()),
            neighbour: guest(NEIGHBOUR, 2, hasty),
            stillborn: guest(STILLBORN, 3, limits()),
            pristine: pristine.to_vec(),
        }
    }

    /// Has one of them do something, and says who did what.
    async fn dirty(&self, own: bool, act: &str) -> String {
        let (who, guest) = if own { ("itself", &self.subject) } else { ("a neighbour", &self.neighbour) };
        let outcome = guest.act(act).await;
        // On a slow machine a neighbour may be stopped in the middle of anything.
        let is_stopped = !own && is_as_meant("spin", &outcome);
        assert!(is_stopped || is_as_meant(act, &outcome), "{act} by {who}: {outcome:?}");
        format!("{act} by {who}")
    }

    #[track_caller]
    fn check(&self, found: &[u64], after: &str) {
        assert_eq!(found, self.pristine, "what a fresh sandbox finds after {after}");
    }

    /// The test can see: within one sandbox, what was done shows.
    async fn sees(&self) {
        for act in SEEN {
            for instance in 0..self.subject.instances {
                let mut session = self.subject.callable.session("before".into());
                let before = self.subject.digest_in(&mut session, instance).await.unwrap();
                drop(session);
                let mut session = self.subject.callable.session("seen".into());
                self.subject.act_in(&mut session, instance, act).await.unwrap();
                let after = self.subject.digest_in(&mut session, instance).await;
                assert_ne!(after.ok(), Some(before), "{act} in {instance}");
            }
        }
    }

    async fn run(self, engine: &Engine, artifacts: &Artifacts, more: &str) {
        self.check(&self.subject.digest().await, "nothing");
        self.sees().await;
        self.check(&self.subject.digest().await, "what was to be seen");
        for own in [true, false] {
            for act in ACTS.iter().filter(|act| !own || **act != "spin") {
                let after = self.dirty(own, act).await;
                self.check(&self.subject.digest().await, &after);
            }
        }
        self.subject.leave().await;
        self.check(&self.subject.digest().await, "it was left by its client");
        self.neighbour.leave().await;
        self.check(&self.subject.digest().await, "a neighbour was left by its client");
        let mut session = self.stillborn.callable.session("stillborn".into());
        let ended = session.instantiate().await;
        assert!(ended.is_err(), "it does not start");
        drop(session);
        self.check(&self.subject.digest().await, "a neighbour that did not start");

        let mut random = Random(SEED);
        for look in 0..LOOKS {
            let mut after = Vec::new();
            for _ in 0..=random.below(ACTS_MAX) {
                let own = random.below(2) == 0;
                // What runs until it is stopped takes long, and was there.
                let act = *random.one_of(&ACTS[..ACTS.len() - 1]);
                after.push(self.dirty(own, act).await);
            }
            self.check(&self.subject.digest().await, &format!("{} (look {look})", after.join(", ")));
        }

        // A component that leaves memory leaves its places; what comes in its stead finds nothing of it.
        let pristine = self.pristine.clone();
        let _ = self.neighbour.act("flood").await;
        drop(self);
        let again = Trial::new(engine, artifacts, more, &pristine);
        again.check(&again.subject.digest().await, "all components were taken out of memory");
    }
}

async fn used_places_are_as_new(more: &str) {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(folder.path()).unwrap();
    let bytes = component(SUBJECT, 1, more);
    let mut pristine = Vec::new();
    for blind_reset in [false, true] {
        let engine = engine(blind_reset);
        pristine.push(Guest::new(&engine, &artifacts, limits(), &bytes, SUBJECT).digest().await);
    }
    assert_eq!(
        pristine[0], pristine[1],
        "what is there at the start does not depend on how places are reset"
    );
    for blind_reset in [false, true] {
        let engine = engine(blind_reset);
        let trial = Trial::new(&engine, &artifacts, more, &pristine[0]);
        trial.run(&engine, &artifacts, more).await;
    }
}

#[tokio::test]
async fn a_used_place_is_as_a_new_one() {
    used_places_are_as_new("").await;
}

#[tokio::test]
async fn so_it_is_on_the_other_engine() {
    used_places_are_as_new(CONCURRENT).await;
}

#[test]
fn a_neighbour_has_every_place() {
    for shapes in [NEIGHBOUR, STILLBORN] {
        let instances = instances(shapes);
        // Each has one memory and two tables.
        assert_eq!((instances, 2 * instances), (MEMORIES_MAX, TABLES_MAX));
    }
}

/// A plain handler that answers with the hash of all its memory, and then overwrites it.
const SELF_DIGEST: &str = r#"
(component
  (type $request' (record (field "method" string) (field "path" string) (field "body" (option (list u8)))))
  (import "request" (type $request (eq $request')))
  (type $response' (record (field "status" u16) (field "body" (list u8))))
  (import "response" (type $response (eq $response')))
  (core module $m
    (memory (export "memory") 40)
    (data (i32.const 100000) "what is there at the start")
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
      (local $at i32) (local $hash i64)
      (loop $words
        (local.set $hash
          (i64.rotl
            (i64.mul
              (i64.xor (local.get $hash) (i64.load (local.get $at)))
              (i64.const 0x9e3779b97f4a7c15))
            (i64.const 23)))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $words (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
      (memory.fill (i32.const 8192) (i32.const 0x5e) (i32.const 2600000))
      (i32.store16 (i32.const 512) (i32.const 200))
      (i32.store (i32.const 516) (i32.const 1024))
      (i32.store (i32.const 520) (i32.const 8))
      (i64.store (i32.const 1024) (local.get $hash))
      (i32.const 512)))
  (core instance $i (instantiate $m))
  (func $handle (param "req" $request) (result $response)
    (canon lift (core func $i "handle") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (export "handle" (func $handle)))
"#;

/// What so many requests to a service of the component above are answered, one after the other.
async fn answers(folder: &Path, blind_reset: bool, requests: usize) -> Vec<Bytes> {
    let engine = engine(blind_reset);
    let artifacts = Artifacts::open(folder).unwrap();
    let (authorities, backends) = (Authorities::default(), Backends::default());
    let stored = stored(&engine, &artifacts, &wat::parse_str(SELF_DIGEST).unwrap());
    let service = Service::new(&engine, stored, &terms(limits(), &authorities, &backends)).unwrap();
    let service = Arc::new(service);
    let mut answers = Vec::new();
    while answers.len() < requests {
        let request = http::Request::get("/").body(Received::whole(Bytes::new())).unwrap();
        let id = "differential".into();
        let incoming = Incoming { request, id, secure: false, account: None, trace: None, claim: None };
        match service.serve(incoming, Box::new(|_: Record| {})).await {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                answers.push(response.into_body().collect().await.unwrap().to_bytes());
            }
            // The only place is still being reset.
            Err(Failure::PoolExhausted { .. }) => tokio::task::yield_now().await,
            Err(failure) => panic!("{failure}"),
        }
    }
    answers
}

#[tokio::test]
async fn a_machine_without_the_fast_reset_serves_the_same() {
    const REQUESTS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let fast = answers(folder.path(), false, REQUESTS).await;
    let blind = answers(folder.path(), true, REQUESTS).await;
    assert_eq!(fast[0].len(), 8);
    assert!(fast.iter().chain(&blind).all(|answer| *answer == fast[0]), "{fast:?}\n{blind:?}");
}
