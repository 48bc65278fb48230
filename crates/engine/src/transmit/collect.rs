//! Streams and futures read out into values.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tenon_model::{Limits, format_bytes};
use tokio::sync::oneshot;
use wasmtime::AsContextMut;
use wasmtime::component::{Accessor, Type};

use super::sink::{Sink, pipe};
use super::walk::each_transmit;
use crate::host::Host;
use crate::value::{VALUES_MAX, Val};

/// What a stream or future gave, or why it cannot be taken over.
type Collected = Result<Gathered, String>;

/// The elements of a stream: bytes in one piece.
#[derive(Default)]
struct Gathered {
    values: Vec<Val>,
    bytes: Vec<u8>,
}

/// Reads out every stream and future in a value, as the guest runs on: a stream becomes the list of its elements, a
/// future its value.
///
/// # Errors
/// A message for the person: what the guest gave cannot be taken over.
pub(crate) async fn collect(
    accessor: &Accessor<Host>,
    value: &mut Val,
    ty: &Type,
    limits: &Limits,
) -> Result<(), String> {
    let bound = Bound::new(limits);
    // All of them are listened to before any is waited for: the guest writes them in the order it likes.
    let mut pending = Vec::new();
    accessor.with(|mut access| {
        each_transmit(value, ty, &mut |value, ty| {
            let given = std::mem::replace(value, Val::Bool(false));
            let (sender, receiver) = oneshot::channel();
            let collector =
                Collector { items: Ok(Gathered::default()), sender: Some(sender), bound: bound.clone() };
            pipe(access.as_context_mut(), given, ty, collector)?;
            pending.push(receiver);
            Ok(())
        })
    })?;
    let mut collected = Vec::new();
    for receiver in pending {
        collected.push(receiver.await.unwrap_or_else(|_| Err("it was closed before its end".into()))?);
    }
    let mut collected = collected.into_iter();
    each_transmit(value, ty, &mut |value, ty| {
        let Gathered { mut values, bytes } = collected.next().unwrap_or_default();
        *value = match ty {
            Type::Stream(stream) if matches!(stream.ty(), Some(Type::U8)) => Val::from(bytes),
            Type::Stream(_) => Val::List(values),
            _ => values.pop().ok_or("the guest dropped a future without its value")?,
        };
        Ok(())
    })
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
        self.take_weight(values, bytes)
    }

    fn take_weight(&self, values: usize, bytes: usize) -> Result<(), String> {
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

/// How many values there are in a value, and how many bytes.
fn weight(value: &Val) -> (usize, usize) {
    let sum = |parts: &mut dyn Iterator<Item = &Val>| {
        parts.map(weight).fold((1, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    };
    match value {
        Val::String(text) => (1, text.len()),
        Val::Bytes(bytes) => (1, bytes.len()),
        Val::List(items) | Val::Tuple(items) | Val::FixedLengthList(items) => sum(&mut items.iter()),
        Val::Record(fields) => sum(&mut fields.iter().map(|(_, value)| value)),
        Val::Map(entries) => sum(&mut entries.iter().flat_map(|(key, value)| [key, value])),
        Val::Option(Some(value)) | Val::Variant(_, Some(value)) => sum(&mut std::iter::once(&**value)),
        Val::Result(Ok(Some(value)) | Err(Some(value))) => sum(&mut std::iter::once(&**value)),
        _ => (1, 1),
    }
}

/// Takes the elements of a stream or the value of a future, and hands them over when the guest has closed it.
struct Collector {
    items: Collected,
    sender: Option<oneshot::Sender<Collected>>,
    bound: Bound,
}

impl Sink for Collector {
    const ELEMENTS_MAX: usize = 16 << 10;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<bool> {
        Poll::Ready(self.items.is_ok())
    }

    fn take(&mut self, elements: Val) -> bool {
        let Ok(items) = &mut self.items else { return false };
        let taken = match elements {
            Val::Bytes(bytes) => self.bound.take_weight(0, bytes.len()).map(|()| items.bytes.extend(bytes)),
            Val::List(elements) => elements
                .into_iter()
                .try_for_each(|element| self.bound.take(&element).map(|()| items.values.push(element))),
            _ => Ok(()),
        };
        if let Err(cause) = taken {
            self.items = Err(cause);
            return false;
        }
        true
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            // Nobody is there to receive it when the call was given up.
            let _ = sender.send(std::mem::replace(&mut self.items, Ok(Gathered::default())));
        }
    }
}
