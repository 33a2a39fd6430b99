//! How often one may ask: a token, an address, and an address whose tokens are refused.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::config::{Rate, Rates};

/// How often what nobody asks with any more is forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// Tokens that are refused which an address may show, a second and at once. Nobody guesses a secret; it is about what
/// looking costs. Many with a token that has just expired may share an address.
const WRONG: Rate = Rate { per_second: 50, burst: 500 };
/// How long an address is not heard that showed more, but for what it asks without a token.
const BLOCKED_FOR: Duration = Duration::from_secs(5);
/// Addresses that are known to show too many.
const BLOCKED: u64 = 100_000;

/// Counts requests.
pub struct Limits {
    addresses: Option<Limiter<IpAddr>>,
    tokens: Option<Limiter<[u8; 32]>>,
    wrong: Limiter<IpAddr>,
    /// Addresses that showed too many wrong tokens a moment ago.
    blocked: Cache<IpAddr, ()>,
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

impl Limits {
    /// None in dev mode, where everyone is on this machine.
    pub fn new(app: &App) -> Option<Self> {
        let config = app.config();
        let Rates { address, token } = config.rates;
        (!config.dev).then(|| Self {
            addresses: Limiter::new(address),
            tokens: Limiter::new(token),
            wrong: Limiter::new(WRONG).expect("it is more than nothing"),
            blocked: Cache::builder().max_capacity(BLOCKED).time_to_live(BLOCKED_FOR).build(),
        })
    }

    /// Counts a request of an address, with what it shows as `Authorization`.
    ///
    /// # Errors
    /// How long it is to wait.
    pub fn count(&self, address: IpAddr, authorization: Option<&[u8]>) -> Result<(), Duration> {
        let address = network(address);
        match authorization {
            Some(shown) => {
                if self.blocked.contains_key(&address) {
                    return Err(BLOCKED_FOR);
                }
                // Many may share an address, e.g. behind one of a company; a token is one client.
                let key = Sha256::digest(shown).into();
                self.tokens.as_ref().map_or(Ok(()), |tokens| tokens.count(&key))
            }
            None => self.addresses.as_ref().map_or(Ok(()), |addresses| addresses.count(&address)),
        }
    }

    /// Counts a token that was refused.
    pub fn count_wrong(&self, address: IpAddr) {
        let address = network(address);
        if self.wrong.count(&address).is_err() {
            self.blocked.insert(address, ());
        }
    }

    /// Forgets who does not ask any more; to be called now and then.
    pub fn forget(&self) {
        for addresses in self.addresses.iter().chain([&self.wrong]) {
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

/// Who is counted as one: an address, of IPv6 the network that is given to one customer.
fn network(address: IpAddr) -> IpAddr {
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
