//! Room on the disk that is kept for the day when there is none: the server starts and serves readers on a full disk, and what
//! was deleted can be purged, which makes room again. While the reserve is in use, no uploads are taken.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the names of its files begin in the data folder. They are released one by one: others may take what became free.
const NAME: &str = "reserve-";
const FILES: u64 = 4;
/// How large a file is: a part of the disk, within bounds, in bytes.
const PART: u64 = 256;
const LEAST: u64 = 512 * 1024;
const MOST: u64 = 4 * 1024 * 1024;
/// With this much of the disk left, as often as a file of the reserve, it is made again.
const ROOM: u64 = 4 * FILES;

/// The reserve of a data folder.
pub struct Reserve {
    folder: PathBuf,
    is_released: AtomicBool,
    /// Held by who changes the files.
    changing: Mutex<()>,
}

/// What a disk has, in bytes.
struct Space {
    free: u64,
    all: u64,
}

impl Space {
    fn file(&self) -> u64 {
        (self.all / PART).clamp(LEAST, MOST)
    }
}

impl Reserve {
    /// The reserve in `folder`, made or released as there is room.
    pub fn open(folder: &Path) -> Self {
        let reserve =
            Self { folder: folder.to_owned(), is_released: AtomicBool::new(false), changing: Mutex::new(()) };
        reserve.restore();
        reserve.release();
        reserve.remember();
        reserve
    }

    /// Whether the disk is full, and a part of the reserve in use.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.is_released.load(Ordering::Relaxed)
    }

    /// Makes room, if there is none: to be called before something is written that must not fail.
    pub fn release(&self) {
        self.change(|space| {
            if space.free >= space.file() / 2 {
                return Ok(());
            }
            if !self.is_released.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    disk = %self.folder.display(),
                    "the disk is full: no uploads are taken until something is purged, or room is made"
                );
            }
            match self.files().find(|file| file.exists()) {
                Some(file) => fs::remove_file(file),
                None => Ok(()),
            }
        });
    }

    /// Makes the reserve again, if there is room; to be called now and then.
    pub fn restore(&self) {
        self.change(|space| {
            if space.free < ROOM * space.file() {
                return Ok(());
            }
            for file in self.files().filter(|file| !file.exists()) {
                allocate(&file, space.file())?;
            }
            if self.is_released.swap(false, Ordering::Relaxed) {
                tracing::info!(disk = %self.folder.display(), "the disk has room again: uploads are taken");
            }
            Ok(())
        });
    }

    /// What was released before a restart is not forgotten.
    fn remember(&self) {
        self.change(|space| {
            if space.free < FILES * space.file() && self.files().any(|file| !file.exists()) {
                self.is_released.store(true, Ordering::Relaxed);
            }
            Ok(())
        });
    }

    fn change(&self, work: impl FnOnce(Space) -> io::Result<()>) {
        let Ok(_changing) = self.changing.try_lock() else { return };
        let done = space(&self.folder).and_then(|space| space.map_or(Ok(()), work));
        if let Err(error) = done {
            tracing::debug!(%error, "cannot look after the reserve of the disk");
        }
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        (1..=FILES).map(|number| self.folder.join(format!("{NAME}{number}")))
    }
}

/// Makes a file that takes room on the disk.
#[cfg(target_os = "linux")]
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};

    let mut options = File::options();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let allocated = fallocate(&file, FallocateFlags::empty(), 0, bytes);
    allocated.map_err(|error| {
        let _ = fs::remove_file(path);
        error.into()
    })
}

#[cfg(target_os = "linux")]
fn space(folder: &Path) -> io::Result<Option<Space>> {
    let stat = rustix::fs::statvfs(folder)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Some(Space { free: bytes(stat.f_bavail), all: bytes(stat.f_blocks) }))
}

#[cfg(not(target_os = "linux"))]
fn allocate(path: &Path, _bytes: u64) -> io::Result<()> {
    File::create_new(path).map(drop)
}

/// Elsewhere the system is not asked.
#[cfg(not(target_os = "linux"))]
fn space(_folder: &Path) -> io::Result<Option<Space>> {
    Ok(None)
}
