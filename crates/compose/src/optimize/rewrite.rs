//! A component written anew: what nothing reaches is left out, and what can be linked is one module.

use std::collections::{BTreeMap, BTreeSet};

use wasm_encoder::{
    ConstExpr, ElementSection, Elements, EntityType, ExportKind, ImportSection, Module, RefType,
    StartSection, TableType, TypeSection,
};
use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ExternalKind, FuncType, Instance,
};

use super::items::{Index, Items, Kind, Space, Walk, Writer, external};
use super::link::{Linked, TABLE, link};
use super::plan::{Origin, Plan, origin_of};
use super::side::Side;
use super::{Unsuitable, has_code, slim, strip};

/// Items refer to one another no deeper than this.
const DEPTH_MAX: usize = 500;

/// What a component becomes.
pub(super) struct Rewritten {
    pub(super) bytes: Vec<u8>,
    pub(super) sides: Vec<Side>,
    /// Why the modules of a component within are not linked, where they are not.
    pub(super) unlinked: Option<Unsuitable>,
}

/// Where the names of functions and debug information go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Details {
    /// To the sides.
    Aside,
    /// They stay in the core modules.
    Within,
}

/// Writes the component of `items` with the exports that `keep` names.
pub(super) fn rewrite(
    items: &Items<'_>,
    plan: Option<&Plan<'_>>,
    keep: &dyn Fn(&str) -> bool,
    details: Details,
) -> Result<Rewritten, Unsuitable> {
    let mut reach = Reach { items, plan, keep, wanted: BTreeSet::new(), seen: BTreeSet::new() };
    for item in &items.all {
        if reach.is_root(item.defines)? {
            reach.from(item.defines)?;
        }
    }
    let linked = plan.map(|plan| reach.link(plan)).transpose()?;
    let mut output = Output {
        items,
        plan,
        keep,
        details,
        linked: linked.as_ref(),
        instance: None,
        new: BTreeMap::new(),
        counts: BTreeMap::new(),
        writer: Writer::default(),
        sides: Vec::new(),
        unlinked: None,
    };
    // What it still imports, it imports in the order it did.
    for item in &items.all {
        if matches!(item.kind, Kind::Import(_)) && reach.seen.contains(&item.defines) {
            output.put(item.defines, 0)?;
        }
    }
    for item in &items.all {
        if reach.is_root(item.defines)? {
            output.root(item.defines)?;
        }
    }
    if let (Details::Aside, Some(plan), Some((linked, _))) = (details, plan, &linked) {
        output.sides.push(Side::Linked {
            named: linked.named.clone(),
            moved: linked.moved.clone(),
            origins: plan.modules.iter().map(|module| (module.has_lines, module.bytes.to_vec())).collect(),
        });
    }
    Ok(Rewritten { bytes: output.writer.finish(), sides: output.sides, unlinked: output.unlinked })
}

/// The names under which a linked module exports what its modules exported, by module and old name.
type Names = BTreeMap<(usize, String), String>;

/// Finds out what of a component is needed.
struct Reach<'r, 'a> {
    items: &'r Items<'a>,
    plan: Option<&'r Plan<'a>>,
    keep: &'r dyn Fn(&str) -> bool,
    /// The exports of linked modules that are used, by the number of the module.
    wanted: BTreeSet<(usize, String)>,
    seen: BTreeSet<Index>,
}

impl Reach<'_, '_> {
    /// Whether an item counts for itself: an export that is kept, or an instance whose making may do something.
    fn is_root(&self, index: Index) -> Result<bool, Unsuitable> {
        let item = self.items.definition(index).ok_or(Unsuitable::Has("an index that is not there"))?;
        Ok(match &item.kind {
            Kind::Export(export) => is_kept(self.keep, export),
            Kind::CoreInstance(Instance::Instantiate { .. }) => true,
            Kind::Instance(ComponentInstance::Instantiate { component_index, .. }) => {
                match self.items.definition((Space::Component, *component_index)).map(|it| &it.kind) {
                    Some(Kind::Component(bytes)) => has_code(bytes)?,
                    _ => true,
                }
            }
            _ => false,
        })
    }

    fn from(&mut self, index: Index) -> Result<(), Unsuitable> {
        let mut waiting = vec![index];
        while let Some(index) = waiting.pop() {
            if !self.seen.insert(index) {
                continue;
            }
            let item = self.items.definition(index).ok_or(Unsuitable::Has("an index that is not there"))?;
            match (use_of(self.items, self.plan, self.keep, index)?, &item.kind) {
                (Use::Linked(module, name), _) => {
                    self.wanted.insert((module, name));
                }
                (Use::Instead(other), _) => waiting.push(other),
                (Use::Gone, _) => {}
                (Use::Itself, _) => waiting.extend(item.refers.iter().copied()),
            }
        }
        Ok(())
    }

    /// Links what is used; what the result imports may use more of it.
    fn link(&mut self, plan: &Plan<'_>) -> Result<(Linked, Names), Unsuitable> {
        if let Some((instance, name)) = &plan.start
            && let Some(module) = plan.members.iter().position(|it| it == instance)
        {
            self.wanted.insert((module, name.clone()));
        }
        loop {
            let before = self.wanted.clone();
            let mut names = Names::new();
            for (module, name) in &before {
                let is_shared = before.iter().any(|(other, it)| other != module && it == name);
                let new = if is_shared { format!("{name}@{module}") } else { name.clone() };
                names.insert((*module, name.clone()), new);
            }
            let wanted: Vec<_> =
                names.iter().map(|((module, name), new)| (*module, name.as_str(), new.clone())).collect();
            let linked = link(&plan.modules, &plan.supplies, &wanted)?;
            for function in linked.direct.iter().chain(linked.late.iter().map(|(function, _)| function)) {
                self.from((Space::CoreFunction, *function))?;
            }
            if self.wanted == before {
                return Ok((linked, names));
            }
        }
    }
}

/// What using an item comes to.
enum Use {
    /// The item is needed.
    Itself,
    /// Another one is needed in its place.
    Instead(Index),
    /// What a linked module exports is needed, by the module's number and the old name.
    Linked(usize, String),
    /// Nothing: it is replaced by the linked module.
    Gone,
}

fn use_of(
    items: &Items<'_>,
    plan: Option<&Plan<'_>>,
    keep: &dyn Fn(&str) -> bool,
    index: Index,
) -> Result<Use, Unsuitable> {
    let item = items.definition(index).ok_or(Unsuitable::Has("an index that is not there"))?;
    match &item.kind {
        Kind::Export(export) if !is_kept(keep, export) => {
            return Ok(Use::Instead((external(export.kind), export.index)));
        }
        Kind::CoreInstance(_) if plan.is_some_and(|plan| plan.replaces(index.1)) => return Ok(Use::Gone),
        Kind::Alias(ComponentAlias::CoreInstanceExport { .. }) => {}
        _ => return Ok(Use::Itself),
    }
    let Some(plan) = plan else { return Ok(Use::Itself) };
    Ok(match plan.settled(&origin_of(items, index)?)? {
        Origin::Export(instance, name) => match plan.members.iter().position(|it| *it == instance) {
            Some(module) => Use::Linked(module, name),
            None if plan.replaces(instance) => return Err(Unsuitable::Has("a use of the table itself")),
            None => Use::Itself,
        },
        // An alias of an instance that was put together, or of a slot with a lowered function.
        Origin::Made(function) => Use::Instead((Space::CoreFunction, function)),
    })
}

fn is_kept(keep: &dyn Fn(&str) -> bool, export: &wasmparser::ComponentExport<'_>) -> bool {
    let may_go = matches!(export.kind, ComponentExternalKind::Instance | ComponentExternalKind::Func);
    !may_go || keep(export.name.name)
}

/// What is written so far.
struct Output<'r, 'a> {
    items: &'r Items<'a>,
    plan: Option<&'r Plan<'a>>,
    keep: &'r dyn Fn(&str) -> bool,
    details: Details,
    linked: Option<&'r (Linked, Names)>,
    /// The instance of the linked module.
    instance: Option<u32>,
    new: BTreeMap<Index, u32>,
    counts: BTreeMap<Space, u32>,
    writer: Writer,
    sides: Vec<Side>,
    unlinked: Option<Unsuitable>,
}

impl Output<'_, '_> {
    fn root(&mut self, index: Index) -> Result<(), Unsuitable> {
        if let Some(plan) = self.plan
            && index.0 == Space::CoreInstance
            && plan.replaces(index.1)
        {
            if plan.filling == Some(index.1) {
                return self.fill(plan);
            }
            // The module with the table stood before what is linked; nothing needs that to be there as early.
            return if plan.table == Some(index.1) { Ok(()) } else { self.linked_instance(0).map(drop) };
        }
        self.put(index, 0).map(drop)
    }

    fn next(&mut self, space: Space) -> u32 {
        let count = self.counts.entry(space).or_default();
        *count += 1;
        *count - 1
    }

    /// Writes an item after all it refers to, unless it is there; its new index.
    fn put(&mut self, index: Index, depth: usize) -> Result<u32, Unsuitable> {
        if let Some(new) = self.new.get(&index) {
            return Ok(*new);
        }
        if depth > DEPTH_MAX {
            return Err(Unsuitable::Has("definitions that refer to one another too deeply"));
        }
        let item = self.items.definition(index).ok_or(Unsuitable::Has("an index that is not there"))?;
        let new = match use_of(self.items, self.plan, self.keep, index)? {
            Use::Instead(other) => self.put(other, depth + 1)?,
            Use::Gone => self.linked_instance(depth + 1)?,
            Use::Linked(module, name) => {
                let instance = self.linked_instance(depth + 1)?;
                let names = &self.linked.ok_or(Unsuitable::Has("an index that is not there"))?.1;
                let name =
                    names.get(&(module, name)).ok_or(Unsuitable::Has("an export that is not there"))?;
                let Kind::Alias(ComponentAlias::CoreInstanceExport { kind, .. }) = &item.kind else {
                    return Err(Unsuitable::Has("an index that is not there"));
                };
                self.writer.core_alias(instance, export_kind(*kind), name)?;
                self.next(index.0)
            }
            Use::Itself => {
                for other in &item.refers {
                    self.put(*other, depth + 1)?;
                }
                self.write(&item.kind, item.refers.is_empty())?;
                self.next(index.0)
            }
        };
        self.new.insert(index, new);
        Ok(new)
    }

    fn write(&mut self, kind: &Kind<'_>, refers_to_nothing: bool) -> Result<(), Unsuitable> {
        match kind {
            Kind::Module(bytes) if self.details == Details::Within => self.writer.raw(1, bytes),
            Kind::Module(bytes) => {
                let stripped = strip(bytes)?;
                if stripped.len() < bytes.len() {
                    self.sides.push(Side::Whole(bytes.to_vec()));
                }
                self.writer.raw(1, &stripped);
            }
            Kind::Component(bytes) if refers_to_nothing && self.details == Details::Aside => {
                let inner = slim(bytes, &|_| true)?;
                self.sides.extend(inner.sides);
                self.unlinked = self.unlinked.take().or(inner.unlinked);
                self.writer.raw(4, &inner.bytes);
            }
            kind => self.writer.write(&mut Walk::renumbering(&self.new), kind)?,
        }
        Ok(())
    }

    /// The instance of the linked module, written if it is not there yet.
    fn linked_instance(&mut self, depth: usize) -> Result<u32, Unsuitable> {
        if let Some(instance) = self.instance {
            return Ok(instance);
        }
        let (linked, _) = self.linked.ok_or(Unsuitable::Has("an instance that is not there"))?;
        let mut given = Vec::new();
        for (at, function) in linked.direct.iter().enumerate() {
            given.push((
                at.to_string(),
                ExportKind::Func,
                self.put((Space::CoreFunction, *function), depth + 1)?,
            ));
        }
        let module = match self.details {
            Details::Aside => &linked.bytes,
            Details::Within => &linked.named,
        };
        let instance = self.instance_of(module, &given)?;
        self.instance = Some(instance);
        Ok(instance)
    }

    /// Writes a core module, what it is given, and its instance.
    fn instance_of(&mut self, module: &[u8], given: &[(String, ExportKind, u32)]) -> Result<u32, Unsuitable> {
        self.writer.raw(1, module);
        let module = self.next(Space::CoreModule);
        let mut bag = None;
        if !given.is_empty() {
            self.writer.bag(given.iter().map(|(name, kind, index)| (name.as_str(), *kind, *index)))?;
            bag = Some(self.next(Space::CoreInstance));
        }
        self.writer.instantiate(module, bag)?;
        Ok(self.next(Space::CoreInstance))
    }

    /// Writes what fills the table of the linked module, and starts it where it was started.
    fn fill(&mut self, plan: &Plan<'_>) -> Result<(), Unsuitable> {
        let (linked, names) = self.linked.ok_or(Unsuitable::Has("an instance that is not there"))?;
        let instance = self.linked_instance(0)?;
        let mut given = Vec::new();
        for (at, (function, _)) in linked.late.iter().enumerate() {
            given.push((at.to_string(), ExportKind::Func, self.put((Space::CoreFunction, *function), 0)?));
        }
        if !linked.late.is_empty() {
            self.writer.core_alias(instance, ExportKind::Table, TABLE)?;
            given.push(("t".to_owned(), ExportKind::Table, self.next(Space::CoreTable)));
        }
        let mut starts = false;
        if let Some((member, name)) = &plan.start {
            let module = plan.members.iter().position(|it| it == member);
            let name = module.and_then(|module| names.get(&(module, name.clone())));
            let name = name.ok_or(Unsuitable::Has("a start outside of it"))?;
            self.writer.core_alias(instance, ExportKind::Func, name)?;
            given.push(("s".to_owned(), ExportKind::Func, self.next(Space::CoreFunction)));
            starts = true;
        }
        if given.is_empty() {
            return Ok(());
        }
        let types: Vec<&FuncType> = linked.late.iter().map(|(_, ty)| ty).collect();
        self.instance_of(&filling(&types, linked.first_slot, starts)?, &given).map(drop)
    }
}

/// The module that puts functions of these types into a table, from a slot on, and calls another one if it `starts`.
fn filling(functions: &[&FuncType], first_slot: u32, starts: bool) -> Result<Vec<u8>, Unsuitable> {
    use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
    let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
    let mut at = 0;
    for function in functions {
        types.ty().func_type(&RoundtripReencoder.func_type((*function).clone())?);
        imports.import("", &at.to_string(), EntityType::Function(at));
        at += 1;
    }
    if !functions.is_empty() {
        let minimum = u64::from(first_slot) + functions.len() as u64;
        let table = TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum,
            maximum: None,
            shared: false,
        };
        imports.import("", "t", table);
    }
    if starts {
        types.ty().function([], []);
        imports.import("", "s", EntityType::Function(at));
    }
    let mut module = Module::new();
    module.section(&types).section(&imports);
    if starts {
        module.section(&StartSection { function_index: at });
    }
    if !functions.is_empty() {
        let mut elements = ElementSection::new();
        let all: Vec<u32> = (0..at).collect();
        elements.active(
            None,
            &ConstExpr::i32_const(first_slot.cast_signed()),
            Elements::Functions(all.into()),
        );
        module.section(&elements);
    }
    Ok(module.finish())
}

fn export_kind(kind: ExternalKind) -> ExportKind {
    match kind {
        ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
        ExternalKind::Table => ExportKind::Table,
        ExternalKind::Memory => ExportKind::Memory,
        ExternalKind::Global => ExportKind::Global,
        ExternalKind::Tag => ExportKind::Tag,
    }
}
