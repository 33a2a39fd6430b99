//! What is searched: the folded texts of each asset and folder, and an index of the three-letter pieces in it
//! (FTS5 on SQLite, a GIN index on PostgreSQL). The server fills it when it first starts on these tables.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, text, uuid};
use sea_orm_migration::sea_orm::DbBackend;

use crate::text::ordered_text;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum AssetTexts {
    Table,
    Id,
    AssetId,
    Text,
}

#[derive(DeriveIden)]
enum FolderTexts {
    Table,
    Id,
    FolderId,
    Name,
    Path,
}

#[derive(DeriveIden)]
enum AssetTags {
    Table,
    Tag,
    AssetId,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Also on SQLite: a process that is killed on the way leaves all of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let assets = Table::create()
            .table(AssetTexts::Table)
            .col(big_integer(AssetTexts::Id).primary_key().auto_increment())
            .col(uuid(AssetTexts::AssetId).unique_key())
            .col(text(AssetTexts::Text))
            .take();
        manager.create_table(assets).await?;
        let folders = Table::create()
            .table(FolderTexts::Table)
            .col(big_integer(FolderTexts::Id).primary_key().auto_increment())
            .col(uuid(FolderTexts::FolderId).unique_key())
            .col(text(FolderTexts::Name))
            .col(text(FolderTexts::Path))
            .take();
        manager.create_table(folders).await?;
        let connection = manager.get_connection();
        for noun in ["asset", "folder"] {
            let statements: &[String] = &match manager.get_database_backend() {
                DbBackend::Postgres => vec![
                    format!("ALTER TABLE {noun}_texts ADD COLUMN grams tsvector NOT NULL DEFAULT ''"),
                    format!("CREATE INDEX {noun}_texts_grams ON {noun}_texts USING gin (grams)"),
                ],
                _ => vec![format!(
                    "CREATE VIRTUAL TABLE {noun}_grams USING fts5(grams, content = '', contentless_delete = 1, \
                     detail = none, tokenize = 'ascii', prefix = '2 4')"
                )],
            };
            for sql in statements {
                connection.execute_unprepared(sql).await?;
            }
        }
        let tags = Table::create()
            .table(AssetTags::Table)
            .col(ordered_text(manager, AssetTags::Tag).not_null())
            .col(uuid(AssetTags::AssetId))
            .primary_key(Index::create().col(AssetTags::Tag).col(AssetTags::AssetId))
            .take();
        manager.create_table(tags).await?;
        let by_asset =
            Index::create().name("asset_tags_asset").table(AssetTags::Table).col(AssetTags::AssetId).take();
        manager.create_index(by_asset).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Sqlite {
            for noun in ["asset", "folder"] {
                let sql = format!("DROP TABLE {noun}_grams");
                manager.get_connection().execute_unprepared(&sql).await?;
            }
        }
        for table in
            [AssetTags::Table.into_iden(), FolderTexts::Table.into_iden(), AssetTexts::Table.into_iden()]
        {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        manager
            .get_connection()
            .execute_unprepared("DELETE FROM settings WHERE name = 'search_index'")
            .await?;
        Ok(())
    }
}
