//! How many subscribers may be there at the same time: of everyone, and of one address that is not known by a token.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rate::{Client, network};
use crate::config::Config;

/// What is told where there is no place left, and after how many seconds to come again.
pub const TOO_MANY: &str = "the server has as many subscribers as it may: try again later";
/// The same where one address has all places that it may.
pub const TOO_MANY_OF_ADDRESS: &str =
    "this address has as many subscribers without a token as it may: try again later, or show a token";
/// See [`TOO_MANY`].
pub const RETRY_AFTER: &str = "5";

/// Gives places, as long as there are some.
pub struct Places {
    connections: Arc<Semaphore>,
    operations: Arc<Semaphore>,
    max_connections: usize,
    max_operations: usize,
    strangers: Option<Strangers>,
}

/// Connections of addresses that are not known by a token. Cheap to clone.
#[derive(Clone)]
struct Strangers {
    most: usize,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The place of a connection, given back when this is dropped.
pub struct Place {
    _connection: OwnedSemaphorePermit,
    stranger: Option<Stranger>,
}

/// One of an address's connections.
struct Stranger {
    strangers: Strangers,
    address: IpAddr,
}

impl Places {
    /// As many as the settings have it.
    pub fn new(config: &Config) -> Self {
        let (max_connections, max_operations) = (config.max_connections, config.max_operations);
        let most = config.max_connections_per_address;
        Self {
            connections: Arc::new(Semaphore::new(max_connections)),
            operations: Arc::new(Semaphore::new(max_operations)),
            max_connections,
            max_operations,
            // In dev mode everyone is on this machine.
            strangers: (!config.dev).then(|| Strangers { most, by_address: Arc::default() }),
        }
    }

    /// A place for a connection of subscriptions.
    ///
    /// # Errors
    /// What to tell when there is none left.
    pub fn connection(&self, client: Client) -> Result<Place, &'static str> {
        let connection = Arc::clone(&self.connections).try_acquire_owned().map_err(|_| TOO_MANY)?;
        let stranger = match (&self.strangers, client) {
            (Some(strangers), Client::Unproven(address) | Client::Address(address)) => {
                Some(strangers.enter(network(address)).ok_or(TOO_MANY_OF_ADDRESS)?)
            }
            _ => None,
        };
        Ok(Place { _connection: connection, stranger })
    }

    /// A place for an operation on a socket, while there is one left.
    pub fn operation(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.operations).try_acquire_owned().ok()
    }

    /// How many connections subscriptions have, and how many operations run on sockets.
    pub fn in_use(&self) -> (usize, usize) {
        let connections = self.max_connections - self.connections.available_permits();
        (connections, self.max_operations - self.operations.available_permits())
    }
}

impl Place {
    /// Who has it proved to be known: it does not count for the address any more.
    pub fn is_known(&mut self) {
        self.stranger = None;
    }
}

impl Strangers {
    fn enter(&self, address: IpAddr) -> Option<Stranger> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Stranger { strangers: self.clone(), address })
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
