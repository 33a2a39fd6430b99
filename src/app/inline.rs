//! A connection to SQLite that runs statements on the thread that asks. The driver of the pool has a thread for each
//! connection, and waking that one twice for every statement of a mutation takes longer than the mutation.
//!
//! Every statement outside a transaction is an error: SQLite ends one by itself when the disk is full, and what
//! follows must not be committed by itself.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, Value as Stored, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags, ffi};
use sea_orm::sea_query::OptionEnum;
use sea_orm::sqlx::error::{DatabaseError, Error as SqlxError, ErrorKind};
use sea_orm::{DbErr, RuntimeErr, Statement, Value};
use tokio::task::spawn_blocking;

/// Statements that stay prepared.
const STATEMENTS: usize = 64;
/// What it keeps of the file in memory, in KiB.
const CACHE_KIB: i64 = 16 * 1024;
/// Pages in the write-ahead log that make the next commit move them into the file by itself. As long as writers do not
/// pause, only then the log begins anew.
pub(super) const MAX_WAL_PAGES: i64 = 16_000;
/// Jobs after which the pages that they wrote are moved while others go on.
const JOBS_A_CHECKPOINT: usize = 250;

/// The connection.
pub struct Inline {
    connection: Mutex<Connection>,
    checkpoints: Mutex<Connection>,
    checkpointing: AtomicBool,
    jobs: AtomicUsize,
    wrote: AtomicBool,
    statements: Arc<AtomicU64>,
}

impl Inline {
    /// Opens a database file that is there already. Statements are counted into `statements`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, statements: Arc<AtomicU64>) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let checkpoints = Connection::open_with_flags(path, flags)?;
        checkpoints.pragma_update(None, "synchronous", "FULL")?;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        // FULL: what was acknowledged survives a loss of power.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "wal_autocheckpoint", MAX_WAL_PAGES)?;
        // What a savepoint may have to restore stays in memory too.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self {
            connection: Mutex::new(connection),
            checkpoints: Mutex::new(checkpoints),
            checkpointing: AtomicBool::new(false),
            jobs: AtomicUsize::new(0),
            wrote: AtomicBool::new(false),
            statements,
        })
    }

    /// Runs `work`, which reads, inside the transaction.
    ///
    /// # Errors
    /// What the database says.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, DbErr> {
        work(&*self.inside()?).map_err(failed)
    }

    /// Runs a statement that writes, inside the transaction.
    ///
    /// # Errors
    /// What the database says.
    pub fn write(&self, statement: &Statement) -> Result<(), DbErr> {
        let connection = self.inside()?;
        self.wrote.store(true, Ordering::Relaxed);
        prepared(&connection, statement)?.raw_execute().map(drop).map_err(failed)
    }

    /// As [`Inline::write`], of a statement that answers with one number.
    ///
    /// # Errors
    /// What the database says.
    pub fn write_for_number(&self, statement: &Statement) -> Result<Option<i64>, DbErr> {
        let connection = self.inside()?;
        self.wrote.store(true, Ordering::Relaxed);
        let mut prepared = prepared(&connection, statement)?;
        let mut rows = prepared.raw_query();
        let mut answer = None;
        // To the end: only then it is done.
        while let Some(row) = rows.next().map_err(failed)? {
            answer = Some(row.get(0).map_err(failed)?);
        }
        Ok(answer)
    }

    /// Begins a transaction. One that something left open is taken back first.
    pub(super) fn begin(&self) -> Result<(), DbErr> {
        let connection = self.connection();
        if !connection.is_autocommit() {
            run(&connection, "ROLLBACK")?;
        }
        run(&connection, "BEGIN IMMEDIATE")
    }

    /// Makes the transaction durable, or takes it back.
    pub(super) fn commit(&self) -> Result<(), DbErr> {
        let connection = self.inside()?;
        run(&connection, "COMMIT").inspect_err(|_| {
            // Nobody else could write while it is open. It may be over already.
            let _ = run(&connection, "ROLLBACK");
        })
    }

    /// Takes the transaction back.
    pub(super) fn rollback(&self) -> Result<(), DbErr> {
        self.control("ROLLBACK")
    }

    /// Whether anything was written since this was asked last.
    pub(super) fn wrote(&self) -> bool {
        self.wrote.swap(false, Ordering::Relaxed)
    }

    /// Told of jobs that were committed, by this connection or another: moves what they wrote into the file, now and
    /// then, on a thread of its own.
    pub(super) fn committed(self: &Arc<Self>, jobs: usize) {
        let waiting = self.jobs.fetch_add(jobs, Ordering::Relaxed) + jobs;
        if waiting < JOBS_A_CHECKPOINT || self.checkpointing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.jobs.store(0, Ordering::Relaxed);
        let inline = Arc::clone(self);
        spawn_blocking(move || {
            let connection = inline.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
                tracing::warn!(%error, "the write-ahead log was not moved into the database");
            }
            drop(connection);
            inline.checkpointing.store(false, Ordering::Release);
        });
    }

    /// Begins a part of a transaction that can be taken back alone.
    pub(super) fn begin_part(&self) -> Result<(), DbErr> {
        self.control("SAVEPOINT part")
    }

    /// Ends such a part; it stays.
    pub(super) fn keep_part(&self) -> Result<(), DbErr> {
        self.control("RELEASE part")
    }

    /// Ends such a part, and takes it back.
    pub(super) fn take_part_back(&self) -> Result<(), DbErr> {
        self.control("ROLLBACK TO part")?;
        self.control("RELEASE part")
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inside(&self) -> Result<MutexGuard<'_, Connection>, DbErr> {
        let connection = self.connection();
        if connection.is_autocommit() {
            // By a full disk, say; what ended it has been told.
            let ended = RuntimeErr::Internal("the transaction has ended already".to_owned());
            return Err(DbErr::Conn(ended));
        }
        self.statements.fetch_add(1, Ordering::Relaxed);
        Ok(connection)
    }

    fn control(&self, sql: &str) -> Result<(), DbErr> {
        run(&*self.inside()?, sql)
    }
}

fn run(connection: &Connection, sql: &str) -> Result<(), DbErr> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.raw_execute()).map(drop).map_err(failed)
}

fn prepared<'c>(connection: &'c Connection, statement: &Statement) -> Result<CachedStatement<'c>, DbErr> {
    let mut prepared = connection.prepare_cached(&statement.sql).map_err(failed)?;
    for (index, value) in statement.values.iter().flat_map(|values| &values.0).enumerate() {
        prepared.raw_bind_parameter(index + 1, stored(value)?).map_err(failed)?;
    }
    Ok(prepared)
}

/// A value as the driver of the pool would store it.
fn stored(value: &Value) -> Result<ToSqlOutput<'_>, DbErr> {
    const NULL: ToSqlOutput<'static> = ToSqlOutput::Borrowed(ValueRef::Null);
    let integer = |number: i64| ToSqlOutput::Owned(Stored::Integer(number));
    Ok(match value {
        Value::Bool(value) => value.map_or(NULL, |value| integer(value.into())),
        Value::Int(value) => value.map_or(NULL, |value| integer(value.into())),
        Value::BigInt(value) => value.map_or(NULL, integer),
        Value::BigUnsigned(Some(value)) => {
            integer(i64::try_from(*value).map_err(|error| DbErr::Type(error.to_string()))?)
        }
        Value::String(Some(text)) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        Value::Enum(OptionEnum::Some(value)) => ToSqlOutput::Borrowed(ValueRef::Text(value.value.as_bytes())),
        Value::Bytes(Some(bytes)) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        Value::Uuid(Some(id)) => ToSqlOutput::Borrowed(ValueRef::Blob(id.as_bytes())),
        Value::Json(Some(json)) => ToSqlOutput::Owned(Stored::Text(json.to_string())),
        Value::BigUnsigned(None)
        | Value::String(None)
        | Value::Enum(OptionEnum::None(_))
        | Value::Bytes(None)
        | Value::Uuid(None)
        | Value::Json(None) => NULL,
        other => return Err(DbErr::Type(format!("no such value is stored on SQLite: {other:?}"))),
    })
}

/// What SQLite says, as the driver of the pool would say it.
#[derive(Debug)]
struct Failure {
    code: i32,
    message: String,
}

fn failed(error: rusqlite::Error) -> DbErr {
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            let message = message.unwrap_or_else(|| failure.to_string());
            let failure = Failure { code: failure.extended_code, message };
            DbErr::Exec(RuntimeErr::SqlxError(Arc::new(SqlxError::Database(Box::new(failure)))))
        }
        other => DbErr::Custom(other.to_string()),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(code: {}) {}", self.code, self.message)
    }
}

impl StdError for Failure {}

impl DatabaseError for Failure {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        match self.code {
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => ErrorKind::UniqueViolation,
            ffi::SQLITE_CONSTRAINT_FOREIGNKEY => ErrorKind::ForeignKeyViolation,
            ffi::SQLITE_CONSTRAINT_NOTNULL => ErrorKind::NotNullViolation,
            ffi::SQLITE_CONSTRAINT_CHECK => ErrorKind::CheckViolation,
            _ => ErrorKind::Other,
        }
    }
}
