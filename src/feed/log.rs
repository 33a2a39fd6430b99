//! Where the entries are: the tables, or what stands for them in a simulation.

use std::sync::Arc;

use async_trait::async_trait;
use entity::{change, changelog_head};
use sea_orm::{
    ColumnTrait as _, DatabaseConnection, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use super::page;

/// Entries in order, of which those that were once read never change.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Where the log begins and ends at the moment.
    async fn head(&self) -> Result<changelog_head::Model, DbErr>;

    /// Entries behind `after`, in order, `limit` at most.
    async fn read(&self, after: i64, limit: usize) -> Result<Vec<Arc<change::Model>>, DbErr>;
}

/// The tables, read by the connections for reading.
pub struct Tables(pub DatabaseConnection);

#[async_trait]
impl Log for Tables {
    async fn head(&self) -> Result<changelog_head::Model, DbErr> {
        page::head(&self.0).await
    }

    async fn read(&self, after: i64, limit: usize) -> Result<Vec<Arc<change::Model>>, DbErr> {
        let rows = change::Entity::find()
            .filter(change::Column::Seq.gt(after))
            .order_by_asc(change::Column::Seq)
            .limit(limit as u64)
            .all(&self.0)
            .await?;
        Ok(rows.into_iter().map(Arc::new).collect())
    }
}
