//! Which connections are open, and which of them gives way when there are too many: one that waits for a request and has not
//! shown an accepted token.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::limits::{Client, Exceeded, Limits, Reservation, Resource, network};

/// Whom connections of trusted proxies are counted for: many clients share them.
const PROXIES: Client = Client::Token([0; 32]);

/// The open connections. Cheap to clone.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    limits: Limits,
    /// Those that wait, by when they began to.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Counts up: the order in which connections began to wait.
    clock: u64,
    all: BTreeMap<u64, Arc<State>>,
    by_address: HashMap<IpAddr, BTreeMap<u64, Arc<State>>>,
}

/// An open connection; it is counted until all clones are dropped. Requests have it as an extension.
#[derive(Clone)]
pub struct Connection(Arc<Open>);

struct Open {
    connections: Connections,
    state: Arc<State>,
}

struct State {
    address: IpAddr,
    held: Mutex<Option<Reservation>>,
    is_known: AtomicBool,
    /// Whether a request came on it: from then on it counts among those of all anonymous clients.
    is_asking: AtomicBool,
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// Since when it waits, by the clock of [`Waiting`]; 0 while it does not.
    since: AtomicU64,
    gone: CancellationToken,
}

/// A request that is being answered.
pub struct Busy(Option<Connection>);

impl Connections {
    /// Counts connections by `limits`.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, waiting: Mutex::default() }))
    }

    /// Takes a connection. Where there are too many, the one that waits for longest gives way: one of this address, if it has
    /// too many, and of any otherwise.
    ///
    /// # Errors
    /// When none of them waits.
    pub fn open(&self, address: IpAddr, is_proxy: bool) -> Result<Connection, Exceeded> {
        // Nobody knows yet who it is: it may be one of those for whom a part is kept.
        let client = if is_proxy { PROXIES } else { Client::Unproven(address) };
        let reserve = || self.0.limits.reserve(client, Resource::Connections, 1);
        let held = match reserve() {
            Ok(held) => held,
            Err(exceeded) => {
                let of = exceeded.is_of_client().then_some(address);
                if !self.evict(of) {
                    return Err(exceeded);
                }
                reserve()?
            }
        };
        let state = Arc::new(State {
            address: network(address),
            held: Mutex::new(Some(held)),
            is_known: AtomicBool::new(is_proxy),
            is_asking: AtomicBool::new(is_proxy),
            busy: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            gone: CancellationToken::new(),
        });
        if !is_proxy {
            self.waiting().add(&state);
        }
        Ok(Connection(Arc::new(Open { connections: self.clone(), state })))
    }

    /// Lets the connection go that waits for longest.
    fn evict(&self, of: Option<IpAddr>) -> bool {
        let mut waiting = self.waiting();
        let found = match of {
            Some(address) => waiting.by_address.get(&network(address)).and_then(BTreeMap::first_key_value),
            None => waiting.all.first_key_value(),
        };
        let Some(state) = found.map(|(_, state)| Arc::clone(state)) else { return false };
        waiting.remove(&state);
        drop(waiting);
        state.gone.cancel();
        drop(state.held().take());
        true
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, state: &Arc<State>) {
        if state.is_known.load(Ordering::Relaxed) {
            return;
        }
        self.clock += 1;
        state.since.store(self.clock, Ordering::Relaxed);
        self.all.insert(self.clock, Arc::clone(state));
        self.by_address.entry(state.address).or_default().insert(self.clock, Arc::clone(state));
    }

    fn remove(&mut self, state: &State) {
        let since = state.since.swap(0, Ordering::Relaxed);
        if self.all.remove(&since).is_none() {
            return;
        }
        if let Some(of_address) = self.by_address.get_mut(&state.address) {
            of_address.remove(&since);
            if of_address.is_empty() {
                self.by_address.remove(&state.address);
            }
        }
    }
}

impl State {
    fn held(&self) -> MutexGuard<'_, Option<Reservation>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// A request came on it, which is answered until what this returns is dropped.
    pub fn busy(&self) -> Busy {
        let Open { connections, state } = &*self.0;
        if state.is_known.load(Ordering::Relaxed) {
            return Busy(None);
        }
        let mut waiting = connections.waiting();
        if state.busy.fetch_add(1, Ordering::Relaxed) == 0 {
            waiting.remove(state);
        }
        Busy(Some(self.clone()))
    }

    /// A request of `client` came on it. With a token that was accepted, it counts for that one and never gives way.
    ///
    /// # Errors
    /// When all anonymous clients together have as many as they may.
    pub fn used_by(&self, client: Client) -> Result<(), Exceeded> {
        let Open { connections, state } = &*self.0;
        if state.is_known.load(Ordering::Relaxed) {
            return Ok(());
        }
        match client {
            Client::Token(_) => {
                let mut held = state.held();
                // One that has very many keeps some that give way.
                if held.as_mut().is_some_and(|held| held.hand_over(client).is_ok()) {
                    state.is_known.store(true, Ordering::Relaxed);
                    drop(held);
                    connections.waiting().remove(state);
                }
                Ok(())
            }
            Client::Anonymous(_) if !state.is_asking.load(Ordering::Relaxed) => {
                state.held().as_mut().map_or(Ok(()), |held| held.hand_over(client))?;
                state.is_asking.store(true, Ordering::Relaxed);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns when it has to give way.
    pub async fn gone(&self) {
        self.0.state.gone.cancelled().await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.waiting().remove(&self.state);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Some(Connection(open)) = &self.0 else { return };
        let mut waiting = open.connections.waiting();
        if open.state.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            waiting.add(&open.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::config::{Config, Flags};

    fn address(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn a_part_is_left_to_clients_that_are_known_once_they_ask() {
        let connections = connections();
        let mut busy = Vec::new();
        let mut ask = |number, client: Client| {
            let connection = connections.open(address(number), false).expect("there is room to ask");
            let used = connection.used_by(client);
            busy.push((connection.busy(), connection));
            used
        };
        let asked: Vec<_> = (0..16).map(|number| ask(number, Client::Anonymous(address(number)))).collect();
        assert_eq!(asked.iter().filter(|asked| asked.is_ok()).count(), 15);
        assert!(ask(20, Client::Token([1; 32])).is_ok());
    }

    /// Twenty connections, of which anonymous clients have fifteen, and an address ten.
    fn connections() -> Connections {
        let config = Config::load(None, &Flags::default()).expect("defaults");
        Connections::new(Limits::new(&config, 32))
    }

    fn is_gone(connection: &Connection) -> bool {
        connection.gone().now_or_never().is_some()
    }

    #[test]
    fn a_connection_that_waits_gives_way_to_a_new_one_of_its_address() {
        let connections = connections();
        let open = |number| connections.open(address(number), false);
        let held: Vec<_> = (0..10).map(|_| open(1).expect("its share")).collect();
        let other = open(2).expect("another address");
        let busy = held[0].busy();
        let new = open(1).expect("one gives way");
        assert!(is_gone(&held[1]) && !is_gone(&held[0]) && !is_gone(&other) && !is_gone(&new));
        drop(busy);
        let others = (open(1).expect("one gives way"), open(1).expect("one gives way"));
        assert!(is_gone(&held[2]) && is_gone(&held[3]));
        assert!(!is_gone(&held[0]), "it has waited since a moment ago");
        drop(others);
    }

    #[test]
    fn where_all_are_busy_a_new_one_is_refused() {
        let connections = connections();
        let held: Vec<_> = (0..10).map(|_| connections.open(address(1), false).expect("its share")).collect();
        let busy: Vec<_> = held.iter().map(Connection::busy).collect();
        assert!(connections.open(address(1), false).is_err());
        drop(busy);
        assert!(connections.open(address(1), false).is_ok());
    }

    #[test]
    fn who_shows_a_token_keeps_its_connection_and_proxies_are_not_counted() {
        let connections = connections();
        let known = connections.open(address(1), false).expect("one");
        known.used_by(Client::Token([1; 32])).expect("it is known");
        let proxied: Vec<_> = (0..4).map(|_| connections.open(address(9), true).expect("one")).collect();
        let held: Vec<_> = (0..30).map(|number| connections.open(address(number), false)).collect();
        assert!(held.iter().all(Result::is_ok), "the oldest gave way");
        assert!(!is_gone(&known) && !proxied.iter().any(is_gone));
        drop((known, proxied, held));
        assert_eq!(connections.0.limits.in_use(Resource::Connections), 0);
    }
}
