//! Short reads on SQLite, on the thread that asks: a probe of an index takes less time than asking another thread
//! for it. For what reads more than a page the pool of `database.rs` is the place.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// Connections, at most; more than that many threads do not read at the same time.
const CONNECTIONS: usize = 4;
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 64;
/// What each keeps of the file in memory, in KiB: of a large library the upper pages of its indexes, so that a probe
/// reads one page or two.
const CACHE_KIB: i64 = 16 * 1024;

/// Connections for short reads.
pub struct Quick {
    connections: Vec<Mutex<Connection>>,
    next: AtomicUsize,
    statements: Arc<AtomicU64>,
}

impl Quick {
    /// Opens a database file that is there already. Statements are counted into `statements`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, statements: Arc<AtomicU64>) -> rusqlite::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let connections = (0..threads.min(CONNECTIONS)).map(|_| connect(path).map(Mutex::new));
        Ok(Self {
            connections: connections.collect::<Result<_, _>>()?,
            next: AtomicUsize::new(0),
            statements,
        })
    }

    /// Runs `work`, one short statement, on one of the connections.
    ///
    /// # Errors
    /// What the database says.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.statements.fetch_add(1, Ordering::Relaxed);
        work(&self.free())
    }

    fn free(&self) -> MutexGuard<'_, Connection> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.connections.len();
        for offset in 0..count {
            match self.connections[(start + offset) % count].try_lock() {
                Ok(connection) => return connection,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.connections[start % count].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Not read-only: a reader of a write-ahead log has to be able to recover it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}
