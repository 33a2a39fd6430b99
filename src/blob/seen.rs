//! What is known of bytes once they passed by.

use sha2::{Digest as _, Sha256};

/// Bytes kept from the start of a file, to tell its type by.
pub(super) const HEAD: usize = 8192;

/// What arrived in a staging area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Count of bytes.
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// The first 8 KiB, or all of it.
    pub head: Vec<u8>,
}

/// Looks at bytes that pass by.
#[derive(Default)]
pub(super) struct Seen {
    size: u64,
    hasher: Sha256,
    head: Vec<u8>,
}

impl Seen {
    pub fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.hasher.update(bytes);
        let wanted = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..wanted]);
    }

    pub fn staged(self) -> Staged {
        Staged { size: self.size, sha256: hex(&self.hasher.finalize()), head: self.head }
    }
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that hex stands for; such as is none stands for nothing.
#[must_use]
pub fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<_>>().unwrap_or_default()
}
