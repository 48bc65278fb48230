//! Ctrl-C and SIGTERM while servers of ours are running: first they are stopped, then we are.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::{Failure, Result};

static ASKED_TO_STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on the signals are noted instead of ending the program.
pub(crate) fn listen() -> Result<()> {
    let flag = ASKED_TO_STOP.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag))
            .map_err(|error| Failure::new(format!("signal {signal} cannot be handled: {error}")))?;
    }
    Ok(())
}

/// Whether somebody asked us to stop.
pub(crate) fn asked_to_stop() -> bool {
    ASKED_TO_STOP.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// An error when somebody asked us to stop.
pub(crate) fn check() -> Result<()> {
    if asked_to_stop() { Err(Failure::new("interrupted")) } else { Ok(()) }
}
