//! Receives bytes into a file of the staging area.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::super::seen::Seen;
use super::super::{Incoming, StageError, Staged};
use super::blocks::Blocks;
use super::sync_folder;

/// Blocks of a body that wait to be written, and as many to be hashed.
const QUEUE: usize = 4;
/// Bytes read and written at once where parts are put together.
const WRITE_BLOCK: usize = 1024 * 1024;
/// Bytes after which a thread of its own hashes what follows.
const WORTH_A_THREAD: usize = 4 * 1024 * 1024;

/// Lets `write` have the pieces of a body on a thread that may block.
pub async fn receive(
    blocks: &Blocks,
    body: &mut Incoming<'_>,
    limit: u64,
    write: impl FnOnce(mpsc::Receiver<Piece>) -> io::Result<Staged> + Send + 'static,
) -> Result<Staged, StageError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let writing = spawn_blocking(move || write(receiver));
    let handed_over = hand_over(blocks, body, &sender, limit).await;
    // Without an end the writer removes the file.
    drop(sender);
    let written = writing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    handed_over?;
    written.map_err(StageError::Store)
}

/// Hands a body to the writer, block by block, and the end once it was all. It is copied into blocks at once: so the
/// connection reads into the same memory again and again, however much comes.
async fn hand_over(
    blocks: &Blocks,
    body: &mut Incoming<'_>,
    writer: &mpsc::Sender<Piece>,
    limit: u64,
) -> Result<(), StageError> {
    let (mut size, mut block) = (0, blocks.empty());
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(StageError::Body)?;
        size += piece.len() as u64;
        if size > limit {
            return Err(StageError::TooLong);
        }
        let mut rest = &piece[..];
        while !rest.is_empty() {
            rest = block.push(rest);
            if block.is_full() {
                let full = std::mem::replace(&mut block, blocks.empty());
                if writer.send(Piece::Bytes(Bytes::from_owner(full))).await.is_err() {
                    // It tells why it ended.
                    return Ok(());
                }
            }
        }
    }
    // Whether these are taken, the writer tells.
    let _ = writer.send(Piece::Bytes(Bytes::from_owner(block))).await;
    let _ = writer.send(Piece::End).await;
    Ok(())
}

pub enum Piece {
    Bytes(Bytes),
    End,
}

/// Hashes what is written: on the same thread at first, on one of its own once it is worth a thread.
enum Hashing {
    Here(Seen, usize),
    There(SyncSender<Bytes>, JoinHandle<Seen>),
}

impl Hashing {
    fn add(&mut self, bytes: &Bytes) {
        match self {
            Self::Here(seen, size) => {
                seen.add(bytes);
                *size += bytes.len();
                if *size >= WORTH_A_THREAD {
                    self.leave();
                }
            }
            // It ends only with its sender, or by a panic that `end` tells of.
            Self::There(pieces, _) => drop(pieces.send(bytes.clone())),
        }
    }

    /// Goes on in a thread of its own.
    fn leave(&mut self) {
        let Self::Here(seen, _) = self else { return };
        let mut seen = std::mem::take(seen);
        let (sender, pieces) = sync_channel::<Bytes>(QUEUE);
        let hashing = spawn_blocking(move || {
            for piece in pieces {
                seen.add(&piece);
            }
            seen
        });
        *self = Self::There(sender, hashing);
    }

    fn end(self) -> io::Result<Seen> {
        match self {
            Self::Here(seen, _) => Ok(seen),
            Self::There(pieces, hashing) => {
                drop(pieces);
                Handle::current().block_on(hashing).map_err(io::Error::other)
            }
        }
    }
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

    pub fn write(path: PathBuf, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Staged> {
        let mut staging = Self::create(path)?;
        let mut hashing = Hashing::Here(Seen::default(), 0);
        loop {
            match pieces.blocking_recv() {
                None => return Err(io::Error::other("the sender broke off")),
                Some(Piece::End) => break,
                Some(Piece::Bytes(bytes)) => {
                    hashing.add(&bytes);
                    staging.file.write_all(&bytes)?;
                }
            }
        }
        staging.finish()?;
        Ok(hashing.end()?.staged())
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
