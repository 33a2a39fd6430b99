//! Receives bytes into a file of the staging area.
//!
//! A body holds a thread only while there is something to write or to hash, and a large block only while bytes come fast: so
//! slow senders cost little, however many they are.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::super::seen::Seen;
use super::super::{Incoming, StageError, Staged};
use super::blocks::{BLOCK, Block, Blocks};
use super::sync_folder;

/// Bytes read and written at once where parts are put together.
const WRITE_BLOCK: usize = 1024 * 1024;
/// Bytes after which what follows is hashed beside being written.
const WORTH_A_THREAD: u64 = 4 * 1024 * 1024;
/// Blocks of a long body that one job takes: each hand-over to another thread costs as much as hashing some kilobytes.
const BATCH: usize = 4;
/// A large block that is not full after this is written as it is.
const FAST: Duration = Duration::from_secs(1);

/// Writes a body into a file of its own, and hashes it. Dropped before its end, it leaves no file.
pub async fn receive(
    blocks: &Blocks,
    body: &mut Incoming<'_>,
    limit: u64,
    path: PathBuf,
) -> Result<Staged, StageError> {
    let mut sink = Sink { blocks, lanes: Lanes::new(path), size: 0 };
    let mut size = 0;
    let mut block = blocks.small();
    let mut since = Instant::now();
    loop {
        let next = if block.is_large() {
            let Ok(next) = timeout(FAST.saturating_sub(since.elapsed()), body.next()).await else {
                sink.write(std::mem::replace(&mut block, blocks.small())).await?;
                continue;
            };
            next
        } else {
            body.next().await
        };
        let Some(piece) = next else { break };
        let piece = piece.map_err(StageError::Body)?;
        size += piece.len() as u64;
        if size > limit {
            return Err(StageError::TooLong);
        }
        let mut rest = &piece[..];
        loop {
            if block.is_empty() {
                since = Instant::now();
            }
            rest = block.push(rest);
            if rest.is_empty() {
                break;
            }
            let is_fast = since.elapsed() < FAST;
            if is_fast && !block.is_large() && block.grow() {
                continue;
            }
            let next = if is_fast { blocks.empty() } else { blocks.small() };
            sink.write(std::mem::replace(&mut block, next)).await?;
        }
    }
    sink.finish(block).await
}

/// Where the blocks of a body go.
struct Sink<'a> {
    blocks: &'a Blocks,
    lanes: Lanes,
    size: u64,
}

/// What is written and hashed: by one job for each block at first, then by two.
enum Lanes {
    New(PathBuf),
    Together(Lane<(StagingFile, Seen)>),
    Apart(Lane<StagingFile>, Lane<Seen>, Vec<Bytes>),
}

/// Something that jobs do one after the other on threads that may block, the next one while its caller goes on.
struct Lane<T>(Option<JoinHandle<io::Result<T>>>);

impl<T: Send + 'static> Lane<T> {
    async fn start(blocks: &Blocks, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Self {
        let permit = blocks.job().await;
        Self(Some(spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        })))
    }

    async fn run(
        &mut self,
        blocks: &Blocks,
        work: impl FnOnce(&mut T) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let mut subject = self.end().await?;
        *self = Self::start(blocks, move || work(&mut subject).map(|()| subject)).await;
        Ok(())
    }

    async fn end(&mut self) -> io::Result<T> {
        let job = self.0.take().ok_or_else(|| io::Error::other("an earlier job failed"))?;
        job.await.map_err(io::Error::other)?
    }
}

impl Lanes {
    const fn new(path: PathBuf) -> Self {
        Self::New(path)
    }
}

impl Sink<'_> {
    async fn write(&mut self, block: Block) -> Result<(), StageError> {
        let bytes = Bytes::from_owner(block);
        if bytes.is_empty() {
            return Ok(());
        }
        self.size += bytes.len() as u64;
        self.hand_over(bytes).await.map_err(StageError::Store)
    }

    async fn hand_over(&mut self, bytes: Bytes) -> io::Result<()> {
        match &mut self.lanes {
            Lanes::New(path) => {
                let path = std::mem::take(path);
                let begun = Lane::start(self.blocks, move || {
                    let mut both = (StagingFile::create(path)?, Seen::default());
                    write_and_hash(&mut both, &bytes).map(|()| both)
                });
                self.lanes = Lanes::Together(begun.await);
            }
            Lanes::Together(lane) if self.size < WORTH_A_THREAD => {
                lane.run(self.blocks, move |both| write_and_hash(both, &bytes)).await?;
            }
            Lanes::Together(lane) => {
                let (mut file, mut seen) = lane.end().await?;
                let hashed = bytes.clone();
                let hashing = Lane::start(self.blocks, move || {
                    seen.add(&hashed);
                    Ok(seen)
                });
                let writing = Lane::start(self.blocks, move || file.file.write_all(&bytes).map(|()| file));
                self.lanes = Lanes::Apart(writing.await, hashing.await, Vec::new());
            }
            Lanes::Apart(writing, hashing, batch) => {
                // One that is not full tells that bytes come slowly now.
                let is_full = bytes.len() == BLOCK;
                batch.push(bytes);
                if !is_full || batch.len() == BATCH {
                    let batch = std::mem::take(batch);
                    let hashed = batch.clone();
                    let hash = move |seen: &mut Seen| {
                        for bytes in &hashed {
                            seen.add(bytes);
                        }
                        Ok(())
                    };
                    hashing.run(self.blocks, hash).await?;
                    writing.run(self.blocks, move |file| write_all(file, &batch)).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes the last block, and makes the file durable.
    async fn finish(mut self, last: Block) -> Result<Staged, StageError> {
        let bytes = Bytes::from_owner(last);
        let done = match self.lanes {
            // Most files are short: one job does it all.
            Lanes::New(path) => {
                Lane::start(self.blocks, move || {
                    let mut both = (StagingFile::create(path)?, Seen::default());
                    write_and_hash(&mut both, &bytes)?;
                    both.0.finish()?;
                    Ok(both.1.staged())
                })
                .await
                .end()
                .await
            }
            Lanes::Together(mut lane) => {
                let (file, seen) = lane.end().await.map_err(StageError::Store)?;
                let mut both = (file, seen);
                Lane::start(self.blocks, move || {
                    write_and_hash(&mut both, &bytes)?;
                    both.0.finish()?;
                    Ok(both.1.staged())
                })
                .await
                .end()
                .await
            }
            Lanes::Apart(ref mut writing, ref mut hashing, mut batch) => {
                batch.push(bytes);
                let hashed = batch.clone();
                let all = async {
                    let mut file = writing.end().await?;
                    let mut seen = hashing.end().await?;
                    let writing = Lane::start(self.blocks, move || {
                        write_all(&mut file, &batch)?;
                        file.finish()
                    });
                    let hashing = Lane::start(self.blocks, move || {
                        for bytes in &hashed {
                            seen.add(bytes);
                        }
                        Ok(seen.staged())
                    });
                    let (mut writing, mut hashing) = (writing.await, hashing.await);
                    writing.end().await?;
                    hashing.end().await
                };
                all.await
            }
        };
        done.map_err(StageError::Store)
    }
}

fn write_all(file: &mut StagingFile, blocks: &[Bytes]) -> io::Result<()> {
    blocks.iter().try_for_each(|block| file.file.write_all(block))
}

fn write_and_hash((file, seen): &mut (StagingFile, Seen), bytes: &[u8]) -> io::Result<()> {
    seen.add(bytes);
    file.file.write_all(bytes)
}

/// A staging file while it is written; gone again unless it was finished.
pub struct StagingFile {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl StagingFile {
    fn create(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { path, file, finished: false })
    }

    pub fn join(parts: &[PathBuf], path: PathBuf) -> io::Result<Staged> {
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
