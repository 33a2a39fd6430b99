//! Uploads in parts that are being put together: once at a time, for all who wait for it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use entity::UploadIntentId;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::task::TaskTracker;

/// What went wrong, for all who waited.
type Failure = Arc<str>;
type Running = Shared<BoxFuture<'static, Result<(), Failure>>>;

/// What is under way.
#[derive(Clone)]
pub struct Joins {
    running: Arc<Mutex<HashMap<UploadIntentId, Running>>>,
    tasks: TaskTracker,
}

impl Joins {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { running: Arc::default(), tasks }
    }

    /// Waits for the work on an upload: that which is under way, or `work`, which then goes on when nobody waits.
    ///
    /// # Errors
    /// What the work says.
    pub async fn run(
        &self,
        id: UploadIntentId,
        work: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) -> Result<(), Failure> {
        let shared = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.entry(id).or_insert_with(|| self.start(id, work)).clone()
        };
        shared.await
    }

    fn start(
        &self,
        id: UploadIntentId,
        work: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) -> Running {
        let joins = self.clone();
        // When the server stops it is let go on for as long as the server waits for its tasks.
        let task = self.tasks.spawn(async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            joins.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            outcome.unwrap_or_else(|_| Err("it panicked".into()))
        });
        let outcome = task.map(move |ended| ended.unwrap_or_else(|error| Err(error.to_string().into())));
        outcome.boxed().shared()
    }
}
