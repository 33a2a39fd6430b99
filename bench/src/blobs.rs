//! The few files whose bytes all seeded versions share.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::plan::Plan;
use crate::random::Random;

/// How many there are.
const COUNT: u32 = 8;
/// What a JPEG begins with.
const MAGIC: [u8; 4] = [0xff, 0xd8, 0xff, 0xe0];

/// The bytes of one file.
#[derive(Debug, Clone)]
pub struct Blob {
    /// All of them.
    pub bytes: Vec<u8>,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

impl Blob {
    /// Count of bytes, as rows have it.
    #[must_use]
    pub fn size(&self) -> i64 {
        i64::try_from(self.bytes.len()).unwrap_or(i64::MAX)
    }
}

/// All of them.
#[must_use]
pub fn blobs() -> Vec<Blob> {
    (1..=COUNT).map(blob).collect()
}

/// Puts the bytes where the server looks for them in its data folder: `blobs/`, a folder by the id's last byte,
/// the id.
///
/// # Errors
/// What the disk says.
pub fn write(plan: &Plan, data_dir: &Path) -> anyhow::Result<()> {
    for (index, blob) in plan.blobs.iter().enumerate() {
        let id = plan.blob_id(index);
        let folder = data_dir.join("blobs").join(format!("{:02x}", id.0.as_bytes()[15]));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(id.to_string());
        fs::write(&path, &blob.bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn blob(number: u32) -> Blob {
    let mut bytes = vec![0; 1000 * number as usize];
    Random::new(number.into()).fill(&mut bytes);
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Blob { bytes, sha256 }
}
