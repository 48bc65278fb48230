//! The functions that a component exports, and which of them can be called over HTTP.

use std::collections::BTreeSet;

use tenon_model::{ELEMENT_SIZES, ExportedFunction, http_paths, is_element_size, is_standard};
use wit_parser::{
    Docs, Function, FunctionKind, Handle, Resolve, SizeAlign, Type, TypeDefKind, TypeId, WorldId, WorldItem,
};

/// One exported function.
pub(super) struct Exported<'a> {
    /// Its name, and its interface's.
    pub(super) name: ExportedFunction,
    /// The documentation of its interface.
    pub(super) interface_docs: &'a Docs,
    /// The function.
    pub(super) function: &'a Function,
    /// Where it is found, the shortest first.
    pub(super) paths: Vec<String>,
    /// Why it cannot be called over HTTP, if it cannot.
    pub(super) skipped: Option<String>,
}

/// What a value may be sent as, beside as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing else.
    Json,
    /// `list<u8>`: the bytes.
    Octets,
    /// `stream<u8>`: the bytes, as they come.
    OctetStream,
    /// Another stream: a line of JSON for each element, as they come.
    Lines,
}

impl Form {
    /// Whether it is bytes.
    pub(super) fn is_octets(self) -> bool {
        matches!(self, Self::Octets | Self::OctetStream)
    }
}

/// Everything that `world` exports, in the order of the binary.
pub(super) fn exported(resolve: &Resolve, world: WorldId) -> Vec<Exported<'_>> {
    const NO_DOCS: &Docs = &Docs { contents: None };
    let mut found = Vec::new();
    for (key, item) in &resolve.worlds[world].exports {
        match item {
            WorldItem::Function(function) => {
                found.push((ExportedFunction::new(None, &function.name), NO_DOCS, function));
            }
            WorldItem::Interface { id, .. } => {
                let interface = resolve.name_world_key(key);
                let definition = &resolve.interfaces[*id];
                for function in definition.functions.values() {
                    let name = ExportedFunction::new(Some(&interface), &function.name);
                    found.push((name, &definition.docs, function));
                }
            }
            WorldItem::Type { .. } => {}
        }
    }
    let names: Vec<_> = found.iter().map(|(name, ..)| name.clone()).collect();
    let mut sizes = SizeAlign::default();
    // Where types are too large to have a size, no stream of any is carried.
    let sizes = sizes.fill(resolve).is_ok().then_some(sizes);
    found
        .into_iter()
        .zip(http_paths(&names))
        .map(|((name, interface_docs, function), paths)| {
            let skipped = why_not(resolve, sizes.as_ref(), &name, function);
            Exported { name, interface_docs, function, paths, skipped }
        })
        .collect()
}

/// Why `function` cannot be called by a request that knows nothing of any other request.
fn why_not(
    resolve: &Resolve,
    sizes: Option<&SizeAlign>,
    name: &ExportedFunction,
    function: &Function,
) -> Option<String> {
    if name.interface.as_deref().is_some_and(is_standard) {
        return Some("it is part of a standard interface, which is for hosts to call".into());
    }
    if !matches!(function.kind, FunctionKind::Freestanding | FunctionKind::AsyncFreestanding) {
        return Some("it belongs to a resource, which lives no longer than a request".into());
    }
    let types = || function.params.iter().map(|parameter| &parameter.ty).chain(&function.result);
    for ty in types() {
        if let Some(resource) = resource_of(resolve, ty) {
            return Some(format!("it needs the resource `{resource}`, which lives no longer than a request"));
        }
        if holds(resolve, ty, &|ty| matches!(ty, Type::ErrorContext)) {
            return Some("it has an `error-context`, which has no form outside a component".into());
        }
    }
    let unfit = |ty: &Type| match kind(resolve, ty) {
        Some(TypeDefKind::Stream(Some(element))) => {
            is_transmit_in(resolve, element)
                || !sizes.is_some_and(|sizes| is_element_size(sizes.size(element).size_wasm32()))
        }
        Some(TypeDefKind::Future(Some(payload))) => is_transmit_in(resolve, payload),
        _ => false,
    };
    types().any(|ty| holds(resolve, ty, &unfit)).then(|| ELEMENT_SIZES.to_owned())
}

/// Whether there is a stream or a future in a type.
fn is_transmit_in(resolve: &Resolve, ty: &Type) -> bool {
    holds(resolve, ty, &|ty| {
        matches!(kind(resolve, ty), Some(TypeDefKind::Stream(_) | TypeDefKind::Future(_)))
    })
}

/// The parts of a function's result: what is returned when all is well, and the error when its type is `result`.
pub(super) fn ok_and_err(resolve: &Resolve, result: &Type) -> (Option<Type>, Option<Option<Type>>) {
    let result = awaited(resolve, result);
    match kind(resolve, &result) {
        Some(TypeDefKind::Result(result)) => (result.ok, Some(result.err)),
        _ => (Some(result), None),
    }
}

/// What there is once a future has given it. One without a payload gives nothing else.
pub(super) fn awaited(resolve: &Resolve, ty: &Type) -> Type {
    match kind(resolve, ty) {
        Some(TypeDefKind::Future(Some(payload))) => *payload,
        _ => *ty,
    }
}

/// What the only parameter may be sent as.
pub(super) fn parameter_form(resolve: &Resolve, function: &Function) -> Form {
    match function.params.as_slice() {
        [only] => form(resolve, &only.ty),
        _ => Form::Json,
    }
}

/// What a value of this type may be sent as.
pub(super) fn form(resolve: &Resolve, ty: &Type) -> Form {
    let is_byte = |ty: &Type| matches!(resolved(resolve, ty), Type::U8);
    match kind(resolve, ty) {
        Some(TypeDefKind::List(element)) if is_byte(element) => Form::Octets,
        Some(TypeDefKind::Stream(Some(element))) if is_byte(element) => Form::OctetStream,
        Some(TypeDefKind::Stream(_)) => Form::Lines,
        _ => Form::Json,
    }
}

/// The type behind names that stand for another.
pub(super) fn resolved(resolve: &Resolve, ty: &Type) -> Type {
    let mut ty = *ty;
    while let Type::Id(id) = ty {
        match &resolve.types[id].kind {
            TypeDefKind::Type(other) => ty = *other,
            _ => break,
        }
    }
    ty
}

/// What sort of type it is, behind names that stand for another; `None` for a primitive one.
pub(super) fn kind<'a>(resolve: &'a Resolve, ty: &Type) -> Option<&'a TypeDefKind> {
    match resolved(resolve, ty) {
        Type::Id(id) => Some(&resolve.types[id].kind),
        _ => None,
    }
}

/// The name of a resource that a value of this type would hold.
fn resource_of(resolve: &Resolve, ty: &Type) -> Option<String> {
    let handle = find(resolve, ty, &|ty| matches!(kind(resolve, ty), Some(TypeDefKind::Handle(_))))?;
    let Some(TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id))) = kind(resolve, &handle) else {
        return None;
    };
    Some(resolve.types[*id].name.clone().unwrap_or_else(|| "_".into()))
}

/// Whether `is` says yes to `ty` or to anything within it.
fn holds(resolve: &Resolve, ty: &Type, is: &dyn Fn(&Type) -> bool) -> bool {
    find(resolve, ty, is).is_some()
}

/// `ty` or the first type within it that `is` says yes to. Each type is looked at once, however often it is used.
fn find(resolve: &Resolve, ty: &Type, is: &dyn Fn(&Type) -> bool) -> Option<Type> {
    let mut seen: BTreeSet<TypeId> = BTreeSet::new();
    let mut next = vec![*ty];
    while let Some(ty) = next.pop() {
        if is(&ty) {
            return Some(ty);
        }
        if let Type::Id(id) = ty
            && seen.insert(id)
        {
            next.extend(children(&resolve.types[id].kind));
        }
    }
    None
}

/// The types that a type is made of.
pub(super) fn children(kind: &TypeDefKind) -> Vec<Type> {
    match kind {
        TypeDefKind::Record(record) => record.fields.iter().map(|field| field.ty).collect(),
        TypeDefKind::Tuple(tuple) => tuple.types.clone(),
        TypeDefKind::Variant(variant) => variant.cases.iter().filter_map(|case| case.ty).collect(),
        TypeDefKind::Option(ty)
        | TypeDefKind::List(ty)
        | TypeDefKind::FixedLengthList(ty, _)
        | TypeDefKind::Type(ty) => vec![*ty],
        TypeDefKind::Map(key, value) => vec![*key, *value],
        TypeDefKind::Result(result) => result.ok.into_iter().chain(result.err).collect(),
        TypeDefKind::Future(ty) | TypeDefKind::Stream(ty) => ty.iter().copied().collect(),
        TypeDefKind::Flags(_)
        | TypeDefKind::Enum(_)
        | TypeDefKind::Resource
        | TypeDefKind::Handle(_)
        | TypeDefKind::Unknown => Vec::new(),
    }
}
