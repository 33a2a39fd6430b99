//! Bytes: where they lie, how they get there, how they are read. Knows nothing of assets.

mod key;
mod local;

pub use key::{BlobKey, StagingKey};
pub use local::{Blob, LocalStore, StageError, Staged, sha256};
