//! Bytes in a local folder: `staging/` for what is being sent, `blobs/` for what is kept.
//!
//! A file appears under its final name whole or not at all: it is written elsewhere, synced, renamed, and
//! its folder is synced. Files are never written in place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;

use super::{BlobKey, StagingKey};

/// Pieces of a body that wait to be written.
const QUEUE: usize = 8;
/// Bytes gathered before they are written.
const WRITE_BLOCK: usize = 1024 * 1024;
/// Bytes read at once while a file is sent.
const READ_BLOCK: usize = 512 * 1024;
/// Bytes kept from the start of a file, to tell its type by.
const HEAD: usize = 8192;

/// A folder of bytes.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

/// What arrived in the staging area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Count of bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// The first 8 KiB, or all of it.
    pub head: Vec<u8>,
}

/// Why bytes were not staged. Nothing of them is left behind.
#[derive(Debug)]
pub enum StageError<E> {
    /// More bytes came than allowed.
    TooLong,
    /// The sender broke off.
    Body(E),
    /// The disk refused.
    Store(io::Error),
}

/// A file that can be read.
pub struct Blob {
    file: tokio::fs::File,
    /// Count of bytes.
    pub size: u64,
}

impl LocalStore {
    /// The name that rows know this backend by.
    pub const NAME: &str = "local";

    /// Opens `folder`, making what is missing in it.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let store = Self { root: folder.to_owned() };
        for part in [store.staging_folder(), store.root.join("blobs")] {
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        sync_folder(folder).with_context(|| format!("cannot sync {}", folder.display()))?;
        store.check_writable().with_context(|| format!("cannot write to {}", folder.display()))?;
        Ok(store)
    }

    /// Writes and removes a file, to see whether the store works.
    ///
    /// # Errors
    /// What the disk says.
    pub fn check_writable(&self) -> io::Result<()> {
        let probe = self.staging_folder().join(".probe");
        fs::write(&probe, b"vellum")?;
        // Another look at the same moment may have removed it.
        remove_if_there(&probe)
    }

    /// Writes `body` to the staging area, hashing it on the way; durable when this returns. A body longer
    /// than `limit` is given up at once.
    ///
    /// # Errors
    /// When the body is too long or breaks off, or the disk refuses.
    pub async fn stage<E>(
        &self,
        key: &StagingKey,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
        limit: u64,
    ) -> Result<Staged, StageError<E>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let path = self.staging_path(key);
        let writing = tokio::task::spawn_blocking(move || StagingFile::write(path, receiver));
        let mut size = 0;
        while let Some(piece) = body.next().await {
            // Dropping the sender without an end makes the writer remove the file.
            let piece = piece.map_err(StageError::Body)?;
            size += piece.len() as u64;
            if size > limit {
                return Err(StageError::TooLong);
            }
            if sender.send(Piece::Bytes(piece)).await.is_err() {
                break;
            }
        }
        let _ = sender.send(Piece::End).await;
        match writing.await {
            Ok(written) => written.map_err(StageError::Store),
            Err(error) => Err(StageError::Store(io::Error::other(error))),
        }
    }

    /// Moves staged bytes to where they stay. Doing it again changes nothing.
    ///
    /// # Errors
    /// When neither place has the bytes, or the disk refuses.
    pub async fn secure(&self, staging: &StagingKey, key: &BlobKey) -> io::Result<()> {
        let (from, folder, to) = (self.staging_path(staging), self.shard_folder(key), self.blob_path(key));
        blocking(move || {
            fs::create_dir_all(&folder)?;
            if !to.exists() {
                match fs::rename(&from, &to) {
                    // Somebody else who finishes the same intent was faster.
                    Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => {}
                    renamed => renamed?,
                }
            }
            // Also when the file was there: whoever moved it may not have come this far.
            sync_folder(&folder)?;
            sync_folder(folder.parent().unwrap_or(&folder))
        })
        .await
    }

    /// Puts staged bytes, which were just verified, in the place of the same ones that the store has: should it
    /// have lost or changed them, they are whole again. The staged file stays; `second` is a name for it on the way.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn renew(&self, staging: &StagingKey, second: &StagingKey, key: &BlobKey) -> io::Result<()> {
        let (from, link) = (self.staging_path(staging), self.staging_path(second));
        let (folder, to) = (self.shard_folder(key), self.blob_path(key));
        blocking(move || {
            fs::create_dir_all(&folder)?;
            fs::hard_link(&from, &link)?;
            if let Err(error) = fs::rename(&link, &to) {
                remove_if_there(&link)?;
                return Err(error);
            }
            // Of two names of one file a rename takes none away.
            remove_if_there(&link)?;
            sync_folder(&folder)?;
            sync_folder(folder.parent().unwrap_or(&folder))
        })
        .await
    }

    /// Writes several staged files one after the other into a new one, hashing it; durable when this returns.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn join(&self, parts: &[StagingKey], whole: &StagingKey) -> io::Result<Staged> {
        let parts: Vec<PathBuf> = parts.iter().map(|part| self.staging_path(part)).collect();
        let path = self.staging_path(whole);
        blocking(move || StagingFile::join(&parts, path)).await
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn open_blob(&self, key: &BlobKey) -> io::Result<Blob> {
        let file = tokio::fs::File::open(self.blob_path(key)).await?;
        let size = file.metadata().await?.len();
        Ok(Blob { file, size })
    }

    /// Removes a file; one that is gone already is no error.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn remove(&self, key: &BlobKey) -> io::Result<()> {
        let path = self.blob_path(key);
        blocking(move || remove_if_there(&path)).await
    }

    /// Removes what one attempt left; nothing left is no error.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn remove_staged(&self, key: &StagingKey) -> io::Result<()> {
        let path = self.staging_path(key);
        blocking(move || remove_if_there(&path)).await
    }

    /// All that is in the staging area, whether it is being written or was left there.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn staged(&self) -> io::Result<Vec<StagingKey>> {
        let folder = self.staging_folder();
        blocking(move || {
            let names = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name()));
            let names = names.collect::<io::Result<Vec<_>>>()?;
            Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
        })
        .await
    }

    fn staging_folder(&self) -> PathBuf {
        self.root.join("staging")
    }

    fn staging_path(&self, key: &StagingKey) -> PathBuf {
        self.staging_folder().join(key.to_string())
    }

    fn shard_folder(&self, key: &BlobKey) -> PathBuf {
        self.root.join("blobs").join(key.shard())
    }

    fn blob_path(&self, key: &BlobKey) -> PathBuf {
        self.shard_folder(key).join(key.to_string())
    }
}

impl Blob {
    /// All bytes of a range at once; meant for short ones.
    ///
    /// # Errors
    /// What the disk says; also when the file is shorter than it should be.
    pub async fn read(mut self, range: Range<u64>) -> io::Result<Bytes> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.seek(io::SeekFrom::Start(range.start)).await?;
        self.file.read_exact(&mut bytes).await?;
        Ok(bytes.into())
    }

    /// The bytes of a range, piece by piece.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn stream(
        mut self,
        range: Range<u64>,
    ) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
        self.file.seek(io::SeekFrom::Start(range.start)).await?;
        self.file.set_max_buf_size(READ_BLOCK);
        let bounded = self.file.take(range.end - range.start);
        Ok(ReaderStream::with_capacity(bounded, READ_BLOCK).into_stream())
    }
}

enum Piece {
    Bytes(Bytes),
    End,
}

/// A staging file while it is written; gone again unless it was finished.
struct StagingFile {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl StagingFile {
    fn create(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { path, file, finished: false })
    }

    fn write(path: PathBuf, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Staged> {
        let mut staging = Self::create(path)?;
        let mut seen = Seen::default();
        let mut block = Vec::with_capacity(0);
        loop {
            match pieces.blocking_recv() {
                None => return Err(io::Error::other("the sender broke off")),
                Some(Piece::End) => break,
                Some(Piece::Bytes(bytes)) => {
                    seen.add(&bytes);
                    block.extend_from_slice(&bytes);
                    if block.len() >= WRITE_BLOCK {
                        staging.file.write_all(&block)?;
                        block.clear();
                    }
                }
            }
        }
        staging.file.write_all(&block)?;
        staging.finish()?;
        Ok(seen.staged())
    }

    fn join(parts: &[PathBuf], path: PathBuf) -> io::Result<Staged> {
        let mut staging = Self::create(path)?;
        let mut seen = Seen::default();
        let mut block = vec![0; WRITE_BLOCK];
        for part in parts {
            let mut part = File::open(part)?;
            loop {
                let count = part.read(&mut block)?;
                if count == 0 {
                    break;
                }
                seen.add(&block[..count]);
                staging.file.write_all(&block[..count])?;
            }
        }
        staging.finish()?;
        Ok(seen.staged())
    }

    /// Makes it durable.
    fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.finished = true;
        let folder = self.path.parent().expect("a staging file lies in the staging folder");
        sync_folder(folder)
    }
}

/// What is known of bytes that passed by.
#[derive(Default)]
struct Seen {
    size: u64,
    hasher: Sha256,
    head: Vec<u8>,
}

impl Seen {
    fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.hasher.update(bytes);
        let wanted = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);
    }

    fn staged(self) -> Staged {
        Staged { size: self.size, sha256: hex(&self.hasher.finalize()), head: self.head }
    }
}

impl Drop for StagingFile {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove an unfinished upload; the sweeper will");
        }
    }
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use entity::{BlobId, UploadIntentId};
    use futures_util::stream;
    use uuid::Uuid;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().expect("folder");
        let store = LocalStore::open(folder.path()).expect("store");
        (folder, store)
    }

    fn staging_key() -> StagingKey {
        StagingKey { intent: UploadIntentId(Uuid::from_u128(1)), attempt: Uuid::from_u128(2) }
    }

    fn body(pieces: &[&'static str]) -> impl Stream<Item = Result<Bytes, &'static str>> + Unpin {
        let pieces = pieces.iter().map(|piece| match *piece {
            "!" => Err("broke off"),
            piece => Ok(Bytes::from_static(piece.as_bytes())),
        });
        stream::iter(pieces.collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn staged_bytes_are_hashed_secured_and_read_back() {
        let (_folder, store) = store();
        let (staging, key) = (staging_key(), BlobKey::new(BlobId(Uuid::from_u128(3))));
        let staged = store.stage(&staging, body(&["he", "llo"]), 5).await.expect("staged");
        assert_eq!(staged.size, 5);
        assert_eq!(staged.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(store.staged().await.expect("list"), [staging]);
        store.secure(&staging, &key).await.expect("secured");
        store.secure(&staging, &key).await.expect("secured again");
        assert!(store.staged().await.expect("list").is_empty());
        let blob = store.open_blob(&key).await.expect("open");
        assert_eq!(blob.read(1..4).await.expect("read"), "ell");
        let blob = store.open_blob(&key).await.expect("open");
        let pieces: Vec<Bytes> =
            blob.stream(2..5).await.expect("stream").try_collect().await.expect("pieces");
        assert_eq!(pieces.concat(), b"llo");
        store.remove(&key).await.expect("removed");
        store.remove(&key).await.expect("removed again");
        assert!(store.open_blob(&key).await.is_err());
    }

    #[tokio::test]
    async fn what_is_too_long_or_breaks_off_leaves_nothing() {
        let (_folder, store) = store();
        let too_long = store.stage(&staging_key(), body(&["hello", "!"]), 4).await;
        assert!(matches!(too_long, Err(StageError::TooLong)));
        let broken = store.stage(&staging_key(), body(&["hel", "!"]), 10).await;
        assert!(matches!(broken, Err(StageError::Body("broke off"))));
        let gone = async {
            while !store.staged().await.expect("list").is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("nothing is left");
    }
}
