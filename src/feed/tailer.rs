//! One task a process that reads new entries in order and lends them to every follower.
//!
//! The bell and the timer only wake it: what it hands out is what it read from the table, without a hole.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use entity::change;
use sea_orm::{DatabaseConnection, DbBackend, DbErr};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::interest::{Interests, Registered, Wanted};
use super::{Cursor, Log, relay};

/// Entries kept in memory for followers that keep up; the others read the table.
const RING: usize = 4096;
/// Entries read at once.
pub(super) const CHUNK: usize = 1000;
/// How long a lost hint can delay an entry.
const POLL: Duration = Duration::from_millis(500);

/// Whether what one mutation wrote ends with this entry.
pub(super) fn ends_mutation(entry: &Arc<change::Model>) -> bool {
    entry.seq == entry.batch_end_seq
}

/// The changelog of a process: what is new, and who waits for it. Cheap to clone.
#[derive(Clone)]
pub struct Feed(Arc<Shared>);

struct Shared {
    log: Arc<dyn Log>,
    epoch: Uuid,
    ring: RwLock<VecDeque<Arc<change::Model>>>,
    /// Number of the newest entry in the ring.
    head: AtomicI64,
    /// Who waits for which entries.
    interests: Arc<Interests>,
    /// The newest number that somebody told of.
    bell: watch::Sender<i64>,
    /// The newest number that was committed here.
    own: watch::Sender<i64>,
}

impl Feed {
    /// Opens the feed at the present head.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open(log: Arc<dyn Log>) -> Result<Self, DbErr> {
        let head = log.head().await?;
        Ok(Self(Arc::new(Shared {
            log,
            epoch: head.epoch,
            ring: RwLock::new(VecDeque::with_capacity(RING)),
            head: AtomicI64::new(head.last_seq),
            interests: Arc::default(),
            bell: watch::Sender::new(head.last_seq),
            own: watch::Sender::new(head.last_seq),
        })))
    }

    /// Tells that entries up to `seq` were committed here.
    pub fn committed(&self, seq: i64) {
        // Of two commits the later one may be told of first.
        self.0.own.send_if_modified(|known| seq > std::mem::replace(known, seq.max(*known)));
        self.ring(seq);
    }

    /// The newest number that was committed here, and when it grows.
    pub(super) fn own(&self) -> watch::Receiver<i64> {
        self.0.own.subscribe()
    }

    /// Hears of what other servers commit to the same PostgreSQL database, and tells them of what is committed here.
    pub fn relay(
        &self,
        database: &DatabaseConnection,
        url: &str,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        if database.get_database_backend() == DbBackend::Postgres {
            let pool = database.get_postgres_connection_pool().clone();
            tasks.spawn(relay::tell(self.clone(), pool, stop.clone()));
            tasks.spawn(relay::listen(self.clone(), url.to_owned(), stop.clone()));
        }
    }

    /// Lets the tailer look whether something is new.
    pub(super) fn look(&self) {
        self.0.bell.send_modify(|_| {});
    }

    /// Tells that entries up to `seq` were committed.
    pub(super) fn ring(&self, seq: i64) {
        self.0.bell.send_if_modified(|known| {
            let news = seq > *known;
            *known = seq.max(*known);
            news
        });
    }

    /// The newest number that somebody told of, and when it grows.
    #[must_use]
    pub fn bell(&self) -> watch::Receiver<i64> {
        self.0.bell.subscribe()
    }

    /// Reads what is new until `stop`.
    pub async fn tail(self, stop: CancellationToken) {
        let mut bell = self.0.bell.subscribe();
        loop {
            let poll = tokio::time::sleep(POLL);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = bell.changed() => {}
                () = poll => {}
            }
            bell.mark_unchanged();
            if let Err(error) = self.catch_up().await {
                tracing::error!(%error, "cannot read the changelog; trying again");
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// Moves the head on, always to where a mutation ends: who waits for it never sees half of one.
    async fn catch_up(&self) -> Result<(), DbErr> {
        let mut read = Vec::new();
        loop {
            let last = read.last().map_or(self.head(), |entry: &Arc<change::Model>| entry.seq);
            let entries = self.0.log.read(last, CHUNK).await?;
            let full = entries.len() == CHUNK;
            if entries.first().is_some_and(|entry| entry.seq != last + 1) {
                // Retention was faster than this process: what it began to read is forgotten as well.
                read.clear();
            }
            read.extend(entries);
            if let Some(end) = read.iter().rposition(ends_mutation) {
                let rest = read.split_off(end + 1);
                self.publish(&std::mem::replace(&mut read, rest));
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Lends `entries`, which are next, to those who wait for one of them.
    fn publish(&self, entries: &[Arc<change::Model>]) {
        let (Some(oldest), Some(newest)) = (entries.first(), entries.last()) else { return };
        let mut ring = self.0.ring.write().unwrap_or_else(PoisonError::into_inner);
        // The ring has no holes.
        if ring.back().is_some_and(|last| last.seq + 1 != oldest.seq) {
            ring.clear();
        }
        ring.extend(entries.iter().cloned());
        let surplus = ring.len().saturating_sub(RING);
        ring.drain(..surplus);
        drop(ring);
        // Interests rely on the head being behind what they are told of.
        let before = self.0.head.swap(newest.seq, Ordering::SeqCst);
        self.0.interests.tell(before, entries);
    }

    /// Entries behind `after`, in order and without a hole, `limit` at most: from memory when it has them,
    /// else from the table.
    pub(super) async fn read(&self, after: i64, limit: usize) -> Result<Vec<Arc<change::Model>>, DbErr> {
        match self.read_ring(after, limit) {
            Some(entries) => Ok(entries),
            None => self.0.log.read(after, limit).await,
        }
    }

    fn read_ring(&self, after: i64, limit: usize) -> Option<Vec<Arc<change::Model>>> {
        let ring = self.0.ring.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = ring.front()?.seq;
        let skip = usize::try_from(after + 1 - oldest).ok()?;
        Some(ring.iter().skip(skip).take(limit).cloned().collect())
    }

    /// A place among those who follow, for one who looked at all up to `seq`.
    pub(super) fn interest(&self, wants: Wanted, seq: i64) -> Registered {
        self.0.interests.add(wants, seq)
    }

    /// Number of the newest entry that followers can see.
    #[must_use]
    pub fn head(&self) -> i64 {
        self.0.head.load(Ordering::SeqCst)
    }

    /// Made with the database.
    #[must_use]
    pub fn epoch(&self) -> Uuid {
        self.0.epoch
    }

    /// The text that stands for a place in this changelog.
    #[must_use]
    pub fn encode(&self, seq: i64) -> String {
        Cursor(seq).encode(self.0.epoch)
    }

    /// Oldest number that can still be read from, and newest, as the table has them now.
    ///
    /// # Errors
    /// What the database says.
    pub async fn bounds(&self) -> Result<(i64, i64), DbErr> {
        let head = self.0.log.head().await?;
        Ok((head.floor_seq, head.last_seq))
    }
}
