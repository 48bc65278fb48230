//! From values to a guest.

use std::mem::MaybeUninit;

use wasmtime::component::__internal::wasmtime_environ::component::{
    TypeFlags, TypeListIndex, TypeMapIndex, VariantInfo,
};
use wasmtime::component::__internal::{InterfaceType, LowerContext};
use wasmtime::component::Lower;
use wasmtime::{Error, Result, ValRaw};

use super::{FLAT_MAX, check_place, flat_of, no_flat, size_of_type};
use crate::value::Val;

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
        (InterfaceType::List(index), value) => {
            let (start, length) = store_list(cx, index, value)?;
            store_pair(cx, start, length, at)
        }
        (InterfaceType::Map(index), Val::Map(entries)) => {
            let start = store_map(cx, index, entries)?;
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
                check_name(name, &field.name)?;
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
        (InterfaceType::Own(_) | InterfaceType::Borrow(_), Val::Resource(resource)) => {
            resource.linear_lower_to_memory(cx, ty, at)
        }
        (InterfaceType::Future(_), Val::Future(future)) => future.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::Stream(_), Val::Stream(stream)) => stream.linear_lower_to_memory(cx, ty, at),
        _ => Err(of_another_type()),
    }
}

/// Puts the elements of a list where the guest makes room; bytes in one piece. Where that is, and how many they are.
fn store_list<T>(cx: &mut LowerContext<'_, T>, index: TypeListIndex, value: &Val) -> Result<(usize, usize)> {
    let types = cx.types;
    let element = types[index].element;
    let abi = types.canonical_abi(&element);
    let size = abi.size32 as usize;
    match value {
        Val::Bytes(bytes) if element == InterfaceType::U8 => {
            let start = room(cx, bytes.len(), size, abi.align32)?;
            let room = cx.as_slice_mut().get_mut(start..).and_then(|rest| rest.get_mut(..bytes.len()));
            room.ok_or_else(|| Error::msg("there is no room for a list"))?.copy_from_slice(bytes);
            Ok((start, bytes.len()))
        }
        Val::List(items) => {
            let start = room(cx, items.len(), size, abi.align32)?;
            for (index, item) in items.iter().enumerate() {
                store_at(cx, element, item, start + index * size)?;
            }
            Ok((start, items.len()))
        }
        _ => Err(of_another_type()),
    }
}

/// The same for the entries of a map.
fn store_map<T>(cx: &mut LowerContext<'_, T>, index: TypeMapIndex, entries: &[(Val, Val)]) -> Result<usize> {
    let map = &cx.types[index];
    let size = map.entry_abi.size32 as usize;
    let start = room(cx, entries.len(), size, map.entry_abi.align32)?;
    for (index, (key, value)) in entries.iter().enumerate() {
        let entry = start + index * size;
        store_at(cx, map.key, key, entry)?;
        store_at(cx, map.value, value, entry + map.value_offset32 as usize)?;
    }
    Ok(start)
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
    let mut bits = flag_bits(ty, set, bytes)?.into_iter().enumerate();
    bits.try_for_each(|(index, bits)| bits.linear_lower_to_memory(cx, InterfaceType::U8, at + index))
}

fn flag_bits(ty: &TypeFlags, set: &[String], bytes: usize) -> Result<Vec<u8>> {
    let mut bits = vec![0_u8; bytes];
    for name in set {
        let index = ty.names.get_index_of(name).ok_or_else(|| unknown(name))?;
        bits[index / 8] |= 1 << (index % 8);
    }
    Ok(bits)
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

fn check_name(found: &str, expected: &str) -> Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(Error::msg(format!("the field `{found}` is not the expected one")))
    }
}

fn of_another_type() -> Error {
    Error::msg("a value is not of its type")
}

/// Core values that a guest is passed, as far as they have been written. Those that were not are zero.
pub(super) struct Flat {
    values: [ValRaw; FLAT_MAX],
    written: usize,
}

impl Flat {
    /// What `params` are passed as by a function of these parameters: themselves, or where they are in memory.
    ///
    /// # Errors
    /// As [`store`].
    pub(super) fn of_params<T>(
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        params: &[Val],
    ) -> Result<[ValRaw; FLAT_MAX]> {
        let types = cx.types;
        let InterfaceType::Tuple(index) = ty else { return Err(of_another_type()) };
        let items = &types[index].types;
        check_length(items.len(), params.len())?;
        let mut flat = Self { values: [ValRaw::u64(0); FLAT_MAX], written: 0 };
        if flat_of(types, ty).is_some() {
            params.iter().zip(items).try_for_each(|(value, ty)| flat.lower(cx, *ty, value))?;
        } else {
            let abi = types.canonical_abi(&ty);
            let start = cx.realloc(0, 0, abi.align32, abi.size32 as usize)?;
            let mut next = start;
            for (value, ty) in params.iter().zip(items) {
                store_at(cx, *ty, value, types.canonical_abi(ty).next_field32_size(&mut next))?;
            }
            flat.write(ValRaw::u64(start as u64))?;
        }
        Ok(flat.values)
    }

    fn write(&mut self, value: ValRaw) -> Result<()> {
        *self.values.get_mut(self.written).ok_or_else(no_flat)? = value;
        self.written += 1;
        Ok(())
    }

    /// Writes what is passed as one core value.
    fn put<T, V: Lower<Lower = ValRaw>>(
        &mut self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        value: &V,
    ) -> Result<()> {
        let mut flat = MaybeUninit::new(ValRaw::u64(0));
        value.linear_lower_to_flat(cx, ty, &mut flat)?;
        // SAFETY: It was a value before another may have been written over it.
        #[expect(unsafe_code, reason = "the engine writes into memory that need not be initialised")]
        self.write(unsafe { flat.assume_init() })
    }

    fn put_pair(&mut self, start: usize, length: usize) -> Result<()> {
        self.write(ValRaw::u64(start as u64))?;
        self.write(ValRaw::u64(length as u64))
    }

    fn lower<T>(&mut self, cx: &mut LowerContext<'_, T>, ty: InterfaceType, value: &Val) -> Result<()> {
        let types = cx.types;
        match (ty, value) {
            (InterfaceType::Bool, Val::Bool(value)) => self.put(cx, ty, value),
            (InterfaceType::S8, Val::S8(value)) => self.put(cx, ty, value),
            (InterfaceType::U8, Val::U8(value)) => self.put(cx, ty, value),
            (InterfaceType::S16, Val::S16(value)) => self.put(cx, ty, value),
            (InterfaceType::U16, Val::U16(value)) => self.put(cx, ty, value),
            (InterfaceType::S32, Val::S32(value)) => self.put(cx, ty, value),
            (InterfaceType::U32, Val::U32(value)) => self.put(cx, ty, value),
            (InterfaceType::S64, Val::S64(value)) => self.put(cx, ty, value),
            (InterfaceType::U64, Val::U64(value)) => self.put(cx, ty, value),
            (InterfaceType::Float32, Val::Float32(value)) => self.put(cx, ty, value),
            (InterfaceType::Float64, Val::Float64(value)) => self.put(cx, ty, value),
            (InterfaceType::Char, Val::Char(value)) => self.put(cx, ty, value),
            (InterfaceType::String, Val::String(value)) => {
                let mut pair = MaybeUninit::new([ValRaw::u64(0); 2]);
                value.linear_lower_to_flat(cx, ty, &mut pair)?;
                // SAFETY: It was two values before others may have been written over them.
                #[expect(unsafe_code, reason = "the engine writes into memory that need not be initialised")]
                let pair = unsafe { pair.assume_init() };
                pair.into_iter().try_for_each(|value| self.write(value))
            }
            (InterfaceType::List(index), value) => {
                let (start, length) = store_list(cx, index, value)?;
                self.put_pair(start, length)
            }
            (InterfaceType::Map(index), Val::Map(entries)) => {
                let start = store_map(cx, index, entries)?;
                self.put_pair(start, entries.len())
            }
            (InterfaceType::FixedLengthList(index), Val::FixedLengthList(items)) => {
                let list = &types[index];
                check_length(list.size as usize, items.len())?;
                items.iter().try_for_each(|item| self.lower(cx, list.element, item))
            }
            (InterfaceType::Record(index), Val::Record(values)) => {
                let fields = &types[index].fields;
                check_length(fields.len(), values.len())?;
                values.iter().zip(fields).try_for_each(|((name, value), field)| {
                    check_name(name, &field.name)?;
                    self.lower(cx, field.ty, value)
                })
            }
            (InterfaceType::Tuple(index), Val::Tuple(values)) => {
                let items = &types[index].types;
                check_length(items.len(), values.len())?;
                values.iter().zip(items).try_for_each(|(value, ty)| self.lower(cx, *ty, value))
            }
            (InterfaceType::Variant(index), Val::Variant(name, value)) => {
                let (case, _, payload) = types[index].cases.get_full(name).ok_or_else(|| unknown(name))?;
                self.lower_case(cx, ty, case, *payload, value.as_deref())
            }
            (InterfaceType::Enum(index), Val::Enum(name)) => {
                let case = types[index].names.get_index_of(name).ok_or_else(|| unknown(name))?;
                self.write(ValRaw::u32(u32::try_from(case)?))
            }
            (InterfaceType::Option(index), Val::Option(value)) => {
                let payload = value.is_some().then_some(types[index].ty);
                self.lower_case(cx, ty, usize::from(value.is_some()), payload, value.as_deref())
            }
            (InterfaceType::Result(index), Val::Result(value)) => {
                let result = &types[index];
                match value {
                    Ok(value) => self.lower_case(cx, ty, 0, result.ok, value.as_deref()),
                    Err(value) => self.lower_case(cx, ty, 1, result.err, value.as_deref()),
                }
            }
            (InterfaceType::Flags(index), Val::Flags(names)) => {
                let ty = &types[index];
                let bits = flag_bits(ty, names, ty.names.len().div_ceil(32) * 4)?;
                let (words, _) = bits.as_chunks::<4>();
                words.iter().try_for_each(|word| self.write(ValRaw::u32(u32::from_le_bytes(*word))))
            }
            (InterfaceType::Own(_) | InterfaceType::Borrow(_), Val::Resource(resource)) => {
                self.put(cx, ty, resource)
            }
            (InterfaceType::Future(_), Val::Future(future)) => self.put(cx, ty, future),
            (InterfaceType::Stream(_), Val::Stream(stream)) => self.put(cx, ty, stream),
            _ => Err(of_another_type()),
        }
    }

    /// The case of a variant, which takes as many core values as its largest case.
    fn lower_case<T>(
        &mut self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        case: usize,
        payload: Option<InterfaceType>,
        value: Option<&Val>,
    ) -> Result<()> {
        let end = self.written + flat_of(cx.types, ty).ok_or_else(no_flat)?;
        self.write(ValRaw::u32(u32::try_from(case)?))?;
        match (payload, value) {
            (Some(payload), Some(value)) => self.lower(cx, payload, value)?,
            (None, None) => {}
            _ => return Err(Error::msg("a case has a value that it should not have, or none")),
        }
        self.written = end;
        Ok(())
    }
}
