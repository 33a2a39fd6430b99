//! Instants as the database keeps them: whole milliseconds since 1970-01-01T00:00:00Z.

use sea_orm::DeriveValueType;

/// Milliseconds since the Unix epoch, UTC. An integer compares and sorts alike on every database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, DeriveValueType)]
pub struct Timestamp(pub i64);
