//! A place in the tree. `path` is kept with the row, so that a look-up by path is one index probe.

use sea_orm::entity::prelude::*;

use crate::{Actor, DeletionId, FolderId, Timestamp};

/// A row of `folders`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "folders")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: FolderId,
    /// Null for the root alone.
    pub parent_id: Option<FolderId>,
    /// Last segment of the path; empty for the root.
    pub name: String,
    /// Slash-separated, unique outside the trash; empty for the root.
    pub path: String,
    /// Count of segments in the path; 0 for the root.
    pub depth: i32,
    /// What people call it; null follows the name.
    pub title: Option<String>,
    /// Grows by one with every change of this folder itself.
    pub revision: i64,
    pub created_at: Timestamp,
    pub created_by: Actor,
    pub updated_at: Timestamp,
    pub updated_by: Actor,
    /// The deletion that took it; null while it is not in the trash. Its path stays as it was.
    pub deletion_id: Option<DeletionId>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(has_many = "super::asset::Entity")]
    Asset,
}

impl Related<super::asset::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Asset.def()
    }
}

impl Model {
    /// What people see: the title or, without one, the name.
    #[must_use]
    pub fn display_title(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.name)
    }
}

impl ActiveModelBehavior for ActiveModel {}
