//! What the product does: a file a noun, a function an operation. Knows no GraphQL, HTTP or command line.
//!
//! Every operation takes the library and an actor, checks the actor first, and opens at most one transaction.
//! Whatever changes a folder, asset or version goes through [`commit`], which puts its changelog entries into
//! the same transaction.

pub mod actor;
pub mod as_of;
pub mod asset;
pub mod bulk;
pub mod change;
mod content_type;
pub mod delivery;
pub mod error;
pub mod folder;
pub mod former;
pub mod gc;
mod name;
pub mod page;
pub mod path;
mod quick;
mod rows;
pub mod scope;
pub mod search;
pub mod storage;
pub mod stored_file;
mod text;
pub mod token;
pub mod trash;
pub mod upload;
pub mod version;

use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use entity::{Actor as Stamp, Timestamp, change as change_row};
use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr};
use tokio::sync::oneshot;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::app::{App, Done, Job, Tx, Wants};
use crate::feed::Draft;
use actor::{Actor, Role};
use error::{Error, Result};

/// What an operation did, and the entries that it wrote to the changelog.
#[derive(Debug, Clone)]
pub struct Committed<T> {
    /// The outcome.
    pub value: T,
    /// The entries, in order; none when everything held already.
    pub changes: Vec<change_row::Model>,
}

/// The inside of an operation that writes: its transaction, who does it and when.
#[derive(Clone, Copy)]
pub struct Edit<'a> {
    tx: &'a Tx,
    conn: &'a DatabaseTransaction,
    by: &'a Stamp,
}

impl<'a> Edit<'a> {
    fn new(tx: &'a Tx, by: &'a Stamp) -> Option<Self> {
        Some(Self { tx, conn: tx.pooled()?, by })
    }

    /// Where statements run.
    pub(crate) const fn conn(&self) -> &DatabaseTransaction {
        self.conn
    }

    /// The time of everything that the operation writes.
    pub(crate) const fn now(&self) -> Timestamp {
        self.tx.now
    }

    /// Who does it.
    pub(crate) fn by(&self) -> Stamp {
        self.by.clone()
    }

    /// A new id.
    pub(crate) fn new_id(&self) -> Uuid {
        self.tx.new_id()
    }

    /// Adds an entry to the changelog.
    pub(crate) fn record(&self, draft: Draft) {
        self.tx.record(draft);
    }
}

/// The one write path, with `rows::commit` for work on versions: checks that the actor may write, runs `work` in a
/// transaction, appends what it recorded to the changelog in the same commit, and answers once that is durable. Work that
/// fails leaves no trace. It goes on when the caller gives up waiting.
///
/// # Errors
/// What `work` answers, or that the commit failed.
pub async fn commit<T, W>(app: &App, actor: &Actor, work: W) -> Result<Committed<T>>
where
    T: Send + 'static,
    W: for<'a> FnOnce(Edit<'a>) -> BoxFuture<'a, Result<T>> + Send + 'static,
{
    perform(app, actor, Ending::Keep, work).await
}

/// What happens to work that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is committed.
    Keep,
    /// It is taken back, and the answer tells what would have happened. Its entries have no number.
    TakeBack,
}

/// As [`commit`], with a choice of how it ends.
///
/// # Errors
/// As [`commit`].
pub async fn perform<T, W>(app: &App, actor: &Actor, ending: Ending, work: W) -> Result<Committed<T>>
where
    T: Send + 'static,
    W: for<'a> FnOnce(Edit<'a>) -> BoxFuture<'a, Result<T>> + Send + 'static,
{
    submit(app, actor, ending, Once { work: Some(work), alone: false, outcome: PhantomData }).await
}

/// As [`commit`], in a transaction of its own.
///
/// # Errors
/// As [`commit`].
async fn commit_alone<T, W>(app: &App, actor: &Actor, work: W) -> Result<Committed<T>>
where
    T: Send + 'static,
    W: for<'a> FnOnce(Edit<'a>) -> BoxFuture<'a, Result<T>> + Send + 'static,
{
    let work = Once { work: Some(work), alone: true, outcome: PhantomData };
    submit(app, actor, Ending::Keep, work).await
}

/// What an operation does, on its way through the writer.
#[async_trait]
trait Work: Send + 'static {
    /// What it answers.
    type Outcome: Send + 'static;

    /// What it will ask for, if it can do without [`Tx::pooled`].
    fn wants(&self) -> Option<Wants>;

    /// Whether it has to have a transaction to itself.
    fn alone(&self) -> bool {
        false
    }

    /// Does it; none when it cannot be done in this transaction.
    async fn run(&mut self, tx: &Tx, by: &Stamp) -> Option<Result<Self::Outcome>>;
}

/// Work that needs a transaction of the pool.
struct Once<T, W> {
    work: Option<W>,
    alone: bool,
    outcome: PhantomData<fn() -> T>,
}

#[async_trait]
impl<T, W> Work for Once<T, W>
where
    T: Send + 'static,
    W: for<'a> FnOnce(Edit<'a>) -> BoxFuture<'a, Result<T>> + Send + 'static,
{
    type Outcome = T;

    fn wants(&self) -> Option<Wants> {
        None
    }

    fn alone(&self) -> bool {
        self.alone
    }

    async fn run(&mut self, tx: &Tx, by: &Stamp) -> Option<Result<T>> {
        let edit = Edit::new(tx, by)?;
        Some(self.work.take()?(edit).await)
    }
}

async fn submit<W: Work>(app: &App, actor: &Actor, ending: Ending, work: W) -> Result<Committed<W::Outcome>> {
    actor.require(Role::Editor)?;
    let (reply, answer) = oneshot::channel();
    let operation =
        Operation { work, by: actor.stamp.clone(), ending, outcome: None, rehearsed: Vec::new(), reply };
    if !app.submit(Box::new(operation)).await {
        return Err(Error::stopping());
    }
    let answer = answer.instrument(tracing::debug_span!("commit"));
    answer.await.map_err(|_| Error::stopping())?
}

/// An operation on its way through the writer.
struct Operation<W: Work> {
    work: W,
    by: Stamp,
    ending: Ending,
    outcome: Option<Result<W::Outcome>>,
    rehearsed: Vec<change_row::Model>,
    reply: oneshot::Sender<Result<Committed<W::Outcome>>>,
}

#[async_trait]
impl<W: Work> Job for Operation<W> {
    fn wants(&self) -> Option<Wants> {
        self.work.wants()
    }

    fn alone(&self) -> bool {
        self.work.alone()
    }

    async fn run(&mut self, tx: &Tx) -> Done {
        // What an earlier run came to was taken back.
        self.outcome = None;
        let Some(outcome) = self.work.run(tx, &self.by).await else {
            return Done::Elsewhere;
        };
        let kept = outcome.is_ok() && self.ending == Ending::Keep;
        if outcome.is_ok() && !kept {
            self.rehearsed = tx.rehearsed();
        }
        self.outcome = Some(outcome);
        if kept { Done::Kept } else { Done::TakenBack }
    }

    fn settle(self: Box<Self>, outcome: std::result::Result<Vec<change_row::Model>, Arc<DbErr>>) {
        let answer = match (self.outcome, outcome) {
            (Some(Ok(value)), Ok(_)) if self.ending == Ending::TakeBack => {
                Ok(Committed { value, changes: self.rehearsed })
            }
            (Some(Ok(value)), Ok(changes)) => Ok(Committed { value, changes }),
            (Some(Err(error)), Ok(_)) => Err(error),
            (_, Err(error)) => Err(Error::database(&error)),
            (None, Ok(_)) => Err(Error::internal("the operation panicked")),
        };
        // Nobody waits any more when the client went away.
        let _ = self.reply.send(answer);
    }
}

/// Whether a transaction that writes is the only one: SQLite has one writer, so there is nothing to lock.
fn writes_alone(conn: &impl ConnectionTrait) -> bool {
    conn.get_database_backend() == DbBackend::Sqlite
}

/// Refuses to go on when the caller saw another revision than the present one.
fn check_revision(what: impl FnOnce() -> String, expected: Option<i64>, current: i64) -> Result<()> {
    match expected {
        Some(expected) if expected != current => {
            Err(Error::RevisionConflict { what: what(), expected, current })
        }
        _ => Ok(()),
    }
}
