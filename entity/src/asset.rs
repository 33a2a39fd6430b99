//! A stable reference whose content changes by versions. Its path is its folder's path and its name.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Actor, AssetId, DeletionId, FolderId, Timestamp, VersionId};

/// Who may read the published bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Visibility {
    /// Anyone who has the URL.
    Public,
    /// Those with a role or a signed URL.
    Private,
}

/// Free words on an asset, in the order given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Tags(pub Vec<String>);

/// A row of `assets`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "assets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AssetId,
    pub folder_id: FolderId,
    pub name: String,
    pub visibility: Visibility,
    pub title: Option<String>,
    pub alt_text: Option<String>,
    pub tags: Tags,
    pub metadata: Json,
    /// Number of the newest version; 0 while there is none.
    pub latest_number: i32,
    /// Grows by one with every change of the asset or its versions.
    pub revision: i64,
    pub created_at: Timestamp,
    pub created_by: Actor,
    pub updated_at: Timestamp,
    pub updated_by: Actor,
    /// The deletion that took it by itself; null also while its folder is in the trash.
    pub deletion_id: Option<DeletionId>,
    /// The version that readers get.
    pub published_version_id: Option<VersionId>,
    /// Its media type without parameters, in lower case, to filter by.
    pub published_content_type: Option<String>,
    /// Its size; 0 while nothing is published.
    pub published_size_bytes: i64,
    /// Its media type as it is.
    pub published_media_type: Option<String>,
    /// Its filename.
    pub published_filename: Option<String>,
    /// Its SHA-256 in lower-case hex.
    pub published_sha256: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "super::folder::Entity",
        from = "Column::FolderId",
        to = "super::folder::Column::Id"
    )]
    Folder,
    #[sea_orm(has_many = "super::version::Entity")]
    Version,
}

impl Related<super::folder::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Folder.def()
    }
}

impl Related<super::version::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Version.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
