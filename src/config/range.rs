//! Numbers among the settings, and within which ranges they may be.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::ConfigError;

/// A number within a range.
pub(super) fn in_range(
    name: &'static str,
    value: i64,
    range: RangeInclusive<i64>,
    allowed: &'static str,
) -> Result<i64, ConfigError> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::Value { name, problem: format!("{value} is out of range"), allowed })
}

/// How much of something there may be at the same time.
pub(super) fn bound(name: &'static str, value: i64) -> Result<usize, ConfigError> {
    let value = in_range(name, value, 1..=10_000_000, "1 to 10000000")?;
    Ok(usize::try_from(value).expect("at most 10000000"))
}

/// How much memory something may take.
pub(super) fn memory(name: &'static str, value: i64) -> Result<usize, ConfigError> {
    let allowed = "1048576 to 1099511627776 (1 TiB)";
    let value = in_range(name, value, 1_048_576..=1_099_511_627_776, allowed)?;
    Ok(usize::try_from(value).unwrap_or(usize::MAX))
}

/// A time within a range of seconds.
pub(super) fn seconds(
    name: &'static str,
    value: i64,
    range: RangeInclusive<i64>,
    allowed: &'static str,
) -> Result<Duration, ConfigError> {
    in_range(name, value, range, allowed).map(|value| Duration::from_secs(value.unsigned_abs()))
}
