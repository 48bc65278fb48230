//! What `tenon componentize` does with a core module from outside: by the fuzzer without end, and by
//! `crates/build/tests/robustness.rs` for a short while in every test run.

use std::path::Path;

use tenon_build::{Adapter, Componentize};

/// Makes components of a module: by the world that it carries or by that of `contract`, with each adapter. Says how many
/// times that went well.
pub fn componentize(bytes: &[u8], contract: &Path) -> usize {
    let adapters = [None, Some(Adapter::Command), Some(Adapter::Reactor), Some(Adapter::Proxy)];
    let ways =
        adapters.into_iter().flat_map(|adapter| [(adapter, None), (adapter, Some(contract.to_owned()))]);
    ways.filter(|(adapter, wit)| {
        let job = Componentize { file: "a.wasm", bytes, wit: wit.clone(), world: None, adapter: *adapter };
        match tenon_build::componentize(&job) {
            Ok(made) => {
                assert!(tenon_wit::inspect("made.wasm", &made.bytes).is_ok(), "what came out cannot be read");
                true
            }
            Err(found) => {
                assert_ne!(found.code, "internal", "{found}");
                // A person sees it drawn.
                let _drawn = found.to_string();
                false
            }
        }
    })
    .count()
}
