//! What can be called, and by which names.

use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ComponentExportIndex, Type};

use crate::canonical::flat_count;

/// An exported function.
#[derive(Clone, Debug)]
pub struct Function {
    interface: Option<String>,
    name: String,
    pub(crate) ty: ComponentFunc,
    pub(crate) index: ComponentExportIndex,
    /// How many core values its result is.
    pub(crate) flat: usize,
}

/// A name that does not lead to one function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Nothing is called that.
    #[error("there is no such function")]
    Unknown,
    /// These are all called that.
    #[error("more than one function is called that")]
    Ambiguous(Vec<String>),
}

impl Function {
    pub(crate) fn new(
        interface: Option<&str>,
        name: &str,
        ty: ComponentFunc,
        index: ComponentExportIndex,
    ) -> Self {
        let flat = flat_count(&ty);
        Self { interface: interface.map(str::to_owned), name: name.to_owned(), ty, index, flat }
    }

    /// The interface that exports it, as the component names it; `None` at the root.
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    /// Its name in the component: `[method]counter.add` for a method.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name as people write it: `counter.add` for a method, `counter` for the constructor.
    pub fn plain_name(&self) -> &str {
        match self.name.split_once(']') {
            Some((_, name)) => name,
            None => &self.name,
        }
    }

    /// Its full name as people write it: `package:name/interface@1.0.0.function`.
    pub fn full_name(&self) -> String {
        match &self.interface {
            Some(interface) => format!("{interface}.{}", self.plain_name()),
            None => self.plain_name().to_owned(),
        }
    }

    /// Its parameters.
    pub fn params(&self) -> Vec<(String, Type)> {
        self.ty.params().map(|(name, ty)| (name.to_owned(), ty)).collect()
    }

    /// The type of its result, if it has one.
    pub fn result(&self) -> Option<Type> {
        self.ty.results().next()
    }

    /// Its type.
    pub fn ty(&self) -> &ComponentFunc {
        &self.ty
    }

    /// Everything it may be called by, the most particular first.
    pub fn spellings(&self) -> Vec<String> {
        let mut spellings: Vec<String> = (0..TIERS).flat_map(|tier| self.spellings_of(tier)).collect();
        spellings.dedup();
        spellings
    }

    fn spellings_of(&self, tier: usize) -> Vec<String> {
        let names = [self.plain_name(), &self.name];
        let Some(interface) = &self.interface else {
            // A function at the root has nothing that could be left out.
            return if tier == 0 { names.map(str::to_owned).to_vec() } else { Vec::new() };
        };
        let (path, version) = match interface.split_once('@') {
            Some((path, version)) => (path, Some(version)),
            None => (interface.as_str(), None),
        };
        let short = path.rsplit('/').next().unwrap_or(path);
        let spell = |name: &str| match tier {
            0 => {
                let with_version = version.map(|version| format!("{path}.{name}@{version}"));
                [format!("{interface}.{name}"), format!("{interface}#{name}")]
                    .into_iter()
                    .chain(with_version)
                    .collect()
            }
            1 => vec![format!("{path}.{name}"), format!("{path}#{name}")],
            2 => vec![format!("{short}.{name}")],
            _ => vec![name.to_owned()],
        };
        names.into_iter().flat_map(spell).collect()
    }
}

/// How much of a name is there: all of it, without the version, without the package, without the interface.
const TIERS: usize = 4;

pub(super) fn find<'a>(functions: &'a [Function], name: &str) -> Result<&'a Function, FindError> {
    for tier in 0..TIERS {
        let found: Vec<&Function> = functions
            .iter()
            .filter(|function| function.spellings_of(tier).iter().any(|spelling| spelling == name))
            .collect();
        match found[..] {
            [] => {}
            [one] => return Ok(one),
            _ => {
                // `counter.new` may be two things; its names in the component are not.
                let names = found.iter().map(|function| match &function.interface {
                    Some(interface) => format!("{interface}.{}", function.name),
                    None => function.name.clone(),
                });
                return Err(FindError::Ambiguous(names.collect()));
            }
        }
    }
    Err(FindError::Unknown)
}
