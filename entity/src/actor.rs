//! Who did something, as it was then; kept with every row that was made or changed.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

/// Who did something. A value, not a reference: a renamed or removed user stays what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Actor {
    /// What kind of actor it is.
    pub kind: ActorKind,
    /// Stable name of the actor among those of its kind.
    pub id: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What kind of actor did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ActorKind {
    /// A person, known from a token or JWT.
    User,
    /// An API token.
    Token,
    /// The server itself.
    System,
    /// Nobody known.
    Anonymous,
}
