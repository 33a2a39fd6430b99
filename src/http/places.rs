//! How many subscribers may be there, and how many operations they may run: of everyone, of all who are not known by a
//! token, and of one address of those.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rate::{Client, network};
use crate::config::Config;

/// What is told where there is no place left, and after how many seconds to come again.
pub const TOO_MANY: &str = "the server has as many subscribers, or operations, as it may: try again later";
/// The same where one address has all places that it may.
pub const TOO_MANY_OF_ADDRESS: &str = "this address has as many subscribers, or operations, without a token as it may: try again later, or show a token";
/// See [`TOO_MANY`].
pub const RETRY_AFTER: &str = "5";
/// Of so many places in four, strangers leave one to those who are known.
const PARTS: usize = 4;
/// Operations that one address may run for each connection that it may have.
const OPERATIONS_A_CONNECTION: usize = 5;

/// Gives places, as long as there are some.
pub struct Places {
    connections: Pool,
    operations: Pool,
}

/// Places of one kind.
struct Pool {
    most: usize,
    all: Arc<Semaphore>,
    /// None where everyone is known.
    strangers: Option<Strangers>,
}

/// Those places that are taken by who is not known by a token. Cheap to clone.
#[derive(Clone)]
struct Strangers {
    all: Arc<Semaphore>,
    most_of_address: usize,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place, given back when this is dropped.
pub struct Place {
    _of_all: OwnedSemaphorePermit,
    stranger: Option<Stranger>,
}

/// One of an address's places.
struct Stranger {
    strangers: Strangers,
    address: IpAddr,
    of_strangers: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// As many as the settings have it. In dev mode everyone is on this machine.
    pub fn new(config: &Config) -> Self {
        let of_address = (!config.dev).then_some(config.max_connections_per_address);
        Self {
            connections: Pool::new(config.max_connections, of_address),
            operations: Pool::new(
                config.max_operations,
                of_address.map(|most| most.saturating_mul(OPERATIONS_A_CONNECTION)),
            ),
        }
    }

    /// A place for a connection, of which it may turn out who has it: then [`Place::is_known`], or
    /// [`Place::is_strangers`].
    ///
    /// # Errors
    /// What to tell when there is none left.
    pub fn connection(&self, client: Client) -> Result<Place, &'static str> {
        self.connections.take(client)
    }

    /// A place for an operation on a socket.
    ///
    /// # Errors
    /// What to tell when there is none left.
    pub fn operation(&self, client: Client) -> Result<Place, &'static str> {
        let mut place = self.operations.take(client)?;
        place.is_strangers()?;
        Ok(place)
    }

    /// How many connections subscriptions have, and how many operations run on sockets.
    pub fn in_use(&self) -> (usize, usize) {
        (self.connections.in_use(), self.operations.in_use())
    }
}

impl Pool {
    fn new(most: usize, most_of_address: Option<usize>) -> Self {
        let strangers = most_of_address.map(|most_of_address| Strangers {
            all: Arc::new(Semaphore::new(most - most / PARTS)),
            most_of_address,
            by_address: Arc::default(),
        });
        Self { most, all: Arc::new(Semaphore::new(most)), strangers }
    }

    fn take(&self, client: Client) -> Result<Place, &'static str> {
        let of_all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| TOO_MANY)?;
        let stranger = match (&self.strangers, client) {
            (Some(strangers), Client::Unproven(address) | Client::Address(address)) => {
                Some(strangers.enter(network(address)).ok_or(TOO_MANY_OF_ADDRESS)?)
            }
            _ => None,
        };
        Ok(Place { _of_all: of_all, stranger })
    }

    fn in_use(&self) -> usize {
        self.most - self.all.available_permits()
    }
}

impl Place {
    /// Who has it proved to be known: it does not count for the address any more.
    pub fn is_known(&mut self) {
        self.stranger = None;
    }

    /// Who has it shows no token: it is one of those that strangers have together.
    ///
    /// # Errors
    /// What to tell when they have as many as they may.
    pub fn is_strangers(&mut self) -> Result<(), &'static str> {
        if let Some(stranger) = &mut self.stranger {
            let all = Arc::clone(&stranger.strangers.all);
            stranger.of_strangers = Some(all.try_acquire_owned().map_err(|_| TOO_MANY)?);
        }
        Ok(())
    }
}

impl Strangers {
    fn enter(&self, address: IpAddr) -> Option<Stranger> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_default();
        if *count >= self.most_of_address {
            return None;
        }
        *count += 1;
        Some(Stranger { strangers: self.clone(), address, of_strangers: None })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut by_address = self.strangers.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Client = Client::Token([1; 32]);

    fn stranger(number: u8) -> Client {
        Client::Address(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn strangers_leave_places_to_those_who_are_known() {
        let pool = Pool::new(8, Some(4));
        let taken: Vec<_> = (0..8)
            .map(|number| {
                let mut place = pool.take(stranger(number)).expect("one of all");
                place.is_strangers().map(|()| place)
            })
            .collect();
        assert_eq!(taken.iter().filter(|place| place.is_ok()).count(), 6);
        let (one, two) = (pool.take(KNOWN), pool.take(KNOWN));
        assert!(one.is_ok() && two.is_ok() && pool.take(KNOWN).is_err());
        drop(taken);
        assert_eq!(pool.in_use(), 2);
        assert!(pool.strangers.as_ref().is_some_and(|all| all.by_address.lock().expect("sound").is_empty()));
    }

    #[test]
    fn an_address_has_its_share_and_whoever_is_known_does_not_count() {
        let pool = Pool::new(8, Some(2));
        let (mut one, two) = (pool.take(stranger(1)).expect("one"), pool.take(stranger(1)));
        assert!(two.is_ok() && pool.take(stranger(1)).is_err() && pool.take(stranger(2)).is_ok());
        one.is_known();
        assert!(pool.take(stranger(1)).is_ok());
    }
}
