//! How often one may ask.

use serde::Deserialize;

use super::{ConfigError, in_range};

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; 0 is as often as one likes.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

/// How often one may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Who shows no token that is accepted, by address.
    pub address: Rate,
    /// Who shows one that is.
    pub token: Rate,
    /// Who shows one that has to be looked at, by address.
    pub unproven: Rate,
}

/// The section as files and the environment give it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    address_per_second: i64,
    address_burst: i64,
    token_per_second: i64,
    token_burst: i64,
    unproven_per_second: i64,
    unproven_burst: i64,
}

impl Raw {
    pub(super) fn check(&self) -> Result<Rates, ConfigError> {
        let number = |name, value| {
            let value = in_range(name, value, 0..=1_000_000, "0 to 1000000")?;
            Ok(u32::try_from(value).expect("at most 1000000"))
        };
        Ok(Rates {
            address: Rate {
                per_second: number("rate_limit.address_per_second", self.address_per_second)?,
                burst: number("rate_limit.address_burst", self.address_burst)?,
            },
            token: Rate {
                per_second: number("rate_limit.token_per_second", self.token_per_second)?,
                burst: number("rate_limit.token_burst", self.token_burst)?,
            },
            unproven: Rate {
                per_second: number("rate_limit.unproven_per_second", self.unproven_per_second)?,
                burst: number("rate_limit.unproven_burst", self.unproven_burst)?,
            },
        })
    }
}
