//! The AssemblyScript code between the component's ABI and the author's modules: no generator for it exists.
//!
//! A value crosses through memory: each type gets a function that lifts it from its layout in the Canonical ABI, one
//! that lowers it there, and one that frees what the latter allocated. Core parameters and results are written to that
//! layout and read from it ("Flattening", `CanonicalABI.md`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tenon_model::Diagnostic;
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{
    Flags, FlagsRepr, Function, Int, InterfaceId, Resolve, SizeAlign, Type, TypeDefKind, TypeId, TypeOwner,
    WorldId, WorldItem, WorldKey,
};

/// The author's folder, and the generated one in it.
pub(super) const SOURCE_FOLDER: &str = "assembly";
pub(super) const GENERATED_FOLDER: &str = "assembly/wit";

pub(super) const RUNTIME: &str = include_str!("abi.ts");

/// Something the world exports, and the author's module that implements it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Export {
    /// The name in the world.
    pub(super) name: String,
    /// The author's file, without its ending, in [`SOURCE_FOLDER`].
    pub(super) module: String,
    /// The functions in it that the component calls, as declarations to begin with.
    pub(super) stub: String,
}

/// Generated code.
#[derive(Debug)]
pub(super) struct Glue {
    /// File in [`GENERATED_FOLDER`], and text.
    pub(super) files: BTreeMap<String, String>,
    pub(super) exports: Vec<Export>,
    /// What the compiler exports a function as, and what the component's ABI calls it.
    pub(super) names: Vec<(String, String)>,
}

/// A core value's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    I32,
    I64,
    F32,
    F64,
}

impl Core {
    fn name(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    fn of(ty: WasmType) -> Self {
        match ty {
            WasmType::I32 | WasmType::Pointer | WasmType::Length => Self::I32,
            WasmType::I64 | WasmType::PointerOrI64 => Self::I64,
            WasmType::F32 => Self::F32,
            WasmType::F64 => Self::F64,
        }
    }

    /// The type that holds either.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::I32, Self::F32) | (Self::F32, Self::I32) => Self::I32,
            _ => Self::I64,
        }
    }
}

/// `expression`, of type `from`, as it stands in a slot that was joined to `to`.
fn widen(expression: &str, from: Core, to: Core) -> String {
    match (from, to) {
        (Core::F32, Core::I32) => format!("reinterpret<i32>({expression})"),
        (Core::F32, Core::I64) => format!("<i64><u32>reinterpret<i32>({expression})"),
        (Core::I32, Core::I64) => format!("<i64><u32>({expression})"),
        (Core::F64, Core::I64) => format!("reinterpret<i64>({expression})"),
        _ => expression.to_owned(),
    }
}

/// The other way.
fn narrow(expression: &str, from: Core, to: Core) -> String {
    match (from, to) {
        (Core::I32, Core::F32) => format!("reinterpret<f32>({expression})"),
        (Core::I64, Core::F32) => format!("reinterpret<f32>(<i32>({expression}))"),
        (Core::I64, Core::I32) => format!("<i32>({expression})"),
        (Core::I64, Core::F64) => format!("reinterpret<f64>({expression})"),
        _ => expression.to_owned(),
    }
}

/// How a value that is one core value lies in memory, and what it is called in AssemblyScript.
struct Scalar {
    core: Core,
    /// The type to load and store.
    memory: &'static str,
    name: String,
}

struct Case {
    name: String,
    ty: Option<Type>,
}

/// The shapes that glue differs by.
enum Shape {
    Scalar(Scalar),
    String,
    Bytes,
    List(Type),
    /// The fields by name.
    Record(Vec<(String, Type)>),
    Variant(Vec<Case>),
    Option(Type),
    Result(Option<Type>, Option<Type>),
}

struct Generator<'a> {
    resolve: &'a Resolve,
    sizes: SizeAlign,
    /// The functions for the types, by a name for the type.
    helpers: BTreeMap<String, String>,
    tuples: BTreeMap<usize, String>,
}

impl Glue {
    pub(super) fn generate(resolve: &Resolve, world: WorldId) -> Result<Self, Diagnostic> {
        let mut sizes = SizeAlign::default();
        sizes.fill(resolve).map_err(|error| {
            Diagnostic::new("wit-invalid", "the contracts cannot be read").note("found", format!("{error:#}"))
        })?;
        let mut generator = Generator { resolve, sizes, helpers: BTreeMap::new(), tuples: BTreeMap::new() };
        generator.world(world)
    }
}

impl Generator<'_> {
    fn world(&mut self, id: WorldId) -> Result<Glue, Diagnostic> {
        let resolve = self.resolve;
        let world = &resolve.worlds[id];
        let mut types = wit_parser::LiveTypes::default();
        types.add_world(resolve, id);
        // A module for each owner of types.
        let mut modules: BTreeMap<String, String> = BTreeMap::new();
        for ty in types.iter() {
            self.supported(ty)?;
            if let Some(text) = self.declaration(ty) {
                let owner = resolve.types[ty].owner;
                modules.entry(self.module_of(owner)).or_default().push_str(&text);
            }
        }
        let mut names = Vec::new();
        let mut raw = String::new();
        for (key, item) in &world.imports {
            match item {
                WorldItem::Interface { id, .. } => {
                    let module = modules.entry(self.module_of(TypeOwner::Interface(*id))).or_default();
                    let from = resolve.name_world_key(key);
                    for function in resolve.interfaces[*id].functions.values() {
                        module.push_str(&self.import(&from, function));
                    }
                }
                WorldItem::Function(function) => {
                    let text = self.import("$root", function);
                    modules.entry("world".to_owned()).or_default().push_str(&text);
                }
                WorldItem::Type { .. } => {}
            }
        }
        let mut exports: Vec<Export> = Vec::new();
        for (key, item) in &world.exports {
            let (name, module, functions): (String, String, Vec<&Function>) = match item {
                WorldItem::Interface { id, .. } => (
                    resolve.name_world_key(key),
                    self.author_module(world.exports.keys(), key, *id),
                    resolve.interfaces[*id].functions.values().collect(),
                ),
                WorldItem::Function(function) => {
                    ("functions of the world".to_owned(), "world".to_owned(), vec![function])
                }
                WorldItem::Type { .. } => continue,
            };
            let prefix = match item {
                WorldItem::Interface { .. } => format!("{name}#"),
                _ => String::new(),
            };
            let mut stub = String::new();
            for function in functions {
                self.export(&module, &prefix, function, &mut raw, &mut names);
                stub.push_str(&self.stub(function));
            }
            match exports.iter_mut().find(|export| export.module == module) {
                Some(export) => export.stub.push_str(&stub),
                None => exports.push(Export { name, module, stub }),
            }
        }
        for export in &mut exports {
            export.stub = format!("{}\n{}", self.imports_of(&export.stub, "./wit/", &modules), export.stub);
        }

        let mut files = BTreeMap::new();
        let mut glue = String::new();
        for text in self.helpers.values() {
            glue.push_str(text);
        }
        for (module, text) in &modules {
            let head = self.imports_of(text, "./", &modules);
            files.insert(format!("{module}.ts"), format!("{HEADING}{head}{text}"));
        }
        files.insert(
            "glue.ts".to_owned(),
            format!("{HEADING}{}{glue}", self.imports_of(&glue, "./", &modules)),
        );
        let tuples: String = self.tuples.values().map(String::as_str).collect();
        files.insert("abi.ts".to_owned(), format!("{HEADING}{RUNTIME}{tuples}"));
        let mut head = self.imports_of(&raw, "./", &modules);
        for export in &exports {
            let _ = writeln!(head, "import * as {} from \"../{}\";", author(&export.module), export.module);
        }
        files.insert(
            "exports.ts".to_owned(),
            format!("{HEADING}{head}export {{ cabi_realloc }} from \"./abi\";\n{raw}"),
        );
        Ok(Glue { files, exports, names })
    }

    /// What the language has nothing for.
    fn supported(&self, id: TypeId) -> Result<(), Diagnostic> {
        let lacking = match &self.resolve.types[id].kind {
            TypeDefKind::FixedLengthList(..) => "lists of a fixed length",
            TypeDefKind::Map(..) => "maps",
            TypeDefKind::Flags(flags)
                if !matches!(flags.repr(), FlagsRepr::U8 | FlagsRepr::U16 | FlagsRepr::U32(1)) =>
            {
                "more than 32 flags in one type"
            }
            _ => return Ok(()),
        };
        Err(Diagnostic::new("language-lacks", format!("the world has {lacking}"))
            .mend("a component in AssemblyScript cannot have them: use another type, or another language"))
    }

    /// The author's file for an exported interface: its name, or its full one when another has the same.
    fn author_module<'k>(
        &self,
        keys: impl Iterator<Item = &'k WorldKey>,
        key: &WorldKey,
        id: InterfaceId,
    ) -> String {
        let short = |key: &WorldKey| match key {
            WorldKey::Name(name) => name.clone(),
            WorldKey::Interface(id) => self.resolve.interfaces[*id].name.clone().unwrap_or_default(),
        };
        let name = short(key);
        if keys.filter(|other| short(other) == name).count() > 1 || name == "world" {
            self.module_of(TypeOwner::Interface(id))
        } else {
            name
        }
    }

    /// The generated module that has an owner's types: `demo-auth-types`.
    fn module_of(&self, owner: TypeOwner) -> String {
        match owner {
            TypeOwner::Interface(id) => {
                let interface = &self.resolve.interfaces[id];
                let name = interface.name.as_deref().unwrap_or("inline");
                match interface.package.map(|package| &self.resolve.packages[package].name) {
                    Some(package) => {
                        let others = self.resolve.packages.iter().any(|(_, other)| {
                            (&other.name.namespace, &other.name.name) == (&package.namespace, &package.name)
                                && other.name.version != package.version
                        });
                        let version = match &package.version {
                            Some(version) if others => format!("-{version}").replace(['.', '+'], "-"),
                            _ => String::new(),
                        };
                        format!("{}-{}-{name}{version}", package.namespace, package.name)
                    }
                    None => name.to_owned(),
                }
            }
            TypeOwner::World(_) | TypeOwner::None => "world".to_owned(),
        }
    }

    /// The imports that `text` needs, told from the prefixes it uses.
    fn imports_of(&self, text: &str, here: &str, modules: &BTreeMap<String, String>) -> String {
        let mut imports = String::new();
        for (prefix, file) in [("abi", "abi"), ("glue", "glue")] {
            if mentions(text, prefix) {
                let _ = writeln!(imports, "import * as {prefix} from \"{here}{file}\";");
            }
        }
        for module in modules.keys() {
            let prefix = space(module);
            if mentions(text, &prefix) {
                let _ = writeln!(imports, "import * as {prefix} from \"{here}{module}\";");
            }
        }
        imports
    }

    /// The declaration of a named type.
    fn declaration(&mut self, id: TypeId) -> Option<String> {
        let def = &self.resolve.types[id];
        let name = pascal(def.name.as_deref()?);
        let mut text = String::new();
        match &def.kind {
            // Not an alias, which would name the type without its constructor.
            TypeDefKind::Type(Type::Id(target)) if self.resolve.types[*target].name.is_some() => {
                let target = &self.resolve.types[*target];
                let module = self.module_of(target.owner);
                let original = target.name.as_deref().map(pascal).unwrap_or_default();
                let _ = writeln!(text, "export {{ {original} as {name} }} from \"./{module}\";");
            }
            TypeDefKind::Record(record) => {
                let fields: Vec<String> = record
                    .fields
                    .iter()
                    .map(|field| format!("public {}: {}", camel(&field.name), self.name(&field.ty)))
                    .collect();
                let _ =
                    writeln!(text, "export class {name} {{\n  constructor({}) {{}}\n}}", fields.join(", "));
            }
            TypeDefKind::Enum(cases) => {
                let cases: Vec<String> = cases.cases.iter().map(|case| pascal(&case.name)).collect();
                let _ = writeln!(text, "export enum {name} {{ {} }}", cases.join(", "));
            }
            TypeDefKind::Flags(flags) => {
                let flags: Vec<String> = flags
                    .flags
                    .iter()
                    .enumerate()
                    .map(|(bit, flag)| format!("{} = {}", pascal(&flag.name), (1_u32 << bit).cast_signed()))
                    .collect();
                let _ = writeln!(text, "export enum {name} {{ None = 0, {} }}", flags.join(", "));
            }
            TypeDefKind::Variant(variant) => {
                let payloads: Vec<(String, Option<String>)> = variant
                    .cases
                    .iter()
                    .map(|case| (case.name.clone(), case.ty.map(|ty| self.name(&ty))))
                    .collect();
                let _ =
                    writeln!(text, "export class {name} {{\n  private constructor(readonly tag: i32) {{}}");
                for (tag, (case, ty)) in payloads.iter().enumerate() {
                    let (field, upper) = (camel(case), pascal(case));
                    let _ = writeln!(text, "  get is{upper}(): bool {{ return this.tag == {tag}; }}");
                    match ty {
                        Some(ty) => {
                            let _ = writeln!(
                                text,
                                "  private payload{tag}: {ty} = abi.nothing<{ty}>();\n  \
                                 get {field}(): {ty} {{\n    if (this.tag != {tag}) unreachable();\n    return this.payload{tag};\n  }}\n  \
                                 static of{upper}(value: {ty}): {name} {{\n    const made = new {name}({tag});\n    made.payload{tag} = value;\n    return made;\n  }}"
                            );
                        }
                        None => {
                            let _ = writeln!(
                                text,
                                "  static of{upper}(): {name} {{ return new {name}({tag}); }}"
                            );
                        }
                    }
                }
                text.push_str("}\n");
            }
            TypeDefKind::Type(_)
            | TypeDefKind::List(_)
            | TypeDefKind::Option(_)
            | TypeDefKind::Result(_)
            | TypeDefKind::Tuple(_) => {
                let target = match &def.kind {
                    TypeDefKind::Type(ty) => self.name(ty),
                    kind => self.anonymous_name(kind),
                };
                let _ = writeln!(text, "export type {name} = {target};");
            }
            _ => return None,
        }
        Some(text)
    }

    /// What a type is called in any of the generated modules.
    fn name(&mut self, ty: &Type) -> String {
        match ty {
            Type::Id(id) => {
                let def = &self.resolve.types[*id];
                match &def.name {
                    Some(name) => format!("{}.{}", space(&self.module_of(def.owner)), pascal(name)),
                    None => self.anonymous_name(&def.kind),
                }
            }
            Type::Char => "abi.char".to_owned(),
            Type::String | Type::ErrorContext => "string".to_owned(),
            other => scalar(other).map_or_else(|| "string".to_owned(), |scalar| scalar.name),
        }
    }

    fn payload_name(&mut self, ty: Option<&Type>) -> String {
        ty.map_or_else(|| "abi.Unit".to_owned(), |ty| self.name(ty))
    }

    fn anonymous_name(&mut self, kind: &TypeDefKind) -> String {
        match kind {
            TypeDefKind::List(Type::U8) => "Uint8Array".to_owned(),
            TypeDefKind::List(ty) => format!("Array<{}>", self.name(ty)),
            TypeDefKind::Option(ty) => format!("abi.Option<{}>", self.name(ty)),
            TypeDefKind::Result(result) => {
                let (ok, err) =
                    (self.payload_name(result.ok.as_ref()), self.payload_name(result.err.as_ref()));
                format!("abi.Result<{ok}, {err}>")
            }
            TypeDefKind::Tuple(tuple) => {
                let names: Vec<String> = tuple.types.iter().map(|ty| self.name(ty)).collect();
                self.tuple(names.len());
                format!("abi.Tuple{}<{}>", names.len(), names.join(", "))
            }
            TypeDefKind::Type(ty) => self.name(ty),
            // Refused before.
            _ => "void".to_owned(),
        }
    }

    /// A class for tuples of `length`.
    fn tuple(&mut self, length: usize) {
        let parameters: Vec<String> = (0..length).map(|at| format!("T{at}")).collect();
        let fields: Vec<String> = (0..length).map(|at| format!("public _{at}: T{at}")).collect();
        self.tuples.entry(length).or_insert_with(|| {
            format!(
                "\nexport class Tuple{length}<{}> {{\n  constructor({}) {{}}\n}}\n",
                parameters.join(", "),
                fields.join(", ")
            )
        });
    }

    fn shape(&mut self, ty: &Type) -> Shape {
        if let Some(scalar) = scalar(ty) {
            return Shape::Scalar(scalar);
        }
        let Type::Id(id) = ty else { return Shape::String };
        let name = self.name(ty);
        match &self.resolve.types[*id].kind {
            TypeDefKind::Type(ty) => self.shape(ty),
            TypeDefKind::List(Type::U8) => Shape::Bytes,
            TypeDefKind::List(ty) => Shape::List(*ty),
            TypeDefKind::Record(record) => {
                Shape::Record(record.fields.iter().map(|field| (camel(&field.name), field.ty)).collect())
            }
            TypeDefKind::Tuple(tuple) => Shape::Record(
                tuple.types.iter().enumerate().map(|(at, ty)| (format!("_{at}"), *ty)).collect(),
            ),
            TypeDefKind::Enum(cases) => {
                Shape::Scalar(Scalar { core: Core::I32, memory: int(cases.tag()), name })
            }
            TypeDefKind::Flags(flags) => {
                Shape::Scalar(Scalar { core: Core::I32, memory: flags_memory(flags), name })
            }
            TypeDefKind::Variant(variant) => Shape::Variant(
                variant.cases.iter().map(|case| Case { name: case.name.clone(), ty: case.ty }).collect(),
            ),
            TypeDefKind::Option(ty) => Shape::Option(*ty),
            TypeDefKind::Result(result) => Shape::Result(result.ok, result.err),
            // Refused before.
            _ => Shape::String,
        }
    }

    fn size(&self, ty: &Type) -> usize {
        self.sizes.size(ty).size_wasm32()
    }

    fn offsets(&self, fields: &[(String, Type)]) -> Vec<usize> {
        let types: Vec<&Type> = fields.iter().map(|(_, ty)| ty).collect();
        self.sizes.field_offsets(types).into_iter().map(|(offset, _)| offset.size_wasm32()).collect()
    }

    /// The discriminant's type in memory, where payloads begin, and the payloads.
    fn cases(&mut self, shape: &Shape) -> Option<(&'static str, usize, Vec<Option<Type>>)> {
        let cases: Vec<Option<Type>> = match shape {
            Shape::Variant(cases) => cases.iter().map(|case| case.ty).collect(),
            Shape::Option(ty) => vec![None, Some(*ty)],
            Shape::Result(ok, err) => vec![*ok, *err],
            _ => return None,
        };
        let tag = match cases.len() {
            0..=0x100 => Int::U8,
            0x101..=0x1_0000 => Int::U16,
            _ => Int::U32,
        };
        let offset = self.sizes.payload_offset(tag, cases.iter().map(Option::as_ref)).size_wasm32();
        Some((int(tag), offset, cases))
    }

    /// The core values that a value of this type is.
    fn flat(&mut self, ty: &Type) -> Vec<Core> {
        let shape = self.shape(ty);
        match &shape {
            Shape::Scalar(scalar) => vec![scalar.core],
            Shape::String | Shape::Bytes | Shape::List(_) => vec![Core::I32, Core::I32],
            Shape::Record(fields) => fields.iter().flat_map(|(_, ty)| self.flat(ty)).collect(),
            Shape::Variant(..) | Shape::Option(_) | Shape::Result(..) => {
                let mut joined = vec![Core::I32];
                for payload in self.cases(&shape).into_iter().flat_map(|(_, _, cases)| cases).flatten() {
                    for (at, core) in self.flat(&payload).into_iter().enumerate() {
                        match joined.get_mut(at + 1) {
                            Some(slot) => *slot = slot.join(core),
                            None => joined.push(core),
                        }
                    }
                }
                joined
            }
        }
    }

    /// Statements that write the core values `slots` to the layout of `ty` at `at` + `offset`.
    fn store(&mut self, ty: &Type, slots: &[(String, Core)], at: &str, offset: usize) -> String {
        let shape = self.shape(ty);
        match &shape {
            Shape::Scalar(scalar) => {
                let Some((slot, have)) = slots.first() else { return String::new() };
                let value = narrow(slot, *have, scalar.core);
                format!("store<{0}>({at}, <{0}>({value}), {offset}); ", scalar.memory)
            }
            Shape::String | Shape::Bytes | Shape::List(_) => slots
                .iter()
                .take(2)
                .enumerate()
                .map(|(word, (slot, have))| {
                    format!("store<i32>({at}, {}, {}); ", narrow(slot, *have, Core::I32), offset + 4 * word)
                })
                .collect(),
            Shape::Record(fields) => {
                let mut rest = slots;
                let mut text = String::new();
                for ((_, ty), place) in fields.iter().zip(self.offsets(fields)) {
                    let (own, more) = rest.split_at(self.flat(ty).len().min(rest.len()));
                    text.push_str(&self.store(ty, own, at, offset + place));
                    rest = more;
                }
                text
            }
            Shape::Variant(..) | Shape::Option(_) | Shape::Result(..) => {
                let Some(((slot, have), payload_slots)) = slots.split_first() else { return String::new() };
                let Some((tag, payload_at, cases)) = self.cases(&shape) else { return String::new() };
                let discriminant = narrow(slot, *have, Core::I32);
                let mut text = format!("store<{tag}>({at}, <{tag}>({discriminant}), {offset}); ");
                for (number, payload) in cases.iter().enumerate() {
                    if let Some(ty) = payload {
                        let inner: Vec<(String, Core)> = self
                            .flat(ty)
                            .into_iter()
                            .zip(payload_slots)
                            .map(|(want, (slot, have))| (narrow(slot, *have, want), want))
                            .collect();
                        let stored = self.store(ty, &inner, at, offset + payload_at);
                        let _ = write!(text, "if ({discriminant} == {number}) {{ {stored}}} ");
                    }
                }
                text
            }
        }
    }

    /// Expressions that read the core values of a `ty` from its layout at `at` + `offset`.
    fn load(&mut self, ty: &Type, at: &str, offset: usize) -> Vec<(String, Core)> {
        let shape = self.shape(ty);
        match &shape {
            Shape::Scalar(scalar) => {
                vec![(
                    format!("<{}>load<{}>({at}, {offset})", scalar.core.name(), scalar.memory),
                    scalar.core,
                )]
            }
            Shape::String | Shape::Bytes | Shape::List(_) => [offset, offset + 4]
                .into_iter()
                .map(|offset| (format!("load<i32>({at}, {offset})"), Core::I32))
                .collect(),
            Shape::Record(fields) => {
                let offsets = self.offsets(fields);
                fields
                    .iter()
                    .zip(offsets)
                    .flat_map(|((_, ty), place)| self.load(ty, at, offset + place))
                    .collect()
            }
            Shape::Variant(..) | Shape::Option(_) | Shape::Result(..) => {
                let slots = self.flat(ty);
                let Some((tag, payload_at, cases)) = self.cases(&shape) else { return Vec::new() };
                let discriminant = format!("<i32>load<{tag}>({at}, {offset})");
                let mut values: Vec<(String, Core)> = vec![(discriminant.clone(), Core::I32)];
                values.extend(slots.iter().skip(1).map(|core| (format!("<{}>0", core.name()), *core)));
                for (number, payload) in cases.iter().enumerate() {
                    let Some(ty) = payload else { continue };
                    for (slot, (value, core)) in
                        self.load(ty, at, offset + payload_at).into_iter().enumerate()
                    {
                        let (other, joined) = &values[slot + 1];
                        let value = widen(&value, core, *joined);
                        values[slot + 1] =
                            (format!("({discriminant} == {number} ? {value} : {other})"), *joined);
                    }
                }
                values
            }
        }
    }

    /// An expression that lifts a `ty` from its layout at `at`.
    fn lift(&mut self, ty: &Type, at: &str) -> String {
        match self.shape(ty) {
            Shape::Scalar(scalar) => lifted(&scalar, &format!("load<{}>({at})", scalar.memory)),
            Shape::String => format!("abi.liftString({at})"),
            Shape::Bytes => format!("abi.liftBytes({at})"),
            _ => format!("glue.lift_{}({at})", self.helper(ty)),
        }
    }

    /// A statement that lowers `value` to `at`.
    fn lower(&mut self, ty: &Type, value: &str, at: &str) -> String {
        match self.shape(ty) {
            Shape::Scalar(scalar) => format!("store<{0}>({at}, <{0}>({value})); ", scalar.memory),
            Shape::String => format!("abi.lowerString({value}, {at}); "),
            Shape::Bytes => format!("abi.lowerBytes({value}, {at}); "),
            _ => format!("glue.lower_{}({value}, {at}); ", self.helper(ty)),
        }
    }

    /// A statement that frees what lowering a `ty` to `at` allocated; empty when that is nothing.
    fn free(&mut self, ty: &Type, at: &str) -> String {
        if !self.allocates(ty) {
            return String::new();
        }
        match self.shape(ty) {
            Shape::String | Shape::Bytes => format!("abi.freeString({at}); "),
            _ => format!("glue.free_{}({at}); ", self.helper(ty)),
        }
    }

    fn allocates(&mut self, ty: &Type) -> bool {
        let shape = self.shape(ty);
        match &shape {
            Shape::Scalar(_) => false,
            Shape::String | Shape::Bytes | Shape::List(_) => true,
            Shape::Record(fields) => fields.iter().any(|(_, ty)| self.allocates(ty)),
            _ => self
                .cases(&shape)
                .into_iter()
                .flat_map(|(_, _, cases)| cases)
                .flatten()
                .any(|ty| self.allocates(&ty)),
        }
    }

    /// The name of the functions for a type that is more than a word, which are written when first asked for.
    fn helper(&mut self, ty: &Type) -> String {
        if let Type::Id(id) = ty
            && let TypeDefKind::Type(target) = &self.resolve.types[*id].kind
        {
            return self.helper(target);
        }
        let name = self.name(ty);
        let key: String = name
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '_' })
            .collect::<String>()
            .trim_end_matches('_')
            .to_owned();
        // Two types may only differ in what became a dash; their number tells them apart.
        let key = match ty {
            Type::Id(id) => format!("{key}_{}", id.index()),
            _ => key,
        };
        if self.helpers.contains_key(&key) {
            return key;
        }
        // Marks it as begun.
        self.helpers.insert(key.clone(), String::new());
        let (mut lift, mut lower, mut free) = (String::new(), String::new(), String::new());
        let shape = self.shape(ty);
        let at = |offset: usize| if offset == 0 { "at".to_owned() } else { format!("at + {offset}") };
        match &shape {
            Shape::List(item) => {
                let size = self.size(item);
                let element = self.name(item);
                let _ = write!(
                    lift,
                    "const pointer = load<usize>(at); const length = load<usize>(at, 4); \
                     const list = new Array<{element}>(<i32>length); \
                     for (let i: usize = 0; i < length; i++) list[<i32>i] = {}; \
                     abi.release(pointer, length); return list; ",
                    self.lift(item, &format!("pointer + i * {size}"))
                );
                let _ = write!(
                    lower,
                    "const length = <usize>value.length; const pointer: usize = length ? heap.alloc(length * {size}) : 8; \
                     for (let i: usize = 0; i < length; i++) {{ {}}} \
                     store<usize>(at, pointer); store<usize>(at, length, 4); ",
                    self.lower(item, "value[<i32>i]", &format!("pointer + i * {size}"))
                );
                let inner = self.free(item, &format!("pointer + i * {size}"));
                let _ = write!(free, "const pointer = load<usize>(at); const length = load<usize>(at, 4); ");
                if !inner.is_empty() {
                    let _ = write!(free, "for (let i: usize = 0; i < length; i++) {{ {inner}}} ");
                }
                let _ = write!(free, "abi.release(pointer, length); ");
            }
            Shape::Record(fields) => {
                let offsets = self.offsets(fields);
                let mut lifted = Vec::new();
                for ((field, ty), offset) in fields.iter().zip(offsets) {
                    lifted.push(self.lift(ty, &at(offset)));
                    lower.push_str(&self.lower(ty, &format!("value.{field}"), &at(offset)));
                    free.push_str(&self.free(ty, &at(offset)));
                }
                let _ = write!(lift, "return new {name}({}); ", lifted.join(", "));
            }
            Shape::Variant(..) | Shape::Option(_) | Shape::Result(..) => {
                let Some((tag, payload_at, cases)) = self.cases(&shape) else { return key };
                let place = at(payload_at);
                let _ = write!(lift, "const tag = <i32>load<{tag}>(at); ");
                let number = match &shape {
                    Shape::Variant(..) => "value.tag",
                    Shape::Option(_) => "(value.isSome ? 1 : 0)",
                    _ => "(value.isOk ? 0 : 1)",
                };
                let _ = write!(lower, "const tag: i32 = {number}; store<{tag}>(at, <{tag}>tag); ");
                let _ = write!(free, "const tag = <i32>load<{tag}>(at); ");
                let arguments = self.type_arguments(&shape);
                let last = cases.len().saturating_sub(1);
                for (case, payload) in cases.iter().enumerate() {
                    let lifted = payload.map(|ty| self.lift(&ty, &place));
                    let made = match &shape {
                        Shape::Variant(all) => {
                            format!("{name}.of{}({})", pascal(&all[case].name), lifted.unwrap_or_default())
                        }
                        Shape::Option(_) if case == 0 => format!("abi.none<{arguments}>()"),
                        Shape::Option(_) => format!("abi.some<{arguments}>({})", lifted.unwrap_or_default()),
                        _ => {
                            let make = if case == 0 { "ok" } else { "err" };
                            format!("abi.{make}<{arguments}>({})", lifted.unwrap_or_else(|| "0".to_owned()))
                        }
                    };
                    let _ = if case == last {
                        write!(lift, "return {made}; ")
                    } else {
                        write!(lift, "if (tag == {case}) return {made}; ")
                    };
                    if let Some(ty) = payload {
                        let field = match &shape {
                            Shape::Variant(all) => camel(&all[case].name),
                            Shape::Option(_) => "value".to_owned(),
                            _ if case == 0 => "value".to_owned(),
                            _ => "error".to_owned(),
                        };
                        let lowered = self.lower(ty, &format!("value.{field}"), &place);
                        let _ = write!(lower, "if (tag == {case}) {{ {lowered}}} ");
                        let freed = self.free(ty, &place);
                        if !freed.is_empty() {
                            let _ = write!(free, "if (tag == {case}) {{ {freed}}} ");
                        }
                    }
                }
            }
            Shape::Scalar(_) | Shape::String | Shape::Bytes => {}
        }
        let mut text = format!(
            "export function lift_{key}(at: usize): {name} {{ {lift}}}\n\
             export function lower_{key}(value: {name}, at: usize): void {{ {lower}}}\n"
        );
        if self.allocates(ty) {
            let _ = writeln!(text, "export function free_{key}(at: usize): void {{ {free}}}");
        }
        // Within this module they go by their plain names.
        let text = text
            .replace("glue.lift_", "lift_")
            .replace("glue.lower_", "lower_")
            .replace("glue.free_", "free_");
        self.helpers.insert(key.clone(), text);
        key
    }

    fn type_arguments(&mut self, shape: &Shape) -> String {
        match shape {
            Shape::Option(ty) => self.name(ty),
            Shape::Result(ok, err) => {
                format!("{}, {}", self.payload_name(ok.as_ref()), self.payload_name(err.as_ref()))
            }
            _ => String::new(),
        }
    }

    fn parameters(function: &Function) -> Vec<(String, Type)> {
        function.params.iter().map(|param| (camel(&param.name), param.ty)).collect()
    }

    /// The head of a function as an author writes it.
    fn head(&mut self, function: &Function) -> String {
        let parameters: Vec<String> = Self::parameters(function)
            .iter()
            .map(|(name, ty)| format!("{name}: {}", self.name(ty)))
            .collect();
        let result = function.result.map_or_else(|| "void".to_owned(), |ty| self.name(&ty));
        format!("export function {}({}): {result}", camel(&function.name), parameters.join(", "))
    }

    fn stub(&mut self, function: &Function) -> String {
        format!("{} {{\n  // ...\n}}\n", self.head(function))
    }

    /// A place for values of these types, in memory that is there from the start; a component is not entered again
    /// while it runs, so one for each function will do.
    fn area(&self, name: &str, types: &[(String, Type)]) -> String {
        let types: Vec<&Type> = types.iter().map(|(_, ty)| ty).collect();
        let layout = self.sizes.record(types);
        let (size, align) = (layout.size.size_wasm32().max(1), layout.align.align_wasm32().max(4));
        format!("const {name} = memory.data({size}, {align});\n")
    }

    /// A function that the author calls, which calls the component's import.
    fn import(&mut self, from: &str, function: &Function) -> String {
        let signature = self.resolve.wasm_signature(AbiVariant::GuestImport, function);
        let raw = format!("raw_{}", plain(&function.name));
        let parameters = Self::parameters(function);
        let mut text = self.raw_import(from, function, &signature, &raw);
        let area = format!("area_{}", plain(&function.name));
        let result_area = format!("result_{}", plain(&function.name));
        text.push_str(&self.area(&area, &parameters));
        if let Some(ty) = function.result {
            text.push_str(&self.area(&result_area, &[(String::new(), ty)]));
        }
        let _ = write!(text, "{} {{ ", self.head(function));
        let offsets = self.offsets(&parameters);
        let (mut arguments, mut after) = (Vec::new(), String::new());
        for ((parameter, ty), offset) in parameters.iter().zip(offsets) {
            let at = format!("{area} + {offset}");
            text.push_str(&self.lower(ty, parameter, &at));
            after.push_str(&self.free(ty, &at));
            arguments.extend(self.load(ty, &area, offset).into_iter().map(|(value, _)| value));
        }
        if signature.indirect_params {
            arguments = vec![format!("<i32>{area}")];
        }
        if signature.retptr {
            arguments.push(format!("<i32>{result_area}"));
        }
        let call = format!("{raw}({})", arguments.join(", "));
        match function.result {
            Some(ty) if !signature.retptr => {
                let core = signature.results.first().map_or(Core::I32, |ty| Core::of(*ty));
                let stored = self.store(&ty, &[("returned".to_owned(), core)], &result_area, 0);
                let lifted = self.lift(&ty, &result_area);
                let _ = write!(text, "const returned = {call}; {stored}{after}return {lifted}; ");
            }
            Some(ty) => {
                let lifted = self.lift(&ty, &result_area);
                let _ = write!(text, "{call}; {after}return {lifted}; ");
            }
            None => {
                let _ = write!(text, "{call}; {after}");
            }
        }
        text.push_str("}\n");
        text
    }

    fn raw_import(&self, from: &str, function: &Function, signature: &WasmSignature, raw: &str) -> String {
        let parameters: Vec<String> = signature
            .params
            .iter()
            .enumerate()
            .map(|(at, ty)| format!("p{at}: {}", Core::of(*ty).name()))
            .collect();
        let result = signature.results.first().map_or("void", |ty| Core::of(*ty).name());
        format!(
            "// @ts-ignore: decorator\n@external({from:?}, {:?})\ndeclare function {raw}({}): {result};\n",
            function.name,
            parameters.join(", ")
        )
    }

    /// A function that the component exports, which calls the author's.
    fn export(
        &mut self,
        module: &str,
        prefix: &str,
        function: &Function,
        text: &mut String,
        names: &mut Vec<(String, String)>,
    ) {
        let signature = self.resolve.wasm_signature(AbiVariant::GuestExport, function);
        let name = format!("export_{}_{}", plain(module), plain(&function.name));
        names.push((name.clone(), format!("{prefix}{}", function.name)));
        let parameters = Self::parameters(function);
        let area = format!("area_{name}");
        let result_area = format!("result_{name}");
        text.push_str(&self.area(&area, &parameters));
        if let Some(ty) = function.result {
            text.push_str(&self.area(&result_area, &[(String::new(), ty)]));
        }
        let core: Vec<Core> = signature.params.iter().map(|ty| Core::of(*ty)).collect();
        let declared: Vec<String> =
            core.iter().enumerate().map(|(at, core)| format!("p{at}: {}", core.name())).collect();
        let result = signature.results.first().map_or("void", |ty| Core::of(*ty).name());
        let _ = write!(text, "export function {name}({}): {result} {{ ", declared.join(", "));
        let offsets = self.offsets(&parameters);
        let base = if signature.indirect_params { "p0" } else { area.as_str() };
        let mut slots = core.iter().enumerate().map(|(at, core)| (format!("p{at}"), *core));
        let mut arguments = Vec::new();
        for (at, ((_, ty), offset)) in parameters.iter().zip(offsets).enumerate() {
            if !signature.indirect_params {
                let own: Vec<(String, Core)> = slots.by_ref().take(self.flat(ty).len()).collect();
                text.push_str(&self.store(ty, &own, &area, offset));
            }
            let lifted = self.lift(ty, &format!("{base} + {offset}"));
            let _ = write!(text, "const a{at} = {lifted}; ");
            arguments.push(format!("a{at}"));
        }
        if signature.indirect_params {
            text.push_str("heap.free(<usize>p0); ");
        }
        let call = format!("{}.{}({})", author(module), camel(&function.name), arguments.join(", "));
        match function.result {
            None => {
                let _ = write!(text, "{call}; ");
            }
            Some(ty) => {
                let lowered = self.lower(&ty, "returned", &result_area);
                let _ = write!(text, "const returned = {call}; {lowered}");
                if signature.retptr {
                    let _ = write!(text, "return <i32>{result_area}; ");
                } else {
                    let loaded = self.load(&ty, &result_area, 0);
                    let value = loaded.first().map_or("0", |(value, _)| value.as_str());
                    let _ = write!(text, "return {value}; ");
                }
            }
        }
        text.push_str("}\n");
        let freed = function.result.map(|ty| self.free(&ty, "<usize>p0")).unwrap_or_default();
        if signature.retptr && !freed.is_empty() {
            let _ = writeln!(text, "export function post_{name}(p0: i32): void {{ {freed}}}");
            names.push((format!("post_{name}"), format!("cabi_post_{prefix}{}", function.name)));
        }
    }
}

const HEADING: &str = "// Written by `tenon build`.\n";

/// The alias that a generated module is imported under.
fn space(module: &str) -> String {
    format!("wit_{}", plain(module))
}

/// The alias that a module of the author's is imported under.
fn author(module: &str) -> String {
    format!("own_{}", plain(module))
}

fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect()
}

/// Whether `text` has `prefix` as a name before a dot.
fn mentions(text: &str, prefix: &str) -> bool {
    let dotted = format!("{prefix}.");
    text.match_indices(&dotted)
        .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.'))
}

fn lifted(scalar: &Scalar, loaded: &str) -> String {
    match scalar.name.as_str() {
        "bool" => format!("({loaded} != 0)"),
        name => format!("<{name}>{loaded}"),
    }
}

fn scalar(ty: &Type) -> Option<Scalar> {
    let (core, memory, name) = match ty {
        Type::Bool => (Core::I32, "u8", "bool"),
        Type::U8 => (Core::I32, "u8", "u8"),
        Type::S8 => (Core::I32, "i8", "i8"),
        Type::U16 => (Core::I32, "u16", "u16"),
        Type::S16 => (Core::I32, "i16", "i16"),
        Type::U32 => (Core::I32, "u32", "u32"),
        Type::S32 => (Core::I32, "i32", "i32"),
        Type::U64 => (Core::I64, "u64", "u64"),
        Type::S64 => (Core::I64, "i64", "i64"),
        Type::F32 => (Core::F32, "f32", "f32"),
        Type::F64 => (Core::F64, "f64", "f64"),
        Type::Char => (Core::I32, "u32", "u32"),
        Type::String | Type::ErrorContext | Type::Id(_) => return None,
    };
    Some(Scalar { core, memory, name: name.to_owned() })
}

fn int(tag: Int) -> &'static str {
    match tag {
        Int::U8 => "u8",
        Int::U16 => "u16",
        Int::U32 => "u32",
        Int::U64 => "u64",
    }
}

fn flags_memory(flags: &Flags) -> &'static str {
    match flags.repr() {
        FlagsRepr::U8 => "u8",
        FlagsRepr::U16 => "u16",
        FlagsRepr::U32(_) => "u32",
    }
}

fn pascal(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_uppercase().chain(letters.flat_map(char::to_lowercase)).collect()
            })
        })
        .collect()
}

/// WIT's kebab case as AssemblyScript has it; what the language keeps for itself gets a `_`. Words that it
/// only knows in places, such as `get`, are names like any other.
fn camel(name: &str) -> String {
    const KEPT: [&str; 58] = [
        "abstract",
        "any",
        "as",
        "async",
        "await",
        "bool",
        "boolean",
        "break",
        "case",
        "catch",
        "class",
        "const",
        "constructor",
        "continue",
        "debugger",
        "declare",
        "default",
        "delete",
        "do",
        "else",
        "enum",
        "export",
        "extends",
        "false",
        "finally",
        "for",
        "function",
        "if",
        "implements",
        "import",
        "in",
        "instanceof",
        "interface",
        "keyof",
        "let",
        "namespace",
        "new",
        "null",
        "number",
        "package",
        "private",
        "protected",
        "public",
        "readonly",
        "return",
        "static",
        "string",
        "super",
        "switch",
        "this",
        "throw",
        "true",
        "try",
        "typeof",
        "var",
        "void",
        "while",
        "with",
    ];
    let upper = pascal(name);
    let mut letters = upper.chars();
    let camel: String = letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
    if KEPT.contains(&camel.as_str()) { camel + "_" } else { camel }
}

#[cfg(test)]
mod tests {
    use super::camel;

    #[test]
    fn only_what_cannot_be_a_name_gets_another() {
        assert_eq!(camel("verify-token"), "verifyToken");
        for word in ["get", "set", "from", "is", "type", "module"] {
            assert_eq!(camel(word), word);
        }
        for word in ["delete", "new", "default", "string"] {
            assert_eq!(camel(word), format!("{word}_"));
        }
    }
}
