//! Several core modules of a component as one, without what nothing reaches.
//!
//! A toolchain makes a component of the compiler's module, of an adapter, and of two more modules that break the circle
//! between an import and the memory it is lowered with: a table of functions that is filled once all instances are
//! there. Linked, what one module imports from another is a direct call, and only what the component itself lowers
//! with that memory still goes through a table, which is now the module's own: slots behind those its code knows of.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Elements, Encode as _, EntityType,
    ExportKind, ExportSection, Function, FunctionSection, GlobalSection, ImportSection, Instruction,
    MemorySection, Module, NameMap, NameSection, RefType, TableSection, TableType, TagSection, TypeSection,
};
use wasmparser::{ElementItems, ElementKind, FuncType, Operator, TableInit};

use super::Unsuitable;
use super::module::{Core, Sort};

/// Where an import of a module comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Supply {
    /// The export of another module that is linked.
    Linked(usize, String),
    /// A core function of the component, which is there before the module is.
    Direct(u32),
    /// A core function of the component that needs the module's own memory, and so comes later.
    Late(u32),
}

/// Something in the linked module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entity {
    /// A core function of the component.
    Direct(u32),
    /// A call through the table.
    Late(u32),
    /// What a module defines, by its number among those of its sort.
    Own(usize, usize),
}

/// Modules linked to one.
pub(super) struct Linked {
    /// The module, without any custom section.
    pub(super) bytes: Vec<u8>,
    /// The same with the names of its functions.
    pub(super) named: Vec<u8>,
    /// The core functions of the component that it imports, in the order of its imports `""."0"`, `""."1"`, ….
    pub(super) direct: Vec<u32>,
    /// The core functions that are called through the table, in the order of their slots, and their types.
    pub(super) late: Vec<(u32, FuncType)>,
    /// The first of these slots.
    pub(super) first_slot: u32,
    /// Where each piece of its code was: in order.
    pub(super) moved: Vec<Moved>,
}

/// Code that came from somewhere: up to the next such piece, it is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Where it is now, from the start of the content of the code section.
    pub(crate) now: u32,
    /// The module it is of.
    pub(crate) module: u32,
    /// Where it was in that module, likewise.
    pub(crate) was: u32,
}

/// The name under which the linked module exports its table.
pub(super) const TABLE: &str = "$late";

/// Links `modules`. `supplies` says for each import of each module where it comes from; `wanted` which exports of
/// which module are to be exported, and under what name.
pub(super) fn link(
    modules: &[Core<'_>],
    supplies: &[Vec<Supply>],
    wanted: &[(usize, &str, String)],
) -> Result<Linked, Unsuitable> {
    let mut linker = Linker::new(modules, supplies)?;
    let mut exports = Vec::new();
    for (module, name, new_name) in wanted {
        let export = modules[*module].exports.iter().find(|export| export.name == *name);
        let export = export.ok_or(Unsuitable::Has("an export that is not there"))?;
        let sort = Sort::of(export.kind);
        let entity = linker.entity(*module, sort, export.index)?;
        linker.reach(sort, entity);
        exports.push((new_name.as_str(), sort, entity));
    }
    linker.reach_all()?;
    linker.write(&exports)
}

struct Linker<'m, 'a> {
    modules: &'m [Core<'a>],
    /// What each index of each module stands for.
    spaces: Vec<BTreeMap<Sort, Vec<Entity>>>,
    late_types: BTreeMap<u32, FuncType>,
    direct_types: BTreeMap<u32, FuncType>,
    reached: BTreeSet<(Sort, Entity)>,
    waiting: Vec<(Sort, Entity)>,
    /// Element segments that are kept, by module and number.
    segments: BTreeSet<(usize, usize)>,
    /// Functions that code takes a reference to.
    referenced: BTreeSet<Entity>,
    /// Whether code does anything with a table but call what is in it.
    touches_tables: bool,
}

impl<'m, 'a> Linker<'m, 'a> {
    fn new(modules: &'m [Core<'a>], supplies: &[Vec<Supply>]) -> Result<Self, Unsuitable> {
        if modules.iter().map(|module| module.memories.len()).sum::<usize>() > 1 {
            return Err(Unsuitable::Has("several memories"));
        }
        if modules.iter().any(|module| module.start.is_some()) {
            return Err(Unsuitable::Has("a module that runs when it is instantiated"));
        }
        let mut linker = Self {
            modules,
            spaces: Vec::new(),
            late_types: BTreeMap::new(),
            direct_types: BTreeMap::new(),
            reached: BTreeSet::new(),
            waiting: Vec::new(),
            segments: BTreeSet::new(),
            referenced: BTreeSet::new(),
            touches_tables: false,
        };
        for (module, core) in modules.iter().enumerate() {
            let mut spaces = BTreeMap::new();
            for sort in Sort::ALL {
                let mut space = Vec::new();
                for (number, import) in core.imported(sort) {
                    let supply =
                        supplies[module].get(number).ok_or(Unsuitable::Has("an import from nowhere"))?;
                    let entity = resolve(modules, supplies, sort, supply, 0)?;
                    if let (Entity::Direct(function) | Entity::Late(function), Some(ty)) =
                        (entity, core.import_type(import))
                    {
                        let types = match entity {
                            Entity::Late(_) => &mut linker.late_types,
                            _ => &mut linker.direct_types,
                        };
                        types.insert(function, ty.clone());
                    }
                    space.push(entity);
                }
                space.extend((0..core.defined(sort)).map(|number| Entity::Own(module, number)));
                spaces.insert(sort, space);
            }
            linker.spaces.push(spaces);
        }
        // Data is written to memory whether or not code reads it.
        for (module, core) in modules.iter().enumerate() {
            for number in 0..core.memories.len() {
                linker.reach(Sort::Memory, Entity::Own(module, number));
            }
            for segment in &core.data {
                if let wasmparser::DataKind::Active { offset_expr, .. } = &segment.kind {
                    linker.reach_constant(module, offset_expr.clone())?;
                }
            }
        }
        Ok(linker)
    }

    fn entity(&self, module: usize, sort: Sort, index: u32) -> Result<Entity, Unsuitable> {
        let found = self.spaces.get(module).and_then(|spaces| spaces[&sort].get(index as usize));
        found.copied().ok_or(Unsuitable::Has("an index that is not there"))
    }

    fn reach(&mut self, sort: Sort, entity: Entity) {
        if self.reached.insert((sort, entity)) {
            self.waiting.push((sort, entity));
        }
    }

    fn reach_all(&mut self) -> Result<(), Unsuitable> {
        while let Some((sort, entity)) = self.waiting.pop() {
            let Entity::Own(module, number) = entity else { continue };
            let core = &self.modules[module];
            match sort {
                Sort::Function => {
                    let mut scan = Scan::default();
                    scan.body(core.bodies.get(number).ok_or(Unsuitable::Has("a function without a body"))?)?;
                    self.reach_found(module, &scan)?;
                }
                Sort::Table => {
                    if let TableInit::Expr(value) = &core.tables[number].init {
                        self.reach_constant(module, value.clone())?;
                    }
                    for (module, core) in self.modules.iter().enumerate() {
                        for (number, segment) in core.elements.iter().enumerate() {
                            if let ElementKind::Active { table_index, .. } = segment.kind
                                && self.entity(module, Sort::Table, table_index.unwrap_or(0))? == entity
                            {
                                self.reach_segment(module, number)?;
                            }
                        }
                    }
                }
                Sort::Global => self.reach_constant(module, core.globals[number].init_expr.clone())?,
                Sort::Memory | Sort::Tag => {}
            }
        }
        Ok(())
    }

    fn reach_found(&mut self, module: usize, scan: &Scan) -> Result<(), Unsuitable> {
        for (sort, index) in &scan.found {
            let entity = self.entity(module, *sort, *index)?;
            self.reach(*sort, entity);
        }
        self.touches_tables |= scan.touches_tables;
        for function in &scan.referenced {
            let entity = self.entity(module, Sort::Function, *function)?;
            self.referenced.insert(entity);
        }
        for segment in &scan.segments {
            self.reach_segment(module, *segment as usize)?;
        }
        Ok(())
    }

    fn reach_segment(&mut self, module: usize, number: usize) -> Result<(), Unsuitable> {
        if !self.segments.insert((module, number)) {
            return Ok(());
        }
        let segment = self.modules[module].elements.get(number);
        let segment = segment.ok_or(Unsuitable::Has("a segment that is not there"))?;
        let mut scan = Scan::default();
        if let ElementKind::Active { offset_expr, .. } = &segment.kind {
            self.reach_constant(module, offset_expr.clone())?;
        }
        match &segment.items {
            ElementItems::Functions(functions) => {
                for function in functions.clone() {
                    scan.found.insert((Sort::Function, function?));
                }
            }
            ElementItems::Expressions(_, values) => {
                for value in values.clone() {
                    self.reach_constant(module, value?)?;
                }
            }
        }
        self.reach_found(module, &scan)
    }

    fn reach_constant(&mut self, module: usize, value: wasmparser::ConstExpr<'a>) -> Result<(), Unsuitable> {
        // A constant may refer to any function that is in a segment, an export or a constant.
        for (module, operator) in self.expanded(module, value, 0)? {
            let mut scan = Scan::default();
            scan.instruction(operator)?;
            self.reach_found(module, &scan)?;
        }
        Ok(())
    }

    /// The operators of a constant but its end, each with the module whose indices it has. For another module's global stands
    /// what that begins as: a constant may name it only if nothing changes it (Core specification, section 3.4.17), and a
    /// global of its own module, which it would be then, only in engines that have garbage collection.
    fn expanded<'v>(
        &self,
        module: usize,
        value: wasmparser::ConstExpr<'v>,
        depth: usize,
    ) -> Result<Vec<(usize, Operator<'v>)>, Unsuitable>
    where
        'a: 'v,
    {
        if depth > self.modules.len() {
            return Err(Unsuitable::Has("constants that go in a circle"));
        }
        let mut operators = Vec::new();
        for operator in value.get_operators_reader() {
            let operator = operator?;
            let global = match operator {
                Operator::End => continue,
                Operator::GlobalGet { global_index } => {
                    Some(self.entity(module, Sort::Global, global_index)?)
                }
                _ => None,
            };
            match global {
                Some(Entity::Own(owner, number)) if owner != module => {
                    let value = self.modules[owner].globals[number].init_expr.clone();
                    operators.extend(self.expanded(owner, value, depth + 1)?);
                }
                _ => operators.push((module, operator)),
            }
        }
        Ok(operators)
    }

    fn write(&self, exports: &[(&str, Sort, Entity)]) -> Result<Linked, Unsuitable> {
        let of = |sort| self.reached.iter().filter(move |(it, _)| *it == sort).map(|(_, entity)| *entity);
        let mut index = BTreeMap::new();
        for sort in Sort::ALL {
            index.extend(of(sort).zip(0u32..).map(|(entity, at)| ((sort, entity), at)));
        }
        let mut emit = Emit {
            linker: self,
            module: 0,
            index,
            segments: self.segments.iter().copied().zip(0u32..).collect(),
            data_before: Vec::new(),
            types: Types::default(),
        };
        let mut data_count = 0u32;
        for core in self.modules {
            emit.data_before.push(data_count);
            data_count += u32::try_from(core.data.len()).unwrap_or(u32::MAX);
        }
        let (mut direct, mut late) = (Vec::new(), Vec::new());
        let mut sections = Sections::default();
        let mut names = NameMap::new();
        let has_late = of(Sort::Function).any(|entity| matches!(entity, Entity::Late(_)));
        let first_slot = if has_late { self.first_slot(exports)? } else { 0 };
        let mut bodies = Vec::new();
        for (entity, at) in of(Sort::Function).zip(0u32..) {
            match entity {
                Entity::Direct(function) => {
                    let ty = emit.types.of(self.direct_types.get(&function))?;
                    sections.imports.import("", &direct.len().to_string(), EntityType::Function(ty));
                    direct.push(function);
                }
                Entity::Late(function) => {
                    let signature = self.late_types.get(&function);
                    let ty = emit.types.of(signature)?;
                    sections.functions.function(ty);
                    let slot = first_slot as usize + late.len();
                    bodies.push((through_table(signature, ty, slot), Vec::new()));
                    late.extend(signature.map(|signature| (function, signature.clone())));
                }
                Entity::Own(module, number) => {
                    emit.module = module;
                    let core = &self.modules[module];
                    sections.functions.function(emit.type_index(core.functions[number])?);
                    bodies.push(emit.body(&core.bodies[number])?);
                    let imported = core.imported(Sort::Function).count();
                    let own = u32::try_from(imported + number).ok();
                    if let Some(name) = own.and_then(|own| core.names.get(&own)) {
                        names.append(at, name);
                    }
                }
            }
        }
        for sort in [Sort::Table, Sort::Memory, Sort::Global, Sort::Tag] {
            for entity in of(sort) {
                let Entity::Own(module, number) = entity else {
                    return Err(Unsuitable::Has("an import that is no function"));
                };
                emit.module = module;
                let core = &self.modules[module];
                match sort {
                    Sort::Table => {
                        let mut table = core.tables[number].clone();
                        table.ty.initial += late.len() as u64;
                        table.ty.maximum = table.ty.maximum.map(|maximum| maximum + late.len() as u64);
                        emit.parse_table(&mut sections.tables, table)?;
                    }
                    Sort::Memory => {
                        sections.memories.memory(emit.memory_type(core.memories[number])?);
                    }
                    Sort::Global => emit.parse_global(&mut sections.globals, core.globals[number].clone())?,
                    Sort::Tag => {
                        sections.tags.tag(emit.tag_type(core.tags[number])?);
                    }
                    Sort::Function => {}
                }
            }
        }
        if has_late {
            if sections.tables.is_empty() {
                let slots = late.len() as u64;
                sections.tables.table(TableType {
                    element_type: RefType::FUNCREF,
                    table64: false,
                    minimum: slots,
                    maximum: Some(slots),
                    shared: false,
                });
            }
            sections.exports.export(TABLE, ExportKind::Table, 0);
        }
        for (name, sort, entity) in exports {
            sections.exports.export(name, export_kind(*sort), emit.at(*sort, *entity)?);
        }
        for (module, number) in &self.segments {
            emit.module = *module;
            emit.parse_element(&mut sections.elements, self.modules[*module].elements[*number].clone())?;
        }
        // Declared segments are not kept: one says it all.
        let declared: Vec<u32> = self
            .referenced
            .iter()
            .map(|entity| emit.at(Sort::Function, *entity))
            .collect::<Result<_, _>>()?;
        if !declared.is_empty() {
            sections.elements.declared(Elements::Functions(declared.into()));
        }
        for (module, core) in self.modules.iter().enumerate() {
            emit.module = module;
            for segment in &core.data {
                emit.parse_data(&mut sections.data, segment.clone())?;
            }
        }
        let counts_data = self.modules.iter().any(|core| core.counts_data).then_some(data_count);
        let moved = sections.code(bodies);
        let module = sections.finish(&emit.types, counts_data);
        let mut named = module.clone();
        let mut section = NameSection::new();
        section.functions(&names);
        named.section(&section);
        Ok(Linked { bytes: module.finish(), named: named.finish(), direct, late, first_slot, moved })
    }

    /// The first slot behind those that the code knows of: one table is what engines keep ready for a module, so the
    /// table of a language is made longer where there is one.
    fn first_slot(&self, exports: &[(&str, Sort, Entity)]) -> Result<u32, Unsuitable> {
        let mut tables = self.reached.iter().filter(|(sort, _)| *sort == Sort::Table);
        let Some((_, table)) = tables.next() else { return Ok(0) };
        let is_private = !exports.iter().any(|(_, sort, _)| *sort == Sort::Table);
        match table {
            Entity::Own(module, number) if tables.next().is_none() && is_private && !self.touches_tables => {
                let table = &self.modules[*module].tables[*number];
                let is_plain = matches!(table.init, TableInit::RefNull)
                    && table.ty.element_type == wasmparser::RefType::FUNCREF
                    && !table.ty.table64;
                let first = u32::try_from(table.ty.initial).ok().filter(|_| is_plain);
                first.ok_or(Unsuitable::Has("a table of a kind not known here"))
            }
            _ => Err(Unsuitable::Has("a table that its code changes, or several")),
        }
    }
}

/// Follows an import to what it is.
fn resolve(
    modules: &[Core<'_>],
    supplies: &[Vec<Supply>],
    sort: Sort,
    supply: &Supply,
    depth: usize,
) -> Result<Entity, Unsuitable> {
    if depth > modules.len() {
        return Err(Unsuitable::Has("imports that go in a circle"));
    }
    let (module, name) = match supply {
        Supply::Direct(function) => return Ok(Entity::Direct(*function)),
        Supply::Late(function) => return Ok(Entity::Late(*function)),
        Supply::Linked(module, name) => (*module, name),
    };
    let core = &modules[module];
    let export = core.exports.iter().find(|it| it.name == name && Sort::of(it.kind) == sort);
    let index = export.ok_or(Unsuitable::Has("an import from nowhere"))?.index as usize;
    let mut imported = core.imported(sort);
    match imported.nth(index) {
        Some((number, _)) => {
            let supply = supplies[module].get(number).ok_or(Unsuitable::Has("an import from nowhere"))?;
            resolve(modules, supplies, sort, supply, depth + 1)
        }
        None => Ok(Entity::Own(module, index - core.imported(sort).count())),
    }
}

/// A function that hands its parameters to what is in a slot of the table.
fn through_table(signature: Option<&FuncType>, ty: u32, slot: usize) -> Function {
    let mut function = Function::new([]);
    let parameters = signature.map_or(0, |signature| signature.params().len());
    for (parameter, _) in (0u32..).zip(0..parameters) {
        function.instruction(&Instruction::LocalGet(parameter));
    }
    function.instruction(&Instruction::I32Const(i32::try_from(slot).unwrap_or(i32::MAX)));
    function.instruction(&Instruction::CallIndirect { type_index: ty, table_index: 0 });
    function.instruction(&Instruction::End);
    function
}

fn export_kind(sort: Sort) -> ExportKind {
    match sort {
        Sort::Function => ExportKind::Func,
        Sort::Table => ExportKind::Table,
        Sort::Memory => ExportKind::Memory,
        Sort::Global => ExportKind::Global,
        Sort::Tag => ExportKind::Tag,
    }
}

/// The types of functions, each once.
#[derive(Default)]
struct Types {
    all: Vec<FuncType>,
}

impl Types {
    fn of(&mut self, ty: Option<&FuncType>) -> Result<u32, Unsuitable> {
        let ty = ty.ok_or(Unsuitable::Has("a type that is not there"))?;
        let at = self.all.iter().position(|it| it == ty).unwrap_or_else(|| {
            self.all.push(ty.clone());
            self.all.len() - 1
        });
        u32::try_from(at).map_err(|_| Unsuitable::Has("too many types"))
    }
}

/// The sections of the linked module.
#[derive(Default)]
struct Sections {
    imports: ImportSection,
    functions: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    tags: TagSection,
    globals: GlobalSection,
    exports: ExportSection,
    elements: ElementSection,
    code: CodeSection,
    data: DataSection,
}

impl Sections {
    /// Writes the code, and says where each piece of it came to be.
    fn code(&mut self, bodies: Vec<(Function, Vec<Moved>)>) -> Vec<Moved> {
        let mut all: Vec<Moved> = Vec::new();
        let mut at = leb128_bytes(bodies.len());
        for (function, moved) in bodies {
            let length = function.byte_len();
            at += leb128_bytes(length);
            all.extend(moved.into_iter().map(|it| Moved { now: it.now + at, ..it }));
            self.code.function(&function);
            at += u32::try_from(length).unwrap_or(u32::MAX);
        }
        all
    }

    fn finish(self, types: &Types, counts_data: Option<u32>) -> Module {
        let mut section = TypeSection::new();
        for ty in &types.all {
            let encoded = reencode::RoundtripReencoder.func_type(ty.clone());
            // A type that was read from a module can be written to one.
            if let Ok(ty) = encoded {
                section.ty().func_type(&ty);
            }
        }
        let mut module = Module::new();
        module.section(&section).section(&self.imports).section(&self.functions);
        if !self.tables.is_empty() {
            module.section(&self.tables);
        }
        if !self.memories.is_empty() {
            module.section(&self.memories);
        }
        if !self.tags.is_empty() {
            module.section(&self.tags);
        }
        if !self.globals.is_empty() {
            module.section(&self.globals);
        }
        module.section(&self.exports);
        if !self.elements.is_empty() {
            module.section(&self.elements);
        }
        if let Some(count) = counts_data {
            module.section(&DataCountSection { count });
        }
        module.section(&self.code);
        if !self.data.is_empty() {
            module.section(&self.data);
        }
        module
    }
}

/// How many bytes a number takes (LEB128).
fn leb128_bytes(number: usize) -> u32 {
    let bits = (usize::BITS - number.leading_zeros()).max(1);
    bits.div_ceil(7)
}

/// What code refers to.
#[derive(Default)]
struct Scan {
    found: BTreeSet<(Sort, u32)>,
    referenced: BTreeSet<u32>,
    segments: BTreeSet<u32>,
    touches_tables: bool,
}

impl Scan {
    fn body(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<(), Unsuitable> {
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let operator = reader.read()?;
            match operator {
                Operator::RefFunc { function_index } => {
                    self.referenced.insert(function_index);
                }
                Operator::TableGet { .. }
                | Operator::TableSet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableSize { .. }
                | Operator::TableFill { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. } => self.touches_tables = true,
                _ => {}
            }
            self.instruction(operator)?;
        }
        Ok(())
    }

    fn note(&mut self, sort: Sort, index: u32) -> Result<u32, reencode::Error> {
        self.found.insert((sort, index));
        Ok(index)
    }
}

impl Reencode for Scan {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        self.note(Sort::Function, index)
    }

    fn table_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        self.note(Sort::Table, index)
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        self.note(Sort::Memory, index)
    }

    fn global_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        self.note(Sort::Global, index)
    }

    fn tag_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        self.note(Sort::Tag, index)
    }

    fn element_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        self.segments.insert(index);
        Ok(index)
    }
}

/// Writes the code of one module after the other with the indices of the linked one.
struct Emit<'l, 'm, 'a> {
    linker: &'l Linker<'m, 'a>,
    /// The module whose code is written.
    module: usize,
    index: BTreeMap<(Sort, Entity), u32>,
    segments: BTreeMap<(usize, usize), u32>,
    /// How many data segments stand before those of each module.
    data_before: Vec<u32>,
    types: Types,
}

type EmitError = reencode::Error<Unsuitable>;

impl Emit<'_, '_, '_> {
    fn at(&self, sort: Sort, entity: Entity) -> Result<u32, Unsuitable> {
        self.index.get(&(sort, entity)).copied().ok_or(Unsuitable::Has("something that nothing reaches"))
    }

    fn mapped(&self, sort: Sort, index: u32) -> Result<u32, EmitError> {
        self.linker
            .entity(self.module, sort, index)
            .and_then(|entity| self.at(sort, entity))
            .map_err(reencode::Error::UserError)
    }

    /// A function's body, and where the pieces of it were.
    fn body(&mut self, body: &wasmparser::FunctionBody<'_>) -> Result<(Function, Vec<Moved>), Unsuitable> {
        let mut function = self.new_function_with_parsed_locals(body)?;
        let mut reader = body.get_operators_reader()?;
        let code_start = self.linker.modules[self.module].code_start;
        let module = u32::try_from(self.module).unwrap_or(u32::MAX);
        let mut moved: Vec<Moved> = Vec::new();
        while !reader.eof() {
            let was = u32::try_from(reader.original_position() - code_start).unwrap_or(u32::MAX);
            let now = u32::try_from(function.byte_len()).unwrap_or(u32::MAX);
            let goes_on = moved.last().is_some_and(|last| now - last.now == was - last.was);
            if !goes_on {
                moved.push(Moved { now, module, was });
            }
            function.instruction(&self.parse_instruction(&mut reader)?);
        }
        Ok((function, moved))
    }
}

impl Reencode for Emit<'_, '_, '_> {
    type Error = Unsuitable;

    fn type_index(&mut self, index: u32) -> Result<u32, EmitError> {
        let ty = self.linker.modules[self.module].types.get(index as usize);
        self.types.of(ty).map_err(reencode::Error::UserError)
    }

    fn function_index(&mut self, index: u32) -> Result<u32, EmitError> {
        self.mapped(Sort::Function, index)
    }

    fn table_index(&mut self, index: u32) -> Result<u32, EmitError> {
        self.mapped(Sort::Table, index)
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, EmitError> {
        self.mapped(Sort::Memory, index)
    }

    fn global_index(&mut self, index: u32) -> Result<u32, EmitError> {
        self.mapped(Sort::Global, index)
    }

    fn tag_index(&mut self, index: u32) -> Result<u32, EmitError> {
        self.mapped(Sort::Tag, index)
    }

    fn const_expr(&mut self, value: wasmparser::ConstExpr<'_>) -> Result<ConstExpr, EmitError> {
        let (linker, own) = (self.linker, self.module);
        let mut bytes = Vec::new();
        let operators = linker.expanded(own, value, 0).map_err(reencode::Error::UserError)?;
        for (module, operator) in operators {
            self.module = module;
            self.instruction(operator)?.encode(&mut bytes);
        }
        self.module = own;
        Ok(ConstExpr::raw(bytes))
    }

    fn data_index(&mut self, index: u32) -> Result<u32, EmitError> {
        Ok(self.data_before[self.module] + index)
    }

    fn element_index(&mut self, index: u32) -> Result<u32, EmitError> {
        let segment = self.segments.get(&(self.module, index as usize)).copied();
        segment.ok_or(reencode::Error::UserError(Unsuitable::Has("a segment that is not there")))
    }
}

impl From<EmitError> for Unsuitable {
    fn from(error: EmitError) -> Self {
        match error {
            reencode::Error::UserError(own) => own,
            reencode::Error::ParseError(error) => Self::Unreadable(error.to_string()),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

impl From<reencode::Error> for Unsuitable {
    fn from(error: reencode::Error) -> Self {
        match error {
            reencode::Error::ParseError(error) => Self::Unreadable(error.to_string()),
            other => Self::Unreadable(other.to_string()),
        }
    }
}
