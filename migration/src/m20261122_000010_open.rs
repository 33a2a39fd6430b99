//! What strangers see: columns and indexes that find it however much else there is.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::boolean;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Assets {
    Table,
    Open,
}

#[derive(DeriveIden)]
enum Folders {
    Table,
    HasOpen,
}

const UP: [&str; 5] = [
    "UPDATE assets SET open = (visibility = 'PUBLIC' AND published_version_id IS NOT NULL)",
    "UPDATE folders SET has_open = EXISTS (SELECT 1 FROM assets AS a \
        WHERE a.folder_id = folders.id AND a.open AND a.deletion_id IS NULL)",
    "CREATE INDEX assets_open ON assets (folder_id, deletion_id, name, id) WHERE open",
    "CREATE INDEX assets_open_name ON assets (name, id) WHERE open AND deletion_id IS NULL",
    "CREATE INDEX folders_open ON folders (path) WHERE has_open AND deletion_id IS NULL",
];
const DOWN: [&str; 3] = ["DROP INDEX assets_open", "DROP INDEX assets_open_name", "DROP INDEX folders_open"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Also on SQLite: a process that is killed on the way leaves all of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = boolean(Assets::Open).default(false).take();
        manager.alter_table(Table::alter().table(Assets::Table).add_column(column).take()).await?;
        let column = boolean(Folders::HasOpen).default(false).take();
        manager.alter_table(Table::alter().table(Folders::Table).add_column(column).take()).await?;
        for statement in UP {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in DOWN {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        manager.alter_table(Table::alter().table(Assets::Table).drop_column(Assets::Open).take()).await?;
        manager.alter_table(Table::alter().table(Folders::Table).drop_column(Folders::HasOpen).take()).await
    }
}
