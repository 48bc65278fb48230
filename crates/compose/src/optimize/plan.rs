//! Which core instances of a component are linked to one, and what each of their imports is then.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{
    CanonicalFunction, ComponentAlias, ElementItems, ElementKind, ExternalKind, Instance, Operator, TypeRef,
};

use super::Unsuitable;
use super::items::{Index, Items, Kind, Space};
use super::link::Supply;
use super::module::{Core, Sort};

/// What is to be linked.
pub(super) struct Plan<'a> {
    /// The core instances that are linked, and their modules, in order.
    pub(super) members: Vec<u32>,
    pub(super) modules: Vec<Core<'a>>,
    /// For each import of each of them, where it comes from.
    pub(super) supplies: Vec<Vec<Supply>>,
    /// The core instances of the two modules that break the circle, which go: the one with the table, and the one that
    /// fills it.
    pub(super) table: Option<u32>,
    pub(super) filling: Option<u32>,
    /// What stands behind each export of the module with the table.
    behind: BTreeMap<String, Origin>,
    /// The function that the filling module runs when it is instantiated.
    pub(super) start: Option<(u32, String)>,
}

/// What a core function is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// What a core instance exports under a name.
    Export(u32, String),
    /// What the component makes: a lowered function, or one of the Canonical ABI's own.
    Made(u32),
}

/// A core module and its instance.
struct Site<'a> {
    instance: u32,
    core: Core<'a>,
    arguments: BTreeMap<String, u32>,
}

impl<'a> Plan<'a> {
    /// What can be linked in a component; `None` where there are no two core instances to link.
    pub(super) fn of(items: &Items<'a>) -> Result<Option<Self>, Unsuitable> {
        let sites = sites(items)?;
        let table = sites.iter().find(|site| slots(&site.core).is_some_and(|slots| !slots.is_empty()));
        let slots = table.and_then(|site| slots(&site.core)).unwrap_or_default();
        let filling = match table {
            None => None,
            Some(table) => {
                let filling = sites.iter().find(|site| fills(items, site, table.instance));
                Some(filling.ok_or(Unsuitable::Has("a table that nothing fills"))?)
            }
        };
        let is = |site: Option<&Site<'_>>, instance| site.is_some_and(|it| it.instance == instance);
        let members: Vec<&Site<'a>> = sites
            .iter()
            .filter(|site| !is(table, site.instance) && !is(filling, site.instance) && !is_thin(&site.core))
            .collect();
        if members.is_empty() || members.len() == 1 && table.is_none() {
            return Ok(None);
        }
        let filled = filling.map(|site| filled(items, site)).transpose()?.unwrap_or_default();
        let mut behind = BTreeMap::new();
        for (name, slot) in &slots {
            let origin = filled.get(slot).ok_or(Unsuitable::Has("a slot that nothing fills"))?;
            behind.insert(name.clone(), origin.clone());
        }
        let mut plan = Self {
            members: members.iter().map(|site| site.instance).collect(),
            modules: Vec::new(),
            supplies: Vec::new(),
            table: table.map(|site| site.instance),
            filling: filling.map(|site| site.instance),
            behind,
            start: filling.map(|site| start(items, site)).transpose()?.flatten(),
        };
        for site in &members {
            let mut supplies = Vec::new();
            for import in &site.core.imports {
                let sort = sort_of(&import.ty);
                let origin = origin(items, site, import.module, import.name, sort)?;
                supplies.push(plan.supply(items, sort, plan.settled(&origin)?)?);
            }
            plan.supplies.push(supplies);
        }
        plan.modules = sites
            .into_iter()
            .filter(|site| plan.members.contains(&site.instance))
            .map(|site| site.core)
            .collect();
        Ok(Some(plan))
    }

    /// Whether a core instance is no more once its module is linked.
    pub(super) fn replaces(&self, instance: u32) -> bool {
        self.members.contains(&instance) || self.table == Some(instance) || self.filling == Some(instance)
    }

    /// What stands behind an export, where the export is one of the module with the table.
    pub(super) fn settled(&self, origin: &Origin) -> Result<Origin, Unsuitable> {
        match origin {
            Origin::Export(instance, name) if Some(*instance) == self.table => {
                let behind = self.behind.get(name).ok_or(Unsuitable::Has("a use of the table itself"))?;
                match behind {
                    Origin::Export(instance, _) if Some(*instance) == self.table => {
                        Err(Unsuitable::Has("a slot that calls another slot"))
                    }
                    behind => Ok(behind.clone()),
                }
            }
            origin => Ok(origin.clone()),
        }
    }

    fn supply(&self, items: &Items<'_>, sort: Sort, origin: Origin) -> Result<Supply, Unsuitable> {
        match origin {
            Origin::Export(instance, name) => {
                let member = self.members.iter().position(|it| *it == instance);
                Ok(Supply::Linked(member.ok_or(Unsuitable::Has("an import from an instance apart"))?, name))
            }
            Origin::Made(_) if sort != Sort::Function => {
                Err(Unsuitable::Has("an import that is no function"))
            }
            Origin::Made(function) if self.comes_after(items, (Space::CoreFunction, function)) => {
                Ok(Supply::Late(function))
            }
            Origin::Made(function) => Ok(Supply::Direct(function)),
        }
    }

    /// Whether something needs what is linked to be there.
    fn comes_after(&self, items: &Items<'_>, index: Index) -> bool {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![index]);
        while let Some(index) = waiting.pop() {
            if index.0 == Space::CoreInstance && self.replaces(index.1) {
                return true;
            }
            if seen.insert(index) {
                waiting
                    .extend(items.definition(index).into_iter().flat_map(|item| item.refers.iter().copied()));
            }
        }
        false
    }
}

/// The core modules of a component that are instantiated once, each with its instance.
fn sites<'a>(items: &Items<'a>) -> Result<Vec<Site<'a>>, Unsuitable> {
    let mut sites = Vec::new();
    let mut used = BTreeSet::new();
    for item in &items.all {
        let Kind::CoreInstance(Instance::Instantiate { module_index, args }) = &item.kind else { continue };
        if !used.insert(*module_index) {
            return Err(Unsuitable::Has("a core module with several instances"));
        }
        let Some(Kind::Module(bytes)) =
            items.definition((Space::CoreModule, *module_index)).map(|module| &module.kind)
        else {
            return Err(Unsuitable::Has("a core module from elsewhere"));
        };
        sites.push(Site {
            instance: item.defines.1,
            core: Core::read(bytes)?,
            arguments: args.iter().map(|arg| (arg.name.to_owned(), arg.index)).collect(),
        });
    }
    Ok(sites)
}

/// A module that only hands something on: it stays as it is.
fn is_thin(core: &Core<'_>) -> bool {
    core.functions.is_empty() && core.memories.is_empty() && core.tables.is_empty() && core.globals.is_empty()
}

/// For a module of nothing but a table and functions that call what is in a slot of it: the slot of each export.
fn slots(core: &Core<'_>) -> Option<BTreeMap<String, u32>> {
    let only_a_table = core.imports.is_empty()
        && core.tables.len() == 1
        && core.memories.is_empty()
        && core.globals.is_empty()
        && core.tags.is_empty()
        && core.elements.is_empty()
        && core.data.is_empty()
        && core.start.is_none();
    if !only_a_table {
        return None;
    }
    let mut slots = BTreeMap::new();
    for export in core.exports.iter().filter(|export| Sort::of(export.kind) == Sort::Function) {
        let body = core.bodies.get(export.index as usize)?;
        let parameters = core.types.get(*core.functions.get(export.index as usize)? as usize)?.params().len();
        let mut reader = body.get_operators_reader().ok()?;
        for parameter in 0..parameters {
            let Ok(Operator::LocalGet { local_index }) = reader.read() else { return None };
            (local_index as usize == parameter).then_some(())?;
        }
        let Ok(Operator::I32Const { value }) = reader.read() else { return None };
        let Ok(Operator::CallIndirect { table_index: 0, .. }) = reader.read() else { return None };
        let Ok(Operator::End) = reader.read() else { return None };
        slots.insert(export.name.to_owned(), u32::try_from(value).ok()?);
    }
    Some(slots)
}

/// Whether a module imports the table of `table` and puts functions into it.
fn fills(items: &Items<'_>, site: &Site<'_>, table: u32) -> bool {
    let mut tables = site.core.imported(Sort::Table);
    site.core.memories.is_empty()
        && site.core.data.is_empty()
        && !site.core.elements.is_empty()
        && tables.next().is_some_and(|(_, import)| {
            matches!(
                origin(items, site, import.module, import.name, Sort::Table),
                Ok(Origin::Export(instance, _)) if instance == table
            )
        })
        && tables.next().is_none()
}

/// What the filling module puts into which slot.
fn filled(items: &Items<'_>, site: &Site<'_>) -> Result<BTreeMap<u32, Origin>, Unsuitable> {
    let core = &site.core;
    if !core.tables.is_empty() || !core.globals.is_empty() || core.imported(Sort::Global).next().is_some() {
        return Err(Unsuitable::Has("a table that is filled in a way not known here"));
    }
    let functions: Vec<_> = core.imported(Sort::Function).collect();
    let mut filled = BTreeMap::new();
    for element in &core.elements {
        let (ElementKind::Active { offset_expr, .. }, ElementItems::Functions(entries)) =
            (&element.kind, &element.items)
        else {
            return Err(Unsuitable::Has("a table that is filled in a way not known here"));
        };
        let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? else {
            return Err(Unsuitable::Has("a table that is filled in a way not known here"));
        };
        let first = u32::try_from(value).map_err(|_| Unsuitable::Has("a slot that is not there"))?;
        for (slot, function) in (first..).zip(entries.clone()) {
            let (_, import) = functions
                .get(function? as usize)
                .ok_or(Unsuitable::Has("a table that is filled with functions of its own"))?;
            filled.insert(slot, origin(items, site, import.module, import.name, Sort::Function)?);
        }
    }
    Ok(filled)
}

/// The one function that the filling module calls when it is instantiated: `_initialize`, where a language has one.
fn start(items: &Items<'_>, site: &Site<'_>) -> Result<Option<(u32, String)>, Unsuitable> {
    let core = &site.core;
    let functions: Vec<_> = core.imported(Sort::Function).collect();
    let called = match core.start.map(|start| start as usize) {
        None if core.functions.is_empty() => return Ok(None),
        None => return Err(Unsuitable::Has("a table that is filled in a way not known here")),
        Some(start) if start < functions.len() => start,
        Some(start) => {
            let body = core.bodies.get(start - functions.len());
            let mut reader =
                body.ok_or(Unsuitable::Has("a function without a body"))?.get_operators_reader()?;
            let (called, end) = (reader.read()?, reader.read()?);
            match (called, end) {
                (Operator::Call { function_index }, Operator::End) if core.functions.len() == 1 => {
                    function_index as usize
                }
                _ => return Err(Unsuitable::Has("a start that does several things")),
            }
        }
    };
    let (_, import) = functions.get(called).ok_or(Unsuitable::Has("a start that is not known here"))?;
    match origin(items, site, import.module, import.name, Sort::Function)? {
        Origin::Export(instance, name) => Ok(Some((instance, name))),
        Origin::Made(_) => Err(Unsuitable::Has("a start outside of it")),
    }
}

/// What an instance is given as an import.
fn origin(
    items: &Items<'_>,
    site: &Site<'_>,
    module: &str,
    name: &str,
    sort: Sort,
) -> Result<Origin, Unsuitable> {
    let missing = || Unsuitable::Has("an import from nowhere");
    let argument = *site.arguments.get(module).ok_or_else(missing)?;
    let item = items.definition((Space::CoreInstance, argument)).ok_or_else(missing)?;
    match &item.kind {
        Kind::CoreInstance(Instance::FromExports(exports)) => {
            let export = exports.iter().find(|export| export.name == name && Sort::of(export.kind) == sort);
            let export = export.ok_or_else(missing)?;
            origin_of(items, (core_space(export.kind), export.index))
        }
        _ => Ok(Origin::Export(argument, name.to_owned())),
    }
}

/// What a core function, memory, table or global of the component is.
pub(super) fn origin_of(items: &Items<'_>, index: Index) -> Result<Origin, Unsuitable> {
    match items.definition(index).map(|item| &item.kind) {
        Some(Kind::Alias(ComponentAlias::CoreInstanceExport { instance_index, name, kind })) => {
            // An instance may itself be put together from others.
            match items.definition((Space::CoreInstance, *instance_index)).map(|item| &item.kind) {
                Some(Kind::CoreInstance(Instance::FromExports(exports))) => {
                    let export = exports.iter().find(|export| export.name == *name && export.kind == *kind);
                    let export = export.ok_or(Unsuitable::Has("an export that is not there"))?;
                    origin_of(items, (core_space(export.kind), export.index))
                }
                _ => Ok(Origin::Export(*instance_index, (*name).to_owned())),
            }
        }
        Some(Kind::Canon(function)) if !matches!(function, CanonicalFunction::Lift { .. }) => {
            Ok(Origin::Made(index.1))
        }
        _ => Err(Unsuitable::Has("a core item of a sort not known here")),
    }
}

fn core_space(kind: ExternalKind) -> Space {
    match Sort::of(kind) {
        Sort::Function => Space::CoreFunction,
        Sort::Table => Space::CoreTable,
        Sort::Memory => Space::CoreMemory,
        Sort::Global => Space::CoreGlobal,
        Sort::Tag => Space::CoreTag,
    }
}

fn sort_of(ty: &TypeRef) -> Sort {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => Sort::Function,
        TypeRef::Table(_) => Sort::Table,
        TypeRef::Memory(_) => Sort::Memory,
        TypeRef::Global(_) => Sort::Global,
        TypeRef::Tag(_) => Sort::Tag,
    }
}
