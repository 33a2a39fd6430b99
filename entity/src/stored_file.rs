//! Bytes in storage that the server has read through: where they lie, how long they are, what they hash to.

use sea_orm::entity::prelude::*;

use crate::{Actor, BlobId, StoredFileId, Timestamp};

/// A row of `stored_files`. It is written after its bytes are in place; all that ever changes is that it
/// is deleted, and where they lie.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "stored_files")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: StoredFileId,
    /// Name of the storage backend that has the bytes.
    pub backend: String,
    pub content_type: String,
    pub size_bytes: i64,
    /// Lower-case hex.
    pub sha256: String,
    pub created_at: Timestamp,
    pub created_by: Actor,
    /// The bytes; null once it was deleted.
    pub blob_id: Option<BlobId>,
    /// A client knows it by its id: it stays until a client deletes it, whether a version uses it or not.
    pub kept: bool,
    pub deleted_at: Option<Timestamp>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
