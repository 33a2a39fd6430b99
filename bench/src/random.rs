//! Numbers that look random and are the same in every run (`SplitMix64`).

/// A source of numbers; what comes follows from the seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A source of its own for each seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any of 64 bits.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.number() % u64::from(end)).unwrap_or(0)
    }

    /// One of `words`.
    pub fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let end = u32::try_from(words.len()).unwrap_or(u32::MAX);
        words[self.below(end) as usize]
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.number().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Bytes of no format, the same each time.
#[must_use]
pub fn noise(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    Random::new(count as u64).fill(&mut bytes);
    bytes
}
