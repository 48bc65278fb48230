//! What a guest writes into a stream or a future, taken as it comes.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use wasmtime::component::{
    FutureConsumer, FutureReader, Source, StreamConsumer, StreamReader, StreamResult, Type,
};
use wasmtime::{Result, StoreContextMut};

use super::element::{Carried, WithElement, with_element, with_payload};
use super::{payload, unsupported};
use crate::host::Host;
use crate::value::Val;

/// Takes the elements of a stream, or the value of a future. It is dropped when the guest has closed it.
pub(crate) trait Sink: Send + 'static {
    /// The elements that are taken in one go.
    const ELEMENTS_MAX: usize;

    /// Whether there is room for so many elements; `false` when nobody wants them any longer.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool>;

    /// Takes a list of elements, for which there was room; `false` when that was enough.
    fn take(&mut self, elements: Val) -> bool;
}

/// Lets `sink` take what a stream or future of the type `ty` gives.
///
/// # Errors
/// A message for the person: such a stream cannot be taken.
pub(crate) fn pipe<S: Sink>(
    store: StoreContextMut<'_, Host>,
    value: Val,
    ty: &Type,
    sink: S,
) -> Result<(), String> {
    let element = payload(ty);
    let pipe = Pipe { store, value, sink: Box::new(sink), elements_max: S::ELEMENTS_MAX };
    match ty {
        Type::Future(_) => with_payload(element.as_ref(), pipe),
        _ => with_element(element.as_ref(), pipe).unwrap_or_else(|| Err(unsupported(ty))),
    }
}

/// The same without its constant, so that the engine's code for streams is there once for each size of elements only.
trait AnySink: Send {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool>;
    fn take(&mut self, elements: Val) -> bool;
}

impl<S: Sink> AnySink for S {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        Sink::poll_ready(self, context)
    }

    fn take(&mut self, elements: Val) -> bool {
        Sink::take(self, elements)
    }
}

struct Pipe<'a> {
    store: StoreContextMut<'a, Host>,
    value: Val,
    sink: Box<dyn AnySink>,
    elements_max: usize,
}

impl WithElement for Pipe<'_> {
    type Output = Result<(), String>;

    fn with<T: Carried>(self) -> Self::Output {
        let Self { mut store, value, sink, elements_max } = self;
        let consumer: Consumer<T> = Consumer { sink, elements_max, element: PhantomData };
        let piped = match value {
            Val::Stream(stream) => StreamReader::<T>::try_from_stream_any(stream)
                .and_then(|reader| reader.pipe(&mut store, consumer)),
            Val::Future(future) => FutureReader::<T>::try_from_future_any(future)
                .and_then(|reader| reader.pipe(&mut store, consumer)),
            _ => return Err("the guest gave something else than a stream or future".into()),
        };
        piped.map_err(|error| format!("{error:#}"))
    }
}

struct Consumer<T> {
    sink: Box<dyn AnySink>,
    elements_max: usize,
    element: PhantomData<fn() -> T>,
}

impl<T: Carried> StreamConsumer<Host> for Consumer<T> {
    type Item = T;

    fn poll_consume(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'_, Host>,
        mut source: Source<'_, T>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let Self { sink, elements_max, .. } = self.get_mut();
        match sink.poll_ready(context) {
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
            Poll::Ready(false) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Ready(true) => {}
        }
        let ready = source.remaining(&mut store).min(*elements_max);
        let mut given: Vec<T> = Vec::with_capacity(ready);
        if ready > 0 {
            source.read(&mut store, &mut given)?;
        }
        let more = given.is_empty() || sink.take(T::into_list(given));
        Poll::Ready(Ok(if more { StreamResult::Completed } else { StreamResult::Dropped }))
    }
}

impl<T: Carried> FutureConsumer<Host> for Consumer<T> {
    type Item = T;

    fn poll_consume(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'_, Host>,
        mut source: Source<'_, T>,
        finish: bool,
    ) -> Poll<Result<()>> {
        let sink = &mut self.get_mut().sink;
        if sink.poll_ready(context).is_pending() {
            return if finish { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let mut given: Option<T> = None;
        source.read(&mut store, &mut given)?;
        sink.take(T::into_list(given.into_iter().collect()));
        Poll::Ready(Ok(()))
    }
}
