//! The last lines a request's guest wrote, and its core dump.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use http::HeaderValue;
use wasmtime::{Error, Store, WasmCoreDump};

use super::report::{CrashLine, cut};
use crate::capability::Spent;
use crate::host::Host;

/// Lines that are kept of one request: its last ones.
const LINES_MAX: usize = 32;
/// A longer line is cut.
const LINE_BYTES_MAX: usize = 512;

/// What is kept of a request while it runs, in case it fails.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    kept: Mutex<Kept>,
    /// What requests that the guest sends say of the trace they are part of.
    trace: OnceLock<HeaderValue>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<CrashLine>,
    core_dump: Option<Vec<u8>>,
    called: Option<Called>,
    used: Option<Used>,
}

/// The function that a request called by its name.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    /// Its full name.
    pub(crate) function: Arc<str>,
    /// What it was called with, where that is kept.
    pub(crate) arguments: Option<String>,
}

/// What a sandbox had used up of its limits when it was taken down.
#[derive(Debug)]
pub(crate) struct Used {
    pub(crate) table_elements: u64,
    /// Resources of the host that the guest held.
    pub(crate) handles: u64,
    /// Of each component that asked the host for something.
    pub(crate) outside: Vec<Spent>,
}

impl Trail {
    /// Sets what requests that the guest sends say of the trace they are part of. Once: a request is part of one trace.
    pub(crate) fn set_trace(&self, trace: HeaderValue) {
        let _ = self.trace.set(trace);
    }

    /// The trace that the request is part of.
    pub(crate) fn trace_id(&self) -> Option<String> {
        // `version-trace-parent-flags` ("Trace Context", section 3.2).
        self.trace.get()?.to_str().ok()?.split('-').nth(1).map(str::to_owned)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Only ever used by the thread that polls the guest: never waited for.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: CrashLine) {
        let mut kept = self.kept();
        if kept.lines.len() == LINES_MAX {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
    }

    pub(crate) fn take_lines(&self) -> Vec<CrashLine> {
        std::mem::take(&mut self.kept().lines).into()
    }

    /// Takes over the lines of the sandbox that the request was in with others.
    pub(crate) fn adopt(&self, lines: Vec<CrashLine>) {
        self.kept().lines = lines.into();
    }

    pub(crate) fn keep_called(&self, called: Called) {
        self.kept().called = Some(called);
    }

    pub(crate) fn take_called(&self) -> Option<Called> {
        self.kept().called.take()
    }

    pub(crate) fn keep_used(&self, used: Used) {
        self.kept().used = Some(used);
    }

    pub(crate) fn take_used(&self) -> Option<Used> {
        self.kept().used.take()
    }

    pub(crate) fn keep_core_dump(&self, dump: Vec<u8>) {
        self.kept().core_dump = Some(dump);
    }

    pub(crate) fn take_core_dump(&self) -> Option<Vec<u8>> {
        self.kept().core_dump.take()
    }
}

thread_local! {
    /// The trail of the request whose guest this thread polls.
    static CURRENT: RefCell<Option<Arc<Trail>>> = const { RefCell::new(None) };
}

/// Exchanges the trail that lines of this thread go to: called with a request's before its guest is polled, and with
/// the same value again afterwards.
pub(crate) fn enter(trail: &mut Option<Arc<Trail>>) {
    CURRENT.with(|current| std::mem::swap(&mut *current.borrow_mut(), trail));
}

/// What a request says of its trace that this thread's guest sends.
pub(crate) fn trace() -> Option<HeaderValue> {
    CURRENT.with(|current| current.borrow().as_ref()?.trace.get().cloned())
}

/// Keeps a line that the guest of this thread's request wrote.
pub(crate) fn remember(stream: &str, text: &str) {
    CURRENT.with(|current| {
        if let Some(trail) = &*current.borrow() {
            trail.push(CrashLine { stream: stream.to_owned(), text: cut(text, LINE_BYTES_MAX) });
        }
    });
}

/// Keeps the core dump that an error carries, where the engine was told to make them.
pub(crate) fn core_dump(error: &Error, store: &mut Store<Host>, app: &str) {
    let Some(dump) = error.downcast_ref::<WasmCoreDump>() else { return };
    // The engine's writer of core dumps assumes things of a store that not every component keeps to; the failure itself
    // must be told whatever becomes of the dump.
    let dumped = catch_unwind(AssertUnwindSafe(|| dump.serialize(&mut *store, app)));
    match dumped {
        Ok(dump) => store.data().allowance.meter.trail.keep_core_dump(dump),
        Err(_) => tracing::warn!(app, "the core dump could not be made"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_the_request_that_is_polled_are_kept() {
        let trail = Arc::new(Trail::default());
        remember("stderr", "before");
        let mut slot = Some(Arc::clone(&trail));
        enter(&mut slot);
        assert!(slot.is_none());
        for number in 0..LINES_MAX + 3 {
            remember("stderr", &format!("line {number}"));
        }
        remember("stdout", &"ä".repeat(LINE_BYTES_MAX));
        enter(&mut slot);
        remember("stderr", "after");
        let lines = trail.take_lines();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines[0].text, "line 4");
        assert!(lines.iter().all(|line| line.text.len() <= LINE_BYTES_MAX + '…'.len_utf8()));
        assert!(trail.take_lines().is_empty());
    }
}
