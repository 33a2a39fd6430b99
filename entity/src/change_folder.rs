//! Index of the changelog by folder: one row for each folder that an entry happened in or below.

use sea_orm::entity::prelude::*;

use crate::FolderId;

/// A row of `change_folders`. The root has none: every entry is below it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "change_folders")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub folder_id: FolderId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    /// It happened to the folder itself or right in it, not further below.
    pub direct: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
