//! The two engines and their pools.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use tenon_model::{Diagnostic, Digest, Location, PartImport};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Inlining, InstanceAllocationStrategy, ModuleVersionStrategy, OptLevel};

use crate::aside::Aside;
use crate::crash::FRAMES_MAX;
use crate::host::Host;
use crate::link::add_inert;
use crate::pool::{PageScan, Pool, PoolReport};
use crate::room::Idle;
use crate::tick::{Interrupted, Interrupts, start_ticker};

/// The exact engine. An artifact of any other is not loaded, though the engine itself checks only the major version.
const ENGINE_VERSION: &str = "wasmtime 48.0.8+tenon.1";
/// Changes when what we put into an artifact changes.
const ARTIFACT_FORMAT: u32 = 2;
/// Host functions run on the guest's stack, and an overflow there would end the process: this much room is left for
/// them beyond what the guest may use.
const HOST_STACK_BYTES: usize = 512 << 10;
/// More stack than this is not given: the pool holds one for each sandbox.
const GUEST_STACK_BYTES_MAX: u64 = 64 << 20;

/// The engine could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine could not be set up: {0:#}")]
pub struct EngineError(wasmtime::Error);

impl From<EngineError> for Diagnostic {
    fn from(error: EngineError) -> Self {
        Self::new("pool-too-large", "the pool of sandboxes cannot be reserved")
            .note("cause", format!("{:#}", error.0))
            .mend("choose a smaller `--pool`, or raise the limit on address space (`ulimit -v unlimited`)")
    }
}

/// A part of a composition: the bytes of the composed file that are one component.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// The component's name in the composition.
    pub name: String,
    /// Its bytes within the file.
    pub range: Range<usize>,
}

/// A component to compile.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// What people call it.
    pub name: &'a str,
    /// The component binary.
    pub bytes: &'a [u8],
    /// Finds the parts it is composed of, if it is a composition: asked for when it is compiled, for that means
    /// reading it.
    pub parts: &'a dyn Fn() -> Vec<Part>,
    /// Its types as text, which are kept with its code, for they cannot be told from it: asked for when it is compiled.
    pub contract: &'a dyn Fn() -> Option<String>,
}

/// Which of the two engines a component runs on.
///
/// Support for concurrency inside a component costs every request about a fifth, so only components that need it
/// run on the engine that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Lane {
    /// Calls are sequential: WASI 0.2 and plain handlers.
    Sequential,
    /// Async functions, streams and futures: WASI 0.3.
    Concurrent,
}

impl Lane {
    pub(crate) const ALL: [Self; 2] = [Self::Sequential, Self::Concurrent];
}

pub(crate) struct LaneEngine {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) linker: Linker<Host>,
    /// The sandboxes of its pool that no request is in.
    pub(crate) idle: Arc<Idle>,
    /// Identifies the exact engine, its settings and the processor's features.
    fingerprint: blake3::Hash,
}

/// What of an engine is not the same for everybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tuning {
    /// A core dump of each guest that fails: a copy of its memory, which takes time and space.
    pub core_dumps: bool,
    /// Whether memories and tables are reset without asking the kernel which of their pages were written, as they are where
    /// that is [not sound](PageScan::Unsound): for the tests of it, and to measure what asking saves.
    pub blind_reset: bool,
    /// Whether guests are guarded.
    pub guard: Guard,
}

/// Whether guests are held to limits, billed and given what they were granted: all, unless somebody measures what that costs.
/// With one of the first two off, a guest that is not trusted can take the machine for itself.
#[derive(Clone, Copy, Debug)]
pub struct Guard {
    /// Memory, tables, handles, what a host call copies, and processor time are bounded.
    pub limits: bool,
    /// Processor time is counted, without which it cannot be bounded.
    pub billing: bool,
    /// Who imports what needs a grant and has none is refused. Off, it is linked all the same, and each call of it is
    /// denied.
    pub grants: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self { limits: true, billing: true, grants: true }
    }
}

/// The engines of one node. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("pool", self.pool()).finish_non_exhaustive()
    }
}

struct Inner {
    lanes: Arc<Lanes>,
    report: PoolReport,
    aside: Arc<Aside>,
    /// Dropped with the last clone, which ends the ticker.
    _ticker: SyncSender<()>,
}

/// Each is set up when a component first needs it: a node that serves one app has use for one.
#[derive(Default)]
pub(crate) struct Lanes {
    sequential: OnceLock<LaneEngine>,
    concurrent: OnceLock<LaneEngine>,
    tuning: Tuning,
    pub(crate) interrupted: Interrupted,
}

impl Lanes {
    /// Has every engine look at the guests that run. It may be called between any two instructions: it takes no lock, allocates
    /// nothing, and calls nothing of the system.
    pub(crate) fn tick(&self) {
        for lane in Lane::ALL {
            if let Some(lane) = self.place(lane).get() {
                lane.engine.increment_epoch();
            }
        }
    }

    fn place(&self, lane: Lane) -> &OnceLock<LaneEngine> {
        match lane {
            Lane::Sequential => &self.sequential,
            Lane::Concurrent => &self.concurrent,
        }
    }
}

impl Engine {
    /// Looks at the machine, sets up the engine that most components run on with its pool, and starts the ticker.
    ///
    /// # Errors
    /// When the machine refuses the address space, or lacks a feature the engine needs.
    pub fn new(pool: Pool) -> Result<Self, EngineError> {
        Self::configured(pool, Tuning::default())
    }

    /// The same, with what is not the same for everybody.
    ///
    /// # Errors
    /// As [`new`](Self::new) has.
    pub fn configured(pool: Pool, tuning: Tuning) -> Result<Self, EngineError> {
        let mut report = PoolReport::probe(pool);
        if tuning.blind_reset {
            report.page_scan = PageScan::Unsound("this engine was asked to do without".into());
        }
        let lanes = Arc::new(Lanes { tuning, ..Lanes::default() });
        let ticker = start_ticker(Arc::downgrade(&lanes))
            .map_err(|error| EngineError(wasmtime::Error::from(error)))?;
        let engine =
            Self { inner: Arc::new(Inner { lanes, report, aside: Arc::default(), _ticker: ticker }) };
        engine.lane(Lane::Sequential)?;
        Ok(engine)
    }

    /// What the pool was set to, and why.
    pub fn pool(&self) -> &PoolReport {
        &self.inner.report
    }

    /// Has the thread that calls it be interrupted for each tick, as long as what comes back is there: for one that serves
    /// requests, so that no other thread has to wake for it. `None` where the system does not, or a thread of this process is interrupted
    /// already; then that other thread does.
    pub fn interrupt_here(&self) -> Option<Interrupts> {
        Interrupts::start(&self.inner.lanes)
    }

    /// Where guests go on that run long.
    pub(crate) fn aside(&self) -> Arc<Aside> {
        Arc::clone(&self.inner.aside)
    }

    /// What is kept of a guest's use of the machine.
    pub(crate) fn guard(&self) -> Guard {
        self.inner.lanes.tuning.guard
    }

    /// The engine of a lane, set up when it is first asked for.
    ///
    /// # Errors
    /// See [`Engine::new`].
    pub(crate) fn lane(&self, lane: Lane) -> Result<&LaneEngine, EngineError> {
        let place = self.inner.lanes.place(lane);
        match place.get() {
            Some(engine) => Ok(engine),
            None => {
                // Two that come at once both make one, and one of them is dropped.
                let made = LaneEngine::new(lane, &self.inner.report, self.inner.lanes.tuning)
                    .map_err(EngineError)?;
                Ok(place.get_or_init(|| made))
            }
        }
    }

    /// Compiles a component for the lane it needs.
    ///
    /// # Errors
    /// When the engine refuses the component.
    pub(crate) fn compile(&self, source: &Source<'_>) -> Result<(Lane, Vec<u8>), Diagnostic> {
        let lane = lane_of(source.bytes);
        let code = self.lane(lane)?.engine.precompile_component(source.bytes).map_err(|error| {
            Diagnostic::new("cannot-compile", format!("`{}` cannot be compiled", source.name))
                .at(Location::file(source.name))
                .note("the engine says", format!("{error:#}"))
                .mend("check the component with `tenon inspect`; it may use a proposal that is not enabled")
        })?;
        Ok((lane, code))
    }
}

impl LaneEngine {
    fn new(lane: Lane, report: &PoolReport, tuning: Tuning) -> wasmtime::Result<Self> {
        let guest_stack_bytes =
            usize::try_from(report.pool.stack_bytes.min(GUEST_STACK_BYTES_MAX)).unwrap_or(usize::MAX);
        let mut config = Config::new();
        config
            .concurrency_support(lane == Lane::Concurrent)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(
                report.allocation(lane == Lane::Concurrent),
            ))
            .compiler_inlining(Inlining::InterModule)
            .cranelift_opt_level(OptLevel::Speed)
            .epoch_interruption(tuning.guard.limits)
            .max_wasm_stack(guest_stack_bytes)
            .async_stack_size(guest_stack_bytes.saturating_add(HOST_STACK_BYTES))
            .native_unwind_info(false)
            .wasm_component_model_map(true)
            .wasm_component_model_fixed_length_lists(true)
            .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES_MAX))
            .coredump_on_trap(tuning.core_dumps)
            .module_version(ModuleVersionStrategy::Custom(ENGINE_VERSION.into()))?;
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        add_inert(&mut linker, lane == Lane::Concurrent)?;
        let mut fingerprint = Fingerprint(blake3::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut fingerprint);
        (ENGINE_VERSION, ARTIFACT_FORMAT, lane == Lane::Concurrent).hash(&mut fingerprint);
        let idle = Arc::default();
        Ok(Self { engine, linker, idle, fingerprint: fingerprint.0.finalize() })
    }

    /// The name of the artifact of a component on this engine.
    pub(crate) fn artifact_key(&self, digest: &Digest) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.fingerprint.as_bytes());
        hasher.update(digest.hex().as_bytes());
        hasher.finalize().to_hex().to_string()
    }

    /// Maps compiled code.
    ///
    /// # Safety
    /// The file must be one that this engine compiled, and nobody may change it while it is mapped: it is native code.
    pub(crate) unsafe fn load(&self, file: std::fs::File) -> wasmtime::Result<Component> {
        // SAFETY: the caller's promise is the one that is asked for here.
        unsafe { Component::deserialize_open_file(&self.engine, file) }
    }
}

/// Whether the sequential engine, which knows neither async functions nor WASI 0.3, can run the component.
fn lane_of(bytes: &[u8]) -> Lane {
    use wasmparser::{Validator, WasmFeatures};
    let sequential = WasmFeatures::default()
        .union(WasmFeatures::CM_MAP)
        .union(WasmFeatures::CM_FIXED_LENGTH_LISTS)
        .difference(WasmFeatures::CM_ASYNC);
    let imports_wasi03 = || {
        let is03 = |name: &str| {
            (name.starts_with("wasi:") || PartImport::is_reserved(name)) && name.contains("@0.3.")
        };
        wasmparser::Parser::new(0).parse_all(bytes).map_while(Result::ok).any(|payload| match payload {
            wasmparser::Payload::ComponentImportSection(section) => {
                section.into_iter().flatten().any(|import| is03(import.name.name))
            }
            wasmparser::Payload::ComponentExportSection(section) => {
                section.into_iter().flatten().any(|export| is03(export.name.name))
            }
            _ => false,
        })
    };
    if Validator::new_with_features(sequential).validate_all(bytes).is_err() || imports_wasi03() {
        Lane::Concurrent
    } else {
        Lane::Sequential
    }
}

/// Feeds what is hashed into a hash that is the same in every process, unlike the standard library's.
struct Fingerprint(blake3::Hasher);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}
