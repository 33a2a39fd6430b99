//! One subscriber among those who subscribe to the same.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::group::{Group, Had, Key, Next};
use super::{Event, Events, Execute, Payload};
use crate::domain::actor::Actor;
use crate::domain::change::Leg;
use crate::graphql::Operation;

/// A subscriber: a cursor, and where what follows it comes from.
pub struct Member<E> {
    on: E,
    state: State,
}

enum State {
    /// On the way from where it began to the present, by itself: what is wrong with what it asked shows there.
    Beginning(Box<Beginning>),
    Joined(Joined),
    Over,
}

struct Beginning {
    key: Key,
    operation: Operation,
    events: Events,
    /// Where the way ends.
    until: i64,
}

struct Joined {
    group: Arc<Group>,
    answers: watch::Receiver<u64>,
    had: Had,
    /// The way to where the group is, when it is not there.
    leg: Option<(Box<Events>, i64)>,
}

impl<E: Execute> Member<E> {
    /// Subscribes `actor` to `operation`, which others may share as `shared`.
    pub fn new(on: E, actor: &Actor, operation: Operation, shared: Arc<str>) -> Self {
        let until = on.head();
        let events = on.events(actor, &operation, Leg { from: None, until: Some(until) });
        let key = Key { operation: shared, role: actor.role };
        let state = State::Beginning(Box::new(Beginning { key, operation, events, until }));
        Self { on, state }
    }

    /// The next answer; none after the last. May be dropped while it waits and called again.
    pub async fn next(&mut self) -> Option<Payload> {
        loop {
            match &mut self.state {
                State::Over => return None,
                State::Beginning(beginning) => {
                    if let Some(event) = beginning.events.next().await {
                        return Some(self.hand_out(event));
                    }
                    self.join();
                }
                State::Joined(joined) => {
                    let Some(event) = joined.next(&self.on).await else { continue };
                    return Some(self.hand_out(event));
                }
            }
        }
    }

    fn hand_out(&mut self, event: Event) -> Payload {
        if event.last {
            self.state = State::Over;
        }
        event.payload
    }

    fn join(&mut self) {
        let State::Beginning(beginning) = std::mem::replace(&mut self.state, State::Over) else { return };
        let Beginning { key, operation, events, until } = *beginning;
        let place = events.progress.place();
        drop(events);
        // It may have begun ahead of what this process has read.
        let (cursor, as_of) = (place.seq.max(until), place.as_of.map(|_| Instant::now()));
        let group = self.on.groups().join(&self.on, key, Arc::new(operation));
        self.state = State::Joined(Joined::new(group, cursor, as_of));
    }
}

impl Joined {
    fn new(group: Arc<Group>, cursor: i64, as_of: Option<Instant>) -> Self {
        Self { answers: group.answers(), had: group.had(cursor, as_of), group, leg: None }
    }

    /// The next answer, or none when there was a step without one.
    async fn next(&mut self, on: &impl Execute) -> Option<Event> {
        if let Some((events, until)) = &mut self.leg {
            let Some(event) = events.next().await else {
                self.had.cursor = self.had.cursor.max(*until);
                self.leg = None;
                return None;
            };
            self.had.cursor = event.place.seq;
            self.had.as_of = event.place.as_of.map(|_| Instant::now());
            return Some(event);
        }
        self.answers.mark_unchanged();
        match self.group.after(self.had) {
            Next::Answer(payload, had) => {
                self.had = had;
                return Some(event(payload, had.cursor, false));
            }
            Next::Last(payload) => return Some(event(payload, self.had.cursor, true)),
            Next::Over => {
                let group = self.group.again(on);
                *self = Self::new(group, self.had.cursor, self.had.as_of);
            }
            Next::Behind { until } => {
                let events = self.group.leg(on, self.had.cursor, until);
                self.leg = Some((Box::new(events), until));
            }
            Next::Nothing => {
                self.group.wait();
                // The group cannot end before its members do.
                let _ = self.answers.changed().await;
            }
        }
        None
    }
}

const fn event(payload: Payload, seq: i64, last: bool) -> Event {
    Event { payload, place: super::Place { after: seq, first: None, seq, as_of: None }, last }
}
