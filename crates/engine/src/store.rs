//! A fresh store: one sandbox's allowance and clocks.

use std::sync::Arc;

use tenon_model::Limits;
use wasmtime::{Store, UpdateDeadline};

use crate::host::Host;
use crate::meter::{Meter, Turn};
use crate::shares::Looks;

/// A store for one sandbox, whose processor time `meter` counts and bounds.
pub(crate) fn fresh(
    engine: &wasmtime::Engine,
    host: Host,
    limits: &Limits,
    meter: Arc<Meter>,
) -> Store<Host> {
    let mut store = Store::new(engine, host);
    if !meter.guard().limits {
        store.set_hostcall_fuel(usize::MAX);
        return store;
    }
    store.limiter(|host| &mut host.allowance);
    store.set_hostcall_fuel(usize::try_from(limits.host_call_bytes).unwrap_or(usize::MAX));
    store.set_max_component_handles(limits.handles as usize);
    tick(&mut store, meter);
    store
}

/// Starts a new count in a sandbox that is called again: its memory and what it holds stay counted, its clocks and
/// all else begin anew.
pub(crate) fn renew(store: &mut Store<Host>, meter: Arc<Meter>, request: &Arc<str>) {
    store.data_mut().renew(Arc::clone(&meter), request);
    tick(store, meter);
}

/// Counts what each component of a composition has in a sandbox whose request is over.
pub(crate) fn ended(store: &Store<Host>) {
    let host = store.data();
    if let Some(shares) = host.shares() {
        shares.hold(store, host.allowance.meter.wall());
    }
}

fn tick(store: &mut Store<Host>, meter: Arc<Meter>) {
    store.set_epoch_deadline(1);
    let mut looks = Looks::default();
    // Past the budget: stop. Within it: let other requests of this thread run, then go on.
    store.epoch_deadline_callback(move |guest| {
        let turn = meter.tick();
        if let Some(shares) = guest.data().shares() {
            shares.look(&mut looks, meter.spent(), &guest);
        }
        Ok(match turn? {
            Turn::GoesOn => UpdateDeadline::Continue(1),
            Turn::Over => UpdateDeadline::Yield(1),
        })
    });
}
