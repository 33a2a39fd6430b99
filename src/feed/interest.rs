//! Who waits for which entries. New ones are compared with the filters of all who wait, in one place, so that a
//! follower is woken for what it wants and for nothing else; what others drop costs them nothing.
//!
//! An interest knows up to where it was looked. Its follower sets that before it waits, and then looks at the head
//! once more: whatever the order of the two, an entry is looked at by the one or by the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use entity::change;
use tokio::sync::Notify;

/// Says whether an entry is wanted.
pub type Wanted = Box<dyn Fn(&change::Model) -> bool + Send + Sync>;

/// All who follow.
#[derive(Default)]
pub(super) struct Interests(Mutex<Registry>);

#[derive(Default)]
struct Registry {
    next: u64,
    known: BTreeMap<u64, Arc<Interest>>,
}

/// What one follower waits for.
pub(super) struct Interest {
    wants: Wanted,
    state: Mutex<State>,
    news: Notify,
}

struct State {
    /// Up to here there is nothing that is wanted, or it was handed out.
    looked: i64,
    /// Whether there is something behind `looked`.
    wanted: bool,
}

/// A place among those who follow, until it is dropped.
pub(super) struct Registered {
    interest: Arc<Interest>,
    id: u64,
    interests: Arc<Interests>,
}

impl Interests {
    /// Adds one who looked at all up to `looked`.
    pub(super) fn add(self: &Arc<Self>, wants: Wanted, looked: i64) -> Registered {
        let state = Mutex::new(State { looked, wanted: false });
        let interest = Arc::new(Interest { wants, state, news: Notify::new() });
        let mut registry = lock(&self.0);
        let id = registry.next;
        registry.next += 1;
        registry.known.insert(id, Arc::clone(&interest));
        Registered { interest, id, interests: Arc::clone(self) }
    }

    /// Wakes those who want one of `entries`, which come next after the number `before`. The head is behind them already.
    pub(super) fn tell(&self, before: i64, entries: &[Arc<change::Model>]) {
        let (Some(oldest), Some(newest)) = (entries.first(), entries.last()) else { return };
        for interest in lock(&self.0).known.values() {
            interest.tell(before, oldest.seq, newest.seq, entries);
        }
    }
}

impl Interest {
    fn tell(&self, before: i64, oldest: i64, newest: i64, entries: &[Arc<change::Model>]) {
        let mut state = lock(&self.state);
        // Who is behind these reads by itself; who is ahead knows them.
        if state.wanted || state.looked < before || state.looked >= newest {
            return;
        }
        // What was between was forgotten before anybody saw it: that has to be said.
        let hole = state.looked + 1 < oldest;
        let mut unseen = entries.iter().filter(|entry| entry.seq > state.looked);
        if hole || unseen.any(|entry| (self.wants)(entry)) {
            state.wanted = true;
            drop(state);
            self.news.notify_one();
        } else {
            state.looked = newest;
        }
    }
}

impl Registered {
    /// Whether `entry` is wanted.
    pub(super) fn wants(&self, entry: &change::Model) -> bool {
        (self.interest.wants)(entry)
    }

    /// Up to where nothing more has to be looked at.
    pub(super) fn looked(&self) -> i64 {
        lock(&self.interest.state).looked
    }

    /// Says that all up to `seq` was looked at; what was wanted until now is forgotten.
    pub(super) fn set_looked(&self, seq: i64) {
        *lock(&self.interest.state) = State { looked: seq, wanted: false };
    }

    /// Waits until there is something that is wanted.
    pub(super) async fn wanted(&self) {
        // A wake-up may be left over from something that was looked at since.
        while !lock(&self.interest.state).wanted {
            self.interest.news.notified().await;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.interests.0).known.remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
