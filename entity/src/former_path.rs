//! Where something was before it moved or was deleted, so that old URLs lead on. A row that names nothing, or
//! something that is gone, ends such a trail.

use sea_orm::entity::prelude::*;
use uuid::Uuid;

use crate::{AssetId, FolderId};

/// A row of `former_paths`. Ids grow with time: the newest row for a path counts.
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
    /// When it left for the trash: the moment, as an id, at which it came back.
    pub back_id: Option<Uuid>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
