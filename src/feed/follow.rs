//! A stream from a cursor: what was missed, then what happens. One loop, one invariant: in order, each once.
//!
//! 1. Read what is behind the cursor, from memory or from the table; both hold the same rows.
//! 2. Never split what one mutation committed, drop what the filter does not want, move the cursor past all.
//! 3. When there is nothing, wait for the head to pass the cursor.
//!
//! Replay and live are the same code, so there is no seam between them. A reader that is slow simply asks
//! later; nothing is buffered for it.

use std::sync::Arc;
use std::time::Duration;

use entity::change;
use sea_orm::DbErr;
use tokio::sync::watch;
use tokio::time::Instant;

use super::tailer::{CHUNK, ends_mutation};
use super::{Feed, Filter};

/// Longest silence before a checkpoint; clients may count on 30 seconds.
const CHECKPOINT: Duration = Duration::from_secs(25);

/// What a follower gets next.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Entries that were wanted, in order; none is a checkpoint.
    pub entries: Vec<Arc<change::Model>>,
    /// All up to this number was looked at.
    pub seq: i64,
}

/// Why a follower cannot go on.
#[derive(Debug)]
pub enum FollowError {
    /// Entries behind its cursor are no longer kept.
    Expired,
    /// What the database says.
    Database(DbErr),
}

/// A follower of the feed.
pub struct Follow {
    feed: Feed,
    filter: Filter,
    cursor: i64,
    head: watch::Receiver<i64>,
    checkpoint: Instant,
}

impl Follow {
    /// Follows `feed` from behind the entry with the number `after`.
    #[must_use]
    pub fn new(feed: &Feed, after: i64, filter: Filter) -> Self {
        let head = feed.watch();
        Self { feed: feed.clone(), filter, cursor: after, head, checkpoint: Instant::now() + CHECKPOINT }
    }

    /// The next entries that the filter wants, or a checkpoint after a long silence. May be dropped while it
    /// waits and called again: the cursor moves only when a batch is returned.
    ///
    /// # Errors
    /// When the table cannot be read, or no longer has what comes next.
    pub async fn next(&mut self) -> Result<Batch, FollowError> {
        loop {
            let waiting = self.head.wait_for(|head| *head > self.cursor);
            if tokio::time::timeout_at(self.checkpoint, waiting).await.is_err() {
                return Ok(self.deliver(Vec::new()));
            }
            let entries = self.read_whole_mutations().await?;
            // The head is behind the cursor, so there was something: retention took it.
            let last = entries.last().ok_or(FollowError::Expired)?.seq;
            let wanted: Vec<_> = entries.into_iter().filter(|entry| self.filter.matches(entry)).collect();
            self.cursor = last;
            if !wanted.is_empty() || Instant::now() >= self.checkpoint {
                return Ok(self.deliver(wanted));
            }
        }
    }

    fn deliver(&mut self, entries: Vec<Arc<change::Model>>) -> Batch {
        self.checkpoint = Instant::now() + CHECKPOINT;
        Batch { entries, seq: self.cursor }
    }

    /// Entries behind the cursor, ending where a mutation ends. The head, which was waited for, is such an end.
    async fn read_whole_mutations(&self) -> Result<Vec<Arc<change::Model>>, FollowError> {
        let mut entries = self.read(self.cursor, CHUNK).await?;
        if let Some(end) = entries.iter().rposition(ends_mutation) {
            entries.truncate(end + 1);
            return Ok(entries);
        }
        // One mutation wrote more than a chunk: read on to its end.
        while let Some(last) = entries.last().filter(|last| !ends_mutation(last)) {
            let missing = usize::try_from(last.batch_end_seq - last.seq).unwrap_or(CHUNK);
            let more = self.read(last.seq, missing.min(CHUNK)).await?;
            if more.is_empty() {
                return Err(FollowError::Expired);
            }
            entries.extend(more);
        }
        Ok(entries)
    }

    /// Entries right behind `after`. The numbers being dense, a hole means that retention took some.
    async fn read(&self, after: i64, limit: usize) -> Result<Vec<Arc<change::Model>>, FollowError> {
        let entries = self.feed.read(after, limit).await.map_err(FollowError::Database)?;
        match entries.first() {
            Some(first) if first.seq != after + 1 => Err(FollowError::Expired),
            _ => Ok(entries),
        }
    }
}
