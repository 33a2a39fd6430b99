//! Keys: the one place that decides where bytes lie. Short ASCII chosen by the server, never a user's path.

use std::fmt;
use std::str::FromStr;

use entity::{BlobId, UploadIntentId};
use uuid::Uuid;

/// Where bytes lie for good: decided by the blob that they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobKey(BlobId);

impl BlobKey {
    /// The key of a blob.
    #[must_use]
    pub const fn new(id: BlobId) -> Self {
        Self(id)
    }

    /// The blob.
    #[must_use]
    pub const fn id(&self) -> BlobId {
        self.0
    }

    /// Folder that it lies in: one of 256, by the random end of the id.
    #[must_use]
    pub fn shard(&self) -> String {
        Self::shard_name(self.0.0.as_bytes()[15])
    }

    /// Name of one of the 256 folders.
    #[must_use]
    pub fn shard_name(shard: u8) -> String {
        format!("{shard:02x}")
    }
}

impl FromStr for BlobKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        text.parse().map(Self).map_err(|_| NotAKey)
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the bytes of one attempt at an upload wait until they are finished. Each attempt has its own, so
/// that two requests for one intent never write the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StagingKey {
    /// The intent that the bytes are for.
    pub intent: UploadIntentId,
    /// Which attempt.
    pub attempt: Uuid,
}

impl StagingKey {
    /// When its intent was made, in milliseconds of Unix time, if its id tells.
    #[must_use]
    pub fn since_ms(&self) -> Option<i64> {
        let (seconds, nanos) = self.intent.0.get_timestamp()?.to_unix();
        i64::try_from(seconds * 1000 + u64::from(nanos / 1_000_000)).ok()
    }
}

impl fmt::Display for StagingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.intent, self.attempt.simple())
    }
}

impl FromStr for StagingKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let (intent, attempt) = text.split_once('.').ok_or(NotAKey)?;
        let intent = intent.parse().map_err(|_| NotAKey)?;
        let attempt = Uuid::try_parse(attempt).map_err(|_| NotAKey)?;
        Ok(Self { intent, attempt })
    }
}

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key")]
pub struct NotAKey;
