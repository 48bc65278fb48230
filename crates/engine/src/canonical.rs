//! Values in a guest's memory, by types that are known only when a component is loaded: the Canonical ABI
//! (`CanonicalABI.md`, "Loading" and "Storing") for [`Val`].
//!
//! The engine does this for the parameters and results of a function and keeps it to itself; the elements of streams
//! and the payloads of futures it reads and writes only by types that are known when the host is built. What is here
//! is read and written through the engine's own checked access to memory, and every address is checked.

use wasmtime::component::__internal::wasmtime_environ::component::{TypeFlags, VariantInfo};
use wasmtime::component::__internal::{ComponentTypes, InterfaceType, LiftContext, LowerContext};
use wasmtime::component::{Lift, Lower, Val};
use wasmtime::{Error, Result};

/// Types within one type that are looked at: types share parts, so a small component can have one that is large.
const TYPES_MAX: usize = 100_000;

/// Whether a value of this type is all in memory: nothing in it is a handle, which would have to be taken over.
pub(crate) fn is_plain(types: &ComponentTypes, ty: InterfaceType) -> bool {
    plain(types, ty, &mut TYPES_MAX.clone())
}

fn plain(types: &ComponentTypes, ty: InterfaceType, left: &mut usize) -> bool {
    let Some(fewer) = left.checked_sub(1) else { return false };
    *left = fewer;
    match ty {
        InterfaceType::Own(_)
        | InterfaceType::Borrow(_)
        | InterfaceType::Future(_)
        | InterfaceType::Stream(_)
        | InterfaceType::ErrorContext(_) => false,
        InterfaceType::List(index) => plain(types, types[index].element, left),
        InterfaceType::FixedLengthList(index) => plain(types, types[index].element, left),
        InterfaceType::Map(index) => {
            plain(types, types[index].key, left) && plain(types, types[index].value, left)
        }
        InterfaceType::Record(index) => types[index].fields.iter().all(|field| plain(types, field.ty, left)),
        InterfaceType::Tuple(index) => types[index].types.iter().all(|ty| plain(types, *ty, left)),
        InterfaceType::Variant(index) => {
            types[index].cases.values().flatten().all(|ty| plain(types, *ty, left))
        }
        InterfaceType::Option(index) => plain(types, types[index].ty, left),
        InterfaceType::Result(index) => {
            let result = &types[index];
            result.ok.iter().chain(&result.err).all(|ty| plain(types, *ty, left))
        }
        _ => true,
    }
}

/// The bytes that a value of this type takes.
pub(crate) fn size_of_type(types: &ComponentTypes, ty: InterfaceType) -> usize {
    types.canonical_abi(&ty).size32 as usize
}

/// Checks that a value of this type may be at the address.
fn check_place(types: &ComponentTypes, ty: InterfaceType, at: usize, memory_bytes: usize) -> Result<()> {
    let abi = types.canonical_abi(&ty);
    if !at.is_multiple_of(abi.align32 as usize) {
        return Err(Error::msg("a pointer is not aligned"));
    }
    match at.checked_add(abi.size32 as usize) {
        Some(end) if end <= memory_bytes => Ok(()),
        _ => Err(Error::msg("a pointer is out of the bounds of memory")),
    }
}

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
            let element = types[index].element;
            let (start, length) = pair(cx, at)?;
            let size = size_of_type(types, element);
            check_items(cx, start, length, size, types.canonical_abi(&element).align32)?;
            cx.consume_fuel_array(length, size_of::<Val>())?;
            let items = (0..length).map(|index| load_at(cx, element, start + index * size));
            Val::List(items.collect::<Result<_>>()?)
        }
        InterfaceType::Map(index) => {
            let map = &types[index];
            let (start, length) = pair(cx, at)?;
            let size = map.entry_abi.size32 as usize;
            check_items(cx, start, length, size, map.entry_abi.align32)?;
            cx.consume_fuel_array(length, size_of::<(Val, Val)>())?;
            let entries = (0..length).map(|index| {
                let entry = start + index * size;
                let key = load_at(cx, map.key, entry)?;
                Ok((key, load_at(cx, map.value, entry + map.value_offset32 as usize)?))
            });
            Val::Map(entries.collect::<Result<_>>()?)
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
        InterfaceType::Own(_)
        | InterfaceType::Borrow(_)
        | InterfaceType::Future(_)
        | InterfaceType::Stream(_)
        | InterfaceType::ErrorContext(_) => return Err(Error::msg("a handle within a stream or future")),
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

/// Writes a value to an address, and what it points to wherever the guest makes room.
///
/// # Errors
/// When the value is not of the type, or the guest makes no room.
pub(crate) fn store<T>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    value: &Val,
    at: usize,
) -> Result<()> {
    let memory_bytes = cx.as_slice_mut().len();
    check_place(cx.types, ty, at, memory_bytes)?;
    store_at(cx, ty, value, at)
}

/// The same, where the place was checked with what it is in.
fn store_at<T>(cx: &mut LowerContext<'_, T>, ty: InterfaceType, value: &Val, at: usize) -> Result<()> {
    let types = cx.types;
    match (ty, value) {
        (InterfaceType::Bool, Val::Bool(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::S8, Val::S8(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::U8, Val::U8(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::S16, Val::S16(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::U16, Val::U16(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::S32, Val::S32(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::U32, Val::U32(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::S64, Val::S64(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::U64, Val::U64(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::Float32, Val::Float32(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::Float64, Val::Float64(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::Char, Val::Char(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::String, Val::String(value)) => value.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::List(index), Val::List(items)) => {
            let element = types[index].element;
            let abi = types.canonical_abi(&element);
            let size = abi.size32 as usize;
            let start = room(cx, items.len(), size, abi.align32)?;
            for (index, item) in items.iter().enumerate() {
                store_at(cx, element, item, start + index * size)?;
            }
            store_pair(cx, start, items.len(), at)
        }
        (InterfaceType::Map(index), Val::Map(entries)) => {
            let map = &types[index];
            let size = map.entry_abi.size32 as usize;
            let start = room(cx, entries.len(), size, map.entry_abi.align32)?;
            for (index, (key, value)) in entries.iter().enumerate() {
                let entry = start + index * size;
                store_at(cx, map.key, key, entry)?;
                store_at(cx, map.value, value, entry + map.value_offset32 as usize)?;
            }
            store_pair(cx, start, entries.len(), at)
        }
        (InterfaceType::FixedLengthList(index), Val::FixedLengthList(items)) => {
            let list = &types[index];
            check_length(list.size as usize, items.len())?;
            let size = size_of_type(types, list.element);
            let mut items = items.iter().enumerate();
            items.try_for_each(|(index, item)| store_at(cx, list.element, item, at + index * size))
        }
        (InterfaceType::Record(index), Val::Record(values)) => {
            let fields = &types[index].fields;
            check_length(fields.len(), values.len())?;
            let mut next = at;
            for ((name, value), field) in values.iter().zip(fields) {
                if *name != field.name {
                    return Err(Error::msg(format!("the field `{name}` is not the expected one")));
                }
                let place = types.canonical_abi(&field.ty).next_field32_size(&mut next);
                store_at(cx, field.ty, value, place)?;
            }
            Ok(())
        }
        (InterfaceType::Tuple(index), Val::Tuple(values)) => {
            let items = &types[index].types;
            check_length(items.len(), values.len())?;
            let mut next = at;
            for (value, ty) in values.iter().zip(items) {
                store_at(cx, *ty, value, types.canonical_abi(ty).next_field32_size(&mut next))?;
            }
            Ok(())
        }
        (InterfaceType::Variant(index), Val::Variant(name, value)) => {
            let variant = &types[index];
            let (case, _, ty) = variant.cases.get_full(name).ok_or_else(|| unknown(name))?;
            store_case(cx, &variant.info, case, *ty, value.as_deref(), at)
        }
        (InterfaceType::Enum(index), Val::Enum(name)) => {
            let cases = &types[index];
            let case = cases.names.get_index_of(name).ok_or_else(|| unknown(name))?;
            store_case(cx, &cases.info, case, None, None, at)
        }
        (InterfaceType::Option(index), Val::Option(value)) => {
            let option = &types[index];
            let ty = value.is_some().then_some(option.ty);
            store_case(cx, &option.info, usize::from(value.is_some()), ty, value.as_deref(), at)
        }
        (InterfaceType::Result(index), Val::Result(value)) => {
            let result = &types[index];
            match value {
                Ok(value) => store_case(cx, &result.info, 0, result.ok, value.as_deref(), at),
                Err(value) => store_case(cx, &result.info, 1, result.err, value.as_deref(), at),
            }
        }
        (InterfaceType::Flags(index), Val::Flags(names)) => store_flags(cx, &types[index], names, at),
        _ => Err(Error::msg("a value is not of its type")),
    }
}

fn room<T>(cx: &mut LowerContext<'_, T>, length: usize, size: usize, align: u32) -> Result<usize> {
    let bytes = length.checked_mul(size).ok_or_else(|| Error::msg("a list is too long"))?;
    // Checks that there is room where the guest says.
    cx.realloc(0, 0, align, bytes)
}

fn store_pair<T>(cx: &mut LowerContext<'_, T>, start: usize, length: usize, at: usize) -> Result<()> {
    u32::try_from(start)?.linear_lower_to_memory(cx, InterfaceType::U32, at)?;
    u32::try_from(length)?.linear_lower_to_memory(cx, InterfaceType::U32, at + 4)
}

fn store_case<T>(
    cx: &mut LowerContext<'_, T>,
    info: &VariantInfo,
    case: usize,
    ty: Option<InterfaceType>,
    value: Option<&Val>,
    at: usize,
) -> Result<()> {
    match info.size.byte_size() {
        1 => u8::try_from(case)?.linear_lower_to_memory(cx, InterfaceType::U8, at)?,
        2 => u16::try_from(case)?.linear_lower_to_memory(cx, InterfaceType::U16, at)?,
        _ => u32::try_from(case)?.linear_lower_to_memory(cx, InterfaceType::U32, at)?,
    }
    match (ty, value) {
        (Some(ty), Some(value)) => store_at(cx, ty, value, at + info.payload_offset32 as usize),
        (None, None) => Ok(()),
        _ => Err(Error::msg("a case has a value that it should not have, or none")),
    }
}

fn store_flags<T>(cx: &mut LowerContext<'_, T>, ty: &TypeFlags, set: &[String], at: usize) -> Result<()> {
    // "Element Size" of flags; the checked place has as many.
    let bytes = match ty.names.len() {
        0..=8 => 1,
        9..=16 => 2,
        names => names.div_ceil(32) * 4,
    };
    let mut bits = vec![0_u8; bytes];
    for name in set {
        let index = ty.names.get_index_of(name).ok_or_else(|| unknown(name))?;
        bits[index / 8] |= 1 << (index % 8);
    }
    let mut bits = bits.into_iter().enumerate();
    bits.try_for_each(|(index, bits)| bits.linear_lower_to_memory(cx, InterfaceType::U8, at + index))
}

fn check_length(expected: usize, found: usize) -> Result<()> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::msg("a value has another number of parts than its type"))
    }
}

fn unknown(name: &str) -> Error {
    Error::msg(format!("there is no case or flag `{name}`"))
}
