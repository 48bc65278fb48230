//! `wasi:clocks/monotonic-clock` where a grant sets the time: the same in every request that does the same.
//!
//! It begins at zero. Each reading moves it on by a microsecond, and each wait that is over moves it to where that wait
//! ended. A wait takes as long as it says; only how long it took in truth is not to be seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{Accessor, LinkerInstance, Resource, ResourceTable};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::HostMonotonicClock;
use wasmtime_wasi::clocks::WasiClocks;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock as clock02;
use wasmtime_wasi::p3::bindings::clocks::monotonic_clock as clock03;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use crate::host::{self, Host};

/// How far a reading moves the clock on.
const STEP_NS: u64 = 1_000;

/// A clock that only the guest moves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steady(Arc<AtomicU64>);

impl HostMonotonicClock for Steady {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.0.fetch_add(STEP_NS, Relaxed)
    }
}

impl Steady {
    fn wait_for(&self, duration_ns: u64) -> Wait {
        let until_ns = self.0.load(Relaxed).saturating_add(duration_ns);
        let over = Instant::now().checked_add(Duration::from_nanos(duration_ns));
        Wait { clock: self.clone(), until_ns, over, has_let_others: duration_ns > 0 }
    }

    fn wait_until(&self, when_ns: u64) -> Wait {
        self.wait_for(when_ns.saturating_sub(self.0.load(Relaxed)))
    }
}

/// A wait, and where the clock is when it is over.
struct Wait {
    clock: Steady,
    until_ns: u64,
    /// `None` for a time that never comes.
    over: Option<Instant>,
    /// A guest that polls again and again with waits of nothing must not keep the thread from seeing what has come.
    has_let_others: bool,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Wait {
    async fn ready(&mut self) {
        if !std::mem::replace(&mut self.has_let_others, true) {
            tokio::task::yield_now().await;
        }
        match self.over {
            Some(over) => tokio::time::sleep_until(over).await,
            None => std::future::pending().await,
        }
        self.clock.0.fetch_max(self.until_ns, Relaxed);
    }
}

/// `subscribe-instant` and `subscribe-duration` of 0.2. They take the place of the engine's.
pub(super) fn waits02(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    type Subscribed = Result<(Resource<DynPollable>,)>;
    fn pollable(table: &mut ResourceTable, wait: Wait) -> Subscribed {
        let wait = table.push(wait)?;
        Ok((subscribe(table, wait)?,))
    }
    instance.func_wrap(
        "subscribe-instant",
        move |mut store: StoreContextMut<'_, Host>, (when,): (u64,)| -> Subscribed {
            let host = store.data_mut();
            match host::steady(who)(host) {
                Some(clock) => pollable(&mut host.table, clock.wait_until(when)),
                None => Ok((clock02::Host::subscribe_instant(&mut host::clocks(who)(host), when)?,)),
            }
        },
    )?;
    instance.func_wrap(
        "subscribe-duration",
        move |mut store: StoreContextMut<'_, Host>, (duration,): (u64,)| -> Subscribed {
            let host = store.data_mut();
            match host::steady(who)(host) {
                Some(clock) => pollable(&mut host.table, clock.wait_for(duration)),
                None => Ok((clock02::Host::subscribe_duration(&mut host::clocks(who)(host), duration)?,)),
            }
        },
    )
}

/// `wait-until` and `wait-for` of 0.3. They take the place of the engine's.
pub(super) fn waits03(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use clock03::HostWithStore;
    let steady = move |store: &Accessor<Host>| store.with(|mut access| host::steady(who)(access.data_mut()));
    instance.func_wrap_concurrent("wait-until", move |store: &Accessor<Host>, (when,): (u64,)| {
        Box::pin(async move {
            match steady(store) {
                Some(clock) => clock.wait_until(when).ready().await,
                None => {
                    let store = &store.with_getter::<WasiClocks>(host::clocks(who));
                    <WasiClocks as HostWithStore<Host>>::wait_until(store, when).await?;
                }
            }
            Ok(())
        })
    })?;
    instance.func_wrap_concurrent("wait-for", move |store: &Accessor<Host>, (duration,): (u64,)| {
        Box::pin(async move {
            match steady(store) {
                Some(clock) => clock.wait_for(duration).ready().await,
                None => {
                    let store = &store.with_getter::<WasiClocks>(host::clocks(who));
                    <WasiClocks as HostWithStore<Host>>::wait_for(store, duration).await?;
                }
            }
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_moved_by_readings_and_by_waits_that_are_over() {
        let clock = Steady::default();
        assert_eq!([clock.now(), clock.now()], [0, STEP_NS]);
        let (mut long, mut short) = (clock.wait_for(5_000_000), clock.wait_for(3_000_000));
        short.ready().await;
        assert_eq!(clock.now(), 2 * STEP_NS + 3_000_000, "the longer one is not over");
        long.ready().await;
        assert_eq!(clock.now(), 2 * STEP_NS + 5_000_000);
        let now = clock.0.load(Relaxed);
        let began = Instant::now();
        clock.wait_until(now + 7).ready().await;
        clock.wait_until(0).ready().await;
        assert_eq!(clock.now(), now + 7);
        assert!(began.elapsed() < Duration::from_millis(10));
        assert!(
            tokio::time::timeout(Duration::from_secs(1_000), clock.wait_for(u64::MAX).ready()).await.is_err()
        );
    }
}
