//! A component's world, decoded from its binary.

use tenon_model::{Diagnostic, Location};
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{
    Function, InterfaceId, PackageId, Resolve, TypeDefKind, TypeId, WorldId, WorldItem, WorldKey,
};

use crate::render;

/// What a component imports and exports, with the types of everything.
#[derive(Clone, Debug)]
pub struct Contract {
    resolve: Resolve,
    world: WorldId,
}

impl Contract {
    /// Decodes the world of the component `bytes`, which is called `file` in what a person reads.
    ///
    /// # Errors
    /// One diagnostic with the code `not-wit` when the component's types cannot be written as WIT.
    pub fn of(file: &str, bytes: &[u8]) -> Result<Self, Diagnostic> {
        match decode(file, bytes)? {
            DecodedWasm::Component(resolve, world) => Ok(Self { resolve, world }),
            DecodedWasm::WitPackage(..) => Err(not_wit(file, "it is a WIT package: contracts without code")),
        }
    }

    /// Everything the component imports, in the order of its binary.
    pub fn imports(&self) -> impl Iterator<Item = Item<'_>> {
        self.resolve.worlds[self.world].imports.iter().map(|(key, item)| self.item(key, item))
    }

    /// Everything the component exports, in the order of its binary.
    pub fn exports(&self) -> impl Iterator<Item = Item<'_>> {
        self.resolve.worlds[self.world].exports.iter().map(|(key, item)| self.item(key, item))
    }

    /// The import of exactly this name.
    pub fn import(&self, name: &str) -> Option<Item<'_>> {
        self.imports().find(|item| item.name == name)
    }

    /// The export of exactly this name.
    pub fn export(&self, name: &str) -> Option<Item<'_>> {
        self.exports().find(|item| item.name == name)
    }

    fn item<'a>(&'a self, key: &WorldKey, item: &'a WorldItem) -> Item<'a> {
        let content = match item {
            WorldItem::Interface { id, .. } => Content::Interface(*id),
            WorldItem::Function(function) => Content::Function(function),
            WorldItem::Type { id, .. } => Content::Type(*id),
        };
        Item { name: self.resolve.name_world_key(key), resolve: &self.resolve, content }
    }
}

/// What sort of thing a component imports or exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A named group of functions and types.
    Interface,
    /// A single function at the root of the world.
    Function,
    /// A type at the root of the world.
    Type,
}

impl ItemKind {
    /// The word for it, with its article.
    pub fn with_article(self) -> &'static str {
        match self {
            Self::Interface => "an interface",
            Self::Function => "a function",
            Self::Type => "a type",
        }
    }
}

/// One import or export of a component, or one member of an interface that it imports or exports.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    name: String,
    pub(crate) resolve: &'a Resolve,
    pub(crate) content: Content<'a>,
}

/// What an [`Item`] is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Interface(InterfaceId),
    Function(&'a Function),
    Type(TypeId),
}

impl<'a> Item<'a> {
    /// The name, as it stands in the binary: `demo:auth/verify@0.1.0` or a plain name; of a member, with the member's
    /// name behind it: `demo:auth/verify@0.1.0.verify-token`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What sort of thing it is.
    pub fn kind(&self) -> ItemKind {
        match self.content {
            Content::Interface(_) => ItemKind::Interface,
            Content::Function(_) => ItemKind::Function,
            Content::Type(_) => ItemKind::Type,
        }
    }

    /// Whether it only describes data: a value type, or an interface that has neither functions nor resources.
    /// Nothing has to run for it, so nobody has to supply it.
    pub fn is_data_only(&self) -> bool {
        let is_resource = |id| matches!(self.resolve.types[id].kind, TypeDefKind::Resource);
        match self.content {
            Content::Function(_) => false,
            Content::Type(id) => !is_resource(id),
            Content::Interface(id) => {
                let interface = &self.resolve.interfaces[id];
                interface.functions.is_empty() && !interface.types.values().any(|id| is_resource(*id))
            }
        }
    }

    /// Whether it is an interface that defines resources, or takes them over from another one.
    pub fn has_resources(&self) -> bool {
        match self.content {
            Content::Interface(id) => {
                self.resolve.interfaces[id].types.values().any(|id| self.stands_for_a_resource(*id))
            }
            Content::Function(_) | Content::Type(_) => false,
        }
    }

    fn stands_for_a_resource(&self, mut id: TypeId) -> bool {
        loop {
            match &self.resolve.types[id].kind {
                TypeDefKind::Resource => return true,
                TypeDefKind::Type(wit_parser::Type::Id(aliased)) => id = *aliased,
                _ => return false,
            }
        }
    }

    /// The function `name` of this interface, on its own.
    pub fn function(&self, name: &str) -> Option<Item<'a>> {
        let Content::Interface(id) = self.content else { return None };
        let function = self.resolve.interfaces[id].functions.get(name)?;
        Some(self.member(name, Content::Function(function)))
    }

    /// The type `name` of this interface, on its own.
    pub fn named_type(&self, name: &str) -> Option<Item<'a>> {
        let Content::Interface(id) = self.content else { return None };
        let ty = self.resolve.interfaces[id].types.get(name)?;
        Some(self.member(name, Content::Type(*ty)))
    }

    fn member(&self, name: &str, content: Content<'a>) -> Item<'a> {
        Item { name: format!("{}.{name}", self.name), resolve: self.resolve, content }
    }

    /// The functions: those of an interface, or the one function itself.
    pub fn functions(&self) -> Vec<(&'a str, String)> {
        match self.content {
            Content::Function(function) => {
                vec![(function.name.as_str(), render::function_text(self.resolve, function))]
            }
            Content::Interface(id) => self.resolve.interfaces[id]
                .functions
                .values()
                .map(|function| (function.name.as_str(), render::function_text(self.resolve, function)))
                .collect(),
            Content::Type(_) => Vec::new(),
        }
    }

    /// The names of the types: those of an interface, or the one type itself.
    pub fn types(&self) -> Vec<&'a str> {
        match self.content {
            Content::Function(_) => Vec::new(),
            Content::Interface(id) => self.resolve.interfaces[id].types.keys().map(String::as_str).collect(),
            Content::Type(id) => self.resolve.types[id].name.as_deref().into_iter().collect(),
        }
    }

    /// The declaration as WIT text.
    pub fn text(&self) -> String {
        match self.content {
            Content::Function(function) => render::function_text(self.resolve, function),
            Content::Interface(id) => render::interface_text(self.resolve, id),
            Content::Type(id) => render::type_text(self.resolve, id),
        }
    }
}

/// The world of a component, or the content of a WIT package, as WIT text with every package it needs.
///
/// # Errors
/// One diagnostic when the file is neither, or its types cannot be written as WIT.
pub fn print_wit(file: &str, bytes: &[u8]) -> Result<String, Diagnostic> {
    let decoded = match crate::classify(bytes) {
        crate::Kind::WitPackage => decode(file, bytes)?,
        _ => {
            crate::require_component(file, bytes)?;
            decode(file, bytes)?
        }
    };
    print(decoded.resolve(), decoded.package()).map_err(|error| not_wit(file, &error))
}

/// A package as WIT text, with every other one.
pub(crate) fn print(resolve: &Resolve, main: PackageId) -> Result<String, String> {
    let mut needed: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != main).collect();
    needed.sort_by_key(|id| resolve.packages[*id].name.to_string());
    let mut printer = WitPrinter::default();
    printer.print(resolve, main, &needed).map_err(|error| format!("{error:#}"))?;
    Ok(printer.output.into())
}

pub(crate) fn decode(file: &str, bytes: &[u8]) -> Result<DecodedWasm, Diagnostic> {
    wit_component::decode(bytes).map_err(|error| not_wit(file, &format!("{error:#}")))
}

fn not_wit(file: &str, why: &str) -> Diagnostic {
    Diagnostic::new("not-wit", format!("the types of `{file}` cannot be written as WIT"))
        .at(Location::file(file))
        .note("found", why)
        .note("expected", "a component whose imports and exports are interfaces, functions and named types")
        .mend("Build the component from a WIT world; components written by hand have to name every type they use.")
}
