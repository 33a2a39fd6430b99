//! Folders that lead to what strangers see: `has_open` is also of those above, so that indexes find the folders in a folder
//! that are shown, however many others there are.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Of those in the trash more than need be are said to: it does no harm, and is cleared some time after they come back.
const UP: [&str; 6] = [
    "UPDATE folders SET has_open = TRUE WHERE deletion_id IS NULL AND NOT has_open AND EXISTS (SELECT 1 FROM folders AS o \
        WHERE o.has_open AND o.deletion_id IS NULL AND o.path > folders.path || '/' AND o.path < folders.path || '0')",
    "UPDATE folders SET has_open = TRUE WHERE path = '' AND EXISTS (SELECT 1 FROM folders AS o \
        WHERE o.has_open AND o.deletion_id IS NULL)",
    "UPDATE folders SET has_open = TRUE WHERE deletion_id IN (SELECT o.deletion_id FROM folders AS o \
        WHERE o.has_open AND o.deletion_id IS NOT NULL)",
    "CREATE INDEX folders_open_name ON folders (parent_id, has_open, name, id) \
        WHERE has_open = TRUE AND deletion_id IS NULL",
    "CREATE INDEX folders_open_created ON folders (parent_id, has_open, created_at, id) \
        WHERE has_open = TRUE AND deletion_id IS NULL",
    "CREATE INDEX folders_open_updated ON folders (parent_id, has_open, updated_at, id) \
        WHERE has_open = TRUE AND deletion_id IS NULL",
];
const DOWN: [&str; 4] = [
    "DROP INDEX folders_open_name",
    "DROP INDEX folders_open_created",
    "DROP INDEX folders_open_updated",
    "UPDATE folders SET has_open = EXISTS (SELECT 1 FROM assets AS a \
        WHERE a.folder_id = folders.id AND a.open AND a.deletion_id IS NULL) WHERE has_open",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Also on SQLite: a process that is killed on the way leaves all of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &DOWN).await
    }
}

async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        manager.get_connection().execute_unprepared(statement).await?;
    }
    Ok(())
}
