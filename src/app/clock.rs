//! The time, and ids that sort by it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use entity::Timestamp;
use uuid::timestamp::context::ContextV7;
use uuid::{Timestamp as UuidTimestamp, Uuid};

/// Tells the time. Cheap to clone; all clones tell the same.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    /// Milliseconds that this clock is ahead of the system's.
    ahead_ms: AtomicI64,
    ids: Mutex<ContextV7>,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Inner { ahead_ms: AtomicI64::new(0), ids: Mutex::new(ContextV7::new()) }))
    }

    /// Now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    pub fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let system = since.as_secs().cast_signed() * 1000 + i64::from(since.subsec_millis());
        Timestamp(system + self.0.ahead_ms.load(Ordering::Relaxed))
    }

    /// Goes forward by `ms` milliseconds, so that what waits for an hour can be tested in less.
    pub fn advance(&self, ms: i64) {
        self.0.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// An id that tells nothing and cannot be guessed, such as names bytes that not everybody may read.
    #[must_use]
    pub fn secret_id(&self) -> Uuid {
        Uuid::new_v4()
    }

    /// A new UUIDv7: greater than all that this clock made before.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        let now = self.now().0.unsigned_abs();
        let nanos = u32::try_from(now % 1000).unwrap_or(0) * 1_000_000;
        let context = self.0.ids.lock().unwrap_or_else(PoisonError::into_inner);
        Uuid::new_v7(UuidTimestamp::from_unix(&*context, now / 1000, nanos))
    }
}
