//! Starts a core module once, at build time, so that no request has to.
//!
//! What a language runtime does before the first line of the author's runs (its heap, its scheduler, its tables) is the
//! same for every request. Here it is done, and the state is handed back to be written into the module. The module finds
//! no world around it: no arguments, no environment, no files, and a clock that stands still. Whoever wants more than
//! that of its start, the time or random numbers for example, would find the same ones in every request; that is refused,
//! and the module stays as it was.

use tenon_model::{Digest, Initialized, Number};
use wasmtime::{
    Caller, Config, Extern, ExternType, Linker, Module, OptLevel, RegallocAlgorithm, Result, Store,
    StoreLimits, StoreLimitsBuilder, Val, bail, format_err,
};

/// Instructions, about: a second or so. A runtime's start takes a few millions.
const FUEL: u64 = 2_000_000_000;
/// A start that takes more memory would make a snapshot nobody wants.
const MEMORY_BYTES_MAX: usize = 128 << 20;
/// The start of a runtime needs no more than this at once.
const RANDOM_BYTES_MAX: u32 = 64;

/// WASI 0.1, as far as a runtime's start may need it.
const WASI: &str = "wasi_snapshot_preview1";
/// The error numbers of WASI 0.1.
const SUCCESS: i32 = 0;
const BAD_DESCRIPTOR: i32 = 8;
/// The monotonic clock of WASI 0.1.
const MONOTONIC: i32 = 1;
/// What the clock shows. Not zero, which runtimes take for a clock that does not work; and before all that it will
/// show to an instance.
const INSTANT: u64 = 1;
/// How long the adapter's own piece of memory is, and how it is aligned.
const AREA_BYTES: i32 = 16;
const AREA_ALIGN: i32 = 8;

struct Start {
    limits: StoreLimits,
    seed: blake3::Hash,
    area: Option<u32>,
}

/// Runs `_initialize` of a core module, and `_settle` if it has that, and returns its state: the memory it exports as
/// `memory`, and the exported `globals`. Random numbers that the runtime takes for itself, the first time it asks for
/// any, follow from `seed`; so the same module with the same seed is always the same.
///
/// # Errors
/// Why the module cannot be started ahead of time, for people.
pub fn initialize(
    module: &[u8],
    globals: &[String],
    seed: &Digest,
) -> std::result::Result<Initialized, String> {
    // The innermost cause is the one that was said here; around it is where in the guest it happened.
    start(module, globals, seed).map_err(|error| error.root_cause().to_string())
}

fn start(module: &[u8], globals: &[String], seed: &Digest) -> Result<Initialized> {
    let mut config = Config::new();
    // It runs for milliseconds: what counts is how soon it is compiled.
    config
        .concurrency_support(false)
        .cranelift_opt_level(OptLevel::None)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass)
        .native_unwind_info(false)
        .consume_fuel(true);
    let engine = wasmtime::Engine::new(&config)?;
    let module = Module::new(&engine, module)?;
    let limits = StoreLimitsBuilder::new().memory_size(MEMORY_BYTES_MAX).trap_on_grow_failure(true).build();
    let seed = blake3::hash(seed.hex().as_bytes());
    let mut store = Store::new(&engine, Start { limits, seed, area: None });
    store.limiter(|start| &mut start.limits);
    store.set_fuel(FUEL)?;
    let instance = linker(&engine, &module)?.instantiate(&mut store, &module)?;
    let run = instance.get_typed_func::<(), ()>(&mut store, "_initialize")?;
    run.call(&mut store, ())?;
    if let Some(settle) = instance.get_func(&mut store, "_settle") {
        settle.typed::<(), ()>(&store)?.call(&mut store, ())?;
    }

    let memory = instance
        .get_memory(&mut store, "memory")
        .ok_or_else(|| format_err!("it exports no memory"))?
        .data(&store)
        .to_vec();
    let globals = globals
        .iter()
        .map(|name| match instance.get_global(&mut store, name).map(|global| global.get(&mut store)) {
            Some(Val::I32(value)) => Ok(Number::I32(value)),
            Some(Val::I64(value)) => Ok(Number::I64(value)),
            Some(Val::F32(bits)) => Ok(Number::F32(bits)),
            Some(Val::F64(bits)) => Ok(Number::F64(bits)),
            _ => Err(format_err!("its global `{name}` is not a number")),
        })
        .collect::<Result<_>>()?;
    let area = store.data().area.ok_or_else(|| format_err!("its runtime took no random numbers"))?;
    Ok(Initialized { memory, globals, area })
}

/// What the module finds: the little that a start may use, and refusals for all the rest.
fn linker(engine: &wasmtime::Engine, module: &Module) -> Result<Linker<Start>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(WASI, "random_get", random_get)?;
    linker.func_wrap(WASI, "clock_time_get", clock_time_get)?;
    linker.func_wrap(WASI, "args_sizes_get", nothing)?;
    linker.func_wrap(WASI, "environ_sizes_get", nothing)?;
    linker.func_wrap(WASI, "args_get", |_: i32, _: i32| SUCCESS)?;
    linker.func_wrap(WASI, "environ_get", |_: i32, _: i32| SUCCESS)?;
    linker.func_wrap(WASI, "fd_prestat_get", |_: i32, _: i32| BAD_DESCRIPTOR)?;
    linker.func_wrap(WASI, "fd_fdstat_get", |_: i32, _: i32| BAD_DESCRIPTOR)?;
    linker.func_wrap(WASI, "sched_yield", || SUCCESS)?;
    linker.func_wrap(WASI, "adapter_monotonic_clock_set_paused", |_: i32| ())?;
    // Compilers import the same function twice, once for each package that names it.
    linker.allow_shadowing(true);
    for import in module.imports() {
        let (from, name) = (import.module().to_owned(), import.name().to_owned());
        let ExternType::Func(ty) = import.ty() else { bail!("it imports more than functions") };
        let is_there = from == WASI && ALLOWED.contains(&name.as_str());
        if is_there {
            continue;
        }
        let what = match (from.as_str(), name.as_str()) {
            (WASI, "fd_write") => "its start writes to the standard output or error".to_owned(),
            (WASI, "poll_oneoff") => "its start waits".to_owned(),
            (WASI, "proc_exit") => "its start fails".to_owned(),
            (WASI, name) => format!("its start calls `{name}` of WASI"),
            (from, name) => format!("its start calls `{name}` of `{from}`"),
        };
        linker.func_new(&from, &name, ty, move |_, _, _| bail!("{what}"))?;
    }
    Ok(linker)
}

/// What [`linker`] has beside refusals.
const ALLOWED: [&str; 10] = [
    "random_get",
    "clock_time_get",
    "args_sizes_get",
    "environ_sizes_get",
    "args_get",
    "environ_get",
    "fd_prestat_get",
    "fd_fdstat_get",
    "sched_yield",
    "adapter_monotonic_clock_set_paused",
];

/// The first call is the runtime's own; a second one is somebody who wants randomness, and would have it frozen.
/// Before the runtime has its heap is also the one moment when memory can be had that it never takes back: the adapter's.
fn random_get(mut caller: Caller<'_, Start>, at: i32, length: i32) -> Result<i32> {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if caller.data().area.is_some() || length > RANDOM_BYTES_MAX {
        bail!("its start takes random numbers");
    }
    let Some(Extern::Func(realloc)) = caller.get_export("cabi_realloc") else {
        bail!("it exports no `cabi_realloc`")
    };
    let realloc = realloc.typed::<(i32, i32, i32, i32), i32>(&caller)?;
    let area = realloc.call(&mut caller, (0, 0, AREA_ALIGN, AREA_BYTES))?;
    caller.data_mut().area = Some(area.cast_unsigned());
    let mut bytes = vec![0; length as usize];
    let key = *caller.data().seed.as_bytes();
    blake3::Hasher::new_keyed(&key).finalize_xof().fill(&mut bytes);
    write(&mut caller, at, &bytes)?;
    Ok(SUCCESS)
}

fn clock_time_get(mut caller: Caller<'_, Start>, clock: i32, _precision: i64, at: i32) -> Result<i32> {
    if clock != MONOTONIC {
        bail!("its start reads the clock");
    }
    write(&mut caller, at, &INSTANT.to_le_bytes())?;
    Ok(SUCCESS)
}

/// A list without entries: how many there are, and how many bytes they take.
fn nothing(mut caller: Caller<'_, Start>, count: i32, bytes: i32) -> Result<i32> {
    write(&mut caller, count, &0_u32.to_le_bytes())?;
    write(&mut caller, bytes, &0_u32.to_le_bytes())?;
    Ok(SUCCESS)
}

fn write(caller: &mut Caller<'_, Start>, at: i32, bytes: &[u8]) -> Result<()> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { bail!("it exports no memory") };
    Ok(memory.write(caller, at.cast_unsigned() as usize, bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(functions: &str, body: &str) -> std::result::Result<Initialized, String> {
        let module = wat::parse_str(format!(
            r#"(module
                 (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
                 {functions}
                 (memory (export "memory") 1)
                 (global $count (export "count") (mut i64) (i64.const 0))
                 (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
                 (func (export "_initialize")
                   (drop (call $random (i32.const 0) (i32.const 32)))
                   (global.set $count (i64.const 7))
                   {body}))"#
        ))
        .unwrap();
        initialize(&module, &["count".to_owned()], &Digest::of(b"seed"))
    }

    #[test]
    fn the_state_after_the_start_is_handed_back() {
        let state = started("", "(drop (memory.grow (i32.const 1)))").unwrap();
        assert_eq!(state.memory.len(), 2 * 65536);
        assert_eq!(state.globals, [Number::I64(7)]);
        assert_eq!(state.area, 1024);
        assert_ne!(state.memory[..32], [0; 32], "the runtime has its seed");
        assert_eq!(started("", "").unwrap().memory[..65536], state.memory[..65536], "always the same one");
    }

    #[test]
    fn what_would_be_frozen_is_refused() {
        const CLOCK: &str = r#"(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))"#;
        for (functions, body, reason) in [
            ("", "(drop (call $random (i32.const 0) (i32.const 8)))", "its start takes random numbers"),
            (
                CLOCK,
                "(drop (call $clock (i32.const 0) (i64.const 0) (i32.const 64)))",
                "its start reads the clock",
            ),
            (
                r#"(import "wasi_snapshot_preview1" "fd_write" (func $f (param i32 i32 i32 i32) (result i32)))"#,
                "(drop (call $f (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))",
                "its start writes to the standard output or error",
            ),
            (r#"(import "a:b/c" "f" (func $f))"#, "(call $f)", "its start calls `f` of `a:b/c`"),
        ] {
            assert_eq!(started(functions, body).unwrap_err(), reason);
        }
        let monotonic = "(drop (call $clock (i32.const 1) (i64.const 0) (i32.const 64)))";
        assert_eq!(started(CLOCK, monotonic).unwrap().memory[64..72], INSTANT.to_le_bytes());
    }

    #[test]
    fn a_start_is_bounded() {
        assert!(started("", "(loop (br 0))").unwrap_err().contains("fuel"));
        let grown = started("", "(drop (memory.grow (i32.const 4000)))").unwrap_err();
        assert!(grown.contains("grow"), "{grown}");
    }
}
