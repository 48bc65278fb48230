//! `wasi:config` 0.2.0-rc.1: the values of the manifest.

use wasmtime::Result;

use crate::host::Called;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/config",
        world: "wasi:config/imports",
        imports: { default: trappable },
    });
}

pub(super) use bindings::wasi::config::store;

/// The version of the package that is implemented.
pub(super) const VERSION: &str = "0.2.0-rc.1";

impl store::Host for Called<'_> {
    fn get(&mut self, key: String) -> Result<Result<Option<String>, store::Error>> {
        let values = self.caller.grants().config.as_ref();
        Ok(Ok(values.and_then(|values| values.get(&key)).cloned()))
    }

    fn get_all(&mut self) -> Result<Result<Vec<(String, String)>, store::Error>> {
        let values = self.caller.grants().config.iter().flatten();
        Ok(Ok(values.map(|(key, value)| (key.clone(), value.clone())).collect()))
    }
}
