//! A stream from a cursor: what was missed, then what happens. One loop, one invariant: in order, each once.
//!
//! 1. Read what is behind the cursor, from memory or from the log; both hold the same entries.
//! 2. Never split what one mutation committed, drop what is not wanted, move the cursor past all.
//! 3. When there is nothing, wait until something is wanted (`interest.rs`).
//!
//! Replay and live are the same code, so there is no seam between them. A reader that is slow simply asks
//! later; nothing is buffered for it.

use std::sync::Arc;
use std::time::Duration;

use entity::change;
use sea_orm::DbErr;
use tokio::time::Instant;

use super::Feed;
use super::interest::{Registered, Wanted};
use super::tailer::{CHUNK, ends_mutation};

/// Longest silence before a checkpoint; clients may count on 30 seconds.
const CHECKPOINT: Duration = Duration::from_secs(25);
/// Entries that are read at first; who takes them gets more at once, who does not holds few.
const FIRST_CHUNK: usize = 128;

/// A part of the changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Begins behind this number.
    pub after: i64,
    /// Ends with this number, where a mutation does and which can be read already; without, it goes on with what happens.
    pub until: Option<i64>,
}

/// What a follower gets next.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Entries that were wanted, in order; none is a checkpoint.
    pub entries: Vec<Arc<change::Model>>,
    /// It begins behind this number, where the batch before it ended.
    pub after: i64,
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
    interest: Registered,
    until: Option<i64>,
    /// Where the last batch ended.
    delivered: i64,
    /// Up to where was looked since.
    cursor: i64,
    chunk: usize,
    checkpoint: Instant,
}

impl Follow {
    /// Follows `feed` through `span`, for those entries that are wanted.
    #[must_use]
    pub fn new(feed: &Feed, span: Span, wants: Wanted) -> Self {
        Self {
            interest: feed.interest(wants, span.after),
            feed: feed.clone(),
            until: span.until,
            delivered: span.after,
            cursor: span.after,
            chunk: FIRST_CHUNK,
            checkpoint: Instant::now() + CHECKPOINT,
        }
    }

    /// The next entries that are wanted, or a checkpoint after a long silence; none at the end of the span.
    /// May be dropped while it waits and called again: what was not returned is returned then.
    ///
    /// # Errors
    /// When the log cannot be read, or no longer has what comes next.
    pub async fn next(&mut self) -> Result<Option<Batch>, FollowError> {
        loop {
            if self.until.is_some_and(|until| self.cursor >= until) {
                return Ok(None);
            }
            if self.feed.head() <= self.cursor && !self.wait().await {
                return Ok(Some(self.deliver(Vec::new())));
            }
            if self.feed.head() <= self.cursor {
                continue;
            }
            let entries = self.read_whole_mutations().await?;
            // The head is behind the cursor, so there was something: retention took it.
            let last = entries.last().ok_or(FollowError::Expired)?.seq;
            self.chunk = (2 * self.chunk).min(CHUNK);
            let wanted: Vec<_> = entries.into_iter().filter(|entry| self.interest.wants(entry)).collect();
            self.cursor = last;
            if !wanted.is_empty() || Instant::now() >= self.checkpoint {
                return Ok(Some(self.deliver(wanted)));
            }
        }
    }

    /// Waits until there may be something that is wanted; false when the silence becomes too long. Either way the
    /// cursor moves past what nobody wanted.
    async fn wait(&mut self) -> bool {
        self.interest.set_looked(self.cursor);
        // Told before this was set, or after: see `interest.rs`.
        if self.feed.head() > self.cursor {
            return true;
        }
        let in_time = tokio::time::timeout_at(self.checkpoint, self.interest.wanted()).await.is_ok();
        self.cursor = self.cursor.max(self.interest.looked());
        in_time
    }

    fn deliver(&mut self, entries: Vec<Arc<change::Model>>) -> Batch {
        self.checkpoint = Instant::now() + CHECKPOINT;
        let after = std::mem::replace(&mut self.delivered, self.cursor);
        Batch { entries, after, seq: self.cursor }
    }

    /// Entries behind the cursor, ending where a mutation ends. The head is such an end, and so is the end of a span.
    async fn read_whole_mutations(&self) -> Result<Vec<Arc<change::Model>>, FollowError> {
        let left = self.until.map_or(i64::MAX, |until| until - self.cursor);
        let limit = self.chunk.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut entries = self.read(self.cursor, limit).await?;
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
