//! What a component imports: for whoever wants to stand in for it.

use tenon_model::Diagnostic;
use wasmtime::component::Type;
use wasmtime::component::types::ComponentItem;

use crate::artifact::Stored;
use crate::engine::Engine;

/// A function that a component imports.
#[derive(Clone, Debug)]
pub struct ImportedFunction {
    /// The interface, as the component names it; `None` at the root.
    pub interface: Option<String>,
    /// The function's name in the component.
    pub name: String,
    /// Its parameters.
    pub params: Vec<(String, Type)>,
    /// The type of its result, if it has one.
    pub result: Option<Type>,
}

impl Stored {
    /// The functions that the component imports, in its order.
    ///
    /// # Errors
    /// When the engine that it is for cannot be set up.
    pub fn imports(&self, engine: &Engine) -> Result<Vec<ImportedFunction>, Diagnostic> {
        let engine = &engine.lane(self.lane).map_err(Diagnostic::from)?.engine;
        let function = |interface: Option<&str>, name: &str, item: &ComponentItem| match item {
            ComponentItem::ComponentFunc(ty) => Some(ImportedFunction {
                interface: interface.map(str::to_owned),
                name: name.to_owned(),
                params: ty.params().map(|(name, ty)| (name.to_owned(), ty)).collect(),
                result: ty.results().next(),
            }),
            _ => None,
        };
        let mut found = Vec::new();
        for (import, item) in self.component.component_type().imports(engine) {
            match &item.ty {
                ComponentItem::ComponentInstance(instance) => {
                    found.extend(
                        instance
                            .exports(engine)
                            .filter_map(|(name, item)| function(Some(import), name, &item.ty)),
                    );
                }
                other => found.extend(function(None, import, other)),
            }
        }
        Ok(found)
    }
}
