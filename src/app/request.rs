//! The id of the request that a task answers, for what is logged of it.

use std::fmt;

tokio::task_local! {
    static ID: Id;
}

/// A request's id. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Id(bytes::Bytes);

impl Id {
    /// An id of visible ASCII.
    #[must_use]
    pub const fn new(text: bytes::Bytes) -> Self {
        Self(text)
    }

    /// Runs what answers the request.
    pub async fn scope<F: Future>(self, answering: F) -> F::Output {
        ID.scope(self, answering).await
    }

    /// The one that the task answers; empty where it answers none.
    #[must_use]
    pub fn current() -> Self {
        ID.try_with(Clone::clone).unwrap_or(Self(bytes::Bytes::new()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.0).unwrap_or_default())
    }
}
