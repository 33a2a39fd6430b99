//! Uploads whose bytes could not be removed wait for another try without holding up others.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::big_integer_null;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum UploadIntents {
    Table,
    SweepAt,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = big_integer_null(UploadIntents::SweepAt);
        manager.alter_table(Table::alter().table(UploadIntents::Table).add_column(column).take()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::alter().table(UploadIntents::Table).drop_column(UploadIntents::SweepAt).take();
        manager.alter_table(table).await
    }
}
