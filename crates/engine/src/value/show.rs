//! Types as WIT writes them.

use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ResourceType, Type};

/// A type that takes more characters than this is cut short: types are shared, so a small component can have one
/// whose text fills the memory.
const TYPE_CHARS_MAX: usize = 2_000;

/// What a component calls its types. The engine knows types by their structure only, so a name is used where it is
/// the only one of its structure.
#[derive(Clone, Debug, Default)]
pub struct TypeNames {
    types: Vec<(Type, String)>,
    resources: Vec<(ResourceType, String)>,
}

impl TypeNames {
    /// Takes in the name of a type.
    pub fn add(&mut self, name: &str, ty: Type) {
        if matches!(ty, Type::Record(_) | Type::Variant(_) | Type::Enum(_) | Type::Flags(_)) {
            self.types.push((ty, name.to_owned()));
        }
    }

    /// Takes in the name of a resource.
    pub fn add_resource(&mut self, name: &str, ty: ResourceType) {
        self.resources.push((ty, name.to_owned()));
    }

    /// What a type is called.
    pub fn name(&self, ty: &Type) -> Option<&str> {
        only(self.types.iter().filter(|(known, _)| known == ty).map(|(_, name)| name.as_str()))
    }

    /// What a resource is called.
    pub fn resource(&self, ty: &ResourceType) -> Option<&str> {
        only(self.resources.iter().filter(|(known, _)| known == ty).map(|(_, name)| name.as_str()))
    }

    /// A type, by its name where it has one.
    pub fn show(&self, ty: &Type) -> String {
        let mut text = Text::new(Some(self));
        text.write_type(ty);
        text.text
    }

    /// A function's type: `func(amount: f64) -> result<string, error>`.
    pub fn show_function(&self, function: &ComponentFunc) -> String {
        let params: Vec<String> =
            function.params().map(|(name, ty)| format!("{name}: {}", self.show(&ty))).collect();
        let result =
            function.results().next().map(|ty| format!(" -> {}", self.show(&ty))).unwrap_or_default();
        let keyword = if function.async_() { "async func" } else { "func" };
        format!("{keyword}({}){result}", params.join(", "))
    }

    /// The declarations of the named types that these types mention, and of those that they mention in turn.
    pub fn declarations(&self, types: impl IntoIterator<Item = Type>) -> Vec<String> {
        const DECLARATIONS_MAX: usize = 50;
        let mut seen: Vec<&str> = Vec::new();
        let mut declared = Vec::new();
        let mut next: Vec<Type> = types.into_iter().collect();
        let mut looked_at = 0;
        while let Some(ty) = next.pop() {
            looked_at += 1;
            if declared.len() == DECLARATIONS_MAX || looked_at > 10_000 {
                break;
            }
            if let Some(name) = self.name(&ty) {
                if seen.contains(&name) {
                    continue;
                }
                seen.push(name);
                let mut text = Text::new(Some(self));
                text.write_declaration(name, &ty);
                declared.push(text.text);
            }
            children(&ty, &mut next);
        }
        declared.sort();
        declared
    }
}

fn only<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

/// A type by its structure.
pub fn show_type(ty: &Type) -> String {
    let mut text = Text::new(None);
    text.write_type(ty);
    text.text
}

/// The types a type is made of.
fn children(ty: &Type, into: &mut Vec<Type>) {
    match ty {
        Type::List(list) => into.push(list.ty()),
        Type::FixedLengthList(list) => into.push(list.ty()),
        Type::Map(map) => into.extend([map.key(), map.value()]),
        Type::Record(record) => into.extend(record.fields().map(|field| field.ty)),
        Type::Tuple(tuple) => into.extend(tuple.types()),
        Type::Variant(variant) => into.extend(variant.cases().filter_map(|case| case.ty)),
        Type::Option(option) => into.push(option.ty()),
        Type::Result(result) => into.extend(result.ok().into_iter().chain(result.err())),
        Type::Future(future) => into.extend(future.ty()),
        Type::Stream(stream) => into.extend(stream.ty()),
        _ => {}
    }
}

struct Text<'a> {
    names: Option<&'a TypeNames>,
    text: String,
}

impl<'a> Text<'a> {
    fn new(names: Option<&'a TypeNames>) -> Self {
        Self { names, text: String::new() }
    }

    fn push(&mut self, text: &str) {
        if self.text.len() < TYPE_CHARS_MAX {
            self.text.push_str(text);
        } else if !self.text.ends_with('…') {
            self.text.push('…');
        }
    }

    fn write_type(&mut self, ty: &Type) {
        if self.text.len() >= TYPE_CHARS_MAX {
            return self.push("…");
        }
        if let Some(name) = self.names.and_then(|names| names.name(ty)) {
            return self.push(name);
        }
        match ty {
            Type::Bool => self.push("bool"),
            Type::S8 => self.push("s8"),
            Type::U8 => self.push("u8"),
            Type::S16 => self.push("s16"),
            Type::U16 => self.push("u16"),
            Type::S32 => self.push("s32"),
            Type::U32 => self.push("u32"),
            Type::S64 => self.push("s64"),
            Type::U64 => self.push("u64"),
            Type::Float32 => self.push("f32"),
            Type::Float64 => self.push("f64"),
            Type::Char => self.push("char"),
            Type::String => self.push("string"),
            Type::ErrorContext => self.push("error-context"),
            Type::List(list) => self.write_generic("list", [Some(list.ty())]),
            Type::FixedLengthList(list) => {
                self.push("list<");
                self.write_type(&list.ty());
                self.push(&format!(", {}>", list.len()));
            }
            Type::Map(map) => self.write_generic("map", [Some(map.key()), Some(map.value())]),
            Type::Tuple(tuple) => self.write_generic("tuple", tuple.types().map(Some)),
            Type::Option(option) => self.write_generic("option", [Some(option.ty())]),
            Type::Result(result) => match (result.ok(), result.err()) {
                (None, None) => self.push("result"),
                (ok, None) => self.write_generic("result", [ok]),
                (ok, err) => self.write_generic("result", [ok, err]),
            },
            Type::Future(future) => match future.ty() {
                None => self.push("future"),
                ty => self.write_generic("future", [ty]),
            },
            Type::Stream(stream) => match stream.ty() {
                None => self.push("stream"),
                ty => self.write_generic("stream", [ty]),
            },
            Type::Own(resource) => {
                let name = self.names.and_then(|names| names.resource(resource)).unwrap_or("resource");
                self.push(name);
            }
            Type::Borrow(resource) => {
                let name = self.names.and_then(|names| names.resource(resource)).unwrap_or("resource");
                self.push(&format!("borrow<{name}>"));
            }
            Type::Record(_) => {
                self.push("record");
                self.write_body(ty);
            }
            Type::Variant(_) => {
                self.push("variant");
                self.write_body(ty);
            }
            Type::Enum(_) => {
                self.push("enum");
                self.write_body(ty);
            }
            Type::Flags(_) => {
                self.push("flags");
                self.write_body(ty);
            }
        }
    }

    fn write_declaration(&mut self, name: &str, ty: &Type) {
        let keyword = match ty {
            Type::Record(_) => "record",
            Type::Variant(_) => "variant",
            Type::Enum(_) => "enum",
            Type::Flags(_) => "flags",
            _ => "type",
        };
        self.push(&format!("{keyword} {name}"));
        self.write_body(ty);
    }

    /// The braces of a type that has them.
    fn write_body(&mut self, ty: &Type) {
        self.push(" { ");
        match ty {
            Type::Record(record) => {
                for (index, field) in record.fields().enumerate() {
                    self.separate(index);
                    self.push(field.name);
                    self.push(": ");
                    self.write_type(&field.ty);
                }
            }
            Type::Variant(variant) => {
                for (index, case) in variant.cases().enumerate() {
                    self.separate(index);
                    self.push(case.name);
                    if let Some(ty) = &case.ty {
                        self.push("(");
                        self.write_type(ty);
                        self.push(")");
                    }
                }
            }
            Type::Enum(ty) => ty.names().enumerate().for_each(|(index, name)| {
                self.separate(index);
                self.push(name);
            }),
            Type::Flags(ty) => ty.names().enumerate().for_each(|(index, name)| {
                self.separate(index);
                self.push(name);
            }),
            _ => {}
        }
        self.push(" }");
    }

    fn write_generic(&mut self, name: &str, types: impl IntoIterator<Item = Option<Type>>) {
        self.push(name);
        self.push("<");
        for (index, ty) in types.into_iter().enumerate() {
            self.separate(index);
            match ty {
                Some(ty) => self.write_type(&ty),
                None => self.push("_"),
            }
        }
        self.push(">");
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.push(", ");
        }
    }
}
