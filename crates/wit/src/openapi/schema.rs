//! Types as JSON Schema (2020-12), in the mapping of `docs/http-json.md`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use wit_parser::{Docs, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

use super::functions::{children, kind};

/// Schemas beyond this many are not written out: types without a name can share parts, so that a small component can
/// have one whose schema fills the memory.
const SCHEMAS_MAX: usize = 100_000;

/// The schemas of the named types that some functions use.
pub(super) struct Schemas<'a> {
    resolve: &'a Resolve,
    names: BTreeMap<TypeId, String>,
    left: Cell<usize>,
}

impl<'a> Schemas<'a> {
    /// Names every type within `roots`: by its own name while no other has that one, else with its interface before
    /// it, else with its package before that.
    pub(super) fn of(resolve: &'a Resolve, roots: impl Iterator<Item = Type>) -> Self {
        let mut found = BTreeSet::new();
        for root in roots {
            collect(resolve, &root, &mut found);
        }
        found.retain(|id| resolve.types[*id].name.is_some());
        let mut names = BTreeMap::new();
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        let candidates: Vec<(TypeId, [String; 3])> =
            found.into_iter().map(|id| (id, candidates(resolve, id))).collect();
        for (_, candidates) in &candidates {
            for candidate in BTreeSet::from_iter(candidates) {
                *taken.entry(candidate.clone()).or_default() += 1;
            }
        }
        for (id, candidates) in candidates {
            let clear = candidates.iter().find(|candidate| taken.get(*candidate) == Some(&1));
            let name = clear.cloned().unwrap_or_else(|| format!("{}.{}", candidates[2], id.index()));
            names.insert(id, name);
        }
        Self { resolve, names, left: Cell::new(SCHEMAS_MAX) }
    }

    /// The named types, by the name they have here.
    pub(super) fn named(&self) -> impl Iterator<Item = (TypeId, &str)> {
        self.names.iter().map(|(id, name)| (*id, name.as_str()))
    }

    /// `components.schemas`.
    pub(super) fn components(&self) -> Map<String, Value> {
        self.names.iter().map(|(id, name)| (name.clone(), self.definition(*id))).collect()
    }

    /// The schema of a named type where it is defined.
    fn definition(&self, id: TypeId) -> Value {
        let definition = &self.resolve.types[id];
        let mut schema = self.of_kind(&definition.kind);
        if let (Value::Object(schema), Some(text)) = (&mut schema, description(self.resolve, id)) {
            schema.insert("description".into(), text.into());
        }
        schema
    }

    /// The schema of a type where it is used.
    pub(super) fn used(&self, ty: &Type) -> Value {
        let Some(left) = self.left.get().checked_sub(1) else { return json!(true) };
        self.left.set(left);
        match ty {
            Type::Id(id) => match self.names.get(&origin(self.resolve, *id)) {
                Some(name) => json!({ "$ref": format!("#/components/schemas/{name}") }),
                None => self.of_kind(&self.resolve.types[*id].kind),
            },
            primitive => of_primitive(primitive),
        }
    }

    /// The schema of a value that may be missing altogether.
    fn payload(&self, ty: Option<&Type>) -> Value {
        ty.map_or_else(|| json!({ "type": "null" }), |ty| self.used(ty))
    }

    /// An object with these members. A member that may be `null` may also be left out.
    pub(super) fn object<'t>(
        &self,
        members: impl Iterator<Item = (&'t str, &'t Type, Option<&'t str>)>,
    ) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (name, ty, docs) in members {
            let mut schema = self.used(ty);
            if let (Value::Object(schema), Some(docs)) = (&mut schema, docs) {
                schema.insert("description".into(), docs.into());
            }
            properties.insert(name.to_owned(), schema);
            if !matches!(kind(self.resolve, ty), Some(TypeDefKind::Option(_))) {
                required.push(Value::from(name));
            }
        }
        json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    }

    fn of_kind(&self, kind: &TypeDefKind) -> Value {
        match kind {
            TypeDefKind::Record(record) => self.object(
                record.fields.iter().map(|field| (field.name.as_str(), &field.ty, text(&field.docs))),
            ),
            TypeDefKind::Flags(flags) => {
                let names: Vec<_> = flags.flags.iter().map(|flag| flag.name.as_str()).collect();
                json!({ "type": "array", "items": { "enum": names }, "uniqueItems": true })
            }
            TypeDefKind::Enum(cases) => {
                let names: Vec<_> = cases.cases.iter().map(|case| case.name.as_str()).collect();
                json!({ "type": "string", "enum": names })
            }
            TypeDefKind::Variant(variant) => {
                let cases: Vec<_> = variant
                    .cases
                    .iter()
                    .map(|case| {
                        let mut schema = match &case.ty {
                            None => json!({ "const": case.name }),
                            Some(ty) => self.one_of(&case.name, Some(ty)),
                        };
                        if let (Value::Object(schema), Some(docs)) = (&mut schema, text(&case.docs)) {
                            schema.insert("description".into(), docs.into());
                        }
                        schema
                    })
                    .collect();
                json!({ "oneOf": cases })
            }
            TypeDefKind::Tuple(tuple) => self.array_of(tuple.types.iter()),
            TypeDefKind::Map(key, value) => {
                json!({ "type": "array", "items": self.array_of([key, value].into_iter()) })
            }
            TypeDefKind::List(element) | TypeDefKind::Stream(Some(element)) => {
                match super::functions::resolved(self.resolve, element) {
                    Type::U8 => json!({ "type": "string", "contentEncoding": "base64" }),
                    _ => json!({ "type": "array", "items": self.used(element) }),
                }
            }
            TypeDefKind::Stream(None) => json!({ "type": "array", "items": { "type": "null" } }),
            TypeDefKind::FixedLengthList(element, length) => json!({
                "type": "array", "items": self.used(element), "minItems": length, "maxItems": length,
            }),
            TypeDefKind::Option(ty) => {
                let some = match self.nullable(ty) {
                    true => self.one_of("some", Some(ty)),
                    false => self.used(ty),
                };
                json!({ "anyOf": [some, { "type": "null" }] })
            }
            TypeDefKind::Result(result) => json!({ "oneOf": [
                self.one_of("ok", result.ok.as_ref()),
                self.one_of("err", result.err.as_ref()),
            ] }),
            TypeDefKind::Future(ty) => self.payload(ty.as_ref()),
            TypeDefKind::Type(ty) => self.used(ty),
            // Functions that need these are left out.
            TypeDefKind::Resource | TypeDefKind::Handle(_) | TypeDefKind::Unknown => json!(false),
        }
    }

    /// An object of the one member `name`.
    fn one_of(&self, name: &str, ty: Option<&Type>) -> Value {
        json!({
            "type": "object",
            "properties": { name: self.payload(ty) },
            "required": [name],
            "additionalProperties": false,
        })
    }

    fn array_of<'t>(&self, elements: impl ExactSizeIterator<Item = &'t Type>) -> Value {
        let length = elements.len();
        let elements: Vec<_> = elements.map(|ty| self.used(ty)).collect();
        json!({
            "type": "array", "prefixItems": elements, "items": false, "minItems": length, "maxItems": length,
        })
    }

    /// Whether a value of this type can be `null`, so that an option of it needs `{"some": …}`.
    fn nullable(&self, ty: &Type) -> bool {
        match kind(self.resolve, ty) {
            Some(TypeDefKind::Option(_) | TypeDefKind::Future(None)) => true,
            Some(TypeDefKind::Future(Some(ty))) => self.nullable(ty),
            _ => false,
        }
    }
}

fn of_primitive(ty: &Type) -> Value {
    let integer = |format: &str, minimum: i64, maximum: i64| json!({ "type": "integer", "format": format, "minimum": minimum, "maximum": maximum });
    let float = |format: &str| {
        json!({ "anyOf": [
            { "type": "number", "format": format },
            { "enum": ["NaN", "Infinity", "-Infinity"] },
        ] })
    };
    match ty {
        Type::Bool => json!({ "type": "boolean" }),
        Type::U8 => integer("uint8", 0, u8::MAX.into()),
        Type::S8 => integer("int8", i8::MIN.into(), i8::MAX.into()),
        Type::U16 => integer("uint16", 0, u16::MAX.into()),
        Type::S16 => integer("int16", i16::MIN.into(), i16::MAX.into()),
        Type::U32 => integer("uint32", 0, u32::MAX.into()),
        Type::S32 => integer("int32", i32::MIN.into(), i32::MAX.into()),
        Type::S64 => json!({
            "type": ["string", "integer"], "format": "int64", "pattern": "^-?[0-9]{1,19}$",
            "minimum": i64::MIN, "maximum": i64::MAX,
        }),
        Type::U64 => json!({
            "type": ["string", "integer"], "format": "uint64", "pattern": "^[0-9]{1,20}$",
            "minimum": 0, "maximum": u64::MAX,
        }),
        Type::F32 => float("float"),
        Type::F64 => float("double"),
        Type::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        Type::String => json!({ "type": "string" }),
        Type::ErrorContext => json!(false),
        Type::Id(_) => json!(true),
    }
}

/// The type that a name brought in by `use` stands for.
fn origin(resolve: &Resolve, id: TypeId) -> TypeId {
    let mut id = id;
    while let TypeDefKind::Type(Type::Id(other)) = resolve.types[id].kind {
        if resolve.types[other].name.is_none() {
            break;
        }
        id = other;
    }
    id
}

fn collect(resolve: &Resolve, ty: &Type, found: &mut BTreeSet<TypeId>) {
    let Type::Id(id) = ty else { return };
    let id = origin(resolve, *id);
    if !found.insert(id) {
        return;
    }
    for child in children(&resolve.types[id].kind) {
        collect(resolve, &child, found);
    }
}

/// What a type may be called, the shortest first. `:`, `/` and `@` cannot stand in the name of a schema.
fn candidates(resolve: &Resolve, id: TypeId) -> [String; 3] {
    let definition = &resolve.types[id];
    let name = definition.name.clone().unwrap_or_default();
    let TypeOwner::Interface(owner) = definition.owner else { return [name.clone(), name.clone(), name] };
    let interface = &resolve.interfaces[owner];
    let Some(interface_name) = &interface.name else { return [name.clone(), name.clone(), name] };
    let with_interface = format!("{interface_name}.{name}");
    let package = interface.package.map(|package| resolve.packages[package].name.to_string());
    let whole = match package {
        Some(package) => format!("{}.{with_interface}", package.replace([':', '@', '+'], ".")),
        None => with_interface.clone(),
    };
    [name, with_interface, whole]
}

/// What is said about a type: its own documentation, then that of its cases or flags, which JSON Schema has no
/// place for.
fn description(resolve: &Resolve, id: TypeId) -> Option<String> {
    let definition = &resolve.types[id];
    let mut lines: Vec<String> = text(&definition.docs).map(str::to_owned).into_iter().collect();
    let mut item = |name: &str, docs: &Docs| {
        if let Some(docs) = text(docs) {
            lines.push(format!("- `{name}`: {docs}"));
        }
    };
    match &definition.kind {
        TypeDefKind::Enum(cases) => cases.cases.iter().for_each(|case| item(&case.name, &case.docs)),
        TypeDefKind::Flags(flags) => flags.flags.iter().for_each(|flag| item(&flag.name, &flag.docs)),
        _ => {}
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The documentation, if there is any.
pub(super) fn text(docs: &Docs) -> Option<&str> {
    docs.contents.as_deref().map(str::trim).filter(|text| !text.is_empty())
}
