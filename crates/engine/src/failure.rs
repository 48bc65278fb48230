//! How serving a request can fail, told apart.

use std::time::Duration;

use tenon_model::{Limits, format_bytes, format_duration};
use wasmtime::component::ResourceTableError;
use wasmtime::{Error, PoolConcurrencyLimitError, Trap, WasmBacktrace};

use crate::engine::Part;
use crate::meter::{CpuSpent, Meter, TablesDenied};

/// Where in the guest it happened, as far as the engine can say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The component: within a composition, the part.
    pub component: Option<String>,
    /// The innermost guest function.
    pub function: Option<String>,
}

/// The limit a request ran into, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::wall`].
    Wall(Duration),
    /// [`Limits::cpu`].
    Cpu(Duration),
    /// [`Limits::memory_bytes`].
    Memory(u64),
    /// The maximum of one linear memory: the component's own limit within a composition, or what its maker declared.
    ComponentMemory(u64),
    /// What all requests of the account may hold together: [`Account::memory_max`](crate::Account::memory_max).
    AccountMemory(u64),
    /// The pool's number of sandboxes.
    Pool(u32),
    /// [`Limits::stack_bytes`].
    Stack(u64),
    /// [`Limits::table_elements`].
    Tables(u64),
    /// Elements of one table: what the pool has for it.
    OneTable(u64),
    /// [`Limits::handles`].
    Handles(u32),
    /// [`Limits::host_call_bytes`].
    HostCall(u64),
    /// [`Limits::response_body_bytes`].
    ResponseBody(u64),
    /// [`Limits::header_bytes`], of a response.
    ResponseHeaders(u64),
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wall(wall) => write!(f, "wall {}", format_duration(*wall)),
            Self::Cpu(cpu) => write!(f, "cpu {}", format_duration(*cpu)),
            Self::Memory(bytes) => write!(f, "memory {}", format_bytes(*bytes)),
            Self::ComponentMemory(bytes) => write!(f, "memory {} (of the component)", format_bytes(*bytes)),
            Self::AccountMemory(bytes) => write!(f, "memory quota {}", format_bytes(*bytes)),
            Self::Pool(instances) => write!(f, "pool {instances}"),
            Self::Stack(bytes) => write!(f, "stack {}", format_bytes(*bytes)),
            Self::Tables(elements) => write!(f, "table-elements {elements}"),
            Self::OneTable(elements) => write!(f, "table-elements {elements} (of one table)"),
            Self::Handles(handles) => write!(f, "handles {handles}"),
            Self::HostCall(bytes) => write!(f, "host-call-bytes {}", format_bytes(*bytes)),
            Self::ResponseBody(bytes) => write!(f, "response-body {}", format_bytes(*bytes)),
            Self::ResponseHeaders(bytes) => write!(f, "header-bytes {}", format_bytes(*bytes)),
        }
    }
}

/// Why a request got no response from its guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The guest trapped, panicked or exited.
    Trap {
        /// What the guest did.
        cause: String,
        /// Where.
        place: Place,
    },
    /// The guest ran past a time limit.
    Deadline {
        /// Which one.
        limit: Limit,
        /// Where it was, when it was running.
        place: Place,
    },
    /// The guest asked for more memory than it may have, and gave up.
    OutOfMemory {
        /// The memory limit.
        limit: Limit,
        /// What it asked for, in bytes, over all its memories.
        asked_bytes: u64,
        /// Where.
        place: Place,
    },
    /// The guest ran into another limit and was stopped, or its response was.
    Exceeded {
        /// Which one.
        limit: Limit,
        /// What the guest did.
        cause: String,
        /// Where.
        place: Place,
    },
    /// No sandbox was free.
    PoolExhausted {
        /// The pool's size.
        limit: Limit,
        /// Which of the pool's parts ran out.
        cause: String,
    },
    /// The guest ended without a response.
    NoResponse {
        /// What it said instead, if anything.
        cause: String,
    },
    /// The guest's response is not one HTTP can carry.
    InvalidResponse {
        /// What is wrong with it.
        cause: String,
    },
    /// The request cannot be given to a guest.
    BadRequest {
        /// What is wrong with it.
        cause: String,
    },
    /// The request's body is larger than a plain handler is given.
    RequestTooLarge {
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// Ours.
    Internal {
        /// What happened.
        cause: String,
    },
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.cause())?;
        match self.limit() {
            Some(limit) => write!(f, " (limit: {limit})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// The stable, documented code: the value of the `x-error-code` header.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "guest-trap",
            Self::Deadline { limit: Limit::Cpu(_), .. } => "cpu-deadline",
            Self::Deadline { .. } => "wall-deadline",
            Self::OutOfMemory { limit: Limit::AccountMemory(_), .. } => "memory-quota",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::Exceeded { limit, .. } => match limit {
                Limit::Stack(_) => "stack-limit",
                Limit::Tables(_) | Limit::OneTable(_) => "table-limit",
                Limit::Handles(_) => "handle-limit",
                Limit::HostCall(_) => "host-call-limit",
                Limit::ResponseBody(_) => "response-body-limit",
                Limit::ResponseHeaders(_) => "response-headers-limit",
                Limit::Wall(_)
                | Limit::Cpu(_)
                | Limit::Memory(_)
                | Limit::ComponentMemory(_)
                | Limit::AccountMemory(_)
                | Limit::Pool(_) => "internal",
            },
            Self::PoolExhausted { .. } => "pool-exhausted",
            Self::NoResponse { .. } => "guest-no-response",
            Self::InvalidResponse { .. } => "invalid-response",
            Self::BadRequest { .. } => "bad-request",
            Self::RequestTooLarge { .. } => "request-too-large",
            Self::Internal { .. } => "internal",
        }
    }

    /// What happened, for the log; never sent to a client.
    pub fn cause(&self) -> String {
        match self {
            Self::Trap { cause, .. }
            | Self::Exceeded { cause, .. }
            | Self::PoolExhausted { cause, .. }
            | Self::NoResponse { cause }
            | Self::InvalidResponse { cause }
            | Self::BadRequest { cause }
            | Self::Internal { cause } => cause.clone(),
            Self::Deadline { limit: Limit::Cpu(_), .. } => "the guest used up its processor time".into(),
            Self::Deadline { .. } => "the guest did not finish in time".into(),
            Self::OutOfMemory { asked_bytes, .. } => {
                format!("the guest asked for {} of memory", format_bytes(*asked_bytes))
            }
            Self::RequestTooLarge { .. } => "the request's body is larger than the app takes".into(),
        }
    }

    /// The limit that was hit, if one was.
    pub fn limit(&self) -> Option<String> {
        match self {
            Self::Deadline { limit, .. }
            | Self::OutOfMemory { limit, .. }
            | Self::Exceeded { limit, .. }
            | Self::PoolExhausted { limit, .. } => Some(limit.to_string()),
            Self::RequestTooLarge { limit_bytes } => {
                Some(format!("request-body {}", format_bytes(*limit_bytes)))
            }
            _ => None,
        }
    }

    /// Where in the guest it happened.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Trap { place, .. }
            | Self::Deadline { place, .. }
            | Self::OutOfMemory { place, .. }
            | Self::Exceeded { place, .. } => Some(place),
            _ => None,
        }
    }

    /// Sorts an error of the engine.
    ///
    /// `meter` knows what the guest was last refused, if it was: a guest that is refused memory commonly aborts, and
    /// the trap alone would not say why.
    pub(crate) fn sort(error: &Error, limits: &Limits, pool: u32, meter: &Meter, parts: &[Part]) -> Self {
        if let Some(exhausted) = error.downcast_ref::<PoolConcurrencyLimitError>() {
            return Self::PoolExhausted { limit: Limit::Pool(pool), cause: exhausted.to_string() };
        }
        let place = place(error, parts);
        if error.is::<CpuSpent>() {
            return Self::Deadline { limit: Limit::Cpu(limits.cpu), place };
        }
        if let Some(asked_bytes) = meter.denied_bytes() {
            let limit =
                meter.full_account_bytes().map_or(Limit::Memory(limits.memory_bytes), Limit::AccountMemory);
            return Self::OutOfMemory { limit, asked_bytes, place };
        }
        if let Some((limit, cause)) = exceeded(error, limits, meter) {
            return Self::Exceeded { limit, cause: cause.into(), place };
        }
        // The maximum of a memory need not be a limit of ours: a guest that made do with less, and failed for a reason that
        // the engine can name, did not fail for want of memory.
        if let Some((asked_bytes, maximum)) = meter.own_denied_bytes().filter(|_| gave_up(error)) {
            return Self::OutOfMemory { limit: Limit::ComponentMemory(maximum), asked_bytes, place };
        }
        let cause = if let Some(trap) = error.downcast_ref::<Trap>() {
            trap.to_string()
        } else if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            format!("the guest exited with status {}", exit.0)
        } else {
            error.root_cause().to_string()
        };
        Self::Trap { cause, place }
    }
}

/// Whether a guest ended of its own accord, as one does that gets no memory.
fn gave_up(error: &Error) -> bool {
    match error.downcast_ref::<Trap>() {
        // What was to be allocated is used all the same.
        Some(trap) => matches!(trap, Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds),
        None => error.is::<wasmtime_wasi::I32Exit>(),
    }
}

/// The limit that an error comes from, where it is none of those with an outcome of their own.
///
/// The engine has no types for two of its errors. Their texts are those of the one engine version this is built on;
/// a guest that runs into each limit is among the end-to-end tests.
fn exceeded(error: &Error, limits: &Limits, meter: &Meter) -> Option<(Limit, &'static str)> {
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        return Some((Limit::Stack(limits.stack_bytes), "the guest used up its stack"));
    }
    match meter.tables_denied() {
        Some(TablesDenied::All(most)) => {
            return Some((Limit::Tables(most), "the guest asked for more elements of tables"));
        }
        Some(TablesDenied::One(most)) => {
            return Some((Limit::OneTable(most), "the guest asked for more elements of one table"));
        }
        None => {}
    }
    let handles = (Limit::Handles(limits.handles), "the guest holds as many resources as it may");
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return Some(handles);
    }
    if error.root_cause().to_string().contains("store handle limit exceeded") {
        Some(handles)
    } else if is_host_call_error(error) {
        Some((Limit::HostCall(limits.host_call_bytes), "one call copied more than it may"))
    } else {
        None
    }
}

/// Whether one call copied more than it may, in either direction.
pub(crate) fn is_host_call_error(error: &Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted")
}

/// The innermost guest frame of an error, and the part of the composition it belongs to.
fn place(error: &Error, parts: &[Part]) -> Place {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Place::default();
    };
    let part_of =
        |offset: usize| parts.iter().find(|part| part.range.contains(&offset)).map(|part| part.name.clone());
    let frames = backtrace.frames();
    Place {
        component: frames.iter().find_map(|frame| frame.module_offset().and_then(part_of)),
        function: frames.first().map(|frame| match (frame.func_name(), frame.symbols().first()) {
            (_, Some(symbol)) if symbol.name().is_some() => symbol.name().unwrap_or_default().to_owned(),
            (Some(name), _) => rustc_name(name),
            (None, _) => format!("function {}", frame.func_index()),
        }),
    }
}

/// A demangled name where the guest's names are mangled.
pub(crate) fn rustc_name(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
