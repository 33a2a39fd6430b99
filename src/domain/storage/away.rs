//! Backends that do not answer, as work on many of their files finds out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::error::{Error, Result};

/// Failures one after the other after which no more is asked of a backend.
const FAILURES: u32 = 5;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which backends failed how often since they answered, in one round of work: each failure may take its time, and who
/// waits for others must not wait for all of these.
#[derive(Default)]
pub struct Away(Mutex<BTreeMap<String, u32>>);

impl Away {
    /// Does something with a backend, for as long as anybody may wait for it; none, without trying, once it failed too
    /// often.
    pub async fn unless<T>(&self, backend: &str, work: impl Future<Output = Result<T>>) -> Option<Result<T>> {
        if self.failures(backend, |failures| *failures) >= FAILURES {
            return None;
        }
        let done = tokio::time::timeout(PATIENCE, work).await;
        let done = done.unwrap_or_else(|_| Err(Error::storage("it does not answer in time")));
        self.failures(backend, |failures| *failures = if done.is_ok() { 0 } else { *failures + 1 });
        Some(done)
    }

    fn failures<T>(&self, backend: &str, look: impl FnOnce(&mut u32) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        look(all.entry(backend.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_backend_that_fails_is_left_alone_and_others_are_not() {
        let away = Away::default();
        let fail = async || Err::<(), _>(Error::storage("away"));
        for _ in 1..FAILURES {
            assert!(away.unless("a", fail()).await.is_some_and(|done| done.is_err()));
        }
        assert!(away.unless("a", async { Ok(()) }).await.is_some_and(|done| done.is_ok()), "it is back");
        for _ in 0..FAILURES {
            assert!(away.unless("a", fail()).await.is_some());
        }
        assert!(away.unless("a", async { Ok(()) }).await.is_none());
        assert!(away.unless("b", async { Ok(()) }).await.is_some());
    }
}
