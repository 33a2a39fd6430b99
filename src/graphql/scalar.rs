//! Scalars of the API.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use entity::Timestamp;
use serde_json::Value as JsonValue;

/// Largest integer that JavaScript reads exactly.
const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// An instant in UTC with millisecond precision (RFC 3339), e.g. `2026-11-21T19:02:00.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime(pub Timestamp);

/// An instant in UTC with millisecond precision (RFC 3339), e.g. `2026-11-21T19:02:00.000Z`.
#[Scalar(specified_by_url = "https://scalars.graphql.org/andimarek/date-time")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        let instant: jiff::Timestamp = text
            .parse()
            .map_err(|_| InputValueError::custom(format!("{text:?} is not an RFC 3339 instant")))?;
        Ok(Self(Timestamp(instant.as_millisecond())))
    }

    fn to_value(&self) -> Value {
        Value::String(rfc3339(self.0))
    }
}

/// An instant as text.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    format!("{instant:.3}")
}

/// A count of bytes: an integer up to 2^53 - 1, so that JavaScript reads it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCount(pub i64);

/// A count of bytes: an integer up to 2^53 - 1, so that JavaScript reads it exactly.
#[Scalar(specified_by_url = "https://tc39.es/ecma262/#sec-number.max_safe_integer")]
impl ScalarType for ByteCount {
    fn parse(value: Value) -> InputValueResult<Self> {
        let count = match &value {
            Value::Number(number) => number.as_i64(),
            _ => return Err(InputValueError::expected_type(value)),
        };
        match count {
            Some(count @ 0..=MAX_SAFE_INTEGER) => Ok(Self(count)),
            _ => Err(InputValueError::custom(format!("{value} is not an integer from 0 to 2^53 - 1"))),
        }
    }

    fn to_value(&self) -> Value {
        Value::Number(self.0.into())
    }
}

/// An absolute URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(pub String);

/// An absolute URL.
#[Scalar(name = "URL", specified_by_url = "https://url.spec.whatwg.org/")]
impl ScalarType for Url {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) if url::Url::parse(&text).is_ok() => Ok(Self(text)),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// Any JSON value.
#[derive(Debug, Clone, PartialEq)]
pub struct Json(pub JsonValue);

/// Any JSON value.
#[Scalar(name = "JSON", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        value.into_json().map(Self).map_err(InputValueError::custom)
    }

    fn to_value(&self) -> Value {
        Value::from_json(self.0.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_end_in_z_and_have_milliseconds() {
        assert_eq!(rfc3339(Timestamp(1_795_287_720_000)), "2026-11-21T19:02:00.000Z");
        assert_eq!(rfc3339(Timestamp(7)), "1970-01-01T00:00:00.007Z");
        let parsed = DateTime::parse(Value::from("2026-11-21T20:02:00+01:00")).expect("an instant");
        assert_eq!(parsed.0, Timestamp(1_795_287_720_000));
        assert!(DateTime::parse(Value::from("yesterday")).is_err());
    }

    #[test]
    fn byte_counts_are_bounded_integers() {
        assert!(ByteCount::parse(Value::from(1i64 << 40)).is_ok());
        for bad in [Value::from(-1), Value::from(1.5), Value::from(1i64 << 53), Value::from("1")] {
            assert!(ByteCount::parse(bad.clone()).is_err(), "{bad}");
        }
    }
}
