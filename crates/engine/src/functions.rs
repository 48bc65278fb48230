//! Functions that a program which embeds Tenon offers to its components.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use wasmtime::Error;
use wasmtime::component::Linker;

use crate::host::Host;
use crate::value::Val;

/// What a host function does: it is given the arguments and gives back the results, or says why it cannot.
///
/// It runs on the guest's own stack and thread, so it must neither block nor recurse deeply.
type Body = dyn Fn(&[Val]) -> Result<Vec<Val>, String> + Send + Sync;

/// Interfaces that the embedding program implements itself, by function. Cheap to clone.
///
/// ```
/// use tenon_engine::HostFunctions;
/// use tenon_engine::value::Val;
///
/// let functions = HostFunctions::default().with("demo:math/ops@1.0.0", "double", |arguments| match arguments {
///     [Val::U32(number)] => Ok(vec![Val::U32(number.wrapping_mul(2))]),
///     _ => Err("double takes one u32".into()),
/// });
/// assert!(functions.offers("demo:math/ops@1.0.0"));
/// ```
#[derive(Clone, Default)]
pub struct HostFunctions {
    interfaces: BTreeMap<String, BTreeMap<String, Arc<Body>>>,
}

impl HostFunctions {
    /// Offers `function` of `interface` (`namespace:package/interface@version`, as components import it), and
    /// whatever was offered before. A component that imports the interface with other types is refused, or its call
    /// traps when the results are not of the function's types.
    #[must_use]
    pub fn with(
        mut self,
        interface: &str,
        function: &str,
        body: impl Fn(&[Val]) -> Result<Vec<Val>, String> + Send + Sync + 'static,
    ) -> Self {
        self.interfaces.entry(interface.to_owned()).or_default().insert(function.to_owned(), Arc::new(body));
        self
    }

    /// Whether there is such an interface.
    pub fn offers(&self, interface: &str) -> bool {
        self.interfaces.contains_key(interface)
    }

    /// Puts an interface into the linker. `false` when there is none of the name.
    pub(crate) fn add(&self, linker: &mut Linker<Host>, interface: &str) -> wasmtime::Result<bool> {
        let Some(functions) = self.interfaces.get(interface) else { return Ok(false) };
        let mut instance = linker.instance(interface)?;
        for (name, body) in functions {
            let body = Arc::clone(body);
            instance.func_new(name, move |_, ty, arguments, results| {
                let arguments = arguments.iter().zip(ty.params());
                let arguments = arguments.map(|(value, (_, ty))| Val::from_engine(value.clone(), &ty));
                let arguments: Option<Vec<Val>> = arguments.collect();
                let arguments = arguments.ok_or_else(|| Error::msg("an argument cannot be passed on"))?;
                let given = body(&arguments).map_err(Error::msg)?;
                if given.len() != results.len() {
                    let what = format!("a host function gave {} results for {}", given.len(), results.len());
                    return Err(Error::msg(what));
                }
                for (result, given) in results.iter_mut().zip(given) {
                    *result = given.into_engine();
                }
                Ok(())
            })?;
        }
        Ok(true)
    }
}

impl fmt::Debug for HostFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.interfaces.iter().map(|(interface, functions)| (interface, functions.keys()));
        f.debug_map().entries(names.map(|(interface, names)| (interface, names.collect::<Vec<_>>()))).finish()
    }
}
