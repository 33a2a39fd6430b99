//! Bytes in a local folder: `staging/` for what is being sent, `blobs/` for what is kept.
//!
//! A file appears under its final name whole or not at all: it is written elsewhere, synced, renamed, and
//! its folder is synced. Files are never written in place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::seen::Seen;
use super::{BlobKey, BlobStore, Incoming, Label, Outgoing, Probed, StageError, Staged, StagingKey, Verdict};

/// Pieces of a body that wait to be written.
const QUEUE: usize = 8;
/// Bytes gathered before they are written.
const WRITE_BLOCK: usize = 1024 * 1024;
/// Bytes read at once while a file is sent.
const READ_BLOCK: u64 = 512 * 1024;

/// How names begin of files that are brought over from another backend, and how long one may take.
const IMPORT: &str = "import.";
const IMPORT_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// A folder of bytes.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
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
        store.forget_imports().with_context(|| format!("cannot tidy up {}", folder.display()))?;
        Ok(store)
    }

    /// Removes what was being brought over when a process died.
    fn forget_imports(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.staging_folder())? {
            let entry = entry?;
            let is_import = entry.file_name().to_str().is_some_and(|name| name.starts_with(IMPORT));
            if is_import && entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > IMPORT_PATIENCE) {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    fn check_writable(&self) -> io::Result<()> {
        let probe = self.staging_folder().join(".probe");
        fs::write(&probe, b"vellum")?;
        // Another look at the same moment may have removed it.
        remove_if_there(&probe)
    }

    /// Opens bytes of which there have to be `size`.
    fn file(&self, key: &BlobKey, size: u64) -> io::Result<File> {
        let file = File::open(self.blob_path(key))?;
        let is = file.metadata()?.len();
        if is == size {
            return Ok(file);
        }
        Err(io::Error::other(format!("{key} has {is} bytes and not {size}")))
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

#[async_trait]
impl BlobStore for LocalStore {
    async fn check(&self) -> io::Result<()> {
        let store = self.clone();
        blocking(move || store.check_writable()).await
    }

    async fn stage(
        &self,
        key: &StagingKey,
        mut body: Incoming<'_>,
        limit: u64,
    ) -> Result<Staged, StageError> {
        let path = self.staging_path(key);
        receive(&mut body, limit, move |pieces| StagingFile::write(path, pieces)).await
    }

    async fn secure(&self, staging: &StagingKey, key: &BlobKey, _label: &Label) -> io::Result<()> {
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

    async fn renew(
        &self,
        staging: &StagingKey,
        second: &StagingKey,
        key: &BlobKey,
        _label: &Label,
    ) -> io::Result<()> {
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

    async fn join(&self, parts: &[StagingKey], whole: &StagingKey) -> io::Result<Staged> {
        let parts: Vec<PathBuf> = parts.iter().map(|part| self.staging_path(part)).collect();
        let path = self.staging_path(whole);
        blocking(move || StagingFile::join(&parts, path)).await
    }

    async fn read(&self, key: &BlobKey, size: u64, range: Range<u64>) -> io::Result<Bytes> {
        let (store, key) = (self.clone(), *key);
        blocking(move || {
            let mut file = store.file(&key, size)?;
            file.seek(io::SeekFrom::Start(range.start))?;
            read_block(&mut file, range.end - range.start)
        })
        .await
    }

    async fn stream(&self, key: &BlobKey, size: u64, range: Range<u64>) -> io::Result<Outgoing> {
        let (store, key) = (self.clone(), *key);
        let file = blocking(move || {
            let mut file = store.file(&key, size)?;
            file.seek(io::SeekFrom::Start(range.start))?;
            Ok(file)
        });
        let blocks =
            stream::try_unfold((file.await?, range.end - range.start), |(mut file, left)| async move {
                if left == 0 {
                    return Ok(None);
                }
                blocking(move || {
                    let block = read_block(&mut file, left.min(READ_BLOCK))?;
                    let left = left - block.len() as u64;
                    Ok(Some((block, (file, left))))
                })
                .await
            });
        Ok(blocks.boxed())
    }

    async fn import(
        &self,
        key: &BlobKey,
        mut body: Incoming<'_>,
        _size: u64,
        _label: &Label,
    ) -> Result<Staged, StageError> {
        // Each try has its own name. It is no staging key, which the sweeper would take for an upload that nobody knows.
        let path = self.staging_folder().join(format!("{IMPORT}{key}.{}", Uuid::new_v4().simple()));
        let (folder, to, from) = (self.shard_folder(key), self.blob_path(key), path.clone());
        let staged = receive(&mut body, u64::MAX, move |pieces| StagingFile::write(path, pieces)).await?;
        let placed = blocking(move || {
            fs::create_dir_all(&folder)?;
            fs::rename(from, to)?;
            sync_folder(&folder)?;
            sync_folder(folder.parent().unwrap_or(&folder))
        });
        placed.await.map_err(StageError::Store)?;
        Ok(staged)
    }

    async fn kept(&self, shard: u8) -> io::Result<Vec<(BlobKey, u64)>> {
        let folder = self.root.join("blobs").join(BlobKey::shard_name(shard));
        blocking(move || {
            let entries = match fs::read_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut kept = Vec::new();
            for entry in entries {
                let entry = entry?;
                if let Some(key) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                    kept.push((key, entry.metadata()?.len()));
                }
            }
            Ok(kept)
        })
        .await
    }

    async fn remove(&self, key: &BlobKey) -> io::Result<()> {
        let path = self.blob_path(key);
        blocking(move || remove_if_there(&path)).await
    }

    async fn probe(&self, _origin: &str, _id: Uuid) -> Vec<Probed> {
        let verdict = match self.check().await {
            Ok(()) => Verdict::Good,
            Err(error) => Verdict::Bad {
                problem: error.to_string(),
                remedy: format!(
                    "let the server write to {}, and see that there is room",
                    self.root.display()
                ),
            },
        };
        vec![Probed { what: "files can be written and removed", verdict }]
    }

    async fn remove_staged(&self, key: &StagingKey) -> io::Result<()> {
        let path = self.staging_path(key);
        blocking(move || remove_if_there(&path)).await
    }

    async fn staged(&self) -> io::Result<Vec<StagingKey>> {
        let folder = self.staging_folder();
        blocking(move || {
            let names = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name()));
            let names = names.collect::<io::Result<Vec<_>>>()?;
            Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
        })
        .await
    }
}

/// Lets `write` have the pieces of a body on a thread that may block.
async fn receive(
    body: &mut Incoming<'_>,
    limit: u64,
    write: impl FnOnce(mpsc::Receiver<Piece>) -> io::Result<Staged> + Send + 'static,
) -> Result<Staged, StageError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let writing = tokio::task::spawn_blocking(move || write(receiver));
    let handed_over = hand_over(body, &sender, limit).await;
    // Without an end the writer removes the file.
    drop(sender);
    let written = writing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    handed_over?;
    written.map_err(StageError::Store)
}

/// Hands the pieces of a body to the writer, and the end once they were all.
async fn hand_over(
    body: &mut Incoming<'_>,
    writer: &mpsc::Sender<Piece>,
    limit: u64,
) -> Result<(), StageError> {
    let mut size = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(StageError::Body)?;
        size += piece.len() as u64;
        if size > limit {
            return Err(StageError::TooLong);
        }
        if writer.send(Piece::Bytes(piece)).await.is_err() {
            // It tells why it ended.
            return Ok(());
        }
    }
    let _ = writer.send(Piece::End).await;
    Ok(())
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

impl Drop for StagingFile {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove an unfinished upload; the sweeper will");
        }
    }
}

/// The next so many bytes.
fn read_block(file: &mut File, length: u64) -> io::Result<Bytes> {
    let mut block = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
    file.take(length).read_to_end(&mut block)?;
    if block.len() as u64 == length {
        return Ok(block.into());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
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
    use std::pin::pin;

    use entity::{BlobId, UploadIntentId};
    use futures_util::{Stream, TryStreamExt as _};

    use super::*;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().expect("folder");
        let store = LocalStore::open(folder.path()).expect("store");
        (folder, store)
    }

    fn staging_key() -> StagingKey {
        StagingKey { intent: UploadIntentId(Uuid::from_u128(1)), attempt: Uuid::from_u128(2) }
    }

    fn body(pieces: &[&'static str]) -> impl Stream<Item = Result<Bytes, String>> + Unpin + Send {
        let pieces = pieces.iter().map(|piece| match *piece {
            "!" => Err("broke off".to_owned()),
            piece => Ok(Bytes::from_static(piece.as_bytes())),
        });
        stream::iter(pieces.collect::<Vec<_>>())
    }

    async fn stage(store: &LocalStore, pieces: &[&'static str], limit: u64) -> Result<Staged, StageError> {
        store.stage(&staging_key(), pin!(body(pieces)), limit).await
    }

    #[tokio::test]
    async fn staged_bytes_are_hashed_secured_and_read_back() {
        let (_folder, store) = store();
        let (staging, key) = (staging_key(), BlobKey::new(BlobId(Uuid::from_u128(3))));
        let staged = stage(&store, &["he", "llo"], 5).await.expect("staged");
        assert_eq!(staged.size, 5);
        assert_eq!(staged.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(store.staged().await.expect("list"), [staging]);
        let label = Label { content_type: "text/plain".to_owned(), filename: "a".to_owned() };
        store.secure(&staging, &key, &label).await.expect("secured");
        store.secure(&staging, &key, &label).await.expect("secured again");
        assert!(store.staged().await.expect("list").is_empty());
        assert_eq!(store.read(&key, 5, 1..4).await.expect("read"), "ell");
        let blocks = store.stream(&key, 5, 2..5).await.expect("stream");
        let blocks: Vec<Bytes> = blocks.try_collect().await.expect("blocks");
        assert_eq!(blocks.concat(), b"llo");
        assert!(store.read(&key, 6, 1..4).await.is_err(), "another size");
        store.remove(&key).await.expect("removed");
        store.remove(&key).await.expect("removed again");
        let gone = store.read(&key, 5, 0..1).await.expect_err("gone");
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn what_is_too_long_or_breaks_off_leaves_nothing() {
        let (_folder, store) = store();
        let too_long = stage(&store, &["hello", "!"], 4).await;
        assert!(matches!(too_long, Err(StageError::TooLong)));
        let broken = stage(&store, &["hel", "!"], 10).await;
        assert!(matches!(broken, Err(StageError::Body(why)) if why == "broke off"));
        assert!(store.staged().await.expect("list").is_empty(), "nothing is left");
    }
}
