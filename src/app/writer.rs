//! The one writer: a queue in front of one connection. Jobs that wait together share a commit, each in a
//! savepoint of its own, so that a refused one leaves no trace; the changelog's counter is bumped last.
//!
//! Why a queue: SQLite has one writer and starves those who retry, and on PostgreSQL the counter orders all
//! commits anyway. Sharing commits buys the throughput back (one sync to disk for many jobs).

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use entity::{Timestamp, change};
use futures_util::FutureExt as _;
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Clock;
use crate::feed::{self, Draft, Feed};

/// Jobs that may wait for the writer; beyond, whoever submits waits.
const QUEUE: usize = 1024;
/// Jobs that share one commit, at most.
const MAX_BATCH: usize = 128;

/// Work for the writer.
#[async_trait]
pub trait Job: Send {
    /// Does the work in `tx`. False takes back all that it did.
    async fn run(&mut self, tx: &Tx) -> bool;

    /// Told once, after the commit: with the entries that the job recorded, or why the commit failed.
    fn settle(self: Box<Self>, outcome: Result<Vec<change::Model>, Arc<DbErr>>);
}

/// The inside of a job: its transaction, the time, new ids, and the entries that it records.
pub struct Tx {
    /// Where statements run.
    pub conn: DatabaseTransaction,
    /// The time of everything that the job writes.
    pub now: Timestamp,
    clock: Clock,
    drafts: Mutex<Vec<Draft>>,
}

impl Tx {
    /// A new id.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        self.clock.new_id()
    }

    /// Adds an entry to the changelog, in the commit of this job.
    pub fn record(&self, draft: Draft) {
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner).push(draft);
    }

    /// The entries recorded so far, as they would be; without a number.
    #[must_use]
    pub fn rehearsed(&self) -> Vec<change::Model> {
        let drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        feed::unnumbered(drafts)
    }

    fn into_parts(self) -> (DatabaseTransaction, Vec<Draft>) {
        (self.conn, self.drafts.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The way to the writer.
pub struct Writer {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
}

impl Writer {
    /// Starts the writer on a connection of its own.
    pub fn start(tasks: &TaskTracker, database: DatabaseConnection, feed: Feed, clock: Clock) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tasks.spawn(Worker { database, feed, clock }.run(jobs));
        Self { queue: Mutex::new(Some(queue)) }
    }

    /// Queues a job; false when the writer is closed.
    pub async fn submit(&self, job: Box<dyn Job>) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match queue {
            Some(queue) => queue.send(job).await.is_ok(),
            None => false,
        }
    }

    /// Whether jobs are still taken.
    pub fn takes_jobs(&self) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().is_some_and(|queue| !queue.is_closed())
    }

    /// Takes no more jobs; those that wait are still done.
    pub fn close(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

struct Worker {
    database: DatabaseConnection,
    feed: Feed,
    clock: Clock,
}

/// A job that was done, with the entries that it recorded.
type Done = (Box<dyn Job>, Vec<Draft>);

impl Worker {
    async fn run(self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while jobs.recv_many(&mut batch, MAX_BATCH).await > 0 {
            self.commit(std::mem::take(&mut batch)).await;
        }
    }

    async fn commit(&self, jobs: Vec<Box<dyn Job>>) {
        let mut done = Vec::with_capacity(jobs.len());
        let mut refused = Vec::new();
        let outcome = self.transact(jobs, &mut done, &mut refused).await;
        match outcome {
            Ok(mut entries) => {
                if let Some(last) = entries.iter().flatten().last() {
                    super::crash_point("after-commit");
                    self.feed.ring(last.seq);
                }
                entries.resize(done.len(), Vec::new());
                for ((job, _), entries) in done.into_iter().zip(entries) {
                    job.settle(Ok(entries));
                }
                for job in refused {
                    job.settle(Ok(Vec::new()));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                // Also those that were refused: what they were refused for may be among what was taken back.
                for job in done.into_iter().map(|(job, _)| job).chain(refused) {
                    job.settle(Err(Arc::clone(&error)));
                }
            }
        }
    }

    /// Runs every job in one transaction. What is in `done` holds only if this succeeds.
    async fn transact(
        &self,
        jobs: Vec<Box<dyn Job>>,
        done: &mut Vec<Done>,
        refused: &mut Vec<Box<dyn Job>>,
    ) -> Result<Vec<Vec<change::Model>>, DbErr> {
        let mut jobs = jobs.into_iter();
        let begun = self.begin().await;
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => {
                done.extend(jobs.map(|job| (job, Vec::new())));
                return Err(error);
            }
        };
        while let Some(mut job) = jobs.next() {
            match self.attempt(&transaction, job.as_mut()).await {
                Ok(Some(drafts)) => done.push((job, drafts)),
                Ok(None) => refused.push(job),
                Err(error) => {
                    done.push((job, Vec::new()));
                    done.extend(jobs.map(|job| (job, Vec::new())));
                    return Err(error);
                }
            }
        }
        if done.is_empty() {
            transaction.rollback().await?;
            return Ok(Vec::new());
        }
        let drafts = done.iter_mut().map(|(_, drafts)| std::mem::take(drafts)).collect();
        let entries = feed::append(&transaction, drafts).await?;
        transaction.commit().await?;
        Ok(entries)
    }

    /// Runs one job in a savepoint; its drafts if it is to stay.
    async fn attempt(
        &self,
        outer: &DatabaseTransaction,
        job: &mut dyn Job,
    ) -> Result<Option<Vec<Draft>>, DbErr> {
        let conn = outer.begin().await?;
        let tx =
            Tx { conn, now: self.clock.now(), clock: self.clock.clone(), drafts: Mutex::new(Vec::new()) };
        let kept = AssertUnwindSafe(job.run(&tx)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("an operation panicked; it was taken back");
            false
        });
        let (savepoint, drafts) = tx.into_parts();
        if kept {
            savepoint.commit().await?;
            Ok(Some(drafts))
        } else {
            savepoint.rollback().await?;
            Ok(None)
        }
    }

    async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        self.database.begin_with_options(options).await
    }
}
