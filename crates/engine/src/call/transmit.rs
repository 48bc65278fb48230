//! Calls with streams and futures: given as values, read out into values.

use tenon_model::Limits;
use wasmtime::component::{Func, Val};
use wasmtime::{AsContextMut, Store};

use crate::failure::Failure;
use crate::host::Host;
use crate::stop::Stop;
use crate::transmit::{collect, give_all};

/// Calls a function on the engine that has streams and futures, and waits until the guest has ended.
pub(super) async fn call(
    store: &mut Store<Host>,
    func: Func,
    mut arguments: Vec<Val>,
    limits: &Limits,
) -> Result<Option<Val>, Stop> {
    let ty = func.ty(&*store);
    for (argument, (_, ty)) in arguments.iter_mut().zip(ty.params()) {
        give_all(store.as_context_mut(), argument, &ty)
            .map_err(|cause| Stop::Refused(Failure::BadRequest { cause }))?;
    }
    let mut results = vec![Val::Bool(false); ty.results().len()];
    let called = store
        .run_concurrent(async |accessor| -> Result<Option<Val>, Stop> {
            func.call_concurrent(accessor, &arguments, &mut results).await?;
            let mut result = results.pop();
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
