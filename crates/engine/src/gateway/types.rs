//! Which functions can be called by a request, told from their types.

use tenon_model::{ELEMENT_SIZES, ExportedFunction, is_standard};
use wasmtime::component::Type;
use wasmtime::component::types::ComponentFunc;

use super::Signature;
use crate::canonical::flat_count;
use crate::transmit::{carried, is_payload};

/// Types within one function that are looked at: types share parts, so a small component can have one that is large.
const TYPES_MAX: usize = 100_000;

/// What a value may be sent as, beside as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
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
    /// Whether it comes bit by bit.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Self::OctetStream | Self::Lines)
    }
}

/// What a function returns; of a future, what that gives.
#[derive(Clone, Debug)]
pub(crate) enum Gives {
    /// Nothing.
    Nothing,
    /// A value of this type.
    Value(Type),
    /// A `result`, each side with its payload's type if it has one.
    Result(Option<Type>, Option<Type>),
}

impl Gives {
    /// What is returned, when all is well.
    pub(crate) fn good(&self) -> Option<&Type> {
        match self {
            Self::Value(ty) | Self::Result(Some(ty), _) => Some(ty),
            Self::Nothing | Self::Result(None, _) => None,
        }
    }

    /// What that may be sent as.
    pub(crate) fn form(&self) -> Form {
        self.good().map_or(Form::Json, form)
    }
}

/// How a function is called, or why it cannot be. The reasons are those of `tenon_wit`, in fewer words.
pub(super) fn signature(name: &ExportedFunction, function: &ComponentFunc) -> Result<Signature, String> {
    if name.interface.as_deref().is_some_and(is_standard) {
        return Err("it is part of a standard interface".into());
    }
    if name.function.starts_with('[') {
        return Err("it belongs to a resource, which lives no longer than a request".into());
    }
    let parameters: Vec<(String, Type)> = function.params().map(|(name, ty)| (name.to_owned(), ty)).collect();
    let mut looked = Look { left: TYPES_MAX, transmits: false };
    parameters.iter().try_for_each(|(_, ty)| looked.at(ty))?;
    function.results().try_for_each(|ty| looked.at(&ty))?;
    let takes = match parameters.as_slice() {
        [(_, ty)] => form(ty),
        _ => Form::Json,
    };
    let gives = match function.results().next().map(awaited) {
        None => Gives::Nothing,
        Some(Type::Result(result)) => Gives::Result(result.ok(), result.err()),
        Some(ty) => Gives::Value(ty),
    };
    let (result, flat) = (function.results().next(), flat_count(function));
    Ok(Signature { parameters, result, flat, takes, gives, transmits: looked.transmits })
}

/// What there is once a future has given it. One without a payload gives nothing else.
fn awaited(ty: Type) -> Type {
    match &ty {
        Type::Future(future) => future.ty().unwrap_or(ty),
        _ => ty,
    }
}

/// What a value of this type may be sent as.
pub(super) fn form(ty: &Type) -> Form {
    match ty {
        Type::List(list) if matches!(list.ty(), Type::U8) => Form::Octets,
        Type::Stream(stream) if matches!(stream.ty(), Some(Type::U8)) => Form::OctetStream,
        Type::Stream(_) => Form::Lines,
        _ => Form::Json,
    }
}

/// A look through types: whether values of them can be written down.
struct Look {
    left: usize,
    /// Whether there is a stream or a future among them.
    transmits: bool,
}

impl Look {
    fn at(&mut self, ty: &Type) -> Result<(), String> {
        self.left = self.left.checked_sub(1).ok_or("its types are too large")?;
        match ty {
            Type::Own(_) | Type::Borrow(_) => {
                Err("it needs a resource, which lives no longer than a request".into())
            }
            Type::ErrorContext => Err("it has an `error-context`".into()),
            Type::Stream(stream) => {
                self.transmits = true;
                stream.ty().iter().try_for_each(|ty| self.at(ty))?;
                if carried(stream.ty().as_ref()) { Ok(()) } else { Err(ELEMENT_SIZES.into()) }
            }
            Type::Future(future) => {
                self.transmits = true;
                future.ty().iter().try_for_each(|ty| self.at(ty))?;
                if is_payload(future.ty().as_ref()) { Ok(()) } else { Err(ELEMENT_SIZES.into()) }
            }
            Type::List(list) => self.at(&list.ty()),
            Type::FixedLengthList(list) => self.at(&list.ty()),
            Type::Map(map) => {
                self.at(&map.key())?;
                self.at(&map.value())
            }
            Type::Record(record) => record.fields().try_for_each(|field| self.at(&field.ty)),
            Type::Tuple(tuple) => tuple.types().try_for_each(|ty| self.at(&ty)),
            Type::Variant(variant) => {
                variant.cases().filter_map(|case| case.ty).try_for_each(|ty| self.at(&ty))
            }
            Type::Option(option) => self.at(&option.ty()),
            Type::Result(result) => {
                result.ok().into_iter().chain(result.err()).try_for_each(|ty| self.at(&ty))
            }
            _ => Ok(()),
        }
    }
}
