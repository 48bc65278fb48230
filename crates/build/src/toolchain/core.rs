//! From the core module that a compiler made to a component of its world.

use tenon_model::Diagnostic;
use wasi_preview1_component_adapter_provider as provider;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::contract::Contract;

/// The adapter, where one is needed.
pub(super) fn adapter() -> (&'static str, String) {
    ("wasi-preview1-component-adapter", "50.0.1".to_owned())
}

/// Embeds the world, adapts WASI preview 1 where the module imports it, and encodes.
pub(super) fn componentize(
    contract: &Contract,
    mut core: Vec<u8>,
    encoding: StringEncoding,
) -> Result<Vec<u8>, Diagnostic> {
    embed_component_metadata(&mut core, &contract.resolve, contract.world, encoding, false)
        .and_then(|()| {
            let mut encoder = ComponentEncoder::default();
            encoder.module(&core)?;
            // Not asked for unless imported: the encoder leaves out an adapter that nothing needs.
            encoder.adapter(
                provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )?;
            encoder.encode()
        })
        .map_err(|error| {
            Diagnostic::new("not-componentized", "what was compiled does not make a component")
                .note("found", format!("{error:#}"))
                .mend("every function that the world exports has to be there: compare with the generated bindings")
        })
}
