//! Types of a program stand for those of a contract: they are derived outside of this crate, as `docs/embedding.md` says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;

use tenon_engine::call::Callable;
use tenon_engine::typed::{ComponentType, Lift, Lower};
use tenon_engine::{Artifacts, Backends, Engine, Failure, Pool, Source, Terms};
use tenon_model::{Authorities, Limits};

/// Exports `mirror: func(at: point) -> point`, which changes the sides.
const MIRROR: &str = r#"
(component
  (type $side' (enum "left" "right"))
  (export $side "side" (type $side'))
  (type $point' (record (field "x-axis" u32) (field "label" string) (field "side" $side) (field "more" (option u32))))
  (export $point "point" (type $point'))
  (core module $m
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "mirror") (param $x i32) (param $label i32) (param $length i32) (param $side i32)
        (param $is-more i32) (param $more i32) (result i32)
      (i32.store (i32.const 16) (local.get $x))
      (i32.store (i32.const 20) (local.get $label))
      (i32.store (i32.const 24) (local.get $length))
      (i32.store8 (i32.const 28) (i32.sub (i32.const 1) (local.get $side)))
      (i32.store8 (i32.const 32) (local.get $is-more))
      (i32.store (i32.const 36) (local.get $more))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "mirror") (param "at" $point) (result $point)
    (canon lift (core func $i "mirror") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
"#;

#[derive(Clone, Debug, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
struct Point {
    #[component(name = "x-axis")]
    x_axis: u32,
    label: String,
    side: Side,
    more: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum Side {
    #[component(name = "left")]
    Left,
    #[component(name = "right")]
    Right,
}

/// Lacks a field of the contract's.
#[derive(Clone, Debug, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
struct Half {
    #[component(name = "x-axis")]
    x_axis: u32,
    label: String,
}

/// The component above, compiled and linked.
fn callable(folder: &Path) -> Arc<Callable> {
    let engine = Engine::new(Pool { instances: 2, ..Pool::default() }).unwrap();
    let artifacts = Artifacts::open(folder).unwrap();
    let bytes = wat::parse_str(MIRROR).unwrap();
    let source = Source { name: "mirror", bytes: &bytes, parts: &Vec::new, contract: &|| None };
    let stored = artifacts.get(&engine, &source).unwrap();
    let (authorities, backends) = (Authorities::default(), Backends::default());
    let limits = Limits::default();
    let terms =
        Terms { name: "mirror", file: "mirror", limits, authorities: &authorities, backends: &backends };
    Arc::new(Callable::new(&engine, stored, &terms).unwrap())
}

#[tokio::test]
async fn a_record_that_is_derived_outside_stands_for_that_of_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let callable = callable(folder.path());
    let mirror = callable.find("mirror").unwrap().clone();
    let mut session = callable.session("records".into());

    let point = Point { x_axis: 7, label: "here".into(), side: Side::Left, more: Some(9) };
    let (mirrored,): (Point,) = session.call_typed(&mirror, (point.clone(),)).await.unwrap();
    assert_eq!(mirrored, Point { side: Side::Right, ..point });

    let half = Half { x_axis: 7, label: "here".into() };
    let refused = session.call_typed::<_, (Half,)>(&mirror, (half,)).await;
    assert!(
        matches!(&refused, Err(Failure::BadRequest { cause }) if cause.contains("mirror")),
        "{refused:?}"
    );
}
