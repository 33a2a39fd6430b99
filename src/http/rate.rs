//! How often one may ask: a token, an address, and an address with tokens that prove nothing yet.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::app::App;
use crate::config::{Rate, Rates};

/// How often what nobody asks with any more is forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// Counts requests.
pub struct Limits {
    addresses: Option<Limiter<IpAddr>>,
    tokens: Option<Limiter<[u8; 32]>>,
    unproven: Option<Limiter<IpAddr>>,
}

struct Limiter<K: Hash + Eq + Clone>(RateLimiter<K, HashMapStateStore<K>, DefaultClock>);

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(rate: Rate) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(rate.per_second)?);
        let quota = quota.allow_burst(NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN));
        Some(Self(RateLimiter::hashmap(quota)))
    }

    /// Counts one; refused, it says how long to wait.
    fn count(&self, key: &K) -> Result<(), Duration> {
        self.0.check_key(key).map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }

    fn forget(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }
}

/// Who is counted as one.
#[derive(Debug, Clone, Copy)]
pub enum Client {
    /// Who shows a token that was accepted lately, by its digest: many may share an address, e.g. behind one of a
    /// company.
    Token([u8; 32]),
    /// An address that shows a token which has to be looked at.
    Unproven(IpAddr),
    /// An address that shows none.
    Address(IpAddr),
}

impl Limits {
    /// None in dev mode, where everyone is on this machine.
    pub fn new(app: &App) -> Option<Self> {
        let config = app.config();
        let Rates { address, token, unproven } = config.rates;
        (!config.dev).then(|| Self {
            addresses: Limiter::new(address),
            tokens: Limiter::new(token),
            unproven: Limiter::new(unproven),
        })
    }

    /// Counts a request, or an operation on a socket.
    ///
    /// # Errors
    /// How long to wait before the next, in seconds.
    pub fn count(&self, client: Client) -> Result<(), u64> {
        let counted = match client {
            Client::Token(token) => count(self.tokens.as_ref(), &token),
            // Not of the address: it may be one that many have, of whom some ask too often.
            Client::Unproven(address) => count(self.unproven.as_ref(), &network(address)),
            Client::Address(address) => count(self.addresses.as_ref(), &network(address)),
        };
        counted.map_err(|wait| wait.as_secs().saturating_add(1))
    }

    /// Forgets who does not ask any more; to be called now and then.
    pub fn forget(&self) {
        for addresses in self.addresses.iter().chain(&self.unproven) {
            addresses.forget();
        }
        if let Some(tokens) = &self.tokens {
            tokens.forget();
        }
    }

    /// Time between two such calls.
    pub const fn forget_every() -> Duration {
        FORGET
    }
}

fn count<K: Hash + Eq + Clone>(limiter: Option<&Limiter<K>>, key: &K) -> Result<(), Duration> {
    limiter.map_or(Ok(()), |limiter| limiter.count(key))
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

    #[test]
    fn a_customer_of_ipv6_is_one_whatever_the_address() {
        let network = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
