//! Those who subscribe to the same, and the task that executes it for them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{Event, Events, Execute, Payload, Place, lock};
use crate::domain::actor::{Actor, Role};
use crate::domain::change::Leg;
use crate::domain::error::Error;
use crate::graphql::Operation;

/// Answers that a group keeps, at most.
const KEPT: usize = 64;
/// Bytes of them, at most; the newest is kept whatever its length.
const KEPT_BYTES: usize = 1024 * 1024;
/// Members from which on a group waits for them before it goes on: what happens meanwhile shares the next answer. One
/// that produced answers faster than its members can be sent them would leave each to an execution of its own.
const CROWD: usize = 64;
/// Longest such wait.
const PACE: Duration = Duration::from_millis(100);

/// What members of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The operation without where it begins, and its variables.
    pub operation: Arc<str>,
    /// What the members may do.
    pub role: Role,
}

/// All groups of a server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Groups(Arc<Mutex<HashMap<Key, Weak<Group>>>>);

/// A group, while it has members.
pub struct Group {
    key: Key,
    groups: Groups,
    operation: Arc<Operation>,
    actor: Actor,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What the task hands to the members.
struct Shared {
    kept: Mutex<Kept>,
    /// Grows with each answer.
    answers: watch::Sender<u64>,
    /// Members that began to wait since the newest answer.
    waiting: AtomicUsize,
    /// How many of those who waited for the newest answer still have to take it before the group goes on.
    awaited: AtomicUsize,
    taken: Notify,
}

struct Kept {
    answers: VecDeque<(Place, Payload)>,
    bytes: usize,
    /// Up to here the answers go; where the group began, at first.
    seq: i64,
    /// How many answers there were.
    count: u64,
    /// The newest checkpoint, with how many answers there were then.
    checkpoint: Option<(u64, i64, Payload)>,
    /// The last answer, when there will be no more.
    last: Option<(Place, Payload)>,
}

/// What a member has had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Had {
    /// All up to this number.
    pub(super) cursor: i64,
    /// Checkpoints of the group, as far as there were so many answers.
    pub(super) count: u64,
    /// What it was shown last was read by itself, at this time.
    pub(super) as_of: Option<Instant>,
}

/// What a group has for a member.
pub(super) enum Next {
    /// The answer that comes next; what the member has had then.
    Answer(Payload, Had),
    /// The last answer.
    Last(Payload),
    /// Nothing yet.
    Nothing,
    /// Not what comes next: the member has to get there by itself.
    Behind {
        /// Where it meets the group.
        until: i64,
    },
    /// Nothing any more: the group has ended before that.
    Over,
}

impl Groups {
    /// The group of those who subscribe to `operation` with the rights of `key`.
    pub(super) fn join(&self, on: &impl Execute, key: Key, operation: Arc<Operation>) -> Arc<Group> {
        let mut groups = lock(&self.0);
        let there = groups.get(&key).and_then(Weak::upgrade);
        if let Some(group) = there.as_ref().filter(|group| !group.shared.is_over()) {
            return Arc::clone(group);
        }
        let actor = Actor::subscribers(key.role);
        let start = on.head();
        let shared = Arc::new(Shared::new(start));
        let leg = Leg { from: Some(start), until: None };
        let events = on.events(&actor, &operation, leg);
        let task = tokio::spawn(execute(events, Arc::clone(&shared))).abort_handle();
        let group =
            Arc::new(Group { key: key.clone(), groups: self.clone(), operation, actor, shared, task });
        groups.insert(key, Arc::downgrade(&group));
        // One that is over may go with its last member here, and that takes the lock.
        drop(groups);
        drop(there);
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.task.abort();
        let mut groups = lock(&self.groups.0);
        // Another one may have taken the place meanwhile.
        if groups.get(&self.key).is_some_and(|group| group.strong_count() == 0) {
            groups.remove(&self.key);
        }
    }
}

/// Executes a subscription for a group, until it has no members or fails.
async fn execute(mut events: Events, shared: Arc<Shared>) {
    // Whatever ends it, the members are told.
    let ending = Ending(&shared);
    while let Some(Event { payload, place, last }) = events.next().await {
        if last {
            lock(&shared.kept).last = Some((place, payload));
            break;
        }
        shared.add(place, payload);
        shared.wait_for_members().await;
    }
    drop(ending);
}

/// Ends a group when it is dropped.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut kept = lock(&self.0.kept);
        let place = Place { after: kept.seq, first: None, seq: kept.seq, as_of: None };
        // Mostly it ends since the last member left, and nobody will be told.
        let why = if std::thread::panicking() {
            Error::internal("a group of subscribers panicked")
        } else {
            Error::RateLimited("the subscription ended: subscribe again, from its cursor".to_owned())
        };
        kept.last.get_or_insert_with(|| (place, Payload::refusal(&why)));
        drop(kept);
        self.0.answers.send_modify(|answers| *answers += 1);
    }
}

impl Group {
    /// An execution of a member's own, of the part of the changelog behind `from` up to `until`.
    pub(super) fn leg(&self, on: &impl Execute, from: i64, until: i64) -> Events {
        let leg = Leg { from: Some(from), until: Some(until) };
        on.events(&self.actor, &self.operation, leg)
    }

    /// Another one for the same, after this one has ended.
    pub(super) fn again(&self, on: &impl Execute) -> Arc<Self> {
        self.groups.join(on, self.key.clone(), Arc::clone(&self.operation))
    }

    /// Tells when there are answers.
    pub(super) fn answers(&self) -> watch::Receiver<u64> {
        self.shared.answers.subscribe()
    }

    /// What a member that is new has had of what is the group's alone.
    pub(super) fn had(&self, cursor: i64, as_of: Option<Instant>) -> Had {
        Had { cursor, count: lock(&self.shared.kept).count, as_of }
    }

    /// What comes next for a member.
    pub(super) fn after(&self, had: Had) -> Next {
        let (next, newest) = lock(&self.shared.kept).after(had);
        if newest {
            self.shared.take();
        }
        next
    }

    /// Counts the caller among those who wait for the next answer.
    pub(super) fn wait(&self) {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
    }
}

impl Kept {
    /// What comes next for a member, and whether it is the newest answer.
    fn after(&self, had: Had) -> (Next, bool) {
        let index = self.answers.partition_point(|(place, _)| place.seq <= had.cursor);
        let Some((place, payload)) = self.answers.get(index) else {
            return (self.at_the_end(had), false);
        };
        let next = if had.cursor < place.after {
            Next::Behind { until: self.seq }
        } else if !had.fits(place) {
            Next::Behind { until: place.seq }
        } else {
            // Answers of the group do not go back among themselves: what the member read by itself still counts.
            Next::Answer(payload.clone(), Had { cursor: place.seq, count: self.count, as_of: had.as_of })
        };
        (next, index + 1 == self.answers.len())
    }

    /// What comes next for a member that has had all answers.
    fn at_the_end(&self, had: Had) -> Next {
        if had.cursor < self.seq {
            return Next::Behind { until: self.seq };
        }
        match (&self.last, &self.checkpoint) {
            (Some((place, last)), _) if had.cursor >= place.after && had.fits(place) => {
                Next::Last(last.clone())
            }
            (Some(_), _) => Next::Over,
            (None, Some((count, seq, checkpoint))) if *count > had.count && *seq == had.cursor => {
                Next::Answer(checkpoint.clone(), Had { count: self.count, ..had })
            }
            (None, _) => Next::Nothing,
        }
    }
}

impl Had {
    /// Whether an answer that begins at or before the cursor tells nothing that the member has had, and no state that is
    /// older than what it has seen.
    fn fits(&self, place: &Place) -> bool {
        let repeats = self.cursor > place.after && place.first.is_some_and(|first| first <= self.cursor);
        let older = place.as_of.zip(self.as_of).is_some_and(|(shown, seen)| shown < seen);
        !repeats && !older
    }
}

impl Shared {
    fn new(start: i64) -> Self {
        let kept =
            Kept { answers: VecDeque::new(), bytes: 0, seq: start, count: 0, checkpoint: None, last: None };
        Self {
            kept: Mutex::new(kept),
            answers: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            awaited: AtomicUsize::new(0),
            taken: Notify::new(),
        }
    }

    fn add(&self, place: Place, payload: Payload) {
        // Who does not take this one is not counted again.
        let waiting = self.waiting.swap(0, Ordering::Relaxed);
        self.awaited.store(if waiting < CROWD { 0 } else { waiting * 9 / 10 }, Ordering::Relaxed);
        let mut kept = lock(&self.kept);
        kept.count += 1;
        if place.first.is_none() {
            kept.checkpoint = Some((kept.count, place.seq, payload.clone()));
        }
        // Who has had all needs no answer that goes no further.
        if place.seq > kept.seq {
            kept.seq = place.seq;
            kept.bytes += payload.json.len();
            kept.answers.push_back((place, payload));
        }
        while kept.answers.len() > KEPT || (kept.bytes > KEPT_BYTES && kept.answers.len() > 1) {
            let oldest = kept.answers.pop_front();
            kept.bytes -= oldest.map_or(0, |(_, payload)| payload.json.len());
        }
        drop(kept);
        self.answers.send_modify(|answers| *answers += 1);
    }

    fn take(&self) {
        let left =
            self.awaited.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left == Ok(1) {
            self.taken.notify_one();
        }
    }

    /// Waits until most of those who waited for the newest answer took it. Who did not wait is not waited for.
    async fn wait_for_members(&self) {
        let all_took = async {
            while self.awaited.load(Ordering::Relaxed) > 0 {
                self.taken.notified().await;
            }
        };
        // Some may be slow, or gone.
        let _ = timeout(PACE, all_took).await;
    }

    fn is_over(&self) -> bool {
        lock(&self.kept).last.is_some()
    }
}
