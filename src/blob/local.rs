//! Bytes in a local folder: `staging/` for what is being sent, `blobs/` for what is kept.
//!
//! A file appears under its final name whole or not at all: it is written elsewhere, synced, renamed, and
//! its folder is synced. Files are never written in place.

mod blocks;
mod staging;

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use uuid::Uuid;

use blocks::Blocks;
use staging::{StagingFile, receive};

use super::s3::SPOOL;
use super::{
    BlobKey, BlobStore, Incoming, Label, MARK, Outgoing, Probed, StageError, Staged, StagingKey, Verdict,
    private,
};

/// How names begin of files that are brought over from another backend, and how long one may take.
const IMPORT: &str = "import.";
/// How names begin of files that tell whether there can be others.
const PROBE: &str = "probe.";
const IMPORT_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Opens a file to read. A link is none: what is kept is a file of ours, and nothing that somebody else points at.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(target_os = "linux")]
    {
        let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, no_links);
    }
    options.open(path)
}

/// A folder of bytes.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
    blocks: Blocks,
}

impl LocalStore {
    /// The name that rows know this backend by.
    pub const NAME: &str = "local";

    /// Opens `folder`, making what is missing in it.
    ///
    /// # Errors
    /// When the folder cannot be made or written to.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let store = Self { root: folder.to_owned(), blocks: Blocks::default() };
        for part in [store.staging_folder(), store.root.join("blobs")] {
            private::make_folder(&part).with_context(|| format!("cannot make {}", part.display()))?;
            private::close(&part)?;
        }
        sync_folder(folder).with_context(|| format!("cannot sync {}", folder.display()))?;
        match store.check_writable() {
            // There is more to do than to write.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                tracing::error!(folder = %folder.display(), "the disk is full: nothing new can be stored");
            }
            checked => checked.with_context(|| format!("cannot write to {}", folder.display()))?,
        }
        store.forget_imports().with_context(|| format!("cannot tidy up {}", folder.display()))?;
        Ok(store)
    }

    /// Removes what was being brought over, or tried, when a process died.
    fn forget_imports(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.staging_folder())? {
            let entry = entry?;
            let is_left = |name: &str| [IMPORT, PROBE, SPOOL].iter().any(|begin| name.starts_with(begin));
            let is_left = entry.file_name().to_str().is_some_and(is_left);
            if is_left && entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > IMPORT_PATIENCE) {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    fn check_writable(&self) -> io::Result<()> {
        // A name of its own, and made here: a link that somebody put there is not followed.
        let probe = self.staging_folder().join(format!("{PROBE}{}", Uuid::new_v4().simple()));
        let written = File::create_new(&probe).and_then(|mut file| file.write_all(b"vellum"));
        let removed = remove_if_there(&probe);
        written.and(removed)
    }

    /// Opens bytes of which there have to be `size`.
    fn file(&self, key: &BlobKey, size: u64) -> io::Result<File> {
        let file = open_file(&self.blob_path(key))?;
        let is = file.metadata()?.len();
        if is == size {
            return Ok(file);
        }
        Err(io::Error::other(format!("{key} has {is} bytes and not {size}")))
    }

    /// Where bytes wait in a folder of this kind.
    #[must_use]
    pub fn staging(root: &Path) -> PathBuf {
        root.join("staging")
    }

    fn staging_folder(&self) -> PathBuf {
        Self::staging(&self.root)
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

    async fn mark(&self) -> io::Result<Option<String>> {
        let path = self.root.join(MARK);
        blocking(move || match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            mark => mark.map(|mark| Some(mark.trim().to_owned())),
        })
        .await
    }

    async fn leave_mark(&self, mark: &str) -> io::Result<()> {
        let (root, mark) = (self.root.clone(), mark.to_owned());
        blocking(move || {
            // Whole or not at all.
            let fresh = root.join(format!("{MARK}.{}", Uuid::new_v4().simple()));
            let mut file = File::create_new(&fresh)?;
            file.write_all(mark.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, root.join(MARK))?;
            sync_folder(&root)
        })
        .await
    }

    async fn is_empty(&self) -> io::Result<bool> {
        let (staging, blobs) = (self.staging_folder(), self.root.join("blobs"));
        blocking(move || {
            let is_key = |entry: io::Result<fs::DirEntry>| {
                entry.map(|entry| {
                    entry.file_name().to_str().is_some_and(|name| name.parse::<StagingKey>().is_ok())
                })
            };
            for entry in fs::read_dir(staging)? {
                if is_key(entry)? {
                    return Ok(false);
                }
            }
            for shard in fs::read_dir(blobs)? {
                if fs::read_dir(shard?.path())?.next().is_some() {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }

    async fn stage(
        &self,
        key: &StagingKey,
        mut body: Incoming<'_>,
        limit: u64,
    ) -> Result<Staged, StageError> {
        let path = self.staging_path(key);
        receive(&self.blocks, &mut body, limit, path).await
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
            let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
            file.read_exact(&mut bytes)?;
            Ok(bytes.into())
        })
        .await
    }

    async fn stream(&self, key: &BlobKey, size: u64, range: Range<u64>) -> io::Result<Outgoing> {
        let (store, key) = (self.clone(), *key);
        let file = blocking(move || store.file(&key, size)).await?;
        Ok(self.blocks.stream(file, range).boxed())
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
        let staged = receive(&self.blocks, &mut body, u64::MAX, path).await?;
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
    use futures_util::{Stream, TryStreamExt as _, stream};

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
