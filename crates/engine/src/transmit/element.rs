//! Elements of streams and payloads of futures, of whatever type.
//!
//! The engine reads and writes them by a Rust type. Of that type it asks little: how far apart elements are, which is
//! [`Element`]'s parameter, whether it fits, and how one is read and written, which is told the type of the component.

use std::mem::MaybeUninit;

use tenon_model::is_element_size;
use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentType, Lift, Lower, Type};
use wasmtime::{Error, Result, ValRaw};

use crate::canonical;
use crate::value::Val;

/// A type that the engine can carry in a stream or a future.
pub(crate) trait Carried: ComponentType + Lift + Lower + Send + Sync + Unpin + 'static {
    /// The list of these elements.
    fn into_list(elements: Vec<Self>) -> Val;
    /// The elements of a list; `None` when they are of another type.
    fn from_list(list: Val) -> Option<Vec<Self>>;
}

impl Carried for () {
    fn into_list(elements: Vec<Self>) -> Val {
        Val::List(elements.iter().map(|()| Val::Tuple(Vec::new())).collect())
    }

    fn from_list(list: Val) -> Option<Vec<Self>> {
        list.list_len().map(|length| vec![(); length])
    }
}

impl Carried for u8 {
    fn into_list(elements: Vec<Self>) -> Val {
        elements.into()
    }

    fn from_list(list: Val) -> Option<Vec<Self>> {
        list.into_bytes().map(Into::into)
    }
}

/// A value whose type takes `SIZE` bytes in the guest's memory; with [`ANY_SIZE`], of any type.
pub(crate) struct Element<const SIZE: usize>(Val);

/// The payload of a future: there is one only, so that it does not matter where another would be.
pub(crate) const ANY_SIZE: usize = 0;

impl<const SIZE: usize> Carried for Element<SIZE> {
    fn into_list(elements: Vec<Self>) -> Val {
        Val::List(elements.into_iter().map(|element| element.0).collect())
    }

    fn from_list(list: Val) -> Option<Vec<Self>> {
        // Whether they fit is seen when they are written.
        match list {
            Val::List(elements) => Some(elements.into_iter().map(Self).collect()),
            _ => None,
        }
    }
}

// SAFETY: `Lower` is an array of `ValRaw`, valid for all bytes. The engine uses the size to find elements in memory,
// and a type of another size is refused by `typecheck`, except for `ANY_SIZE`, whose elements are never beside one
// another. The engine checks bounds by this size, and alignment not at all; both are checked again, with those of the
// component's type, in `canonical::load` and `canonical::store`, which are safe code.
#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl<const SIZE: usize> ComponentType for Element<SIZE> {
    type Lower = [ValRaw; 1];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo {
        size32: SIZE as u32,
        align32: 1,
        size64: SIZE as u32,
        align64: 1,
        flat_count: None,
    };

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        let size = canonical::size_of_type(types.types, *ty);
        if (SIZE == ANY_SIZE || SIZE == size) && canonical::is_plain(types.types, *ty) {
            Ok(())
        } else {
            Err(Error::msg("a stream or future of other elements"))
        }
    }
}

// SAFETY: Nothing is taken for what it is not: the value is made from checked bytes of the guest's memory.
#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl<const SIZE: usize> Lift for Element<SIZE> {
    fn linear_lift_from_flat(_: &mut LiftContext<'_>, _: InterfaceType, _: &Self::Lower) -> Result<Self> {
        Err(never_flat())
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<Self> {
        // The slice is of `SIZE` bytes, which may be fewer than the value has: it tells where.
        let at = bytes.as_ptr().addr().checked_sub(cx.memory().as_ptr().addr());
        let at = at.ok_or_else(|| Error::msg("an element is not in the guest's memory"))?;
        canonical::load(cx, ty, at).map(Self)
    }
}

// SAFETY: What is written into memory is bounds-checked. Nothing is lowered to flat values, so that no part of `dst`
// has to be initialised.
#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl<const SIZE: usize> Lower for Element<SIZE> {
    fn linear_lower_to_flat<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        Err(never_flat())
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> Result<()> {
        canonical::store(cx, ty, &self.0, offset)
    }
}

fn never_flat() -> Error {
    Error::msg("elements of streams and futures are in memory")
}

/// Something to do with the Rust type of an element.
pub(crate) trait WithElement {
    type Output;
    fn with<T: Carried>(self) -> Self::Output;
}

/// Does something with the Rust type of a future's payload.
pub(crate) fn with_payload<W: WithElement>(payload: Option<&Type>, with: W) -> W::Output {
    match payload {
        None => with.with::<()>(),
        Some(_) => with.with::<Element<ANY_SIZE>>(),
    }
}

/// Does something with the Rust type of a stream's elements; `None` where there is none, as [`carried`] says.
pub(crate) fn with_element<W: WithElement>(element: Option<&Type>, with: W) -> Option<W::Output> {
    let Some(element) = element else { return Some(with.with::<()>()) };
    if matches!(element, Type::U8) {
        return Some(with.with::<u8>());
    }
    let layout = layout(element, &mut TYPES_MAX.clone())?;
    with_size(layout.size, with)
}

macro_rules! sizes {
    ($($size:literal)*) => {
        fn with_size<W: WithElement>(size: usize, with: W) -> Option<W::Output> {
            match size {
                $($size => Some(with.with::<Element<$size>>()),)*
                _ => None,
            }
        }

        /// Those that [`is_element_size`] allows.
        #[cfg(test)]
        const SIZES: &[usize] = &[$($size),*];
    };
}

sizes! {
    1 2 3 4 5 6 7 8 12 16 20 24 28 32 36 40 44 48 52 56 60 64 68 72 76 80 84 88 92 96 100 104 108 112 116 120 124 128
    132 136 140 144 148 152 156 160 164 168
}

/// Whether streams of this type can be read and written.
pub(crate) fn carried(element: Option<&Type>) -> bool {
    let Some(element) = element else { return true };
    layout(element, &mut TYPES_MAX.clone()).is_some_and(|layout| is_element_size(layout.size))
}

/// Types within one type that are looked at.
const TYPES_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    size: usize,
    align: usize,
}

impl Layout {
    const fn scalar(size: usize) -> Self {
        Self { size, align: size }
    }
}

/// Size and alignment in memory (`CanonicalABI.md`, "Alignment" and "Element Size"); `None` where it is not plain data,
/// or too large.
fn layout(ty: &Type, left: &mut usize) -> Option<Layout> {
    *left = left.checked_sub(1)?;
    let of_cases = |cases: usize, payloads: Vec<Layout>| {
        let tag = match cases {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        let align = payloads.iter().map(|payload| payload.align).fold(tag, usize::max);
        let payload_align = payloads.iter().map(|payload| payload.align).max().unwrap_or(1);
        let payload = payloads.iter().map(|payload| payload.size).max().unwrap_or(0);
        let size =
            tag.next_multiple_of(payload_align).checked_add(payload)?.checked_next_multiple_of(align)?;
        Some(Layout { size, align })
    };
    Some(match ty {
        Type::Bool | Type::S8 | Type::U8 => Layout::scalar(1),
        Type::S16 | Type::U16 => Layout::scalar(2),
        Type::S32 | Type::U32 | Type::Float32 | Type::Char => Layout::scalar(4),
        Type::S64 | Type::U64 | Type::Float64 => Layout::scalar(8),
        Type::String => Layout { size: 8, align: 4 },
        Type::List(list) => layout(&list.ty(), left).map(|_| Layout { size: 8, align: 4 })?,
        Type::Map(map) => {
            layout(&map.key(), left)?;
            layout(&map.value(), left).map(|_| Layout { size: 8, align: 4 })?
        }
        Type::FixedLengthList(list) => {
            let element = layout(&list.ty(), left)?;
            Layout { size: element.size.checked_mul(list.len() as usize)?, align: element.align }
        }
        Type::Record(record) => of_fields(record.fields().map(|field| field.ty), left)?,
        Type::Tuple(tuple) => of_fields(tuple.types(), left)?,
        Type::Variant(variant) => {
            let payloads = variant.cases().filter_map(|case| case.ty).map(|ty| layout(&ty, left));
            let payloads = payloads.collect::<Option<Vec<_>>>()?;
            of_cases(variant.cases().len(), payloads)?
        }
        Type::Enum(cases) => of_cases(cases.names().len(), Vec::new())?,
        Type::Option(option) => of_cases(2, vec![layout(&option.ty(), left)?])?,
        Type::Result(result) => {
            let sides = result.ok().into_iter().chain(result.err()).map(|ty| layout(&ty, left));
            of_cases(2, sides.collect::<Option<Vec<_>>>()?)?
        }
        Type::Flags(flags) => match flags.names().len() {
            0..=8 => Layout::scalar(1),
            9..=16 => Layout::scalar(2),
            names => Layout { size: names.div_ceil(32) * 4, align: 4 },
        },
        Type::Own(_) | Type::Borrow(_) | Type::Stream(_) | Type::Future(_) | Type::ErrorContext => {
            return None;
        }
    })
}

fn of_fields(fields: impl Iterator<Item = Type>, left: &mut usize) -> Option<Layout> {
    let mut whole = Layout { size: 0, align: 1 };
    for ty in fields {
        let field = layout(&ty, left)?;
        whole.size = whole.size.checked_next_multiple_of(field.align)?.checked_add(field.size)?;
        whole.align = whole.align.max(field.align);
    }
    whole.size = whole.size.checked_next_multiple_of(whole.align)?;
    Some(whole)
}

/// Whether a value of this type can be the payload of a future.
pub(crate) fn is_payload(payload: Option<&Type>) -> bool {
    payload.is_none_or(|ty| layout(ty, &mut TYPES_MAX.clone()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_size_has_a_type() {
        let allowed: Vec<usize> = (1..=1_000).filter(|size| is_element_size(*size)).collect();
        assert_eq!(SIZES, allowed);
    }
}
