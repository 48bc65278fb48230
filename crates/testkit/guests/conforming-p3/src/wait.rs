//! Waiting for one thing, for two at once, or for something that may never come.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

/// How long anything may take that should take no time.
const PATIENCE_NS: u64 = 10_000_000_000;

/// What is there already; `None` when it is to be waited for.
pub async fn now<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Both, at the same time.
pub async fn both<A: Future, B: Future>(one: A, two: B) -> (A::Output, B::Output) {
    let (mut one, mut two) = (pin!(one), pin!(two));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none()
            && let Poll::Ready(output) = one.as_mut().poll(context)
        {
            first = Some(output);
        }
        if second.is_none()
            && let Poll::Ready(output) = two.as_mut().poll(context)
        {
            second = Some(output);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (one, two) => {
                (first, second) = (one, two);
                Poll::Pending
            }
        }
    })
    .await
}

/// What comes within `ns`; `None` when it does not come.
pub async fn within<F: Future>(ns: u64, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut late = pin!(wasip3::clocks::monotonic_clock::wait_for(ns));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        late.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// What comes soon; `None` when it does not.
pub async fn soon<F: Future>(future: F) -> Option<F::Output> {
    within(PATIENCE_NS, future).await
}
