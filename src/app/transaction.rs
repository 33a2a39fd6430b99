//! What the writer's jobs run in: a transaction of the pool, on SQLite one of the connection that runs statements on the
//! thread that asks, on PostgreSQL one whose rows were read ahead.

use std::sync::Arc;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
};

use super::ahead::{Ahead, Wants};
use super::inline::Inline;
use crate::feed::Append;

/// Rows in one INSERT; SQLite takes 32,766 parameters, and an entry of the changelog has 16.
const POOLED_ROWS: usize = 1000;

/// Begins transactions.
#[derive(Clone)]
pub(super) enum Engine {
    Pooled(DatabaseConnection),
    Inline(Arc<Inline>),
    Ahead(DatabaseConnection),
}

impl Engine {
    /// Begins a transaction for jobs that will ask for `wants`; only who reads ahead needs to know.
    pub(super) async fn begin(&self, wants: &[Wants]) -> Result<Transaction, DbErr> {
        match self {
            Self::Pooled(pool) => {
                let options = TransactionOptions {
                    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                    ..TransactionOptions::default()
                };
                Ok(Transaction::Pooled(pool.begin_with_options(options).await?))
            }
            Self::Inline(inline) => {
                inline.begin()?;
                Ok(Transaction::Inline(Arc::clone(inline), Extent::Whole))
            }
            Self::Ahead(pool) => {
                let transaction = pool.begin().await?;
                let ahead = Arc::new(Ahead::read(&transaction, wants).await?);
                Ok(Transaction::Ahead(transaction, ahead))
            }
        }
    }
}

impl Engine {
    /// Whether jobs for which it failed in this way are done by the other engine: when the database refused what was
    /// written for several of them at once, which one of them it was has to be found out; when two servers waited for
    /// each other in a circle, one of them begins again.
    pub(super) fn gives_way(&self, error: &DbErr) -> bool {
        let refused = || match error {
            DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
                cause.as_database_error().is_some()
            }
            // What was read ahead holds no longer.
            DbErr::Conn(RuntimeErr::Internal(_)) => true,
            _ => false,
        };
        matches!(self, Self::Ahead(_)) && refused()
    }
}

/// How jobs that share a transaction are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// Each can be taken back by itself.
    Savepoints,
    /// They cannot: for jobs that are refused before they write, as nearly all are that are refused.
    None,
}

/// A transaction, or a part of one. It has to be ended, or it keeps others from writing.
pub(super) enum Transaction {
    Pooled(DatabaseTransaction),
    Inline(Arc<Inline>, Extent),
    Ahead(DatabaseTransaction, Arc<Ahead>),
    /// A part of the latter.
    AheadPart(Arc<Ahead>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    Part,
    /// Of a part that has no savepoint of its own.
    Shared,
}

impl Transaction {
    /// Begins a part; one at a time.
    pub(super) async fn part(&self, parts: Parts) -> Result<Self, DbErr> {
        match self {
            Self::Pooled(transaction) => Ok(Self::Pooled(transaction.begin().await?)),
            Self::Inline(inline, _) if parts == Parts::None => {
                inline.wrote();
                Ok(Self::Inline(Arc::clone(inline), Extent::Shared))
            }
            Self::Inline(inline, _) => {
                inline.begin_part()?;
                Ok(Self::Inline(Arc::clone(inline), Extent::Part))
            }
            Self::Ahead(_, ahead) | Self::AheadPart(ahead) => Ok(Self::AheadPart(Arc::clone(ahead))),
        }
    }

    /// Writes what was put off until now.
    pub(super) async fn write_all(&self) -> Result<(), DbErr> {
        match self {
            Self::Ahead(transaction, ahead) => ahead.write(transaction).await,
            Self::Pooled(_) | Self::Inline(..) | Self::AheadPart(_) => Ok(()),
        }
    }

    /// Makes it durable; a part becomes a part of what it is in.
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        match self {
            Self::Pooled(transaction) | Self::Ahead(transaction, _) => transaction.commit().await,
            Self::AheadPart(ahead) => {
                ahead.keep_part();
                Ok(())
            }
            Self::Inline(inline, Extent::Whole) => inline.commit(),
            Self::Inline(inline, Extent::Part) => inline.keep_part(),
            Self::Inline(_, Extent::Shared) => Ok(()),
        }
    }

    /// Takes back all that was done in it. False when that cannot be done to this part alone.
    pub(super) async fn rollback(self) -> Result<bool, DbErr> {
        match self {
            Self::Pooled(transaction) | Self::Ahead(transaction, _) => transaction.rollback().await?,
            Self::AheadPart(ahead) => ahead.forget_part(),
            Self::Inline(inline, Extent::Whole) => inline.rollback()?,
            Self::Inline(inline, Extent::Part) => inline.take_part_back()?,
            Self::Inline(inline, Extent::Shared) => return Ok(!inline.wrote()),
        }
        Ok(true)
    }
}

impl Append for Transaction {
    fn backend(&self) -> DbBackend {
        match self {
            Self::Pooled(transaction) => transaction.get_database_backend(),
            Self::Inline(..) => DbBackend::Sqlite,
            Self::Ahead(..) | Self::AheadPart(_) => DbBackend::Postgres,
        }
    }

    fn rows_at_once(&self) -> usize {
        match self {
            Self::Inline(..) => 1,
            Self::Pooled(_) | Self::Ahead(..) | Self::AheadPart(_) => POOLED_ROWS,
        }
    }

    async fn write(&self, statement: Statement) -> Result<(), DbErr> {
        match self {
            Self::Pooled(transaction) | Self::Ahead(transaction, _) => {
                transaction.execute_raw(statement).await.map(drop)
            }
            Self::Inline(inline, _) => inline.write(&statement),
            Self::AheadPart(_) => Err(no_statements()),
        }
    }

    async fn write_for_number(&self, statement: Statement, column: &str) -> Result<Option<i64>, DbErr> {
        match self {
            Self::Pooled(transaction) | Self::Ahead(transaction, _) => {
                let row = transaction.query_one_raw(statement).await?;
                row.map(|row| row.try_get("", column)).transpose()
            }
            Self::Inline(inline, _) => inline.write_for_number(&statement),
            Self::AheadPart(_) => Err(no_statements()),
        }
    }
}

fn no_statements() -> DbErr {
    DbErr::Custom("a part of a transaction whose rows were read ahead runs no statements".to_owned())
}
