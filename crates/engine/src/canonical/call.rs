//! Functions of whatever type, called with values.
//!
//! The engine calls a function by the Rust types of its parameters and its result. Ours take and give values of any
//! type, and are told the component's own. What the engine has to know beforehand is how many core values a function
//! gives back: that is [`Returned`]'s parameter.

use std::mem::MaybeUninit;

use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{Accessor, ComponentNamedList, ComponentType, Func, Lift, Lower, Type};
use wasmtime::{Error, Result, Store, ValRaw};

use super::lift::{self, Flat, lift};
use super::{FLAT_MAX, TYPES_MAX, flat_of, lower, no_flat};
use crate::host::Host;
use crate::value::Val;

/// A result that is in memory: it is more than is ever given back as core values.
const IN_MEMORY: usize = FLAT_MAX + 1;

/// A function of an instance.
pub(crate) struct Callee {
    /// The function.
    pub(crate) func: Func,
    /// The [`flat_count`] of its result.
    pub(crate) flat: usize,
}

/// Does something with how many core values a function gives back.
macro_rules! with_flat {
    ($flat:expr, $call:ident($($argument:expr),*)) => {
        match $flat {
            0 => $call::<0>($($argument),*).await,
            1 => $call::<1>($($argument),*).await,
            2 => $call::<2>($($argument),*).await,
            3 => $call::<3>($($argument),*).await,
            4 => $call::<4>($($argument),*).await,
            5 => $call::<5>($($argument),*).await,
            6 => $call::<6>($($argument),*).await,
            7 => $call::<7>($($argument),*).await,
            8 => $call::<8>($($argument),*).await,
            9 => $call::<9>($($argument),*).await,
            10 => $call::<10>($($argument),*).await,
            11 => $call::<11>($($argument),*).await,
            12 => $call::<12>($($argument),*).await,
            13 => $call::<13>($($argument),*).await,
            14 => $call::<14>($($argument),*).await,
            15 => $call::<15>($($argument),*).await,
            16 => $call::<16>($($argument),*).await,
            _ => $call::<IN_MEMORY>($($argument),*).await,
        }
    };
}

impl Callee {
    /// Calls it and gives back its result, if it has one.
    ///
    /// # Errors
    /// Why there is none: the guest failed, or what it gave or was given is not of the function's types.
    pub(crate) async fn call(&self, store: &mut Store<Host>, arguments: Vec<Val>) -> Result<Option<Val>> {
        with_flat!(self.flat, call(self.func, store, arguments))
    }

    /// The same while others run in the store.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub(crate) async fn call_concurrent(
        &self,
        accessor: &Accessor<Host>,
        arguments: Vec<Val>,
    ) -> Result<Option<Val>> {
        with_flat!(self.flat, call_concurrent(self.func, accessor, arguments))
    }
}

async fn call<const FLAT: usize>(
    func: Func,
    store: &mut Store<Host>,
    arguments: Vec<Val>,
) -> Result<Option<Val>> {
    let typed = func.typed::<Arguments, Returned<FLAT>>(&*store)?;
    Ok(typed.call_async(store, Arguments(arguments)).await?.0)
}

async fn call_concurrent<const FLAT: usize>(
    func: Func,
    accessor: &Accessor<Host>,
    arguments: Vec<Val>,
) -> Result<Option<Val>> {
    let typed = accessor.with(|access| func.typed::<Arguments, Returned<FLAT>>(access))?;
    Ok(typed.call_concurrent(accessor, Arguments(arguments)).await?.0)
}

/// The arguments of a call, of whatever types. They take as many core values as are ever passed, of which a function
/// looks at those that it has.
struct Arguments(Vec<Val>);

// SAFETY: `Lower` is an array of `ValRaw`, valid for all bytes, of as many as the engine passes at most: a function that
// takes fewer looks at the first of them. Size and alignment are used for nothing: arguments that are passed in memory
// are put there by `Flat::of_params`, in safe code.
#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl ComponentType for Arguments {
    type Lower = [ValRaw; FLAT_MAX];

    const ABI: CanonicalAbiInfo = NOWHERE;

    fn typecheck(ty: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        // What they are is seen when they are lowered.
        if matches!(ty, InterfaceType::Tuple(_)) { Ok(()) } else { Err(no_flat()) }
    }
}

// SAFETY: All of `dst` is initialised: what no argument is passed as is zero. What is written into memory is
// bounds-checked.
#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl Lower for Arguments {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> Result<()> {
        dst.write(lower::Flat::of_params(cx, ty, &self.0)?);
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: usize,
    ) -> Result<()> {
        Err(no_flat())
    }
}

// SAFETY: `typecheck` takes nothing but the tuple of a function's parameters.
#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl ComponentNamedList for Arguments {}

/// What a function gave back as `FLAT` core values, or as one that says where it is: the engine decides which of the two it
/// is by that number, and by how the function is lifted.
struct Returned<const FLAT: usize>(Option<Val>);

/// Neither size nor alignment, for they are not known: the address is all that is asked for.
const NOWHERE: CanonicalAbiInfo =
    CanonicalAbiInfo { size32: 0, align32: 1, size64: 0, align64: 1, flat_count: None };

// SAFETY: `Lower` is an array of `ValRaw`, valid for all bytes, of as many as a function with such a result gives back:
// `typecheck` refuses every other. Of a result in memory the engine checks the address with neither size nor alignment;
// both are checked again, with those of the component's type, in `lift::load`, which is safe code.
#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl<const FLAT: usize> ComponentType for Returned<FLAT> {
    type Lower = [ValRaw; FLAT];

    const ABI: CanonicalAbiInfo = NOWHERE;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        let is_result = matches!(ty, InterfaceType::Tuple(_));
        if is_result && flat_of(types.types, *ty).unwrap_or(IN_MEMORY) == FLAT {
            Ok(())
        } else {
            Err(no_flat())
        }
    }
}

// SAFETY: Nothing is taken for what it is not: the value is made from checked bytes of the guest's memory and from core
// values of the types that the function has.
#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl<const FLAT: usize> Lift for Returned<FLAT> {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, ty: InterfaceType, src: &Self::Lower) -> Result<Self> {
        let InterfaceType::Tuple(index) = ty else { return Err(no_flat()) };
        let mut flat = Flat::new(src);
        let ty = cx.types[index].types.first().copied();
        ty.map(|ty| lift(cx, ty, &mut flat)).transpose().map(Self)
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<Self> {
        // The slice is empty: it tells where.
        let at = bytes.as_ptr().addr().checked_sub(cx.memory().as_ptr().addr());
        let at = at.ok_or_else(|| Error::msg("a result is not in the guest's memory"))?;
        match lift::load(cx, ty, at)? {
            Val::Tuple(mut items) => Ok(Self(items.pop())),
            _ => Err(no_flat()),
        }
    }
}

// SAFETY: `typecheck` takes nothing but the tuple of a function's results.
#[expect(unsafe_code, reason = "the trait is unsafe to implement")]
unsafe impl<const FLAT: usize> ComponentNamedList for Returned<FLAT> {}

/// How many core values the result of a function is ("Flattening"); more than can be given back count as one more than
/// those.
pub(crate) fn flat_count(function: &ComponentFunc) -> usize {
    function.results().next().map_or(0, |ty| flat(&ty, &mut TYPES_MAX.clone()).unwrap_or(IN_MEMORY))
}

/// `None` when it is more than can be given back, or there are too many types to look at.
fn flat(ty: &Type, left: &mut usize) -> Option<usize> {
    *left = left.checked_sub(1)?;
    let count = match ty {
        Type::String | Type::List(_) | Type::Map(_) => 2,
        Type::FixedLengthList(list) => flat(&list.ty(), left)?.checked_mul(list.len() as usize)?,
        Type::Record(record) => of_all(record.fields().map(|field| field.ty), left)?,
        Type::Tuple(tuple) => of_all(tuple.types(), left)?,
        Type::Variant(variant) => of_cases(variant.cases().filter_map(|case| case.ty), left)?,
        Type::Option(option) => of_cases([option.ty()], left)?,
        Type::Result(result) => of_cases(result.ok().into_iter().chain(result.err()), left)?,
        Type::Flags(flags) => flags.names().len().div_ceil(32),
        _ => 1,
    };
    Some(count).filter(|count| *count <= FLAT_MAX)
}

fn of_all(types: impl IntoIterator<Item = Type>, left: &mut usize) -> Option<usize> {
    types.into_iter().try_fold(0, |sum, ty| Some(sum + flat(&ty, left)?).filter(|sum| *sum <= FLAT_MAX))
}

/// That of the largest case, and one to tell which it is.
fn of_cases(types: impl IntoIterator<Item = Type>, left: &mut usize) -> Option<usize> {
    types.into_iter().try_fold(1, |most, ty| Some(most.max(1 + flat(&ty, left)?)))
}
