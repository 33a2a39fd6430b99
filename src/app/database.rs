//! Connections: many that read, and on SQLite two that write in turns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, ConnectionTrait, Database as SeaDatabase, DatabaseConnection, DbErr};
use sea_orm_migration::MigratorTrait;

use super::Quick;
use super::inline::Inline;

/// Connections that read, at most.
const READERS: u32 = 8;

/// The database of a library.
pub struct Database {
    read: DatabaseConnection,
    write: DatabaseConnection,
    inline: Option<Arc<Inline>>,
    quick: Option<Quick>,
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
            quick = Some(Quick::open(path, Arc::clone(&statements)).context(cannot)?);
        }
        Ok(Self { read, write, inline, quick, statements })
    }

    /// Brings the tables up to date.
    ///
    /// # Errors
    /// When a migration fails.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        migration::Migrator::up(&self.write, None).await.context("cannot migrate the database")
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
    pub const fn quick(&self) -> Option<&Quick> {
        self.quick.as_ref()
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
        std::fs::create_dir_all(folder)?;
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
                    ])
                    .application_name("vellum")
            },
        );
        options
    };
    let write = SeaDatabase::connect(options(2)).await?;
    let read = SeaDatabase::connect(options(READERS)).await?;
    Ok((read, write))
}
