//! Calls with streams and futures: given as values, read out into values.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tenon_model::{Limits, format_bytes};
use tokio::sync::oneshot;
use wasmtime::component::{
    ComponentType, Func, FutureConsumer, FutureReader, Lift, Lower, Source, StreamConsumer, StreamReader,
    StreamResult, Type, Val,
};
use wasmtime::{AsContextMut, Error, Store, StoreContextMut};

use crate::failure::Failure;
use crate::host::Host;
use crate::stop::Stop;
use crate::value::VALUES_MAX;

/// Elements taken from a guest in one go.
const CHUNK_ELEMENTS: usize = 16 << 10;

/// What a stream or future gave, or why it cannot be taken over.
type Collected = Result<Vec<Val>, String>;

/// Calls a function on the engine that has streams and futures, and waits until the guest has ended.
pub(super) async fn call(
    store: &mut Store<Host>,
    func: Func,
    mut arguments: Vec<Val>,
    limits: &Limits,
) -> Result<Option<Val>, Stop> {
    let ty = func.ty(&*store);
    for (argument, (_, ty)) in arguments.iter_mut().zip(ty.params()) {
        each_transmit(argument, &ty, &mut |value, ty| give(store.as_context_mut(), value, ty))
            .map_err(refused)?;
    }
    let mut results = vec![Val::Bool(false); ty.results().len()];
    let bound = Bound::new(limits);
    let called = store
        .run_concurrent(async |accessor| -> Result<Option<Val>, Stop> {
            func.call_concurrent(accessor, &arguments, &mut results).await?;
            let (Some(mut value), Some(ty)) = (results.pop(), ty.results().next()) else {
                std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
                return Ok(None);
            };
            // All of them are listened to before any is waited for: the guest writes them in the order it likes.
            let mut pending = Vec::new();
            accessor
                .with(|mut access| {
                    each_transmit(&mut value, &ty, &mut |value, ty| {
                        pending.push(listen(access.as_context_mut(), value, ty, &bound)?);
                        Ok(())
                    })
                })
                .map_err(invalid)?;
            let mut collected = Vec::new();
            for receiver in pending {
                let one = receiver.await.unwrap_or_else(|_| Err("it was closed before its end".into()));
                collected.push(one.map_err(invalid)?);
            }
            let mut collected = collected.into_iter();
            each_transmit(&mut value, &ty, &mut |value, ty| {
                let mut items = collected.next().unwrap_or_default();
                *value = match ty {
                    Type::Stream(_) => Val::List(items),
                    _ => items.pop().ok_or("the guest dropped a future without its value")?,
                };
                Ok(())
            })
            .map_err(invalid)?;
            // The guest goes on after its result.
            std::future::poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            Ok(Some(value))
        })
        .await;
    called.unwrap_or_else(|error| Err(Stop::Engine(error)))
}

fn invalid(cause: String) -> Stop {
    Stop::Refused(Failure::InvalidResponse { cause })
}

fn refused(cause: String) -> Stop {
    Stop::Refused(Failure::BadRequest { cause })
}

/// What all streams and futures of one call may hold together.
#[derive(Clone)]
struct Bound {
    values_left: Arc<AtomicUsize>,
    bytes_left: Arc<AtomicUsize>,
    bytes: u64,
}

impl Bound {
    fn new(limits: &Limits) -> Self {
        let bytes = usize::try_from(limits.response_body_bytes).unwrap_or(usize::MAX);
        Self {
            values_left: Arc::new(VALUES_MAX.into()),
            bytes_left: Arc::new(bytes.into()),
            bytes: limits.response_body_bytes,
        }
    }

    fn take(&self, value: &Val) -> Result<(), String> {
        let (values, bytes) = weight(value);
        let take = |left: &AtomicUsize, amount: usize| {
            left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(amount)).is_ok()
        };
        if !take(&self.values_left, values) {
            return Err(format!("the streams of the result have more than {VALUES_MAX} values"));
        }
        if !take(&self.bytes_left, bytes) {
            return Err(format!("the streams of the result have more than {}", format_bytes(self.bytes)));
        }
        Ok(())
    }
}

/// How many values there are in a value, and how many bytes of text.
fn weight(value: &Val) -> (usize, usize) {
    match value {
        Val::String(text) => (1, text.len()),
        Val::List(items) | Val::Tuple(items) => items.iter().map(weight).fold((1, 0), add),
        Val::Option(Some(value)) => add((1, 0), weight(value)),
        Val::Result(Ok(Some(value)) | Err(Some(value))) => add((1, 0), weight(value)),
        _ => (1, 1),
    }
}

fn add((values, bytes): (usize, usize), (more_values, more_bytes): (usize, usize)) -> (usize, usize) {
    (values + more_values, bytes + more_bytes)
}

/// The parts of a value with their types, except what is in a stream or a future.
pub(super) fn each_child(value: &Val, ty: &Type, f: &mut dyn FnMut(&Val, &Type)) {
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

type OnTransmit<'a> = dyn FnMut(&mut Val, &Type) -> Result<(), String> + 'a;

/// Calls `f` for every stream and future of a value, by its type, in a fixed order.
fn each_transmit(value: &mut Val, ty: &Type, f: &mut OnTransmit<'_>) -> Result<(), String> {
    match (value, ty) {
        (value, Type::Stream(_) | Type::Future(_)) => f(value, ty),
        (Val::List(items), Type::List(list)) => {
            // A list of bytes is long, and there is nothing in it.
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

/// Makes a stream of a list, and a future of a value.
fn give(store: StoreContextMut<'_, Host>, value: &mut Val, ty: &Type) -> Result<(), String> {
    let payload = payload(ty);
    let given = std::mem::replace(value, Val::Bool(false));
    let made =
        with_element(payload.as_ref(), Give { store, value: given, stream: matches!(ty, Type::Stream(_)) });
    *value = made.unwrap_or_else(|| Err(unsupported(ty)))?;
    Ok(())
}

/// Takes what a stream or future gives; what stands in its place meanwhile is nothing.
fn listen(
    store: StoreContextMut<'_, Host>,
    value: &mut Val,
    ty: &Type,
    bound: &Bound,
) -> Result<oneshot::Receiver<Collected>, String> {
    let payload = payload(ty);
    let given = std::mem::replace(value, Val::Bool(false));
    with_element(payload.as_ref(), Listen { store, value: given, bound: bound.clone() })
        .unwrap_or_else(|| Err(unsupported(ty)))
}

fn payload(ty: &Type) -> Option<Type> {
    match ty {
        Type::Stream(stream) => stream.ty(),
        Type::Future(future) => future.ty(),
        _ => None,
    }
}

fn unsupported(ty: &Type) -> String {
    format!(
        "a `{}` cannot be passed to or from outside: its elements may be numbers, characters, text, lists of those, \
         and options and results of those",
        crate::value::show_type(ty)
    )
}

/// A type that the engine can carry in a stream: it has to be known when the host is built.
trait Element: ComponentType + Lift + Lower + Send + Sync + Unpin + 'static {
    fn into_val(self) -> Val;
    fn from_val(value: Val) -> Option<Self>;
}

macro_rules! plain_elements {
    ($($ty:ty => $case:ident),*) => {$(
        impl Element for $ty {
            fn into_val(self) -> Val {
                Val::$case(self)
            }

            fn from_val(value: Val) -> Option<Self> {
                match value {
                    Val::$case(value) => Some(value),
                    _ => None,
                }
            }
        }
    )*};
}

plain_elements! {
    bool => Bool, i8 => S8, u8 => U8, i16 => S16, u16 => U16, i32 => S32, u32 => U32, i64 => S64, u64 => U64,
    f32 => Float32, f64 => Float64, char => Char, String => String
}

impl Element for () {
    fn into_val(self) -> Val {
        Val::Tuple(Vec::new())
    }

    fn from_val(_: Val) -> Option<Self> {
        Some(())
    }
}

impl<T: Element> Element for Vec<T> {
    fn into_val(self) -> Val {
        Val::List(self.into_iter().map(Element::into_val).collect())
    }

    fn from_val(value: Val) -> Option<Self> {
        match value {
            Val::List(items) => items.into_iter().map(T::from_val).collect(),
            _ => None,
        }
    }
}

impl<T: Element> Element for Option<T> {
    fn into_val(self) -> Val {
        Val::Option(self.map(|value| Box::new(value.into_val())))
    }

    fn from_val(value: Val) -> Option<Self> {
        match value {
            Val::Option(None) => Some(None),
            Val::Option(Some(value)) => T::from_val(*value).map(Some),
            _ => None,
        }
    }
}

/// One side of a result: no value where there is none in the type.
trait Side: Element {
    const HAS_VALUE: bool;
}

impl Side for () {
    const HAS_VALUE: bool = false;
}

macro_rules! sides {
    ($($ty:ty),*) => { $(impl Side for $ty { const HAS_VALUE: bool = true; })* };
}

sides!(bool, u32, u64, f64, String, Vec<u8>);

impl<T: Side, E: Side> Element for Result<T, E> {
    fn into_val(self) -> Val {
        fn side<S: Side>(value: S) -> Option<Box<Val>> {
            S::HAS_VALUE.then(|| Box::new(value.into_val()))
        }
        Val::Result(self.map(side).map_err(side))
    }

    fn from_val(value: Val) -> Option<Self> {
        fn side<S: Side>(value: Option<Box<Val>>) -> Option<S> {
            S::from_val(value.map_or(Val::Tuple(Vec::new()), |value| *value))
        }
        match value {
            Val::Result(Ok(value)) => side(value).map(Ok),
            Val::Result(Err(value)) => side(value).map(Err),
            _ => None,
        }
    }
}

/// Something to do with the Rust type of an element.
trait WithElement {
    type Output;
    fn with<T: Element>(self) -> Self::Output;
}

/// Finds the Rust type of an element; `None` where there is none.
fn with_element<W: WithElement>(ty: Option<&Type>, with: W) -> Option<W::Output> {
    macro_rules! plain {
        ($ty:expr, $($wrapper:ident)?) => {
            match $ty {
                Type::Bool => Some(with.with::<wrap!(bool, $($wrapper)?)>()),
                Type::S8 => Some(with.with::<wrap!(i8, $($wrapper)?)>()),
                Type::U8 => Some(with.with::<wrap!(u8, $($wrapper)?)>()),
                Type::S16 => Some(with.with::<wrap!(i16, $($wrapper)?)>()),
                Type::U16 => Some(with.with::<wrap!(u16, $($wrapper)?)>()),
                Type::S32 => Some(with.with::<wrap!(i32, $($wrapper)?)>()),
                Type::U32 => Some(with.with::<wrap!(u32, $($wrapper)?)>()),
                Type::S64 => Some(with.with::<wrap!(i64, $($wrapper)?)>()),
                Type::U64 => Some(with.with::<wrap!(u64, $($wrapper)?)>()),
                Type::Float32 => Some(with.with::<wrap!(f32, $($wrapper)?)>()),
                Type::Float64 => Some(with.with::<wrap!(f64, $($wrapper)?)>()),
                Type::Char => Some(with.with::<wrap!(char, $($wrapper)?)>()),
                Type::String => Some(with.with::<wrap!(String, $($wrapper)?)>()),
                _ => None,
            }
        };
    }
    macro_rules! wrap {
        ($inner:ty,) => { $inner };
        ($inner:ty, $wrapper:ident) => { $wrapper<$inner> };
    }
    let is_bytes = |ty: &Type| matches!(ty, Type::List(list) if matches!(list.ty(), Type::U8));
    match ty {
        None => Some(with.with::<()>()),
        Some(Type::List(list)) => plain!(list.ty(), Vec),
        Some(Type::Option(option)) => plain!(option.ty(), Option),
        Some(Type::Result(result)) => match (result.ok(), result.err()) {
            (None, None) => Some(with.with::<Result<(), ()>>()),
            (None, Some(Type::String)) => Some(with.with::<Result<(), String>>()),
            (Some(Type::Bool), Some(Type::String)) => Some(with.with::<Result<bool, String>>()),
            (Some(Type::U32), Some(Type::String)) => Some(with.with::<Result<u32, String>>()),
            (Some(Type::U64), Some(Type::String)) => Some(with.with::<Result<u64, String>>()),
            (Some(Type::Float64), Some(Type::String)) => Some(with.with::<Result<f64, String>>()),
            (Some(Type::String), Some(Type::String)) => Some(with.with::<Result<String, String>>()),
            (Some(Type::String), None) => Some(with.with::<Result<String, ()>>()),
            (Some(Type::U32), None) => Some(with.with::<Result<u32, ()>>()),
            (Some(ok), Some(Type::String)) if is_bytes(&ok) => Some(with.with::<Result<Vec<u8>, String>>()),
            (Some(ok), None) if is_bytes(&ok) => Some(with.with::<Result<Vec<u8>, ()>>()),
            _ => None,
        },
        Some(ty) => plain!(ty,),
    }
}

struct Give<'a> {
    store: StoreContextMut<'a, Host>,
    value: Val,
    stream: bool,
}

impl WithElement for Give<'_> {
    type Output = Result<Val, String>;

    fn with<T: Element>(self) -> Self::Output {
        let Self { mut store, value, stream } = self;
        let wrong = || "the value given for a stream or future is of another type".to_owned();
        let engine = |error: Error| format!("{error:#}");
        if stream {
            let Val::List(items) = value else { return Err(wrong()) };
            let items: Vec<T> =
                items.into_iter().map(T::from_val).collect::<Option<_>>().ok_or_else(wrong)?;
            let reader = StreamReader::new(&mut store, items).map_err(engine)?;
            Ok(Val::Stream(reader.try_into_stream_any(&mut store).map_err(engine)?))
        } else {
            let value = T::from_val(value).ok_or_else(wrong)?;
            let reader =
                FutureReader::new(&mut store, async move { Ok::<T, Error>(value) }).map_err(engine)?;
            Ok(Val::Future(reader.try_into_future_any(&mut store).map_err(engine)?))
        }
    }
}

struct Listen<'a> {
    store: StoreContextMut<'a, Host>,
    value: Val,
    bound: Bound,
}

impl WithElement for Listen<'_> {
    type Output = Result<oneshot::Receiver<Collected>, String>;

    fn with<T: Element>(self) -> Self::Output {
        let Self { mut store, value, bound } = self;
        let (sender, receiver) = oneshot::channel();
        let collector: Collector<T> = Collector {
            items: Ok(Vec::new()),
            sender: Some(sender),
            bound,
            element: std::marker::PhantomData,
        };
        let engine = |error: Error| format!("{error:#}");
        match value {
            Val::Stream(stream) => StreamReader::<T>::try_from_stream_any(stream)
                .and_then(|reader| reader.pipe(&mut store, collector))
                .map_err(engine)?,
            Val::Future(future) => FutureReader::<T>::try_from_future_any(future)
                .and_then(|reader| reader.pipe(&mut store, collector))
                .map_err(engine)?,
            _ => return Err("the guest gave something else than a stream or future".into()),
        }
        Ok(receiver)
    }
}

/// Takes the elements of a stream or the value of a future, and hands them over when the guest has closed it.
struct Collector<T> {
    items: Collected,
    sender: Option<oneshot::Sender<Collected>>,
    bound: Bound,
    element: std::marker::PhantomData<fn() -> T>,
}

impl<T: Element> Collector<T> {
    /// Takes over what there is; `false` when that is too much.
    fn take(&mut self, given: impl IntoIterator<Item = T>) -> bool {
        let Ok(items) = &mut self.items else { return false };
        for item in given {
            let value = item.into_val();
            if let Err(cause) = self.bound.take(&value) {
                self.items = Err(cause);
                return false;
            }
            items.push(value);
        }
        true
    }
}

impl<T> Drop for Collector<T> {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            // Nobody is there to receive it when the call was given up.
            let _ = sender.send(std::mem::replace(&mut self.items, Ok(Vec::new())));
        }
    }
}

impl<T: Element> StreamConsumer<Host> for Collector<T> {
    type Item = T;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'_, Host>,
        mut source: Source<'_, T>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let ready = source.remaining(&mut store).min(CHUNK_ELEMENTS);
        let mut given = Vec::with_capacity(ready);
        if ready > 0 {
            source.read(&mut store, &mut given)?;
        }
        let taken = self.get_mut().take(given);
        Poll::Ready(Ok(if taken { StreamResult::Completed } else { StreamResult::Dropped }))
    }
}

impl<T: Element> FutureConsumer<Host> for Collector<T> {
    type Item = T;

    fn poll_consume(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'_, Host>,
        mut source: Source<'_, T>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut given: Option<T> = None;
        source.read(&mut store, &mut given)?;
        self.get_mut().take(given);
        Poll::Ready(Ok(()))
    }
}
