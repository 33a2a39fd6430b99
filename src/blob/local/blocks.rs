//! Blocks of memory that are used again and again, for bytes on their way in and out.
//!
//! Long files are read for readers into such blocks. What the system has in memory is read by the thread that asks; what
//! has to come from the disk, by one that may wait.
//!
//! Where many are in use at once, others are small, and a reader has one at a time: so readers that do not take what they
//! asked for cost little memory, however many they are.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::blocking;

/// Bytes of a block: as long as the processor's caches still have its begin when its end was read.
pub const BLOCK: usize = 256 * 1024;
/// Blocks that are kept for the next reader, at most.
const SPARE: usize = 16;
/// Blocks of that size in use, at most: 64 MiB.
const MOST: usize = 256;
/// Threads that write or hash for bodies that come in, at most.
const JOBS: usize = 64;
/// Bytes of the others.
const SMALL_BLOCK: usize = 16 * 1024;

/// Blocks that are in use, and those that nobody uses.
#[derive(Debug, Clone, Default)]
pub struct Blocks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: Mutex<Pool>,
    jobs: Arc<Semaphore>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { pool: Mutex::default(), jobs: Arc::new(Semaphore::new(JOBS)) }
    }
}

#[derive(Debug, Default)]
struct Pool {
    spare: Vec<Vec<u8>>,
    in_use: usize,
}

/// Until a block is dropped.
type Taken = oneshot::Receiver<()>;

impl Blocks {
    /// A range of a file, block by block.
    pub fn stream(
        &self,
        file: File,
        range: Range<u64>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let blocks = self.clone();
        stream::try_unfold((file, range, None), move |(file, range, last)| {
            let blocks = blocks.clone();
            async move {
                if range.is_empty() {
                    return Ok(None);
                }
                let (mut block, taken) = blocks.next(last).await;
                block.expect(range.end - range.start);
                let (file, block) = block.read(file, range.start).await?;
                let rest = range.start + block.length as u64..range.end;
                Ok(Some((Bytes::from_owner(block), (file, rest, Some(taken)))))
            }
        })
    }

    /// A block with nothing in it, a large one if there is one.
    pub fn empty(&self) -> Block {
        let bytes = self.spare().unwrap_or_else(|| vec![0; SMALL_BLOCK]);
        Block { bytes, length: 0, home: self.clone(), _tell: None }
    }

    /// A small block with nothing in it.
    pub fn small(&self) -> Block {
        Block { bytes: vec![0; SMALL_BLOCK], length: 0, home: self.clone(), _tell: None }
    }

    /// Waits until a thread may write or hash for a body: so many do at a time, and leave others to readers and the database.
    pub async fn job(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.0.jobs).acquire_owned().await.ok()
    }

    /// The next block of a reader: a small one only once its last was taken.
    async fn next(&self, last: Option<Taken>) -> (Block, Taken) {
        let (tell, taken) = oneshot::channel();
        let mut bytes = self.spare();
        if bytes.is_none()
            && let Some(last) = last
        {
            // It ends by being dropped.
            let _ = last.await;
            bytes = self.spare();
        }
        let bytes = bytes.unwrap_or_else(|| vec![0; SMALL_BLOCK]);
        (Block { bytes, length: 0, home: self.clone(), _tell: Some(tell) }, taken)
    }

    /// The memory of a block, unless as many as may are in use.
    fn spare(&self) -> Option<Vec<u8>> {
        let mut pool = self.pool();
        if pool.in_use >= MOST {
            return None;
        }
        pool.in_use += 1;
        let spare = pool.spare.pop();
        drop(pool);
        Some(spare.unwrap_or_else(|| vec![0; BLOCK]))
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A block in use; it goes back when nobody needs it any more.
pub struct Block {
    bytes: Vec<u8>,
    length: usize,
    home: Blocks,
    /// Dropped with it.
    _tell: Option<oneshot::Sender<()>>,
}

impl Block {
    /// Adds as many bytes as fit; answers with the others.
    pub fn push<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (fit, rest) = bytes.split_at(bytes.len().min(self.bytes.len() - self.length));
        self.bytes[self.length..self.length + fit.len()].copy_from_slice(fit);
        self.length += fit.len();
        rest
    }

    /// Whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether it is a large one.
    pub const fn is_large(&self) -> bool {
        self.bytes.len() == BLOCK
    }

    /// Becomes a large one, if there is one.
    pub fn grow(&mut self) -> bool {
        let Some(mut large) = self.home.spare() else { return false };
        large[..self.length].copy_from_slice(&self.bytes[..self.length]);
        self.bytes = large;
        true
    }

    /// Makes it one for as many of so many bytes as fit.
    fn expect(&mut self, left: u64) {
        self.length = usize::try_from(left).map_or(self.bytes.len(), |left| left.min(self.bytes.len()));
    }

    /// Fills it with what stands in a file from `at` on.
    async fn read(mut self, mut file: File, at: u64) -> io::Result<(File, Self)> {
        let have = read_at_once(&file, &mut self.bytes[..self.length], at);
        if have == self.length {
            return Ok((file, self));
        }
        blocking(move || {
            file.seek(io::SeekFrom::Start(at + have as u64))?;
            file.read_exact(&mut self.bytes[have..self.length])?;
            Ok((file, self))
        })
        .await
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.bytes.len() < BLOCK {
            return;
        }
        let mut pool = self.home.pool();
        pool.in_use -= 1;
        if pool.spare.len() < SPARE {
            pool.spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// Reads what needs no waiting for a disk; answers how many bytes that was. What hinders it will hinder the ordinary way
/// too, which tells why.
#[cfg(target_os = "linux")]
fn read_at_once(file: &File, bytes: &mut [u8], at: u64) -> usize {
    use rustix::io::{ReadWriteFlags, preadv2};

    let mut have = 0;
    while have < bytes.len() {
        let into = &mut [io::IoSliceMut::new(&mut bytes[have..])];
        match preadv2(file, into, at + have as u64, ReadWriteFlags::NOWAIT) {
            Ok(0) | Err(_) => break,
            Ok(count) => have += count,
        }
    }
    have
}

/// Elsewhere a read cannot say beforehand whether it will wait.
#[cfg(not(target_os = "linux"))]
fn read_at_once(_file: &File, _bytes: &mut [u8], _at: u64) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};

    use super::*;

    #[tokio::test]
    async fn ranges_are_read_in_blocks_that_are_used_again() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..3 * BLOCK + 5).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        std::fs::write(&path, &bytes).expect("written");
        let blocks = Blocks::default();
        for range in [0..bytes.len(), 0..0, 7..8, 1..BLOCK + 1, 5..3 * BLOCK, bytes.len() - 1..bytes.len()] {
            let file = File::open(&path).expect("opened");
            let read: Vec<Bytes> =
                blocks.stream(file, range.start as u64..range.end as u64).try_collect().await.expect("read");
            assert!(read.iter().all(|block| block.len() <= BLOCK));
            assert!(read.concat() == bytes[range.clone()], "{range:?}");
        }
        let pool = blocks.pool();
        assert!(
            (1..=4).contains(&pool.spare.len()),
            "{} blocks are kept of the four in use",
            pool.spare.len()
        );
        assert_eq!(pool.in_use, 0);
    }

    #[tokio::test]
    async fn readers_that_take_nothing_have_little_in_memory_however_many_they_are() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..BLOCK + 5).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        std::fs::write(&path, &bytes).expect("written");
        let blocks = Blocks::default();
        let (mut readers, mut held) = (Vec::new(), Vec::new());
        for _ in 0..MOST + 10 {
            let file = File::open(&path).expect("opened");
            let mut reader = Box::pin(blocks.stream(file, 0..bytes.len() as u64));
            held.push(reader.next().await.expect("a block").expect("read"));
            readers.push(reader);
        }
        assert_eq!(held.iter().filter(|block| block.len() == BLOCK).count(), MOST);
        assert_eq!(held.iter().filter(|block| block.len() == SMALL_BLOCK).count(), 10);
        let (mut last, begin) = (readers.pop().expect("a reader"), held.pop().expect("its block"));
        assert!(last.next().now_or_never().is_none(), "it has one that was not taken");
        let mut read = begin.to_vec();
        drop(begin);
        while let Some(block) = last.next().await {
            read.extend_from_slice(&block.expect("read"));
        }
        assert!(read == bytes);
        held.clear();
        let others = readers.pop().expect("a reader");
        let rest: Vec<Bytes> = others.try_collect().await.expect("read");
        assert!(rest.concat() == bytes[SMALL_BLOCK..], "with large blocks again");
        assert_eq!((rest.len(), blocks.pool().in_use), (1, 1));
        drop(rest);
        assert_eq!(blocks.pool().in_use, 0);
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        std::fs::write(&path, b"hello").expect("written");
        let mut read = pin!(Blocks::default().stream(File::open(&path).expect("opened"), 2..9));
        let error = read.next().await.expect("an answer").expect_err("too short");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
