//! One execution and one serialisation for all who subscribe to the same.
//!
//! Subscribers with the same document, variables and rights (but for where they begin) are members of one group. Its
//! task executes the subscription for what happens, and keeps the last answers, each with the part of the changelog
//! that it covers. A member is one loop over a cursor: from what the group keeps when that covers the cursor, else by
//! an execution of its own, a *leg*, up to where the group is; then it waits for the group. So each member gets what
//! it would have got alone, in order and once, and who is slow costs the others nothing.
//!
//! Answers that show a state (`asset`, `folder`) are as old as their reading. A member that has read the state itself
//! does not take one that may be older, but reads again.

mod group;
mod member;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_graphql::Response;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Operation;
use crate::domain::actor::Actor;
use crate::domain::change::{Cause, Leg};
use crate::domain::error::Error;
use crate::domain::version::TextBudget;

pub use group::Groups;
pub use member::Member;

/// A part of the changelog that an answer covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// It begins behind this number, where the answer before it ended.
    pub after: i64,
    /// The first entry that it is about, if any.
    pub first: Option<i64>,
    /// It ends with this number.
    pub seq: i64,
    /// When the state that it shows was read, or a little before; none when it shows entries, which do not change.
    pub as_of: Option<Instant>,
}

/// Tells a subscription's resolver which part of the way to go, and is told by it how far it came.
#[derive(Clone)]
pub struct Progress {
    leg: Leg,
    place: Arc<Mutex<Place>>,
    work: Arc<Work>,
}

/// Since when the next answer is being made, if it is.
#[derive(Default)]
struct Work {
    since: Mutex<Option<Instant>>,
    begun: Notify,
}

/// An answer, ready to be sent.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The response as JSON.
    pub json: Arc<str>,
    /// Its errors as JSON, when it has nothing else; the last answer then.
    pub failure: Option<Arc<str>>,
}

/// Executes subscriptions.
pub trait Execute: Send + Sync {
    /// Executes a part of a subscription.
    fn events(&self, actor: &Actor, operation: &Operation, leg: Leg) -> Events;

    /// The newest entry that can be read.
    fn head(&self) -> i64;

    /// Those who subscribe to the same.
    fn groups(&self) -> &Groups;
}

/// An execution of a subscription.
pub struct Events {
    responses: BoxStream<'static, Response>,
    progress: Progress,
    texts: TextBudget,
}

/// An answer of an execution.
struct Event {
    payload: Payload,
    place: Place,
    /// Whether it is the last.
    last: bool,
}

impl From<Cause> for Place {
    fn from(cause: Cause) -> Self {
        Self { after: cause.after, first: cause.first, seq: cause.seq, as_of: Some(Instant::now()) }
    }
}

impl Progress {
    /// For an execution of `leg`.
    pub fn new(leg: Leg) -> Self {
        let seq = leg.from.unwrap_or_default();
        let place = Place { after: seq, first: None, seq, as_of: None };
        Self { leg, place: Arc::new(Mutex::new(place)), work: Arc::default() }
    }

    /// Which part of the way to go.
    pub const fn leg(&self) -> Leg {
        self.leg
    }

    /// Says where the way begins.
    pub fn begin(&self, seq: i64) {
        *lock(&self.place) = Place { after: seq, first: None, seq, as_of: None };
    }

    /// Says what the next answer covers, which is made from now on.
    pub fn reach(&self, place: Place) {
        *lock(&self.place) = place;
        self.begin_answer();
    }

    /// Says that the next answer is made from now on.
    pub fn begin_answer(&self) {
        *lock(&self.work.since) = Some(Instant::now());
        self.work.begun.notify_one();
    }

    /// Says that it was made.
    pub fn answered(&self) {
        *lock(&self.work.since) = None;
    }

    /// Returns when an answer is being made for longer than this. While nobody waits for it, which is so when a client
    /// takes nothing, hardly any time goes by.
    pub async fn overdue(&self, limit: Duration) {
        const SLICES: u32 = 10;
        loop {
            let since = *lock(&self.work.since);
            if since.is_none() {
                self.work.begun.notified().await;
                continue;
            }
            for _ in 0..SLICES {
                sleep(limit / SLICES).await;
            }
            if *lock(&self.work.since) == since {
                return;
            }
        }
    }

    fn place(&self) -> Place {
        *lock(&self.place)
    }
}

impl Payload {
    /// The last answer, with nothing but an error.
    #[must_use]
    pub fn refusal(error: &Error) -> Self {
        Self::new(&super::error::response(error))
    }

    /// Renders a response.
    #[must_use]
    pub fn new(response: &Response) -> Self {
        let failure = super::is_failure(response).then(|| json(&response.errors));
        Self { json: json(response), failure }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn json(value: &impl serde::Serialize) -> Arc<str> {
    serde_json::to_string(value).expect("a response is JSON").into()
}

impl Events {
    /// Answers as they come from `responses`, whose resolvers know `progress` and `texts`.
    pub const fn new(responses: BoxStream<'static, Response>, progress: Progress, texts: TextBudget) -> Self {
        Self { responses, progress, texts }
    }

    /// The next answer, rendered.
    pub async fn payload(&mut self) -> Option<Payload> {
        self.next().await.map(|event| event.payload)
    }

    async fn next(&mut self) -> Option<Event> {
        self.texts.renew();
        let response = self.responses.next().await?;
        let payload = Payload::new(&response);
        Some(Event { payload, place: self.progress.place(), last: !response.errors.is_empty() })
    }
}

#[cfg(test)]
mod tests;
