//! A moment of the library, as an argument.

use async_graphql::OneofObject;

use super::scalar::DateTime;
use crate::domain::as_of::Moment;

/// A moment of the library: an instant, or right after the entry of a cursor.
#[derive(OneofObject, Clone)]
pub enum AsOf {
    /// What had happened up to this instant.
    Time(DateTime),
    /// What had happened up to this cursor of the changelog.
    Cursor(String),
}

impl From<AsOf> for Moment {
    fn from(at: AsOf) -> Self {
        match at {
            AsOf::Time(at) => Self::Time(at.0),
            AsOf::Cursor(cursor) => Self::Cursor(cursor),
        }
    }
}
