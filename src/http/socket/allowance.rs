//! Bounds how many messages a client sends.

use std::time::Duration;

use tokio::time::Instant;

/// Messages that a client may send in [`MESSAGES_IN`].
const MAX_MESSAGES: u32 = 50_000;
/// The same before it said who it is.
const MAX_EARLY_MESSAGES: u32 = 100;
/// See [`MAX_MESSAGES`].
pub const MESSAGES_IN: Duration = Duration::from_secs(10);

/// What is left to a client.
pub struct Allowance {
    most: u32,
    left: u32,
    since: Instant,
}

impl Allowance {
    /// Of a client that did not say yet who it is.
    pub fn early() -> Self {
        Self::of(MAX_EARLY_MESSAGES)
    }

    /// Of one that did.
    pub fn whole() -> Self {
        Self::of(MAX_MESSAGES)
    }

    fn of(most: u32) -> Self {
        Self { most, left: most, since: Instant::now() }
    }

    /// Takes one message.
    ///
    /// # Errors
    /// How many there may be, when there were more.
    pub fn take(&mut self) -> Result<(), u32> {
        if self.since.elapsed() >= MESSAGES_IN {
            *self = Self::of(self.most);
        }
        self.left = self.left.checked_sub(1).ok_or(self.most)?;
        Ok(())
    }
}
