//! Streams and futures made for a guest: of values, or of what comes in.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use wasmtime::component::{
    Destination, FutureReader, StreamProducer, StreamReader, StreamResult, Type, VecBuffer,
};
use wasmtime::{AsContextMut, Error, Result, StoreContextMut};

use super::element::{Carried, WithElement, with_element, with_payload};
use super::walk::each_transmit;
use super::{payload, unsupported};
use crate::host::Host;
use crate::value::Val;

/// Elements that are handed to a guest in one go, and bytes.
const ELEMENTS_MAX: usize = 1_024;
const BYTES_MAX: usize = 64 << 10;

/// Where the elements of a stream come from.
pub(crate) trait Feed: Send + 'static {
    /// The list of the next elements; `None` at the end. An error ends the guest.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Val>>>;
}

/// Makes the streams and futures that arguments have in them: where a type says `stream`, the value is the list of its
/// elements, and where it says `future`, what it gives.
///
/// # Errors
/// A message for the person: there can be no such stream.
pub(crate) fn give_all(
    mut store: impl AsContextMut<Data = Host>,
    value: &mut Val,
    ty: &Type,
) -> Result<(), String> {
    each_transmit(value, ty, &mut |value, ty| {
        let given = std::mem::replace(value, Val::Bool(false));
        *value = match (given, ty) {
            (Val::List(items), Type::Stream(_)) => {
                give(store.as_context_mut(), Given::Elements(Box::new(Whole::Values(items.into()))), ty)?
            }
            (Val::Bytes(bytes), Type::Stream(_)) => {
                give(store.as_context_mut(), Given::Elements(Box::new(Whole::Bytes(bytes))), ty)?
            }
            (given, Type::Future(_)) => give(store.as_context_mut(), Given::Value(given), ty)?,
            _ => return Err(wrong()),
        };
        Ok(())
    })
}

/// Makes a stream of the type `ty` that gives what `feed` has.
///
/// # Errors
/// A message for the person: there can be no such stream.
pub(crate) fn give_feed(
    mut store: impl AsContextMut<Data = Host>,
    feed: impl Feed,
    ty: &Type,
) -> Result<Val, String> {
    give(store.as_context_mut(), Given::Elements(Box::new(feed)), ty)
}

fn give(store: StoreContextMut<'_, Host>, given: Given, ty: &Type) -> Result<Val, String> {
    let element = payload(ty);
    let give = Give { store, given };
    match ty {
        Type::Future(_) => with_payload(element.as_ref(), give),
        _ => with_element(element.as_ref(), give).unwrap_or_else(|| Err(unsupported(ty))),
    }
}

fn wrong() -> String {
    "the value given for a stream or future is of another type".to_owned()
}

struct Give<'a> {
    store: StoreContextMut<'a, Host>,
    given: Given,
}

enum Given {
    Elements(Box<dyn Feed>),
    Value(Val),
}

impl WithElement for Give<'_> {
    type Output = Result<Val, String>;

    fn with<T: Carried>(self) -> Self::Output {
        let Self { mut store, given } = self;
        let engine = |error: Error| format!("{error:#}");
        match given {
            Given::Elements(feed) => {
                let producer: Producer<T> = Producer { feed, element: PhantomData };
                let reader = StreamReader::new(&mut store, producer).map_err(engine)?;
                Ok(Val::Stream(reader.try_into_stream_any(&mut store).map_err(engine)?))
            }
            Given::Value(value) => {
                let value = T::from_list(Val::List(vec![value])).and_then(|mut one| one.pop());
                let value = value.ok_or_else(wrong)?;
                let ready = async move { Ok::<T, Error>(value) };
                let reader = FutureReader::new(&mut store, ready).map_err(engine)?;
                Ok(Val::Future(reader.try_into_future_any(&mut store).map_err(engine)?))
            }
        }
    }
}

struct Producer<T> {
    feed: Box<dyn Feed>,
    element: PhantomData<fn() -> T>,
}

impl<T: Carried> StreamProducer<Host> for Producer<T> {
    type Item = T;
    type Buffer = VecBuffer<T>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, Host>,
        mut destination: Destination<'a, T, VecBuffer<T>>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        // The guest asks whether there is something: it finds out when it reads.
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(match self.get_mut().feed.poll_next(context) {
            Poll::Pending if finish => Ok(StreamResult::Cancelled),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => Ok(StreamResult::Dropped),
            Poll::Ready(Some(Err(error))) => Err(error),
            Poll::Ready(Some(Ok(elements))) => match T::from_list(elements) {
                Some(elements) => {
                    destination.set_buffer(elements.into());
                    Ok(StreamResult::Completed)
                }
                None => Err(Error::msg(wrong())),
            },
        })
    }
}

/// Elements that are there already: what is left of them.
enum Whole {
    Values(VecDeque<Val>),
    Bytes(Bytes),
}

impl Feed for Whole {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Val>>> {
        let list = match self {
            Self::Values(items) => Val::List(items.drain(..items.len().min(ELEMENTS_MAX)).collect()),
            Self::Bytes(bytes) => Val::Bytes(bytes.split_to(bytes.len().min(BYTES_MAX))),
        };
        Poll::Ready(Some(list).filter(|list| list.list_len() != Some(0)).map(Ok))
    }
}
