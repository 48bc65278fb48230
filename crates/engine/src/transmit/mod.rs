//! Streams and futures: given as values, read out into values or handed on as they come.

mod collect;
mod element;
mod give;
mod sink;
mod walk;

pub(crate) use collect::collect;
pub(crate) use element::{carried, is_payload};
pub(crate) use give::{Feed, give_all, give_feed};
pub(crate) use sink::{Sink, pipe};
pub(crate) use walk::each_child;

use wasmtime::component::Type;

/// The type of a stream's elements or a future's value, where they have one.
fn payload(ty: &Type) -> Option<Type> {
    match ty {
        Type::Stream(stream) => stream.ty(),
        Type::Future(future) => future.ty(),
        _ => None,
    }
}

/// What is said of a stream or future that cannot be carried.
fn unsupported(ty: &Type) -> String {
    format!(
        "a `{}` cannot be passed to or from outside: {}",
        crate::value::show_type(ty),
        tenon_model::ELEMENT_SIZES
    )
}
