//! Why a guest did not run to its end, and what that means.

use tenon_model::Limits;
use wasmtime::{Error, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::engine::Part;
use crate::failure::{Failure, Limit, Place, is_host_call_error};
use crate::meter::{CpuSpent, CutOff, Meter};

/// Why a guest did not run to its end.
pub(crate) enum Stop {
    /// The engine's word while the guest was made.
    Start(Error),
    /// The engine's word while it ran.
    Engine(Error),
    /// We said no, before it ran or of what it gave.
    Refused(Failure),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// What a guest's end means.
pub(crate) fn judge<T>(
    ended: Result<Result<T, Stop>, CutOff>,
    limits: &Limits,
    pool: u32,
    meter: &Meter,
    parts: &[Part],
) -> Result<T, Failure> {
    let sort = |error: &Error| Failure::sort(error, limits, pool, meter, parts);
    match ended {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Stop::Refused(failure))) => Err(failure),
        Ok(Err(Stop::Engine(error))) => Err(sort(&error)),
        // Making an instance runs little or nothing of the guest: what fails there without a trap is the host's.
        Ok(Err(Stop::Start(error))) => Err(match sort(&error) {
            Failure::Trap { .. } if !error.is::<WasmBacktrace>() && !error.is::<Trap>() => {
                Failure::Internal { cause: format!("{error:#}") }
            }
            failure => failure,
        }),
        Err(CutOff::WallSpent) => {
            Err(Failure::Deadline { limit: Limit::Wall(limits.wall), place: Place::default() })
        }
        Err(CutOff::Panicked(cause)) => Err(Failure::Internal { cause }),
    }
}

/// Whether an error came from reading what the guest returned, not from running it, nor from its being more than one
/// call may copy.
pub(crate) fn is_lift_error(error: &Error) -> bool {
    !(error.is::<WasmBacktrace>()
        || error.is::<Trap>()
        || error.is::<CpuSpent>()
        || error.is::<I32Exit>()
        || is_host_call_error(error))
}
