//! Decides when batches are loaded: when the execution can go no further without them.
//!
//! The stock loader waits a millisecond for more keys. That costs a millisecond a level, and on a busy machine
//! splits a batch all the same. Here the loads of an execution are polled by its own task, right after the
//! execution itself: by then every field that can ask has asked.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_graphql::runtime::Timer;
use futures_util::future::{BoxFuture, FutureObj};
use futures_util::stream::FuturesUnordered;
use futures_util::task::{Spawn, SpawnError};
use futures_util::{FutureExt as _, Stream, StreamExt as _};

/// Where loads wait until the execution has asked for all that it can.
#[derive(Clone, Default)]
pub struct Batches(Arc<Mutex<Vec<FutureObj<'static, ()>>>>);

impl Spawn for Batches {
    fn spawn_obj(&self, load: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(load);
        Ok(())
    }
}

/// Lets a load begin as soon as it is polled.
pub struct AtOnce;

impl Timer for AtOnce {
    fn delay(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

/// An execution with the loads that it waits for. A query is a stream of one response.
pub struct Driven<S> {
    execution: S,
    batches: Batches,
    loading: FuturesUnordered<FutureObj<'static, ()>>,
}

impl<S> Driven<S> {
    /// Drives `execution` and what it puts into `batches`.
    pub fn new(execution: S, batches: Batches) -> Self {
        Self { execution, batches, loading: FuturesUnordered::new() }
    }
}

impl<S: Stream + Unpin> Stream for Driven<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        loop {
            if let Poll::Ready(item) = self.execution.poll_next_unpin(cx) {
                return Poll::Ready(item);
            }
            let asked = std::mem::take(&mut *self.batches.0.lock().unwrap_or_else(PoisonError::into_inner));
            self.loading.extend(asked);
            let mut loaded = false;
            while let Poll::Ready(Some(())) = self.loading.poll_next_unpin(cx) {
                loaded = true;
            }
            // What was loaded may let the execution go on at once.
            if !loaded {
                return Poll::Pending;
            }
        }
    }
}
