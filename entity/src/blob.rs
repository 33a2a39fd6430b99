//! Bytes in storage, each content once however many files have it.

use sea_orm::entity::prelude::*;

use crate::{BlobId, Timestamp};

/// A row of `blobs`. It is written after its bytes are in place; all that ever changes is where they lie.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "blobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: BlobId,
    /// Name of the storage backend that has the bytes.
    pub backend: String,
    /// Lower-case hex.
    pub sha256: String,
    pub size_bytes: i64,
    pub created_at: Timestamp,
    /// The media type that a bucket answers readers with; null for what is older than buckets.
    pub content_type: Option<String>,
    /// The filename that it answers them with.
    pub filename: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
