//! The one writer: a queue in front of the database. Jobs that wait together share a commit, each in a
//! savepoint of its own, so that a refused one leaves no trace; the changelog's counter is bumped last.
//!
//! Jobs that can share a commit of their own: on SQLite with statements that run on the thread that asks, on PostgreSQL
//! with rows that are read ahead and written at the end.
//!
//! Why a queue: SQLite has one writer and starves those who retry, and on PostgreSQL the counter orders all
//! commits anyway. Sharing commits buys the throughput back (one sync to disk for many jobs).

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use entity::{Timestamp, change};
use futures_util::FutureExt as _;
use sea_orm::{DatabaseTransaction, DbErr};
use tokio::runtime::Handle;
use tokio::sync::{RwLock, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::ahead::{Ahead, Wants};
use super::transaction::{Engine, Parts, Transaction};
use super::{Clock, Database, Inline};
use crate::feed::{self, Draft, Feed};

/// Jobs that may wait for the writer; beyond, whoever submits waits.
const QUEUE: usize = 1024;
/// Commits of rows that were read ahead, at the same time.
const WAYS: u32 = 2;
/// Jobs that share one commit, at most.
const MAX_BATCH: usize = 128;

/// Work for the writer.
#[async_trait]
pub trait Job: Send {
    /// What it will ask for, if it can also do without [`Tx::pooled`]: by [`Tx::inline`] or [`Tx::ahead`].
    fn wants(&self) -> Option<Wants>;

    /// Whether it has to have a transaction to itself: it takes the counter of the changelog, after which nothing else
    /// may be locked.
    fn alone(&self) -> bool {
        false
    }

    /// Does the work in `tx`. Where it runs inline, it may have to be done more than once.
    async fn run(&mut self, tx: &Tx) -> Done;

    /// Told once, after the commit: with the entries that the job recorded, or why the commit failed.
    fn settle(self: Box<Self>, outcome: Result<Vec<change::Model>, Arc<DbErr>>);
}

/// What became of a job's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is to be committed.
    Kept,
    /// It is taken back.
    TakenBack,
    /// It is taken back; it has to be done with [`Tx::pooled`], so the job is run again.
    Elsewhere,
}

/// The inside of a job: its transaction, the time, new ids, and the entries that it records.
pub struct Tx {
    part: Transaction,
    /// The time of everything that the job writes.
    pub now: Timestamp,
    clock: Clock,
    drafts: Mutex<Vec<Draft>>,
}

impl Tx {
    /// Where statements run, unless they run inline.
    #[must_use]
    pub const fn pooled(&self) -> Option<&DatabaseTransaction> {
        match &self.part {
            Transaction::Pooled(transaction) => Some(transaction),
            Transaction::Inline(..) | Transaction::Ahead(..) | Transaction::AheadPart(_) => None,
        }
    }

    /// Where statements run on the thread that asks, if this is so here.
    #[must_use]
    pub fn inline(&self) -> Option<&Inline> {
        match &self.part {
            Transaction::Inline(inline, _) => Some(inline),
            Transaction::Pooled(_) | Transaction::Ahead(..) | Transaction::AheadPart(_) => None,
        }
    }

    /// Rows that were read ahead, if this is so here.
    #[must_use]
    pub fn ahead(&self) -> Option<&Ahead> {
        match &self.part {
            Transaction::AheadPart(ahead) => Some(ahead),
            Transaction::Pooled(_) | Transaction::Inline(..) | Transaction::Ahead(..) => None,
        }
    }

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

    fn into_parts(self) -> (Transaction, Vec<Draft>) {
        (self.part, self.drafts.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The way to the writer.
pub struct Writer {
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
}

impl Writer {
    /// Starts the writer.
    pub fn start(tasks: &TaskTracker, database: &Database, feed: Feed, clock: Clock) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let pooled = Engine::Pooled(database.write().clone());
        let quick = match database.inline() {
            Some(inline) => Engine::Inline(Arc::clone(inline)),
            None => Engine::Ahead(database.write().clone()),
        };
        let (ways, pooled_alone) = (Arc::new(Semaphore::new(WAYS as usize)), RwLock::new(()));
        let worker = Worker { pooled, quick, ways, pooled_alone, feed, clock };
        tasks.spawn(Arc::new(worker).run(jobs));
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
    pooled: Engine,
    /// For jobs that can do without statements of the pool.
    quick: Engine,
    /// Commits that may be on their way at the same time: while one waits for the disk, the next reads.
    ways: Arc<Semaphore>,
    /// Held by who commits by statements of the pool, shared by who reads ahead.
    pooled_alone: RwLock<()>,
    feed: Feed,
    clock: Clock,
}

/// A job with the entries that it recorded.
type Recorded = (Box<dyn Job>, Vec<Draft>);

/// What became of jobs that shared a transaction. If it failed, all that they did is taken back.
#[derive(Default)]
struct Batch {
    /// To be committed.
    done: Vec<Recorded>,
    /// Taken back by themselves.
    refused: Vec<Box<dyn Job>>,
    /// They need the other engine.
    elsewhere: Vec<Box<dyn Job>>,
    /// All of them, when one would have to be taken back by itself and cannot be.
    again: Vec<Box<dyn Job>>,
}

impl Batch {
    /// Jobs have to be run again, with those that were run already.
    fn redo(&mut self, jobs: impl Iterator<Item = Box<dyn Job>>) {
        self.again.extend(self.done.drain(..).map(|(job, _)| job));
        self.again.append(&mut self.refused);
        self.again.append(&mut self.elsewhere);
        self.again.extend(jobs);
    }
}

/// Jobs that are not settled yet.
struct Commit {
    /// They need the other engine.
    elsewhere: Vec<Box<dyn Job>>,
    /// They need savepoints.
    again: Vec<Box<dyn Job>>,
}

/// What became of a job in its part of a transaction.
enum Attempt {
    Kept(Vec<Draft>),
    TakenBack,
    Elsewhere,
    /// It wrote and was refused, and the part cannot be taken back alone.
    Inseparable,
}

impl Worker {
    async fn run(self: Arc<Self>, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut waiting = Vec::with_capacity(MAX_BATCH);
        loop {
            // First the way, then the jobs: those that come meanwhile share the commit.
            let way = self.ways.clone().acquire_owned().await;
            if jobs.recv_many(&mut waiting, MAX_BATCH).await == 0 {
                break;
            }
            let (quick, mut pooled): (Vec<_>, Vec<_>) =
                waiting.drain(..).partition(|job| job.wants().is_some());
            if let Engine::Inline(inline) = &self.quick {
                if !quick.is_empty() {
                    pooled.extend(self.commit_inline(inline, quick).await);
                }
            } else if !quick.is_empty() {
                let worker = Arc::clone(&self);
                tokio::spawn(async move {
                    worker.commit_ahead(quick).await;
                    drop(way);
                });
            }
            self.commit_pooled(pooled).await;
        }
        // Those that are on their way.
        let _ = self.ways.acquire_many(WAYS).await;
    }

    /// Commits jobs whose rows are read ahead, and those that turn out to need the other engine.
    async fn commit_ahead(&self, jobs: Vec<Box<dyn Job>>) {
        let beside = self.pooled_alone.read().await;
        let Commit { mut elsewhere, again } = self.commit(&self.quick, Parts::None, jobs).await;
        drop(beside);
        elsewhere.extend(again);
        self.commit_pooled(elsewhere).await;
    }

    /// Commits jobs by statements of the pool. They lock what they come across, and cannot be run again: nothing else is
    /// committed here meanwhile that they could wait for in a circle.
    async fn commit_pooled(&self, jobs: Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        let _alone = self.pooled_alone.write().await;
        let (alone, together): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.alone());
        if !together.is_empty() {
            self.commit(&self.pooled, Parts::Savepoints, together).await;
        }
        for job in alone {
            self.commit(&self.pooled, Parts::Savepoints, vec![job]).await;
        }
    }

    /// Commits jobs on a thread where they may work and wait for the disk; answers those that need the other engine.
    async fn commit_inline(
        self: &Arc<Self>,
        inline: &Arc<Inline>,
        jobs: Vec<Box<dyn Job>>,
    ) -> Vec<Box<dyn Job>> {
        let worker = Arc::clone(self);
        let runtime = Handle::current();
        let commit = spawn_blocking(move || {
            runtime.block_on(async {
                let engine = &worker.quick;
                let Commit { mut elsewhere, again } = worker.commit(engine, Parts::None, jobs).await;
                if !again.is_empty() {
                    elsewhere.extend(worker.commit(engine, Parts::Savepoints, again).await.elsewhere);
                }
                elsewhere
            })
        });
        commit.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a commit did not end; what became of its jobs is not known");
            // Nobody else could write.
            let _ = inline.rollback();
            Vec::new()
        })
    }

    /// Commits jobs, and settles them, but for those that it answers.
    async fn commit(&self, engine: &Engine, parts: Parts, jobs: Vec<Box<dyn Job>>) -> Commit {
        let mut batch = Batch::default();
        let outcome = self.transact(engine, parts, jobs, &mut batch).await;
        let Batch { done, refused, elsewhere, again } = batch;
        match outcome {
            Ok(mut entries) => {
                if let Some(last) = entries.iter().flatten().last() {
                    super::crash_point("after-commit");
                    self.feed.committed(last.seq);
                }
                if let Engine::Inline(inline) = &self.quick {
                    inline.committed(done.len());
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
        Commit { elsewhere, again }
    }

    /// Runs every job in one transaction. What is in `batch.done` holds only if this succeeds.
    async fn transact(
        &self,
        engine: &Engine,
        parts: Parts,
        jobs: Vec<Box<dyn Job>>,
        batch: &mut Batch,
    ) -> Result<Vec<Vec<change::Model>>, DbErr> {
        let wants: Vec<Wants> = match engine {
            Engine::Ahead(_) => jobs.iter().filter_map(|job| job.wants()).collect(),
            Engine::Inline(_) | Engine::Pooled(_) => Vec::new(),
        };
        let transaction = match engine.begin(&wants).await {
            Ok(transaction) => transaction,
            Err(error) if engine.gives_way(&error) => {
                batch.again = jobs;
                return Ok(Vec::new());
            }
            Err(error) => {
                batch.done.extend(jobs.into_iter().map(|job| (job, Vec::new())));
                return Err(error);
            }
        };
        match self.run_all(&transaction, parts, jobs, batch).await {
            Ok(entries) if batch.done.is_empty() => transaction.rollback().await.map(|_| entries),
            Ok(entries) => transaction.commit().await.map(|()| entries),
            Err(error) => {
                // It may be over already: that is what the error tells of.
                let _ = transaction.rollback().await;
                if engine.gives_way(&error) {
                    batch.redo(std::iter::empty());
                    return Ok(Vec::new());
                }
                Err(error)
            }
        }
    }

    /// Runs every job, and appends what they recorded.
    async fn run_all(
        &self,
        transaction: &Transaction,
        parts: Parts,
        jobs: Vec<Box<dyn Job>>,
        batch: &mut Batch,
    ) -> Result<Vec<Vec<change::Model>>, DbErr> {
        let mut jobs = jobs.into_iter();
        while let Some(mut job) = jobs.next() {
            match self.attempt(transaction, parts, job.as_mut()).await {
                Ok(Attempt::Kept(drafts)) => batch.done.push((job, drafts)),
                Ok(Attempt::TakenBack) => batch.refused.push(job),
                Ok(Attempt::Elsewhere) => batch.elsewhere.push(job),
                Ok(Attempt::Inseparable) => {
                    batch.redo(std::iter::once(job).chain(jobs));
                    break;
                }
                Err(error) => {
                    batch.done.push((job, Vec::new()));
                    batch.done.extend(jobs.map(|job| (job, Vec::new())));
                    return Err(error);
                }
            }
        }
        transaction.write_all().await?;
        let drafts = batch.done.iter_mut().map(|(_, drafts)| std::mem::take(drafts)).collect();
        let entries = feed::append(transaction, drafts).await?;
        feed::confirm(transaction, &entries).await?;
        Ok(entries)
    }

    /// Runs one job in a part of the transaction, which stays if the job says so.
    async fn attempt(&self, outer: &Transaction, parts: Parts, job: &mut dyn Job) -> Result<Attempt, DbErr> {
        let part = outer.part(parts).await?;
        let tx =
            Tx { part, now: self.clock.now(), clock: self.clock.clone(), drafts: Mutex::new(Vec::new()) };
        let done = AssertUnwindSafe(job.run(&tx)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("an operation panicked; it was taken back");
            Done::TakenBack
        });
        let (part, drafts) = tx.into_parts();
        if done == Done::Kept {
            part.commit().await?;
            return Ok(Attempt::Kept(drafts));
        }
        if !part.rollback().await? {
            return Ok(Attempt::Inseparable);
        }
        Ok(if done == Done::Elsewhere { Attempt::Elsewhere } else { Attempt::TakenBack })
    }
}

#[cfg(test)]
mod tests;
