//! Bytes that no row needs any more, until they are removed.

use sea_orm::entity::prelude::*;

use crate::{BlobId, Timestamp};

/// A row of `garbage`. It goes when its bytes are gone.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "garbage")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: BlobId,
    /// Name of the storage backend that has the bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub backend: String,
    pub since: Timestamp,
    /// How often removing them failed.
    pub attempts: i32,
    /// Not before then.
    pub try_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
