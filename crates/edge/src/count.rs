//! What was seen of requests: how they ended, how long they took, and what they cost. Counting is adding to a few numbers
//! that only requests of the same app share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tenon_engine::{Bill, Failure, Limit};
use tenon_model::Seen;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The guest answered, with a status below 500.
    Answered,
    /// The guest answered with a status of 500 or more.
    Errored,
    /// The guest trapped, panicked or exited.
    Trapped,
    /// The guest ran out of memory.
    OutOfMemory,
    /// The guest used up its processor time.
    CpuDeadline,
    /// The request's time on the wall was over.
    WallDeadline,
    /// The guest, or its response, ran into another limit.
    OverLimit,
    /// The guest gave no response, or one that cannot be sent.
    NoResponse,
    /// The request could not be given to the guest.
    Rejected,
    /// Refused before a guest ran, by a quota, a limit or the breaker.
    Refused,
    /// The client went away first.
    Gone,
    /// Ours.
    Internal,
}

impl Outcome {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 12] = [
        Self::Answered,
        Self::Errored,
        Self::Trapped,
        Self::OutOfMemory,
        Self::CpuDeadline,
        Self::WallDeadline,
        Self::OverLimit,
        Self::NoResponse,
        Self::Rejected,
        Self::Refused,
        Self::Gone,
        Self::Internal,
    ];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Errored => "errored",
            Self::Trapped => "trapped",
            Self::OutOfMemory => "out-of-memory",
            Self::CpuDeadline => "cpu-deadline",
            Self::WallDeadline => "wall-deadline",
            Self::OverLimit => "over-limit",
            Self::NoResponse => "no-response",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Internal => "internal",
        }
    }

    /// Whether the guest failed by itself: nothing that a client does slowly, and nothing that the node lacks, is its
    /// doing.
    pub fn is_crash(self) -> bool {
        matches!(self, Self::Trapped | Self::OutOfMemory | Self::CpuDeadline | Self::OverLimit)
    }

    /// Whether the client was told of a failure, with a status of 500 or more.
    pub fn is_error(self) -> bool {
        self.is_crash()
            || matches!(self, Self::Errored | Self::WallDeadline | Self::NoResponse | Self::Internal)
    }

    /// The same, now that the status is known that was answered with: a guest that says itself that it failed did fail.
    pub(crate) fn answered_with(self, status: u16) -> Self {
        if self == Self::Answered && status >= 500 { Self::Errored } else { self }
    }

    /// How a guest's run ended: to its end, broken off, or with a failure.
    pub(crate) fn of(ended: &Result<bool, Failure>) -> Self {
        match ended {
            Ok(true) => Self::Answered,
            Ok(false) => Self::Gone,
            Err(failure) => Self::of_failure(failure),
        }
    }

    pub(crate) fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Trap { .. } => Self::Trapped,
            // What all of a tenant's requests have is used up: not this guest's doing.
            Failure::OutOfMemory { limit: Limit::AccountMemory(_), .. } => Self::Refused,
            Failure::OutOfMemory { .. } => Self::OutOfMemory,
            Failure::Deadline { limit: Limit::Cpu(_), .. } => Self::CpuDeadline,
            Failure::Deadline { .. } => Self::WallDeadline,
            Failure::Exceeded { .. } => Self::OverLimit,
            Failure::PoolExhausted { .. } => Self::Refused,
            Failure::NoResponse { .. } | Failure::InvalidResponse { .. } => Self::NoResponse,
            Failure::BadRequest { .. } | Failure::RequestTooLarge { .. } => Self::Rejected,
            Failure::Internal { .. } => Self::Internal,
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Buckets of a histogram.
pub const BUCKETS: usize = 108;
/// Buckets between a power of two and the next.
const PARTS_BITS: u32 = 2;

/// The bucket that a number of microseconds is counted in. The last one holds everything from some four minutes on.
fn bucket(us: u64) -> usize {
    const PARTS: u64 = 1 << PARTS_BITS;
    if us < PARTS {
        return usize::try_from(us).unwrap_or(0);
    }
    let power = us.ilog2();
    let part = (us >> (power - PARTS_BITS)) & (PARTS - 1);
    let index = u64::from(power - PARTS_BITS + 1) * PARTS + part;
    usize::try_from(index).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The least number of microseconds that is counted in a later bucket.
fn bucket_end(index: usize) -> u64 {
    let (group, part) = (index >> PARTS_BITS, (index & ((1 << PARTS_BITS) - 1)) as u64);
    match u32::try_from(group).unwrap_or(0).checked_sub(1) {
        None => part + 1,
        Some(shift) => ((1 << PARTS_BITS) + part + 1) << shift,
    }
}

/// Counts of requests.
#[derive(Debug)]
pub struct Counters {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    cpu_us: AtomicU64,
    memory_kib_ms: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// By outcome. Most revisions only ever see one or two of them.
    latency: [OnceLock<Box<Latency>>; Outcome::ALL.len()],
    shadow_same: AtomicU64,
    shadow_different: AtomicU64,
    messages_handled: AtomicU64,
    messages_failed: AtomicU64,
}

/// How long requests took.
#[derive(Debug)]
struct Latency {
    sum_us: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Latency {
    fn default() -> Self {
        Self { sum_us: AtomicU64::default(), buckets: std::array::from_fn(|_| AtomicU64::default()) }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            outcomes: std::array::from_fn(|_| AtomicU64::default()),
            cpu_us: AtomicU64::default(),
            memory_kib_ms: AtomicU64::default(),
            received_bytes: AtomicU64::default(),
            sent_bytes: AtomicU64::default(),
            latency: std::array::from_fn(|_| OnceLock::new()),
            shadow_same: AtomicU64::default(),
            shadow_different: AtomicU64::default(),
            messages_handled: AtomicU64::default(),
            messages_failed: AtomicU64::default(),
        }
    }
}

/// What one request adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) outcome: Outcome,
    pub(crate) cpu: Duration,
    /// From its arrival to the guest's end.
    pub(crate) latency: Duration,
    /// Of that, while it had memory.
    pub(crate) wall: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}

impl Counters {
    /// Counts a request that a guest ran for.
    pub(crate) fn count(&self, counted: &Counted) {
        self.outcomes[counted.outcome.index()].fetch_add(1, Relaxed);
        self.bill(counted.cpu, counted.memory_bytes, counted.wall);
        for (counter, bytes) in
            [(&self.received_bytes, counted.received_bytes), (&self.sent_bytes, counted.sent_bytes)]
        {
            if bytes > 0 {
                counter.fetch_add(bytes, Relaxed);
            }
        }
        let latency_us = micros(counted.latency);
        let latency = self.latency[counted.outcome.index()].get_or_init(Box::default);
        latency.sum_us.fetch_add(latency_us, Relaxed);
        latency.buckets[bucket(latency_us)].fetch_add(1, Relaxed);
    }

    /// Counts a request that no guest ran for.
    pub(crate) fn count_refused(&self, outcome: Outcome) {
        self.outcomes[outcome.index()].fetch_add(1, Relaxed);
    }

    fn bill(&self, cpu: Duration, memory_bytes: u64, wall: Duration) {
        self.cpu_us.fetch_add(micros_rounded(cpu), Relaxed);
        let memory_kib_ms = (memory_bytes >> 10).saturating_mul(micros(wall)) / 1_000;
        self.memory_kib_ms.fetch_add(memory_kib_ms, Relaxed);
    }

    /// Counts a message that a guest ran for. It costs what a request costs, and is none: a rollout is not judged by it.
    pub(crate) fn count_message(&self, handled: bool, bill: &Bill) {
        let counter = if handled { &self.messages_handled } else { &self.messages_failed };
        counter.fetch_add(1, Relaxed);
        self.bill(bill.cpu, bill.memory_bytes, bill.wall);
    }

    /// Counts an answer to a copied request that was compared with the other revision's.
    pub(crate) fn count_shadow(&self, same: bool) {
        let counter = if same { &self.shadow_same } else { &self.shadow_different };
        counter.fetch_add(1, Relaxed);
    }

    /// What was counted until now. Numbers that requests change meanwhile may be of different moments.
    pub fn snapshot(&self) -> CounterSnapshot {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        let (mut latency_us, mut latency) = (0, [0; BUCKETS]);
        for of_outcome in self.latency.iter().filter_map(OnceLock::get) {
            latency_us += load(&of_outcome.sum_us);
            for (sum, bucket) in latency.iter_mut().zip(&of_outcome.buckets) {
                *sum += load(bucket);
            }
        }
        CounterSnapshot {
            outcomes: self.outcomes.each_ref().map(load),
            cpu_us: load(&self.cpu_us),
            memory_kib_ms: load(&self.memory_kib_ms),
            received_bytes: load(&self.received_bytes),
            sent_bytes: load(&self.sent_bytes),
            latency_us,
            latency,
            shadow_same: load(&self.shadow_same),
            shadow_different: load(&self.shadow_different),
            messages_handled: load(&self.messages_handled),
            messages_failed: load(&self.messages_failed),
        }
    }

    /// How long the requests of each outcome took, of those that there were.
    pub fn latencies(&self) -> Vec<Latencies> {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        let of = |outcome: Outcome| {
            let latency = self.latency[outcome.index()].get()?;
            let buckets = latency.buckets.each_ref().map(load);
            Some(Latencies { outcome, sum_us: load(&latency.sum_us), buckets })
        };
        Outcome::ALL.into_iter().filter_map(of).collect()
    }
}

/// How long the requests of one outcome took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// How they ended.
    pub outcome: Outcome,
    /// The sum of them, in microseconds.
    pub sum_us: u64,
    /// Requests by how long they took, in the buckets of [`CounterSnapshot::latency`].
    pub buckets: [u64; BUCKETS],
}

impl Latencies {
    /// Requests there were.
    pub fn requests(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Those that took no longer than this, as far as the buckets say.
    pub fn below(&self, end_us: u64) -> u64 {
        let ended = self.buckets.iter().enumerate().take_while(|(index, _)| bucket_end(*index) <= end_us);
        ended.map(|(_, count)| count).sum()
    }
}

/// What [`Counters`] had counted at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterSnapshot {
    /// Requests by how they ended, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Time on the processor, in microseconds.
    pub cpu_us: u64,
    /// Memory over time: kibibytes times milliseconds.
    pub memory_kib_ms: u64,
    /// Bytes of request bodies.
    pub received_bytes: u64,
    /// Bytes of response bodies.
    pub sent_bytes: u64,
    /// The sum of all latencies, in microseconds.
    pub latency_us: u64,
    /// Requests by their latency, in buckets of which each ends a quarter later than the one before at most.
    pub latency: [u64; BUCKETS],
    /// Copied requests that both revisions answered alike.
    pub shadow_same: u64,
    /// Copied requests that they answered differently.
    pub shadow_different: u64,
    /// Messages that were handled.
    pub messages_handled: u64,
    /// Attempts to handle a message that failed.
    pub messages_failed: u64,
}

impl Default for CounterSnapshot {
    fn default() -> Self {
        Counters::default().snapshot()
    }
}

impl CounterSnapshot {
    /// Requests that ended so.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome.index()]
    }

    /// All requests that a guest ran for.
    pub fn requests(&self) -> u64 {
        self.latency.iter().sum()
    }

    /// Buckets of latencies: the microseconds that all of a bucket are below, and how many are in it.
    fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.latency.iter().enumerate().map(|(index, count)| (bucket_end(index), *count))
    }

    /// The latency that `per_mille` of a thousand requests were below, in microseconds, rounded up to its bucket's end;
    /// zero when there was none.
    pub fn quantile_us(&self, per_mille: u32) -> u64 {
        let all = u128::from(self.requests());
        let rank = (all * u128::from(per_mille)).div_ceil(1_000);
        let mut below: u128 = 0;
        for (end, count) in self.buckets() {
            below += u128::from(count);
            if below > 0 && below >= rank {
                return end;
            }
        }
        0
    }

    /// Requests that took longer than so many microseconds; those in the bucket that this is in are among them, unless it ends
    /// there.
    pub fn slower_than(&self, us: u64) -> u64 {
        self.buckets().filter(|(end, _)| *end > us).map(|(_, count)| count).sum()
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn with(&self, other: &Self, operation: impl Fn(u64, u64) -> u64) -> Self {
        let of = &operation;
        Self {
            outcomes: std::array::from_fn(|index| of(self.outcomes[index], other.outcomes[index])),
            cpu_us: of(self.cpu_us, other.cpu_us),
            memory_kib_ms: of(self.memory_kib_ms, other.memory_kib_ms),
            received_bytes: of(self.received_bytes, other.received_bytes),
            sent_bytes: of(self.sent_bytes, other.sent_bytes),
            latency_us: of(self.latency_us, other.latency_us),
            latency: std::array::from_fn(|index| of(self.latency[index], other.latency[index])),
            shadow_same: of(self.shadow_same, other.shadow_same),
            shadow_different: of(self.shadow_different, other.shadow_different),
            messages_handled: of(self.messages_handled, other.messages_handled),
            messages_failed: of(self.messages_failed, other.messages_failed),
        }
    }

    /// What a rollout is judged by.
    pub fn seen(&self) -> Seen {
        let sum = |wanted: fn(Outcome) -> bool| {
            Outcome::ALL.into_iter().filter(|outcome| wanted(*outcome)).map(|outcome| self.of(outcome)).sum()
        };
        Seen {
            requests: self.requests(),
            errors: sum(Outcome::is_error),
            crashes: sum(Outcome::is_crash),
            p99_us: self.quantile_us(990),
        }
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// To the nearest, so that many short requests do not add up to nothing.
fn micros_rounded(duration: Duration) -> u64 {
    micros(duration.saturating_add(Duration::from_nanos(500)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(outcome: Outcome, latency_us: u64) -> Counted {
        Counted {
            outcome,
            cpu: Duration::from_micros(3),
            latency: Duration::from_micros(latency_us),
            wall: Duration::from_millis(2),
            memory_bytes: 1 << 20,
            received_bytes: 5,
            sent_bytes: 7,
        }
    }

    #[test]
    fn every_latency_is_in_a_bucket_that_is_near_it() {
        for us in (0..5_000).chain([1 << 20, (1 << 25) + 12_345, 60_000_000]) {
            let index = bucket(us);
            let begin = index.checked_sub(1).map_or(0, bucket_end);
            assert!((begin..bucket_end(index)).contains(&us), "{us} in {begin}..{}", bucket_end(index));
            assert!(bucket_end(index) - begin <= (us / 4).max(1), "{us}: a bucket is a quarter wide at most");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_counted_is_what_is_seen() {
        let counters = Counters::default();
        for _ in 0..98 {
            counters.count(&counted(Outcome::Answered, 100));
        }
        let before = counters.snapshot();
        counters.count(&counted(Outcome::Trapped, 40_000));
        counters.count(&counted(Outcome::Errored, 40_000));
        counters.count_refused(Outcome::Refused);
        let seen = counters.snapshot();
        assert_eq!((seen.requests(), seen.cpu_us, seen.memory_kib_ms), (100, 300, 204_800));
        assert_eq!((seen.received_bytes, seen.sent_bytes, seen.of(Outcome::Refused)), (500, 700, 1));
        assert_eq!((seen.quantile_us(500), seen.quantile_us(980), seen.quantile_us(990)), (112, 112, 40_960));
        assert_eq!(seen.seen(), Seen { requests: 100, errors: 2, crashes: 1, p99_us: 40_960 });
        assert_eq!([111, 112, 40_960].map(|us| seen.slower_than(us)), [100, 2, 0]);
        assert_eq!(seen.since(&before).seen().requests, 2);
        assert_eq!(before.plus(&seen.since(&before)), seen);
        assert_eq!(CounterSnapshot::default().quantile_us(990), 0);
        let latencies = counters.latencies();
        let told: Vec<_> = latencies
            .iter()
            .map(|it| (it.outcome, it.requests(), it.sum_us, it.below(1_000), it.below(100_000)))
            .collect();
        let (answered, errored) = (Outcome::Answered, Outcome::Errored);
        assert_eq!(
            told,
            [(answered, 98, 9_800, 98, 98), (errored, 1, 40_000, 0, 1), (Outcome::Trapped, 1, 40_000, 0, 1)]
        );
        assert_eq!(latencies.iter().map(|it| it.sum_us).sum::<u64>(), seen.latency_us);
    }
}
