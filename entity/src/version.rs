//! One immutable content of an asset.

use sea_orm::entity::prelude::*;

use crate::{Actor, AssetId, StoredFileId, Timestamp, VersionId};

/// What readers see of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Not yet shown to readers.
    Draft,
    /// What readers get; at most one for an asset, which a partial unique index keeps.
    Published,
    /// Was published, or set aside.
    Archived,
}

/// A row of `versions`. Only `state`, `label` and the stamps of publishing and archiving ever change.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "versions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: VersionId,
    pub asset_id: AssetId,
    /// 1, 2, 3 … without holes.
    pub number: i32,
    pub state: State,
    pub label: Option<String>,
    pub filename: String,
    pub content_type: String,
    pub stored_file_id: StoredFileId,
    pub size_bytes: i64,
    /// Lower-case hex.
    pub sha256: String,
    pub restored_from_id: Option<VersionId>,
    pub created_at: Timestamp,
    pub created_by: Actor,
    pub published_at: Option<Timestamp>,
    pub published_by: Option<Actor>,
    pub archived_at: Option<Timestamp>,
    pub archived_by: Option<Actor>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(belongs_to = "super::asset::Entity", from = "Column::AssetId", to = "super::asset::Column::Id")]
    Asset,
    #[sea_orm(
        belongs_to = "super::stored_file::Entity",
        from = "Column::StoredFileId",
        to = "super::stored_file::Column::Id"
    )]
    StoredFile,
}

impl Related<super::asset::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Asset.def()
    }
}

impl Related<super::stored_file::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::StoredFile.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
