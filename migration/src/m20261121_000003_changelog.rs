//! The changelog, its index by folder, its head.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, binary, boolean, integer, integer_null, json_binary, text, text_null,
    uuid, uuid_null,
};
use sea_orm_migration::sea_orm::DbBackend;
use sea_orm_migration::sea_orm::prelude::Uuid;

use crate::text::ordered_text;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Changes {
    Table,
    Seq,
    BatchEndSeq,
    Type,
    At,
    Actor,
    Path,
    OldPath,
    FolderId,
    AssetId,
    VersionId,
    VersionNumber,
    ContentType,
    SizeBytes,
    Sha256,
    FolderIds,
    DirectFolders,
}

#[derive(DeriveIden)]
enum ChangeFolders {
    Table,
    FolderId,
    Seq,
    Direct,
}

#[derive(DeriveIden)]
enum ChangelogHead {
    Table,
    Id,
    Epoch,
    LastSeq,
    FloorSeq,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Also on SQLite: a process that is killed on the way leaves all of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        changes(manager).await?;
        change_folders(manager).await?;
        head(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in
            [ChangelogHead::Table.into_iden(), ChangeFolders::Table.into_iden(), Changes::Table.into_iden()]
        {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        Ok(())
    }
}

async fn changes(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(Changes::Table)
        .col(big_integer(Changes::Seq).primary_key())
        .col(big_integer(Changes::BatchEndSeq))
        .col(text(Changes::Type))
        .col(big_integer(Changes::At))
        .col(json_binary(Changes::Actor))
        .col(ordered_text(manager, Changes::Path).not_null())
        .col(ordered_text(manager, Changes::OldPath))
        .col(uuid_null(Changes::FolderId))
        .col(uuid_null(Changes::AssetId))
        .col(uuid_null(Changes::VersionId))
        .col(integer_null(Changes::VersionNumber))
        .col(text_null(Changes::ContentType))
        .col(big_integer_null(Changes::SizeBytes))
        .col(text_null(Changes::Sha256))
        .col(binary(Changes::FolderIds))
        .col(integer(Changes::DirectFolders))
        .take();
    manager.create_table(table).await?;
    let by_asset = Index::create()
        .name("changes_asset")
        .table(Changes::Table)
        .col(Changes::AssetId)
        .col(Changes::Seq)
        .take();
    manager.create_index(by_asset).await?;
    let by_type = Index::create()
        .name("changes_type")
        .table(Changes::Table)
        .col(Changes::Type)
        .col(Changes::Seq)
        .take();
    manager.create_index(by_type).await
}

async fn change_folders(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let mut table = Table::create();
    table
        .table(ChangeFolders::Table)
        .col(uuid(ChangeFolders::FolderId))
        .col(big_integer(ChangeFolders::Seq))
        .col(boolean(ChangeFolders::Direct))
        .primary_key(Index::create().col(ChangeFolders::FolderId).col(ChangeFolders::Seq));
    if manager.get_database_backend() == DbBackend::Sqlite {
        // The key is all there is to find a row by.
        table.extra("WITHOUT ROWID");
    }
    manager.create_table(table.take()).await
}

async fn head(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(ChangelogHead::Table)
        .col(integer(ChangelogHead::Id).primary_key())
        .col(uuid(ChangelogHead::Epoch))
        .col(big_integer(ChangelogHead::LastSeq))
        .col(big_integer(ChangelogHead::FloorSeq))
        .check(Expr::col(ChangelogHead::Id).eq(1))
        .take();
    manager.create_table(table).await?;
    let row = Query::insert()
        .into_table(ChangelogHead::Table)
        .columns([ChangelogHead::Id, ChangelogHead::Epoch, ChangelogHead::LastSeq, ChangelogHead::FloorSeq])
        .values_panic([1.into(), Uuid::new_v4().into(), 0i64.into(), 0i64.into()])
        .take();
    manager.execute(row).await
}
