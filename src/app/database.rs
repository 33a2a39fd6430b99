//! Connections: many that read, and on SQLite two that write in turns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use sea_orm::sqlx::Postgres;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{ConnectOptions as _, Connection as _};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database as SeaDatabase, DatabaseConnection, DbBackend, DbErr,
    RuntimeErr, SqlxPostgresConnector,
};
use sea_orm_migration::MigratorTrait;

use super::Quick;
use super::inline::{self, Inline};
use super::log::QuickLog;
use crate::blob::private;
use crate::feed::{Log, Tables};

/// Connections that read, at most.
const READERS: u32 = 8;
/// Connections that write to PostgreSQL, at most: for the writer, and for hints to other servers.
const WRITERS: u32 = 4;
/// Advisory locks of PostgreSQL, in Vellum's databases alone.
const MIGRATION_LOCK: i64 = 0x7665_6c6c_756d_0001;
const TURN_LOCK: i64 = 0x7665_6c6c_756d_0002;

/// The turn for work that one server at a time does.
pub struct Turn {
    _connection: Option<PoolConnection<Postgres>>,
}

/// The database of a library.
pub struct Database {
    read: DatabaseConnection,
    write: DatabaseConnection,
    inline: Option<Arc<Inline>>,
    quick: Option<Arc<Quick>>,
    statements: Arc<AtomicU64>,
}

impl Database {
    /// Opens `sqlite://path` (making the file) or `postgres://…`.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let (mut read, mut write) = match url.strip_prefix("sqlite://") {
            Some(path) => {
                open_sqlite(path).await.with_context(|| format!("cannot open the database {path}"))?
            }
            None => open_postgres(url).await.context("cannot connect to the database")?,
        };
        let statements = Arc::new(AtomicU64::new(0));
        for connection in [&mut read, &mut write] {
            let count = Arc::clone(&statements);
            connection.set_metric_callback(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (mut inline, mut quick) = (None, None);
        if let Some(path) = url.strip_prefix("sqlite://").map(Path::new) {
            let cannot = "cannot open the database";
            inline = Some(Arc::new(Inline::open(path, Arc::clone(&statements)).context(cannot)?));
            quick = Some(Arc::new(Quick::open(path, Arc::clone(&statements)).context(cannot)?));
        }
        Ok(Self { read, write, inline, quick, statements })
    }

    /// Brings the tables up to date. Of several servers that start at once, one does it and the others wait.
    ///
    /// # Errors
    /// When a migration fails.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        let cannot = "cannot migrate the database";
        if self.write.get_database_backend() != DbBackend::Postgres {
            return migration::Migrator::up(&self.write, None).await.context(cannot);
        }
        // Without the pool's limits: a large library may take its time, and so may who waits for it.
        let options = self.write.get_postgres_connection_pool().connect_options();
        let options = options.as_ref().clone().options([("lock_timeout", "0"), ("statement_timeout", "0")]);
        let one = PgPoolOptions::new().max_connections(1).connect_with(options).await.context(cannot)?;
        let one = SqlxPostgresConnector::from_sqlx_postgres_pool(one);
        one.execute_unprepared(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})"))
            .await
            .context(cannot)?;
        let migrated = migration::Migrator::up(&one, None).await.context(cannot);
        // The lock ends with its connection.
        one.close().await.context(cannot)?;
        migrated
    }

    /// The pools of connections: their name, how many there are, how many of those are idle.
    #[must_use]
    pub fn pools(&self) -> Vec<(&'static str, u32, usize)> {
        let pools = [("read", &self.read), ("write", &self.write)].into_iter();
        let sizes = pools.map(|(name, pool)| {
            if pool.get_database_backend() == DbBackend::Postgres {
                let pool = pool.get_postgres_connection_pool();
                (name, pool.size(), pool.num_idle())
            } else {
                let pool = pool.get_sqlite_connection_pool();
                (name, pool.size(), pool.num_idle())
            }
        });
        sizes.collect()
    }

    /// See [`App::turn`](super::App::turn).
    pub(super) async fn turn(&self) -> Result<Option<Turn>, DbErr> {
        if self.read.get_database_backend() != DbBackend::Postgres {
            return Ok(Some(Turn { _connection: None }));
        }
        let failed = |error| DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)));
        let mut connection = self.read.get_postgres_connection_pool().acquire().await.map_err(failed)?;
        // The lock is the session's: it ends with it, also when this process dies.
        connection.close_on_drop();
        let lock = sea_orm::sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(TURN_LOCK);
        let ours: bool = lock.fetch_one(&mut *connection).await.map_err(failed)?;
        Ok(ours.then_some(Turn { _connection: Some(connection) }))
    }

    /// For reading.
    #[must_use]
    pub const fn read(&self) -> &DatabaseConnection {
        &self.read
    }

    /// For writing. On SQLite there is one connection in it, and the writer has that.
    #[must_use]
    pub const fn write(&self) -> &DatabaseConnection {
        &self.write
    }

    /// For writing on the thread that asks; only SQLite has it, and the writer has that too.
    pub(super) const fn inline(&self) -> Option<&Arc<Inline>> {
        self.inline.as_ref()
    }

    /// For short reads on the thread that asks; only SQLite has it.
    #[must_use]
    pub const fn quick(&self) -> Option<&Arc<Quick>> {
        self.quick.as_ref()
    }

    /// The changelog's tables, read in the way that suits the database.
    pub(super) fn log(&self) -> Arc<dyn Log> {
        let tables = Tables(self.read.clone());
        match &self.quick {
            Some(quick) => Arc::new(QuickLog::new(Arc::clone(quick), tables)),
            None => Arc::new(tables),
        }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// What it says instead.
    pub async fn ping(&self) -> Result<(), DbErr> {
        self.read.execute_unprepared("SELECT 1").await.map(drop)
    }

    /// How many statements ran since it was opened.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }
}

async fn open_sqlite(path: &str) -> anyhow::Result<(DatabaseConnection, DatabaseConnection)> {
    if let Some(folder) = Path::new(path).parent() {
        private::make_folder(folder)?;
    }
    // SQLite gives the files beside it the same rights.
    private::make_file(Path::new(path))?;
    for ending in ["", "-wal", "-shm"] {
        private::close(Path::new(&format!("{path}{ending}")))?;
    }
    let path = Path::new(path).to_owned();
    let options = |connections: u32, writes: bool| {
        // The path is set below: in a URL, some of its characters would mean something else.
        let mut options = ConnectOptions::new("sqlite://vellum.db?mode=rwc");
        let path = path.clone();
        options
            .max_connections(connections)
            .min_connections(1)
            .idle_timeout(None::<Duration>)
            .max_lifetime(None::<Duration>)
            .sqlx_logging(false)
            .test_before_acquire(false)
            .map_sqlx_sqlite_pool_opts(|pool| {
                // After a COMMIT that failed the driver believes that the transaction goes on, and what it commits then
                // would be nothing: such a connection is closed.
                pool.after_release(|connection, _| {
                    Box::pin(async move { Ok(!connection.is_in_transaction()) })
                })
            })
            .map_sqlx_sqlite_opts(move |sqlite| {
                // FULL: what was acknowledged survives a loss of power.
                sqlite
                    .filename(&path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
                    .busy_timeout(Duration::from_secs(10))
                    .statement_cache_capacity(256)
                    .pragma("temp_store", "MEMORY")
                    .pragma("wal_autocheckpoint", inline::MAX_WAL_PAGES.to_string())
                    .pragma("query_only", if writes { "off" } else { "on" })
                    .optimize_on_close(writes, None)
                    .disable_statement_logging()
            });
        options
    };
    // The writer first: it makes the file and puts it into WAL mode.
    let write = SeaDatabase::connect(options(1, true)).await?;
    let read = SeaDatabase::connect(options(READERS, false)).await?;
    Ok((read, write))
}

async fn open_postgres(url: &str) -> Result<(DatabaseConnection, DatabaseConnection), DbErr> {
    let options = |connections: u32| {
        let mut options = ConnectOptions::new(url);
        options.max_connections(connections).min_connections(1).sqlx_logging(false).map_sqlx_postgres_opts(
            |postgres| {
                // An idle transaction that holds the changelog's counter would block every other writer.
                postgres
                    .options([
                        ("lock_timeout", "5s"),
                        ("statement_timeout", "30s"),
                        ("idle_in_transaction_session_timeout", "10s"),
                        // No statement takes so long that compiling it would pay.
                        ("jit", "off"),
                    ])
                    .application_name("vellum")
            },
        );
        options
    };
    let write = SeaDatabase::connect(options(WRITERS)).await?;
    let read = SeaDatabase::connect(options(READERS)).await?;
    Ok((read, write))
}
