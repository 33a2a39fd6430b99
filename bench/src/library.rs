//! A library of its own for a run: a temporary folder, and a database that goes with it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use migration::MigratorTrait as _;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};
use tempfile::TempDir;

use crate::plan::Plan;
use crate::report::{count, say};
use crate::{blobs, seed};

/// Pages that SQLite keeps in memory while it is seeded; negative for KiB.
const SEED_CACHE: &str = "-262144";

/// A seeded library.
pub struct Library {
    /// What it holds.
    pub plan: Plan,
    folder: TempDir,
    postgres: Option<PostgresDatabase>,
    config: Option<PathBuf>,
}

impl Library {
    /// Makes a library of `assets`, on SQLite or in a new database of the PostgreSQL server at `postgres`, for a server
    /// with these settings.
    ///
    /// # Errors
    /// When the disk or the database refuses.
    pub async fn make(assets: u32, postgres: Option<&str>, config: Option<&Path>) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("vellum-bench-").context("cannot make a temporary folder")?;
        std::fs::create_dir(folder.path().join("data")).context("cannot make the data folder")?;
        let postgres = match postgres {
            Some(url) => Some(PostgresDatabase::create(url).await?),
            None => None,
        };
        let config = config.map(Path::to_owned);
        let library = Self { plan: Plan::new(assets)?, folder, postgres, config };
        match library.fill().await {
            Ok(()) => Ok(library),
            Err(error) => {
                library.remove().await?;
                Err(error)
            }
        }
    }

    /// The server's data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where the server's log goes.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Settings that the server is given.
    #[must_use]
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Where the rows are, if not in the data folder.
    #[must_use]
    pub fn postgres_url(&self) -> Option<&str> {
        self.postgres.as_ref().map(|database| database.url.as_str())
    }

    /// Removes the folder and the database.
    ///
    /// # Errors
    /// What the disk or the database says.
    pub async fn remove(self) -> anyhow::Result<()> {
        if let Some(database) = self.postgres {
            database.drop().await?;
        }
        self.folder.close().context("cannot remove the temporary folder")
    }

    async fn fill(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        blobs::write(&self.plan, &self.data_dir())?;
        let database = match self.postgres_url() {
            Some(url) => Database::connect(url).await.context("cannot connect to the new database")?,
            None => open_sqlite(&self.data_dir().join("vellum.db")).await?,
        };
        migration::Migrator::up(&database, None).await.context("cannot migrate the database")?;
        seed::write(&database, &self.plan).await?;
        let finish = if self.postgres.is_some() { "ANALYZE" } else { "PRAGMA wal_checkpoint(TRUNCATE)" };
        database.execute_unprepared(finish).await?;
        database.close().await?;
        let (assets, entries) = (count(self.plan.assets.into()), count(self.plan.last_seq().unsigned_abs()));
        say(&format!(
            "seeded {assets} assets and {entries} entries in {:.1} s",
            began.elapsed().as_secs_f64()
        ));
        Ok(())
    }
}

/// One connection, for writing much: durable only once it is closed.
async fn open_sqlite(path: &Path) -> anyhow::Result<DatabaseConnection> {
    let file = path.to_owned();
    // The path is set below: in a URL, some of its characters would mean something else.
    let mut options = ConnectOptions::new("sqlite://vellum.db?mode=rwc");
    options.max_connections(1).sqlx_logging(false).map_sqlx_sqlite_opts(move |sqlite| {
        sqlite
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Off)
            .pragma("cache_size", SEED_CACHE)
    });
    Database::connect(options).await.with_context(|| format!("cannot open the database {}", path.display()))
}

/// A database of a PostgreSQL server, made for a run.
struct PostgresDatabase {
    server: String,
    name: String,
    url: String,
}

impl PostgresDatabase {
    async fn create(server: &str) -> anyhow::Result<Self> {
        let name = format!("vellum_bench_{}", uuid::Uuid::new_v4().simple());
        let (bare, options) =
            server.split_once('?').map_or((server, None), |(bare, rest)| (bare, Some(rest)));
        let (host, _) =
            bare.rsplit_once('/').context("the database URL is not postgres://server/database")?;
        let url = match options {
            Some(options) => format!("{host}/{name}?{options}"),
            None => format!("{host}/{name}"),
        };
        let database = Self { server: server.to_owned(), name, url };
        database.ask_server(&format!("CREATE DATABASE {}", database.name)).await?;
        Ok(database)
    }

    async fn drop(self) -> anyhow::Result<()> {
        // By force: a server that was killed may not have gone yet.
        self.ask_server(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await
    }

    async fn ask_server(&self, sql: &str) -> anyhow::Result<()> {
        let server = Database::connect(self.server.as_str()).await.context("cannot connect to PostgreSQL")?;
        server.execute_unprepared(sql).await?;
        Ok(server.close().await?)
    }
}
