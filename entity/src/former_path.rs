//! Where something was before it moved or was deleted, so that old URLs lead on.

use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::{AssetId, FolderId};

/// A row of `former_paths`. Ids grow with time.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "former_paths")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The path that it had until then.
    pub path: String,
    /// The folder that had it. All below went along.
    pub folder_id: Option<FolderId>,
    /// The asset that had it.
    pub asset_id: Option<AssetId>,
    /// The folders that it was in then: ids, 16 bytes each, nearest first, without the root.
    pub above: Vec<u8>,
    /// Where it went; null for the trash, until it came back.
    pub next_path: Option<String>,
    /// When it left for the trash: the moment, as an id, at which it came back. In the row of an asset that was
    /// purged with a folder: the moment at which that went to the trash.
    pub back_id: Option<Uuid>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
