//! Bytes: where they lie, how they get there, how they are read. Knows nothing of assets.
//!
//! A [`BlobStore`] keeps them: a folder ([`LocalStore`]) or a bucket ([`S3Store`]). Bytes come into its staging area
//! first, under a key for each attempt, and are secured under a key of their own once they were verified. Clients
//! never write under a key that a row names.

mod key;
pub mod label;
mod local;
mod media_type;
pub mod private;
mod s3;
mod seen;
mod small;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, TryStreamExt as _};
use tokio::sync::{Semaphore, SemaphorePermit};

use uuid::Uuid;

pub use key::{BlobKey, StagingKey};
pub use local::LocalStore;
pub use media_type::MediaType;
pub use s3::S3Store;
pub use seen::{Staged, sha256, unhex};
pub use small::SMALL;
use small::Small;

/// Longest wait for all bytes of a file that is read at once.
const PATIENCE: Duration = Duration::from_secs(20);
/// Files of one backend that are verified, or put together, at the same time.
const VERIFICATIONS: usize = 16;
/// Name of what says whose a place for bytes is.
pub const MARK: &str = "vellum-library";

/// Bytes on their way out.
pub type Outgoing = BoxStream<'static, io::Result<Bytes>>;
/// Bytes on their way in; an error says how the sender broke off.
pub type Incoming<'a> = Pin<&'a mut (dyn Stream<Item = Result<Bytes, String>> + Send)>;

/// Why bytes were not staged. Nothing of them is left behind.
#[derive(Debug)]
pub enum StageError {
    /// More bytes came than allowed.
    TooLong,
    /// The sender broke off.
    Body(String),
    /// The store refused.
    Store(io::Error),
}

/// How long a bucket may take to copy so many bytes: 8 MiB a second are put up with.
#[must_use]
pub const fn copying_time(bytes: u64) -> Duration {
    Duration::from_millis(bytes / 8192)
}

/// Keeps bytes. An error of kind [`io::ErrorKind::NotFound`] says that it does not have them; any other, that it
/// could not do it now.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Looks whether it works.
    async fn check(&self) -> io::Result<()>;

    /// The mark that says whose this place is, if there is one.
    async fn mark(&self) -> io::Result<Option<String>>;

    /// Leaves a mark.
    async fn leave_mark(&self, mark: &str) -> io::Result<()>;

    /// Whether nothing is staged or kept here.
    async fn is_empty(&self) -> io::Result<bool>;

    /// Writes `body` to the staging area, hashing it on the way; durable when this returns. A body longer than
    /// `limit` is given up at once.
    async fn stage(&self, key: &StagingKey, body: Incoming<'_>, limit: u64) -> Result<Staged, StageError>;

    /// Moves staged bytes to where they stay. Doing it again changes nothing. An error of kind `NotFound` when neither
    /// place has them.
    async fn secure(&self, staging: &StagingKey, key: &BlobKey, label: &Label) -> io::Result<()>;

    /// Sees to it that the store has bytes, which were just verified and staged again, also where it had lost or
    /// changed them; a bucket that has as many bytes there is believed. The staged ones stay; `second` is a name for them
    /// on the way.
    async fn renew(
        &self,
        staging: &StagingKey,
        second: &StagingKey,
        key: &BlobKey,
        label: &Label,
    ) -> io::Result<()>;

    /// Writes several staged files one after the other into a new one, hashing it; durable when this returns.
    async fn join(&self, parts: &[StagingKey], whole: &StagingKey) -> io::Result<Staged>;

    /// A range of bytes at once; meant for short ones. An error when there are not `size` bytes in all.
    async fn read(&self, key: &BlobKey, size: u64, range: Range<u64>) -> io::Result<Bytes>;

    /// A range of bytes, piece by piece: the next may come only once the one before was dropped. An error when there are not
    /// `size` bytes in all.
    async fn stream(&self, key: &BlobKey, size: u64, range: Range<u64>) -> io::Result<Outgoing>;

    /// Writes `body`, of about `size` bytes, to where it stays, hashing it on the way: to bring over what another store
    /// has. The caller sees to it that nothing names what is not what it should be.
    async fn import(
        &self,
        key: &BlobKey,
        body: Incoming<'_>,
        size: u64,
        label: &Label,
    ) -> Result<Staged, StageError>;

    /// What is kept in one of the 256 folders of keys ([`BlobKey::shard`]): each key, and its count of bytes.
    async fn kept(&self, shard: u8) -> io::Result<Vec<(BlobKey, u64)>>;

    /// Removes bytes; such as are gone already are no error.
    async fn remove(&self, key: &BlobKey) -> io::Result<()>;

    /// Removes what one attempt left; nothing left is no error.
    async fn remove_staged(&self, key: &StagingKey) -> io::Result<()>;

    /// All that is in the staging area, whether it is being written or was left there.
    async fn staged(&self) -> io::Result<Vec<StagingKey>>;

    /// Tries all that is asked of it, as a page of `origin` would where browsers come in, with things named by `id`, which
    /// nothing else has; answers what it found.
    async fn probe(&self, origin: &str, id: Uuid) -> Vec<Probed>;

    /// What it can do without the server in between; a folder cannot.
    fn direct(&self) -> Option<&dyn Direct> {
        None
    }
}

/// A store that clients send bytes to, and get them from, by themselves.
#[async_trait]
pub trait Direct: Send + Sync {
    /// The request that brings bytes to `key`, good for so long. What is expected of them is signed into it.
    async fn target(&self, key: &StagingKey, expected: &Expected, life: Duration) -> io::Result<Target>;

    /// Looks at what a client sent to `sent`; none when nothing came. What the store itself vouches for by its SHA-256
    /// stays where it is and is not read again; anything else is put to `frozen` first, where no client can change it.
    async fn collect(
        &self,
        sent: &StagingKey,
        frozen: &StagingKey,
        expected: &Expected,
        limit: u64,
    ) -> io::Result<Option<Collected>>;

    /// Begins an upload in parts to `key`; answers with what the store knows it by.
    async fn begin(&self, key: &StagingKey) -> io::Result<String>;

    /// The request that brings one part, good for so long.
    async fn part_target(
        &self,
        key: &StagingKey,
        upload: &str,
        number: i32,
        size: u64,
        life: Duration,
    ) -> io::Result<Target>;

    /// The parts that came, in order. An error of kind `NotFound` when the upload is over.
    async fn parts(&self, key: &StagingKey, upload: &str) -> io::Result<Vec<SentPart>>;

    /// Puts parts together and reads the whole. Doing it again answers the same.
    async fn complete(&self, key: &StagingKey, upload: &str, parts: &[SentPart]) -> io::Result<Staged>;

    /// Reads what parts were put together to; none when it is not there, or has another count of bytes.
    async fn whole(&self, key: &StagingKey, size: u64) -> io::Result<Option<Staged>>;

    /// Ends an upload in parts; one that is over is no error.
    async fn abort(&self, key: &StagingKey, upload: &str) -> io::Result<()>;

    /// Uploads in parts that are neither complete nor ended.
    async fn unfinished(&self) -> io::Result<Vec<Unfinished>>;

    /// Ends copies in parts that began before then, in milliseconds of Unix time, and are not done: crashes left them.
    async fn end_copies(&self, before_ms: i64) -> io::Result<()>;

    /// A URL that reads bytes without a role, for so long, labelled like this.
    async fn signed_url(&self, key: &BlobKey, headers: &ReadHeaders, life: Duration) -> io::Result<String>;

    /// Where anyone can read bytes, if anywhere.
    fn public_url(&self, key: &BlobKey) -> Option<String>;
}

/// A request that brings bytes.
#[derive(Debug, Clone)]
pub struct Target {
    /// HTTP method.
    pub method: &'static str,
    /// Absolute URL.
    pub url: String,
    /// Headers that have to be sent.
    pub headers: Vec<(String, String)>,
}

/// What a client said of bytes that are going to come.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Media type.
    pub content_type: Option<String>,
    /// Count of bytes.
    pub size: Option<u64>,
    /// SHA-256 in lower-case hex.
    pub sha256: Option<String>,
}

/// What came.
#[derive(Debug, Clone)]
pub enum Collected {
    /// These bytes, under this key.
    Staged(StagingKey, Staged),
    /// So many bytes, which is more than allowed.
    TooLong(u64),
}

/// A part that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentPart {
    /// 1, 2, 3 …
    pub number: i32,
    /// Count of bytes.
    pub size: u64,
    /// Its entity tag.
    pub etag: String,
}

/// An upload in parts that is neither complete nor ended.
#[derive(Debug, Clone)]
pub struct Unfinished {
    /// Where the bytes are going to.
    pub key: StagingKey,
    /// What the store knows it by.
    pub upload: String,
    /// When it began, in milliseconds of Unix time.
    pub since_ms: i64,
}

/// Headers that a store answers with instead of those that it keeps.
#[derive(Debug, Clone)]
pub struct ReadHeaders {
    /// `Content-Type`.
    pub content_type: String,
    /// `Content-Disposition`.
    pub content_disposition: String,
    /// `Cache-Control`.
    pub cache_control: String,
}

/// What trying something showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// What was tried.
    pub what: &'static str,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of trying something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Good,
    /// It does not, and need not.
    Note(String),
    /// It has to, and does not.
    Bad {
        /// What happened.
        problem: String,
        /// What to change.
        remedy: String,
    },
}

/// What a store that answers readers by itself tells them of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Media type.
    pub content_type: String,
    /// For people and their downloads.
    pub filename: String,
}

/// Who may do something with a backend.
struct Turns {
    /// So many files are verified at the same time.
    verifying: Semaphore,
    /// One at a time finds out whose it is.
    claiming: tokio::sync::Mutex<()>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { verifying: Semaphore::new(VERIFICATIONS), claiming: tokio::sync::Mutex::default() }
    }
}

/// The stores that are configured, by name.
#[derive(Clone)]
pub struct Stores {
    all: Arc<BTreeMap<String, Arc<dyn BlobStore>>>,
    small: Small,
    /// Those that are known to be ours.
    ours: Arc<Mutex<BTreeSet<String>>>,
    /// Each for itself: one that hangs holds up no other.
    turns: Arc<BTreeMap<String, Turns>>,
}

impl Stores {
    /// These stores, of whose short files so many bytes are kept in memory.
    #[must_use]
    pub fn new(stores: BTreeMap<String, Arc<dyn BlobStore>>, in_memory: u64) -> Self {
        let turns = stores.keys().map(|name| (name.clone(), Turns::default())).collect();
        let (small, ours) = (Small::new(in_memory), Arc::default());
        Self { all: Arc::new(stores), small, ours, turns: Arc::new(turns) }
    }

    /// All bytes of a short file, compared with their hash once.
    ///
    /// # Errors
    /// When the store does not have them, or has others.
    pub async fn read_whole(
        &self,
        backend: &str,
        key: &BlobKey,
        size: u64,
        sha256: &str,
    ) -> io::Result<Bytes> {
        if let Some(bytes) = self.small.get(key) {
            return Ok(bytes);
        }
        let reading = tokio::time::timeout(PATIENCE, self.get(backend)?.read(key, size, 0..size)).await;
        let bytes = reading.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        if seen::sha256(&bytes) != sha256 {
            return Err(io::Error::other(format!("{key} has other bytes than were stored")));
        }
        if size <= SMALL {
            self.small.keep(*key, bytes.clone());
        }
        Ok(bytes)
    }

    /// The one with this name.
    ///
    /// # Errors
    /// When there is none: somebody took it out of the settings while bytes lie in it.
    pub fn get(&self, name: &str) -> io::Result<&Arc<dyn BlobStore>> {
        self.all.get(name).ok_or_else(|| missing(name))
    }

    /// Waits for a place to verify bytes of a backend.
    ///
    /// # Errors
    /// When there is no such backend.
    pub async fn verifying(&self, name: &str) -> io::Result<SemaphorePermit<'_>> {
        self.turns(name)?.verifying.acquire().await.map_err(io::Error::other)
    }

    /// Waits for the turn to find out whose the place of a backend is.
    ///
    /// # Errors
    /// When there is no such backend.
    pub async fn claiming(&self, name: &str) -> io::Result<tokio::sync::MutexGuard<'_, ()>> {
        Ok(self.turns(name)?.claiming.lock().await)
    }

    fn turns(&self, name: &str) -> io::Result<&Turns> {
        self.turns.get(name).ok_or_else(|| missing(name))
    }

    /// Whether it is known that the place of a backend is ours.
    #[must_use]
    pub fn is_ours(&self, name: &str) -> bool {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Remembers that the place of a backend is ours.
    pub fn remember_ours(&self, name: &str) {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn BlobStore>)> {
        self.all.iter().map(|(name, store)| (name.as_str(), store))
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::other(format!("no storage backend {name:?} is configured"))
}

/// Reads bytes to their end; answers their SHA-256 in lower-case hex.
///
/// # Errors
/// Where reading breaks off.
pub async fn digest(mut bytes: Outgoing) -> io::Result<String> {
    let mut seen = seen::Seen::default();
    while let Some(piece) = bytes.try_next().await? {
        seen.add(&piece);
    }
    Ok(seen.staged().sha256)
}
