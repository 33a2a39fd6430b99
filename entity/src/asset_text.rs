//! What a search looks at in an asset: name, title, alternative text and tags, folded.

use sea_orm::entity::prelude::*;

use crate::AssetId;

/// A row of `asset_texts`. PostgreSQL's has a column `grams` besides, which only SQL by hand touches.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "asset_texts")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub asset_id: AssetId,
    /// The folded texts, a line each.
    pub text: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
