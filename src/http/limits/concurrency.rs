//! How much is executed at a time for one client, and for all anonymous clients together; more waits.
//!
//! Operations are weighed by what they may take in memory while they are executed, in units of 512 bytes. Each client has a
//! share of its own, so a client that asks for much waits for itself. Few operations of anonymous clients run at a time: what
//! the processors cannot do at once would only make everybody's answers late.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Client;
use crate::config::Config;
use crate::domain::error::Error;

/// The least that an operation weighs: 4 MiB.
const LEAST: u32 = 8192;
/// Operations of that weight that all anonymous clients may have executed at a time, for each processor; an address half.
const A_PROCESSOR: u32 = 4;
/// Processors that count: memory does not grow with them.
const PROCESSORS: usize = 8;
/// Operations of the least weight that the holder of a token may have executed at a time.
const OF_TOKEN: u32 = 128;
/// Bytes that are parsed without waiting.
const PARSED_AT_ONCE: usize = 4096;
/// Longest wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that are looked through, now and then, for those that ask no more.
const MANY: usize = 1024;

/// Lets operations begin. Cheap to clone.
#[derive(Clone)]
pub struct Concurrency(Option<Arc<Inner>>);

struct Inner {
    /// What all anonymous clients together have of.
    anonymous: Arc<Semaphore>,
    /// What one address may have.
    of_address: u32,
    /// Held by the one operation of an anonymous client that is parsed and validated.
    parsing: Arc<Semaphore>,
    clients: Mutex<HashMap<Client, Weak<Semaphore>>>,
}

/// The right to execute an operation, until this is dropped.
#[derive(Default)]
pub struct Slot {
    of_client: Option<OwnedSemaphorePermit>,
    of_anonymous: Option<OwnedSemaphorePermit>,
}

impl Concurrency {
    /// In dev mode everyone is on this machine, and nobody waits.
    pub fn new(config: &Config) -> Self {
        Self((!config.dev).then(|| {
            let processors = std::thread::available_parallelism().map_or(1, usize::from).min(PROCESSORS);
            Arc::new(Inner::new(u32::try_from(processors).unwrap_or(1)))
        }))
    }

    /// Makes room in `slot` for an operation of so many units, if it need not wait for that.
    pub fn try_grow(&self, slot: &mut Slot, client: Client, weight: usize) -> bool {
        let Some(inner) = &self.0 else { return true };
        let (weight, semaphores) = inner.of(client, weight);
        let more = weight.saturating_sub(slot.weight());
        if more == 0 {
            return true;
        }
        let [of_client, of_anonymous] = semaphores
            .map(|semaphore| semaphore.map(|semaphore| semaphore.try_acquire_many_owned(more)).transpose());
        let (Ok(of_client), Ok(of_anonymous)) = (of_client, of_anonymous) else { return false };
        slot.merge(of_client, of_anonymous);
        true
    }

    /// Waits until so many bytes of an anonymous client may be parsed: those of one at a time, which keeps processors free for
    /// others. What is short is parsed at once.
    pub async fn parsing(&self, client: Client, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let is_long = bytes > PARSED_AT_ONCE && matches!(client, Client::Anonymous(_));
        let inner = self.0.as_ref().filter(|_| is_long)?;
        acquire(Some(Arc::clone(&inner.parsing)), 1).await
    }

    /// Waits for a slot for an operation of so many units.
    ///
    /// # Errors
    /// `RATE_LIMITED` after 30 seconds.
    pub async fn take(&self, client: Client, weight: usize) -> Result<Slot, Error> {
        let Some(inner) = &self.0 else { return Ok(Slot::default()) };
        let (weight, [of_client, of_anonymous]) = inner.of(client, weight);
        let waiting = async {
            Slot {
                of_client: acquire(of_client, weight).await,
                of_anonymous: acquire(of_anonymous, weight).await,
            }
        };
        timeout(PATIENCE, waiting).await.map_err(|_| {
            Error::RateLimited(
                "too much is executed for this client, or for all without a token: try again later"
                    .to_owned(),
            )
        })
    }
}

impl Slot {
    fn weight(&self) -> u32 {
        let permits = self.of_client.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        u32::try_from(permits).unwrap_or(u32::MAX)
    }

    fn merge(&mut self, of_client: Option<OwnedSemaphorePermit>, of_anonymous: Option<OwnedSemaphorePermit>) {
        for (held, more) in [(&mut self.of_client, of_client), (&mut self.of_anonymous, of_anonymous)] {
            match (held, more) {
                (Some(held), Some(more)) => held.merge(more),
                (held, Some(more)) => *held = Some(more),
                (_, None) => {}
            }
        }
    }
}

impl Inner {
    fn new(processors: u32) -> Self {
        let of_address = LEAST * A_PROCESSOR / 2 * processors;
        Self {
            anonymous: Arc::new(Semaphore::new(2 * of_address as usize)),
            of_address,
            parsing: Arc::new(Semaphore::new(1)),
            clients: Mutex::default(),
        }
    }

    /// The weight of an operation, at most half of the client's share, and what it has to be taken of: that share first, so
    /// that a client which waits for it keeps nothing from others.
    fn of(&self, client: Client, weight: usize) -> (u32, [Option<Arc<Semaphore>>; 2]) {
        let client = client.counted();
        let (share, anonymous) = match client {
            Client::Token(_) => (OF_TOKEN * LEAST, None),
            Client::Unproven(_) => (self.of_address, None),
            Client::Anonymous(_) => (self.of_address, Some(Arc::clone(&self.anonymous))),
        };
        let weight = u32::try_from(weight).unwrap_or(u32::MAX).clamp(LEAST, share / 2);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MANY && clients.len().is_power_of_two() {
            clients.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let known = clients.entry(client).or_default();
        let of_client = known.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(share as usize));
            *known = Arc::downgrade(&new);
            new
        });
        (weight, [Some(of_client), anonymous])
    }
}

async fn acquire(semaphore: Option<Arc<Semaphore>>, weight: u32) -> Option<OwnedSemaphorePermit> {
    // It is never closed.
    semaphore?.acquire_many_owned(weight).await.ok()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use futures_util::FutureExt as _;

    use super::*;

    const ALL: usize = usize::MAX;

    fn anonymous(number: u8) -> Client {
        Client::Anonymous(IpAddr::from([192, 0, 2, number]))
    }

    /// For four processors: eight operations of an address, sixteen of all anonymous clients.
    fn concurrency() -> Concurrency {
        Concurrency(Some(Arc::new(Inner::new(4))))
    }

    fn now(slots: &Concurrency, client: Client, weight: usize) -> Option<Slot> {
        slots.take(client, weight).now_or_never()?.ok()
    }

    #[tokio::test]
    async fn a_client_waits_for_itself_and_not_for_others() {
        let slots = concurrency();
        let mut held: Vec<_> = (0..8).map(|_| now(&slots, anonymous(1), 1).expect("a slot")).collect();
        let mut waiting = Box::pin(slots.take(anonymous(1), 1));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(now(&slots, anonymous(2), ALL).is_some(), "however much another one asks for");
        assert!(now(&slots, Client::Token([1; 32]), ALL).is_some());
        held.pop();
        assert!(waiting.now_or_never().is_some_and(|slot| slot.is_ok()));
    }

    #[tokio::test]
    async fn anonymous_clients_together_are_bounded() {
        let slots = concurrency();
        let held: Vec<_> = (0..4).map(|number| now(&slots, anonymous(number), ALL)).collect();
        assert!(held.iter().all(Option::is_some) && now(&slots, anonymous(9), 1).is_none());
        assert!(now(&slots, Client::Token([1; 32]), 1).is_some());
        drop(held);
        assert!(now(&slots, anonymous(9), 1).is_some());
    }

    #[tokio::test]
    async fn a_slot_grows_as_far_as_there_is_room() {
        let slots = concurrency();
        let mut slot = now(&slots, anonymous(1), 1).expect("a slot");
        assert!(slots.try_grow(&mut slot, anonymous(1), ALL));
        let others: Vec<_> = (0..5).map(|_| now(&slots, anonymous(1), 1)).collect();
        assert_eq!(others.iter().filter(|other| other.is_some()).count(), 4);
        drop((slot, others));
        let (mut one, two) = (now(&slots, anonymous(1), 1).expect("a slot"), now(&slots, anonymous(1), ALL));
        let three = now(&slots, anonymous(1), 1);
        assert!(two.is_some() && three.is_some() && !slots.try_grow(&mut one, anonymous(1), ALL));
        drop((two, three));
        assert!(slots.try_grow(&mut one, anonymous(1), ALL));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends() {
        let slots = concurrency();
        let _held = (now(&slots, anonymous(1), ALL), now(&slots, anonymous(1), ALL));
        assert!(matches!(slots.take(anonymous(1), 1).await, Err(Error::RateLimited(_))));
    }
}
