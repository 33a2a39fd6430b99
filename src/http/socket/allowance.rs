//! Bounds how many messages a client sends.

use std::time::Duration;

use tokio::time::Instant;

/// Messages that a client may send in [`MESSAGES_IN`].
pub const MAX_MESSAGES: u32 = 50_000;
/// See [`MAX_MESSAGES`].
pub const MESSAGES_IN: Duration = Duration::from_secs(10);

/// What is left to a client.
pub struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    /// All of it.
    pub fn new() -> Self {
        Self { left: MAX_MESSAGES, since: Instant::now() }
    }

    /// Takes one message; false when there were too many.
    pub fn take(&mut self) -> bool {
        if self.since.elapsed() >= MESSAGES_IN {
            *self = Self::new();
        }
        let (left, enough) = self.left.overflowing_sub(1);
        self.left = if enough { 0 } else { left };
        !enough
    }
}
