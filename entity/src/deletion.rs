//! One deletion that can be taken back: what it took carries its id.

use sea_orm::entity::prelude::*;

use crate::{Actor, AssetId, DeletionId, FolderId, Timestamp};

/// A row of `deletions`. It has a folder or an asset, never both.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deletions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DeletionId,
    /// The folder that was deleted, with all below it.
    pub folder_id: Option<FolderId>,
    /// The asset that was deleted.
    pub asset_id: Option<AssetId>,
    /// Where it was.
    pub path: String,
    /// Folders that it took, itself included.
    pub folders: i32,
    /// Assets that it took.
    pub assets: i32,
    pub deleted_at: Timestamp,
    pub deleted_by: Actor,
    /// When the trash lets go of it.
    pub purge_at: Timestamp,
    /// Set once letting go began: there is no way back, and a crash on the way is gone on from.
    pub purging: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
