//! The end of a request: what it means, what is kept of it, and what it is recorded as.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use super::Service;
use crate::crash::{Boundary, Called, CrashFrame, Wreck, is_reported, stack};
use crate::crowd::{End, Seat};
use crate::failure::{Failure, Limit, Place};
use crate::meter::{CutOff, Meter};
use crate::respond::{Bill, Record, Recorder, Watch};
use crate::reuse::Sandbox;
use crate::stop::{self, Stop};

/// Records a request's end exactly once, also when its future is dropped half-way.
pub(super) struct Ending {
    pub(super) service: Arc<Service>,
    pub(super) meter: Arc<Meter>,
    pub(super) recorder: Option<Recorder>,
    pub(super) watch: Arc<Watch>,
    /// What a crash report tells of the request; `None` where none are written.
    pub(super) boundary: Option<Boundary>,
    /// What is called, where it is neither what requests call nor a function that one names.
    pub(super) function: Option<&'static str>,
    /// Where the guest was when it failed.
    pub(super) stack: Vec<CrashFrame>,
}

impl Ending {
    /// Says that the guest failed before its sandbox is gone, and with it the body: another thread may be looking at that.
    pub(super) fn foretell<T>(&self, ended: &Result<Result<T, Stop>, CutOff>) {
        if !matches!(ended, Ok(Ok(_))) {
            self.watch.failed.store(true, Relaxed);
        }
    }

    /// What a guest's end means.
    pub(super) fn judge<T>(&mut self, ended: Result<Result<T, Stop>, CutOff>) -> Result<T, Failure> {
        let Service { name, limits, pool, parts, .. } = &*self.service;
        if let (Some(_), Ok(Err(Stop::Engine(error) | Stop::Start(error)))) = (&self.boundary, &ended) {
            self.stack = stack(error, name, parts);
        }
        if self.watch.response_too_large.load(Relaxed) {
            return Err(Failure::Exceeded {
                limit: Limit::ResponseBody(limits.response_body_bytes),
                cause: "the response's body grew larger than it may; it was cut off".into(),
                place: Place::default(),
            });
        }
        // What a guest makes of a body that is cut off is not what happened.
        if self.watch.request_too_large.load(Relaxed)
            && matches!(ended, Ok(Err(Stop::Engine(_) | Stop::Start(_))))
        {
            return Err(Failure::RequestTooLarge { limit_bytes: limits.request_body_bytes });
        }
        stop::judge(ended, limits, *pool, &self.meter, parts)
    }

    /// What the end of a request means that was in a sandbox with others.
    pub(super) fn ended_among(&mut self, seat: &Seat, in_time: bool) -> Result<(), Failure> {
        if let Some(End { failure, stack, lines }) = seat.end() {
            self.stack = stack;
            self.meter.trail.adopt(lines);
            // A body that is too large is told as such, whatever the guest makes of it.
            self.judge(Ok(Ok(())))?;
            if self.watch.request_too_large.load(Relaxed) {
                let limit_bytes = self.service.limits.request_body_bytes;
                return Err(Failure::RequestTooLarge { limit_bytes });
            }
            return Err(failure);
        }
        self.judge(if in_time { Ok(Ok(())) } else { Err(CutOff::WallSpent) })
    }

    /// Keeps the sandbox of a request that went well for another one.
    pub(super) fn rest(&self, sandbox: Option<Sandbox>) {
        if let (Some(resting), Some(sandbox)) = (&self.service.resting, sandbox) {
            self.watch.cut_off_request();
            if self.watch.is_clean() {
                resting.put(sandbox);
            }
        }
    }

    pub(super) fn record(&mut self, outcome: Result<bool, Failure>) {
        if outcome != Ok(true) {
            self.watch.failed.store(true, Relaxed);
        }
        if let Some(recorder) = self.recorder.take() {
            // Messages say nothing of requests, and what was refused says nothing of the guest.
            if self.function.is_none() && !self.meter.spent().is_zero() {
                self.service.habit.note(self.meter.is_long());
            }
            let bill = Bill {
                wall: self.meter.wall(),
                cpu: self.meter.spent(),
                memory_bytes: self.meter.memory_bytes(),
            };
            let crash = outcome.as_ref().err().and_then(|failure| self.report(failure, &bill));
            recorder(Record { outcome, bill, ended: self.meter.at(bill.wall), crash });
        }
    }

    /// Hands a failure to whoever writes crash reports.
    fn report(&mut self, failure: &Failure, bill: &Bill) -> Option<Arc<str>> {
        let Service { name, digest, shape, limits, parts, crashes, principals, .. } = &*self.service;
        let crashes = crashes.as_ref().filter(|crashes| is_reported(failure) && crashes.admit())?;
        let (at, trail) = (SystemTime::now(), &self.meter.trail);
        let (function, arguments) = match trail.take_called() {
            Some(Called { function, arguments }) => (function.to_string(), arguments),
            None => (self.function.map_or_else(|| shape.to_string(), str::to_owned), None),
        };
        let wreck = Wreck {
            id: crashes.next_id(at),
            at,
            app: name,
            digest,
            files: &crashes.policy.files,
            function: &function,
            arguments: arguments.as_deref(),
            trace_id: trail.trace_id(),
            boundary: self.boundary.take()?,
            keep_arguments: crashes.policy.keep_arguments,
            failure,
            bill,
            limits,
            used: trail.take_used(),
            principals,
            parts,
            stack: std::mem::take(&mut self.stack),
            log: trail.take_lines(),
        };
        crashes.report(wreck, trail.take_core_dump())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.recorder.is_some() {
            self.record(Ok(false));
        }
    }
}
