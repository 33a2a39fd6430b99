//! A part of an upload that was received.

use sea_orm::entity::prelude::*;

use crate::UploadIntentId;

/// A row of `upload_parts`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "upload_parts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub intent_id: UploadIntentId,
    /// 1, 2, 3 …
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    pub size_bytes: i64,
    /// Lower-case hex.
    pub sha256: String,
    /// Which of the attempts to send it counts.
    pub staging_key: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
