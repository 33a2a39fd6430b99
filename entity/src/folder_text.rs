//! What a search looks at in a folder: its name and path, folded.

use sea_orm::entity::prelude::*;

use crate::FolderId;

/// A row of `folder_texts`. PostgreSQL's has a column `grams` besides, which only SQL by hand touches.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "folder_texts")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub folder_id: FolderId,
    /// The folded name.
    pub name: String,
    /// The folded path.
    pub path: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
