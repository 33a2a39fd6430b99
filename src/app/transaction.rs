//! What the writer's jobs run in: a transaction of the pool, or on SQLite one of the connection that runs statements
//! on the thread that asks.

use std::sync::Arc;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait as _,
};

use super::inline::Inline;
use crate::feed::Append;

/// Rows in one INSERT; SQLite takes 32,766 parameters, and an entry of the changelog has 16.
const POOLED_ROWS: usize = 1000;

/// Begins transactions.
#[derive(Clone)]
pub(super) enum Engine {
    Pooled(DatabaseConnection),
    Inline(Arc<Inline>),
}

impl Engine {
    pub(super) async fn begin(&self) -> Result<Transaction, DbErr> {
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
        }
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
        }
    }

    /// Makes it durable; a part becomes a part of what it is in.
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        match self {
            Self::Pooled(transaction) => transaction.commit().await,
            Self::Inline(inline, Extent::Whole) => inline.commit(),
            Self::Inline(inline, Extent::Part) => inline.keep_part(),
            Self::Inline(_, Extent::Shared) => Ok(()),
        }
    }

    /// Takes back all that was done in it. False when that cannot be done to this part alone.
    pub(super) async fn rollback(self) -> Result<bool, DbErr> {
        match self {
            Self::Pooled(transaction) => transaction.rollback().await?,
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
        }
    }

    fn rows_at_once(&self) -> usize {
        match self {
            Self::Pooled(_) => POOLED_ROWS,
            Self::Inline(..) => 1,
        }
    }

    async fn write(&self, statement: Statement) -> Result<(), DbErr> {
        match self {
            Self::Pooled(transaction) => transaction.execute_raw(statement).await.map(drop),
            Self::Inline(inline, _) => inline.write(&statement),
        }
    }

    async fn write_for_number(&self, statement: Statement, column: &str) -> Result<Option<i64>, DbErr> {
        match self {
            Self::Pooled(transaction) => {
                let row = transaction.query_one_raw(statement).await?;
                row.map(|row| row.try_get("", column)).transpose()
            }
            Self::Inline(inline, _) => inline.write_for_number(&statement),
        }
    }
}
