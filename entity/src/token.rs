//! Tokens that programs show instead of a person's name and password.

use sea_orm::entity::prelude::*;

use crate::{Actor, Timestamp, TokenId};

/// What the holder of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// May read everything but tokens.
    Viewer,
    /// May also write.
    Editor,
    /// May do all.
    Admin,
}

/// A row of `tokens`. The secret itself is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tokens")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TokenId,
    pub name: String,
    pub role: Role,
    /// SHA-256 of the secret in lower-case hex.
    pub secret_sha256: String,
    pub created_at: Timestamp,
    pub created_by: Actor,
    /// It is refused from then on; null never.
    pub expires_at: Option<Timestamp>,
    /// When it was shown last, to within a minute.
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
