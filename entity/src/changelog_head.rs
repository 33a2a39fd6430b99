//! The one row that counts the changelog's entries. Bumping it orders all commits.

use sea_orm::entity::prelude::*;

/// The row of `changelog_head`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "changelog_head")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    /// Made with the database; cursors carry it, so that one from elsewhere is refused.
    pub epoch: Uuid,
    /// `seq` of the newest entry; 0 while there is none.
    pub last_seq: i64,
    /// Entries up to this one are no longer kept.
    pub floor_seq: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
