//! What each component of a composition takes of what the whole is billed for.
//!
//! Requests are billed as a whole: components call each other without the host's knowing. Who it was is found by looking.
//! Of processor time: at each tick that finds the guest running, whose code it is in; over many requests each component is
//! found as often as it runs. Of memory: at the end of each request, what each component's own memories hold.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use wasmtime::{AsContext, Store, WasmBacktrace};

use crate::crash::place;
use crate::engine::Part;
use crate::meter::{TICK, nanos};

/// Every tick of a request is looked at up to this one; then one in so many, which counts for all of those.
const LOOKS: u32 = 4;

/// The ticks that have found the guest of one request running.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    ticks: u32,
    /// What the request had spent at the last tick that was looked at.
    spent: Duration,
}

impl Looks {
    /// One more tick: the processor time that it stands for when it is to be looked at.
    ///
    /// The first stands for a tick, as it may come at any time of it: over many requests that is what they take. From
    /// then on it is what the guest was on the processor for, which is less than the time between two ticks where others
    /// are on it too.
    fn ticked(&mut self, spent: Duration) -> Option<Duration> {
        let ticks = self.ticks;
        self.ticks = ticks.wrapping_add(1);
        if ticks > LOOKS && !ticks.is_multiple_of(LOOKS) {
            return None;
        }
        let since = spent.saturating_sub(std::mem::replace(&mut self.spent, spent));
        Some(if ticks == 0 { TICK } else { since })
    }
}

/// What the components of one composition have used, over all of its requests.
#[derive(Debug)]
pub struct Shares(Vec<Share>);

#[derive(Debug)]
struct Share {
    name: String,
    range: Range<usize>,
    cpu_ns: AtomicU64,
    memory_byte_us: AtomicU64,
    memory_bytes: AtomicU64,
}

/// What one component has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentUse {
    /// Its name in the composition.
    pub name: String,
    /// Processor time, estimated: what was spent between two looks is counted for whose code the second finds running.
    /// What the host did for a component is that of the code that runs next.
    pub cpu: Duration,
    /// The memory it had at the ends of requests, times how long those took: in bytes times microseconds.
    pub memory_byte_us: u64,
    /// The most memory it had at the end of a request, in bytes.
    pub memory_bytes: u64,
}

impl Shares {
    /// Counts for the parts of a composition; `None` for a component that is not composed, whose bill is its own.
    pub(crate) fn of(parts: &[Part]) -> Option<Arc<Self>> {
        let share = |part: &Part| Share {
            name: part.name.clone(),
            range: part.range.clone(),
            cpu_ns: AtomicU64::new(0),
            memory_byte_us: AtomicU64::new(0),
            memory_bytes: AtomicU64::new(0),
        };
        (parts.len() > 1).then(|| Arc::new(Self(parts.iter().map(share).collect())))
    }

    /// What each has used until now, in the order of the composition.
    pub fn used(&self) -> Vec<ComponentUse> {
        let used = |share: &Share| ComponentUse {
            name: share.name.clone(),
            cpu: Duration::from_nanos(share.cpu_ns.load(Relaxed)),
            memory_byte_us: share.memory_byte_us.load(Relaxed),
            memory_bytes: share.memory_bytes.load(Relaxed),
        };
        self.0.iter().map(used).collect()
    }

    fn at(&self, offset: usize) -> Option<&Share> {
        self.0.iter().find(|share| share.range.contains(&offset))
    }

    /// A tick has found the guest of a request running, which has `spent` so much by now: whose code is it in?
    pub(crate) fn look(&self, looks: &mut Looks, spent: Duration, guest: impl AsContext) {
        let Some(stands_for) = looks.ticked(spent) else { return };
        // What is between two components, to hand values over, is nobody's: who called it is found behind it.
        let stack = WasmBacktrace::force_capture(guest);
        let found = stack.frames().iter().filter_map(place);
        if let Some(share) = found.filter_map(|offset| self.at(offset)).next() {
            share.cpu_ns.fetch_add(nanos(stands_for), Relaxed);
        }
    }

    /// A request that took so long has ended in this sandbox.
    pub(crate) fn hold<T>(&self, sandbox: &Store<T>, wall: Duration) {
        let us = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        for (offset, bytes) in sandbox.memory_sizes() {
            let Some(share) = self.at(offset) else { continue };
            let bytes = bytes as u64;
            share.memory_byte_us.fetch_add(bytes.saturating_mul(us), Relaxed);
            share.memory_bytes.fetch_max(bytes, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_stands_for_what_was_spent_since_the_one_before() {
        let ms = Duration::from_millis;
        let mut looks = Looks::default();
        assert_eq!(looks.ticked(Duration::ZERO), Some(TICK), "whenever it comes");
        // Two ticks later by the wall, others were on the processor.
        assert_eq!(looks.ticked(ms(1)), Some(ms(1)));
        assert_eq!(looks.ticked(ms(1)), Some(Duration::ZERO));
        assert_eq!((looks.ticked(ms(2)), looks.ticked(ms(3))), (Some(ms(1)), Some(ms(1))));
        let seen: Vec<_> = (4..12).map(|spent| looks.ticked(ms(spent))).collect();
        assert_eq!(seen, [None, None, None, Some(ms(4)), None, None, None, Some(ms(4))]);
    }

    #[test]
    fn only_what_is_composed_has_shares() {
        let part = |name: &str, range| Part { name: name.into(), range };
        assert!(Shares::of(&[]).is_none());
        assert!(Shares::of(&[part("app", 0..10)]).is_none());
        let shares = Shares::of(&[part("front", 8..20), part("back", 20..40)]).unwrap();
        assert_eq!(shares.at(20).unwrap().name, "back");
        assert!(shares.at(7).is_none());
        assert_eq!(shares.used()[0].cpu, Duration::ZERO);
    }
}
