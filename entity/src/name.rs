//! Which names are taken in which folder. Folders and assets share them, so that a tree can lie on a disk;
//! this table lets the database itself refuse a second holder, whichever kind it is.

use sea_orm::entity::prelude::*;

use crate::FolderId;

/// What holds a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Holder {
    Folder,
    Asset,
}

/// A row of `names`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "names")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub folder_id: FolderId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub holder: Holder,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
