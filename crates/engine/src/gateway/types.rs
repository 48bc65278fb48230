//! Which functions can be called by a request, told from their types.

use tenon_model::{ExportedFunction, is_standard};
use wasmtime::component::Type;
use wasmtime::component::types::ComponentFunc;

use super::Signature;

/// Types within one function that are looked at: types share parts, so a small component can have one that is large.
const TYPES_MAX: usize = 100_000;

/// Whether a value is one block of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Octets {
    /// No.
    No,
    /// `list<u8>`.
    List,
    /// `stream<u8>`.
    Stream,
}

/// What a function returns.
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
    /// Whether what is returned, when all is well, is one block of bytes.
    pub(crate) fn octets(&self) -> Octets {
        match self {
            Self::Value(ty) | Self::Result(Some(ty), _) => octets(ty),
            Self::Nothing | Self::Result(None, _) => Octets::No,
        }
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
    let takes = match parameters.as_slice() {
        [(_, ty)] => octets(ty),
        _ => Octets::No,
    };
    let mut left = TYPES_MAX;
    if takes == Octets::No {
        parameters.iter().try_for_each(|(_, ty)| plain(ty, &mut left))?;
    }
    let gives = match function.results().next() {
        None => Gives::Nothing,
        Some(Type::Result(result)) => Gives::Result(result.ok(), result.err()),
        Some(ty) => Gives::Value(ty),
    };
    match &gives {
        Gives::Nothing => {}
        Gives::Value(ty) => whole(ty, &mut left)?,
        Gives::Result(ok, err) => {
            ok.iter().try_for_each(|ty| whole(ty, &mut left))?;
            err.iter().try_for_each(|ty| plain(ty, &mut left))?;
        }
    }
    Ok((parameters, takes, gives))
}

fn octets(ty: &Type) -> Octets {
    match ty {
        Type::List(list) if matches!(list.ty(), Type::U8) => Octets::List,
        Type::Stream(stream) if matches!(stream.ty(), Some(Type::U8)) => Octets::Stream,
        _ => Octets::No,
    }
}

/// A value that is a stream of bytes, or has no streams in it.
fn whole(ty: &Type, left: &mut usize) -> Result<(), String> {
    if octets(ty) == Octets::Stream { Ok(()) } else { plain(ty, left) }
}

/// A value that can be written down.
fn plain(ty: &Type, left: &mut usize) -> Result<(), String> {
    *left = left.checked_sub(1).ok_or("its types are too large")?;
    match ty {
        Type::Own(_) | Type::Borrow(_) => {
            Err("it needs a resource, which lives no longer than a request".into())
        }
        Type::ErrorContext => Err("it has an `error-context`".into()),
        Type::Stream(_) | Type::Future(_) => {
            Err("a stream can be only `stream<u8>`, and the only parameter or the whole result".into())
        }
        Type::List(list) => plain(&list.ty(), left),
        Type::FixedLengthList(list) => plain(&list.ty(), left),
        Type::Map(map) => {
            plain(&map.key(), left)?;
            plain(&map.value(), left)
        }
        Type::Record(record) => record.fields().try_for_each(|field| plain(&field.ty, left)),
        Type::Tuple(tuple) => tuple.types().try_for_each(|ty| plain(&ty, left)),
        Type::Variant(variant) => {
            variant.cases().filter_map(|case| case.ty).try_for_each(|ty| plain(&ty, left))
        }
        Type::Option(option) => plain(&option.ty(), left),
        Type::Result(result) => {
            result.ok().into_iter().chain(result.err()).try_for_each(|ty| plain(&ty, left))
        }
        _ => Ok(()),
    }
}
