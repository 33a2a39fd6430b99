//! Blocks of memory that are used again and again, for bytes on their way in and out.
//!
//! Long files are read for readers into such blocks. What the system has in memory is read by the thread that asks; what
//! has to come from the disk, by one that may wait.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};

use super::blocking;

/// Bytes of a block: as long as the processor's caches still have its begin when its end was read.
const BLOCK: usize = 256 * 1024;
/// Blocks that are kept for the next reader, at most.
const SPARE: usize = 16;

/// Blocks that nobody uses.
#[derive(Debug, Clone, Default)]
pub struct Blocks(Arc<Mutex<Vec<Vec<u8>>>>);

impl Blocks {
    /// A range of a file, block by block.
    pub fn stream(
        &self,
        file: File,
        range: Range<u64>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let blocks = self.clone();
        stream::try_unfold((file, range), move |(file, range)| {
            let blocks = blocks.clone();
            async move {
                if range.is_empty() {
                    return Ok(None);
                }
                let (file, block) = blocks.take(range.end - range.start).read(file, range.start).await?;
                let rest = range.start + block.length as u64..range.end;
                Ok(Some((Bytes::from_owner(block), (file, rest))))
            }
        })
    }

    /// A block with nothing in it.
    pub fn empty(&self) -> Block {
        self.take(0)
    }

    /// A block for as many of so many bytes as fit into one.
    fn take(&self, left: u64) -> Block {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let length = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        Block { bytes: spare.unwrap_or_else(|| vec![0; BLOCK]), length, home: self.clone() }
    }
}

/// A block in use; it goes back when nobody needs it any more.
pub struct Block {
    bytes: Vec<u8>,
    length: usize,
    home: Blocks,
}

impl Block {
    /// Adds as many bytes as fit; answers with the others.
    pub fn push<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (fit, rest) = bytes.split_at(bytes.len().min(BLOCK - self.length));
        self.bytes[self.length..self.length + fit.len()].copy_from_slice(fit);
        self.length += fit.len();
        rest
    }

    /// Whether no more fit.
    pub const fn is_full(&self) -> bool {
        self.length == BLOCK
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
        let mut spare = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.bytes));
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

    use futures_util::{StreamExt as _, TryStreamExt as _};

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
        let spare = blocks.0.lock().expect("a lock").len();
        assert!((1..=4).contains(&spare), "{spare} blocks are kept of the four in use");
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
