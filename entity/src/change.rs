//! One entry of the changelog: what was true when it was written. Entries are never changed.

use sea_orm::entity::prelude::*;

use crate::{Actor, AssetId, FolderId, Timestamp, VersionId};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChangeType {
    FolderCreate,
    FolderUpdate,
    FolderMove,
    FolderDelete,
    FolderRestore,
    AssetCreate,
    AssetUpdate,
    AssetPublish,
    AssetArchive,
    AssetMove,
    AssetRename,
    AssetDelete,
    AssetRestore,
    AssetPurge,
    VersionCreate,
}

/// A row of `changes`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "changes")]
pub struct Model {
    /// Dense and in commit order, over the whole library.
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    /// `seq` of the last entry of the same mutation; what it committed is never split.
    pub batch_end_seq: i64,
    #[sea_orm(column_name = "type")]
    pub kind: ChangeType,
    pub at: Timestamp,
    pub actor: Actor,
    /// Path of the folder or asset after the change.
    pub path: String,
    /// Path before a move or rename.
    pub old_path: Option<String>,
    pub folder_id: Option<FolderId>,
    pub asset_id: Option<AssetId>,
    pub version_id: Option<VersionId>,
    pub version_number: Option<i32>,
    pub content_type: Option<String>,
    pub size_bytes: Option<i64>,
    pub sha256: Option<String>,
    /// The folders that it happened in: ids, 16 bytes each, those directly concerned first.
    pub folder_ids: Vec<u8>,
    /// How many of `folder_ids` are directly concerned; the others are above them.
    pub direct_folders: i32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
