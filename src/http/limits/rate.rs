//! How often a client may ask: the holder of a token, an address, and an address with tokens that prove nothing yet.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::Client;
use crate::app::App;
use crate::config::{Rate, Rates};

/// How often what nobody asks with any more is forgotten.
const FORGET: Duration = Duration::from_secs(60);

/// Counts requests.
pub struct RateLimits {
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

impl RateLimits {
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
        let counted = match client.counted() {
            Client::Token(token) => count(self.tokens.as_ref(), &token),
            // Not of the address: it may be one that many have, of whom some ask too often.
            Client::Unproven(address) => count(self.unproven.as_ref(), &address),
            Client::Anonymous(address) => count(self.addresses.as_ref(), &address),
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
