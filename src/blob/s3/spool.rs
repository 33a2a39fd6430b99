//! Parts of bodies on their way into a bucket. A part has to be whole before it is sent, and slow senders take long to fill
//! one: meanwhile it lies in a file, and only a few are in memory at a time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use uuid::Uuid;

/// How names of such files begin, in the moment in which they have one.
pub const SPOOL: &str = "spool.";
/// Bytes of a part that wait in memory.
const IN_MEMORY: usize = 64 * 1024;
/// Long parts that are in memory at a time, while they are sent.
const AT_ONCE: usize = 8;

/// Where parts wait. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
    sending: Arc<Semaphore>,
}

/// A part that comes in.
#[derive(Debug)]
pub struct Part {
    spool: Spool,
    memory: BytesMut,
    file: Option<File>,
    length: usize,
}

/// The bytes of a part, and the place that they take in memory.
pub type Ready = (Bytes, Option<OwnedSemaphorePermit>);

impl Spool {
    /// Lets parts wait in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), sending: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// A part without bytes.
    pub fn part(&self) -> Part {
        Part { spool: self.clone(), memory: BytesMut::new(), file: None, length: 0 }
    }

    /// A file that goes with its last user.
    fn file(&self) -> io::Result<File> {
        let path = self.folder.join(format!("{SPOOL}{}", Uuid::new_v4().simple()));
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        // Elsewhere than on Unix this fails, and the next start removes it.
        let _ = std::fs::remove_file(&path);
        Ok(file)
    }
}

impl Part {
    /// Count of bytes.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Adds bytes.
    pub async fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.memory.extend_from_slice(bytes);
        self.length += bytes.len();
        if self.memory.len() < IN_MEMORY {
            return Ok(());
        }
        let (memory, file, spool) = (std::mem::take(&mut self.memory), self.file.take(), self.spool.clone());
        let written = spawn_blocking(move || {
            let mut file = file.map_or_else(|| spool.file(), Ok)?;
            file.write_all(&memory)?;
            io::Result::Ok(file)
        });
        self.file = Some(written.await.map_err(io::Error::other)??);
        Ok(())
    }

    /// All of its bytes, once they may be in memory.
    pub async fn ready(self) -> io::Result<Ready> {
        let Some(mut file) = self.file else { return Ok((self.memory.freeze(), None)) };
        // It is never closed.
        let permit = Arc::clone(&self.spool.sending).acquire_owned().await.ok();
        let (length, last) = (self.length, self.memory);
        let read = spawn_blocking(move || {
            let mut all = Vec::with_capacity(length);
            file.rewind()?;
            file.read_to_end(&mut all)?;
            all.extend_from_slice(&last);
            io::Result::Ok(all)
        });
        Ok((read.await.map_err(io::Error::other)??.into(), permit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_is_what_was_pushed_and_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = Spool::new(folder.path());
        for length in [0, 1, IN_MEMORY - 1, IN_MEMORY, 3 * IN_MEMORY + 7] {
            let bytes: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
            let mut part = spool.part();
            for piece in bytes.chunks(1000) {
                part.push(piece).await.expect("it is kept");
            }
            assert_eq!(part.len(), length);
            let (ready, permit) = part.ready().await.expect("it is read");
            assert!(ready == bytes && permit.is_some() == (length >= IN_MEMORY), "{length}");
            assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        }
    }
}
