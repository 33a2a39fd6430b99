//! Short files in memory, as far as they fit.

use bytes::Bytes;
use moka::sync::Cache;

use super::BlobKey;

/// Files up to this size are read at once and compared with their hash, in bytes.
pub const SMALL: u64 = 256 * 1024;
/// What an entry takes besides its bytes, roughly.
const ENTRY: usize = 256;

/// Bytes of short files that were compared with their hashes. What is behind a key never changes, and a key is never
/// used again; who may read it is decided before anybody looks here.
#[derive(Clone)]
pub struct Small(Cache<BlobKey, Bytes>);

impl Small {
    /// Room for so many bytes.
    pub fn new(capacity: u64) -> Self {
        let weight = |_: &BlobKey, bytes: &Bytes| u32::try_from(bytes.len() + ENTRY).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(capacity).weigher(weight).build())
    }

    /// The bytes, if they are here.
    pub fn get(&self, key: &BlobKey) -> Option<Bytes> {
        self.0.get(key)
    }

    /// Keeps bytes.
    pub fn keep(&self, key: BlobKey, bytes: Bytes) {
        self.0.insert(key, bytes);
    }
}
