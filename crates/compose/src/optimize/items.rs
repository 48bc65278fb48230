//! A component as what its sections define, each with what it refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use wasm_encoder::Component;
use wasm_encoder::reencode::{self, Reencode, ReencodeComponent};
use wasmparser::{
    BinaryReader, CanonicalFunction, ComponentAlias, ComponentExport, ComponentExternalKind, ComponentImport,
    ComponentInstance, ComponentOuterAliasKind, ComponentType, ComponentTypeRef, ExternalKind, FromReader,
    Instance, Parser, SectionLimited,
};

use super::Unsuitable;

/// The index spaces of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    CoreFunction,
    CoreTable,
    CoreMemory,
    CoreGlobal,
    CoreTag,
    CoreModule,
    CoreInstance,
    Function,
    Value,
    Type,
    Instance,
    Component,
}

/// One entry of an index space.
pub(super) type Index = (Space, u32);

/// What an item is.
#[derive(Clone)]
pub(super) enum Kind<'a> {
    Module(&'a [u8]),
    CoreInstance(Instance<'a>),
    Component(&'a [u8]),
    Instance(ComponentInstance<'a>),
    Alias(ComponentAlias<'a>),
    Type(ComponentType<'a>),
    Canon(CanonicalFunction),
    Import(ComponentImport<'a>),
    Export(ComponentExport<'a>),
}

/// Something a component defines, imports or exports.
pub(super) struct Item<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) defines: Index,
    pub(super) refers: BTreeSet<Index>,
}

/// All of a component but its custom sections.
pub(super) struct Items<'a> {
    pub(super) all: Vec<Item<'a>>,
    /// Which item defines what.
    pub(super) definitions: BTreeMap<Index, usize>,
    /// Its custom sections: names and contents.
    pub(super) customs: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Items<'a> {
    /// Reads a component that was validated.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Unsuitable> {
        let mut items = Self { all: Vec::new(), definitions: BTreeMap::new(), customs: Vec::new() };
        let mut counts: BTreeMap<Space, u32> = BTreeMap::new();
        for section in sections(bytes)? {
            let (id, data) = section;
            match id {
                0 => {
                    let mut reader = BinaryReader::new(data, 0);
                    let name = reader.read_string()?;
                    let content = reader.read_bytes(reader.bytes_remaining())?;
                    items.customs.push((name, content));
                }
                1 => items.push(Kind::Module(data), &mut counts)?,
                2 => items.extend(data, Kind::CoreInstance, &mut counts)?,
                4 => items.push(Kind::Component(data), &mut counts)?,
                5 => items.extend(data, Kind::Instance, &mut counts)?,
                6 => items.extend(data, Kind::Alias, &mut counts)?,
                7 => items.extend(data, Kind::Type, &mut counts)?,
                8 => items.extend(data, Kind::Canon, &mut counts)?,
                10 => items.extend(data, Kind::Import, &mut counts)?,
                11 => items.extend(data, Kind::Export, &mut counts)?,
                3 => return Err(Unsuitable::Has("core types of its own")),
                _ => return Err(Unsuitable::Has("a section that is not known here")),
            }
        }
        Ok(items)
    }

    fn extend<T: FromReader<'a>>(
        &mut self,
        data: &'a [u8],
        kind: impl Fn(T) -> Kind<'a>,
        counts: &mut BTreeMap<Space, u32>,
    ) -> Result<(), Unsuitable> {
        for entry in SectionLimited::<T>::new(BinaryReader::new(data, 0))? {
            self.push(kind(entry?), counts)?;
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind<'a>, counts: &mut BTreeMap<Space, u32>) -> Result<(), Unsuitable> {
        let count = counts.entry(space_of(&kind)?).or_default();
        let defines = (space_of(&kind)?, *count);
        *count += 1;
        let mut walk = Walk { depth: 0, seen: BTreeSet::new(), new: None };
        // Core modules refer to nothing.
        if !matches!(kind, Kind::Module(_)) {
            Writer::default().write(&mut walk, &kind)?;
        }
        self.definitions.insert(defines, self.all.len());
        self.all.push(Item { kind, defines, refers: walk.seen });
        Ok(())
    }

    pub(super) fn definition(&self, index: Index) -> Option<&Item<'a>> {
        self.all.get(*self.definitions.get(&index)?)
    }
}

/// The sections of a component or module, each with its number.
pub(super) fn sections(bytes: &[u8]) -> Result<Vec<(u8, &[u8])>, Unsuitable> {
    let mut reader = BinaryReader::new(bytes, 0);
    // Magic number and version.
    reader.read_bytes(8)?;
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()?;
        sections.push((id, reader.read_bytes(usize::try_from(size).unwrap_or(usize::MAX))?));
    }
    Ok(sections)
}

fn space_of(kind: &Kind<'_>) -> Result<Space, Unsuitable> {
    let core = |kind: &ExternalKind| match kind {
        ExternalKind::Func | ExternalKind::FuncExact => Space::CoreFunction,
        ExternalKind::Table => Space::CoreTable,
        ExternalKind::Memory => Space::CoreMemory,
        ExternalKind::Global => Space::CoreGlobal,
        ExternalKind::Tag => Space::CoreTag,
    };
    Ok(match kind {
        Kind::Module(_) => Space::CoreModule,
        Kind::CoreInstance(_) => Space::CoreInstance,
        Kind::Component(_) => Space::Component,
        Kind::Instance(_) => Space::Instance,
        Kind::Type(_) => Space::Type,
        Kind::Canon(CanonicalFunction::Lift { .. }) => Space::Function,
        Kind::Canon(_) => Space::CoreFunction,
        Kind::Alias(ComponentAlias::InstanceExport { kind, .. }) => external(*kind),
        Kind::Alias(ComponentAlias::CoreInstanceExport { kind, .. }) => core(kind),
        Kind::Alias(ComponentAlias::Outer { kind, .. }) => match kind {
            ComponentOuterAliasKind::CoreModule => Space::CoreModule,
            ComponentOuterAliasKind::Type => Space::Type,
            ComponentOuterAliasKind::Component => Space::Component,
            ComponentOuterAliasKind::CoreType => return Err(Unsuitable::Has("core types of its own")),
        },
        Kind::Import(import) => match import.ty {
            ComponentTypeRef::Module(_) => return Err(Unsuitable::Has("an import that is a core module")),
            ComponentTypeRef::Func(_) => Space::Function,
            ComponentTypeRef::Value(_) => Space::Value,
            ComponentTypeRef::Type(_) => Space::Type,
            ComponentTypeRef::Instance(_) => Space::Instance,
            ComponentTypeRef::Component(_) => Space::Component,
        },
        Kind::Export(export) => external(export.kind),
    })
}

pub(super) fn external(kind: ComponentExternalKind) -> Space {
    match kind {
        ComponentExternalKind::Module => Space::CoreModule,
        ComponentExternalKind::Func => Space::Function,
        ComponentExternalKind::Value => Space::Value,
        ComponentExternalKind::Type => Space::Type,
        ComponentExternalKind::Instance => Space::Instance,
        ComponentExternalKind::Component => Space::Component,
    }
}

/// Goes over an item: notes what it refers to, or gives what it refers to other indices.
pub(super) struct Walk<'n> {
    /// How many components and types of instances are around what is looked at.
    depth: u32,
    seen: BTreeSet<Index>,
    new: Option<&'n BTreeMap<Index, u32>>,
}

impl<'n> Walk<'n> {
    /// Gives what items refer to the indices that are in `new`.
    pub(super) fn renumbering(new: &'n BTreeMap<Index, u32>) -> Self {
        Self { depth: 0, seen: BTreeSet::new(), new: Some(new) }
    }

    /// An index of the component itself, seen from `count` components further in.
    fn own(&mut self, space: Space, count: u32, index: u32) -> u32 {
        if self.depth != count {
            return index;
        }
        self.seen.insert((space, index));
        // What is referred to was written before: the items are written in the order of what refers to what.
        self.new.and_then(|new| new.get(&(space, index))).copied().unwrap_or(index)
    }
}

impl Reencode for Walk<'_> {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        Ok(self.own(Space::CoreFunction, 0, index))
    }

    fn table_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        Ok(self.own(Space::CoreTable, 0, index))
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        Ok(self.own(Space::CoreMemory, 0, index))
    }

    fn global_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        Ok(self.own(Space::CoreGlobal, 0, index))
    }

    fn tag_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        Ok(self.own(Space::CoreTag, 0, index))
    }
}

impl ReencodeComponent for Walk<'_> {
    fn component_type_index(&mut self, index: u32) -> u32 {
        self.own(Space::Type, 0, index)
    }

    fn component_instance_index(&mut self, index: u32) -> u32 {
        self.own(Space::Instance, 0, index)
    }

    fn component_func_index(&mut self, index: u32) -> u32 {
        self.own(Space::Function, 0, index)
    }

    fn component_index(&mut self, index: u32) -> u32 {
        self.own(Space::Component, 0, index)
    }

    fn module_index(&mut self, index: u32) -> u32 {
        self.own(Space::CoreModule, 0, index)
    }

    fn instance_index(&mut self, index: u32) -> u32 {
        self.own(Space::CoreInstance, 0, index)
    }

    fn component_value_index(&mut self, index: u32) -> u32 {
        self.own(Space::Value, 0, index)
    }

    fn outer_component_type_index(&mut self, count: u32, index: u32) -> u32 {
        self.own(Space::Type, count, index)
    }

    fn outer_component_index(&mut self, count: u32, index: u32) -> u32 {
        self.own(Space::Component, count, index)
    }

    fn outer_module_index(&mut self, count: u32, index: u32) -> u32 {
        self.own(Space::CoreModule, count, index)
    }

    fn push_depth(&mut self) {
        self.depth += 1;
    }

    fn pop_depth(&mut self) {
        self.depth -= 1;
    }

    /// Core modules refer to nothing of the component, and stay as they are to the byte.
    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        _: Parser,
        module: &[u8],
    ) -> Result<(), reencode::Error> {
        component.section(&wasm_encoder::RawSection { id: 1, data: module });
        Ok(())
    }
}

/// Writes items one after the other; those that go into one section together.
#[derive(Default)]
pub(super) struct Writer {
    component: Component,
    open: Option<Open>,
}

enum Open {
    CoreInstances(wasm_encoder::InstanceSection),
    Instances(wasm_encoder::ComponentInstanceSection),
    Aliases(wasm_encoder::ComponentAliasSection),
    Types(wasm_encoder::ComponentTypeSection),
    Canons(wasm_encoder::CanonicalFunctionSection),
    Imports(wasm_encoder::ComponentImportSection),
    Exports(wasm_encoder::ComponentExportSection),
}

/// The section of that form that is being written, begun now if another one was.
macro_rules! open {
    ($writer:expr, $form:ident) => {{
        if !matches!($writer.open, Some(Open::$form(_))) {
            $writer.close();
            $writer.open = Some(Open::$form(Default::default()));
        }
        let Some(Open::$form(section)) = &mut $writer.open else { return Ok(()) };
        section
    }};
}

impl Writer {
    /// Writes one item.
    pub(super) fn write(&mut self, walk: &mut Walk<'_>, kind: &Kind<'_>) -> Result<(), Unsuitable> {
        match kind.clone() {
            Kind::Module(bytes) => self.raw(1, bytes),
            Kind::Component(bytes) => {
                self.close();
                walk.parse_component_subcomponent(&mut self.component, Parser::new(0), bytes, bytes)?;
            }
            Kind::CoreInstance(instance) => walk.parse_instance(open!(self, CoreInstances), instance)?,
            Kind::Instance(instance) => walk.parse_component_instance(open!(self, Instances), instance)?,
            Kind::Alias(alias) => {
                let alias = walk.component_alias(alias)?;
                open!(self, Aliases).alias(alias);
            }
            Kind::Type(ty) => walk.parse_component_type(open!(self, Types).ty(), ty)?,
            Kind::Canon(function) => walk.parse_component_canonical(open!(self, Canons), function)?,
            Kind::Import(import) => {
                let ty = walk.component_type_ref(import.ty)?;
                open!(self, Imports).import(import.name, ty);
            }
            Kind::Export(export) => walk.parse_component_export(open!(self, Exports), export)?,
        }
        Ok(())
    }

    /// Writes a section as it is.
    pub(super) fn raw(&mut self, id: u8, data: &[u8]) {
        self.close();
        self.component.section(&wasm_encoder::RawSection { id, data });
    }

    /// Writes a core instance that is put together from what is there.
    pub(super) fn bag<'e>(
        &mut self,
        exports: impl ExactSizeIterator<Item = (&'e str, wasm_encoder::ExportKind, u32)>,
    ) -> Result<(), Unsuitable> {
        open!(self, CoreInstances).export_items(exports.collect::<Vec<_>>());
        Ok(())
    }

    /// Writes an instance of a core module that imports from one instance, under the empty name.
    pub(super) fn instantiate(&mut self, module: u32, bag: Option<u32>) -> Result<(), Unsuitable> {
        let arguments = bag.map(|bag| ("", wasm_encoder::ModuleArg::Instance(bag)));
        open!(self, CoreInstances).instantiate(module, arguments.into_iter().collect::<Vec<_>>());
        Ok(())
    }

    /// Writes an alias of what a core instance exports.
    pub(super) fn core_alias(
        &mut self,
        instance: u32,
        kind: wasm_encoder::ExportKind,
        name: &str,
    ) -> Result<(), Unsuitable> {
        open!(self, Aliases).alias(wasm_encoder::Alias::CoreInstanceExport { instance, kind, name });
        Ok(())
    }

    fn close(&mut self) {
        let component = &mut self.component;
        match self.open.take() {
            None => component,
            Some(Open::CoreInstances(section)) => component.section(&section),
            Some(Open::Instances(section)) => component.section(&section),
            Some(Open::Aliases(section)) => component.section(&section),
            Some(Open::Types(section)) => component.section(&section),
            Some(Open::Canons(section)) => component.section(&section),
            Some(Open::Imports(section)) => component.section(&section),
            Some(Open::Exports(section)) => component.section(&section),
        };
    }

    /// The component.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.close();
        self.component.finish()
    }
}
