//! Typed calls from outside: any export of a component, by its name, with values.
//!
//! A [`Callable`] is a component that is compiled, linked and ready to be called; a [`Session`] is a sandbox of it
//! that lives for as many calls as wanted, each under the limits that a request has. Resources that a guest hands out
//! stay in the session, as numbers.

mod function;
mod import;
mod session;
mod transmit;

pub use function::{FindError, Function};
pub use import::ImportedFunction;
pub use session::Session;

use std::sync::Arc;

use tenon_model::{Diagnostic, Diagnostics, Digest, Limits};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use crate::artifact::Stored;
use crate::capability::Principals;
use crate::crash::Crashes;
use crate::engine::{Engine, Guard, Part};
use crate::host::Host;
use crate::link::{Terms, link};
use crate::value::TypeNames;

/// A component whose exports can be called.
pub struct Callable {
    name: String,
    digest: Digest,
    instance: InstancePre<Host>,
    functions: Vec<Function>,
    names: TypeNames,
    parts: Vec<Part>,
    limits: Limits,
    principals: Arc<Principals>,
    pool: u32,
    guard: Guard,
    /// Whether it runs on the engine that has streams, futures and async functions.
    concurrent: bool,
    crashes: Option<Arc<Crashes>>,
}

impl Callable {
    /// Links a compiled component on these terms and lists what it exports.
    ///
    /// # Errors
    /// All imports that are not granted or not satisfied.
    pub fn new(engine: &Engine, stored: Stored, terms: &Terms<'_>) -> Result<Self, Diagnostics> {
        let lane = engine.lane(stored.lane).map_err(Diagnostic::from)?;
        let (instance, principals) = link(&lane.linker, &stored.component, terms, engine.guard())?;
        let (functions, names) = exports(&lane.engine, &stored.component);
        let Stored { digest, parts, lane, .. } = stored;
        let pool = engine.pool().pool.instances;
        let concurrent = lane == crate::engine::Lane::Concurrent;
        Ok(Self {
            name: terms.name.to_owned(),
            digest,
            instance,
            functions,
            names,
            parts,
            limits: terms.limits,
            principals,
            pool,
            guard: engine.guard(),
            concurrent,
            crashes: None,
        })
    }

    /// Reports failed calls to `crashes`.
    #[must_use]
    pub fn reporting_to(mut self, crashes: Arc<Crashes>) -> Self {
        self.crashes = Some(crashes);
        self
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The component's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What a call may use up.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Everything that can be called, in the order of the component.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// What the component calls its types.
    pub fn names(&self) -> &TypeNames {
        &self.names
    }

    /// The function that people mean by `name`: `function` at the root, or `package:name/interface.function`, where
    /// the version, the package and the interface may be left out as long as one function only is meant. A method is
    /// `resource.method`, a constructor `resource`; the names of the specification, `[method]resource.method`, are
    /// understood too.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, name: &str) -> Result<&Function, FindError> {
        function::find(&self.functions, name)
    }

    /// A session, whose sandbox is made when it is first called. `id` is what its lines in the log carry.
    pub fn session(self: &Arc<Self>, id: Arc<str>) -> Session {
        Session::new(Arc::clone(self), id)
    }
}

/// What a component exports, and what it calls its types.
fn exports(engine: &wasmtime::Engine, component: &Component) -> (Vec<Function>, TypeNames) {
    let mut functions = Vec::new();
    let mut names = TypeNames::default();
    let component_type = component.component_type();
    let mut note = |name: &str, item: &ComponentItem| match item {
        ComponentItem::Type(ty) => names.add(name, ty.clone()),
        ComponentItem::Resource(ty) => names.add_resource(name, *ty),
        _ => {}
    };
    // The types of an interface that is only used are found among the imports.
    for (name, item) in component_type.imports(engine) {
        note(name, &item.ty);
        if let ComponentItem::ComponentInstance(instance) = item.ty {
            instance.exports(engine).for_each(|(name, item)| note(name, &item.ty));
        }
    }
    for (export, item) in component_type.exports(engine) {
        note(export, &item.ty);
        match item.ty {
            ComponentItem::ComponentFunc(ty) => {
                if let Some(index) = component.get_export_index(None, export) {
                    functions.push(Function::new(None, export, ty, index));
                }
            }
            ComponentItem::ComponentInstance(instance) => {
                let Some(interface) = component.get_export_index(None, export) else { continue };
                for (name, item) in instance.exports(engine) {
                    note(name, &item.ty);
                    if let ComponentItem::ComponentFunc(ty) = item.ty
                        && let Some(index) = component.get_export_index(Some(&interface), name)
                    {
                        functions.push(Function::new(Some(export), name, ty, index));
                    }
                }
            }
            _ => {}
        }
    }
    (functions, names)
}
