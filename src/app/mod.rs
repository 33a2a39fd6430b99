//! What every operation works with: the database, the store of bytes, the feed, the clock, the settings.
//! Opened once, lent to all. Time, randomness and ids come from here.

mod ahead;
mod bodies;
mod clock;
mod crash;
mod database;
pub mod descriptors;
mod inline;
mod joins;
mod log;
mod metrics;
mod quick;
mod request;
mod reserve;
mod signer;
mod transaction;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use entity::{TokenId, UploadIntentId, token};
use moka::sync::Cache;
use sea_orm::{DatabaseConnection, DbErr};
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use ahead::{Ahead, Wants};
pub use clock::Clock;
pub use crash::crash_point;
pub use database::{Database, Turn};
pub use inline::Inline;
pub use metrics::{Metrics, OperationName, Readings};
pub use quick::Quick;
pub use request::Id as RequestId;
pub use signer::Signer;
pub use writer::{Done, Job, Tx};

use crate::blob::{BlobStore, LocalStore, S3Store, Stores, private};
use crate::config::{Backend, Config};
use crate::feed::Feed;
use bodies::Bodies;
use joins::Joins;
use reserve::Reserve;
use writer::Writer;

/// Hints about uploads that one who watches may be behind by.
const ANNOUNCEMENTS: usize = 256;
/// How often it is looked whether the disk has room.
const LOOK_AT_DISK: Duration = Duration::from_secs(1);
/// API tokens that are not read again for each request, and for how long: another server may revoke one.
const KNOWN_TOKENS: u64 = 10_000;
const TOKENS_KNOWN_FOR: Duration = Duration::from_secs(1);

/// A running library. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    config: Config,
    public_url: String,
    database: Database,
    stores: Stores,
    feed: Feed,
    writer: Writer,
    signer: Signer,
    clock: Clock,
    bodies: Bodies,
    reserve: Reserve,
    announcements: broadcast::Sender<UploadIntentId>,
    joins: Joins,
    known_tokens: Cache<TokenId, Arc<token::Model>>,
    metrics: Metrics,
    collecting: Mutex<()>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl App {
    /// Opens the library that `config` names: makes its folder, migrates its database, starts its feed.
    /// `public_url` is how clients reach the server, without a trailing slash.
    ///
    /// # Errors
    /// When the folder or the database cannot be used.
    pub async fn open(config: Config, public_url: String, clock: Clock) -> anyhow::Result<Self> {
        private::make_folder(&config.data_dir)
            .with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
        let reserve = Reserve::open(&config.data_dir);
        let stores = open_stores(&config).await?;
        let database = Database::open(&config.database_url).await?;
        database.migrate().await?;
        let signer = Signer::load(database.write()).await.context("cannot read the signing key")?;
        let feed = Feed::open(database.log()).await.context("cannot read the changelog")?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(feed.clone().tail(stop.clone()));
        feed.relay(database.write(), &config.database_url, &tasks, &stop);
        let writer = Writer::start(&tasks, &database, feed.clone(), clock.clone());
        let joins = Joins::new(tasks.clone());
        let announcements = broadcast::Sender::new(ANNOUNCEMENTS);
        let inner = Inner {
            config,
            public_url,
            database,
            stores,
            feed,
            writer,
            signer,
            clock,
            bodies: Bodies::default(),
            reserve,
            announcements,
            joins,
            known_tokens: Cache::builder().max_capacity(KNOWN_TOKENS).time_to_live(TOKENS_KNOWN_FOR).build(),
            metrics: Metrics::default(),
            collecting: Mutex::new(()),
            stop,
            tasks,
        };
        let app = Self(Arc::new(inner));
        let looking = app.clone();
        app.spawn(async move {
            loop {
                tokio::time::sleep(LOOK_AT_DISK).await;
                looking.reserve().restore();
            }
        });
        Ok(app)
    }

    /// Runs `task` until the library is closed.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Lets [`App::close`] wait for `work`, which looks by itself at [`App::stopping`].
    pub fn track<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        self.0.tasks.track_future(work)
    }

    /// Stops the feed and the background work, and waits at most `grace` for them.
    pub async fn close(&self, grace: Duration) {
        self.0.stop.cancel();
        self.0.writer.close();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("background work did not end in time");
        }
    }

    /// Cancelled when the library closes.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// How clients reach the server, without a trailing slash.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.0.public_url
    }

    /// Connections for reading.
    #[must_use]
    pub fn read(&self) -> &DatabaseConnection {
        self.0.database.read()
    }

    /// For short reads on the thread that asks; only SQLite has it.
    #[must_use]
    pub fn quick(&self) -> Option<&Quick> {
        self.0.database.quick().map(AsRef::as_ref)
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.0.database
    }

    /// Where the bytes are.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// The storage backend with this name.
    ///
    /// # Errors
    /// When none is configured.
    pub fn store(&self, name: &str) -> std::io::Result<&Arc<dyn BlobStore>> {
        self.0.stores.get(name)
    }

    /// The changelog.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.0.feed
    }

    /// Signs URLs.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// The time, and ids made from it.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Room that is kept on the disk of the data folder.
    #[must_use]
    pub(crate) fn reserve(&self) -> &Reserve {
        &self.0.reserve
    }

    /// Bodies of uploads that come in.
    #[must_use]
    pub(crate) fn bodies(&self) -> &Bodies {
        &self.0.bodies
    }

    /// Uploads in parts that are being put together.
    #[must_use]
    pub(crate) fn joins(&self) -> &Joins {
        &self.0.joins
    }

    /// API tokens that were read a moment ago.
    #[must_use]
    pub(crate) fn known_tokens(&self) -> &Cache<TokenId, Arc<token::Model>> {
        &self.0.known_tokens
    }

    /// What the process counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Held by who removes bytes that nothing needs.
    #[must_use]
    pub(crate) fn collecting(&self) -> &Mutex<()> {
        &self.0.collecting
    }

    /// Tells those who watch an upload that it went on. A hint: they read the row, and look at times anyway.
    pub fn announce(&self, id: UploadIntentId) {
        // Nobody watching is no error.
        let _ = self.0.announcements.send(id);
    }

    /// Hints about uploads that went on.
    #[must_use]
    pub fn announcements(&self) -> broadcast::Receiver<UploadIntentId> {
        self.0.announcements.subscribe()
    }

    /// The turn for work that one server at a time does; none while another one is at it. It ends when this is
    /// dropped, or the server dies.
    ///
    /// # Errors
    /// What the database says.
    pub async fn turn(&self) -> Result<Option<Turn>, DbErr> {
        self.0.database.turn().await
    }

    /// Whether jobs are still taken.
    #[must_use]
    pub fn takes_jobs(&self) -> bool {
        self.0.writer.takes_jobs()
    }

    /// Hands a job to the writer; it is settled once its commit is durable, or was refused. False when the
    /// library is closing.
    pub async fn submit(&self, job: Box<dyn Job>) -> bool {
        self.0.reserve.release();
        self.0.writer.submit(job).await
    }
}

async fn open_stores(config: &Config) -> anyhow::Result<Stores> {
    let mut stores = BTreeMap::new();
    for (name, backend) in &config.storage {
        let store: Arc<dyn BlobStore> = match backend {
            Backend::Local(folder) => {
                let opened =
                    private::make_folder(folder).map_err(Into::into).and_then(|()| LocalStore::open(folder));
                Arc::new(opened.with_context(|| format!("cannot use the storage backend {name}"))?)
            }
            Backend::S3(bucket) => {
                Arc::new(S3Store::open(bucket, &LocalStore::staging(&config.data_dir)).await)
            }
        };
        stores.insert(name.clone(), store);
    }
    Ok(Stores::new(stores, config.file_cache_bytes))
}
