//! Admission control: how often a client may ask (`rate.rs`), how much may be executed for it at a time
//! (`concurrency.rs`), and how much of the server it may hold: memory, connections, subscriptions, open files (here).
//!
//! One table counts what each client holds. A [`Reservation`] is one share of it, given back when it is dropped. Anonymous
//! clients together leave a part of everything to clients with a token.

pub mod answers;
mod concurrency;
mod rate;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Config;
use crate::domain::error::Error;
pub use concurrency::{Concurrency, Slot};
pub use rate::RateLimits;

/// After how many seconds a client may try again that was refused for what is held now.
pub const RETRY_AFTER: u64 = 5;
/// Memory that a client may hold although anonymous clients hold as much as they may: so a few large holders do not keep
/// others from being answered.
const FAIR_BYTES: usize = 1024 * 1024;
/// Memory of a request or an answer that is not counted, in bytes: about what its connection takes by itself.
pub const SHORT: usize = 16 * 1024;
/// Operations that an address may run for each connection that it may have.
const OPERATIONS_A_CONNECTION: usize = 5;

/// Who is counted as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// The holder of a token that was accepted lately, by its digest. Many may share an address, e.g. behind a company's
    /// gateway.
    Token([u8; 32]),
    /// An address that shows a token which has to be verified.
    Unproven(IpAddr),
    /// An address without a token.
    Anonymous(IpAddr),
}

impl Client {
    /// Whether it counts among all anonymous clients. A browser says who it is only once it has a WebSocket, and others
    /// once they are connected.
    const fn is_anonymous(self, resource: Resource) -> bool {
        match self {
            Self::Token(_) => false,
            Self::Unproven(_) => !matches!(resource, Resource::Connections | Resource::Subscribers),
            Self::Anonymous(_) => true,
        }
    }

    /// Who holds what it holds.
    const fn holder(self) -> Self {
        match self {
            Self::Unproven(address) => Self::Anonymous(address),
            holder => holder,
        }
    }

    /// The client that is counted: of IPv6 the network that one customer is given.
    fn counted(self) -> Self {
        match self {
            Self::Token(_) => self,
            Self::Unproven(address) => Self::Unproven(network(address)),
            Self::Anonymous(address) => Self::Anonymous(network(address)),
        }
    }
}

/// What can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of memory for requests that come in and answers that are not read yet.
    Memory,
    /// Connections that have not shown an accepted token.
    Connections,
    /// Connections that subscriptions run on: WebSockets and streams of events.
    Subscribers,
    /// Operations that run on WebSockets.
    Operations,
    /// Files that are open for readers.
    Files,
    /// Bodies of uploads that come in.
    Uploads,
    /// Bytes of memory for documents that are parsed, kept or in use.
    Documents,
}

const RESOURCES: usize = 7;

/// How much of a resource may be held.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// By all clients together.
    all: usize,
    /// By all anonymous clients together.
    anonymous: usize,
    /// By one address without an accepted token.
    address: usize,
    /// By the holder of one token.
    token: usize,
}

/// Counts what clients hold. Cheap to clone.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    bounds: [Bounds; RESOURCES],
    /// In dev mode everyone is on this machine, and only the totals are bounded.
    dev: bool,
    usage: Mutex<Usage>,
}

#[derive(Default)]
struct Usage {
    all: [usize; RESOURCES],
    anonymous: [usize; RESOURCES],
    clients: HashMap<Client, [usize; RESOURCES]>,
}

/// Something is held by as many as may, or by one client as often as it may.
#[derive(Debug, Clone, Copy)]
pub struct Exceeded {
    resource: Resource,
    by_client: bool,
}

/// What a client holds; given back when this is dropped.
pub struct Reservation {
    limits: Limits,
    client: Client,
    resource: Resource,
    amount: usize,
}

impl Limits {
    /// As the settings have it, with so many descriptors for connections, readers and uploads.
    pub fn new(config: &Config, open_files: usize) -> Self {
        let address = config.max_connections_per_address;
        let shared = |all: usize, address: usize| {
            let most = all - all / 4;
            Bounds { all, anonymous: most, address, token: most }
        };
        let memory = config.max_buffered_bytes;
        let of_client = config.max_buffered_bytes_per_client.max(2 * config.graphql.max_body_bytes);
        let connections = open_files * 5 / 8;
        let uploads = config.max_concurrent_uploads.min(open_files / 8);
        let bounds = [
            Bounds { all: memory, anonymous: memory / 2, address: of_client, token: of_client },
            shared(connections, address.min(connections / 2)),
            shared(config.max_connections, address),
            shared(config.max_operations, address.saturating_mul(OPERATIONS_A_CONNECTION)),
            shared(open_files / 4, open_files / 8),
            Bounds {
                all: uploads,
                anonymous: uploads,
                address: uploads.div_ceil(2),
                token: uploads.div_ceil(2),
            },
            // The cache, which all share, is smaller than the share of one.
            Bounds { all: memory, anonymous: memory / 2, address: memory / 4, token: memory / 2 },
        ];
        Self(Arc::new(Inner { bounds, dev: config.dev, usage: Mutex::default() }))
    }

    /// Holds some of a resource for a client.
    ///
    /// # Errors
    /// When the client, or all of its kind together, hold as much as they may.
    pub fn reserve(
        &self,
        client: Client,
        resource: Resource,
        amount: usize,
    ) -> Result<Reservation, Exceeded> {
        let client = client.counted();
        let mut usage = self.usage();
        self.check(&usage, client, resource, amount)?;
        usage.add(client, resource, amount);
        drop(usage);
        Ok(Reservation { limits: self.clone(), client, resource, amount })
    }

    /// Holds memory that is in use already, and whose owner must not be refused any more.
    pub fn count(&self, client: Client, bytes: usize) -> Reservation {
        let client = client.counted();
        self.usage().add(client, Resource::Memory, bytes);
        Reservation { limits: self.clone(), client, resource: Resource::Memory, amount: bytes }
    }

    /// Holds memory for an answer, which was made already: if nothing else is held by a client, or by all of its kind, it may be
    /// longer than what they may hold otherwise.
    ///
    /// # Errors
    /// When too much else is held.
    pub fn reserve_answer(&self, client: Client, bytes: usize) -> Result<Reservation, Exceeded> {
        let mut held = self.count(client, 0);
        held.grow_to_answer(bytes)?;
        Ok(held)
    }

    /// How much of a resource is held.
    pub fn in_use(&self, resource: Resource) -> usize {
        self.usage().all[resource as usize]
    }

    /// How much of a resource can be held.
    pub fn most(&self, resource: Resource) -> usize {
        self.0.bounds[resource as usize].all
    }

    fn check(
        &self,
        usage: &Usage,
        client: Client,
        resource: Resource,
        amount: usize,
    ) -> Result<(), Exceeded> {
        let bounds = self.0.bounds[resource as usize];
        if amount == 0 {
            return Ok(());
        }
        let of_client = usage.of(client, resource).saturating_add(amount);
        let exceeded = |by_client| Err(Exceeded { resource, by_client });
        if !self.0.dev {
            let most = if matches!(client, Client::Token(_)) { bounds.token } else { bounds.address };
            if of_client > most {
                return exceeded(true);
            }
            let is_small = resource == Resource::Memory && of_client <= FAIR_BYTES;
            let most = if is_small { bounds.anonymous + bounds.all / 8 } else { bounds.anonymous };
            let anonymous = usage.anonymous[resource as usize].saturating_add(amount);
            if client.is_anonymous(resource) && anonymous > most {
                return exceeded(false);
            }
        }
        if usage.all[resource as usize].saturating_add(amount) > bounds.all {
            return exceeded(false);
        }
        Ok(())
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.0.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Usage {
    /// What a client holds; an address with and without a token that has to be verified is one.
    fn of(&self, client: Client, resource: Resource) -> usize {
        self.clients.get(&client.holder()).map_or(0, |held| held[resource as usize])
    }

    fn add(&mut self, client: Client, resource: Resource, amount: usize) {
        let index = resource as usize;
        self.all[index] += amount;
        if client.is_anonymous(resource) {
            self.anonymous[index] += amount;
        }
        self.clients.entry(client.holder()).or_default()[index] += amount;
    }

    fn remove(&mut self, client: Client, resource: Resource, amount: usize) {
        let index = resource as usize;
        self.all[index] -= amount;
        if client.is_anonymous(resource) {
            self.anonymous[index] -= amount;
        }
        if let Some(held) = self.clients.get_mut(&client.holder()) {
            held[index] -= amount;
            if held.iter().all(|amount| *amount == 0) {
                self.clients.remove(&client.holder());
            }
        }
    }
}

impl Reservation {
    /// Holds more, so that it is `amount` in all.
    ///
    /// # Errors
    /// When that is too much; then it holds what it did.
    pub fn grow_to(&mut self, amount: usize) -> Result<(), Exceeded> {
        let Some(more) = amount.checked_sub(self.amount).filter(|more| *more > 0) else { return Ok(()) };
        let mut usage = self.limits.usage();
        self.limits.check(&usage, self.client, self.resource, more)?;
        usage.add(self.client, self.resource, more);
        drop(usage);
        self.amount = amount;
        Ok(())
    }

    /// The same for an answer; see [`Limits::reserve_answer`].
    ///
    /// # Errors
    /// When too much else is held; then it holds what it did.
    pub fn grow_to_answer(&mut self, amount: usize) -> Result<(), Exceeded> {
        let Some(more) = amount.checked_sub(self.amount).filter(|more| *more > 0) else { return Ok(()) };
        let mut usage = self.limits.usage();
        if let Err(exceeded) = self.limits.check(&usage, self.client, self.resource, more) {
            let others = usage.of(self.client, self.resource) - self.amount;
            let all = usage.all[self.resource as usize] - self.amount;
            let has_room = all <= self.limits.most(self.resource) / 2;
            if others > FAIR_BYTES / 2 || !has_room {
                return Err(exceeded);
            }
        }
        usage.add(self.client, self.resource, more);
        drop(usage);
        self.amount = amount;
        Ok(())
    }

    /// Counts it for `client`, who turned out to hold it.
    ///
    /// # Errors
    /// When that one holds as much as it may; then it is counted as before.
    pub fn hand_over(&mut self, client: Client) -> Result<(), Exceeded> {
        let client = client.counted();
        if client == self.client {
            return Ok(());
        }
        let mut usage = self.limits.usage();
        usage.remove(self.client, self.resource, self.amount);
        let checked = self.limits.check(&usage, client, self.resource, self.amount);
        if checked.is_ok() {
            self.client = client;
        }
        usage.add(self.client, self.resource, self.amount);
        checked
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.limits.usage().remove(self.client, self.resource, self.amount);
    }
}

impl Exceeded {
    /// Whether it is one client that holds too much, and not all together.
    pub const fn is_of_client(self) -> bool {
        self.by_client
    }

    /// What the client is told.
    pub const fn message(self) -> &'static str {
        match (self.resource, self.by_client) {
            (Resource::Memory, true) => {
                "too much is held in memory for this client: read the answers to earlier requests, and try again later"
            }
            (Resource::Memory, false) => {
                "the server holds as much in memory for its clients as it may: try again later"
            }
            (Resource::Connections, true) => {
                "this address has as many connections without a token as it may: close some"
            }
            (Resource::Connections, false) => "the server has as many connections as it may: try again later",
            (Resource::Subscribers | Resource::Operations, true) => {
                "this address has as many subscribers, or operations, without a token as it may: try again later, or show a token"
            }
            (Resource::Subscribers | Resource::Operations, false) => {
                "the server has as many subscribers, or operations, as it may: try again later"
            }
            (Resource::Files, true) => {
                "this client reads as many files at the same time as it may: try again later"
            }
            (Resource::Documents, true) => {
                "this client has as many documents in use as it may: send one that was sent before, or try again later"
            }
            (Resource::Documents, false) => {
                "as many documents are in use as may: send one that was sent before, or try again later"
            }
            (Resource::Uploads, true) => {
                "this client sends as many uploads at the same time as it may: try again later"
            }
            (Resource::Uploads, false) => {
                "the server takes as many uploads at the same time as it may: try again later"
            }
            (Resource::Files, false) => {
                "the server sends as many files at the same time as it may: try again later"
            }
        }
    }
}

impl From<Exceeded> for Error {
    fn from(exceeded: Exceeded) -> Self {
        Self::RateLimited(exceeded.message().to_owned())
    }
}

/// Which addresses are counted as one: of IPv6 the network that is given to one customer.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Client = Client::Token([1; 32]);
    const KIB: usize = 1024;

    fn anonymous(number: u8) -> Client {
        Client::Anonymous(IpAddr::from([192, 0, 2, number]))
    }

    /// Limits with these bounds for everything.
    fn limits(all: usize, anonymous: usize, address: usize) -> Limits {
        let bounds = [Bounds { all, anonymous, address, token: all }; RESOURCES];
        Limits(Arc::new(Inner { bounds, dev: false, usage: Mutex::default() }))
    }

    fn is_empty(limits: &Limits) -> bool {
        let usage = limits.usage();
        usage.clients.is_empty() && usage.all == [0; RESOURCES] && usage.anonymous == [0; RESOURCES]
    }

    #[test]
    fn anonymous_clients_leave_something_to_those_with_a_token() {
        let limits = limits(8, 6, 4);
        let reserve = |client| limits.reserve(client, Resource::Subscribers, 1);
        let taken: Vec<_> = (0..8).map(|number| reserve(anonymous(number))).collect();
        assert_eq!(taken.iter().filter(|one| one.is_ok()).count(), 6);
        let (one, two) = (reserve(KNOWN), reserve(KNOWN));
        assert!(one.is_ok() && two.is_ok() && reserve(KNOWN).is_err());
        drop((taken, one, two));
        assert!(is_empty(&limits));
    }

    #[test]
    fn a_client_has_its_share_until_it_is_known() {
        let limits = limits(8, 6, 2);
        let unproven = Client::Unproven(IpAddr::from([192, 0, 2, 1]));
        let reserve = |client| limits.reserve(client, Resource::Subscribers, 1);
        let (mut one, two) = (reserve(unproven).expect("one"), reserve(unproven));
        assert!(two.is_ok() && reserve(unproven).is_err() && reserve(anonymous(1)).is_err());
        one.hand_over(KNOWN).expect("it is known");
        let three = reserve(anonymous(1));
        assert!(three.is_ok() && one.hand_over(anonymous(1)).is_err());
        drop((one, two, three));
        assert!(is_empty(&limits));
    }

    #[test]
    fn memory_is_held_as_it_grows_and_small_holders_are_served_in_any_case() {
        let limits = limits(8192 * KIB, 4096 * KIB, 3072 * KIB);
        let reserve = |client, bytes| limits.reserve(client, Resource::Memory, bytes);
        let mut one = reserve(anonymous(1), 0).expect("nothing yet");
        one.grow_to(3072 * KIB).expect("its share");
        assert!(one.grow_to(3073 * KIB).is_err() && one.amount == 3072 * KIB);
        let two = reserve(anonymous(2), 1024 * KIB).expect("what is left to anonymous clients");
        assert!(reserve(anonymous(3), 1025 * KIB).is_err());
        let small = reserve(anonymous(3), 1024 * KIB).expect("it is little");
        assert!(reserve(KNOWN, 3072 * KIB).is_ok(), "those with a token notice nothing");
        drop((one, two, small));
        assert!(is_empty(&limits));
    }

    #[test]
    fn the_only_answer_of_a_client_may_be_long() {
        let limits = limits(4096 * KIB, 2048 * KIB, 1024 * KIB);
        let long = limits.reserve_answer(anonymous(1), 9000 * KIB).expect("it is the only one");
        assert!(limits.reserve_answer(anonymous(1), 1).is_err());
        drop(long);
        assert!(limits.reserve_answer(anonymous(1), 1).is_ok() && is_empty(&limits));
    }

    #[test]
    fn a_customer_of_ipv6_is_one_client_whatever_the_address() {
        let network = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
