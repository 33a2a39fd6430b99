//! How many answers are made at a time for strangers of one address; more wait for their turn.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rate::{Client, network};
use crate::config::Config;

/// Answers that are made at a time.
const AT_ONCE: usize = 32;
/// Addresses that are looked through, now and then, for those that ask no more.
const MANY: usize = 1024;

/// Gives turns. Cheap to clone.
#[derive(Clone)]
pub struct Turns(Option<Arc<Mutex<Addresses>>>);

type Addresses = HashMap<IpAddr, Weak<Semaphore>>;

/// A turn, given back when this is dropped; none where nobody has to wait.
pub type Turn = Option<OwnedSemaphorePermit>;

impl Turns {
    /// In dev mode everyone is on this machine.
    pub fn new(config: &Config) -> Self {
        Self((!config.dev).then(Arc::default))
    }

    /// Waits for a turn. Who shows a token has not to wait.
    pub async fn take(&self, client: Client) -> Turn {
        let turns = self.of(client)?;
        // It is never closed.
        turns.acquire_owned().await.ok()
    }

    /// Events of which the first is made in a turn.
    pub fn first<S: Stream>(self, client: Client, events: S) -> impl Stream<Item = S::Item> {
        let begun = async move {
            let mut turn = self.take(client).await;
            events.inspect(move |_| drop(turn.take()))
        };
        begun.flatten_stream()
    }

    fn of(&self, client: Client) -> Option<Arc<Semaphore>> {
        let (Some(addresses), Client::Address(address)) = (&self.0, client) else { return None };
        let mut addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= MANY && addresses.len().is_power_of_two() {
            addresses.retain(|_, turns| turns.strong_count() > 0);
        }
        let turns = addresses.entry(network(address)).or_default();
        Some(turns.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(AT_ONCE));
            *turns = Arc::downgrade(&new);
            new
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::stream;

    use super::*;

    fn stranger(number: u8) -> Client {
        Client::Address(IpAddr::from([192, 0, 2, number]))
    }

    #[tokio::test]
    async fn one_address_waits_for_its_turn_and_nobody_else_does() {
        let turns = Turns(Some(Arc::default()));
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(turns.take(stranger(1)).now_or_never().expect("a turn"));
        }
        let mut waiting = pin!(turns.take(stranger(1)));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(turns.take(stranger(2)).now_or_never().expect("another address").is_some());
        assert!(turns.take(Client::Token([1; 32])).now_or_never().expect("who is known").is_none());
        held.pop();
        assert!(waiting.now_or_never().expect("its turn").is_some());
    }

    #[tokio::test]
    async fn a_stream_has_a_turn_until_its_first_event() {
        let turns = Turns(Some(Arc::default()));
        let free = || turns.of(stranger(1)).map(|turns| turns.available_permits());
        let kept = turns.of(stranger(1));
        let mut events =
            pin!(turns.clone().first(stranger(1), stream::iter([1, 2]).chain(stream::pending())));
        assert_eq!(free(), Some(AT_ONCE));
        assert_eq!(events.next().await, Some(1));
        assert_eq!(free(), Some(AT_ONCE));
        assert_eq!(events.next().await, Some(2));
        let mut slow = Box::pin(turns.clone().first(stranger(1), stream::pending::<()>()));
        assert!(slow.next().now_or_never().is_none());
        assert_eq!(free(), Some(AT_ONCE - 1));
        drop(slow);
        assert_eq!(free(), Some(AT_ONCE));
        drop(kept);
    }
}
