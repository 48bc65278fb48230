//! A resource, for the callers and for the component that answers: how many there are of it is counted.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::exports::test::matrix::counters::{Colour, Counter, CounterBorrow, Guest, GuestCounter, Step};

static LIVE: AtomicU32 = AtomicU32::new(0);

pub struct Mine {
    value: Cell<u32>,
    colour: Colour,
}

impl Drop for Mine {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Relaxed);
    }
}

impl GuestCounter for Mine {
    fn new(start: u32, colour: Colour) -> Self {
        LIVE.fetch_add(1, Relaxed);
        Self { value: Cell::new(start), colour }
    }
    fn add(&self, step: Step) -> u32 {
        self.value.set(self.value.get() + step.by + step.label.len() as u32);
        self.value.get()
    }
    fn colour(&self) -> Colour {
        self.colour
    }
    fn merge(a: Counter, b: CounterBorrow<'_>) -> Counter {
        let (a, b) = (a.get::<Mine>(), b.get::<Mine>());
        Counter::new(Self::new(a.value.get() + b.value.get(), b.colour))
    }
}

impl Guest for crate::Component {
    type Counter = Mine;

    fn make(start: u32) -> Counter {
        Counter::new(Mine::new(start, Colour::Green))
    }
    fn read(counter: CounterBorrow<'_>) -> u32 {
        counter.get::<Mine>().value.get()
    }
    fn close(counter: Counter) -> u32 {
        counter.get::<Mine>().value.get()
    }
    fn live() -> u32 {
        LIVE.load(Relaxed)
    }
}
