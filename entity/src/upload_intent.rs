//! A permission to send the bytes of one coming version, or of a file without an asset.

use sea_orm::entity::prelude::*;

use crate::asset::Visibility;
use crate::{Actor, BlobId, StoredFileId, Timestamp, UploadIntentId, VersionId};

/// Where an upload stands. `Created` and `Received` are open, the others are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Waiting for bytes.
    Created,
    /// Bytes arrived and were checked.
    Received,
    /// It became a version.
    Finished,
    /// Bytes did not match what was declared.
    Rejected,
    /// Taken back by a client.
    Cancelled,
    /// Its time ran out.
    Expired,
}

/// Why bytes were rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RejectionCode {
    /// Another count of bytes than declared.
    SizeMismatch,
    /// Another SHA-256 than declared.
    ChecksumMismatch,
    /// The bytes are of another kind than declared.
    ContentTypeMismatch,
}

/// A row of `upload_intents`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "upload_intents")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: UploadIntentId,
    /// Where the version will appear; null for bytes without an asset.
    pub path: Option<String>,
    pub filename: String,
    pub declared_content_type: Option<String>,
    pub declared_size_bytes: Option<i64>,
    pub declared_sha256: Option<String>,
    pub label: Option<String>,
    pub publish: bool,
    pub visibility: Option<Visibility>,
    pub if_revision: Option<i64>,
    /// Size of every part but the last; null when one request brings all bytes.
    pub part_size_bytes: Option<i64>,
    pub status: Status,
    pub rejection_code: Option<RejectionCode>,
    pub rejection: Option<String>,
    /// The stored file that the bytes become at finish.
    pub stored_file_id: StoredFileId,
    /// Name of the storage backend that takes the bytes.
    pub backend: String,
    /// Where the bytes lie for good; by an intent of before there was this, at the id of its stored file.
    pub blob_id: Option<BlobId>,
    /// What a bucket knows an upload in parts by; null for a folder.
    pub upload_ref: Option<String>,
    /// Set once bytes were received: which of the attempts to send them counts.
    pub staging_key: Option<String>,
    pub content_type: Option<String>,
    pub received_bytes: i64,
    pub sha256: Option<String>,
    pub version_id: Option<VersionId>,
    pub created_at: Timestamp,
    pub created_by: Actor,
    pub expires_at: Timestamp,
    /// Set once an intent that is over has no bytes left behind.
    pub swept_at: Option<Timestamp>,
    /// Not to be swept before then: it was tried, and the backend was away.
    pub sweep_at: Option<Timestamp>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
