//! Crash reports: what a failed request leaves behind for the person who looks into it.
//!
//! While a request runs, the last lines its guest wrote are kept with it ([`Trail`](trail::Trail)); when it fails, what
//! the engine knows is put into a [`CrashReport`] and handed to the one thread that writes reports ([`Crashes`]). The
//! request does not wait for it: the queue is bounded, and what does not fit is counted and left out. Offsets become
//! source lines when a report is shown, not when it is written.

mod report;
mod store;
mod trail;

pub use report::{
    CrashField, CrashFrame, CrashLine, CrashOutcome, CrashReport, CrashRequest, CrashSpan, CrashUse,
    CrashUsed,
};
pub use store::{CrashFolder, CrashPolicy, Crashes, CrashesError};

pub(crate) use report::{Boundary, FRAMES_MAX, Wreck, is_reported, place, stack};
pub(crate) use trail::{Called, Trail, Used, core_dump, enter, remember, trace};
