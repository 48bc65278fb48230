//! From a guest to values.

use std::slice;

use bytes::Bytes;
use wasmtime::component::__internal::wasmtime_environ::component::{
    TypeFlags, TypeListIndex, TypeMapIndex, VariantInfo,
};
use wasmtime::component::__internal::{InterfaceType, LiftContext};
use wasmtime::component::{FutureAny, Lift, ResourceAny, StreamAny};
use wasmtime::{Error, Result, ValRaw};

use super::{check_place, error_context, flat_of, no_flat, size_of_type};
use crate::value::Val;

/// Reads the value at an address.
///
/// # Errors
/// When the guest's memory does not hold a value of the type there, or it is more than one call may copy.
pub(crate) fn load(cx: &mut LiftContext<'_>, ty: InterfaceType, at: usize) -> Result<Val> {
    check_place(cx.types, ty, at, cx.memory().len())?;
    load_at(cx, ty, at)
}

/// The same, where the place was checked with what it is in.
fn load_at(cx: &mut LiftContext<'_>, ty: InterfaceType, at: usize) -> Result<Val> {
    let types = cx.types;
    let bytes = part(cx, at, size_of_type(types, ty))?;
    Ok(match ty {
        InterfaceType::Bool => Val::Bool(bool::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::S8 => Val::S8(i8::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::U8 => Val::U8(u8::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::S16 => Val::S16(i16::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::U16 => Val::U16(u16::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::S32 => Val::S32(i32::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::U32 => Val::U32(u32::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::S64 => Val::S64(i64::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::U64 => Val::U64(u64::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::Float32 => Val::Float32(f32::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::Float64 => Val::Float64(f64::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::Char => Val::Char(char::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::String => Val::String(String::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::List(index) => {
            let (start, length) = pair(cx, at)?;
            list(cx, index, start, length)?
        }
        InterfaceType::Map(index) => {
            let (start, length) = pair(cx, at)?;
            map(cx, index, start, length)?
        }
        InterfaceType::FixedLengthList(index) => {
            let list = &types[index];
            let size = size_of_type(types, list.element);
            cx.consume_fuel_array(list.size as usize, size_of::<Val>())?;
            let items = (0..list.size as usize).map(|index| load_at(cx, list.element, at + index * size));
            Val::FixedLengthList(items.collect::<Result<_>>()?)
        }
        InterfaceType::Record(index) => {
            let mut next = at;
            let fields = &types[index].fields;
            cx.consume_fuel_array(fields.len(), size_of::<Val>())?;
            let fields = fields.iter().map(|field| {
                cx.consume_fuel(field.name.len())?;
                let place = types.canonical_abi(&field.ty).next_field32_size(&mut next);
                Ok((field.name.to_string(), load_at(cx, field.ty, place)?))
            });
            Val::Record(fields.collect::<Result<_>>()?)
        }
        InterfaceType::Tuple(index) => {
            let mut next = at;
            let items = &types[index].types;
            cx.consume_fuel_array(items.len(), size_of::<Val>())?;
            let items =
                items.iter().map(|ty| load_at(cx, *ty, types.canonical_abi(ty).next_field32_size(&mut next)));
            Val::Tuple(items.collect::<Result<_>>()?)
        }
        InterfaceType::Variant(index) => {
            let variant = &types[index];
            let case = discriminant(cx, &variant.info, at)?;
            let (name, ty) = variant.cases.get_index(case).ok_or_else(|| no_case(case))?;
            cx.consume_fuel(name.len())?;
            Val::Variant(name.clone(), payload(cx, &variant.info, *ty, at)?)
        }
        InterfaceType::Enum(index) => {
            let cases = &types[index];
            let case = discriminant(cx, &cases.info, at)?;
            let name = cases.names.iter().nth(case).ok_or_else(|| no_case(case))?;
            cx.consume_fuel(name.len())?;
            Val::Enum(name.clone())
        }
        InterfaceType::Option(index) => {
            let option = &types[index];
            match discriminant(cx, &option.info, at)? {
                0 => Val::Option(None),
                1 => Val::Option(payload(cx, &option.info, Some(option.ty), at)?),
                other => return Err(no_case(other)),
            }
        }
        InterfaceType::Result(index) => {
            let result = &types[index];
            match discriminant(cx, &result.info, at)? {
                0 => Val::Result(Ok(payload(cx, &result.info, result.ok, at)?)),
                1 => Val::Result(Err(payload(cx, &result.info, result.err, at)?)),
                other => return Err(no_case(other)),
            }
        }
        InterfaceType::Flags(index) => Val::Flags(flags(cx, &types[index], bytes)?),
        InterfaceType::Own(_) | InterfaceType::Borrow(_) => {
            Val::Resource(ResourceAny::linear_lift_from_memory(cx, ty, bytes)?)
        }
        InterfaceType::Future(_) => Val::Future(FutureAny::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::Stream(_) => Val::Stream(StreamAny::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::ErrorContext(_) => return Err(error_context()),
    })
}

/// Bytes of the guest's memory.
fn part<'a>(cx: &LiftContext<'a>, at: usize, length: usize) -> Result<&'a [u8]> {
    let out = || Error::msg("a pointer is out of the bounds of memory");
    cx.memory().get(at..).and_then(|rest| rest.get(..length)).ok_or_else(out)
}

/// The address and the length of a list.
fn pair(cx: &mut LiftContext<'_>, at: usize) -> Result<(usize, usize)> {
    let mut word = |at| u32::linear_lift_from_memory(cx, InterfaceType::U32, part(cx, at, 4)?);
    Ok((word(at)? as usize, word(at + 4)? as usize))
}

fn check_items(cx: &LiftContext<'_>, start: usize, length: usize, size: usize, align: u32) -> Result<()> {
    match length.checked_mul(size).and_then(|bytes| start.checked_add(bytes)) {
        Some(end) if end <= cx.memory().len() => {}
        _ => return Err(Error::msg("a list is out of the bounds of memory")),
    }
    if !start.is_multiple_of(align as usize) {
        return Err(Error::msg("a list is not aligned"));
    }
    Ok(())
}

fn discriminant(cx: &mut LiftContext<'_>, info: &VariantInfo, at: usize) -> Result<usize> {
    Ok(match info.size.byte_size() {
        1 => u8::linear_lift_from_memory(cx, InterfaceType::U8, part(cx, at, 1)?)?.into(),
        2 => u16::linear_lift_from_memory(cx, InterfaceType::U16, part(cx, at, 2)?)?.into(),
        _ => u32::linear_lift_from_memory(cx, InterfaceType::U32, part(cx, at, 4)?)? as usize,
    })
}

fn payload(
    cx: &mut LiftContext<'_>,
    info: &VariantInfo,
    ty: Option<InterfaceType>,
    at: usize,
) -> Result<Option<Box<Val>>> {
    let Some(ty) = ty else { return Ok(None) };
    cx.consume_fuel(size_of::<Val>())?;
    Ok(Some(Box::new(load_at(cx, ty, at + info.payload_offset32 as usize)?)))
}

fn no_case(number: usize) -> Error {
    Error::msg(format!("there is no case {number}"))
}

/// The names of the flags that are set. Bits beyond the last name mean nothing.
fn flags(cx: &mut LiftContext<'_>, ty: &TypeFlags, bytes: &[u8]) -> Result<Vec<String>> {
    let is_set = |index: usize| bytes.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0);
    let set = ty.names.iter().enumerate().filter(|(index, _)| is_set(*index));
    set.map(|(_, name)| cx.consume_fuel(name.len()).map(|()| name.clone())).collect()
}

/// The elements of a list; bytes in one piece.
fn list(cx: &mut LiftContext<'_>, index: TypeListIndex, start: usize, length: usize) -> Result<Val> {
    let types = cx.types;
    let element = types[index].element;
    let size = size_of_type(types, element);
    check_items(cx, start, length, size, types.canonical_abi(&element).align32)?;
    if element == InterfaceType::U8 {
        cx.consume_fuel_array(length, size)?;
        return Ok(Val::Bytes(Bytes::copy_from_slice(part(cx, start, length)?)));
    }
    cx.consume_fuel_array(length, size_of::<Val>())?;
    let items = (0..length).map(|index| load_at(cx, element, start + index * size));
    Ok(Val::List(items.collect::<Result<_>>()?))
}

/// The entries of a map.
fn map(cx: &mut LiftContext<'_>, index: TypeMapIndex, start: usize, length: usize) -> Result<Val> {
    let map = &cx.types[index];
    let size = map.entry_abi.size32 as usize;
    check_items(cx, start, length, size, map.entry_abi.align32)?;
    cx.consume_fuel_array(length, size_of::<(Val, Val)>())?;
    let entries = (0..length).map(|index| {
        let entry = start + index * size;
        let key = load_at(cx, map.key, entry)?;
        Ok((key, load_at(cx, map.value, entry + map.value_offset32 as usize)?))
    });
    Ok(Val::Map(entries.collect::<Result<_>>()?))
}

/// Core values that a guest has passed, and of which some have been read.
pub(super) struct Flat<'a>(slice::Iter<'a, ValRaw>);

impl<'a> Flat<'a> {
    pub(super) fn new(values: &'a [ValRaw]) -> Self {
        Self(values.iter())
    }

    fn next(&mut self) -> Result<&'a ValRaw> {
        self.0.next().ok_or_else(no_flat)
    }

    /// The next core value as what it stands for.
    fn read<T: Lift<Lower = ValRaw>>(&mut self, cx: &mut LiftContext<'_>, ty: InterfaceType) -> Result<T> {
        T::linear_lift_from_flat(cx, ty, self.next()?)
    }

    /// An address and a length.
    fn pair(&mut self) -> Result<(usize, usize)> {
        Ok((self.next()?.get_u32() as usize, self.next()?.get_u32() as usize))
    }

    /// Those of one value, which may be more than are read of it.
    fn of(&mut self, cx: &LiftContext<'_>, ty: InterfaceType) -> Result<Self> {
        let values = self.0.as_slice();
        let count = flat_of(cx.types, ty).filter(|count| *count <= values.len()).ok_or_else(no_flat)?;
        let (own, rest) = values.split_at(count);
        self.0 = rest.iter();
        Ok(Self::new(own))
    }
}

/// Reads a value that is passed as core values.
///
/// # Errors
/// As [`load`].
pub(super) fn lift(cx: &mut LiftContext<'_>, ty: InterfaceType, flat: &mut Flat<'_>) -> Result<Val> {
    let types = cx.types;
    Ok(match ty {
        InterfaceType::Bool => Val::Bool(flat.read(cx, ty)?),
        InterfaceType::S8 => Val::S8(flat.read(cx, ty)?),
        InterfaceType::U8 => Val::U8(flat.read(cx, ty)?),
        InterfaceType::S16 => Val::S16(flat.read(cx, ty)?),
        InterfaceType::U16 => Val::U16(flat.read(cx, ty)?),
        InterfaceType::S32 => Val::S32(flat.read(cx, ty)?),
        InterfaceType::U32 => Val::U32(flat.read(cx, ty)?),
        InterfaceType::S64 => Val::S64(flat.read(cx, ty)?),
        InterfaceType::U64 => Val::U64(flat.read(cx, ty)?),
        InterfaceType::Float32 => Val::Float32(flat.read(cx, ty)?),
        InterfaceType::Float64 => Val::Float64(flat.read(cx, ty)?),
        InterfaceType::Char => Val::Char(flat.read(cx, ty)?),
        InterfaceType::String => {
            let pair = [*flat.next()?, *flat.next()?];
            Val::String(String::linear_lift_from_flat(cx, ty, &pair)?)
        }
        InterfaceType::List(index) => {
            let (start, length) = flat.pair()?;
            list(cx, index, start, length)?
        }
        InterfaceType::Map(index) => {
            let (start, length) = flat.pair()?;
            map(cx, index, start, length)?
        }
        InterfaceType::FixedLengthList(index) => {
            let list = &types[index];
            cx.consume_fuel_array(list.size as usize, size_of::<Val>())?;
            let items = (0..list.size).map(|_| lift(cx, list.element, flat));
            Val::FixedLengthList(items.collect::<Result<_>>()?)
        }
        InterfaceType::Record(index) => {
            let fields = &types[index].fields;
            cx.consume_fuel_array(fields.len(), size_of::<Val>())?;
            let fields = fields.iter().map(|field| {
                cx.consume_fuel(field.name.len())?;
                Ok((field.name.to_string(), lift(cx, field.ty, flat)?))
            });
            Val::Record(fields.collect::<Result<_>>()?)
        }
        InterfaceType::Tuple(index) => {
            let items = &types[index].types;
            cx.consume_fuel_array(items.len(), size_of::<Val>())?;
            Val::Tuple(items.iter().map(|ty| lift(cx, *ty, flat)).collect::<Result<_>>()?)
        }
        InterfaceType::Variant(index) => {
            let mut own = flat.of(cx, ty)?;
            let case = own.next()?.get_u32() as usize;
            let (name, ty) = types[index].cases.get_index(case).ok_or_else(|| no_case(case))?;
            cx.consume_fuel(name.len())?;
            Val::Variant(name.clone(), lift_payload(cx, *ty, &mut own)?)
        }
        InterfaceType::Enum(index) => {
            let case = flat.next()?.get_u32() as usize;
            let name = types[index].names.iter().nth(case).ok_or_else(|| no_case(case))?;
            cx.consume_fuel(name.len())?;
            Val::Enum(name.clone())
        }
        InterfaceType::Option(index) => {
            let mut own = flat.of(cx, ty)?;
            match own.next()?.get_u32() {
                0 => Val::Option(None),
                1 => Val::Option(lift_payload(cx, Some(types[index].ty), &mut own)?),
                other => return Err(no_case(other as usize)),
            }
        }
        InterfaceType::Result(index) => {
            let result = &types[index];
            let mut own = flat.of(cx, ty)?;
            match own.next()?.get_u32() {
                0 => Val::Result(Ok(lift_payload(cx, result.ok, &mut own)?)),
                1 => Val::Result(Err(lift_payload(cx, result.err, &mut own)?)),
                other => return Err(no_case(other as usize)),
            }
        }
        InterfaceType::Flags(index) => {
            let ty = &types[index];
            let words = (0..ty.names.len().div_ceil(32)).map(|_| Ok(flat.next()?.get_u32().to_le_bytes()));
            let bits = words.collect::<Result<Vec<_>>>()?;
            Val::Flags(flags(cx, ty, bits.as_flattened())?)
        }
        InterfaceType::Own(_) | InterfaceType::Borrow(_) => Val::Resource(flat.read(cx, ty)?),
        InterfaceType::Future(_) => Val::Future(flat.read(cx, ty)?),
        InterfaceType::Stream(_) => Val::Stream(flat.read(cx, ty)?),
        InterfaceType::ErrorContext(_) => return Err(error_context()),
    })
}

fn lift_payload(
    cx: &mut LiftContext<'_>,
    ty: Option<InterfaceType>,
    flat: &mut Flat<'_>,
) -> Result<Option<Box<Val>>> {
    let Some(ty) = ty else { return Ok(None) };
    cx.consume_fuel(size_of::<Val>())?;
    Ok(Some(Box::new(lift(cx, ty, flat)?)))
}
