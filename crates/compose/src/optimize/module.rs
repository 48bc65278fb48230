//! A core module as its sections say it is.

use std::collections::BTreeMap;

use wasmparser::{
    CompositeInnerType, Data, Element, Export, ExternalKind, FuncType, FunctionBody, Global, Import,
    KnownCustom, MemoryType, Name, Parser, Payload, Table, TagType, TypeRef,
};

use super::Unsuitable;

/// The sorts of things that have an index space of their own within a core module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    Function,
    Table,
    Memory,
    Global,
    Tag,
}

impl Sort {
    pub(super) const ALL: [Self; 5] = [Self::Function, Self::Table, Self::Memory, Self::Global, Self::Tag];

    pub(super) fn of(kind: ExternalKind) -> Self {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => Self::Function,
            ExternalKind::Table => Self::Table,
            ExternalKind::Memory => Self::Memory,
            ExternalKind::Global => Self::Global,
            ExternalKind::Tag => Self::Tag,
        }
    }
}

/// A core module.
#[derive(Default)]
pub(super) struct Core<'a> {
    /// All of it.
    pub(super) bytes: &'a [u8],
    pub(super) types: Vec<FuncType>,
    pub(super) imports: Vec<Import<'a>>,
    /// The types of the functions it defines.
    pub(super) functions: Vec<u32>,
    pub(super) bodies: Vec<FunctionBody<'a>>,
    pub(super) tables: Vec<Table<'a>>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<Global<'a>>,
    pub(super) tags: Vec<TagType>,
    pub(super) exports: Vec<Export<'a>>,
    pub(super) start: Option<u32>,
    pub(super) elements: Vec<Element<'a>>,
    pub(super) data: Vec<Data<'a>>,
    /// Whether it says how many data segments there are: code that names one by its number needs that.
    pub(super) counts_data: bool,
    /// The names of its functions.
    pub(super) names: BTreeMap<u32, &'a str>,
    pub(super) name: Option<&'a str>,
    /// Where the content of its code section begins, from the module's first byte.
    pub(super) code_start: u64,
    pub(super) has_lines: bool,
}

impl<'a> Core<'a> {
    /// Reads a module that was validated.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Unsuitable> {
        let mut core = Self { bytes, ..Self::default() };
        for payload in Parser::new(0).parse_all(bytes) {
            core.take(payload?)?;
        }
        Ok(core)
    }

    fn take(&mut self, payload: Payload<'a>) -> Result<(), Unsuitable> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section {
                    let group = group?;
                    if group.is_explicit_rec_group() {
                        return Err(Unsuitable::Has("types that refer to one another"));
                    }
                    for ty in group.into_types() {
                        match ty.composite_type.inner {
                            CompositeInnerType::Func(function) if ty.supertype_idxs.is_empty() => {
                                self.types.push(function);
                            }
                            _ => return Err(Unsuitable::Has("types other than those of functions")),
                        }
                    }
                }
            }
            Payload::ImportSection(section) => {
                self.imports = section.into_imports().collect::<Result<_, _>>()?;
            }
            Payload::FunctionSection(section) => {
                self.functions = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::TableSection(section) => {
                self.tables = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::MemorySection(section) => {
                self.memories = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::GlobalSection(section) => {
                self.globals = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::TagSection(section) => self.tags = section.into_iter().collect::<Result<_, _>>()?,
            Payload::ExportSection(section) => {
                self.exports = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(section) => {
                self.elements = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::DataCountSection { .. } => self.counts_data = true,
            Payload::DataSection(section) => self.data = section.into_iter().collect::<Result<_, _>>()?,
            Payload::CodeSectionStart { unchecked_range, .. } => self.code_start = unchecked_range.start,
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            Payload::CustomSection(section) => {
                self.has_lines |= section.name() == ".debug_line";
                if let KnownCustom::Name(names) = section.as_known() {
                    for name in names.into_iter().map_while(Result::ok) {
                        match name {
                            Name::Module { name, .. } => self.name = Some(name),
                            Name::Function(map) => self.names.extend(
                                map.into_iter().map_while(Result::ok).map(|name| (name.index, name.name)),
                            ),
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The imports of one sort, each with its number among all imports.
    pub(super) fn imported(&self, sort: Sort) -> impl Iterator<Item = (usize, &Import<'a>)> {
        let is_of = move |ty: &TypeRef| {
            let own = match ty {
                TypeRef::Func(_) | TypeRef::FuncExact(_) => Sort::Function,
                TypeRef::Table(_) => Sort::Table,
                TypeRef::Memory(_) => Sort::Memory,
                TypeRef::Global(_) => Sort::Global,
                TypeRef::Tag(_) => Sort::Tag,
            };
            own == sort
        };
        self.imports.iter().enumerate().filter(move |(_, import)| is_of(&import.ty))
    }

    /// How many things of a sort it defines itself.
    pub(super) fn defined(&self, sort: Sort) -> usize {
        match sort {
            Sort::Function => self.functions.len(),
            Sort::Table => self.tables.len(),
            Sort::Memory => self.memories.len(),
            Sort::Global => self.globals.len(),
            Sort::Tag => self.tags.len(),
        }
    }

    /// The type of an imported function.
    pub(super) fn import_type(&self, import: &Import<'_>) -> Option<&FuncType> {
        match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.types.get(ty as usize),
            _ => None,
        }
    }
}
