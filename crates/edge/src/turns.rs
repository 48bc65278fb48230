//! A number of turns that requests take and give back, exactly, and a bounded queue of those that wait for one.
//!
//! Taking a free turn and giving one back that nobody waits for is one exchange of one word, which holds how many are
//! free and how many wait; the queue's lock is taken only where somebody waits. Those who wait are served in the order they
//! came, and nobody overtakes them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

/// More turns than any machine has room for: the count of free ones has 32 bits, and a sign.
const TURNS_MAX: u32 = 1 << 30;

/// The turns.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Free turns, which are fewer than none while more are out than there should be, and those who wait.
    word: AtomicU64,
    /// Turns there are, free or taken.
    all: AtomicU32,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// In the order of their numbers, except for moves, which are first and have none.
    waiting: VecDeque<(u64, Waiter)>,
}

#[derive(Debug)]
enum Waiter {
    /// A request.
    Request(oneshot::Sender<Handed>),
    /// The turn is to be one of those from now on.
    Move(Arc<Turns>),
}

/// As many wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

fn pack(free: i32, waiting: u32) -> u64 {
    u64::from(waiting) << 32 | u64::from(free.cast_unsigned())
}

fn unpack(word: u64) -> (i32, u32) {
    let low = u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
    (low.cast_signed(), u32::try_from(word >> 32).unwrap_or(0))
}

impl Turns {
    pub(crate) fn new(all: u32) -> Arc<Self> {
        let all = all.min(TURNS_MAX);
        let word = AtomicU64::new(pack(all.cast_signed(), 0));
        Arc::new(Self { word, all: AtomicU32::new(all), queue: Mutex::default() })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the word, if `change` says to what; whether it did.
    fn change(&self, change: impl Fn(i32, u32) -> Option<(i32, u32)>) -> bool {
        let change = |word| {
            let (free, waiting) = unpack(word);
            change(free, waiting).map(|(free, waiting)| pack(free, waiting))
        };
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }

    /// Takes a turn if one is free and nobody waits for it. It has to be [given back](Self::give).
    pub(crate) fn take(&self) -> bool {
        self.change(|free, waiting| (free > 0 && waiting == 0).then(|| (free - 1, 0)))
    }

    /// Gives a turn back: to whoever waits longest, or to the free ones.
    pub(crate) fn give(self: &Arc<Self>) {
        loop {
            // What is out beyond the number there should be is not handed on.
            if self.change(|free, waiting| (waiting == 0 || free < 0).then_some((free + 1, waiting))) {
                return;
            }
            match self.next() {
                // Who waited has gone meanwhile.
                None => {}
                Some(Waiter::Request(sender)) => match sender.send(Handed(Some(Arc::clone(self)))) {
                    Ok(()) => return,
                    Err(mut back) => back.0 = None,
                },
                Some(Waiter::Move(to)) => {
                    self.all.fetch_sub(1, Ordering::AcqRel);
                    to.all.fetch_add(1, Ordering::AcqRel);
                    return to.give();
                }
            }
        }
    }

    fn next(&self) -> Option<Waiter> {
        let mut queue = self.queue();
        let (_, waiter) = queue.waiting.pop_front()?;
        self.change(|free, waiting| Some((free, waiting.saturating_sub(1))));
        Some(waiter)
    }

    /// Waits for a turn, which has to be given back, behind those who wait already; no more than `waiting_max` may.
    pub(crate) fn wait(self: &Arc<Self>, waiting_max: u32) -> Result<Waiting, Full> {
        let mut queue = self.queue();
        // Under the lock nobody else begins to wait; a turn that is given back meanwhile is either seen here, or its
        // giver sees who waits.
        loop {
            if self.take() {
                return Ok(Waiting { turns: Arc::clone(self), state: State::Taken });
            }
            let may_wait = |free, waiting| (free <= 0 && waiting < waiting_max).then(|| (free, waiting + 1));
            if self.change(may_wait) {
                break;
            }
            if self.waiting() >= waiting_max {
                return Err(Full);
            }
        }
        let (sender, receiver) = oneshot::channel();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back((number, Waiter::Request(sender)));
        drop(queue);
        Ok(Waiting { turns: Arc::clone(self), state: State::Waits(number, receiver) })
    }

    /// Makes `count` of these turns be of `to`: free ones at once, others when they are given back, before anybody who waits
    /// gets them.
    pub(crate) fn hand(&self, to: &Arc<Self>, count: u32) {
        let mut queue = self.queue();
        let moved = AtomicU32::new(0);
        self.change(|free, waiting| {
            let now = count.min(u32::try_from(free).unwrap_or(0));
            moved.store(now, Ordering::Relaxed);
            Some((free - now.cast_signed(), waiting + (count - now)))
        });
        let moved = moved.into_inner();
        for _ in moved..count {
            queue.waiting.push_front((0, Waiter::Move(Arc::clone(to))));
        }
        drop(queue);
        self.all.fetch_sub(moved, Ordering::AcqRel);
        to.add(moved);
    }

    /// Takes back up to `count` moves to `to` that have not come about; how many.
    pub(crate) fn keep(&self, to: &Arc<Self>, count: u32) -> u32 {
        let mut queue = self.queue();
        let mut kept = 0;
        queue.waiting.retain(|(_, waiter)| {
            let is_one = kept < count && matches!(waiter, Waiter::Move(other) if Arc::ptr_eq(other, to));
            kept += u32::from(is_one);
            !is_one
        });
        self.change(|free, waiting| Some((free, waiting.saturating_sub(kept))));
        kept
    }

    /// Adds turns.
    fn add(self: &Arc<Self>, count: u32) {
        self.all.fetch_add(count, Ordering::AcqRel);
        for left in (0..count).rev() {
            let rest = left.cast_signed() + 1;
            if self.change(|free, waiting| (waiting == 0).then(|| (free.saturating_add(rest), 0))) {
                return;
            }
            self.give();
        }
    }

    /// Sets how many there are. Where fewer than are out, it comes about as they are given back.
    pub(crate) fn set_all(self: &Arc<Self>, all: u32) {
        let all = all.min(TURNS_MAX);
        let before = self.all();
        if all >= before {
            self.add(all - before);
        } else {
            let fewer = before - all;
            self.all.store(all, Ordering::Release);
            self.change(|free, waiting| Some((free.saturating_sub(fewer.cast_signed()), waiting)));
        }
    }

    /// How many there are.
    pub(crate) fn all(&self) -> u32 {
        self.all.load(Ordering::Acquire)
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> u32 {
        let (free, _) = unpack(self.word.load(Ordering::Acquire));
        let taken = i64::from(self.all()) - i64::from(free);
        u32::try_from(taken).unwrap_or(0)
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> u32 {
        unpack(self.word.load(Ordering::Acquire)).1
    }
}

/// A turn on its way to whoever waits for it. It goes back if nobody does any more.
#[derive(Debug)]
struct Handed(Option<Arc<Turns>>);

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.give();
        }
    }
}

/// Ends with a turn, which has to be given back. When this is dropped before, nobody waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    turns: Arc<Turns>,
    state: State,
}

#[derive(Debug)]
enum State {
    Taken,
    Waits(u64, oneshot::Receiver<Handed>),
    Over,
}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let State::Waits(_, receiver) = &mut self.state {
            // A sender is only dropped when this is.
            let Ok(mut handed) = ready!(Pin::new(receiver).poll(context)) else { return Poll::Pending };
            handed.0 = None;
        }
        self.state = State::Over;
        Poll::Ready(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        match &self.state {
            State::Over => {}
            State::Taken => self.turns.give(),
            State::Waits(number, _) => {
                let mut queue = self.turns.queue();
                let mine =
                    |(other, waiter): &(u64, Waiter)| other == number && matches!(waiter, Waiter::Request(_));
                // Not there where a turn is on its way: it comes back with the channel.
                if let Some(at) = queue.waiting.iter().position(mine) {
                    let sender = queue.waiting.remove(at);
                    self.turns.change(|free, waiting| Some((free, waiting.saturating_sub(1))));
                    drop(queue);
                    drop(sender);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_served_in_order_and_nobody_overtakes() {
        let turns = Turns::new(1);
        assert!(turns.take() && !turns.take());
        let mut first = turns.wait(2).unwrap();
        let mut second = turns.wait(2).unwrap();
        assert_eq!(turns.wait(2).unwrap_err(), Full);
        let is_ready = |waiting: &mut Waiting| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            Pin::new(waiting).poll(&mut context).is_ready()
        };
        assert!(!is_ready(&mut first) && !is_ready(&mut second));
        turns.give();
        assert!(!turns.take(), "it is on its way to the first");
        assert!(!is_ready(&mut second) && is_ready(&mut first));
        turns.give();
        assert!(is_ready(&mut second));
        turns.give();
        assert_eq!((turns.taken(), turns.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn who_goes_away_leaves_nothing_behind() {
        let turns = Turns::new(1);
        assert!(turns.take());
        let gone = turns.wait(8).unwrap();
        let handed = turns.wait(8).unwrap();
        let stays = turns.wait(8).unwrap();
        drop(gone);
        assert_eq!(turns.waiting(), 2);
        turns.give();
        // A turn was on its way to it.
        drop(handed);
        stays.await;
        assert_eq!((turns.taken(), turns.waiting()), (1, 0));
        turns.give();
        assert!(turns.take());
    }

    #[tokio::test]
    async fn fewer_come_about_as_they_are_given_back_and_more_at_once() {
        let turns = Turns::new(3);
        for _ in 0..3 {
            assert!(turns.take());
        }
        turns.set_all(1);
        let waiting = turns.wait(1).unwrap();
        turns.give();
        turns.give();
        assert_eq!((turns.taken(), turns.waiting()), (1, 1));
        turns.set_all(2);
        waiting.await;
        assert_eq!((turns.taken(), turns.all()), (2, 2));
        turns.give();
        turns.give();
        assert!(turns.take() && turns.take() && !turns.take());
    }

    #[test]
    fn turns_move_and_none_is_lost() {
        let (from, to) = (Turns::new(3), Turns::new(0));
        assert!(from.take() && from.take());
        from.hand(&to, 2);
        assert_eq!((from.all(), to.all()), (2, 1), "one was free");
        from.give();
        assert_eq!((from.all(), to.all()), (1, 2));
        assert!(to.take() && to.take() && !to.take());
        to.hand(&from, 2);
        assert_eq!(to.keep(&from, 5), 2);
        assert_eq!((from.all(), to.all(), to.taken()), (1, 2, 2));
        from.give();
        to.give();
        to.give();
        assert_eq!((from.taken(), to.taken()), (0, 0));
    }

    #[test]
    fn many_threads_never_hold_more_than_there_are() {
        const ALL: u32 = 3;
        let (turns, spare) = (Turns::new(ALL), Turns::new(0));
        let (held, most) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for seed in 0..6_u32 {
                let (turns, spare, held, most) = (&turns, &spare, &held, &most);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let mut draw = seed + 1;
                    for _ in 0..4_000 {
                        draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        if seed == 0 && draw.is_multiple_of(7) {
                            turns.hand(spare, 1);
                            let kept = turns.keep(spare, 1);
                            spare.hand(turns, 1 - kept);
                            continue;
                        }
                        let got = match draw >> 30 {
                            0 => turns.take(),
                            1 => {
                                // Gone before its turn.
                                drop(turns.wait(8));
                                false
                            }
                            _ => match turns.wait(8) {
                                Ok(waiting) => {
                                    runtime.block_on(waiting);
                                    true
                                }
                                Err(Full) => false,
                            },
                        };
                        if got {
                            let now = held.fetch_add(1, Relaxed) + 1;
                            most.fetch_max(now, Relaxed);
                            if draw.is_multiple_of(3) {
                                std::thread::yield_now();
                            }
                            held.fetch_sub(1, Relaxed);
                            turns.give();
                        }
                    }
                });
            }
        });
        assert_eq!((turns.all() + spare.all(), turns.taken(), turns.waiting()), (ALL, 0, 0));
        assert!(most.into_inner() <= ALL);
    }
}
