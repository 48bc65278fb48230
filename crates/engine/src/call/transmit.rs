//! Calls with streams and futures: given as values, read out into values.

use tenon_model::Limits;
use wasmtime::{AsContextMut, Store};

use crate::canonical::Callee;
use crate::failure::Failure;
use crate::host::Host;
use crate::stop::Stop;
use crate::transmit::{collect, give_all};
use crate::value::Val;

/// Calls a function on the engine that has streams and futures, and waits until the guest has ended.
pub(super) async fn call(
    store: &mut Store<Host>,
    callee: Callee,
    mut arguments: Vec<Val>,
    limits: &Limits,
) -> Result<Option<Val>, Stop> {
    let ty = callee.func.ty(&*store);
    for (argument, (_, ty)) in arguments.iter_mut().zip(ty.params()) {
        give_all(store.as_context_mut(), argument, &ty)
            .map_err(|cause| Stop::Refused(Failure::BadRequest { cause }))?;
    }
    let called = store
        .run_concurrent(async |accessor| -> Result<Option<Val>, Stop> {
            let mut result = callee.call_concurrent(accessor, arguments).await?;
            if let (Some(value), Some(ty)) = (&mut result, ty.results().next()) {
                collect(accessor, value, &ty, limits)
                    .await
                    .map_err(|cause| Stop::Refused(Failure::InvalidResponse { cause }))?;
            }
            // The guest goes on after its result.
            std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            Ok(result)
        })
        .await;
    called.unwrap_or_else(|error| Err(Stop::Engine(error)))
}
