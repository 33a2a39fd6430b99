//! Folders, names, assets, stored files, versions, settings; and the root folder.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, integer, json_binary, json_binary_null, text, text_null, uuid, uuid_null,
};

use sea_orm_migration::sea_orm::JsonValue;
use sea_orm_migration::sea_orm::prelude::Uuid;

use crate::text::ordered_text;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[derive(DeriveIden)]
enum Folders {
    Table,
    Id,
    ParentId,
    Name,
    Path,
    Depth,
    Title,
    Revision,
    CreatedAt,
    CreatedBy,
    UpdatedAt,
    UpdatedBy,
}

#[derive(DeriveIden)]
enum Names {
    Table,
    FolderId,
    Name,
    Holder,
}

#[derive(DeriveIden)]
enum Assets {
    Table,
    Id,
    FolderId,
    Name,
    Visibility,
    Title,
    AltText,
    Tags,
    Metadata,
    LatestNumber,
    Revision,
    CreatedAt,
    CreatedBy,
    UpdatedAt,
    UpdatedBy,
}

#[derive(DeriveIden)]
enum StoredFiles {
    Table,
    Id,
    Backend,
    ContentType,
    SizeBytes,
    Sha256,
    CreatedAt,
    CreatedBy,
}

#[derive(DeriveIden)]
pub enum Versions {
    Table,
    Id,
    AssetId,
    Number,
    State,
    Label,
    Filename,
    ContentType,
    StoredFileId,
    SizeBytes,
    Sha256,
    RestoredFromId,
    CreatedAt,
    CreatedBy,
    PublishedAt,
    PublishedBy,
    ArchivedAt,
    ArchivedBy,
}

#[derive(DeriveIden)]
enum Settings {
    Table,
    Name,
    Value,
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// Also on SQLite: a process that is killed on the way leaves all of it or nothing.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        folders(manager).await?;
        names(manager).await?;
        assets(manager).await?;
        stored_files(manager).await?;
        versions(manager).await?;
        let settings = Table::create()
            .table(Settings::Table)
            .col(text(Settings::Name).primary_key())
            .col(text(Settings::Value))
            .take();
        manager.create_table(settings).await?;
        root(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            Settings::Table.into_iden(),
            Versions::Table.into_iden(),
            StoredFiles::Table.into_iden(),
            Assets::Table.into_iden(),
            Names::Table.into_iden(),
            Folders::Table.into_iden(),
        ] {
            manager.drop_table(Table::drop().table(table).take()).await?;
        }
        Ok(())
    }
}

async fn folders(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(Folders::Table)
        .col(uuid(Folders::Id).primary_key())
        .col(uuid_null(Folders::ParentId))
        .col(ordered_text(manager, Folders::Name).not_null())
        .col(ordered_text(manager, Folders::Path).not_null())
        .col(integer(Folders::Depth))
        .col(text_null(Folders::Title))
        .col(big_integer(Folders::Revision))
        .col(big_integer(Folders::CreatedAt))
        .col(json_binary(Folders::CreatedBy))
        .col(big_integer(Folders::UpdatedAt))
        .col(json_binary(Folders::UpdatedBy))
        .foreign_key(
            ForeignKey::create().from(Folders::Table, Folders::ParentId).to(Folders::Table, Folders::Id),
        )
        // Only the root has no parent, no name and no path.
        .check(Expr::col(Folders::ParentId).is_null().eq(Expr::col(Folders::Path).eq("")))
        .check(Expr::col(Folders::Revision).gte(1))
        .take();
    manager.create_table(table).await?;
    for index in [
        Index::create().name("folders_path").table(Folders::Table).col(Folders::Path).unique().take(),
        Index::create()
            .name("folders_parent_name")
            .table(Folders::Table)
            .col(Folders::ParentId)
            .col(Folders::Name)
            .unique()
            .take(),
        Index::create()
            .name("folders_parent_title")
            .table(Folders::Table)
            .col(Folders::ParentId)
            .col(Folders::Title)
            .take(),
        Index::create()
            .name("folders_parent_created")
            .table(Folders::Table)
            .col(Folders::ParentId)
            .col(Folders::CreatedAt)
            .col(Folders::Id)
            .take(),
        Index::create()
            .name("folders_parent_updated")
            .table(Folders::Table)
            .col(Folders::ParentId)
            .col(Folders::UpdatedAt)
            .col(Folders::Id)
            .take(),
    ] {
        manager.create_index(index).await?;
    }
    Ok(())
}

async fn names(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(Names::Table)
        .col(uuid(Names::FolderId))
        .col(ordered_text(manager, Names::Name).not_null())
        .col(text(Names::Holder))
        .primary_key(Index::create().col(Names::FolderId).col(Names::Name))
        .foreign_key(ForeignKey::create().from(Names::Table, Names::FolderId).to(Folders::Table, Folders::Id))
        .check(Expr::col(Names::Holder).is_in(["FOLDER", "ASSET"]))
        .check(Expr::col(Names::Name).ne(""))
        .take();
    manager.create_table(table).await
}

async fn assets(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(Assets::Table)
        .col(uuid(Assets::Id).primary_key())
        .col(uuid(Assets::FolderId))
        .col(ordered_text(manager, Assets::Name).not_null())
        .col(text(Assets::Visibility))
        .col(text_null(Assets::Title))
        .col(text_null(Assets::AltText))
        .col(json_binary(Assets::Tags))
        .col(json_binary(Assets::Metadata))
        .col(integer(Assets::LatestNumber))
        .col(big_integer(Assets::Revision))
        .col(big_integer(Assets::CreatedAt))
        .col(json_binary(Assets::CreatedBy))
        .col(big_integer(Assets::UpdatedAt))
        .col(json_binary(Assets::UpdatedBy))
        .foreign_key(
            ForeignKey::create().from(Assets::Table, Assets::FolderId).to(Folders::Table, Folders::Id),
        )
        .check(Expr::col(Assets::Visibility).is_in(["PUBLIC", "PRIVATE"]))
        .check(Expr::col(Assets::Revision).gte(1))
        .check(Expr::col(Assets::LatestNumber).gte(0))
        .take();
    manager.create_table(table).await?;
    for index in [
        Index::create()
            .name("assets_folder_name")
            .table(Assets::Table)
            .col(Assets::FolderId)
            .col(Assets::Name)
            .unique()
            .take(),
        Index::create()
            .name("assets_folder_created")
            .table(Assets::Table)
            .col(Assets::FolderId)
            .col(Assets::CreatedAt)
            .col(Assets::Id)
            .take(),
        Index::create()
            .name("assets_folder_updated")
            .table(Assets::Table)
            .col(Assets::FolderId)
            .col(Assets::UpdatedAt)
            .col(Assets::Id)
            .take(),
    ] {
        manager.create_index(index).await?;
    }
    Ok(())
}

async fn stored_files(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(StoredFiles::Table)
        .col(uuid(StoredFiles::Id).primary_key())
        .col(text(StoredFiles::Backend))
        .col(text(StoredFiles::ContentType))
        .col(big_integer(StoredFiles::SizeBytes))
        .col(text(StoredFiles::Sha256))
        .col(big_integer(StoredFiles::CreatedAt))
        .col(json_binary(StoredFiles::CreatedBy))
        .check(Expr::col(StoredFiles::SizeBytes).gte(0))
        .check(Expr::expr(Func::char_length(Expr::col(StoredFiles::Sha256))).eq(64))
        .take();
    manager.create_table(table).await?;
    let by_hash =
        Index::create().name("stored_files_sha256").table(StoredFiles::Table).col(StoredFiles::Sha256).take();
    manager.create_index(by_hash).await
}

async fn versions(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let table = Table::create()
        .table(Versions::Table)
        .col(uuid(Versions::Id).primary_key())
        .col(uuid(Versions::AssetId))
        .col(integer(Versions::Number))
        .col(text(Versions::State))
        .col(text_null(Versions::Label))
        .col(text(Versions::Filename))
        .col(text(Versions::ContentType))
        .col(uuid(Versions::StoredFileId))
        .col(big_integer(Versions::SizeBytes))
        .col(text(Versions::Sha256))
        .col(uuid_null(Versions::RestoredFromId))
        .col(big_integer(Versions::CreatedAt))
        .col(json_binary(Versions::CreatedBy))
        .col(big_integer_null(Versions::PublishedAt))
        .col(json_binary_null(Versions::PublishedBy))
        .col(big_integer_null(Versions::ArchivedAt))
        .col(json_binary_null(Versions::ArchivedBy))
        .foreign_key(
            ForeignKey::create().from(Versions::Table, Versions::AssetId).to(Assets::Table, Assets::Id),
        )
        .foreign_key(
            ForeignKey::create()
                .from(Versions::Table, Versions::StoredFileId)
                .to(StoredFiles::Table, StoredFiles::Id),
        )
        .foreign_key(
            ForeignKey::create()
                .from(Versions::Table, Versions::RestoredFromId)
                .to(Versions::Table, Versions::Id),
        )
        .check(Expr::col(Versions::State).is_in(["DRAFT", "PUBLISHED", "ARCHIVED"]))
        .check(Expr::col(Versions::Number).gte(1))
        .take();
    manager.create_table(table).await?;
    for index in [
        Index::create()
            .name("versions_asset_number")
            .table(Versions::Table)
            .col(Versions::AssetId)
            .col(Versions::Number)
            .unique()
            .take(),
        Index::create()
            .name("versions_one_published")
            .table(Versions::Table)
            .col(Versions::AssetId)
            .unique()
            .and_where(Expr::col(Versions::State).eq("PUBLISHED"))
            .take(),
        Index::create()
            .name("versions_stored_file")
            .table(Versions::Table)
            .col(Versions::StoredFileId)
            .take(),
    ] {
        manager.create_index(index).await?;
    }
    Ok(())
}

async fn root(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let system = JsonValue::from_iter([("kind", "SYSTEM"), ("id", "vellum")]);
    let row = Query::insert()
        .into_table(Folders::Table)
        .columns([
            Folders::Id,
            Folders::Name,
            Folders::Path,
            Folders::Depth,
            Folders::Revision,
            Folders::CreatedAt,
            Folders::CreatedBy,
            Folders::UpdatedAt,
            Folders::UpdatedBy,
        ])
        .values_panic([
            Uuid::nil().into(),
            "".into(),
            "".into(),
            0.into(),
            1i64.into(),
            now_ms().into(),
            system.clone().into(),
            now_ms().into(),
            system.into(),
        ])
        .take();
    manager.execute(row).await
}

/// Milliseconds since the Unix epoch, of the moment at which the library is made.
#[expect(clippy::disallowed_methods, reason = "there is no library yet to ask for its clock")]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().cast_signed() * 1000 + i64::from(since.subsec_millis())
}
