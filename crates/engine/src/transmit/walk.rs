//! Walks over values by their types.

use wasmtime::component::Type;

use crate::value::Val;

/// The parts of a value with their types, except what is in a stream or a future.
pub(crate) fn each_child(value: &Val, ty: &Type, f: &mut dyn FnMut(&Val, &Type)) {
    // One walk for both: what is changed here is a copy of nothing.
    match (value, ty) {
        (Val::List(items), Type::List(list)) => items.iter().for_each(|item| f(item, &list.ty())),
        (Val::FixedLengthList(items), Type::FixedLengthList(list)) => {
            items.iter().for_each(|item| f(item, &list.ty()));
        }
        (Val::Tuple(items), Type::Tuple(tuple)) => {
            items.iter().zip(tuple.types()).for_each(|(item, ty)| f(item, &ty));
        }
        (Val::Map(entries), Type::Map(map)) => entries.iter().for_each(|(_, value)| f(value, &map.value())),
        (Val::Record(fields), Type::Record(record)) => {
            fields.iter().zip(record.fields()).for_each(|((_, value), field)| f(value, &field.ty));
        }
        (Val::Variant(case, Some(value)), Type::Variant(variant)) => {
            if let Some(ty) = variant.cases().find(|found| found.name == case).and_then(|case| case.ty) {
                f(value, &ty);
            }
        }
        (Val::Option(Some(value)), Type::Option(option)) => f(value, &option.ty()),
        (Val::Result(Ok(Some(value))), Type::Result(result)) => {
            result.ok().iter().for_each(|ty| f(value, ty));
        }
        (Val::Result(Err(Some(value))), Type::Result(result)) => {
            result.err().iter().for_each(|ty| f(value, ty));
        }
        _ => {}
    }
}

pub(super) type OnTransmit<'a> = dyn FnMut(&mut Val, &Type) -> Result<(), String> + 'a;

/// Calls `f` for every stream and future of a value, by its type, in a fixed order.
pub(super) fn each_transmit(value: &mut Val, ty: &Type, f: &mut OnTransmit<'_>) -> Result<(), String> {
    match (value, ty) {
        (value, Type::Stream(_) | Type::Future(_)) => f(value, ty),
        (Val::List(items), Type::List(list)) => {
            // A list of numbers is long, and there is nothing in it.
            let element = list.ty();
            if !may_have_transmits(&element) {
                return Ok(());
            }
            items.iter_mut().try_for_each(|item| each_transmit(item, &element, f))
        }
        (Val::FixedLengthList(items), Type::FixedLengthList(list)) => {
            items.iter_mut().try_for_each(|item| each_transmit(item, &list.ty(), f))
        }
        (Val::Tuple(items), Type::Tuple(tuple)) => {
            items.iter_mut().zip(tuple.types()).try_for_each(|(item, ty)| each_transmit(item, &ty, f))
        }
        (Val::Map(entries), Type::Map(map)) => {
            entries.iter_mut().try_for_each(|(_, value)| each_transmit(value, &map.value(), f))
        }
        (Val::Record(fields), Type::Record(record)) => fields
            .iter_mut()
            .zip(record.fields())
            .try_for_each(|((_, value), field)| each_transmit(value, &field.ty, f)),
        (Val::Variant(case, Some(value)), Type::Variant(variant)) => {
            let ty = variant.cases().find(|found| found.name == case).and_then(|case| case.ty);
            ty.map_or(Ok(()), |ty| each_transmit(value, &ty, f))
        }
        (Val::Option(Some(value)), Type::Option(option)) => each_transmit(value, &option.ty(), f),
        (Val::Result(Ok(Some(value))), Type::Result(result)) => {
            result.ok().map_or(Ok(()), |ty| each_transmit(value, &ty, f))
        }
        (Val::Result(Err(Some(value))), Type::Result(result)) => {
            result.err().map_or(Ok(()), |ty| each_transmit(value, &ty, f))
        }
        _ => Ok(()),
    }
}

fn may_have_transmits(ty: &Type) -> bool {
    !matches!(
        ty,
        Type::Bool
            | Type::S8
            | Type::U8
            | Type::S16
            | Type::U16
            | Type::S32
            | Type::U32
            | Type::S64
            | Type::U64
            | Type::Float32
            | Type::Float64
            | Type::Char
            | Type::String
            | Type::Enum(_)
            | Type::Flags(_)
    )
}
