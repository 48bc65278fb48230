//! What stands between Go's `wasip1` runtime and the component's imports.
//!
//! The usual adapter serves all of WASI 0.1, so whatever goes through it imports an environment, a file system and more,
//! used or not. Go's runtime itself wants the clocks, randomness for its maps, a place to write the message of a panic,
//! and to sleep: the small adapter beside this file has that and otherwise neither arguments nor variables nor files.
//! The world says which one it is: a component gets the usual adapter when its world imports what only that can serve.

use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The name of the module that Go's runtime imports from.
pub(super) const NAME: &str = "wasi_snapshot_preview1";

/// The small adapter, and the world it is written for.
const SMALL: &str = include_str!("adapter.wat");
const SMALL_WORLD: &str = include_str!("adapter.wit");

/// Where it says which memory is its own; none yet.
const AREA: &str = "(global $area (mut i32) (i32.const 0))";

/// The text that the small adapter is made from, for the fingerprint.
pub(super) const PINS: [&str; 2] = [SMALL, SMALL_WORLD];

/// Of these the usual adapter is made, and the small one is not.
const SERVED_BY_THE_USUAL: [&str; 5] =
    ["wasi:cli/environment@", "wasi:cli/stdin@", "wasi:cli/stdout@", "wasi:filesystem/", "wasi:sockets/"];

/// Whether the small adapter does for a component whose world has these imports.
pub(super) fn is_small(imports: &[String]) -> bool {
    !imports.iter().any(|import| SERVED_BY_THE_USUAL.iter().any(|served| import.starts_with(served)))
}

/// The adapter for a component whose world has these imports. A module that was started at build time has given the small
/// one its memory, at `area`.
pub(super) fn for_world(imports: &[String], area: Option<u32>) -> Result<Vec<u8>, String> {
    if is_small(imports) {
        small(area.unwrap_or(0))
    } else {
        Ok(WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER.to_vec())
    }
}

fn small(area: u32) -> Result<Vec<u8>, String> {
    let text =
        SMALL.replacen(AREA, &format!("(global $area (mut i32) (i32.const {}))", area.cast_signed()), 1);
    let mut adapter = wat::parse_str(&text).map_err(|error| error.to_string())?;
    let mut resolve = Resolve::default();
    let package = resolve.push_str("adapter.wit", SMALL_WORLD).map_err(|error| format!("{error:#}"))?;
    let world = resolve.select_world(&[package], None).map_err(|error| format!("{error:#}"))?;
    embed_component_metadata(&mut adapter, &resolve, world, StringEncoding::UTF8, false)
        .map_err(|error| format!("{error:#}"))?;
    Ok(adapter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::{Parser, Payload};
    use wit_component::ComponentEncoder;

    /// A component that yields through WASI 0.1 and imports `functions` of it, for a world with this `import`.
    fn imported(functions: &str, import: &str) -> Vec<String> {
        let core = format!(
            r#"(module
               (import "wasi_snapshot_preview1" "sched_yield" (func $f (result i32)))
               {functions}
               (memory (export "memory") 1)
               (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 16)
               (func (export "run") (drop (call $f))))"#
        );
        let mut core = wat::parse_str(core).unwrap();
        let mut resolve = Resolve::default();
        let package = resolve.push_str("a.wit", "package a:b; world w { export run: func(); }").unwrap();
        let world = resolve.select_world(&[package], None).unwrap();
        embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false).unwrap();
        let adapter = for_world(&[import.to_owned()], None).unwrap();
        let mut encoder = ComponentEncoder::default();
        let component = encoder.module(&core).unwrap().adapter(NAME, &adapter).unwrap().encode().unwrap();
        let mut names = Vec::new();
        for payload in Parser::new(0).parse_all(&component) {
            if let Payload::ComponentImportSection(section) = payload.unwrap() {
                names.extend(section.into_iter().map(|import| import.unwrap().name.name.to_owned()));
            }
        }
        names.retain(|name| name.starts_with("wasi:"));
        names
    }

    const RUNTIME: &str = r#"
        (import "wasi_snapshot_preview1" "adapter_monotonic_clock_set_paused" (func (param i32)))
        (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_sizes_get" (func (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get" (func (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open" (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;

    #[test]
    fn what_is_not_used_is_not_imported() {
        assert_eq!(imported("", "a:b/c"), Vec::<String>::new());
    }

    #[test]
    fn the_small_adapter_has_no_files_and_no_environment() {
        let names = imported(RUNTIME, "a:b/c");
        assert!(names.iter().any(|name| name.starts_with("wasi:clocks/monotonic-clock@")), "{names:?}");
        for absent in ["wasi:filesystem/", "wasi:cli/environment", "wasi:cli/exit", "wasi:cli/stdin"] {
            assert!(!names.iter().any(|name| name.starts_with(absent)), "{names:?}");
        }
    }

    #[test]
    fn the_small_adapter_knows_where_its_memory_is() {
        assert_eq!(SMALL.matches(AREA).count(), 1);
        assert_ne!(small(0).unwrap(), small(1024).unwrap());
    }

    #[test]
    fn a_world_with_files_gets_the_usual_adapter() {
        let names = imported(RUNTIME, "wasi:filesystem/preopens@0.2.12");
        assert!(names.iter().any(|name| name.starts_with("wasi:filesystem/types@")), "{names:?}");
    }
}
